"""Where training is stable and where tickets match: the figures of the third paper, and the map
that reconciles all three. Drawn from tables of tickets, of one experiment or several.
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
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator, NullLocator

from labkit.engine.connectivity import STABLE
from labkit.experiments.results import SETTINGS
from labkit.experiments.statistics import (
    AGREES,
    DISAGREES,
    UNDECIDED,
    estimate,
    interval,
    over_seeds,
    verdict,
)
from labkit.experiments.treatments import NEW_WEIGHTS
from labkit.figures.picture import SERIES, Picture, empty_axes, figure_of, with_mishaps

KINDS = {"unstructured": "single weights", "structured": "whole units"}
LIMIT = 100 * STABLE  # points
MARKS = {AGREES: "✓", DISAGREES: "✗", UNDECIDED: "?"}


def instability_against_rewind(
    tickets: pd.DataFrame, reference: pd.DataFrame | None = None
) -> Picture:
    """Instability against the rewind iteration k, an arm per network, learning rate and round.

    tickets, reference: tables of `labkit.tables`, or part of them, such as the dense networks; the
    reference is drawn pale, behind. The axis is logarithmic, with a place of its own for 0, the
    initialisation; what is below the dashed line is stable. Intervals are over seeds. Raises
    ValueError where no instability was analysed.
    """
    table = over_seeds(_with_arms(tickets), ["arm", "rewind"], "instability", 100)
    if table.empty:
        raise ValueError("tickets must have an instability: run an analysis of it first")
    behind = pd.DataFrame()
    if reference is not None and not reference.empty:
        behind = over_seeds(_with_arms(reference), ["arm", "rewind"], "instability", 100)
    drawn = pd.concat([part for part in (behind, table) if len(part)])
    arms = sorted(drawn["arm"].unique())
    lines = [name for part in (behind, table) if len(part) for name in part["arm"].unique()]
    axes = empty_axes(7, 3.8 + 0.2 * len(lines))
    origin = _place_of_zero(drawn["rewind"])
    for part, alpha in ((behind, 0.4), (table, 1.0)):
        for name, arm in part.groupby("arm") if len(part) else ():
            x = arm["rewind"].replace(0, origin).astype(float)
            reach = [arm["mean"] - arm["low"], arm["high"] - arm["mean"]]
            label = "pale, reference: " * (alpha < 1) + str(name)
            look = SERIES[arms.index(name) % len(SERIES)].line | {"alpha": alpha}
            axes.errorbar(x, arm["mean"], reach, capsize=3, label=label, **look)
    _mark_threshold(axes)
    _iteration_axis(axes, drawn["rewind"], origin)
    axes.set_ylabel("instability (points of test error)")
    look = {"frameon": False, "fontsize": "small", "handlelength": 4}
    figure_of(axes).legend(loc="outside lower center", **look)
    words = "; ".join(f"{name}: {_stable_from(arm)}" for name, arm in table.groupby("arm"))
    summary = f"Instability against the iteration from which copies part. {words}."
    return with_mishaps(Picture(figure_of(axes), summary, table), tickets, reference)


def _with_arms(tickets: pd.DataFrame) -> pd.DataFrame:
    """The table with a column `arm`: what the lines of a figure are called."""
    if tickets.empty:
        return tickets
    rates = tickets["learning_rate"].map("{:g}".format)
    arm = tickets["network"] + ", learning rate " + rates
    density = tickets.groupby("round")["density"].transform("mean").mul(100)
    ticket = ", " + tickets["treatment"].replace("rewind", "ticket")
    ticket += " of " + density.map("{:.1f}".format) + "% density"
    return tickets.assign(arm=arm + ticket.where(tickets["treatment"] != "dense", ""))


def _stable_from(arm: pd.DataFrame) -> str:
    """From which k on all means are below the threshold."""
    unstable = arm.loc[arm["mean"] >= LIMIT, "rewind"]
    later = arm if unstable.empty else arm[arm["rewind"] > unstable.max()]
    start = f"{arm['mean'].iloc[0]:.1f} points at k = {arm['rewind'].iloc[0]}"
    if later.empty:
        return f"{start}, nowhere stable"
    return f"{start}, stable from k = {later['rewind'].min():,} on"


def _place_of_zero(rewinds: pd.Series) -> float:
    """Where a logarithmic axis shows 0: a step to the left of the smallest iteration after it."""
    later = rewinds[rewinds > 0]
    if later.empty:
        return 1.0
    span = math.log(later.max() / later.min()) or math.log(10)
    return float(later.min()) * math.exp(-0.3 * span - 0.5)


def _iteration_axis(axes: Axes, rewinds: pd.Series, origin: float) -> None:
    later = sorted(set(rewinds) - {0})
    axes.set_xscale("log")
    ticks, labels = list(map(float, later)), [f"{k:,}" for k in later]
    if (rewinds == 0).any():
        ticks, labels = [origin, *ticks], ["0\n(initialisation)", *labels]
        if later:
            axes.axvline(math.sqrt(origin * later[0]), color="#999999", lw=0.8, ls=(0, (1, 3)))
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels(labels)
    axes.set_xlabel("rewind iteration k, logarithmic")


def _mark_threshold(axes: Axes) -> None:
    axes.axhline(LIMIT, color="black", lw=1, ls=(0, (5, 3)), label=f"stable below {LIMIT:g} points")
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))


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
    match = dict(zip(MARKS, ("yes", "no, below", "undecided"), strict=True))
    found = pd.crosstab(cells["stable"].map(stable), cells["matching"].map(match))
    found = found.reindex(index=list(stable.values()), columns=list(match.values()), fill_value=0)
    return found.rename_axis(index="the ticket is", columns="it matches")


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


def contradiction_map(tickets: pd.DataFrame, column: str = "final_test_accuracy") -> Picture:
    """Ticket minus re-initialised network, by learning rate, density and kind of pruning, beside
    the instability of the dense network at initialisation.

    tickets: a table of `labkit.tables` of experiments with the treatment reinitialise or scratch-e.
    Differences are paired by seed, draws averaged first, with 95% intervals. Raises ValueError
    where no ticket has its control, or tickets are of several networks.
    """
    if len(networks := tickets["network"].unique() if len(tickets) else []) > 1:
        raise ValueError(f"tickets must be of one network, not {', '.join(networks)}")
    table = contradictions(tickets, column)
    if table.empty:
        raise ValueError("tickets must have a re-initialised control: run the experiment first")
    dense = tickets[(tickets["treatment"] == "dense") & (tickets["rewind"] == 0)]
    unstable = over_seeds(dense, ["learning_rate"], "instability", 100)
    kinds = [kind for kind in KINDS if kind in set(table["kind"])]
    rates = sorted(table["learning_rate"].unique())
    with sns.axes_style("whitegrid"):
        widths = [3.0] * len(kinds) + [1.7]
        figure = Figure(figsize=(sum(widths) + 0.8, 4.2), layout="constrained")
        panels = figure.subplots(1, len(widths), width_ratios=widths)
    for axes, kind in zip(panels, kinds, strict=False):
        _draw_kind(axes, table[table["kind"] == kind], rates)
        axes.set_title(f"{kind}: {KINDS[kind]}", fontsize="medium")
        axes.set_ylim(_gain_range(table))  # the same for all kinds
    panels[0].set_ylabel("ticket − re-initialised (points)")
    _draw_initial(panels[-1], unstable, rates)
    sns.despine(figure)
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=3, frameon=False)
    shown = table.merge(
        unstable.rename(columns={"mean": "instability at init"})[
            ["learning_rate", "instability at init"]
        ]
        if len(unstable)
        else pd.DataFrame({"learning_rate": rates}),
        how="left",
        on="learning_rate",
    )
    return with_mishaps(Picture(figure, _contradictions(table, unstable), shown), tickets)


def contradictions(tickets: pd.DataFrame, column: str = "final_test_accuracy") -> pd.DataFrame:
    """A row per kind, learning rate and round: ticket minus re-initialised, in points."""
    rows = []
    keys = ["kind", "learning_rate", "round"]
    for labels, group in tickets.groupby(keys) if len(tickets) else ():
        ticket = group[group["treatment"] == "rewind"].groupby("seed")[column].mean()
        control = group[group["treatment"].isin(NEW_WEIGHTS)].groupby("seed")[column].mean()
        gains = (100 * (ticket - control)).dropna()
        if gains.empty:
            continue
        low, high = interval(gains)
        rows.append(
            dict(zip(keys, labels, strict=True))
            | {"density": group["density"].mean(), "gain": gains.mean()}
            | {"low": low, "high": high, "seeds": len(gains)}
        )
    return pd.DataFrame(rows)


def _gain_range(table: pd.DataFrame) -> tuple[float, float]:
    """From the lowest to the highest end of an interval, zero included."""
    ends = table[["gain", "low", "high"]]  # one seed has no interval
    low, high = min(0.0, ends.min().min()), max(0.0, ends.max().max())
    margin = 0.08 * max(high - low, 0.5)
    return low - margin, high + margin


def _draw_kind(axes: Axes, table: pd.DataFrame, rates: list[float]) -> None:
    rounds = sorted(table["round"].unique())
    for rate, arm in table.groupby("learning_rate"):
        shift = 0.12 * (rates.index(rate) - (len(rates) - 1) / 2)
        x = [rounds.index(number) + shift for number in arm["round"]]
        reach = [arm["gain"] - arm["low"], arm["high"] - arm["gain"]]
        look = SERIES[rates.index(rate) % len(SERIES)].line | {"capsize": 3}
        axes.errorbar(x, arm["gain"], reach, label=f"learning rate {rate:g}", **look)
    density = table.groupby("round")["density"].mean()
    axes.axhline(0, color="black", lw=1)
    axes.set_xlim(-0.5, len(rounds) - 0.5)
    axes.set_xticks(range(len(rounds)), [f"{100 * density[number]:.1f}" for number in rounds])
    axes.set_xlabel("density (%), sparser to the right")


def _draw_initial(axes: Axes, table: pd.DataFrame, rates: list[float]) -> None:
    for row in table.to_dict("records"):
        place = rates.index(row["learning_rate"]) if row["learning_rate"] in rates else None
        if place is None:
            continue
        look = SERIES[place % len(SERIES)]
        reach = [[row["mean"] - row["low"]], [row["high"] - row["mean"]]]
        axes.errorbar(
            [place], [row["mean"]], reach, capsize=3, color=look.colour, marker=look.marker
        )
    _mark_threshold(axes)
    axes.set_xlim(-0.6, len(rates) - 0.4)
    axes.set_xticks(range(len(rates)), [f"{rate:g}" for rate in rates])
    axes.set_xlabel("learning rate")
    axes.set_title("dense, at init", fontsize="medium")
    axes.set_ylabel("instability (points)")


def _contradictions(table: pd.DataFrame, unstable: pd.DataFrame) -> str:
    parts = []
    for (kind, rate), arm in table.groupby(["kind", "learning_rate"], sort=False):
        better = arm.loc[arm["gain"].idxmax()]
        parts.append(
            f"{kind}, learning rate {rate:g}: at most {better['gain']:+.2f} points, at "
            f"{100 * better['density']:.1f}% density"
        )
    at_init = [
        f"{row['learning_rate']:g} {_summary_of_stable(row)} at initialisation"
        for row in unstable.to_dict("records")
    ]
    words = f" Training at {', at '.join(at_init)}." if at_init else ""
    return f"Ticket minus re-initialised. {'; '.join(parts)}.{words}"


def _summary_of_stable(row: dict[str, Any]) -> str:
    """Whether a mean over seeds is below the limit, where its interval does not contain it."""
    if row["low"] <= LIMIT <= row["high"]:
        return "is stable or unstable (the interval contains the limit)"
    return f"is {'un' * (row['mean'] >= LIMIT)}stable"
