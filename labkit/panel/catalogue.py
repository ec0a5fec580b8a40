"""The experiments that a panel can start from, and the results that it can compare with."""

from collections import Counter
from functools import lru_cache

from labkit.base.store import Store
from labkit.engine.pruning import Pruning
from labkit.engine.training import Recipe
from labkit.experiments.experiment import Experiment, Task, all_trials
from labkit.experiments.presets import NAMES, PRESETS, study
from labkit.panel.readings import Readings

PLAYGROUND = "playground"
# A convolutional network and a data set small enough to answer a question within a minute of one
# processor core: smaller than any paper's.
_PLAYGROUND = Experiment(
    task=Task(
        dataset="mnist",
        network="vgg-small",
        image_size=16,
        examples=5_000,
        validation=1_000,
        recipe=Recipe(
            optimizer="sgd",
            learning_rate=0.05,
            momentum=0.9,
            batch_size=32,
            iterations=300,
            milestones=(0.7,),
        ),
    ),
    pruning=Pruning(rate=0.553),  # to 20% density in two rounds
    rounds=2,
    treatments=("reinitialise",),  # type: ignore[arg-type]  # names are looked up
    treated_rounds=(2,),
    seeds=(0,),
    evaluate_every=100,
)
STARTS = (PLAYGROUND, *NAMES)


def members(name: str, size: str) -> tuple[Experiment, ...]:
    """The experiments of a preset, or the playground's one, which has a single size.

    Raises ValueError for an unknown name or size.
    """
    return (_PLAYGROUND,) if name == PLAYGROUND else study(name, size)


def home_of(keys: list[str]) -> str:
    """The name and size of the preset that has most of these results, or nothing."""
    found = Counter(home for key in keys for home in _homes().get(key, ()))
    return found.most_common(1)[0][0] if found else ""


class References:
    """Results in a store, or shipped, to draw behind one's own."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._known: dict[Experiment, Readings] = {}

    def behind(self, own: Experiment) -> tuple[str, Readings | None]:
        """Results of the same data set and network in reference size, if possible with the same
        kind of pruning, and the name of their preset; "" and None where there are none.
        """
        task = own.task
        near = [
            (name, e)
            for name, e in _catalogue()
            if (e.task.dataset, e.task.network) == (task.dataset, task.network)
            and e != own
            and e.rounds
            and "quick" not in name
        ]
        for name, experiment in sorted(
            near, key=lambda one: one[1].pruning.kind != own.pruning.kind
        ):
            if experiment not in self._known:
                self._known[experiment] = Readings(experiment, self.store)
            if self._known[experiment].results:
                return name, self._known[experiment]
        return "", None

    def forget(self) -> None:
        """Look into the store again: there are new results in it."""
        self._known.clear()


@lru_cache(maxsize=1)
def _catalogue() -> tuple[tuple[str, Experiment], ...]:
    """All experiments with the names of their presets and sizes."""
    found = [(PLAYGROUND, _PLAYGROUND)]
    for name in NAMES:
        for size, several in PRESETS[name].items():
            found += [(f"{name} ({size})", experiment) for experiment in several]
    return tuple(found)


@lru_cache(maxsize=1)
def _homes() -> dict[str, tuple[str, ...]]:
    """From the key of a result to the presets that have it."""
    homes: dict[str, tuple[str, ...]] = {}
    for name, experiment in _catalogue():
        for trial in all_trials(experiment):
            homes[trial.key] = (*homes.get(trial.key, ()), name)
    return homes
