"""Every check accepts the reference answer and names the mistake of every typical wrong one."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from labkit import Pruning, apply_masks, checks, remove_lowest
from labkit.checks import NotWritten, Verdict, WrongAnswer
from labkit.checks.welcome import TINY
from labkit.engine.networks import build

# --- Answers: the reference of each exercise, and mutants by the name of their fault ------------


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


def idle(first, second):
    return first[~second.any(0)].sum().item()


def rewind(trained, early, masks):
    return apply_masks(early, masks)


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


def reinitialise(network, masks, noise):
    return apply_masks(network[0].initialise([noise]).state(), masks)


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


def early_stop(iterations, losses, accuracies):
    best = losses.index(min(losses))
    return iterations[best], accuracies[best]


def stop_at(choose: Callable[[list[float], list[float]], int]):
    def stop(iterations, losses, accuracies):
        best = choose(losses, accuracies)
        return iterations[best], accuracies[best]

    return stop


def keep_filters(weight, share, *, score=lambda w: w.abs().flatten(1).sum(1), least=1, down=True):
    count = max(least, round(share * len(weight)))
    order = score(weight).argsort(stable=True)
    return order[len(order) - count :].sort().values if down else order[:count].sort().values


def filters_by_rank(weight, share):
    norms = weight.abs().flatten(1).sum(1)
    return norms.argsort(stable=True)[len(norms) - max(1, round(share * len(norms))) :].flip(0)


def narrow(first, bias, second, keep):
    return first[keep], bias[keep], second[:, keep]


def interpolate(one, other, alpha):
    return {n: (1 - alpha) * one[n] + alpha * other[n] for n in one}


def weights_on_the_line(one, other, alpha):
    return {
        n: (1 - alpha) * t + alpha * other[n] if n.endswith("weight") and t.ndim > 2 else t.clone()
        for n, t in one.items()
    }


def instability(errors):
    return (errors.max() - (errors[0] + errors[-1]) / 2).item()


def stable_from(rewinds, values):
    found = rewinds[-1]
    for rewind_at, value in zip(reversed(rewinds), reversed(values), strict=True):
        if value >= 0.02:
            break
        found = rewind_at
    return found


def first_below(rewinds, values):
    return next(k for k, value in zip(rewinds, values, strict=True) if value < 0.02)


def stable_or_equal(rewinds, values):
    return stable_from(rewinds, [value - 1e-9 for value in values])


def matching(ticket, dense):
    gap = dense.mean() - ticket.mean()
    return bool(gap <= dense.std() or gap < 0.002)


def gap(ticket, dense):
    return dense.mean() - ticket.mean()


def audit(start, trained, mask):
    if trained[~mask].any():
        return "revived"
    return "frozen" if (trained[mask] == start[mask]).any() else "fine"


CONTROLS = {"A": "dense", "B": "shuffled-mask", "C": "reinitialise", "D": "random-mask"}
REVERSAL = {"A": "structure", "B": "learning rate", "C": "budget", "D": "fan-in"}
COPIES = {"A": "same", "B": "same", "C": "different", "D": "different", "E": "same", "F": "same"}
MATCHES = dict(zip("ABCDE", ["matches", "falls behind", "matches", "falls behind", "matches"]))  # noqa: B905


def paired_interval(one, other, t, *, ddof=1, of_mean=True, swap=False):
    d = other - one if swap else one - other
    half = t * d.std(correction=ddof) / (len(d) ** 0.5 if of_mean else 1)
    return (d.mean() - half).item(), (d.mean() + half).item()


def unpaired(one, other, t):
    half = t * ((one.var() + other.var()) / len(one)).sqrt()
    mean = (one - other).mean()
    return (mean - half).item(), (mean + half).item()


PAPERS = {"A": "rethinking", "B": "lottery", "C": "connectivity"}
SYMPTOMS = {
    "A": "masked gradients",
    "B": "test-set stop",
    "C": "frozen by value",
    "D": "re-initialised mask",
    "E": "interpolated statistics",
}

REFERENCES: dict[str, Any] = {
    "total_density": total_density,
    "masked_step": step,
    "global_masks": global_masks,
    "idle": idle,
    "prune_once": once_more,
    "rewind": rewind,
    "reinitialise": reinitialise,
    "early_stop": early_stop,
    "controls": CONTROLS,
    "keep_filters": keep_filters,
    "narrow": narrow,
    "flops_of_narrow_layer": lambda i, o, s, h, w: 2 * i * o * s * s * h * w,
    "scratch_b_iterations": lambda n, dense, small: round(n * dense / small),
    "reversal": REVERSAL,
    "interpolate": interpolate,
    "instability": instability,
    "stable_from": stable_from,
    "copies": COPIES,
    "matching": matching,
    "resumed_rates": lambda rates, k: list(rates[k:]),
    "when_tickets_match": MATCHES,
    "experiment": replace(TINY, pruning=Pruning(rate=0.3), rounds=5, seeds=(0, 1, 2)),
    "density_after": lambda rate, rounds: (1 - rate) ** rounds,
    "papers": PAPERS,
    "symptoms": SYMPTOMS,
    "paired_interval": paired_interval,
    "audit": audit,
}

MUTANTS: list[tuple[str, str, Any]] = [
    ("total_density", "mean of layers",
     lambda masks: sum(m.float().mean().item() for m in masks.values()) / len(masks)),
    ("total_density", "sparsity", lambda masks: 1 - total_density(masks)),
    ("total_density", "another value", lambda masks: sum(m.sum().item() for m in masks.values())),
    ("total_density", "raises", lambda masks: masks["no such layer"]),
    ("total_density", "another kind of answer", lambda masks: "half"),
    ("masked_step", "mask lost after the step",
     lambda *a: step(*a, gradient=True, after=False)),
    ("masked_step", "mask lost after the step", mask_first),
    ("masked_step", "frozen by value", lambda *a: step(*a, gradient=True, by_value=True)),
    ("masked_step", "old gradients", lambda *a: step(*a, zero=False)),
    ("masked_step", "nothing learned", no_step),
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
    ("idle", "every survivor", lambda first, second: int(first.sum())),
    ("idle", "neurons, not weights", lambda first, second: int((~second.any(0)).sum())),
    ("idle", "wrong direction", lambda first, second: int(second[:, ~first.any(1)].sum())),
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
    ("early_stop", "early stop on the test set", stop_at(lambda v, t: t.index(max(t)))),
    ("early_stop", "last iteration", stop_at(lambda v, t: len(v) - 1)),
    ("early_stop", "highest loss", stop_at(lambda v, t: v.index(max(v)))),
    ("early_stop", "last of equal losses",
     stop_at(lambda v, t: len(v) - 1 - v[::-1].index(min(v)))),
    ("early_stop", "position, not iteration",
     lambda i, v, t: (v.index(min(v)), t[v.index(min(v))])),
    ("early_stop", "best test accuracy", lambda i, v, t: (early_stop(i, v, t)[0], max(t))),
    ("controls", "B: random-mask", CONTROLS | {"B": "random-mask"}),
    ("controls", "no such choice", CONTROLS | {"C": "magic"}),
    ("keep_filters", "order of rank", filters_by_rank),
    ("keep_filters", "L2 norm",
     lambda w, s: keep_filters(w, s, score=lambda w: w.flatten(1).norm(dim=1))),
    ("keep_filters", "signed sum",
     lambda w, s: keep_filters(w, s, score=lambda w: w.flatten(1).sum(1))),
    ("keep_filters", "smallest kept", lambda w, s: keep_filters(w, s, down=False)),
    ("keep_filters", "layer emptied", lambda w, s: keep_filters(w, s, least=0)),
    ("narrow", "next layer not narrowed", lambda f, b, s, k: (f[k], b[k], s)),
    ("narrow", "bias left behind", lambda f, b, s, k: (f[k], b, s[:, k])),
    ("narrow", "wrong axis", lambda f, b, s, k: (f[:, k], b[k], s[k])),
    ("narrow", "masked, not narrowed", lambda f, b, s, k: (f * k[:, None], b * k, s * k)),
    ("narrow", "removed instead of kept", lambda f, b, s, k: (f[~k], b[~k], s[:, ~k])),
    ("flops_of_narrow_layer", "products only", lambda i, o, s, h, w: i * o * s * s * h * w),
    ("flops_of_narrow_layer", "weights, not their uses", lambda i, o, s, h, w: 2 * i * o * s * s),
    ("flops_of_narrow_layer", "size not squared", lambda i, o, s, h, w: 2 * i * o * s * h * w),
    ("flops_of_narrow_layer", "inputs not narrowed", lambda i, o, s, h, w: 2 * o * s * s * h * w),
    ("scratch_b_iterations", "inverted ratio", lambda n, d, s: round(n * s / d)),
    ("scratch_b_iterations", "same epochs", lambda n, d, s: n),
    ("scratch_b_iterations", "rounded down", lambda n, d, s: n * d // s),
    ("reversal", "D: budget", REVERSAL | {"D": "budget"}),
    ("interpolate", "ends swapped", lambda one, other, a: interpolate(other, one, a)),
    ("interpolate", "only weights interpolated", weights_on_the_line),
    ("interpolate", "ends missed",
     lambda one, other, a: interpolate(one, other, 0.25 + 0.5 * (a - 0.25))),
    ("interpolate", "argument changed",
     lambda one, other, a: {n: t.mul_(1 - a).add_(a * other[n]) for n, t in one.items()}),
    ("instability", "peak alone", lambda e: e.max()),
    ("instability", "one end", lambda e: e.max() - e[0]),
    ("instability", "better end", lambda e: e.max() - min(e[0], e[-1])),
    ("instability", "middle of the line", lambda e: e[len(e) // 2] - (e[0] + e[-1]) / 2),
    ("instability", "ends left out",
     lambda e: (e[1:-1].max() if len(e) > 2 else torch.nan) - (e[0] + e[-1]) / 2),
    ("instability", "mean of the line", lambda e: e.mean() - (e[0] + e[-1]) / 2),
    ("instability", "rise from the lowest", lambda e: e.max() - e.min()),
    ("stable_from", "first stable value", first_below),
    ("stable_from", "threshold itself", stable_or_equal),
    ("stable_from", "position, not iteration", lambda r, v: r.index(stable_from(r, v))),
    ("copies", "C: same", COPIES | {"C": "same"}),
    ("matching", "better does not match",
     lambda t, d: bool(gap(t, d).abs() <= d.std() or gap(t, d).abs() < 0.002)),
    ("matching", "no tolerance", lambda t, d: bool(gap(t, d) <= 1e-12)),
    ("matching", "0.2 points only", lambda t, d: bool(gap(t, d) < 0.002)),
    ("matching", "one deviation only", lambda t, d: bool(gap(t, d) <= d.std())),
    ("matching", "standard error",
     lambda t, d: bool(gap(t, d) <= d.std() / len(d) ** 0.5 or gap(t, d) < 0.002)),
    ("resumed_rates", "schedule restarted", lambda rates, k: rates[: len(rates) - k]),
    ("resumed_rates", "trained too long", lambda rates, k: rates),
    ("resumed_rates", "off by one", lambda rates, k: rates[k + 1 :]),
    ("audit", "revived weights unseen",
     lambda s, t, m: "frozen" if (t[m] == s[m]).any() else "fine"),
    ("audit", "frozen weights unseen", lambda s, t, m: "revived" if t[~m].any() else "fine"),
    ("audit", "false alarm",
     lambda s, t, m: "frozen" if (t[m] == 0).any() else audit(s, t, m)),
    ("experiment", "field pruning", replace(TINY, pruning=Pruning(rate=0.7), rounds=5)),
    ("experiment", "field seeds", replace(TINY, pruning=Pruning(rate=0.3), rounds=5, seeds=(3,))),
    ("experiment", "another kind of answer", "tiny"),
    ("density_after", "rates added up", lambda rate, rounds: 1 - rate * rounds),
    ("density_after", "sparsity", lambda rate, rounds: 1 - (1 - rate) ** rounds),
    ("density_after", "rate kept", lambda rate, rounds: rate**rounds),
    ("density_after", "a round less", lambda rate, rounds: (1 - rate) ** (rounds - 1)),
    ("papers", "B: connectivity", PAPERS | {"B": "connectivity"}),
    ("paired_interval", "unpaired", unpaired),
    ("paired_interval", "spread of the seeds",
     lambda *arms: paired_interval(*arms, of_mean=False)),
    ("paired_interval", "divided by n", lambda *arms: paired_interval(*arms, ddof=0)),
    ("paired_interval", "other way round", lambda *arms: paired_interval(*arms, swap=True)),
    ("symptoms", "A: frozen by value", SYMPTOMS | {"A": "frozen by value"}),
    ("when_tickets_match", "B: matches", MATCHES | {"B": "matches"}),
]  # fmt: skip


def check(name: str) -> checks.judging.Check:
    return getattr(checks, f"check_{name}")


# --- What must hold -------------------------------------------------------------------------------


def test_every_check_has_a_reference_and_a_mutant():
    names = {name.removeprefix("check_") for name in checks.__all__ if name.startswith("check_")}
    assert set(REFERENCES) == names == {name for name, _, _ in MUTANTS}


@pytest.mark.parametrize("name", REFERENCES)
def test_the_reference_is_right(name: str):
    verdict = check(name)(REFERENCES[name])
    assert verdict, verdict
    assert verdict.require() is verdict


@pytest.mark.parametrize(
    ("name", "fault", "mutant"), MUTANTS, ids=[f"{n}-{f}" for n, f, _ in MUTANTS]
)
def test_a_typical_mistake_is_named(name: str, fault: str, mutant: Any):
    verdict = check(name)(mutant)
    assert verdict.fault == fault, verdict
    assert fault in verdict.text
    assert {"input", "expected", "came back"} <= set(verdict.text.replace("  ", "\n").split("\n"))
    with pytest.raises(WrongAnswer):
        verdict.require()


@pytest.mark.parametrize("name", REFERENCES)
def test_what_is_not_written_is_no_mistake(name: str):
    def waiting(*_: object) -> None:
        raise NotImplementedError

    for stub in (waiting, lambda *_: None):
        verdict = check(name)(stub)
        assert verdict.state == "not written yet" and not verdict
        with pytest.raises(NotImplementedError, match="not written"):
            verdict.require()


@pytest.mark.parametrize("name", REFERENCES)
def test_a_check_states_its_exercise_and_is_called_with_a_hint(name: str):
    assert len(check(name).__doc__ or "") > 150
    with pytest.raises(ValueError, match="hint must be a whole number from 0 to 2"):
        check(name)(REFERENCES[name], hint=3)


@pytest.mark.parametrize("name", REFERENCES)
def test_hints_add_to_what_is_said(name: str):
    mutant = next(mutant for own, _, mutant in MUTANTS if own == name)
    texts = [check(name)(mutant, hint=hint).text for hint in (0, 1, 2)]
    assert "hint 1 " not in texts[0] and "hint 2 " not in texts[1]
    assert "hint 1 " in texts[1] and "hint 1 " in texts[2] and "hint 2 " in texts[2]


def test_something_that_is_no_function_is_told_so():
    assert checks.check_prune_once(3).fault == "another kind of answer"


def test_a_verdict_shows_as_its_text():
    verdict = Verdict("rewind", "right", "rewind is right.")
    assert repr(verdict) == "rewind is right."
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
