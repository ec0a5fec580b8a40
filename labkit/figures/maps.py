"""Pictures of what a mask leaves of a layer: where its weights are, and how large they are."""

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from labkit.figures.picture import Picture, empty_axes, figure_of


def pixel_map(mask: Tensor, image_shape: tuple[int, int, int]) -> Picture:
    """How many first-layer weights survive at each input pixel, as an image.

    mask: bool, (R, out, in), of a dense first layer; replicas are summed. image_shape: C, H, W with
    C * H * W = in; channels are summed. Raises ValueError when these do not fit.
    """
    channels, height, width = image_shape
    if mask.ndim != 3 or mask.shape[2] != channels * height * width:
        raise ValueError(
            f"mask must be (R, out, {channels * height * width}) for images {image_shape}, "
            f"not {tuple(mask.shape)}"
        )
    counts = mask.sum((0, 1)).view(image_shape).sum(0).numpy()  # (H, W)
    figure = Figure(figsize=(4.2, 3.6), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(counts, cmap="viridis", vmin=0)
    axes.set_xlabel("pixel column")
    axes.set_ylabel("pixel row")
    figure.colorbar(image, label="surviving weights", ticks=MaxNLocator(integer=True))
    summary = (
        f"Surviving first-layer weights per input pixel at {100 * mask.float().mean():.1f}% "
        f"density; the middle quarter of the image holds {100 * _middle(counts):.0f}% of them."
    )
    return Picture(figure, summary, pd.DataFrame(counts))


def _middle(counts: np.ndarray) -> float:
    """The share of the middle quarter of an image (H, W), or 0 where nothing is left."""
    y, x = counts.shape[0] // 4, counts.shape[1] // 4
    total = counts.sum()
    return float(counts[y : len(counts) - y, x : counts.shape[1] - x].sum() / max(1, total))


def weight_histogram(weights: Tensor, mask: Tensor) -> Picture:
    """Distribution of a layer's weights, the surviving ones on top. Both of any one shape."""
    kept = weights[mask]
    edges = torch.linspace(float(weights.min()), float(weights.max()), 81)
    table = pd.DataFrame(
        {
            "from": edges[:-1].tolist(),
            "all": torch.histogram(weights.flatten(), edges).hist.int().tolist(),
            "surviving": torch.histogram(kept, edges).hist.int().tolist(),
        }
    )
    axes = empty_axes()
    for name, colour, hatch in (("all", "#BBBBBB", ""), ("surviving", "#0072B2", "//")):
        axes.stairs(table[name], edges.numpy(), fill=True, color=colour, hatch=hatch, label=name)
    axes.set_yscale("symlog", linthresh=10)
    axes.set_xlabel("weight")
    axes.set_ylabel("number of weights")
    axes.legend(frameon=False)
    share = 100 * len(kept) / weights.numel()
    summary = f"{share:.1f}% of the weights survive"
    if len(kept):
        summary += f"; the smallest of them has magnitude {kept.abs().min():.4f}"
    return Picture(figure_of(axes), summary + ".", table)
