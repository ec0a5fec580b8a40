"""What the papers say: sentences that can come out wrong, for the claims table.

Each claim names the arms that it compares, where in the space of experiments the lab measures
them, and the paper's own value. The paper's networks are larger than the lab's; the column
"published" is theirs, the density and the settings of a claim are the lab's.
"""

from dataclasses import dataclass
from typing import Any

MATCHING = 0.2  # points below the dense network that still match it (Frankle et al. 2020, 4)
STABLE = 2.0  # points of instability below which training is stable (Frankle et al. 2020, 3)
POINTS, PERCENT, FACTOR = "points", "%", "x"

FINAL = "final_test_accuracy"


@dataclass(frozen=True)
class Arm:
    """Networks of a table of tickets. treatment: as in the tables ("dense" is round 0). density:
    where they are read, in (0, 1]; ignored for the dense network. where: columns and their values.
    """

    treatment: str
    density: float = 1.0
    where: tuple[tuple[str, Any], ...] = ()


def arm(treatment: str, density: float = 1.0, **where: Any) -> Arm:
    """The arm whose columns have these values."""
    return Arm(treatment, density, tuple(where.items()))


@dataclass(frozen=True)
class Claim:
    """A sentence of a paper that can come out wrong.

    against: what the arm is compared with, or None where its value is read as it is.
    column: what is read, of `labkit.Tables.tickets`. unit: how arm and against are compared: POINTS
    is the difference in percentage points, PERCENT the relative change, FACTOR how many times
    larger `against` is; each per seed, then averaged. expected: whether the value is "above" or
    "below" the threshold, or "matching": at most 0.2 points below `against`.
    published: the paper's value in words. threshold: by default that of no effect.
    """

    paper: str
    text: str
    arm: Arm
    against: Arm | None
    column: str
    unit: str
    expected: str
    published: str
    threshold: float = 0.0


_LTH, _RTH, _LMC = "Frankle & Carbin 2019", "Liu et al. 2019", "Frankle et al. 2020"


def _better(
    paper: str, text: str, one: Arm, other: Arm, published: str, expected: str = "above"
) -> Claim:
    """A comparison of accuracies after the last iteration."""
    return Claim(paper, text, one, other, FINAL, POINTS, expected, published)


def _instability(text: str, one: Arm, expected: str, published: str) -> Claim:
    return Claim(_LMC, text, one, None, "instability", POINTS, expected, published, STABLE)


def _lottery() -> tuple[Claim, ...]:
    ticket, fresh, dense = arm("rewind", 0.211), arm("reinitialise", 0.211), arm("dense")
    stop, accuracy = "early_stop", "test_accuracy"
    return (
        Claim(
            _LTH,
            "At 21% density, the ticket stops earlier than the dense network",
            *(ticket, dense, stop, PERCENT, "below", "38% earlier"),
        ),
        Claim(
            _LTH,
            "At 21% density, the ticket beats the dense network",
            *(ticket, dense, accuracy, POINTS, "above", "higher"),
        ),
        Claim(
            _LTH,
            "At 21% density, the ticket beats itself re-initialised",
            *(ticket, fresh, accuracy, POINTS, "above", "0.5 points higher"),
        ),
        Claim(
            _LTH,
            "At 21% density, the ticket learns faster than itself re-initialised",
            *(ticket, fresh, stop, FACTOR, "above", "2.51 times faster"),
            threshold=1.0,
        ),
        Claim(
            _LTH,
            "At 21% density, re-initialised tickets fall below the dense network",
            *(fresh, dense, accuracy, POINTS, "below", "lower"),
        ),
        Claim(
            _LTH,
            "At 13.5% density, the ticket beats the dense network",
            *(
                arm("rewind", 0.135),
                dense,
                accuracy,
                POINTS,
                "above",
                "more than 0.3 points higher",
            ),
        ),
        Claim(
            _LTH,
            "At 3.6% density, the ticket still matches the dense network",
            *(arm("rewind", 0.036), dense, accuracy, POINTS, "matching", "the same"),
        ),
    )


def _structured() -> tuple[Claim, ...]:
    claims = []
    for what, density in (("half", 0.25), ("three tenths", 0.09)):
        tuned, dense = arm("fine-tune-quarter", density), arm("dense")
        small, longer = arm("scratch-e", density), arm("scratch-b", density)
        claims += [
            _better(
                _RTH,
                f"With {what} of the filters, Scratch-B does at least as well as fine-tuning",
                *(longer, tuned, "93.78 against 93.41% (VGG-16-A)", "matching"),
            ),
            _better(
                _RTH,
                f"With {what} of the filters, Scratch-E does at least as well as fine-tuning",
                *(small, tuned, "93.62 against 93.41% (VGG-16-A)", "matching"),
            ),
            _better(
                _RTH,
                f"With {what} of the filters, Scratch-B matches the dense network",
                *(longer, dense, "93.78 against 93.63% (VGG-16-A)", "matching"),
            ),
        ]
    return tuple(claims)


CLAIMS: dict[str, tuple[Claim, ...]] = {
    "lottery": _lottery(),
    "rethinking-structured": _structured(),
}
"""The claims that each preset can measure."""
