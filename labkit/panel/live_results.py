"""What is known of an experiment at this moment, as lines, layers and rows.

Finished networks come from the store and the shipped results; of networks that are training, the
evaluations so far. Tables in long form are made by `labkit.tables`; these means are what a chart
needs many times a second.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import pandas as pd

from labkit.base.store import Store
from labkit.engine.networks import outline
from labkit.engine.pruning import removed
from labkit.experiments.experiment import Experiment, Trial, all_trials
from labkit.experiments.forecast import image_of
from labkit.experiments.mishaps import UNKNOWN, collapsed, told
from labkit.experiments.proof import result_of
from labkit.experiments.running import Evaluated, Finished
from labkit.experiments.statistics import Estimate, estimate
from labkit.experiments.strays import strays
from labkit.figures.layers import dense_widths
from labkit.figures.picture import look_of
from labkit.panel.charts import Line, Point
from labkit.panel.diagrams import Layer
from labkit.panel.numbers import Row

Result = dict[str, Any]


class LiveResults:
    """The results of an experiment that a store has, and those that arrive while it runs."""

    def __init__(self, experiment: Experiment, store: Store) -> None:
        self.experiment, self.store = experiment, store
        self.trials = {trial.key: trial for trial in all_trials(experiment)}
        self.live: dict[str, dict[int, float]] = {}  # key -> iteration -> validation accuracy
        found = ((key, result_of(trial, store)) for key, trial in self.trials.items())
        self.results: dict[str, Result] = {key: result for key, result in found if result}
        self._lines: list[Line] | None = None

    def take(self, event: Evaluated | Finished) -> None:
        """Take in what a run has measured, of networks of this experiment."""
        if isinstance(event, Finished):
            if event.trial.key in self.trials:
                self.live.pop(event.trial.key, None)
                self.results[event.trial.key] = event.result
                self._lines = None
        elif not event.trials[0].analysis:
            accuracies = event.evaluation.validation.accuracy.tolist()
            for trial, accuracy in zip(event.trials, accuracies, strict=True):
                if trial.key in self.trials:
                    self.live.setdefault(trial.key, {})[event.iteration] = accuracy

    @property
    def known(self) -> bool:
        """Whether there is anything to show."""
        return bool(self.results or self.live)

    @property
    def latest_round(self) -> int:
        """The last round of which anything is known; 0 where nothing is."""
        return max((self.trials[key].round for key in (*self.results, *self.live)), default=0)

    @property
    def arms(self) -> list[str]:
        """What is trained beside the dense network, the chain first."""
        return [self.experiment.chain, *(t.name for t in self.experiment.treatments)]

    def tickets(self) -> list[Row]:
        """A row per finished network, as in `labkit.Tables.tickets`, shortened."""
        columns = ("density", "weights", "early_stop", "test_accuracy", "final_test_accuracy")
        rows: list[Row] = []
        for trial, result in self._finished():
            row: Row = {"seed": trial.seed, "round": trial.round}
            row["treatment"] = look_of(trial.label).name
            row["rewind"] = self.experiment.rewind if trial.round else ""
            rows.append(row | {"draw": trial.draw} | {n: result["ticket"][n] for n in columns})
        return rows

    def mishaps(self) -> list[str]:
        """What befell finished networks, and how many: diverged, lost a layer, answer one class,
        strayed.
        """
        finished = sorted(self._finished(), key=lambda pair: pair[0].round)
        astray = strays([trial for trial, _ in finished], {t.key: r for t, r in finished})
        rows = [
            {"seed": trial.seed, "round": trial.round, "treatment": trial.label, "draw": trial.draw}
            | {name: result["ticket"].get(name, usual) for name, usual in UNKNOWN.items()}
            | {"collapsed": collapsed(result["ticket"]), "stray": trial.key in astray}
            for trial, result in finished
        ]
        return told(pd.DataFrame(rows))

    def accuracy_lines(self) -> list[Line]:
        """Test accuracy (%) at the early stop against density, a line per treatment, with 95%
        intervals over seeds.
        """
        if self._lines is None:
            arms: dict[str, dict[int, list[tuple[Trial, Result]]]] = defaultdict(dict)
            for trial, result in self._finished():
                arms[trial.label].setdefault(trial.round, []).append((trial, result))
            dense = arms.pop("dense", {})
            self._lines = []
            for label, rounds in {self.experiment.chain: {}, **arms}.items():
                # The chain starts at the dense network.
                known = rounds if label != self.experiment.chain else {**dense, **rounds}
                if known:
                    points = tuple(_summary(known[number]) for number in sorted(known))
                    self._lines.append(_line(label, points))
        return self._lines

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
            lines.append(_line(label, tuple(points[1:] if len(points) > 3 else points)))
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
            _line(label, tuple(Point(a, sum(e) / len(e)) for a, e in sorted(arm.items())))
            for label, arm in arms.items()
        ]

    def density_at(self, number: int) -> float | None:
        """Mean density of the tickets of a round that are finished, or None."""
        chain = ("dense", self.experiment.chain)
        found = [
            result["ticket"]["density"]
            for trial, result in self._finished()
            if trial.round == number and trial.label in chain
        ]
        return sum(found) / len(found) if found else None

    def per_seed(self, arm: str, number: int, column: str = "test_accuracy") -> pd.Series:
        """A column of an arm's tickets in a round, means over draws by seed. arm: "dense" is that
        of round 0; with the column "instability", of the analyses.
        """
        round_number, analysis = 0 if arm == "dense" else number, column == "instability"
        values: dict[int, list[float]] = defaultdict(list)
        for key, trial in self.trials.items():
            same = trial.round == round_number and trial.label == arm
            if same and trial.analysis == analysis and key in self.results:
                result = self.results[key]
                values[trial.seed].append(result[column] if analysis else result["ticket"][column])
        return pd.Series({s: sum(v) / len(v) for s, v in values.items()}, dtype=float)

    def estimate_of(self, arm: str, number: int, column: str = "test_accuracy") -> Estimate:
        """Its mean over seeds in points of a hundred, with the interval."""
        return estimate(100 * self.per_seed(arm, number, column))

    def gap(self, arm: str, against: str, number: int, column: str = "test_accuracy") -> Estimate:
        """Arm minus arm, seed by seed, in points of a hundred."""
        return gap_of(self, arm, self, against, number, column)

    def layers(self, number: int) -> list[Layer] | None:
        """What each layer keeps in a round, the mean over seeds; None where that was not kept.

        By what was stored, or by the widths of narrower networks, or, where every layer loses its
        share, by the rule.
        """
        e = self.experiment
        weights = _sizes(e)
        if number == 0:
            return _layers(list(weights.values()), list(weights.values()))
        stored = self._masks(number, "layers")
        if e.pruning.structured:
            widths = [
                result["ticket"]["widths"]
                for trial, result in self._finished()
                if trial.round == number and "widths" in result["ticket"]
            ]
            return _layers(_mean(widths), dense_widths(e.task.network)) if widths else None
        if stored:
            return _layers(_mean(stored), list(weights.values()))
        if e.pruning.scope == "layerwise":
            return _layers(_by_rule(e, number), list(weights.values()))
        return None

    def first_layer(self, number: int) -> tuple[str, list[list[float]]] | None:
        """What is left of the first layer in a round, the sum over seeds, in rows: of "pixels" of
        the image, or of its "filters"; None where that was not kept.
        """
        if found := self._masks(number, "pixels"):
            (_, height, width), _ = image_of(self.experiment.task)
            total = [sum(column) for column in zip(*found, strict=True)]
            return "pixels", [total[row * width : (row + 1) * width] for row in range(height)]
        if found := self._masks(number, "filters"):
            total = [sum(column) for column in zip(*found, strict=True)]
            width = next(w for w in (8, 4, 2, 1) if len(total) % w == 0)
            return "filters", [total[at : at + width] for at in range(0, len(total), width)]
        return None

    def _masks(self, number: int, part: str) -> list[list[int]]:
        """Of each seed's ticket of a round, what is stored of its mask."""
        chain = ("dense", self.experiment.chain)
        return [
            result["mask"][part]
            for trial, result in self._finished()
            if trial.round == number and trial.label in chain and part in result.get("mask", {})
        ]

    def _finished(self) -> Iterable[tuple[Trial, Result]]:
        for key, trial in self.trials.items():
            if key in self.results and not trial.analysis:
                yield trial, self.results[key]


def gap_of(
    one: LiveResults, arm: str, other: LiveResults, against: str, number: int, column: str
) -> Estimate:
    """An arm of one minus an arm of another in a round, by the seeds that both have, in points; of
    early stops, in per cent of the other's.
    """
    mine, theirs = one.per_seed(arm, number, column), other.per_seed(against, number, column)
    if column == "early_stop":
        theirs = theirs.where(theirs > 0)
        return estimate((100 * (mine / theirs - 1)).dropna())
    return estimate((100 * (mine - theirs)).dropna())


def _summary(trained: list[tuple[Trial, Result]]) -> Point:
    """The mean over seeds, draws averaged first, with its 95% interval where seeds allow one."""
    seeds: dict[int, list[float]] = defaultdict(list)
    for trial, result in trained:
        seeds[trial.seed].append(100 * result["ticket"]["test_accuracy"])
    means = [sum(draws) / len(draws) for draws in seeds.values()]
    density = sum(result["ticket"]["density"] for _, result in trained) / len(trained)
    found = estimate(pd.Series(means))
    ends = (found.low, found.high) if math.isfinite(found.low) else (None, None)
    return Point(density, found.mean, *ends)


def _line(label: str, points: tuple[Point, ...]) -> Line:
    look = look_of(label)
    return Line(look.name, points, look)


@lru_cache(maxsize=64)
def _sizes(e: Experiment) -> dict[str, int]:
    """Weights of each layer that can be pruned."""
    network = outline(e.task.network, *image_of(e.task))
    return {name: weight[0].numel() for name, weight in network.prunable().items()}


def _by_rule(e: Experiment, number: int) -> list[float]:
    """Survivors of each layer where every layer loses its share in every round."""
    rates = e.pruning.rates(dict(outline(e.task.network, *image_of(e.task)).prunable()))
    left = dict(_sizes(e))
    for _ in range(number):
        left = {name: count - removed(count, rates[name]) for name, count in left.items()}
    return list(left.values())


def _mean(rows: Sequence[Sequence[float]]) -> list[float]:
    return [sum(column) / len(column) for column in zip(*rows, strict=True)]


def _layers(kept: Sequence[float], totals: Sequence[int]) -> list[Layer]:
    names = [f"layer {n}" for n in range(1, len(totals))] + ["output"]
    if len(kept) < len(totals) or len(totals) == 1:
        names = [f"layer {n}" for n in range(1, len(totals) + 1)]
    return [Layer(*row) for row in zip(names, kept, totals, strict=True)]
