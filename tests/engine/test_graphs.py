"""Recorded updates. A CPU has no graphs, so here a recorder stands in that keeps the operations of
an update and replays them in the same memory, as a GPU does: what it gets wrong, a GPU would too.
"""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from labkit.engine import graphs
from labkit.engine.networks import build
from labkit.engine.pruning import Pruning, full_masks, prune
from labkit.engine.training import Recipe, Snapshot, generator, train
from tests.synthetic import DATA, SHAPES

SGD = Recipe("sgd", 0.125, 0.5, 1e-3, 8, 8, (0.5, 0.75), 0.5, warmup=2, augmentation="flip-crop")
ADAM = Recipe("adam", 2**-7, batch_size=8, iterations=8)


FORBIDDEN = (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default)
replays: list[int] = []  # of how many operations


class Operations(TorchDispatchMode):
    """Every operation and what it gave. Looking at a value raises, as it does on a GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list[tuple[Callable, tuple, dict, list]] = []  # with arguments and results

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        if operation in FORBIDDEN:
            raise RuntimeError("operation not permitted when stream is capturing")
        result = operation(*args, **(kwargs or {}))
        self.done.append((operation, args, kwargs or {}, tree_leaves(result)))
        return result

    @torch.no_grad()
    def replay(self) -> None:
        replays.append(len(self.done))
        for operation, args, kwargs, before in self.done:
            found = tree_leaves(operation(*args, **kwargs))
            for old, new in zip(before, found, strict=True):
                if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


def operations(update: Callable[[], None], device: torch.device) -> Callable[[], None]:
    """The recorder that stands in."""
    with Operations() as mode:
        update()
    return mode.replay


@pytest.fixture
def recording(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """On the CPU as on a GPU."""
    replays.clear()
    monkeypatch.setitem(graphs.RECORDERS, "cpu", operations)
    monkeypatch.setattr(graphs, "WORTH_IT", 3)
    return monkeypatch


def trained(
    name: str, recipe: Recipe, start: Snapshot | None = None, device: str = "cpu"
) -> list[Snapshot]:
    """Two replicas with masks after a half and after all of their training."""
    data = DATA[name].to(device)
    network = build(name, data.image_shape, len(data.classes), 2)
    network.initialise([generator(seed, "initialisation") for seed in (0, 1)])
    masks = prune(Pruning(rate=0.5), network.state(), full_masks(network), [])
    if start:
        network.load_state_dict(start.network)
    network.to(device)
    ends = recipe.iterations // 2, recipe.iterations
    steps = train(
        network,
        recipe,
        data,
        [0, 1],
        masks={name: mask.to(device) for name, mask in masks.items()},
        start=start.iteration if start else 0,
        moments=start.moments if start else None,
        evaluate_at=ends,
        snapshots=ends,
        sparse=False,
    )
    return [step.snapshot for step in steps if step.snapshot]


def assert_equal(one: Snapshot, other: Snapshot) -> None:
    """To the bit."""
    for name, tensor in one.network.items():
        assert torch.equal(tensor, other.network[name]), name
    for mine, yours in zip(one.moments, other.moments, strict=True):
        assert all(torch.equal(mine[name], yours[name]) for name in mine)


RECIPES = {
    "sgd": SGD,
    "sgd without momentum": replace(SGD, momentum=0.0),
    "adam": ADAM,
    "bfloat16": replace(SGD, precision="bfloat16"),
    "slimming": replace(SGD, slimming=2**-10),
}


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_a_recorded_training_is_the_same_training(recording, name: str, recipe: Recipe) -> None:
    found = trained(name, recipe)
    assert len(replays) == recipe.iterations - 1, "all but the first"
    assert len(set(replays)) == 1, "every replay repeats the same operations"
    resumed = trained(name, recipe, found[0])
    recording.delitem(graphs.RECORDERS, "cpu")
    expected = trained(name, recipe)
    for snapshots in (found, resumed):
        assert_equal(snapshots[-1], expected[-1])


def raises(update: Callable[[], None], device: torch.device) -> Callable[[], None]:
    update()
    raise torch.OutOfMemoryError("no memory for graphs")


def does_nothing(update: Callable[[], None], device: torch.device) -> Callable[[], None]:
    update()
    return lambda: None


def forgets_the_masks(update: Callable[[], None], device: torch.device) -> Callable[[], None]:
    with Operations() as mode:
        update()
    mode.done = [done for done in mode.done if done[0] is not torch.ops.aten.mul_.Tensor]
    return mode.replay


@pytest.mark.parametrize(
    ("recorder", "words"),
    [
        (raises, "cannot be recorded .no memory for graphs"),
        (does_nothing, "its replay does something else"),
        (forgets_the_masks, "its replay does something else"),
    ],
)
def test_what_cannot_be_recorded_is_trained_all_the_same(recording, recorder, words: str) -> None:
    recording.setitem(graphs.RECORDERS, "cpu", recorder)
    with pytest.warns(UserWarning, match=words):
        found = trained("resnet-8-w2", SGD)
    recording.delitem(graphs.RECORDERS, "cpu")
    assert_equal(found[-1], trained("resnet-8-w2", SGD)[-1])


def test_an_update_that_looks_at_a_value_is_not_recorded(recording) -> None:
    weight = torch.ones(3)

    def update(step: Tensor) -> None:
        if weight.sum() > 5:
            weight.sub_(step)
        else:
            weight.add_(step)

    updates = graphs.replayed(update, lambda: [weight], weight.device, 6)
    updates(torch.ones(3))
    with pytest.warns(UserWarning, match="cannot be recorded"):
        updates(torch.ones(3))
    updates(torch.ones(3))
    assert weight.tolist() == [2, 2, 2]


def test_short_trainings_are_not_recorded(recording) -> None:
    recording.setattr(graphs, "WORTH_IT", SGD.iterations + 1)
    trained("lenet-8-6", SGD)
    assert not replays


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU of NVIDIA's")
@pytest.mark.parametrize("name", SHAPES)
def test_on_a_gpu(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    expected = [trained(name, recipe, device="cuda") for recipe in RECIPES.values()]
    monkeypatch.setattr(graphs, "WORTH_IT", 3)
    for recipe, snapshots in zip(RECIPES.values(), expected, strict=True):
        assert_equal(trained(name, recipe, device="cuda")[-1], snapshots[-1])
