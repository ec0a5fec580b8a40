"""The stage: charts that move together through density, and what they say.

A slider, with a list beside it that has its label, chooses the density; the point of each arm, the
learning curves, what each layer keeps and the mask follow. Until a person moves it, it follows the
run. A pinned run stays, pale, behind the others.
"""

import html
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import ipywidgets

from labkit.panel.amends import named
from labkit.panel.charts import Band, Line
from labkit.panel.diagrams import loop
from labkit.panel.live import (
    View,
    accuracy_chart,
    curve_chart,
    layer_bars,
    mask_picture,
    pale,
    path_chart,
    verdict_line,
)
from labkit.panel.live_results import LiveResults
from labkit.panel.vocabulary import experiment_label

_CHART = ("1 1 330px", "520px")
_BESIDE, _BELOW = ("1 1 250px", "330px"), ("1 1 100%", "100%")  # where the smaller drawings are


@dataclass(frozen=True)
class Show:
    """What the stage is to show. behind: lines to draw pale; number: the round to start at, None
    for the latest; said: in place of the verdict; note: whose results these are.
    """

    shown: LiveResults
    from_0: LiveResults | None = None
    behind: tuple[Line, ...] = ()
    number: int | None = None
    guess: Band | None = None
    said: str = ""
    note: str = ""


class Stage:
    """`box` is what to display. moved: called when a person chooses a density or pins."""

    def __init__(self, moved: Callable[[], None]) -> None:
        self._moved, self._quiet, self._follows = moved, False, True
        self._pinned: tuple[str, tuple[Line, ...]] | None = None
        self.view: View | None = None
        self.accuracy, self.curves, self.path = (_drawing(*_CHART) for _ in range(3))
        self.loop, self.layers, self.mask = (_drawing("1 1 250px", "330px") for _ in range(3))
        self.side = ipywidgets.Box(
            [self.loop, self.layers, self.mask],
            layout=ipywidgets.Layout(
                display="flex", flex_flow="row wrap", flex=_BESIDE[0], max_width=_BESIDE[1]
            ),
        )
        self.verdict, self.note = ipywidgets.HTML(), ipywidgets.HTML()
        self._make_scrubber()
        wrapped = ipywidgets.Layout(display="flex", flex_flow="row wrap", width="100%")
        charts = ipywidgets.Box([self.accuracy, self.curves, self.path, self.side], layout=wrapped)
        scrubber = ipywidgets.Box(
            [self.density, self.slider, named("Density shown"), self.pin], layout=wrapped
        )
        self.box = ipywidgets.VBox([charts, scrubber, self.verdict, self.note])

    @property
    def pictures(self) -> list[ipywidgets.HTML]:
        """The drawings, for who shows them elsewhere, and measures them."""
        return [self.accuracy, self.curves, self.path, self.loop, self.layers, self.mask]

    def as_html(self) -> str:
        """The drawings side by side and what they say, for a page without a kernel."""
        charts = (self.accuracy, self.curves, self.path)
        side = "".join(part.value for part in (self.loop, self.layers, self.mask))
        boxes = [(_CHART, chart.value) for chart in charts] + [(_BESIDE, side)]
        drawn = side_by_side([box for box in boxes if box[1]])
        return drawn + self.verdict.value + self.note.value

    def restart(self) -> None:
        """Follow the run again: another experiment is looked at."""
        self._follows = True

    def show(self, show: Show, station: str = "") -> None:
        """Draw. station: where in the loop a run is."""
        shown = show.shown
        number = self._scrub(shown, show.number)
        pinned = self._pinned[1] if self._pinned else ()
        view = self.view = View(shown, number, show.from_0, show.behind, pinned, show.guess)
        e = shown.experiment
        stable = e.instability.copies > 0
        if e.rounds or not stable:
            self.accuracy.value, self.curves.value = accuracy_chart(view), curve_chart(view)
        else:
            self.accuracy.value, self.curves.value = path_chart(view), curve_chart(view)
        both = stable and e.rounds > 0 and shown.path_lines(number)
        self.path.value = path_chart(view) if both else ""
        self.path.layout.display = None if both else "none"
        self.side.layout.flex, self.side.layout.max_width = _BELOW if both else _BESIDE
        self.loop.value = loop(station, f"round {number} of {e.rounds}")
        self.layers.value, self.mask.value = layer_bars(view), mask_picture(view)
        befell = "".join(f" {words}." for words in shown.mishaps())
        words = (show.said or verdict_line(view)) + befell
        self.verdict.value = (
            f'<p role="status" style="margin: 2px 0; line-height: 1.4; font-size: 1.05em">'
            f"{html.escape(words)}</p>"
        )
        note = show.note
        if self._pinned:
            note = f"{note} Pinned, pale: {self._pinned[0]}."
        self.note.value = _quiet(note)

    def hide(self, words: str) -> None:
        """Show nothing yet but these words: a guess comes first."""
        self.view = None
        for picture in self.pictures:
            picture.value = ""
        self.accuracy.value = (
            f'<div style="padding: 4em 2em; text-align: center; border: 1px dashed">'
            f"{html.escape(words)}</div>"
        )
        self.verdict.value = self.note.value = ""

    # The scrubber.

    def _make_scrubber(self) -> None:
        self.density = ipywidgets.Dropdown(
            options=[("100% (dense)", 0)], description="Density shown",
            style={"description_width": "initial"}, layout=ipywidgets.Layout(width="20em"),
        )  # fmt: skip
        self.slider = ipywidgets.IntSlider(
            max=0, readout=False, layout=ipywidgets.Layout(flex="1 1 14em", max_width="40em")
        )
        self.pin = ipywidgets.ToggleButton(
            description="Pin this run", layout=ipywidgets.Layout(width="8em")
        )
        self.density.observe(lambda _: self._choose(self.density.index), "index")
        self.slider.observe(lambda change: self._choose(change["new"]), "value")
        self.pin.observe(lambda change: self._pin(change["new"]), "value")

    def _scrub(self, shown: LiveResults, number: int | None) -> int:
        """Offer the densities that are known, and say which is shown."""
        offered = [
            (f"{at:.3g}% (dense)" if not n else f"{at:.3g}% (round {n})", n)
            for n in range(shown.latest_round + 1)
            if (share := shown.density_at(n)) is not None and (at := 100 * share)
        ] or [("100% (dense)", 0)]
        present = self.density.value
        if self._follows:
            present = shown.latest_round if number is None else number
        rounds = [n for _, n in offered]
        self._quiet = True
        try:
            if list(self.density.options) != offered:
                self.density.options = offered
            self.slider.max = len(offered) - 1
            nearest = min(range(len(rounds)), key=lambda i: abs(rounds[i] - (present or 0)))
            self.density.index = self.slider.value = nearest
        finally:
            self._quiet = False
        # Of a round that trains, curves are known before a density is.
        return shown.latest_round if self._follows and number is None else rounds[nearest]

    def _choose(self, index: int | None) -> None:
        if self._quiet or index is None:
            return
        self._follows = False
        self._quiet = True
        self.density.index = self.slider.value = index
        self._quiet = False
        self._moved()

    def _pin(self, pinned: bool) -> None:
        self._pinned = None
        if pinned and self.view:
            e = self.view.shown.experiment
            name = f"{experiment_label(e)}, rewound to {e.rewind:,}"
            self._pinned = name, pale(self.view.lines())
        self.pin.description = "Unpin" if pinned else "Pin this run"
        self._moved()


def side_by_side(boxes: Iterable[tuple[tuple[str, str], str]]) -> str:
    """Boxes in a row that wraps on a narrow page. boxes: ((flex, greatest width), HTML)."""
    drawn = "".join(
        f'<div style="flex: {flex}; max-width: {most}; min-width: 0">{content}</div>'
        for (flex, most), content in boxes
    )
    return f'<div style="display: flex; flex-wrap: wrap; gap: 0.5rem">{drawn}</div>'


def _drawing(flex: str, most: str) -> ipywidgets.HTML:
    return ipywidgets.HTML(
        layout=ipywidgets.Layout(flex=flex, max_width=most, margin="0 8px 0 0", min_width="0")
    )


def _quiet(words: str) -> str:
    return (
        f'<p style="margin: 2px 0; font-size: 0.86em; line-height: 1.35">{html.escape(words)}</p>'
    )
