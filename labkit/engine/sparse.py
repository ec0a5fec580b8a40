"""Sparse training: the surviving weights of dense layers, and nothing else.

A mask multiplies by zeros, so a masked ticket costs the time of the dense network. Here survivors
stand in compressed rows (torch's CSR), the replicas of a layer as one block-diagonal matrix, and
products, gradients and the optimizer's moments are of survivors alone. A test holds the weights to
those of masked training, within rounding. A batch is columns here: (features, B).
"""

import warnings
from collections.abc import Callable
from typing import TypeGuard

import torch
from torch import Tensor, nn

from labkit.engine.gradients import gradients_of
from labkit.engine.layers import Dense
from labkit.engine.networks import Masks, Population
from labkit.engine.optimizers import Moments

# Where it pays, measured with one thread of a Xeon of 2023 (AVX-512): masked / sparse time of a
# step of LeNet-300-100 on MNIST, batch 60, 1 and 4 replicas, masks at random (python -m
# tests.benchmarks.sparsity has the ranges, and masks of tickets):
#   density   30%         26%         21%         8.7%        3.6%        1.2%
#   training  1.07, 1.22  1.15, 1.33  1.24, 1.25  1.83, 1.98  2.31, 2.84  2.80, 3.66
# With 23,000 weights nothing is gained from 21% on, with 47,000 a twentieth at 26%, none at 30%.
DENSITY = 0.27  # up to which training is sparse
EVALUATED = 0.2  # and evaluation, which has no optimizer to spare: 0.7-0.8 at 33%, 0.9-1.1 at 21%
WEIGHTS = 40_000  # at least, over all replicas: with fewer, calls cost more than products
SAMPLED = 0.12  # of a layer, up to which a gradient is computed at the survivors, not everywhere
LOOKED_THROUGH = 1_000  # images, from which on it pays to look for zeros before they are evaluated

Forward = Callable[[Tensor], Tensor]


class Masked:
    """A population that trains with all its weights, the pruned ones held at zero, or if they are
    frozen at the values that they have now.

    parameters: what an optimizer updates. gradients: of `gradients_of`, one for each of them.
    """

    def __init__(
        self,
        network: Population,
        masks: Masks,
        frozen: bool,
        batch_size: int,
        precision: str,
        slimming: float,
    ) -> None:
        self._masks = {name: mask.float() for name, mask in masks.items()}
        self._named = dict(network.named_parameters())
        self._kept = {
            n: self._named[n].detach() * (1 - m) for n, m in self._masks.items() if frozen
        }
        self.parameters: list[Tensor] = list(self._named.values())
        self.hold()
        self.gradients = gradients_of(network, batch_size, precision, slimming)

    @torch.no_grad()
    def hold(self) -> None:
        """After every update: momentum, Adam's moments and weight decay revive pruned weights."""
        for name, mask in self._masks.items():
            self._named[name].mul_(mask)  # as floats: several times faster than masked_fill_
        for name, first in self._kept.items():
            self._named[name].add_(first)

    def write(self) -> None:
        """The population has its weights at any time."""

    def narrow(self, moments: Moments) -> Moments:
        """The moments of `parameters`. moments: of the population's."""
        return moments

    def widen(self, moments: Moments) -> Moments:
        """The moments of the population's parameters, zero where weights are pruned."""
        held = zip(self._named, moments, strict=False)  # there may be none yet
        return [
            {
                n: t * self._masks[name] if t.ndim and name in self._masks else t
                for n, t in p.items()
            }
            for name, p in held
        ]


class Survivors:
    """The same for dense layers with ReLU between them, with the surviving weights alone.

    The population has its weights after `write`.
    """

    def __init__(self, network: Population, masks: Masks, batch_size: int) -> None:
        dense = {f"layers.{n}.weight": m for n, m in network.layers.named_children() if _dense(m)}
        self._layers = [
            _Layer(layer, masks.get(name, torch.ones_like(layer.weight, dtype=torch.bool)))
            for name, layer in dense.items()
        ]
        self.parameters = [p for layer in self._layers for p in (layer.values, layer.bias)]
        self._found = [g for layer in self._layers for g in (layer.gradient, layer.bias_gradient)]
        sizes = [
            self._layers[0].matrix.shape[1],
            *(layer.matrix.shape[0] for layer in self._layers),
        ]
        first = self._layers[0].values
        self._columns = [first.new_empty(size, batch_size) for size in sizes]
        self._errors = [torch.empty_like(columns) for columns in self._columns]
        self._images, self._logits, self._last_error = (
            columns.unflatten(0, (network.replicas, -1))  # (R, features, B)
            for columns in (self._columns[0], self._columns[-1], self._errors[-1])
        )
        self._minus_one = self._logits.new_full((network.replicas, 1, batch_size), -1.0)
        self.write()

    @torch.no_grad()
    def gradients(self, images: Tensor, labels: Tensor) -> list[Tensor]:
        """Of the mean cross-entropy of every replica, as `gradients_of` gives them.

        images: (R, B, C, H, W); labels: (R, B).
        """
        columns, errors, depth = self._columns, self._errors, len(self._layers)
        self._images.copy_(images.flatten(2).mT)
        for i, layer in enumerate(self._layers):
            layer.forward(columns[i], columns[i + 1])
            if i + 1 < depth:
                columns[i + 1].relu_()
        torch.softmax(self._logits, 1, out=self._last_error)
        self._last_error.scatter_add_(1, labels.unsqueeze(1), self._minus_one)
        self._last_error.div_(labels.shape[1])
        for i in reversed(range(depth)):
            self._layers[i].backward(errors[i + 1], columns[i])
            if i:
                self._layers[i].pull(errors[i + 1], errors[i])
                errors[i].mul_(columns[i].sign_())  # what ReLU cut off has no part in it
        return self._found

    def hold(self) -> None:
        """There is nothing but survivors."""

    def write(self) -> None:
        """Their values into the population's weights, of which all others are zero."""
        for layer in self._layers:
            layer.weight.view(-1).scatter_(0, layer.places, layer.values)

    def narrow(self, moments: Moments) -> Moments:
        """The moments of `parameters`. moments: of the population's."""
        return [
            {n: t.flatten()[at] if at is not None and t.ndim else t for n, t in part.items()}
            for part, at in zip(moments, self._places(), strict=False)
        ]

    def widen(self, moments: Moments) -> Moments:
        """The moments of the population's parameters, zero where weights are pruned."""
        shapes = [p.shape for layer in self._layers for p in (layer.weight, layer.bias)]
        return [
            {n: _spread(t, at, shape) if at is not None and t.ndim else t for n, t in part.items()}
            for part, at, shape in zip(moments, self._places(), shapes, strict=False)
        ]

    def _places(self) -> list[Tensor | None]:
        return [places for layer in self._layers for places in (layer.places, None)]


class _Layer:
    """The survivors of R dense layers as a block-diagonal matrix, (R * out, R * in).

    values: (S,), row by row; places: (S,), where they stand in the flattened weight.
    """

    def __init__(self, layer: Dense, mask: Tensor) -> None:
        self.weight, self.bias = layer.weight.detach(), layer.bias.detach()
        replicas, outputs, inputs = mask.shape
        replica, row, column = mask.nonzero(as_tuple=True)
        rows, columns = replica * outputs + row, replica * inputs + column
        shape = (replicas * outputs, replicas * inputs)
        self.places = (rows * inputs + column).contiguous()
        self.values = self.weight.flatten()[self.places]
        self.weight.zero_()
        self.matrix = _compressed(rows, columns, self.values, shape)
        self.gradient, self.bias_gradient = self.values.clone(), self.bias.clone()
        self._bias, self._error_sum = self.bias.view(-1, 1), self.bias_gradient.view(-1)
        self._found = _compressed(rows, columns, self.gradient, shape)
        few = len(self.values) <= SAMPLED * mask.numel()
        self._everywhere = None if few else torch.empty_like(self.weight)
        self._order = (columns * shape[0] + rows).argsort()  # of the transpose, row by row
        self._turned = self.values[self._order]
        self._transpose = _compressed(
            columns[self._order], rows[self._order], self._turned, shape[::-1]
        )

    def forward(self, x: Tensor, output: Tensor) -> None:  # (R * in, B) to (R * out, B)
        torch.addmm(self._bias, self.matrix, x, out=output)

    def backward(self, error: Tensor, x: Tensor) -> None:  # (R * out, B) and (R * in, B)
        """Gradients of its survivors and biases."""
        torch.sum(error, 1, out=self._error_sum)
        if self._everywhere is None:
            torch.sparse.sampled_addmm(self._found, error, x.mT, beta=0, out=self._found)
        else:  # so many that it is faster to compute all and to pick them
            errors, inputs = (t.unflatten(0, (len(self.weight), -1)) for t in (error, x))
            torch.bmm(errors, inputs.mT, out=self._everywhere)
            torch.index_select(self._everywhere.view(-1), 0, self.places, out=self.gradient)

    def pull(self, error: Tensor, out: Tensor) -> None:  # (R * out, B) to (R * in, B)
        """Derivatives by what the layer takes in."""
        torch.index_select(self.values, 0, self._order, out=self._turned)
        torch.addmm(out, self._transpose, error, beta=0, out=out)


def trained_part(
    network: Population,
    masks: Masks,
    frozen: bool,
    batch_size: int,
    precision: str = "float32",
    slimming: float = 0.0,
    sparse: bool | None = None,
) -> Masked | Survivors:
    """What training updates of a population: `Survivors`, or everything.

    sparse: None for survivors where that is faster. Raises ValueError where it is True and the
    network has other layers, another precision, frozen weights, or no CPU with Intel's library.
    """
    able = precision == "float32" and not frozen and _able(network)
    if sparse and not able:
        raise ValueError(
            "sparse must be False or None but for dense layers in float32, pruned weights at zero, "
            "on a CPU for which torch has Intel's library MKL, not True with "
            f"{network.name} in {precision}{', frozen' if frozen else ''}"
        )
    if sparse is None:
        sparse = able and bool(masks) and _pays(network, masks, DENSITY)
    if sparse:
        return Survivors(network, masks, batch_size)
    return Masked(network, masks, frozen, batch_size, precision, slimming)


def forward_of(network: Population, images: int, precision: str = "float32") -> Forward:
    """A function that gives the logits (R, B, classes) of images (1, B, C, H, W): the population,
    or products with its weights that are not zero where these are few.

    images: how many will be asked for; for few it does not pay to look for zeros.
    """
    if images < LOOKED_THROUGH or precision != "float32" or not _able(network):
        return network
    masks = {name: weight.detach() != 0 for name, weight in network.prunable().items()}
    return _products(network, masks) if _pays(network, masks, EVALUATED) else network


def _able(network: Population) -> bool:
    return torch.backends.mkl.is_available() and all(
        isinstance(module, nn.ReLU)
        or (_dense(module) and module.weight.is_contiguous() and module.weight.device.type == "cpu")
        for module in network.layers
    )


def _pays(network: Population, masks: Masks, density: float) -> bool:
    weights = {name: weight.numel() for name, weight in network.prunable().items()}
    left = sum(int(masks[n].sum()) if n in masks else size for n, size in weights.items())
    total = sum(weights.values())
    return total >= WEIGHTS and left <= density * total


def _products(network: Population, masks: Masks) -> Forward:
    layers: list[tuple[Tensor, Tensor]] = []
    for name, module in network.layers.named_children():
        if isinstance(module, Dense):
            _, outputs, inputs = module.weight.shape
            replica, row, column = masks[f"layers.{name}.weight"].nonzero(as_tuple=True)
            if layers:  # the first layer's input is the same for all replicas
                column = column + replica * inputs
            values = module.weight.detach()[masks[f"layers.{name}.weight"]]
            across = inputs * (network.replicas if layers else 1)
            shape = (network.replicas * outputs, across)
            matrix = _compressed(replica * outputs + row, column, values, shape)
            layers.append((module.bias.detach().view(-1, 1), matrix))

    def forward(images: Tensor) -> Tensor:
        x = images[0].flatten(1).T.contiguous()  # (C * H * W, B)
        for number, (bias, matrix) in enumerate(layers, start=1):
            x = torch.addmm(bias, matrix, x)
            if number < len(layers):
                x.relu_()
        return x.unflatten(0, (network.replicas, -1)).mT  # (R, B, classes)

    return forward


def _dense(module: nn.Module) -> TypeGuard[Dense]:
    return isinstance(module, Dense)


def _spread(values: Tensor, places: Tensor, shape: torch.Size) -> Tensor:
    """values at these places of a tensor of zeros."""
    return values.new_zeros(shape.numel()).scatter_(0, places, values).view(shape)


def _compressed(rows: Tensor, columns: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    """A CSR matrix in the memory of its values, which must come row by row."""
    starts = values.new_zeros(shape[0] + 1, dtype=torch.int32)
    torch.cumsum(torch.bincount(rows, minlength=shape[0]), 0, dtype=torch.int32, out=starts[1:])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta", UserWarning)
        # Whole numbers of 32 bits: of 64, Intel's library gets a copy at every product.
        return torch.sparse_csr_tensor(
            starts, columns.to(torch.int32), values, shape, check_invariants=True
        )
