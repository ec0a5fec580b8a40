"""Saliency: what data, gradients or first weights say of how much a weight or a unit matters.

Scores for `labkit.engine.pruning.prune`: the lowest go first, and only those of survivors are
looked at. Three of them were made for networks that have not been trained, one for attention heads,
one for networks that never will be. Populations in, (R, ...) out; replicas do not mix.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from labkit.engine.data import Data
from labkit.engine.layers import LayerNorm
from labkit.engine.networks import Masks, Population, State
from labkit.engine.pruning import Pruning, apply_masks, remove_lowest_of_all, removed

PER_CLASS = 10  # images, as in the code of all three papers on pruning before training
TEMPERATURE = 200  # logits are divided by it for GraSP (Wang et al. 2020, their code)
STEPS = 100  # of SynFlow (Tanaka et al. 2020, section 6)

Generators = Sequence[torch.Generator]


def scores_of(
    pruning: Pruning,
    network: Population,
    masks: Masks,
    data: Data,
    generators: Generators,
    first: State,
) -> State | None:
    """The scores by which a criterion ranks this network, or None for one that needs none of these.

    network: with the weights that decide, zeros where `masks` are False; its statistics of batch
    normalisation may change. generators: one per replica, for the images. first: the initial
    weights. Of weights by the name of the tensor, of units by the name of their layer: (R, units).
    """
    if pruning.criterion == "snip":
        return snip(network, *balanced(data, generators))
    if pruning.criterion == "grasp":
        return grasp(network, *balanced(data, generators))
    if pruning.criterion == "synflow":
        return synflow(network, masks, data.image_shape, pruning)
    if pruning.criterion == "same-sign":
        return same_sign(network, first)
    return gates(network, data, generators) if pruning.criterion == "gate" else None


def balanced(data: Data, generators: Generators) -> tuple[Tensor, Tensor]:
    """As many training images of every class, up to PER_CLASS: images (R, B, C, H, W) normalised,
    labels (R, B).
    """
    labels = data.train.labels.cpu()
    members = [(labels == number).nonzero().squeeze(1) for number in range(len(data.classes))]
    index = torch.stack([
        torch.cat([own[torch.randperm(len(own), generator=g)[:PER_CLASS]] for own in members])
        for g in generators
    ])  # fmt: skip
    batch = data.train[index.to(data.train.labels.device)]
    return data.normalise(batch.images), batch.labels


def snip(network: Population, images: Tensor, labels: Tensor) -> State:
    """|weight x gradient|, to first order what the loss changes by without the weight (Lee et al.
    2019, section 4). The product's magnitude: a weight that lowers the loss matters as well.
    """
    weights = network.prunable()
    loss = _loss(network.train(), images, labels)  # untrained networks have no statistics yet
    gradients = torch.autograd.grad(loss, list(weights.values()))
    return {n: (w * g).detach().abs() for (n, w), g in zip(weights.items(), gradients, strict=True)}


def grasp(network: Population, images: Tensor, labels: Tensor) -> State:
    """weight x (Hessian x gradient) (Wang et al. 2020, section 4): without the lowest of them the
    gradient is longest, so they go first.

    The paper's code ranks the negative and removes the *highest*; whoever mixes the two keeps what
    it would remove. One batch where their code has two halves.
    """
    weights = network.prunable()
    loss = _loss(network.train(), images, labels, TEMPERATURE)
    gradients = torch.autograd.grad(loss, list(weights.values()), create_graph=True)
    squares = torch.stack([(g * g.detach()).sum() for g in gradients]).sum()  # derived: H g
    products = torch.autograd.grad(squares, list(weights.values()))
    return {n: (w * p).detach() for (n, w), p in zip(weights.items(), products, strict=True)}


def synflow(
    network: Population, masks: Masks, image_shape: tuple[int, int, int], pruning: Pruning
) -> State:
    """SynFlow (Tanaka et al. 2020, algorithm 1): the weight's share in the sum of outputs when all
    weights are positive and all pixels 1. No data, no labels.

    The density falls in STEPS steps of one ratio, and the flow is measured anew after each: that is
    what saves layers from losing everything. So the result is 1 for what is left after this round
    of `pruning`, else 0. In float64: the flow of a deep network leaves float32.
    Raises ValueError for a network with layer normalisation, which lets no flow through.
    """
    if any(isinstance(module, LayerNorm) for module in network.modules()):
        raise ValueError(
            f"the criterion synflow needs a network without layer normalisation, not {network.name}"
        )
    states = {name: tensor.double().abs() for name, tensor in network.state().items()}
    left = {name: mask for name, mask in masks.items() if pruning.rates(masks)[name] > 0}
    alive = sum(int(mask[0].sum()) for mask in left.values())
    last = alive - removed(alive, pruning.rate)
    now = alive
    for step in range(1, STEPS + 1):
        goal = last if step == STEPS else round(alive * (last / alive) ** (step / STEPS))
        flow = _flow(network.with_state(apply_masks(states, masks | left)), image_shape)
        left = remove_lowest_of_all(flow, left, 1 - goal / now)
        now = goal
    return {name: mask.double() for name, mask in (masks | left).items()}


def _flow(network: Population, image_shape: tuple[int, int, int]) -> State:
    weights = network.eval().prunable()
    ones = next(iter(weights.values())).new_ones(1, 1, *image_shape)
    gradients = torch.autograd.grad(network(ones).sum(), list(weights.values()))
    return {n: (w * g).detach() for (n, w), g in zip(weights.items(), gradients, strict=True)}


def same_sign(network: Population, first: State) -> State:
    """weight x sign of its initial value: large where a weight has grown, negative where it has
    changed its sign (Zhou et al. 2019, section 4, "large final, same sign").
    """
    return {n: w.detach() * first[n].to(w.device).sign() for n, w in network.prunable().items()}


def gates(network: Population, data: Data, generators: Generators, batches: int = 10) -> State:
    """How much the loss would feel a gate on each unit's output, |output . gradient|, in the mean
    over training images (Michel et al. 2019, section 4, for attention heads); of each layer with
    the length 1, so that layers can be ranked together.

    Cost: `batches` backward passes over 100 images each, with the running statistics.
    """
    units, layers = network.eval().units(), dict(network.named_modules())
    total = {n: torch.zeros(network.replicas, width) for n, width in network.widths().items()}
    read: dict[str, Tensor] = {}

    def reads(layer: str) -> Callable[[nn.Module, tuple[Tensor]], None]:
        return lambda _, inputs: read.__setitem__(layer, inputs[0])

    hooks = [layers[u.reader].register_forward_pre_hook(reads(u.layer)) for u in units]
    for _ in range(batches):
        index = [torch.randint(len(data.train), (100,), generator=g) for g in generators]
        batch = data.train[torch.stack(index).to(data.train.labels.device)]
        loss = 100 * _loss(network, data.normalise(batch.images), batch.labels)
        outputs = [read[unit.layer] for unit in units]
        gradients = torch.autograd.grad(loss, outputs)
        for unit, output, gradient in zip(units, outputs, gradients, strict=True):
            felt = (output * gradient).detach()
            width = total[unit.layer].shape[1]
            total[unit.layer] += _by_unit(felt, network.replicas, 100, width).abs().sum(1).cpu()
    for hook in hooks:
        hook.remove()
    return {name: F.normalize(score, dim=1) for name, score in total.items()}


def _by_unit(x: Tensor, replicas: int, batch: int, units: int) -> Tensor:
    """Sums over all that belongs to an image and a unit, of what a layer reads: (R, B, units)."""
    if x.ndim == 4:  # (B, R * channels, H, W)
        return x.sum((2, 3)).unflatten(1, (replicas, units)).transpose(0, 1)
    # (R, B * tokens, features), of which a unit has several
    return x.unflatten(1, (batch, -1)).unflatten(3, (units, -1)).sum((2, 4))


def _loss(network: Population, images: Tensor, labels: Tensor, temperature: float = 1) -> Tensor:
    """The sum over replicas of their mean cross-entropy, so that each has its own gradient."""
    logits = network(images) / temperature  # (R, B, classes)
    loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum")
    return loss / labels.shape[1]
