"""What a trial starts from: its masks, weights and moments, by its treatment.

Populations of one on the CPU, in the shape of the whole network; structured pruning is cut out of
them later.
"""

from collections.abc import Sequence

from torch import Tensor

from labkit.base.store import Store
from labkit.engine.data import Data
from labkit.engine.narrowing import narrow, widen_state
from labkit.engine.networks import Masks, Population, State, build
from labkit.engine.pruning import (
    apply_masks,
    curvature,
    full_masks,
    prune,
    random_masks,
    shuffle_layers,
)
from labkit.engine.training import Snapshot, generator
from labkit.experiments.experiment import Experiment, Trial


def build_network(experiment: Experiment, data: Data, replicas: int = 1) -> Population:
    """Networks of the experiment's task, not yet initialised."""
    return build(experiment.task.network, data.image_shape, len(data.classes), replicas)


def starting_point(
    trial: Trial, data: Data, store: Store, device: str
) -> tuple[State, list[dict[str, Tensor]], Masks]:
    """Weights, moments and masks that a trial starts from, as populations of one on the CPU."""
    state: State
    moments: list[dict[str, Tensor]] = []
    if trial.round == 0:
        state = _initial(trial, data, "initialisation").state()
        if trial.analysis:
            state, moments = _rewound(trial, data, store)
        return state, moments, full_masks(build_network(trial.experiment, data))
    parent = store.get_tensors(trial.parent.key)
    masks = _pruned(trial, parent["final"], parent["masks"], data, device)
    treatment = trial.treatment
    draw = [generator(trial.seed, treatment.mask, trial.round, trial.draw)]
    if treatment.mask == "shuffled":
        units = build_network(trial.experiment, data).units() if trial.narrow else []
        masks = shuffle_layers(masks, draw, units=units)
    elif treatment.mask == "random":
        masks = random_masks(masks, draw)
    if treatment.weights == "final":
        state = parent["final"]
    elif treatment.weights in ("fresh", "rescaled"):
        state = _fresh(trial, masks, data)
    else:
        state, moments = _rewound(trial, data, store)
    return apply_masks(state, masks), moments, masks


def _pruned(trial: Trial, weights: State, masks: Masks, data: Data, device: str) -> Masks:
    """The masks of this round, from those of the round before and what was trained with them."""
    pruning = trial.experiment.pruning
    network = build_network(trial.experiment, data)
    curved = None
    if pruning.criterion == "obd":
        network.load_state_dict(weights)
        noise = [generator(trial.seed, "curvature", trial.round)]
        curved = {n: c.cpu() for n, c in curvature(network.to(device), data, noise).items()}
    return prune(
        pruning,
        weights,
        masks,
        [generator(trial.seed, "pruning", trial.round)],
        units=network.units() if pruning.structured else (),
        curvature=curved,
    )


def _initial(trial: Trial, data: Data, *purpose: str | int) -> Population:
    return _initialised(build_network(trial.experiment, data), trial, *purpose)


def _initialised(network: Population, trial: Trial, *purpose: str | int) -> Population:
    gamma = 0.5 if trial.experiment.task.recipe.slimming else 1.0
    return network.initialise([generator(trial.seed, *purpose)], gamma=gamma)


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


def _rewound(trial: Trial, data: Data, store: Store) -> tuple[State, list[dict[str, Tensor]]]:
    """The dense network's weights and moments at the rewind iteration."""
    at = trial.experiment.rewind
    if at == 0:
        return _initial(trial, data, "initialisation").state(), []
    saved = store.get_tensors(trial.dense_key(at))
    return saved["network"], saved["moments"]


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
    # Adam counts its steps in a tensor without a replica axis.
    return {n: (t[i : i + 1] if t.ndim else t).cpu().clone() for n, t in tensors.items()}
