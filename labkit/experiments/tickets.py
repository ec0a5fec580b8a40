"""What a trial starts from: weights, moments and masks, by its treatment. Here is the rewinding.

Populations of one on the CPU, in the shape of the whole network; structured pruning is cut out of
them when they are put side by side.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from labkit.base.store import Store
from labkit.engine.data import Data
from labkit.engine.narrowing import narrow, widen_state
from labkit.engine.networks import Masks, Population, State, build
from labkit.engine.optimizers import Moments
from labkit.engine.pruning import (
    apply_masks,
    curvature,
    full_masks,
    prune,
    random_masks,
    shuffle_layers,
)
from labkit.engine.saliency import scores_of
from labkit.engine.training import Snapshot, generator
from labkit.experiments.experiment import Experiment, Trial

# The parts of what is kept of a network: after training, and at a rewind iteration.
FINAL = ("final", "masks")
SNAPSHOT = ("network", "moments")


@dataclass(frozen=True)
class Start:
    """Where training begins. weights, masks: name -> (R, ...), zeros where a mask is False, unless
    what is removed stays frozen. moments: the optimizer's, a dictionary per parameter; empty is a
    new optimizer.
    """

    weights: State
    masks: Masks
    moments: Moments


def start_of(trial: Trial, data: Data, store: Store, device: str) -> Start:
    """What a trial starts from, a population of one on the CPU."""
    if trial.round == 0:
        weights, moments = _dense_at(trial, trial.rewinds_to, data, store)
        return Start(weights, full_masks(build_network(trial.experiment, data)), moments)
    decisive, masks = _drawn(trial, data, store, device)
    masks = _control(trial, masks, data)
    moments = []
    if trial.treatment.rewinds:
        rewound, moments = _dense_at(trial, trial.rewinds_to, data, store)
        weights = _varied(trial, rewound, masks, data)
    else:
        kept = trial.treatment.weights == "final"
        weights = decisive if kept else _fresh(trial, masks, data)
    if trial.treatment.removed == "zero":
        weights = apply_masks(weights, masks)
    return Start(weights, masks, moments if trial.restores else [])


def _dense_at(trial: Trial, iteration: int, data: Data, store: Store) -> tuple[State, Moments]:
    """The dense network after so many iterations, and the optimizer's moments there."""
    if iteration == 0:  # the initialisation is drawn again: the same seed, the same weights
        network = build_network(trial.experiment, data)
        return _initialised(network, trial, "initialisation").state(), []
    saved = store.get_tensors(trial.dense_key(iteration))
    return saved["network"], saved["moments"]


def _drawn(trial: Trial, data: Data, store: Store, device: str) -> tuple[State, Masks]:
    """The weights that decide the ticket's masks, and these: of the round before, trained; or of
    the dense network at one moment, by which every round ranks what is left.
    """
    at = trial.experiment.pruning.at
    if at is None:
        parent = store.get_tensors(trial.parent.key)
        weights, masks = parent["final"], parent["masks"]
        return weights, _pruned(trial, trial.round, weights, masks, data, device)
    weights, _ = _dense_at(trial, at, data, store)
    masks = full_masks(build_network(trial.experiment, data))
    for number in range(1, trial.round + 1):
        masks = _pruned(trial, number, apply_masks(weights, masks), masks, data, device)
    return weights, masks


def _pruned(
    trial: Trial, number: int, weights: State, masks: Masks, data: Data, device: str
) -> Masks:
    """The masks of a round, from those of the round before and what was trained with them."""
    pruning = trial.experiment.pruning
    network = build_network(trial.experiment, data)
    first = _initialised(network, trial, "initialisation").state()
    network.load_state_dict(weights)
    network.to(device)
    curved = scores = None
    if pruning.criterion == "obd":
        noise = [generator(trial.seed, "curvature", number)]
        curved = {n: c.cpu() for n, c in curvature(network, data, noise).items()}
    else:
        there = {name: mask.to(device) for name, mask in masks.items()}
        noise = [generator(trial.seed, "saliency", number)]
        scores = scores_of(pruning, network, there, data, noise, first)
        scores = scores and {name: score.cpu() for name, score in scores.items()}
    return prune(
        pruning,
        weights,
        masks,
        [generator(trial.seed, "pruning", number)],
        units=network.units() if pruning.structured else (),
        curvature=curved,
        scores=scores,
    )


def _varied(trial: Trial, rewound: State, masks: Masks, data: Data) -> State:
    """The rewound weights, or what a treatment keeps of them (Zhou et al. 2019, section 4)."""
    kind = trial.treatment.weights
    if kind == "rewound":
        return rewound
    fresh = _fresh(trial, masks, data) if kind == "fresh-signs" else {}
    draw = generator(trial.seed, kind, trial.round, trial.draw)
    state = dict(rewound)
    for name, mask in masks.items():
        own = rewound[name]  # (1, ...)
        sign, size = own.sign(), torch.full_like(own, own.std().item())
        if kind == "random-signs":
            sign = 2.0 * torch.randint(0, 2, own.shape, generator=draw) - 1
        elif kind == "fresh-signs":
            size = fresh[name].abs()
        elif kind in ("reshuffled", "reshuffled-signs"):
            survivors, moved = own[mask], own.clone()
            moved[mask] = survivors[torch.randperm(len(survivors), generator=draw)]
            sign, size = moved.sign() if kind == "reshuffled" else sign, moved.abs()
        state[name] = sign * size
    return state


def _control(trial: Trial, masks: Masks, data: Data) -> Masks:
    """The ticket's masks, or those of a control: shuffled within the layers, or all at random."""
    kind = trial.treatment.mask
    draw = [generator(trial.seed, kind, trial.round, trial.draw)]
    if kind == "shuffled":
        units = build_network(trial.experiment, data).units() if trial.narrow else []
        return shuffle_layers(masks, draw, units=units)
    return random_masks(masks, draw) if kind == "random" else masks


def _fresh(trial: Trial, masks: Masks, data: Data) -> State:
    """New weights for a ticket's masks, drawn for the widths that it really has."""
    purpose = ("re-initialisation", trial.round, trial.draw)
    network = build_network(trial.experiment, data)
    if trial.narrow:
        small = _initialised(narrow(network, masks), trial, *purpose)
        return widen_state(small.state(), masks, network.units())
    state = _initialised(network, trial, *purpose).state()
    if trial.treatment.weights == "rescaled":
        for name, mask in masks.items():
            state[name] /= mask.float().mean().clamp(min=1e-12).sqrt()
    return state


def _initialised(network: Population, trial: Trial, *purpose: str | int) -> Population:
    gamma = 0.5 if trial.experiment.task.recipe.slimming else 1.0
    return network.initialise([generator(trial.seed, *purpose)], gamma=gamma)


def build_network(experiment: Experiment, data: Data, replicas: int = 1) -> Population:
    """Networks of the experiment's task, not yet initialised."""
    return build(experiment.task.network, data.image_shape, len(data.classes), replicas)


def side_by_side(starts: Sequence[Start]) -> Start:
    """Several as one, their replicas in order. Their moments are of one kind, or there are none."""
    return Start(
        _joined([start.weights for start in starts]),
        _joined([start.masks for start in starts]),
        [_joined(parts) for parts in zip(*(start.moments for start in starts), strict=True)],
    )


def _joined(parts: Sequence[State]) -> State:
    # Adam counts its steps in a tensor without a replica axis.
    return {
        name: torch.cat([part[name] for part in parts]) if first.ndim else first
        for name, first in parts[0].items()
    }


def save_snapshot(snapshot: Snapshot, trials: Sequence[Trial], store: Store) -> None:
    """Keep what dense networks were at an iteration, one replica for each trial."""
    for i, trial in enumerate(trials):
        store.put_tensors(
            trial.dense_key(snapshot.iteration),
            {
                "network": _replica(snapshot.network, i),
                "moments": [_replica(moment, i) for moment in snapshot.moments],
            },
        )


def _replica(tensors: State, i: int) -> State:
    return {n: (t[i : i + 1] if t.ndim else t).cpu().clone() for n, t in tensors.items()}
