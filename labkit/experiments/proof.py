"""Proof that a stored result is the answer to its key.

A result tells all settings of its trial, and these make the key again: so one that is old, shipped,
renamed or forged proves itself by what is in it, whoever wrote it.
"""

from typing import Any

from labkit.base.store import Store
from labkit.engine.connectivity import Instability
from labkit.engine.pruning import Pruning
from labkit.engine.training import Recipe
from labkit.experiments.experiment import REWIND, Experiment, Task, Treatment, Trial

_TRAINED = {"trial", "provenance", "ticket", "curve"}
_ANALYSED = {"trial", "provenance", "instability", "train_instability", "paths"}


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
        return trial.key == key and result.keys() >= (_ANALYSED if trial.analysis else _TRAINED)
    except (AttributeError, KeyError, TypeError, ValueError):  # whatever else stands there
        return False


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
