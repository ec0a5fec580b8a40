"""Where training is stable, and the map that reconciles the three papers by it. Drawn from tables
of tickets, of one experiment or several.
"""

import math
from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from labkit.engine.connectivity import STABLE
from labkit.experiments.statistics import (
    interval,
    over_seeds,
)
from labkit.experiments.treatments import NEW_WEIGHTS
from labkit.figures.picture import (
    SERIES,
    Picture,
    empty_axes,
    figure_of,
    with_mishaps,
)

KINDS = {"unstructured": "single weights", "structured": "whole units"}
LIMIT = 100 * STABLE  # points


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
    origin = place_of_zero(drawn["rewind"])
    for part, alpha in ((behind, 0.4), (table, 1.0)):
        for name, arm in part.groupby("arm") if len(part) else ():
            x = arm["rewind"].replace(0, origin).astype(float)
            reach = [arm["mean"] - arm["low"], arm["high"] - arm["mean"]]
            label = "pale, reference: " * (alpha < 1) + str(name)
            look = SERIES[arms.index(name) % len(SERIES)].line | {"alpha": alpha}
            axes.errorbar(x, arm["mean"], reach, capsize=3, label=label, **look)
    mark_threshold(axes)
    iteration_axis(axes, drawn["rewind"], origin)
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


def place_of_zero(rewinds: pd.Series) -> float:
    """Where a logarithmic axis shows 0: a step to the left of the smallest iteration after it."""
    later = rewinds[rewinds > 0]
    if later.empty:
        return 1.0
    span = math.log(later.max() / later.min()) or math.log(10)
    return float(later.min()) * math.exp(-0.3 * span - 0.5)


def iteration_axis(axes: Axes, rewinds: pd.Series, origin: float) -> None:
    """A logarithmic axis of rewind iterations, or of shares of the training, with a tick for each
    of them, and one for 0 at `origin`.
    """
    later = sorted(set(rewinds) - {0})
    axes.set_xscale("log")
    ticks, labels = list(map(float, later)), [f"{k:,g}" for k in later]
    if (rewinds == 0).any():
        ticks, labels = [origin, *ticks], ["0\n(initialisation)", *labels]
        if later:
            axes.axvline(math.sqrt(origin * later[0]), color="#999999", lw=0.8, ls=(0, (1, 3)))
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels(labels)
    axes.set_xlabel("rewind iteration k, logarithmic")


def mark_threshold(axes: Axes) -> None:
    """The line below which training is stable."""
    axes.axhline(LIMIT, color="black", lw=1, ls=(0, (5, 3)), label=f"stable below {LIMIT:g} points")
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))


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
    mark_threshold(axes)
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
