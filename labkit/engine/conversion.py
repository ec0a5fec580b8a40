"""Own networks: plain torch modules as layers with a replica axis, and back.

A module is followed by torch.fx, which calls its `forward` once and writes down what was called. So
it may be written in any way, as long as what comes out is one line of known layers, with residual
blocks of two convolutions in it (He et al. 2016). Nothing is guessed: what is not known is refused.
"""

import copy
import operator
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, TypeVar

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.nn.utils import prune

from labkit.engine.layers import HE, Average, BatchNorm, Block, Conv, Dense, Flatten

# Layers without weights, which do the same to any number of channels, so replicas need no others.
ACTIVATIONS = (nn.ReLU, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid)
POOLINGS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d)
PLAIN = (*ACTIVATIONS, *POOLINGS)
ALLOWED = (
    "Linear, Conv2d (square, one group, zeros around), BatchNorm2d, "
    + ", ".join(kind.__name__ for kind in PLAIN)
    + ", Flatten, Identity, and residual blocks of two 3x3 convolutions without biases, each with "
    "BatchNorm2d, whose shortcut is nothing or a 1x1 convolution with BatchNorm2d"
)
_FUNCTIONS: dict[Any, Callable[..., nn.Module]] = {  # what `forward` may call -> the same, a layer
    F.relu: nn.ReLU,
    F.leaky_relu: nn.LeakyReLU,
    F.elu: nn.ELU,
    F.gelu: nn.GELU,
    F.silu: nn.SiLU,
    F.max_pool2d: nn.MaxPool2d,
    F.avg_pool2d: nn.AvgPool2d,
    F.adaptive_avg_pool2d: nn.AdaptiveAvgPool2d,
    torch.relu: nn.ReLU,
    torch.tanh: nn.Tanh,
    torch.sigmoid: nn.Sigmoid,
    torch.flatten: lambda start_dim=0, end_dim=-1: nn.Flatten(start_dim, end_dim),
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "flatten": lambda start_dim=0, end_dim=-1: nn.Flatten(start_dim, end_dim),
    "view": lambda *sizes: nn.Flatten(1 if len(sizes) == 2 else 0),  # images, all the rest
    "reshape": lambda *sizes: nn.Flatten(1 if len(sizes) == 2 else 0),
}
_SUMS = (operator.add, operator.iadd, torch.add, "add", "add_")
_TENSORS = {  # of ours -> of torch's
    Dense: {"weight": "weight", "bias": "bias"},
    Conv: {"weight": "weight", "bias": "bias"},
    BatchNorm: {
        "weight": "weight",
        "bias": "bias",
        "mean": "running_mean",
        "variance": "running_var",
    },
}
Weighted: TypeAlias = Dense | Conv | BatchNorm
LayerT = TypeVar("LayerT", Dense, Conv, BatchNorm)


class ResidualBlock(nn.Module):
    """`labkit.engine.layers.Block` as a plain torch module of one network."""

    def __init__(self, inputs: int, inner: int, outputs: int, stride: int, changes: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, inner, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if changes:
            conv = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.shortcut = nn.Sequential(conv, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:  # (B, inputs, H, W) -> (B, outputs, H', W')
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


def layers_of(module: nn.Module) -> nn.Sequential:
    """The module's layers as a population of one, with its weights. Raises ValueError for what a
    population cannot be made of.
    """
    return _read(module)[0]


@torch.no_grad()
def module_of(
    layers: nn.Sequential, replica: int, masks: Mapping[str, Tensor], like: nn.Module | None
) -> nn.Module:
    """One replica as a plain torch module: a copy of `like`, or else a sequence.

    masks: name of a weight in `layers` -> bool (R, ...).
    """
    ours = _weighted(layers)
    for name, mask in masks.items():
        shape = ours[_layer(name)].weight.shape if _layer(name) in ours else None
        if mask.shape != shape:
            raise ValueError(
                f"masks must be of this network's weights, as they are: {name} is "
                f"{shape and tuple(shape)}, and not {tuple(mask.shape)}"
            )
    made = _sequence(layers) if like is None else copy.deepcopy(like)
    read, sources = _read(made)
    theirs = _weighted(read)
    if list(map(_shapes, ours.values())) != list(map(_shapes, theirs.values())):
        raise ValueError(f"like must have this network's layers and widths, not those of {made}")
    for (name, layer), source in zip(ours.items(), sources, strict=True):
        for own, its in _TENSORS[type(layer)].items():
            if hasattr(source, f"{its}_mask"):
                prune.remove(source, its)
            if (value := getattr(layer, own)) is not None:
                getattr(source, its).copy_(value[replica])
        if f"{name}.weight" in masks:
            prune.custom_from_mask(source, "weight", masks[f"{name}.weight"][replica])
    return made.train(layers.training)


def _layer(weight: str) -> str:
    return weight.removesuffix(".weight")


def _shapes(layer: Weighted) -> list[object]:
    """What two layers of one architecture have in common."""
    return [type(layer), *(t.shape[1:] for t in layer.state_dict().values())]


def _weighted(layers: nn.Sequential) -> dict[str, Weighted]:
    """The layers that hold weights, in their order."""
    return {n: m for n, m in layers.named_modules() if isinstance(m, Dense | Conv | BatchNorm)}


def _tensor(source: nn.Module, name: str) -> Tensor:
    """A tensor of a torch layer; of one that is masked, what the mask leaves."""
    if hasattr(source, f"{name}_mask"):
        return getattr(source, f"{name}_orig") * getattr(source, f"{name}_mask")
    return getattr(source, name)


def _sequence(layers: nn.Sequential) -> nn.Sequential:
    """Torch's layers for ours, in the same order."""
    made: list[nn.Module] = [nn.Flatten()] if isinstance(layers[0], Dense) else []
    for number, layer in layers.named_children():
        if isinstance(layer, Dense):
            _, outputs, inputs = layer.weight.shape
            made.append(nn.Linear(inputs, outputs))
        elif isinstance(layer, Conv):
            _, outputs, inputs, size, _ = layer.weight.shape
            bias = layer.bias is not None
            made.append(nn.Conv2d(inputs, outputs, size, layer.stride, layer.padding, bias=bias))
        elif isinstance(layer, BatchNorm):
            made.append(nn.BatchNorm2d(layer.weight.shape[1], layer.eps, layer.momentum))
        elif isinstance(layer, Block):
            _, inner, inputs, _, _ = layer.conv1.weight.shape
            outputs, changes = (
                layer.conv2.weight.shape[1],
                not isinstance(layer.shortcut, nn.Identity),
            )
            made.append(ResidualBlock(inputs, inner, outputs, layer.conv1.stride, changes))
        elif isinstance(layer, Flatten):
            made.append(nn.Flatten())
        elif isinstance(layer, Average):
            made.append(nn.AdaptiveAvgPool2d(1))
        elif isinstance(layer, PLAIN):
            made.append(copy.deepcopy(layer))
        else:
            raise ValueError(
                f"network must be of layers that plain torch has, and its layer {number} is "
                f"{type(layer).__name__}, of the vision transformer; allowed are {ALLOWED}"
            )
    return nn.Sequential(*made)


def _read(module: nn.Module) -> tuple[nn.Sequential, list[nn.Module]]:
    """The module's layers as ours, and its own that hold weights, in the order of `_weighted`."""
    try:
        graph = fx.Tracer().trace(module)
    except Exception as error:  # whatever a forward can raise
        raise ValueError(
            f"module must have a forward that is one line of layers, and that of "
            f"{type(module).__name__} cannot be followed ({error})"
        ) from error
    reader = _Reader(dict(module.named_modules()))
    reader.follow(graph)
    return nn.Sequential(*reader.layers), reader.sources


class _Reader:
    """Follows the graph of a module from its images to its logits."""

    def __init__(self, modules: dict[str, nn.Module]) -> None:
        self.layers: list[nn.Module] = []
        self.sources: list[nn.Module] = []
        self._modules = modules
        self._flat = self._normalised = False

    def follow(self, graph: fx.Graph) -> None:
        """Read all layers, each from the node that calls it."""
        start, *others = [node for node in graph.nodes if node.op == "placeholder"]
        if not all(other.args for other in others):  # without a default
            raise ValueError(f"module must be called with images alone, not with {others} too")
        node = start
        while (users := _users(node)) != []:
            if len(users) == 2:
                node = self._block(node, users)
            elif len(users) > 2:
                raise _refused(f"{node}, which {len(users)} layers read")
            elif users[0].op == "output":
                return
            else:
                self._add(users[0])
                node = users[0]
        raise ValueError(f"module must return logits, and what {node} gives leads to none")

    def _layer(self, node: fx.Node) -> nn.Module:
        """The torch layer that a node calls."""
        if node.op == "call_module":
            return self._modules[str(node.target)]
        if node.op != "get_attr" and node.target in _FUNCTIONS:
            kwargs = {k: v for k, v in node.kwargs.items() if k != "input"}
            return _FUNCTIONS[node.target](*node.args[1:], **kwargs)
        raise _refused(f"{node}, which forward calls")

    def _add(self, node: fx.Node) -> None:
        layer = self._layer(node)
        where = f"{node.target} ({layer})" if node.op == "call_module" else f"{node} ({layer})"
        if isinstance(layer, nn.Identity):
            return
        if isinstance(layer, nn.Flatten):
            if layer.start_dim != 1 or layer.end_dim != -1:
                raise _refused(f"{where}, which must keep the first axis alone")
            if self.layers and not self._flat:
                self.layers.append(Flatten(1))
            self._flat = True  # what begins with a Dense is flattened by the population
        elif isinstance(layer, nn.Linear):
            if self.layers and not self._flat:
                raise _refused(f"{where} on images, without a Flatten before")
            self._flat = True
            self._hold(_dense(layer, where), layer)
        elif isinstance(layer, ACTIVATIONS):
            self.layers.append(copy.deepcopy(layer))
        elif self._flat:
            raise _refused(f"{where} after Flatten")
        elif isinstance(layer, POOLINGS):
            self.layers.append(copy.deepcopy(layer))
        elif isinstance(layer, nn.Conv2d):
            self._hold(_conv(layer, where), layer)
        elif isinstance(layer, nn.BatchNorm2d):
            if self._normalised:
                raise _refused(f"{where}, a second one after the same layer")
            self._hold(_norm(layer, where), layer)
        else:
            raise _refused(where)

    def _hold(self, layer: Weighted, source: nn.Module) -> None:
        self.layers.append(layer)
        self._take(source)
        self._normalised = isinstance(layer, BatchNorm)

    def _take(self, source: nn.Module) -> None:
        if any(source is other for other in self.sources):
            raise _refused(f"{source}, which forward calls twice")
        self.sources.append(source)

    def _block(self, node: fx.Node, users: list[fx.Node]) -> fx.Node:
        """Add the residual block that begins with this node; the node that it ends with."""
        paths = sorted((self._path(user) for user in users), key=lambda path: -len(path[0]))
        (long, joined), (short, other) = paths
        ends = _users(joined)
        kinds = [nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.Conv2d, nn.BatchNorm2d]
        if (
            self._flat
            or joined is not other
            or list(map(type, long)) != kinds
            or list(map(type, short)) not in ([], kinds[:2])
            or [isinstance(self._layer(end), nn.ReLU) for end in ends if end.op != "output"]
            != [True]
        ):
            raise _refused(f"what branches after {node} and is no such block")
        where = f"the block after {node}"
        sources = [layer for layer in (*long, *short) if not isinstance(layer, nn.ReLU)]
        parts = [_part(source, where) for source in sources]
        convolutions = [part for part in parts if isinstance(part, Conv)]
        stride = convolutions[0].stride
        found = [(c.weight.shape[-1], c.stride, c.padding, c.bias) for c in convolutions]
        if found != [(3, stride, 1, None), (3, 1, 1, None), (1, stride, 0, None)][: len(found)]:
            raise _refused(f"{where} with other convolutions")
        block = Block(1, 1, 1, 1, stride=1)
        for name, part in zip(("conv1", "norm1", "conv2", "norm2"), parts, strict=False):
            setattr(block, name, part)
        block.shortcut = nn.Sequential(*parts[4:]) if short else nn.Identity()
        for source in sources:
            self._take(source)
        self.layers.append(block)
        self._normalised = False
        return ends[0]

    def _path(self, node: fx.Node) -> tuple[list[nn.Module], fx.Node]:
        """The layers from a node to the sum that joins them to another path, and that sum."""
        layers = []
        while not _sums(node):
            layers.append(self._layer(node))
            users = _users(node)
            if len(users) != 1:
                raise _refused(f"{node}, which {len(users)} layers read")
            (node,) = users
        return [layer for layer in layers if not isinstance(layer, nn.Identity)], node


def _users(node: fx.Node) -> list[fx.Node]:
    """The nodes that read what a node gives, and not its size alone."""
    return [user for user in node.users if user.target not in ("size", "dim", getattr)]


def _sums(node: fx.Node) -> bool:
    return node.op != "call_module" and node.target in _SUMS


def _refused(what: str) -> ValueError:
    return ValueError(f"module must be a line of {ALLOWED}; not allowed is {what}")


def _part(source: nn.Module, where: str) -> Weighted:
    """Ours for a torch layer that holds weights, with these."""
    if isinstance(source, nn.Linear):
        return _dense(source, where)
    return _conv(source, where) if isinstance(source, nn.Conv2d) else _norm(source, where)


def _filled(layer: LayerT, source: nn.Module, where: str) -> LayerT:
    """Our layer with the weights of torch's."""
    for own, its in _TENSORS[type(layer)].items():
        if (target := getattr(layer, own)) is not None:
            value = _tensor(source, its).detach()
            if value.dtype != torch.float32:
                raise _refused(f"{where}, whose {its} is of {value.dtype} and not of float32")
            target.data = value.clone()[None]
    return layer


def _dense(source: nn.Linear, where: str) -> Dense:
    if source.bias is None:
        raise _refused(f"{where}, which must have a bias")
    return _filled(Dense(1, source.in_features, source.out_features, HE), source, where)


def _conv(source: nn.Conv2d, where: str) -> Conv:
    (size, *sizes), (stride, *strides) = source.kernel_size, source.stride
    padding = source.padding
    if padding == "valid":
        padding = (0, 0)
    elif padding == "same":
        padding = (size // 2, size // 2) if size % 2 else (-1, -1)
    square = [size] == sizes and [stride] == strides and padding[0] == padding[1] != -1
    if not square or source.groups != 1 or source.dilation != (1, 1):
        raise _refused(f"{where}, which must be square, of one group and not dilated")
    if source.padding_mode != "zeros":
        raise _refused(f"{where}, which must have zeros around")
    layer = Conv(
        1,
        source.in_channels,
        source.out_channels,
        size=size,
        stride=stride,
        padding=int(padding[0]),
        bias=source.bias is not None,
    )
    return _filled(layer, source, where)


def _norm(source: nn.Module, where: str) -> BatchNorm:
    assert isinstance(source, nn.BatchNorm2d)
    if not source.affine or source.running_mean is None or source.momentum is None:
        raise _refused(f"{where}, which must have weights, running statistics and a momentum")
    layer = BatchNorm(1, source.num_features)
    layer.momentum, layer.eps = source.momentum, source.eps
    return _filled(layer, source, where)
