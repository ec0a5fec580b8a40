"""The figures, each with a sentence that says what it shows and the table it was drawn from.

They are matplotlib figures without pyplot, so that drawing them in a widget's callback is safe.
Arms differ by colour, marker and line style alike; density runs from dense (left) to sparse
(right), logarithmically; bands are 95% intervals over seeds.
"""

import base64
import html
import io
from dataclasses import dataclass
from typing import Any

import pandas as pd
import seaborn as sns
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator
from torch import Tensor

from labkit.claims import interval

# Okabe & Ito's colours, told apart by colour-blind readers; dashes and markers for all others.
STYLE = {
    "dense": ("#000000", "-", "o", "dense network"),
    "rewind": ("#0072B2", "-", "o", "ticket (rewound)"),
    "reinitialise": ("#D55E00", "--", "s", "re-initialised"),
    "shuffled-mask": ("#009E73", "-.", "^", "shuffled mask"),
    "random-mask": ("#CC79A7", ":", "D", "random mask"),
    "fine-tune": ("#E69F00", (0, (5, 1)), "v", "fine-tuned"),
    "learning-rate-rewind": ("#56B4E9", (0, (1, 1)), "P", "learning rate rewound"),
}
_OTHER = ("#666666", "-", "x", None)


@dataclass
class Picture:
    """A figure, the sentence that describes it, and the numbers it shows."""

    figure: Figure
    summary: str
    table: pd.DataFrame

    def svg(self) -> str:
        """The figure as a standalone SVG string."""
        buffer = io.StringIO()
        # A fixed date and salt: the same figure is the same text every time.
        self.figure.savefig(buffer, format="svg", metadata={"Date": None}, facecolor="white")
        return buffer.getvalue()

    def _numbers(self) -> str:
        return self.table.to_html(index=False, border=0, na_rep="", max_rows=200, float_format="%g")

    def _repr_html_(self) -> str:
        image = base64.b64encode(self.svg().encode()).decode()
        text = html.escape(self.summary)
        return (
            f'<figure style="margin:0"><img alt="{text}" style="max-width:100%;background:white" '
            f'src="data:image/svg+xml;base64,{image}"><figcaption>{text}</figcaption>'
            f"<details><summary>The numbers</summary>{self._numbers()}</details></figure>"
        )


def accuracy_against_density(
    tickets: pd.DataFrame, reference: pd.DataFrame | None = None
) -> Picture:
    """Test accuracy at the early-stop iteration against density, an arm per treatment.

    tickets, reference: tables of `labkit.tables`; the reference is drawn pale, behind.
    """
    picture = _against_density(tickets, reference, "test_accuracy", "test accuracy (%)", 100)
    arms = picture.table[picture.table["treatment"] != "dense"]
    if arms.empty:
        picture.summary = "Test accuracy of the dense network; no ticket has been trained yet."
    else:
        best = arms.loc[arms["mean"].idxmax()]
        name = STYLE.get(best["treatment"], _OTHER)[3] or best["treatment"]
        picture.summary = (
            f"Test accuracy against density: the highest mean is that of the {name} network at "
            f"{100 * best['density']:.1f}% density, {best['mean']:.2f}%."
        )
    return picture


def early_stop_against_density(
    tickets: pd.DataFrame, reference: pd.DataFrame | None = None
) -> Picture:
    """Iteration of minimum validation loss against density, an arm per treatment."""
    picture = _against_density(tickets, reference, "early_stop", "early stop (iteration)", 1)
    arms = picture.table[picture.table["treatment"] == "rewind"]
    picture.summary = "Iteration of minimum validation loss against density; lower learns faster."
    if not arms.empty:
        best = arms.loc[arms["mean"].idxmin()]
        picture.summary += (
            f" The ticket is fastest at {100 * best['density']:.1f}% density, after "
            f"{best['mean']:,.0f} iterations."
        )
    return picture


def learning_curves(
    curves: pd.DataFrame, round_number: int, column: str = "validation_accuracy"
) -> Picture:
    """A column of the curves against the iteration: the dense network and the arms of a round.

    Lines are means over seeds and draws. Raises ValueError for a round that has no curves.
    """
    rows = curves[curves["round"].isin([0, round_number])]
    if round_number not in set(rows["round"]):
        known = sorted(set(curves["round"]))
        raise ValueError(f"round must be one of {known}, not {round_number!r}")
    scale = 100 if column.endswith("accuracy") else 1
    means = rows.groupby(["treatment", "iteration"], sort=False)[column].mean().mul(scale)
    table = means.reset_index(name="mean")
    axes = _axes()
    for treatment, arm in table.groupby("treatment", sort=False):
        colour, dash, _, label = STYLE.get(str(treatment), _OTHER)
        axes.plot(arm["iteration"], arm["mean"], color=colour, ls=dash, label=label or treatment)
    axes.set_xlabel("iteration")
    axes.set_ylabel(column.replace("_", " ") + (" (%)" if scale == 100 else ""))
    if scale == 100:
        last = table[table["iteration"] > 0]["mean"]
        axes.set_ylim(max(0.0, float(last.quantile(0.1)) - 3), float(last.max()) + 0.5)
    axes.legend(frameon=False)
    percent = 100 * rows.loc[rows["round"] == round_number, "density"].mean()
    ranking = table.groupby("treatment")["mean"].mean().sort_values(ascending=scale == 1)
    first = STYLE.get(str(ranking.index[0]), _OTHER)[3] or ranking.index[0]
    what = column.replace("_", " ")
    summary = f"{what.capitalize()} during training at {percent:.1f}% density: {first} leads."
    return Picture(_done(axes), summary, table)


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
    figure.colorbar(image, label="surviving weights")
    middle = counts[height // 4 : -(height // 4), width // 4 : -(width // 4)].sum() / counts.sum()
    summary = (
        f"Surviving first-layer weights per input pixel at {100 * mask.float().mean():.1f}% "
        f"density; the middle quarter of the image holds {100 * middle:.0f}% of them."
    )
    return Picture(figure, summary, pd.DataFrame(counts))


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
    axes = _axes()
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
    return Picture(_done(axes), summary + ".", table)


def summarise(tickets: pd.DataFrame, column: str, scale: float = 1) -> pd.DataFrame:
    """Mean and 95% interval over seeds per treatment and density, draws averaged first.

    The interval is nan where there is one seed.
    """
    rows = []
    for (treatment, number), arm in tickets.groupby(["treatment", "round"], sort=False):
        seeds = arm.groupby("seed")[column].mean() * scale
        low, high = interval(seeds)
        rows.append(
            {
                "treatment": treatment,
                "round": number,
                "density": arm["density"].mean(),
                "mean": seeds.mean(),
                "low": low,
                "high": high,
                "seeds": len(seeds),
            }
        )
    return pd.DataFrame(rows)


def _against_density(
    tickets: pd.DataFrame, reference: pd.DataFrame | None, column: str, label: str, scale: float
) -> Picture:
    if tickets.empty:
        raise ValueError("tickets must have at least one row: run the experiment first")
    table = summarise(tickets, column, scale)
    axes = _axes()
    if reference is not None and not reference.empty:
        _draw_arms(axes, summarise(reference, column, scale), pale=True)
    _draw_arms(axes, table, pale=False)
    axes.set_xscale("log")
    axes.invert_xaxis()
    ticks = [d for d in (1, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01) if d > 0.8 * min(tickets["density"])]
    axes.set_xticks(ticks)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{100 * x:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("density: surviving weights (%), sparser to the right")
    axes.set_ylabel(label)
    axes.legend(frameon=False, fontsize="small")
    return Picture(_done(axes), "", table)


def _draw_arms(axes: Axes, table: pd.DataFrame, pale: bool) -> None:
    dense = table[table["treatment"] == "dense"]
    for treatment, arm in table[table["treatment"] != "dense"].groupby("treatment", sort=False):
        colour, dash, marker, label = STYLE.get(str(treatment), _OTHER)
        if treatment == "rewind":  # the chain starts at the dense network
            arm = pd.concat([dense, arm])
        name = f"{label or treatment}{', reference' if pale else ''}"
        look: dict[str, Any] = {"alpha": 0.35, "lw": 1, "ms": 3} if pale else {"lw": 1.8, "ms": 5}
        axes.plot(
            arm["density"], arm["mean"], color=colour, ls=dash, marker=marker, label=name, **look
        )
        axes.fill_between(arm["density"], arm["low"], arm["high"], color=colour, alpha=0.12, lw=0)
    if not dense.empty:
        name = "dense network" + (", reference" if pale else "")
        axes.axhline(
            dense["mean"].iloc[0],
            color="#000000",
            ls=":",
            lw=1,
            label=name,
            alpha=0.4 if pale else 1,
        )


def _axes() -> Axes:
    with sns.axes_style("whitegrid"):
        return Figure(figsize=(7, 4.2), layout="constrained").subplots()


def _done(axes: Axes) -> Figure:
    sns.despine(ax=axes)
    figure = axes.figure
    assert isinstance(figure, Figure)
    return figure
