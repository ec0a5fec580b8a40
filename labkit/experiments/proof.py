"""Proof that a stored result is the answer to its key.

A result tells all settings of its trial, and these make the key again: so one that is old, shipped,
renamed or forged proves itself by what is in it, whoever wrote it.
"""

from collections.abc import Sequence
from typing import Any

from labkit.base.store import Store
from labkit.engine.connectivity import Instability
from labkit.engine.pruning import Pruning
from labkit.engine.training import Recipe
from labkit.experiments.experiment import Experiment, Trial
from labkit.experiments.mishaps import UNKNOWN
from labkit.experiments.task import Task
from labkit.experiments.treatments import REWIND, Treatment

# What every result has that is read; some have more.
CURVE = ("iteration", "validation_loss", "validation_accuracy")
PATH = ("alpha", "train_error", "test_error")
_TICKET = ("density", "early_stop", "test_accuracy", "final_test_accuracy")


def result_of(trial: Trial, store: Store) -> dict[str, Any] | None:
    """What a store, or the shipped results, have of a trial; None where that is nothing usable.

    A result in the store that is another's, or lacks a part, is set aside with a warning.
    """
    result = store.get(trial.key)
    if result is None or proves(result, trial.key):
        return result
    store.set_aside(f"{trial.key}.json")
    return None


def proves(result: dict[str, Any], key: str) -> bool:
    """Whether a result has all its parts, and is that of the trial with this key."""
    try:
        trial = _told(result["trial"])
        return trial.key == key and (_analysed(result) if trial.analysis else _trained(result))
    except (AttributeError, KeyError, TypeError, ValueError):  # whatever else stands there
        return False


def _trained(result: dict[str, Any]) -> bool:
    ticket = UNKNOWN | result["ticket"]  # whether it diverged is told since later
    measured = _numbers(ticket, (*_TICKET, *UNKNOWN))
    return measured and _columns(result["curve"], CURVE) and _by(result)


def _analysed(result: dict[str, Any]) -> bool:
    measured = _numbers(result, ("instability", "train_instability"))
    return measured and all(_columns(path, PATH) for path in result["paths"]) and _by(result)


def _numbers(part: dict[str, Any], names: Sequence[str]) -> bool:
    return all(isinstance(part[name], int | float) for name in names)


def _columns(part: dict[str, Any], names: Sequence[str]) -> bool:
    """Whether these are lists of one length, and not empty."""
    columns = [part[name] for name in names]
    lists = all(isinstance(column, list) for column in columns)
    return lists and len(set(map(len, columns))) == 1 and len(columns[0]) > 0


def _by(result: dict[str, Any]) -> bool:
    """Whether it tells how it was made; a company of three words for each member, where it has."""
    return all(len(member) == 3 for member in result["provenance"].get("company", ()))


def _told(described: dict[str, Any]) -> Trial:
    """The trial that `Trial.describe` described; what it says nothing of has its default."""
    task, analysis = described["task"], "instability" in described
    experiment = Experiment(
        task=Task(**{**task, "recipe": Recipe(**task["recipe"])}),
        pruning=Pruning(**described.get("pruning", {})),
        rounds=described["round"],
        rewind=described.get("rewind", 0),
        optimizer_state=described.get("optimizer_state", "fresh"),
        seeds=(described["seed"],),
        evaluate_every=described["evaluate_every"],
        instability=Instability(**described.get("instability", {})),
        chain=described.get("chain", REWIND.name),
    )
    treatment = Treatment(**described["choices"]) if "choices" in described else REWIND
    own = described["seed"], described["round"], treatment, described["draw"]
    return Trial(experiment, *own, analysis=analysis)
