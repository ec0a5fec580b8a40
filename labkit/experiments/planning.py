"""What a run will cost on this machine: minutes and memory, predicted from two seconds of training.

The calibration trains a population like those of the run with the engine's own `train`, and
evaluates it, so whatever makes this machine fast or slow is in the number.
"""

import math
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from heapq import heappop, heappush
from pathlib import Path
from statistics import mean

import torch

from labkit.base.machine import find_jobs
from labkit.base.store import Store
from labkit.base.workers import Call, Order, run_calls
from labkit.engine.data import Data
from labkit.engine.networks import Population, build
from labkit.engine.pruning import full_masks
from labkit.engine.training import Recipe, evaluate_on, generator, train
from labkit.experiments.experiment import Study, Trial, all_trials
from labkit.experiments.scheduling import in_chunks, missing
from labkit.experiments.task import Task

WARM_UP = 3  # iterations that are not timed: the first ones allocate
BASE = 350.0  # megabytes of Python and torch, where the system does not say


@dataclass(frozen=True)
class Plan:
    """A prediction. trials, stored: networks of the experiment, and those that are done already.

    iterations: of one network each, still to be trained. side_by_side: networks that train
    together. milliseconds: per network and iteration in a process, without evaluations. seconds: of
    the run, evaluations included. megabytes: peak of all processes; gpu_megabytes: on the GPU, 0
    without.
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
    study: Study,
    store: Store,
    device: str = "cpu",
    jobs: int | None = None,
    seconds: float = 2.0,
) -> Plan:
    """Predict what `labkit.run` has left to do, from about `seconds` of training for each task.

    jobs: see `labkit.run`; as many are calibrated at a time, as they slow each other down.
    Narrow networks are counted like whole ones, so it is an upper bound with structured pruning.
    Nothing is trained where everything is stored. Raises what loading the data raises.
    """
    jobs = find_jobs(jobs, device)
    todo = missing(study, store)
    trials = len({trial.key for trial in all_trials(study)})
    if not todo:
        return Plan(trials, trials)
    chunks = in_chunks(todo, device, jobs)
    tasks: defaultdict[Task, list[list[Trial]]] = defaultdict(list)
    for chunk in chunks:
        tasks[chunk.argument[0].experiment.task].append(chunk.argument)
    costs, iterations = {}, {}
    for task, some in tasks.items():
        usual = Counter(map(len, some)).most_common(1)[0][0]
        costs[task] = _calibrate(task, usual, device, min(jobs, len(some)), seconds)
        iterations[task] = sum(trial.work for trials in some for trial in trials)
    total = sum(iterations.values())
    durations = [sum(costs[t.experiment.task].seconds(t) for t in c.argument) for c in chunks]
    return Plan(
        trials=trials,
        stored=trials - len(todo),
        iterations=total,
        side_by_side=costs[max(iterations, key=lambda task: iterations[task])].side_by_side,
        milliseconds=sum(1000 * costs[t].iteration * n for t, n in iterations.items()) / total,
        seconds=_last_end(durations, chunks, jobs),
        megabytes=max(cost.megabytes for cost in costs.values()),
        gpu_megabytes=max(cost.gpu_megabytes for cost in costs.values()),
    )


@dataclass(frozen=True)
class _Costs:
    """What a task costs: seconds of training for one iteration, and of evaluation on one example,
    both of one network, in a process that trains `side_by_side` of them.
    """

    data: Data
    side_by_side: int
    iteration: float
    example: float
    megabytes: float
    gpu_megabytes: float

    def seconds(self, trial: Trial) -> float:
        """Of a trial, whatever is evaluated in it included."""
        return trial.work * self.iteration + _evaluated_examples(trial, self.data) * self.example


def _calibrate(task: Task, side_by_side: int, device: str, jobs: int, seconds: float) -> _Costs:
    """Mean costs in processes that train at the same time."""
    data = task.data()  # here, as a run does it: processes share what they are forked from
    network = build(task.network, data.image_shape, len(data.classes), side_by_side)
    measure = partial(_measure, recipe=task.recipe, data=data, device=device, seconds=seconds)
    values = run_calls(measure, [Call(network)] * jobs, jobs)
    costs = (value for _, value in values if isinstance(value, tuple))
    iteration, example, private, on_gpu = (mean(column) for column in zip(*costs, strict=True))
    parameters = sum(p.numel() for p in network.parameters())
    megabytes = _peak_megabytes(data, parameters) + jobs * _kept_megabytes(parameters)
    if jobs > 1:
        megabytes += jobs * private
    each = iteration / side_by_side, example / side_by_side
    return _Costs(data, side_by_side, *each, megabytes, on_gpu)


def _measure(
    network: Population, recipe: Recipe, data: Data, device: str, seconds: float
) -> Iterator[tuple[float, float, float, float]]:
    """Seconds of an iteration and of an example; megabytes: this process's own, and the GPU's."""
    data = data.to(device)
    network.initialise([generator(i) for i in range(network.replicas)]).to(device)
    iteration = _iteration_seconds(network, recipe, data, seconds)
    example = _evaluation_seconds(network, data, recipe.precision)
    on_gpu = torch.cuda.max_memory_allocated(device) / 1e6 if device.startswith("cuda") else 0.0
    private = _private_megabytes(data, sum(p.numel() for p in network.parameters()))
    yield iteration, example, private, on_gpu


def _last_end(durations: Sequence[float], chunks: Sequence[Call[list[Trial]]], jobs: int) -> float:
    """When the last chunk ends."""
    now, order = 0.0, Order(chunks, jobs)
    ends: list[tuple[float, int]] = []
    while order:
        for number in order.begin():
            heappush(ends, (now + durations[number], number))
        now, number = heappop(ends)
        order.end(number)
    return now


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
    """Examples that a trial is evaluated on, as `labkit.experiments.running` does it."""
    if trial.analysis:
        analysis = trial.experiment.instability
        lines = analysis.copies * (analysis.copies - 1) / 2
        # Each point re-estimates its statistics, and has a training error and a test error.
        return lines * analysis.alphas * (2 * analysis.train_examples + len(data.test))
    evaluations = 1 + math.ceil(trial.work / trial.experiment.evaluate_every)
    # The test set once for the last weights, and once for those of the lowest validation loss.
    return evaluations * len(data.validation) + 2 * len(data.test) + len(data.train)


def _finish_queue(data: Data) -> None:
    device = data.train.labels.device
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


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


def _private_megabytes(data: Data, parameters: int) -> float:
    """Memory that this process shares with no other."""
    try:
        rollup = Path("/proc/self/smaps_rollup").read_text()
    except OSError:  # not Linux, where processes share next to nothing
        return _peak_megabytes(data, parameters)
    private = (line.split()[1] for line in rollup.splitlines() if line.startswith("Private_"))
    return sum(map(int, private)) * 1024 / 1e6


def _kept_megabytes(parameters: int) -> float:
    """What a run keeps and a calibration does not: rewound, final and parent weights, and masks."""
    return (3 * 4 + 3) * parameters / 1e6
