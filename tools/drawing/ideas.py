"""Masks, the loop, the arms, holes, two copies, when a mask is drawn, what survivors start from."""

import math
from collections.abc import Sequence

from tools.drawing.pencil import WIDTH, arrow, rect, svg, text, theta

_KEPT = ("1101", "0110", "1011", "0101", "1110")  # a mask of five neurons with four inputs each
_SHUFFLED = ("0111", "1101", "0110", "1010", "0111")  # as many survivors, elsewhere


def mask() -> str:
    """A network, and the same with the weights that its mask leaves (Frankle & Carbin 2019)."""
    parts = [
        text(130, 30, "the network", "big m"), text(360, 30, "its weights and mask", "big m"),
        text(595, 30, "what is trained again", "big m"),
    ]  # fmt: skip
    parts += [_network(40, whole=True), _network(505, whole=False)]
    for column, row in _places():
        kept = _KEPT[row][column] == "1"  # the large ones
        strength = 0.6 * kept + 0.1 + 0.3 * abs(math.sin(3.1 * row + 1.7 * column))
        x, y = 258 + 24 * column, 78 + 24 * row
        parts.append(rect(x, y, 22, 22, "blue", f'opacity="{strength:.2f}"'))
        parts.append(rect(x + 114, y, 22, 22, "gone cell" if not kept else "ink"))
        style = "small m paper" if kept else "small m soft"
        parts.append(text(x + 125, y + 16, _KEPT[row][column], style))
    parts += [text(305, 66, "θ", "maths m ink"), text(419, 66, "m", "maths m ink")]
    parts.append(text(363, 143, "⊙", "big m ink"))
    left = sum(row.count("1") for row in _KEPT)
    words = f"{left} of 20 weights survive: density {left / 20:.0%}"
    parts.append(text(360, 238, words, "m soft"))
    parts.append(text(360, 268, "f (x; m ⊙ θ)", "maths m ink"))
    told = (
        "On the left a network of four inputs and five neurons with all its connections; in the "
        "middle the matrix of its weights, theta, times a mask m of zeros and ones; on the right "
        "the same network with the connections that survive. A mask does not move, add or shrink "
        "anything: it only says which weights are held at zero."
    )
    return svg("A network and its mask", told, 286, parts)


def loop() -> str:
    """Train, prune, rewind, and again (Frankle et al. 2020, section 4; k = 0: Frankle & Carbin)."""
    left, k, right, y = 90, 210, 610, 90
    parts = [
        f'<path class="line" stroke-width="3" d="M{left} {y}H{right}"/>',
        f'<path class="sblue" stroke-width="5" d="M{k} {y}H{right}"/>',
        text((k + right) / 2, y - 16, "1  train", "big m blue"),
        text(right + 14, y + 78, "2  prune", "big red"),
        text(310, 190, "3  rewind", "big m green"),
        text(left, y + 34, "0", "m soft"), text(k, y + 34, "k", "maths m soft"),
        text(right, y + 34, "T", "maths m soft"),
        text((k + right) / 2, y + 34, "iterations", "m soft"),
    ]  # fmt: skip
    for x, below in ((left, "0"), (k, "k"), (right, "T")):
        parts.append(f'<circle class="paper line" stroke-width="3" cx="{x}" cy="{y}" r="9"/>')
        parts.append(f'<circle class="ink" cx="{x}" cy="{y}" r="4"/>')
        parts.append(theta(x, y - 26, below))
    for column, row in _places():
        kept = _KEPT[row][column] == "1"
        x, top = 446 + 18 * column, 160 + 18 * row
        parts.append(rect(x, top, 16, 16, "red" if kept else "gone"))
    parts += [
        arrow(f"M{right} {y + 48}Q{right} 205 540 205", "red"),
        arrow(f"M430 205H{k + 40}Q{k} 205 {k} {y + 52}", "green"),
        text(434, 172, "m", "maths e ink"),
        text(490, 274, "the smallest of |θ| go", "m soft"),
        text(310, 230, "survivors go back to", "m soft"),
        text(310, 250, "their values at k", "m soft"),
        theta(310, 276, "k", before="m ⊙ "),
    ]
    told = (
        "A line of training from iteration 0 over k to T, with the weights theta_0, theta_k and "
        "theta_T. Step 1: train. Step 2: the smallest weights at the end are pruned, which gives a "
        "mask m. Step 3: the survivors are rewound, set back to their values at iteration k, and "
        "trained again. Each turn leaves fewer. With k = 0 that is the first paper's procedure."
    )
    return svg("Train, prune, rewind, and again", told, 296, parts)


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
        text(16, 112, "mask", "big ink"), text(16, 222, "weights", "big ink"),
        text(16, 307, "schedule", "big ink"),
    ]  # fmt: skip
    for number, (name, which, weights, schedule) in enumerate(chosen):
        for value, known in ((which, masks), (weights, looks), (schedule, schedules)):
            if value not in known:
                raise ValueError(f"an arm must have one of {', '.join(known)}, not {value!r}")
        middle = 110 + step * (number + 0.5)
        grid, told = masks[which]
        colour, source = looks[weights]
        first, _, rest = name.rpartition(" ")
        parts += [text(middle, 28, first, "m ink bold"), text(middle, 48, rest, "m ink bold")]
        for column, row in _places():
            kept = grid[row][column] == "1"
            for top in (66, 182):
                if top == 182 and row > 2:
                    continue
                x, y = middle - 36 + 18 * column, top + 18 * row
                filled = ("ink" if top == 66 else colour) if kept else "gone"
                parts.append(rect(x, y, 16, 16, filled))
        parts += [
            text(middle, 172, told, "small m soft"),
            text(middle, 252, source, "small m soft"),
        ]
        parts.append(_schedule(middle, schedule, "s" + colour))
        parts.append(text(middle, 348, schedules[schedule], "small m soft"))
    words = "; ".join(
        f"{name}: {masks[which][1]} mask, weights {looks[weights][1]}, learning rate "
        f"{schedules[schedule]}"
        for name, which, weights, schedule in chosen
    ).replace("’", "'")
    told = f"What each arm is made of, so that a comparison changes one thing only. {words}."
    return svg("Arms: which mask, which weights, which schedule", told, 364, parts)


def holes() -> str:
    """Single weights removed leave holes; whole neurons removed leave a narrower matrix."""
    parts = [
        text(185, 30, "single weights: holes", "big m ink"),
        text(536, 30, "whole neurons: a narrower matrix", "big m ink"),
    ]
    for row in range(8):
        for column in range(8):
            kept = math.sin(12.9898 * row + 78.233 * column) * 43758.5453 % 1 < 3 / 8
            x, y = 101 + 21 * column, 64 + 21 * row
            parts.append(rect(x, y, 19, 19, "blue" if kept else "gone"))
    stays = (1, 4, 6)  # of eight neurons
    for row in range(8):
        for column in range(8):
            parts.append(rect(380 + 11 * column, 76 + 18 * row, 9, 16, _stays(row in stays)))
            if column < 5:
                place = (496 + 11 * row, 100 + 18 * column, 9, 16)
                parts.append(rect(*place, _stays(row in stays)))
    for row in range(3):
        for column in range(8):
            parts.append(rect(620 + 9 * column, 112 + 18 * row, 7, 16, "green"))
    for column in range(3):
        for row in range(5):
            parts.append(rect(634 + 15 * column, 186 - 12 + 12 * row, 13, 10, "green"))
    parts += [
        arrow("M592 145H612", "green"),
        text(424, 64, "its layer: rows", "small m soft"),
        text(538, 212, "the next: columns", "small m soft"),
        text(185, 256, "the shape stays,", "m soft"),
        text(185, 276, "and zeros are multiplied too", "m soft"),
        text(536, 256, "fewer rows here, fewer columns there:", "m soft"),
        text(536, 276, "really less arithmetic", "m soft"),
    ]
    told = (
        "Left: a matrix of eight by eight with holes where weights were removed; its shape and its "
        "arithmetic stay as they were. Right: three of eight neurons stay; the others lose their "
        "row in this layer's matrix and their column in the next one's, and what is left are two "
        "smaller matrices without holes."
    )
    return svg("Holes against a narrower matrix", told, 292, parts)


def _stays(kept: bool) -> str:
    return "green" if kept else "gone"


def copies() -> str:
    """Two copies that part at k, the line between them, and the error on it."""
    parts = []
    for left, height, colour, title in ((20, 78, "red", "unstable"), (380, 5, "green", "stable")):
        apart = 46 if colour == "red" else 26
        end, top = left + 150, 124
        parts += [
            text(left + 160, 30, f"{title} at k", "big m " + colour),
            f'<path class="line" stroke-width="3" d="M{left + 10} {top}H{left + 62}"/>',
            f'<circle class="ink" cx="{left + 62}" cy="{top}" r="5"/>',
            theta(left + 58, top - 20, "k"),
        ]
        for sign, number in ((-1, "0"), (1, "1")):
            y = top + sign * apart
            path = f"M{left + 62} {top}C{left + 95} {top} {left + 100} {y} {end} {y}"
            parts.append(f'<path class="sblue" stroke-width="3" d="{path}"/>')
            parts.append(f'<circle class="blue" cx="{end}" cy="{y}" r="6"/>')
            parts.append(theta(end - 2, y - 14 if sign < 0 else y + 28, "T", number))
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
            text(start - 4, 60, "error", "small soft"),
            text(start, base + 18, "α = 0", "small m soft"),
            text(right, base + 18, "1", "small m soft"),
        ]
        if colour == "red":
            peak = start + 60
            parts.append(arrow(f"M{peak} {base - 16}V{base - height - 4}", "red"))
            parts.append(text(peak + 16, 72, "instability", "small ink"))
    parts.append(
        text(360, 236, "the copies differ in SGD noise alone: other order, same start", "m soft")
    )
    told = (
        "Two copies start from the same weights theta_k and train with other SGD noise to two "
        "ends. Left, unstable: the error on the straight line between the ends, for alpha from 0 "
        "to 1, has a ridge, whose height above the mean of the ends is the instability. Right, "
        "stable: the line stays low."
    )
    return svg("Two copies and the line between them", told, 254, parts)


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
        parts.append(text(16, y + 6, name, "big ink"))
        if drawn > left:
            line = f'd="M{left} {y}H{drawn}"'
            parts.append(f'<path class="line" stroke-width="9" {line}/>')
        again = y + 34 if drawn == right else y
        if drawn == right:
            parts.append(arrow(f"M{right} {y + 9}V{again}H{right - 14}", "red"))
            parts.append(f'<path class="faint" stroke-width="2" d="M{right - 20} {again}H{left}"/>')
        parts.append(f'<path class="sblue" stroke-width="3" d="M{start} {again}H{right}"/>')
        parts.append(f'<circle class="red" cx="{drawn}" cy="{y}" r="10"/>')
        parts.append(text(drawn, y - 18, "m", "maths m red"))
        parts.append(text((left + right) / 2, again + 26, cost, "m soft"))
    parts += [
        f'<path class="line" d="M{left} 312H{right}"/>',
        text(left, 334, "0", "m soft"), text(k, 334, "k", "maths m soft"),
        text(right, 334, "T", "maths m soft"),
        text((k + right) / 2, 334, "iterations", "m soft"),
    ]  # fmt: skip
    told = (
        "Three lines of training from iteration 0 to T; thick is the dense network, thin the "
        "ticket, a dot is where the mask m is drawn. At the end: a whole dense training, and then "
        "the ticket's from the start. Early: the dense network trains to k, and the ticket goes on "
        "from there. Before training: the ticket alone is trained."
    )
    return svg("When the mask is drawn", told, 350, parts)


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
        parts.append(text(left + 52, 30, name, "m ink bold"))
        parts.append(text(left + 52, 50, what, "small m soft"))
        for column, row in _places():
            x, y = left + 26 * column, 66 + 26 * row
            parts.append(rect(x, y, 24, 24, "gone"))
            if (column, row) in survivors:
                edge = size[column, row]
                colour = "blue" if sign[column, row] > 0 else "red"
                middle = (x + 12 - edge / 2, y + 12 - edge / 2)
                parts.append(rect(*middle, edge, edge, colour))
                mark = "+" if sign[column, row] > 0 else "−"
                parts.append(text(x + 12, y + 16, mark, "tiny m paper"))
    words = "colour and mark: the sign; size: the magnitude; empty: removed"
    parts.append(text(360, 226, words, "m soft"))
    told = (
        "Five copies of one mask. The ticket's survivors start from their first signs and sizes; "
        "then from their signs with one size for all; from their signs with the sizes of other "
        "survivors; from drawn signs with one size; and from drawn signs and sizes."
    )
    return svg("What survivors start from", told, 244, parts)


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
