"""Lesson 00: an experiment as a value, the density after some rounds, and the three papers."""

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

from labkit.checks.judging import (
    UNUSABLE,
    Fault,
    Mistakes,
    Question,
    Unwritten,
    ask,
    check_choices,
    compare_all,
    exercise,
    fail,
)
from labkit.engine.pruning import Pruning
from labkit.engine.training import Recipe
from labkit.experiments.experiment import Experiment
from labkit.experiments.task import Task

TINY = Experiment(
    task=Task(recipe=Recipe(iterations=300)), pruning=Pruning(rate=0.5), rounds=2, seeds=(0,)
)
"""The lesson's own, which the exercise starts from."""


@exercise(
    "five rounds of 30% for three seeds, and nothing else has changed.",
    "`replace(tiny, pruning=..., rounds=..., seeds=...)` of the module dataclasses.",
)
def check_experiment(answer: Experiment) -> None:
    """An experiment like the lesson's `tiny` that prunes 30% of the weights in each of five rounds,
    for the seeds 0, 1 and 2. All else is as in `tiny`, which itself counts as not written yet.
    """
    if callable(answer):
        answer = ask(answer, "your experiment")
    if answer is None or answer == TINY:
        raise Unwritten
    if not isinstance(answer, Experiment):
        fail(UNUSABLE, "your experiment", "an Experiment", answer)
    right = _fields(replace(TINY, pruning=Pruning(rate=0.3), rounds=5, seeds=(0, 1, 2)))
    found = _fields(answer)
    for name in right | found:
        if found.get(name) != right.get(name):
            fault = Fault(
                f"field {name}",
                f"the field {name} is not what was asked for",
                "Print your experiment: which fields should differ from those of `tiny`?",
            )
            fail(fault, f"your experiment, {name}", right.get(name), found.get(name))


def _fields(value: Any, prefix: str = "") -> dict[str, Any]:
    """Every field by its name, those of dataclasses inside by a dotted one."""
    found: dict[str, Any] = {}
    for field in fields(value):
        own = getattr(value, field.name)
        name = prefix + field.name
        found |= _fields(own, f"{name}.") if is_dataclass(own) else {name: own}
    return found


RATES_ADDED = Fault(
    "rates added up",
    "every round seems to remove a share of all weights",
    "What is left to remove a share of in the second round?",
)
SPARSITY = Fault("sparsity", "that is the share that is gone", "Density is the share that is left.")
RATE_KEPT = Fault(
    "rate kept", "every round seems to keep the rate", "The rate is the share that is *removed*."
)
ONE_ROUND_LESS = Fault(
    "a round less", "one round is missing", "After no round at all, everything is left."
)
MISTAKES_WITH_ROUNDS: Mistakes = {
    RATES_ADDED: lambda rate, rounds: 1 - rate * rounds,
    SPARSITY: lambda rate, rounds: 1 - (1 - rate) ** rounds,
    RATE_KEPT: lambda rate, rounds: rate**rounds,
    ONE_ROUND_LESS: lambda rate, rounds: (1 - rate) ** (rounds - 1),
}


@exercise(
    "each round takes its share of what the rounds before have left.",
    "A product of as many equal factors as there are rounds.",
    MISTAKES_WITH_ROUNDS,
)
def check_density_after(answer: Callable[[float, int], float]) -> None:
    """`density_after(rate, rounds)`: the share of the weights that is left when each round removes
    the share `rate` of the survivors, a float in [0, 1].

    rate: in (0, 1); rounds: 0 or more. No single weight is counted, so nothing is rounded.
    """
    questions = [
        Question(f"rate {rate}, {rounds} rounds", (rate, rounds), (1 - rate) ** rounds)
        for rate, rounds in ((0.2, 7), (0.5, 3), (0.3, 1), (0.2, 0), (0.9, 2))
    ]
    compare_all(answer, questions, MISTAKES_WITH_ROUNDS)


@exercise(
    "every piece of advice has its paper.",
    "Ask of each: where do the weights come from that it trains?",
)
def check_papers(answers: Mapping[str, str]) -> None:
    """A dictionary: which paper would give each piece of advice? Choose "lottery", "rethinking" or
    "connectivity", each once.

    A "You have removed half of the filters? Draw new weights for the rest, and train long enough."
    B "Keep the large weights of the trained network, give them back their very first values, and
    train them alone." C "Go back, but only to where the order of the images no longer matters."
    """
    right = {"A": "rethinking", "B": "lottery", "C": "connectivity"}
    because = {
        "lottery": "It starts from the values at initialisation.",
        "rethinking": "It starts from values that nobody has trained or kept.",
        "connectivity": "It starts from values a little later in training.",
    }
    check_choices(answers, right, because)


@exercise(
    "each slip is named, and the sentence without one is left in peace.",
    "Put the sentence beside the page above, word by word: which word is not there?",
)
def check_article(answers: Mapping[str, str]) -> None:
    """A dictionary: what is wrong with each sentence of an article about these papers? Choose
    "source", "word", "limit", "setting" or "nothing", each once.

    A "Iterative pruning prunes, fine-tunes and repeats [Li et al.: pruning filters]." B "Random
    subnetworks exist that train as well as the dense network." C "A ticket reaches the accuracy of
    the dense network after the same number of iterations." D "The next paper debunked tickets: new
    weights do as well." E "Structured pruning leaves nothing but a smaller, dense network."
    """
    right = {"A": "source", "B": "word", "C": "limit", "D": "setting", "E": "nothing"}
    because = {
        "source": "Is the paper in brackets about what the sentence says?",
        "word": "Is there a word that says the opposite of how such networks are found?",
        "limit": "Does the paper say exactly, or at most?",
        "setting": "Were the two experiments the same?",
        "nothing": "Is every word of it on the page?",
    }
    check_choices(answers, right, because)
