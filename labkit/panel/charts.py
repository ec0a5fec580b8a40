"""Charts as SVG text: cheap enough to be drawn anew several times a second while a network trains.

Every line has its own colour, dash and marker, text is dark on white, and a title and a description
say what a chart shows to those who do not see it; the numbers are a table, and a file to download.
"""

import base64
import csv
import html
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from PIL import Image

from labkit.figures.picture import Look

_WIDTH, _HEIGHT = 480, 300  # of a chart without its legend, in units of the view box
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 26, 30, 46
_INK, _GRID = "#111111", "#dddddd"
_MARKERS = {  # by matplotlib's letters; around the origin, about 8 wide
    "o": '<circle r="4"/>',
    "s": '<path d="M-3.6-3.6h7.2v7.2h-7.2z"/>',
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
_MANY = 40  # points on a line; where there are more, markers would hide it


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


Row = dict[str, str | int | float | None]  # of a table: column -> value


def line_chart(title: str, summary: str, x: Axis, y: Axis, lines: Sequence[Line]) -> str:
    """Lines as one SVG element. Values that are not finite are left out; there may be none at all.

    title, summary: what the chart is, and what it shows in a sentence; both are text for a screen
    reader, and the title stands above the chart.
    """
    shown = [line for line in lines if any(map(_finite, line.points))]
    points = [point for line in shown for point in line.points if _finite(point)]
    across = _Scale(x, [p.x for p in points], _LEFT, _WIDTH - _RIGHT)
    ends = [end for p in points for end in (p.low, p.high) if end is not None]
    up = _Scale(y, [p.y for p in points] + ends, _HEIGHT - _BOTTOM, _TOP)
    ordered = sorted(shown, key=lambda line: not line.pale)
    parts = [_grid(across, up), *(_drawn(line, across, up) for line in ordered)]
    if not points:
        middle = (_LEFT + _WIDTH - _RIGHT) / 2
        parts.append(
            f'<text x="{middle}" y="{_HEIGHT / 2}" text-anchor="middle">no data yet</text>'
        )
    rows = -(-len(shown) // 2)
    parts += [_legend(line, number) for number, line in enumerate(reversed(ordered))]
    return _svg(title, summary, parts, _HEIGHT + 18 * rows)


def pixel_chart(title: str, summary: str, counts: Sequence[Sequence[int]]) -> str:
    """Counts per pixel, row by row, as one SVG element: the darker, the more. None may be below 0.

    Raises ValueError for rows that are empty or of different lengths.
    """
    if not counts or not counts[0] or len({len(row) for row in counts}) > 1:
        raise ValueError("counts must be rows of one length, at least one number each")
    most = max(1, *(max(row) for row in counts))
    height, width = len(counts), len(counts[0])
    side = _HEIGHT - _TOP - _BOTTOM
    # From white to a dark blue that a grey printer tells from it.
    shades = bytes(
        round(255 + count / most * (end - 255))
        for row in counts
        for count in row
        for end in (0, 45, 90)
    )
    source = _picture(Image.frombytes("RGB", (width, height), shades))
    key = _picture(
        Image.frombytes("RGB", (1, 2), bytes([0, 45, 90, 255, 255, 255])).resize((1, 64))
    )
    crisp = 'preserveAspectRatio="none" style="image-rendering: pixelated"'
    frame = f'fill="none" stroke="{_INK}"'
    right = _LEFT + side + 24
    parts = [
        f'<image x="{_LEFT}" y="{_TOP}" width="{side}" height="{side}" {crisp} href="{source}"/>',
        f'<rect x="{_LEFT}" y="{_TOP}" width="{side}" height="{side}" {frame}/>',
        f'<image x="{right}" y="{_TOP}" width="18" height="{side}" {crisp} href="{key}"/>',
        f'<rect x="{right}" y="{_TOP}" width="18" height="{side}" {frame}/>',
        f'<text x="{right + 24}" y="{_TOP + 10}">{most} weights survive</text>',
        f'<text x="{right + 24}" y="{_TOP + side}">none</text>',
        f'<text x="{_LEFT + side / 2}" y="{_HEIGHT - 24}" text-anchor="middle">'
        f"pixel column, 0 to {width - 1}</text>",
        f'<text transform="translate({_LEFT - 12} {_TOP + side / 2}) rotate(-90)" '
        f'text-anchor="middle">pixel row, 0 to {height - 1}, downwards</text>',
    ]
    return _svg(title, summary, parts, _HEIGHT)


def table(caption: str, rows: Sequence[Row]) -> str:
    """Rows as an HTML table to unfold, its columns those of the first row."""
    if not rows:
        return ""
    cell = 'style="border: 1px solid #bbb; padding: 2px 8px; text-align: right"'
    head = "".join(f'<th scope="col" {cell}>{html.escape(name)}</th>' for name in rows[0])
    body = "".join(
        "<tr>" + "".join(f"<td {cell}>{_number(value)}</td>" for value in row.values()) + "</tr>"
        for row in rows
    )
    words = html.escape(caption)
    return (
        f"<details><summary>{words}: the numbers</summary>"
        f'<table style="border-collapse: collapse; color: {_INK}; background: white">'
        f"<caption>{words}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        "</details>"
    )


def download(name: str, rows: Sequence[Row]) -> str:
    """A link that saves rows as a CSV file of this name."""
    if not rows:
        return ""
    file = io.StringIO()
    writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    content = base64.b64encode(file.getvalue().encode()).decode()
    words = html.escape(name)
    return f'<a download="{words}" href="data:text/csv;base64,{content}">Download {words}</a>'


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

    def __call__(self, value: float) -> float:
        if self.axis.density:
            share = math.log(max(value, 1e-6)) / math.log(self.high)
        else:
            share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)

    def words(self, tick: float) -> str:
        if self.axis.density:
            return f"{100 * tick:g}%"
        return f"{round(tick, 6):,g}" if abs(tick) < 1e6 else f"{tick:.0e}"


def _nice(step: float) -> float:
    """The step of 1, 2 or 5 times a power of ten that is at least this."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= step * 0.999)


def _grid(across: _Scale, up: _Scale) -> str:
    left, right, bottom, top = across.start, across.end, up.start, up.end
    parts = []
    for tick in across.ticks:
        x, words = across(tick), across.words(tick)
        parts.append(f'<path d="M{x} {bottom}V{top}" stroke="{_GRID}"/>')
        parts.append(f'<text x="{x}" y="{bottom + 16}" text-anchor="middle">{words}</text>')
    for tick in up.ticks:
        y, words = up(tick), up.words(tick)
        parts.append(f'<path d="M{left} {y}H{right}" stroke="{_GRID}"/>')
        parts.append(f'<text x="{left - 6}" y="{y + 4}" text-anchor="end">{words}</text>')
    middle = (left + right) / 2
    parts.append(f'<path d="M{left} {top}V{bottom}H{right}" fill="none" stroke="{_INK}"/>')
    label = html.escape(across.axis.label)
    parts.append(f'<text x="{middle}" y="{bottom + 36}" text-anchor="middle">{label}</text>')
    label = html.escape(up.axis.label)
    turned = f'transform="translate(14 {(bottom + top) / 2}) rotate(-90)"'
    parts.append(f'<text {turned} text-anchor="middle">{label}</text>')
    return "".join(parts)


def _drawn(line: Line, across: _Scale, up: _Scale) -> str:
    points = [point for point in line.points if _finite(point)]
    places = [(across(point.x), up(point.y)) for point in points]
    path = "M" + "L".join(f"{x} {y}" for x, y in places)
    width = 1.2 if line.pale else 2
    parts = [f'<path d="{path}" fill="none" stroke-width="{width}" {_dash(line.look)}/>']
    for point, (x, _) in zip(points, places, strict=True):
        if point.low is not None and point.high is not None and math.isfinite(point.high):
            bar = f"M{x} {up(point.low)}V{up(point.high)}"
            parts.append(f'<path d="{bar}" stroke-width="1" fill="none"/>')
    if len(places) <= _MANY:
        parts += [f'<g transform="translate({x} {y})">{_marker(line.look)}</g>' for x, y in places]
    return _group(line, "".join(parts))


def _legend(line: Line, number: int) -> str:
    x = 20 + number % 2 * (_WIDTH // 2 - 10)
    y = _HEIGHT + 8 + 18 * (number // 2)
    sample = f'<path d="M{x} {y}h34" stroke-width="2" fill="none" {_dash(line.look)}/>'
    sample += f'<g transform="translate({x + 17} {y})">{_marker(line.look)}</g>'
    name = html.escape(line.name)
    return f'{_group(line, sample)}<text x="{x + 42}" y="{y + 4}">{name}</text>'


def _group(line: Line, parts: str) -> str:
    opacity = ' opacity="0.4"' if line.pale else ""
    colour = line.look.colour
    return f'<g stroke="{colour}" fill="{colour}"{opacity}>{parts}</g>'


def _dash(look: Look) -> str:
    return f'stroke-dasharray="{look.svg_dash}"' if look.svg_dash else ""


def _marker(look: Look) -> str:
    return _MARKERS.get(look.marker, _MARKERS["o"])


def _svg(title: str, summary: str, parts: Iterable[str], height: float) -> str:
    name, words = html.escape(title), html.escape(summary)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" viewBox="0 0 {_WIDTH} {height:g}" '
        f'style="width: 100%; max-width: {_WIDTH}px; background: white" '
        f'font-family="system-ui, sans-serif" font-size="13" fill="{_INK}" stroke-linejoin="round">'
        f"<title>{name}</title><desc>{words}</desc>"
        f'<rect width="{_WIDTH}" height="{height:g}" fill="white"/>'
        f'<text x="{_WIDTH / 2}" y="18" text-anchor="middle" font-weight="bold">{name}</text>'
        f"{''.join(parts)}</svg>"
    )


def _picture(image: Image.Image) -> str:
    content = io.BytesIO()
    image.save(content, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"


def _finite(point: Point) -> bool:
    return math.isfinite(point.x) and math.isfinite(point.y)


def _number(value: str | int | float | None) -> str:
    if value is None:
        return ""
    return html.escape(value) if isinstance(value, str) else f"{value:.6g}"
