"""What a run of each lesson takes: python -m tests.benchmarks.notebooks [--busy] [LESSON ...]

Minutes of one processor core, next to those that its first cell tells, and the most memory of its
kernel. An empty store is shared by the lessons that are named, in their order; without names by
all. With --busy each is run twice with a store of its own, alone and beside two processes that
compute without end, and its wall time beside them is told as a ratio to its fair share: twice the
quiet time where there are two cores, since then four want them.
"""

import argparse
import os
import re
import sys
import tempfile
import time
from pathlib import Path

from labkit.base.machine import available_cores
from tests.benchmarks.training import BUSY, busy_processes
from tests.conftest import pytest_unconfigure as remove_scratch  # sets the kernels' environment
from tests.notebooks import NOTEBOOKS, cpu_seconds, execute, peak_memory, read


def wall_seconds(path: Path) -> float:
    """Of a run of a lesson with an empty store."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LABKIT_STORE"] = folder
        began = time.perf_counter()
        if faults := execute(read(path), folder=path.parent):
            sys.exit(f"{path.stem}: {'; '.join(faults)}")
        return time.perf_counter() - began


def beside_others(path: Path) -> str:
    """Wall time alone, beside busy processes, and the ratio to the fair share."""
    quiet = wall_seconds(path)
    with busy_processes():
        busy = wall_seconds(path)
    cores = available_cores()
    fair = quiet * (cores + BUSY) / cores
    return f"{quiet:4.0f} s alone, {busy:4.0f} s beside {BUSY}: {busy / fair:.2f} of its fair share"


def main() -> None:
    """Run, and print a line for each."""
    known = [path.stem for path in NOTEBOOKS]
    parser = argparse.ArgumentParser(description="What a run of each lesson takes.")
    parser.add_argument("names", nargs="*", metavar="LESSON")
    parser.add_argument("--busy", action="store_true", help="beside processes that compute")
    chosen = parser.parse_args()
    names = chosen.names
    if not set(names) <= set(known):
        parser.error(f"lessons must be among {', '.join(known)}, not {', '.join(names)}")
    for path in NOTEBOOKS:
        if names and path.stem not in names:
            continue
        if chosen.busy:
            print(f"{path.stem:<20} {beside_others(path)}", flush=True)
            continue
        notebook = read(path)
        told = re.search(r"quick runs? (\D*\d+)", notebook.cells[0].source)
        faults = execute(notebook, folder=path.parent)
        words = "; ".join(faults) or (
            f"{cpu_seconds(notebook) / 60:4.1f} minutes (told: {told and told[1]}), "
            f"{peak_memory(notebook):5.0f} MiB"
        )
        print(f"{path.stem:<20} {words}", flush=True)


if __name__ == "__main__":
    try:
        main()
    finally:
        remove_scratch()
