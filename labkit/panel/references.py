"""The experiments that a panel can start from, and the stored results that it can show for them."""

import math
from dataclasses import replace
from functools import lru_cache

from labkit.base.store import Store
from labkit.engine.connectivity import Instability
from labkit.engine.pruning import Pruning
from labkit.engine.training import Recipe
from labkit.experiments.experiment import Experiment, all_trials
from labkit.experiments.presets import NAMES, PRESETS, study
from labkit.experiments.proof import result_of
from labkit.experiments.task import Task
from labkit.experiments.words import field_texts
from labkit.panel.live_results import LiveResults

PLAYGROUND = "playground"
_SEEN = "played"  # the size whose results are shipped
# LeNet on MNIST in 600 steps: a network takes about a second of one processor core, and the whole
# answer a quarter of a minute. The recipe is that of the preset new-weights.
_PLAYGROUND = Experiment(
    task=Task(
        recipe=Recipe("sgd", 0.1, momentum=0.9, iterations=600, milestones=(0.7, 0.9)),
        normalisation="standard",
    ),
    pruning=Pruning(scope="global", rate=0.5),
    rounds=5,
    treatments=("reinitialise", "random-mask"),  # type: ignore[arg-type]  # names are looked up
    seeds=(0,),
    evaluate_every=50,
)
_PLAYED = replace(_PLAYGROUND, seeds=(100, 101, 102))
_NEURONS = Pruning(kind="structured", rate=0.4)
PLAYED = (  # its own answers, with other seeds: what data/results/playground-played.zip holds
    _PLAYED,
    replace(_PLAYED, rewind=60),
    replace(_PLAYED, pruning=_NEURONS, treatments=_PLAYED.treatments[:1]),
)
STARTS = (PLAYGROUND, *NAMES)
TITLES = {
    PLAYGROUND: "Playground: LeNet on digits, in seconds",
    "lottery": "Lottery tickets (lesson 02)",
    "rethinking-structured": "Filters: train anew or fine-tune? (lesson 03)",
    "rethinking-slimming": "Channels by network slimming (lesson 03)",
    "rethinking-unstructured": "Single weights: train anew or fine-tune? (lesson 03)",
    "rethinking-learning-rate": "First weights and learning rate (lesson 03)",
    "stability-dense": "Is training stable? (lesson 04)",
    "stability-imp": "Rewinding to a later iteration (lesson 05)",
    "reconciliation": "Where three papers stand (lesson 05)",
    "new-weights": "New weights: rate, length, sparsity (lesson 05)",
}
SIZE_WORDS = {"quick": "quick: minutes", "reference": "reference: hours"}
_OPENS = {"stability-imp": 1}  # the member of a quick study that asks its lesson's question
_ANSWERS = {"stability-imp": 1}  # the member of a reference that answers it
_COSTS = {  # how much it matters that a reference differs in a setting
    "task.dataset": 200.0, "task.network": 100.0, "pruning.kind": 30.0, "rounds": 1.0,
    "task.recipe.optimizer": 15.0, "chain": 10.0, "pruning.at": 10.0, "pruning.criterion": 5.0,
    "pruning.scope": 2.0, "treatments": 1.0, "pruning.rate": 1.0,
}  # fmt: skip


def members(name: str, size: str) -> tuple[Experiment, ...]:
    """The experiments of a preset, or the playground's one, which has a single size.

    Raises ValueError for an unknown name or size.
    """
    return (_PLAYGROUND,) if name == PLAYGROUND else study(name, size)


def opening(name: str, size: str) -> int:
    """The member of a study that a panel opens on."""
    return _OPENS.get(name, 0) if size == "quick" else 0


def rewound_to_0(experiment: Experiment) -> Experiment | None:
    """The same tickets rewound to 0, to compare a later iteration with; None without."""
    if not (experiment.rewind and experiment.rounds):
        return None
    return replace(experiment, rewind=0, treatments=(), instability=Instability())


def home_of(experiment: Experiment) -> str:
    """The name and size of a preset that has this task and pruning, or nothing."""
    for name, size, member in all_members():
        if member.task == experiment.task and (
            member.pruning == experiment.pruning or not member.rounds
        ):
            return f"{name} ({size})"
    return ""


@lru_cache(maxsize=1)
def all_members() -> tuple[tuple[str, str, Experiment], ...]:
    """All experiments with the names and sizes of their presets."""
    found = [(PLAYGROUND, "quick", _PLAYGROUND)]
    found += [(PLAYGROUND, _SEEN, e) for e in PLAYED]
    return tuple(
        found
        + [(name, size, e) for name in NAMES for size in PRESETS[name] for e in PRESETS[name][size]]
    )


class References:
    """Results in a store, or shipped, to show where one's own are lacking, and behind them."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._known: dict[Experiment, LiveResults] = {}

    def read(self, experiment: Experiment) -> LiveResults:
        """The results of an experiment, read once."""
        if experiment not in self._known:
            self._known[experiment] = LiveResults(experiment, self.store)
        return self._known[experiment]

    def nearest(self, own: Experiment, home: str = "") -> LiveResults | None:
        """The stored results of the experiment most like one's own; None where nothing is stored.

        home: the preset of a lesson, of which an unchanged setting is shown the reference, even
        where that is of another network.
        """
        at_home = home if own in members_of(home) else ""
        if at_home in _ANSWERS and own == members(home, "quick")[opening(home, "quick")]:
            return self.read(members(home, "reference")[_ANSWERS[home]])
        ranked = sorted(
            (_distance(own, e) - (1_000 if name == at_home else 0), number)
            for number, (name, size, e) in enumerate(all_members())
            if size != "quick" and e != own
        )
        for _, number in ranked:
            e = all_members()[number][2]
            if self._begun(e):
                return self.read(e)
        return None

    def forget(self) -> None:
        """Look into the store again: there are new results in it."""
        self._known.clear()

    def _begun(self, e: Experiment) -> bool:
        one = replace(e, seeds=e.seeds[:1], draws=1)
        return result_of(all_trials(one)[-1], self.store) is not None


def members_of(name: str) -> tuple[Experiment, ...]:
    """All experiments of a preset, of every size; none without a name."""
    return tuple(e for home, _, e in all_members() if home == name)


def _distance(own: Experiment, other: Experiment) -> float:
    mine, theirs = _told(own), _told(other)
    found = sum(cost for path, cost in _COSTS.items() if mine[path] != theirs[path])
    for path, cost in (("task.recipe.learning_rate", 6), ("task.recipe.iterations", 3)):
        found += cost * abs(math.log10(float(mine[path]) / float(theirs[path])))
    one, two = (e.rewind / e.task.recipe.iterations for e in (own, other))
    found += 8 * ((one > 0) != (two > 0)) + 4 * abs(one - two)
    found += 25 * ((own.rounds > 0) != (other.rounds > 0))
    return found + 8 * ((own.instability.copies > 0) != (other.instability.copies > 0))


@lru_cache(maxsize=1024)
def _told(e: Experiment) -> dict[str, str]:
    return dict(field_texts(e))
