"""What the papers say, what was measured, and the verdict.

A claim of `published` compares two arms of an experiment, *paired by seed*: seeds of one
network differ by as much as the effects do. A treatment that was drawn several times counts as the
mean of its draws. The interval is Student's t over seeds; with one seed there is none.
"""

import math
from dataclasses import dataclass
from typing import Any

import pandas as pd

from labkit.experiments.experiment import Experiment, Study
from labkit.experiments.presets import study as study_of
from labkit.experiments.results import MATCHING
from labkit.experiments.statistics import NEAR, interval
from labkit.papers.published import CLAIMS, FACTOR, LEAST, MOST, PERCENT, POINTS, Arm, Claim


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds with its 95% interval, which is nan with one seed."""

    mean: float
    low: float
    high: float
    seeds: int
    iterations: int


def measure(claim: Claim, tickets: pd.DataFrame, study: Study = ()) -> Estimate | None:
    """The claim's value in a table of tickets, or None where it lacks an arm near that density.

    Treatments drawn several times count as the mean of their draws; seeds that lack an arm are
    left out. study: the experiments whose results these are; LEAST and MOST are then theirs, even
    where results are missing, and those of the table otherwise.
    """
    arm, iterations = _arm(tickets, claim.arm, claim.column, study)
    against = arm
    if claim.against is not None:
        against, _ = _arm(tickets, claim.against, claim.column, study)
        arm, against = arm.align(against, join="inner")
    if claim.against is None:
        values = 100 * arm
    elif claim.unit == POINTS:
        values = 100 * (arm - against)
    elif claim.unit == PERCENT:
        values = 100 * (arm / against - 1)
    else:
        values = against / arm
    values = values[values.abs() != math.inf].dropna()  # an early stop at iteration 0
    if values.empty:
        return None
    low, high = interval(values)
    return Estimate(values.mean(), low, high, len(values), iterations)


def verdict(claim: Claim, estimate: Estimate | None) -> str:
    """What the estimate says of the claim: "agrees", "disagrees", or why it cannot tell."""
    if estimate is None:
        return "not measured"
    if math.isnan(estimate.low):
        return "one seed: no interval"
    if claim.expected == "matching":
        if estimate.mean >= -100 * MATCHING:
            return "agrees"
        return "disagrees" if estimate.high < -100 * MATCHING else "undecided"
    if estimate.low <= claim.threshold <= estimate.high:
        return "undecided"
    return (
        "agrees"
        if (estimate.mean > claim.threshold) == (claim.expected == "above")
        else "disagrees"
    )


def table(
    reference: pd.DataFrame | None,
    run: pd.DataFrame | None,
    preset: str = "lottery",
    study: Study = (),
) -> pd.DataFrame:
    """One row per claim: what the paper says, the shipped reference, this run, and verdicts.

    reference, run: tables of tickets, or None, perhaps of unfinished runs. study: the experiments
    of this run, if known; the reference's are those of the preset. The columns paper, claim,
    published, reference and this_run are words; `*_mean`, `*_low`, `*_high`, `*_seeds`,
    `*_iterations` and `*_verdict` carry the numbers behind them.
    """
    rows = []
    for claim in CLAIMS[preset]:
        row: dict[str, Any] = {"paper": claim.paper, "claim": claim.text}
        row["published"] = claim.published
        for name, tickets, planned in (
            ("reference", reference, study_of(preset, "reference")),
            ("this_run", run, study),
        ):
            has_rows = tickets is not None and not tickets.empty
            estimate = measure(claim, tickets, planned) if has_rows else None
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
    sign = "" if claim.unit == FACTOR or claim.against is None else "+"
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


def _arm(tickets: pd.DataFrame, arm: Arm, column: str, study: Study) -> tuple[pd.Series, int]:
    """Values of an arm, indexed by seed, draws averaged; and how long its networks trained."""
    rows = tickets[tickets["treatment"] == arm.treatment]
    family = dict(arm.where).get("network", "")
    alike = [e for e in study if e.task.network.startswith(family)]
    for name, value in arm.where:
        if value in (LEAST, MOST):
            known = [_setting(e, name) for e in alike] or rows[name].tolist()
            value = min(known, default=None) if value == LEAST else max(known, default=None)
        if name == "network":
            rows = rows[rows[name].str.startswith(value)]
        else:
            rows = rows[rows[name] == value]
    if arm.density is not None:
        rows = rows[(rows["density"] / arm.density).apply(math.log).abs() < NEAR]
    rows = rows.dropna(subset=[column])
    longest = 0 if rows.empty else int(rows["iterations"].max())
    return rows.groupby("seed")[column].mean().astype(float), longest


def _setting(experiment: Experiment, name: str) -> float:
    """What a numeric column of the tables says of an experiment."""
    values = {
        "learning_rate": experiment.task.recipe.learning_rate,
        "rewind": float(experiment.rewind),
    }
    return values[name]
