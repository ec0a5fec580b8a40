"""Figures of the arms of an experiment, drawn from its tables.

Arms differ by colour, marker and line style alike; density runs from dense (left) to sparse
(right), logarithmically; bands are 95% intervals over seeds.
"""

import math
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullLocator

from labkit.experiments.statistics import over_seeds
from labkit.figures.picture import Picture, empty_axes, figure_of, look_of, with_mishaps

POINTS = 100  # of a learning curve, at most
TICKS = (1, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01)  # densities
PALE: dict[str, Any] = {"alpha": 0.4, "lw": 1, "ms": 3}
STRONG: dict[str, Any] = {"lw": 1.8, "ms": 5}


def accuracy_against_density(
    tickets: pd.DataFrame, reference: pd.DataFrame | None = None
) -> Picture:
    """Test accuracy at the early-stop iteration against density, an arm per treatment.

    tickets, reference: tables of `labkit.tables`; the reference is drawn pale, behind.
    """
    picture = _against_density(tickets, reference, "test_accuracy", "test accuracy (%)", 100)
    low, high = picture.figure.axes[0].get_ylim()  # an interval of two seeds can reach beyond
    picture.figure.axes[0].set_ylim(max(low, 0.0), min(high, 100.5))
    arms = picture.table[picture.table["treatment"] != "dense"]
    if arms.empty:
        picture.summary = "Test accuracy of the dense network; no ticket has been trained yet."
    else:
        best = arms.loc[arms["mean"].idxmax()]
        name = look_of(best["treatment"]).name
        picture.summary = (
            f"Test accuracy against density: the highest mean is that of the {name} network at "
            f"{100 * best['density']:.1f}% density, {best['mean']:.2f}%."
        )
    return with_mishaps(picture, tickets, reference)


def early_stop_against_density(
    tickets: pd.DataFrame, reference: pd.DataFrame | None = None
) -> Picture:
    """Iteration of minimum validation loss against density, an arm per treatment."""
    picture = _against_density(tickets, reference, "early_stop", "early stop (iteration)", 1)
    picture.figure.axes[0].set_ylim(bottom=0)  # an interval of two seeds can reach below
    arms = picture.table[picture.table["treatment"] == "rewind"]
    picture.summary = "Iteration of minimum validation loss against density; lower learns faster."
    if not arms.empty:
        best = arms.loc[arms["mean"].idxmin()]
        picture.summary += (
            f" The ticket is fastest at {100 * best['density']:.1f}% density, after "
            f"{best['mean']:,.0f} iterations."
        )
    return with_mishaps(picture, tickets, reference)


def learning_curves(
    curves: pd.DataFrame, round_number: int, column: str = "validation_accuracy"
) -> Picture:
    """A column of the curves against the iteration: the dense network and the arms of a round.

    Lines are means over seeds and draws, and of a long training over some evaluations that follow
    each other, as the label of the axis then says: at most POINTS are drawn, which do not hide each
    other. Raises ValueError for a round that has no curves.
    """
    rows = curves[curves["round"].isin([0, round_number])]
    if round_number not in set(rows["round"]):
        known = sorted(set(curves["round"]))
        raise ValueError(f"round must be one of {known}, not {round_number!r}")
    scale = 100 if column.endswith("accuracy") else 1
    means = rows.groupby(["treatment", "iteration"], sort=False)[column].mean().mul(scale)
    table = means.reset_index(name="mean")
    together = math.ceil(table["iteration"].nunique() / POINTS)
    if together > 1:
        table["place"] = table.groupby("treatment").cumcount() // together
        groups = table.groupby(["treatment", "place"], sort=False)
        table = groups[["iteration", "mean"]].mean().reset_index().drop(columns="place")
    axes = empty_axes(7, 4.6)
    for treatment, arm in table.groupby("treatment", sort=False):
        look = look_of(treatment)
        every = max(1, len(arm) // 8)
        line = {**look.line, "label": look.name, "markevery": every, **STRONG}
        axes.plot(arm["iteration"], arm["mean"], **line)
    axes.set_xlabel("iteration" + (f", means of {together} evaluations" if together > 1 else ""))
    axes.set_ylabel(column.replace("_", " ") + (" (%)" if scale == 100 else ""))
    if scale == 100:
        last = table[table["iteration"] > 0]["mean"]
        axes.set_ylim(max(0.0, float(last.quantile(0.1)) - 3), float(last.max()) + 0.5)
    _legend(axes)
    percent = 100 * rows.loc[rows["round"] == round_number, "density"].mean()
    ranking = table.groupby("treatment")["mean"].mean().sort_values(ascending=scale == 1)
    first = look_of(ranking.index[0]).name
    what = column.replace("_", " ")
    summary = f"{what.capitalize()} during training at {percent:.1f}% density: {first} leads."
    return with_mishaps(Picture(figure_of(axes), summary, table), rows)


def summarise(tickets: pd.DataFrame, column: str, scale: float = 1) -> pd.DataFrame:
    """Mean and 95% interval over seeds per treatment and density, draws averaged first.

    The interval is nan where there is one seed.
    """
    table = over_seeds(tickets, ["treatment", "round"], column, scale)
    density = tickets.groupby(["treatment", "round"], sort=False)["density"].mean()
    return table.merge(density.reset_index(), on=["treatment", "round"])


def _against_density(
    tickets: pd.DataFrame, reference: pd.DataFrame | None, column: str, label: str, scale: float
) -> Picture:
    if tickets.empty:
        raise ValueError("tickets must have at least one row: run the experiment first")
    table = summarise(tickets, column, scale)
    axes, drawn = empty_axes(7, 4.6), table
    if reference is not None and not reference.empty:
        behind = summarise(reference, column, scale)
        drawn = pd.concat([behind, table])
        _draw_arms(axes, behind, PALE)
    _draw_arms(axes, table, STRONG)
    axes.set_xscale("log")
    axes.invert_xaxis()
    axes.set_xticks([tick for tick in TICKS if tick > 0.8 * drawn["density"].min()])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{100 * x:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("density: surviving weights (%), sparser to the right")
    axes.set_ylabel(label)
    _legend(axes, reference=drawn is not table)
    return Picture(figure_of(axes), "", table)


def _draw_arms(axes: Axes, table: pd.DataFrame, weight: dict[str, Any]) -> None:
    dense = table[table["treatment"] == "dense"]
    for treatment, arm in table[table["treatment"] != "dense"].groupby("treatment", sort=False):
        look = look_of(treatment)
        if treatment == "rewind":  # the chain starts at the dense network
            arm = pd.concat([dense, arm])
        axes.plot(arm["density"], arm["mean"], label=look.name, **look.line, **weight)
        band: dict[str, Any] = {"color": look.colour, "alpha": 0.12, "lw": 0}
        axes.fill_between(arm["density"], arm["low"], arm["high"], **band)
        if len(arm) == 1:  # too narrow for a band
            axes.vlines(arm["density"], arm["low"], arm["high"], color=look.colour, alpha=0.5)
    if not dense.empty:
        look = look_of("dense")
        line = {"lw": weight["lw"], "alpha": weight.get("alpha", 1), "label": look.name}
        axes.axhline(dense["mean"].iloc[0], color=look.colour, ls=look.dash, **line)


def _legend(axes: Axes, reference: bool = False) -> None:
    """A legend below the axes that names every arm once, and what pale lines are."""
    handles, labels = axes.get_legend_handles_labels()
    arms = dict(zip(labels, handles, strict=True))  # of two with one name the last, the strong one
    if reference:
        arms["pale: shipped reference"] = Line2D([], [], color="#000000", **PALE)
    axes.figure.legend(
        list(arms.values()),
        list(arms),
        loc="outside lower center",
        ncols=3,
        handlelength=3,
        frameon=False,
        fontsize="small",
    )
