"""A control over results shows the picture of what is chosen, in pixels and in words."""

from typing import Any

import ipywidgets
import pandas as pd
import pytest
from matplotlib.figure import Figure

from labkit.figures.picture import Picture
from labkit.panel.explore import explore

DENSITIES = [("100%", 1.0), ("21%", 0.21), ("<1%", 0.009)]


def draw(density: float) -> Picture:
    figure = Figure(figsize=(1, 1))
    figure.subplots().plot([0, density])
    return Picture(
        figure, f"A line up to {density}, drawn as <line>.", pd.DataFrame({"density": [density]})
    )


def parts(widget: ipywidgets.VBox) -> tuple[Any, Any, Any]:
    """The slider, the list and the picture."""
    controls, picture = widget.children
    return *controls.children, picture


def test_the_first_value_is_drawn_at_once():
    _, choice, picture = parts(explore(draw, "Density", DENSITIES))
    assert choice.value == 1.0
    assert "up to 1.0" in picture.value


@pytest.mark.parametrize("position", [0, 1], ids=["slider", "list"])
def test_slider_and_list_move_each_other_and_the_picture(position: int):
    slider, choice, picture = parts(explore(draw, "Density", DENSITIES))
    before = picture.value
    (slider, choice)[position].index = 1
    assert slider.value == choice.value == 0.21
    assert picture.value != before and "up to 0.21" in picture.value


def test_both_controls_have_a_name_and_the_slider_waits_for_the_release():
    slider, choice, _ = parts(explore(draw, "Density", DENSITIES))
    assert slider.description == choice.description == "Density"
    assert slider.continuous_update is False


def test_the_picture_comes_with_its_summary_and_its_numbers():
    _, _, picture = parts(explore(draw, "Density", DENSITIES))
    assert picture.value == draw(1.0).to_html()


def test_each_choice_is_drawn_once():
    seen = []
    slider, choice, _ = parts(explore(lambda d: seen.append(d) or draw(d), "Density", DENSITIES))
    slider.index = 1
    choice.index = 2
    assert seen == [1.0, 0.21, 0.009]


def test_plain_values_are_options_too_even_equal_ones():
    slider, _, picture = parts(explore(draw, "Round", (0, 3, 3)))
    slider.index = 2
    assert "up to 3" in picture.value


def fails_below_one(density: float) -> Picture:
    if density < 1:
        raise ValueError("no weights <left>")
    return draw(density)


def test_an_error_is_shown_in_words_and_the_next_choice_works_again():
    slider, _, picture = parts(explore(fails_below_one, "Density", DENSITIES))
    slider.index = 1
    assert "Density 21% cannot be shown. ValueError: no weights &lt;left&gt;" in picture.value
    assert "<img" not in picture.value and 'role="alert"' in picture.value
    slider.index = 0
    assert "<img" in picture.value


def test_an_error_in_the_first_picture_is_raised():
    with pytest.raises(ValueError, match="no weights"):
        explore(fails_below_one, "Density", DENSITIES[1:])


def test_no_options_are_refused():
    with pytest.raises(ValueError, match="options must hold at least one value"):
        explore(draw, "Density", [])
