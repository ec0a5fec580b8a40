"""What an experiment will come to before it is run: densities, minutes and memory."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from labkit.base.store import Store
from labkit.engine.data import CLASSES, FOLDER, SHAPES
from labkit.engine.networks import outline
from labkit.engine.pruning import Pruning, densities as pruning_densities
from labkit.experiments.experiment import Experiment
from labkit.experiments.planning import plan
from labkit.experiments.progress import duration
from labkit.experiments.scheduling import missing
from labkit.experiments.task import Task

BINDER_MEGABYTES, BINDER_SECONDS = 2_000, 3_600  # over the first the kernel is killed
BUNDLED = ("mnist", "cifar10-16")
_CALIBRATION = 0.3  # seconds


@dataclass(frozen=True)
class Forecast:
    """networks: to be trained. seconds, megabytes: of that, or None where it is not known yet."""

    networks: int
    seconds: float | None = None
    megabytes: float | None = None

    def in_words(self) -> str:
        """What the run costs, as a sentence."""
        if not self.networks:
            return "Nothing to train: everything is stored."
        words = f"{self.networks} network{'' if self.networks == 1 else 's'} to train"
        if self.seconds is None or self.megabytes is None:
            return f"{words}; how long that takes is measured when the data are loaded."
        return (
            f"{words}: about {duration(max(1, self.seconds))} and {self.megabytes:,.0f} MB of "
            "memory on this machine."
        )

    def warning(self) -> str:
        """What is more than Binder's machines allow, or nothing."""
        over = []
        if self.megabytes is not None and self.megabytes > BINDER_MEGABYTES:
            over.append(f"its {BINDER_MEGABYTES:,} MB of memory, over which the kernel dies")
        if self.seconds is not None and self.seconds > BINDER_SECONDS:
            over.append("the hour of one processor core that it asks users to keep to")
        return f"That is more than Binder allows: {', and '.join(over)}." if over else ""


class Forecaster:
    """Predicts runs from a short calibration, once for each task and crowd."""

    def __init__(self, store: Store, device: str) -> None:
        self.store, self.device = store, device
        self._costs: dict[tuple[object, ...], tuple[float, float]] = {}

    def forecast(self, study: Sequence[Experiment]) -> Forecast:
        """The forecast of experiments of one task, after up to a second of calibration for a new
        one.

        Data that would have to be downloaded are not: then time and memory are None.
        """
        experiment = study[0]
        todo = missing(study, self.store)
        task, recipe = experiment.task, experiment.task.recipe
        if not todo or not (task.dataset in BUNDLED or task.dataset.startswith(FOLDER)):
            return Forecast(len(todo))
        key = (task.dataset, task.network, task.examples, task.image_size, recipe.batch_size,
               recipe.precision, recipe.augmentation, experiment.evaluate_every,
               len(experiment.seeds), experiment.treatments)  # fmt: skip
        if key not in self._costs:
            empty = Store(Path(tempfile.gettempdir(), "labkit-has-nothing-here"), shipped=False)
            whole = plan(experiment, empty, self.device, seconds=_CALIBRATION)
            self._costs[key] = whole.seconds / max(1, whole.iterations), whole.megabytes
        per_iteration, megabytes = self._costs[key]
        return Forecast(len(todo), per_iteration * sum(trial.work for trial in todo), megabytes)


def count_networks(experiment: Experiment) -> int:
    """How many trials an experiment has, analyses among them, from those of one seed and one draw:
    to make all may take minutes.
    """
    one = replace(experiment, seeds=experiment.seeds[:1], draws=1)
    trials = (trial for number in range(one.rounds + 1) for trial in one.trials(number))
    drawn = (t.round > 0 and t.treatment.drawn and not t.analysis for t in trials)
    return len(experiment.seeds) * sum(experiment.draws if chance else 1 for chance in drawn)


def densities(task: Task, pruning: Pruning, rounds: int) -> tuple[float, ...] | None:
    """The density after each round of pruning a task's network, as `labkit.engine.pruning` tells
    it: `rounds` + 1 numbers from 1.0 on, or None where they depend on the training.
    """
    return _densities(task.pinned(), pruning, rounds)


@lru_cache(maxsize=256)
def _densities(task: Task, pruning: Pruning, rounds: int) -> tuple[float, ...] | None:
    return pruning_densities(pruning, outline(task.network, *image_of(task)), rounds)


def image_of(task: Task) -> tuple[tuple[int, int, int], int]:
    """The shape of a task's images, and the number of its classes."""
    if task.dataset in SHAPES:  # without loading the data: they may have to be downloaded
        channels, height, width = SHAPES[task.dataset]
        classes = CLASSES[task.dataset]
    else:
        data = task.data()
        channels, height, width = data.image_shape
        classes = len(data.classes)
    return (channels, task.image_size or height, task.image_size or width), classes


def rate_for(task: Task, pruning: Callable[[float], Pruning], rounds: int, target: float) -> float:
    """The rate per round, in thousandths, whose last density is nearest to the target.

    pruning: from a rate to the pruning with that rate. Raises what it and `densities` raise, and
    ValueError where the density depends on the training.
    """
    task = task.pinned()

    def reached(thousandths: int) -> float:
        found = _densities(task, pruning(thousandths / 1000), rounds)
        if found is None:
            raise ValueError(
                "how much is left cannot be chosen where the filters of all layers are ranked "
                "together: which go depends on the training; choose how much each round removes"
            )
        return found[-1]

    low, high = 1, 999  # the density falls as the rate grows
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if reached(middle) > target else (low, middle)
    return min((low, high), key=lambda rate: abs(reached(rate) - target)) / 1000
