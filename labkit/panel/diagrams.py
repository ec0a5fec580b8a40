"""Diagrams as SVG text: the loop of the hypothesis, what each layer keeps, and the mask."""

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from labkit.panel.charts import GRID, INK, PAPER, QUIET, svg

_WIDTH = 280
_BLUE, _BAR = "#0072B2", "#2B8CC4"  # the latter is told from paper light and dark
_ROWS = 8  # layers that have a bar of their own


@dataclass(frozen=True)
class Layer:
    """What a layer keeps: `kept` of `total` weights or units."""

    name: str
    kept: float
    total: int


def loop(station: str, words: str) -> str:
    """The loop train, prune, rewind with one station marked.

    station: one of these three words, or "" for none. words: where it stands: "round 2 of 5".
    """
    places = {"train": 6, "prune": 103, "rewind": 200}
    parts = [
        f'<defs><marker id="lk-a" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        f'markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z" fill="{QUIET}"/></marker></defs>',
        f'<g stroke="{QUIET}" fill="none" stroke-width="1.5" marker-end="url(#lk-a)">'
        '<path d="M81 40H101"/></g>'
        f'<g stroke="{QUIET}" fill="none" stroke-width="1.5"><path marker-end="url(#lk-a)" '
        'd="M178 40H198"/><path marker-end="url(#lk-a)" d="M237 55V69H44V57"/></g>',
    ]
    for name, x in places.items():
        here = name == station
        fill, ink = (_BLUE, "#fff") if here else (PAPER, INK)
        edge = _BLUE if here else QUIET
        parts.append(
            f'<rect x="{x}" y="26" width="74" height="28" rx="14" fill="{fill}" stroke="{edge}" '
            f'stroke-width="1.5"/><text x="{x + 37}" y="44" text-anchor="middle" fill="{ink}" '
            f'font-weight="{600 if here else 400}">{name}</text>'
        )
    parts.append(
        f'<text x="140" y="83" text-anchor="middle" fill="{QUIET}" font-size="11">'
        f"{html.escape(words)}</text>"
    )
    now = f"now: {station}" if station else "not running"
    return svg("The loop", f"Train, prune, rewind, and again; {now}, {words}.", parts, 88, _WIDTH)


def bars(title: str, layers: Sequence[Layer]) -> str:
    """What each layer keeps, as a bar in an outline as long as the whole layer."""
    shown = list(layers[:_ROWS])
    parts = []
    for number, layer in enumerate(shown):
        y, share = 26 + 17 * number, layer.kept / max(1, layer.total)
        words = html.escape(f"{layer.name}: {layer.kept:,.0f} of {layer.total:,} ({share:.1%})")
        parts.append(
            f'<g><title>{words}</title><text x="4" y="{y + 11}">{html.escape(layer.name)}</text>'
            f'<rect x="62" y="{y + 2}" width="100" height="10" fill="{GRID}"/>'
            f'<rect x="62" y="{y + 2}" width="{100 * share:.1f}" height="10" fill="{_BAR}"/>'
            f'<text x="168" y="{y + 11}" fill="{QUIET}">{layer.kept:,.0f} ({share:.1%})</text></g>'
        )
    height = 30 + 17 * len(shown)
    if more := len(layers) - len(shown):
        parts.append(f'<text x="70" y="{height + 8}" fill="{QUIET}">and {more} more</text>')
        height += 16
    told = "; ".join(f"{layer.name} {layer.kept:,.0f} of {layer.total:,}" for layer in layers)
    return svg(title, f"{told}.", parts, height, _WIDTH)


def pixels(title: str, summary: str, counts: Sequence[Sequence[float]]) -> str:
    """Counts per pixel, or per filter, row by row: the darker, the more. None may be below 0.

    Raises ValueError for rows that are empty or of different lengths.
    """
    if not counts or not counts[0] or len({len(row) for row in counts}) > 1:
        raise ValueError("counts must be rows of one length, at least one number each")
    most = max(1, *(max(row) for row in counts))
    height, width = len(counts), len(counts[0])
    # From white to a dark blue that a grey printer tells from it.
    shades = bytes(
        round(255 + count / most * (end - 255))
        for row in counts
        for count in row
        for end in (0, 45, 90)
    )
    source = _png(Image.frombytes("RGB", (width, height), shades))
    high = 104
    wide = min(180, high * width / height)  # which leaves room for the words
    parts = [
        f'<image x="4" y="24" width="{wide:g}" height="{high}" preserveAspectRatio="none" '
        f'style="image-rendering: pixelated" href="{source}"/>'
        f'<rect x="4" y="24" width="{wide:g}" height="{high}" fill="none" stroke="{QUIET}"/>',
        f'<g fill="{QUIET}" font-size="11"><rect x="{wide + 14:g}" y="26" width="10" height="10" '
        f'fill="#002d5a" stroke="{QUIET}"/>'
        f'<text x="{wide + 29:g}" y="35">{most:,.0f} survive</text>'
        f'<rect x="{wide + 14:g}" y="44" width="10" height="10" fill="#fff" stroke="{QUIET}"/>'
        f'<text x="{wide + 29:g}" y="53">none</text></g>',
    ]
    return svg(title, summary, parts, high + 30, _WIDTH)


def _png(image: Image.Image) -> str:
    content = io.BytesIO()
    image.save(content, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"
