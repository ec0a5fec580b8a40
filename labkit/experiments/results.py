"""The tables of an experiment: what the store and the shipped results have of it, in long form."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from labkit.base.store import Store
from labkit.engine.connectivity import STABLE
from labkit.experiments.experiment import Experiment, Study, all_trials

# What tells apart the networks of a study, beside its seeds, rounds and treatments.
SETTINGS = ("dataset", "network", "learning_rate", "kind", "criterion", "scope", "rewind")
_CURVE = ("iteration", "validation_loss", "validation_accuracy")  # some results have more
MATCHING = 0.002  # below the dense accuracy that still matches it (Frankle et al. 2020, section 4)


@dataclass
class Tables:
    """Results. tickets: a row per trained network; curves: a row per evaluation; paths: a row per
    alpha on the line between two copies of a network.

    Accuracies and errors are in [0, 1], losses mean cross-entropies. `early_stop` is the iteration
    of minimum validation loss, `test_accuracy` is read there, and `final_test_accuracy` after the
    last iteration; `censored` says that the minimum was the last evaluation, so training was too
    short to see it. `matching` says that `final_test_accuracy` is within one standard deviation of
    the dense networks' mean over seeds, or within 0.2 points of it. `instability` is the mean over
    pairs of copies (test error; `train_instability`: training error), `stable` that it is below 2
    points; all three are missing where it was not analysed.
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
    return Tables(_with_verdicts(tickets), curves, paths)


def _joined(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    some = [part for part in parts if len(part)]
    return pd.concat(some, ignore_index=True) if some else pd.DataFrame()


def _tables(e: Experiment, store: Store) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    tickets: dict[tuple[Any, ...], dict[str, Any]] = {}
    curves: list[dict[str, Any]] = []
    paths: list[dict[str, Any]] = []
    for trial in all_trials(e):
        result = store.get(trial.key)
        if result is None:
            continue
        label: dict[str, Any] = {
            "dataset": e.task.dataset,
            "network": e.task.network,
            "learning_rate": e.task.recipe.learning_rate,
            "kind": e.pruning.kind,
            "criterion": e.pruning.criterion,
            "scope": e.pruning.scope,
            "rewind": e.rewind,
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
                label["density"] = tickets[row]["density"]
            label["statistics"] = e.instability.statistics
            paths += [{**label, **path} for path in result["paths"]]
        else:
            steps = result["curve"]["iteration"]
            label |= {"iterations": steps[-1] - trial.start, "density": result["ticket"]["density"]}
            tickets[row] = {**label, **result["ticket"]}
            curves.append({**label, **{name: result["curve"][name] for name in _CURVE}})
    return pd.DataFrame(list(tickets.values())), _spread(curves), _spread(paths)


def _spread(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """A table in which a row with lists is as many rows as these are long."""
    table = pd.DataFrame(rows)
    lists = [name for name, value in (rows[0] if rows else {}).items() if isinstance(value, list)]
    return table.explode(lists, ignore_index=True).infer_objects() if lists else table


def _with_verdicts(tickets: pd.DataFrame) -> pd.DataFrame:
    """The columns `matching` and `stable`, among networks of the same settings."""
    if tickets.empty:
        return tickets
    for name in ("instability", "train_instability"):
        if name not in tickets:
            tickets[name] = float("nan")
    known = tickets["instability"].notna()
    tickets["stable"] = tickets["instability"].lt(STABLE).astype(object).where(known, None)
    tickets["matching"] = False
    for _, alike in tickets.groupby(list(SETTINGS)):
        dense = alike[alike["round"] == 0].drop_duplicates("seed")["final_test_accuracy"]
        spread = float(dense.std(ddof=1)) if len(dense) > 1 else 0.0
        least = dense.mean() - max(MATCHING, spread)
        tickets.loc[alike.index, "matching"] = alike["final_test_accuracy"] >= least
    return tickets
