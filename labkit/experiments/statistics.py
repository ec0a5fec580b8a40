"""Means over seeds, with their uncertainty, and what they say of a sentence that can be wrong.

A seed is one independent repetition of everything; draws of one seed are averaged before anything
else. The rules are those of docs/registration.md; every table, figure and claim uses these.
scipy.special has Student's quantiles without the second that importing scipy.stats takes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from scipy.special import stdtr, stdtrit

NEAR = 0.1  # densities count as one where their logarithms differ by less
MARGIN = 0.2  # points of accuracy that still match (Frankle et al. 2020, section 4)
RULES = ("above", "below", "at least", "same")
AGREES, DISAGREES, UNDECIDED = "agrees", "disagrees", "undecided"
MOST_SEEDS = 1_000  # more would decide nothing that matters


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds with its 95% interval, which is nan with one seed. deviation: of a seed."""

    mean: float
    low: float
    high: float
    seeds: int
    deviation: float = math.nan


def estimate(values: pd.Series) -> Estimate:
    """The mean of independent values, one per seed, with its 95% interval by Student's t."""
    n = len(values)
    if n < 2:
        return Estimate(float(values.mean()), math.nan, math.nan, n)
    deviation = float(values.std(ddof=1))
    half = float(stdtrit(n - 1, 0.975)) * deviation / math.sqrt(n)
    mean = float(values.mean())
    return Estimate(mean, mean - half, mean + half, n, deviation)


def interval(values: pd.Series) -> tuple[float, float]:
    """95% interval of the mean of independent values, one per seed; nan for a single one."""
    found = estimate(values)
    return found.low, found.high


def over_seeds(rows: pd.DataFrame, by: Sequence[str], column: str, scale: float) -> pd.DataFrame:
    """Means and 95% intervals over seeds of a column x scale, draws averaged first.

    rows: with the columns `by`, seed and `column`; those without a value are left out. The result
    has the columns `by`, mean, low, high and seeds, in the order in which they come.
    """
    found = []
    known = rows.dropna(subset=[column]) if column in rows else rows.iloc[:0]
    for labels, group in known.groupby(list(by), sort=False) if len(known) else ():
        one = estimate(scale * group.groupby("seed")[column].mean())
        measured = {"mean": one.mean, "low": one.low, "high": one.high, "seeds": one.seeds}
        found.append(dict(zip(by, labels, strict=True)) | measured)
    return pd.DataFrame(found)


def verdict(found: Estimate, rule: str, threshold: float = 0.0, margin: float = MARGIN) -> str:
    """Whether an estimate agrees with a rule, disagrees, or leaves it undecided.

    rule: "above" or "below" the threshold (superiority); "at least" the threshold, but for a margin
    (non-inferiority); or the "same", within the margin on both sides (equivalence). Undecided is
    also what one seed leaves, which has no interval.
    """
    if math.isnan(found.low):
        return UNDECIDED
    least, most = _allowed(rule, threshold, margin)
    if least < found.low and found.high < most:
        return AGREES
    return DISAGREES if found.high < least or most < found.low else UNDECIDED


def _allowed(rule: str, threshold: float, margin: float) -> tuple[float, float]:
    """Between which values the mean is, where the rule is right."""
    return {
        "above": (threshold, math.inf),
        "below": (-math.inf, threshold),
        "at least": (threshold - margin, math.inf),
        "same": (threshold - margin, threshold + margin),
    }[rule]


def seeds_to_decide(
    found: Estimate, rule: str, threshold: float = 0.0, margin: float = MARGIN
) -> int | None:
    """How many seeds would leave nothing undecided, were mean and deviation to stay as they are;
    None where that is not known, with one seed, or is more than MOST_SEEDS.
    """
    if math.isnan(found.deviation):
        return None
    bounds = (bound for bound in _allowed(rule, threshold, margin) if math.isfinite(bound))
    distance = min(abs(found.mean - bound) for bound in bounds)
    for n in range(2, MOST_SEEDS + 1):
        if stdtrit(n - 1, 0.975) * found.deviation / math.sqrt(n) < distance:
            return n
    return None


def chance(found: Estimate, rule: str, threshold: float = 0.0, margin: float = MARGIN) -> float:
    """How often, two-sided, seeds that know of no difference to the rule's nearest bound would end
    as far from it as these: a p-value; nan with one seed.
    """
    if math.isnan(found.deviation):
        return math.nan
    bounds = [bound for bound in _allowed(rule, threshold, margin) if math.isfinite(bound)]
    distance = min(abs(found.mean - bound) for bound in bounds)
    if found.deviation == 0:
        return 0.0 if distance else 1.0
    return 2 * float(stdtr(found.seeds - 1, -distance * math.sqrt(found.seeds) / found.deviation))


def holm(chances: pd.Series) -> pd.Series:
    """P-values that hold for all rows together (Holm 1979): the smallest times their number, the
    next times one fewer, never falling, at most 1; nan stays nan.
    """
    known = chances.dropna().sort_values()
    factors = range(len(known), 0, -1)
    adjusted = (known * list(factors)).cummax().clip(upper=1.0)
    return adjusted.reindex(chances.index)
