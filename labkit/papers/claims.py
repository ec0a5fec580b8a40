"""The table of claims: what a paper says, what was measured, and the verdict, in words.

`labkit.papers.register` has the sentences, `labkit.papers.cells` reads them in what was trained.
"""

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from labkit.experiments.statistics import (
    AGREES,
    DISAGREES,
    UNDECIDED,
    holm,
)
from labkit.papers.cells import cells, headlines
from labkit.papers.register import FACTOR, PERCENT, Claim, register

NOT_MEASURED, NOT_ATTEMPTED = "not measured", "not attempted"


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
