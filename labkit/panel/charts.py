"""Charts as SVG text, in the page's own colours: the one drawing stack for live pictures.

Drawn by string formatting, a chart takes 0.3 to 3 ms and 3 to 10 kB, where matplotlib's takes 83 to
124 ms and 67 kB, and a front-end component (anywidget with a bundled plotting library) would have
to be fetched or shipped for Lab, Notebook, VS Code, Voila and Colab alike. Hover and focus need no
script: a <title> is the browser's own tooltip, and a point in focus shows its label by a style.

Every line has its own colour, dash and marker; a title and a description say what a chart shows to
those who do not see it.
"""

import html
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from labkit.figures.picture import Look

WIDTH, HEIGHT = 400, 236  # of a chart without its legend, in units of the view box
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 20, 30, 40
INK, PAPER = "var(--jp-content-font-color1, #1a1a1a)", "var(--jp-layout-color0, #fff)"
GRID, QUIET = "var(--jp-border-color2, #e0e0e0)", "var(--jp-content-font-color2, #555)"
GUESS = "#A5268F"  # of no arm
_MARKERS = {  # by matplotlib's letters; around the origin, about 8 wide
    "o": '<circle r="3.6"/>',
    "s": '<path d="M-3.4-3.4h6.8v6.8h-6.8z"/>',
    "^": '<path d="M0-4.6L4.4 3.4H-4.4z"/>',
    "v": '<path d="M0 4.6L4.4-3.4H-4.4z"/>',
    "<": '<path d="M-4.6 0L3.4-4.4V4.4z"/>',
    ">": '<path d="M4.6 0L-3.4-4.4V4.4z"/>',
    "D": '<path d="M0-5L5 0L0 5L-5 0z"/>',
    "H": '<path d="M-4.6 0L-2.3-4H2.3L4.6 0L2.3 4H-2.3z"/>',
    "h": '<path d="M0-4.6L4-2.3V2.3L0 4.6L-4 2.3V-2.3z"/>',
    "P": '<path d="M-1.5-4.5h3v3h3v3h-3v3h-3v-3h-3v-3h3z"/>',
    "X": '<path d="M-4-4L4 4M4-4L-4 4" fill="none" stroke-width="2.5"/>',
    "*": '<path d="M0-5.5L1.5-1.6H5.4L2.3 0.9L3.4 4.8L0 2.5L-3.4 4.8L-2.3 0.9L-5.4-1.6H-1.5z"/>',
}
PLAIN = Look(marker="o")
_MANY = 30  # points on a line; where there are more, markers would hide it
_MOST = 110  # points that are drawn of a line: one for every three units of width
_LETTER = 6.3  # width of a letter, on average, rather too much than too little
# A point shows its label while it is in focus; a pointer gets the browser's own tooltip.
_STYLE = (
    "<style>.lk-p .l{opacity:0;paint-order:stroke;stroke-width:4px}"
    ".lk-p:focus .l,.lk-p:hover .l{opacity:1}.lk-p:focus{outline:2px solid currentColor}</style>"
)


@dataclass(frozen=True)
class Point:
    """A value at a place. low, high: the ends of its interval, or None where there is none."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Line:
    """A named row of points. pale: a line to compare with, drawn behind the others."""

    name: str
    points: tuple[Point, ...]
    look: Look = PLAIN
    pale: bool = False


@dataclass(frozen=True)
class Axis:
    """label: with the unit. density: a logarithmic axis from 1 (left) to sparse (right), in %.

    span: the least that it shows; None is what the points need.
    """

    label: str
    density: bool = False
    span: tuple[float, float] | None = None


@dataclass(frozen=True)
class Band:
    """A guess: at x, y is between low and high, which may be infinite."""

    x: float
    low: float
    high: float
    words: str = "your guess"


def line_chart(
    title: str,
    summary: str,
    x: Axis,
    y: Axis,
    lines: Sequence[Line],
    at: float | None = None,
    guess: Band | None = None,
) -> str:
    """Lines as one SVG element. Values that are not finite are left out; there may be none at all.

    title, summary: what the chart is, and what it shows in a sentence; both are text for a screen
    reader, and the title stands above the chart. at: the x that is looked at: its points are larger
    and can be reached by the keyboard.
    """
    shown = [line for line in lines if any(map(_finite, line.points))]
    points = [point for line in shown for point in line.points if _finite(point)]
    ends = [end for p in points for end in (p.low, p.high) if end is not None]
    ends += [end for end in (guess.low, guess.high) if math.isfinite(end)] if guess else []
    across = _Scale(x, [p.x for p in points], _LEFT, WIDTH - _RIGHT)
    up = _Scale(y, [p.y for p in points] + ends, HEIGHT - _BOTTOM, _TOP)
    ordered = sorted(shown, key=lambda line: not line.pale)
    parts = [_STYLE, _grid(across, up)]
    if at is not None and points:
        parts.append(
            f'<path d="M{across(at)} {up.start}V{up.end}" stroke="{QUIET}" stroke-dasharray="2 3"/>'
        )
    parts += [_band(guess, across, up)] if guess and points else []
    parts += [_drawn(line, across, up, at) for line in ordered]
    if not points:
        middle = (_LEFT + WIDTH - _RIGHT) / 2
        parts.append(
            f'<text x="{middle}" y="{HEIGHT / 2}" text-anchor="middle" fill="{QUIET}">'
            "nothing to show yet</text>"
        )
    legend, height = _legend(ordered)
    return svg(title, summary, [*parts, legend], HEIGHT + height)


def svg(title: str, summary: str, parts: Iterable[str], height: float, width: float = WIDTH) -> str:
    """A drawing with a title, a description for who does not see it, and the page's colours."""
    name, words = html.escape(title), html.escape(summary)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" viewBox="0 0 {width} {height:g}" '
        f'aria-label="{name}. {words}" '
        f'style="display:block;width:100%;background:{PAPER};color:{INK}" '
        'font-family="system-ui, sans-serif" font-size="12" fill="currentColor" '
        'stroke-linejoin="round">'
        f"<desc>{words}</desc>"
        f'<text x="{_LEFT if width == WIDTH else 4}" y="16" font-weight="600" font-size="13">'
        f"{name}</text>{''.join(parts)}</svg>"
    )


class _Scale:
    """From values to places along an axis, and the values that get a tick."""

    def __init__(self, axis: Axis, values: Iterable[float], start: float, end: float) -> None:
        self.axis, self.start, self.end = axis, start, end
        known = [*values, *(axis.span or ())]
        if axis.density:
            self.low, self.high = 1.0, min([0.5, *(v for v in known if v > 0)])
            ticks = (1, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001)
            self.ticks = [tick for tick in ticks if tick >= self.high]
        else:
            low, high = (min(known), max(known)) if known else (0.0, 100.0)
            step = _nice((high - low) / 4 or 1.0)
            self.low, self.high = step * math.floor(low / step), step * math.ceil(high / step)
            if self.low == self.high:
                self.high += step
            count = round((self.high - self.low) / step)
            self.ticks = [self.low + step * number for number in range(count + 1)]
            if axis.span and high > low:  # an axis of fixed length ends where that ends
                self.low, self.high = low, high
                self.ticks = [tick for tick in self.ticks if low <= tick <= high]

    def __call__(self, value: float) -> float:
        if self.axis.density:
            share = math.log(max(value, 1e-6)) / math.log(self.high)
        else:
            share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)

    def words(self, tick: float) -> str:
        if self.axis.density:
            return f"{100 * tick:.3g}%"
        return f"{round(tick, 6):,g}" if abs(tick) < 1e6 else f"{tick:.0e}"


def _nice(step: float) -> float:
    """The step of 1, 2 or 5 times a power of ten that is at least this."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= step * 0.999)


def _grid(across: _Scale, up: _Scale) -> str:
    left, right, bottom, top = across.start, across.end, up.start, up.end
    lines = "".join(f"M{across(t)} {bottom}V{top}" for t in across.ticks)
    lines += "".join(f"M{left} {up(t)}H{right}" for t in up.ticks)
    words = "".join(
        f'<text x="{across(t)}" y="{bottom + 15}" text-anchor="middle">{across.words(t)}</text>'
        for t in across.ticks
    )
    words += "".join(
        f'<text x="{left - 6}" y="{up(t) + 4}" text-anchor="end">{up.words(t)}</text>'
        for t in up.ticks
    )
    middle = (left + right) / 2
    below, beside = html.escape(across.axis.label), html.escape(up.axis.label)
    return (
        f'<path d="{lines}" stroke="{GRID}" fill="none"/><g fill="{QUIET}">{words}'
        f'<text x="{middle}" y="{bottom + 32}" text-anchor="middle">{below}</text>'
        f'<text x="{right}" y="{top - 14}" text-anchor="end" font-size="11">{beside}</text></g>'
    )


def _band(guess: Band, across: _Scale, up: _Scale) -> str:
    low = max(up.low, min(guess.low, up.high))
    high = max(up.low, min(guess.high, up.high))
    x, top, bottom = across(guess.x), up(high), up(low)
    left = max(across.start, x - 9)
    anchor, beside = ("end", left - 4) if x > 200 else ("start", left + 22)
    # Not beside the band, where lines are, but at the edge that is further from it.
    at = up.end + 10 if top - up.end > up.start - bottom else up.start - 6
    return (
        f'<g fill="{GUESS}"><rect x="{left}" y="{top - 1:g}" width="18" '
        f'height="{bottom - top + 2:g}" rx="3" opacity="0.35"/><text x="{beside}" y="{at:g}" '
        f'text-anchor="{anchor}" font-weight="600" stroke="{PAPER}" stroke-width="4" '
        f'paint-order="stroke">{html.escape(guess.words)}</text></g>'
    )


def _drawn(line: Line, across: _Scale, up: _Scale, at: float | None) -> str:
    points = [point for point in line.points if _finite(point)]
    places = [(across(point.x), up(point.y)) for point in points]
    thin = places[:: max(1, -(-len(places) // _MOST))]
    path = "M" + "L".join(f"{x} {y}" for x, y in thin)
    width = 1.2 if line.pale else 2
    parts = [f'<path d="{path}" fill="none" stroke-width="{width}" {_dash(line.look)}/>']
    bars = "".join(
        f"M{x} {up(point.low)}V{up(point.high)}"
        for point, (x, _) in zip(points, places, strict=True)
        if point.low is not None and point.high is not None and math.isfinite(point.high)
    )
    parts += [f'<path d="{bars}" stroke-width="1" fill="none"/>'] if bars else []
    if len(places) <= _MANY:
        for point, (x, y) in zip(points, places, strict=True):
            here = at is not None and not line.pale and abs(point.x - at) <= 1e-9 + 0.01 * at
            parts.append(_marked(line, point, x, y, across, here))
    return _group(line, "".join(parts))


def _marked(line: Line, point: Point, x: float, y: float, across: _Scale, here: bool) -> str:
    """A point, with its values where a pointer or the keyboard asks for them."""
    marker = _MARKERS.get(line.look.marker, _MARKERS["o"])
    if line.pale:
        return f'<g transform="translate({x} {y})">{marker}</g>'
    place = across.words(point.x) if across.axis.density else f"{point.x:,g}"
    words = html.escape(f"{line.name} at {place}: {_with_interval(point)}")
    if not here:
        return f'<g transform="translate({x} {y})"><title>{words}</title>{marker}</g>'
    shift, anchor = (-8, "end") if x > WIDTH / 2 else (8, "start")
    return (
        f'<g class="lk-p" tabindex="0" role="img" aria-label="{words}" '
        f'transform="translate({x} {y})"><title>{words}</title>'
        f'<g transform="scale(1.5)">{marker}</g>'
        f'<text class="l" x="{shift}" y="-6" text-anchor="{anchor}" stroke="{PAPER}" '
        f'font-weight="600">{_with_interval(point)}</text></g>'
    )


def _with_interval(point: Point) -> str:
    if point.low is None or point.high is None or not math.isfinite(point.high):
        return f"{point.y:.2f}"
    return f"{point.y:.2f} [{point.low:.2f}, {point.high:.2f}]"


def _legend(lines: Sequence[Line]) -> tuple[str, int]:
    """A sample and a name for each line, in as many columns as the longest name leaves room for;
    and the height that takes. A line and its pale twin share an entry.
    """
    named = {line.name: line for line in reversed(lines)}
    named |= {line.name: line for line in lines if not line.pale}
    longest = max((len(name) for name in named), default=0) * _LETTER + 44
    columns = max(1, min(3, int((WIDTH - 10) // longest))) if named else 1
    parts = []
    for number, line in enumerate(named.values()):
        x = 10 + number % columns * ((WIDTH - 10) / columns)
        y = HEIGHT + 8 + 17 * (number // columns)
        sample = f'<path d="M{x:g} {y}h26" stroke-width="2" fill="none" {_dash(line.look)}/>'
        marker = _MARKERS.get(line.look.marker, _MARKERS["o"])
        sample += f'<g transform="translate({x + 13:g} {y})">{marker}</g>'
        text = f'<text x="{x + 33:g}" y="{y + 4}">{html.escape(line.name)}</text>'
        parts.append(_group(line, sample) + text)
    return "".join(parts), 17 * -(-len(named) // columns) + 2


def _group(line: Line, parts: str) -> str:
    opacity = ' opacity="0.38"' if line.pale else ""
    colour = "currentColor" if line.look.colour == "#000000" else line.look.colour
    return f'<g stroke="{colour}" fill="{colour}"{opacity}>{parts}</g>'


def _dash(look: Look) -> str:
    return f'stroke-dasharray="{look.svg_dash}"' if look.svg_dash else ""


def _finite(point: Point) -> bool:
    return math.isfinite(point.x) and math.isfinite(point.y)
