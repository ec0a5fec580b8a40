"""The lottery as a moving picture: rounds of pruning, what survives, how right the tickets are."""

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from tools.drawing.pencil import svg, text


@dataclass(frozen=True)
class Round:
    """A round of the lottery: what is left, how accurate the ticket is in %, and the number of
    surviving first-layer weights at every pixel, rows of one length.
    """

    density: float
    accuracy: float
    survivors: tuple[tuple[int, ...], ...]


def lottery(rounds: Sequence[Round], seconds: float = 1.1) -> str:
    """The picture that unites the papers, moving without a script: density falls, the map of
    surviving pixels shrinks to the digit, a dot runs along the accuracy of the tickets.

    rounds: from the dense network on; seconds: that each of them is shown. Where motion is
    unwelcome (prefers-reduced-motion), the picture stands still in the middle of the way.
    """
    count, still = len(rounds), len(rounds) // 2
    whole = seconds * (count + 2)  # the last stays longer
    low = min(r.accuracy for r in rounds)
    high = max(r.accuracy for r in rounds)
    reach = math.log(rounds[-1].density)

    def place(r: Round) -> tuple[float, float]:
        x = 350 + 335 * math.log(r.density) / reach
        return round(x, 1), round(245 - 165 * (r.accuracy - low) / (high - low), 1)

    places = [place(r) for r in rounds]
    style, frames = [], []
    for number, r in enumerate(rounds):
        start, end = number / (count + 2), (number + 1) / (count + 2)
        begin, finish = 100 * start, 100 * (end if number < count - 1 else 1.0)
        shown = f"{begin:.2f}%,{finish - 0.01:.2f}%{{visibility:visible}}"
        before = f"0%,{begin - 0.01:.2f}%{{visibility:hidden}}" if number else ""
        after = f"{finish:.2f}%,100%{{visibility:hidden}}" if number < count - 1 else ""
        style.append(f"@keyframes r{number}{{{before}{shown}{after}}}")
        style.append(f".r{number}{{animation:r{number} {whole:.1f}s step-end infinite;"
                     f"visibility:{'visible' if number == still else 'hidden'}}}")  # fmt: skip
        (x, y) = places[number]
        frames.append(
            f'<g class="r{number}"><image x="40" y="62" width="196" height="196" '
            f'style="image-rendering:pixelated" href="{_pixels(r.survivors)}"/>'
            + text(138, 290, f"{_percent(r.density)} of the weights are left", "m bold ink")
            + text(350, 48, f"round {number}: {r.accuracy:.1f}% of the digits read", "bold ink")
            + "</g>"
        )
    stops = "".join(
        f"{100 * n / (count + 2):.2f}%{{transform:translate({x}px,{y}px)}}"
        for n, (x, y) in enumerate(places)
    )
    x, y = places[-1]
    style.append(f"@keyframes run{{{stops}100%{{transform:translate({x}px,{y}px)}}}}")
    x, y = places[still]
    style.append(f".run{{transform:translate({x}px,{y}px);animation:run {whole:.1f}s infinite}}")
    style.append("@media (prefers-reduced-motion:reduce){[class^=r]{animation:none!important}}")
    line = "M" + "L".join(f"{x} {y}" for x, y in places)
    dense = places[0][1]
    parts = [
        f"<style>{''.join(style)}</style>",
        text(138, 38, "what the first layer looks at", "m soft"),
        '<rect class="faint" x="39" y="61" width="198" height="198" rx="2"/>',
        f'<path class="faint" stroke-width="2" stroke-dasharray="2 4" d="M350 {dense}H685"/>',
        '<path class="line" d="M350 70V258H690"/>',
        f'<path class="sblue" stroke-width="3" stroke-linejoin="round" d="{line}"/>',
        text(358, dense + 18, "the dense network’s level", "small soft"),
        *(
            text(350 + 335 * math.log(d) / reach, 278, f"{100 * d:g}%", "m small soft")
            for d in (1, 0.5, 0.2, 0.1, 0.05, 0.02)
            if d > rounds[-1].density
        ),
        text(518, 300, "weights left; every ticket starts at θ₀", "m soft"),
        *(
            text(343, place(Round(1, a, ()))[1] + 5, f"{a:g}%", "e small soft")
            for a in range(math.ceil(low), math.floor(high) + 1)
        ),
        *frames,
        '<g class="run"><circle class="red" r="8"/></g>',
    ]
    told = (
        f"Over {count - 1} rounds of pruning, from {_percent(1.0)} to "
        f"{_percent(rounds[-1].density)} of the weights, the surviving weights of the first layer "
        "draw together to the middle of the image, where digits are, while a dot runs along the "
        f"test accuracy of the tickets: {rounds[0].accuracy:.1f}% dense, "
        f"{high:.1f}% at best, {rounds[-1].accuracy:.1f}% at the end."
    )
    return svg("Most of a network can go: tickets of LeNet-300-100 on MNIST", told, 318, parts)


def _percent(share: float) -> str:
    return f"{100 * share:.0f}%" if share >= 0.095 else f"{100 * share:.1f}%"


def _pixels(counts: Sequence[Sequence[int]]) -> str:
    """Counts as a picture that suits both papers: the more, the less transparent. A round's own
    most is full colour: sparse ones stay visible.
    """
    most = max(1, *map(max, counts))
    size = (len(counts[0]), len(counts))
    shades = Image.frombytes("L", size, bytes(255 * n // most for row in counts for n in row))
    # Sixteen steps in a palette: a quarter of the bytes of full colour.
    image = shades.point(lambda value: value * 15 // 255)
    image = Image.frombytes("P", size, image.tobytes())
    image.putpalette([47, 141, 203] * 16)
    content = io.BytesIO()
    clear = bytes(255 * level // 15 for level in range(16))
    image.save(content, format="PNG", bits=4, transparency=clear, optimize=True)
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"
