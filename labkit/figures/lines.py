"""Pictures of the error between networks, on a line through two and on a plane through three."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D

from labkit.base.validation import choice
from labkit.engine.connectivity import Surface
from labkit.figures.picture import SERIES, Picture, empty_axes, figure_of, with_mishaps

ERRORS = dict(zip(("test", "train"), SERIES, strict=False))
LEVELS = (0, 2, 3, 4, 5, 6, 8, 10, 14, 20, 30, 50, 70, 100)  # errors (%), close in the valleys
LEAST_RANGE = 5.0  # points of error that an axis shows, so that flat lines look flat
MARKERS = ("o", "s", "^")
PANELS = ("rewind", "learning_rate", "round", "statistics", "network")


def barrier(alphas: Sequence[float], errors: Sequence[float]) -> Picture:
    """The test error on the line between two networks, and how far it rises above its ends.

    alphas: places on the line, the first and the last at the two networks. errors: in %, as many.
    The arrow is the instability: the highest error minus the mean of the two ends (Frankle et al.
    2020, section 2). Raises ValueError where there are not two places, or not as many errors.
    """
    if len(alphas) < 2 or len(errors) != len(alphas):
        raise ValueError(
            "alphas and errors must have as many entries as each other, at least 2, not "
            f"{len(alphas)} and {len(errors)}"
        )
    table = pd.DataFrame({"alpha": alphas, "test error (%)": errors}, dtype=float)
    error, look = table["test error (%)"], ERRORS["test"]
    foot, top = (error.iloc[0] + error.iloc[-1]) / 2, error.idxmax()
    at, rise = table["alpha"].iloc[top], error.iloc[top] - foot
    axes = empty_axes(6, 3.4)
    axes.plot(table["alpha"], error, **look.line, lw=2, ms=5)
    axes.axhline(foot, color="#000000", lw=1, ls=":")
    axes.annotate("", (at, error.iloc[top]), (at, foot), arrowprops={"arrowstyle": "<->"})
    shift, side = (6, "left") if at <= 0.5 else (-6, "right")
    axes.annotate(
        f"{rise:.1f} points",
        (at, foot + rise / 2),
        (shift, 0),
        textcoords="offset points",
        va="center",
        ha=side,
        bbox={"fc": "white", "ec": "none", "alpha": 0.8, "pad": 1.5},
    )
    axes.set(xlabel="alpha: from copy 0 to copy 1", ylabel="test error (%)")
    axes.set_ylim(0, 1.08 * max(error.max(), LEAST_RANGE))
    summary = (
        f"The copies make {error.iloc[0]:.1f}% and {error.iloc[-1]:.1f}% errors, the worst network "
        f"between them {error.max():.1f}%: an instability of {rise:.1f} points."
    )
    return Picture(figure_of(axes), summary, table)


def error_along_line(paths: pd.DataFrame, by: str = "rewind") -> Picture:
    """Test and train error on the line between two copies, a panel per value of a column.

    paths: a table of `labkit.tables`, or part of one. by: the column, one of rewind, learning_rate,
    round, statistics and network. Thin lines are single pairs of copies, strong ones their mean;
    the title of a panel says which batch-norm statistics were used, where there are any. Raises
    ValueError without rows.
    """
    choice("by", by, PANELS)
    if paths.empty:
        raise ValueError("paths must have at least one row: run an analysis of instability first")
    groups = list(paths.groupby(by, sort=True))
    with sns.axes_style("whitegrid"):
        figure = Figure(figsize=(max(4.2, 2.6 * len(groups) + 0.6), 3.5), layout="constrained")
        panels = figure.subplots(1, len(groups), sharey=True, squeeze=False)[0]
    rows = []
    for axes, (value, group) in zip(panels, groups, strict=True):
        means = group.groupby("alpha")[["train_error", "test_error"]].mean() * 100
        _draw_lines(axes, group, means)
        axes.set_title(_panel_title(by, value, group), fontsize="medium")
        axes.set_xlabel("alpha: from copy 0 to copy 1")
        rows.append(means.reset_index().assign(**{by: value}))
    panels[0].set_ylabel("error (%)")
    panels[0].set_ylim(_error_range(paths))  # which all panels share
    handles = [Line2D([], [], ms=5, **look.line) for look in ERRORS.values()]
    names = [f"{name} error" for name in ERRORS]
    figure.legend(handles, names, loc="outside lower center", ncols=2, frameon=False)
    sns.despine(figure)
    pairs = paths.groupby([by, "seed", "pair"]).ngroups / len(groups)
    each = f"a mean of {pairs:g} lines per panel" if pairs > 1 else "one line per panel"
    words = "; ".join(_summary_of_line(by, value, group) for value, group in groups)
    rates = set(paths.get("learning_rate", ())) if by != "learning_rate" else set()
    rate = f", learning rate {rates.pop():g}" if len(rates) == 1 else ""
    summary = f"Error on the line between two copies{rate}, {each}. {words}."
    return with_mishaps(Picture(figure, summary, pd.concat(rows, ignore_index=True)), paths)


def _draw_lines(axes: Axes, group: pd.DataFrame, means: pd.DataFrame) -> None:
    for name, look in ERRORS.items():
        for _, line in group.groupby(["seed", "pair"]):
            error = 100 * line[f"{name}_error"]
            axes.plot(line["alpha"], error, color=look.colour, ls=look.dash, lw=0.7, alpha=0.35)
        strong: dict[str, Any] = {"lw": 2, "ms": 4, "markevery": max(1, len(means) // 6)}
        mean = means[f"{name}_error"]
        axes.plot(mean.index, mean, **look.line, **strong)


def _error_range(paths: pd.DataFrame) -> tuple[float, float]:
    """From the lowest to the highest error of all panels (%), at least some points of it."""
    errors = 100 * paths[[f"{name}_error" for name in ERRORS]]
    low, high = errors.min().min(), errors.max().max()
    high = max(high, low + LEAST_RANGE)
    return max(0.0, low - 0.08 * (high - low)), high + 0.08 * (high - low)


def _panel_title(by: str, value: object, group: pd.DataFrame) -> str:
    title = _title(by, value)
    norms = group["network"].str.startswith(("resnet", "vgg")).any()
    if by != "statistics" and norms:
        title += "\n" + " and ".join(f"{s} statistics" for s in group["statistics"].unique())
    return title


def _title(by: str, value: Any) -> str:
    if by == "rewind":
        return f"k = {value:,}" + (" (initialisation)" if value == 0 else "")
    if by == "learning_rate":
        return f"learning rate {value:g}"
    return f"{by} {value}" if by == "round" else f"{value}"


def _summary_of_line(by: str, value: object, group: pd.DataFrame) -> str:
    test = group.groupby("alpha")["test_error"].mean() * 100
    ends = (test.iloc[0] + test.iloc[-1]) / 2
    return f"{_title(by, value)}: test error {ends:.1f}% at the ends, at most {test.max():.1f}%"


def error_map(surface: Surface) -> Picture:
    """A surface as a map with contour lines, the three networks marked and named on it."""
    error = 100 * surface.error
    # Axes of equal units are moved after the layout: the pad is what their label needs then.
    figure = Figure(figsize=(6.6, 5), layout=ConstrainedLayoutEngine(w_pad=0.15))
    axes = figure.subplots()
    x, y = surface.x.numpy(), surface.y.numpy()
    # Equal steps of colour from level to level, from light (low) to dark (high), also in grey.
    equal = BoundaryNorm(LEVELS, 256)
    filled = axes.contourf(x, y, error.numpy(), levels=LEVELS, cmap="cividis_r", norm=equal)
    lines = axes.contour(filled, colors="black", linewidths=0.5)
    axes.clabel(lines, fmt="%g", fontsize=7)
    figure.colorbar(filled, ax=axes, label="error (%)", ticks=LEVELS)
    for marker, (name, place) in zip(MARKERS, surface.networks.items(), strict=True):
        axes.plot(*place, marker, ms=10, mfc="white", mec="black", mew=1.8)
        axes.annotate(
            name,
            place,
            (9, 9),
            textcoords="offset points",
            bbox={"fc": "white", "ec": "none", "alpha": 0.8, "pad": 1.5},
        )
    axes.set_aspect("equal")
    axes.set_xlabel("distance between weights")
    axes.set_ylabel("distance at right angles to it")
    if surface.statistics:
        axes.set_title(f"{surface.statistics} statistics", fontsize="medium")
    return Picture(figure, _summary_of_map(surface), _grid_table(surface))


def _summary_of_map(surface: Surface) -> str:
    at = "; ".join(
        f"{name} {100 * _nearest(surface, *p):.1f}%" for name, p in surface.networks.items()
    )
    names = list(surface.networks)
    (ax, ay), (bx, by) = (surface.networks[name] for name in names[:2])
    middle = 100 * _nearest(surface, (ax + bx) / 2, (ay + by) / 2)
    return (
        f"Error on a plane through three networks, near each: {at}. Half-way between {names[0]} "
        f"and {names[1]} it is {middle:.1f}%; the lowest on the grid is "
        f"{100 * surface.error.min():.1f}%."
    )


def _nearest(surface: Surface, x: float, y: float) -> float:
    """The error at the point of the grid that is closest to a place."""
    row, column = (surface.y - y).abs().argmin(), (surface.x - x).abs().argmin()
    return surface.error[row, column].item()


def _grid_table(surface: Surface) -> pd.DataFrame:
    percent = (100 * surface.error).round(decimals=2).tolist()
    columns = [f"x = {x:.2f}" for x in surface.x.tolist()]
    rows = pd.Index([f"y = {y:.2f}" for y in surface.y.tolist()], name="error (%)")
    return pd.DataFrame(percent, rows, columns)
