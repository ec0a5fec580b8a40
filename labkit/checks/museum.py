"""Lesson 07: which bug explains a report, the audit of a layer, and the paired interval."""

import math
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

from labkit.checks.judging import (
    Fault,
    Mistakes,
    Question,
    ask,
    check_choices,
    compare_all,
    describe,
    exercise,
    fail,
)


@exercise(
    "every symptom has its bug.",
    "Ask what was measured: a count, a value that never moves, a maximum, an arm, a line.",
)
def check_symptoms(answers: Mapping[str, str]) -> None:
    """A dictionary: which bug explains each report? Choose "masked gradients", "frozen by value",
    "test-set stop", "re-initialised mask" or "interpolated statistics", each once.

    A More weights than the density says are not zero. B In all arms the reported accuracy is above
    the one at the lowest validation loss. C Half of the weights have their initial values. D The
    re-initialised control is as bad as a random mask with new weights. E Networks with batch
    normalisation alone have a barrier, even between copies that part in the last iterations.
    """
    right = {"A": "masked gradients", "B": "test-set stop", "C": "frozen by value"}
    right |= {"D": "re-initialised mask", "E": "interpolated statistics"}
    because = {
        "masked gradients": "That lets the optimizer's moments revive removed weights.",
        "frozen by value": "That keeps weights from learning for the value that they have.",
        "test-set stop": "That reports the best of many looks at the test set.",
        "re-initialised mask": "That changes which weights an arm keeps.",
        "interpolated statistics": "That makes the middle of a line worse than its weights are.",
    }
    check_choices(answers, right, because)


REVIVED_UNSEEN = Fault(
    "revived weights unseen",
    "a removed weight that is not zero was not noticed",
    "Look at the trained weights where the mask is false.",
)
FROZEN_UNSEEN = Fault(
    "frozen weights unseen",
    "a survivor that has not moved was not noticed",
    "Compare trained and start where the mask is true.",
)
FALSE_ALARM = Fault(
    "false alarm",
    "nothing is wrong here",
    "A survivor may pass through zero, and a removed weight was not zero at the start.",
)


@exercise(
    "every revived and every frozen weight is found, and honest training passes.",
    "`(trained[~mask] != 0).any()` is the one half; the other compares `trained[mask]`.",
)
def check_audit(answer: Callable[[Tensor, Tensor, Tensor], str]) -> None:
    """`audit(start, trained, mask)`: what is wrong with the training of a pruned layer, "revived"
    if a removed weight is not zero after training, else "frozen" if a survivor has exactly the
    value that it started from, else "fine".

    start, trained: weights of the dense initialisation and after training, of one shape; mask:
    bool, True where a weight survives.
    """
    start, mask = torch.tensor([0.5, -0.2, 0.3, -0.4]), torch.tensor([True, False, True, False])
    layers = (
        ("fine", [0.6, 0.0, 0.1, 0.0], mask),
        ("revived", [0.6, 1e-9, 0.1, 0.0], mask),
        ("revived", [0.6, -0.2, 0.1, 0.0], mask),
        ("frozen", [0.5, 0.0, 0.1, 0.0], mask),
        ("revived", [0.5, 0.0, 0.1, 0.7], mask),
        ("fine", [0.0, 0.0, 0.1, 0.0], mask),
        ("fine", [0.0, 0.0, 0.0, 0.0], ~mask & mask),
        ("frozen", [0.6, -0.1, 0.3, 0.2], mask | ~mask),
    )
    missed = {"revived": REVIVED_UNSEEN, "frozen": FROZEN_UNSEEN, "fine": FALSE_ALARM}
    for right, values, survives in layers:
        trained = torch.tensor(values)
        case = f"start {describe(start)}, trained {values}, mask {survives.int().tolist()}"
        found = ask(answer, case, start, trained, survives)
        if found != right:
            fail(missed[right], case, right, found)


UNPAIRED = Fault(
    "unpaired",
    "the interval is as wide as if the two arms had nothing in common",
    "What do the arms of a seed share? Take the difference before you take the spread.",
)
SPREAD_OF_SEEDS = Fault(
    "spread of the seeds",
    "the interval holds single seeds, and not their mean",
    "The mean of n values varies less than one of them: by how much?",
)
POPULATION_SPREAD = Fault(
    "divided by n",
    "the spread was taken as if the mean were known beforehand",
    "The mean was estimated from the same values, which costs one of them: n - 1.",
)
OTHER_WAY_ROUND = Fault(
    "other way round", "the sign is that of the other difference", "One minus other."
)


def _around(mean: Tensor, half: Tensor) -> tuple[float, float]:
    return (mean - half).item(), (mean + half).item()


def _paired(one: Tensor, other: Tensor, reach: float) -> tuple[float, float]:
    """reach: in standard deviations of the differences."""
    return _around((one - other).mean(), reach * (one - other).std())


def _unpaired(one: Tensor, other: Tensor, t: float) -> tuple[float, float]:
    return _around((one - other).mean(), t * ((one.var() + other.var()) / len(one)).sqrt())


MISTAKES_WITH_PAIRS: Mistakes = {
    UNPAIRED: _unpaired,
    SPREAD_OF_SEEDS: _paired,
    POPULATION_SPREAD: lambda one, other, t: _paired(
        one, other, t * math.sqrt(len(one) - 1) / len(one)
    ),
    OTHER_WAY_ROUND: lambda one, other, t: _paired(other, one, t / math.sqrt(len(one))),
}


@exercise(
    "the difference is taken within each seed, and the interval is that of its mean.",
    "`d = one - other`, then `d.mean()` and `t * d.std() / len(d) ** 0.5`.",
    MISTAKES_WITH_PAIRS,
)
def check_paired_interval(
    answer: Callable[[Tensor, Tensor, float], tuple[float, float]],
) -> None:
    """`paired_interval(one, other, t)`: (low, high), the 95% interval of the mean of one - other.

    one, other: accuracies of two arms, an entry per seed, in the same order; t: Student's quantile
    for that number of seeds, such as 2.776 for five.
    """
    compare_all(
        answer,
        _two_arms(),
        MISTAKES_WITH_PAIRS,
        read=lambda f: tuple(f) if isinstance(f, list) else f,
    )


def _two_arms() -> Iterator[Question]:
    arms = (
        ([97.0, 97.9, 98.4, 97.2, 98.0], [96.8, 97.4, 98.2, 96.8, 97.7], 2.776),
        ([80.0, 70.0, 90.0], [81.0, 69.0, 93.0], 4.303),
        ([60.0, 61.0], [60.5, 61.5], 12.706),
    )
    for one, other, t in arms:
        arguments = torch.tensor(one), torch.tensor(other), t
        right = _paired(*arguments[:2], t / math.sqrt(len(one)))
        yield Question(f"one {one}, other {other}, t {t}", arguments, right)
