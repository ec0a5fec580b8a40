"""What a ticket costs: the arithmetic of finding it, and what each of its trainings then saves."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from labkit.experiments.statistics import over_seeds
from labkit.figures.picture import (
    SERIES,
    Picture,
    empty_axes,
    figure_of,
    legend_below,
    look_of,
    with_mishaps,
)

LINES = {
    "iterative": "found little by little",
    "one_shot": "found in one shot",
    "use": "trained once",
}
SETTINGS = ("network", "dataset", "chain")  # of networks that are compared, where there are such


def account(tickets: pd.DataFrame) -> pd.DataFrame:
    """The arithmetic of tickets in trainings of the dense network, a row per round from 1 on.

    tickets: a table of `labkit.tables`, or part of one; needed are the columns seed, round,
    treatment, density, flops and iterations of the dense networks and the rewound tickets of one
    experiment. Columns: density; `use`, of training it once; `iterative`, of all trainings before
    (with rate q per round and time in proportion to density (1 - (1 - q)^r) / q); `one_shot`, of
    the one training that pruning at once needs; `saved` by each use; `iterative_pays` and
    `one_shot_pays`, after how many uses what was saved is what was spent. All are means over the
    seeds that have every round. Raises ValueError without such rows, or with several experiments.
    """
    wanted = {"seed", "round", "treatment", "density", "flops", "iterations"}
    if not wanted <= set(tickets.columns):
        raise ValueError(f"tickets must have the columns {', '.join(sorted(wanted))}")
    rows = tickets[tickets["treatment"].isin(("dense", "rewind"))]
    settings = [name for name in SETTINGS if name in rows]
    if settings and len(rows[settings].drop_duplicates()) > 1:
        raise ValueError("tickets must be of one experiment: choose a network and a chain")
    spent = rows.assign(spent=rows["flops"].astype(float) * rows["iterations"])
    by_round = spent.pivot_table(index="round", columns="seed", values="spent").dropna(axis=1)
    rounds = by_round.index.tolist()
    if len(rounds) < 2 or by_round.empty or rounds != list(range(len(rounds))):
        raise ValueError(
            f"tickets must have the dense network and every round after it, not rounds {rounds}"
        )
    use = by_round / by_round.loc[0]  # (rounds, seeds)
    table = pd.DataFrame(
        {
            "density": rows[rows["seed"].isin(use.columns)].groupby("round")["density"].mean(),
            "use": use.mean(axis=1),
            "iterative": use.cumsum().shift().mean(axis=1),
            "one_shot": 1.0,
        }
    ).loc[1:]
    table["saved"] = 1 - table["use"]
    for way in ("iterative", "one_shot"):
        table[f"{way}_pays"] = table[way] / table["saved"]
    return table.reset_index()


def cost_of_tickets(tickets: pd.DataFrame) -> Picture:
    """The arithmetic of finding tickets and of training them, against density; see `account`.

    tickets: as there. The table is that account.
    """
    table = account(tickets)
    axes = empty_axes()
    for (column, name), look in zip(LINES.items(), SERIES, strict=False):
        axes.plot(table["density"], table[column], ms=5, lw=2, label=name, **look.line)
    axes.set_xscale("log")
    axes.invert_xaxis()
    axes.set_xlabel("density (share of weights left, logarithmic)")
    axes.set_ylabel("arithmetic (trainings of the dense network)")
    axes.set_ylim(bottom=0)
    _ticks_of(axes, table["density"].tolist())
    handles = {
        name: Line2D([], [], ms=5, **look.line)
        for name, look in zip(LINES.values(), SERIES, strict=False)
    }
    legend_below(figure_of(axes), handles, columns=3)
    return with_mishaps(Picture(figure_of(axes), _summary(table), table), tickets)


def _ticks_of(axes: Axes, densities: Sequence[float]) -> None:
    shown = [d for i, d in enumerate(densities) if i % max(1, len(densities) // 6) == 0]
    axes.set_xticks(shown, [f"{100 * d:.3g}%" for d in shown])
    axes.minorticks_off()


def _summary(table: pd.DataFrame) -> str:
    last = table.iloc[-1]
    return (
        f"A ticket of {100 * last['density']:.3g}% density costs {last['iterative']:.2f} trainings "
        "of the dense network if it is found little by little, and 1 in one shot, where zeros cost "
        f"nothing. Each of its trainings then costs {last['use']:.3f} of the dense one, so the "
        f"search has paid after {last['iterative_pays']:.1f} of them, or after "
        f"{last['one_shot_pays']:.1f}. Where masks multiply by zeros, it never has."
    )


def with_costs(tickets: pd.DataFrame) -> pd.DataFrame:
    """The table with what each network has cost, in trainings of its dense network, if zeros cost
    nothing: `own`, its own training; `search`, the trainings that its mask or widths took; `total`.

    tickets: a table of `labkit.tables`, of one experiment or several. Masks that are drawn at one
    moment take the dense training until then; others the dense one and all rounds of their chain.
    New weights in widths that anybody could have chosen beforehand (structured, layer by layer)
    take no search.
    """
    rows = tickets.copy()
    spent = rows["flops"].astype(float) * rows["iterations"]
    lineage = ["task", "chain", "seed"]
    dense = rows["treatment"] == "dense"
    of_dense = spent.where(dense).groupby([rows[name] for name in lineage]).transform("first")
    rows["own"] = spent / of_dense
    linked = rows["own"].where(dense | (rows["treatment"] == rows["between"]))
    by_round = linked.groupby([rows[name] for name in [*lineage, "round"]]).first()
    before = by_round.groupby(level=lineage).cumsum() - by_round
    places = pd.MultiIndex.from_frame(rows[[*lineage, "round"]])
    rows["search"] = before.reindex(places).to_numpy()
    rows["search"] = rows["search"].where(rows["at"] == "end", rows["drawn"])
    fresh = rows["treatment"].str.startswith(("scratch", "reinitialise"))
    predefined = fresh & (rows["kind"] == "structured") & (rows["scope"] == "layerwise")
    rows["search"] = rows["search"].where(~(predefined | dense), 0.0)
    rows["total"] = rows["search"] + rows["own"]
    return rows


def does_it_pay(tickets: pd.DataFrame | None, reference: pd.DataFrame | None = None) -> Picture:
    """Test accuracy after the last iteration against all the arithmetic that it took, search
    included: a mark per arm, of the last round; numbers beside marks say when the mask was drawn,
    in per cent of the dense training. See `with_costs`.

    tickets, reference: tables of `labkit.tables`, of a study of one network; a reference behind
    tickets is pale.
    Raises ValueError without rows.
    """
    tables = [("reference", reference), ("this run", tickets)]
    known = [(name, _costs(rows)) for name, rows in tables if rows is not None and len(rows)]
    if not known:
        raise ValueError("tickets must have at least one row: run the experiment first")
    axes, handles = empty_axes(8, 4.8), {}
    for name, table in known:
        pale = name == "reference" and len(known) > 1
        for row in table.to_dict("records"):
            look = look_of(row["treatment"])
            mark: dict[str, Any] = {
                "color": look.colour,
                "marker": look.marker,
                "alpha": 0.4 if pale else 1,
            }
            axes.plot(row["total"], row["mean"], ls="", ms=6 if pale else 8, **mark)
            axes.vlines(row["total"], row["low"], row["high"], color=look.colour, alpha=0.4, lw=1)
            handles[look.name] = Line2D([], [], ls="", ms=7, **{**mark, "alpha": 1})
            if not pale and row["treatment"] != "dense":
                place = (row["total"], row["mean"])
                words = f"{100 * row['drawn']:.3g}%"
                below = row["treatment"].startswith(("reinitialise", "scratch"))
                look_of_words: dict[str, Any] = {"textcoords": "offset points", "fontsize": 7}
                away = (5, -10) if below else (5, 4)  # arms that cost the same are near each other
                axes.annotate(words, place, away, **look_of_words)
    axes.set_xlabel("all arithmetic, search included (trainings of the dense network)")
    axes.set_ylabel("test accuracy after the last iteration (%)")
    axes.set_xlim(left=0)
    legend_below(figure_of(axes), handles, columns=3)
    name, table = known[-1]
    summary = _summary_of_paid(name, table)
    return Picture(figure_of(axes), summary, pd.concat(dict(known), names=["run", ""]))


def _costs(tickets: pd.DataFrame) -> pd.DataFrame:
    """A row per arm and moment of drawing, of the last round: accuracy and costs."""
    rows = with_costs(tickets)
    last = rows["round"] == rows.groupby(["task", "chain"])["round"].transform("max")
    rows = rows[last | (rows["treatment"] == "dense")]
    by = ["criterion", "at", "drawn", "share", "treatment", "density"]
    # Widths that are found differ a little from seed to seed.
    rows = rows.assign(
        density=rows.groupby(["task", "chain", "round"])["density"].transform("mean")
    )
    dense = rows[rows["treatment"] == "dense"].drop_duplicates(["task", "seed"])
    alone = {"criterion": "", "at": "", "drawn": 0.0, "share": 0.0}
    rows = pd.concat([dense.assign(**alone), rows[rows["treatment"] != "dense"]])
    table = over_seeds(rows, by, "final_test_accuracy", 100)
    costs = rows.groupby(by, sort=False)[["search", "own", "total"]].mean().reset_index()
    return table.merge(costs, on=by)


def _summary_of_paid(name: str, table: pd.DataFrame) -> str:
    best = table.loc[table["mean"].idxmax()]
    dense = table[table["treatment"] == "dense"].iloc[0]
    cheaper = table[(table["total"] < 1) & (table["treatment"] != "dense")]
    words = (
        f"Test accuracy against all arithmetic, {name}: the dense network has {dense['mean']:.1f}% "
        f"for 1; the highest is {look_of(best['treatment']).name} with {best['mean']:.1f}% for "
        f"{best['total']:.2f}"
    )
    if cheaper.empty:
        return f"{words}. Nothing costs less than the dense training."
    first = cheaper.loc[cheaper["mean"].idxmax()]
    return (
        f"{words}; of what costs less than the dense training it is "
        f"{look_of(first['treatment']).name}, {first['mean']:.1f}% for {first['total']:.2f}."
    )
