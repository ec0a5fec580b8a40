"""Lessons 04 and 05: lines between networks, instability, and when tickets match."""

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from labkit.checks.judging import (
    Fault,
    Mistakes,
    Question,
    ask,
    check_choices,
    compare,
    compare_all,
    exercise,
    fail,
    same,
    state_like,
)
from labkit.engine.networks import State, build
from labkit.engine.training import generator

SWAPPED = Fault(
    "ends swapped",
    "alpha = 0 gives the second network, and alpha = 1 the first",
    "Try alpha = 0 by hand: whose weights should come out?",
)
WEIGHTS_ONLY = Fault(
    "only weights interpolated",
    "biases or batch normalisation stayed as in one of the ends",
    "The line runs through the whole state.",
)
ENDS = Fault("ends missed", "the ends of the line are not the two networks", "Put alpha = 0 in.")


@exercise(
    "alpha = 0 and 1 are the two networks exactly, and all the rest is on the line between them.",
    "(1 − alpha) × one + alpha × other, for every name of the state.",
)
def check_interpolate(answer: Callable[[State, State, float], State]) -> None:
    """`interpolate(one, other, alpha)`: the state on the line between two networks, name -> tensor.

    one, other: complete states (name -> float tensor) of networks of one architecture; alpha: in
    [0, 1]; 0 is `one` and 1 is `other`. Everything in the state is interpolated, and neither end is
    changed.
    """
    for number, (name, replicas) in enumerate((("lenet-3", 1), ("lenet-1", 2), ("resnet-8-w2", 1))):
        network, noise = build(name, (1, 4, 4), 2, replicas), generator(number, "line")
        one, other = (
            {n: torch.randn(t.shape, generator=noise) for n, t in network.state().items()}
            for _ in range(2)
        )
        for alpha in (0.25, 0.0, 1.0, 0.5):
            case = f"{replicas} x {name}, alpha {alpha}"
            right = {n: (1 - alpha) * one[n] + alpha * other[n] for n in one}
            found = dict(state_like(case, ask(answer, case, one, other, alpha), right))
            swapped = {n: alpha * one[n] + (1 - alpha) * other[n] for n in one}
            if same(found, swapped) and not same(swapped, right):
                fail(SWAPPED, case, "a quarter of the way", "three quarters")
            for key in right:
                at, weights = f"{case}, {key}", network.prunable()
                if key not in weights and not same(found[key], right[key]):
                    stayed = same(found[key], one[key]) or same(found[key], other[key])
                    if stayed:
                        fail(WEIGHTS_ONLY, at, right[key], found[key])
                if alpha in (0.0, 1.0) and not same(found[key], right[key]):
                    fail(ENDS, at, right[key], found[key])
                compare(at, found[key], right[key])


MEAN_OF_LINE = Fault(
    "mean of the line", "the mean of the whole line was taken", "Instability is about the peak."
)
PEAK = Fault(
    "peak alone",
    "that is the highest error, without the error of the ends",
    "A bad network and an unstable one are different things.",
)
ONE_END = Fault(
    "one end", "the peak was compared with one end, and not with both", "Take the mean of the ends."
)
BEST_END = Fault(
    "better end", "the peak was compared with the better end alone", "Take the mean of the ends."
)
MIDDLE = Fault(
    "middle of the line",
    "the error was read in the middle, and the peak is elsewhere",
    "Frankle et al. take the maximum over all alphas.",
)
INTERIOR = Fault(
    "ends left out",
    "the ends do not take part in the maximum",
    "All alphas means 0 and 1 too: the line may have its peak at an end.",
)
AVERAGE_RISE = Fault("rise from the lowest", "peak minus lowest point", "From what does it rise?")


def _without_ends(errors: Tensor) -> Tensor:
    inside = errors[1:-1]
    return (inside.max() if len(inside) else torch.tensor(math.nan)) - _ends(errors)


def _ends(errors: Tensor) -> Tensor:
    return (errors[0] + errors[-1]) / 2


MISTAKES_WITH_LINES: Mistakes = {
    PEAK: lambda errors: errors.max(),
    ONE_END: lambda errors: errors.max() - errors[0],
    BEST_END: lambda errors: errors.max() - min(errors[0], errors[-1]),
    MIDDLE: lambda errors: errors[len(errors) // 2] - _ends(errors),
    INTERIOR: _without_ends,
    MEAN_OF_LINE: lambda errors: errors.mean() - _ends(errors),
    AVERAGE_RISE: lambda errors: errors.max() - errors.min(),
}


@exercise(
    "the peak of the line above the mean of its ends, wherever the peak is.",
    "`errors.max()`, and the mean of `errors[0]` and `errors[-1]`.",
    MISTAKES_WITH_LINES,
)
def check_instability(answer: Callable[[Tensor], float]) -> None:
    """`instability(errors)`: the error barrier on the line between two networks, a float.

    errors: (A,), error rates in [0, 1] at evenly spaced alphas, the first and last those of the two
    networks themselves. It is the maximum over *all* alphas minus the mean of the two ends (Frankle
    et al. 2020, section 2).
    """
    lines = (
        [0.10, 0.20, 0.50, 0.30, 0.14],
        [0.10, 0.60, 0.30, 0.20, 0.14],
        [0.20, 0.15, 0.12, 0.11, 0.10],
        [0.10, 0.08, 0.05, 0.08, 0.12],
        [0.30, 0.30, 0.30],
        [0.25, 0.75],
    )
    questions = []
    for line in lines:
        right = max(line) - (line[0] + line[-1]) / 2
        questions.append(Question(f"errors {line}", (torch.tensor(line),), right))
    compare_all(answer, questions, MISTAKES_WITH_LINES)


FIRST_LUCKY = Fault(
    "first stable value",
    "a later iteration is unstable again",
    "Stable *from* k on: look at everything that comes after, too.",
)
AT_THRESHOLD = Fault(
    "threshold itself", "2 points are not below 2 points", "Stable: *less* than the threshold."
)
VALUE_NOT_ITERATION = Fault(
    "position, not iteration", "that is a position in the list", "Which iteration stands there?"
)


def _first_of_the_end(values: Sequence[float], unstable: Callable[[float], bool]) -> int:
    """The position after the last unstable value."""
    return max((i + 1 for i, value in enumerate(values) if unstable(value)), default=0)


MISTAKES_WITH_MOMENTS: Mistakes = {
    FIRST_LUCKY: lambda rewinds, values: next(
        k for k, value in zip(rewinds, values, strict=True) if value < 0.02
    ),
    AT_THRESHOLD: lambda rewinds, values: rewinds[_first_of_the_end(values, lambda v: v > 0.02)],
    VALUE_NOT_ITERATION: lambda rewinds, values: _first_of_the_end(values, lambda v: v >= 0.02),
}


@exercise(
    "the first iteration after which nothing is unstable.",
    "Go through the list from the end, as long as it is stable.",
    MISTAKES_WITH_MOMENTS,
)
def check_stable_from(answer: Callable[[Sequence[int], Sequence[float]], int]) -> None:
    """`stable_from(rewinds, instabilities)`: the smallest rewind iteration from which on *all*
    instabilities are below 0.02.

    rewinds: increasing iterations; instabilities: as many error rates. The last is always below.
    """
    questions = []
    for rewinds, values in (
        ([0, 100, 500, 1000], [0.3, 0.1, 0.015, 0.01]),
        ([0, 100, 500, 1000], [0.3, 0.01, 0.05, 0.01]),
        ([0, 100, 500, 1000], [0.3, 0.02, 0.015, 0.0]),
        ([0, 50], [0.01, 0.0]),
        ([7], [0.0]),
    ):
        case = f"rewinds {rewinds}, instabilities {values}"
        right = rewinds[_first_of_the_end(values, lambda value: value >= 0.02)]
        questions.append(Question(case, (rewinds, values), right))
    compare_all(answer, questions, MISTAKES_WITH_MOMENTS)


@exercise(
    "the copies share everything up to k, and the noise of SGD is all that differs after it.",
    "Instability measures SGD noise after k: whatever else differs would be measured with it.",
)
def check_copies(answers: Mapping[str, str]) -> None:
    """A dictionary: do the two copies of instability analysis at iteration k have these in common?
    Choose "same" or "different" for each.

    A the initial weights. B the order of the data before k. C the order of the data after k. D the
    augmentation after k. E the batch-norm statistics at k. F the schedule of the learning rate.
    """
    right = {"A": "same", "B": "same", "C": "different", "D": "different"}
    right |= {"E": "same", "F": "same"}
    because = {
        "same": "If that were the same, what would still make the copies part?",
        "different": "If that differed, would it be SGD noise after k that is measured?",
    }
    check_choices(answers, right, because)


NO_TOLERANCE = Fault(
    "no tolerance",
    "the ticket has to reach the dense mean itself",
    "How far do two dense networks differ? Matching allows for that.",
)
TWO_SIDED = Fault(
    "better does not match", "a ticket that is *better* was rejected", "Which side is forbidden?"
)
ONLY_POINTS = Fault(
    "0.2 points only",
    "a ticket within one standard deviation was rejected",
    "Either of the two is enough.",
)
ONLY_DEVIATION = Fault(
    "one deviation only",
    "a ticket less than 0.2 points below was rejected",
    "Either of the two is enough: seeds may agree by luck.",
)
STANDARD_ERROR = Fault(
    "standard error",
    "the deviation was divided by the root of the number of seeds",
    "The paper's margin is the spread of single networks, not that of their mean.",
)


def _within(margin: Callable[[Tensor], float]) -> Callable[[Tensor, Tensor], bool]:
    """Matches where the ticket is at most a margin, made of the dense accuracies, below them."""
    return lambda ticket, dense: (dense.mean() - ticket.mean()).item() <= margin(dense)


_POINTS = 0.002 - 1e-12  # less than 0.2 points
MISTAKES_WITH_MATCHING: Mistakes = {
    TWO_SIDED: lambda ticket, dense: (
        abs((dense.mean() - ticket.mean()).item()) <= max(dense.std().item(), _POINTS)
    ),
    NO_TOLERANCE: _within(lambda dense: 1e-12),
    ONLY_POINTS: _within(lambda dense: _POINTS),
    ONLY_DEVIATION: _within(lambda dense: dense.std().item()),
    STANDARD_ERROR: _within(lambda dense: max(dense.std().item() / math.sqrt(len(dense)), _POINTS)),
}


@exercise(
    "one-sided, and lenient by the larger of the two margins.",
    "`dense.mean() - ticket.mean()` is how far the ticket is below; compare it with both margins.",
    MISTAKES_WITH_MATCHING,
)
def check_matching(answer: Callable[[Tensor, Tensor], bool]) -> None:
    """`matching(ticket, dense)`: whether a ticket matches the dense network, True or False (Frankle
    et al. 2020, section 4).

    ticket, dense: (S,), accuracies in [0, 1] over S ≥ 2 seeds. It matches if its mean is at most
    one standard deviation of the dense accuracies (`dense.std()`) below the dense mean, or less
    than 0.2 points (0.002) below it. Better is matching too.
    """
    questions = []
    for below, spread in (
        *((0.02, 0.005), (0.004, 0.005), (0.001, 0.0), (-0.03, 0.001), (0.0025, 0.005)),
        *((0.005, 0.0025), (0.0035, 0.005), (0.0015, 0.0005)),
    ):
        dense = 0.9 + spread * torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)
        ticket = torch.full((3,), 0.9 - below, dtype=torch.float64)
        case = f"dense {describe_list(dense)}, ticket {describe_list(ticket)}"
        right = _within(lambda dense: max(dense.std().item(), _POINTS))(ticket, dense)
        questions.append(Question(case, (ticket, dense), right))
    compare_all(answer, questions, MISTAKES_WITH_MATCHING)


def describe_list(values: Tensor) -> str:
    """Accuracies in percent."""
    return "[" + ", ".join(f"{100 * value:.2f}%" for value in values.tolist()) + "]"


RESTARTED = Fault(
    "schedule restarted",
    "the schedule starts at 0 again: early, large rates instead of those after k",
    "Rewinding to k resumes the schedule *at k*.",
)
FULL_LENGTH = Fault(
    "trained too long",
    "it trains for as many iterations as the dense network",
    "k iterations of the schedule have been done already.",
)
SHIFTED = Fault(
    "off by one",
    "the schedule is shifted by one iteration",
    "Which rate leads from iteration k to k + 1?",
)
MISTAKES_WITH_SCHEDULES: Mistakes = {
    FULL_LENGTH: lambda rates, k: rates,
    RESTARTED: lambda rates, k: rates[: len(rates) - k],
    SHIFTED: lambda rates, k: rates[k + 1 :],
}


@exercise(
    "T − k iterations, at the rates that the dense network had there.",
    "The dense network's rates are one for each iteration 0 ... T − 1; which of them come from k?",
    MISTAKES_WITH_SCHEDULES,
)
def check_resumed_rates(answer: Callable[[Sequence[float], int], Sequence[float]]) -> None:
    """`resumed_rates(rates, k)`: the learning rates of the iterations that a ticket rewound to k is
    trained for, in order, a list.

    rates: those of the dense network, one per iteration: rates[t] leads from iteration t to t + 1;
    k: in [0, len(rates)). Training resumes at k and ends where the dense network's ended.
    """
    whole = [0.1] * 4 + [0.01] * 3 + [0.001] * 2
    questions = [Question(f"rates {whole}, k = {k}", (whole, k), whole[k:]) for k in (3, 5, 0, 8)]
    compare_all(
        *(answer, questions, MISTAKES_WITH_SCHEDULES),
        read=lambda f: f.tolist() if isinstance(f, Tensor) else f,
    )


@exercise(
    "tickets match where they are stable, and the moment is what the first paper did not vary.",
    "Three readings decide: is the network stable at k, is the mask the ticket's, are the weights?",
)
def check_when_tickets_match(answers: Mapping[str, str]) -> None:
    """A dictionary: what do you predict for these tickets at moderate density? Choose "matches" or
    "falls behind" for each (Frankle et al. 2020, section 4).

    A LeNet on MNIST, rewound to 0. B ResNet-20 on CIFAR-10 at learning rate 0.1, rewound to 0. C
    The same, rewound to an iteration from which it is stable. D As C, with a random mask of the
    same density. E As B, at a much lower learning rate with warm-up.
    """
    right = {"A": "matches", "B": "falls behind", "C": "matches"}
    right |= {"D": "falls behind", "E": "matches"}
    because = {
        "matches": "Is the subnetwork stable to SGD noise at the iteration it is rewound to?",
        "falls behind": "Which condition of a matching ticket is missing here?",
    }
    check_choices(answers, right, because)
