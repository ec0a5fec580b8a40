"""A forest plot: how far each of several bugs shifts a number, with its interval over seeds.

Shifts differ by a factor of thousands, so the axis is linear within LINEAR points of zero and
logarithmic outside of that.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D
from matplotlib.scale import SymmetricalLogTransform
from matplotlib.ticker import FuncFormatter, NullLocator

from labkit.figures.picture import Picture, empty_axes, figure_of, legend_below

LINEAR = 0.1  # points on either side of zero
SPAN = (-10.0, 100.0)  # the least that the axis shows, so that no row moves when others come
TICKS = (-100, -10, -1, -0.1, 0, 0.1, 1, 10, 100)
SURE, UNSURE = "the interval leaves out zero", "the interval contains zero"
_COLOURS = {SURE: "#0072B2", UNSURE: "#666666"}
_AXIS = SymmetricalLogTransform(10, LINEAR, 1)


@dataclass(frozen=True)
class Shift:
    """What a bug does to a number: a paired difference over seeds, in the number's own unit.

    bug, number: what was done wrong, and what it was read on. honest, found: the number without
    and with it, means over seeds. mean, low, high: of found minus honest, with the 95% interval,
    which is nan for one seed.
    """

    bug: str
    number: str
    honest: float
    found: float
    mean: float
    low: float
    high: float
    seeds: int

    @property
    def sure(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.low > 0 or self.high < 0

    def in_words(self) -> str:
        """The shift with its interval, such as "-2.57 [-3.05, -2.10]"."""
        digits = 3 if abs(self.mean) < LINEAR else 2
        words = f"{self.mean:+.{digits}f}"
        if math.isnan(self.low):
            return words
        return f"{words} [{self.low:+.{digits}f}, {self.high:+.{digits}f}]"


def place(shift: float) -> float:
    """Where a shift stands on the axis: equal steps from power to power of ten."""
    return float(_AXIS.transform(np.array([shift]))[0])


def span(shifts: Collection[Shift]) -> tuple[float, float]:
    """The ends of an axis that shows all of them: SPAN, or more."""
    known = [end for s in shifts for end in (s.mean, s.low, s.high) if math.isfinite(end)]
    return 1.2 * min([SPAN[0], *known]), 1.2 * max([SPAN[1], *known])


def forest_of_shifts(shifts: Collection[Shift]) -> Picture:
    """A row for each shift, in their order: the mean, its 95% interval, and a line at zero.

    Raises ValueError where there are none.
    """
    if not shifts:
        raise ValueError("shifts must have at least one: measure what a bug does first")
    axes = empty_axes(8, 1.5 + 0.42 * len(shifts))
    # The words on both sides are wider than one pass of the layout foresees.
    figure_of(axes).set_layout_engine("constrained", w_pad=0.15)
    axes.axvline(0, color="#000000", lw=1, ls=":")
    for row, shift in enumerate(shifts):
        colour = _COLOURS[SURE if shift.sure else UNSURE]
        axes.hlines(row, shift.low, shift.high, color=colour, lw=1.8)
        face = colour if shift.sure else "white"
        axes.plot(shift.mean, row, "o", color=colour, mfc=face, ms=7)
        axes.annotate(shift.in_words(), (1, row), (4, 0), xycoords=axes.get_yaxis_transform(),
                      textcoords="offset points", va="center", fontsize="small")  # fmt: skip
    names = [f"{shift.bug}\n{shift.number}" for shift in shifts]
    axes.set_yticks(range(len(shifts)), names, fontsize="small", linespacing=1.1)
    axes.set_ylim(len(shifts) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    axes.set_xscale("symlog", linthresh=LINEAR)
    axes.set_xlim(*span(shifts))
    axes.set_xticks([tick for tick in TICKS if span(shifts)[0] <= tick <= span(shifts)[1]])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(f"shift by the bug (points; logarithmic beyond {LINEAR:g})")
    handles = {
        words: Line2D([], [], color=colour, marker="o", mfc=colour if words == SURE else "white")
        for words, colour in _COLOURS.items()
    }
    legend_below(figure_of(axes), handles, columns=2)
    return Picture(figure_of(axes), summary_of(shifts), table_of(shifts))


def summary_of(shifts: Collection[Shift]) -> str:
    """What the rows say: which numbers are shifted, and which are not told from zero."""
    seeds = sorted({shift.seeds for shift in shifts})
    count = " to ".join(str(n) for n in dict.fromkeys((seeds[0], seeds[-1])))
    names = {s: f"{s.bug}, {s.number.split(' (')[0]}" for s in shifts}  # without the unit
    sure = [f"{names[s]} {s.mean:+.3g}" for s in shifts if s.sure]
    unsure = [names[s] for s in shifts if not s.sure]
    parts = [f"Shifted: {'; '.join(sure)}."] if sure else []
    parts += [f"Not told from zero: {'; '.join(unsure)}."] if unsure else []
    return f"95% intervals over {count} seed{'' if seeds == [1] else 's'}. {' '.join(parts)}"


def table_of(shifts: Collection[Shift]) -> pd.DataFrame:
    """The numbers, a row for each shift."""
    columns = ("bug", "number", "honest", "with it", "shift", "95% from", "to", "seeds")
    rows = [(s.bug, s.number, s.honest, s.found, s.mean, s.low, s.high, s.seeds) for s in shifts]
    return pd.DataFrame(rows, columns=list(columns)).round(3)
