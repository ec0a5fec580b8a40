"""The Lottery Ticket Lab: three papers on pruning, reproduced live.

from labkit import preset, run, tables, Store
experiment, store = preset("lottery"), Store()
for event in run(experiment, store): ...
tables(experiment, store).tickets
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from labkit.machine import limit_threads

if TYPE_CHECKING:
    from labkit.data import Data, DataError, Split, load
    from labkit.experiment import TREATMENTS, Experiment, Task, Treatment
    from labkit.networks import Population, build, stack
    from labkit.panel import Panel
    from labkit.presets import preset
    from labkit.pruning import (
        Pruning,
        apply_masks,
        density,
        flops,
        full_masks,
        prune,
        random_masks,
        remove_lowest,
        shuffle_layers,
    )
    from labkit.results import Tables, tables
    from labkit.running import Evaluated, Finished, Progress, run
    from labkit.store import Store, StoreError
    from labkit.training import Recipe, evaluate_on, generator, train

__version__ = "0.1.0"
__all__ = [
    "TREATMENTS",
    "Data",
    "DataError",
    "Evaluated",
    "Experiment",
    "Finished",
    "Panel",
    "Population",
    "Progress",
    "Pruning",
    "Recipe",
    "Split",
    "Store",
    "StoreError",
    "Tables",
    "Task",
    "Treatment",
    "apply_masks",
    "build",
    "density",
    "evaluate_on",
    "flops",
    "full_masks",
    "generator",
    "load",
    "preset",
    "prune",
    "random_masks",
    "remove_lowest",
    "run",
    "shuffle_layers",
    "stack",
    "tables",
    "train",
]
_HOMES = (
    "data",
    "experiment",
    "networks",
    "presets",
    "pruning",
    "results",
    "running",
    "store",
    "training",
    "panel",
)

limit_threads()

if not TYPE_CHECKING:  # which knows the names better

    def __getattr__(name: str) -> Any:
        # The engine is imported when first asked for: torch takes seconds, `labkit --help` none.
        if name in __all__:
            for home in _HOMES:
                module = import_module(f"labkit.{home}")
                if hasattr(module, name):
                    return getattr(module, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
