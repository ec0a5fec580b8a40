"""The machine: cores as the container grants them, devices that are there."""

import os
import re
import subprocess
import sys

import pytest
import torch

from labkit.base import machine
from labkit.base.machine import (
    available_cores,
    device_label,
    find_device,
    find_jobs,
    keep_memory,
    limit_threads,
)


def test_cores_are_those_this_process_may_use():
    assert 1 <= available_cores() <= (machine.os.cpu_count() or 1)


def test_cores_without_linux(monkeypatch):
    monkeypatch.delattr(machine.os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(machine.os, "cpu_count", lambda: None)
    assert available_cores() == 1


@pytest.mark.parametrize(("granted", "cores"), [(0.5, 1), (1.5, 2), (2.0, 2), (64.0, 4)])
def test_a_quota_of_half_a_core_is_one_thread(monkeypatch, granted, cores):
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda _: set(range(4)), raising=False)
    monkeypatch.setattr(machine, "_quotas", lambda: iter([granted]))
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
    assert sorted(machine._quotas(groups, root)) == [1.5, 3.0]


def test_quotas_of_control_groups_version_1(tmp_path):
    groups, root = tmp_path / "cgroup", tmp_path / "fs"
    # As in a container: the path is the host's, and only its own group is mounted.
    write(groups, "4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n")
    write(root / "cpu,cpuacct/cpu.cfs_quota_us", "200000\n")
    write(root / "cpu,cpuacct/cpu.cfs_period_us", "100000\n")
    write(root / "memory/cpu.cfs_quota_us", "1\n")
    assert list(machine._quotas(groups, root)) == [2.0]
    write(root / "cpu,cpuacct/cpu.cfs_quota_us", "-1\n")
    assert list(machine._quotas(groups, root)) == []


def test_no_quota_where_there_are_no_control_groups(tmp_path):
    assert list(machine._quotas(tmp_path / "absent", tmp_path)) == []


@pytest.fixture
def threads():
    """Whatever a test does to torch's threads is undone."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_threads_are_lowered_to_the_cores_and_never_raised(threads, monkeypatch):
    monkeypatch.setattr(machine, "available_cores", lambda: 2)
    for before, after in ((4, 2), (2, 2), (1, 1)):
        torch.set_num_threads(before)
        limit_threads()
        assert torch.get_num_threads() == after


@pytest.mark.parametrize(
    ("cores", "chosen", "threads"), [(2, None, "2"), (2, "3", "3"), (8, None, None)]
)
def test_before_torch_is_imported_the_quota_is_told_by_a_variable(
    monkeypatch, cores, chosen, threads
):
    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.setattr(machine, "available_cores", lambda: cores)
    monkeypatch.setattr(machine.os, "cpu_count", lambda: 8)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # so that it is restored
    os.environ.pop("OMP_NUM_THREADS")
    if chosen:
        monkeypatch.setenv("OMP_NUM_THREADS", chosen)
    limit_threads()
    assert os.environ.get("OMP_NUM_THREADS") == threads


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two cores")
def test_importing_the_package_limits_the_threads(root):
    environment = {name: v for name, v in os.environ.items() if name != "OMP_NUM_THREADS"}
    core = min(os.sched_getaffinity(0))
    done = subprocess.run(
        [sys.executable, "-c", "import labkit, os; print(os.environ['OMP_NUM_THREADS'])"],
        env=environment | {"PYTHONPATH": str(root)},
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
        capture_output=True,
        text=True,
    )
    assert done.stdout == "1\n", done.stderr


@pytest.fixture
def accelerators(monkeypatch):
    """A function that lets torch find so many GPUs, and a Mac's."""

    def found(gpus: int, mps: bool) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    return found


def test_a_device_is_one_that_torch_finds(accelerators):
    accelerators(0, False)
    assert find_device() == find_device("cpu") == "cpu"
    accelerators(2, False)
    assert find_device() == "cuda"
    for name in ("cpu", "cuda", "cuda:0", "cuda:1"):
        assert find_device(name) == name
    accelerators(0, True)
    assert (find_device(), find_device("mps")) == ("cpu", "mps"), "a Mac's GPU only when asked for"


@pytest.mark.parametrize(
    ("gpus", "mps", "name", "there"),
    [
        (0, False, "cuda", "cpu"),
        (0, False, "mps", "cpu"),
        (0, True, "abacus", "cpu, mps"),
        (2, False, "cuda:2", "cpu, cuda, cuda:0, cuda:1"),
        (2, False, "cuda:", "cpu, cuda, cuda:0, cuda:1"),
        (0, False, None, "cpu"),
    ],
)
def test_a_device_that_is_not_there_is_refused_with_those_that_are(
    accelerators, gpus, mps, name, there
):
    accelerators(gpus, mps)
    with pytest.raises(
        ValueError,
        match=re.escape(
            f"device must be auto or one that torch finds here ({there}), not {name!r}"
        ),
    ):
        find_device(name)


def test_a_gpu_is_named_by_its_number_and_a_mac_s_with_a_warning(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"GPU {device}")
    assert device_label("cuda:1") == "GPU cuda:1"
    assert "may not repeat" in device_label("mps")


def test_jobs_are_one_for_each_thread_unless_one_wishes_otherwise(monkeypatch):
    for threads, jobs in ((1, 1), (2, 2), (8, 8), (64, 8)):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        assert find_jobs(None, "cpu") == jobs
    assert find_jobs(50, "cpu") == 50
    assert find_jobs(None, "cuda") == find_jobs(1, "cuda") == 1
    with pytest.raises(ValueError, match=r"jobs must be 1 on a GPU, .* not 2"):
        find_jobs(2, "cuda")
    with pytest.raises(ValueError, match="jobs must be a whole number from 1 to 64, not 0"):
        find_jobs(0, "cpu")


def test_jobs_are_part_of_the_words_for_a_device():
    assert device_label("cpu", 3).endswith(", 3 processes")
    assert device_label("cpu").endswith(", 1 process")


# Frees memory and asks for it again, and prints how many of its pages were new, of 4 KiB.
PAGES = """
import ctypes, resource, sys
from labkit.base.machine import M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, keep_memory
import torch
for threshold in (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD):
    ctypes.CDLL(None).mallopt(threshold, 2**17)  # as glibc starts; its own may have grown since
if sys.argv[1] == "keep":
    keep_memory()
before = 0
for _ in range(20):
    large = [torch.ones(2**18) for _ in range(100)]  # of 1 MiB each
    del large
    now = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    new, before = now - before, now
print(new)
"""


@pytest.mark.skipif(machine.platform.libc_ver()[0] != "glibc", reason="another C library")
def test_freed_memory_is_used_again(root):
    def new_pages(how, **variables):
        done = subprocess.run(
            [sys.executable, "-c", PAGES, how],
            cwd=root,
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            check=True,
        )
        return int(done.stdout)

    kept = 10 * new_pages("keep")
    assert kept < new_pages("leave")
    assert kept < new_pages("keep", MALLOC_TRIM_THRESHOLD_="131072"), "the user's own wish"


def test_memory_is_left_alone_without_glibc(monkeypatch):
    monkeypatch.setattr(machine.platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(machine.ctypes, "CDLL", None)  # to call it would fail
    keep_memory()


def test_the_commit_is_that_of_the_clone_and_says_where_files_differ(tmp_path, monkeypatch):
    def git(*words: str) -> str:
        own = ("-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
        command = ["git", "-C", str(tmp_path), *own, *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    commit = machine.lab_commit.__wrapped__
    place = tmp_path / "labkit" / "base" / "machine.py"
    place.parent.mkdir(parents=True)
    place.write_text("")
    monkeypatch.setattr(machine, "__file__", str(place))
    assert commit() is None  # no clone
    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "--message", "first")
    git("tag", "v1")
    assert commit() == git("rev-parse", "HEAD")
    place.write_text("changed")
    assert commit() == git("rev-parse", "HEAD") + "-dirty"
    monkeypatch.setenv("PATH", "")
    assert commit() is None  # no git
