"""Where tickets match the dense network, and whether that is where they are stable. Drawn from
tables of tickets, of one experiment or several.
"""

import math
from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from labkit.experiments.results import SETTINGS
from labkit.experiments.statistics import (
    AGREES,
    DISAGREES,
    MARGIN,
    UNDECIDED,
    estimate,
    verdict,
)
from labkit.figures.picture import Picture, legend_below, look_of, with_mishaps
from labkit.figures.stability import LIMIT, iteration_axis, mark_threshold, place_of_zero

MARKS = {AGREES: "✓", DISAGREES: "✗", UNDECIDED: "?"}
MATCHES = {AGREES: "yes", DISAGREES: "no, below", UNDECIDED: "undecided"}


def phase_diagram(tickets: pd.DataFrame, treatment: str = "rewind") -> Picture:
    """Rewind iteration x density, coloured by how far tickets are from the dense network.

    tickets: a table of `labkit.tables` of experiments that differ in `rewind`, in the learning rate
    (each with columns of its own), and in nothing else.
    The first number in a cell is the final test accuracy minus the dense network's, paired by seed,
    in points, with a tick where the ticket matches (the interval's lower end is above the margin),
    a cross where it falls below, a question mark where that is undecided; the second is its
    instability. A thick line
    parts stable cells from unstable ones, which are hatched. Raises ValueError without tickets.
    """
    table = phases(tickets, treatment)
    if table.empty:
        raise ValueError(f"tickets must have some of treatment {treatment}: run the experiment")
    keys = table[["learning_rate", "rewind"]].itertuples(index=False, name=None)
    starts, rounds = sorted(set(keys)), sorted(table["round"].unique())
    figure = Figure(
        figsize=(max(5.0, 1.15 * len(starts) + 2.6), max(2.6, 0.62 * len(rounds) + 1.6)),
        layout="constrained",
    )
    axes = figure.subplots()
    reach = max(0.5, table["gap"].abs().max())  # the middle of the colours is no difference
    scale = Normalize(-reach, reach)
    colours = colormaps["PuOr"]
    cells: dict[tuple[int, int], dict[str, Any]] = {}
    for cell in table.to_dict("records"):
        x = starts.index((cell["learning_rate"], cell["rewind"]))
        y = rounds.index(cell["round"])
        cells[x, y] = cell
        colour = colours(scale(cell["gap"]))
        unstable = cell["instability"] >= LIMIT
        face: dict[str, Any] = {"fc": colour, "lw": 0, "ec": _ink(colour)}
        hatch = "//" if unstable else None
        axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, hatch=hatch, **face))
        _write(axes, x, y, cell, colour)
    _part_phases(axes, cells)
    axes.set(xlim=(-0.5, len(starts) - 0.5), ylim=(len(rounds) - 0.5, -0.5))
    labels = [f"{k:,}" if k else "0 (initial.)" for _, k in starts]
    axes.set_xlabel("rewind iteration k")
    if table["learning_rate"].nunique() > 1:
        labels = [f"{name}\nrate {rate:g}" for name, (rate, _) in zip(labels, starts, strict=True)]
        axes.set_xlabel("rewind iteration k, learning rate")
    axes.set_xticks(range(len(starts)), labels)
    density = table.groupby("round")["density"].mean()
    axes.set_yticks(range(len(rounds)), [f"{100 * density[number]:.1f}" for number in rounds])
    axes.set_ylabel("density (%), sparser below")
    figure.colorbar(ScalarMappable(scale, colours), ax=axes, label="ticket − dense (points)")
    axes.set_title(
        "first number: accuracy gap, ✓ matching, ✗ below, ? undecided\n"
        "second: instability, hatched where unstable",
        fontsize="small",
        loc="left",
    )
    return with_mishaps(Picture(figure, _summary_of_phases(table), table), tickets)


def phases(tickets: pd.DataFrame, treatment: str = "rewind") -> pd.DataFrame:
    """A row per chain of tickets and round: how far they are from the dense network, how unstable,
    and the two verdicts, "agrees", "disagrees" or "undecided": of matching (non-inferiority) and of
    stable (instability below the limit), the latter None where it was not analysed.
    """
    rows = []
    for _, chain in tickets.groupby("chain") if len(tickets) else ():
        dense = chain[chain["round"] == 0].groupby("seed")["final_test_accuracy"].mean() * 100
        for number, group in chain[chain["treatment"] == treatment].groupby("round"):
            ticket = group.groupby("seed")["final_test_accuracy"].mean() * 100
            gaps = (ticket - dense).dropna()
            if gaps.empty:
                continue
            gap = estimate(gaps)
            known = 100 * group.dropna(subset=["instability"]).groupby("seed")["instability"].mean()
            part = estimate(known) if len(known) else None
            rows.append(
                {name: group[name].iloc[0] for name in SETTINGS}
                | {
                    "round": number,
                    "density": group["density"].mean(),
                    "gap": gap.mean,
                    "low": gap.low,
                    "high": gap.high,
                    "matching": verdict(gap, "at least"),
                    "instability": part.mean if part else math.nan,
                    "instability_low": part.low if part else math.nan,
                    "instability_high": part.high if part else math.nan,
                    "stable": verdict(part, "below", LIMIT) if part else None,
                    "seeds": gap.seeds,
                }
            )
    return pd.DataFrame(rows)


def matching_by_stability(tickets: pd.DataFrame) -> pd.DataFrame:
    """How many cells of `phases` are stable, unstable or undecided (rows) and match the dense
    network, fall below it or are undecided (columns): subnetworks are "only matching when they are
    stable to SGD noise" (Frankle et al. 2020, section 4) where none is unstable and matches.

    Cells whose instability was not analysed are left out. Raises ValueError without any.
    """
    cells = phases(tickets)
    cells = cells.dropna(subset=["stable"]) if len(cells) else cells
    if cells.empty:
        raise ValueError("tickets must have cells whose instability was analysed: run one")
    stable = dict(zip(MARKS, ("stable", "unstable", "undecided"), strict=True))
    found = pd.crosstab(cells["stable"].map(stable), cells["matching"].map(MATCHES))
    found = found.reindex(index=list(stable.values()), columns=list(MATCHES.values()), fill_value=0)
    return found.rename_axis(index="the ticket is", columns="it matches")


def difference_by_rewind(tickets: pd.DataFrame) -> Picture:
    """Tickets and their controls minus the dense network, seed by seed, against the rewind
    iteration k as a share of the training; below it their instability, where it was analysed. A
    column for each density and learning rate.

    tickets: a table of `labkit.tables`, of experiments that differ in `rewind`, in the learning
    rate, and in nothing else; densities without controls are left out. Bars are 95% intervals over
    seeds; the grey band is the margin within which an arm counts as matching, and below the dashed
    line it is stable. Raises ValueError without any controls.
    """
    arms = sorted(set(tickets["treatment"]) - {"dense"}) if len(tickets) else []
    found = [phases(tickets, arm).assign(treatment=arm) for arm in arms]
    table = pd.concat(found) if found else pd.DataFrame({"round": [], "treatment": []})
    controlled = table.loc[table["treatment"] != "rewind", "round"].unique()
    table = table[table["round"].isin(controlled)]
    if table.empty:
        raise ValueError("tickets must have controls, such as new weights: run the experiment")
    share = (100 * table["rewind"] / table["length"]).round(2)
    table = table.assign(share=share).sort_values("share")
    columns = list(table.groupby(["round", "learning_rate"]))
    with sns.axes_style("whitegrid"):
        figure = Figure(figsize=(1.4 + 2.5 * len(columns), 5.6), layout="constrained")
        grid = figure.subplots(2, len(columns), sharex=True, sharey="row", squeeze=False)
    origin = place_of_zero(table["share"])
    handles: dict[str, Line2D] = {}
    parts = []
    for (above, below), ((_, rate), cells) in zip(grid.T, columns, strict=True):
        density = f"{100 * cells['density'].mean():.3g}% density, rate {rate:g}"
        above.set_title(density, fontsize="medium")
        above.axhspan(-MARGIN, MARGIN, color="#000000", alpha=0.08, lw=0)
        above.axhline(0, color="#000000", lw=1, ls=":")
        for arm, line in cells.groupby("treatment"):
            look = look_of(arm)
            handles[look.name] = Line2D([], [], ms=5, **look.line)
            for axes, mean, ends in (
                (above, line["gap"], (line["low"], line["high"])),
                (below, line["instability"], (line["instability_low"], line["instability_high"])),
            ):
                x = line["share"].replace(0, origin)
                reach = [mean - ends[0], ends[1] - mean]
                axes.errorbar(x, mean, reach, **look.line, ms=5, capsize=2)
        parts.append(f"{density}: {_matching_from(cells[cells['treatment'] == 'rewind'])}")
    for below in grid[1]:
        mark_threshold(below)
        iteration_axis(below, table["share"], origin)
        below.set_xlabel("k (% of the training)")
    grid[0, 0].set_ylabel("arm minus dense (points)")
    grid[1, 0].set_ylabel("instability (points)")
    legend_below(figure, handles, columns=4)
    summary = f"Rewound tickets against the dense network. {'; '.join(parts)}."
    return with_mishaps(Picture(figure, summary, table.reset_index(drop=True)), tickets)


def _matching_from(line: pd.DataFrame) -> str:
    """How far tickets are from the dense network by k, and whether they match."""
    words = [
        f"{row['gap']:+.1f} points at k = {row['share']:g}% ({MATCHES[row['matching']]})"
        for row in line.to_dict("records")
    ]
    return ", ".join(words) or "no ticket"


def _write(axes: Axes, x: int, y: int, cell: dict[str, Any], colour: Any) -> None:
    paper = {"fc": colour, "ec": "none", "pad": 2.0}  # under the words, over the hatching
    where: dict[str, Any] = {"ha": "center", "va": "center", "color": _ink(colour), "bbox": paper}
    gap = f"{_signed(cell['gap'])} {MARKS[cell['matching']]}"
    axes.text(x, y - 0.15, gap, **where)
    if not math.isnan(cell["instability"]):
        words = f"{cell['instability']:.1f}".replace("-", "−")
        axes.text(x, y + 0.24, words, fontsize="small", **where)


def _signed(value: float) -> str:
    return f"{value:+.1f}".replace("-", "−")


def _ink(colour: Any) -> str:
    """Black or white, whichever is read more easily on a colour."""
    red, green, blue = colour[:3]
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else "white"


def _part_phases(axes: Axes, cells: dict[tuple[int, int], dict[str, Any]]) -> None:
    """The contour: a line on every edge between a stable and an unstable cell, by place."""

    def stable(x: int, y: int) -> bool | None:
        instability = cells[x, y]["instability"] if (x, y) in cells else math.nan
        return None if math.isnan(instability) else instability < LIMIT

    edges = []
    for x, y in cells:
        here, right, below = stable(x, y), stable(x + 1, y), stable(x, y + 1)
        if here is not None and right is not None and here != right:
            edges.append(((x + 0.5, x + 0.5), (y - 0.5, y + 0.5)))
        if here is not None and below is not None and here != below:
            edges.append(((x - 0.5, x + 0.5), (y + 0.5, y + 0.5)))
    for colour, width in (("white", 6), ("black", 3)):
        for across, down in edges:
            axes.plot(across, down, color=colour, lw=width, solid_capstyle="projecting")


def _summary_of_phases(table: pd.DataFrame) -> str:
    said = table["matching"]
    summary = (
        f"Of {len(table)} kinds of ticket {(said == AGREES).sum()} match the dense network, "
        f"{(said == DISAGREES).sum()} fall below it, and {(said == UNDECIDED).sum()} are undecided"
    )
    decided = table[said.ne(UNDECIDED) & table["stable"].isin([AGREES, DISAGREES])]
    if len(decided):
        together = int((decided["stable"] == decided["matching"]).sum())
        summary += (
            f"; where both are decided, stable and matching go together in {together} of "
            f"{len(decided)} cells"
        )
    least, most = table["seeds"].min(), table["seeds"].max()
    return f"{summary}. Seeds per cell: {least}" + (f" to {most}." if most > least else ".")
