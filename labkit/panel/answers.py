"""Answers: which results are shown for a setting or a question, and whose they are.

One's own where there are any, with stored ones pale behind; else the stored ones that are nearest,
with what differs.
"""

from labkit.panel.charts import Line
from labkit.panel.live import pale
from labkit.panel.live_results import LiveResults
from labkit.panel.questions import Question
from labkit.panel.references import References, rewound_to_0
from labkit.panel.stage import Show
from labkit.panel.vocabulary import differences, experiment_label, sentence


def show_of(
    own: LiveResults, from_0: LiveResults | None, references: References, home: str, rewound: bool
) -> Show:
    """What to show of a setting. home: the preset of the lesson, if any; rewound: whether to
    compare stored results with the same rewound to 0.
    """
    near = references.nearest(own.experiment, home)
    if near is not None and not own.known:
        compared = rewound_to_0(near.experiment) if rewound else None
        at_0 = references.read(compared) if compared else None
        return Show(near, at_0, note=f"Shown: {_source(near, own)}")
    behind: tuple[Line, ...] = ()
    note = ""
    if near is not None and _comparable(own, near):
        behind, note = pale(near.accuracy_lines()), f"Pale, behind: {_source(near, own)}"
    return Show(own, from_0, behind, note=note)


def answer_to(question: Question, guess: str, references: References) -> Show | None:
    """The stored answer of a question, with the guess in it; None where nothing is stored."""
    stored = references.read(question.stored)
    from_0 = references.read(question.compared) if question.compared else None
    if not question.answer(stored, from_0).seeds:
        return None
    return Show(
        stored,
        from_0,
        number=question.round,
        guess=question.band(guess, stored, from_0),
        said=question.told(guess, stored, from_0),
        note=f"Shown: {_source(stored, None)} Lesson {question.lesson} is about it.",
    )


def _comparable(own: LiveResults, other: LiveResults) -> bool:
    """Whether both fit one axis: of the same network on the same data."""
    one, two = own.experiment.task, other.experiment.task
    return (one.dataset, one.network) == (two.dataset, two.network)


def _source(stored: LiveResults, own: LiveResults | None) -> str:
    """Whose results these are, and what differs from the setting."""
    e = stored.experiment
    words = f"stored results of {experiment_label(e)}, {len(e.seeds)} seeds."
    found = differences(e, own.experiment) if own else []
    return f"{words} They differ from your setting: {sentence(found)}." if found else words
