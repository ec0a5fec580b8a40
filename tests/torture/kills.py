"""Runs that are killed at random moments, and gone on with.

Three ways to die: SIGKILL to the process; a power cut, after which whatever was not flushed is
lost, and of the renamings of a folder that nobody flushes any; and the same on a disk that lies, so
that nothing was flushed. Whatever happened, the run that follows must end with the numbers and the
weights of one that nobody killed, bit for bit.
"""

import os
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

import torch

from labkit.base import store as store_module
from labkit.base.store import UNFINISHED, Store
from labkit.engine.connectivity import Instability
from labkit.engine.pruning import Pruning
from labkit.experiments.experiment import Experiment, Study, all_trials
from labkit.experiments.running import Finished, run
from labkit.experiments.task import Task
from tests.synthetic import DATA, SGD
from tests.torture.figures import Figure

COUNT = 1_000
LIVES = 8  # at most, until a run may end
WAYS = ("SIGKILL", "power cut", "power cut, lying disk")
MOMENT = 0.01  # seconds, at most, between an event and a kill
DIE = 20.0  # seconds within which processes of a killed run must end

LENET = Experiment(
    task=Task(network="lenet-8-6", recipe=SGD),
    pruning=Pruning(rate=0.3, output_rate=0.1),
    rounds=2,
    rewind=3,
    optimizer_state="restored",
    treatments=("reinitialise", "fine-tune"),  # type: ignore[arg-type]
    seeds=(0, 1, 2),
    evaluate_every=4,
)
SWEEP = (LENET, replace(LENET, rewind=6, treatments=("rewind",), pruning=Pruning(rate=0.5)))
RESNET = replace(
    LENET,
    task=Task(network="resnet-8-w2", recipe=replace(SGD, iterations=5, milestones=())),
    pruning=Pruning(scope="global", rate=0.4),
    rounds=1,
    rewind=2,
    seeds=(3, 1),
    instability=Instability(2, 3, train_examples=20),
)
STUDIES: tuple[tuple[Study, int], ...] = ((LENET, 1), (SWEEP, 2), (RESNET, 1), (RESNET, 2))


def torture(count: int, seed: int, folder: Path) -> list[Figure]:
    """Kill `count` times. Figures: what was finished, what it ends with, who is left."""
    dice = Random(seed)
    kept = Figure("SIGKILL: networks told as finished are there")
    alive = Figure("kills after which no process is left")
    ends = {way: Figure(f"{way}: runs gone on with end bit for bit the same") for way in WAYS}
    kills = dict.fromkeys(WAYS, 0)
    with tiny_data():
        expected = [_alone(study, jobs, folder / f"whole-{n}") for n, (study, jobs) in _numbered()]
        while sum(kills.values()) < count:
            n = dice.randrange(len(STUDIES))
            (study, jobs), (wanted, events) = STUDIES[n], expected[n]
            way = dice.choice(WAYS)
            place = folder / f"killed-{sum(kills.values())}"
            for _ in range(min(dice.randint(1, LIVES), count - sum(kills.values()))):
                life = _Life(study, jobs, place, way, dice)
                life.end_after(int(dice.uniform(0, events) * _left(study, place)))
                kills[way] += life.killed
                told = f"study {n}, {way}, {place.name}"
                alive.count(life.gone(), told)
                if way == "SIGKILL":
                    for key in life.finished():
                        kept.count((place / f"{key}.json").exists(), f"{told}: {key}")
            _Life(study, jobs, place, "SIGKILL", dice).end_after(None)
            ends[way].count(same(numbers(study, place), wanted, way), told)
            _remove(place)
    for way, figure in ends.items():
        figure.note = f"{kills[way]} kills"
    return [kept, alive, *ends.values()]


def _numbered() -> Iterator[tuple[int, tuple[Study, int]]]:
    return enumerate(STUDIES)


def _left(study: Study, place: Path) -> float:
    """The share of its networks that a study has no result of yet."""
    trials = {trial.key for trial in all_trials(study)}
    return 1 - sum((place / f"{key}.json").exists() for key in trials) / len(trials)


def _alone(study: Study, jobs: int, folder: Path) -> tuple[dict[str, Any], int]:
    """The numbers of a run that nobody kills, and how many events it has."""
    life = _Life(study, jobs, folder, "SIGKILL", Random(0))
    life.end_after(None)
    return numbers(study, folder), life.events()


@contextmanager
def tiny_data() -> Iterator[None]:
    """Tasks have the tiny data of tests.synthetic; processes are of one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # others would not survive a fork
    with patch.object(Task, "data", lambda task: DATA[task.network]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Python's, where a process with threads forks
        yield
    torch.set_num_threads(threads)


def numbers(study: Study, folder: Path) -> dict[str, Any]:
    """All that a store has of a study: results without their time, weights as bytes."""
    store, found = Store(folder, shipped=False), dict[str, Any]()
    for trial in all_trials(study):
        result = store.get(trial.key)
        if result is not None:
            del result["provenance"]["seconds"], result["provenance"]["finished"]
        found[trial.key] = result
        for key in (trial.key, *map(trial.dense_key, trial.snapshots)):
            found[f"{key}.pt"] = _bits(store.get_tensors(key))
    return found


def same(found: dict[str, Any], wanted: dict[str, Any], way: str) -> bool:
    """Whether two runs ended alike. A power cut may take weights that no other network needs."""
    lost = {key for key in found if key.endswith(".pt") and found[key] is None}
    return all(
        found[key] == value for key, value in wanted.items() if way == "SIGKILL" or key not in lost
    )


def _bits(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.shape, value.numpy().tobytes()
    if isinstance(value, dict):
        return {name: _bits(part) for name, part in value.items()}
    return [_bits(part) for part in value] if isinstance(value, list) else value


class _Life:
    """A run in a process of its own, which leads a group, and may be killed."""

    def __init__(self, study: Study, jobs: int, place: Path, way: str, dice: Random) -> None:
        self._place, self._way, self._dice = place, way, dice
        self._before = {path.name for path in place.glob("*")}
        self._told = place.with_suffix(".finished")
        self._flushed = place.with_suffix(".flushed")
        for path in (self._told, self._flushed):
            path.write_text("")
        flush = {"power cut": self._flush, "power cut, lying disk": lambda _: None}.get(way)
        self.killed = False
        target = get_context("fork").Process(
            target=_live, args=(study, jobs, place, self._told, flush)
        )
        self._process: Any = target
        target.start()

    def end_after(self, events: int | None) -> None:
        """Let it live for some events and a moment, or to its end."""
        if events is None:
            self._process.join()
        while self._process.exitcode is None and self.events() < (events or 0):
            time.sleep(0.001)
        time.sleep(self._dice.uniform(0, MOMENT))
        if self._process.exitcode is None:
            self.killed = True
            with suppress(ProcessLookupError):  # as the process alone, or with those that it made
                kill = os.kill if self._way == "SIGKILL" else os.killpg
                kill(self._process.pid, signal.SIGKILL)
        self._process.join()
        if not self.killed and self._process.exitcode:
            raise RuntimeError(f"a run ended with status {self._process.exitcode}")
        if self.killed and self._way != "SIGKILL":
            assert self.gone()
            self._lose()

    def events(self) -> int:
        """How many events it has told."""
        return self._told.read_text().count("\n")

    def finished(self) -> list[str]:
        """The keys of the networks that it told as finished."""
        return [line for line in self._told.read_text().splitlines() if len(line) == 32]

    def gone(self) -> bool:
        """Whether all processes of its group have ended, after some patience."""
        deadline = time.monotonic() + DIE
        while time.monotonic() < deadline:
            try:
                os.killpg(self._process.pid, 0)
            except ProcessLookupError:
                return True
            time.sleep(0.01)
        return False

    def _flush(self, descriptor: int) -> None:
        state = os.fstat(descriptor)
        with self._flushed.open("a") as file:
            file.write(f"{state.st_ino} {state.st_size}\n")

    def _lose(self) -> None:
        """What a power cut takes: bytes that were not flushed, and new names."""
        flushed = set(self._flushed.read_text().splitlines())
        for path in sorted(self._place.glob("*")):
            state = path.stat()
            if path.name in self._before and self._way == "power cut":
                continue
            if f"{state.st_ino} {state.st_size}" not in flushed and self._dice.random() < 0.7:
                os.truncate(path, self._dice.randint(0, state.st_size))
            if path.name not in self._before and self._dice.random() < 0.3:
                path.rename(path.with_name(f"tmp{path.stem}{UNFINISHED}"))


def _live(
    study: Study, jobs: int, place: Path, told: Path, flush: Callable[[int], None] | None
) -> None:
    os.setsid()
    warnings.simplefilter("ignore")  # damaged entries are told, and trained again
    if flush is not None:
        store_module.os.fsync = flush  # type: ignore[attr-defined]
    with told.open("a") as file:
        for event in run(study, Store(place, shipped=False), jobs=jobs):
            file.write(f"{event.trial.key}\n" if isinstance(event, Finished) else "\n")
            file.flush()


def _remove(place: Path) -> None:
    for path in [*place.glob("*"), place.with_suffix(".finished"), place.with_suffix(".flushed")]:
        path.unlink()
    if place.exists():
        place.rmdir()
