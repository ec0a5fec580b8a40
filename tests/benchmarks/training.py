"""How fast training is: python -m tests.benchmarks.training [--threads N] [--iterations N]

Milliseconds per replica and iteration of the lab's engine, for populations of 1, 2, 4 and 8, beside
(a) an ordinary PyTorch loop with DataLoader and transforms over the same images, as published code
does it; a good plain loop, with the images in a tensor, channels last and a fused optimizer; and
(b) the time that the products of the layers would take at one core's own rate for float32 matrix
products. First in one process, then in as many at a time as torch would use threads, as `run`
trains and as plain loops can be run too. Then LeNet with the evaluations of the validation set
every 100 iterations by which Frankle & Carbin 2019 stop early, training beside busy processes,
where an iteration goes, and peak memory.

Everything is measured in turns. Columns give the median over turns of processor time, of all
threads of a process, and of wall time, and how many times as fast as (a) of the same turn, median
(lowest to highest), by processor and by wall time, and as the good loop in as many processes. Only
such ratios mean anything, and on a busy machine only those of processor time; the last line says
whether the machine was busy.
"""

import argparse
import multiprocessing
import resource
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import count
from statistics import mean, median
from typing import Any, NamedTuple

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
from labkit.base.machine import available_cores
from labkit.base.workers import Call, run_calls
from labkit.engine.training import Step, train

REPLICAS = (1, 2, 4, 8)
TURNS = 5
BUSY = 2  # processes beside which a training is measured
VARIES = 1.3  # a matrix product that varies by more is that of a busy machine
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


class Times(NamedTuple):
    """Milliseconds: of the processor, all threads of the process counted, and of the clock."""

    processor: float
    wall: float


def milliseconds(advance: Callable[[], object], repeats: int, warm_up: int = WARM_UP) -> Times:
    """Mean of one call."""
    for _ in range(warm_up):
        advance()
    processor, wall = time.process_time(), time.perf_counter()
    for _ in range(repeats):
        advance()
    each = 1e3 / repeats
    return Times(each * (time.process_time() - processor), each * (time.perf_counter() - wall))


def matrix_rate(size: int = 1_024) -> tuple[float, float]:
    """Operations per second of a float32 matrix product in one thread: of processor and of wall
    time.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    a, b = torch.randn(size, size), torch.randn(size, size)
    times = milliseconds(lambda: a @ b, 10)
    torch.set_num_threads(threads)
    return 2e3 * size**3 / times.processor, 2e3 * size**3 / times.wall


def engine(network: str, data: Data, recipe: Recipe, replicas: int) -> Iterator[Step]:
    """The lab's training of a new population, with masks as in a round of pruning."""
    population = build(network, data.image_shape, 10, replicas)
    population.initialise([generator(seed, "initialisation") for seed in range(replicas)])
    masks = prune(Pruning(), population.state(), full_masks(population), [])
    device = data.train.labels.device
    held = {name: mask.to(device) for name, mask in masks.items()}
    return train(population.to(device), recipe, data, list(range(replicas)), masks=held)


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
    """The training of one network as most would write it."""
    augment = recipe.augmentation != "none"
    loader = DataLoader(Images(data.train, augment), batch_size=recipe.batch_size, shuffle=True)
    forever = (batch for _ in count() for batch in loader)
    return plain_steps(network, recipe, forever)


def good(network: nn.Module, data: Data, recipe: Recipe) -> Iterator[None]:
    """The training of one network as one who knows torch would write it."""
    network = network.to(memory_format=torch.channels_last)
    return plain_steps(network, recipe, good_batches(data, recipe), fused=True)


def good_batches(data: Data, recipe: Recipe) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Batches of a tensor of all images, augmented as tensors."""
    whole = (data.train.images / 255 - data.mean) / data.deviation
    size = whole.shape[-1]
    by = size // 8 if recipe.augmentation != "none" else 0
    whole = nn.functional.pad(whole, (by, by, by, by))
    whole = whole.to(memory_format=torch.channels_last)
    channel, pixel = torch.arange(whole.shape[1])[:, None, None], torch.arange(size)
    while True:
        for some in torch.randperm(len(whole)).split(recipe.batch_size):
            images = whole[some]
            if by:
                y, x = torch.randint(0, 2 * by + 1, (2, len(some), 1)) + pixel
                x = torch.where(torch.rand(len(some), 1) < 0.5, x, x.flip(1))
                each = torch.arange(len(some))[:, None, None, None]
                images = images[each, channel, y[:, None, :, None], x[:, None, None, :]]
            yield images.contiguous(memory_format=torch.channels_last), data.train.labels[some]


def plain_steps(
    network: nn.Module,
    recipe: Recipe,
    batches: Iterator[tuple[torch.Tensor, torch.Tensor]],
    **options: bool,
) -> Iterator[None]:
    """Train on batches, masks applied after every step. options: of the optimizer."""
    optimizer: torch.optim.Optimizer
    rate = recipe.learning_rate
    if recipe.optimizer == "adam":
        optimizer = torch.optim.Adam(network.parameters(), lr=rate, **options)
    else:
        optimizer = torch.optim.SGD(network.parameters(), rate, 0.9, weight_decay=1e-4, **options)
    weights = [p for p in network.parameters() if p.ndim > 1]
    masks = [(torch.rand_like(weight) < 0.8).float() for weight in weights]
    for images, labels in batches:
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


def plain_resnet_8(width: int) -> nn.Module:
    """ResNet-8 with so many channels at first in plain torch.nn."""
    stem = [nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    blocks = [PlainBlock(width, width, 1)]
    blocks += [PlainBlock(width, 2 * width, 2), PlainBlock(2 * width, 4 * width, 2)]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4 * width, 10)]
    return nn.Sequential(*stem, *blocks, *head)


def plain_vgg_small() -> nn.Module:
    """VGG-small in plain torch.nn."""
    layers: list[nn.Module] = []
    inputs = 3
    for outputs in (32, 64, 128, 128, 128):
        conv = nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False)
        layers += [*([nn.MaxPool2d(2)] if layers else []), conv, nn.BatchNorm2d(outputs), nn.ReLU()]
        inputs = outputs
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, 10)]
    return nn.Sequential(*layers, *head)


PLAIN: dict[str, Callable[[], nn.Module]] = {
    "lenet-300-100": plain_lenet,
    "resnet-8": partial(plain_resnet_8, 16),
    "resnet-8-w8": partial(plain_resnet_8, 8),
    "vgg-small": plain_vgg_small,
}
CONVOLUTIONAL = ("resnet-8", "resnet-8-w8", "vgg-small")


def operations(network: str, data: Data, recipe: Recipe) -> int:
    """Floating-point operations of the matrix products and convolutions of one iteration: forward,
    and backward but for the gradient of the images, which nobody needs.
    """
    steps = engine(network, data, recipe, 1)
    next(steps)  # nothing is trained yet
    with FlopCounterMode(display=False) as counter:
        next(steps)
    return counter.get_total_flops()


PLAIN_LOOPS = {"ordinary": ordinary, "good": good}
Who = str | int  # a plain loop, or the lab with so many replicas
ALL: tuple[Who, ...] = (*PLAIN_LOOPS, *REPLICAS)


def steps_of(network: str, data: Data, recipe: Recipe, repeats: int, who: Who) -> Times:
    """Of an iteration."""
    steps: Iterator[object] = (
        engine(network, data, recipe, who)
        if isinstance(who, int)
        else PLAIN_LOOPS[who](PLAIN[network](), data, recipe)
    )
    return milliseconds(lambda: next(steps), repeats)


def training_of(network: str, data: Data, recipe: Recipe, repeats: int, who: Who) -> Times:
    """The same with a share of the evaluations."""
    evaluate: Callable[[], object]
    if isinstance(who, int):
        population = build(network, data.image_shape, 10, who)
        evaluate = lambda: evaluate_on(population, data, data.validation)  # noqa: E731
    else:
        plain = PLAIN[network]()
        evaluate = lambda: ordinary_evaluation(plain, data)  # noqa: E731
    evaluation = milliseconds(evaluate, 1)
    steps = steps_of(network, data, recipe, repeats, who)
    return Times(*(step + e / EVALUATE_EVERY for step, e in zip(steps, evaluation, strict=True)))


def at_a_time(measure: Callable[..., Times], arguments: tuple[Any, ...], jobs: int) -> Times:
    """Mean of what as many processes measure at the same time; 1 is this process."""
    values = run_calls(partial(_measured, measure), [Call(arguments)] * jobs, jobs)
    found = [value for _, value in values if isinstance(value, Times)]
    return Times(*(mean(column) for column in zip(*found, strict=True)))


def _measured(measure: Callable[..., Times], arguments: tuple[Any, ...]) -> Iterator[Times]:
    yield measure(*arguments)


def spread(values: Sequence[float]) -> str:
    """Median (lowest to highest)."""
    return f"{median(values):5.2f} ({min(values):.2f} to {max(values):.2f})"


def compare(
    measure: Callable[..., Times],
    name: str,
    data: Data,
    recipe: Recipe,
    repeats: int,
    rates: list[tuple[float, float]],
) -> None:
    """Print the rows of one network: in this process, then in as many as there are threads."""
    ways = [(jobs, who) for jobs in sorted({1, torch.get_num_threads()}) for who in ALL]
    times: dict[tuple[int, Who], list[Times]] = defaultdict(list)
    for _ in range(TURNS):
        rates.append(matrix_rate())
        for jobs, who in ways:
            whole = at_a_time(measure, (name, data, recipe, repeats, who), jobs)
            networks = who if isinstance(who, int) else 1
            # Processes share the clock, and each has processor time of its own.
            each = Times(whole.processor / networks, whole.wall / (jobs * networks))
            times[jobs, who].append(each)
    flops = operations(name, data, recipe)
    limit = 1e3 * flops / median(rate for rate, _ in rates)
    if measure is steps_of:
        print(f"  (b) at the rate of matrix products: {limit:.3f}   {flops / 1e6:.0f} MFLOP")
    for jobs, who in ways:
        own, loop, better = times[jobs, who], times[1, "ordinary"], times[jobs, "good"]
        if who == "ordinary":
            place = "one process" if jobs == 1 else f"each of {jobs} processes, one thread"
            print(f"  {place}: ms of processor, of wall; times (a) in each; times good, processor")
        words = f"lab, {who} side by side" if isinstance(who, int) else f"{who} loop"
        processor = median(each.processor for each in own)
        share = f"; {100 * limit / processor:3.0f}% of (b)" if measure is steps_of else ""
        beside = ((loop, 0), (loop, 1), (better, 0))
        ratios = (
            spread([a[i] / b[i] for a, b in zip(other, own, strict=True)]) for other, i in beside
        )
        wall = median(each.wall for each in own)
        print(f"    {words:<20}{processor:9.3f}{wall:9.3f}   {'  '.join(ratios)}{share}")


def beside_busy_processes(name: str, data: Data, recipe: Recipe, repeats: int) -> None:
    """Print how long training takes while others compute, as a ratio to its fair share of the
    machine in the same turn: 1 is as fast as can be.
    """
    cores = available_cores()
    jobs = torch.get_num_threads()
    ways = {
        f"lab, {jobs} processes of one thread": (jobs, 1),
        f"good loop, one process of {jobs} threads": (1, "good"),
    }
    ratios: dict[str, list[float]] = defaultdict(list)
    for _ in range(TURNS):
        for words, (processes, who) in ways.items():
            arguments = (name, data, recipe, repeats, who)
            quiet = at_a_time(steps_of, arguments, processes).wall
            with busy_processes():
                busy = at_a_time(steps_of, arguments, processes).wall
            fair = max(1.0, (jobs + BUSY) / cores) / max(1.0, jobs / cores)
            ratios[words].append(busy / (quiet * fair))
    print(f"\n{name} beside {BUSY} busy processes: wall time / fair share of the quiet one")
    for words, values in ratios.items():
        print(f"  {words:<40} {spread(values)}")


@contextmanager
def busy_processes() -> Iterator[None]:
    """Processes that compute without end, until the block ends."""
    others = [multiprocessing.Process(target=_compute, daemon=True) for _ in range(BUSY)]
    for other in others:
        other.start()
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.join()


def _compute() -> None:
    torch.set_num_threads(1)
    a = torch.randn(300, 300)
    while True:
        a @ a


def busy_or_not(rates: list[tuple[float, float]]) -> str:
    """What the matrix products say of the machine during the measurements."""
    (own, varied) = (max(column) / min(column) for column in zip(*rates, strict=True))
    words = f"matrix products varied by {varied:.2f} in wall time, {own:.2f} in processor time"
    if varied <= VARIES:
        return f"{words}: the machine was quiet"
    return f"{words}: THE MACHINE WAS BUSY; trust no wall time, and ratios only with their range"


def where_it_goes(data: Data, recipe: Recipe, repeats: int) -> None:
    """Print what an iteration of four LeNets is spent on."""
    steps = engine("lenet-300-100", data, recipe, 4)
    whole = milliseconds(lambda: next(steps), repeats).processor
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
    threads, cores = torch.get_num_threads(), available_cores()
    print(f"torch {torch.__version__}, {threads} threads, {cores} cores, {TURNS} turns")
    mnist, cifar = load("mnist"), load("cifar10-16")
    adam = Recipe(iterations=1_000_000)
    sgd = Recipe("sgd", 0.1, 0.9, 1e-4, 128, 1_000_000, augmentation="flip-crop")
    few = max(3, repeats // 10)
    rates: list[tuple[float, float]] = []
    print(f"\nlenet-300-100, batch {adam.batch_size}")
    compare(steps_of, "lenet-300-100", mnist, adam, repeats, rates)
    print(f"\nlenet-300-100 with evaluations every {EVALUATE_EVERY} iterations")
    compare(training_of, "lenet-300-100", mnist, adam, repeats, rates)
    for name in CONVOLUTIONAL:
        print(f"\n{name}, batch {sgd.batch_size}")
        compare(steps_of, name, cifar, sgd, few, rates)
    beside_busy_processes("lenet-300-100", mnist, adam, 10 * repeats)
    beside_busy_processes("resnet-8", cifar, sgd, repeats)
    where_it_goes(mnist, adam, repeats)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"\npeak resident memory of this process: {peak:,.0f} MiB\n{busy_or_not(rates)}")


if __name__ == "__main__":
    main()
