"""One experiment, three papers: what is trained, pruned, rewound and compared.

An `Experiment` is a value; `labkit.run` runs it. It consists of trials, one for each network that
is trained, and a trial knows everything that its result depends on.

Iterative magnitude pruning (Frankle & Carbin 2019, section 2): round 0 trains the dense network;
each later round prunes what the round before has trained, rewinds the survivors to their values
at iteration `rewind`, and trains them again. That chain is always run; the other treatments of an
experiment are trained on its masks, beside it. Two settings make it another: `chain`, what is done
between the rounds, and `Pruning.at`, the moment at which the masks are drawn.
"""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from typing import Any, TypeAlias

from labkit.base.store import key_of
from labkit.base.validation import choice, instance, keep, several, whole
from labkit.engine.connectivity import Instability
from labkit.engine.networks import outline
from labkit.engine.pruning import Pruning, removed
from labkit.engine.training import MOST_ITERATIONS, Recipe
from labkit.experiments.task import Task, settings
from labkit.experiments.treatments import (
    CHAINS,
    MOST_EPOCHS,
    REWIND,
    TREATMENTS,
    Treatment,
)

MOST_EVALUATIONS = 100_000  # of a network: all are kept
MOST_NETWORKS = 20_000  # of an experiment, ten times the largest here: all are looked up


@lru_cache(maxsize=64)
def _widths(network: str) -> tuple[tuple[str, int, bool], ...]:
    """The layers that have units to lose: name, number of units, whether normalised."""
    population = outline(network)
    widths = population.widths()
    return tuple((u.layer, widths[u.layer], u.norm is not None) for u in population.units())


@dataclass(frozen=True)
class Experiment:
    """A point in the space that the three papers share.

    rounds: rounds of pruning after the dense network. rewind: the iteration k that survivors
    return to; 0 is the initialisation. optimizer_state: what the optimizer has at k, "fresh" or
    "restored" moments. treatments: what the tickets are compared with, by name or as Treatment.
    treated_rounds: the rounds that are treated; None means all. draws: how often a treatment that
    involves chance is repeated per ticket. seeds: one independent repetition of everything each.
    evaluate_every: iterations between evaluations. instability: how, if at all, the instability at
    `rewind` is measured, of the dense network, the tickets and the control masks (of which the
    first draw): of all that starts from the dense network's state at that iteration.
    analysed_rounds: the rounds whose instability is measured, 0 for the dense network; None means
    all. chain: the treatment whose training each next round prunes: "rewind"; "fine-tune", or
    "fine-tune-quarter", the iterative pruning of Han et al. 2015, which keeps its weights; or
    "learning-rate-rewind" (Renda et al. 2020). With another chain than "rewind", that is a
    treatment like others: train on through all rounds and rewind once in the end (Frankle & Carbin
    2019, appendix B).
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
    instability: Instability = field(default_factory=Instability)
    analysed_rounds: tuple[int, ...] | None = None
    chain: str = REWIND.name

    def __post_init__(self) -> None:
        instance("task", self.task, Task)
        instance("instability", self.instability, Instability)
        instance("pruning", self.pruning, Pruning)
        choice("optimizer_state", self.optimizer_state, ("fresh", "restored"))
        choice("chain", self.chain, CHAINS)
        iterations = self.task.recipe.iterations
        least = -(-iterations // MOST_EVALUATIONS)
        keep(
            self,
            rounds=whole("rounds", self.rounds, 0, 100),
            rewind=whole("rewind", self.rewind, 0, iterations - 1),
            draws=whole("draws", self.draws, 1, 100),
            evaluate_every=whole("evaluate_every", self.evaluate_every, least, MOST_ITERATIONS),
            seeds=tuple(whole("seeds", s, 0, 2**31 - 1) for s in several("seeds", self.seeds)),
        )
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds must be one or more different numbers, not {self.seeds}")
        for name, first, last in (
            ("treated_rounds", 1, max(1, self.rounds)),
            ("analysed_rounds", 0, self.rounds),
        ):
            if getattr(self, name) is not None:
                numbers = several(name, getattr(self, name))
                keep(self, **{name: tuple(whole(name, n, first, last) for n in numbers)})
        treatments = []
        given = several("treatments", self.treatments)  # names are allowed, and looked up here
        for treatment in given:
            if not isinstance(treatment, Treatment):
                choice("treatments", treatment, TREATMENTS)
                treatment = TREATMENTS[treatment]
            if treatment != self.link:  # the chain itself is always run
                treatments.append(treatment)
        keep(self, treatments=tuple(treatments))
        names = [treatment.name for treatment in treatments]
        if len(set(names) - {"dense", self.chain}) < len(names):
            raise ValueError(
                f"treatments must have different names, none of them dense or {self.chain}, not "
                + ", ".join(map(str, names))
            )

        self._validate_combination()
        if (networks := self._count()) > MOST_NETWORKS:
            raise ValueError(
                "seeds, rounds, treatments and draws must make at most "
                f"{MOST_NETWORKS:,} networks, not {networks:,}"
            )

    def _count(self) -> int:
        """How many networks it trains; to make the trials may take minutes."""
        treated = range(1, self.rounds + 1) if self.treated_rounds is None else self.treated_rounds
        arms = sum(self.draws if treatment.drawn else 1 for treatment in self.treatments)
        return len(self.seeds) * (self.rounds + 1 + len(set(treated)) * arms)

    @property
    def link(self) -> Treatment:
        """The treatment of the chain."""
        return TREATMENTS[self.chain]

    def _validate_moment(self) -> None:
        """When the masks are drawn, and what is done between rounds."""
        at, iterations = self.pruning.at, self.task.recipe.iterations
        if at is not None and at > iterations:
            raise ValueError(
                f"pruning.at must be None or at most {iterations:,}, the iterations of the dense "
                f"network, not {at:,}"
            )
        if at is not None and self.chain != REWIND.name:
            raise ValueError(
                f"chain must be {REWIND.name} where pruning.at draws all masks from the dense "
                f"network, so that no training between rounds decides anything, not {self.chain}"
            )

    def _validate_combination(self) -> None:
        """What each part allows by itself, but not together with the others."""
        self._validate_moment()
        pruning, network = self.pruning, self.task.network
        layers = _widths(network)
        if pruning.criterion == "synflow" and network.startswith("vit-"):
            raise ValueError(
                "pruning.criterion synflow needs a network without layer normalisation, which lets "
                f"no flow through, not {network}"
            )
        normalised = [layer for layer, _, norm in layers if norm]
        if self.task.recipe.slimming and not normalised:
            raise ValueError(
                "task.recipe.slimming must be 0 for a network without batch normalisation, not "
                f"{self.task.recipe.slimming} for {network}"
            )
        if self.task.recipe.batch_size == 1 and normalised:
            raise ValueError(
                "task.recipe.batch_size must be at least 2 for a network with batch normalisation, "
                f"which needs a mean over images, not 1 for {network}"
            )
        if pruning.criterion == "gamma":
            if len(normalised) < len(layers):
                raise ValueError(
                    "pruning.criterion gamma needs a network with batch normalisation (vgg-... or "
                    f"resnet-...), not {network}"
                )
            if not self.task.recipe.slimming:
                raise ValueError(
                    "task.recipe.slimming must be above 0 for pruning.criterion gamma, whose "
                    "gammas tell nothing without the L1 penalty, not 0"
                )
        for treatment in self.treatments if pruning.structured else ():
            whole = treatment.weights == "rescaled" or treatment.removed == "frozen"
            if treatment.mask == "random" or whole:
                raise ValueError(
                    f"treatments must not have {treatment.name} with structured pruning: a narrow "
                    "network has no random mask, no fan-in to re-scale for, and nothing removed "
                    "that could stay"
                )
        if pruning.structured:
            self._validate_widths([(layer, units) for layer, units, _ in layers])

    def _validate_widths(self, layers: list[tuple[str, int]]) -> None:
        """Every layer must keep a unit to the last round."""
        pruning = self.pruning
        if not layers:
            raise ValueError(
                f"pruning.kind structured needs hidden layers, and {self.task.network} has none"
            )
        if pruning.layer_rates and len(pruning.layer_rates) != len(layers):
            raise ValueError(
                f"pruning.layer_rates must have {len(layers)} rates, one for each layer of "
                f"{self.task.network} that has units to lose, not {len(pruning.layer_rates)}"
            )
        name = "layer_rates" if pruning.layer_rates else "rate"
        rates = pruning.layer_rates or (pruning.rate,) * len(layers)
        if pruning.scope == "global":
            layers, rates = [("all layers", sum(units for _, units in layers))], (pruning.rate,)
        least = len(_widths(self.task.network)) if pruning.scope == "global" else 1
        for (layer, units), rate in zip(layers, rates, strict=True):
            left = units
            for number in range(1, self.rounds + 1):
                left -= removed(left, rate)
                if left < least:
                    raise ValueError(
                        f"pruning.{name} must leave every layer a unit, not {rate}: of {units} "
                        f"units in {layer} it leaves {left} after round {number}"
                    )

    def __iter__(self) -> Iterator["Experiment"]:
        """Itself: one experiment is a study of one."""
        yield self

    def pinned(self) -> "Experiment":
        """The same experiment with its task pinned, see there."""
        task = self.task.pinned()
        return self if task is self.task else replace(self, task=task)

    def trials(self, round_number: int) -> list["Trial"]:
        """The networks of one round: the chain of every seed first, then the treatments, then the
        analyses of instability.
        """
        trials = self._trained(round_number)
        return trials + [
            Trial(self, trial.seed, trial.round, trial.treatment, analysis=True)
            for trial in trials
            if trial.analysed
        ]

    def _in_chain(self, seed: int, round_number: int) -> "Trial":
        return Trial(self, seed, round_number, self.link if round_number else REWIND)

    def _trained(self, round_number: int) -> list["Trial"]:
        chain = [self._in_chain(seed, round_number) for seed in self.seeds]
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


@dataclass(frozen=True)
class Trial:
    """A member of an experiment: one network to be trained, or the analysis of its instability.

    analysis: copies of the network go on from its state at the rewind iteration (the dense network)
    or from its start (all others) with other SGD noise; the network itself is the first copy.
    """

    experiment: Experiment
    seed: int
    round: int
    treatment: Treatment
    draw: int = 0
    analysis: bool = False

    @property
    def label(self) -> str:
        """What it is called in the tables: "dense" in round 0, else the treatment's name."""
        return self.treatment.name if self.round else "dense"

    @property
    def start(self) -> int:
        """The iteration of the schedule and the data order at which its training starts."""
        if self.round == 0:
            return self.experiment.rewind if self.analysis else 0
        last = self.experiment.task.recipe.iterations
        return self.treatment.start(self.experiment.rewind, last)

    def recipe(self, gain: float = MOST_EPOCHS) -> Recipe:
        """How it trains. gain: see `Treatment.recipe`; without one the longest that it can be."""
        dense = self.experiment.task.recipe
        if self.round == 0:
            return dense
        return self.treatment.recipe(dense if self.slims else replace(dense, slimming=0.0), gain)

    @property
    def work(self) -> int:
        """Iterations of one network that it trains for; with the budget "flops" at most, and one
        where it is only evaluated.
        """
        once = max(1, self.recipe().iterations - self.start)
        return once * (self.experiment.instability.copies - 1) if self.analysis else once

    @property
    def restores(self) -> bool:
        """Whether it starts with the optimizer's moments at the rewind iteration, or with none."""
        if self.start == 0 or self.treatment.weights != "rewound":
            return False
        # Copies of the dense network go on as if nothing had happened.
        return self.round == 0 or self.experiment.optimizer_state == "restored"

    @property
    def analysed(self) -> bool:
        """Whether its instability is measured."""
        e = self.experiment
        choices = self.treatment.weights, self.treatment.budget, self.treatment.removed
        rewound = self.draw == 0 and choices == ("rewound", "epochs", "zero")
        chosen = e.analysed_rounds is None or self.round in e.analysed_rounds
        return rewound and chosen and e.instability.copies > 0

    @property
    def slims(self) -> bool:
        """Whether the recipe's L1 penalty applies: only to the chain, whose training is pruned; but
        to all arms of a ticket that is drawn from the dense network, where it goes on (You et al.
        2020) and nothing else shall tell them apart.
        """
        e = self.experiment
        return e.task.recipe.slimming > 0 and (self.in_chain or e.pruning.at is not None)

    @property
    def in_chain(self) -> bool:
        """Whether the next round may prune what it trains."""
        return self.round == 0 or self.treatment == self.experiment.link

    @property
    def narrow(self) -> bool:
        """Whether it is trained as a smaller network."""
        return self.round > 0 and self.experiment.pruning.structured

    def lineage(self) -> dict[str, Any]:
        """All that determines the result, and nothing else; what has its default is left out."""
        e = self.experiment
        lineage = {"task": e.task.lineage(), "seed": self.seed, "every": e.evaluate_every}
        if self.round:
            chain = {"pruning": settings(e.pruning), "rewind": e.rewind, "round": self.round}
            choices = {k: v for k, v in settings(self.treatment).items() if k != "name"}
            lineage |= {**chain, "optimizer_state": e.optimizer_state, **choices, "draw": self.draw}
            if e.link != REWIND:
                lineage["chain"] = {k: v for k, v in settings(e.link).items() if k != "name"}
        if self.analysis:
            lineage |= {"rewind": e.rewind, "instability": asdict(e.instability)}
        return lineage

    def describe(self) -> dict[str, Any]:
        """All its settings, defaults too, for a reader of the stored result."""
        e = self.experiment
        described = {"treatment": self.label, "seed": self.seed, "round": self.round}
        described |= {"draw": self.draw, "task": asdict(e.task), "evaluate_every": e.evaluate_every}
        if self.round or self.analysis:
            described |= {"rewind": e.rewind, "optimizer_state": e.optimizer_state}
        if self.round:
            described |= {"pruning": asdict(e.pruning), "choices": asdict(self.treatment)}
            described["chain"] = e.chain
        return described | ({"instability": asdict(e.instability)} if self.analysis else {})

    @property
    def key(self) -> str:
        """Its address in the store."""
        return key_of(self.lineage())

    def dense_key(self, iteration: int) -> str:
        """The address of the dense network's state at an iteration."""
        task = self.experiment.task.lineage()
        return key_of({"task": task, "seed": self.seed, "at": iteration})

    @property
    def parent(self) -> "Trial":
        """The trial of the chain whose trained weights are pruned to make this one's mask."""
        return self.experiment._in_chain(self.seed, self.round - 1)

    @property
    def dense(self) -> "Trial":
        """The trial of its seed's dense network."""
        return Trial(self.experiment, self.seed, 0, REWIND)

    @property
    def rewinds_to(self) -> int:
        """The iteration from whose state of the dense network it starts; 0 where it does not."""
        rewound = self.treatment.rewinds if self.round else self.analysis
        return self.experiment.rewind if rewound else 0

    @property
    def snapshots(self) -> list[int]:
        """The iterations whose states of the dense network it needs; the first is drawn again."""
        drawn = (self.experiment.pruning.at or 0) if self.round else 0
        return sorted({self.rewinds_to, drawn} - {0})

    @property
    def needs(self) -> list["Trial"]:
        """The trials whose trained weights this one starts from, or compares."""
        prunes = self.round and self.experiment.pruning.at is None
        parents = [self.parent] if prunes else []
        return [replace(self, analysis=False), *parents] if self.analysis else parents


Study: TypeAlias = Iterable[Experiment]
"""Experiments that belong together, and share the networks that they have in common; one of them
is a study as it is.
"""


def all_trials(study: Study) -> list[Trial]:
    """The trials of a study, each after those that it needs.

    Own images are looked at once, here: should they change later, these trials are not of the new
    ones.
    """
    pinned = map(Experiment.pinned, study)
    return [t for e in pinned for number in range(e.rounds + 1) for t in e.trials(number)]
