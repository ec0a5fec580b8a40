"""Readings: what is known of an experiment at this moment, as lines, sentences and rows.

Finished networks come from the store and the shipped results; of networks that are training, the
evaluations so far. Tables in long form are made by `labkit.tables`; these means are what a chart
needs many times a second.
"""

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from functools import cached_property
from typing import Any

import pandas as pd

from labkit.base.store import Store
from labkit.experiments.experiment import Experiment, Trial, all_trials
from labkit.experiments.proof import result_of
from labkit.experiments.running import Evaluated, Finished
from labkit.experiments.statistics import estimate
from labkit.figures.picture import Look, look_of
from labkit.panel.charts import Axis, Line, Point, Row, line_chart, pixel_chart

Result = dict[str, Any]
_FROM_0 = Look("#009E73", "-.", "^")


class Readings:
    """The results of an experiment that a store has, and those that arrive while it runs."""

    def __init__(self, experiment: Experiment, store: Store) -> None:
        self.experiment = experiment
        self.trials = {trial.key: trial for trial in all_trials(experiment)}
        self.live: dict[str, dict[int, float]] = {}  # key -> iteration -> validation accuracy
        found = ((key, result_of(trial, store)) for key, trial in self.trials.items())
        self.results: dict[str, Result] = {key: result for key, result in found if result}

    def take(self, event: Evaluated | Finished) -> None:
        """Take in what a run has measured, of networks of this experiment."""
        if isinstance(event, Finished):
            if event.trial.key in self.trials:
                self.live.pop(event.trial.key, None)
                self.results[event.trial.key] = event.result
        elif not event.trials[0].analysis:
            accuracies = event.evaluation.validation.accuracy.tolist()
            for trial, accuracy in zip(event.trials, accuracies, strict=True):
                if trial.key not in self.trials:
                    continue
                self.live.setdefault(trial.key, {})[event.iteration] = accuracy

    @property
    def latest_round(self) -> int:
        """The last round of which anything is known; 0 where nothing is."""
        return max((self.trials[key].round for key in (*self.results, *self.live)), default=0)

    def tickets(self) -> list[Row]:
        """A row per finished network, as in `labkit.Tables.tickets`, shortened."""
        columns = ("density", "weights", "early_stop", "test_accuracy", "final_test_accuracy")
        rows: list[Row] = []
        for trial, result in self._finished():
            row: Row = {"seed": trial.seed, "round": trial.round, "treatment": trial.label}
            row["rewind"] = self.experiment.rewind if trial.round else ""
            rows.append(row | {"draw": trial.draw} | {n: result["ticket"][n] for n in columns})
        return rows

    def accuracy_lines(self, *, pale: bool = False) -> list[Line]:
        """Test accuracy (%) at the early stop against density, a line per treatment, with 95%
        intervals over seeds.
        """
        arms: dict[str, dict[int, list[tuple[Trial, Result]]]] = defaultdict(dict)
        for trial, result in self._finished():
            arms[trial.label].setdefault(trial.round, []).append((trial, result))
        dense = arms.pop("dense", {})
        lines = []
        for label, rounds in {self.experiment.chain: {}, **arms}.items():
            # The chain starts at the dense network.
            known = rounds if label != self.experiment.chain else {**dense, **rounds}
            if known:
                points = tuple(_summary(known[number]) for number in sorted(known))
                lines.append(_line(label, points, pale))
        return lines

    def curve_lines(self, number: int) -> list[Line]:
        """Validation accuracy (%) against the iteration in a round, means over seeds and draws; the
        dense network and a line per treatment.
        """
        arms: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
        for key, trial in self.trials.items():
            if trial.round not in (0, number) or trial.analysis:
                continue
            curve = self.live.get(key, {})
            if key in self.results:
                stored = self.results[key]["curve"]
                curve = dict(zip(stored["iteration"], stored["validation_accuracy"], strict=True))
            for iteration, accuracy in curve.items():
                arms[trial.label][iteration].append(100 * accuracy)
        lines = []
        for label, arm in arms.items():
            points = [Point(i, sum(v) / len(v)) for i, v in sorted(arm.items())]
            # An untrained network's accuracy would stretch the axis over what nobody looks at.
            lines.append(_line(label, tuple(points[1:] if len(points) > 4 else points), False))
        return lines

    def path_lines(self, number: int) -> list[Line]:
        """Test error (%) along the line between two copies of a network of a round, a line per
        treatment, means over seeds and pairs.
        """
        arms: dict[str, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
        for key, trial in self.trials.items():
            if trial.analysis and trial.round == number and key in self.results:
                for path in self.results[key]["paths"]:
                    for alpha, error in zip(path["alpha"], path["test_error"], strict=True):
                        arms[trial.label][alpha].append(100 * error)
        return [
            _line(label, tuple(Point(a, sum(e) / len(e)) for a, e in sorted(arm.items())), False)
            for label, arm in arms.items()
        ]

    def density_at(self, number: int) -> float | None:
        """Mean density of the tickets of a round that are finished, or None."""
        found = [
            result["ticket"]["density"]
            for trial, result in self._finished()
            if trial.round == number and trial.label in ("dense", self.experiment.chain)
        ]
        return sum(found) / len(found) if found else None

    def _finished(self) -> Iterable[tuple[Trial, Result]]:
        for key, trial in self.trials.items():
            if key in self.results and not trial.analysis:
                yield trial, self.results[key]

    @cached_property
    def name(self) -> str:
        """Data set and network in words."""
        return f"{self.experiment.task.network} on {self.experiment.task.dataset}"


def accuracy_chart(
    own: Readings, reference: Readings | None, from_0: Readings | None = None
) -> str:
    """Accuracy against density, the reference pale behind. from_0: the same tickets rewound to 0, a
    line of its own.
    """
    lines = own.accuracy_lines()
    if from_0 and from_0.latest_round:
        lines += [
            replace(line, name="ticket, rewound to 0", look=_FROM_0)
            for line in from_0.accuracy_lines()
        ]
    behind = reference.accuracy_lines(pale=True) if reference else []
    tickets = [point for line in lines for point in line.points]
    summary = "No network of this setting is finished yet."
    if tickets:
        sparse = min(tickets, key=lambda point: point.x)
        at = [(line, p) for line in lines for p in line.points if p.x < 1.1 * sparse.x]
        values = ", ".join(f"{line.name} {point.y:.1f}%" for line, point in at)
        summary = f"Test accuracy at the sparsest point so far, {sparse.x:.1%} density: {values}."
    x = Axis("density: surviving weights, sparser to the right", density=True)
    title = f"Accuracy against density, {own.name}"
    return line_chart(title, summary, x, Axis("test accuracy (%)"), [*behind, *lines])


def curve_chart(own: Readings, number: int) -> str:
    """Learning curves of a round."""
    lines = own.curve_lines(number)
    ends = [(line.points[-1], line.name) for line in lines if line.points]
    values = ", ".join(f"{name} {point.y:.1f}% at {point.x:g}" for point, name in ends)
    summary = f"Validation accuracy at the latest iteration: {values or 'nothing yet'}."
    iterations = (0.0, float(own.experiment.task.recipe.iterations))
    density = own.density_at(number)
    title = f"Learning curves, round {number}"
    title += f" ({density:.1%} density)" if density is not None else ""
    axes = Axis("iteration", span=iterations), Axis("validation accuracy (%)")
    return line_chart(title, summary, *axes, lines)


def path_chart(own: Readings, number: int) -> str:
    """Error along the line between two copies."""
    lines = own.path_lines(number)
    rises = []
    for line in lines:
        ends = (line.points[0].y + line.points[-1].y) / 2
        rises.append(f"{line.name} {max(point.y for point in line.points) - ends:.1f} points")
    summary = f"The error rises above that of the ends by: {', '.join(rises) or 'nothing yet'}."
    statistics = own.experiment.instability.statistics
    x = Axis(f"alpha, from one copy to the other ({statistics} statistics)", span=(0.0, 1.0))
    title = f"Error along the line, round {number}"
    return line_chart(title, summary, x, Axis("test error (%)"), lines)


def mask_chart(own: Readings, number: int, store: Store) -> tuple[str, list[Row]] | None:
    """The input pixels that the tickets of a round still look at, and the counts as rows.

    None for the dense network, for networks that begin with a convolution or with patches, and
    where no weights are stored: shipped results have none.
    """
    trials = [
        t for t in own.trials.values() if t.round == number and t.label == own.experiment.chain
    ]
    masks = []
    for trial in trials if number else ():
        if not trial.analysis and trial.key in own.results:
            tensors = store.get_tensors(trial.key)
            masks += [next(iter(tensors["masks"].values()))] if tensors else []
    shape = own.experiment.task.data().image_shape
    if not masks or masks[0].ndim != 3 or masks[0].shape[2] != math.prod(shape):
        return None
    counts = sum(mask.sum((0, 1)) for mask in masks).view(shape).sum(0)  # (H, W)
    blind = (counts == 0).float().mean().item()
    share = sum(mask.float().mean().item() for mask in masks) / len(masks)
    summary = f"First layer at {share:.1%} density: {blind:.0%} of the pixels are not looked at."
    rows: list[Row] = [
        {"row": y, **{f"column {x}": count for x, count in enumerate(row)}}
        for y, row in enumerate(counts.tolist())
    ]
    title = f"Surviving weights per input pixel, round {number}"
    return pixel_chart(title, summary, counts.tolist()), rows


def rows_of(lines: Iterable[Line], x: str, y: str) -> list[Row]:
    """Lines as rows of a table. x, y: the columns' names."""
    return [{"line": line.name, x: p.x, y: p.y} for line in lines for p in line.points]


def _summary(trained: list[tuple[Trial, Result]]) -> Point:
    """The mean over seeds, draws averaged first, with its 95% interval where seeds allow one."""
    seeds: dict[int, list[float]] = defaultdict(list)
    for trial, result in trained:
        seeds[trial.seed].append(100 * result["ticket"]["test_accuracy"])
    means = [sum(draws) / len(draws) for draws in seeds.values()]
    density = sum(result["ticket"]["density"] for _, result in trained) / len(trained)
    found = estimate(pd.Series(means))
    ends = (found.low, found.high) if found.seeds > 1 else (None, None)
    return Point(density, found.mean, *ends)


def _line(label: str, points: tuple[Point, ...], pale: bool) -> Line:
    look = look_of(label)
    return Line(f"{look.name}{', reference' if pale else ''}", points, look, pale)
