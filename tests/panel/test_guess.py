"""A guess is asked for with a label, kept beside the notebook, and drawn where the answer is."""

import json
import os
from pathlib import Path

import ipywidgets
import pandas as pd
import pytest
from matplotlib.figure import Figure

from labkit import Picture, guess, read_guesses, with_guess


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def field_of(widget: ipywidgets.VBox) -> ipywidgets.Widget:
    return widget.children[1].children[0]


def status_of(widget: ipywidgets.VBox) -> str:
    return widget.children[1].children[1].value


def kept(folder: Path) -> list[tuple[str, object]]:
    records = json.loads((folder / "guesses.json").read_text("utf-8"))
    return [(record["name"], record["guess"]) for record in records]


def number() -> "guess":
    return guess("failing", "At which density (%)?", low=0, high=100)


def choice() -> "guess":
    return guess("speed", "Sooner or later?", ["sooner", "later"])


# --- Asking ---------------------------------------------------------------------------------------


def test_in_plain_python_a_guess_is_a_value_that_can_be_set(tmp_path: Path):
    failing = number()
    assert failing.value is None
    failing.value = 12
    assert failing.value == 12.0 and "12" in repr(failing)
    assert kept(tmp_path) == [("failing", 12.0)]


@pytest.mark.parametrize(("entered", "value"), [("10", 10), (" 2.5 %", 2.5), ("0,5", 0.5)])
def test_a_number_is_read_as_people_write_it(entered: str, value: float, tmp_path: Path):
    failing = number()
    widget = failing.widget()
    field_of(widget).value = entered
    assert failing.value == value
    assert "is kept in guesses.json" in status_of(widget)
    assert kept(tmp_path) == [("failing", value)]


@pytest.mark.parametrize("entered", ["many", "101", "-1", "nan"])
def test_what_is_no_guess_is_told_and_not_kept(entered: str, tmp_path: Path):
    failing = number()
    widget = failing.widget()
    field_of(widget).value = entered
    assert failing.value is None
    assert "must be a number from 0 to 100" in status_of(widget)
    assert not (tmp_path / "guesses.json").exists()
    with pytest.raises(ValueError, match="must be one of sooner, later, not 'never'"):
        choice().value = "never"


def test_a_choice_begins_open_and_is_kept_when_made(tmp_path: Path):
    speed = choice()
    field = field_of(speed.widget())
    assert field.value is None and field.label == "choose", "what the closed list shows"
    assert not (tmp_path / "guesses.json").exists()
    field.value = "later"
    assert speed.value == "later" and kept(tmp_path) == [("speed", "later")]


@pytest.mark.parametrize("make", [number, choice], ids=["number", "choice"])
def test_the_field_is_native_and_has_a_label_and_the_question_above(make):
    asked = make()
    widget = asked.widget()
    assert isinstance(field_of(widget), ipywidgets.Text | ipywidgets.Dropdown)
    assert field_of(widget).description == "My guess"
    assert asked.question in widget.children[0].value
    assert 'aria-live="polite"' in status_of(widget)


def test_a_field_that_is_shown_again_holds_what_was_guessed():
    speed, failing = choice(), number()
    speed.value, failing.value = "sooner", 7
    assert field_of(speed.widget()).value == "sooner"
    assert field_of(failing.widget()).value == "7"


# --- Keeping --------------------------------------------------------------------------------------


def test_guesses_are_added_and_older_ones_stay(tmp_path: Path):
    for value in (1, 2):
        number().value = value
    choice().value = "later"
    assert kept(tmp_path) == [("failing", 1.0), ("failing", 2.0), ("speed", "later")]
    assert os.listdir(tmp_path) == ["guesses.json"], "no half-written file stays"


@pytest.mark.parametrize("obstacle", ["read-only", "broken", "folder"])
def test_where_it_cannot_be_kept_the_lesson_goes_on_and_says_so(
    obstacle: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    file = tmp_path / "guesses.json"
    if obstacle == "broken":
        file.write_text("[{")
    elif obstacle == "folder":
        file.mkdir()
    else:  # which root, who runs tests in containers, would not notice

        def refuse(*_: object, **__: object) -> None:
            raise PermissionError(13, "read-only")

        monkeypatch.setattr("tempfile.NamedTemporaryFile", refuse)
    failing = number()
    failing.value = 3
    assert failing.value == 3 and "is not kept: guesses.json cannot be written" in failing.said
    assert obstacle != "broken" or file.read_text() == "[{", "what somebody may repair is not lost"


def test_a_lecturer_reads_the_guesses_of_a_class(tmp_path: Path):
    for who, value in (("ada", 5), ("bob", 20)):
        (tmp_path / who / "lesson").mkdir(parents=True)
        os.chdir(tmp_path / who / "lesson")
        number().value = value
    os.chdir(tmp_path)
    table = read_guesses(tmp_path)
    assert dict(zip(table["who"], table["guess"], strict=True)) == {
        "ada/lesson": 5.0,
        "bob/lesson": 20.0,
    }
    assert set(table["question"]) == {"At which density (%)?"}
    (tmp_path / "ada" / "lesson" / "guesses.json").write_text("{}")
    with pytest.warns(UserWarning, match="left out"):
        assert list(read_guesses(tmp_path)["who"]) == ["bob/lesson"]


def test_a_class_without_guesses_is_an_empty_table(tmp_path: Path):
    assert list(read_guesses(tmp_path).columns) == ["who", "name", "question", "guess", "when"]


# --- Drawing --------------------------------------------------------------------------------------


def picture(**axes_settings: object) -> Picture:
    figure = Figure()
    figure.subplots().set(xlim=(1, 0.01), ylim=(90, 100), **axes_settings)
    return Picture(figure, "A figure.", pd.DataFrame({"a": [1]}))


@pytest.mark.parametrize(("axis", "value", "scale"), [("x", 10, 0.01), ("y", 95, 1)])
def test_a_number_is_a_marked_line_on_its_axis_and_a_sentence(
    axis: str, value: float, scale: float
):
    shown = with_guess(picture(), value, axis, scale=scale)
    (axes,) = shown.figure.axes
    (line,) = axes.lines
    data = line.get_xdata() if axis == "x" else line.get_ydata()
    assert set(data) == {value * scale}
    assert [text.get_text() for text in axes.texts] == ["your guess"]
    assert shown.summary == f"A figure. Your guess: {value}."


def test_a_guess_outside_of_the_axes_widens_them_and_keeps_their_direction():
    (axes,) = with_guess(picture(), 5, "x").figure.axes
    assert axes.get_xlim() == (5, 0.01)
    (axes,) = with_guess(picture(), 40).figure.axes
    assert axes.get_ylim() == (40, 100)


def test_zero_is_at_the_edge_of_a_logarithmic_axis():
    (axes,) = with_guess(picture(xscale="log"), 0, "x").figure.axes
    assert axes.get_xlim() == (1, 0.01) and set(axes.lines[0].get_xdata()) == {0.01}


def test_a_choice_is_a_sentence_and_no_guess_changes_nothing():
    speed, before = choice(), picture()
    assert with_guess(before, speed) is before
    speed.value = "later"
    shown = with_guess(before, speed)
    assert shown.summary == "A figure. Your guess: later." and not shown.figure.axes[0].lines
