"""What a run will cost on this machine: minutes and memory, predicted from two seconds of training.

The calibration trains a population like those of the run with the engine's own `train`, and
evaluates it, so whatever makes this machine fast or slow is in the number.
"""

import math
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import torch

from labkit.data import Data
from labkit.experiment import Experiment, Task, Trial, all_trials
from labkit.networks import Population, build
from labkit.pruning import full_masks
from labkit.scheduling import missing, side_by_side, work
from labkit.store import Store
from labkit.training import Recipe, evaluate_on, train

WARM_UP = 3  # iterations that are not timed: the first ones allocate
IMPROVING = 0.5  # share of evaluations that lower the validation loss, so cost a test set as well
BASE = 350.0  # megabytes of Python and torch, where the system does not say


@dataclass(frozen=True)
class Plan:
    """A prediction. trials, stored: networks of the experiment, and those that are done already.

    iterations: of one network each, still to be trained. side_by_side: networks that train
    together. milliseconds: per network and iteration, without evaluations. seconds: of the run,
    evaluations included. megabytes: peak of the process; gpu_megabytes: on the GPU, 0 without.
    """

    trials: int
    stored: int
    iterations: int = 0
    side_by_side: int = 0
    milliseconds: float = 0.0
    seconds: float = 0.0
    megabytes: float = 0.0
    gpu_megabytes: float = 0.0


def plan(
    experiment: Experiment | Sequence[Experiment],
    store: Store,
    device: str = "cpu",
    seconds: float = 2.0,
) -> Plan:
    """Predict what `labkit.run` has left to do, from about `seconds` of training for each task.

    Narrow networks are counted like whole ones, so it is an upper bound with structured pruning.
    Nothing is trained where everything is stored. Raises what loading the data raises.
    """
    todo = missing(experiment, store)
    trials = len({trial.key for trial in all_trials(experiment)})
    parts = [
        _plan_of_task(task, list(same_task), device, seconds)
        for task, same_task in groupby(
            sorted(todo, key=lambda t: repr(t.experiment.task)), lambda t: t.experiment.task
        )
    ]
    if not parts:
        return Plan(trials, trials)
    iterations = sum(part.iterations for part in parts)
    return Plan(
        trials=trials,
        stored=trials - len(todo),
        iterations=iterations,
        side_by_side=max(parts, key=lambda part: part.iterations).side_by_side,
        milliseconds=sum(part.milliseconds * part.iterations for part in parts) / iterations,
        seconds=sum(part.seconds for part in parts),
        megabytes=max(part.megabytes for part in parts),
        gpu_megabytes=max(part.gpu_megabytes for part in parts),
    )


def _plan_of_task(task: Task, todo: list[Trial], device: str, seconds: float) -> Plan:
    usual = Counter(len(chunk) for chunk in side_by_side(todo, device)).most_common(1)[0][0]
    data = task.data().to(device)
    network = build(task.network, data.image_shape, len(data.classes), usual)
    network.initialise([torch.Generator().manual_seed(i) for i in range(usual)]).to(device)
    iteration = _iteration_seconds(network, task.recipe, data, seconds) / usual
    example = _evaluation_seconds(network, data, task.recipe.precision) / usual
    iterations = sum(work(trial) for trial in todo)
    examples = sum(_evaluated_examples(trial, data) for trial in todo)
    parameters = sum(p.numel() for p in network.parameters())
    on_gpu = torch.cuda.max_memory_allocated() / 1e6 if device.startswith("cuda") else 0.0
    return Plan(
        trials=len(todo),
        stored=0,
        iterations=iterations,
        side_by_side=usual,
        milliseconds=1000 * iteration,
        seconds=iterations * iteration + examples * example,
        megabytes=_peak_megabytes(data, parameters) + _kept_megabytes(parameters),
        gpu_megabytes=on_gpu,
    )


def _iteration_seconds(network: Population, recipe: Recipe, data: Data, seconds: float) -> float:
    warm_up = min(WARM_UP, recipe.iterations - 1)
    began = math.inf
    done = 0
    masks = full_masks(network)
    for step in train(network, recipe, data, list(range(network.replicas)), masks=masks):
        if step.iteration == warm_up:
            _finish_queue(data)
            began = time.perf_counter()
        done = step.iteration - warm_up
        if done > 0 and time.perf_counter() > began + seconds:
            break
    _finish_queue(data)
    return (time.perf_counter() - began) / done


def _evaluation_seconds(network: Population, data: Data, precision: str) -> float:
    """Seconds per example, for the whole population."""
    few, some = data.validation[:100], data.validation[:2_000]
    evaluate_on(network, data, few, precision)
    began = time.perf_counter()
    evaluate_on(network, data, some, precision)
    return (time.perf_counter() - began) / len(some)


def _evaluated_examples(trial: Trial, data: Data) -> float:
    """Examples that a trial is evaluated on, as `labkit.running` does it."""
    if trial.analysis:
        analysis = trial.experiment.instability
        lines = analysis.copies * (analysis.copies - 1) / 2
        # Each point re-estimates its statistics, and has a training error and a test error.
        return lines * analysis.alphas * (2 * analysis.train_examples + len(data.test))
    evaluations = 1 + math.ceil(work(trial) / trial.experiment.evaluate_every)
    each = len(data.validation) + IMPROVING * len(data.test)
    return evaluations * each + len(data.train)


def _finish_queue(data: Data) -> None:
    if data.train.labels.is_cuda:
        torch.cuda.synchronize()


def _peak_megabytes(data: Data, parameters: int) -> float:
    """Highest resident memory of this process, the calibration included."""
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e6
    except (OSError, IndexError):
        pass
    if sys.platform == "darwin":
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    splits = (data.train, data.validation, data.test)
    images = sum(split.images.numel() for split in splits)
    return BASE + 2 * images / 1e6 + 5 * 4 * parameters / 1e6


def _kept_megabytes(parameters: int) -> float:
    """What a run keeps and a calibration does not: rewound, final and parent weights, and masks."""
    return (3 * 4 + 3) * parameters / 1e6
