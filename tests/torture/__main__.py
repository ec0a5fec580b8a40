"""The runner: the kinds that are named, or all; exit status 1 where an aim is missed."""

import argparse
import importlib
import os
import sys
import tempfile
import time
from pathlib import Path
from random import SystemRandom

from tests.torture.figures import as_table, missed

KINDS = ("kills", "damage", "settings", "panels", "kernels", "folders")


def _memory() -> str | None:
    """A folder in memory, where there is one: a disk takes a tenth of a second for each flush."""
    return "/dev/shm" if os.path.isdir("/dev/shm") else None


def main(words: list[str] | None = None) -> int:
    """Run some kinds, print their figures, and give the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"of {', '.join(KINDS)}, or all")
    parser.add_argument("--count", type=int, help="how often; each kind has its own default")
    parser.add_argument("--seed", type=int, help="of all that is random; it is printed")
    chosen = parser.parse_args(words)
    if unknown := set(chosen.kinds) - set(KINDS):
        parser.error(f"KIND must be of {', '.join(KINDS)}, not {', '.join(sorted(unknown))}")
    seed = SystemRandom().randrange(2**31) if chosen.seed is None else chosen.seed
    failed = False
    for kind in chosen.kinds or KINDS:
        module = importlib.import_module(f"tests.torture.{kind}")
        count = chosen.count or module.COUNT
        print(f"{kind} --count {count} --seed {seed}", flush=True)
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix=f"labkit-{kind}-", dir=_memory()) as folder:
            figures = module.torture(count, seed, Path(folder))
        print(as_table(figures))
        print(f"    {time.monotonic() - began:,.0f} s\n", flush=True)
        failed |= missed(figures)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
