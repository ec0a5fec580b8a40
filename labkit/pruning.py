"""Pruning: scores say how much a weight matters, masks say which weights survive.

Masks are a dictionary name -> bool tensor with the replica axis in front, like the weights they
belong to. What is removed is an exact count, round(rate x survivors), the lowest scores first and
ties in the order of their index; only survivors are ranked, so masks never grow back.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from labkit.checking import choice, fraction
from labkit.networks import Population, State

Masks = dict[str, Tensor]  # name -> bool (R, ...), True where the weight survives

CRITERIA = ("magnitude", "random")
SCOPES = ("layerwise", "global")


@dataclass(frozen=True)
class Pruning:
    """How much is pruned per round, and which weights go first.

    criterion: "magnitude" removes the smallest |w|; "random" any.
    scope: "layerwise" prunes every layer by its rate; "global" ranks all layers together.
    rate: share of the surviving weights removed per round, in (0, 1).
    conv_rate, output_rate: the same for convolutions and for the last layer, in [0, 1); None means
        `rate`. With global scope only output_rate=0 makes sense: leave the last layer alone.

    One-shot pruning is one round at a high rate. Layer-wise magnitude pruning at 0.2 with
    output_rate 0.1 is the protocol of Frankle & Carbin 2019 (appendix G); global at 0.2 that of
    Frankle et al. 2020 (section 4).
    """

    criterion: str = "magnitude"
    scope: str = "layerwise"
    rate: float = 0.2
    conv_rate: float | None = None
    output_rate: float | None = None

    def __post_init__(self) -> None:
        choice("pruning.criterion", self.criterion, CRITERIA)
        choice("pruning.scope", self.scope, SCOPES)
        fraction("pruning.rate", self.rate, zero=False)
        fraction("pruning.conv_rate", self.conv_rate, optional=True)
        fraction("pruning.output_rate", self.output_rate, optional=True)
        if self.scope == "global" and self.conv_rate is not None:
            raise ValueError(
                "pruning.conv_rate must be None with global scope, which ranks all layers "
                f"together, not {self.conv_rate}"
            )
        if self.scope == "global" and self.output_rate not in (None, 0):
            raise ValueError(
                "pruning.output_rate must be None or 0 with global scope, which ranks all layers "
                f"together, not {self.output_rate}"
            )

    def rates(self, masks: Masks) -> dict[str, float]:
        """The rate of each layer; name -> share to remove, of the masks' layers.

        With global scope the layers that are left alone have rate 0.
        """
        output = list(masks)[-1]
        rates = {}
        for name, mask in masks.items():
            own = self.output_rate if name == output else None
            if own is None and mask.ndim == 5:
                own = self.conv_rate
            rates[name] = self.rate if own is None else own
        return rates


def full_masks(network: Population) -> Masks:
    """Masks that keep every prunable weight."""
    return {
        name: torch.ones_like(weight, dtype=torch.bool)
        for name, weight in network.prunable().items()
    }


def apply_masks(state: State, masks: Masks) -> State:
    """The state with masked weights set to zero; everything else is passed on."""
    return {
        name: tensor.masked_fill(~masks[name], 0) if name in masks else tensor
        for name, tensor in state.items()
    }


def density(masks: Masks) -> Tensor:
    """Surviving weights / prunable weights of each replica, (R,), in [0, 1]."""
    return survivors(masks) / sum(mask[0].numel() for mask in masks.values())


def survivors(masks: Masks) -> Tensor:
    """Surviving weights of each replica, int64, (R,)."""
    return torch.stack([mask.flatten(1).sum(1) for mask in masks.values()]).sum(0)


def prune(
    pruning: Pruning, weights: State, masks: Masks, generators: Sequence[torch.Generator]
) -> Masks:
    """The masks after one more round.

    weights: the trained weights, name -> (R, ...); may hold other tensors too.
    masks: the masks they were trained with. generators: one per replica, for random scores.
    """
    if pruning.criterion == "magnitude":
        scores = {name: weights[name].abs() for name in masks}
    else:
        scores = {name: _random(mask, generators) for name, mask in masks.items()}
    rates = pruning.rates(masks)
    if pruning.scope == "layerwise":
        return {name: remove_lowest(scores[name], masks[name], rates[name]) for name in masks}
    ranked = [name for name in masks if rates[name] > 0]
    kept = remove_lowest(
        torch.cat([scores[name].flatten(1) for name in ranked], 1),
        torch.cat([masks[name].flatten(1) for name in ranked], 1),
        pruning.rate,
    )
    pieces = kept.split([masks[name][0].numel() for name in ranked], 1)
    new = {n: piece.view_as(masks[n]) for n, piece in zip(ranked, pieces, strict=True)}
    return {name: new.get(name, mask) for name, mask in masks.items()}


def remove_lowest(scores: Tensor, mask: Tensor, rate: float) -> Tensor:
    """Remove round(rate x survivors) of the survivors with the lowest scores, in each replica.

    scores: (R, ...); mask: bool, (R, ...). Ties go in the order of their index.
    """
    kept = mask.clone().flatten(1)
    for replica, row in enumerate(kept):
        alive = row.nonzero().squeeze(1)
        ranking = scores[replica].flatten()[alive].argsort(stable=True)
        row[alive[ranking[: round(rate * len(alive))]]] = False
    return kept.view_as(mask)


def shuffle_layers(masks: Masks, generators: Sequence[torch.Generator]) -> Masks:
    """Each layer's mask in random order: the same density per layer, no other structure
    (the control of Frankle et al. 2020, section 4).
    """
    return {
        name: _shuffled(mask.flatten(1), generators).view_as(mask) for name, mask in masks.items()
    }


def random_masks(masks: Masks, generators: Sequence[torch.Generator]) -> Masks:
    """As many survivors as `masks` has, anywhere in the network."""
    sizes = [mask[0].numel() for mask in masks.values()]
    flat = torch.cat([mask.flatten(1) for mask in masks.values()], 1)
    pieces = _shuffled(flat, generators).split(sizes, 1)
    return {n: p.view_as(masks[n]) for n, p in zip(masks, pieces, strict=True)}


def _shuffled(rows: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    order = [torch.randperm(rows.shape[1], generator=g) for g in generators]
    return rows.gather(1, torch.stack(order).to(rows.device))


def _random(mask: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    return torch.stack([torch.rand(mask.shape[1:], generator=g) for g in generators]).to(
        mask.device
    )


def flops(network: Population, image_shape: tuple[int, int, int], masks: Masks) -> Tensor:
    """Multiplications and additions of one forward pass over one image with the surviving weights
    of dense and convolutional layers (biases, normalisation and pooling left out), (R,).

    A count of arithmetic, as the papers give it; masked weights cost as much time as others.
    """
    sizes: dict[str, int] = {}  # layer -> how often each of its weights is used

    def count(name: str) -> Callable[[nn.Module, object, Tensor], None]:
        def hook(layer: nn.Module, _: object, output: Tensor) -> None:
            sizes[f"{name}.weight"] = output[0, 0].numel() if output.ndim == 4 else 1

        return hook

    layers = dict(network.named_modules())
    names = [name.removesuffix(".weight") for name in masks]
    hooks = [layers[name].register_forward_hook(count(name)) for name in names]
    device = next(network.parameters()).device
    training = network.training
    with torch.no_grad():
        network.eval()(torch.zeros(1, 1, *image_shape, device=device))
    network.train(training)
    for hook in hooks:
        hook.remove()
    return torch.stack([2 * sizes[n] * mask.flatten(1).sum(1) for n, mask in masks.items()]).sum(0)
