"""Plans: exact about the work, of the right order about the time; cores as the container says."""

from dataclasses import replace

import pytest
import torch

from labkit import experiment as experiment_module
from labkit import planning
from labkit.data import Data, Split
from labkit.experiment import Experiment, Task
from labkit.planning import available_cores, plan
from labkit.running import run, work
from labkit.store import Store
from labkit.training import Recipe

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
    monkeypatch.setattr(experiment_module, "load", lambda *_, **__: data)


def test_a_plan_counts_the_work_exactly(tmp_path):
    store = Store(tmp_path, shipped=False)
    what = plan(TINY, store, seconds=0.01)
    assert (what.trials, what.stored, what.side_by_side) == (10, 0, 2)
    assert what.iterations == sum(work(t) for number in range(3) for t in TINY.trials(number))
    assert what.seconds > what.iterations * what.milliseconds / 1000 > 0
    assert 50 < what.megabytes < 100_000 and what.gpu_megabytes == 0


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


def test_cores_are_those_this_process_may_use():
    assert 1 <= available_cores() <= (planning.os.cpu_count() or 1)


def test_cores_without_linux(monkeypatch):
    monkeypatch.delattr(planning.os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(planning.os, "cpu_count", lambda: None)
    assert available_cores() == 1


@pytest.mark.parametrize(("granted", "cores"), [(0.5, 1), (1.5, 2), (2.0, 2), (64.0, 4)])
def test_a_quota_of_half_a_core_is_one_thread(monkeypatch, granted, cores):
    monkeypatch.setattr(planning.os, "sched_getaffinity", lambda _: set(range(4)), raising=False)
    monkeypatch.setattr(planning, "_quotas", lambda: iter([granted]))
    assert available_cores() == cores


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_quotas_of_control_groups_version_2(tmp_path):
    groups, root = tmp_path / "cgroup", tmp_path / "fs"
    write(groups, "0::/user/session\n")
    write(root / "cpu.max", "max 100000\n")
    write(root / "user/cpu.max", "150000 100000\n")
    write(root / "user/session/cpu.max", "300000 100000\n")
    write(tmp_path / "cpu.max", "1000 100000\n")  # outside
    assert sorted(planning._quotas(groups, root)) == [1.5, 3.0]


def test_quotas_of_control_groups_version_1(tmp_path):
    groups, root = tmp_path / "cgroup", tmp_path / "fs"
    # As in a container: the path is the host's, and only its own group is mounted.
    write(groups, "4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n")
    write(root / "cpu,cpuacct/cpu.cfs_quota_us", "200000\n")
    write(root / "cpu,cpuacct/cpu.cfs_period_us", "100000\n")
    write(root / "memory/cpu.cfs_quota_us", "1\n")
    assert list(planning._quotas(groups, root)) == [2.0]
    write(root / "cpu,cpuacct/cpu.cfs_quota_us", "-1\n")
    assert list(planning._quotas(groups, root)) == []


def test_no_quota_where_there_are_no_control_groups(tmp_path):
    assert list(planning._quotas(tmp_path / "absent", tmp_path)) == []
