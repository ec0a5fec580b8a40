"""The papers' experiments as named values, each in a quick and a reference size.

"quick" shows an effect on a laptop within minutes; "reference" is what the shipped results were
made with. Where either departs from its paper stands in the README's table of deviations.
"""

from dataclasses import replace

from labkit.checking import choice
from labkit.experiment import TREATMENTS, Experiment, Task
from labkit.pruning import Pruning
from labkit.training import Recipe

SIZES = ("quick", "reference")

# Frankle & Carbin 2019, section 2 and appendix G, with 15,000 of the paper's 50,000 iterations.
_LOTTERY = Experiment(
    task=Task(recipe=Recipe(optimizer="adam", learning_rate=1.2e-3, iterations=15_000)),
    pruning=Pruning(rate=0.2, output_rate=0.1),
    rounds=20,
    treatments=(TREATMENTS["reinitialise"],),
    draws=2,
    seeds=(0, 1, 2, 3, 4),
)
# Three rounds that reach the density of the paper's round 7, in 2,000 iterations.
_LOTTERY_QUICK = replace(
    _LOTTERY,
    task=Task(recipe=Recipe(optimizer="adam", learning_rate=1.2e-3, iterations=2_000)),
    pruning=Pruning(rate=0.4, output_rate=0.2),
    rounds=3,
    treatments=(TREATMENTS["reinitialise"], TREATMENTS["shuffled-mask"]),
    draws=1,
    seeds=(0, 1, 2),
)
PRESETS = {"lottery": {"quick": _LOTTERY_QUICK, "reference": _LOTTERY}}
NAMES = tuple(PRESETS)
PAPERS = {"lottery": ("lottery",)}  # what `labkit reproduce` takes -> the presets it runs


def preset(name: str, size: str = "quick") -> Experiment:
    """The named experiment. Raises ValueError for an unknown name or size, listing the known."""
    choice("preset", name, NAMES)
    choice("size", size, SIZES)
    return PRESETS[name][size]
