"""Running an experiment: a generator of events in, tidy tables out.

Pull `run` in a for-loop, from a progress bar or from a timer; to stop is to stop pulling. Every
finished network is in the store at once, so what was stopped or killed goes on where it was.
"""

import platform
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from itertools import groupby
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from labkit.data import Data
from labkit.experiment import REWIND, Experiment, Trial
from labkit.networks import Population, State, build
from labkit.pruning import (
    Masks,
    apply_masks,
    density,
    flops,
    full_masks,
    prune,
    random_masks,
    shuffle_layers,
    survivors,
)
from labkit.store import Store
from labkit.training import Evaluation, Recipe, Snapshot, evaluate_on, generator, train

CACHE = 20_000_000  # bytes of weights, gradients and moments that stay in a processor's cache


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


@dataclass
class Tables:
    """Results in long form. tickets: a row per trained network; curves: a row per evaluation.

    Accuracies are in [0, 1], losses mean cross-entropies. `early_stop` is the iteration of minimum
    validation loss, `test_accuracy` is read there, and `final_test_accuracy` after the last
    iteration; `censored` says that the minimum was the last evaluation, so training was too short
    to see it.
    """

    tickets: pd.DataFrame
    curves: pd.DataFrame


def run(experiment: Experiment, store: Store, device: str = "cpu") -> Iterator[Event]:
    """Train what the store does not have yet, round by round, for all seeds side by side.

    device: "cpu", "cuda", or any that torch knows. The same experiment on the same machine gives
    the same numbers, bit for bit, also when it was stopped in between.
    """
    trials = missing(experiment, store)
    total, done = sum(work(trial) for trial in trials), 0
    data = experiment.task.data().to(device) if trials else None
    for number, same_round in groupby(trials, lambda trial: trial.round):
        for chunk in chunks(list(same_round), device):
            assert data is not None
            yield Progress(done, total, number)
            for event in _train(chunk, data, store, device):
                if isinstance(event, int):
                    yield Progress(done + event * len(chunk), total, number)
                else:
                    yield event
            done += sum(work(trial) for trial in chunk)


def missing(experiment: Experiment, store: Store) -> list[Trial]:
    """The trials that `run` has to train, in order of rounds: those without a result, and those
    of the chain whose weights a later one needs and only shipped results are known of.
    """
    todo: list[Trial] = []
    needed: set[str] = set()
    for number in range(experiment.rounds, -1, -1):
        trials = [
            trial
            for trial in experiment.trials(number)
            if store.get(trial.key) is None
            or (trial.key in needed and not store.has_tensors(trial.key))
        ]
        needed = {trial.parent.key for trial in trials} if number else set()
        todo = trials + todo
    return todo


def work(trial: Trial) -> int:
    """Iterations that a trial trains for."""
    return trial.experiment.task.recipe.iterations - trial.start


def tables(experiment: Experiment, store: Store) -> Tables:
    """What the store and the shipped results have of an experiment; rows may be missing."""
    tickets, curves = [], []
    for number in range(experiment.rounds + 1):
        for trial in experiment.trials(number):
            result = store.get(trial.key)
            if result is not None:
                label = {
                    "seed": trial.seed,
                    "round": trial.round,
                    "treatment": trial.label,
                    "draw": trial.draw,
                    "iterations": work(trial),
                    "density": result["ticket"]["density"],
                }
                tickets.append({**label, **result["ticket"]})
                curves.append(pd.DataFrame({**label, **result["curve"]}))
    empty = pd.DataFrame()
    return Tables(pd.DataFrame(tickets), pd.concat(curves, ignore_index=True) if curves else empty)


def chunks(trials: list[Trial], device: str) -> Iterator[list[Trial]]:
    """Trials with one schedule, in even groups that train fastest side by side."""

    def schedule(trial: Trial) -> tuple[int, bool, bool]:
        return trial.start, trial.treatment.schedule == "last", _restores(trial)

    limit = population_limit(trials[0].experiment, device)
    for _, group in groupby(sorted(trials, key=schedule), schedule):
        rest = list(group)
        while rest:
            size = -(-len(rest) // -(-len(rest) // limit))
            yield rest[:size]
            rest = rest[size:]


def population_limit(experiment: Experiment, device: str) -> int:
    """How many networks to train side by side: what fits the cache of a processor, or enough to
    keep a GPU busy.
    """
    if device != "cpu":
        return 64
    network = _network(experiment, experiment.task.data(), 1)
    return max(1, min(8, CACHE // (16 * sum(p.numel() for p in network.parameters()))))


def _network(experiment: Experiment, data: Data, replicas: int) -> Population:
    return build(experiment.task.network, data.image_shape, len(data.classes), replicas)


def _restores(trial: Trial) -> bool:
    e = trial.experiment
    return (
        trial.start > 0 and e.optimizer_state == "restored" and trial.treatment.weights == "rewound"
    )


def _train(
    chunk: list[Trial], data: Data, store: Store, device: str
) -> Iterator[int | Evaluated | Finished]:
    """Train trials of one schedule as a population; yields iterations done, and events."""
    began = time.perf_counter()
    experiment, start = chunk[0].experiment, chunk[0].start
    recipe = experiment.task.recipe
    network = _network(experiment, data, len(chunk))
    states, moments, masks = [], [], []
    for trial in chunk:
        state, moment, mask = _starting_point(trial, data, store, device)
        states.append(state)
        moments.append(moment)
        masks.append(mask)
    network.load_state_dict(_side_by_side(states))
    network.to(device)
    joint = {name: mask.to(device) for name, mask in _side_by_side(masks).items()}
    at = [*range(0, recipe.iterations, experiment.evaluate_every), recipe.iterations]
    save_rewind = chunk[0].round == 0 and experiment.rewind > 0
    evaluations: list[tuple[int, Evaluation]] = []
    for step in train(
        network,
        _last_rate(recipe) if chunk[0].treatment.schedule == "last" else recipe,
        data,
        [trial.seed for trial in chunk],
        masks=joint if chunk[0].round else None,
        start=start,
        moments=_joint_moments(moments, device) if _restores(chunk[0]) else None,
        evaluate_at=[iteration for iteration in at if iteration >= start],
        snapshots=[experiment.rewind] if save_rewind else [],
    ):
        if step.snapshot is not None:
            _save_snapshot(step.snapshot, chunk, store)
        if step.evaluation is not None:
            evaluations.append((step.iteration, step.evaluation))
            yield Evaluated(chunk, step.iteration, step.evaluation)
        yield step.iteration - start
    yield from _finish(chunk, network, joint, evaluations, data, store, device, began)


def _finish(
    chunk: list[Trial],
    network: Population,
    masks: Masks,
    evaluations: list[tuple[int, Evaluation]],
    data: Data,
    store: Store,
    device: str,
    began: float,
) -> Iterator[Finished]:
    train_accuracy = evaluate_on(network, data, data.train).accuracy
    masks = {name: mask.cpu() for name, mask in masks.items()}
    arithmetic = flops(network, data.image_shape, masks)
    prunable = sum(mask[0].numel() for mask in masks.values())
    others = sum(p[0].numel() for p in network.parameters()) - prunable
    final = {name: tensor.cpu() for name, tensor in network.state().items()}
    provenance = _provenance(device, time.perf_counter() - began, len(chunk))
    results = []
    for i, trial in enumerate(chunk):
        curve = _curve(evaluations, i)
        ticket = {
            "density": density(masks)[i].item(),
            "weights": int(survivors(masks)[i]),
            "parameters": int(survivors(masks)[i]) + others,
            "flops": int(arithmetic[i]),
            **_early_stop(curve),
            "final_test_accuracy": curve["test_accuracy"][-1],
            "train_accuracy": train_accuracy[i].item(),
        }
        if trial.treatment == REWIND:  # weights first: a result says that they are there
            own = {name: tensor[i : i + 1].clone() for name, tensor in final.items()}
            mask = {name: tensor[i : i + 1].clone() for name, tensor in masks.items()}
            store.put_tensors(trial.key, {"final": own, "masks": mask})
        result = {
            "trial": {**trial.lineage(), "treatment": trial.label},
            "ticket": ticket,
            "curve": curve,
            "provenance": provenance,
        }
        store.put(trial.key, result)
        results.append(result)
    # Only now: stopped in between, the others would be trained again in another company.
    for trial, result in zip(chunk, results, strict=True):
        yield Finished(trial, result)


def _curve(evaluations: list[tuple[int, Evaluation]], i: int) -> dict[str, list[float]]:
    def column(values: list[Tensor]) -> list[float]:
        return [round(value[i].item(), 6) for value in values]

    return {
        "iteration": [iteration for iteration, _ in evaluations],
        "validation_loss": column([e.validation.loss for _, e in evaluations]),
        "validation_accuracy": column([e.validation.accuracy for _, e in evaluations]),
        "test_loss": column([e.test.loss for _, e in evaluations]),
        "test_accuracy": column([e.test.accuracy for _, e in evaluations]),
    }


def _early_stop(curve: dict[str, list[float]]) -> dict[str, Any]:
    losses = curve["validation_loss"]
    best = losses.index(min(losses))
    return {
        "early_stop": curve["iteration"][best],
        "censored": best == len(losses) - 1,
        "test_accuracy": curve["test_accuracy"][best],
    }


def _starting_point(
    trial: Trial, data: Data, store: Store, device: str
) -> tuple[State, list[dict[str, Tensor]], Masks]:
    """Weights, moments and masks that a trial starts from, as populations of one on the CPU."""
    if trial.round == 0:
        network = _initial(trial, data, "initialisation")
        return network.state(), [], full_masks(network)
    parent = store.get_tensors(trial.parent.key)
    noise = ("pruning", trial.round)
    masks = prune(
        trial.experiment.pruning, parent["final"], parent["masks"], [generator(trial.seed, *noise)]
    )
    treatment = trial.treatment
    draw = [generator(trial.seed, treatment.mask, trial.round, trial.draw)]
    if treatment.mask == "shuffled":
        masks = shuffle_layers(masks, draw)
    elif treatment.mask == "random":
        masks = random_masks(masks, draw)
    moments: list[dict[str, Tensor]] = []
    if treatment.weights == "final":
        state = parent["final"]
    elif treatment.weights == "fresh":
        state = _initial(trial, data, "re-initialisation", trial.round, trial.draw).state()
    else:
        state, moments = _rewound(trial, data, store, device)
    return apply_masks(state, masks), moments, masks


def _initial(trial: Trial, data: Data, *purpose: str | int) -> Population:
    return _network(trial.experiment, data, 1).initialise([generator(trial.seed, *purpose)])


def _rewound(
    trial: Trial, data: Data, store: Store, device: str
) -> tuple[State, list[dict[str, Tensor]]]:
    """The dense network's weights and moments at the rewind iteration, trained again if lost."""
    network, at = _initial(trial, data, "initialisation"), trial.experiment.rewind
    if at == 0:
        return network.state(), []
    saved = store.get_tensors(trial.rewind_key)
    if saved is None:
        network.to(device)
        for step in train(
            network, trial.experiment.task.recipe, data, [trial.seed], snapshots=[at]
        ):
            if step.snapshot is not None:
                _save_snapshot(step.snapshot, [trial], store)
                break
        saved = store.get_tensors(trial.rewind_key)
    return saved["network"], saved["moments"]


def _save_snapshot(snapshot: Snapshot, chunk: list[Trial], store: Store) -> None:
    for i, trial in enumerate(chunk):
        store.put_tensors(
            trial.rewind_key,
            {
                "network": _replica(snapshot.network, i),
                "moments": [_replica(moment, i) for moment in snapshot.moments],
            },
        )


def _replica(tensors: State, i: int) -> State:
    # Adam counts its steps in a tensor without a replica axis.
    return {n: (t[i : i + 1] if t.ndim else t).cpu().clone() for n, t in tensors.items()}


def _side_by_side(parts: Sequence[State]) -> State:
    return {
        name: torch.cat([part[name] for part in parts]) if first.ndim else first
        for name, first in parts[0].items()
    }


def _joint_moments(moments: list[list[dict[str, Tensor]]], device: str) -> list[State]:
    joint = [_side_by_side(parts) for parts in zip(*moments, strict=True)]
    return [{name: tensor.to(device) for name, tensor in part.items()} for part in joint]


def _last_rate(recipe: Recipe) -> Recipe:
    """The recipe with the learning rate of its last iteration throughout."""
    return replace(
        recipe, learning_rate=recipe.rate(recipe.iterations - 1), milestones=(), warmup=0
    )


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
