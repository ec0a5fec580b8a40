"""A board of switches over a forest plot: a row appears when its bug is switched on."""

import html
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

import ipywidgets

from labkit.figures.shifts import (
    LINEAR,
    TICKS,
    UNSURE,
    Shift,
    forest_of_shifts,
    place,
    span,
    summary_of,
)
from labkit.panel.charts import GRID, PAPER, QUIET, WIDTH, svg

_LEFT, _RIGHT, _TOP, _ROW = 190, 14, 34, 36  # of the rows' lines, in units of the view box
_BLUE = "#2B8CC4"  # told from paper light and dark
_ALL = "All of them"
NOTHING = "Nothing is switched on: every number is the honest one."


class Switchboard:
    """A box to tick for each bug, and under them the rows of those that are ticked, in the
    order in which they were. Without a front end it is the whole plot.

    shifts: at least one; a bug may shift several numbers. Raises ValueError without any.
    """

    def __init__(self, shifts: Collection[Shift]) -> None:
        if not shifts:
            raise ValueError("shifts must have at least one: measure what a bug does first")
        self.shifts = tuple(shifts)
        self.chart = ipywidgets.HTML(layout=ipywidgets.Layout(max_width="640px"))
        self.switches = {
            name: ipywidgets.Checkbox(
                description=name, indent=False, layout=ipywidgets.Layout(width="13em")
            )
            for name in dict.fromkeys(shift.bug for shift in shifts)
        }
        self.all = ipywidgets.ToggleButton(
            description=_ALL, layout=ipywidgets.Layout(width="9em", margin="4px 0")
        )
        self._on: list[str] = []
        for name, switch in self.switches.items():
            switch.observe(lambda change, name=name: self._switch(name, change["new"]), "value")
        self.all.observe(lambda change: self._switch_all(change["new"]), "value")
        wrapped = ipywidgets.Layout(display="flex", flex_flow="row wrap", max_width="640px")
        self.widget = ipywidgets.VBox(
            [ipywidgets.Box([*self.switches.values(), self.all], layout=wrapped), self.chart]
        )
        self._draw()

    @property
    def shown(self) -> list[Shift]:
        """The rows, the bug that was switched on last at the end."""
        return [shift for name in self._on for shift in self.shifts if shift.bug == name]

    def _switch(self, name: str, on: bool) -> None:
        self._on = [other for other in self._on if other != name] + [name] * on
        self._draw()

    def _switch_all(self, on: bool) -> None:
        for switch in self.switches.values():
            switch.value = on

    def _draw(self) -> None:
        self.chart.value = forest_chart(self.shown)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        return {
            "application/vnd.jupyter.widget-view+json": {
                "version_major": 2,
                "version_minor": 0,
                "model_id": self.widget.model_id,
            },
            "text/html": forest_of_shifts(self.shifts).to_html(),
            "text/plain": summary_of(self.shifts),
        }


def forest_chart(shifts: Sequence[Shift]) -> str:
    """A forest plot as one SVG element, in the page's own colours; there may be no row at all."""
    title = "How far each bug shifts the number"
    if not shifts:
        words = f'<text x="4" y="{_TOP + 14}" fill="{QUIET}">{NOTHING}</text>'
        return svg(title, NOTHING, [words], _TOP + 24)
    low, high = (place(end) for end in span(shifts))

    def across(shift: float) -> float:
        share = (place(shift) - low) / (high - low)
        return round(_LEFT + share * (WIDTH - _RIGHT - _LEFT), 1)

    bottom = _TOP + _ROW * len(shifts)
    inside = [tick for tick in TICKS if low <= place(tick) <= high]
    axis = _axis(((tick, across(tick)) for tick in inside), bottom)
    rows = [_row(shift, _TOP + _ROW * n, across) for n, shift in enumerate(shifts)]
    return svg(title, summary_of(shifts), [axis, *rows], bottom + 54)


def _axis(ticks: Iterable[tuple[float, float]], bottom: float) -> str:
    parts = []
    for tick, x in ticks:
        look = f'stroke="{GRID}"' if tick else f'stroke="{QUIET}" stroke-dasharray="2 3"'
        parts.append(
            f'<path d="M{x} {_TOP - 6}V{bottom}" {look}/><text x="{x}" y="{bottom + 14}" '
            f'text-anchor="middle" font-size="10.5">{tick:g}</text>'
        )
    words = (f"shift (points; logarithmic beyond {LINEAR:g})", f"hollow: {UNSURE}")
    parts += [
        f'<text x="{WIDTH - 4}" y="{bottom + y}" text-anchor="end" font-size="11">{said}</text>'
        for y, said in zip((31, 47), words, strict=True)
    ]
    return f'<g fill="{QUIET}">{"".join(parts)}</g>'


def _row(shift: Shift, top: float, across: Callable[[float], float]) -> str:
    colour = _BLUE if shift.sure else QUIET
    face = _BLUE if shift.sure else PAPER
    said = f"{shift.bug}, {shift.number}: {shift.in_words()}"
    x, y = across(shift.mean), top + 22
    # A single seed has no interval.
    bar = f"M{across(shift.low)} {y}H{across(shift.high)}" if shift.low <= shift.high else ""
    anchor, at = ("end", WIDTH - 4) if x > (_LEFT + WIDTH) / 2 else ("start", _LEFT)
    return (
        f'<g class="lk-p" tabindex="0" role="img" aria-label="{html.escape(said)}">'
        f"<title>{html.escape(said)}</title>"
        f'<text x="4" y="{top + 13}" font-weight="600">{html.escape(shift.bug)}</text>'
        f'<text x="4" y="{top + 27}" font-size="11" fill="{QUIET}">{html.escape(shift.number)}'
        f'</text><path d="{bar}" stroke="{colour}" stroke-width="2"/>'
        f'<circle cx="{x}" cy="{y}" r="4.5" stroke="{colour}" stroke-width="2" fill="{face}"/>'
        f'<text x="{at}" y="{top + 11}" text-anchor="{anchor}" font-size="10.5" fill="{QUIET}" '
        f'stroke="{PAPER}" stroke-width="3" paint-order="stroke">'
        f"{html.escape(shift.in_words())}</text></g>"
    )
