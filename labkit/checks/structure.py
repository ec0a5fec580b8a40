"""Lesson 03: networks that are really smaller: filters, slices, arithmetic, and a fair budget."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from labkit.checks.judging import (
    UNUSABLE,
    Fault,
    Mistakes,
    Question,
    ask,
    check_choices,
    compare_all,
    exercise,
    fail,
    same,
)
from labkit.engine.training import generator

MANY = (
    "Sort the norms to find which to keep, then go through the filters in their own order: "
    "`argsort(stable=True)`, and `sort()` the chosen numbers."
)
RANKED_ORDER = Fault(
    "order of rank",
    "the right filters, in the order of their norms: the network would be shuffled",
    "The next layer counts on the order of the channels.",
)
L2_NORM = Fault(
    "L2 norm", "filters were ranked by their L2 norm", "L1: the sum of absolute values."
)
SIGNED_SUM = Fault(
    "signed sum", "weights of opposite signs cancelled", "L1: absolute values, summed."
)
SMALLEST = Fault("smallest kept", "the filters with the smallest norms were kept", "Keep the top.")
NONE_LEFT = Fault("layer emptied", "no filter is left", "A layer keeps at least one filter.")


def _norms(weight: Tensor) -> Tensor:
    return weight.abs().flatten(1).sum(1)


def _best(scores: Tensor, share: float, least: int = 1) -> list[int]:
    """The numbers of the highest scores, in the order of the numbers."""
    count = max(least, round(share * len(scores)))
    return sorted(scores.argsort(stable=True)[len(scores) - count :].tolist())


def _smallest(weight: Tensor, share: float) -> list[int]:
    count = max(1, round(share * len(weight)))
    return sorted(_norms(weight).argsort(stable=True)[:count].tolist())


MISTAKES_WITH_FILTERS: Mistakes = {
    NONE_LEFT: lambda weight, share: _best(_norms(weight), share, least=0),
    RANKED_ORDER: lambda weight, share: sorted(
        _best(_norms(weight), share), key=lambda i: (-_norms(weight)[i].item(), -i)
    ),
    L2_NORM: lambda weight, share: _best(weight.flatten(1).norm(dim=1), share),
    SIGNED_SUM: lambda weight, share: _best(weight.flatten(1).sum(1), share),
    SMALLEST: _smallest,
}


@exercise(
    "the largest L1 norms, in the filters' own order, and never none.", MANY, MISTAKES_WITH_FILTERS
)
def check_keep_filters(answer: Callable[[Tensor, float], Tensor]) -> None:
    """`keep_filters(weight, share)`: the numbers of the filters that stay, in increasing order.

    weight: (out, in, height, width), of one convolution; share: in (0, 1). It keeps
    max(1, round(share × out)) filters, those with the largest L1 norms (sums of absolute values);
    of equal ones, the first goes first. A list or an int tensor.
    """
    questions = []
    for number in range(12):
        size = (1, 2, 3, 3) if number == 10 else (8, 2, 3, 3)
        weight = torch.randn(size, generator=generator(number, "filters"))
        weight *= torch.arange(1, len(weight) + 1).flip(0)[:, None, None, None] ** 0.3
        if number == 9:
            weight = torch.ones(4, 1, 1, 1)
        share = 0.05 if number == 11 else (number + 1) / 13
        case = f"{len(weight)} filters, share {share:.2f}" + (", all equal" * (number == 9))
        questions.append(Question(case, (weight, share), _best(_norms(weight), share)))
    compare_all(answer, questions, MISTAKES_WITH_FILTERS, read=_as_list)


def _as_list(found: object) -> object:
    return found.tolist() if isinstance(found, Tensor) else found


ROWS_ONLY = Fault(
    "next layer not narrowed",
    "the next layer still expects the removed neurons",
    "A neuron is a row of its own matrix, and what in the next one?",
)
WRONG_AXIS = Fault(
    "wrong axis",
    "rows and columns were exchanged",
    "A weight is (outputs, inputs). Which axis of which matrix is the hidden layer?",
)
BIAS_LEFT = Fault(
    "bias left behind",
    "the biases of the removed neurons are still there",
    "A neuron has a row of weights and one bias.",
)
MASKED_ONLY = Fault(
    "masked, not narrowed",
    "removed neurons were set to zero, and the matrices have the size that they had",
    "Multiplying by zero costs as much as multiplying by anything else: take the neurons out.",
)
OTHER_NEURONS = Fault(
    "removed instead of kept",
    "the neurons that were to go are the ones that stayed",
    "`keep` is true where a neuron stays.",
)


@exercise(
    "a network that is really smaller, and gives the same answers.",
    "Index with the bool tensor: rows with `weight[keep]`, columns with `weight[:, keep]`.",
)
def check_narrow(answer: Callable[..., tuple[Tensor, Tensor, Tensor]]) -> None:
    """`narrow(first, bias, second, keep)`: the three tensors (first, bias, second) of the network
    without the removed hidden neurons.

    first: (hidden, inputs) and bias: (hidden,) of one dense layer, second: (outputs, hidden) of the
    next; keep: bool, (hidden,), True where a neuron stays. The result is smaller, not masked.
    """
    for number, hidden in enumerate((4, 6, 1, 4, 4)):
        noise = generator(number, "narrow")
        first, bias = torch.randn(hidden, 4, generator=noise), torch.randn(hidden, generator=noise)
        second = torch.randn(4, hidden, generator=noise)
        keep = torch.rand(hidden, generator=noise) < 0.5
        keep[0] = number != 3
        if hidden > 1:
            keep[1] = number == 3
        case = f"{hidden} hidden neurons, of which {int(keep.sum())} stay"
        found = ask(answer, case, first, bias, second, keep)
        if not isinstance(found, tuple | list) or len(found) != 3:
            fail(UNUSABLE, case, "three tensors: first, bias, second", found)
        found = tuple(found)
        right = first[keep], bias[keep], second[:, keep]
        traps = {
            MASKED_ONLY: (first * keep[:, None], bias * keep, second * keep),
            OTHER_NEURONS: (first[~keep], bias[~keep], second[:, ~keep]),
        }
        for fault, values in traps.items():
            if same(found, values) and not same(values, right):
                fail(fault, case, *_shapes(right, found))
        faults = (WRONG_AXIS, BIAS_LEFT, ROWS_ONLY)
        for own, wanted, fault, whole in zip(
            found, right, faults, (first, bias, second), strict=True
        ):
            untouched = same(own, whole) or same(own, whole * keep if own is found[1] else whole)
            if not same(own, wanted):
                fail(fault if untouched or fault is BIAS_LEFT else WRONG_AXIS, case,
                     *_shapes(right, found))  # fmt: skip


def _shapes(right: tuple[Tensor, ...], found: tuple[Tensor, ...]) -> tuple[Any, Any]:
    """The shapes where they differ, else the tensors themselves."""
    wanted, own = (
        [tuple(t.shape) if isinstance(t, Tensor) else t for t in tensors]
        for tensors in (right, found)
    )
    return (right, found) if wanted == own else (f"shapes {wanted}", f"shapes {own}")


INPUTS_KEPT = Fault(
    "inputs not narrowed",
    "the layer's own filters were cut, and not the channels that come in",
    "The layer before is narrower too.",
)
PRODUCTS_ONLY = Fault(
    "products only",
    "only multiplications were counted",
    "The lab counts a multiplication and an addition for every use of a weight.",
)
USED_ONCE = Fault(
    "weights, not their uses",
    "every weight was counted once, as if the image had one pixel",
    "A filter is applied at every position of the output.",
)
ONE_SQUARE = Fault(
    "size not squared", "a filter of size s was counted as s weights", "A 3x3 filter has 9 weights."
)
MISTAKES_WITH_FLOPS: Mistakes = {
    PRODUCTS_ONLY: lambda i, o, size, h, w: i * o * size**2 * h * w,
    USED_ONCE: lambda i, o, size, h, w: 2 * i * o * size**2,
    ONE_SQUARE: lambda i, o, size, h, w: 2 * i * o * size * h * w,
    INPUTS_KEPT: lambda i, o, size, h, w: 2 * o * size**2 * h * w,
}


@exercise(
    "half the channels in and half out: a quarter of the arithmetic.",
    "Weights = in × out × size²; each is used once per output pixel; each use is 2 operations.",
    MISTAKES_WITH_FLOPS,
)
def check_flops_of_narrow_layer(answer: Callable[[int, int, int, int, int], int]) -> None:
    """`flops_of_narrow_layer(inputs, outputs, size, height, width)`: multiplications and additions
    of one convolution for one image, an int.

    inputs, outputs: channels that are *left* on either side; size: of the square filters; height,
    width: of the output. A use of a weight is one multiplication and one addition; biases are left
    out. A dense layer is size = height = width = 1.
    """
    questions = []
    for inputs, outputs, size, height, width in (
        *((16, 32, 3, 16, 16), (8, 16, 3, 16, 16), (3, 16, 3, 16, 12), (5, 7, 1, 8, 4)),
        *((300, 100, 1, 1, 1), (1, 1, 1, 1, 1), (0, 8, 3, 4, 4)),
    ):
        case = f"{inputs} channels in, {outputs} out, {size}x{size}, output {height}x{width}"
        right = 2 * inputs * outputs * size**2 * height * width
        questions.append(Question(case, (inputs, outputs, size, height, width), right))
    compare_all(answer, questions, MISTAKES_WITH_FLOPS)


INVERTED = Fault(
    "inverted ratio",
    "the small network trains for less time than the large one",
    "The same arithmetic in total: if an iteration is cheaper, are there more of them, or fewer?",
)
SCRATCH_E = Fault(
    "same epochs",
    "that is Scratch-E: as many iterations as the dense network had",
    "Scratch-B gives the same *budget* of arithmetic.",
)
CUT_OFF = Fault("rounded down", "the number was cut off, and not rounded", "`round`, not `int`.")
MISTAKES_WITH_BUDGET: Mistakes = {
    INVERTED: lambda iterations, dense, small: round(iterations * small / dense),
    SCRATCH_E: lambda iterations, dense, small: iterations,
    CUT_OFF: lambda iterations, dense, small: int(iterations * dense / small),
}


@exercise(
    "as much arithmetic as the dense network had, in more iterations.",
    "Total arithmetic = iterations × FLOPs per image × batch size, the same on both sides.",
    MISTAKES_WITH_BUDGET,
)
def check_scratch_b_iterations(answer: Callable[[int, int, int], int]) -> None:
    """`scratch_b_iterations(iterations, dense_flops, small_flops)`: for how many iterations the
    small network is trained from scratch with the dense network's budget (Liu et al. 2019,
    section 3), an int, rounded.

    iterations: of the dense network; the FLOPs are per image, and the batch size is the same.
    """
    questions = []
    for iterations, dense, small in ((1000, 200, 100), (1000, 300, 70), (1, 5, 2), (50, 7, 7)):
        case = f"{iterations} iterations, {dense} FLOPs dense, {small} small"
        right = round(iterations * dense / small)
        questions.append(Question(case, (iterations, dense, small), right))
    compare_all(answer, questions, MISTAKES_WITH_BUDGET)


@exercise(
    "the two papers answer different questions.",
    "Ask of each sentence what differs between the two networks that it compares.",
)
def check_reversal(answers: Mapping[str, str]) -> None:
    """A dictionary: why did fresh weights do as well in one paper, and not in the other? Explain
    each observation with "structure", "learning rate", "budget" or "fan-in", each once.

    A After whole filters are pruned, an ordinary small network is left, and drawing it anew loses
    little. B With SGD at 0.1 the ticket of an unstructured mask is no better than its
    re-initialisation, at 0.01 it is. C The small network beats the fine-tuned one only when it
    trains for twice the iterations. D Drawing a narrow layer's weights anew gives them another
    deviation than masking a freshly drawn wide layer does.
    """
    right = {"A": "structure", "B": "learning rate", "C": "budget", "D": "fan-in"}
    because = {
        "structure": "Structure is about what is removed: single weights, or whole filters.",
        "learning rate": "The learning rate decides how far training moves from where it starts.",
        "budget": "The budget is how much training each arm is given.",
        "fan-in": "The fan-in is how many inputs a unit has; initialisation divides by its root.",
    }
    check_choices(answers, right, because)
