"""Linear mode connectivity: the error on the line between two networks, and instability.

Two copies of a network go on from one state with different SGD noise. If the error nowhere on the
straight line between their weights exceeds that of the ends, both are in the same, linearly
connected, minimum, and training was *stable* to the noise (Frankle et al. 2020, section 2).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from labkit.base.generators import InPieces, Pieces
from labkit.base.neutral import on_neutral_ground
from labkit.base.validation import choice, keep, whole
from labkit.engine.data import Data, Split
from labkit.engine.layers import BatchNorm
from labkit.engine.networks import Population, State
from labkit.engine.training import Recipe, evaluate_on, flip_and_crop

STABLE = 0.02  # instability below which training counts as stable (Frankle et al. 2020, section 3)
STATISTICS = ("re-estimated", "interpolated")
SIDE_BY_SIDE = 5  # networks of a line evaluated together: thirty would not fit Binder's memory


@dataclass(frozen=True)
class Instability:
    """How instability is analysed.

    copies: networks trained from one state, with different SGD noise; every pair is a line. 0
        switches the analysis off. alphas: evenly spaced points on a line, the ends included.
    statistics: of batch normalisation between the ends, "re-estimated" on training images with the
        recipe's augmentation, or "interpolated" like weights, which exaggerates the barrier.
        Frankle et al. 2020 do not say.
    train_examples: training images on which the training error is measured.
    """

    copies: int = 0
    alphas: int = 30
    statistics: str = "re-estimated"
    train_examples: int = 5_000

    def __post_init__(self) -> None:
        keep(
            self,
            copies=whole("instability.copies", self.copies, 0, 20),
            alphas=whole("instability.alphas", self.alphas, 3, 1000),
            train_examples=whole("instability.train_examples", self.train_examples, 2),
        )
        if self.copies == 1:
            raise ValueError("instability.copies must be 0 or from 2 to 20, not 1")
        choice("instability.statistics", self.statistics, STATISTICS)


@dataclass(frozen=True)
class ErrorPath:
    """Error rates in [0, 1] along a line. alphas, train_error, test_error: (A,) each."""

    alphas: Tensor
    train_error: Tensor
    test_error: Tensor


def interpolate(one: State, other: State, alphas: Tensor) -> State:
    """The states (1 - alpha) x one + alpha x other as replicas; name -> (A, ...).

    one, other: states of single networks (populations of one). alphas: (A,); 0 and 1 give the ends
    exactly.
    """
    states = {}
    for name, start in one.items():
        weight = alphas.to(start).view(-1, *[1] * (start.ndim - 1))
        states[name] = (1 - weight) * start + weight * other[name]
    return states


def instability(errors: Tensor) -> float:
    """The highest error on a line minus the mean of its ends (Frankle et al. 2020, section 2).

    errors: (A,), error rates from one end to the other. In [0, 1], as they are.
    """
    return (errors.max() - (errors[0] + errors[-1]) / 2).item()


@InPieces
@on_neutral_ground
@torch.no_grad()
def error_along(
    network: Population,
    one: State,
    other: State,
    data: Data,
    analysis: Instability,
    recipe: Recipe,
) -> Pieces[ErrorPath]:
    """Train and test error on the line between two states of a network.

    network: a population of this architecture, left as it is; one, other: states of single
    networks, masked where they are pruned; recipe: by which they were trained. The ends are
    evaluated exactly as they were trained; batch-norm statistics between them are as
    `analysis.statistics` says. Its pieces are batches.
    """
    alphas = torch.linspace(0, 1, analysis.alphas)
    train: list[Tensor] = []
    test: list[Tensor] = []
    sample = data.train[: analysis.train_examples]
    for beside in alphas.split(SIDE_BY_SIDE):  # (A,), networks that are evaluated together
        states = interpolate(one, other, beside)  # name -> (A, ...)
        line = network.with_state(states)
        if analysis.statistics == "re-estimated":
            reestimate_statistics(line, data, sample, recipe.augmentation)
            # The ends keep the statistics with which they were trained.
            inside = (beside > 0) & (beside < 1)
            line.load_state_dict({n: _where(inside, t, states[n]) for n, t in line.state().items()})
        for split, errors in ((sample, train), (data.test, test)):
            measured = yield from evaluate_on.pieces(line, data, split, recipe.precision)
            errors.append(1 - measured.accuracy)
    return ErrorPath(alphas, torch.cat(train), torch.cat(test))


@torch.no_grad()
def reestimate_statistics(
    network: Population,
    data: Data,
    split: Split,
    augmentation: str = "none",
    batch_size: int = 500,
) -> None:
    """Replace batch-norm statistics, in place, by their means over batches of these images.

    augmentation: that of the recipe by which the network was trained. Without it, statistics are of
    other images than in training, and every network seems worse: by more than a point where the
    zeros that move in darken the images.
    """
    norms = [module for module in network.modules() if isinstance(module, BatchNorm)]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    network.train()
    # Even batches: normalisation may fail on an image that is left over alone.
    for number, images in enumerate(split.images.tensor_split(-(-len(split) // batch_size))):
        for norm in norms:
            norm.momentum = 1 / (number + 1)  # the n-th batch enters a mean of n with 1 / n
        batch = data.normalise(images)[None]
        if augmentation == "flip-crop":
            batch = flip_and_crop(batch, [(0, 0)], number)
        network(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def _where(replicas: Tensor, one: Tensor, other: Tensor) -> Tensor:
    return torch.where(replicas.to(one.device).view(-1, *[1] * (one.ndim - 1)), one, other)


@dataclass(frozen=True)
class Surface:
    """Error rates on a plane through three networks, that of Garipov et al. 2018 (arXiv 1802.10026,
    appendix A.1): its axes are at right angles, and distances on it are distances between weights.

    x, y: (A,), (B,), distances in weight space, the first network at the origin and the second on
    the x axis. error: (B, A), in [0, 1]. networks: name -> place (x, y) of each of the three.
    statistics: of batch normalisation, or "" for networks without any.
    """

    x: Tensor
    y: Tensor
    error: Tensor
    networks: dict[str, tuple[float, float]]
    statistics: str = ""


@torch.no_grad()
def error_surface(
    network: Population,
    states: Mapping[str, State],
    data: Data,
    split: Split,
    points: int = 15,
    margin: float = 0.25,
) -> Surface:
    """The error on the plane through three states of a network.

    network: a population of this architecture, left as it is. states: name -> state of a single
    network, three of them, not on one line; masked where they are pruned, as the plane is then.
    split: the images on which the error is measured. points: per side of the grid, at least 2.
    margin: how far the grid goes beyond the networks, as a share of their distance. Batch-norm
    statistics are re-estimated on these images at every point. Raises ValueError for other than
    three states, or for three on a line.
    """
    if len(states) != 3:
        raise ValueError(f"states must be three, for a plane, not {len(states)}")
    whole("points", points, 2)
    parts = list(states.values())
    first, second, third = (_as_vector(network, state) for state in parts)
    right = second - first
    width = right.norm()
    right = right / width.clamp(min=1e-12)
    across = (third - first) @ right
    up = third - first - across * right
    height = up.norm()
    if min(width, height) < 1e-6 * max(width, (third - first).norm()):
        raise ValueError("states must not lie on one line: that is no plane")
    places = [(0.0, 0.0), (width.item(), 0.0), (across.item(), height.item())]
    x = _span([place[0] for place in places], points, margin)
    y = _span([place[1] for place in places], points, margin)
    rows, columns = torch.meshgrid(y, x, indexing="ij")  # (B, A)
    of_third = rows / height
    of_second = (columns - of_third * across) / width
    shares = torch.stack([1 - of_second - of_third, of_second, of_third]).flatten(1)  # (3, B * A)
    norms = any(isinstance(module, BatchNorm) for module in network.modules())
    errors = []
    for beside in shares.split(SIDE_BY_SIDE, 1):  # (3, R), networks that are evaluated together
        grid = network.with_state(_combine(parts, beside))
        if norms:
            reestimate_statistics(grid, data, split)
        errors.append(1 - evaluate_on(grid, data, split).accuracy)
    return Surface(
        x.float(),
        y.float(),
        torch.cat(errors).view_as(rows).float(),
        dict(zip(states, places, strict=True)),
        "re-estimated" if norms else "",
    )


def _as_vector(network: Population, state: State) -> Tensor:
    """All weights in one row; statistics of batch normalisation are no coordinates."""
    names = [name for name, _ in network.named_parameters()]
    return torch.cat([state[name].double().flatten() for name in names])


def _span(places: Sequence[float], points: int, margin: float) -> Tensor:
    low, high = min(places), max(places)
    beyond = margin * (high - low)
    return torch.linspace(low - beyond, high + beyond, points, dtype=torch.float64)


def _combine(states: Sequence[State], shares: Tensor) -> State:
    """States of weighted means as replicas. states: of single networks. shares: (3, R)."""
    result = {}
    for name, tensor in states[0].items():
        weights = shares.to(tensor).view(len(states), -1, *[1] * (tensor.ndim - 1))
        result[name] = sum((w * s[name] for w, s in zip(weights, states, strict=True)), 0 * tensor)
    return result
