"""Pictures of ideas: a mask, the loop, the arms, holes, two copies, and where three papers stand.

Every picture is a pure function that returns SVG text with a title and a description. It brings its
own paper, light or dark as the reader's system is, so that it can be read on any page. The letters
are the papers': theta_0 at initialisation, theta_k at iteration k, theta_T trained, m the mask.
"""

import base64
import html
import io
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from PIL import Image

from labkit.base.places import bundled
from labkit.base.validation import choice

FOLDER = "ideas"  # of the drawn pictures, beside the lessons
WIDTH = 720
_STYLE = """
.paper{fill:#fff}.ink{fill:#1b1f24}.soft{fill:#59636e}.line{stroke:#1b1f24;fill:none}
.faint{stroke:#c4cad1;fill:none}.cell{stroke:#8b949e}.gone{fill:#fff;stroke:#c4cad1}
.blue{fill:#0072b2}.red{fill:#c24e00}.green{fill:#00795a}
.sblue{stroke:#0072b2;fill:none}.sred{stroke:#c24e00;fill:none}.sgreen{stroke:#00795a;fill:none}
.band{fill:#0072b2;opacity:.14}
@media (prefers-color-scheme:dark){
.paper{fill:#14181d}.ink{fill:#e8ecf0}.soft{fill:#a9b4bf}.line{stroke:#e8ecf0}
.faint{stroke:#48515b}.cell{stroke:#768390}.gone{fill:#14181d;stroke:#48515b}
.blue{fill:#5bb8ee}.red{fill:#ff9a5c}.green{fill:#3fcf9f}
.sblue{stroke:#5bb8ee}.sred{stroke:#ff9a5c}.sgreen{stroke:#3fcf9f}
.band{fill:#5bb8ee;opacity:.2}}
text{font:15px system-ui,-apple-system,"Segoe UI",Helvetica,Arial,sans-serif}
.big{font-size:18px;font-weight:600}.bold{font-weight:600}.small{font-size:13px}.tiny{font-size:12px}
.maths{font:italic 18px Georgia,"Times New Roman",serif}
.m{text-anchor:middle}.e{text-anchor:end}
"""
_KEPT = ("1101", "0110", "1011", "0101", "1110")  # a mask of five neurons with four inputs each
_SHUFFLED = ("0111", "1101", "0110", "1010", "0111")  # as many survivors, elsewhere


@dataclass(frozen=True)
class Idea:
    """A drawn picture of an idea. svg: its text, with a title and a description.

    A notebook holds it in the output of a cell, whole: that shows in every front end, before the
    cell is run and wherever the notebook is opened alone. Markdown does not: Colab resolves no path
    and no attachment (colabtools issues 3836 and 2092), JupyterLab draws no SVG that is attached
    (issue 10464), and an address needs a network.
    """

    svg: str

    @property
    def words(self) -> str:
        """What it shows, for who does not see it."""
        found = re.search(r"<title>(.*?)</title><desc>(.*?)</desc>", self.svg)
        return ". ".join(map(html.unescape, found.groups())) if found else ""

    def _repr_html_(self) -> str:
        # An image, which JupyterLab shows of a notebook that it does not trust yet, too.
        image = base64.b64encode(self.svg.encode()).decode()
        return (
            f'<img src="data:image/svg+xml;base64,{image}" alt="{html.escape(self.words)}" '
            'style="max-width: 100%">'
        )

    def __repr__(self) -> str:
        return f"A picture. {self.words}"


def idea(name: str) -> Idea:
    """A picture of an idea, as it came with the lab. Raises ValueError for an unknown name."""
    folder = bundled("notebooks") / FOLDER
    choice("name", name, sorted(path.stem for path in folder.glob("*.svg")))
    return Idea((folder / f"{name}.svg").read_text("utf-8"))


@dataclass(frozen=True)
class Cell:
    """What was measured at one place of the map, in points with a 95% interval.

    rate: of SGD; epochs: length of the training; density: share of weights that is left.
    about: "new weights" (ticket minus the same mask with new weights) or "dense" (ticket minus
    dense network).
    """

    network: str
    rate: float
    epochs: float
    density: float
    about: str
    low: float
    high: float


@dataclass(frozen=True)
class Round:
    """A round of the lottery: what is left, how accurate the ticket is in %, and the number of
    surviving first-layer weights at every pixel, rows of one length.
    """

    density: float
    accuracy: float
    survivors: tuple[tuple[int, ...], ...]


def mask() -> str:
    """A network, and the same with the weights that its mask leaves (Frankle & Carbin 2019)."""
    parts = [
        _text(130, 30, "the network", "big m"), _text(360, 30, "its weights and mask", "big m"),
        _text(595, 30, "what is trained again", "big m"),
    ]  # fmt: skip
    parts += [_network(40, whole=True), _network(505, whole=False)]
    for column, row in _places():
        kept = _KEPT[row][column] == "1"  # the large ones
        strength = 0.6 * kept + 0.1 + 0.3 * abs(math.sin(3.1 * row + 1.7 * column))
        x, y = 258 + 24 * column, 78 + 24 * row
        parts.append(_rect(x, y, 22, 22, "blue", f'opacity="{strength:.2f}"'))
        parts.append(_rect(x + 114, y, 22, 22, "gone cell" if not kept else "ink"))
        style = "small m paper" if kept else "small m soft"
        parts.append(_text(x + 125, y + 16, _KEPT[row][column], style))
    parts += [_text(305, 66, "θ", "maths m ink"), _text(419, 66, "m", "maths m ink")]
    parts.append(_text(363, 143, "⊙", "big m ink"))
    left = sum(row.count("1") for row in _KEPT)
    words = f"{left} of 20 weights survive: density {left / 20:.0%}"
    parts.append(_text(360, 238, words, "m soft"))
    parts.append(_text(360, 268, "f (x; m ⊙ θ)", "maths m ink"))
    told = (
        "On the left a network of four inputs and five neurons with all its connections; in the "
        "middle the matrix of its weights, theta, times a mask m of zeros and ones; on the right "
        "the same network with the connections that survive. A mask does not move, add or shrink "
        "anything: it only says which weights are held at zero."
    )
    return _svg("A network and its mask", told, 286, parts)


def loop() -> str:
    """Train, prune, rewind, and again (Frankle et al. 2020, section 4; k = 0: Frankle & Carbin)."""
    left, k, right, y = 90, 210, 610, 90
    parts = [
        f'<path class="line" stroke-width="3" d="M{left} {y}H{right}"/>',
        f'<path class="sblue" stroke-width="5" d="M{k} {y}H{right}"/>',
        _text((k + right) / 2, y - 16, "1  train", "big m blue"),
        _text(right + 14, y + 78, "2  prune", "big red"),
        _text(310, 190, "3  rewind", "big m green"),
        _text(left, y + 34, "0", "m soft"), _text(k, y + 34, "k", "maths m soft"),
        _text(right, y + 34, "T", "maths m soft"),
        _text((k + right) / 2, y + 34, "iterations", "m soft"),
    ]  # fmt: skip
    for x, below in ((left, "0"), (k, "k"), (right, "T")):
        parts.append(f'<circle class="paper line" stroke-width="3" cx="{x}" cy="{y}" r="9"/>')
        parts.append(f'<circle class="ink" cx="{x}" cy="{y}" r="4"/>')
        parts.append(_theta(x, y - 26, below))
    for column, row in _places():
        kept = _KEPT[row][column] == "1"
        x, top = 446 + 18 * column, 160 + 18 * row
        parts.append(_rect(x, top, 16, 16, "red" if kept else "gone"))
    parts += [
        _arrow(f"M{right} {y + 48}Q{right} 205 540 205", "red"),
        _arrow(f"M430 205H{k + 40}Q{k} 205 {k} {y + 52}", "green"),
        _text(434, 172, "m", "maths e ink"),
        _text(490, 274, "the smallest of |θ| go", "m soft"),
        _text(310, 230, "survivors go back to", "m soft"),
        _text(310, 250, "their values at k", "m soft"),
        _theta(310, 276, "k", before="m ⊙ "),
    ]
    told = (
        "A line of training from iteration 0 over k to T, with the weights theta_0, theta_k and "
        "theta_T. Step 1: train. Step 2: the smallest weights at the end are pruned, which gives a "
        "mask m. Step 3: the survivors are rewound, set back to their values at iteration k, and "
        "trained again. Each turn leaves fewer. With k = 0 that is the first paper's procedure."
    )
    return _svg("Train, prune, rewind, and again", told, 296, parts)


def arms(chosen: Sequence[tuple[str, str, str, str]]) -> str:
    """Arms side by side. chosen: name in words, and the mask, weights and schedule that
    `labkit.Treatment` gives it. Raises ValueError for a choice that has no picture.
    """
    looks = {"rewound": ("blue", "rewound to k"), "final": ("green", "kept, trained"),
             "fresh": ("red", "drawn anew")}  # fmt: skip
    masks = {"ticket": (_KEPT, "the ticket’s"), "shuffled": (_SHUFFLED, "shuffled")}
    schedules = {"rewound": "from k on", "restarted": "from 0 on", "last": "the last rate"}
    step = (WIDTH - 110) / len(chosen)
    parts = [
        _text(16, 112, "mask", "big ink"), _text(16, 222, "weights", "big ink"),
        _text(16, 307, "schedule", "big ink"),
    ]  # fmt: skip
    for number, (name, which, weights, schedule) in enumerate(chosen):
        for value, known in ((which, masks), (weights, looks), (schedule, schedules)):
            if value not in known:
                raise ValueError(f"an arm must have one of {', '.join(known)}, not {value!r}")
        middle = 110 + step * (number + 0.5)
        grid, told = masks[which]
        colour, source = looks[weights]
        first, _, rest = name.rpartition(" ")
        parts += [_text(middle, 28, first, "m ink bold"), _text(middle, 48, rest, "m ink bold")]
        for column, row in _places():
            kept = grid[row][column] == "1"
            for top in (66, 182):
                if top == 182 and row > 2:
                    continue
                x, y = middle - 36 + 18 * column, top + 18 * row
                filled = ("ink" if top == 66 else colour) if kept else "gone"
                parts.append(_rect(x, y, 16, 16, filled))
        parts += [
            _text(middle, 172, told, "small m soft"),
            _text(middle, 252, source, "small m soft"),
        ]
        parts.append(_schedule(middle, schedule, "s" + colour))
        parts.append(_text(middle, 348, schedules[schedule], "small m soft"))
    words = "; ".join(
        f"{name}: {masks[which][1]} mask, weights {looks[weights][1]}, learning rate "
        f"{schedules[schedule]}"
        for name, which, weights, schedule in chosen
    ).replace("’", "'")
    told = f"What each arm is made of, so that a comparison changes one thing only. {words}."
    return _svg("Arms: which mask, which weights, which schedule", told, 364, parts)


def holes() -> str:
    """Single weights removed leave holes; whole neurons removed leave a narrower matrix."""
    parts = [
        _text(185, 30, "single weights: holes", "big m ink"),
        _text(536, 30, "whole neurons: a narrower matrix", "big m ink"),
    ]
    for row in range(8):
        for column in range(8):
            kept = math.sin(12.9898 * row + 78.233 * column) * 43758.5453 % 1 < 3 / 8
            x, y = 101 + 21 * column, 64 + 21 * row
            parts.append(_rect(x, y, 19, 19, "blue" if kept else "gone"))
    stays = (1, 4, 6)  # of eight neurons
    for row in range(8):
        for column in range(8):
            parts.append(_rect(380 + 11 * column, 76 + 18 * row, 9, 16, _stays(row in stays)))
            if column < 5:
                place = (496 + 11 * row, 100 + 18 * column, 9, 16)
                parts.append(_rect(*place, _stays(row in stays)))
    for row in range(3):
        for column in range(8):
            parts.append(_rect(620 + 9 * column, 112 + 18 * row, 7, 16, "green"))
    for column in range(3):
        for row in range(5):
            parts.append(_rect(634 + 15 * column, 186 - 12 + 12 * row, 13, 10, "green"))
    parts += [
        _arrow("M592 145H612", "green"),
        _text(424, 64, "its layer: rows", "small m soft"),
        _text(538, 212, "the next: columns", "small m soft"),
        _text(185, 256, "the shape stays,", "m soft"),
        _text(185, 276, "and zeros are multiplied too", "m soft"),
        _text(536, 256, "fewer rows here, fewer columns there:", "m soft"),
        _text(536, 276, "really less arithmetic", "m soft"),
    ]
    told = (
        "Left: a matrix of eight by eight with holes where weights were removed; its shape and its "
        "arithmetic stay as they were. Right: three of eight neurons stay; the others lose their "
        "row in this layer's matrix and their column in the next one's, and what is left are two "
        "smaller matrices without holes."
    )
    return _svg("Holes against a narrower matrix", told, 292, parts)


def _stays(kept: bool) -> str:
    return "green" if kept else "gone"


def copies() -> str:
    """Two copies that part at k, the line between them, and the error on it."""
    parts = []
    for left, height, colour, title in ((20, 78, "red", "unstable"), (380, 5, "green", "stable")):
        apart = 46 if colour == "red" else 26
        end, top = left + 150, 124
        parts += [
            _text(left + 160, 30, f"{title} at k", "big m " + colour),
            f'<path class="line" stroke-width="3" d="M{left + 10} {top}H{left + 62}"/>',
            f'<circle class="ink" cx="{left + 62}" cy="{top}" r="5"/>',
            _theta(left + 58, top - 20, "k"),
        ]
        for sign, number in ((-1, "0"), (1, "1")):
            y = top + sign * apart
            path = f"M{left + 62} {top}C{left + 95} {top} {left + 100} {y} {end} {y}"
            parts.append(f'<path class="sblue" stroke-width="3" d="{path}"/>')
            parts.append(f'<circle class="blue" cx="{end}" cy="{y}" r="6"/>')
            parts.append(_theta(end - 2, y - 14 if sign < 0 else y + 28, "T", number))
        parts.append(
            f'<path class="s{colour}" stroke-width="3" stroke-dasharray="6 4" '
            f'd="M{end} {top - apart + 8}V{top + apart - 8}"/>'
        )
        start, right, base = left + 200, left + 320, 168
        curve = f"M{start} {base - 12}C{start + 40} {base - 12} {start + 35} {base - 12 - height} "
        curve += f"{start + 60} {base - 12 - height}S{right - 40} {base - 12} {right} {base - 12}"
        parts += [
            f'<path class="line" d="M{start - 8} 66V{base}H{right + 8}"/>',
            f'<path class="faint" stroke-width="2" d="M{start} {base - 12}H{right}"/>',
            f'<path class="s{colour}" stroke-width="4" d="{curve}"/>',
            _text(start - 4, 60, "error", "small soft"),
            _text(start, base + 18, "α = 0", "small m soft"),
            _text(right, base + 18, "1", "small m soft"),
        ]
        if colour == "red":
            peak = start + 60
            parts.append(_arrow(f"M{peak} {base - 16}V{base - height - 4}", "red"))
            parts.append(_text(peak + 16, 72, "instability", "small ink"))
    parts.append(
        _text(360, 236, "the copies differ in SGD noise alone: other order, same start", "m soft")
    )
    told = (
        "Two copies start from the same weights theta_k and train with other SGD noise to two "
        "ends. Left, unstable: the error on the straight line between the ends, for alpha from 0 "
        "to 1, has a ridge, whose height above the mean of the ends is the instability. Right, "
        "stable: the line stays low."
    )
    return _svg("Two copies and the line between them", told, 254, parts)


_FLOOR = 600.0  # where the map ends below
_PAPERS = (  # column, epochs, name, where; two of 160 epochs stand one above the other
    ("Adam 0.0012", 54.5, "Frankle & Carbin 2019", "LeNet, 55 epochs"),
    ("SGD 0.01", 160.0, "Liu et al. 2019", "VGG-16, 160 epochs"),
    ("SGD 0.1", 196.0, "Liu et al. 2019", "VGG-16, 160 epochs"),
    ("SGD 0.1", 131.0, "Frankle et al. 2020", "ResNet-20, 160 epochs"),
)
_SHORT = {"lenet-300-100": "LeNet", "resnet-8-w8": "ResNet-8", "vgg-small": "VGG-small"}


def papers(cells: Sequence[Cell]) -> str:
    """The map of rate, length and sparsity: the papers' places, and what the lab measured.

    cells: of `labkit.papers.claims.cells`; at one network, rate and length they stand in a row from
    dense to sparse. A mark says on which side of zero the 95% interval lies.
    """
    rates = sorted({cell.rate for cell in cells})
    columns = ["Adam 0.0012", *(f"SGD {rate:g}" for rate in rates)]
    step = 600 / len(columns)
    across = {name: 105 + step * (n + 0.5) for n, name in enumerate(columns)}
    parts = []
    for epochs in (0.5, 1, 2, 5, 10, 20, 50, 100, 200):
        y = _up(epochs)
        parts.append(f'<path class="faint" d="M105 {y}H705"/>')
        parts.append(_text(96, y + 5, f"{epochs:g}", "e small soft"))
    for name, x in across.items():
        parts.append(_text(x, _FLOOR + 20, name, "m ink"))
        if x > across[columns[0]]:
            parts.append(f'<path class="faint" d="M{x - step / 2} 30V{_FLOOR}"/>')
    parts.append(
        _text(
            405,
            _FLOOR + 44,
            "optimizer and learning rate; tickets get sparser along a row",
            "m soft",
        )
    )
    parts.append(
        '<text class="soft m" transform="translate(34 300) rotate(-90)">'
        "length of the training (epochs)</text>"
    )
    for column, epochs, name, where in _PAPERS:
        if column in across:
            x, y = across[column], _up(epochs)
            place = f'class="band" x="{x - 74:g}" y="{y - 19:g}" width="148" height="38" rx="19"'
            parts.append(f"<rect {place}/>")
            parts += [_text(x, y - 3, name, "m tiny ink"), _text(x, y + 12, where, "m tiny soft")]
    told = []
    for rate in rates:
        x, free = across[f"SGD {rate:g}"], float(_FLOOR)
        for network, epochs in sorted(
            {(c.network, c.epochs) for c in cells if c.rate == rate}, key=lambda spot: spot[1]
        ):
            own = [c for c in cells if (c.network, c.rate, c.epochs) == (network, rate, epochs)]
            short = _SHORT.get(network, network)
            both = ([c for c in own if c.about == about] for about in ("new weights", "dense"))
            rows = [sorted(row, key=_sparser) for row in both if row]
            # Not lower than its length, and clear of the one below: its words say the length.
            y = min(_up(epochs), free - 17 * len(rows))
            free = y - 19
            parts.append(_text(x, y - 8, f"{short}, {epochs:.2g} epochs", "m small ink"))
            for level, row in enumerate(rows):
                for number, cell in enumerate(row):
                    centre = x + 18 * (number - (len(row) - 1) / 2)
                    parts.append(_mark(centre, y + 4 + 17 * level, cell))
                    told.append(f"{network} at rate {rate:g}, {epochs:.2g} epochs, "
                                f"{cell.density:.0%} left, ticket against {cell.about}: "
                                f"{_side(cell)}")  # fmt: skip
    parts += _key()
    words = (
        "Columns: optimizer and learning rate; upwards: length of the training in epochs, "
        "logarithmic; a row of marks goes from dense to sparse. Ovals are where the papers "
        "measured: nobody's setting is another's. Measured here: " + "; ".join(told) + "."
    )
    return _svg("Where three papers stand, and what was measured in between", words, 720, parts)


def _up(epochs: float) -> float:
    low, high = math.log(0.4), math.log(240)
    return round(_FLOOR - (math.log(epochs) - low) / (high - low) * (_FLOOR - 30), 1)


def _sparser(cell: Cell) -> float:
    return -cell.density


def _side(cell: Cell) -> str:
    if cell.low > 0:
        return "ahead"
    return "behind" if cell.high < 0 else "undecided"


def _mark(x: float, y: float, cell: Cell) -> str:
    words = f"<title>{cell.network}, {cell.density:.0%} left, ticket minus {cell.about}: "
    words += f"95% interval {cell.low:+.2f} to {cell.high:+.2f} points</title>"
    return f'<g transform="translate({x:g} {y:g})">{words}{_MARKS[cell.about, _side(cell)]}</g>'


_SHAPES = {"ahead": "M0-7L7 5H-7z", "behind": "M0 7L7-5H-7z"}
_MARKS = {
    (about, side): (
        f'<path class="{fill}" stroke-width="2.4" d="{_SHAPES[side]}"/>'
        if side in _SHAPES
        else f'<circle class="{fill}" stroke-width="2.4" r="5.5"/>'
    )
    for about, fills in {
        "new weights": {"ahead": "blue", "behind": "red", "undecided": "soft"},
        "dense": {"ahead": "sblue", "behind": "sred", "undecided": "line"},
    }.items()
    for side, fill in fills.items()
}


def _key() -> list[str]:
    parts = []
    for row, (about, words) in enumerate(
        (("new weights", "ticket against new weights"), ("dense", "ticket against dense network"))
    ):
        y = _FLOOR + 76 + 26 * row
        parts.append(_text(105, y + 5, words + ":", "small ink"))
        for x, side, told in ((325, "ahead", "ahead"), (425, "undecided", "interval holds zero"),
                              (590, "behind", "behind")):  # fmt: skip
            parts.append(f'<g transform="translate({x} {y})">{_MARKS[about, side]}</g>')
            parts.append(_text(x + 16, y + 5, told, "small soft"))
    return parts


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
            + _text(138, 290, f"{_percent(r.density)} of the weights are left", "m bold ink")
            + _text(350, 48, f"round {number}: {r.accuracy:.1f}% of the digits read", "bold ink")
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
        _text(138, 38, "what the first layer looks at", "m soft"),
        '<rect class="faint" x="39" y="61" width="198" height="198" rx="2"/>',
        f'<path class="faint" stroke-width="2" stroke-dasharray="2 4" d="M350 {dense}H685"/>',
        '<path class="line" d="M350 70V258H690"/>',
        f'<path class="sblue" stroke-width="3" stroke-linejoin="round" d="{line}"/>',
        _text(358, dense + 18, "the dense network’s level", "small soft"),
        *(
            _text(350 + 335 * math.log(d) / reach, 278, f"{100 * d:g}%", "m small soft")
            for d in (1, 0.5, 0.2, 0.1, 0.05, 0.02)
            if d > rounds[-1].density
        ),
        _text(518, 300, "weights left; every ticket starts at θ₀", "m soft"),
        *(
            _text(343, place(Round(1, a, ()))[1] + 5, f"{a:g}%", "e small soft")
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
    return _svg("Most of a network can go: tickets of LeNet-300-100 on MNIST", told, 318, parts)


def moments() -> str:
    """When the mask is drawn: after training, early in it, or before (You et al. 2020)."""
    left, k, right = 190, 300, 640
    rows = (
        ("at the end", right, left, "a whole training, then a ticket’s"),
        ("early, and go on", k, k, "a part of a training, then the rest in the ticket"),
        ("before training", left, left, "a ticket’s training alone"),
    )
    parts = []
    for number, (name, drawn, start, cost) in enumerate(rows):
        y = (62, 172, 256)[number]
        parts.append(_text(16, y + 6, name, "big ink"))
        if drawn > left:
            line = f'd="M{left} {y}H{drawn}"'
            parts.append(f'<path class="line" stroke-width="9" {line}/>')
        again = y + 34 if drawn == right else y
        if drawn == right:
            parts.append(_arrow(f"M{right} {y + 9}V{again}H{right - 14}", "red"))
            parts.append(f'<path class="faint" stroke-width="2" d="M{right - 20} {again}H{left}"/>')
        parts.append(f'<path class="sblue" stroke-width="3" d="M{start} {again}H{right}"/>')
        parts.append(f'<circle class="red" cx="{drawn}" cy="{y}" r="10"/>')
        parts.append(_text(drawn, y - 18, "m", "maths m red"))
        parts.append(_text((left + right) / 2, again + 26, cost, "m soft"))
    parts += [
        f'<path class="line" d="M{left} 312H{right}"/>',
        _text(left, 334, "0", "m soft"), _text(k, 334, "k", "maths m soft"),
        _text(right, 334, "T", "maths m soft"),
        _text((k + right) / 2, 334, "iterations", "m soft"),
    ]  # fmt: skip
    told = (
        "Three lines of training from iteration 0 to T; thick is the dense network, thin the "
        "ticket, a dot is where the mask m is drawn. At the end: a whole dense training, and then "
        "the ticket's from the start. Early: the dense network trains to k, and the ticket goes on "
        "from there. Before training: the ticket alone is trained."
    )
    return _svg("When the mask is drawn", told, 350, parts)


def makings() -> str:
    """What survivors start from: signs as colours, sizes as sizes (Zhou et al. 2019)."""
    survivors = [place for place in _places() if _KEPT[place[1]][place[0]] == "1"]
    signs = dict(zip(survivors, (1, -1, -1, 1, -1, 1, 1, -1, 1, -1, 1, 1, -1), strict=False))
    sizes = dict(zip(survivors, (20, 9, 15, 12, 18, 8, 16, 20, 11, 14, 9, 17, 12), strict=False))
    drawn = dict(zip(survivors, (-1, -1, 1, 1, 1, -1, 1, -1, -1, 1, -1, 1, 1), strict=False))
    sizes_moved = list(sizes.values())
    moved = dict(zip(survivors, [*sizes_moved[5:], *sizes_moved[:5]], strict=True))
    one = dict.fromkeys(survivors, 14)
    arms = (
        ("ticket", "its first weights", signs, sizes),
        ("signs", "one magnitude", signs, one),
        ("reshuffled", "own signs", signs, moved),
        ("random signs", "one magnitude", drawn, one),
        ("re-initialised", "all drawn", drawn, moved),
    )
    parts = []
    for number, (name, what, sign, size) in enumerate(arms):
        left = 28 + 138 * number
        parts.append(_text(left + 52, 30, name, "m ink bold"))
        parts.append(_text(left + 52, 50, what, "small m soft"))
        for column, row in _places():
            x, y = left + 26 * column, 66 + 26 * row
            parts.append(_rect(x, y, 24, 24, "gone"))
            if (column, row) in survivors:
                edge = size[column, row]
                colour = "blue" if sign[column, row] > 0 else "red"
                middle = (x + 12 - edge / 2, y + 12 - edge / 2)
                parts.append(_rect(*middle, edge, edge, colour))
                mark = "+" if sign[column, row] > 0 else "−"
                parts.append(_text(x + 12, y + 16, mark, "tiny m paper"))
    words = "colour and mark: the sign; size: the magnitude; empty: removed"
    parts.append(_text(360, 226, words, "m soft"))
    told = (
        "Five copies of one mask. The ticket's survivors start from their first signs and sizes; "
        "then from their signs with one size for all; from their signs with the sizes of other "
        "survivors; from drawn signs with one size; and from drawn signs and sizes."
    )
    return _svg("What survivors start from", told, 244, parts)


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


def _places() -> list[tuple[int, int]]:
    """Column and row of every cell of a mask."""
    return [(column, row) for row in range(5) for column in range(4)]


def _network(left: int, whole: bool) -> str:
    parts = []
    for column, row in _places():
        kept = _KEPT[row][column] == "1"
        line = f'd="M{left + 10} {90 + 32 * column}L{left + 170} {74 + 32 * row}"'
        if whole or kept:
            parts.append(f'<path class="sblue" stroke-width="2" {line}/>')
        else:
            parts.append(f'<path class="faint" stroke-dasharray="3 4" {line}/>')
    parts += [f'<circle class="ink" cx="{left + 10}" cy="{90 + 32 * n}" r="8"/>' for n in range(4)]
    parts += [f'<circle class="ink" cx="{left + 170}" cy="{74 + 32 * n}" r="8"/>' for n in range(5)]
    return "".join(parts)


def _schedule(middle: float, schedule: str, colour: str) -> str:
    """A learning rate that falls in two steps, and the part of it that an arm trains with."""
    x, y = middle - 44, 274
    whole = f"M{x} {y}h44v22h24v16h20"
    used = {
        "rewound": f"M{x + 12} {y}h32v22h24v16h20",
        "restarted": whole,
        "last": f"M{x} {y + 38}h88",
    }[schedule]
    return (
        f'<path class="faint" stroke-width="2" d="{whole}"/>'
        f'<path class="{colour}" stroke-width="4" d="{used}"/>'
        f'<path class="line" d="M{x} {y + 46}h92"/>'
    )


def _rect(x: float, y: float, width: float, height: float, style: str, more: str = "") -> str:
    size = f'x="{x:g}" y="{y:g}" width="{width}" height="{height}" rx="2"'
    return f'<rect class="{style}" {size} {more}/>'


def _text(x: float, y: float, words: str, style: str) -> str:
    plain = {"ink", "soft", "paper", "blue", "red", "green"} & set(style.split())
    colour = "" if plain else " ink"
    return f'<text class="{style}{colour}" x="{x:g}" y="{y:g}">{html.escape(words)}</text>'


def _theta(x: float, y: float, below: str, above: str = "", before: str = "") -> str:
    top = f'<tspan dy="-8" font-size="12">{above}</tspan>' if above else ""
    down = 5 + 8 * bool(above)
    return (
        f'<text class="maths m ink" x="{x:g}" y="{y:g}">{before}θ{top}'
        f'<tspan dy="{down}" font-size="13">{below}</tspan></text>'
    )


def _arrow(path: str, colour: str) -> str:
    return f'<path class="s{colour}" stroke-width="3" marker-end="url(#{colour})" d="{path}"/>'


def _svg(title: str, summary: str, height: int, parts: Iterable[str]) -> str:
    heads = "".join(
        f'<marker id="{colour}" viewBox="0 0 10 10" refX="7" refY="5" markerWidth="5" '
        f'markerHeight="5" orient="auto"><path class="{colour}" d="M0 0L10 5L0 10z"/></marker>'
        for colour in ("red", "green", "blue")
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" viewBox="0 0 {WIDTH} {height}" '
        f'width="{WIDTH}" height="{height}"><title>{html.escape(title)}</title>'
        f"<desc>{html.escape(summary)}</desc><style>{_STYLE}</style><defs>{heads}</defs>"
        f'<rect class="paper" width="{WIDTH}" height="{height}" rx="8"/>{"".join(parts)}</svg>\n'
    )
