"""Each replica is exactly the network that plain torch.nn would build."""

import math
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from labkit import build, generator, stack
from labkit.engine.layers import Attention
from labkit.engine.networks import Population

SMALL = ("lenet-300-100", "lenet-7-6-5", "conv-2", "conv-4", "conv-6", "vgg-small")
RESIDUAL = ("resnet-8", "resnet-14", "resnet-20", "resnet-8-w4")
DEEP = ("vgg-11", "vgg-16", "vgg-19", "resnet-56")
SHAPE = (3, 16, 16)


def population(name: str, replicas: int = 2, shape: tuple[int, int, int] = SHAPE) -> Population:
    network = build(name, shape, 10, replicas)
    network.initialise([generator(seed, "initialisation") for seed in range(replicas)])
    for module in network.modules():  # so that a mix-up of gammas, betas and biases shows
        for parameter in module.parameters(recurse=False):
            if parameter.ndim == 2:
                parameter.data += 0.1 * torch.randn(
                    parameter.shape, generator=generator(9, "noise")
                )
    return network


class PlainBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut = None
        if stride != 1 or inputs != outputs:
            conv = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.shortcut = nn.Sequential(conv, nn.BatchNorm2d(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        return F.relu(y + (x if self.shortcut is None else self.shortcut(x)))


class PlainPatches(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (B, 3, 16, 16) -> (B, 16, 48)
        rows = [patch for row in x.split(4, 2) for patch in row.split(4, 3)]
        return torch.stack([patch.flatten(1) for patch in rows], 1)


class PlainPositions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(16, 48))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.weight


class PlainAttention(nn.Module):
    def __init__(self, heads: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(48)
        self.qkv = nn.Linear(48, 24 * heads)
        self.out = nn.Linear(8 * heads, 48)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        results = []
        for head in self.qkv(self.norm(x)).split(24, 2):
            query, key, value = head.split(8, 2)
            weights = (query @ key.mT / math.sqrt(8)).softmax(2)  # (B, T, T)
            results.append(weights @ value)
        return x + self.out(torch.cat(results, 2))


class PlainPerceptron(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(48)
        self.hidden, self.out = nn.Linear(48, 96), nn.Linear(96, 48)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.out(F.relu(self.hidden(self.norm(x))))


class PlainMean(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean(1)


def plain(name: str) -> nn.Sequential:
    """The same architecture, written without a replica axis."""
    family, *sizes = name.split("-")
    if family == "vit":
        parts: list[nn.Module] = [PlainPatches(), nn.Linear(48, 48), PlainPositions()]
        for _ in range(int(sizes[0])):
            parts += [PlainAttention(int(sizes[1])), PlainPerceptron()]
        return nn.Sequential(*parts, nn.LayerNorm(48), PlainMean(), nn.Linear(48, 10))
    if family == "lenet":
        widths = [math.prod(SHAPE), *map(int, sizes)]
        layers: list[nn.Module] = [nn.Flatten()]
        for inputs, outputs in pairwise(widths):
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        return nn.Sequential(*layers, nn.Linear(widths[-1], 10))
    if family == "conv":
        layers, inputs = [], 3
        for outputs in (64, 128, 256)[: int(sizes[0]) // 2]:
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()]
            layers += [nn.Conv2d(outputs, outputs, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
            inputs = outputs
        side = 16 // 2 ** (int(sizes[0]) // 2)
        layers += [nn.Flatten(), nn.Linear(inputs * side**2, 256), nn.ReLU()]
        return nn.Sequential(*layers, nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10))
    if family == "vgg":
        widths = {
            "small": "32 M 64 M 128 M 128 M 128",
            "11": "64 M 128 M 256 256 M 512 512 M 512 512",
            "16": "64 64 M 128 128 M 256 256 256 M 512 512 512 M 512 512 512",
            "19": "64 64 M 128 128 M 256 256 256 256 M 512 512 512 512 M 512 512 512 512",
        }[sizes[0]].split()
        layers, inputs = [], 3
        for word in widths:
            if word == "M":
                layers.append(nn.MaxPool2d(2))
                continue
            conv = nn.Conv2d(inputs, int(word), 3, padding=1, bias=False)
            layers += [conv, nn.BatchNorm2d(int(word)), nn.ReLU()]
            inputs = int(word)
        head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, 10)]
        return nn.Sequential(*layers, *head)
    width = int(sizes[1][1:]) if len(sizes) > 1 else 16
    conv = nn.Conv2d(3, width, 3, padding=1, bias=False)
    layers, inputs = [conv, nn.BatchNorm2d(width), nn.ReLU()], width
    for stage in range(3):
        for number in range((int(sizes[0]) - 2) // 6):
            stride = 2 if stage and not number else 1
            layers.append(PlainBlock(inputs, width * 2**stage, stride))
            inputs = width * 2**stage
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, 10))


def copy_replica(network: Population, replica: int, target: nn.Sequential) -> nn.Sequential:
    """Tensors in order of definition: the order of ours is that of the textbook."""
    own = [tensor[replica] for tensor in network.state().values()]
    theirs = [t for n, t in target.state_dict().items() if not n.endswith("num_batches_tracked")]
    for source, goal in zip(own, theirs, strict=True):
        assert source.shape == goal.shape, "a replica's weight has the textbook shape"
        goal.copy_(source)
    return target


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("name", [*SMALL, *RESIDUAL, "vit-2-8"])
def test_every_replica_has_the_output_and_gradients_of_plain_torch(name: str, training: bool):
    network = population(name).double().train(training)
    images = torch.randn(2, 5, *SHAPE, generator=generator(1, "images")).double()
    weight = torch.randn(2, 5, 10, generator=generator(2, "weights")).double()
    logits = network(images)
    assert logits.shape == (2, 5, 10)
    (logits * weight).sum().backward()
    for replica in range(2):
        other = copy_replica(
            network if not training else _before(name), replica, plain(name).double()
        )
        other.train(training)
        expected = other(images[replica])
        torch.testing.assert_close(logits[replica], expected)
        (expected * weight[replica]).sum().backward()
        pairs = zip(network.parameters(), other.parameters(), strict=True)
        for own, theirs in pairs:
            assert own.grad is not None and theirs.grad is not None
            torch.testing.assert_close(own.grad[replica], theirs.grad)
        if training:
            statistics = [t[replica] for t in network.buffers()]
            running = [t for t in other.buffers() if t.ndim]
            for own_statistic, their_statistic in zip(statistics, running, strict=True):
                torch.testing.assert_close(own_statistic, their_statistic)


def _before(name: str) -> Population:
    """The population before a training pass has moved its statistics."""
    return population(name).double()


@pytest.mark.parametrize("name", DEEP)
@torch.no_grad()
def test_deep_networks_have_the_output_of_plain_torch(name: str):
    network = population(name, replicas=1).double().eval()
    images = torch.randn(1, 2, *SHAPE, generator=generator(1, "images")).double()
    other = copy_replica(network, 0, plain(name).double()).eval()
    torch.testing.assert_close(network(images)[0], other(images[0]))


@pytest.mark.parametrize(
    ("name", "shape", "prunable"),
    [
        ("lenet-300-100", (1, 28, 28), 266_200),
        ("conv-6", (3, 32, 32), 2_261_184),
        ("resnet-20", (3, 32, 32), 270_896),
    ],
)
def test_prunable_weights_are_as_many_as_in_the_papers(name, shape, prunable):
    network = build(name, shape, 10)
    assert sum(weight[0].numel() for weight in network.prunable().values()) == prunable


def test_weights_have_the_variance_of_their_initialisation():
    lenet = build("lenet-300-100", (1, 28, 28), 10).initialise([generator(0, "a")])
    first = lenet.prunable()["layers.0.weight"]
    assert first.std().item() == pytest.approx(math.sqrt(2 / (784 + 300)), rel=0.01)
    resnet = build("resnet-8", SHAPE, 10).initialise([generator(0, "a")])
    last = list(resnet.prunable().values())[-2]  # a 1x1 or 3x3 convolution of the last block
    fan_in = last[0, 0].numel()
    assert last.std().item() == pytest.approx(math.sqrt(2 / fan_in), rel=0.05)


def test_a_replica_is_drawn_from_its_own_generator_alone():
    crowd = build("resnet-8", SHAPE, 10, 3).initialise([generator(s, "a") for s in (5, 6, 7)])
    alone = build("resnet-8", SHAPE, 10).initialise([generator(6, "a")])
    for name, tensor in crowd[1].state().items():
        assert torch.equal(tensor, alone.state()[name])


@torch.no_grad()
def test_attention_is_that_of_torch_with_its_rows_sorted_by_head():
    layer = Attention(1, 48, heads=6, size=8).double()  # torch's own has heads of width / heads
    for parameter in layer.parameters():
        parameter.normal_(std=0.3, generator=generator(3, "weights"))
    other = nn.MultiheadAttention(48, 6, batch_first=True).double()
    by_head = layer.qkv.weight[0].view(6, 3, 8, 48)  # torch has all queries, all keys, all values
    other.in_proj_weight.copy_(by_head.transpose(0, 1).reshape(144, 48))
    other.in_proj_bias.copy_(layer.qkv.bias[0].view(6, 3, 8).transpose(0, 1).reshape(144))
    other.out_proj.weight.copy_(layer.out.weight[0])
    other.out_proj.bias.copy_(layer.out.bias[0])
    x = torch.randn(5, 16, 48, generator=generator(1, "tokens")).double()
    normal = F.layer_norm(x, (48,), layer.norm.weight[0], layer.norm.bias[0])
    expected = x + other(normal, normal, normal, need_weights=False)[0]
    torch.testing.assert_close(layer(x.flatten(0, 1)[None])[0], expected.flatten(0, 1))


def test_a_vision_transformer_has_a_place_for_every_patch_and_cuts_images_evenly():
    network = build("vit-2-8", (1, 28, 28), 10).initialise([generator(0, "a")])
    assert sum(p.numel() for p in network.parameters()) == 47_914
    assert network.state()["layers.2.weight"].std().item() == pytest.approx(0.5, rel=0.05)
    with pytest.raises(ValueError, match="vit-2-8 must have height and width that 4 divides"):
        build("vit-2-8", (1, 30, 30), 10)


@pytest.mark.parametrize("name", ["lenet-7-6-5", "conv-2", "resnet-8-w4", "vit-2-3"])
def test_indexing_gives_replicas_and_stacking_puts_them_back(name: str):
    network = population(name, 3).eval()
    images = torch.randn(3, 2, *SHAPE, generator=generator(1, "images"))
    logits = network(images)
    for replica in range(3):
        torch.testing.assert_close(network[replica](images[[replica]])[0], logits[replica])
    again = stack([network[0], network[1:]])
    assert again.replicas == 3
    assert all(torch.equal(t, network.state()[n]) for n, t in again.state().items())
    torch.testing.assert_close(network[[2, 0]](images[[2, 0]]), logits[[2, 0]])


def test_a_copy_is_independent():
    network = population("lenet-7-6-5")
    part = network[0]
    next(part.parameters()).data.zero_()
    assert next(network.parameters()).abs().sum() > 0


def test_one_batch_serves_all_replicas():
    network = population("conv-2").eval()
    images = torch.randn(1, 4, *SHAPE, generator=generator(1, "images"))
    torch.testing.assert_close(network(images), network(images.expand(2, -1, -1, -1, -1)))


@pytest.mark.parametrize("name", ["resnet-9", "lenet", "lenet-0", "vgg-12", "conv-3", "", 3, None])
def test_an_unknown_network_is_an_error_that_lists_the_zoo(name):
    with pytest.raises(ValueError, match=r"network must be one of lenet-300-100.*not "):
        build(name, SHAPE, 10)


def test_an_image_too_small_for_the_pooling_is_a_clear_error():
    with pytest.raises(ValueError, match="images for vgg-11 must be at least 16 x 16, not 8 x 8"):
        build("vgg-11", (3, 8, 8), 10)
