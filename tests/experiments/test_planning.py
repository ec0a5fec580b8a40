"""Plans: exact about the work, of the right order about the time."""

import sys
from dataclasses import replace

import pytest
import torch
from PIL import Image

from labkit.base.store import Store
from labkit.base.workers import Call
from labkit.engine.data import CLASSES, SHAPES, Data, Split, load
from labkit.engine.pruning import Pruning
from labkit.engine.training import Recipe
from labkit.experiments import planning, task as task_module
from labkit.experiments.experiment import Experiment
from labkit.experiments.forecast import densities
from labkit.experiments.planning import plan
from labkit.experiments.running import run
from labkit.experiments.task import Task

TINY = Experiment(
    task=Task(network="lenet-8-6", recipe=Recipe(iterations=10, batch_size=10)),
    rounds=2,
    rewind=4,
    treatments=("reinitialise",),
    seeds=(0, 1),
    evaluate_every=5,
)


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def tiny_data(monkeypatch):
    def split(size: int) -> Split:
        g = torch.Generator().manual_seed(size)
        images = torch.randint(0, 256, (size, 1, 8, 8), generator=g).to(torch.uint8)
        return Split(images, torch.randint(0, 3, (size,), generator=g))

    zero, one = torch.zeros(1, 1, 1), torch.ones(1, 1, 1)
    data = Data("tiny", split(60), split(30), split(40), ("a", "b", "c"), zero, one)
    monkeypatch.setattr(task_module, "load", lambda *_, **__: data)


def test_a_plan_counts_the_work_exactly(tmp_path):
    store = Store(tmp_path, shipped=False)
    what = plan(TINY, store, seconds=0.01)
    assert (what.trials, what.stored, what.side_by_side) == (10, 0, 2)
    assert what.iterations == sum(t.work for number in range(3) for t in TINY.trials(number))
    assert what.seconds > what.iterations * what.milliseconds / 1000 > 0
    assert 50 < what.megabytes < 100_000 and what.gpu_megabytes == 0


@pytest.mark.skipif(
    sys.platform != "linux" or torch.cuda.is_available(),
    reason="only a forked process has the data of this test",
)
def test_jobs_are_calibrated_at_the_same_time_and_share_the_work(tmp_path):
    store, experiment = Store(tmp_path, shipped=False), replace(TINY, seeds=tuple(range(12)))
    alone, both = (plan(experiment, store, jobs=jobs, seconds=0.05) for jobs in (1, 2))
    assert (both.trials, both.iterations) == (alone.trials, alone.iterations) == (60, 504)
    assert (alone.side_by_side, both.side_by_side) == (6, 4)
    assert both.megabytes > alone.megabytes, "each process has memory of its own"
    assert both.iterations * both.milliseconds / 1000 / 2 < both.seconds


@pytest.mark.parametrize(
    ("durations", "after", "jobs", "end"),
    [
        ([2.0, 3.0, 4.0], [(), (), ()], 1, 9.0),
        ([2.0, 3.0, 4.0], [(), (), ()], 2, 6.0),
        ([2.0, 3.0, 4.0], [(), (), ()], 9, 4.0),
        ([2.0, 3.0, 4.0], [(), (0,), (0,)], 2, 6.0),
        ([2.0, 3.0, 4.0], [(), (0,), ()], 2, 5.0),
        ([1.0, 1.0, 1.0, 1.0], [(), (0,), (1,), (0,)], 2, 3.0),
        ([], [], 2, 0.0),
    ],
)
def test_a_run_ends_with_its_last_process(durations, after, jobs, end):
    chunks = [Call([], frozenset(some)) for some in after]
    assert planning._last_end(durations, chunks, jobs) == end


def test_a_plan_changes_nothing(tmp_path):
    plan(TINY, Store(tmp_path / "store", shipped=False), seconds=0.01)
    assert list(tmp_path.iterdir()) == []


def test_what_is_stored_is_not_planned_again(tmp_path, monkeypatch):
    store = Store(tmp_path, shipped=False)
    for _ in run(replace(TINY, rounds=1, treatments=()), store):
        pass
    assert plan(TINY, store, seconds=0.01).stored == 4
    for _ in run(TINY, store):
        pass
    monkeypatch.setattr(planning, "train", None)  # nothing to calibrate
    what = plan(TINY, store)
    assert (what.stored, what.iterations, what.seconds) == (10, 0, 0)


def test_a_single_iteration_can_be_planned(tmp_path):
    short = replace(TINY, rewind=0, task=replace(TINY.task, recipe=Recipe(iterations=1)))
    what = plan(short, Store(tmp_path, shipped=False), seconds=0.01)
    assert what.milliseconds > 0 and what.iterations == 10


def test_longer_experiments_take_longer(tmp_path):
    store = Store(tmp_path, shipped=False)
    longer = replace(TINY, task=replace(TINY.task, recipe=Recipe(iterations=10_000)))
    assert plan(longer, store, seconds=0.01).seconds > plan(TINY, store, seconds=0.01).seconds


def test_memory_is_estimated_where_the_system_does_not_say(tmp_path, monkeypatch):
    monkeypatch.setattr(planning, "Path", lambda _: tmp_path / "absent")
    monkeypatch.setattr(planning.sys, "platform", "win32")
    data = TINY.task.data()
    assert planning._peak_megabytes(data, 10**6) == pytest.approx(planning.BASE + 20, abs=1)


@pytest.mark.parametrize("name", ["fashion_mnist", "kmnist", "cifar10", "cifar100", "mnist"])
def test_known_data_sets_are_never_loaded_for_their_densities(monkeypatch, name):
    monkeypatch.setattr(Task, "data", lambda task: pytest.fail("loaded, perhaps downloaded"))
    task = Task(name, network="lenet-300-100")
    channels, height, width = SHAPES[name]
    hidden = channels * height * width * 300 + 300 * 100
    last = 100 * CLASSES[name]
    pruning = Pruning(rate=0.2, output_rate=0.1)
    kept = hidden - round(0.2 * channels * height * width * 300) - 6_000 + last - last // 10
    assert densities(task, pruning, 1)[1] == pytest.approx(kept / (hidden + last))


def test_densities_of_own_images_are_by_their_own_shape_and_classes(monkeypatch, tmp_path):
    monkeypatch.setattr(task_module, "load", load)  # not the tiny data
    task = Task(f"folder:{tmp_path}", network="lenet-4", validation=2)
    for size in (8, 12):
        for kind in ("a", "b", "c"):
            (tmp_path / kind).mkdir(exist_ok=True)
            for i in range(5):
                Image.new("L", (size, size)).save(tmp_path / kind / f"{i}.png")
        hidden, last = size * size * 4, 4 * 3
        kept = hidden - round(0.5 * hidden) + last
        found = densities(task, Pruning(rate=0.5, output_rate=0.0), 1)
        assert found[1] == pytest.approx(kept / (hidden + last)), "of the images there are now"
