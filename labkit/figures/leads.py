"""Figures of one arm's lead over another, seed by seed, along density and along size.

Draws are averaged within their seed. A mark is a mean over seeds, its bar a 95% interval, and the
grey band is the margin within which arms count as matching.
"""

from collections.abc import Iterator
from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullLocator

from labkit.experiments.statistics import MARGIN, estimate
from labkit.figures.arms import TICKS
from labkit.figures.picture import SERIES, Picture, legend_below, look_of, with_mishaps


def difference_by_density(
    tickets: pd.DataFrame,
    *,
    arm: str = "rewind",
    against: str = "reinitialise",
    column: str = "final_test_accuracy",
) -> Picture:
    """An arm minus another, seed by seed, against density: a panel for each length of training, a
    line for each learning rate; one-shot tickets are marks without a line.

    tickets: a table of `labkit.tables`, of one network. Raises ValueError where there is nothing to
    compare.
    """
    by = ["length", "learning_rate", "cut"]
    table = pd.DataFrame(
        {**dict(zip(by, labels, strict=True)), "density": density, **_estimated(differences)}
        for labels, density, differences in _leads(tickets, by, arm, against, column)
    )
    rates, lengths = sorted(table["learning_rate"].unique()), sorted(table["length"].unique())
    with sns.axes_style("whitegrid"):
        figure = Figure(figsize=(1.2 + 2.9 * len(lengths), 4.2), layout="constrained")
        panels = figure.subplots(1, len(lengths), sharey=True, squeeze=False)[0]
    handles = {}
    for axes, length in zip(panels, lengths, strict=True):
        sns.despine(ax=axes)
        axes.axhspan(-MARGIN, MARGIN, color="#000000", alpha=0.08, lw=0)
        for rate, look in zip(rates, SERIES, strict=False):
            at_rate = table[(table["length"] == length) & (table["learning_rate"] == rate)]
            for _, line in at_rate.groupby("cut"):
                reach = [line["difference"] - line["low"], line["high"] - line["difference"]]
                style: dict[str, Any] = look.line | ({"ls": ""} if len(line) == 1 else {})
                hollow = {"mfc": "white"} if len(line) == 1 else {}
                # Marks without a line stand side by side, or the bars of two rates hide each other.
                aside = 1.03 ** (2 * rates.index(rate) + 1 - len(rates)) if len(line) == 1 else 1.0
                axes.errorbar(line["density"] / aside, line["difference"], reach, **style, **hollow,
                              ms=5, capsize=2)  # fmt: skip
            handles[f"learning rate {rate:g}"] = Line2D([], [], ms=5, **look.line)
        axes.set_xscale("log")
        axes.invert_xaxis()
        axes.set_title(f"{length:,} iterations", fontsize="medium")
        axes.set_xlabel("density (%), sparser right")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{100 * x:g}"))
        axes.set_xticks([tick for tick in TICKS if tick > 0.8 * table["density"].min()])
        axes.xaxis.set_minor_locator(NullLocator())
    handles["one-shot"] = Line2D([], [], color="#000000", ls="", marker="o", mfc="white")
    names = f"{look_of(arm).name} minus {look_of(against).name}"
    panels[0].set_ylabel(f"{names} (points)")
    legend_below(figure, handles, columns=3)
    return with_mishaps(Picture(figure, _summary_of_leads(table, names), table), tickets)


def _leads(
    tickets: pd.DataFrame, by: list[str], arm: str, against: str, column: str
) -> Iterator[tuple[tuple, float, pd.Series]]:
    """Of each group and round: its labels, its density, and the differences in points, by seed.
    ValueError where no seed has both arms.
    """
    known = False
    for labels, alike in tickets.groupby(by) if len(tickets) else ():
        arms = alike.groupby(["round", "treatment", "seed"])[column].mean().unstack("treatment")
        for number, at in arms.groupby("round") if {arm, against} <= set(arms) else ():
            differences = (100 * (at[arm] - at[against])).dropna().droplevel("round")
            if len(differences):
                known = True
                density = alike.loc[alike["round"] == number, "density"].mean()
                yield labels, density, differences
    if not known:
        raise ValueError(f"tickets must have {arm} and {against} of one seed: run the experiment")


def _estimated(differences: pd.Series) -> dict[str, float]:
    found = estimate(differences)
    ends = {"low": found.low, "high": found.high}
    return {"difference": found.mean, **ends, "seeds": found.seeds}


def _summary_of_leads(table: pd.DataFrame, names: str) -> str:
    parts = []
    for (length, rate), line in table.groupby(["length", "learning_rate"]):
        ordered = line.sort_values("density", ascending=False)
        dense, sparse = ordered.iloc[0], ordered.iloc[-1]
        words = f"{length:,} iterations at {rate:g}: {dense['difference']:+.1f} points at "
        words += f"{dense['density']:.0%} density"
        if len(ordered) > 1:
            words += f", {sparse['difference']:+.1f} at {sparse['density']:.1%}"
        parts.append(words)
    fewest, most = table["seeds"].min(), table["seeds"].max()
    seeds = f"{most}" if fewest == most else f"{fewest} to {most}"
    return f"{names[0].upper()}{names[1:]}, {seeds} seeds. {'; '.join(parts)}."


def difference_by_size(
    tickets: pd.DataFrame,
    *,
    arm: str = "rewind",
    against: str = "reinitialise",
    column: str = "final_test_accuracy",
) -> Picture:
    """An arm minus another, seed by seed, against the number of weights and of training images: a
    panel for each, a line for each density.

    tickets: a table of `labkit.tables`, of several networks on all images, and of one network on
    fewer. The summary has what the lead gains from the smallest to the largest, with the 95%
    interval of Welch's t, since networks of two sizes share nothing by which seeds could be paired.
    Raises ValueError where there is nothing to compare.
    """
    leads: dict[tuple[str, int, float], pd.Series] = {}  # panel, size, density -> per seed
    whole = tickets["images"].max() if len(tickets) else 0
    found = _leads(tickets, ["network", "images"], arm, against, column)
    for (network, images), density, differences in found:
        alike = tickets[tickets["network"] == network]
        if images == whole:
            weights = int(alike["weights"].max())  # those of the dense network
            leads["weights", weights, round(density, 3)] = differences
        if alike["images"].nunique() > 1:
            leads["training images", int(images), round(density, 3)] = differences
    table = pd.DataFrame(
        {"panel": panel, "size": size, "density": density, **_estimated(differences)}
        for (panel, size, density), differences in leads.items()
    ).sort_values(["panel", "density", "size"], ascending=[False, False, True])
    names = f"{look_of(arm).name} minus {look_of(against).name}"
    figure = _by_size(table, names)
    words = "; ".join(
        _gain(leads, *line) for line in table.groupby(["panel", "density"], sort=False).groups
    )
    summary = f"{names[0].upper()}{names[1:]}, {table['seeds'].max()} seeds. {words}."
    return with_mishaps(Picture(figure, summary, table.reset_index(drop=True)), tickets)


def _by_size(table: pd.DataFrame, names: str) -> Figure:
    """A panel for weights and one for images, a line per density."""
    densities = sorted(table["density"].unique(), reverse=True)
    panels = list(dict.fromkeys(table["panel"]))
    with sns.axes_style("whitegrid"):
        figure = Figure(figsize=(1.2 + 3.4 * len(panels), 4.2), layout="constrained")
        grid = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, panel in zip(grid, panels, strict=True):
        sns.despine(ax=axes)
        axes.axhspan(-MARGIN, MARGIN, color="#000000", alpha=0.08, lw=0)
        for density, look in zip(densities, SERIES, strict=False):
            line = table[(table["panel"] == panel) & (table["density"] == density)]
            reach = [line["difference"] - line["low"], line["high"] - line["difference"]]
            axes.errorbar(line["size"], line["difference"], reach, **look.line, ms=5, capsize=2)
        axes.set_xscale("log")
        axes.set_xlabel(f"number of {panel}")
        sizes = sorted(table.loc[table["panel"] == panel, "size"].unique())
        axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
        axes.xaxis.set_minor_locator(NullLocator())
    grid[0].set_ylabel(f"{names} (points)")
    handles = {
        f"{100 * density:.3g}% density": Line2D([], [], ms=5, **look.line)
        for density, look in zip(densities, SERIES, strict=False)
    }
    legend_below(figure, handles, columns=2)
    return figure


def _gain(leads: dict[tuple[str, int, float], pd.Series], panel: str, density: float) -> str:
    """What a line gains from its smallest size to its largest, in words."""
    from scipy.stats import ttest_ind  # takes a second

    sizes = sorted(size for p, size, d in leads if (p, d) == (panel, density))
    small, large = (leads[panel, size, density] for size in (sizes[0], sizes[-1]))
    words = (
        f"from {sizes[0]:,} to {sizes[-1]:,} {panel} at {100 * density:.3g}% density "
        f"{small.mean():+.1f} to {large.mean():+.1f} points"
    )
    if min(len(small), len(large)) < 2 or len(sizes) < 2:
        return words
    low, high = ttest_ind(large, small, equal_var=False).confidence_interval()
    return f"{words}, a change of {large.mean() - small.mean():+.2f} [{low:+.2f}, {high:+.2f}]"
