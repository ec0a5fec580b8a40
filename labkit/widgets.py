"""A control over computed results: choose a value, see its picture.

Only what works in every front end that shows ipywidgets 7.7 or newer, without threads, pyplot or
Output widgets: a picture is an image with alternative text inside an HTML widget. A slider's handle
has no accessible name, so a list with a label, linked to it, does the same.
"""

import base64
import html
import io
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import ipywidgets
from matplotlib.figure import Figure


class Drawn(Protocol):
    """What `labkit.figures` returns: a figure and what it shows in a sentence."""

    figure: Figure
    summary: str


def explore(
    draw: Callable[[Any], Drawn | Figure], label: str, options: Sequence[Any]
) -> ipywidgets.VBox:
    """A slider and a list, both named `label`, over a picture of the chosen value.

    draw: makes the picture of a value; called once per choice, and must not use pyplot. What it
    raises for the first value is raised here, and later shown in words in place of the picture.
    options: at least one value, or pair (text, value), in the order of the slider.
    Raises ValueError without options.
    """
    if not len(options):
        raise ValueError(f"options must hold at least one value to choose, not {options!r}")
    style = {"description_width": "initial"}
    slider = ipywidgets.SelectionSlider(
        options=options, description=label, continuous_update=False, style=style
    )
    choice = ipywidgets.Dropdown(options=options, description=label, style=style, index=0)
    picture = ipywidgets.HTML()

    def text() -> str:
        return f"{label} {choice.label}"

    def redraw(_: object = None) -> None:
        try:
            picture.value = image(draw(choice.value), text())
        except Exception as error:  # a callback's exceptions reach nobody
            words = html.escape(f"{text()} cannot be shown. {type(error).__name__}: {error}")
            picture.value = f'<p role="alert"><strong>{words}</strong></p>'

    ipywidgets.link((slider, "index"), (choice, "index"))
    picture.value = image(draw(choice.value), text())
    choice.observe(redraw, "index")
    return ipywidgets.VBox([ipywidgets.HBox([slider, choice]), picture])


def image(drawn: Drawn | Figure, otherwise: str) -> str:
    """A picture as HTML: an image with its summary as alternative text, and the summary below.

    otherwise: the alternative text of a bare figure, which has no summary.
    """
    figure = drawn if isinstance(drawn, Figure) else drawn.figure
    summary = "" if isinstance(drawn, Figure) else drawn.summary
    content = io.BytesIO()
    figure.savefig(
        content, format="svg", metadata={"Date": None}, facecolor="white", bbox_inches="tight"
    )
    source = base64.b64encode(content.getvalue()).decode()
    words = html.escape(summary or otherwise)
    return (
        f'<img src="data:image/svg+xml;base64,{source}" alt="{words}" '
        'style="max-width: 100%; background: white">'
        f'<p aria-live="polite">{html.escape(summary)}</p>'
    )
