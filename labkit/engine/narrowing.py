"""Narrowing: networks without their pruned neurons, filters and attention heads.

Structured pruning removes units: rows of one layer's weight, with their biases and batch
normalisation, and the columns with which the next layer reads them. Masks can say that too, as rows
and columns that are entirely False, so everything that counts, stores and rewinds masked weights
serves structured pruning as well; and from such masks a network can be cut that is really smaller.
A masked network computes the same, at the dense network's cost.

States and masks are those of the whole network unless they are called narrow.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from labkit.engine.networks import Masks, Population, State, Units
from labkit.engine.optimizers import Moments

Alive = dict[str, Tensor]  # name of a layer -> bool (R, units), True where the unit survives


def surviving_units(masks: Masks, units: Sequence[Units]) -> Alive:
    """The units that have any weight left, of each layer."""
    rows = {unit: masks[f"{unit.layer}.weight"].flatten(2).any(2) for unit in units}
    return {unit.layer: row.unflatten(1, (-1, unit.size)).any(2) for unit, row in rows.items()}


def keep_units(masks: Masks, units: Sequence[Units], alive: Alive) -> Masks:
    """The masks without the rows and columns of units that are not alive."""
    kept = dict(masks)
    for name, axis, survives in _cuts(masks, units, alive):
        shape = [1] * masks[name].ndim
        shape[0], shape[axis] = survives.shape
        kept[name] = kept[name] & survives.view(shape)
    return kept


def narrow(network: Population, masks: Masks) -> Population:
    """The network without its pruned units: the same outputs as with masked weights, for less work.

    masks: of structured pruning, name -> bool (R, ...). Raises ValueError where replicas keep
    different numbers of units, since a population has one architecture.
    """
    return network.with_state(narrow_state(network.state(), masks, network.units()))


def narrow_state(state: State, masks: Masks, units: Sequence[Units]) -> State:
    """The rows and columns of surviving units; name -> (R, ...) for any tensors of the network,
    be it weights, statistics or an optimizer's moments.
    """
    result = dict(state)
    for name, axis, survives in _cuts(state, units, surviving_units(masks, units)):
        counts = survives.sum(1).tolist()
        if len(set(counts)) > 1:
            raise ValueError(
                f"replicas must keep equally many units of a layer to be narrowed side by side, "
                f"not {counts} in {name}"
            )
        parts = zip(result[name], survives, strict=True)
        result[name] = torch.stack([part.index_select(axis - 1, _index(s)) for part, s in parts])
    return result


def widen_state(state: State, masks: Masks, units: Sequence[Units]) -> State:
    """The inverse of `narrow_state`, with zeros for whatever belongs to pruned units."""
    result = dict(state)
    # The other way round: columns were cut after rows, so they are restored before.
    for name, axis, survives in reversed(
        list(_cuts(state, units, surviving_units(masks, units), wide=masks))
    ):
        tensor = result[name]
        shape = list(tensor.shape)
        shape[axis] = survives.shape[1]
        whole = tensor.new_zeros(shape)
        for replica, s in enumerate(survives):
            whole[replica].index_copy_(axis - 1, _index(s), tensor[replica])
        result[name] = whole
    return result


def narrow_moments(
    moments: Moments, names: Sequence[str], masks: Masks, units: Sequence[Units]
) -> Moments:
    """The moments of surviving units. moments: of the parameters with these names, each shaped like
    its parameter; a count of steps, which has no axes, stays as it is.
    """
    narrowed = [dict(part) for part in moments]
    for kind in sorted({kind for part in moments for kind, value in part.items() if value.ndim}):
        whole = {name: part[kind] for name, part in zip(names, moments, strict=True)}
        small = narrow_state(whole, masks, units)
        for name, part in zip(names, narrowed, strict=True):
            part[kind] = small[name]
    return narrowed


def _cuts(
    tensors: State, units: Sequence[Units], alive: Alive, wide: Masks | None = None
) -> list[tuple[str, int, Tensor]]:
    """What to cut: name of a tensor, axis, and bool (R, size) of what survives there."""
    sizes = tensors if wide is None else wide
    cuts: list[tuple[str, int, Tensor]] = []
    for unit in units:
        survives = alive[unit.layer]
        own = [f"{unit.layer}.weight", f"{unit.layer}.bias"]
        if unit.norm is not None:
            own += [f"{unit.norm}.{name}" for name in ("weight", "bias", "mean", "variance")]
        rows = survives.repeat_interleave(unit.size, 1)
        cuts += [(name, 1, rows) for name in own if name in tensors]
        reader = f"{unit.reader}.weight"
        if reader in tensors:
            # A dense layer after convolutions reads every pixel of a filter's output, and one after
            # attention all that a head gives.
            each = sizes[reader].shape[2] // survives.shape[1]
            cuts.append((reader, 2, survives.repeat_interleave(each, 1)))
    return cuts


def _index(survives: Tensor) -> Tensor:
    return survives.nonzero().squeeze(1)
