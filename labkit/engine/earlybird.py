"""Early birds: when have the units that pruning would keep stopped changing?

You et al. 2020 (section 3) draw a ticket as soon as the masks of five looks in a row differ by no
more than a tenth. What the distance measures is how much a mask still *moves*, and a mask moves
less whenever the learning rate drops: whether the ticket is good is another question.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from labkit.base.validation import positive, whole
from labkit.engine.data import Data
from labkit.engine.narrowing import surviving_units
from labkit.engine.networks import Population, State
from labkit.engine.pruning import Pruning, full_masks, prune
from labkit.engine.training import Recipe, train

THRESHOLD, MEMORY = 0.1, 5  # of You et al. 2020, section 3


@dataclass(frozen=True)
class Look:
    """What pruning would keep after `iteration` updates: share of units removed -> bool (R, units),
    the units of all layers one after the other.
    """

    iteration: int
    kept: Mapping[float, Tensor]


def kept_units(network: Population, state: State, pruning: Pruning) -> Tensor:
    """The units that would be left if this state were pruned now, bool (R, units).

    pruning: structured, by "gamma" or "magnitude". Raises ValueError where it cannot rank, since
    all gammas are equal, as before training: of ties the first layers would go.
    """
    units = network.units()
    if pruning.criterion == "gamma":
        gammas = torch.cat([state[f"{unit.norm}.weight"] for unit in units], 1)  # (R, units)
        if (gammas == gammas[:, :1]).all(1).any():
            raise ValueError("state must be of a network in training: all its gammas are equal")
    masks = prune(pruning, state, full_masks(network), [], units=units)
    return torch.cat(list(surviving_units(masks, units).values()), 1)


def follow_channels(
    network: Population,
    recipe: Recipe,
    data: Data,
    seeds: Sequence[int],
    every: int,
    shares: Sequence[float] = (0.3, 0.5, 0.7),
) -> Iterator[Look]:
    """Train a population like `train`, and look every so many iterations at the channels that
    network slimming would keep: by the gammas of all layers together, at several shares at once.
    """
    whole("every", every, 1, recipe.iterations)
    prunings = {share: Pruning("structured", "gamma", "global", share) for share in shares}
    at = range(every, recipe.iterations + 1, every)
    for step in train(network, recipe, data, seeds, snapshots=at):
        if step.snapshot is not None:
            state = step.snapshot.network
            kept = {share: kept_units(network, state, p) for share, p in prunings.items()}
            yield Look(step.iteration, kept)


def mask_distances(kept: Sequence[Tensor]) -> Tensor:
    """Between all pairs of looks, the share of units of which one keeps and the other does not.

    kept: a bool (R, units) per look, L of them. Returns (R, L, L), in [0, 1].
    """
    stacked = torch.stack(list(kept), 1)  # (R, L, units)
    return (stacked.unsqueeze(1) != stacked.unsqueeze(2)).float().mean(3)


def early_bird(distances: Tensor, threshold: float = THRESHOLD, memory: int = MEMORY) -> int | None:
    """The look at which the ticket is drawn: the first whose mask is within `threshold` of each of
    the `memory` - 1 before it; None where there is none. So it is never before the fifth.

    distances: (L, L), of one replica. Raises ValueError for what is not square.
    """
    if distances.ndim != 2 or distances.shape[0] != distances.shape[1]:
        raise ValueError(f"distances must be (L, L), of one replica, not {tuple(distances.shape)}")
    positive("threshold", threshold, zero=True)
    whole("memory", memory, 2)
    for newest in range(memory - 1, len(distances)):
        if (distances[newest, newest - memory + 1 : newest] <= threshold).all():
            return newest
    return None
