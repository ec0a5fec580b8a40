"""What a ticket costs: the arithmetic of finding it, and what each of its trainings then saves."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from labkit.figures.picture import SERIES, Picture, empty_axes, figure_of, legend_below

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
    return Picture(figure_of(axes), _in_words(table), table)


def _ticks_of(axes: Axes, densities: Sequence[float]) -> None:
    shown = [d for i, d in enumerate(densities) if i % max(1, len(densities) // 6) == 0]
    axes.set_xticks(shown, [f"{100 * d:.3g}%" for d in shown])
    axes.minorticks_off()


def _in_words(table: pd.DataFrame) -> str:
    last = table.iloc[-1]
    return (
        f"A ticket of {100 * last['density']:.3g}% density costs {last['iterative']:.2f} trainings "
        "of the dense network if it is found little by little, and 1 in one shot, where zeros cost "
        f"nothing. Each of its trainings then costs {last['use']:.3f} of the dense one, so the "
        f"search has paid after {last['iterative_pays']:.1f} of them, or after "
        f"{last['one_shot_pays']:.1f}. Where masks multiply by zeros, it never has."
    )
