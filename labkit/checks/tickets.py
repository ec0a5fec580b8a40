"""Lesson 02: the rewind, the re-initialised control, early stopping, and which control a claim
needs. (`check_prune_once`, the exact count, is used there too.)
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from labkit.checks.judging import (
    Fault,
    Mistakes,
    Question,
    ask,
    check_choices,
    compare,
    compare_all,
    exercise,
    fail,
    same,
    state_like,
)
from labkit.engine.networks import Masks, Population, State, build
from labkit.engine.pruning import apply_masks
from labkit.engine.training import generator

NOT_REWOUND = Fault(
    "weights not rewound",
    "surviving weights still have their trained values",
    "Which of the arguments holds the values to go back to?",
)
BIAS_NOT_REWOUND = Fault(
    "biases not rewound",
    "biases still have their trained values",
    "A bias has no mask. Does your loop go over the masks, or over the whole state?",
)
NORM_NOT_REWOUND = Fault(
    "batch norm not rewound",
    "weights were rewound, and batch normalisation (gamma, beta, mean, variance) was not",
    "Print the names of the state: training changes more than weights and biases.",
)
MASK_LOST = Fault(
    "mask lost in the rewind",
    "weights outside the mask are not zero",
    "Early weights were never pruned. Who removes the losers now?",
)
MASK_ON_ALL = Fault(
    "everything masked",
    "something that has no mask was set to zero",
    "Only prunable weights have masks; everything else is passed on.",
)


@exercise(
    "survivors, biases and batch normalisation are back where they were, and the mask holds.",
    "Go over `early.items()`: with a mask, multiply by it (that makes a new tensor); else clone.",
)
def check_rewind(answer: Callable[[State, State, Masks], State]) -> None:
    """`rewind(trained, early, masks)`: the state that the next round starts from.

    trained, early: the complete state of a network after training and at the rewind iteration,
    name -> tensor, batch-norm statistics included; masks: name -> bool, for the prunable weights
    alone. Survivors and *all else* return to their early values; removed weights are zero. None of
    the arguments may be changed: they are needed again.
    """
    for case, trained, early, masks in _trained():
        right = apply_masks(early, masks)
        found = state_like(case, ask(answer, case, trained, early, masks), right)
        for name, tensor in right.items():
            if same(found[name], tensor):
                continue
            at = f"{case}, {name}"
            if name in masks and found[name][~masks[name]].any():
                fail(MASK_LOST, at, tensor, found[name])
            if same(found[name], trained[name] * masks.get(name, torch.tensor(True))):
                norm = f"{name.rpartition('.')[0]}.mean" in early
                kind = NORM_NOT_REWOUND if norm else BIAS_NOT_REWOUND
                fail(NOT_REWOUND if name in masks else kind, at, tensor, found[name])
            if name not in masks and not found[name].any():
                fail(MASK_ON_ALL, at, tensor, found[name])
            compare(at, found[name], tensor)


def _trained() -> Iterator[tuple[str, State, State, Masks]]:
    """Cases of a network, from the plain to the one with batch normalisation."""
    for number, (words, replicas) in enumerate((("a network", 1), ("two replicas", 2))):
        yield words, *_states(build("lenet-3-2", (1, 2, 2), 2, replicas), number, 0.5)
    yield "a fully pruned network", *_states(build("lenet-3-2", (1, 2, 2), 2), 2, 0.0)
    yield "a network of single weights", *_states(build("lenet-1", (1, 1, 1), 1), 3, 1.0)
    norms = build("resnet-8-w2", (1, 4, 4), 2)
    yield "a network with batch normalisation", *_states(norms, 4, 0.5)


def _states(network: Population, seed: int, share: float) -> tuple[State, State, Masks]:
    noise = generator(seed, "states")
    early = {n: torch.randn(t.shape, generator=noise) + 3 for n, t in network.state().items()}
    trained = {n: t + torch.randn(t.shape, generator=noise) for n, t in early.items()}
    masks = {n: torch.rand(w.shape, generator=noise) < share for n, w in network.prunable().items()}
    return trained, early, masks


REDRAWN_MASK = Fault(
    "re-initialised mask",
    "the mask is not the ticket's: other weights are zero now",
    "The control asks about the weights alone, so everything else stays as it is.",
)
NOT_MASKED = Fault(
    "control not pruned",
    "weights outside the ticket's mask are not zero",
    "New weights are drawn for the whole network. What makes it a ticket's control?",
)
OLD_WEIGHTS = Fault(
    "same weights",
    "the surviving weights are still the old ones",
    "This control has the ticket's mask and *new* weights.",
)
PERMUTED = Fault(
    "other distribution",
    "the new weights are not drawn as the network draws its first weights",
    "`Population.initialise` knows the distribution of every layer.",
)
GLOBAL_NOISE = Fault(
    "not reproducible",
    "two calls with equal generators gave different weights",
    "Use the generator that you are given, and no global one.",
)
OLD_REST = Fault(
    "rest not re-initialised",
    "biases or batch normalisation kept their trained values",
    "Start from a complete new state.",
)


@exercise(
    "new weights from the same distribution, under the ticket's own mask.",
    "Copy the network with `network[0]`, `initialise` the copy with the generator, and mask its "
    "`state()`.",
)
def check_reinitialise(answer: Callable[[Population, Masks, torch.Generator], State]) -> None:
    """`reinitialise(network, masks, noise)`: the state of the re-initialised control.

    network: a trained `Population` of one, which stays as it is; masks: the ticket's, name -> bool
    with a leading axis of 1; noise: a torch.Generator. All weights are drawn anew by the network's
    own `initialise([noise])`, biases and batch normalisation are new too, and the *ticket's* mask
    is kept.
    """
    for number, name in enumerate(("lenet-9-6", "resnet-8-w2", "lenet-1")):
        network = build(name, (1, 4, 4), 3)
        trained, _, masks = _states(network, number, 1.0 if name == "lenet-1" else 0.5)
        network.load_state_dict(trained)
        _one_control(answer, f"{name}, draw {number}", network, masks, number)
    network = build("lenet-9-6", (1, 4, 4), 3).initialise([generator(9)])
    gone = {n: torch.zeros(w.shape, dtype=torch.bool) for n, w in network.prunable().items()}
    _one_control(answer, "a fully pruned network", network, gone, 9)


def _one_control(
    answer: Callable[..., State], case: str, network: Population, masks: Masks, seed: int
) -> None:
    trained = network.state()
    fresh = network[0].initialise([generator(seed, "fresh")]).state()
    right = apply_masks(fresh, masks)

    def draw() -> Mapping[str, Tensor]:
        return state_like(case, ask(answer, case, network, masks, generator(seed, "fresh")), right)

    found = draw()
    if same(dict(found), right):
        return
    if not same(dict(found), dict(draw())):
        fail(GLOBAL_NOISE, case, "the same weights twice", "different weights")
    for name, mask in masks.items():
        at, own = f"{case}, {name}", found[name]
        if not mask.all() and own[~mask].any():
            kept = int((own == 0).sum())
            fault = REDRAWN_MASK if kept == int((~mask).sum()) or kept > 0 else NOT_MASKED
            fail(fault, at, right[name], own)
        if mask.any() and same(own[mask], trained[name][mask]):
            fail(OLD_WEIGHTS, at, right[name], own)
        if not same(own, right[name]):
            fail(REDRAWN_MASK if not own[mask].all() else PERMUTED, at, right[name], own)
    for name in set(right) - set(masks):
        if not same(found[name], right[name]):
            fail(OLD_REST, f"{case}, {name}", right[name], found[name])


ON_TEST = Fault(
    "early stop on the test set",
    "that is the iteration of the best test accuracy: the test set has been used to choose",
    "What may look at the test set before the choice is made?",
)
AT_THE_END = Fault(
    "last iteration",
    "that is the end of the training, whatever the validation loss says",
    "Where is the validation loss lowest?",
)
POSITION = Fault(
    "position, not iteration",
    "that is the position in the list, and not the iteration that stands there",
    "Evaluations come every so many iterations.",
)
LAST_OF_TIES = Fault(
    "last of equal losses",
    "of several equal losses the last was taken",
    "Early stop: which of two equal minima comes first?",
)
HIGHEST_LOSS = Fault(
    "highest loss", "the validation loss is highest there", "A loss is good when it is small."
)
BEST_TEST_READ = Fault(
    "best test accuracy",
    "the iteration is right, and the accuracy is the best one of the test set",
    "Read the test accuracy *at* the early stop, and nowhere else.",
)


def _at(place: Callable[[list[float], list[float]], int]) -> Callable[..., tuple[int, float]]:
    """Stops at a place that is chosen from validation losses and test accuracies."""

    def stop(
        iterations: list[int], losses: list[float], accuracies: list[float]
    ) -> tuple[int, float]:
        best = place(losses, accuracies)
        return iterations[best], accuracies[best]

    return stop


_first_lowest = _at(lambda losses, _: losses.index(min(losses)))
MISTAKES_WITH_STOPPING: Mistakes = {
    ON_TEST: _at(lambda _, accuracies: accuracies.index(max(accuracies))),
    BEST_TEST_READ: lambda i, v, t: (_first_lowest(i, v, t)[0], max(t)),
    LAST_OF_TIES: _at(lambda losses, _: len(losses) - 1 - losses[::-1].index(min(losses))),
    AT_THE_END: _at(lambda losses, _: len(losses) - 1),
    POSITION: lambda i, v, t: (v.index(min(v)), _first_lowest(i, v, t)[1]),
    HIGHEST_LOSS: _at(lambda losses, _: losses.index(max(losses))),
}


@exercise(
    "chosen on the validation loss, read on the test set.",
    "`losses.index(min(losses))` is the position; use it in the two other lists.",
    MISTAKES_WITH_STOPPING,
)
def check_early_stop(
    answer: Callable[[Sequence[int], Sequence[float], Sequence[float]], tuple[int, float]],
) -> None:
    """`early_stop(iterations, validation_losses, test_accuracies)`: a pair, the iteration at which
    a training should have been stopped, and the test accuracy to report.

    Three lists of equal length, an entry per evaluation. The early stop is the *first* iteration of
    minimum validation loss; the accuracy is read there.
    """
    questions = [Question(case, (i, v, t), _first_lowest(i, v, t)) for case, i, v, t in _courses()]
    compare_all(
        *(answer, questions, MISTAKES_WITH_STOPPING),
        read=lambda f: tuple(f) if isinstance(f, list) else f,
    )


def _courses() -> Iterator[tuple[str, list[int], list[float], list[float]]]:
    iterations = [0, 100, 200, 300, 400, 500]
    curves = (
        ("a usual course", [2.3, 0.5, 0.3, 0.2, 0.25, 0.4], [0.1, 0.85, 0.9, 0.92, 0.94, 0.93]),
        ("two equal minima", [2.3, 0.5, 0.2, 0.3, 0.2, 0.4], [0.1, 0.8, 0.91, 0.9, 0.93, 0.95]),
        ("a training that was too short", [6.0, 5, 4, 3, 2, 1], [0.1, 0.5, 0.8, 0.7, 0.6, 0.55]),
        ("one evaluation", [0.7], [0.8]),
    )
    for words, losses, accuracies in curves:
        yield f"{words}: losses {losses}", iterations[: len(losses)], losses, accuracies


@exercise(
    "every claim has its control.",
    "A control shares with the ticket everything except what the sentence is about.",
)
def check_controls(answers: Mapping[str, str]) -> None:
    """A dictionary: which arm does each claim compare the ticket with? Choose "dense",
    "reinitialise", "shuffled-mask" or "random-mask", each once.

    A "Pruning has cost no accuracy." B "Within a layer, it matters which weights survive."
    C "The weights that the ticket starts from belong to it." D "Sparsity alone is not enough: with
    as few weights anywhere in the network, learning is harder."
    """
    right = {"A": "dense", "B": "shuffled-mask", "C": "reinitialise", "D": "random-mask"}
    because = {
        "dense": "The dense network keeps the first weights, and every connection.",
        "reinitialise": "The re-initialised ticket keeps the mask; its first weights differ.",
        "shuffled-mask": "A shuffled mask keeps the number of survivors of each layer.",
        "random-mask": "A random mask keeps nothing but the total number of survivors.",
    }
    check_choices(answers, right, because)
