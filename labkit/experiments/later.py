"""Studies of the later papers: what a ticket is made of, when it can be drawn, and heads.

As `labkit.experiments.presets`, which has them under their names. docs/registration.md says what
was fixed before any of their references ran; their seeds are those of no other study.
"""

from collections.abc import Sequence
from dataclasses import replace

from labkit.engine.connectivity import Instability
from labkit.engine.pruning import Pruning
from labkit.engine.training import Recipe
from labkit.experiments.experiment import Experiment
from labkit.experiments.task import Task
from labkit.experiments.treatments import TREATMENTS, VARIED

Study = tuple[Experiment, ...]
_SEEDS = tuple(range(20, 25))
_MANY = tuple(range(20, 30))  # where arms lie close together, and cost little
_LATEST = tuple(range(30, 35))
# 60% are left after a round, 21.6% after three, 2.8% after seven.
_LADDER = Pruning(scope="global", rate=0.4)
_AT_ONCE = (0.784, 0.972)  # to 21.6% and to 2.8%


def _treatments(*names: str) -> tuple:
    return tuple(TREATMENTS[name] for name in names)


def _lenet(iterations: int, seeds: Sequence[int], rounds: int) -> Experiment:
    """LeNet-300-100 on MNIST, as in Frankle & Carbin 2019 but shorter, ranked globally."""
    task = Task(recipe=Recipe("adam", 1.2e-3, iterations=iterations))
    every = max(100, iterations // 10)
    return Experiment(task, _LADDER, rounds, seeds=tuple(seeds), evaluate_every=every)


def _drawn(e: Experiment, at: int, **changes: object) -> Experiment:
    return replace(e, pruning=replace(e.pruning, at=at, **changes))  # type: ignore[arg-type]


def _sgd(iterations: int, slimming: float = 0.0) -> Recipe:
    return Recipe("sgd", 0.1, 0.9, 1e-4, 64, iterations, (0.5, 0.75), slimming=slimming,
                  augmentation="flip-crop")  # fmt: skip


def chains(lenet: Experiment, small: Experiment | None) -> Study:
    """What is done between rounds, and one-shot masks of the same densities: the iterative pruning
    that fine-tunes (Han et al. 2015) against the one that rewinds.
    """
    studied: list[Experiment] = []
    for e in (lenet, small) if small else (lenet,):
        studied.append(e)
        # A rate that never falls is rewound by fine-tuning, too.
        others = ("fine-tune", "fine-tune-quarter", "learning-rate-rewind")
        for chain in others if e.task.recipe.milestones else others[:2]:
            studied.append(replace(e, chain=chain))
        studied.append(_drawn(e, e.task.recipe.iterations))
    return tuple(studied)


def drawing(lenet: Experiment, shares: Sequence[float]) -> Study:
    """When a mask is drawn, and by what: before training by four criteria, early, at the end; at
    once and little by little; with the controls of Frankle et al. 2021. shares: of the training.
    """
    checks = _treatments("reinitialise", "shuffled-mask", "random-mask")
    tickets = replace(lenet, treatments=checks, treated_rounds=(3, 7))
    studied = [tickets]
    once = replace(lenet, rounds=1, treatments=checks)
    for rate in _AT_ONCE:
        studied.append(replace(once, pruning=replace(_LADDER, rate=rate)))
        for criterion in ("snip", "grasp", "synflow", "magnitude"):
            studied.append(_drawn(once, 0, criterion=criterion, rate=rate))
    for k in (round(share * lenet.task.recipe.iterations) for share in shares):
        early = _drawn(replace(once, treatments=()), k, rate=_AT_ONCE[1])
        studied += [early, replace(early, rewind=k, optimizer_state="restored")]
    return tuple(studied)


def makings(lenet: Experiment) -> Study:
    """What of its first weights a ticket needs (Zhou et al. 2019, section 4)."""
    treated = (*_treatments(*VARIED, "frozen", "reinitialise"),)
    return (replace(lenet, rounds=6, treatments=treated, treated_rounds=(3, 6)),)


def supermasks(lenet: Experiment) -> Study:
    """How well a mask does on a network that is not trained (Zhou et al. 2019, section 5)."""
    untrained = _treatments("untrained", "untrained-signs", "untrained-random")
    layers = Pruning(rate=0.2, output_rate=0.1, at=lenet.task.recipe.iterations)
    e = replace(lenet, pruning=layers, rounds=4, treatments=untrained)
    return (replace(e, pruning=replace(layers, criterion="same-sign")), e)


def early_bird(
    recipe: Recipe, seeds: Sequence[int], shares: Sequence[float], examples: int, validation: int
) -> Study:
    """Half of the channels by network slimming, drawn early and trained on, or drawn at the end
    (You et al. 2020). shares: of the training, at which tickets are drawn.
    """
    at_the_end = Experiment(
        task=Task("cifar10-16", "vgg-small", recipe, examples=examples, validation=validation),
        pruning=Pruning("structured", "gamma", "global", rate=0.5),
        rounds=1,
        treatments=_treatments("fine-tune-quarter", "scratch-e"),
        seeds=tuple(seeds),
        evaluate_every=max(1, recipe.iterations // 8),
    )
    studied = [at_the_end]
    goes_on = replace(
        at_the_end,
        optimizer_state="restored",
        treatments=_treatments("reinitialise", "shuffled-mask"),
    )
    for k in (round(share * recipe.iterations) for share in shares):
        studied.append(replace(_drawn(goes_on, k), rewind=k))
    return tuple(studied)


def heads(iterations: int, seeds: Sequence[int], shares: Sequence[float], examples: int) -> Study:
    """Attention heads by the gradient of their gates (Michel et al. 2019), by size and at random,
    without training, trained on and trained again. shares: of the heads of a layer that go.
    """
    recipe = Recipe("adam", 6e-3, batch_size=100, iterations=iterations, milestones=(0.5, 0.75))
    e = Experiment(
        task=Task("cifar10-16", "vit-2-8", recipe, examples=examples),
        rounds=1,
        treatments=_treatments("pruned", "fine-tune-quarter", "reinitialise"),
        seeds=tuple(seeds),
        evaluate_every=max(1, iterations // 8),
    )
    return tuple(
        replace(e, pruning=Pruning("structured", criterion, layer_rates=(share, 0, share, 0)))
        for share in shares
        for criterion in ("gate", "magnitude", "random")
    )


def scale(e: Experiment, widths: Sequence[int], examples: Sequence[int]) -> Study:
    """The lead of a ticket's first weights over new ones, by the width of LeNet and by the number
    of training images. widths: of the first hidden layer; the second has a third of it.
    """
    wide = [replace(e, task=replace(e.task, network=f"lenet-{w}-{w // 3}")) for w in widths]
    few = [replace(e, task=replace(e.task, examples=count)) for count in examples]
    return (*wide, *few)


def small_images(e: Experiment) -> Study:
    """Conv-2 of Frankle & Carbin 2019, section 3, on small images: two of the paper's rounds at a
    stroke, 20% of dense layers and 10% of convolutions and of the output in each.
    """
    pruning = Pruning(rate=0.36, conv_rate=0.19, output_rate=0.19)
    treated = _treatments("reinitialise")
    return (replace(e, pruning=pruning, rounds=5, treatments=treated, treated_rounds=(4,)),)


def _halving(iterations: int, seeds: Sequence[int]) -> Experiment:
    """LeNet halved five times, as in the study `new-weights`."""
    recipe = Recipe("sgd", 0.01, momentum=0.9, iterations=iterations, milestones=(0.7, 0.9))
    return Experiment(
        task=Task(recipe=recipe, normalisation="standard"),
        pruning=Pruning(scope="global", rate=0.5),
        rounds=5,
        treatments=_treatments("reinitialise"),
        treated_rounds=(2, 5),
        seeds=tuple(seeds),
        evaluate_every=iterations // 10,
    )


def _conv_2(iterations: int, seeds: Sequence[int], examples: int) -> Experiment:
    recipe = Recipe("adam", 2e-4, iterations=iterations)
    task = Task("cifar10-16", "conv-2", recipe, examples=examples, validation=2_000)
    return Experiment(task, seeds=tuple(seeds), evaluate_every=iterations // 20)


def warm_up(
    rates: Sequence[float], low: float, iterations: int, warmup: int, seeds: Sequence[int]
) -> Study:
    """Tickets of a small ResNet at large rates that grow during the first iterations, and at a low
    rate from the start: the cures of Frankle & Carbin 2019, section 5.
    """
    recipe = Recipe("sgd", low, 0.9, 1e-4, 128, iterations, (0.5, 0.75), augmentation="flip-crop")
    e = Experiment(
        task=Task("cifar10-16", "resnet-8-w8", recipe),
        pruning=Pruning(scope="global", rate=0.5),
        rounds=2,
        treatments=_treatments("reinitialise"),
        treated_rounds=(2,),
        analysed_rounds=(2,),
        seeds=tuple(seeds),
        evaluate_every=max(1, iterations // 10),
        instability=Instability(copies=2, alphas=11, train_examples=2_000),
    )
    warm = [replace(recipe, learning_rate=rate, warmup=warmup) for rate in rates]
    return tuple(replace(e, task=replace(e.task, recipe=r)) for r in (*warm, recipe))


_SMALL = Experiment(
    task=Task("cifar10-16", "vgg-small", _sgd(1_500), examples=20_000),
    pruning=_LADDER,
    rounds=5,
    seeds=_SEEDS,
    evaluate_every=250,
)
LATER: dict[str, dict[str, Study]] = {
    "chains": {
        "quick": chains(_lenet(600, (0,), 7), None),
        "reference": chains(_lenet(2_000, _SEEDS, 7), _SMALL),
    },
    "drawing": {
        "quick": drawing(_lenet(400, (0,), 7), (0.1, 0.5)),
        "reference": drawing(_lenet(2_000, _SEEDS, 7), (0.025, 0.1, 0.5)),
    },
    "makings": {
        "quick": makings(_lenet(600, (0, 1), 6)),
        "reference": makings(_lenet(2_000, _MANY, 6)),
    },
    "supermasks": {
        "quick": supermasks(_lenet(1_000, (0, 1), 4)),
        "reference": supermasks(_lenet(2_000, _MANY, 4)),
    },
    "early-bird": {
        "quick": early_bird(_sgd(320, 1e-3), (0,), (0.125, 0.5), 6_000, 1_000),
        # 16 epochs of 20,000 images
        "reference": early_bird(
            _sgd(5_000, 1e-3), _SEEDS, (0.0625, 0.125, 0.25, 0.5, 0.75), 20_000, 5_000
        ),
    },
    "heads": {
        "quick": heads(500, (0,), (0.75,), 10_000),
        "reference": heads(2_000, _SEEDS, (0.25, 0.5, 0.75), 20_000),
    },
    "scale": {
        "quick": scale(_halving(300, (0,)), (75, 300), (1_000,)),
        "reference": scale(_halving(3_000, _LATEST), (75, 150, 300, 600), (1_000, 4_000, 16_000)),
    },
    "warm-up": {
        "quick": warm_up((0.4,), 0.01, 300, 60, (0,)),
        "reference": warm_up((0.4, 0.1), 0.01, 3_000, 600, _LATEST),
    },
    "lottery-conv": {
        "quick": small_images(_conv_2(100, (0,), 2_000)),
        "reference": small_images(_conv_2(2_000, _LATEST, 10_000)),
    },
}
