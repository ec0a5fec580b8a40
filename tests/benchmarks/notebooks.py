"""What a run of each lesson takes: python -m tests.benchmarks.notebooks [LESSON ...]

Minutes of one processor core, next to those that its first cell tells, and the most memory of its
kernel. An empty store is shared by the lessons that are named, in their order; without names by
all.
"""

import re
import sys

from tests.conftest import pytest_unconfigure as remove_scratch  # sets the kernels' environment
from tests.notebooks import NOTEBOOKS, cpu_seconds, execute, peak_memory, read


def main(names: list[str]) -> None:
    """Run, and print a line for each."""
    known = [path.stem for path in NOTEBOOKS]
    if not set(names) <= set(known):
        sys.exit(f"lessons must be among {', '.join(known)}, not {', '.join(names)}")
    for path in NOTEBOOKS:
        if names and path.stem not in names:
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
        main(sys.argv[1:])
    finally:
        remove_scratch()
