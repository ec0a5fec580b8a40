"""Running an experiment: a generator of events in, tidy tables out.

Pull `run` in a for-loop, from a progress bar or from a timer; to stop is to stop pulling. Every
finished network is in the store at once, so what was stopped or killed goes on where it was.
"""

import math
import platform
import time
from collections import defaultdict
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from itertools import combinations
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from labkit.base.generators import between
from labkit.base.machine import device_label, find_jobs, lab_commit, lab_version
from labkit.base.neutral import on_neutral_ground
from labkit.base.store import Store
from labkit.base.workers import Ended, Silence, run_calls
from labkit.engine.connectivity import error_along, instability
from labkit.engine.data import Data
from labkit.engine.narrowing import (
    narrow,
    narrow_moments,
    narrow_state,
    surviving_units,
    widen_state,
)
from labkit.engine.networks import Masks, Population
from labkit.engine.optimizers import Moments
from labkit.engine.pruning import density, flops, full_masks, survivors
from labkit.engine.training import Evaluation, Recipe, Step, evaluate_on, train
from labkit.experiments.cluster import run_on, shares
from labkit.experiments.experiment import Study, Trial
from labkit.experiments.mishaps import mishaps
from labkit.experiments.scheduling import in_chunks, missing
from labkit.experiments.strays import norm_of, parents_of
from labkit.experiments.task import Task
from labkit.experiments.tickets import build_network, save_snapshot, side_by_side, start_of
from labkit.experiments.treatments import BY_FLOPS

if TYPE_CHECKING:
    from distributed import Client


@dataclass
class Progress:
    """An event: `done` of `total` units of work, each an iteration of one network."""

    done: int
    total: int
    round: int


@dataclass
class Evaluated:
    """An event: trials that train side by side were evaluated after `iteration` updates."""

    trials: Sequence[Trial]
    iteration: int
    evaluation: Evaluation


@dataclass
class Finished:
    """An event: a trial is done and in the store. result: what the store holds of it."""

    trial: Trial
    result: dict[str, Any]


Event = Progress | Evaluated | Finished


def run(
    study: Study,
    store: Store,
    device: str = "cpu",
    jobs: int | None = None,
    *,
    client: "Client | None" = None,
) -> Generator[Event, None, None]:
    """Train what the store does not have yet, round by round, for all seeds side by side.

    study: an experiment, or several, which share what they have in common.
    device: one of `labkit.base.machine.devices`. The same experiment on the same machine, with as
    many jobs, gives the same numbers, bit for bit, also when it was stopped in between.
    jobs: how many populations are trained at a time, each in a process of its own with one thread;
    1 is in this process, with one thread, and None is `labkit.base.machine.find_jobs`: one for each
    core of the CPU that torch would use. More than 1 is for the CPU. Outside Linux, a script that
    uses processes needs `if __name__ == "__main__":` around what it does.
    client: a `dask.distributed.Client`, whose workers, of one thread each, then do the training,
    and this process all the writing; see `labkit.experiments.cluster`. The device is theirs, jobs
    None is one for each of them, and the numbers are those of as many jobs here, on processors of
    one kind.
    """
    jobs = find_jobs(jobs, device) if client is None else shares(jobs, client)
    trials = missing(study, store)
    rewinds: defaultdict[Task, set[int]] = defaultdict(set)
    for trial in trials:
        e = trial.experiment
        rewinds[e.task] |= {e.rewind, e.pruning.at or 0} - {0}
    chunks = in_chunks(trials, device, jobs)
    sizes = [sum(trial.work for trial in chunk.argument) for chunk in chunks]
    done = [0] * len(chunks)
    train_or_analyse = partial(_events, rewinds=dict(rewinds), device=device)
    if client is None:
        events = run_calls(partial(train_or_analyse, store=store), chunks, jobs)
    else:
        events = run_on(client, train_or_analyse, chunks, store)
    for number, event in events:
        if isinstance(event, Evaluated | Finished):
            yield event
            continue
        first = chunks[number].argument[0]
        if not isinstance(event, Silence):
            share = 1.0 if isinstance(event, Ended) else min(1.0, event / first.work)
            done[number] = int(share * sizes[number])
        yield Progress(sum(done), sum(sizes), first.round)


@on_neutral_ground
def _events(
    chunk: list[Trial],
    rewinds: Mapping[Task, set[int]],
    store: Store,
    device: str,
    data: Data | None = None,
) -> Generator[int | Event, None, None]:
    """Train or analyse trials of one schedule as a population; yields iterations done, and events.

    rewinds: the iterations of each task whose states are saved of dense networks. data: None are
    loaded here.
    """
    task = chunk[0].experiment.task
    data = (data or task.data()).to(device)
    yield 0
    if chunk[0].analysis:
        yield from _analyse(chunk, data, store, device)
    else:
        yield from _train(chunk, sorted(rewinds[task]), data, store, device)


@dataclass
class _Prepared:
    """A population that is ready to train.

    masks: of the whole network that it was cut from; trained: those that training re-applies, of
    which a network that is really narrower needs none.
    """

    network: Population
    masks: Masks
    trained: Masks
    moments: Moments
    recipe: Recipe

    def train(
        self, chunk: Sequence[Trial], data: Data, copies: Sequence[int], **options: Any
    ) -> Iterator[Step]:
        """Train it, trial i of the chunk with the noise of copies[i]; options: of `train`."""
        return train(
            self.network,
            self.recipe,
            data,
            [trial.seed for trial in chunk],
            copies=copies,
            masks=self.trained,
            start=chunk[0].start,
            moments=self.moments,
            frozen=any(trial.treatment.removed == "frozen" for trial in chunk),
            **options,
        )


def _prepare(chunk: Sequence[Trial], data: Data, store: Store, device: str) -> _Prepared:
    """Networks of trials with one schedule, side by side."""
    first = chunk[0]
    starts = {trial: start_of(trial, data, store, device) for trial in dict.fromkeys(chunk)}
    start = side_by_side([starts[trial] for trial in chunk])
    network = build_network(first.experiment, data, len(chunk))
    network.load_state_dict(start.weights)
    by_arithmetic = first.round and first.treatment.budget in BY_FLOPS
    gain = _saved_arithmetic(network, start.masks, data) if by_arithmetic else 1.0
    moments = start.moments
    if first.narrow:
        names = [name for name, _ in network.named_parameters()]
        moments = narrow_moments(moments, names, start.masks, network.units())
        network = narrow(network, start.masks)
    masks = {name: mask.to(device) for name, mask in start.masks.items()}
    return _Prepared(
        network.to(device),
        masks,
        masks if first.round and not first.narrow else {},
        [{n: t.to(device) for n, t in part.items()} for part in moments],
        first.recipe(gain),
    )


def _saved_arithmetic(network: Population, masks: Masks, data: Data) -> float:
    """FLOPs of the dense network / FLOPs of what the masks leave, of the first replica."""
    dense, left = (flops(network, data.image_shape, m)[0] for m in (full_masks(network), masks))
    return (dense / left).item()


def _train(
    chunk: list[Trial], rewinds: Sequence[int], data: Data, store: Store, device: str
) -> Iterator[int | Event]:
    began = time.perf_counter()
    experiment, start = chunk[0].experiment, chunk[0].start
    ready = _prepare(chunk, data, store, device)
    last = ready.recipe.iterations
    at = [*range(0, last, experiment.evaluate_every), last]
    evaluations: list[tuple[int, Evaluation]] = []
    for step in ready.train(
        chunk,
        data,
        copies=[0] * len(chunk),
        evaluate_at=[iteration for iteration in at if iteration >= start],
        snapshots=rewinds if chunk[0].round == 0 else [],
    ):
        if step.snapshot is not None:
            save_snapshot(step.snapshot, chunk, store)
        if step.evaluation is not None:
            evaluations.append((step.iteration, step.evaluation))
            yield Evaluated(chunk, step.iteration, step.evaluation)
        yield step.iteration - start
    yield from _finish(chunk, ready, evaluations, data, store, device, began)


def _finish(
    chunk: list[Trial],
    ready: _Prepared,
    evaluations: list[tuple[int, Evaluation]],
    data: Data,
    store: Store,
    device: str,
    began: float,
) -> Iterator[int | Event]:
    network = ready.network
    pieces = evaluate_on.pieces(network, data, data.train, ready.recipe.precision)
    measured = yield from between(pieces, ready.recipe.iterations - chunk[0].start)
    masks = {name: mask.cpu() for name, mask in ready.masks.items()}
    arithmetic = flops(network, data.image_shape, masks)
    unprunable = sum(p[0].numel() for p in network.parameters()) - sum(
        weight[0].numel() for weight in network.prunable().values()
    )
    final = {name: tensor.cpu() for name, tensor in network.state().items()}
    if chunk[0].narrow:
        final = widen_state(final, masks, network.units())
    provenance = _provenance(device, time.perf_counter() - began, chunk)
    losses = [evaluation.validation.loss for _, evaluation in evaluations]
    test = evaluations[-1][1].test
    assert test is not None
    results = []
    for i, trial in enumerate(chunk):
        ticket = {
            "density": density(masks)[i].item(),
            "weights": int(survivors(masks)[i]),
            "parameters": int(survivors(masks)[i]) + unprunable,
            "flops": int(arithmetic[i]),
            **_on_the_test_set(*evaluations[-1], i),
            "train_accuracy": measured.accuracy[i].item(),
            **mishaps(i, losses, final, masks, test.answers),
        }
        if trial.narrow:
            ticket["widths"] = _widths(masks, network, i)
        if trial.in_chain or trial.analysed:
            # Weights first: a result says that they are there.
            weights, mask = (
                {name: tensor[i : i + 1].clone() for name, tensor in tensors.items()}
                for tensors in (final, masks)
            )
            store.put_tensors(trial.key, {"final": weights, "masks": mask})
        result = {
            "trial": trial.describe(),
            "ticket": ticket,
            "curve": _curve(evaluations, i),
            "mask": _left_of(masks, i, data.image_shape),
            "norm": norm_of(final, i),
            "parents": parents_of(trial, store),
            "provenance": provenance,
        }
        store.put(trial.key, result)
        results.append(result)
    # Only now: stopped in between, the others would be trained again in another company.
    for trial, result in zip(chunk, results, strict=True):
        yield Finished(trial, result)


def _analyse(chunk: list[Trial], data: Data, store: Store, device: str) -> Iterator[int | Event]:
    """Train further copies of a trial's network, and measure the error between all pairs."""
    began = time.perf_counter()
    (trial,) = chunk
    analysis = trial.experiment.instability
    others = list(range(1, analysis.copies))
    copies = [trial] * len(others)
    ready = _prepare(copies, data, store, device)
    for step in ready.train(copies, data, copies=others):
        yield (step.iteration - trial.start) * len(others)
    itself = store.get_tensors(trial.needs[0].key)
    first = itself["final"]
    if trial.narrow:
        first = narrow_state(first, itself["masks"], ready.network.units())
    ends = [{name: tensor.to(device) for name, tensor in first.items()}]
    ends += [ready.network[i].state() for i in range(len(others))]
    paths: list[dict[str, Any]] = []
    for i, j in combinations(range(len(ends)), 2):
        line = (ready.network, ends[i], ends[j], data, analysis, ready.recipe)
        path = yield from between(error_along.pieces(*line), trial.work)
        paths.append(
            {
                "pair": f"{i}-{j}",
                "alpha": _rounded(path.alphas),
                "train_error": _rounded(path.train_error),
                "test_error": _rounded(path.test_error),
                "train_instability": instability(path.train_error),
                "instability": instability(path.test_error),
            }
        )
    result = {
        "trial": trial.describe(),
        **{
            name: sum(path[name] for path in paths) / len(paths)
            for name in ("instability", "train_instability")
        },
        "paths": paths,
        "parents": parents_of(trial, store),
        "provenance": _provenance(device, time.perf_counter() - began, copies),
    }
    store.put(trial.key, result)
    yield Finished(trial, result)


def _rounded(values: Tensor) -> list[float]:
    return [round(value, 6) for value in values.tolist()]


def _widths(masks: Masks, network: Population, i: int) -> list[int]:
    """Surviving units of replica i, layer by layer."""
    return [int(alive[i].sum()) for alive in surviving_units(masks, network.units()).values()]


def _left_of(masks: Masks, i: int, image_shape: tuple[int, int, int]) -> dict[str, list[int]]:
    """What the masks of replica i leave, in a few kilobytes, for pictures of shipped results.

    layers: surviving weights of each layer; and of a first layer (out, in) that sees whole images,
    pixels: at every input pixel, row by row, channels summed; of one (out, in, h, w), filters: of
    every filter.
    """
    left = {"layers": [int(mask[i].sum()) for mask in masks.values()]}
    first = next(iter(masks.values()))[i]
    if first.ndim == 4:
        left["filters"] = first.sum((1, 2, 3)).tolist()
    elif first.ndim == 2 and first.shape[1] == math.prod(image_shape):
        left["pixels"] = first.sum(0).view(image_shape).sum(0).flatten().tolist()
    return left


def _curve(evaluations: list[tuple[int, Evaluation]], i: int) -> dict[str, list[float]]:
    measured = [evaluation.validation for _, evaluation in evaluations]
    return {
        "iteration": [iteration for iteration, _ in evaluations],
        "validation_loss": _rounded(torch.stack([each.loss[i] for each in measured])),
        "validation_accuracy": _rounded(torch.stack([each.accuracy[i] for each in measured])),
    }


def _on_the_test_set(last: int, evaluation: Evaluation, i: int) -> dict[str, Any]:
    """Of replica i. last: the iteration after which it was evaluated."""
    assert evaluation.test is not None and evaluation.early_stop is not None
    stop = int(evaluation.early_stop.iteration[i])
    return {
        "early_stop": stop,
        "censored": stop == last,
        "test_accuracy": _rounded(evaluation.early_stop.test.accuracy)[i],
        "final_test_accuracy": _rounded(evaluation.test.accuracy)[i],
    }


def _provenance(device: str, seconds: float, company: list[Trial]) -> dict[str, Any]:
    """company: the trials that were trained side by side; where training is chaotic, the rounding
    of their common products decides where each of them ends.
    """
    name = platform.processor() or platform.machine()
    return {
        "device": f"CPU {name}" if device == "cpu" else device_label(device),
        "threads": torch.get_num_threads(),
        "company": [[trial.label, trial.seed, trial.draw] for trial in company],
        "seconds": round(seconds / len(company), 2),  # of wall time, per network
        "labkit": lab_version(),
        "commit": lab_commit(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
