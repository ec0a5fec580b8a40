"""Masks by where they come from, beside the same masks shuffled, with new weights and at random."""

from typing import Any

import pandas as pd
from matplotlib.lines import Line2D

from labkit.experiments.statistics import over_seeds
from labkit.figures.picture import Picture, empty_axes, figure_of, legend_below, look_of

CHECKS = ("rewind", "reinitialise", "shuffled-mask", "random-mask")
NEAR = 0.1  # relative, between densities that count as one


def origin(row: pd.Series) -> str:
    """Where the mask of a row of the tables comes from, in words."""
    if row["at"] == "0":
        return f"{row['criterion']}, before training"
    if row["at"] == "end":
        return "ticket, iterative" if row["cut"] < 0.5 else "ticket, one-shot"
    return f"{row['criterion']}, at iteration {row['at']}"


def sanity_checks(
    tickets: pd.DataFrame | None, reference: pd.DataFrame | None = None, density: float = 0.028
) -> Picture:
    """Test accuracy after the last iteration of masks from before and after training, each with the
    checks of Frankle et al. 2021 (section 5) that were run: new weights, shuffled, random.

    tickets, reference: tables of `labkit.tables`, of a study such as "drawing"; a reference
    behind tickets is pale. density: the rows nearest to it are drawn. Bars are 95% intervals over
    seeds.
    Raises ValueError where no mask of that density has a check.
    """
    both = {"reference": reference, "this run": tickets}
    known = {name: _by_origin(t, density) for name, t in both.items() if t is not None and len(t)}
    known = {name: table for name, table in known.items() if len(table)}
    if not known:
        raise ValueError(f"tickets must have masks of {density:.1%} with their checks")
    first = next(iter(known.values()))
    ranked = first[first["treatment"] == "rewind"].sort_values("mean")["mask"].tolist()
    axes, handles = empty_axes(8, 1.4 + 0.55 * len(ranked)), {}
    for name, table in known.items():
        pale = name == "reference" and len(known) > 1
        for row in table[table["mask"].isin(ranked)].to_dict("records"):
            look = look_of(row["treatment"])
            place = ranked.index(row["mask"]) + 0.15 * (1.5 - CHECKS.index(row["treatment"]))
            mark: dict[str, Any] = {"color": look.colour, "marker": look.marker, "ls": ""}
            alpha = 0.4 if pale else 1
            axes.plot(row["mean"], place, ms=5 if pale else 8, alpha=alpha, **mark)
            axes.hlines(place, row["low"], row["high"], color=look.colour, alpha=alpha / 2, lw=1.5)
            name_of_check = "as it is" if row["treatment"] == "rewind" else look.name
            handles[name_of_check] = Line2D([], [], ms=7, **mark)
    axes.set_yticks(range(len(ranked)), ranked)
    axes.set_ylim(-0.5, len(ranked) - 0.5)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("test accuracy after the last iteration (%)")
    legend_below(figure_of(axes), handles, columns=4)
    table = pd.concat(known, names=["run", ""])
    return Picture(figure_of(axes), _summary(first, next(iter(known)), ranked, density), table)


def _by_origin(tickets: pd.DataFrame, density: float) -> pd.DataFrame:
    """Mean accuracy by mask and check, of masks of this density that have checks."""
    near = (tickets["density"] / density - 1).abs() < NEAR
    rows = tickets[near & tickets["treatment"].isin(CHECKS)]
    checked = rows.groupby("chain")["treatment"].transform("nunique") > 1
    rows = rows[checked]
    if rows.empty:
        return rows
    rows = rows.assign(mask=rows.apply(origin, axis=1))
    return over_seeds(rows, ["mask", "treatment"], "final_test_accuracy", 100)


def _summary(table: pd.DataFrame, name: str, ranked: list[str], density: float) -> str:
    means = table.set_index(["mask", "treatment"])["mean"].unstack()
    if "shuffled-mask" not in means:
        return f"Masks of {density:.1%} density and their checks, {name}."
    lost = means["rewind"] - means["shuffled-mask"]
    words = "; ".join(f"{mask} {lost[mask]:+.1f}" for mask in reversed(ranked))
    return (
        f"Masks of {density:.1%} density and their checks. What a mask loses in points when it "
        f"is shuffled within its layers, {name}: {words}."
    )
