"""The tables of an experiment: what the store and the shipped results have of it, in long form."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import pandas as pd

from labkit.base.store import Store, key_of
from labkit.engine.data import TRAINING_IMAGES
from labkit.experiments.experiment import Experiment, Study, all_trials
from labkit.experiments.mishaps import UNKNOWN, collapsed
from labkit.experiments.proof import CURVE, result_of
from labkit.experiments.strays import strays
from labkit.experiments.task import Task, settings
from labkit.experiments.treatments import REWIND

# What tells apart the networks of a study, beside its seeds, rounds and treatments.
SETTINGS = (
    *("dataset", "network", "optimizer", "learning_rate", "length"),
    *("kind", "criterion", "scope", "cut", "rewind", "between", "at"),
)


@dataclass
class Tables:
    """Results. tickets: a row per trained network; curves: a row per evaluation; paths: a row per
    alpha on the line between two copies of a network.

    Accuracies and errors are in [0, 1], losses mean cross-entropies. `length` is how many
    iterations the dense network trains for, `epochs` the same in passes over its `images`, those
    that it is trained on,
    `share` the rewind iteration as a share of it, `iterations` how many the network itself trained
    for; `cut` is the rate of pruning per round, the highest where layers have their own; `between`
    is what the chain does between rounds, and `at` the iteration at which all masks are drawn, or
    "end": each after the round before; `drawn` is the same as a share of the training.
    `task` and `chain` are digests of the settings of a task, and of all that decides a chain of
    tickets but its seed: arms are compared within a chain.
    `early_stop` is the iteration of minimum validation loss, `test_accuracy` is read there, and
    `final_test_accuracy` after the last iteration; `censored` says that the minimum was the last
    evaluation, so training was too short to see it. `instability` is the mean over pairs of copies
    (test error; `train_instability`: training error), missing where it was not analysed.
    `diverged`, `empty_layers`, `one_class` and `collapsed` are told by
    `labkit.experiments.mishaps`, `stray` by `labkit.experiments.strays`; results from before have
    the fourth alone. All three tables have them, of the network.
    """

    tickets: pd.DataFrame
    curves: pd.DataFrame
    paths: pd.DataFrame


def tables(study: Study, store: Store) -> Tables:
    """What the store and the shipped results have of a study; rows may be missing.

    study: an experiment, or several, one after the other in the tables; columns say how they
    differ.
    """
    parts = [_tables(experiment, store) for experiment in study]
    tickets, curves, paths = (_joined(same) for same in zip(*parts, strict=True))
    for name in ("instability", "train_instability"):
        if len(tickets) and name not in tickets:
            tickets[name] = float("nan")
    return Tables(tickets, curves, paths)


def _joined(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    some = [part for part in parts if len(part)]
    return pd.concat(some, ignore_index=True) if some else pd.DataFrame()


def _tables(e: Experiment, store: Store) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    tickets: dict[tuple[Any, ...], dict[str, Any]] = {}
    curves: list[dict[str, Any]] = []
    paths: list[dict[str, Any]] = []
    trials = list(all_trials(e))
    results = {trial.key: result_of(trial, store) for trial in trials}
    astray = strays(trials, results)
    for trial in trials:
        result = results[trial.key]
        if result is None:
            continue
        label = _settings(e) | {
            "seed": trial.seed,
            "round": trial.round,
            "treatment": trial.label,
            "draw": trial.draw,
        }
        row = tuple(label.values())
        if trial.analysis:
            found = {name: result[name] for name in ("instability", "train_instability")}
            if row in tickets:
                tickets[row] |= found
                tickets[row]["stray"] |= trial.key in astray
                label["density"] = tickets[row]["density"]
                label |= {name: tickets[row][name] for name in UNKNOWN}
            label["statistics"] = e.instability.statistics
            paths += [{**label, **path} for path in result["paths"]]
        else:
            steps = result["curve"]["iteration"]
            label |= {"iterations": steps[-1] - trial.start, "density": result["ticket"]["density"]}
            ticket = result["ticket"]
            tickets[row] = {**label, **UNKNOWN, **ticket, "stray": trial.key in astray}
            tickets[row]["collapsed"] = collapsed(ticket)
            label |= {name: tickets[row][name] for name in UNKNOWN}
            curves.append({**label, **{name: result["curve"][name] for name in CURVE}})
    return pd.DataFrame(list(tickets.values())), _spread(curves), _spread(paths)


def _spread(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """A table in which a row with lists is as many rows as these are long."""
    table = pd.DataFrame(rows)
    lists = [name for name, value in (rows[0] if rows else {}).items() if isinstance(value, list)]
    return table.explode(lists, ignore_index=True).infer_objects() if lists else table


@lru_cache(maxsize=256)
def _settings(e: Experiment) -> dict[str, Any]:
    """The columns that all networks of an experiment share."""
    recipe = e.task.recipe
    images = _training_images(e.task)
    chain = {"task": settings(e.task), "pruning": settings(e.pruning), "rewind": e.rewind}
    if e.link != REWIND:
        chain["between"] = e.chain
    return {
        "dataset": e.task.dataset,
        "network": e.task.network,
        "family": e.task.network.partition("-")[0],
        "optimizer": recipe.optimizer,
        "learning_rate": recipe.learning_rate,
        "warmup": recipe.warmup,
        "length": recipe.iterations,
        "epochs": recipe.iterations * recipe.batch_size / images,
        "images": images,
        "kind": e.pruning.kind,
        "criterion": e.pruning.criterion,
        "scope": e.pruning.scope,
        "cut": max(e.pruning.layer_rates, default=e.pruning.rate),
        "rewind": e.rewind,
        "between": e.chain,
        "at": "end" if e.pruning.at is None else str(e.pruning.at),
        "drawn": 1.0 if e.pruning.at is None else e.pruning.at / recipe.iterations,
        "share": e.rewind / recipe.iterations,
        "task": key_of(settings(e.task))[:8],
        "chain": key_of(chain | {"optimizer_state": e.optimizer_state})[:8],
    }


def _training_images(task: Task) -> float:
    """How many images an epoch has; nan where that would have to be read from a disk."""
    if task.examples is not None:
        return task.examples
    return TRAINING_IMAGES.get(task.dataset, math.nan) - task.validation
