"""What the papers say, what was measured, and the verdict.

`register.csv` holds every sentence of the papers that can come out wrong, with the paper's own
number, whether we can measure it or not, and the rule by which it is read. A claim is read in
*every* trained cell that it is about: each chain of tickets (data, network, recipe, way to prune,
rewind iteration) at each density. The cell nearest to the paper's setting is its headline; all
others stand in the grid behind it. Arms are compared within a chain, paired by seed.
"""

import csv
import html
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd

from labkit.base.store import Store
from labkit.engine.connectivity import STABLE
from labkit.experiments import presets
from labkit.experiments.results import tables
from labkit.experiments.statistics import (
    AGREES,
    DISAGREES,
    NEAR,
    UNDECIDED,
    Estimate,
    chance,
    estimate,
    holm,
    seeds_to_decide,
    verdict,
)

REGISTER = Path(__file__).with_name("register.csv")
POINTS, PERCENT, FACTOR = "points", "%", "x"
READINGS = {  # column -> what is read
    "test_accuracy": "at the early stop",
    "final_test_accuracy": "after the last iteration",
    "train_accuracy": "on the training images",
    "early_stop": "early stop",
    "instability": "instability",
}
NOT_MEASURED, NOT_ATTEMPTED = "not measured", "not attempted"
_CELL = ("network", "dataset", "optimizer", "learning_rate", "length", "epochs", "kind",
         "criterion", "scope", "cut", "rewind", "share", "between", "at", "drawn", "warmup",
)  # fmt: skip
# Columns that say how a chain differs from the usual one, and what the usual one has there.
_USUAL = {"between": "rewind", "at": "end", "drawn": 1.0, "warmup": 0}


@dataclass(frozen=True)
class Claim:
    """A sentence of a paper that can come out wrong.

    network, published: the paper's, in words; effect: its number in `unit`, or None. unit: how arm
    and against are compared: "points" is the difference in percentage points, "%" the relative
    change, "x" how many times larger `against` is; each per seed, then averaged. Without `against`
    the arm's value is read as it is. rule: see `labkit.experiments.statistics.verdict`. readings:
    columns of `labkit.Tables.tickets`, the paper's own first. where: a query of those columns that
    says in which cells the claim is read; where it names neither `between` nor `at` (nor `drawn`),
    only chains that rewind are, whose masks are drawn after the round before, and where it does not
    name `warmup`, only those without. other: a query for
    the chains in which `against` is found, at the same density of the same task; none where it
    stands in the arm's own. nearest: column and value, in the order in which they choose the
    headline. studies: the presets beside which it is shown. why: it is not attempted.
    """

    claim: str
    paper: str
    place: str
    network: str
    says: str
    published: str
    effect: float | None
    unit: str
    rule: str
    arm: str
    against: str
    readings: tuple[str, ...]
    where: str
    nearest: tuple[tuple[str, str], ...]
    studies: tuple[str, ...]
    why: str = ""
    other: str = ""

    @property
    def threshold(self) -> float:
        """What its value is compared with: no effect, or the limit of what is called stable."""
        if self.readings == ("instability",):
            return 100 * STABLE
        return 1.0 if self.unit == FACTOR else 0.0


@lru_cache(maxsize=1)
def register() -> tuple[Claim, ...]:
    """All claims of `register.csv`, in its order."""
    with REGISTER.open(encoding="utf-8", newline="") as file:
        return tuple(_read(row) for row in csv.DictReader(file, restval=""))


def _read(row: dict[str, str]) -> Claim:
    nearest = (word.partition("=")[::2] for word in row["nearest"].split())
    return Claim(
        **{
            **row,
            "effect": float(row["effect"]) if row["effect"] else None,
            "readings": tuple(row["readings"].split()),
            "nearest": tuple(nearest),
            "studies": tuple(row["studies"].split()),
        }  # type: ignore[arg-type]
    )


def evidence(store: Store, size: str = "reference") -> pd.DataFrame:
    """The tickets of every preset that has this size, as far as a store has them."""
    sizes = (presets.PRESETS[name] for name in presets.NAMES)
    sized = [studies[size] for studies in sizes if size in studies]
    parts = [tables(study, store).tickets for study in sized]
    found = pd.concat([part for part in parts if len(part)] or [pd.DataFrame()], ignore_index=True)
    if found.empty:
        return found
    same = ["chain", "round", "treatment", "draw", "seed"]
    # Of a network that several presets have, the row in which its instability was measured.
    return found.sort_values("instability").drop_duplicates(same).sort_index(ignore_index=True)


def cells(claim: Claim, tickets: pd.DataFrame) -> pd.DataFrame:
    """A row per cell and reading of a claim: its setting, estimate, verdict, and what else a reader
    asks. tickets: a table of `labkit.tables`, perhaps of unfinished studies.

    Left out are pairs with an early stop at the last evaluation, where the early stop is what is
    read, networks that diverged, and strays.
    """
    if claim.why or tickets.empty:
        return pd.DataFrame()
    rows = []
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


@dataclass
class ClaimsTable:
    """The register with what was measured. rows: the headlines, or one "not measured" row of each
    claim; cells: the whole grid behind them. Shows itself in a notebook, and as text or Markdown.
    """

    rows: pd.DataFrame
    cells: pd.DataFrame = field(default_factory=pd.DataFrame)

    def counts(self, column: str = "reference_verdict") -> dict[str, int]:
        """How many rows have each verdict."""
        return self.rows[column].value_counts().to_dict() if len(self.rows) else {}

    def summary(self) -> str:
        """How many rows have each verdict, and how many of them chance alone would explain."""
        counts = self.counts()
        words = ", ".join(f"{number} {said}" for said, number in counts.items())
        decided = counts.get(AGREES, 0) + counts.get(DISAGREES, 0)
        kept = int(self.rows["holds"].eq(True).sum())
        return (
            f"{len(self.rows)} rows: {words}. Of {decided} decided rows about {0.05 * decided:.1f} "
            f"would be wrong by chance if nothing were true; {kept} also hold when all rows of "
            "their paper are asked at once (Holm 1979)."
        )

    def to_text(self) -> str:
        """A paragraph per row."""
        paragraphs = []
        for row in self.rows.to_dict("records"):
            lines = [f"{row['says']} ({row['paper']}, {row['place']})"]
            lines.append(f"  paper      {row['published']}, {row['paper_network']}")
            for name, title in (("reference", "reference"), ("this_run", "this run ")):
                if row[f"{name}_verdict"] == NOT_MEASURED and name == "this_run":
                    continue
                where = f"  ({row[f'{name}_setting']})" if row[f"{name}_setting"] else ""
                lines.append(f"  {title}  {row[name]}: {row[f'{name}_verdict']}{where}")
            if isinstance(row["again"], str):
                lines.append(f"  the same cell as in the claim {row['again']}")
            paragraphs.append("\n".join(lines))
        return "\n\n".join(paragraphs)

    def to_html(self) -> str:
        """The rows, and the grid folded behind them."""
        if self.rows.empty:
            return "<p>No claim is about this.</p>"
        rows = self.rows
        columns = {
            "the paper says": rows["says"].map(_escaped),
            "its number": _two_lines(rows["published"], rows["paper_network"]),
        }
        for name, title in (("reference", "reference"), ("this_run", "this run")):
            if rows[f"{name}_mean"].notna().any():
                said = "<b>" + rows[f"{name}_verdict"] + "</b>"
                measured = rows[name].where(rows[name] != "-", "")
                columns[title] = said + " " + _two_lines(measured, rows[f"{name}_setting"])
        page = pd.DataFrame(columns).to_html(index=False, border=0, escape=False, justify="left")
        style = "text-align:left;vertical-align:top;white-space:normal"
        for cell in ("td", "th"):
            page = page.replace(f"<{cell}>", f'<{cell} style="{style}">')
        return page + self._grid()

    _repr_html_ = to_html

    def _grid(self) -> str:
        """Every cell, folded."""
        if self.cells.empty:
            return ""
        columns = ["claim", "network", "learning_rate", "epochs", "kind", "cut", "rewind"]
        columns += ["density", "reading", "measured", "verdict"]
        shown = self.cells[columns].copy()
        shown["density"] = shown["density"].map("{:.1%}".format)
        shown["epochs"] = shown["epochs"].map("{:.3g}".format)
        numbers = shown.to_html(index=False, border=0)
        words = html.escape(f"All {len(shown)} trained cells that these claims are about")
        return f"<details><summary>{words}</summary>{numbers}</details>"


def _two_lines(words: pd.Series, below: pd.Series) -> pd.Series:
    """HTML of words, and of what stands below them in small letters."""
    return words.map(_escaped) + "<br><small>" + below.map(_escaped) + "</small>"


def _escaped(words: str) -> str:
    return html.escape(words, quote=False)


def claims_table(
    reference: pd.DataFrame | None,
    run: pd.DataFrame | None = None,
    preset: str | Sequence[str] | None = None,
) -> ClaimsTable:
    """The claims about a preset, or several, or all: what the paper says, the shipped reference,
    this run, and verdicts.

    reference, run: tables of tickets, or None, perhaps of unfinished runs. The columns reference
    and this_run are words, `*_setting` says where they were measured, `*_verdict` what follows, and
    `*_mean`, `*_low`, `*_high`, `*_seeds` are the numbers behind them. `holds` says whether the
    reference's verdict also stands when all rows of its paper are asked at once (Holm 1979).
    """
    wanted = [preset] if isinstance(preset, str) else preset
    rows: list[dict[str, Any]] = []
    grid: list[pd.DataFrame] = []
    for claim in register():
        if wanted is not None and not set(wanted) & set(claim.studies):
            continue
        found = {}
        for name, tickets in (("reference", reference), ("this_run", run)):
            known = cells(claim, tickets) if tickets is not None else pd.DataFrame()
            found[name] = headlines(claim, known)
            grid.append(_worded(claim, known).assign(source=name))
        rows += _rows(claim, found)
    measured = pd.DataFrame(rows)
    if len(measured):
        adjusted = measured.groupby("paper")["reference_chance"].transform(holm)
        decided = measured["reference_verdict"].isin([AGREES, DISAGREES])
        measured["holds"] = (adjusted < 0.05).where(decided)
        # Two papers may say something about one pair of arms: one number is not two findings.
        first = measured.groupby("reference_cell")["claim"].transform("first")
        measured["again"] = first.where(first != measured["claim"])
    # Row by row: pandas 2 warns where it joins tables with columns that are empty in some.
    return ClaimsTable(
        measured, pd.DataFrame([r for part in grid for r in part.to_dict("records")])
    )


def _worded(claim: Claim, known: pd.DataFrame) -> pd.DataFrame:
    if known.empty:
        return known
    return known.assign(measured=[in_words(claim, row) for row in known.to_dict("records")])


def _rows(claim: Claim, found: dict[str, pd.DataFrame]) -> list[dict[str, Any]]:
    """A row per network and reading of a claim, or a single one where nothing was measured."""
    places: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for name, heads in found.items():
        for row in heads.to_dict("records"):
            places.setdefault((row["network"], row["reading"]), {})[name] = row
    return [
        {
            "claim": claim.claim,
            "paper": claim.paper,
            "place": claim.place,
            "says": claim.says,
            "published": claim.published,
            "paper_network": claim.network,
            "network": network,
            "reading": reading,
            **_columns("reference", claim, measured.get("reference")),
            **_columns("this_run", claim, measured.get("this_run")),
        }
        for (network, reading), measured in (places or {("", ""): {}}).items()
    ]


def _columns(name: str, claim: Claim, row: dict[str, Any] | None) -> dict[str, Any]:
    numbers = ("cell", "mean", "low", "high", "seeds", "chance", "paper_inside")
    if row is None:
        said = NOT_ATTEMPTED if claim.why else NOT_MEASURED
        words: dict[str, Any] = {name: "-", f"{name}_setting": claim.why, f"{name}_verdict": said}
        return words | {f"{name}_{number}": None for number in numbers}
    return {
        name: in_words(claim, row),
        f"{name}_setting": setting_label(row),
        f"{name}_verdict": row["verdict"],
    } | {f"{name}_{number}": row[number] for number in numbers}


def in_words(claim: Claim, row: dict[str, Any]) -> str:
    """Value, 95% interval, seeds, the paper's own number, and what would decide, such as "+0.42
    points [+0.20, +0.64], 5 seeds; the paper's 0.5 is inside".
    """
    sign = "" if claim.unit == FACTOR or not claim.against else "+"
    digits = 1 if claim.unit == PERCENT else 2

    def number(value: float) -> str:
        return f"{value:{sign}.{digits}f}"

    unit = claim.unit if claim.unit in (PERCENT, FACTOR) else f" {claim.unit}"
    words = f"{number(row['mean'])}{unit}"
    if not math.isnan(row["low"]):
        words += f" [{number(row['low'])}, {number(row['high'])}]"
    words += f", {row['seeds']} seed" + ("" if row["seeds"] == 1 else "s")
    if row["paper_inside"] is not None and claim.effect is not None:
        words += f"; the paper's {claim.effect:g} is {'in' if row['paper_inside'] else 'out'}side"
    if row["verdict"] == UNDECIDED:
        words += f"; {_what_would_decide(row)}"
    return words


def _what_would_decide(row: dict[str, Any]) -> str:
    if row["seeds"] < 2:
        return "one seed has no interval"
    more = row["seeds_to_decide"]
    return (
        "no number of seeds in sight would decide"
        if _missing(more)
        else (f"{int(more)} seeds like these would decide")
    )


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def rate_label(row: dict[str, Any]) -> str:
    """Optimizer and learning rate, with the iterations during which it grows."""
    warm = f" after a warm-up of {row['warmup']:,} iterations" if row.get("warmup") else ""
    return f"{row['optimizer']} {row['learning_rate']:g}{warm}"


def setting_label(row: dict[str, Any]) -> str:
    """The scale of a measurement: network, weights, dense accuracy, training, pruning."""
    words = [row["network"]]
    if not _missing(row["weights"]):
        words[0] += f" ({int(row['weights']):,} weights, dense {100 * row['dense_accuracy']:.1f}%"
        lost = row.get("collapsed", 0)
        words[0] += f", collapsed in {lost} seeds)" if lost else ")"
    words.append(rate_label(row))
    length = f"{row['length']:,} iterations"
    words.append(length if math.isnan(row["epochs"]) else f"{length} ({row['epochs']:.3g} epochs)")
    if row["round"]:
        kind = "weights" if row["kind"] == "unstructured" else "units"
        words.append(f"{row['density']:.1%} left of the weights, {kind} cut by {row['cut']:.0%}")
    if row["rewind"]:
        words.append(f"k = {row['rewind']:,}")
    if row["criterion"] not in ("magnitude", "gamma"):
        words.append(f"by {row['criterion']}")
    if row.get("between", "rewind") != "rewind":
        words.append(f"{row['between']} between rounds")
    if row.get("at", "end") != "end":
        words.append(f"drawn at {int(row['at']):,}")
    budget, other = row["iterations"], row["against_iterations"]
    if not _missing(other) and budget != other:
        words.append(f"trained for {budget:,} against {int(other):,} iterations")
    if row["reading"] not in ("early stop", "instability"):
        words.append(row["reading"])
    return ", ".join(words)
