"""What can be done to survivors before they are trained again: the arms of all three papers."""

from dataclasses import dataclass, replace

from labkit.base.validation import choice, instance, keep
from labkit.engine.training import Recipe

BY_FLOPS = ("flops", "all-flops")
MOST_EPOCHS = 2  # times the dense network's, for the budget "flops" (Liu et al. 2019, section 3)
# What survivors may start from, by what it is made of: of the dense network's state at iteration k
# all, or only something (Zhou et al. 2019, section 4); of the last training; of chance alone.
VARIED = ("signs", "random-signs", "fresh-signs", "reshuffled", "reshuffled-signs")
WEIGHTS = ("rewound", "final", "fresh", "rescaled", *VARIED)
BUDGETS = ("epochs", "quarter", *BY_FLOPS, "none")


@dataclass(frozen=True)
class Treatment:
    """What is done to the survivors before they are trained again, by five independent choices.

    mask: the "ticket"'s own; "shuffled" within each layer; or "random" over the whole network.
    weights: "rewound" to iteration k; "final", kept from the training that decided the mask;
        "fresh" ones; or "rescaled", fresh ones drawn for the fan-in that survives: divided by the
        root of their layer's density (Liu et al. 2019, section 4.3). Or something of the rewound
        ones (Zhou et al. 2019, section 4): the "signs", with one magnitude in a layer, the
        deviation of all its rewound weights; "random-signs" with that magnitude; "fresh-signs",
        the signs with fresh magnitudes; "reshuffled" among the survivors of a layer; or
        "reshuffled-signs", the magnitudes alone, each weight with its own sign.
    schedule: "rewound" to k and trained to the end; "restarted" at 0; or "last": as many iterations
        as a rewound ticket gets, all at the last learning rate of the schedule.
    budget: "epochs", the iterations that the schedule gives; "quarter", a quarter of the whole
        schedule's, the 40 of 160 epochs that Liu et al. 2019 fine-tune for; or "flops": as much
        arithmetic as the dense network's training, but at most twice the epochs, with milestones
        that move along, as Liu et al. 2019 (section 3) do for ImageNet; "all-flops" is without that
        limit, as they do for CIFAR; or "none": it is only evaluated, a mask on an untrained network
        (a supermask, Zhou et al. 2019, section 5).
    removed: what is not in the mask is "zero", or "frozen": it stays as it starts, untrained.
    """

    name: str
    mask: str = "ticket"
    weights: str = "rewound"
    schedule: str = "rewound"
    budget: str = "epochs"
    removed: str = "zero"

    def __post_init__(self) -> None:
        instance("treatment.name", self.name, str)
        choice("treatment.mask", self.mask, ("ticket", "shuffled", "random"))
        choice("treatment.weights", self.weights, WEIGHTS)
        choice("treatment.schedule", self.schedule, ("rewound", "restarted", "last"))
        choice("treatment.budget", self.budget, BUDGETS)
        choice("treatment.removed", self.removed, ("zero", "frozen"))
        if self.budget == "quarter":
            choice("treatment.schedule with the budget quarter", self.schedule, ("last",))
        if self.budget in BY_FLOPS:
            choice(
                f"treatment.schedule with the budget {self.budget}", self.schedule, ("restarted",)
            )

    @property
    def drawn(self) -> bool:
        """Whether chance has a part in it, so that several draws differ."""
        return self.mask != "ticket" or self.weights not in ("rewound", "final", "signs")

    @property
    def rewinds(self) -> bool:
        """Whether it starts from the dense network's state at iteration k, or something of it."""
        return self.weights == "rewound" or self.weights in VARIED

    def start(self, rewind: int, last: int) -> int:
        """The iteration of the schedule and the data order at which it trains from iteration k.

        last: the iteration at which the dense network's training ends.
        """
        if self.budget == "none":
            return last
        return 0 if self.schedule == "restarted" or self.budget != "epochs" else rewind

    def recipe(self, dense: Recipe, gain: float = MOST_EPOCHS) -> Recipe:
        """How it trains, from how the dense network was trained.

        gain: FLOPs(dense) / FLOPs(what is left), which the budget "flops" spends on more epochs.
        """
        recipe, last = dense, self.schedule == "last"
        if last:
            recipe = replace(recipe, milestones=(), warmup=0)
        if self.budget == "quarter":
            recipe = replace(recipe, iterations=max(1, dense.iterations // 4))
        elif self.budget in BY_FLOPS:
            epochs = gain if self.budget == "all-flops" else min(MOST_EPOCHS, gain)
            recipe = replace(recipe, iterations=round(epochs * dense.iterations))
        if last:  # not rounded like a setting: the very rate that the dense network ended with
            keep(recipe, learning_rate=dense.rate(dense.iterations - 1))
        return recipe


REWIND = Treatment("rewind")
TREATMENTS = {
    treatment.name: treatment
    for treatment in (
        REWIND,
        Treatment("fine-tune", weights="final", schedule="last"),
        Treatment("fine-tune-quarter", weights="final", schedule="last", budget="quarter"),
        Treatment("learning-rate-rewind", weights="final"),
        Treatment("reinitialise", weights="fresh", schedule="restarted"),
        Treatment("scratch-e", weights="fresh", schedule="restarted"),
        Treatment("scratch-b", weights="fresh", schedule="restarted", budget="flops"),
        Treatment("scratch-b-uncapped", weights="fresh", schedule="restarted", budget="all-flops"),
        Treatment("scratch-rescaled", weights="rescaled", schedule="restarted"),
        Treatment("shuffled-mask", mask="shuffled"),
        Treatment("random-mask", mask="random"),
        *(Treatment(weights, weights=weights) for weights in VARIED),
        Treatment("frozen", removed="frozen"),
        Treatment("untrained", budget="none"),
        Treatment("untrained-signs", weights="signs", budget="none"),
        Treatment("untrained-random", mask="random", budget="none"),
        Treatment("pruned", weights="final", budget="none"),
    )
}
"""Named rows of that table: Frankle & Carbin 2019 (rewind, reinitialise), Renda et al. 2020
(fine-tune, learning-rate-rewind), Liu et al. 2019 (fine-tune-quarter and the three scratches),
Frankle et al. 2020 (the two control masks), Zhou et al. 2019 (all that follow, but the last: what
pruning alone does, before any training). Scratch-E and re-initialisation are two names of one
thing: fresh weights in what is left, trained for the same epochs."""
NEW_WEIGHTS = ("reinitialise", "scratch-e")
CHAINS = ("rewind", "fine-tune", "fine-tune-quarter", "learning-rate-rewind")
