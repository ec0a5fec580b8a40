"""Strays: results that started from another training of a network than the one stored beside them.

Training may be chaotic, so that a network which is trained again in other company, or on another
machine, ends somewhere else under the same key. What was pruned from its first training is then no
ticket of its second. Hence every result says how large its weights are in sum, and how large those
were that it started from.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from labkit.base.store import Store
from labkit.engine.networks import State
from labkit.experiments.experiment import Trial

# Relative difference of two norms up to which they are of one training. Alone or in company of
# another, LeNet-300-100 ends with one that differs by 1e-9 (600 iterations), ResNet-8 with 8
# channels and VGG-small by 1e-4 after 50 and by 3e-3 after 200.
SAME = 1e-6

Results = Mapping[str, dict[str, Any] | None]


def norm_of(weights: State, replica: int = 0) -> float:
    """The sum of the sizes of all weights of a replica; weights: name -> (R, ...)."""
    return sum(t[replica].double().abs().sum().item() for t in weights.values() if t.ndim)


def parents_of(trial: Trial, store: Store) -> dict[str, float]:
    """The networks that a trial starts from, or compares: key -> norm of their trained weights."""
    return {need.key: norm_of(store.get_tensors(need.key)["final"]) for need in trial.needs}


def strays(trials: Iterable[Trial], results: Results) -> set[str]:
    """The keys of strays, and of what was started from them. trials: each after those that it
    needs. Results from before norms were told are none.
    """
    found: set[str] = set()
    for trial in trials:
        told = (results.get(trial.key) or {}).get("parents", {})
        for key, norm in told.items():
            now = (results.get(key) or {}).get("norm")
            if key in found or (now is not None and not _same(norm, now)):
                found.add(trial.key)
    return found


def _same(one: float, other: float) -> bool:
    if math.isfinite(one) and math.isfinite(other):
        return math.isclose(one, other, rel_tol=SAME)
    return math.isfinite(one) == math.isfinite(other)  # both diverged
