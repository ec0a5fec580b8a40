"""Supermasks: a mask is learned and the weights stay as they were drawn.

A masked, untrained network can do far better than chance (Zhou et al. 2019, section 5). How well
the masks of trained networks do by themselves is measured like any other arm, by the treatments
"untrained" and "untrained-signs"; here is the mask that is learned for nothing else.
"""

from collections.abc import Generator, Sequence
from itertools import islice

import torch
from torch import Tensor

from labkit.base.neutral import on_neutral_ground
from labkit.base.validation import fraction, whole
from labkit.engine.data import Data
from labkit.engine.gradients import gradients_of
from labkit.engine.networks import Masks, Population
from labkit.engine.optimizers import Optimizer
from labkit.engine.training import data_order, generator


@on_neutral_ground
def learn_masks(
    network: Population,
    data: Data,
    seeds: Sequence[int],
    density: float,
    iterations: int = 1_000,
    learning_rate: float = 1e-3,
    batch_size: int = 60,
) -> Generator[Masks, None, None]:
    """Learn which weights to keep, the share `density` of every layer, in (0, 1); yields the masks
    after every iteration, and `network` has them applied.

    Every weight has a score, and those with the highest are kept. A score is moved by gradient x
    weight, as if the mask were the score itself (edge-popup, Ramanujan et al. 2020, section 3; the
    masks of Zhou et al. are drawn from probabilities instead). seeds: one per replica, for the
    scores and the order of the data. Biases are not trained.
    Raises ValueError for a density or a number of iterations out of range.
    """
    fraction("density", density, zero=False)
    whole("iterations", iterations, 1)
    weights = network.prunable()
    first = {name: weight.detach().clone() for name, weight in weights.items()}
    draws = [generator(seed, "supermask") for seed in seeds]
    # As large as the weights that they belong to: Adam's steps are of one size for all.
    scores = {name: _drawn_like(weight, draws) for name, weight in first.items()}
    optimizer = Optimizer("adam", scores.values(), 0.0, 0.0, None)
    gradients = gradients_of(network, batch_size)
    order = data_order([(seed, 0) for seed in seeds], len(data.train), batch_size, 0)
    network.train()
    masks = _apply_highest(scores, first, weights, density)
    names = [name for name, _ in network.named_parameters()]
    for index in islice(order, iterations):
        batch = data.train[index.to(data.train.labels.device)]
        found = dict(zip(names, gradients(data.normalise(batch.images), batch.labels), strict=True))
        optimizer.step([found[name] * first[name] for name in scores], learning_rate)
        masks = _apply_highest(scores, first, weights, density)
        yield masks


def _drawn_like(weight: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    drawn = torch.stack([torch.rand(weight.shape[1:], generator=g) for g in generators])
    return drawn.to(weight.device) * weight.std()


@torch.no_grad()
def _apply_highest(
    scores: dict[str, Tensor], first: dict[str, Tensor], weights: dict, density: float
) -> Masks:
    masks = {}
    for name, score in scores.items():
        flat = score.flatten(1)  # (R, N)
        count = min(flat.shape[1] - 1, max(1, round((1 - density) * flat.shape[1])))
        limit = flat.kthvalue(count, 1, keepdim=True).values  # the highest of those that go
        masks[name] = (flat > limit).view_as(score)
        weights[name].copy_(first[name] * masks[name])
    return masks
