"""Figures of arms that are compared in pairs: the difference is taken within each seed.

The arms of a seed share its trained network and its data order, so what is lucky about the seed
cancels. A large mark is a mean over seeds, its bar a 95% interval, and small dots are the seeds;
the shipped reference stands pale beside a run.
"""

import math
from collections.abc import Iterator
from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from labkit.experiments.results import SETTINGS
from labkit.experiments.statistics import NEAR, estimate, interval
from labkit.figures.picture import (
    SERIES,
    Picture,
    empty_axes,
    figure_of,
    legend_below,
    look_of,
    with_mishaps,
)

KINDS = dict(zip(("unstructured", "structured"), SERIES, strict=False))
THIS_RUN, REFERENCE = "this run", "reference"
WEIGHTS: dict[str, dict[str, Any]] = {
    THIS_RUN: {"alpha": 1.0, "lw": 1.8, "ms": 7},
    REFERENCE: {"alpha": 0.4, "lw": 1.2, "ms": 5},
}


def compare_treatments(
    tickets: pd.DataFrame | None,
    reference: pd.DataFrame | None = None,
    *,
    against: str = "fine-tune",
    column: str = "final_test_accuracy",
) -> Picture:
    """Accuracy of each treatment, and beside it the difference to one of them, seed by seed.

    tickets, reference: tables of `labkit.tables`, of one experiment or several; a reference behind
    tickets is pale. What was pruned to another density, or in another way, is a block of its own.
    against: the treatment that the others are compared with. column: an accuracy. Raises ValueError
    where there is nothing to compare.
    """
    pairs = _both(tickets, reference, against, column)
    pairs["block"] = _blocks(pairs)
    table = _means(pairs, ["run", "block", "network", "density", "treatment"])
    rows = _rows(table, against)
    height = 1.5 + 0.3 * len(rows)
    with sns.axes_style("whitegrid"):
        figure = Figure(figsize=(8.2, height), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True)
    for axes in (left, right):
        sns.despine(ax=axes, left=True)
        axes.grid(visible=False, axis="y")
    right.axvline(0, color="#000000", lw=1, ls=":")
    own, behind = pairs["run"].eq(THIS_RUN).any(), pairs["run"].eq(REFERENCE).any()
    weights = WEIGHTS if own else {REFERENCE: WEIGHTS[THIS_RUN]}
    for place, (block, treatment) in enumerate(rows):
        at = (pairs["block"] == block) & (pairs["treatment"] == treatment)
        for run, arm in pairs[at].groupby("run"):
            shift = 0.0 if not (own and behind) else -0.16 if run == THIS_RUN else 0.2
            arm_look = look_of(treatment)
            look = {"color": arm_look.colour, "marker": arm_look.marker, **weights[str(run)]}
            _mark(left, arm["value"], place + shift, look, seeds=False)
            if treatment != against:
                _mark(right, arm["difference"].dropna(), place + shift, look)
    _name_rows(left, rows)
    left.set_xlabel(column.replace("final_test", "test").replace("_", " ") + " (%)")
    right.set_xlabel(f"paired difference (points)\nto {look_of(against).name}")
    _explain(figure, table, weights)
    return with_mishaps(Picture(figure, _best(table, against), table), tickets, reference)


def difference_by_learning_rate(
    tickets: pd.DataFrame,
    reference: pd.DataFrame | None = None,
    *,
    arm: str = "rewind",
    against: str = "reinitialise",
    column: str = "final_test_accuracy",
) -> Picture:
    """An arm minus another, seed by seed, at each learning rate; a line per kind of pruning.

    tickets, reference: tables of `labkit.tables`, of experiments that differ in their learning rate
    and in the kind of pruning. Lines that are not parallel show that the two interact. Raises
    ValueError where there is nothing to compare.
    """
    pairs = _both(tickets, reference, against, column)
    pairs = pairs[pairs["treatment"] == arm].dropna(subset=["difference"])
    if pairs.empty:
        raise ValueError(f"tickets must have {arm} and {against} of one seed: run the experiment")
    pairs["density"] = _near_densities(pairs)
    rates = sorted(pairs["learning_rate"].unique())
    axes = empty_axes(7, 4.2)
    axes.axhline(0, color="#000000", lw=1, ls=":")
    handles = {}
    arms = list(pairs.groupby(["run", "kind", "density"], sort=False))
    for number, ((run, kind, share), line) in enumerate(arms):
        colour, dash = KINDS[kind].colour, KINDS[kind].dash
        look = {"color": colour, "marker": KINDS[kind].marker, **WEIGHTS[run]}
        shift = 0.07 * (number - (len(arms) - 1) / 2)
        places = []
        for rate, seeds in line.groupby("learning_rate"):
            x = rates.index(rate) + shift
            places.append((x, seeds["difference"].mean()))
            _mark(axes, seeds["difference"], x, look, upright=True)
        axes.plot(*zip(*places, strict=True), color=colour, ls=dash, lw=1, alpha=look["alpha"])
        label = f"{kind}, {100 * share:.0f}% density" + ", reference" * (run == REFERENCE)
        handles[label] = Line2D([], [], ls=dash, **look)
    axes.set_xticks(range(len(rates)), [f"{rate:g}" for rate in rates])
    axes.set_xlim(-0.5, len(rates) - 0.5)
    axes.set_xlabel("learning rate")
    names = f"{look_of(arm).name} minus {look_of(against).name}"
    axes.set_ylabel(f"{names} (points)")
    figure = figure_of(axes)
    legend_below(figure, handles, columns=2)
    table = _means(pairs, ["run", "kind", "network", "density", "learning_rate"])
    words = [
        f"{row['kind']} at {row['learning_rate']:g} {_difference(row)} ({_seeds(row)})"
        for row in table.to_dict("records")
        if row["run"] == table["run"].iloc[0]
    ]
    table = table.drop(columns=["mean", "low", "high"])  # of the accuracy
    summary = f"{names[0].upper()}{names[1:]}, {table['run'].iloc[0]}: {'; '.join(words)}."
    return with_mishaps(Picture(figure, summary, table), tickets, reference)


def _both(
    tickets: pd.DataFrame, reference: pd.DataFrame | None, against: str, column: str
) -> pd.DataFrame:
    """The pairs of a run and of the reference, one below the other."""
    parts = []
    for run, source in ((THIS_RUN, tickets), (REFERENCE, reference)):
        if source is not None and not source.empty:
            parts += [part.assign(run=run) for part in _pairs(source, against, column)]
    pairs = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame({"treatment": []})
    if against not in set(pairs["treatment"]):
        there = ", ".join(sorted(set(pairs["treatment"]))) or "nothing"
        raise ValueError(
            f"against must be a treatment that the tickets have ({there}), not {against!r}"
        )
    return pairs


def _pairs(tickets: pd.DataFrame, against: str, column: str) -> Iterator[pd.DataFrame]:
    """A row per seed and treatment, for networks pruned alike: value and difference, in points."""
    known = [name for name in SETTINGS if name in tickets]
    for _, alike in tickets.groupby(known, sort=False):
        dense, pruned = alike[alike["round"] == 0], alike[alike["round"] > 0]
        if pruned.empty:
            continue
        for _, same_size in pruned.groupby(pruned.apply(_left, axis=1), sort=False):
            group = pd.concat([dense, same_size])
            values = 100 * group.groupby(["treatment", "seed"], sort=False)[column].mean()
            base = values[against] if against in values else pd.Series(dtype=float)
            rows = values.reset_index(name="value")
            rows["difference"] = rows["value"] - rows["seed"].map(base)
            for name in known:
                rows[name] = group[name].iloc[0]
            yield rows.assign(density=same_size["density"].mean())


def _left(ticket: pd.Series) -> int:
    """How much pruning has left, the same for all seeds: whole units, or else weights."""
    widths = ticket.get("widths")
    return sum(widths) if isinstance(widths, list) else ticket["weights"]


def _near_densities(pairs: pd.DataFrame) -> pd.Series:
    """The density of each row, one number for those that are close to each other."""
    found: list[float] = []
    for density in sorted(pairs["density"].unique(), reverse=True):
        if not found or math.log(found[-1] / density) > NEAR:
            found.append(density)
    return pairs["density"].map(
        lambda density: next(d for d in found if math.log(d / density) <= NEAR)
    )


def _blocks(pairs: pd.DataFrame) -> pd.Series:
    """What each row is compared within, in words: its density, and settings that differ within a
    run or within the reference; those by which the two differ are told by strong and pale.
    """
    known = [name for name in SETTINGS if name in pairs]
    several = [name for name in known if pairs.groupby("run")[name].nunique().max() > 1]
    words = _near_densities(pairs).map(lambda density: f"{100 * density:.0f}% density")
    for name in several:
        numbers = ("learning_rate", "rewind", "length", "cut")
        title = name.replace("_", " ") + " " if name in numbers else ""
        words = words + ", " + title + pairs[name].astype(str)
    return words


def _means(pairs: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Means and 95% intervals over seeds of values and differences."""
    rows = []
    for key, arm in pairs.groupby(by, sort=False):
        row = dict(zip(by, key, strict=True))
        for name, prefix in (("value", ""), ("difference", "difference_")):
            found = estimate(arm[name].dropna())
            row |= {f"{prefix}mean": found.mean, f"{prefix}low": found.low}
            row[f"{prefix}high"] = found.high
        rows.append({**row, "seeds": len(arm)})
    return pd.DataFrame(rows)


def _rows(table: pd.DataFrame, against: str) -> list[tuple[str, str]]:
    """Block and treatment of each row of the figure; a block's title has no treatment."""
    rows: list[tuple[str, str]] = []
    for block, arms in table.groupby("block", sort=False):
        names = list(dict.fromkeys(arms["treatment"]))
        names.sort(key=lambda name: (name != "dense", name != against))
        rows += [(str(block), ""), *((str(block), name) for name in names)]
    return rows


def _name_rows(axes: Axes, rows: list[tuple[str, str]]) -> None:
    axes.set_yticks(
        range(len(rows)), [look_of(name).name if name else block for block, name in rows]
    )
    for label, (_, name) in zip(axes.get_yticklabels(), rows, strict=True):
        label.set_fontweight("normal" if name else "bold")
    axes.set_ylim(len(rows) - 0.5, -0.6)
    axes.tick_params(axis="y", length=0)


def _mark(
    axes: Axes,
    values: pd.Series,
    place: float,
    look: dict[str, Any],
    *,
    seeds: bool = True,
    upright: bool = False,
) -> None:
    """A mean with its interval, and the seeds behind it; upright: values on the y axis."""
    if values.empty:
        return
    ends = pd.Series(interval(values))
    ends = ends.fillna(values.mean())  # one seed has no interval
    points = (values, [place] * len(values))
    mean, bar = (values.mean(), place), (ends, [place] * 2)
    if upright:
        points, mean, bar = points[::-1], mean[::-1], bar[::-1]
    colour, faint = look["color"], 0.5 * look["alpha"]
    if seeds and len(values) > 1:
        axes.plot(*points, ".", color=colour, alpha=faint, ms=4)
    axes.plot(*bar, color=colour, alpha=look["alpha"], lw=look["lw"])
    axes.plot(*mean, look["marker"], color=colour, alpha=look["alpha"], ms=look["ms"])


def _explain(figure: Figure, table: pd.DataFrame, weights: dict[str, dict[str, Any]]) -> None:
    """A legend of what is strong, what pale, and, where there are any, of seeds and intervals."""
    black: dict[str, Any] = {"color": "#000000", "marker": "o"}
    behind = "pale: " if THIS_RUN in weights else ""
    labels = {THIS_RUN: "this run", REFERENCE: f"{behind}shipped reference"}
    runs = [run for run in labels if table["run"].eq(run).any()]
    handles = {labels[run]: Line2D([], [], **black, **weights[run]) for run in runs}
    if (table["seeds"] > 1).any():
        handles["a seed"] = Line2D([], [], color="#000000", marker=".", ls="", alpha=0.5)
        handles["95% interval"] = Line2D([], [], color="#000000")
    else:
        handles = {name + ", one seed": handle for name, handle in handles.items()}
    legend_below(figure, handles, columns=4)


def _best(table: pd.DataFrame, against: str) -> str:
    sentences = []
    for (run, block), arms in table.groupby(["run", "block"], sort=False):
        arms = arms[arms["treatment"] != "dense"]
        best = arms.loc[arms["mean"].idxmax()]
        sentence = f"{run}, {block}: {look_of(best['treatment']).name} is highest"
        if best["treatment"] != against and not math.isnan(best["difference_mean"]):
            sentence += f", {_difference(best)} against {look_of(against).name}"
        sentence += f" ({_seeds(best)})"
        sentences.append(sentence[0].upper() + sentence[1:] + ".")
    return " ".join(sentences)


def _difference(row: Any) -> str:
    """A difference with its interval, such as "+1.20 points [+0.40, +2.00]"."""
    words = f"{row['difference_mean']:+.2f} points"
    if not math.isnan(row["difference_low"]):
        words += f" [{row['difference_low']:+.2f}, {row['difference_high']:+.2f}]"
    return words


def _seeds(row: Any) -> str:
    return f"{row['seeds']} {'seed' if row['seeds'] == 1 else 'seeds'}"
