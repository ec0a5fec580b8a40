"""What the papers say: sentences that can come out wrong, for the claims table.

Each claim names the arms that it compares, where in the space of experiments the lab measures
them, and the paper's own value. The paper's networks are larger than the lab's; the column
"published" is theirs, the density and the settings of a claim are the lab's.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from labkit.engine.connectivity import STABLE

POINTS, PERCENT, FACTOR = "points", "%", "x"

LEAST, MOST = "least", "most"  # the smallest or largest value that a column has in a study

FINAL = "final_test_accuracy"


@dataclass(frozen=True)
class Arm:
    """Networks of a table of tickets. treatment: as in the tables ("dense" is round 0). density:
    where they are read, in (0, 1]; None is wherever there are any, for the dense network and for
    one-shot pruning. where: columns and their values, among which LEAST and MOST are those of the
    study on that network, whatever its size; a network is meant by how its name begins.
    """

    treatment: str
    density: float | None = None
    where: tuple[tuple[str, Any], ...] = ()


def arm(
    treatment: str, density: float | None = None, where: Mapping[str, Any] | None = None
) -> Arm:
    """The arm whose columns have these values."""
    return Arm(treatment, density, tuple((where or {}).items()))


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
    return Claim(_LMC, text, one, None, "instability", POINTS, expected, published, 100 * STABLE)


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
    tuned, dense = arm("fine-tune-quarter"), arm("dense")
    small, longer = arm("scratch-e"), arm("scratch-b")
    return (
        _better(
            _RTH,
            "After pruning filters, Scratch-B does at least as well as fine-tuning",
            *(longer, tuned, "93.78 against 93.41% (VGG-16-A)", "matching"),
        ),
        _better(
            _RTH,
            "After pruning filters, Scratch-E does at least as well as fine-tuning",
            *(small, tuned, "93.62 against 93.41% (VGG-16-A)", "matching"),
        ),
        _better(
            _RTH,
            "After pruning filters, Scratch-B matches the dense network",
            *(longer, dense, "93.78 against 93.63% (VGG-16-A)", "matching"),
        ),
    )


def _slimming() -> tuple[Claim, ...]:
    tuned, longer = arm("fine-tune-quarter"), arm("scratch-b")
    return (
        _better(
            _RTH,
            "After slimming, Scratch-B does at least as well as fine-tuning",
            *(longer, tuned, "93.81 against 93.60% (VGG-19, 70%)", "matching"),
        ),
    )


def _unstructured() -> tuple[Claim, ...]:
    return (
        _better(
            _RTH,
            "At 20% density, Scratch-E does at least as well as fine-tuning",
            *(arm("scratch-e", 0.2), arm("fine-tune-quarter", 0.2)),
            *("93.71 against 93.52% (VGG-19)", "matching"),
        ),
        _better(
            _RTH,
            "At 5% density, fine-tuning beats Scratch-E",
            *(arm("fine-tune-quarter", 0.05), arm("scratch-e", 0.05)),
            "92.35 against 91.23% (PreResNet-110)",
        ),
    )


def _learning_rates() -> tuple[Claim, ...]:
    claims = []
    for kind, what, density in (("unstructured", "weights", 0.2), ("structured", "filters", None)):
        for rate, size in ((MOST, "large"), (LEAST, "small")):
            where = {"kind": kind, "learning_rate": rate}
            ticket, fresh = arm("rewind", density, where), arm("reinitialise", density, where)
            setting = f"Pruning {what}, at the {size} learning rate"
            if kind == "unstructured" and rate == LEAST:
                claims.append(
                    _better(
                        _RTH,
                        f"{setting}, the ticket beats itself re-initialised",
                        *(ticket, fresh, "92.75 against 92.07% (VGG-16)"),
                    )
                )
            else:
                published = "93.72 against 93.74% (VGG-16)" if rate == MOST else "no gain"
                claims.append(
                    _better(
                        _RTH,
                        f"{setting}, re-initialised tickets do as well as the ticket",
                        *(fresh, ticket, published if kind == "unstructured" else "no gain"),
                        "matching",
                    )
                )
    return tuple(claims)


def _stability_dense() -> tuple[Claim, ...]:
    calm = arm("dense", where={"learning_rate": LEAST, "rewind": 0})
    early, late = (arm("dense", where={"learning_rate": MOST, "rewind": k}) for k in (0, MOST))
    return (
        _instability(
            "LeNet with Adam is stable from its initialisation",
            *(calm, "below", "stable at 0"),
        ),
        _instability(
            "The network with SGD at a large rate is unstable from its initialisation",
            *(early, "above", "unstable (ResNet-20, VGG-16)"),
        ),
        _instability(
            "It is stable from the latest state that the study goes on from",
            *(late, "below", "stable from iteration 2,000 of 63,000 (ResNet-20)"),
        ),
    )


def _stability_imp() -> tuple[Claim, ...]:
    """One network at several learning rates, and its tickets of a quarter of the weights."""

    def at(treatment: str, rate: str | float, k: str | int, network: str = "") -> Arm:
        density = None if treatment == "dense" else 0.25
        return arm(treatment, density, {"network": network, "learning_rate": rate, "rewind": k})

    dense, early, late = at("dense", MOST, 0), at("rewind", MOST, 0), at("rewind", MOST, MOST)
    calm, gentle = at("dense", LEAST, 0), at("rewind", LEAST, 0)
    return (
        _instability(
            "At the large learning rate, the dense network is unstable from its initialisation",
            *(dense, "above", "unstable (ResNet-20, VGG-16)"),
        ),
        _instability(
            "At the large learning rate, tickets of 25% from the initialisation are unstable",
            *(early, "above", "unstable (ResNet-20, VGG-16)"),
        ),
        _better(
            _LMC,
            "At the large learning rate, tickets of 25% from the initialisation fall below the "
            "dense network",
            *(early, dense, "not matching", "below"),
        ),
        _instability(
            "At the large learning rate, tickets of 25% rewound to a later iteration are stable",
            *(late, "below", "stable from iteration 500 (ResNet-20)"),
        ),
        _better(
            _LMC,
            "At the large learning rate, tickets of 25% rewound to a later iteration match the "
            "dense network",
            *(late, dense, "matching", "matching"),
        ),
        _better(
            _LMC,
            "At the large learning rate, rewinding tickets of 25% to a later iteration beats "
            "rewinding them to the initialisation",
            *(late, early, "higher"),
        ),
        _better(
            _LMC,
            "At a quarter of the large rate, tickets of a residual network with 25% of the weights "
            "match from the initialisation",
            *(at("rewind", 0.1, 0, "resnet"), at("dense", 0.1, 0, "resnet")),
            *("matching (ResNet-20, low rate)", "matching"),
        ),
        _instability(
            "At the small learning rate, the dense network is stable from its initialisation",
            *(calm, "below", "stable (low rate or warm-up)"),
        ),
        _better(
            _LMC,
            "At the small learning rate, tickets of 25% match from the initialisation",
            *(gentle, calm, "matching (ResNet-20, low rate)", "matching"),
        ),
    )


def _reconciliation() -> tuple[Claim, ...]:
    """LeNet at half of its weights, where the quick size measures it too, and a residual network
    at an eighth.
    """
    filters = {"network": "resnet", "learning_rate": MOST, "kind": "structured"}
    return (
        *_by_rate("lenet", "LeNet", 0.5),
        *_by_rate("resnet", "a residual network", 0.125),
        _better(
            _RTH,
            "At the large learning rate, a residual network with half of the filters does as well "
            "re-initialised",
            *(arm("reinitialise", where=filters), arm("rewind", where=filters)),
            *("no gain", "matching"),
        ),
    )


def _by_rate(network: str, words: str, density: float) -> tuple[Claim, ...]:
    def one(treatment: str, rate: str) -> Arm:
        where: dict[str, Any] = {"network": network, "learning_rate": rate}
        if treatment == "dense":
            return arm(treatment, where=where)
        return arm(treatment, density, where | {"kind": "unstructured"})

    at = f"of {words} with {density:.1%} of the weights".replace(".0%", "%")
    return (
        _instability(
            f"At the large learning rate, training of {words} is unstable from its initialisation",
            *(one("dense", MOST), "above", "unstable (ResNet-20, VGG-16)"),
        ),
        _instability(
            f"At the small learning rate, training of {words} is stable from its initialisation",
            *(one("dense", LEAST), "below", "stable (low rate or warm-up)"),
        ),
        _better(
            _LMC,
            f"At the small learning rate, tickets {at} match from the initialisation",
            *(one("rewind", LEAST), one("dense", LEAST), "matching (ResNet-20, low rate)"),
            "matching",
        ),
        _better(
            _RTH,
            f"At the small learning rate, tickets {at} beat themselves re-initialised",
            *(one("rewind", LEAST), one("reinitialise", LEAST)),
            "92.75 against 92.07% (VGG-16, 20%)",
        ),
        _better(
            _RTH,
            f"At the large learning rate, tickets {at} do as well re-initialised",
            *(one("reinitialise", MOST), one("rewind", MOST)),
            *("93.72 against 93.74% (VGG-16, 20%)", "matching"),
        ),
    )


CLAIMS: dict[str, tuple[Claim, ...]] = {
    "lottery": _lottery(),
    "rethinking-structured": _structured(),
    "rethinking-slimming": _slimming(),
    "rethinking-unstructured": _unstructured(),
    "rethinking-learning-rate": _learning_rates(),
    "stability-dense": _stability_dense(),
    "stability-imp": _stability_imp(),
    "reconciliation": _reconciliation(),
    "new-weights": (),
    "length": (),
    "rewind-controls": (),
}
"""The claims that each preset can measure."""
