"""Tiny data and experiments that train in a fraction of a second, and what tests ask about them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import pandas as pd
import pytest
import torch
from torch import Tensor

from labkit.base.store import Store
from labkit.engine.data import Data, Split
from labkit.engine.networks import Masks, State, build
from labkit.engine.training import Recipe, generator, train
from labkit.experiments import running
from labkit.experiments.experiment import Experiment, Trial
from labkit.experiments.results import Tables, tables
from labkit.experiments.running import Evaluated, run


def random_data(shape: tuple[int, int, int], sizes=(60, 20, 20), classes: int = 3) -> Data:
    """Images of noise, a class a little brighter than the one before."""
    g = torch.Generator().manual_seed(5)

    def split(size: int) -> Split:
        labels = torch.randint(0, classes, (size,), generator=g)
        noise = torch.randint(0, 100, (size, *shape), generator=g)
        return Split((noise + 50 * labels[:, None, None, None]).to(torch.uint8), labels)

    names = tuple(f"class {i}" for i in range(classes))
    mean, deviation = torch.full((shape[0], 1, 1), 0.4), torch.full((shape[0], 1, 1), 0.25)
    return Data("random", *(split(size) for size in sizes), names, mean, deviation)


SHAPES = {  # network -> its images
    "lenet-8-6": (1, 8, 8),
    "conv-2": (2, 4, 4),
    "resnet-8-w2": (3, 16, 16),
    "vgg-small": (1, 16, 16),
    "vit-2-4": (1, 8, 8),
}
SGD = Recipe(
    "sgd", 0.1, momentum=0.9, weight_decay=1e-3, batch_size=8, iterations=10, milestones=(0.5, 0.8)
)
DATA = {name: random_data(shape) for name, shape in SHAPES.items()}


class Start(NamedTuple):
    """What a trial's training was called with."""

    state: State  # of one network, no replica axis
    masks: Masks
    recipe: Recipe
    seed: int
    iteration: int
    moments: list[dict[str, Tensor]]


def follower(
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[Experiment, Store], dict[Trial, Start]]:
    """A function that runs an experiment without analyses and gives the start of every trial."""
    calls: list[tuple[State, Recipe, Any, dict[str, Any]]] = []

    def spy(network, recipe, data, seeds, **options):
        calls.append((network.state(), recipe, seeds, options))
        yield from train(network, recipe, data, seeds, **options)

    monkeypatch.setattr(running, "train", spy)

    def followed(experiment: Experiment, store: Store) -> dict[Trial, Start]:
        calls.clear()
        chunks: list[list[Trial]] = []
        for event in run(experiment, store):
            if isinstance(event, Evaluated) and (not chunks or event.trials is not chunks[-1]):
                chunks.append(event.trials)
        starts = {}
        for trials, (state, recipe, seeds, options) in zip(chunks, calls, strict=True):
            for i, trial in enumerate(trials):
                starts[trial] = Start(
                    {name: tensor[i] for name, tensor in state.items()},
                    {name: mask[i] for name, mask in (options["masks"] or {}).items()},
                    recipe,
                    seeds[i],
                    options["start"],
                    [one(part, i) for part in options["moments"]],
                )
        return starts

    return followed


def one(tensors: State, i: int) -> State:
    """Replica i without its axis; Adam counts its steps in a tensor without replicas."""
    return {name: tensor[i] if tensor.ndim else tensor for name, tensor in tensors.items()}


def made_up(trial: Trial) -> dict[str, Any]:
    """What the store holds of a trained trial, the numbers made up."""
    return {
        "trial": trial.describe(),
        "provenance": {},
        "ticket": {"density": 1.0, "early_stop": 0, "test_accuracy": 0.9}
        | {"final_test_accuracy": 0.9},
        "curve": {"iteration": [0], "validation_loss": [0.1], "validation_accuracy": [0.9]},
    }


def finish(experiment: Experiment, store: Store, jobs: int = 1) -> Tables:
    for _ in run(experiment, store, jobs=jobs):
        pass
    return tables(experiment, store)


def assert_same(one: Tables, other: Tables) -> None:
    pd.testing.assert_frame_equal(one.tickets, other.tickets, check_exact=True)
    pd.testing.assert_frame_equal(one.curves, other.curves, check_exact=True)
    pd.testing.assert_frame_equal(one.paths, other.paths, check_exact=True)


def initial(experiment: Experiment, seed: int, *purpose: str | int) -> State:
    network = build(experiment.task.network, experiment.task.data().image_shape, 3)
    network.initialise([generator(seed, *(purpose or ("initialisation",)))])
    return one(network.state(), 0)


def dense_at(experiment: Experiment, at: int) -> dict[int, tuple[State, list[State]]]:
    """Weights and moments of every seed's dense network after `at` iterations."""
    data, seeds = experiment.task.data(), experiment.seeds
    recipe = experiment.task.recipe
    network = build(experiment.task.network, data.image_shape, 3, len(seeds))
    gamma = 0.5 if recipe.slimming else 1.0
    network.initialise((generator(seed, "initialisation") for seed in seeds), gamma=gamma)
    for step in train(network, recipe, data, seeds, snapshots=[at]):
        if step.snapshot is not None:
            saved = step.snapshot
    return {
        seed: (one(saved.network, i), [one(part, i) for part in saved.moments])
        for i, seed in enumerate(seeds)
    }


def assert_equal(one: State, other: State) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


def local_cluster(workers: int, threads: int = 1) -> Any:
    """A scheduler and its workers, processes on this machine, as a context."""
    distributed = pytest.importorskip("distributed", reason="dask.distributed is not installed")
    return distributed.LocalCluster(
        n_workers=workers, threads_per_worker=threads, processes=True, dashboard_address=":0"
    )
