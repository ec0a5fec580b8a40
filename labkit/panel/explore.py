"""A control over computed results: choose a value, see its picture.

Only what works in every front end that shows ipywidgets 7.7 or newer, without threads, pyplot or
Output widgets: a picture is an image with alternative text inside an HTML widget. A slider's handle
has no accessible name, so a list with a label, linked to it, does the same.
"""

import html
from collections.abc import Callable, Sequence
from typing import Any

import ipywidgets

from labkit.figures.picture import Picture


def explore(draw: Callable[[Any], Picture], label: str, options: Sequence[Any]) -> ipywidgets.VBox:
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

    def redraw(_: object = None) -> None:
        try:
            picture.value = draw(choice.value).to_html()
        except Exception as error:  # a callback's exceptions reach nobody
            words = f"{label} {choice.label} cannot be shown. {type(error).__name__}: {error}"
            picture.value = f'<p role="alert"><strong>{html.escape(words)}</strong></p>'

    ipywidgets.link((slider, "index"), (choice, "index"))
    picture.value = draw(choice.value).to_html()
    choice.observe(redraw, "index")
    return ipywidgets.VBox([ipywidgets.HBox([slider, choice]), picture])
