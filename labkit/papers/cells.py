"""What was measured of a claim: all trained cells that it is about, and those nearest to the paper.

A cell is a chain of tickets (data, network, recipe, way to prune, rewind iteration) at a density.
The cell nearest to the paper's setting is a claim's headline; all others stand in the grid behind
it. Arms are compared within a chain, paired by seed.
"""

import math
import re
from dataclasses import replace
from typing import Any

import pandas as pd

from labkit.base.store import Store
from labkit.experiments import presets
from labkit.experiments.results import tables
from labkit.experiments.statistics import (
    NEAR,
    UNDECIDED,
    Estimate,
    chance,
    estimate,
    seeds_to_decide,
    verdict,
)
from labkit.experiments.treatments import NEW_WEIGHTS
from labkit.papers.register import FACTOR, PERCENT, POINTS, Claim

READINGS = {  # column -> what is read
    "test_accuracy": "at the early stop",
    "final_test_accuracy": "after the last iteration",
    "train_accuracy": "on the training images",
    "early_stop": "early stop",
    "instability": "instability",
}
_CELL = ("network", "dataset", "optimizer", "learning_rate", "length", "epochs", "kind",
         "criterion", "scope", "cut", "rewind", "share", "between", "at", "drawn", "warmup",
)  # fmt: skip
_SAME = dict.fromkeys(NEW_WEIGHTS, NEW_WEIGHTS[0])  # two papers' names of one treatment
# Columns that say how a chain differs from the usual one, and what the usual one has there.
_USUAL = {"between": "rewind", "at": "end", "drawn": 1.0, "warmup": 0}


def evidence(store: Store, size: str = "reference") -> pd.DataFrame:
    """The tickets of every preset that has this size, as far as a store has them."""
    sizes = (presets.PRESETS[name] for name in presets.NAMES)
    sized = [studies[size] for studies in sizes if size in studies]
    parts = [tables(study, store).tickets for study in sized]
    found = pd.concat([part for part in parts if len(part)] or [pd.DataFrame()], ignore_index=True)
    if found.empty:
        return found
    same = ["chain", "round", "treatment", "draw", "seed"]
    # Of a network that several presets have, the row in which its instability was measured, or the
    # first: "stable", since other sorts leave equals in an order that depends on the processor.
    ordered = found.sort_values("instability", kind="stable")
    return ordered.drop_duplicates(same).sort_index(ignore_index=True)


def cells(claim: Claim, tickets: pd.DataFrame) -> pd.DataFrame:
    """A row per cell and reading of a claim: its setting, estimate, verdict, and what else a reader
    asks. tickets: a table of `labkit.tables`, perhaps of unfinished studies.

    Left out are pairs with an early stop at the last evaluation, where the early stop is what is
    read, networks that diverged, and strays.
    """
    if claim.why or tickets.empty:
        return pd.DataFrame()
    rows, tickets = [], under_one_name(tickets)
    one, other = (_SAME.get(name, name) for name in (claim.arm, claim.against))
    claim = replace(claim, arm=one, against=other)
    for _, chain in _about(claim, tickets).groupby("chain", sort=False):
        for _, arm in chain[chain["treatment"] == claim.arm].groupby("round"):
            against = _against(claim, arm, chain, tickets)
            for reading in claim.readings:
                if reading not in arm:
                    continue
                found = _compared(claim, reading, arm, against)
                if found is not None:
                    rows.append(_row(claim, reading, found, arm, against, chain))
    return pd.DataFrame(rows)


def under_one_name(tickets: pd.DataFrame) -> pd.DataFrame:
    """The tickets, those with new weights called reinitialise, whichever paper they are for."""
    named = tickets.assign(treatment=tickets["treatment"].replace(_SAME))
    return named.drop_duplicates(["chain", "round", "treatment", "draw", "seed"])


def _about(claim: Claim, tickets: pd.DataFrame) -> pd.DataFrame:
    """The tickets that a claim is about."""
    told = re.sub(r"\bdrawn\b", "at between", claim.where)
    for column in ("between", "at", "warmup"):
        if column in tickets and not re.search(rf"\b{column}\b", told):
            tickets = tickets[tickets[column] == _USUAL[column]]
    return tickets.query(claim.where, engine="python") if claim.where else tickets


def _against(
    claim: Claim, arm: pd.DataFrame, chain: pd.DataFrame, tickets: pd.DataFrame
) -> pd.DataFrame:
    """What an arm of one round is compared with."""
    if claim.other:
        found = tickets.query(claim.other, engine="python")
        same = (found["task"] == arm["task"].iloc[0]) & (found["treatment"] == claim.against)
        first = arm.iloc[0]
        near = (found["density"] / arm["density"].mean()).map(math.log).abs() < NEAR
        # Where units of all layers are ranked together, a density depends on the training.
        alike = (found["cut"] == first["cut"]) & (found["round"] == first["round"])
        varies = first["kind"] == "structured" and first["scope"] == "global"
        return found[same & (alike if varies else near)]
    found = chain[chain["treatment"] == claim.against]
    return found if claim.against == "dense" else found[found["round"] == arm["round"].iloc[0]]


def _compared(
    claim: Claim, reading: str, arm: pd.DataFrame, against: pd.DataFrame
) -> Estimate | None:
    """The claim's value in a cell, or None where no seed has both arms."""
    one = _by_seed(arm, reading)
    if claim.against:
        one, other = one.align(_by_seed(against, reading), join="inner")
        values = {
            POINTS: 100 * (one - other),
            PERCENT: 100 * (one / other - 1),
            FACTOR: other / one,
        }
        one = values[claim.unit]
    else:
        one = 100 * one
    known = one[one.abs() != math.inf].dropna()  # an early stop at iteration 0
    return None if known.empty else estimate(known)


def _by_seed(rows: pd.DataFrame, column: str) -> pd.Series:
    """Values of an arm, indexed by seed, draws averaged."""
    for mishap in ("diverged", "stray"):
        if mishap in rows:
            rows = rows[~rows[mishap].eq(True)]
    if column == "early_stop":
        rows = rows[~rows["censored"].eq(True)]
    return rows.dropna(subset=[column]).groupby("seed")[column].mean().astype(float)


def _row(
    claim: Claim,
    reading: str,
    found: Estimate,
    arm: pd.DataFrame,
    against: pd.DataFrame,
    chain: pd.DataFrame,
) -> dict[str, Any]:
    dense = chain[chain["round"] == 0]
    said = verdict(found, claim.rule, claim.threshold)
    more = seeds_to_decide(found, claim.rule, claim.threshold) if said == UNDECIDED else None
    inside = claim.effect is not None and found.low <= claim.effect <= found.high
    return {
        "claim": claim.claim,
        "cell": " ".join(
            [
                chain["chain"].iloc[0],
                str(arm["round"].iloc[0]),
                reading,
                *sorted((claim.arm, claim.against)),
                *sorted(set(against["chain"]) if claim.other else ()),
            ]
        ),
        **{name: arm[name].iloc[0] if name in arm else _USUAL[name] for name in _CELL},
        "weights": int(dense["weights"].iloc[0]) if len(dense) else None,
        "dense_accuracy": dense["final_test_accuracy"].mean() if len(dense) else math.nan,
        "collapsed": int(dense["collapsed"].sum()) if "collapsed" in dense else 0,
        "density": arm["density"].mean(),
        "round": int(arm["round"].iloc[0]),
        "iterations": int(arm["iterations"].max()),
        "against_iterations": int(against["iterations"].max()) if len(against) else None,
        "reading": READINGS[reading],
        "mean": found.mean,
        "low": found.low,
        "high": found.high,
        "seeds": found.seeds,
        "verdict": said,
        "seeds_to_decide": more,
        "chance": chance(found, claim.rule, claim.threshold),
        "paper_inside": None if claim.effect is None or found.seeds < 2 else inside,
    }


def headlines(claim: Claim, found: pd.DataFrame) -> pd.DataFrame:
    """Of a claim's cells those nearest to the paper's setting, one per family of networks (LeNet,
    VGG, ...) and reading.
    """
    if found.empty:
        return found
    distance = pd.DataFrame(
        {name: _distance(found[name], value) for name, value in claim.nearest}, index=found.index
    )
    # Among equals the longest training, then the most seeds, is nearest to a paper's.
    order = distance.assign(length=-found["length"], seeds=-found["seeds"])
    ordered = found.loc[order.sort_values(list(order.columns), kind="stable").index]
    family = ordered["network"].str.partition("-")[0]
    repeated = ordered[["reading"]].assign(family=family).duplicated()
    return ordered[~repeated].sort_index()


def _distance(column: pd.Series, value: str) -> pd.Series:
    """How far cells are from a value: of numbers in steps of their logarithm that are as good."""
    try:
        target = float(value)
    except ValueError:
        return (column != value).astype(float)
    steps = (column.clip(lower=1e-9) / target).map(math.log).abs() / (2 * NEAR)
    return steps.round()
