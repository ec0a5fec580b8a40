"""A guess before the experiment: asked for once, kept in the notebook's folder, drawn where the
answer is.

    failing = guess("first failure", "At which density (%) will it fail?", low=0, high=100)
    with_guess(picture, failing, axis="x")  # a picture as before, with a marked line
    read_guesses("submitted")  # a lecturer's table of a class

In a notebook a guess shows as a field with a label; in plain Python it is a value to be set.
"""

import html
import json
import math
import os
import tempfile
import warnings
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import ipywidgets
import pandas as pd
from IPython.display import display

from labkit.figures.picture import Picture

FILE = "guesses.json"
Value = float | str
_LOOK: dict[str, Any] = {"color": "#7A0177", "lw": 2, "ls": (0, (1, 1.5))}  # of no arm of a figure


class Guess:
    """One question and what was guessed. value: None until then; setting it keeps it in FILE in the
    working directory, which for a notebook is its own folder.

    Raises ValueError for what is not among the options, or no number from low to high.
    """

    def __init__(
        self, name: str, question: str, options: Sequence[str], low: float, high: float
    ) -> None:
        self.name, self.question = name, question
        self.options, self.low, self.high = tuple(options), low, high
        self.said = "No guess yet."
        self.guessed: Callable[[], None] = lambda: None  # called after every guess
        self._value: Value | None = None
        self._status = ipywidgets.HTML()

    @property
    def value(self) -> Value | None:
        return self._value

    @value.setter
    def value(self, guessed: object) -> None:
        self._value = self._checked(guessed)
        try:
            _append(Path(FILE), self._record())
            self.said = f"{_words(self._value)} is kept in {FILE}."
        except (OSError, ValueError) as error:  # a lesson goes on, wherever it is opened
            self.said = f"{_words(self._value)} is not kept: {FILE} cannot be written ({error})."
        self._tell()
        self.guessed()

    def __repr__(self) -> str:
        return f"{self.question} {self.said}"

    def _ipython_display_(self) -> None:
        display(self.widget())

    def widget(self) -> ipywidgets.VBox:
        """The question over a native field that has it as its label, and what became of it."""
        look = {"style": {"description_width": "initial"}, "layout": {"width": "max-content"}}
        field: ipywidgets.Widget
        if self.options:
            choices = [("choose", None), *((option, option) for option in self.options)]
            known: list[Value | None] = [None, *self.options]
            at = known.index(self._value)  # where nothing is chosen, "choose" is to be seen
            field = ipywidgets.Dropdown(options=choices, index=at, description="My guess", **look)
        else:
            shown = "" if self._value is None else _words(self._value)
            field = ipywidgets.Text(
                value=shown, placeholder="a number", description="My guess", **look
            )
            field.continuous_update = False
        field.observe(lambda change: self._take(change["new"]), "value")
        self._tell()
        question = ipywidgets.HTML(f"<strong>{html.escape(self.question)}</strong>")
        return ipywidgets.VBox([question, ipywidgets.HBox([field, self._status])])

    def _take(self, entered: str | None) -> None:
        """What was entered in the field; a callback's exceptions reach nobody."""
        if entered in (None, ""):
            return
        try:
            self.value = entered
        except ValueError as error:
            self.said = f"{error}"
            self._tell()

    def _tell(self) -> None:
        self._status.value = f'<span aria-live="polite">{html.escape(self.said)}</span>'

    def _checked(self, guessed: object) -> Value:
        if self.options:
            if guessed not in self.options:
                raise ValueError(f"guess must be one of {', '.join(self.options)}, not {guessed!r}")
            return str(guessed)
        try:
            number = float(str(guessed).strip().rstrip("%").replace(",", "."))
        except ValueError:
            number = math.nan
        if not self.low <= number <= self.high:
            span = f"from {self.low:g} to {self.high:g}"
            raise ValueError(f"guess must be a number {span}, not {guessed!r}")
        return number

    def _record(self) -> dict[str, Any]:
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        return {"name": self.name, "question": self.question, "guess": self._value, "when": now}


def _words(value: Value) -> str:
    return value if isinstance(value, str) else f"{value:g}"


def guess(
    name: str,
    question: str,
    options: Sequence[str] = (),
    *,
    low: float = -math.inf,
    high: float = math.inf,
) -> Guess:
    """A field for a guess: one of the options, or without them a number from low to high.

    name: what the guess is kept under, the same for the whole class. question: says the unit.
    """
    return Guess(name, question, options, low, high)


def with_guess(
    picture: Picture,
    guessed: Guess | Value | None,
    axis: str = "y",
    *,
    scale: float = 1,
    panel: int = 0,
) -> Picture:
    """The picture with a guess in it: a number as a dotted line, marked "your guess", a choice as a
    sentence below. Without a guess yet, the picture as it is.

    axis: "x" or "y", the one that the number is read on. scale: from the guess's unit to that
    axis's, such as 0.01 for per cent on an axis of shares. panel: which of the figure's axes.
    """
    value = guessed.value if isinstance(guessed, Guess) else guessed
    if value is None:
        return picture
    if not isinstance(value, str):
        _draw(picture.figure.axes[panel], axis, value * scale)
    said = f"{picture.summary} Your guess: {_words(value)}."
    return Picture(picture.figure, said, picture.table)


def _draw(axes: Any, axis: str, place: float) -> None:
    """A line across the axes, which are widened where it would be outside of them."""
    limits = getattr(axes, f"get_{axis}lim")()
    if getattr(axes, f"get_{axis}scale")() == "log" and place <= 0:
        place = min(limits)  # where such an axis shows 0, or would
    low, high = min(*limits, place), max(*limits, place)
    ends = (low, high) if limits[0] <= limits[1] else (high, low)
    getattr(axes, f"set_{axis}lim")(*ends)
    where: dict[str, Any]
    if axis == "x":
        axes.axvline(place, **_LOOK)
        at, away, transform = (place, 0.98), (-3, 0), axes.get_xaxis_transform()
        where = {"rotation": 90, "va": "top", "ha": "right"}
    else:
        axes.axhline(place, **_LOOK)
        at, away, transform = (0.02, place), (0, 2), axes.get_yaxis_transform()
        where = {"va": "bottom", "ha": "left"}
    look = {"color": _LOOK["color"], "fontsize": "small", "textcoords": "offset points"}
    axes.annotate("your guess", at, away, xycoords=transform, **look, **where)


def read_guesses(folder: Path | str = ".") -> pd.DataFrame:
    """All guesses in the folders below this one, a row each, in the order they were made.

    Columns: who (the folder that FILE lies in, such as a student's of nbgrader's `submitted`),
    name, question, guess, when. A file that cannot be read is left out with a warning.
    """
    rows = []
    for path in sorted(Path(folder).rglob(FILE)):
        try:
            records = _read(path)
        except (OSError, ValueError) as error:
            warnings.warn(f"{path} is left out: {error}", stacklevel=2)
            continue
        who = path.parent.relative_to(folder).as_posix()
        rows += [{"who": who, **record} for record in records]
    columns = ["who", "name", "question", "guess", "when"]
    return pd.DataFrame(rows, columns=columns).sort_values("when", ignore_index=True)


def _append(path: Path, record: dict[str, Any]) -> None:
    """Add a record. The file is replaced as a whole, so that nobody ever reads half of one."""
    records = [*(_read(path) if path.exists() else []), record]
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", dir=path.absolute().parent, suffix=".part", delete=False
    ) as part:
        json.dump(records, part, indent=1, ensure_ascii=False)
    try:
        os.chmod(part.name, 0o644)  # temporary files are for their owner alone; the class is not
        os.replace(part.name, path)
    except OSError:
        os.unlink(part.name)
        raise


def _read(path: Path) -> list[dict[str, Any]]:
    records = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(records, list) or not all(isinstance(one, dict) for one in records):
        raise ValueError(f"{path} holds no list of guesses")
    return records
