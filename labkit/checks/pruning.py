"""Lesson 01: density, masks that are held, global pruning, neurons without a way out."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from labkit.checks.judging import (
    DIFFERS,
    UNUSABLE,
    Fault,
    Mistakes,
    Question,
    ask,
    call,
    compare_all,
    exercise,
    fail,
    mask_like,
    same,
)
from labkit.engine.networks import Masks
from labkit.engine.optimizers import Optimizer
from labkit.engine.pruning import remove_lowest
from labkit.engine.training import generator

MEAN_OF_LAYERS = Fault(
    "mean of layers",
    "every layer counts the same, however many weights it has",
    "A layer of a million weights and one of ten: which should decide?",
)
SPARSITY = Fault(
    "sparsity",
    "that is the share of what is gone; density is the share that survives",
    "Density and sparsity add up to 1.",
)


def _flat(masks: Masks) -> Tensor:
    """All masks as one row of numbers."""
    return torch.cat([mask.flatten() for mask in masks.values()]).double()


MISTAKES_WITH_DENSITY: Mistakes = {
    MEAN_OF_LAYERS: lambda masks: (
        sum(m.double().mean().item() for m in masks.values()) / len(masks)
    ),
    SPARSITY: lambda masks: 1 - _flat(masks).mean().item(),
}


@exercise(
    "every weight counts once, in whatever layer it is.",
    "Add up the survivors of all masks and the sizes of all masks; divide once, at the end.",
    MISTAKES_WITH_DENSITY,
)
def check_total_density(answer: Callable[[Masks], float]) -> None:
    """`total_density(masks)`: the share of all weights that survive, a float in [0, 1].

    masks: name -> bool tensor of any shape, True where a weight survives. It is not the mean of the
    layers' densities.
    """
    questions = [
        Question(case, (masks,), _flat(masks).mean().item()) for case, masks in _dictionaries()
    ]
    compare_all(answer, questions, MISTAKES_WITH_DENSITY)


def _dictionaries() -> Iterator[tuple[str, Masks]]:
    for number in range(8):
        sizes = torch.randint(1, 40, (3, 2), generator=generator(number)).tolist()
        yield (
            f"masks of shapes {sizes}",
            {
                f"layer {i}": torch.rand(size, generator=generator(number, i)) < 0.3 * (i + 1)
                for i, size in enumerate(sizes)
            },
        )
    yield "one layer of a single weight", {"only": torch.ones(1, 1, dtype=torch.bool)}
    pair = {"gone": torch.zeros(2, 3, dtype=torch.bool), "whole": torch.ones(3, dtype=torch.bool)}
    yield "a fully pruned layer of 6 weights beside a whole one of 3", pair
    two = torch.tensor([[[True, False]], [[True, True]]])
    yield "two replicas of one layer of 2 weights", {"layer": two}


WRONG_COUNT = Fault(
    "wrong count",
    "the number of survivors is not round(density × count)",
    "What is `count` here: the weights of a layer, or of all layers?",
)
LAYERWISE = Fault(
    "layer by layer",
    "every layer was pruned for itself, so a large weight went before a smaller one elsewhere",
    "Global means one ranking. Where do weights of different layers meet in your code?",
)
SMALL_KEPT = Fault(
    "a larger weight went first",
    "a weight was removed although its absolute value is larger than that of a survivor",
    "Is it the absolute value that you rank? And do you keep the top, or the bottom?",
)


@exercise(
    "exact counts, and the largest weights survive wherever they are.",
    "`torch.cat` the absolute values into one row, make one mask of it, and `split` that.",
)
def check_global_masks(answer: Callable[[dict[str, Tensor], float], Masks]) -> None:
    """`global_masks(weights, density)`: bool masks, name -> the shape of the layer, that keep the
    round(density × count) weights with the largest absolute values of *all* layers together.

    weights: name -> tensor of any shape; count: how many weights there are in all. The values
    differ, so there are no ties to break.
    """
    for number in range(12):
        noise, share = generator(number), (number + 1) / 13
        weights = {f"layer {i}": (i + 1) * torch.randn(9, 4 + i, generator=noise) for i in range(3)}
        if number == 11:
            weights, share = {"a": torch.tensor([[0.1]]), "b": torch.tensor([2.0, -3.0])}, 0.67
        case = f"{len(weights)} layers of shapes {[tuple(w.shape) for w in weights.values()]}, "
        case += f"density {share:.3f}"
        masks = ask(answer, case, weights, share)
        if not isinstance(masks, dict) or list(masks) != list(weights):
            fail(UNUSABLE, case, f"a dictionary with the names {list(weights)}", masks)
        for name, weight in weights.items():
            mask_like(f"{case}, {name}", masks[name], weight.shape)
        kept = torch.cat([weights[name][masks[name]].abs() for name in weights])
        gone = torch.cat([weights[name][~masks[name]].abs() for name in weights])
        own = [round(share * weight.numel()) for weight in weights.values()]
        found = [int(mask.sum()) for mask in masks.values()]
        right = round(share * (len(kept) + len(gone)))
        wrong = len(kept) and len(gone) and kept.min() < gone.max()
        if wrong and len(weights) > 1 and found == own:
            fail(LAYERWISE, case, f"{right} survivors, the largest of all", f"{found} per layer")
        if len(kept) != right:
            fail(WRONG_COUNT, case, f"{right} survivors", f"{len(kept)} survivors")
        if wrong:
            removed = f"{gone.max():.3f} removed, {kept.min():.3f} kept"
            fail(SMALL_KEPT, case, "all survivors larger than all that is removed", removed)


REVIVED = Fault(
    "mask lost after the step",
    "a removed weight is no longer zero after the optimizer's step",
    "Momentum, Adam's moments and weight decay move a weight whose gradient is zero.",
)
FROZEN_ZERO = Fault(
    "frozen by value",
    "a survivor that happened to be zero did not learn",
    "Ask the mask who is removed, never the value of the weight.",
)
OLD_GRADIENTS = Fault(
    "old gradients",
    "the gradients of the step before were added to the new ones",
    "What does `backward` do with a `.grad` that is already there?",
)
STOOD_STILL = Fault(
    "nothing learned",
    "the surviving weights did not move",
    "Which line changes the weights, and does it come after `backward`?",
)
NOT_IN_PLACE = Fault(
    "a product was returned",
    "what came back is right, but it is a new tensor: the weight itself was not masked",
    "The next step trains the weight that the optimizer holds. `weight * mask` makes another one.",
)


@exercise(
    "survivors learn, and nothing grows back, with momentum, with Adam and with weight decay.",
    "Do an ordinary training step first; then, inside `torch.no_grad()`, multiply by the mask.",
)
def check_masked_step(
    answer: Callable[[nn.Parameter, Tensor, Callable[[Tensor], Tensor], "_Stepper"], str],
) -> None:
    """`masked_step(weight, mask, loss, optimizer)`: one training step of a pruned layer, in place.

    weight: a parameter; mask: bool, of its shape; loss: a function of the weight that gives a
    scalar; optimizer: has the weight, and `zero_grad()` and `step()` as torch.optim's have; perhaps
    with moments from a training before pruning. Survivors get the optimizer's ordinary step;
    removed weights are zero afterwards. Return the weight.
    """
    for name in ("SGD with momentum", "Adam", "SGD with weight decay"):
        for case, start, mask in _pruned_layers():
            goal = torch.linspace(-1, 1, start.numel()).view_as(start)
            _walk(answer, f"{case}, {name}", name, start, mask, goal)


def _walk(
    answer: Callable[..., object], case: str, kind: str, start: Tensor, mask: Tensor, goal: Tensor
) -> None:
    ours, theirs = (nn.Parameter(start.clone()) for _ in range(2))
    before = _Stepper(kind, ours), _Stepper(kind, theirs)
    for weight, optimizer in zip((ours, theirs), before, strict=True):
        ((weight - goal) ** 2).sum().backward()  # trained before pruning: moments are not zero
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            weight.mul_(mask)
            if mask.all() and weight.numel() > 1:
                weight.view(-1)[0] = 0  # a survivor that happens to be zero
    kept = theirs.detach().clone()
    for step in range(1, 4):
        _reference_step(ours, mask, goal, before[0])
        result = call(
            answer, case, theirs, mask.clone(), lambda w: ((w - goal) ** 2).sum(), before[1]
        )
        if not isinstance(result, Tensor):
            fail(UNUSABLE, case, "the weight", result)
        found, right = theirs.detach(), ours.detach()
        at = f"{case}, step {step}"
        if same(result.detach(), right) and not same(found, right):
            fail(NOT_IN_PLACE, at, right, found)
        if found[~mask].any():
            fail(REVIVED, at, "zeros where the mask is false", found)
        if same(found, right):
            continue
        zero = mask & (kept == 0)
        if step == 1 and zero.any() and not found[zero].any():
            fail(FROZEN_ZERO, at, right, found)
        if same(found, kept):
            fail(STOOD_STILL, at, right, found)
        fail(OLD_GRADIENTS if step > 1 else DIFFERS, at, right, found)


def _reference_step(
    weight: nn.Parameter, mask: Tensor, goal: Tensor, optimizer: "_Stepper"
) -> None:
    optimizer.zero_grad()
    ((weight - goal) ** 2).sum().backward()
    optimizer.step()
    with torch.no_grad():
        weight.mul_(mask)


class _Stepper:
    """An optimizer as a student knows them, without the 120 MB that those of torch.optim import."""

    def __init__(self, kind: str, weight: nn.Parameter) -> None:
        name = "adam" if kind == "Adam" else "sgd"
        momentum = 0.9 if kind == "SGD with momentum" else 0.0
        decay = 0.1 if kind == "SGD with weight decay" else 0.0
        self._weight, self._optimizer = weight, Optimizer(name, [weight], momentum, decay)

    def zero_grad(self, set_to_none: bool = True) -> None:
        if set_to_none:
            self._weight.grad = None
        elif self._weight.grad is not None:
            self._weight.grad = torch.zeros_like(self._weight)

    def step(self) -> None:
        if self._weight.grad is not None:  # a weight without a gradient stays as it is
            self._optimizer.step([self._weight.grad], 0.01)


def _pruned_layers() -> Iterator[tuple[str, Tensor, Tensor]]:
    noise = generator(0, "masked step")
    layer = torch.randn(3, 4, generator=noise)
    yield "a layer of 12 weights", layer, torch.rand(3, 4, generator=noise) < 0.5
    yield "a whole layer of 6, one of them zero", torch.ones(2, 3), torch.ones(2, 3) > 0
    yield "a single weight", torch.tensor([[2.0]]), torch.tensor([[True]])
    yield "a fully pruned layer", torch.ones(2, 2), torch.zeros(2, 2) > 0
    two = torch.randn(2, 2, 2, generator=noise)
    yield "two replicas", two, torch.tensor([[[True, False]] * 2, [[False, True]] * 2])


GREW_BACK = Fault(
    "grew back",
    "a weight that was removed before is back",
    "Start from the old mask and only ever set entries to false.",
)
ONE_TOO_MANY = Fault(
    "threshold off by one",
    "one weight too many was removed: the one at the threshold went too",
    "`score > threshold` also drops the weight that *is* the threshold. Rank instead of comparing.",
)
TIES = Fault(
    "ties at the threshold",
    "weights of equal size were kept or removed together, so the count is not exact",
    "A threshold cannot separate equals, a ranking can.",
)
RATE_OF_ALL = Fault(
    "rate of all weights",
    "the rate was taken of all weights, and not of the survivors",
    "How many weights are there left to lose?",
)
RANKED_THE_REMOVED = Fault(
    "removed weights ranked again",
    "too few survivors were removed: some that went were gone already",
    "A removed weight must not take part in the ranking, whatever its value is.",
)
ROUNDED_DOWN = Fault(
    "rounded down",
    "the count was cut off, and not rounded",
    "Compare `int(2.7)` with `round(2.7)`.",
)
SIGNED = Fault(
    "signed values",
    "negative weights went first: the value was ranked, and not its size",
    "Is -3 a small weight?",
)
LARGEST_FIRST = Fault(
    "largest first",
    "the largest weights were removed",
    "In which direction does your ranking run?",
)
TIES_ORDER = Fault(
    "order of ties",
    "the count is right, and of equal weights the first did not go first",
    "`argsort` keeps the order of equals only when it is asked to be stable.",
)


@exercise(
    "exact counts, smallest first, ties in order, and nothing grows back.",
    "Take the positions that are true in the mask; rank the sizes of the weights there, stably; "
    "set the first round(rate × survivors) of these positions to false in a copy of the mask.",
)
def check_prune_once(answer: Callable[[Tensor, Tensor, float], Tensor]) -> None:
    """`prune_once(weight, mask, rate)`: the mask of one layer after one more round, bool.

    weight: the trained weights; mask: bool, the same shape, True where a weight survives; rate: in
    (0, 1). It removes exactly round(rate × survivors) of the *survivors*, those with the smallest
    absolute values; of equal ones, the first goes first. The old mask stays as it is, and a
    survivor may happen to be zero.
    """
    for case, weight, mask, rate in _layers():
        new = mask_like(case, ask(answer, case, weight, mask, rate), mask.shape)
        right = remove_lowest(weight.abs()[None], mask[None], rate)[0]
        if (new & ~mask).any():
            fail(GREW_BACK, case, right, new)
        gone, count, survivors = (int(t.sum()) for t in (mask & ~new, mask & ~right, mask))
        counts = f"{count} removed", f"{gone} removed"
        tied = len(weight[mask].abs().unique()) < survivors
        if gone != count and gone == min(survivors, round(rate * mask.numel())):
            fail(RATE_OF_ALL, case, *counts)
        if gone == count + 1 and not tied:
            fail(ONE_TOO_MANY, case, *counts)
        if gone != count and gone == int(rate * survivors):
            fail(ROUNDED_DOWN, case, *counts)
        if gone != count and tied:
            fail(TIES, case, *counts)
        if gone < count and not mask.all():
            fail(RANKED_THE_REMOVED, case, *counts)
        if gone != count:
            fail(WRONG_COUNT_OF_LAYER, case, *counts)
        if not torch.equal(new, right):
            _which_went(case, weight, mask, rate, new, right)


WRONG_COUNT_OF_LAYER = Fault(
    "wrong count",
    "the number of removed weights is not round(rate × survivors)",
    "Count what your function removes from a mask that is true everywhere.",
)


def _which_went(
    case: str, weight: Tensor, mask: Tensor, rate: float, new: Tensor, right: Tensor
) -> None:
    lowest = torch.equal(weight[mask & ~new].abs().msort(), weight[mask & ~right].abs().msort())
    if lowest:
        fail(TIES_ORDER, case, right, new)
    for fault, scores in ((SIGNED, weight), (LARGEST_FIRST, -weight.abs())):
        if torch.equal(new, remove_lowest(scores[None], mask[None], rate)[0]):
            fail(fault, case, right, new)
    fail(SMALL_KEPT, case, right, new)


def _layers() -> Iterator[tuple[str, Tensor, Tensor, float]]:
    """Inputs from easy to nasty, so that the first that fails says most."""
    weight = torch.tensor([[0.5, -3.0, 2.0], [-0.1, 1.0, -4.0]])
    full = torch.ones(2, 3, dtype=torch.bool)
    part = torch.tensor([[False, True, True], [True, True, False]])
    yield _case(weight, full, 0.5)
    yield _case(weight, full, 0.45)  # 2.7 weights
    yield _case(weight, part, 0.5)
    yield _case(weight * part, part, 0.25)
    yield _case(torch.tensor([[1.0, -1.0, 1.0, 2.0]]), torch.ones(1, 4, dtype=torch.bool), 0.5)
    yield _case(
        torch.tensor([[0.0, 0.0, 3.0, 1.0]]), torch.tensor([[True, False, True, True]]), 0.3
    )
    yield _case(torch.tensor([[7.0]]), torch.tensor([[True]]), 0.6)
    yield _case(torch.tensor([[7.0]]), torch.tensor([[True]]), 0.4)
    yield _case(weight, ~full, 0.5)
    for number in range(20):  # many ties, many zeros; two replicas' worth of weights in the last
        noise, size = generator(number, "layers"), (2, 6, 7) if number == 19 else (6, 7)
        values = torch.randint(-4, 5, size, generator=noise) / 2.0
        yield _case(values, torch.rand(size, generator=noise) < 0.7, (number + 1) / 22)


def _case(weight: Tensor, mask: Tensor, rate: float) -> tuple[str, Tensor, Tensor, float]:
    if weight.numel() > 6:
        words = f"weights of shape {tuple(weight.shape)} with many ties, {int(mask.sum())} survive"
    else:
        words = f"weights {weight.tolist()}, mask {mask.int().tolist()}"
    return f"{words}, rate {rate:.3g}", weight, mask, rate


BOTH_SIDES = Fault(
    "every survivor",
    "survivors of neurons that do reach the output were counted too",
    "Which neurons have lost all their outgoing weights?",
)
NEURONS = Fault(
    "neurons, not weights",
    "that is the number of silent neurons, and not of the weights that lead to them",
    "The question is about survivors of the first mask.",
)
INCOMING = Fault(
    "wrong direction",
    "neurons without incoming weights were looked for",
    "A row of the second mask is an output. What is a column?",
)
MISTAKES_WITH_IDLE: Mistakes = {
    BOTH_SIDES: lambda first, second: int(first.sum()),
    NEURONS: lambda first, second: int((~second.any(0)).sum()),
    INCOMING: lambda first, second: int(second[:, ~first.any(1)].sum()),
}


@exercise(
    "it counts exactly the survivors that get no gradient.",
    "`second.any(0)` says which hidden neurons still have an outgoing weight.",
    MISTAKES_WITH_IDLE,
)
def check_idle(answer: Callable[[Tensor, Tensor], int]) -> None:
    """`idle(first, second)`: how many survivors of the first layer lead to hidden neurons all of
    whose outgoing weights are gone, so that they can have no effect.

    first: mask of the first layer, bool, (hidden, inputs); second: of the next, (outputs, hidden).
    """
    questions = []
    for number in range(14):
        noise = generator(number, "idle")
        hidden = 1 if number == 12 else 12
        first = torch.rand(hidden, 7, generator=noise) < 0.4
        second = torch.rand(3, hidden, generator=noise) < (0.0 if number == 13 else 0.2)
        case = f"masks {tuple(first.shape)} and {tuple(second.shape)}, number {number}"
        questions.append(Question(case, (first, second), int(first[~second.any(0)].sum())))
    compare_all(answer, questions, MISTAKES_WITH_IDLE)
