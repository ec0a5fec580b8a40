"""The machine this runs on: its cores, its device, the versions installed.

torch takes seconds to import, and this module is imported with the package: so it is imported only
where a device is asked for.
"""

import contextlib
import ctypes
import math
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import lru_cache
from importlib import metadata
from pathlib import Path

from labkit.base.validation import whole

DISTRIBUTION = "lottery-ticket-lab"  # the name for pip; another person's package is called labkit
MOST_JOBS = 8  # unless one asks for more: a round has few networks, and each process has its memory
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
GLIBC_VARIABLES = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")
KEPT = 128 * 2**20  # bytes
LARGEST_KEPT = 32 * 2**20  # bytes of one tensor; glibc allows no more
MOST_WISHED = 64  # more than the cores is allowed: results depend on the number, here as elsewhere


def limit_threads() -> None:
    """Keep torch to the cores that this process may use; in a container it counts the host's.

    Before torch is imported that is done by the variable it reads then, OMP_NUM_THREADS, unless the
    user has set it; afterwards by lowering its number of threads. Where every core may be used,
    nothing is changed: torch chooses well, and knows of hyper-threads.
    """
    cores = available_cores()
    if "torch" in sys.modules:
        torch = sys.modules["torch"]
        if torch.get_num_threads() > cores:
            torch.set_num_threads(cores)
    elif cores < (os.cpu_count() or 1):
        os.environ.setdefault("OMP_NUM_THREADS", str(cores))


def keep_memory() -> None:
    """Let freed memory stay with this process, up to `KEPT`, where the C library is glibc.

    It would give an activation back to the system as soon as it is freed, and the system would
    clear every page of it before the next batch: a quarter of a ResNet-8's evaluation (0.42 against
    0.54 s for 5,000 images, one thread of a Xeon of 2023). Whoever set glibc's own variables keeps
    them.
    """
    if platform.libc_ver()[0] != "glibc" or os.environ.keys() & set(GLIBC_VARIABLES):
        return
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT)
        mallopt(M_TRIM_THRESHOLD, KEPT)


def available_cores() -> int:
    """Processor cores that this process may use: by its affinity and its container's quota."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    return max(1, min([cores, *(math.ceil(quota) for quota in _quotas())]))


def _quotas(
    groups: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")
) -> Iterator[float]:
    """Cores granted by each control group that holds this process, versions 1 and 2."""
    try:
        lines = groups.read_text().splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = root / controllers if controllers else root
        # Inside a container the path may be the host's, and only the top is there.
        inner = top / path.lstrip("/")
        for folder in (inner, *inner.parents):
            if folder.is_relative_to(top):
                yield from _quota(folder)


def _quota(folder: Path) -> Iterator[float]:
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text()
            period = (folder / "cpu.cfs_period_us").read_text()
        if quota != "max" and int(quota) > 0:  # -1 is none, in version 1
            yield int(quota) / int(period)
    except (OSError, ValueError):
        return


def devices() -> tuple[str, ...]:
    """The devices that torch finds here: "cpu", "cuda" and each of its GPUs, "mps" of a Mac."""
    import torch

    gpus = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    cuda = ("cuda", *(f"cuda:{number}" for number in gpus)) if gpus else ()
    return ("cpu", *cuda, *(("mps",) if torch.backends.mps.is_available() else ()))


def find_device(name: str = "auto") -> str:
    """The device's name for torch, one of `devices`.

    name: "auto", which is "cuda" where that is there and else "cpu", or one of `devices`. Numbers
    repeat bit for bit on one device; the CPU, another GPU and another model of it give others; and
    torch does not promise that those of "mps" repeat at all. Raises ValueError for another name.
    """
    found = devices()
    if name == "auto":
        return "cuda" if "cuda" in found else "cpu"
    if not isinstance(name, str) or name not in found:
        raise ValueError(
            f"device must be auto or one that torch finds here ({', '.join(found)}), not {name!r}"
        )
    return name


def find_jobs(jobs: int | None, device: str) -> int:
    """How many processes, of one thread each, train at a time on a device of `find_device`.

    jobs: a wish, up to MOST_WISHED or one for each core, or None, which on a CPU is one for each
    core that torch would use, up to MOST_JOBS. Raises ValueError for another number, and above 1
    on a GPU.
    """
    import torch

    if jobs is None:
        return min(torch.get_num_threads(), MOST_JOBS) if device == "cpu" else 1
    jobs = whole("jobs", jobs, 1, max(MOST_WISHED, available_cores()))
    if jobs > 1 and device != "cpu":
        raise ValueError(f"jobs must be 1 on a GPU, which trains all networks at once, not {jobs}")
    return jobs


def device_label(device: str, jobs: int = 1) -> str:
    """A device of `find_device` as a reader knows it, such as "CPU x86_64, 2 processes"; jobs: how
    many train on it at a time.
    """
    import torch

    if device == "mps":
        return "GPU of this Mac, on which numbers may not repeat"
    if device != "cpu":
        return torch.cuda.get_device_name(device)
    return f"CPU {platform.machine()}, {jobs} process{'' if jobs == 1 else 'es'}"


def lab_version() -> str:
    """The version of the lab: as installed, or of the clone that it is imported from."""
    project = Path(__file__).parents[2] / "pyproject.toml"
    # tomllib came with Python 3.11; the two lines follow each other.
    own = re.compile(rf'^name = "{DISTRIBUTION}"\nversion = "(.+)"$', re.MULTILINE)
    if project.is_file() and (found := own.search(project.read_text(encoding="utf-8"))):
        return found[1]
    return version(DISTRIBUTION)


@lru_cache(maxsize=1)
def lab_commit() -> str | None:
    """The commit of the clone that the lab is imported from, as it was at the first call, with
    "-dirty" where files differ from it; None where there is no clone, or no git.
    """
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():  # an outer repository's commit says nothing of the lab
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--exclude=*"]
    command.append("--abbrev=40")
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        found = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
        return found.stdout.strip()
    return None


def version(package: str) -> str:
    """The version of an installed package, or "not installed"."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
