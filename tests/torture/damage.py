"""Damage of each kind to a store, to shipped results and to data, and whether it is found.

Found is: what is damaged, swapped, renamed or foreign is named as such, and no number of it is
given as the answer to another question.
"""

import hashlib
import itertools
import json
import os
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

import labkit
from labkit.base.places import DataError, data_folder
from labkit.base.store import (
    SUMS,
    Store,
    StoreError,
    enlist,
    read_zip,
    ship,
    shipped_folder,
    shipped_results,
)
from labkit.engine.data import load
from labkit.experiments.experiment import all_trials
from labkit.experiments.proof import proves, result_of
from tests.torture.figures import Figure
from tests.torture.kills import LENET, tiny_data
from tests.torture.limits import Watch

COUNT = 4_000


def torture(count: int, seed: int, folder: Path) -> list[Figure]:
    """Damage `count` files, one at a time. Figures: what of each place is found."""
    dice, watch = Random(seed), Watch()
    places = {"store": _Stored(folder), "shipped": _Shipped(folder), "data": _Bundled(folder)}
    figures: dict[str, Figure] = {}
    hangs = Figure("damages that do not hang anything for 10 s")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number in range(count):
            where = dice.choices(list(places), (5, 4, 1))[0]
            place = places[where]
            kind = dice.choice(place.kinds)
            told = f"{where}: {kind.__name__.strip('_').replace('_', ' ')}"
            found = False
            with watch:
                found = place.finds(kind, dice, number)
            figures.setdefault(told, Figure(told)).count(found, f"number {number}")
            hangs.count(not watch.hung, told)
    return [*(figures[told] for told in sorted(figures)), hangs]


# What may befall a file. Each is given the file, and another of its kind.


def _flipped_bit(path: Path, other: Path, dice: Random) -> None:
    content = bytearray(path.read_bytes())
    content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
    path.write_bytes(content)


def _cut(path: Path, other: Path, dice: Random) -> None:
    os.truncate(path, dice.randrange(path.stat().st_size))


def _zeros(path: Path, other: Path, dice: Random) -> None:
    content = path.read_bytes()
    start = dice.randrange(len(content) - 8)
    path.write_bytes(content[:start] + b"\0" * (len(content) - start))


def _more_bytes(path: Path, other: Path, dice: Random) -> None:
    path.write_bytes(path.read_bytes() + dice.randbytes(dice.randint(1, 99)))


def _another_renamed(path: Path, other: Path, dice: Random) -> None:
    shutil.copyfile(other, path)


def _swapped(path: Path, other: Path, dice: Random) -> None:
    one = path.read_bytes()
    shutil.copyfile(other, path)
    other.write_bytes(one)


def _empty(path: Path, other: Path, dice: Random) -> None:
    os.truncate(path, 0)


def _noise(path: Path, other: Path, dice: Random) -> None:
    path.write_bytes(dice.randbytes(path.stat().st_size))


def _folder(path: Path, other: Path, dice: Random) -> None:
    path.unlink()
    path.mkdir()


def _pipe(path: Path, other: Path, dice: Random) -> None:
    path.unlink()
    os.mkfifo(path)


def _link_to_itself(path: Path, other: Path, dice: Random) -> None:
    path.unlink()
    path.symlink_to(path)


def _missing(path: Path, other: Path, dice: Random) -> None:
    path.unlink()


BYTES = (_flipped_bit, _cut, _zeros, _more_bytes, _another_renamed, _swapped, _empty, _noise)
ENTRIES = (_folder, _pipe, _link_to_itself)
Kind = Callable[[Path, Path, Random], None]


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    else:
        path.unlink(missing_ok=True)


class _Stored:
    """A store with all results and weights of a small experiment."""

    def __init__(self, folder: Path) -> None:
        with tiny_data():
            self.store = Store(folder / "store", shipped=False)
            for _ in labkit.run(LENET, self.store, jobs=1):
                pass
            self.trials = {trial.key: trial for trial in all_trials(LENET)}
        self.whole = {p.name: p.read_bytes() for p in sorted(self.store.folder.glob("*"))}
        forged = (self._forged, self._forged_as_of_old, self._part_replaced)
        self.kinds: tuple[Kind, ...] = (*BYTES, *ENTRIES, *forged)

    def finds(self, kind: Kind, dice: Random, number: int) -> bool:
        """Whether the entries are named, and not given."""
        forged = kind not in (*BYTES, *ENTRIES)  # weights say nothing of whose they are
        names = [n for n in self.whole if not forged or n.removesuffix(".json") in self.trials]
        name = dice.choice([n for n in names if n.endswith(".json") or not forged])
        alike = [n for n in names if n != name and n.endswith(Path(name).suffix)]
        alike = [n for n in alike if self.whole[n] != self.whole[name]]
        other = self.store.folder / dice.choice(alike)
        path = self.store.folder / name
        kind(path, other, dice)
        damaged = [path, *([other] if kind is _swapped else [])]
        named = {
            odd
            for odd, found in self.store.entries()
            if isinstance(found, StoreError)
            or (odd.suffix == ".json" and not proves(found, odd.stem))
        }
        right = named == set(damaged) and not any(map(self._given, damaged))
        for each in damaged:
            _remove(each)
            each.write_bytes(self.whole[each.name])
        return right

    def _given(self, path: Path) -> bool:
        """Whether it is given as an answer."""
        try:
            if path.suffix == ".json" and path.stem in self.trials:
                return result_of(self.trials[path.stem], self.store) is not None
            return self.store.has_tensors(path.stem)
        except StoreError:
            return False

    def _forged(self, path: Path, other: Path, dice: Random) -> None:
        """Another's result under this name, with a digest that fits."""
        self.store.put(path.stem, _parsed(other))

    def _forged_as_of_old(self, path: Path, other: Path, dice: Random) -> None:
        """The same, as entries were before names were in digests."""
        content = json.dumps(_parsed(other)).encode()
        path.write_bytes(hashlib.sha256(content).hexdigest().encode() + b"\n" + content)

    def _part_replaced(self, path: Path, other: Path, dice: Random) -> None:
        """A part that is something else, with a digest that fits."""
        result = _parsed(path)
        result[dice.choice(("trial", "ticket", "curve", "provenance"))] = dice.choice(
            (None, 3, "x", [], [[]])
        )
        self.store.put(path.stem, result)


def _parsed(path: Path) -> Any:
    return json.loads(path.read_bytes().partition(b"\n")[2])


class _Shipped:
    """A folder of two shipped zip files, and what is in them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "shipped"
        content = next(iter(shipped_results(shipped_folder()).items()))
        results = dict(itertools.islice(shipped_results(shipped_folder()).items(), 40))
        self.parts = [dict(list(results.items())[:20]), dict(list(results.items())[20:])]
        for name, part in zip(("a.zip", "b.zip"), self.parts, strict=True):
            ship({key: json.loads(text) for key, text in part.items()}, self.folder / name)
            enlist(self.folder / name)
        self.whole = {p.name: p.read_bytes() for p in self.folder.glob("*")}
        self.results = {**self.parts[0], **self.parts[1]}
        self.foreign = {content[0]: {"ticket": {"test_accuracy": 0.0}}}
        own = (self._foreign_beside, self._foreign_in_place, self._foreign_with_a_bit_flipped)
        self.kinds: tuple[Kind, ...] = (*BYTES, _missing, *own)

    def finds(self, kind: Kind, dice: Random, number: int) -> bool:
        """Whether the folder is refused, or gives what it gave before."""
        names = ["a.zip", "b.zip"]
        dice.shuffle(names)
        if kind in (_flipped_bit, _cut, _noise) and dice.random() < 0.2:
            names[0] = SUMS
        path, other = (self.folder / name for name in names)
        kind(path, other, dice)
        right = self._refused_or_same(path.name)
        for each in [*self.folder.glob("*"), path, other]:
            _remove(each)
        for name, content in self.whole.items():
            (self.folder / name).write_bytes(content)
        return right

    def _refused_or_same(self, damaged: str) -> bool:
        shipped_results.cache_clear()
        try:
            found = shipped_results(self.folder)
        except StoreError:
            return True
        # Names that are cut out of the list are left out, and nothing foreign comes in.
        whole = damaged == SUMS or found.keys() == self.results.keys()
        same = all(json.loads(found[key]) == json.loads(self.results[key]) for key in found)
        return whole and same

    def _foreign_beside(self, path: Path, other: Path, dice: Random) -> None:
        ship(self.foreign, self.folder / "zzz.zip")

    def _foreign_in_place(self, path: Path, other: Path, dice: Random) -> None:
        ship(self.foreign, path)

    def _foreign_with_a_bit_flipped(self, path: Path, other: Path, dice: Random) -> None:
        """As a source of its own: refused, or the same, or named as no answer to its key."""
        foreign = self.folder / "zzz.zip"
        shutil.copyfile(path, foreign)
        _flipped_bit(foreign, other, dice)
        try:
            for key, text in read_zip(foreign).items():
                if text != self.results.get(key) and proves(json.loads(text), key):
                    raise AssertionError(f"a changed result of {key} is believed")
        except ValueError:
            pass


class _Bundled:
    """The bundled data, of which one file at a time is damaged."""

    def __init__(self, folder: Path) -> None:
        self.source, self.folder = data_folder(), folder
        lines = (self.source / SUMS).read_text().splitlines()
        self.files = [line.split()[1] for line in lines]
        self.kinds: tuple[Kind, ...] = (*BYTES, _missing)

    def finds(self, kind: Kind, dice: Random, number: int) -> bool:
        """Whether the data set is refused by an error that names the file."""
        folder = self.folder / f"data-{number}"
        mnist = [name for name in self.files if name.startswith("mnist")]
        name = dice.choice(mnist)
        for file in mnist:
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.source / file, folder / file)
        shutil.copyfile(self.source / SUMS, folder / SUMS)
        other = dice.choice([file for file in mnist if file != name])
        kind(folder / name, folder / other, dice)
        with patch.dict(os.environ, {"LABKIT_DATA": str(folder)}):
            try:
                load("mnist")
            except DataError as error:
                right = Path(name).name in str(error) or Path(other).name in str(error)
            else:
                right = False
        shutil.rmtree(folder)
        return right
