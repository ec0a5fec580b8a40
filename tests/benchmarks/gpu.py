"""How fast a GPU trains: python -m tests.benchmarks.gpu [--replicas N ...] [--iterations N]

Milliseconds per network and iteration by the papers' own recipes, for populations of some sizes:
every kernel launched by itself; an update replayed as one CUDA graph, which is what the lab does;
the same with a convolution per replica in place of one in groups, since launches cost nothing
there; and in several processes that share the GPU. Medians over turns (lowest to highest), and how
many times as fast as launching; then memory, and float operations per second. Images are noise,
which takes as long as any.

With `--device cpu`, where there are no graphs, the first row alone: a rehearsal.
"""

import argparse
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from statistics import median
from unittest.mock import patch

import torch
from torch import Tensor
from torch.nn import functional as F

from labkit import Data, Recipe, study
from labkit.engine import graphs
from labkit.engine.layers import Conv
from labkit.engine.training import PRECISIONS
from tests.benchmarks.training import Times, at_a_time, engine, operations, spread
from tests.synthetic import random_data

REPLICAS = (1, 3, 9, 30)
TURNS = 3
PROCESSES = 3
WARM_UP = 5  # iterations, of which the second records
TASKS = {
    experiment.task.network: experiment.task
    for experiment in (
        study("lottery", "reference")[0],
        study("stability-imp", "resnet-20")[0],
        study("rethinking-structured", "vgg-16-a")[0],
    )
}
SHAPES = {"mnist": (1, 28, 28), "cifar10": (3, 32, 32)}


def one_by_one(layer: Conv, x: Tensor) -> Tensor:
    """What `Conv` computes without biases, a convolution for each replica."""
    parts = zip(x.chunk(len(layer.weight), 1), layer.weight, strict=True)
    return torch.cat([F.conv2d(p, w, None, layer.stride, layer.padding) for p, w in parts], 1)


@contextmanager
def launched() -> Iterator[None]:
    """Nothing is recorded."""
    with patch.dict(graphs.RECORDERS, clear=True):
        yield


@contextmanager
def replayed() -> Iterator[None]:
    """As the lab trains."""
    yield


@contextmanager
def looped() -> Iterator[None]:
    """As the lab trains, with a convolution per replica."""
    with patch.object(Conv, "forward", one_by_one):
        yield


WAYS = {"launched": launched, "replayed": replayed, "replayed, a convolution each": looped}


def iteration_of(
    network: str, data: Data, recipe: Recipe, repeats: int, way: str, replicas: int
) -> Times:
    """Milliseconds of an iteration of a population."""
    wait = torch.cuda.synchronize if data.train.labels.is_cuda else lambda: None
    with WAYS[way]():
        steps = engine(network, data, recipe, replicas)
        for _ in range(1 + WARM_UP):  # the first step is the start
            next(steps)
        wait()
        processor, wall = time.process_time(), time.perf_counter()
        for _ in range(repeats):
            next(steps)
        wait()
    each = 1e3 / repeats
    return Times(each * (time.process_time() - processor), each * (time.perf_counter() - wall))


def compare(network: str, data: Data, recipe: Recipe, repeats: int, replicas: int) -> None:
    """Print the rows of one population."""
    on_gpu = data.train.labels.is_cuda
    ways = [way for way in WAYS if on_gpu or way == "launched"]
    settings = network, data, recipe, repeats
    spent: dict[str, list[float]] = defaultdict(list)
    for _ in range(TURNS):
        for way in ways:
            spent[way].append(iteration_of(*settings, way, replicas).wall / replicas)
        if on_gpu:
            together = at_a_time(iteration_of, (*settings, "replayed", replicas), PROCESSES)
            spent[f"replayed, in {PROCESSES} processes"].append(
                together.wall / (replicas * PROCESSES)
            )
    for way, values in spent.items():
        faster = [a / b for a, b in zip(spent["launched"], values, strict=True)]
        print(f"  {replicas:>3} {way:<30}{spread(values)} ms, {spread(faster)} times as fast")
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
        iteration_of(*settings, "replayed", replicas)
        gigabytes = torch.cuda.max_memory_allocated() / 1e9
        rate = operations(network, data, recipe) / median(spent["replayed"]) / 1e9
        print(f"      {gigabytes:.1f} GB, {rate:.1f} TFLOP per second")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="How fast a GPU trains.")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--networks", nargs="+", choices=TASKS, default=[*TASKS])
    parser.add_argument("--replicas", type=int, nargs="+", default=REPLICAS)
    parser.add_argument("--iterations", type=int, default=200, help="timed per turn")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else "a CPU: no graphs"
    print(f"torch {torch.__version__}, {gpu}, {TURNS} turns")
    for network in arguments.networks:
        task = TASKS[network]
        data = random_data(SHAPES[task.dataset], (50_000, 100, 100), classes=10).to(device)
        for precision in PRECISIONS:
            print(f"\n{network}, batch {task.recipe.batch_size}, {precision}")
            for replicas in arguments.replicas:
                recipe = replace(task.recipe, precision=precision)
                try:
                    compare(network, data, recipe, arguments.iterations, replicas)
                except torch.OutOfMemoryError:
                    print(f"  {replicas:>3} do not fit into the memory")


if __name__ == "__main__":
    main()
