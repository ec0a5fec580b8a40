"""Layers with a replica axis: each is R layers side by side that never mix.

Dense layers pass activations as (R, B, features), convolutional ones as (B, R x channels, H, W),
and transformers as (R, B x tokens, features), the tokens of an image one after the other: so a
dense layer is the same for all.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

GLOROT = 1.0  # variance 2 / (fan in + fan out), Glorot & Bengio 2010
HE = math.sqrt(2)  # variance 2 / fan in, He et al. 2015


class Dense(nn.Module):
    """R fully connected layers. weight: (R, out, in); bias: (R, out)."""

    def __init__(self, replicas: int, inputs: int, outputs: int, gain: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(replicas, outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(replicas, outputs))
        self.gain = gain

    @property
    def deviation(self) -> float:
        """Standard deviation of a weight at initialisation, by the layer's present widths."""
        _, outputs, inputs = self.weight.shape
        return self.gain * _deviation(inputs, outputs, self.gain)

    def extra_repr(self) -> str:
        return _shape("replicas, outputs, inputs", self.weight)

    def forward(self, x: Tensor) -> Tensor:  # (R, B, in) -> (R, B, out)
        return torch.baddbmm(self.bias.unsqueeze(1), x, self.weight.mT)


class Conv(nn.Module):
    """R square convolutions that keep height and width (divided by the stride), or, with another
    padding than None, do not.

    weight: (R, out, in, size, size); no bias unless asked for: batch normalisation has its own.
    """

    def __init__(
        self,
        replicas: int,
        inputs: int,
        outputs: int,
        *,
        size: int = 3,
        stride: int = 1,
        padding: int | None = None,
        bias: bool = False,
        gain: float = HE,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(replicas, outputs, inputs, size, size))
        self.bias = nn.Parameter(torch.zeros(replicas, outputs)) if bias else None
        self.stride = stride
        self.padding = size // 2 if padding is None else padding
        self.gain = gain

    @property
    def deviation(self) -> float:
        """Standard deviation of a weight at initialisation, by the layer's present widths."""
        _, outputs, inputs, height, width = self.weight.shape
        area = height * width
        return self.gain * _deviation(inputs * area, outputs * area, self.gain)

    def extra_repr(self) -> str:
        return _shape("replicas, outputs, inputs, height, width", self.weight)

    def forward(self, x: Tensor) -> Tensor:  # (B, R * in, H, W) -> (B, R * out, H, W)
        stride = self.stride
        if (
            self.weight.shape[-1] == 1
            and stride > 1
            and not self.padding
            and self.weight.shape[2] < 8
        ):
            # The same pixels, picked first: the weight gradient of a strided 1x1 convolution of 2
            # to 7 channels overruns its memory on AVX2 processors (torch 2.15, channels last). With
            # more channels a ResNet-8 would take a tenth longer so.
            x, stride = x[:, :, ::stride, ::stride], 1
        return F.conv2d(
            x,
            self.weight.flatten(0, 1),
            None if self.bias is None else self.bias.flatten(),
            stride=stride,
            padding=self.padding,
            groups=len(self.weight),
        )


class BatchNorm(nn.Module):
    """R batch normalisations. weight (gamma), bias (beta), mean, variance: (R, C)."""

    momentum = 0.1  # of the running statistics, as in torch.nn.BatchNorm2d
    eps = 1e-5  # likewise
    mean: Tensor
    variance: Tensor

    def __init__(self, replicas: int, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(replicas, channels))
        self.bias = nn.Parameter(torch.zeros(replicas, channels))
        self.register_buffer("mean", torch.zeros(replicas, channels))
        self.register_buffer("variance", torch.ones(replicas, channels))

    def extra_repr(self) -> str:
        return _shape("replicas, channels", self.weight)

    def forward(self, x: Tensor) -> Tensor:  # (B, R * C, H, W), the same out
        return F.batch_norm(
            x,
            self.mean.view(-1),  # views: training updates the buffers in place
            self.variance.view(-1),
            self.weight.flatten(),
            self.bias.flatten(),
            self.training,
            self.momentum,
            self.eps,
        )


class Flatten(nn.Module):
    """From the layout of convolutions to that of dense layers."""

    def __init__(self, replicas: int) -> None:
        super().__init__()
        self.replicas = replicas

    def forward(self, x: Tensor) -> Tensor:  # (B, R * C, H, W) -> (R, B, C * H * W)
        return x.reshape(len(x), self.replicas, -1).transpose(0, 1)


class Average(nn.Module):
    """Global average pooling, spatial size kept as 1 x 1."""

    def forward(self, x: Tensor) -> Tensor:  # (B, R * C, H, W) -> (B, R * C, 1, 1)
        return x.mean((2, 3), keepdim=True)


class Block(nn.Module):
    """The basic residual block: two 3x3 convolutions of `inner` and `outputs` channels.

    The shortcut is the identity, or a 1x1 convolution where the shape changes (He et al. 2016,
    option B).
    """

    def __init__(self, replicas: int, inputs: int, inner: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = Conv(replicas, inputs, inner, stride=stride)
        self.norm1 = BatchNorm(replicas, inner)
        self.conv2 = Conv(replicas, inner, outputs)
        self.norm2 = BatchNorm(replicas, outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                Conv(replicas, inputs, outputs, size=1, stride=stride),
                BatchNorm(replicas, outputs),
            )

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu_(self.norm1(self.conv1(x)))
        # In the memory of normalisation's output, which nobody else needs.
        return F.relu_(self.norm2(self.conv2(y)).add_(self.shortcut(x)))


TOKENS = 16  # of an image: 4 x 4 patches


class Patches(nn.Module):
    """Images cut into 4 x 4 patches, each a token of its pixels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, x: Tensor) -> Tensor:  # (B, R * C, H, W) -> (R, B * T, C * H/4 * W/4)
        batch, _, height, width = x.shape
        cut = x.reshape(batch, -1, self.channels, 4, height // 4, 4, width // 4)
        tokens = cut.permute(1, 0, 3, 5, 2, 4, 6)  # (R, B, row, column, C, height, width)
        return tokens.reshape(len(tokens), batch * TOKENS, -1)


class Positions(nn.Module):
    """R tables of what is added to a token for its place. weight: (R, T, width)."""

    deviation = 0.5  # with the usual 0.02 a short training does not find out where a patch is

    def __init__(self, replicas: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(replicas, TOKENS, width))

    def forward(self, x: Tensor) -> Tensor:  # (R, B * T, width), the same out
        return (x.unflatten(1, (-1, TOKENS)) + self.weight.unsqueeze(1)).flatten(1, 2)


class LayerNorm(nn.Module):
    """R layer normalisations. weight, bias: (R, width)."""

    def __init__(self, replicas: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(replicas, width))
        self.bias = nn.Parameter(torch.zeros(replicas, width))

    def forward(self, x: Tensor) -> Tensor:  # (R, B * T, width), the same out
        normal = F.layer_norm(x, x.shape[2:])
        return torch.addcmul(self.bias.unsqueeze(1), normal, self.weight.unsqueeze(1))


class Attention(nn.Module):
    """Residual self-attention, normalised first (Xiong et al. 2020), of heads of `size`.

    qkv: one Dense, its rows head by head, of each head the query, the key and the value: so a head
    is 3 x size rows that follow each other, and `size` columns of `out`.
    """

    def __init__(self, replicas: int, width: int, heads: int, size: int) -> None:
        super().__init__()
        self.size = size  # stays, however many heads are removed
        self.norm = LayerNorm(replicas, width)
        self.qkv = Dense(replicas, width, heads * 3 * size, GLOROT)
        self.out = Dense(replicas, heads * size, width, GLOROT)

    def forward(self, x: Tensor) -> Tensor:  # (R, B * T, width), the same out
        split = self.qkv(self.norm(x)).unflatten(2, (-1, 3, self.size))
        beside = split.unflatten(1, (-1, TOKENS)).flatten(0, 1)  # (R * B, T, heads, 3, size)
        query, key, value = beside.permute(3, 0, 2, 1, 4)  # (R * B, heads, T, size) each
        mixed = F.scaled_dot_product_attention(query, key, value)
        heads = mixed.transpose(1, 2).flatten(2)  # (R * B, T, heads * size)
        return x + self.out(heads.reshape(*x.shape[:2], -1))


class Perceptron(nn.Module):
    """A residual layer of hidden neurons for each token by itself, normalised first."""

    def __init__(self, replicas: int, width: int, hidden: int) -> None:
        super().__init__()
        self.norm = LayerNorm(replicas, width)
        self.hidden = Dense(replicas, width, hidden, HE)
        self.out = Dense(replicas, hidden, width, GLOROT)

    def forward(self, x: Tensor) -> Tensor:  # (R, B * T, width), the same out
        return x + self.out(F.relu(self.hidden(self.norm(x))))


class OverTokens(nn.Module):
    """The mean over the tokens of an image."""

    def forward(self, x: Tensor) -> Tensor:  # (R, B * T, width) -> (R, B, width)
        return x.unflatten(1, (-1, TOKENS)).mean(2)


def _shape(axes: str, weight: Tensor) -> str:
    """What printing a layer shows, such as "replicas=1, outputs=300, inputs=784"."""
    sizes = zip(axes.split(", "), weight.shape, strict=True)
    return ", ".join(f"{axis}={size}" for axis, size in sizes)


def _deviation(fan_in: int, fan_out: int, gain: float) -> float:
    """Deviation of a weight before the gain: HE looks at the fan-in alone."""
    return math.sqrt(2 / (fan_in + fan_out)) if gain == GLOROT else math.sqrt(1 / fan_in)
