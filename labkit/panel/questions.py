"""The gallery: questions that are asked before they are answered.

Each names stored experiments, two arms and a round. A guess is a choice among ranges; it is drawn
as a band into the chart that answers, and the answer is the mean over seeds with its interval. No
number of an answer stands here: all are read from results.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from labkit.experiments.experiment import Experiment
from labkit.experiments.presets import PRESETS
from labkit.experiments.statistics import Estimate
from labkit.figures.picture import look_of
from labkit.panel.charts import Band
from labkit.panel.live import REWOUND_TO_0, STABLE, gap_text
from labkit.panel.live_results import LiveResults, gap_of
from labkit.panel.references import PLAYGROUND, members, rewound_to_0

Options = tuple[tuple[str, float, float], ...]  # words, and between which points they are right
_MORE: Options = (
    ("at least 1 point more accurate", 1.0, math.inf),
    ("a little more accurate: 0.2 to 1 point", 0.2, 1.0),
    ("the same, within 0.2 points", -0.2, 0.2),
    ("less accurate", -math.inf, -0.2),
)
_RISE: Options = (
    ("hardly: less than 2 points", -math.inf, STABLE),
    ("somewhat: 2 to 10 points", STABLE, 10.0),
    ("much: more than 10 points", 10.0, math.inf),
)
INSTABILITY = "instability"


@dataclass(frozen=True)
class Question:
    """preset, where: which stored experiment answers. arm, against: what is compared in a round,
    None for the last; against `REWOUND_TO_0` is the same tickets rewound to 0, and "" nothing:
    then the column is read as it is. live: what a student can run.
    """

    name: str
    text: str
    preset: str
    where: Callable[[Experiment], bool]
    arm: str
    against: str
    live: Experiment
    lesson: str
    number: int | None = None
    column: str = "test_accuracy"
    options: Options = _MORE

    @property
    def stored(self) -> Experiment:
        """The first stored experiment that answers it."""
        return next(e for e in PRESETS[self.preset]["reference"] if self.where(e))

    @property
    def compared(self) -> Experiment | None:
        return rewound_to_0(self.stored) if self.against == REWOUND_TO_0 else None

    @property
    def round(self) -> int:
        return self.stored.rounds if self.number is None else self.number

    def answer(self, own: LiveResults, from_0: LiveResults | None) -> Estimate:
        """The difference in points, or the value, over seeds."""
        if not self.against:
            return own.estimate_of(self.arm, self.round, self.column)
        if self.against == REWOUND_TO_0:
            assert from_0 is not None
            return gap_of(own, self.arm, from_0, self.arm, self.round, self.column)
        return own.gap(self.arm, self.against, self.round, self.column)

    def open_options(self, found: Estimate) -> list[str]:
        """The options that an estimate leaves open: those that its interval meets."""
        known = not math.isnan(found.low)
        least, most = (found.low, found.high) if known else (found.mean, found.mean)
        return [words for words, low, high in self.options if least < high and low <= most]

    def band(self, guess: str, own: LiveResults, from_0: LiveResults | None) -> Band:
        """Where a guess expects the arm, in the chart that answers."""
        low, high = next((low, high) for words, low, high in self.options if words == guess)
        if not self.against:
            return Band(0.5, low, high)
        other = from_0 if self.against == REWOUND_TO_0 and from_0 else own
        arm = self.arm if self.against == REWOUND_TO_0 else self.against
        foot = other.estimate_of(arm, self.round, self.column).mean
        density = own.density_at(self.round) or 1.0
        return Band(density, foot + low, foot + high)

    def told(self, guess: str, own: LiveResults, from_0: LiveResults | None) -> str:
        """The answer in words beside the guess."""
        found = self.answer(own, from_0)
        if self.against:
            said = f"the {look_of(self.arm).name} is {gap_text(found)} {_named(self.against)}"
        else:
            between = f"[{found.low:.1f}, {found.high:.1f}]"
            said = f"the error rises by {found.mean:.1f} {between} points"
        left = self.open_options(found)
        right = "as you guessed" if guess in left else f"you guessed: {guess}"
        verdict = f"That is: {left[0]} ({right})."
        if len(left) > 1:
            verdict = f"The interval leaves open: {' or '.join(left)} ({right})."
        return f"Stored answer, {found.seeds} seeds: {said}. {verdict}"


def _named(arm: str) -> str:
    known = {
        "dense": "the dense network",
        "reinitialise": "the same mask with new weights",
        REWOUND_TO_0: "the same ticket rewound to 0",
    }
    return known.get(arm, look_of(arm).name)


def _with_rate(e: Experiment, rate: float) -> Experiment:
    return replace(e, task=replace(e.task, recipe=replace(e.task.recipe, learning_rate=rate)))


_PLAY = replace(members(PLAYGROUND, "quick")[0], seeds=(0, 1, 2))
_NEW = replace(_PLAY, treatments=_PLAY.treatments[:1], treated_rounds=(5,))
_NEURONS = replace(
    _NEW, pruning=replace(_PLAY.pruning, kind="structured", scope="layerwise"), rounds=1,
    treated_rounds=None,
)  # fmt: skip
_FILTERS = PRESETS["rethinking-structured"]["quick"][0]
_LINES = PRESETS["stability-dense"]["quick"]
_LOTTERY = PRESETS["lottery"]["quick"][0]
_REWOUND = PRESETS["stability-imp"]["quick"][1]


def _rate(e: Experiment) -> float:
    return e.task.recipe.learning_rate


def _resnet(k: int) -> Callable[[Experiment], bool]:
    return lambda e: e.rewind == k and _rate(e) == 0.4 and e.instability.copies > 0


QUESTIONS = (
    Question(
        "own weights", "Does the ticket need its own weights? With a fifth of LeNet left, its "
        "first weights against new ones:",
        "lottery", lambda e: True, "rewind", "reinitialise", _NEW, "02", 7,
    ),
    Question(
        "as good as dense", "With a fifth of the weights, the ticket against the dense network "
        "that it came from:", "lottery", lambda e: True, "rewind", "dense", _LOTTERY, "02", 7,
    ),
    Question(
        "very sparse", "And with 1.8% of the weights, the ticket against the dense network:",
        "lottery", lambda e: True, "rewind", "dense", _PLAY, "02", 18,
    ),
    Question(
        "a little later", "What if I rewind a little later? A residual network, rewound to a tenth "
        "of its training instead of to 0:",
        "stability-imp", _resnet(300), "rewind", REWOUND_TO_0, _REWOUND, "05",
    ),
    Question(
        "filters", "Filters instead of weights? Half the filters of a small VGG: its first weights "
        "against new ones:",
        "rethinking-learning-rate", lambda e: e.pruning.structured and _rate(e) == 0.1,
        "rewind", "reinitialise", _NEURONS, "03",
    ),
    Question(
        "anew", "Half the filters are gone. Train anew, against a quarter of the training to "
        "fine-tune:",
        "rethinking-structured", lambda e: True, "scratch-e", "fine-tune-quarter", _FILTERS, "03",
    ),
    Question(
        "large rate", "At a large learning rate, a fifth of a small VGG's weights: first weights "
        "against new ones:",
        "rethinking-learning-rate", lambda e: not e.pruning.structured and _rate(e) == 0.1,
        "rewind", "reinitialise", _NEW, "03",
    ),
    Question(
        "small rate", "The same at a tenth of the learning rate:",
        "rethinking-learning-rate", lambda e: not e.pruning.structured and _rate(e) == 0.01,
        "rewind", "reinitialise", _with_rate(_NEW, 0.01), "03",
    ),
    Question(
        "two copies", "Two copies of a residual network part at initialisation and see other "
        "batches. How much does the error rise half-way between them?",
        "stability-dense", lambda e: _resnet(0)(e) and "resnet" in e.task.network,
        "dense", "", _LINES[1], "04", 0, INSTABILITY, _RISE,
    ),
    Question(
        "copies that part later", "And if they part after a tenth of the training?",
        "stability-dense", lambda e: _resnet(300)(e) and "resnet" in e.task.network,
        "dense", "", _LINES[2], "04", 0, INSTABILITY, _RISE,
    ),
)  # fmt: skip
