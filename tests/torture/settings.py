"""Settings that nobody should give, in Python and on the command line: only errors in words.

An error in words is a ValueError that says what a field must be, or a lack of memory; on the
command line an exit status and a line. What is accepted must have one address, must be the same
when it is told in words and read again, and must begin to train, or say why not.
"""

import contextlib
import io
import itertools
import re
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from labkit.base.store import Store
from labkit.command.cli import main
from labkit.engine.connectivity import Instability
from labkit.engine.pruning import CRITERIA, Pruning
from labkit.engine.training import Recipe
from labkit.experiments import running
from labkit.experiments.experiment import Experiment
from labkit.experiments.running import Event, run
from labkit.experiments.task import Task
from labkit.experiments.treatments import CHAINS, TREATMENTS
from labkit.experiments.words import as_python, field_texts, with_settings
from tests.torture.figures import Figure
from tests.torture.limits import Watch, little_memory

COUNT = 10_000
IN_WORDS = 0.3  # the share that goes through the command line
MOMENT = 0.05  # seconds for which what was accepted is run
STATUSES = {0, 1, 2, 130}

ODD: list[Any] = [
    None, True, False, 0, -1, 1, 2, 10**6, 99_999, 2**31, 2**63, 10**12, 10**400, -(2**63), 0.0,
    -0.0, 1e-300, 5e-324, 0.1, 0.5, 1.0, 1 - 1e-16, 1e30, 1e308, float("inf"), float("nan"), 1j,
    np.int64(3), np.float32(0.3), np.float64("nan"), np.arange(3), np.array(2), torch.tensor(0.5),
    "", "0", "٣", "½", "none", "nan", "1e5", "a b", "x\0y", "../..", "folder:", "folder:/dev/null",
    "folder:~nosuchuser", "é" * 300, b"1", (), (0,), (1, 1), (0.5, 0.25), [0.2], {}, {1: 2}, set(),
    range(10**9), itertools.count(), object(), int, lambda: 1, Recipe(), Pruning(),
]  # fmt: skip
NETWORKS = ["lenet-300-100", "lenet-8-6", "lenet-1", "lenet-99999-99999", "lenet-1٣", "lenet-0",
            "lenet" + "-9" * 50, "conv-2", "resnet-8-w2", "resnet-20", "vgg-small", "vgg-16",
            "vit-2-4", "vit-99-99", "resnet-8-w9999", "lenet", "resnet-9"]  # fmt: skip
LIKELY: dict[str, list[Any]] = {
    "dataset": ["mnist", "mnist", "cifar10-16", "folder:/nonexistent", "minst"],
    "network": NETWORKS,
    "normalisation": ["unit", "standard"],
    "examples": [None, 1, 100, 55_000, 60_000],
    "image_size": [None, 1, 2, 7, 28, 29],
    "validation": [0, 100, 5_000, 59_999, 60_000],
    "optimizer": ["adam", "sgd"],
    "learning_rate": [1e-3, 0.1, 1e30],
    "momentum": [0.0, 0.9],
    "batch_size": [1, 2, 60, 1000],
    "iterations": [1, 10, 5_000, 10**7],
    "milestones": [(), (0.5, 0.75), (0.5, 0.5)],
    "warmup": [0, 1, 5_000],
    "augmentation": ["none", "flip-crop"],
    "precision": ["float32", "bfloat16"],
    "slimming": [0.0, 1e-4],
    "kind": ["unstructured", "structured"],
    "criterion": sorted({word for words in CRITERIA.values() for word in words}),
    "scope": ["layerwise", "global"],
    "rate": [0.2, 0.999, 1e-9],
    "layer_rates": [(), (0.5, 0.5), (0.1,) * 5],
    "at": [None, 0, 1, 5_000],
    "rounds": [0, 1, 7, 100],
    "rewind": [0, 1, 4_999],
    "optimizer_state": ["fresh", "restored"],
    "chain": list(CHAINS),
    "treatments": [(), ("reinitialise",), tuple(TREATMENTS), ("untrained", "pruned")],
    "treated_rounds": [None, (1,), (1, 2)],
    "analysed_rounds": [None, (0,)],
    "draws": [1, 2, 100],
    "seeds": [(0,), tuple(range(10)), tuple(range(10_000))],
    "evaluate_every": [1, 100, 10**7],
    "copies": [0, 2, 20],
    "alphas": [3, 1000],
    "statistics": ["re-estimated", "interpolated"],
    "train_examples": [2, 10**9],
}
FIELDS = [*(path for path, _ in field_texts(Experiment())), "treatments"]
NAMES = {path.split(".")[-1] for path in FIELDS} | {"task", "recipe", "pruning", "a setting",
         "instability", "images", "name of a data set", "must"}  # fmt: skip


def torture(count: int, seed: int, folder: Path) -> list[Figure]:
    """Try `count` random settings. Figures: what is refused, what is accepted, what hangs."""
    dice, watch = Random(seed), Watch()
    refused = Figure("Python: refused by an error in words")
    accepted = Figure("Python: accepted, the same when told in words and read again")
    begun = Figure("Python: accepted, trains or says why not")
    words = Figure("command line: an exit status and no traceback")
    hangs = Figure("settings that do not hang for 10 s")
    store = Store(folder / "store", shipped=False)
    with warnings.catch_warnings(), little_memory():
        warnings.simplefilter("ignore")
        for _ in range(count):
            told = ""
            with watch:
                if dice.random() < IN_WORDS:
                    told = _summary(dice, folder, words)
                else:
                    changes = {path: _value(path, dice) for path in _some(dice)}
                    told = f"{changes!r:.300}"
                    if (experiment := _construct(changes, refused)) is not None:
                        accepted.count(_told_again(experiment), told)
                        problem = _begin(experiment, store)
                        begun.count(not problem, f"{told}: {problem}")
            hangs.count(not watch.hung, told)
    hangs.note = f"longest {watch.longest:.1f} s of the processor"
    return [refused, accepted, begun, words, hangs]


def _some(dice: Random) -> list[str]:
    return dice.sample(FIELDS, dice.choice((1, 1, 2, 3, 5)))


def _value(path: str, dice: Random) -> Any:
    likely = LIKELY.get(path.split(".")[-1], [])
    return dice.choice(likely if likely and dice.random() < 0.6 else ODD)


def _construct(changes: dict[str, Any], refused: Figure) -> Experiment | None:
    """The experiment with these fields, or None where it is refused."""
    parts: dict[str, dict[str, Any]] = {"": {}, "task": {}, "task.recipe": {}, "pruning": {}}
    parts["instability"] = {}
    for path, value in changes.items():
        owner, _, name = path.rpartition(".")
        parts[owner][name] = value
    try:
        recipe = Recipe(**parts["task.recipe"])
        return Experiment(
            task=Task(recipe=recipe, **parts["task"]),
            pruning=Pruning(**parts["pruning"]),
            instability=Instability(**parts["instability"]),
            **parts[""],
        )
    except Exception as error:
        refused.count(_is_in_words(error), f"{changes!r:.300}: {type(error).__name__}: {error}")
    return None


def _is_in_words(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or "memory" in str(error):
        return True
    named = any(re.search(rf"\b{name}\b", str(error)) for name in NAMES)
    return isinstance(error, ValueError) and named and len(str(error)) < 1_000_000


def _told_again(experiment: Experiment) -> bool:
    names: dict[str, Any] = {}
    exec(as_python(experiment), names)
    words = [f"{path}={text}" for path, text in field_texts(experiment)]
    same = names["experiment"] == experiment == with_settings(Experiment(), words)
    return same and _address(experiment) == _address(names["experiment"])


def _address(experiment: Experiment) -> str:
    try:
        return experiment.trials(0)[0].key
    except ValueError as error:  # images that are not there have none
        return str(error)


def _begin(experiment: Experiment, store: Store) -> str:
    """Run it for a moment; what is wrong with the error that it ends with."""
    deadline = time.monotonic() + MOMENT
    try:
        for _ in run(experiment, store, jobs=1):
            if time.monotonic() > deadline:
                break
    except Exception as error:
        return "" if _is_in_words(error) else f"{type(error).__name__}: {error}"
    return ""


def _summary(dice: Random, folder: Path, figure: Figure) -> str:
    """One command line; what it was."""
    words = [dice.choice(("run", "run", "export", "export", "export", "claims")), "lottery"]
    if words[0] == "export":
        words.append(str(folder / "results.zip"))
    if words[0] == "claims":
        words = ["claims", "--reference", dice.choice(("x.zip", "/dev/null", str(folder), "\0"))]
    else:
        for path in _some(dice):
            text = _value(path, dice)
            if isinstance(text, tuple):
                text = ",".join(map(str, text))
            words += ["--set", f"{path}={text}"[:3_000]]
    if dice.random() < 0.2:
        odd = [str(value) for value in ODD[:60]]
        name = dice.choice(("--jobs", "--size", "--device", "--set", "--store", "--nonsense"))
        words += [name, dice.choice([*odd, "5000", "cuda:9"])[:3_000]]
    if "--store" not in words:
        words += ["--store", str(folder / "store")]
    out, err = io.StringIO(), io.StringIO()
    told = f"labkit {' '.join(words)!r:.300}"
    try:
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            patch.object(running, "run", _run_for_a_moment),
        ):
            status: int | str = main(words)
    except Exception as error:
        status = f"{type(error).__name__}: {error}"
    said = out.getvalue() + err.getvalue()
    held = status in STATUSES and "Traceback" not in said and (status in (0, 130) or said != "")
    figure.count(held, f"{told}: {status}")
    return told


def _run_for_a_moment(*arguments: Any, **options: Any) -> Iterator[Event]:
    """A run that somebody stops by Ctrl-C, having seen that it trains."""
    deadline = time.monotonic() + MOMENT
    for event in run(*arguments, **options):
        yield event
        if time.monotonic() > deadline:
            raise KeyboardInterrupt
