"""A picture: a figure, a sentence that says what it shows, and the numbers it was drawn from.

They are matplotlib figures without pyplot, so that drawing them in a widget's callback is safe.
"""

import base64
import html
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from labkit.experiments.mishaps import told

ROWS = 200  # of a table, where a page shows it
ALARM = "#B00020"  # of what a reader must not miss; it is said in words


@dataclass(frozen=True)
class Look:
    """How a line is told from others: by colour, dashes and marker alike. name: in a legend.

    dash, marker: matplotlib's; of the markers o s ^ v < > D h P X * x.
    """

    colour: str = "#666666"
    dash: Any = "-"
    marker: str = "x"
    name: str = ""

    @property
    def line(self) -> dict[str, Any]:
        """Arguments of matplotlib's `plot` and `Line2D`."""
        return {"color": self.colour, "ls": self.dash, "marker": self.marker}

    @property
    def svg_dash(self) -> str:
        """SVG's stroke-dasharray."""
        if isinstance(self.dash, str):
            return {"-": "", "--": "8 4", "-.": "8 3 2 3", ":": "2 3"}[self.dash]
        return " ".join(f"{1.5 * length:g}" for length in self.dash[1])


# Okabe & Ito's colours, told apart by colour-blind readers; dashes and markers for all others.
# Colours return only in arms that no preset draws together.
ARMS = {
    "dense": Look("#000000", ":", "*", "dense network"),
    "rewind": Look("#0072B2", "-", "o", "ticket (rewound)"),
    "reinitialise": Look("#D55E00", "--", "s", "re-initialised"),
    "shuffled-mask": Look("#009E73", "-.", "^", "shuffled mask"),
    "random-mask": Look("#CC79A7", (0, (3, 1, 1, 1, 1, 1)), "D", "random mask"),
    "fine-tune": Look("#E69F00", (0, (12, 3)), "v", "fine-tuned"),
    "fine-tune-quarter": Look("#8C510A", (0, (12, 3, 1, 3)), "<", "fine-tuned, a quarter"),
    "learning-rate-rewind": Look("#56B4E9", (0, (5, 1)), "P", "learning rate rewound"),
    "scratch-e": Look("#D55E00", (0, (2, 2)), "X", "Scratch-E"),
    "scratch-b": Look("#009E73", (0, (6, 2, 2, 2, 2, 2)), "h", "Scratch-B"),
    "scratch-b-uncapped": Look("#56B4E9", (0, (6, 2, 2, 2)), "H", "Scratch-B, uncapped"),
    "scratch-rescaled": Look("#CC79A7", (0, (4, 4)), ">", "scratch, re-scaled"),
    "signs": Look("#56B4E9", "-", "P", "signs, one magnitude"),
    "random-signs": Look("#CC79A7", (0, (1, 2)), "v", "random signs, one magnitude"),
    "fresh-signs": Look("#009E73", (0, (8, 2)), "^", "signs, new magnitudes"),
    "reshuffled": Look("#E69F00", (0, (2, 1)), "<", "reshuffled weights"),
    "reshuffled-signs": Look("#8C510A", (0, (8, 2, 1, 2)), ">", "reshuffled, own signs"),
    "frozen": Look("#666666", (0, (5, 2)), "X", "removed ones frozen, not zero"),
    "untrained": Look("#E69F00", "-", "s", "untrained"),
    "untrained-signs": Look("#009E73", "-", "D", "untrained, signs alone"),
    "untrained-random": Look("#CC79A7", ":", "h", "untrained, random mask"),
    "pruned": Look("#666666", ":", "<", "pruned, not trained again"),
}
SERIES = (  # of lines that are no arms, in their order: settings, layers, splits
    Look("#0072B2", "-", "o"),
    Look("#D55E00", "--", "s"),
    Look("#009E73", "-.", "^"),
    Look("#CC79A7", ":", "D"),
    Look("#E69F00", (0, (6, 2, 1, 2, 1, 2)), "v"),
    Look("#000000", (0, (12, 3)), "P"),
)


def look_of(treatment: object) -> Look:
    """The look of an arm, the same in every figure and in the panel."""
    name = str(treatment)
    return ARMS.get(name, Look(name=name))


@dataclass
class Picture:
    """A figure, the sentence that describes it, and the numbers it shows."""

    figure: Figure
    summary: str
    table: pd.DataFrame

    def svg(self) -> str:
        """The figure as a standalone SVG string."""
        buffer = io.StringIO()
        # Without a date and with fixed names inside, the same figure is the same text every time.
        with rc_context({"svg.hashsalt": "labkit"}):
            self.figure.savefig(buffer, format="svg", metadata={"Date": None}, facecolor="white")
        return buffer.getvalue()

    def _numbers(self) -> str:
        named = not isinstance(self.table.index, pd.RangeIndex)
        table = with_whole_numbers(self.table)
        return table.to_html(index=named, border=0, na_rep="", max_rows=ROWS, float_format="%.6g")

    def to_html(self) -> str:
        """What a notebook, a widget and a report show: an image, its text, the table on request."""
        image = base64.b64encode(self.svg().encode()).decode()
        text = html.escape(self.summary)
        return (
            '<figure style="margin:0;max-width:52rem"><img '
            f'src="data:image/svg+xml;base64,{image}" alt="{text}" '
            'style="max-width:100%;background:white">'
            f'<figcaption aria-live="polite">{text}</figcaption>'
            f"<details><summary>The numbers</summary>{self._numbers()}</details></figure>"
        )

    _repr_html_ = to_html


def with_mishaps(
    picture: Picture, drawn: pd.DataFrame | None, reference: pd.DataFrame | None = None
) -> Picture:
    """The picture, which says above its axes and in its summary what went wrong without an error in
    the networks of the tables that it draws: nothing where all is well.
    """
    own, behind = (told(rows) if rows is not None else [] for rows in (drawn, reference))
    words = [*own, *(f"In the reference {some}" for some in behind)]
    if words:
        picture.summary += f" {'. '.join(words)}."
        picture.figure.suptitle("\n".join(words), fontsize="small", color=ALARM)
    return picture


def with_whole_numbers(table: pd.DataFrame) -> pd.DataFrame:
    """The table with its counts as whole numbers, in words: a count becomes 389216.0 where one is
    missing, or a mean of equal ones was taken.
    """
    shown = table.copy()
    for name, column in table.select_dtypes("float").items():
        if column.dropna().mod(1).eq(0).all():
            shown[name] = ["" if pd.isna(value) else f"{value:.0f}" for value in column]
    return shown


def empty_axes(width: float = 7, height: float = 4.2) -> Axes:
    """Axes of a new figure with a light grid. width, height: of the figure, in inches."""
    with sns.axes_style("whitegrid"):
        axes = Figure(figsize=(width, height), layout="constrained").subplots()
    sns.despine(ax=axes)
    return axes


def figure_of(axes: Axes) -> Figure:
    """The figure that axes made by `empty_axes` belong to."""
    figure = axes.figure
    assert isinstance(figure, Figure)
    return figure


def legend_below(figure: Figure, handles: Mapping[str, Artist], columns: int) -> None:
    """A legend under the axes. handles: label -> what it names. columns: labels side by side."""
    figure.legend(
        list(handles.values()),
        list(handles),
        loc="outside lower center",
        ncols=columns,
        handlelength=3,
        frameon=False,
        fontsize="small",
    )
