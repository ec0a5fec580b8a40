"""The lists from which a person chooses an experiment to start from."""

from collections.abc import Callable

import ipywidgets

from labkit.experiments.experiment import Experiment
from labkit.experiments.presets import SIZES
from labkit.panel import vocabulary
from labkit.panel.references import SIZE_WORDS, STARTS, TITLES, members, opening


class Starts:
    """Three lists: a preset, its size, an experiment of its study. `box` is what to display.

    own: the experiment of this page; name: of the preset it comes from, or "". chosen: called with
    what a person or a program has chosen.
    """

    def __init__(
        self, own: Experiment, name: str, size: str, chosen: Callable[[Experiment], None]
    ) -> None:
        self._own, self._chosen, self._quiet = own, chosen, True
        names = [] if name in STARTS else [("this page's own", "")]
        names += [(TITLES.get(n, n.replace("-", " ")), n) for n in STARTS]
        self.preset = _list("Start from", names, name)
        sizes = [(SIZE_WORDS[word], word) for word in SIZES]
        self.size = _list("Size", sizes, size if size in SIZES else "quick")
        self.member = _list("Experiment", [("the only one", 0)], 0)
        self.member.layout = ipywidgets.Layout(width="98%", max_width="970px")
        self.box = ipywidgets.Box(
            [self.preset, self.size, self.member],
            layout=ipywidgets.Layout(display="flex", flex_flow="row wrap", width="100%"),
        )
        self._offer()
        for choice in (self.preset, self.size):
            choice.observe(lambda _: self._offer(), "value")
            choice.observe(lambda _: self._choose(), "value")
        self.member.observe(lambda _: self._choose(), "value")

    def _study(self) -> tuple[Experiment, ...]:
        name = self.preset.value
        return members(name, self.size.value) if name else (self._own,)

    def _offer(self) -> None:
        self._quiet = True  # the new list is one choice, whatever it sets on the way
        titles = vocabulary.titles(self._study())
        self.member.options = [(words, number) for number, words in enumerate(titles)]
        self.member.value = opening(self.preset.value, self.size.value)
        self._quiet = False

    def _choose(self) -> None:
        if not self._quiet:
            self._chosen(self._study()[self.member.value])


def _list(label: str, options: list, value: object) -> ipywidgets.Dropdown:
    return ipywidgets.Dropdown(
        options=options,
        value=value,
        description=label,
        style={"description_width": "9.2em"},
        layout=ipywidgets.Layout(flex="1 1 300px", max_width="480px"),
    )
