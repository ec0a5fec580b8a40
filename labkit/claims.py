"""What the papers say, what was measured, and the verdict.

A claim compares two arms of an experiment at one density, *paired by seed*: seeds of one network
differ by as much as the effects do. A treatment that was drawn several times counts as the mean of
its draws. The interval is Student's t over seeds; with one seed there is none.
"""

import math
from dataclasses import dataclass
from typing import Any

import pandas as pd

# Two-sided 95% quantiles of Student's t for 1, 2, ... degrees of freedom.
_T95 = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
)
NEAR = 0.1  # a claim is measured where log density is within this of the paper's density

MATCHING = 0.2  # points below the dense network that still match it (Frankle et al. 2020, 4)
POINTS, PERCENT, FACTOR = "points", "%", "x"


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds with its 95% interval, which is nan with one seed."""

    mean: float
    low: float
    high: float
    seeds: int
    iterations: int


@dataclass(frozen=True)
class Claim:
    """A sentence of a paper that can come out wrong.

    arm, against: treatments as in the tables ("dense" is round 0). density: where the paper reads
    it, in (0, 1]. column: what is read, of `labkit.Tables.tickets`. unit: how arm and against are
    compared: POINTS is the difference of accuracies in percentage points, PERCENT the relative
    change, FACTOR how many times larger `against` is; each per seed, then averaged.
    expected: whether the value is "above" or "below" that of no effect, or "matching": at most
    0.2 points below. published: the paper's value in words.
    """

    paper: str
    text: str
    arm: str
    against: str
    density: float
    column: str
    unit: str
    expected: str
    published: str

    @property
    def no_effect(self) -> float:
        """The value that means no effect."""
        return 1.0 if self.unit == FACTOR else 0.0


_BETTER = ("test_accuracy", POINTS, "above")


def _lottery(
    text: str, arms: tuple[str, str], density: float, reads: tuple[str, str, str], published: str
) -> Claim:
    return Claim("Frankle & Carbin 2019", text, *arms, density, *reads, published)


CLAIMS = {
    "lottery": (
        _lottery(
            "At 21% density, the ticket stops earlier than the dense network",
            ("rewind", "dense"),
            0.211,
            ("early_stop", PERCENT, "below"),
            "38% earlier",
        ),
        _lottery(
            "At 21% density, the ticket beats the dense network",
            ("rewind", "dense"),
            0.211,
            _BETTER,
            "higher",
        ),
        _lottery(
            "At 21% density, the ticket beats itself re-initialised",
            ("rewind", "reinitialise"),
            0.211,
            _BETTER,
            "0.5 points higher",
        ),
        _lottery(
            "At 21% density, the ticket learns faster than itself re-initialised",
            ("rewind", "reinitialise"),
            0.211,
            ("early_stop", FACTOR, "above"),
            "2.51 times faster",
        ),
        _lottery(
            "At 21% density, re-initialised tickets fall below the dense network",
            ("reinitialise", "dense"),
            0.211,
            ("test_accuracy", POINTS, "below"),
            "lower",
        ),
        _lottery(
            "At 13.5% density, the ticket beats the dense network",
            ("rewind", "dense"),
            0.135,
            _BETTER,
            "more than 0.3 points higher",
        ),
        _lottery(
            "At 3.6% density, the ticket still matches the dense network",
            ("rewind", "dense"),
            0.036,
            ("test_accuracy", POINTS, "matching"),
            "the same",
        ),
    ),
}


def measure(claim: Claim, tickets: pd.DataFrame) -> Estimate | None:
    """The claim's value in a table of tickets, or None where it lacks an arm near that density.

    Treatments drawn several times count as the mean of their draws; seeds that lack an arm are
    left out.
    """
    arm, against = _arm(tickets, claim.arm, claim), _arm(tickets, claim.against, claim)
    arm, against = arm.align(against, join="inner")
    if claim.unit == POINTS:
        values = 100 * (arm - against)
    elif claim.unit == PERCENT:
        values = 100 * (arm / against - 1)
    else:
        values = against / arm
    values = values[values.abs() != math.inf].dropna()  # an early stop at iteration 0
    if values.empty:
        return None
    low, high = interval(values)
    return Estimate(values.mean(), low, high, len(values), int(tickets["iterations"].max()))


def interval(values: pd.Series) -> tuple[float, float]:
    """95% interval of the mean of independent values, one per seed; nan for a single one."""
    n = len(values)
    if n < 2:
        return math.nan, math.nan
    t = _T95[min(n - 1, len(_T95)) - 1]  # beyond the table its last entry: a little too wide
    half = t * float(values.std(ddof=1)) / math.sqrt(n)
    return float(values.mean()) - half, float(values.mean()) + half


def verdict(claim: Claim, estimate: Estimate | None) -> str:
    """What the estimate says of the claim: "agrees", "disagrees", or why it cannot tell."""
    if estimate is None:
        return "not measured"
    if math.isnan(estimate.low):
        return "one seed: no interval"
    if claim.expected == "matching":
        if estimate.mean >= -MATCHING:
            return "agrees"
        return "disagrees" if estimate.high < -MATCHING else "undecided"
    if estimate.low <= claim.no_effect <= estimate.high:
        return "undecided"
    return (
        "agrees"
        if (estimate.mean > claim.no_effect) == (claim.expected == "above")
        else "disagrees"
    )


def table(
    reference: pd.DataFrame | None, run: pd.DataFrame | None, preset: str = "lottery"
) -> pd.DataFrame:
    """One row per claim: what the paper says, the shipped reference, this run, and verdicts.

    reference, run: tables of tickets, or None. Columns paper, claim, published, reference, this_run
    are words; `*_mean`, `*_low`, `*_high`, `*_seeds`, `*_iterations` and `*_verdict` carry the
    numbers behind them.
    """
    rows = []
    for claim in CLAIMS[preset]:
        row: dict[str, Any] = {"paper": claim.paper, "claim": claim.text}
        row["published"] = claim.published
        for name, tickets in (("reference", reference), ("this_run", run)):
            has_rows = tickets is not None and not tickets.empty
            estimate = measure(claim, tickets) if has_rows else None
            row[name] = in_words(claim, estimate)
            for column in ("mean", "low", "high", "seeds", "iterations"):
                row[f"{name}_{column}"] = getattr(estimate, column, None)
            row[f"{name}_verdict"] = verdict(claim, estimate)
        rows.append(row)
    return pd.DataFrame(rows)


def in_words(claim: Claim, estimate: Estimate | None) -> str:
    """Value, 95% interval, seeds and iterations, such as "+0.42 points [+0.20, +0.64], 5 seeds"."""
    if estimate is None:
        return "-"
    sign = "" if claim.unit == FACTOR else "+"
    digits = 1 if claim.unit == PERCENT else 2

    def number(value: float) -> str:
        return f"{value:{sign}.{digits}f}"

    unit = claim.unit if claim.unit in (PERCENT, FACTOR) else f" {claim.unit}"
    span = "" if math.isnan(estimate.low) else f" [{number(estimate.low)}, {number(estimate.high)}]"
    seeds = f"{estimate.seeds} seed" + ("" if estimate.seeds == 1 else "s")
    size = f"{estimate.iterations:,} iterations"
    return f"{number(estimate.mean)}{unit}{span}, {seeds}, {size}"


def to_text(claims: pd.DataFrame) -> str:
    """The table as plain text, a paragraph per claim."""
    paragraphs = []
    for row in claims.to_dict("records"):
        lines = [f"{row['claim']} ({row['paper']})", f"  paper      {row['published']}"]
        for name, title in (("reference", "reference"), ("this_run", "this run ")):
            lines.append(f"  {title}  {row[name]}: {row[f'{name}_verdict']}")
        paragraphs.append("\n".join(lines))
    return "\n\n".join(paragraphs)


def _arm(tickets: pd.DataFrame, treatment: str, claim: Claim) -> pd.Series:
    """Values of one treatment at the claim's density, indexed by seed, draws averaged."""
    rows = tickets[tickets["treatment"] == treatment]
    if treatment != "dense":
        rows = rows[(rows["density"] / claim.density).apply(math.log).abs() < NEAR]
    return rows.groupby("seed")[claim.column].mean().astype(float)
