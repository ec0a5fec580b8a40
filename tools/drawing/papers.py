"""The map of three papers: where each of them measured, and what was measured in between."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tools.drawing.pencil import svg, text

_FLOOR = 600.0  # where the map ends below
_PAPERS = (  # column, epochs, name, where; two of 160 epochs stand one above the other
    ("Adam 0.0012", 54.5, "Frankle & Carbin 2019", "LeNet, 55 epochs"),
    ("SGD 0.01", 160.0, "Liu et al. 2019", "VGG-16, 160 epochs"),
    ("SGD 0.1", 196.0, "Liu et al. 2019", "VGG-16, 160 epochs"),
    ("SGD 0.1", 131.0, "Frankle et al. 2020", "ResNet-20, 160 epochs"),
)
_SHORT = {"lenet-300-100": "LeNet", "resnet-8-w8": "ResNet-8", "vgg-small": "VGG-small"}


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


def papers(cells: Sequence[Cell]) -> str:
    """The map of rate, length and sparsity: the papers' places, and what the lab measured.

    cells: of `labkit.papers.cells.cells`; at one network, rate and length they stand in a row from
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
        parts.append(text(96, y + 5, f"{epochs:g}", "e small soft"))
    for name, x in across.items():
        parts.append(text(x, _FLOOR + 20, name, "m ink"))
        if x > across[columns[0]]:
            parts.append(f'<path class="faint" d="M{x - step / 2} 30V{_FLOOR}"/>')
    parts.append(
        text(
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
            parts += [text(x, y - 3, name, "m tiny ink"), text(x, y + 12, where, "m tiny soft")]
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
            parts.append(text(x, y - 8, f"{short}, {epochs:.2g} epochs", "m small ink"))
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
    return svg("Where three papers stand, and what was measured in between", words, 720, parts)


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
        parts.append(text(105, y + 5, words + ":", "small ink"))
        for x, side, told in ((325, "ahead", "ahead"), (425, "undecided", "interval holds zero"),
                              (590, "behind", "behind")):  # fmt: skip
            parts.append(f'<g transform="translate({x} {y})">{_MARKS[about, side]}</g>')
            parts.append(text(x + 16, y + 5, told, "small soft"))
    return parts
