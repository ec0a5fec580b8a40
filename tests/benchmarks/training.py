"""How fast training is: python -m tests.benchmarks.training

Milliseconds per replica and iteration of the lab's engine, for populations of 1, 2, 4 and 8, next
to (a) an ordinary PyTorch loop with DataLoader and transforms over the same images, as published
code does it, and (b) the time that the arithmetic alone would take at this machine's own rate for
float32 matrix products. Everything is measured in one run, so only the ratios mean anything. Then
peak memory, and where an iteration of LeNet goes.
"""

import resource
import sys
import time
from collections.abc import Callable, Iterator
from statistics import median

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from labkit import Data, Population, Pruning, Recipe, build, full_masks, generator, load, prune
from labkit.training import train

REPLICAS = (1, 2, 4, 8)


def milliseconds(advance: Callable[[], object], repeats: int) -> float:
    """Median time of one call, after a few calls to warm up."""
    times = []
    for number in range(repeats + 5):
        began = time.perf_counter()
        advance()
        if number >= 5:
            times.append(1e3 * (time.perf_counter() - began))
    return median(times)


def matrix_rate(size: int = 1_536) -> float:
    """Floating-point operations per second of a float32 matrix product."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    return 2 * size**3 / (1e-3 * milliseconds(lambda: a @ b, 10))


def engine(network: str, data: Data, recipe: Recipe, replicas: int, repeats: int) -> float:
    """Milliseconds per replica and iteration, with masks as in a round of pruning."""
    population = build(network, data.image_shape, 10, replicas)
    population.initialise([generator(seed, "initialisation") for seed in range(replicas)])
    masks = prune(Pruning(), population.state(), full_masks(population), [])
    steps = train(population, recipe, data, list(range(replicas)), masks=masks)
    return milliseconds(lambda: next(steps), repeats) / replicas


class Images(Dataset):
    """Images one by one, as PIL images through transforms: what torchvision's data sets do."""

    def __init__(self, data: Data, augment: bool) -> None:
        size = data.image_shape[1]
        crop = [transforms.RandomHorizontalFlip(), transforms.RandomCrop(size, size // 8)]
        self.transform = transforms.Compose(
            [transforms.ToPILImage(), *(crop if augment else []), transforms.ToTensor()]
        )
        self.images, self.labels = data.train.images, data.train.labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(self.images[index]), int(self.labels[index])


def ordinary_loop(network: nn.Module, data: Data, recipe: Recipe, repeats: int) -> float:
    """Milliseconds per iteration of one network, its masks applied after every step."""
    augment = recipe.augmentation != "none"
    loader = DataLoader(Images(data, augment), batch_size=recipe.batch_size, shuffle=True)
    optimizer: torch.optim.Optimizer
    if recipe.optimizer == "adam":
        optimizer = torch.optim.Adam(network.parameters(), lr=recipe.learning_rate)
    else:
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    weights = [p for p in network.parameters() if p.ndim > 1]
    masks = [(torch.rand_like(weight) < 0.8).float() for weight in weights]

    def steps() -> Iterator[None]:
        for images, labels in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(images), labels).backward()
            optimizer.step()
            with torch.no_grad():
                for weight, mask in zip(weights, masks, strict=True):
                    weight.mul_(mask)
            yield

    iterator = steps()
    return milliseconds(lambda: next(iterator), repeats)


class PlainBlock(nn.Module):
    """A residual block in plain torch.nn."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm1, self.norm2 = nn.BatchNorm2d(outputs), nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1:
            conv = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.shortcut = nn.Sequential(conv, nn.BatchNorm2d(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm2(self.conv2(self.norm1(self.conv1(x)).relu()))
        return (y + self.shortcut(x)).relu()


def plain_lenet() -> nn.Module:
    """LeNet-300-100 in plain torch.nn."""
    layers = [nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10)]
    return nn.Sequential(nn.Flatten(), *layers)


def plain_resnet_8() -> nn.Module:
    """ResNet-8 with 16 channels in plain torch.nn."""
    stem = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    blocks = [PlainBlock(16, 16, 1), PlainBlock(16, 32, 2), PlainBlock(32, 64, 2)]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)]
    return nn.Sequential(*stem, *blocks, *head)


def multiply_adds(network: Population, data: Data) -> int:
    """Multiply-add operations, times two, of one image forward."""
    from labkit import flops

    return int(flops(network, data.image_shape, full_masks(network))[0])


def compare(
    name: str, data: Data, recipe: Recipe, plain: nn.Module, rate: float, repeats: int
) -> None:
    """Print the rows of one network."""
    ordinary = ordinary_loop(plain, data, recipe, repeats)
    # Backward costs twice the forward pass: gradients for activations and for weights.
    work = 3 * recipe.batch_size * multiply_adds(build(name, data.image_shape, 10), data)
    limit = 1e3 * work / rate
    print(f"\n{name}, batch {recipe.batch_size}, ms per replica and iteration")
    print(f"  (a) ordinary loop       {ordinary:8.3f}")
    print(f"  (b) matrix-product rate {limit:8.3f}   ({work / 1e6:.0f} MFLOP)")
    for replicas in REPLICAS:
        own = engine(name, data, recipe, replicas, repeats)
        print(
            f"  lab, {replicas} replica{'s' if replicas > 1 else ' '}         {own:8.3f}"
            f"   {ordinary / own:5.1f} times (a), {100 * limit / own:3.0f}% of (b)"
        )


def where_it_goes(data: Data, recipe: Recipe) -> None:
    """Print the shares of an iteration of four LeNets, by operation."""
    population = build("lenet-300-100", data.image_shape, 10, 4)
    population.initialise([generator(seed, "initialisation") for seed in range(4)])
    masks = prune(Pruning(), population.state(), full_masks(population), [])
    steps = train(population, recipe, data, range(4), masks=masks)
    for _ in range(10):
        next(steps)
    with torch.profiler.profile() as profile:
        for _ in range(50):
            next(steps)
    rows = profile.key_averages()
    total = sum(row.self_cpu_time_total for row in rows)
    print("\nwhere an iteration of four LeNets goes")
    for row in sorted(rows, key=lambda row: -row.self_cpu_time_total)[:8]:
        print(f"  {100 * row.self_cpu_time_total / total:5.1f}%  {row.key}")


def main() -> None:
    """Measure and print."""
    if len(sys.argv) > 1:
        torch.set_num_threads(int(sys.argv[1]))
    rate = matrix_rate()
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, "
        f"matrix product {rate / 1e9:.0f} GFLOP/s in float32"
    )
    mnist, cifar = load("mnist"), load("cifar10-16")
    adam = Recipe(iterations=10_000)
    sgd = Recipe("sgd", 0.1, 0.9, 1e-4, 128, 10_000, augmentation="flip-crop")
    compare("lenet-300-100", mnist, adam, plain_lenet(), rate, 150)
    compare("resnet-8", cifar, sgd, plain_resnet_8(), rate, 15)
    where_it_goes(mnist, adam)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"\npeak resident memory of this process: {peak:,.0f} MiB")


if __name__ == "__main__":
    main()
