"""The papers' experiments as named values, each in a quick and a reference size.

"quick" shows an effect on a laptop within minutes; "reference" is what the shipped results were
made with. Where either departs from its paper stands in the README's table of deviations. A *full
size* is named after a network of the paper and is the paper's own protocol on the paper's own data,
hours of a GPU; for LeNet the reference of the lottery is that. A *study* is one experiment or
several that belong together, and share the networks that they have in common.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from labkit.base.validation import choice
from labkit.engine.connectivity import Instability
from labkit.engine.pruning import Pruning
from labkit.engine.training import Recipe
from labkit.experiments.experiment import Experiment
from labkit.experiments.later import LATER
from labkit.experiments.task import Task
from labkit.experiments.treatments import TREATMENTS

Study = tuple[Experiment, ...]
SIZES = ("quick", "reference")  # of every preset; each has full sizes beside them
_THREE, _FIVE = (0, 1, 2), (0, 1, 2, 3, 4)


def _treatments(*names: str) -> tuple:
    return tuple(TREATMENTS[name] for name in names)


def _sgd(learning_rate: float, iterations: int, batch_size: int = 64) -> Recipe:
    """SGD as for small images: momentum, weight decay, flips and crops, three rates."""
    return Recipe(
        optimizer="sgd",
        learning_rate=learning_rate,
        momentum=0.9,
        weight_decay=1e-4,
        batch_size=batch_size,
        iterations=iterations,
        milestones=(0.5, 0.75),
        augmentation="flip-crop",
    )


# Frankle & Carbin 2019, section 2 and appendix G: the paper's own protocol.
_LOTTERY = Experiment(
    task=Task(recipe=Recipe(optimizer="adam", learning_rate=1.2e-3, iterations=50_000)),
    pruning=Pruning(rate=0.2, output_rate=0.1),
    rounds=20,
    treatments=_treatments("reinitialise"),
    draws=3,
    seeds=_FIVE,
)
# Three rounds that reach the density of the paper's round 7, in 2,000 iterations.
_LOTTERY_QUICK = replace(
    _LOTTERY,
    task=Task(recipe=Recipe(optimizer="adam", learning_rate=1.2e-3, iterations=2_000)),
    pruning=Pruning(rate=0.4, output_rate=0.2),
    rounds=3,
    treatments=_treatments("reinitialise", "shuffled-mask"),
    draws=1,
    seeds=_THREE,
)

# Liu et al. 2019 on small images. One-shot, so one round; tickets rewind to the initialisation.
_HALF = Pruning(kind="structured", rate=0.5)
_WEIGHTS = Pruning(scope="global", rate=0.8)
_CONVOLUTIONS = replace(_WEIGHTS, output_rate=0.0)  # as in the paper: the classifier is left alone
_RETHINKING = Experiment(
    task=Task("cifar10-16", "vgg-small", _sgd(0.1, 1_500), examples=20_000),
    pruning=_HALF,
    rounds=1,
    treatments=_treatments("fine-tune-quarter", "fine-tune", "scratch-e", "scratch-b"),
    seeds=_FIVE,
    evaluate_every=250,
)


def _slimming(e: Experiment, penalty: float, rate: float = 0.5, longer: str = "scratch-b") -> Study:
    recipe = replace(e.task.recipe, slimming=penalty)
    return (
        replace(
            e,
            task=replace(e.task, recipe=recipe),
            pruning=Pruning(kind="structured", criterion="gamma", scope="global", rate=rate),
            treatments=_treatments("fine-tune-quarter", "scratch-e", longer),
        ),
    )


def _unstructured(e: Experiment, weights: Pruning = _WEIGHTS) -> Study:
    """At 20% density and at 5%."""
    treatments = _treatments("fine-tune-quarter", "scratch-e", "scratch-rescaled")
    return tuple(
        replace(e, pruning=replace(weights, rate=rate), treatments=treatments)
        for rate in (0.8, 0.95)
    )


def _learning_rates(e: Experiment, filters: Pruning, weights: Pruning = _WEIGHTS) -> Study:
    return tuple(
        replace(
            e,
            task=replace(e.task, recipe=replace(e.task.recipe, learning_rate=rate)),
            pruning=pruning,
            treatments=_treatments("reinitialise"),
        )
        for pruning in (weights, filters)
        for rate in (0.1, 0.01)
    )


_RETHINKING_QUICK = replace(
    _RETHINKING,
    task=Task("cifar10-16", "vgg-small", _sgd(0.1, 150), examples=5_000, validation=1_000),
    seeds=(0,),
    evaluate_every=150,
)

# Frankle et al. 2020: a small residual network, and LeNet, which is stable from the start. In so
# few iterations the paper's rate of 0.1 leaves most tickets of the former stable; 0.4 does not.
_STABILITY = Experiment(
    task=Task("cifar10-16", "resnet-8-w8", _sgd(0.4, 3_000, batch_size=128)),
    pruning=Pruning(scope="global", rate=0.5),
    rounds=3,
    seeds=_THREE,
    evaluate_every=500,
    instability=Instability(copies=3, alphas=11, train_examples=2_000),
)
_LENET = replace(
    _STABILITY,
    task=Task(recipe=Recipe(optimizer="adam", learning_rate=1.2e-3, iterations=5_000)),
    rounds=0,
)
_MORE_SEEDS = replace(_STABILITY, seeds=(3, 4, 5), instability=Instability())  # accuracy alone
_REWINDS = (0, 30, 100, 300, 1_000)


def _rewound(e: Experiment, rewinds: Sequence[int]) -> Study:
    return tuple(replace(e, rewind=k) for k in rewinds)


def _with_rate(e: Experiment, learning_rate: float) -> Experiment:
    recipe = replace(e.task.recipe, learning_rate=learning_rate)
    return replace(e, task=replace(e.task, recipe=recipe))


def _rewinding(e: Experiment, rewinds: Sequence[int]) -> Study:
    """Tickets rewound to several moments; and at a small rate from the initialisation, where the
    dense network's instability is enough.
    """
    return (*_rewound(e, rewinds), replace(_with_rate(e, 0.01), analysed_rounds=(0,)))


def _reconciliation(e: Experiment, rates: Sequence[float] = (0.1, 0.01)) -> Study:
    """Ticket against re-initialised, by learning rate, weights and filters; and how unstable the
    dense network is at its initialisation.
    """
    weights = replace(e, treatments=_treatments("reinitialise"), instability=Instability())
    filters = replace(weights, pruning=_HALF, rounds=1)
    dense = replace(e, rounds=0)
    return tuple(_with_rate(one, rate) for rate in rates for one in (dense, weights, filters))


_LENET_QUICK = Experiment(
    task=Task(recipe=Recipe("adam", 1.2e-3, iterations=600), normalisation="standard"),
    rounds=0,
    seeds=(0,),
    evaluate_every=200,
    instability=Instability(copies=2, alphas=11, train_examples=2_000),
)
_LENET_QUICK_SGD = replace(
    _LENET_QUICK,
    task=replace(
        _LENET_QUICK.task,
        recipe=Recipe("sgd", 0.1, momentum=0.9, iterations=600, milestones=(0.7, 0.9)),
    ),
)
_STABILITY_QUICK = replace(_LENET_QUICK_SGD, pruning=Pruning(scope="global", rate=0.5), rounds=3)
# The same with other seeds, so that a quick run still trains networks of its own.
_LENET_CONTRAST = replace(
    _STABILITY_QUICK, seeds=(1, 2, 3, 4, 5), instability=_STABILITY.instability
)


# Three studies that decide what the smaller ones leave open; docs/registration.md says what was
# fixed before they ran. Their seeds are not those of any other study.
_FRESH = (10, 11, 12, 13, 14)


def _new_weights(
    rates: Sequence[float], lengths: Mapping[int, int], seeds: Sequence[int], draws: int
) -> Study:
    """LeNet's tickets against new weights and random masks, by rate, length and sparsity: halved
    five times, and cut at once to 80% and to 20%. lengths: iterations -> iterations between
    evaluations.
    """
    studied: list[Experiment] = []
    for iterations, every in lengths.items():
        for rate in rates:
            recipe = Recipe("sgd", rate, momentum=0.9, iterations=iterations, milestones=(0.7, 0.9))
            iterative = Experiment(
                task=Task(recipe=recipe, normalisation="standard"),
                pruning=Pruning(scope="global", rate=0.5),
                rounds=5,
                treatments=_treatments("reinitialise", "random-mask"),
                draws=draws,
                seeds=tuple(seeds),
                evaluate_every=every,
                instability=Instability(copies=2, alphas=11, train_examples=2_000),
            )
            one_shot = replace(iterative, rounds=1, analysed_rounds=(1,))
            studied.append(iterative)
            for cut in (0.2, 0.8):
                studied.append(replace(one_shot, pruning=Pruning(scope="global", rate=cut)))
    return tuple(studied)


def _length(recipe: Recipe, seeds: Sequence[int], every: int, examples: int = 20_000) -> Study:
    """Liu et al. 2019 with a training that is long enough for fine-tuning to be a fair arm: single
    weights of the convolutions at 20% and at 5%, and half of the filters.
    """
    weights = Experiment(
        task=Task("cifar10-16", "vgg-small", recipe, examples=examples, normalisation="standard"),
        pruning=_CONVOLUTIONS,
        rounds=1,
        treatments=_treatments("reinitialise", "random-mask", "fine-tune", "fine-tune-quarter"),
        seeds=tuple(seeds),
        evaluate_every=every,
    )
    sparser = replace(weights, pruning=replace(weights.pruning, rate=0.95))
    filters = replace(
        weights,
        pruning=_HALF,
        treatments=_treatments("fine-tune", "fine-tune-quarter", "scratch-e", "scratch-b"),
    )
    return (weights, sparser, filters)


def _rewind_controls(rates: Sequence[float], iterations: int, seeds: Sequence[int]) -> Study:
    """Frankle et al. 2020 with controls at every k, from 0 to a tenth of the training."""
    base = replace(
        _STABILITY,
        treatments=_treatments("reinitialise", "shuffled-mask", "random-mask"),
        treated_rounds=(2, 3),
        analysed_rounds=(0, 2, 3),
        seeds=tuple(seeds),
        instability=replace(_STABILITY.instability, copies=2),
    )
    studied: list[Experiment] = []
    for rate in rates:
        task = replace(base.task, recipe=_sgd(rate, iterations, batch_size=128))
        rewinds = [iterations * share // 1_000 for share in (0, 10, 25, 50, 100)]
        studied += _rewound(replace(base, task=task), rewinds)
    return tuple(studied)


# The papers' own protocols. Convolutions are pruned at another rate than dense layers.
def _conv(network: str, learning_rate: float, iterations: int, conv_rate: float) -> Study:
    """Frankle & Carbin 2019, section 3 and figure 2."""
    recipe = Recipe(optimizer="adam", learning_rate=learning_rate, iterations=iterations)
    task = Task("cifar10", network, recipe)
    return (replace(_LOTTERY, task=task, pruning=replace(_LOTTERY.pruning, conv_rate=conv_rate)),)


# Liu et al. 2019, section 4: 160 epochs of all 50,000 images, standardised; single weights of
# convolutions alone; Scratch-B with all the arithmetic saved. Filters of VGG-16-A by layer; of
# ResNet-56-A and -B by stage, the most sensitive of its 27 blocks left alone (Li et al. 2017).
_VGG_16_A = Pruning(kind="structured", layer_rates=(0.5, *[0.0] * 6, *[0.5] * 6))


def _filters_of_resnet_56(kept: tuple[int, int, int], spared: Sequence[int]) -> Pruning:
    """kept: filters of the first convolutions of blocks, of 16, 32 and 64 per stage. spared: the
    numbers of those that keep all, among 2, 4, ..., 54.
    """
    by_stage = [1 - left / width for left, width in zip(kept, (16, 32, 64), strict=True)]
    rates = (0.0 if n in spared else by_stage[(n - 2) // 18] for n in range(2, 55, 2))
    return Pruning(kind="structured", layer_rates=tuple(rates))


def _rethinking_full(network: str, pruning: Pruning = _HALF) -> Experiment:
    task = Task(
        "cifar10",
        network,
        _sgd(0.1, 160 * 50_000 // 64),
        normalisation="standard",
        validation=0,
    )
    treatments = _treatments("fine-tune-quarter", "fine-tune", "scratch-e", "scratch-b-uncapped")
    return replace(
        _RETHINKING, task=task, pruning=pruning, treatments=treatments, evaluate_every=781
    )


# Frankle et al. 2020, section 3 and appendix A.
def _stability_full(network: str, rounds: int) -> Experiment:
    return replace(
        _STABILITY,
        task=Task("cifar10", network, _sgd(0.1, 62_560, batch_size=128), validation=0),
        pruning=Pruning(scope="global", rate=0.2),
        rounds=rounds,
        seeds=_THREE,
        evaluate_every=1_000,
        instability=Instability(copies=3),
    )


_RESNET_20, _VGG_16 = _stability_full("resnet-20", 9), _stability_full("vgg-16", 20)
_REWINDS_FULL = (0, 100, 500, 1_000, 2_000, 5_000)

PRESETS: dict[str, dict[str, Study]] = {
    "lottery": {
        "quick": (_LOTTERY_QUICK,),
        "reference": (_LOTTERY,),
        "conv-2": _conv("conv-2", 2e-4, 20_000, 0.1),
        "conv-4": _conv("conv-4", 3e-4, 25_000, 0.1),
        "conv-6": _conv("conv-6", 3e-4, 30_000, 0.15),
    },
    "rethinking-structured": {
        "quick": (_RETHINKING_QUICK,),
        "reference": (_RETHINKING,),
        "vgg-16-a": (_rethinking_full("vgg-16", _VGG_16_A),),
        "resnet-56-a": (
            _rethinking_full("resnet-56", _filters_of_resnet_56((14, 28, 57), (16, 20, 38, 54))),
        ),
        "resnet-56-b": (
            _rethinking_full(
                "resnet-56",
                _filters_of_resnet_56((6, 22, 57), (16, 18, 20, 34, 38, 54)),
            ),
        ),
    },
    "rethinking-slimming": {
        "quick": _slimming(_RETHINKING_QUICK, 1e-2),
        "reference": _slimming(_RETHINKING, 2e-3),
        "vgg-19": _slimming(_rethinking_full("vgg-19"), 1e-4, 0.7, "scratch-b-uncapped"),
    },
    "rethinking-unstructured": {
        "quick": _unstructured(_RETHINKING_QUICK),
        "reference": _unstructured(_RETHINKING),
        "vgg-19": _unstructured(_rethinking_full("vgg-19"), _CONVOLUTIONS),
    },
    "rethinking-learning-rate": {
        "quick": _learning_rates(_RETHINKING_QUICK, _HALF),
        "reference": _learning_rates(_RETHINKING, _HALF),
        "vgg-16": _learning_rates(_rethinking_full("vgg-16"), _VGG_16_A, _CONVOLUTIONS),
    },
    "stability-dense": {
        "quick": (_LENET_QUICK, *_rewound(_LENET_QUICK_SGD, (0, 100))),
        "reference": (
            _LENET,
            *_rewound(replace(_STABILITY, rounds=0), _REWINDS),
            *_rewound(replace(_with_rate(_STABILITY, 0.1), rounds=0), _REWINDS),
        ),
        "resnet-20": _rewound(replace(_RESNET_20, rounds=0), _REWINDS_FULL),
        "vgg-16": _rewound(replace(_VGG_16, rounds=0), _REWINDS_FULL),
    },
    "stability-imp": {
        "quick": _rewinding(_STABILITY_QUICK, (0, 100)),
        "reference": (
            *_rewinding(_STABILITY, (0, 300)),
            *_rewound(_MORE_SEEDS, (0, 300)),
            *_rewound(_with_rate(_STABILITY, 0.1), (0, 300)),
            *_rewound(_with_rate(_MORE_SEEDS, 0.1), (0, 300)),
        ),
        "resnet-20": _rewinding(_RESNET_20, (0, 500, 2_000)),
        "vgg-16": _rewinding(_VGG_16, (0, 1_000)),
    },
    "reconciliation": {
        "quick": _reconciliation(_STABILITY_QUICK),
        "reference": (
            *_reconciliation(_STABILITY, rates=(0.4, 0.1, 0.01)),
            *_reconciliation(_LENET_CONTRAST),
        ),
        "resnet-20": _reconciliation(_RESNET_20),
    },
    "new-weights": {
        "quick": _new_weights((0.1, 0.01), {600: 150}, seeds=(0,), draws=1),
        "reference": _new_weights(
            (0.1, 0.01), {600: 150, 3_000: 300, 12_000: 600}, seeds=_FRESH, draws=3
        ),
    },
    "length": {
        "quick": _length(_sgd(0.1, 150), (0,), 150, examples=5_000),
        # 40 epochs of 20,000 images
        "reference": (
            *_length(_sgd(0.1, 12_500), _FRESH[:3], 1_250),
            *_length(_sgd(0.01, 12_500), _FRESH[:3], 1_250)[:2],
        ),
        # 160, as in the paper
        "160-epochs": (
            *_length(_sgd(0.1, 50_000), _FRESH[:3], 5_000),
            *_length(_sgd(0.01, 50_000), _FRESH[:3], 5_000)[:2],
        ),
    },
    "rewind-controls": {
        "quick": _rewind_controls((0.4,), 300, (0,)),
        "reference": _rewind_controls((0.4, 0.1), 3_000, _FRESH[:3]),
    },
    **LATER,
}
NAMES = tuple(PRESETS)
DECIDING = ("new-weights", "length", "rewind-controls")  # see docs/registration.md
PAPERS = {  # what `labkit reproduce` takes -> the presets it runs
    "lottery": ("lottery",),
    "rethinking": tuple(name for name in NAMES if name.startswith("rethinking")),
    "stability": ("stability-dense", "stability-imp", "reconciliation"),
}


def study(name: str, size: str = "quick") -> Study:
    """The named experiments. Raises ValueError for an unknown name or size, listing the known."""
    choice("preset", name, NAMES)
    choice(f"size of {name}", size, PRESETS[name])
    return PRESETS[name][size]


def preset(name: str, size: str = "quick") -> Experiment:
    """The named experiment, of a preset that is a single one. Raises ValueError like `study`."""
    several = study(name, size)
    if len(several) > 1:
        raise ValueError(
            f"preset must be a single experiment, not {name}, which is {len(several)}: use "
            f"study({name!r}, {size!r})"
        )
    return several[0]
