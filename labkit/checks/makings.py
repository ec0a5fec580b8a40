"""Lesson 09: what a ticket keeps of its first weights, masks before training, empty layers."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from labkit.checks.judging import Fault, Mistakes, Question, compare_all, exercise
from labkit.engine.training import generator

OWN_SIZES = Fault(
    "sizes kept", "the weights still have sizes of their own", "One magnitude for the whole layer."
)
ALL_POSITIVE = Fault(
    "signs lost", "all survivors have the same sign", "What is to be kept of the first weights?"
)
UNMASKED = Fault("mask forgotten", "removed weights are not zero", "It is a ticket that starts.")
VARIANCE = Fault("variance", "the magnitude is the variance", "The root of it is asked for.")
OF_SURVIVORS = Fault(
    "survivors' deviation",
    "the magnitude is the deviation of the survivors alone",
    "The deviation of the layer as it was drawn, before anything was removed.",
)
MEAN_SIZE = Fault(
    "mean magnitude",
    "the magnitude is the mean of the absolute values",
    "The standard deviation is asked for.",
)


def _signs(first: Tensor, mask: Tensor) -> Tensor:
    return first.sign() * first.std() * mask


MISTAKES_WITH_SIGNS: Mistakes = {
    OWN_SIZES: lambda first, mask: first * mask,
    ALL_POSITIVE: lambda first, mask: first.std() * mask,
    UNMASKED: lambda first, mask: first.sign() * first.std(),
    VARIANCE: lambda first, mask: first.sign() * first.var() * mask,
    OF_SURVIVORS: lambda first, mask: first.sign() * first[mask].std() * mask,
    MEAN_SIZE: lambda first, mask: first.sign() * first.abs().mean() * mask,
}


@exercise(
    "the first signs, one magnitude for the layer, and zeros where the mask removes.",
    "`tensor.sign()`, `tensor.std()` and the mask, multiplied.",
    MISTAKES_WITH_SIGNS,
)
def check_keep_signs(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    """`keep_signs(first, mask)`: where a layer of a ticket starts that keeps nothing of its first
    weights but their signs (Zhou et al. 2019, section 4).

    first: the layer as it was drawn, (out, in); mask: bool of that shape. Every survivor has the
    sign of its first value and, as its magnitude, the standard deviation of *all* first weights of
    the layer, removed ones included (`tensor.std()`). Removed weights are zero.
    """
    questions = [
        Question(case, (first, mask), _signs(first, mask)) for case, first, _, mask in _layers()
    ]
    compare_all(answer, questions, MISTAKES_WITH_SIGNS)


def _layers() -> Iterator[tuple[str, Tensor, Tensor, Tensor]]:
    """Cases of a layer: its first weights, its last ones, and a mask."""
    draw = generator(0, "layers")
    for out, inputs, share in ((2, 3, 0.7), (4, 5, 0.5), (3, 2, 1.0), (6, 8, 0.1)):
        first = torch.randn(out, inputs, generator=draw) / 2
        last = first + torch.randn(out, inputs, generator=draw)
        mask = torch.rand(out, inputs, generator=draw) < share
        mask[0, :2] = True
        yield f"a layer of {out} x {inputs}, {int(mask.sum())} left", first, last, mask


BY_SIZE = Fault(
    "magnitude alone",
    "a weight that changed its sign counts for its size",
    "Such a weight should be among the first to go.",
)
PRODUCT = Fault(
    "product",
    "the score grows with the size of the first weight, too",
    "Only the *sign* of the first weight is asked.",
)
SIGN_OF_LAST = Fault(
    "sign of the last",
    "the score is made of the first weight, and of the sign of the last",
    "Which of the two should be large?",
)
ONLY_ZEROED = Fault(
    "all changes alike",
    "all weights that changed their sign have the score 0",
    "One that went far to the other side should rank below one that has just crossed zero.",
)
MISTAKES_WITH_SCORES: Mistakes = {
    BY_SIZE: lambda first, last: last.abs(),
    PRODUCT: lambda first, last: first * last,
    SIGN_OF_LAST: lambda first, last: first * last.sign(),
    ONLY_ZEROED: lambda first, last: (last * first.sign()).clamp(min=0),
}


@exercise(
    "large where a weight has grown, negative where it has changed its sign.",
    "A product of the last weight and of something that is 1 or -1.",
    MISTAKES_WITH_SCORES,
)
def check_same_sign(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    """`same_sign(first, last)`: the scores "large final, same sign" of Zhou et al. 2019 (section
    4), a tensor of the weights' shape; those with the lowest scores go first.

    first, last: a layer's weights before and after training. The score of a weight that kept its
    sign is its final size; that of a weight that changed it is *minus* its final size.
    """
    questions = [
        Question(case, (first, last), last * first.sign()) for case, first, last, _ in _layers()
    ]
    compare_all(answer, questions, MISTAKES_WITH_SCORES)


Loss = Callable[[Tensor], Tensor]
SIGNED = Fault(
    "signed product",
    "scores have signs",
    "A weight without which the loss falls and one without which it rises: do both matter?",
)
GRADIENT_ALONE = Fault(
    "gradient alone",
    "the size of the weight has no part in it",
    "By how much does a weight move when it is set to zero?",
)
WEIGHT_ALONE = Fault("magnitude", "that is the weight's own size", "The loss has no say in it.")
SQUARED = Fault("squared", "the products are squared", "To first order, the change of the loss.")


def _gradient(weight: Tensor, loss: Loss) -> Tensor:
    weight = weight.detach().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(weight), weight)
    return gradient


def _snip(weight: Tensor, loss: Loss) -> Tensor:
    return (weight * _gradient(weight, loss)).abs()


MISTAKES_WITH_SNIP: Mistakes = {
    SIGNED: lambda weight, loss: weight * _gradient(weight, loss),
    GRADIENT_ALONE: lambda weight, loss: _gradient(weight, loss).abs(),
    WEIGHT_ALONE: lambda weight, loss: weight.abs(),
    SQUARED: lambda weight, loss: (weight * _gradient(weight, loss)).square(),
}


@exercise(
    "to first order, by how much the loss changes without each weight.",
    "`torch.autograd.grad(loss(leaf), leaf)` of a copy with `requires_grad_()`; it gives a tuple.",
    MISTAKES_WITH_SNIP,
)
def check_snip(answer: Callable[[Tensor, Loss], Tensor]) -> None:
    """`snip(weight, loss)`: the scores by which SNIP ranks weights before training (Lee et al.
    2019, section 4): |weight x gradient of the loss|, a tensor of the weight's shape.

    weight: (out, in), a plain tensor, which stays as it is; loss: a function of such a tensor that
    gives a scalar.
    """
    questions = []
    for case, weight, target, mask in _layers():
        loss = _Loss(target, mask)
        questions.append(Question(case, (weight, loss), _snip(weight, loss)))
    compare_all(answer, questions, MISTAKES_WITH_SNIP, read=_plain)


class _Loss:
    """A loss that is equal to its copies: squares of what a layer with a bend misses."""

    def __init__(self, target: Tensor, mask: Tensor) -> None:
        self.target, self.mask = target, mask

    def __call__(self, weight: Tensor) -> Tensor:
        return (torch.relu(weight + self.mask) - self.target).square().sum()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Loss) and torch.equal(self.target, other.target)

    __hash__ = None  # type: ignore[assignment]


def _plain(found: Any) -> Any:
    return found.detach() if isinstance(found, Tensor) else found


NEARLY_EMPTY = Fault(
    "nearly empty",
    "layers with few weights left are reported, too",
    "A signal can pass through a single weight.",
)
ANY_REMOVED = Fault(
    "anything removed",
    "layers from which anything was removed are reported",
    "Collapsed is a layer of which nothing is left.",
)
DEAD_ROW = Fault(
    "an empty row",
    "layers are reported in which one neuron has lost all its weights",
    "Other neurons can still carry the signal.",
)
FIRST_ALONE = Fault("the first alone", "a second empty layer is not reported", "All of them.")


def _where(masks: Mapping[str, Tensor], empty: Callable[[Tensor], bool]) -> list[str]:
    return [name for name, mask in masks.items() if empty(mask)]


def _none_left(mask: Tensor) -> bool:
    return not mask.any()


MISTAKES_WITH_LAYERS: Mistakes = {
    NEARLY_EMPTY: lambda masks: _where(masks, lambda m: m.float().mean().item() < 0.05),
    ANY_REMOVED: lambda masks: _where(masks, lambda m: not m.all()),
    DEAD_ROW: lambda masks: _where(masks, lambda m: bool((~m.flatten(1).any(1)).any())),
    FIRST_ALONE: lambda masks: _where(masks, _none_left)[:1],
}


@exercise(
    "every layer that has lost all its weights, and no other.",
    "`mask.any()` is false where nothing is true. Go through `masks.items()`.",
    MISTAKES_WITH_LAYERS,
)
def check_collapsed(answer: Callable[[Mapping[str, Tensor]], list[str]]) -> None:
    """`collapsed(masks)`: the names of the layers of which no weight is left, a list in the order
    of the dictionary; empty where there is none. Such a network answers every image alike, whatever
    its training does ("layer collapse", Tanaka et al. 2020, section 3).

    masks: name -> bool tensor (out, in) or (out, in, height, width).
    """
    full, gone = torch.ones(3, 4, dtype=torch.bool), torch.zeros(5, 3, dtype=torch.bool)
    row, single = full.clone(), torch.zeros(5, 8, dtype=torch.bool)
    holes = full.clone()
    row[1], single[2, 3], holes[0, 1] = False, True, False
    filters = torch.zeros(2, 3, 3, 3, dtype=torch.bool)
    cases: dict[str, dict[str, Tensor]] = {
        "one of two": {"first": holes, "second": gone},
        "a neuron alone": {"first": row, "second": full},
        "a single weight left": {"first": full, "second": single},
        "two of three": {"first": gone, "second": row, "third": filters},
        "a convolution": {"stem": filters, "head": full},
        "nothing removed": {"first": full},
    }
    questions = [
        Question(case, (masks,), _where(masks, _none_left)) for case, masks in cases.items()
    ]
    compare_all(answer, questions, MISTAKES_WITH_LAYERS, read=_as_list)


def _as_list(found: Any) -> Any:
    return list(found) if isinstance(found, tuple | list) else found
