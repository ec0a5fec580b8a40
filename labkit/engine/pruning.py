"""Pruning: scores say how much a weight or a unit matters, masks say which survive.

Masks are a dictionary name -> bool tensor with the replica axis in front, like the weights they
belong to. What is removed is an exact count, round(rate x survivors), the lowest scores first and
ties in the order of their index; only survivors are ranked, so masks never grow back.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from labkit.base.validation import choice, fraction, keep, several, whole
from labkit.engine.data import Data
from labkit.engine.layers import TOKENS, Attention
from labkit.engine.narrowing import Alive, keep_units, surviving_units
from labkit.engine.networks import Masks, Population, State, Units

CRITERIA = {
    "unstructured": ("magnitude", "obd", "random", "snip", "grasp", "synflow", "same-sign"),
    "structured": ("magnitude", "gamma", "random", "gate"),
}
KINDS = tuple(CRITERIA)
SCOPES = ("layerwise", "global")


@dataclass(frozen=True)
class Pruning:
    """How much is pruned per round, and what goes first.

    kind: "unstructured" removes single weights; "structured" whole units, neurons and filters.
    criterion: what has the lowest score goes first.
        "magnitude": |w| (Han et al. 2015); of a unit the sum of |w| over its incoming weights (Li
        et al. 2017), with global scope their mean, so that wide and narrow layers can be compared.
        "obd": the diagonal saliency h w^2 / 2 (LeCun et al. 1989), h as `curvature` estimates it.
        "gamma": |gamma| of the unit's batch normalisation (network slimming, Liu et al. 2017).
        "random": anything may go.
        "snip", "grasp", "synflow": made for networks before training, with `at` 0; "gate": of
        units, attention heads above all; "same-sign": what has kept its first sign and grown. See
        `labkit.engine.saliency`.
    at: the iteration of the dense network whose weights decide the masks of all rounds: 0, before
        training (Lee et al. 2019); some early one, when the ticket is drawn (You et al. 2020); or
        the last, for one-shot masks of every density. None: in every round those that the round
        before has trained.
    scope: "layerwise" prunes every layer by its rate, which Liu et al. 2019 call predefined;
        "global" ranks all layers together, which they call automatic.
    rate: share of the survivors removed per round, in (0, 1): weights, or units.
    conv_rate, output_rate: of single weights, the same for convolutions and for the last layer, in
        [0, 1); None means `rate`. With global scope only output_rate=0 makes sense: leave the last
        layer alone.
    layer_rates: of units, a rate in [0, 1) for each layer that has any to lose, input to output, in
        place of `rate`; layer-wise only.

    One-shot pruning is one round at a high rate. Layer-wise magnitude pruning at 0.2 with
    output_rate 0.1 is the protocol of Frankle & Carbin 2019 (appendix G); global at 0.2 that of
    Frankle et al. 2020 (section 4).
    """

    kind: str = "unstructured"
    criterion: str = "magnitude"
    scope: str = "layerwise"
    rate: float = 0.2
    conv_rate: float | None = None
    output_rate: float | None = None
    layer_rates: tuple[float, ...] = ()
    at: int | None = None

    def __post_init__(self) -> None:
        choice("pruning.kind", self.kind, KINDS)
        choice(f"pruning.criterion of {self.kind} pruning", self.criterion, CRITERIA[self.kind])
        choice("pruning.scope", self.scope, SCOPES)
        keep(
            self,
            rate=fraction("pruning.rate", self.rate, zero=False),
            conv_rate=fraction("pruning.conv_rate", self.conv_rate, optional=True),
            output_rate=fraction("pruning.output_rate", self.output_rate, optional=True),
            at=whole("pruning.at", self.at, 0, optional=True),
            layer_rates=tuple(
                fraction("pruning.layer_rates", rate)
                for rate in several("pruning.layer_rates", self.layer_rates)
            ),
        )
        together = "with global scope, which ranks all layers together"
        units = "with structured pruning, which removes units and never an output"
        weights = "with unstructured pruning, which has conv_rate and output_rate"
        if self.scope == "global":
            _refuse("conv_rate", self.conv_rate, (None,), together)
            _refuse("output_rate", self.output_rate, (None, 0), together)
            _refuse("layer_rates", self.layer_rates, ((),), together)
        elif self.criterion == "synflow":
            _refuse("scope", self.scope, ("global",), "with synflow, whose flow no layer has alone")
        if self.criterion == "gamma" and self.at == 0:
            raise ValueError(
                "pruning.at must be at least 1, or None, with the criterion gamma, not 0: before "
                "training all gammas are equal, and a ranking of ties removes the first layers"
            )
        if self.structured:
            _refuse("conv_rate", self.conv_rate, (None,), units)
            _refuse("output_rate", self.output_rate, (None,), units)
        else:
            _refuse("layer_rates", self.layer_rates, ((),), weights)

    @property
    def structured(self) -> bool:
        """Whether whole units are removed."""
        return self.kind == "structured"

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
    pruning: Pruning,
    weights: State,
    masks: Masks,
    generators: Sequence[torch.Generator],
    *,
    units: Sequence[Units] = (),
    curvature: State | None = None,
    scores: State | None = None,
) -> Masks:
    """The masks after one more round.

    weights: the trained weights, name -> (R, ...); may hold other tensors too.
    masks: the masks they were trained with. generators: one per replica, for random scores.
    units: `network.units()`, what structured pruning can remove. curvature: what the function of
    that name returns, for the criterion "obd". scores: for those of `labkit.engine.saliency`, what
    `scores_of` returns there. Raises ValueError where one of these is missing.
    """
    if pruning.structured:
        return _prune_units(pruning, weights, masks, generators, units, scores)
    if pruning.criterion == "random":
        scores = {name: _random(mask, generators) for name, mask in masks.items()}
    elif pruning.criterion == "magnitude":
        scores = {name: weights[name].abs() for name in masks}
    elif pruning.criterion == "obd":
        if curvature is None:
            raise ValueError("curvature must be given for the criterion obd, not None")
        scores = {name: curvature[name] * weights[name] ** 2 / 2 for name in masks}
    elif scores is None:
        raise ValueError(f"scores must be given for the criterion {pruning.criterion}, not None")
    rates = pruning.rates(masks)
    if pruning.scope == "layerwise":
        return {name: remove_lowest(scores[name], masks[name], rates[name]) for name in masks}
    ranked = {name: masks[name] for name in masks if rates[name] > 0}
    return masks | remove_lowest_of_all(scores, ranked, pruning.rate)


def _prune_units(
    pruning: Pruning,
    weights: State,
    masks: Masks,
    generators: Sequence[torch.Generator],
    units: Sequence[Units],
    given: State | None,
) -> Masks:
    if not units:
        raise ValueError("units must be those of a network with hidden layers, not none")
    if pruning.criterion == "gate" and given is None:
        raise ValueError("scores must be given for the criterion gate, not None")
    alive = surviving_units(masks, units)
    scores: Alive = {}
    for unit in units:
        name = f"{unit.layer}.weight"
        if pruning.criterion == "random":
            scores[unit.layer] = _random(alive[unit.layer], generators)
        elif pruning.criterion == "gamma":
            if unit.norm is None:
                raise ValueError(f"the criterion gamma needs batch normalisation after {name}")
            scores[unit.layer] = weights[f"{unit.norm}.weight"].abs()
        elif given is not None:
            scores[unit.layer] = given[unit.layer].clone()  # the best of it is marked below
        else:
            rows = (weights[name] * masks[name]).abs().flatten(2).sum(2)
            total = rows.unflatten(1, (-1, unit.size)).sum(2)  # (R, units)
            incoming = masks[name].flatten(2).sum(2).unflatten(1, (-1, unit.size)).sum(2)
            score = total / incoming.clamp(min=1) if pruning.scope == "global" else total
            scores[unit.layer] = score
    if pruning.scope == "layerwise":
        rates = pruning.layer_rates or (pruning.rate,) * len(units)
        pairs = zip(alive, rates, strict=True)
        kept = {n: remove_lowest(scores[n], alive[n], rate, least=1) for n, rate in pairs}
    else:
        for name, score in scores.items():  # the best unit of each layer stays
            best = score.masked_fill(~alive[name], -torch.inf).argmax(1, keepdim=True)
            score.scatter_(1, best, torch.inf)
        kept = remove_lowest_of_all(scores, alive, pruning.rate, least=len(units))
    return keep_units(masks, units, kept)


def removed(count: int, rate: float, least: int = 0) -> int:
    """How many of `count` survivors one round removes: round(rate x count), while `least` stay."""
    return max(0, min(round(rate * count), count - least))


def remove_lowest(scores: Tensor, mask: Tensor, rate: float, *, least: int = 0) -> Tensor:
    """Remove round(rate x survivors) of the survivors with the lowest scores, in each replica.

    scores: (R, ...); mask: bool, (R, ...). Ties go in the order of their index. least: so many
    survivors stay in any case.
    """
    kept = mask.clone().flatten(1)  # (R, N)
    for replica, row in enumerate(kept):
        alive = row.nonzero().squeeze(1)  # where the survivors are: masks never grow back
        order = scores[replica].flatten()[alive].argsort(stable=True)  # lowest first
        lowest = order[: removed(len(alive), rate, least)]  # an exact count, not a threshold
        row[alive[lowest]] = False
    return kept.view_as(mask)


def remove_lowest_of_all(scores: State, masks: Masks, rate: float, least: int = 0) -> Masks:
    """The same, of all layers together; name -> (R, ...)."""
    kept = remove_lowest(
        torch.cat([scores[name].flatten(1) for name in masks], 1),
        torch.cat([mask.flatten(1) for mask in masks.values()], 1),
        rate,
        least=least,
    )
    pieces = kept.split([mask[0].numel() for mask in masks.values()], 1)
    return {n: piece.view_as(masks[n]) for n, piece in zip(masks, pieces, strict=True)}


def densities(pruning: Pruning, network: Population, rounds: int) -> tuple[float, ...] | None:
    """The density after each round, `rounds` + 1 numbers from 1.0 on; None where it depends on the
    training: which layers lose units that are ranked together.

    network: of any weights, one on the meta device included.
    """
    if pruning.structured:
        return None if pruning.scope == "global" else _unit_densities(pruning, network, rounds)
    weights = dict[str, Tensor](network.prunable())
    rates = pruning.rates(weights)
    sizes = {name: weight[0].numel() for name, weight in weights.items()}
    total = sum(sizes.values())
    if pruning.scope == "global":  # one heap of all layers that take part
        heap = sum(size for name, size in sizes.items() if rates[name] > 0)
        sizes, rates = {"heap": heap, "rest": total - heap}, {"heap": pruning.rate, "rest": 0.0}
    found = [1.0]
    for _ in range(rounds):
        sizes = {name: size - removed(size, rates[name]) for name, size in sizes.items()}
        found.append(sum(sizes.values()) / total)
    return tuple(found)


def _unit_densities(pruning: Pruning, network: Population, rounds: int) -> tuple[float, ...]:
    units, weights = network.units(), network.prunable()
    rates = pruning.layer_rates or (pruning.rate,) * len(units)
    wide = network.widths()
    alive = dict(wide)
    written_by = {f"{unit.reader}.weight": unit.layer for unit in units}

    def share(layer: str | None) -> float:  # of a layer's units that are left
        return alive[layer] / wide[layer] if layer in alive else 1.0

    def density() -> float:  # rows go with a layer's own units, columns with those it reads
        kept = (
            weight[0].numel() * share(name.removesuffix(".weight")) * share(written_by.get(name))
            for name, weight in weights.items()
        )
        return sum(kept) / sum(weight[0].numel() for weight in weights.values())

    found = [1.0]
    for _ in range(rounds):
        for unit, rate in zip(units, rates, strict=True):
            alive[unit.layer] -= removed(alive[unit.layer], rate, least=1)
        found.append(density())
    return tuple(found)


def curvature(
    network: Population, data: Data, generators: Sequence[torch.Generator], batches: int = 100
) -> State:
    """The diagonal of the loss's curvature for every prunable weight; name -> (R, ...).

    It is that of the Gauss-Newton matrix, which LeCun et al. 1989 (section 2.2) also put for the
    Hessian: it is never negative. Estimated with labels drawn from the network's own predictions,
    whose gradients have mean zero, so that the square of a batch's summed gradient is in the mean
    the sum of the squares (Martens 2020, section 11). Cost: `batches` backward passes over 50
    training images each, with the running statistics of batch normalisation.
    generators: one per replica, for images and labels.
    """
    size = 50
    weights = network.prunable()
    total = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    device = data.train.labels.device
    network.eval()
    for _ in range(batches):
        index = [torch.randint(len(data.train), (size,), generator=g) for g in generators]
        images = data.train[torch.stack(index).to(device)].images
        logits = network(data.normalise(images))  # (R, B, classes)
        chances = logits.detach().softmax(2).cpu()
        pairs = zip(chances, generators, strict=True)
        drawn = torch.cat([torch.multinomial(c, 1, generator=g) for c, g in pairs])  # (R * B, 1)
        labels = drawn.squeeze(1).to(device)
        loss = F.cross_entropy(logits.flatten(0, 1), labels, reduction="sum")
        gradients = torch.autograd.grad(loss, list(weights.values()))
        for name, gradient in zip(weights, gradients, strict=True):
            total[name] += gradient**2 / (size * batches)
    return total


def shuffle_layers(
    masks: Masks, generators: Sequence[torch.Generator], *, units: Sequence[Units] = ()
) -> Masks:
    """Each layer's mask in random order: the same density per layer, no other structure
    (the control of Frankle et al. 2020, section 4).

    units: those of the network where whole units are pruned; then it is units that change places.
    """
    if units:
        alive = surviving_units(masks, units)
        shuffled = {name: _shuffled(layer, generators) for name, layer in alive.items()}
        full = {name: torch.ones_like(mask) for name, mask in masks.items()}
        return keep_units(full, units, shuffled)
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
    of dense and convolutional layers, and between the tokens of surviving attention heads, (R,);
    biases, normalisation and pooling are left out.

    A count of arithmetic, as the papers give it; masked weights cost as much time as others.
    """
    sizes: dict[str, int] = {}  # layer -> how often each of its weights is used

    def count(name: str) -> Callable[[nn.Module, object, Tensor], None]:
        def hook(layer: nn.Module, _: object, output: Tensor) -> None:
            pixels = output[0, 0].numel() if output.ndim == 4 else output.shape[1]  # or tokens
            sizes[f"{name}.weight"] = pixels

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
    found = [2 * sizes[n] * mask.flatten(1).sum(1) for n, mask in masks.items()]
    alive = surviving_units(masks, network.units())
    for name, layer in layers.items():
        if isinstance(layer, Attention):  # queries by keys, and their weights by values
            found.append(alive[f"{name}.qkv"].sum(1) * 2 * 2 * TOKENS**2 * layer.size)
    return torch.stack(found).sum(0)


def _refuse(name: str, value: object, allowed: Iterable[object], why: str) -> None:
    if value not in allowed:
        words = " or ".join(map(str, allowed))
        raise ValueError(f"pruning.{name} must be {words} {why}, not {value}")
