"""Mishaps: what goes wrong in training without an error, told with the result.

A network may diverge, collapse, lose all weights of a layer to pruning, or answer every image
alike. Its accuracy looks like any other, so the stored ticket, the tables and whoever follows a run
say so.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from labkit.engine.networks import Masks, State

if TYPE_CHECKING:
    import pandas as pd

# As a result reads from before mishaps were told.
UNKNOWN: dict[str, Any] = {
    "diverged": False,
    "empty_layers": 0,
    "one_class": False,
    # No stored ticket has the rest: told by `collapsed`, and by `labkit.experiments.strays`.
    "collapsed": False,
    "stray": False,
}


def mishaps(
    i: int, losses: Iterable[Tensor], weights: State, masks: Masks, answers: Tensor
) -> dict[str, Any]:
    """What befell replica i; all tensors are (R, ...).

    losses: at each evaluation; weights: after the last iteration; answers: how many of the classes
    it gives to test images. Gives `diverged`, whether a loss or a weight is not finite;
    `empty_layers`, how many layers have no weight left; `one_class`, whether all answers are one.
    """
    numbers = [*losses, *(tensor for tensor in weights.values() if tensor.ndim)]
    return {
        "diverged": not all(bool(tensor[i].isfinite().all()) for tensor in numbers),
        "empty_layers": sum(not mask[i].any() for mask in masks.values()),
        "one_class": int(answers[i]) == 1,
    }


def collapsed(ticket: Mapping[str, Any]) -> bool:
    """Whether a stored ticket lost more than half of the accuracy that it had at its early stop."""
    return ticket["final_test_accuracy"] < ticket["test_accuracy"] / 2


def in_words(ticket: Mapping[str, Any]) -> str:
    """The mishaps of a row of the tables, or nothing; of a stored ticket those that it tells."""
    ticket = {**UNKNOWN, **ticket}
    empty = ticket["empty_layers"]
    words = ["diverged: losses or weights are not finite"] if ticket["diverged"] else []
    if empty:
        words.append(f"{empty} layer{'s' if empty > 1 else ''} without any weight left")
    if ticket["one_class"] and not ticket["diverged"]:
        words.append("gives all test images one answer")
    if ticket["collapsed"]:
        words.append("lost more than half of the accuracy while training")
    if ticket["stray"]:
        words.append("started from another training of its parent than the one stored")
    return ", ".join(words)


def told(table: "pd.DataFrame") -> list[str]:
    """What befell the networks of a table of `labkit.tables`, and how many of them, in words."""
    known = [name for name in UNKNOWN if name in table]
    if not known or table.empty:
        return []
    names = ["task", "chain", "seed", "round", "treatment", "draw"]
    if {"chain", "round"} <= set(table):  # chains share their dense networks
        table = table.assign(chain=table["chain"].where(table["round"] > 0, ""))
    networks = table.drop_duplicates([name for name in names if name in table])
    befell = Counter(map(in_words, networks[known].to_dict("records")))
    return [
        f"{befell[words]} of {len(networks)} networks: {words}"
        for words in sorted(befell.keys() - {""})
    ]
