"""Networks with a replica axis: R networks of one architecture trained side by side.

Every weight, bias and statistic carries a leading replica axis, so a `Dense` weight is (R, out, in)
and a `Conv` weight is (R, out, in, height, width); a single network is a population of one.
Replicas never mix: a dense layer is a batched matrix product, a convolution has one group per
replica, and batch normalisation sees R x C separate channels. A *state* is the dictionary of all
these tensors by name, and so is a set of masks: everything that prunes, rewinds, saves or
interpolates networks works on such dictionaries.
"""

import copy
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from labkit.base.neutral import neutral
from labkit.engine.conversion import layers_of, module_of
from labkit.engine.layers import (
    GLOROT,
    HE,
    TOKENS,
    Attention,
    Average,
    BatchNorm,
    Block,
    Conv,
    Dense,
    Flatten,
    LayerNorm,
    OverTokens,
    Patches,
    Perceptron,
    Positions,
)

State = dict[str, Tensor]
"""Name -> tensor with a leading replica axis, (R, ...)."""
Masks = dict[str, Tensor]
"""Name of a weight -> bool (R, ...), True where the weight survives."""


@dataclass(frozen=True)
class Units:
    """Neurons, filters or attention heads that structured pruning can remove, by the names of their
    modules.

    layer: the Dense or Conv that computes them. norm: their batch normalisation, or None.
    reader: the Dense or Conv that takes them in. size: rows of the layer's weight that make a unit,
    the queries, keys and values of a head, else 1.
    """

    layer: str
    norm: str | None
    reader: str
    size: int = 1


class Population(nn.Module):
    """R networks of one architecture. Indexing gives replicas: `network[2]` is a population of one.

    Call it with images (R, B, C, H, W), a batch per replica, or with (1, B, C, H, W), one batch
    for all of them. It returns logits (R, B, classes).
    """

    def __init__(self, name: str, layers: nn.Sequential) -> None:
        super().__init__()
        self.name = name
        self.layers = layers

    @property
    def replicas(self) -> int:
        """R, the number of networks."""
        return len(next(self.parameters()))

    def forward(self, images: Tensor) -> Tensor:
        if len(images) != self.replicas:
            images = images.expand(self.replicas, *images.shape[1:])  # a view: nothing is copied
        if isinstance(self.layers[0], Dense):
            return self.layers(images.flatten(2))  # (R, B, C * H * W)
        # For convolutions the replicas stand beside each other as groups of channels.
        beside = images.transpose(0, 1).flatten(1, 2)  # (B, R * C, H, W)
        return self.layers(beside.contiguous(memory_format=torch.channels_last))

    def __getitem__(self, chosen: int | slice | Sequence[int]) -> "Population":
        """Copies of the chosen replicas, as a population."""
        index = [chosen] if isinstance(chosen, int) else chosen
        return self.with_state({name: tensor[index] for name, tensor in self.state().items()})

    def with_state(self, state: State) -> "Population":
        """A copy that holds this state, with as many replicas and units as the state has."""
        part = copy.deepcopy(self)
        for prefix, module in part.named_modules():
            if isinstance(module, Flatten):
                module.replicas = len(next(iter(state.values())))
            for name in [n for n, _ in module.named_parameters(recurse=False)]:
                value = state[f"{prefix}.{name}"].detach().clone()
                setattr(module, name, nn.Parameter(value))
            for name in [n for n, _ in module.named_buffers(recurse=False)]:
                setattr(module, name, state[f"{prefix}.{name}"].clone())
        return part

    @classmethod
    def from_module(cls, module: nn.Module, name: str | None = None) -> "Population":
        """A population of one, with the layers and the weights of a network of your own.

        module: a torch network from images (B, C, H, W) to logits (B, classes), in float32. It is
        followed by torch.fx, so its `forward` may be your own, as long as it is one line of layers
        and residual blocks; of weights that `torch.nn.utils.prune` masks, it takes what is left.
        name: of the population; None is that of the module's class.

        `stack` puts several side by side, and `initialise` draws new weights, as He et al. 2015 do.
        Raises ValueError for anything that a population cannot be made of, by its name.
        """
        return cls(name or type(module).__name__, layers_of(module))

    def to_module(
        self, replica: int = 0, masks: Masks | None = None, *, like: nn.Module | None = None
    ) -> nn.Module:
        """One replica as a plain torch network, from images (B, C, H, W) to logits (B, classes).

        masks: of the whole population, name -> bool (R, ...); each becomes a mask of
        `torch.nn.utils.prune`, with weight_orig and weight_mask, that torch's own training holds.
        like: the module that `from_module` was given; then the result is a copy of it, with its
        names, else a sequence of torch's layers. Raises ValueError for a vision transformer, and
        for a module of other layers or widths.
        """
        named = {name.removeprefix("layers."): mask for name, mask in (masks or {}).items()}
        return module_of(self.layers, replica, named, like)

    def state(self) -> State:
        """A copy of all parameters and batch-norm statistics: name -> (R, ...)."""
        return {name: tensor.detach().clone() for name, tensor in self.state_dict().items()}

    def prunable(self) -> dict[str, nn.Parameter]:
        """The weights that pruning may remove, input to output: those of Dense and Conv layers.

        Biases and batch normalisation are never pruned (Frankle & Carbin 2019, section 2).
        """
        return {
            f"{name}.weight": module.weight
            for name, module in self.named_modules()
            if isinstance(module, Dense | Conv)
        }

    def units(self) -> list[Units]:
        """The layers whose units can be removed, input to output: hidden neurons, filters, heads,
        and of residual blocks the inner filters, since all blocks of a stage share the outer ones.
        """
        found: list[Units] = []
        layer: str | None = None  # the latest whose units only the next layer will read
        norm: str | None = None
        for number, module in self.layers.named_children():
            name = f"layers.{number}"
            if isinstance(module, Block):  # the sum at its end ties its outer filters to others
                found.append(Units(f"{name}.conv1", f"{name}.norm1", f"{name}.conv2"))
                layer = None
            elif isinstance(module, Attention):
                found.append(Units(f"{name}.qkv", None, f"{name}.out", size=3 * module.size))
                layer = None
            elif isinstance(module, Perceptron):
                found.append(Units(f"{name}.hidden", None, f"{name}.out"))
                layer = None
            elif isinstance(module, BatchNorm):
                norm = name
            elif isinstance(module, Dense | Conv):
                if layer is not None:
                    found.append(Units(layer, norm, name))
                layer, norm = name, None
        return found

    def widths(self) -> dict[str, int]:
        """How many units there are: name of a layer that has any to lose -> neurons, filters or
        heads.
        """
        layers = dict(self.named_modules())
        rows = {unit: layers[unit.layer].weight.shape[1] for unit in self.units()}
        return {unit.layer: int(count) // unit.size for unit, count in rows.items()}

    @neutral()
    @torch.no_grad()
    def initialise(
        self, generators: Iterable[torch.Generator], *, gamma: float = 1.0
    ) -> "Population":
        """Draw new weights, replica r with the r-th (CPU) generator; biases and betas become 0,
        gammas `gamma` (of layer normalisation 1), statistics those of standard normal activations.
        Returns the population.
        """
        for replica, generator in enumerate(generators):
            for module in self.modules():
                if isinstance(module, Dense | Conv | Positions):
                    weight = module.weight[replica]
                    # One generator per replica, layer after layer: a network's first weights do
                    # not depend on which others it is drawn beside.
                    weight.copy_(torch.randn(weight.shape, generator=generator) * module.deviation)
                    if not isinstance(module, Positions) and module.bias is not None:
                        module.bias[replica] = 0
                elif isinstance(module, LayerNorm):
                    module.weight[replica], module.bias[replica] = 1, 0
                elif isinstance(module, BatchNorm):
                    module.weight[replica], module.bias[replica] = gamma, 0
                    module.mean[replica], module.variance[replica] = 0, 1
        return self


CONV = {2: (64, 64), 4: (64, 64, 128, 128), 6: (64, 64, 128, 128, 256, 256)}
VGG: dict[str, tuple[int, ...]] = {  # convolutions per stage of 64, 128, 256, 512, 512 channels
    "11": (1, 1, 2, 2, 2),
    "16": (2, 2, 3, 3, 3),
    "19": (2, 2, 4, 4, 4),
}
RESNET = {8: 1, 14: 2, 20: 3, 56: 9}  # depth -> blocks per stage, (depth - 2) / 6
ZOO = (
    "lenet-300-100 (any widths), conv-2/4/6, vgg-small/11/16/19, resnet-8/14/20/56 (width: -w32), "
    "vit-2-8 (blocks and heads)"
)
_LENET = re.compile(r"lenet((?:-[1-9][0-9]{0,4})+)")
_RESNET = re.compile(r"resnet-(8|14|20|56)(?:-w([1-9][0-9]{0,3}))?")
_VIT = re.compile(r"vit-([1-9][0-9]?)-([1-9][0-9]?)")


def validate_network(name: str) -> None:
    """Check a network's name without building it; ValueError lists the zoo."""
    known = isinstance(name, str) and (
        _LENET.fullmatch(name)
        or _RESNET.fullmatch(name)
        or _VIT.fullmatch(name)
        or name in {f"conv-{depth}" for depth in CONV}
        or name in {f"vgg-{depth}" for depth in (*VGG, "small")}
    )
    if not known:
        raise ValueError(f"network must be one of {ZOO}, not {name!r}")


@neutral()
def build(
    name: str, image_shape: tuple[int, int, int], classes: int, replicas: int = 1
) -> Population:
    """A population of the named network, all weights zero until `initialise` or a state fills it.

    image_shape: channels, height, width. Raises ValueError for an unknown name, or an image too
    small for the network's pooling.
    """
    validate_network(name)
    channels, height, width = image_shape
    if match := _LENET.fullmatch(name):
        widths = [int(width) for width in match[1].strip("-").split("-")]
        layers = _lenet(replicas, channels * height * width, widths, classes)
    elif match := _RESNET.fullmatch(name):
        layers = _resnet(replicas, channels, RESNET[int(match[1])], int(match[2] or 16), classes)
    elif match := _VIT.fullmatch(name):
        if height % 4 or width % 4:
            sides = f"height and width that 4 divides, not {height} x {width}"
            raise ValueError(f"images for {name} must have {sides}")
        layers = _vit(replicas, image_shape, int(match[1]), int(match[2]), classes)
    else:
        family, depth = name.split("-")
        pools = int(depth) // 2 if family == "conv" else 4
        if min(height, width) < 2**pools:
            least = f"{2**pools} x {2**pools}"
            raise ValueError(f"images for {name} must be at least {least}, not {height} x {width}")
        if family == "conv":
            layers = _conv(replicas, image_shape, CONV[int(depth)], classes)
        else:
            layers = _vgg(replicas, channels, depth, classes)
    return Population(name, nn.Sequential(*layers))


def outline(
    name: str, image_shape: tuple[int, int, int] = (3, 32, 32), classes: int = 10
) -> Population:
    """The named network with shapes and no memory, on torch's meta device; arguments of `build`."""
    with torch.device("meta"):
        return build(name, image_shape, classes)


def _lenet(replicas: int, inputs: int, widths: Sequence[int], classes: int) -> list[nn.Module]:
    """Fully connected, ReLU between (Frankle & Carbin 2019, section 2)."""
    layers: list[nn.Module] = []
    for width in widths:
        layers += [Dense(replicas, inputs, width, GLOROT), nn.ReLU(inplace=True)]
        inputs = width
    return [*layers, Dense(replicas, inputs, classes, GLOROT)]


def _conv(
    replicas: int, shape: tuple[int, int, int], widths: Sequence[int], classes: int
) -> list[nn.Module]:
    """Pairs of convolutions with biases, each pair pooled (Frankle & Carbin 2019, section 3)."""
    channels, height, width = shape
    layers: list[nn.Module] = []
    for number, outputs in enumerate(widths, start=1):
        layers += [Conv(replicas, channels, outputs, bias=True, gain=GLOROT), nn.ReLU(inplace=True)]
        channels = outputs
        if number % 2 == 0:
            layers.append(nn.MaxPool2d(2))
            height, width = height // 2, width // 2
    head = _lenet(replicas, channels * height * width, (256, 256), classes)
    return [*layers, Flatten(replicas), *head]


def _vgg(replicas: int, channels: int, depth: str, classes: int) -> list[nn.Module]:
    """VGG for small images: batch normalisation, four poolings, global average, one dense layer
    (Liu et al. 2019, section 4). "small" has one convolution per stage of 32, 64, 128, 128, 128.
    """
    stages = (1, 1, 1, 1, 1) if depth == "small" else VGG[depth]
    widths = (32, 64, 128, 128, 128) if depth == "small" else (64, 128, 256, 512, 512)
    layers: list[nn.Module] = []
    for stage, (count, outputs) in enumerate(zip(stages, widths, strict=True)):
        if stage:
            layers.append(nn.MaxPool2d(2))
        for _ in range(count):
            layers += [
                Conv(replicas, channels, outputs),
                BatchNorm(replicas, outputs),
                nn.ReLU(inplace=True),
            ]
            channels = outputs
    return [*layers, Average(), Flatten(replicas), Dense(replicas, channels, classes, HE)]


def _resnet(replicas: int, channels: int, blocks: int, width: int, classes: int) -> list[nn.Module]:
    """Three stages of basic blocks, the width doubling (He et al. 2016, section 4.2)."""
    layers: list[nn.Module] = [Conv(replicas, channels, width), BatchNorm(replicas, width)]
    layers.append(nn.ReLU(inplace=True))
    channels = width
    for stage, outputs in enumerate((width, 2 * width, 4 * width)):
        for block in range(blocks):
            stride = 2 if stage and block == 0 else 1
            layers.append(Block(replicas, channels, outputs, outputs, stride))
            channels = outputs
    return [*layers, Average(), Flatten(replicas), Dense(replicas, channels, classes, HE)]


def _vit(
    replicas: int, shape: tuple[int, int, int], blocks: int, heads: int, classes: int
) -> list[nn.Module]:
    """A small vision transformer (Dosovitskiy et al. 2021): 16 tokens of width 48, heads of 8, 96
    hidden neurons, ReLU for speed, the mean of the tokens in place of a token for the class.
    """
    channels, height, width = shape
    pixels = channels * height * width // TOKENS
    layers: list[nn.Module] = [Patches(channels), Dense(replicas, pixels, 48, GLOROT)]
    layers.append(Positions(replicas, 48))
    for _ in range(blocks):
        layers += [Attention(replicas, 48, heads, size=8), Perceptron(replicas, 48, hidden=96)]
    return [*layers, LayerNorm(replicas, 48), OverTokens(), Dense(replicas, 48, classes, GLOROT)]


def stack(populations: Sequence[Population]) -> Population:
    """Several populations of one architecture as one, their replicas in order."""
    states = [population.state() for population in populations]
    return populations[0].with_state({n: torch.cat([s[n] for s in states]) for n in states[0]})
