"""The papers' experiments as named values, each in a quick and a reference size.

"quick" shows the effect on a laptop within minutes; "reference" is what the shipped results were
made with. How both differ from the paper is in the README's table of deviations.
"""

from dataclasses import dataclass, replace

from labkit.checking import choice
from labkit.experiment import Experiment, Task
from labkit.pruning import Pruning
from labkit.training import Recipe

SIZES = ("quick", "reference")

# Frankle & Carbin 2019, section 2 and appendix G, with 15,000 of the paper's 50,000 iterations.
LOTTERY = Experiment(
    task=Task(recipe=Recipe(optimizer="adam", learning_rate=1.2e-3, batch_size=60, iterations=15_000)),
    pruning=Pruning(rate=0.2, output_rate=0.1),
    rounds=20,
    treatments=("reinitialise",),
    draws=2,
    seeds=(0, 1, 2, 3, 4),
)
