"""How fast training is: python -m tests.benchmarks.training [--threads N] [--iterations N]

Milliseconds per replica and iteration of the lab's engine, for populations of 1, 2, 4 and 8, next
to (a) an ordinary PyTorch loop with DataLoader and transforms over the same images, as published
code does it, and (b) the time that the products of the layers would take at this machine's own rate
for float32 matrix products. All in one process with all threads, and then in as many processes at a
time as there are threads, as `labkit run` trains and as ordinary loops can be run too. Then the
same for LeNet with the evaluations of the validation set every 100 iterations by which Frankle &
Carbin 2019 stop early, where an iteration goes, and peak memory.

Everything is measured in turns, several times over, and the median taken: on a shared machine only
the ratios mean anything, and only within one run. What is aimed at, for LeNet on a CPU, without
evaluations: 8 times as fast as (a), and half the rate of (b).
"""

import argparse
import resource
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from statistics import mean, median
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode
from torchvision import transforms

from labkit import (
    Data,
    Pruning,
    Recipe,
    Split,
    build,
    evaluate_on,
    full_masks,
    generator,
    load,
    prune,
)
from labkit.base.workers import Call, Ended, run_calls
from labkit.engine.training import Step, train

REPLICAS = (1, 2, 4, 8)
TURNS = 3
WARM_UP = 5  # calls that are not timed
EVALUATE_EVERY = 100  # iterations (Frankle & Carbin 2019, section 2)
# What an operation of torch is for. The first words that fit count; the rest is "other".
PURPOSES = {
    "matrix products": ("mm",),
    "Adam": ("adam",),
    "fetching and normalising images": ("index", "div", "sub_", "_to_copy", "copy_"),
    "masks": ("mul_",),
    "ReLU and biases": ("relu", "clamp", "sum", "sign"),
    "loss": ("softmax", "scatter"),
}


def milliseconds(advance: Callable[[], object], repeats: int) -> float:
    """Median time of one call."""
    times = []
    for number in range(repeats + WARM_UP):
        began = time.perf_counter()
        advance()
        if number >= WARM_UP:
            times.append(1e3 * (time.perf_counter() - began))
    return median(times)


def matrix_rate(size: int = 1_536) -> float:
    """Floating-point operations per second of a float32 matrix product."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    return 2 * size**3 / (1e-3 * milliseconds(lambda: a @ b, 10))


def engine(network: str, data: Data, recipe: Recipe, replicas: int) -> Iterator[Step]:
    """The lab's training of a new population, with masks as in a round of pruning."""
    population = build(network, data.image_shape, 10, replicas)
    population.initialise([generator(seed, "initialisation") for seed in range(replicas)])
    masks = prune(Pruning(), population.state(), full_masks(population), [])
    return train(population, recipe, data, list(range(replicas)), masks=masks)


class Images(Dataset):
    """Images one by one, as PIL images through transforms: what torchvision's data sets do."""

    def __init__(self, split: Split, augment: bool = False) -> None:
        size = split.images.shape[-1]
        crop = [transforms.RandomHorizontalFlip(), transforms.RandomCrop(size, size // 8)]
        self.transform = transforms.Compose(
            [transforms.ToPILImage(), *(crop if augment else []), transforms.ToTensor()]
        )
        self.images, self.labels = split.images, split.labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(self.images[index]), int(self.labels[index])


def ordinary(network: nn.Module, data: Data, recipe: Recipe) -> Iterator[None]:
    """The training of one network as most would write it, masks applied after every step."""
    augment = recipe.augmentation != "none"
    loader = DataLoader(Images(data.train, augment), batch_size=recipe.batch_size, shuffle=True)
    optimizer: torch.optim.Optimizer
    if recipe.optimizer == "adam":
        optimizer = torch.optim.Adam(network.parameters(), lr=recipe.learning_rate)
    else:
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    weights = [p for p in network.parameters() if p.ndim > 1]
    masks = [(torch.rand_like(weight) < 0.8).float() for weight in weights]
    while True:
        for images, labels in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(images), labels).backward()
            optimizer.step()
            with torch.no_grad():
                for weight, mask in zip(weights, masks, strict=True):
                    weight.mul_(mask)
            yield


@torch.no_grad()
def ordinary_evaluation(network: nn.Module, data: Data) -> None:
    """Loss and accuracy of one network on the validation set, as most would write it."""
    loss, correct = 0.0, 0
    for images, labels in DataLoader(Images(data.validation), batch_size=1_000):
        logits = network(images)
        loss += nn.functional.cross_entropy(logits, labels, reduction="sum").item()
        correct += int((logits.argmax(1) == labels).sum())


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


PLAIN = {"lenet-300-100": plain_lenet, "resnet-8": plain_resnet_8}


def operations(network: str, data: Data, recipe: Recipe) -> int:
    """Floating-point operations of the matrix products and convolutions of one iteration: forward,
    and backward but for the gradient of the images, which nobody needs.
    """
    steps = engine(network, data, recipe, 1)
    next(steps)  # nothing is trained yet
    with FlopCounterMode(display=False) as counter:
        next(steps)
    return counter.get_total_flops()


def steps_of(network: str, data: Data, recipe: Recipe, repeats: int, replicas: int) -> float:
    """Milliseconds of an iteration; 0 replicas are the ordinary loop."""
    steps: Iterator[object] = (
        engine(network, data, recipe, replicas)
        if replicas
        else ordinary(PLAIN[network](), data, recipe)
    )
    return milliseconds(lambda: next(steps), repeats)


def training_of(network: str, data: Data, recipe: Recipe, repeats: int, replicas: int) -> float:
    """The same with a share of the evaluations."""
    evaluate: Callable[[], object]
    if replicas:
        population = build(network, data.image_shape, 10, replicas)
        evaluate = lambda: evaluate_on(population, data, data.validation)  # noqa: E731
    else:
        plain = PLAIN[network]()
        evaluate = lambda: ordinary_evaluation(plain, data)  # noqa: E731
    share = milliseconds(evaluate, 1) / EVALUATE_EVERY
    return share + steps_of(network, data, recipe, repeats, replicas)


def at_a_time(measure: Callable[..., float], arguments: tuple[Any, ...], jobs: int) -> float:
    """Mean of what as many processes measure at the same time; 1 is this process."""
    calls = [Call(arguments, alone=jobs == 1)] * jobs
    values = run_calls(partial(_measured, measure), calls, jobs)
    return mean(value for _, value in values if not isinstance(value, Ended))


def _measured(measure: Callable[..., float], arguments: tuple[Any, ...]) -> Iterator[float]:
    yield measure(*arguments)


def compare(
    measure: Callable[..., float], name: str, data: Data, recipe: Recipe, repeats: int
) -> None:
    """Print the rows of one network: in this process, then in as many as there are threads."""
    ways = [(jobs, r) for jobs in sorted({1, torch.get_num_threads()}) for r in (0, *REPLICAS)]
    times: dict[tuple[int, int], list[float]] = defaultdict(list)
    rates = []
    for _ in range(TURNS):
        rates.append(matrix_rate())
        for jobs, replicas in ways:
            whole = at_a_time(measure, (name, data, recipe, repeats, replicas), jobs)
            times[jobs, replicas].append(whole / (jobs * max(1, replicas)))
    loop, rate = median(times[1, 0]), median(rates)
    flops = operations(name, data, recipe)
    limit = 1e3 * flops / rate
    if measure is steps_of:
        at = f"{flops / 1e6:.0f} MFLOP at {rate / 1e9:.0f} GFLOP/s"
        print(f"  (b) matrix-product rate {limit:8.3f}   {at}")
    for jobs, replicas in ways:
        own = median(times[jobs, replicas])
        if replicas == 0:
            print(f"  each of {jobs} processes, one thread" if jobs > 1 else "  one process")
        who = (
            f"lab, {replicas} replica{'s' * (replicas > 1)}"
            if replicas
            else "ordinary loop" + " (a)" * (jobs == 1)
        )
        share = f", {100 * limit / own:3.0f}% of (b)" if measure is steps_of else ""
        print(f"    {who:<21} {own:8.3f}   {loop / own:5.1f} times (a){share}")


def where_it_goes(data: Data, recipe: Recipe, repeats: int) -> None:
    """Print what an iteration of four LeNets is spent on."""
    steps = engine("lenet-300-100", data, recipe, 4)
    whole = milliseconds(lambda: next(steps), repeats)
    processor = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=processor) as profile:
        for _ in range(repeats):
            next(steps)
    spent: dict[str, float] = defaultdict(float)
    for row in profile.key_averages():
        if row.key.startswith("aten::"):
            spent[_purpose(row.key)] += 1e-3 * row.self_cpu_time_total / repeats
    spent["Python, and between operations"] = max(0.0, whole - sum(spent.values()))
    print("\nwhere an iteration of four LeNets goes")
    for purpose, each in sorted(spent.items(), key=lambda item: -item[1]):
        print(f"  {100 * each / sum(spent.values()):5.1f}%  {purpose}")


def _purpose(operation: str) -> str:
    fitting = (p for p, words in PURPOSES.items() if any(word in operation for word in words))
    return next(fitting, "other")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="How fast training is.")
    parser.add_argument("--threads", type=int, help="default: what torch chooses")
    parser.add_argument("--iterations", type=int, default=60, help="of LeNet, timed per turn")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    repeats = max(3, arguments.iterations)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, medians of {TURNS} turns")
    mnist, cifar = load("mnist"), load("cifar10-16")
    adam = Recipe(iterations=1_000_000)
    sgd = Recipe("sgd", 0.1, 0.9, 1e-4, 128, 1_000_000, augmentation="flip-crop")
    each = "ms per replica and iteration"
    print(f"\nlenet-300-100, batch {adam.batch_size}, {each}")
    compare(steps_of, "lenet-300-100", mnist, adam, repeats)
    print(f"\nlenet-300-100 with evaluations every {EVALUATE_EVERY} iterations, {each}")
    compare(training_of, "lenet-300-100", mnist, adam, repeats)
    print(f"\nresnet-8, batch {sgd.batch_size}, {each}")
    compare(steps_of, "resnet-8", cifar, sgd, max(3, repeats // 10))
    where_it_goes(mnist, adam, repeats)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"\npeak resident memory of this process: {peak:,.0f} MiB")


if __name__ == "__main__":
    main()
