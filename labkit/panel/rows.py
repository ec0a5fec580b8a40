"""The rows of the table of controls: what a panel asks, in which words, and what that sets.

A control is a row of ROWS: its label, its help, the values it offers, and the field of `Experiment`
that it reads and sets. To add one is to add a row.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from labkit.base.validation import whole
from labkit.engine.pruning import CRITERIA, KINDS
from labkit.experiments.experiment import Experiment
from labkit.panel import vocabulary
from labkit.panel.vocabulary import LABELS, Words

ALIKE, HALF, ALONE = "like the other layers", "half the rate", "left alone"
EVERY, LAST = "every round", "the last round"
SEEDS = 1_000  # at most
_SHARES = (0, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5)  # of training, to rewind to


@dataclass(frozen=True)
class Row:
    """A control. field: the path of what it sets. help: a sentence. offers: what a list may hold;
    None makes it a field for a number. show, take: from the field's value to the control's and
    back, both with the experiment at hand. whole: whether only whole numbers make sense.
    """

    field: str
    help: str
    offers: Callable[[Experiment], Words] | None = None
    show: Callable[[Any, Experiment], Any] = lambda value, _: value
    take: Callable[[Any, Experiment], Any] = lambda value, _: value
    whole: bool = True
    main: bool = False

    @property
    def label(self) -> str:
        return LABELS[self.field]


def _from(words: dict[str, str]) -> Callable[[Experiment], Words]:
    return lambda _: offered(words)


def offered(words: dict[str, str]) -> Words:
    """Values with their words as a list has them."""
    return [(text, value) for value, text in words.items()]


def _kinds(e: Experiment) -> Words:
    return [(vocabulary.kind_label(kind, e.task.network), kind) for kind in KINDS]


def criteria_of(kind: str) -> Words:
    return [(vocabulary.CRITERIA[name], name) for name in CRITERIA[kind]]


def _rewinds(e: Experiment) -> Words:
    last = e.task.recipe.iterations
    found = sorted({*(round(share * last) for share in _SHARES), e.rewind})
    return [(vocabulary.iteration_label(k, last), k) for k in found if k < last]


def _plain(*words: str) -> Callable[[Experiment], Words]:
    return lambda _: [(word, word) for word in words]


def _show_output(rate: float | None, e: Experiment) -> str:
    known = {None: ALIKE, e.pruning.rate / 2: HALF, 0: ALONE}
    return known.get(rate, f"{rate:.1%}" if rate is not None else ALIKE)


def output_rate(word: str, rate: float, otherwise: float | None = None) -> float | None:
    """What the list of the output layer means at a rate; otherwise: for a word of its own."""
    return {ALIKE: None, HALF: rate / 2, ALONE: 0.0}.get(word, otherwise)


def _show_treated(rounds: tuple[int, ...] | None, e: Experiment) -> str:
    if rounds is None:
        return EVERY
    return LAST if rounds == (e.rounds,) else f"rounds {', '.join(map(str, rounds))}"


def _take_seeds(count: int, e: Experiment) -> tuple[int, ...]:
    whole(LABELS["seeds"], count, 1, SEEDS)
    first = e.seeds[0]
    return e.seeds if count == len(e.seeds) else tuple(range(first, first + count))


ROWS = {
    "kind": Row(
        "pruning.kind", "Single weights leave holes; whole units leave a narrower network.",
        _kinds, main=True,
    ),
    "rewind": Row(
        "rewind", "Where the survivors go back to before they are trained again.",
        _rewinds, main=True,
    ),
    "learning_rate": Row(
        "task.recipe.learning_rate", "How far each step goes: large steps let noise decide.",
        whole=False, main=True,
    ),
    "rate": Row(
        "pruning.rate", "In per cent of what is left, in every round.",
        show=lambda rate, _: round(100 * rate, 4), take=lambda percent, _: round(percent / 100, 6),
        whole=False,
    ),
    "rounds": Row("rounds", "How often: train, remove, go back. 1 removes all at one stroke."),
    "criterion": Row(
        "pruning.criterion", "Which of them are removed.", lambda e: criteria_of(e.pruning.kind)
    ),
    "scope": Row("pruning.scope", "Who competes with whom.", _from(vocabulary.SCOPES)),
    "output": Row(
        "pruning.output_rate", "The last layer has few weights; the papers spare it.",
        _plain(ALIKE, HALF, ALONE), _show_output,
        lambda word, e: output_rate(word, e.pruning.rate, e.pruning.output_rate),
    ),
    "dataset": Row("task.dataset", "What is learned.", _from(vocabulary.DATASETS)),
    "network": Row("task.network", "What learns.", _from(vocabulary.NETWORKS)),
    "iterations": Row("task.recipe.iterations", "Steps of training, a batch of images each."),
    "seeds": Row(
        "seeds", "Repetitions of everything; an interval needs two or more.",
        show=lambda seeds, _: len(seeds), take=_take_seeds,
    ),
    "copies": Row(
        "instability.copies", "Copies that train apart, to measure stability; 0 measures none."
    ),
    "treated": Row(
        "treated_rounds", "When the other ways are trained, too.",
        _plain(EVERY, LAST), _show_treated,
    ),
}  # fmt: skip


def number(label: str, text: str) -> float:
    """What a person typed: 1e9, 1,000 and 20% are numbers."""
    try:
        number = float(text.strip().rstrip("%").replace(",", "").replace(" ", ""))
    except ValueError:
        raise ValueError(f"{label} must be a number, not {text or 'nothing'}") from None
    if not math.isfinite(number):
        raise ValueError(f"{label} must be a finite number, not {text}")
    return number


def digits(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.12g}"
