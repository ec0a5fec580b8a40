"""Live pictures: results as charts, and what they say in a sentence.

A view is what is looked at: an experiment's own results or, where it has none, stored ones; what
they are compared with; and a round.
"""

import html
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from labkit.experiments.statistics import AGREES, Estimate, verdict
from labkit.figures.picture import Look, look_of
from labkit.panel.charts import Axis, Band, Line, line_chart
from labkit.panel.diagrams import bars, pixels
from labkit.panel.live_results import LiveResults, gap_of
from labkit.panel.numbers import Row
from labkit.panel.vocabulary import units_of

_FROM_0 = Look("#009E73", "-.", "^")
REWOUND_TO_0 = "ticket, rewound to 0"
STABLE = 2.0  # points (Frankle et al. 2020, section 3)


@dataclass
class View:
    """shown: whose results the charts are about. number: the round. from_0: the same tickets
    rewound to 0. behind, pinned: lines of accuracy to draw pale. guess: where a person expects it.
    """

    shown: LiveResults
    number: int
    from_0: LiveResults | None = None
    behind: tuple[Line, ...] = ()
    pinned: tuple[Line, ...] = ()
    guess: Band | None = None

    @property
    def density(self) -> float | None:
        return self.shown.density_at(self.number)

    def lines(self) -> list[Line]:
        """The lines of accuracy against density."""
        lines = list(self.shown.accuracy_lines())
        if self.from_0 and self.from_0.known:
            lines += [
                replace(line, name=REWOUND_TO_0, look=_FROM_0)
                for line in self.from_0.accuracy_lines()[:1]
            ]
        return lines


def pale(lines: Iterable[Line]) -> tuple[Line, ...]:
    """The same lines, to be drawn behind others."""
    return tuple(replace(line, pale=True) for line in lines)


def accuracy_chart(view: View) -> str:
    """Accuracy against density."""
    lines = view.lines()
    at = view.density
    values = ", ".join(
        f"{line.name} {point.y:.1f}%"
        for line in lines
        for point in line.points
        if at is not None and abs(point.x - at) < 0.05 * at
    )
    summary = "No network of this setting is finished yet."
    if values and at is not None:
        summary = f"Test accuracy at {at:.1%} density: {values}."
    x = Axis("density: weights that are left (sparser to the right)", density=True)
    behind = [*view.behind, *view.pinned]
    guess = view.guess if view.number else None
    return line_chart(
        "Accuracy against density",
        summary,
        x,
        Axis("test accuracy (%)"),
        [*behind, *lines],
        at,
        guess,
    )


def curve_chart(view: View) -> str:
    """Learning curves of the round."""
    lines = view.shown.curve_lines(view.number)
    ends = [(line.points[-1], line.name) for line in lines if line.points]
    values = ", ".join(f"{name} {point.y:.1f}% at {point.x:g}" for point, name in ends)
    summary = f"Validation accuracy at the latest iteration: {values or 'nothing yet'}."
    iterations = (0.0, float(view.shown.experiment.task.recipe.iterations))
    at = view.density
    title = "Learning curves" + ("" if at is None else f" at {at:.1%}")
    axes = Axis("iteration", span=iterations), Axis("validation accuracy (%)")
    return line_chart(title, summary, *axes, lines)


def path_chart(view: View) -> str:
    """Error along the line between two copies."""
    lines = view.shown.path_lines(view.number)
    rises = []
    for line in lines:
        ends = (line.points[0].y + line.points[-1].y) / 2
        rises.append(f"{line.name} {max(point.y for point in line.points) - ends:.1f} points")
    summary = f"The error rises above that of the ends by: {', '.join(rises) or 'nothing yet'}."
    x = Axis("from one copy (0) to the other (1)", span=(0.0, 1.0))
    highest = max((point.y for line in lines for point in line.points), default=10.0)
    y = Axis("test error (%)", span=(0.0, 1.1 * highest))  # from 0, so that what is flat looks flat
    guess = view.guess
    if guess and lines:
        foot = (lines[0].points[0].y + lines[0].points[-1].y) / 2
        guess = Band(0.5, foot + guess.low, foot + guess.high)
    return line_chart("Error between two copies", summary, x, y, lines, None, guess)


def layer_bars(view: View) -> str:
    """What each layer keeps."""
    layers = view.shown.layers(view.number)
    if layers is None:
        return _missing("what each layer keeps")
    e = view.shown.experiment
    structured = e.pruning.structured and view.number
    what = units_of(e.task.network) if structured else "weights"
    return bars(f"Surviving {what} by layer", layers)


def mask_picture(view: View) -> str:
    """What is left of the first layer."""
    found = view.shown.first_layer(view.number)
    if found is None:
        return ""
    what, counts = found
    total = [count for row in counts for count in row]
    blind = sum(count == 0 for count in total) / len(total)
    title = {"pixels": "Weights left at each pixel", "filters": "Weights left of each filter"}[what]
    return pixels(title, f"{blind:.0%} of the {what} of the first layer are not used.", counts)


def _missing(what: str) -> str:
    words = f"Of these results, {what} was not kept. Run it yourself to see it."
    return f'<p style="font-size: 0.86em; line-height: 1.35; margin: 4px">{html.escape(words)}</p>'


def verdict_line(view: View) -> str:
    """What the round shown says, in words with the intervals."""
    own, number = view.shown, view.number
    at = view.density
    if at is None:
        return "No network is finished yet: the charts fill while it trains."
    if number == 0 or not len(own.per_seed(own.experiment.chain, number)):
        return _of_dense(own)
    chain = own.experiment.chain
    found = own.estimate_of(chain, number)
    name = look_of(chain).name
    sentences = [
        f"At {at:.1%} density the {name} is right on {found.mean:.1f}% of the test images."
    ]
    others = ["dense", *(arm for arm in own.arms[1:] if len(own.per_seed(arm, number)))][:4]
    against = [f"{gap_text(own.gap(chain, other, number))} {_article(other)}" for other in others]
    if view.from_0 and len(view.from_0.per_seed(chain, number)):
        gap = gap_of(own, chain, view.from_0, chain, number, "test_accuracy")
        against.append(f"{gap_text(gap)} the same rewound to 0")
    sentences.append(f"It is {'; '.join(against)}.")
    if found.seeds < 2:
        sentences.append("One seed has no interval: with three or more a verdict is possible.")
    else:
        sentences.append(f"({found.seeds} seeds, 95% intervals, seed by seed.)")
    return " ".join(sentences)


def _of_dense(own: LiveResults) -> str:
    found = own.estimate_of("dense", 0)
    words = f"The dense network is right on {found.mean:.1f}% of the test images."
    if own.experiment.instability.copies and len(own.per_seed("dense", 0, "instability")):
        rise = own.estimate_of("dense", 0, "instability")
        k = own.experiment.rewind
        words += (
            f" Between copies that part at iteration {k:,} the error rises by {rise.mean:.1f} "
            f"points{_interval(rise)}."
        )
        if rise.seeds > 1:
            stable = verdict(rise, "below", STABLE) == AGREES
            unstable = verdict(rise, "above", STABLE) == AGREES
            words += (
                f" Below {STABLE:g} points, it is stable there."
                if stable
                else f" Above {STABLE:g} points, it is not stable there."
                if unstable
                else f" Whether that is below {STABLE:g} points is not decided."
            )
    return words


def gap_text(gap: Estimate) -> str:
    """A difference in points as words, by the rules of verdicts."""
    if math.isnan(gap.mean):
        return "not comparable with"
    side = "above" if gap.mean >= 0 else "below"
    if gap.seeds > 1 and verdict(gap, side) != AGREES:
        return f"not clearly different ({gap.mean:+.2f} points{_interval(gap)}) from"
    low, high = sorted((abs(gap.low), abs(gap.high)))
    between = "" if math.isnan(gap.low) else f" [{low:.2f}, {high:.2f}]"
    return f"{abs(gap.mean):.2f} points{between} {side}"


def _interval(found: Estimate) -> str:
    return "" if math.isnan(found.low) else f" [{found.low:+.2f}, {found.high:+.2f}]"


def _article(arm: str) -> str:
    return {"dense": "the dense network", "reinitialise": "the same mask with new weights"}.get(
        arm, look_of(arm).name
    )


def tables_of(view: View) -> list[tuple[str, list[Row]]]:
    """The numbers behind the charts: name and rows of each table."""
    own, number = view.shown, view.number
    rewound = [row for row in view.from_0.tickets() if row["round"]] if view.from_0 else []
    found: list[tuple[str, list[Row]]] = [
        ("networks", [*own.tickets(), *rewound]),
        ("curves", _rows(own.curve_lines(number), "iteration", "validation accuracy (%)")),
        ("error on the line", _rows(own.path_lines(number), "alpha", "test error (%)")),
    ]
    if (first := own.first_layer(number)) is not None:
        grid: list[Row] = [
            {"row": y, **{f"column {x}": count for x, count in enumerate(row)}}
            for y, row in enumerate(first[1])
        ]
        found.append((first[0], grid))
    return [(name, rows) for name, rows in found if rows]


def _rows(lines: Iterable[Line], x: str, y: str) -> list[Row]:
    return [{"line": line.name, x: p.x, y: p.y} for line in lines for p in line.points]
