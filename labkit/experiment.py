"""One experiment, three papers: what is trained, pruned, rewound and compared.

An `Experiment` is a value; `labkit.running` runs it. It consists of trials, one for each network
that is trained, and a trial knows everything that its result depends on.

Iterative magnitude pruning (Frankle & Carbin 2019, section 2): round 0 trains the dense network;
each later round prunes what the round before has trained, rewinds the survivors to their values
at iteration `rewind`, and trains them again. That chain is always run; the other treatments of an
experiment are trained on its masks, beside it.
"""

from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from typing import Any

from labkit.checking import choice, instance, several, whole
from labkit.data import NORMALISATIONS, Data, load, validate_name
from labkit.networks import validate_network
from labkit.pruning import Pruning
from labkit.store import key_of
from labkit.training import Recipe


@dataclass(frozen=True)
class Task:
    """What is learned by what, and how: a data set, a network and a recipe.

    examples, image_size, normalisation, validation: see `labkit.data.load`.
    """

    dataset: str = "mnist"
    network: str = "lenet-300-100"
    recipe: Recipe = field(default_factory=Recipe)
    examples: int | None = None
    image_size: int | None = None
    normalisation: str = "unit"
    validation: int = 5_000

    def __post_init__(self) -> None:
        validate_name(self.dataset)
        validate_network(self.network)
        instance("task.recipe", self.recipe, Recipe)
        whole("task.examples", self.examples, 1, optional=True)
        whole("task.image_size", self.image_size, 1, optional=True)
        choice("task.normalisation", self.normalisation, NORMALISATIONS)
        whole("task.validation", self.validation, 1)

    def data(self) -> Data:
        """The task's data set, loaded."""
        return load(
            self.dataset,
            normalisation=self.normalisation,
            validation=self.validation,
            examples=self.examples,
            image_size=self.image_size,
        )


@dataclass(frozen=True)
class Treatment:
    """What is done to the survivors before they are trained again, by three independent choices.

    mask: the "ticket"'s own; "shuffled" within each layer; or "random" over the whole network.
    weights: "rewound" to iteration k; "final", kept from the training before; or "fresh" ones.
    schedule: "rewound" to k and trained to the end; "restarted" at 0; or "last": as many iterations
        as a rewound ticket gets, all at the last learning rate of the schedule.
    """

    name: str
    mask: str = "ticket"
    weights: str = "rewound"
    schedule: str = "rewound"

    def __post_init__(self) -> None:
        instance("treatment.name", self.name, str)
        choice("treatment.mask", self.mask, ("ticket", "shuffled", "random"))
        choice("treatment.weights", self.weights, ("rewound", "final", "fresh"))
        choice("treatment.schedule", self.schedule, ("rewound", "restarted", "last"))

    @property
    def drawn(self) -> bool:
        """Whether chance has a part in it, so that several draws differ."""
        return self.mask != "ticket" or self.weights == "fresh"


REWIND = Treatment("rewind")
TREATMENTS = {
    treatment.name: treatment
    for treatment in (
        REWIND,
        Treatment("fine-tune", weights="final", schedule="last"),
        Treatment("learning-rate-rewind", weights="final"),
        Treatment("reinitialise", weights="fresh", schedule="restarted"),
        Treatment("shuffled-mask", mask="shuffled"),
        Treatment("random-mask", mask="random"),
    )
}
"""Named rows of that table: Frankle & Carbin 2019 (rewind, reinitialise), Renda et al. 2020
(fine-tune, learning-rate-rewind), Frankle et al. 2020 (the two control masks)."""


@dataclass(frozen=True)
class Experiment:
    """A point in the space that the three papers share.

    rounds: rounds of pruning after the dense network. rewind: the iteration k that survivors
    return to; 0 is the initialisation. optimizer_state: what the optimizer has at k, "fresh" or
    "restored" moments. treatments: what the tickets are compared with, by name or as Treatment.
    treated_rounds: the rounds that are treated; None means all. draws: how often a treatment that
    involves chance is repeated per ticket. seeds: one independent repetition of everything each.
    evaluate_every: iterations between evaluations.
    """

    task: Task = field(default_factory=Task)
    pruning: Pruning = field(default_factory=Pruning)
    rounds: int = 7
    rewind: int = 0
    optimizer_state: str = "fresh"
    treatments: tuple[Treatment, ...] = ()
    treated_rounds: tuple[int, ...] | None = None
    draws: int = 1
    seeds: tuple[int, ...] = (0, 1, 2)
    evaluate_every: int = 100

    def __post_init__(self) -> None:
        instance("task", self.task, Task)
        instance("pruning", self.pruning, Pruning)
        whole("rounds", self.rounds, 0, 100)
        whole("rewind", self.rewind, 0, self.task.recipe.iterations - 1)
        choice("optimizer_state", self.optimizer_state, ("fresh", "restored"))
        whole("draws", self.draws, 1, 100)
        whole("evaluate_every", self.evaluate_every, 1)
        object.__setattr__(self, "seeds", several("seeds", self.seeds))
        for seed in self.seeds:
            whole("seeds", seed, 0, 2**31 - 1)
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds must be one or more different numbers, not {self.seeds}")
        if self.treated_rounds is not None:
            rounds = several("treated_rounds", self.treated_rounds)
            object.__setattr__(self, "treated_rounds", rounds)
            for number in rounds:
                whole("treated_rounds", number, 1, max(1, self.rounds))
        treatments = []
        given = several("treatments", self.treatments)  # names are allowed, and looked up here
        for treatment in given:
            if not isinstance(treatment, Treatment):
                choice("treatments", treatment, TREATMENTS)
                treatment = TREATMENTS[treatment]
            if treatment != REWIND:  # the chain itself is always run
                treatments.append(treatment)
        object.__setattr__(self, "treatments", tuple(treatments))
        names = [treatment.name for treatment in treatments]
        if len(set(names) - {"dense", REWIND.name}) < len(names):
            raise ValueError(
                f"treatments must have different names, none of them dense or {REWIND.name}, not "
                + ", ".join(map(str, names))
            )

    def trials(self, round_number: int) -> list["Trial"]:
        """The networks of one round: the chain of every seed first, then the treatments."""
        chain = [Trial(self, seed, round_number, REWIND) for seed in self.seeds]
        treated = round_number > 0 and (
            self.treated_rounds is None or round_number in self.treated_rounds
        )
        if not treated:
            return chain
        return chain + [
            Trial(self, seed, round_number, treatment, draw)
            for treatment in self.treatments
            for seed in self.seeds
            for draw in range(self.draws if treatment.drawn else 1)
        ]


def settings(value: Any) -> dict[str, Any]:
    """The fields of a dataclass that differ from their defaults, dataclasses inside likewise.

    This is what results are addressed by, so a field that is added later, with a default that
    means what was done before, leaves the addresses of all results as they are.
    """
    found = {}
    for item in fields(value):
        own = getattr(value, item.name)
        if is_dataclass(own):
            if inner := settings(own):
                found[item.name] = inner
        elif item.default is MISSING or own != item.default:
            found[item.name] = own
    return found


@dataclass(frozen=True)
class Trial:
    """One network to be trained, a member of an experiment."""

    experiment: Experiment
    seed: int
    round: int
    treatment: Treatment
    draw: int = 0

    @property
    def label(self) -> str:
        """What it is called in the tables: "dense" in round 0, else the treatment's name."""
        return self.treatment.name if self.round else "dense"

    @property
    def start(self) -> int:
        """The iteration of the schedule and the data order at which its training starts."""
        restarted = self.round == 0 or self.treatment.schedule == "restarted"
        return 0 if restarted else self.experiment.rewind

    def lineage(self) -> dict[str, Any]:
        """All that determines the result, and nothing else."""
        e = self.experiment
        lineage = {"task": settings(e.task), "seed": self.seed, "every": e.evaluate_every}
        if self.round:
            chain = {"pruning": settings(e.pruning), "rewind": e.rewind, "round": self.round}
            choices = {k: v for k, v in settings(self.treatment).items() if k != "name"}
            lineage |= {**chain, "optimizer_state": e.optimizer_state, **choices, "draw": self.draw}
        return lineage

    @property
    def key(self) -> str:
        """Its address in the store."""
        return key_of(self.lineage())

    @property
    def rewind_key(self) -> str:
        """The address of the dense network's state at the rewind iteration."""
        e = self.experiment
        return key_of({"task": settings(e.task), "seed": self.seed, "at": e.rewind})

    @property
    def parent(self) -> "Trial":
        """The trial of the chain whose trained weights are pruned to make this one's mask."""
        return Trial(self.experiment, self.seed, self.round - 1, REWIND)
