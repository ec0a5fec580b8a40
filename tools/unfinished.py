"""Whole seeds of references that take longer than a session, kept until all seeds are there.

labkit run PRESET --size reference --set seeds=10 --store FOLDER
labkit export PRESET data/unfinished/PRESET-10.zip --size reference --set seeds=10 --store FOLDER
python -m tools.unfinished FOLDER

The last line, in another session, puts what is kept into a store. Seeds do not start from each
other, so each may be trained on another machine, and none is looked at, in claims or figures,
before the study is whole: it is no part of `data/results`, nor of a wheel.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from labkit.base.store import Store, read_zip
from tools import course

KEPT = course.ROOT / "data" / "unfinished"


def take(store: Store, kept: Path = KEPT) -> int:
    """Put all results that are kept into a store; how many these are."""
    found = {key: result for path in kept.glob("*.zip") for key, result in read_zip(path).items()}
    for key, result in found.items():
        store.write(f"{key}.json", result)
    return len(found)


def main(words: Sequence[str] | None = None) -> None:
    """Fill a store."""
    parser = argparse.ArgumentParser(prog="python -m tools.unfinished", description=__doc__)
    parser.add_argument("store", metavar="FOLDER")
    store = Store(parser.parse_args(words).store)
    print(f"{take(store)} results from {KEPT} are in {store.folder}")


if __name__ == "__main__":
    main()
