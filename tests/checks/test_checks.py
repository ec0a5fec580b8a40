"""Every check accepts the lesson's own solution, and names every typical mistake.

Solutions are read from the lessons, and nowhere else. A mistake that is told by what it returns is
a function that its check carries (`check.mistakes`); the mistakes here are those that need the
solution's own code, which students should not find in labkit.
"""

import ast
import html
import re
import sys
from contextlib import suppress
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import nn

from labkit import Pruning, apply_masks, checks, remove_lowest
from labkit.checks import NotWritten, Verdict, WrongAnswer
from labkit.checks.welcome import TINY
from labkit.engine.networks import build
from tests.notebooks import NOTEBOOKS
from tools import course

# --- Mutants of the solutions, by the name of their fault ----------------------------------------


def total_density(masks):
    return sum(m.sum().item() for m in masks.values()) / sum(m.numel() for m in masks.values())


def kept_by_rank(values, count):
    mask = torch.zeros(values.numel(), dtype=torch.bool)
    mask[values.flatten().argsort(descending=True, stable=True)[:count]] = True
    return mask.view_as(values)


def global_masks(weights, density, size=torch.abs):
    row = torch.cat([size(weight).flatten() for weight in weights.values()])
    pieces = kept_by_rank(row, round(density * len(row))).split(
        [w.numel() for w in weights.values()]
    )
    return {n: p.view_as(weights[n]) for n, p in zip(weights, pieces, strict=True)}


def by_layer(weights, density):
    return {n: kept_by_rank(w.abs(), round(density * w.numel())) for n, w in weights.items()}


def step(weight, mask, loss, optimizer, *, zero=True, gradient=False, after=True, by_value=False):
    pruned = weight == 0 if by_value else ~mask
    if zero:
        optimizer.zero_grad()
    loss(weight).backward()
    if gradient:
        weight.grad[pruned] = 0
    optimizer.step()
    if after:
        with torch.no_grad():
            weight.masked_fill_(pruned, 0)
    return weight


def mask_first(weight, mask, loss, optimizer):
    with torch.no_grad():
        weight.mul_(mask)
    return step(weight, mask, loss, optimizer, after=False)


def no_step(weight, mask, loss, optimizer):
    loss(weight).backward()
    return weight


def once_more(weight, mask, rate, *, count=round, of=None, scores=torch.abs, stable=True):
    new = mask.flatten().clone()
    alive = new.nonzero().squeeze(1)
    ranking = scores(weight).flatten()[alive].argsort(stable=True)
    if not stable:  # the last of equals first
        ranking = (scores(weight).flatten()[alive] - 1e-6 * torch.arange(len(alive))).argsort()
    new[alive[ranking[: count(rate * (of or len)(alive))]]] = False
    return new.view_as(mask)


def threshold(weight, mask, rate, keeps=torch.gt):
    scores = weight[mask].abs()
    if round(rate * len(scores)) == 0:
        return mask.clone()
    count = round(rate * len(scores))
    at = scores.sort().values[count if keeps is torch.gt and count < len(scores) else count - 1]
    return mask & keeps(weight.abs(), at)


def ranks_the_removed(weight, mask, rate):
    flat = mask.flatten().clone()
    count = round(rate * int(mask.sum()))
    flat[(weight * mask).flatten().abs().argsort(stable=True)[:count]] = False
    return flat.view_as(mask)


def forgets_the_mask(weight, mask, rate):
    count = weight.numel() - round(rate * int(mask.sum()))
    return kept_by_rank(weight.abs(), count)


def in_place(weight, mask, rate):
    mask &= once_more(weight, mask, rate)
    return mask


def rate_of_all(weight, mask, rate):
    return once_more(weight, mask, rate, of=lambda alive: mask.numel())


def rewinds_only(chosen):
    """Mutants of the rewind that take the rest of the state from the trained network."""
    return lambda trained, early, masks: apply_masks(
        {n: early[n] if chosen(n, masks) else trained[n] for n in early}, masks
    )


def early_in_place(trained, early, masks):
    for name, mask in masks.items():
        early[name] *= mask
    return early


def masks_everything(trained, early, masks):
    return {n: t * masks[n] if n in masks else torch.zeros_like(t) for n, t in early.items()}


def new_mask(network, masks, noise):
    state = network[0].initialise([noise]).state()
    orders = {n: torch.randperm(m.numel(), generator=noise) for n, m in masks.items()}
    other = {n: m.flatten()[orders[n]].view_as(m) for n, m in masks.items()}
    return apply_masks(state, other)


def global_noise(network, masks, noise):
    other = torch.Generator().manual_seed(torch.seed())
    return apply_masks(network[0].initialise([other]).state(), masks)


def weights_alone(network, masks, noise):
    fresh = network[0].initialise([noise]).state()
    return apply_masks(
        {n: fresh[n] if n in masks else t for n, t in network.state().items()}, masks
    )


def another_distribution(network, masks, noise):
    state = network[0].initialise([noise]).state()
    return apply_masks({n: 2 * t if n in masks else t for n, t in state.items()}, masks)


def interpolate(one, other, alpha):
    return {n: (1 - alpha) * one[n] + alpha * other[n] for n in one}


def weights_on_the_line(one, other, alpha):
    return {
        n: (1 - alpha) * t + alpha * other[n] if n.endswith("weight") and t.ndim > 2 else t.clone()
        for n, t in one.items()
    }


def audit(start, trained, mask):
    if trained[~mask].any():
        return "revived"
    return "frozen" if (trained[mask] == start[mask]).any() else "fine"


CONTROLS = {"A": "dense", "B": "shuffled-mask", "C": "reinitialise", "D": "random-mask"}
REVERSAL = {"A": "structure", "B": "learning rate", "C": "budget", "D": "fan-in"}
COPIES = {"A": "same", "B": "same", "C": "different", "D": "different", "E": "same", "F": "same"}
MATCHES = dict(zip("ABCDE", ["matches", "falls behind", "matches", "falls behind", "matches"]))  # noqa: B905


ARTICLE = {"A": "source", "B": "word", "C": "limit", "D": "setting", "E": "nothing"}
PAPERS = {"A": "rethinking", "B": "lottery", "C": "connectivity"}
SYMPTOMS = {
    "A": "masked gradients",
    "B": "test-set stop",
    "C": "frozen by value",
    "D": "re-initialised mask",
    "E": "interpolated statistics",
}

MUTANTS: list[tuple[str, str, Any]] = [
    ("total_density", "another value", lambda masks: sum(m.sum().item() for m in masks.values())),
    ("total_density", "raises", lambda masks: masks["no such layer"]),
    ("total_density", "another kind of answer", lambda masks: "half"),
    ("masked_step", "mask lost after the step",
     lambda *a: step(*a, gradient=True, after=False)),
    ("masked_step", "mask lost after the step", mask_first),
    ("masked_step", "frozen by value", lambda *a: step(*a, gradient=True, by_value=True)),
    ("masked_step", "old gradients", lambda *a: step(*a, zero=False)),
    ("masked_step", "nothing learned", no_step),
    ("masked_step", "a product was returned", lambda w, *a: step(w, *a, after=False) * a[0]),
    ("global_masks", "layer by layer", by_layer),
    ("global_masks", "wrong count", lambda w, d: global_masks(w, 1 - d)),
    ("global_masks", "a larger weight went first", lambda w, d: global_masks(w, d, lambda x: x)),
    ("prune_once", "threshold off by one", threshold),
    ("prune_once", "ties at the threshold", lambda *a: threshold(*a, keeps=torch.gt)
     if len(a[0][a[1]].abs().unique()) < int(a[1].sum()) else once_more(*a)),
    ("prune_once", "grew back", forgets_the_mask),
    ("prune_once", "removed weights ranked again", ranks_the_removed),
    ("prune_once", "rate of all weights", rate_of_all),
    ("prune_once", "rounded down", lambda *a: once_more(*a, count=int)),
    ("prune_once", "signed values", lambda *a: once_more(*a, scores=lambda w: w)),
    ("prune_once", "largest first", lambda *a: once_more(*a, scores=lambda w: -w.abs())),
    ("prune_once", "order of ties", lambda *a: once_more(*a, stable=False)),
    ("prune_once", "argument changed", in_place),
    ("prune_once", "another kind of answer", lambda *a: once_more(*a).float()),
    ("rewind", "weights not rewound", lambda t, e, m: apply_masks(t, m)),
    ("rewind", "biases not rewound", rewinds_only(lambda n, masks: n in masks)),
    ("rewind", "batch norm not rewound",
     rewinds_only(lambda n, masks: n in masks or n.endswith(("bias", "mean")))),
    ("rewind", "batch norm not rewound",
     rewinds_only(lambda n, masks: not n.endswith(("mean", "variance")))),
    ("rewind", "mask lost in the rewind", lambda t, e, m: {n: x.clone() for n, x in e.items()}),
    ("rewind", "argument changed", early_in_place),
    ("rewind", "everything masked", masks_everything),
    ("rewind", "another kind of answer", lambda t, e, m: {n: e[n] * m[n] for n in m}),
    ("reinitialise", "re-initialised mask", new_mask),
    ("reinitialise", "control not pruned", lambda net, m, g: net[0].initialise([g]).state()),
    ("reinitialise", "same weights", lambda net, m, g: apply_masks(net.state(), m)),
    ("reinitialise", "not reproducible", global_noise),
    ("reinitialise", "rest not re-initialised", weights_alone),
    ("reinitialise", "other distribution", another_distribution),
    ("reinitialise", "argument changed",
     lambda net, m, g: apply_masks(net.initialise([g]).state(), m)),
    ("controls", "B: random-mask", CONTROLS | {"B": "random-mask"}),
    ("controls", "no such choice", CONTROLS | {"C": "magic"}),
    ("narrow", "next layer not narrowed", lambda f, b, s, k: (f[k], b[k], s)),
    ("narrow", "bias left behind", lambda f, b, s, k: (f[k], b, s[:, k])),
    ("narrow", "wrong axis", lambda f, b, s, k: (f[:, k], b[k], s[k])),
    ("narrow", "masked, not narrowed", lambda f, b, s, k: (f * k[:, None], b * k, s * k)),
    ("narrow", "removed instead of kept", lambda f, b, s, k: (f[~k], b[~k], s[:, ~k])),
    ("reversal", "D: budget", REVERSAL | {"D": "budget"}),
    ("interpolate", "ends swapped", lambda one, other, a: interpolate(other, one, a)),
    ("interpolate", "only weights interpolated", weights_on_the_line),
    ("interpolate", "ends missed",
     lambda one, other, a: interpolate(one, other, 0.25 + 0.5 * (a - 0.25))),
    ("interpolate", "argument changed",
     lambda one, other, a: {n: t.mul_(1 - a).add_(a * other[n]) for n, t in one.items()}),
    ("copies", "C: same", COPIES | {"C": "same"}),
    ("audit", "revived weights unseen",
     lambda s, t, m: "frozen" if (t[m] == s[m]).any() else "fine"),
    ("audit", "frozen weights unseen", lambda s, t, m: "revived" if t[~m].any() else "fine"),
    ("audit", "false alarm",
     lambda s, t, m: "frozen" if (t[m] == 0).any() else audit(s, t, m)),
    ("experiment", "field pruning.rate", replace(TINY, pruning=Pruning(rate=0.7), rounds=5)),
    ("experiment", "field seeds", replace(TINY, pruning=Pruning(rate=0.3), rounds=5)),
    ("experiment", "field seeds", replace(TINY, pruning=Pruning(rate=0.3), rounds=5, seeds=(3,))),
    ("experiment", "another kind of answer", "tiny"),
    ("papers", "B: connectivity", PAPERS | {"B": "connectivity"}),
    ("article", "E: word", ARTICLE | {"E": "word"}),
    ("draw_early", "raises", lambda d, t, m: d[len(d)]),
    ("keep_signs", "argument changed", lambda w, m: w.mul_(m).sign_()),
    ("snip", "another kind of answer", lambda w, loss: loss(w)),
    ("symptoms", "A: frozen by value", SYMPTOMS | {"A": "frozen by value"}),
    ("when_tickets_match", "B: matches", MATCHES | {"B": "matches"}),
]  # fmt: skip


CHECKS = {name.removeprefix("check_"): getattr(checks, name)
          for name in checks.__all__ if name.startswith("check_")}  # fmt: skip
MUTANTS += [(name, fault.name, mistake) for name, check in CHECKS.items()
            for fault, mistake in check.mistakes.items()]  # fmt: skip


@cache
def solutions() -> dict[str, Any]:
    """The answer of each exercise, by its check, as the solutions of the lessons have it. Of a
    lesson only imports and functions are run, and the one experiment that an answer starts from.
    """
    found = {}
    for path in NOTEBOOKS:
        space: dict[str, Any] = {}
        code = [cell for cell in course.read(path)["cells"] if cell["cell_type"] == "code"]
        for cell in code[1:]:  # without the set-up
            parts = ast.parse(cell["source"]).body
            last = parts[-1].value if isinstance(parts[-1], ast.Expr) else None
            call = ast.unparse(last) if course.is_solution(cell) and last is not None else ""
            name, _, answer = call.removesuffix(")").partition("(")
            for part in parts:
                assigned = isinstance(part, ast.Assign) and ast.unparse(part.targets[0])
                if (
                    isinstance(part, ast.Import | ast.ImportFrom | ast.FunctionDef)
                    or assigned == "tiny"
                    or (assigned and assigned == answer)
                ):
                    with suppress(NameError):  # a default from an experiment that is not run
                        exec(compile(ast.Module([part], []), path.name, "exec"), space)
            if name.startswith("check_"):
                found[name.removeprefix("check_")] = space[answer]
    return found


# --- What must hold -------------------------------------------------------------------------------


def test_every_check_has_a_solution_in_a_lesson_and_a_mistake():
    assert set(solutions()) == set(CHECKS) == {name for name, _, _ in MUTANTS}


@pytest.mark.parametrize("name", CHECKS)
def test_the_lesson_s_solution_is_right(name: str):
    verdict = CHECKS[name](solutions()[name])
    assert verdict, verdict
    assert verdict.require() is verdict


@pytest.mark.parametrize(
    ("name", "fault", "mutant"), MUTANTS, ids=[f"{n}-{f}" for n, f, _ in MUTANTS]
)
def test_a_typical_mistake_is_named(name: str, fault: str, mutant: Any):
    verdict = CHECKS[name](mutant)
    assert verdict.fault == fault, verdict
    assert fault in verdict.text
    shown = dict(re.findall(r"^  (input|expected|came back) +(.+)$", verdict.text, re.M))
    assert len(shown) == 3
    assert shown["expected"] != shown["came back"], "both read alike"
    with pytest.raises(WrongAnswer):
        verdict.require()


@pytest.mark.parametrize("name", CHECKS)
def test_what_is_not_written_is_no_mistake(name: str):
    def waiting(*_: object) -> None:
        raise NotImplementedError

    for stub in (waiting, lambda *_: None):
        verdict = CHECKS[name](stub)
        assert verdict.state == "not written yet" and not verdict
        with pytest.raises(NotImplementedError, match="not written"):
            verdict.require()


@pytest.mark.parametrize("name", CHECKS)
def test_a_check_states_its_exercise_and_is_called_with_a_hint(name: str):
    assert len(CHECKS[name].__doc__ or "") > 150
    with pytest.raises(ValueError, match="hint must be a whole number from 0 to 2"):
        CHECKS[name](solutions()[name], hint=3)


@pytest.mark.parametrize("name", CHECKS)
def test_hints_add_to_what_is_said(name: str):
    mutant = next(mutant for own, _, mutant in MUTANTS if own == name)
    texts = [CHECKS[name](mutant, hint=hint).text for hint in (0, 1, 2)]
    assert "hint 1 " not in texts[0] and "hint 2 " not in texts[1]
    assert "hint 1 " in texts[1] and "hint 1 " in texts[2] and "hint 2 " in texts[2]


def test_something_that_is_no_function_is_told_so():
    assert checks.check_prune_once(3).fault == "another kind of answer"


@pytest.mark.parametrize(
    ("state", "mark"), [("right", "✓"), ("wrong", "✗"), ("not written yet", "○")]
)
def test_a_verdict_shows_a_mark_and_its_text_and_in_a_notebook_the_same_with_a_colour(
    state: str, mark: str
):
    verdict = Verdict("rewind", state, "rewind: is 1 < 2?")
    assert repr(verdict) == f"{mark} rewind: is 1 < 2?"
    shown = verdict._repr_html_()
    assert html.unescape(re.sub(r"<[^>]*>", "", shown)) == repr(verdict)
    assert "color:inherit" in shown, "black letters would vanish on a dark page"
    (colour,) = set(re.findall(r"#[0-9a-f]{6}", shown))
    assert contrast_to_white(colour) > 4.5


def contrast_to_white(colour: str) -> float:
    """As the Web Content Accessibility Guidelines define it."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 1.05 / (0.2126 * red + 0.7152 * green + 0.0722 * blue + 0.05)


def test_an_exception_comes_with_the_line_that_raised_it():
    def deep(rate, rounds):
        return helper(rate) / 0

    def helper(rate):
        return torch.zeros(2) @ torch.zeros(3)  # raises inside of torch

    text = checks.check_density_after(deep).text
    assert "RuntimeError" in text
    assert re.search(r"in line \d+ of its cell: return torch.zeros\(2\) @ torch.zeros\(3\)", text)
    assert "in line" not in checks.check_density_after(lambda: 1).text, "the call itself raised"


def test_forgotten_seeds_are_told_beside_those_that_were_asked_for():
    text = checks.check_experiment(replace(TINY, pruning=Pruning(rate=0.3), rounds=5)).text
    assert re.search(r"expected +\[0, 1, 2\]\n +came back +\[0\]", text)


def test_masks_that_differ_in_the_order_of_ties_are_told_by_the_weight_that_differs():
    text = checks.check_prune_once(lambda *a: once_more(*a, stable=False)).text
    assert "order of ties" in text
    large = torch.zeros(6, 7, dtype=torch.bool)
    other = large.clone()
    large[0, 1] = other[2, 3] = True
    expected, found = checks.judging._tell_apart(large, other)
    assert expected == "a tensor of shape (6, 7), 1 true; [0, 1] is True"
    assert found == "a tensor of shape (6, 7), 1 true; [0, 1] is False"


def test_graded_cells_and_plain_ones_say_the_same():
    verdict = checks.check_prune_once(3)
    with pytest.raises(WrongAnswer) as raised:
        verdict.require()
    assert str(raised.value) == repr(verdict)
    assert NotWritten("wait")._render_traceback_() == ["wait"]


def test_the_layers_of_the_training_step_are_those_of_torch():
    layer = nn.Linear(3, 2, bias=False)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    step(layer.weight, torch.eye(2, 3).bool(), lambda w: (w - 1).square().sum(), optimizer)
    assert not layer.weight[~torch.eye(2, 3).bool()].any()


def test_the_reference_prunes_as_the_lab_does():
    weight, mask = torch.randn(4, 5), torch.rand(4, 5) < 0.6
    lab = remove_lowest(weight.abs()[None], mask[None], 0.3)[0]
    assert torch.equal(once_more(weight, mask, 0.3), lab)


def test_interpolation_covers_batch_normalisation():
    assert any(name.endswith("variance") for name in build("resnet-8-w2", (1, 4, 4), 2).state())


def test_a_right_answer_may_warn():
    def density_after(rate, rounds):
        print("deprecated " * 200, file=sys.stderr)
        return (1 - rate) ** rounds

    verdict = checks.check_density_after(density_after)
    assert verdict and "said besides, no fault:\n    deprecated" in verdict.text
    assert len(verdict.text) < 800
