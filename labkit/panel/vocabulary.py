"""Vocabulary: the lessons' words for what the code calls by shorter names. The one table of them.

Everything that a panel shows of an experiment is said by these: labels, lists, what differs between
two experiments, and why one cannot be run.
"""

from collections.abc import Sequence
from typing import Any

from labkit.engine.pruning import Pruning
from labkit.experiments.experiment import Experiment
from labkit.experiments.words import field_texts
from labkit.figures.picture import look_of

DATASETS = {
    "mnist": "MNIST digits",
    "cifar10-16": "CIFAR-10 at 16 x 16",
    "cifar10": "CIFAR-10 (a download)",
    "cifar100": "CIFAR-100 (a download)",
    "fashion_mnist": "Fashion-MNIST (a download)",
    "kmnist": "KMNIST (a download)",
}
NETWORKS = {
    "lenet-300-100": "LeNet-300-100",
    "conv-2": "Conv-2",
    "conv-4": "Conv-4",
    "conv-6": "Conv-6",
    "vgg-small": "VGG, small",
    "vgg-16": "VGG-16",
    "vgg-19": "VGG-19",
    "resnet-8": "ResNet-8",
    "resnet-8-w8": "ResNet-8, half as wide",
    "resnet-20": "ResNet-20",
    "vit-2-8": "transformer, 2 layers of 8 heads",
}
CRITERIA = {
    "magnitude": "the smallest",
    "obd": "those the loss misses least (curvature)",
    "random": "any, by chance",
    "snip": "those of least effect before training (SNIP)",
    "grasp": "those that hold the gradient back (GraSP)",
    "synflow": "those of least flow (SynFlow)",
    "same-sign": "those that changed sign or grew least",
    "gamma": "channels of the smallest scale (slimming)",
    "gate": "those of least gradient at a gate",
}
SCOPES = {
    "layerwise": "every layer loses its share",
    "global": "all layers ranked together",
}
OTHERS = {
    "adam": "Adam",
    "sgd": "SGD",
    "dense": "dense network",
    "re-estimate": "re-estimated",
    "None": "as it is",
    "": "none",
    "unit": "0 to 1",
    "standard": "standardised",
    "fresh": "fresh",
    "restored": "restored",
}
LABELS = {  # path of a field -> what a panel calls it
    "task.dataset": "Data set",
    "task.network": "Network",
    "task.recipe.optimizer": "Optimizer",
    "task.recipe.learning_rate": "Learning rate",
    "task.recipe.iterations": "Iterations",
    "task.recipe.batch_size": "Batch size",
    "task.recipe.slimming": "Penalty of slimming",
    "task.recipe.milestones": "Drops of the learning rate",
    "task.recipe.momentum": "Momentum",
    "task.recipe.weight_decay": "Weight decay",
    "task.examples": "Training images",
    "task.image_size": "Image size",
    "task.validation": "Validation images",
    "task.normalisation": "Scale of the pixels",
    "pruning.kind": "What is removed",
    "pruning.criterion": "What goes first",
    "pruning.scope": "Across layers",
    "pruning.rate": "Removed per round",
    "pruning.output_rate": "Output layer",
    "pruning.layer_rates": "Removed per layer",
    "pruning.at": "Mask drawn at iteration",
    "rounds": "Rounds",
    "rewind": "Rewind to",
    "chain": "Between rounds",
    "treatments": "Compare the ticket with",
    "treated_rounds": "Compare in",
    "draws": "Draws",
    "seeds": "Seeds",
    "evaluate_every": "Iterations between measurements",
    "optimizer_state": "Optimizer's moments",
    "instability.copies": "Copies",
    "instability.alphas": "Points on the line",
    "instability.statistics": "Statistics of batch normalisation",
    "instability.train_examples": "Training images on the line",
    "analysed_rounds": "Stability measured in rounds",
}
_VALUES = DATASETS | NETWORKS | CRITERIA | SCOPES | OTHERS
_MOST = 4  # differences that a sentence holds


def units_of(network: str) -> str:
    """What structured pruning removes of a network."""
    family = network.partition("-")[0]
    return {"lenet": "neurons", "vit": "heads and neurons"}.get(family, "filters")


def kind_label(kind: str, network: str) -> str:
    """What is removed."""
    return "single weights" if kind == "unstructured" else f"whole {units_of(network)}"


def what_is_left(pruning: Pruning, network: str) -> str:
    """What a rate is a share of."""
    return units_of(network) if pruning.structured else "weights"


def iteration_label(iteration: int, iterations: int) -> str:
    """An iteration of the dense network's training and its share of that."""
    if iteration == 0:
        return "0, its initialisation"
    return f"{iteration:,} ({100 * iteration / iterations:.2g}% of training)"


def experiment_label(e: Experiment) -> str:
    """Network, data, and how it is trained, in a line."""
    task, recipe = e.task, e.task.recipe
    network = NETWORKS.get(task.network, task.network)
    dataset = DATASETS.get(task.dataset, task.dataset)
    return (
        f"{network} on {dataset}, {OTHERS[recipe.optimizer]} at {recipe.learning_rate:g}, "
        f"{recipe.iterations:,} iterations"
    )


def differences(one: Experiment, other: Experiment) -> list[str]:
    """What the first has instead of what the second has, such as "Rounds 20 instead of 3"."""
    mine, theirs = _told(one), _told(other)
    return [
        f"{LABELS.get(path, _spoken(path))} {_value(path, mine[path], one)} "
        f"instead of {_value(path, theirs[path], other)}"
        for path in mine
        if mine[path] != theirs[path]
    ]


def sentence(found: Sequence[str]) -> str:
    """Some differences as a sentence, the first of them in full."""
    more = len(found) - _MOST
    tail = f"; and {more} more" if more > 0 else ""
    return f"{'; '.join(found[:_MOST])}{tail}"


def titles(study: Sequence[Experiment]) -> list[str]:
    """What tells the experiments of a study apart, a text each."""
    told = [_told(experiment) for experiment in study]
    differing = [path for path in told[0] if len({words[path] for words in told}) > 1]
    named = [
        ", ".join(
            f"{LABELS.get(path, _spoken(path)).lower()} {_value(path, words[path], experiment)}"
            for path in _worth_telling(differing)
        )
        for experiment, words in zip(study, told, strict=True)
    ]
    return [name[:1].upper() + name[1:] if name else "the only one" for name in named]


def refusal(error: Exception) -> str:
    """Why something cannot be run, by the name of the control that says it."""
    words = str(error)
    name, _, rest = words.partition(" ")
    for path, label in LABELS.items():
        if f".{path}".endswith(f".{name}"):
            return f"{label} {rest}"
    return words[:1].upper() + words[1:]


def _told(e: Experiment) -> dict[str, str]:
    return dict(field_texts(e))


def _worth_telling(paths: list[str]) -> list[str]:
    """The papers' variables first, and of what follows from them nothing: five at most."""
    order = list(LABELS)
    known = [path for path in paths if path in LABELS]
    best = ("task.network", "task.recipe.optimizer", "task.recipe.learning_rate",
            "task.recipe.iterations", "pruning.kind", "pruning.criterion", "pruning.rate",
            "rewind", "pruning.at", "chain", "seeds")  # fmt: skip
    chosen = [path for path in best if path in known]
    return (chosen or sorted(known, key=order.index))[:5]


def _value(path: str, text: str, e: Experiment) -> str:
    if path == "pruning.kind":
        return kind_label(text, e.task.network)
    if path == "pruning.rate":
        return f"{100 * float(text):g}%"
    if path == "treatments":
        return ", ".join(look_of(name).name for name in text.split(",")) if text else "nothing"
    if path == "chain":
        return look_of(text).name
    if path == "rewind":
        return iteration_label(int(text), e.task.recipe.iterations)
    if path == "seeds":
        return f"{len(e.seeds)} ({_span(e.seeds)})"
    if path in ("treated_rounds", "analysed_rounds") and text == "None":
        return "all"
    if path == "task.examples" and text == "None":
        return "all"
    return _VALUES.get(text, f"{int(text):,}" if text.isdigit() else text)


def _span(seeds: Sequence[int]) -> str:
    whole = list(range(seeds[0], seeds[0] + len(seeds)))
    if len(seeds) > 2 and list(seeds) == whole:
        return f"{seeds[0]} to {seeds[-1]}"
    return ", ".join(map(str, seeds))


def _spoken(path: str) -> str:
    return path.rpartition(".")[2].replace("_", " ").capitalize()


Words = list[tuple[str, Any]]  # of a list: what is shown, and what is meant
