"""Lesson 08: the distance of two masks, the rule of the early bird, and what a ticket has cost."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from labkit.checks.judging import Fault, Mistakes, Question, compare_all, exercise
from labkit.engine.training import generator


def _share(differ: Tensor) -> float:
    return differ.float().mean().item()


COUNTED = Fault(
    "a count",
    "that is how many units differ, and not their share",
    "A rule with one threshold for all networks needs a number between 0 and 1.",
)
ONLY_LOST = Fault(
    "one side alone",
    "only units that left the mask were counted",
    "A unit may also come back. Which pairs of truth values differ?",
)
NET_CHANGE = Fault(
    "gains against losses",
    "units that came in were set off against those that went out",
    "Two masks that keep equally many units can be as different as can be.",
)
OF_THE_KEPT = Fault(
    "share of the kept",
    "the number was divided by the units that are kept, and not by all units",
    "Which number of entries can differ at the most?",
)
ALIKE = Fault(
    "share alike", "that is the share of units that are the same", "Distance or likeness?"
)
MISTAKES_WITH_DISTANCE: Mistakes = {
    COUNTED: lambda one, other: (one != other).sum().item(),
    ONLY_LOST: lambda one, other: _share(one & ~other),
    NET_CHANGE: lambda one, other: abs(_share(one) - _share(other)),
    OF_THE_KEPT: lambda one, other: (one != other).sum().item() / max(1, int((one | other).sum())),
    ALIKE: lambda one, other: _share(one == other),
}


@exercise(
    "the share of units of which one mask keeps and the other does not.",
    "`one != other` is true where they differ; the mean of truth values is a share.",
    MISTAKES_WITH_DISTANCE,
)
def check_mask_distance(answer: Callable[[Tensor, Tensor], float]) -> None:
    """`mask_distance(one, other)`: how far two masks of the same units are from each other, a float
    in [0, 1]: the share of units of which one keeps and the other does not (the normalised Hamming
    distance of You et al. 2020, section 3).

    one, other: bool tensors (units,), true for what is kept.
    """
    yes, no = True, False
    masks = [
        ("one unit of four changes", [yes, yes, no, no], [yes, no, no, no]),
        ("one goes and one comes", [yes, yes, no, no], [yes, no, yes, no]),
        ("equal masks", [yes, no, yes], [yes, no, yes]),
        ("opposite masks", [yes, no], [no, yes]),
    ]
    pairs = [(case, torch.tensor(one), torch.tensor(other)) for case, one, other in masks]
    draw = generator(0, "masks")
    pairs.append(("thirty units", *(torch.rand(2, 30, generator=draw) < 0.4)))
    questions = [Question(case, (one, other), _share(one != other)) for case, one, other in pairs]
    compare_all(answer, questions, MISTAKES_WITH_DISTANCE, read=_as_number)


def _as_number(found: object) -> object:
    return found.item() if isinstance(found, Tensor) and found.numel() == 1 else found


Distances = Sequence[Sequence[float]]


def _first(distances: Distances, memory: int, within: Callable[[list[float], int], bool]) -> int:
    """The first look whose distances to the memory - 1 looks before it are as asked for, or -1."""
    for newest in range(memory - 1, len(distances)):
        if within([distances[newest][i] for i in range(newest - memory + 1, newest)], newest):
            return newest
    return -1


BELOW = Fault(
    "not at the threshold",
    "a distance that is just the threshold did not count",
    "At most the threshold: is that < or <=?",
)
LAST_ONLY = Fault(
    "the last step alone",
    "only the distance to the look before was asked for",
    "A mask that drifts by a little at every look is still moving.",
)
OLDEST_ONLY = Fault(
    "the oldest alone",
    "only the distance to the oldest look was asked for",
    "A mask may wander off and come back.",
)
CHAINED = Fault(
    "from look to look",
    "the distances of each look to the next were asked for",
    "The newest mask is compared with each of the others.",
)
MEAN = Fault(
    "a mean", "the mean of the distances was asked for, and not each of them", "All of them."
)
TOO_FEW = Fault(
    "too few looks",
    "it fired with one look less than was asked for",
    "`memory` looks, the newest among them.",
)
TOO_MANY = Fault(
    "too many looks",
    "it waited for one look more than was asked for",
    "`memory` looks, the newest among them.",
)


def _rule(distances: Distances, threshold: float, memory: int) -> int:
    return _first(distances, memory, lambda row, _: max(row) <= threshold)


def _steps_within(distances: Distances, threshold: float, memory: int) -> int:
    def within(row: list[float], newest: int) -> bool:
        looks = pairwise(range(newest - memory + 1, newest + 1))
        return all(distances[two][one] <= threshold for one, two in looks)

    return _first(distances, memory, within)


MISTAKES_WITH_THE_RULE: Mistakes = {
    BELOW: lambda d, t, m: _first(d, m, lambda row, _: max(row) < t),
    LAST_ONLY: lambda d, t, m: _first(d, m, lambda row, _: row[-1] <= t),
    OLDEST_ONLY: lambda d, t, m: _first(d, m, lambda row, _: row[0] <= t),
    CHAINED: _steps_within,
    MEAN: lambda d, t, m: _first(d, m, lambda row, _: sum(row) / len(row) <= t),
    TOO_FEW: lambda d, t, m: _first(d, m, lambda row, _: max(row[1:]) <= t),
    TOO_MANY: lambda d, t, m: _rule(d, t, m + 1),
}


@exercise(
    "drawn at the first look that is as near as asked to each of those before it.",
    "Go through the looks from number `memory` - 1 on; `all(... for ...)` asks each before it.",
    MISTAKES_WITH_THE_RULE,
)
def check_draw_early(answer: Callable[[Distances, float, int], int]) -> None:
    """`draw_early(distances, threshold, memory)`: the number of the look at which the early-bird
    ticket is drawn (You et al. 2020, section 3), an int; -1 where it is never drawn.

    distances: `distances[i][j]` between the masks of looks i and j, numbered from 0. It is drawn
    at the first look whose distance to each of the memory - 1 looks before it is at most the
    threshold. memory: 3 or more, the newest look among them; so it is never before that many looks.
    """
    rows: list[tuple[str, list[float]]] = [
        ("a mask that settles", [0.0, 0.5, 0.8, 0.9, 0.92, 0.93, 0.93, 0.93]),
        ("a mask that drifts", [0.0, 0.08, 0.16, 0.24, 0.32, 0.4]),
        ("a mask that wanders and comes back", [0.0, 0.3, 0.0, 0.3, 0.0, 0.0, 0.0]),
        ("a mask that jumps back", [0.0, 0.5, 0.01, 0.02, 0.5, 0.5, 0.5]),
        ("steps of just the threshold", [0.0, 0.5, 0.75, 0.75, 0.875, 0.75]),
        ("three looks", [0.0, 0.05, 0.0]),
        ("two near looks and a far one", [0.0, 0.5, 0.5, 0.5, 0.65, 0.65, 0.65]),
        ("a mask that slows down", [0.0, 0.3, 0.42, 0.5, 0.55, 0.56]),
    ]
    questions = []
    for case, places in rows:
        table = [[round(abs(one - other), 6) for other in places] for one in places]
        for threshold, memory in ((0.125, 3), (0.125, 4)):
            words = f"{case}, threshold {threshold}, memory {memory}"
            arguments = (table, threshold, memory)
            questions.append(Question(words, arguments, _rule(table, threshold, memory)))
    compare_all(answer, questions, MISTAKES_WITH_THE_RULE, read=_as_number)


def _price(iterations: int, drawn: int, start: int, share: float) -> float:
    return (drawn + share * (iterations - start)) / iterations


NO_SEARCH = Fault(
    "search left out",
    "the dense training that found the ticket was left out",
    "Who trained until the mask was drawn?",
)
SEARCH_ONLY = Fault("search alone", "the ticket's own training was left out", "And after the draw?")
TRAINED_IN_FULL = Fault(
    "all iterations again",
    "the ticket was given all iterations, wherever it starts",
    "It goes on from `start`. How many iterations are left then?",
)
SAME_PRICE = Fault(
    "dense price",
    "the ticket's iterations were counted as dense ones",
    "Its network is smaller: an iteration costs the share `share`.",
)
WHOLE_SEARCH = Fault(
    "searched to the end",
    "a whole dense training was counted",
    "The dense network was trained only until the mask was drawn.",
)
MISTAKES_WITH_PRICES: Mistakes = {
    NO_SEARCH: lambda n, drawn, start, share: share * (n - start) / n,
    SEARCH_ONLY: lambda n, drawn, start, share: drawn / n,
    TRAINED_IN_FULL: lambda n, drawn, start, share: (drawn + share * n) / n,
    SAME_PRICE: lambda n, drawn, start, share: (drawn + n - start) / n,
    WHOLE_SEARCH: lambda n, drawn, start, share: 1 + share * (n - start) / n,
}


@exercise(
    "the dense part until the draw, and the ticket's part from where it starts.",
    "Two products of iterations and arithmetic per iteration, over that of the dense training.",
    MISTAKES_WITH_PRICES,
)
def check_price(answer: Callable[[int, int, int, float], float]) -> None:
    """`price(iterations, drawn, start, share)`: the arithmetic of finding a ticket and of training
    it, in trainings of the dense network, a float.

    iterations: of a whole training; drawn: how many of them the dense network was trained for when
    the mask was drawn; start: the iteration of the schedule at which the ticket goes on, 0 if it
    begins again; share: the arithmetic of an iteration of the ticket, of the dense network's.
    """
    cases = {
        "early bird: drawn and continued at 500 of 2,000": (2_000, 500, 500, 0.5),
        "drawn at the end, trained again in full": (2_000, 2_000, 0, 0.25),
        "drawn early, trained from new weights": (1_600, 400, 0, 0.4),
        "drawn before training": (1_000, 0, 0, 0.3),
        "nothing is pruned": (1_000, 100, 100, 1.0),
    }
    questions = [Question(case, costs, _price(*costs)) for case, costs in cases.items()]
    compare_all(answer, questions, MISTAKES_WITH_PRICES, read=_as_number)
