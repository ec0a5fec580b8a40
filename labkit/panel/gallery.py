"""The gallery: a list of questions, the guess, and a button to run it oneself."""

from collections.abc import Callable

import ipywidgets

from labkit.panel.guess import Guess, guess
from labkit.panel.questions import QUESTIONS, Question

_FREE = "Explore freely"


class Gallery:
    """`box` is what to display. asked, guessed, run: called when a question is chosen (or none),
    when it is guessed at, and for "Run it yourself".
    """

    def __init__(
        self, asked: Callable[[], None], guessed: Callable[[], None], run: Callable[[], None]
    ) -> None:
        self._asked, self._guessed = asked, guessed
        self.question: Question | None = None
        self._guesses: dict[str, Guess] = {}
        numbered = enumerate(QUESTIONS, start=1)
        options = [(_FREE, ""), *((f"{n}. {q.text}", q) for n, q in numbered)]
        self.list = ipywidgets.Dropdown(
            options=options, index=0, description="Question",
            style={"description_width": "initial"},
            layout=ipywidgets.Layout(flex="1 1 300px", max_width="900px"),
        )  # fmt: skip
        self.next = ipywidgets.Button(
            description="Next question", layout=ipywidgets.Layout(width="9em")
        )
        self.live = ipywidgets.Button(
            description="Run it yourself", layout=ipywidgets.Layout(width="9em")
        )
        self.list.observe(lambda change: self._choose(change["new"] or None), "value")
        self.next.on_click(lambda _: self._go_on())
        self.live.on_click(lambda _: run())
        self._row = ipywidgets.Box(
            layout=ipywidgets.Layout(display="flex", flex_flow="row wrap", width="100%")
        )
        wrapped = ipywidgets.Layout(display="flex", flex_flow="row wrap", width="100%")
        self.box = ipywidgets.VBox(
            [ipywidgets.Box([self.list, self.next], layout=wrapped), self._row]
        )

    @property
    def guess(self) -> Guess | None:
        """The guess at the present question, made or not."""
        return None if self.question is None else self._guesses[self.question.name]

    @property
    def waiting(self) -> bool:
        """Whether a guess has to come first."""
        return self.guess is not None and self.guess.value is None

    def leave(self) -> None:
        """Ask nothing any more."""
        self.list.value = ""

    def _choose(self, question: Question | None) -> None:
        self.question = question
        for old in self._row.children[:1]:
            old.close()
        self._row.children = ()
        if question is not None:
            if question.name not in self._guesses:
                words = [option for option, _, _ in question.options]
                made = guess(question.name, question.text, words)
                made.guessed = self._take
                self._guesses[question.name] = made
            self._row.children = (self._guesses[question.name].widget(), self.live)
            self.live.disabled = self.waiting
        self._asked()

    def _take(self) -> None:
        self.live.disabled = False
        self._guessed()

    def _go_on(self) -> None:
        at = 0 if self.question is None else QUESTIONS.index(self.question) + 1
        self.list.value = QUESTIONS[at % len(QUESTIONS)]
