"""Running an experiment: a generator of events in, tidy tables out.

Pull `run` in a for-loop, from a progress bar or from a timer; to stop is to stop pulling. Every
finished network is in the store at once, so what was stopped or killed goes on where it was.
"""

import platform
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from labkit.base.generators import between
from labkit.base.machine import find_jobs
from labkit.base.store import Store
from labkit.base.workers import Call, Ended, run_calls
from labkit.engine.connectivity import going_along, instability
from labkit.engine.data import Data
from labkit.engine.narrowing import narrow, narrow_state, surviving_units, widen_state
from labkit.engine.networks import Masks, Population, State
from labkit.engine.pruning import density, flops, full_masks, survivors
from labkit.engine.training import Evaluation, Recipe, evaluating, train
from labkit.experiments.experiment import REWIND, Experiment, Task, Trial
from labkit.experiments.scheduling import MOST_EPOCHS, in_chunks, missing, restores, work
from labkit.experiments.tickets import build_network, save_snapshot, starting_point


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
    experiment: Experiment | Sequence[Experiment],
    store: Store,
    device: str = "cpu",
    jobs: int = 1,
) -> Iterator[Event]:
    """Train what the store does not have yet, round by round, for all seeds side by side.

    experiment: one, or several, which share what they have in common.
    device: "cpu", "cuda", or any that torch knows. The same experiment on the same machine, with as
    many jobs, gives the same numbers, bit for bit, also when it was stopped in between.
    jobs: how many populations are trained at a time, from 1, each in a process of its own with one
    thread; 1, and rounds of too few networks, train in this process with all threads. More than 1
    is for the CPU. Outside Linux, a script that asks for it needs `if __name__ == "__main__":`
    around what it does.
    """
    jobs = find_jobs(jobs, device)
    trials = missing(experiment, store)
    rewinds: defaultdict[Task, set[int]] = defaultdict(set)
    for trial in trials:
        rewinds[trial.experiment.task] |= {trial.experiment.rewind} - {0}
    chunks, calls = [], []
    for chunk in in_chunks(trials, device, jobs):
        saved = sorted(rewinds[chunk.trials[0].experiment.task])
        arguments = chunk.trials, saved, store, device
        calls.append(Call(_events, arguments, alone=chunk.alone, after=chunk.after))
        chunks.append(chunk.trials)
    sizes = [sum(map(work, chunk)) for chunk in chunks]
    done = [0] * len(chunks)
    for number, event in run_calls(calls, jobs):
        if isinstance(event, Evaluated | Finished):
            yield event
            continue
        share = 1.0 if isinstance(event, Ended) else min(1.0, event / work(chunks[number][0]))
        done[number] = int(share * sizes[number])
        yield Progress(sum(done), sum(sizes), chunks[number][0].round)


def _events(
    chunk: list[Trial], rewinds: Sequence[int], store: Store, device: str
) -> Iterator[int | Event]:
    """Train or analyse trials of one schedule as a population; yields iterations done, and events.

    rewinds: iterations whose state is saved of dense networks.
    """
    data = chunk[0].experiment.task.data().to(device)
    yield 0
    if chunk[0].analysis:
        yield from _analyse(chunk, data, store, device)
    else:
        yield from _train(chunk, rewinds, data, store, device)


@dataclass
class _Prepared:
    """A population that is ready to train. masks: of the whole network that it was cut from."""

    network: Population
    masks: Masks
    recipe: Recipe
    options: dict[str, Any]  # for `train`


def _prepare(
    chunk: Sequence[Trial], copies: Sequence[int], data: Data, store: Store, device: str
) -> _Prepared:
    """Networks of trials with one schedule side by side, trial i with the noise of copies[i]."""
    first = chunk[0]
    network = build_network(first.experiment, data, len(chunk))
    started = {trial: starting_point(trial, data, store, device) for trial in dict.fromkeys(chunk)}
    states, moments, masks = zip(*(started[trial] for trial in chunk), strict=True)
    joint = _side_by_side(masks)
    recipe = _recipe(first, network, joint, data)
    network.load_state_dict(_side_by_side(states))
    restored: list[State] = []
    if restores(first):
        restored = [_side_by_side(parts) for parts in zip(*moments, strict=True)]
    if first.narrow:
        restored = _narrow_moments(restored, network, joint)
        network = narrow(network, joint)
    joint = {name: mask.to(device) for name, mask in joint.items()}
    options = {
        "seeds": [trial.seed for trial in chunk],
        "copies": copies,
        "masks": joint if first.round and not first.narrow else None,
        "start": first.start,
        "moments": [{n: t.to(device) for n, t in part.items()} for part in restored],
    }
    return _Prepared(network.to(device), joint, recipe, options)


def _recipe(trial: Trial, network: Population, masks: Masks, data: Data) -> Recipe:
    """The recipe by which a trial trains. network: the whole one; masks: of which this is left."""
    recipe = trial.experiment.task.recipe
    if trial.round == 0:
        return recipe
    if not trial.slims:
        recipe = replace(recipe, slimming=0.0)
    if trial.treatment.schedule == "last":
        rate = recipe.rate(recipe.iterations - 1)
        recipe = replace(recipe, learning_rate=rate, milestones=(), warmup=0)
    if trial.treatment.budget == "quarter":
        recipe = replace(recipe, iterations=work(trial))
    elif trial.treatment.budget == "flops":
        dense, left = (flops(network, data.image_shape, m)[0] for m in (full_masks(network), masks))
        epochs = min(MOST_EPOCHS, (dense / left).item())
        recipe = replace(recipe, iterations=round(epochs * recipe.iterations))
    return recipe


def _train(
    chunk: list[Trial], rewinds: Sequence[int], data: Data, store: Store, device: str
) -> Iterator[int | Event]:
    began = time.perf_counter()
    experiment, start = chunk[0].experiment, chunk[0].start
    ready = _prepare(chunk, [0] * len(chunk), data, store, device)
    last = ready.recipe.iterations
    at = [*range(0, last, experiment.evaluate_every), last]
    evaluations: list[tuple[int, Evaluation]] = []
    for step in train(
        ready.network,
        ready.recipe,
        data,
        **ready.options,
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
    pieces = evaluating(network, data, data.train, ready.recipe.precision)
    measured = yield from between(pieces, ready.recipe.iterations - chunk[0].start)
    masks = {name: mask.cpu() for name, mask in ready.masks.items()}
    arithmetic = flops(network, data.image_shape, masks)
    unprunable = sum(p[0].numel() for p in network.parameters()) - sum(
        weight[0].numel() for weight in network.prunable().values()
    )
    final = {name: tensor.cpu() for name, tensor in network.state().items()}
    if chunk[0].narrow:
        final = widen_state(final, masks, network.units())
    provenance = _provenance(device, time.perf_counter() - began, len(chunk))
    results = []
    for i, trial in enumerate(chunk):
        ticket = {
            "density": density(masks)[i].item(),
            "weights": int(survivors(masks)[i]),
            "parameters": int(survivors(masks)[i]) + unprunable,
            "flops": int(arithmetic[i]),
            **_on_the_test_set(*evaluations[-1], i),
            "train_accuracy": measured.accuracy[i].item(),
        }
        if trial.narrow:
            ticket["widths"] = _widths(masks, network, i)
        if trial.treatment == REWIND or trial.analysed:
            # Weights first: a result says that they are there.
            own = {name: tensor[i : i + 1].clone() for name, tensor in final.items()}
            mask = {name: tensor[i : i + 1].clone() for name, tensor in masks.items()}
            store.put_tensors(trial.key, {"final": own, "masks": mask})
        result = {
            "trial": trial.describe(),
            "ticket": ticket,
            "curve": _curve(evaluations, i),
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
    ready = _prepare([trial] * len(others), others, data, store, device)
    for step in train(ready.network, ready.recipe, data, **ready.options):
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
        path = yield from between(going_along(*line), work(trial))
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
        "provenance": _provenance(device, time.perf_counter() - began, len(others)),
    }
    store.put(trial.key, result)
    yield Finished(trial, result)


def _rounded(values: Tensor) -> list[float]:
    return [round(value, 6) for value in values.tolist()]


def _widths(masks: Masks, network: Population, i: int) -> list[int]:
    """Surviving units of replica i, layer by layer."""
    return [int(alive[i].sum()) for alive in surviving_units(masks, network.units()).values()]


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


def _side_by_side(parts: Sequence[State]) -> State:
    return {
        name: torch.cat([part[name] for part in parts]) if first.ndim else first
        for name, first in parts[0].items()
    }


def _narrow_moments(moments: list[State], network: Population, masks: Masks) -> list[State]:
    """Moments of surviving units; each is shaped like its parameter, a count of steps apart."""
    names = [name for name, _ in network.named_parameters()]
    narrowed = [dict(part) for part in moments]
    for kind in sorted({kind for part in moments for kind, value in part.items() if value.ndim}):
        whole = {name: part[kind] for name, part in zip(names, moments, strict=True)}
        small = narrow_state(whole, masks, network.units())
        for name, part in zip(names, narrowed, strict=True):
            part[kind] = small[name]
    return narrowed


def _provenance(device: str, seconds: float, replicas: int) -> dict[str, Any]:
    name = platform.processor() or platform.machine()
    return {
        "device": torch.cuda.get_device_name() if device.startswith("cuda") else f"CPU {name}",
        "threads": torch.get_num_threads(),
        "seconds": round(seconds / replicas, 2),  # of wall time, per network
        "torch": torch.__version__,
        "python": platform.python_version(),
        "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
