"""A picture of how far the masks of a training are from each other, and when the rule fires."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure
from torch import Tensor

from labkit.engine.earlybird import MEMORY, THRESHOLD, early_bird
from labkit.figures.picture import Picture


def mask_distance_map(
    distances: Tensor, iterations: Sequence[int], drops: Sequence[float] = ()
) -> Picture:
    """Distances between the masks of all looks as an image (You et al. 2020, figure 2).

    distances: (L, L), of one replica; iterations: of the looks, L of them. drops: iterations at
    which the learning rate falls. Raises ValueError where these do not fit.
    """
    fires = early_bird(distances)
    if len(iterations) != len(distances):
        raise ValueError(f"iterations must be {len(distances)} looks, not {len(iterations)}")
    figure = Figure(figsize=(5.6, 4.6), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(distances.numpy(), cmap="viridis_r", vmin=0, origin="lower")
    every = max(1, len(iterations) // 8)
    ticks = range(0, len(iterations), every)
    names = [f"{iterations[i]:,}" for i in ticks]
    axes.set_xticks(ticks, names, rotation=45)
    axes.set_yticks(ticks, names)
    axes.set_xlabel("iteration of one look")
    axes.set_ylabel("iteration of the other")
    for drop in drops:
        place = sum(iteration <= drop for iteration in iterations) - 0.5
        axes.axvline(place, color="#D55E00", ls="--", lw=1.5)
        axes.axhline(place, color="#D55E00", ls="--", lw=1.5)
    summary = f"Share of units of which one mask keeps and the other does not; {MEMORY} looks in a "
    summary += f"row within {THRESHOLD:g} of each other "
    if fires is None:
        summary += "do not occur."
    else:
        axes.plot(fires, fires, "*", color="#D55E00", ms=16, mec="white")
        summary += f"are there for the first time at iteration {iterations[fires]:,} (star)."
    if drops:
        words = ", ".join(f"{round(drop):,}" for drop in drops)
        summary += f" Dashed: the learning rate falls at iteration {words}."
    figure.colorbar(image, label="mask distance")
    table = pd.DataFrame(distances.numpy(), index=pd.Index(iterations, name="iteration"))
    table.columns = pd.Index(iterations)
    return Picture(figure, summary, table)
