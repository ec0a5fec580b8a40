"""A picture of the architecture that structured pruning leaves: what each layer keeps."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from labkit.engine.networks import outline
from labkit.figures.picture import SERIES, Picture, legend_below, with_mishaps


def dense_widths(network: str) -> list[int]:
    """Units of each layer of a named network that has any to lose, input to output."""
    return list(outline(network).widths().values())


def kept_per_layer(tickets: pd.DataFrame, reference: pd.DataFrame | None = None) -> Picture:
    """How many neurons or filters each layer keeps, in front of the dense network's.

    tickets, reference: tables of `labkit.tables` with structured pruning; needed are the columns
    network, criterion, seed, round, density and widths. A small mark is a seed, a line the mean
    over seeds; the reference is pale, and has axes of its own where its network is another one.
    Raises ValueError where no whole unit has been pruned.
    """
    parts = [_arms(tickets, "this run")]
    if reference is not None:
        parts.append(_arms(reference, "reference"))
    layers = pd.concat([part for part in parts if len(part)] or parts, ignore_index=True)
    if layers.empty:
        raise ValueError("tickets must have a network without some units: prune structures first")
    networks = list(dict.fromkeys(layers["network"]))
    with sns.axes_style("whitegrid"):
        figure = Figure(figsize=(3.2 + 3.4 * len(networks), 4.2), layout="constrained")
        panels = figure.subplots(1, len(networks), squeeze=False)[0]
    handles: dict[str, Line2D] = {}
    for axes, network in zip(panels, networks, strict=True):
        sns.despine(ax=axes)
        handles |= _draw(axes, layers[layers["network"] == network])
        axes.set_title(network, fontsize="medium")
    panels[0].set_ylabel("neurons or filters")
    legend_below(figure, handles, columns=2)
    table = _means(layers)
    return with_mishaps(Picture(figure, _summary(table), table), tickets, reference)


def _arms(tickets: pd.DataFrame, run: str) -> pd.DataFrame:
    """A row per layer and seed of the networks that have lost units; treatments share them."""
    columns = ["run", "network", "criterion", "arm", "seed", "layer", "dense", "kept"]
    if "widths" not in tickets:
        return pd.DataFrame(columns=columns)
    pruned = tickets[tickets["widths"].map(lambda widths: isinstance(widths, Sequence))]
    total = pruned["widths"].map(sum)  # the same for all seeds, unlike the density
    rows = []
    alike = pruned.groupby(["network", "criterion", total], sort=False)
    for (network, criterion, _), arm in alike:
        name = f"{criterion}, {100 * arm['density'].mean():.0f}% density"
        for seed, same in arm.groupby("seed"):
            widths = zip(dense_widths(network), same["widths"].iloc[0], strict=True)
            for layer, (dense, kept) in enumerate(widths, start=1):
                rows.append((run, network, criterion, name, seed, layer, dense, kept))
    return pd.DataFrame(rows, columns=columns)


def _draw(axes: Axes, layers: pd.DataFrame) -> dict[str, Line2D]:
    dense = layers.drop_duplicates("layer").sort_values("layer")
    edges = [*(dense["layer"] - 0.5), len(dense) + 0.5]
    axes.stairs(dense["dense"], edges, fill=True, color="#DDDDDD")
    handles = {"dense network": Line2D([], [], color="#DDDDDD", lw=8)}
    for run, arms in layers.groupby("run"):  # the reference first, behind
        pale = run == "reference"
        for (_, arm), look in zip(arms.groupby("arm", sort=False), SERIES, strict=False):
            style: dict[str, Any] = {"color": look.colour, "marker": look.marker}
            style["alpha"] = 0.4 if pale else 1.0
            seeds = sorted(arm["seed"].unique())
            shift = arm["seed"].map(lambda s, seeds=seeds: _beside(s, seeds))
            axes.plot(arm["layer"] + shift, arm["kept"], ls="", ms=3, **style)
            means = arm.groupby("layer")["kept"].mean()
            line: dict[str, Any] = {"ls": look.dash, "lw": 1.2 if pale else 1.8, "ms": 6}
            axes.plot(means.index, means, **line, **style)
            label = arm["arm"].iloc[0] + ", reference" * pale
            handles[label] = Line2D([], [], **line, **style)
    axes.set_xticks(dense["layer"])
    axes.set_xlabel("layer, input to output")
    axes.grid(visible=False, axis="x")
    return handles


def _beside(seed: int, seeds: list[int]) -> float:
    """Where a seed's marks stand, beside the layer's middle."""
    return 0.08 * (seeds.index(seed) - (len(seeds) - 1) / 2)


def _means(layers: pd.DataFrame) -> pd.DataFrame:
    by = ["run", "network", "arm", "layer", "dense"]
    table = layers.groupby(by, sort=False)["kept"].agg(["mean", "min", "max", "count"])
    table = table.reset_index().rename(columns={"count": "seeds"})
    table["share"] = table["mean"] / table["dense"]
    return table


def _summary(table: pd.DataFrame) -> str:
    sentences = []
    for (run, network, arm), rows in table.groupby(["run", "network", "arm"], sort=False):
        shares = ", ".join(f"{100 * share:.0f}" for share in rows["share"])
        sentences.append(
            f"{run.capitalize()}, {network}, {arm}: layers 1 to {len(rows)} keep {shares}% of "
            "their units."
        )
    return " ".join(sentences)
