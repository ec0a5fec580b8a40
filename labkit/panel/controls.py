"""The controls of a panel: an experiment as labelled, native form elements, and back.

What has no row in `labkit.panel.rows` keeps the value of the experiment that the controls were set
to, and can be written as on the command line under "Further settings". A list offers only what can
be run with all else as it is. Where a choice leaves others without sense, they go to their first
value, and `said` tells it; all else that does not go together is for `Experiment` to refuse.
"""

import html
import math
import shlex
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, reduce
from typing import Any

import ipywidgets

from labkit.base.validation import whole
from labkit.engine.connectivity import Instability
from labkit.engine.networks import outline
from labkit.engine.pruning import CRITERIA, Pruning
from labkit.experiments.experiment import Experiment
from labkit.experiments.forecast import densities, image_of, rate_for
from labkit.experiments.task import Task
from labkit.experiments.treatments import TREATMENTS, Treatment
from labkit.experiments.words import with_settings, with_values
from labkit.figures.picture import look_of
from labkit.panel import vocabulary
from labkit.panel.amends import named
from labkit.panel.rows import (
    ALIKE,
    EVERY,
    LAST,
    ROWS,
    Row,
    criteria_of,
    digits,
    number,
    offered,
    output_rate,
)
from labkit.panel.vocabulary import LABELS, Words

LEFT_LABEL = "How much is left"
LEFT = tuple(float(f"{100 * 0.8**k:.2g}") for k in range(24))  # %, the densities of the paper
_MOST_ROUNDS = 100
_STYLE = {"description_width": "initial"}
_ALWAYS = ("kind", "rewind", "treated")  # what fits of these is known before


class Controls:
    """The form. Its widgets by name are in `parts`; `main` and `more` are what to display.

    changed: called after every change by a user or a program, but those made by `show`.
    """

    def __init__(self, experiment: Experiment, changed: Callable[[], None]) -> None:
        self._changed, self._quiet = changed, True
        self._base, self._by_left, self.said = experiment, False, ""
        self.parts: dict[str, Any] = {name: _part(row) for name, row in ROWS.items()}
        self._cells = {name: _cell(self.parts[name], row.help) for name, row in ROWS.items()}
        self._make_left()
        self._make_treatments()
        order = ("kind", "left", "rewind", "learning_rate")
        self.main = ipywidgets.Box([self._cells[name] for name in order], layout=_wrapped())
        rest = [cell for name, cell in self._cells.items() if name not in order]
        self.more = ipywidgets.Box(rest, layout=_wrapped())
        self.show(experiment)
        for name, part in self.parts.items():
            part.observe(lambda _, name=name: self._on_change(name), "value")

    def show(self, experiment: Experiment) -> None:
        """Set every control to this experiment."""
        self._base, self._by_left, self.said, self._quiet = experiment, False, "", True
        try:
            for name, row in ROWS.items():
                self._set(name, row, experiment)
            chosen = {t.name for t in experiment.treatments}
            for name in TREATMENTS:
                if f"treatment {name}" in self.parts:
                    self.parts[f"treatment {name}"].value = name in chosen
            self.parts["further"].value = ""
            self._say_left(experiment)
            self._offer(experiment)
        finally:
            self._quiet = False

    def experiment(self) -> Experiment:
        """What the controls say. Raises ValueError, in words, for what does not go together."""
        found = with_settings(self._chosen(), shlex.split(self.parts["further"].value))
        # Images that are too small for the network are found here, too.
        densities(found.task, found.pruning, found.rounds)
        return found

    def refresh(self, experiment: Experiment) -> None:
        """Say the same in all controls after one has changed: how much is left, and what can be."""
        self._quiet = True
        try:
            self._say_left(experiment)
            self._offer(experiment)
        finally:
            self._quiet = False

    def from_initialisation(self, experiment: Experiment) -> Experiment | None:
        """The same tickets rewound to 0, to compare a later iteration with, or None without."""
        if not (self.parts["from 0"].value and experiment.rewind and experiment.rounds):
            return None
        return replace(experiment, rewind=0, treatments=(), instability=Instability())

    def disable(self, disabled: bool) -> None:
        """Grey out the whole form, or not."""
        for part in (*self.parts.values(), self.slider):
            part.disabled = disabled
        if not disabled:
            self._offer_treatments(self._base)

    # How the widgets are made.

    def _make_left(self) -> None:
        """How much is left: a slider from dense to sparse, and a field that has a label."""
        self.parts["left"] = _text(LEFT_LABEL)
        self.parts["left"].placeholder = "%"
        self.slider = ipywidgets.IntSlider(
            max=len(LEFT) - 1, readout=False, continuous_update=False,
            layout=ipywidgets.Layout(width="auto", margin="0 6px"),
        )  # fmt: skip
        self.slider.observe(lambda change: self._slide(change["new"]), "value")
        self._left_note = ipywidgets.HTML()
        self._cells["left"] = ipywidgets.VBox(
            [self.parts["left"], self.slider, named(LEFT_LABEL), self._left_note],
            layout=_cell_layout(),
        )

    def _make_treatments(self) -> None:
        wide = ipywidgets.Layout(width="17em")
        checks = {
            "from 0": ipywidgets.Checkbox(
                value=True, description="itself, rewound to 0", indent=False, layout=wide
            )
        }
        for name in TREATMENTS:
            if name != "rewind":
                words = look_of(name).name
                checks[f"treatment {name}"] = ipywidgets.Checkbox(
                    description=words, indent=False, layout=wide
                )
        self.parts |= checks
        self.parts["further"] = _text("Further settings")
        self.parts["further"].placeholder = "optimizer_state=restored task.recipe.batch_size=128"
        self.parts["further"].layout = ipywidgets.Layout(width="98%")
        self._cells["further"] = _cell(
            self.parts["further"], "Whatever has no control, as on the command line.", "98%"
        )
        label = ipywidgets.HTML(_small("Compare the ticket with, on its masks:"))
        self._cells["treatments"] = ipywidgets.VBox(
            [label, ipywidgets.Box(list(checks.values()), layout=_wrapped())],
            layout=ipywidgets.Layout(width="98%"),
        )

    # From widgets to an experiment.

    def _chosen(self) -> Experiment:
        base = self._base
        values = {
            row.field: row.take(self._value(name), base)
            for name, row in ROWS.items()
            if name not in ("rate", "output", "treated")
        }
        rounds = whole(LABELS["rounds"], values["rounds"], 0, _MOST_ROUNDS)
        values["treatments"] = self._treatments()
        treated = {EVERY: None, LAST: (rounds,) if rounds else None}
        values["treated_rounds"] = treated.get(
            self.parts["treated"].value, _up_to(rounds, base.treated_rounds)
        )
        values["analysed_rounds"] = _up_to(rounds, base.analysed_rounds)
        pruning = self._pruning(values)
        named = {f"pruning.{name}": value for name, value in vars(pruning).items()}
        return with_values(base, values | named)

    def _pruning(self, values: dict[str, Any]) -> Pruning:
        """What and how much is removed; values: those of the other rows."""
        base = self._base
        changes = {name: values[f"pruning.{name}"] for name in ("kind", "criterion", "scope")}
        if changes["kind"] != base.pruning.kind or values["task.network"] != base.task.network:
            changes["layer_rates"] = ()

        def at(rate: float) -> Pruning:
            own: dict[str, Any] = {} if rate == base.pruning.rate else {"layer_rates": ()}
            word = self.parts["output"].value
            own["output_rate"] = output_rate(word, rate, base.pruning.output_rate)
            return replace(base.pruning, **(changes | own), rate=rate)

        if not self._by_left:
            row = ROWS["rate"]
            return at(row.take(self._value("rate"), base))
        left = number(LEFT_LABEL, self.parts["left"].value)
        if not 0 < left < 100:
            raise ValueError(f"{LEFT_LABEL} must be between 0 and 100%, not {left:g}")
        rounds = whole(LABELS["rounds"], values["rounds"], 1, _MOST_ROUNDS)
        task = replace(base.task, dataset=values["task.dataset"], network=values["task.network"])
        return at(rate_for(task, at, rounds, left / 100))

    def _treatments(self) -> tuple[Treatment, ...]:
        """Those of before in their order, then what was ticked."""
        ticked = [
            treatment
            for name, treatment in TREATMENTS.items()
            if (part := self.parts.get(f"treatment {name}")) and part.value
        ]
        base = self._base.treatments
        own = [
            t
            for t in base
            if t in ticked or TREATMENTS.get(t.name) != t or f"treatment {t.name}" not in self.parts
        ]
        return tuple(dict.fromkeys((*own, *ticked)))

    def _value(self, name: str) -> Any:
        """What a row's widget says: a list's choice, or the number in a field."""
        row, value = ROWS[name], self.parts[name].value
        if row.offers is not None:
            return value
        typed = number(row.label, value)
        if row.whole and typed != int(typed):
            raise ValueError(f"{row.label} must be a whole number, not {value}")
        return int(typed) if row.whole else typed

    # From an experiment to widgets.

    def _set(self, name: str, row: Row, e: Experiment) -> None:
        part, value = self.parts[name], self._shown(row, e)
        if row.offers is None:
            part.value = digits(value)
            return
        _options(part, row.offers(e), value)

    def _shown(self, row: Row, e: Experiment) -> Any:
        """A row's value of an experiment, as its widget has it."""
        return row.show(reduce(getattr, row.field.split("."), e), e)

    def _say_left(self, e: Experiment) -> None:
        """The density that is reached, in the field, the slider and in numbers of weights."""
        found = densities(e.task, e.pruning, e.rounds)
        what = vocabulary.what_is_left(e.pruning, e.task.network)
        self.slider.disabled = self.parts["left"].disabled = found is None or not e.rounds
        if found is None:
            self.parts["left"].value = ""
            self._left_note.value = _small(
                f"Which {what} go depends on the training: choose how much each round removes."
            )
            return
        weights = weights_of(e.task)
        percent, left = 100 * found[-1], round(found[-1] * weights)
        if not self._by_left:
            self.parts["left"].value = f"{percent:.3g}"
        place = max(percent, LEFT[-1])  # nothing may be left
        self.slider.value = min(range(len(LEFT)), key=lambda i: abs(math.log(LEFT[i] / place)))
        self._left_note.value = _small(
            f"{percent:.3g}% density: {left:,} of {weights:,} weights survive."
        )
        if self._by_left:
            self.parts["rate"].value = digits(round(100 * e.pruning.rate, 4))

    def _offer(self, e: Experiment) -> None:
        """Only what can be run, with all else as it is."""
        for name, row in ROWS.items():
            if row.offers is not None:
                part, own = self.parts[name], self._shown(row, self._base)
                known = row.offers(e)
                if own not in [value for _, value in known]:
                    known.append((str(own), own))
                fitting = [
                    (words, value)
                    for words, value in known
                    if value == part.value or name in _ALWAYS or self._fits(e, name, value)
                ]
                _options(part, fitting, part.value)
        self._offer_treatments(e)

    def _offer_treatments(self, e: Experiment) -> None:
        structured = e.pruning.structured
        for name, treatment in TREATMENTS.items():
            if part := self.parts.get(f"treatment {name}"):
                part.disabled = structured and not part.value and _needs_holes(treatment)
        self.parts["from 0"].disabled = not e.rewind
        self.parts["treated"].disabled = not e.treatments

    def _fits(self, e: Experiment, name: str, value: Any) -> bool:
        changes: dict[str, Any] = {ROWS[name].field: ROWS[name].take(value, e)}
        if name == "network":
            changes |= {"pruning.layer_rates": ()}
        try:
            other = with_values(e, changes)
            densities(other.task, other.pruning, min(other.rounds, 1))
        except ValueError:
            return False
        return True

    # What a user does.

    def _on_change(self, name: str) -> None:
        if self._quiet:
            return
        self.said = ""
        if name in ("left", "rate"):
            self._by_left = name == "left"
        if name in ("kind", "network", "dataset"):
            self._quiet = True
            try:
                self._settle()
            finally:
                self._quiet = False
        self._changed()

    def _slide(self, place: int) -> None:
        if not self._quiet:
            self.parts["left"].value = f"{LEFT[place]:g}"

    def _settle(self) -> None:
        """Other choices that have no sense any more go to their first value, which is told."""
        kind, changed = self.parts["kind"].value, []
        if self.parts["criterion"].value not in CRITERIA[kind]:
            _options(self.parts["criterion"], criteria_of(kind), "magnitude")
            changed.append(ROWS["criterion"].label)
        if kind == "structured":
            if self.parts["scope"].value != "layerwise":  # so that how much is left is known before
                _options(self.parts["scope"], offered(vocabulary.SCOPES), "layerwise")
                changed.append(ROWS["scope"].label)
            if self.parts["output"].value != ALIKE:
                self.parts["output"].value = ALIKE
                changed.append(ROWS["output"].label)
            for name, treatment in TREATMENTS.items():
                part = self.parts.get(f"treatment {name}")
                if part and part.value and _needs_holes(treatment):
                    part.value = False
                    changed.append(look_of(name).name)
        if changed:
            self.said = f"Changed with it: {', '.join(changed)}."


def _needs_holes(treatment: Treatment) -> bool:
    """Whether it makes no sense for a network that is really narrower."""
    rescaled, frozen = treatment.weights == "rescaled", treatment.removed == "frozen"
    return treatment.mask == "random" or rescaled or frozen


@lru_cache(maxsize=64)
def weights_of(task: Task) -> int:
    """How many weights can be pruned of a task's network."""
    shape, classes = image_of(task)
    network = outline(task.network, shape, classes)
    return sum(weight[0].numel() for weight in network.prunable().values())


def _up_to(rounds: int, numbers: tuple[int, ...] | None) -> tuple[int, ...] | None:
    return None if numbers is None else tuple(n for n in numbers if n <= rounds) or None


def _options(part: Any, options: Words, value: Any) -> None:
    """Give a list its options; a value of the experiment's own is one of them."""
    if value not in [own for _, own in options]:
        options = [*options, (str(value), value)]
    if list(part.options) != options:
        part.options = options
    part.value = value


# How they look.


def _part(row: Row) -> Any:
    if row.offers is None:
        return _text(row.label)
    return ipywidgets.Dropdown(description=row.label, style=_STYLE, layout=_field())


def _text(label: str) -> ipywidgets.Text:
    return ipywidgets.Text(
        description=label, continuous_update=False, style=_STYLE, layout=_field()
    )


def _field() -> ipywidgets.Layout:
    return ipywidgets.Layout(width="auto", margin="2px 0 0 0")


def _cell(part: Any, help_text: str, width: str = "") -> ipywidgets.VBox:
    layout = ipywidgets.Layout(width=width) if width else _cell_layout()
    return ipywidgets.VBox([part, ipywidgets.HTML(_small(help_text))], layout=layout)


def _cell_layout() -> ipywidgets.Layout:
    return ipywidgets.Layout(flex="1 1 250px", max_width="400px", margin="0 10px 4px 0")


def _wrapped() -> ipywidgets.Layout:
    return ipywidgets.Layout(display="flex", flex_flow="row wrap", width="100%")


def _small(words: str) -> str:
    return f'<div style="font-size: 0.86em; line-height: 1.35">{html.escape(words)}</div>'
