"""The panel: choose an experiment, run it and watch it train.

from labkit.panel.panel import Panel
Panel("lottery")

A hidden clock, ipywidgets' Play, ticks in the front end; each tick pulls the run a little, and
between two ticks the kernel hears the controls. Without threads, asyncio, pyplot or Output widgets,
so it is the same in JupyterLab, Notebook, VS Code, Voila and Colab, with ipywidgets 7.7 or newer.
Where no front end listens, as on a code-hosting page, it is a picture with its numbers.
"""

import html
from collections.abc import Iterator
from typing import Any

import ipywidgets

from labkit.base.machine import find_device, limit_threads
from labkit.base.store import Store
from labkit.experiments.experiment import Experiment
from labkit.experiments.forecast import Forecast, Forecaster
from labkit.experiments.presets import SIZES
from labkit.experiments.running import Event, run
from labkit.experiments.words import as_command, as_python, titles
from labkit.panel.catalogue import PLAYGROUND, STARTS, References, home_of, members
from labkit.panel.charts import Row, download, table
from labkit.panel.controls import REACHED, Controls
from labkit.panel.readings import (
    Readings,
    accuracy_chart,
    curve_chart,
    mask_chart,
    path_chart,
    rows_of,
)
from labkit.panel.session import Session

INTERVAL = 50  # milliseconds between two ticks
_SPAN = 1_000_000  # ticks of one generation: 14 hours
_LATEST = -1


class Panel:
    """A panel that starts at an experiment. Show it by making it the last line of a cell.

    start: an Experiment, the name of a preset (the first experiment of its study), or
    "playground", a small one. size: of the preset. store: None is the user's own. device: see
    `labkit.base.machine.find_device`.
    Raises ValueError for an unknown name, size or device.
    """

    def __init__(
        self,
        start: Experiment | str = PLAYGROUND,
        size: str = "quick",
        *,
        store: Store | None = None,
        device: str = "auto",
    ) -> None:
        limit_threads()
        self._start = members(start, size)[0] if isinstance(start, str) else start
        self._ratio = REACHED if start == PLAYGROUND else None
        self.store = store or Store()
        self.device = find_device(device)
        self.session = Session()
        self._forecaster = Forecaster(self.store, self.device)
        self._references = References(self.store)
        self._forecast: Forecast | None = None
        self._shown = False
        self._due = False  # whether a forecast is to be made at the next tick
        self.experiment: Experiment | None = None
        self.readings = Readings(self._start, self.store)
        self.from_0: Readings | None = None  # the same tickets rewound to 0
        self._make_widgets(start if isinstance(start, str) else "", size)
        self.controls.show(self._start, self._ratio)
        self._show_setting()

    # What a user does. Each method is also the handler of a button.

    def run(self) -> None:
        """Begin to train what the setting shown has no result of, or go on with a paused run."""
        if self.session.state == "paused":
            self.pause()
        elif not self.session.active and self.experiment is not None:
            self._read(self.experiment)
            self.session.start(self._events(self._study()))
            self.controls.disable(True)
            self._start_clock()
            self._show_state()
            self._draw()

    def pause(self) -> None:
        """Pause, or go on."""
        self.session.pause()
        if self.session.state == "running":
            self._start_clock()
        elif self.session.state == "paused":
            self._stop_clock()
        self._show_state()

    def stop(self) -> None:
        """Stop. Networks that are finished stay in the store, and what was drawn stays drawn."""
        was_active = self.session.active
        self.session.stop()
        if was_active:
            self._ended()

    def reset(self) -> None:
        """Stop, and set all controls to what the panel started from. Results are kept."""
        self.stop()
        self.session = Session()
        self.session.generation = self._clock.value // _SPAN
        self.controls.disable(False)
        self.controls.show(self._start, self._ratio)
        self._show_setting()

    def tick(self, number: int | None = None) -> None:
        """What the clock does. number: its value, which tells for which run it ticks; None is the
        present one.
        """
        generation = self.session.generation
        if number is not None and number // _SPAN != generation:
            self._start_clock()  # an echo of an earlier run must not stay the clock's value
            return
        if self.session.state == "running":
            for event in (measured := self.session.pull(generation)):
                for readings in filter(None, (self.readings, self.from_0)):
                    readings.take(event)
            self._show_state()
            if measured:
                self._draw()
            if not self.session.active:
                self._ended()
        else:
            if self._due:
                self._show_forecast()
            if self.session.state != "running":
                self._stop_clock()

    # What is shown.

    def _make_widgets(self, name: str, size: str) -> None:
        style = {"description_width": "9.5em"}
        own = [] if name in STARTS else [("of this page", "")]
        self.preset = ipywidgets.Dropdown(
            options=[*own, *((n, n) for n in STARTS)],
            value=name,
            description="Start from preset",
            style=style,
            layout=ipywidgets.Layout(width="25em"),
        )
        self.size = ipywidgets.Dropdown(
            options=SIZES, value=size, description="Size", style=style,
            layout=ipywidgets.Layout(width="25em"),
        )  # fmt: skip
        self.member = ipywidgets.Dropdown(
            options=[("the only one", 0)], description="Experiment", style=style,
            layout=ipywidgets.Layout(width="51em", max_width="98%"),
        )  # fmt: skip
        self._offer_members()
        self.controls = Controls(self._start, self._show_setting)
        self.setting, self.state = ipywidgets.HTML(), ipywidgets.HTML()
        self.buttons = {
            word: ipywidgets.Button(description=word, layout=ipywidgets.Layout(width="7em"))
            for word in ("Run", "Pause", "Stop", "Reset")
        }
        for word, action in zip(
            self.buttons, (self.run, self.pause, self.stop, self.reset), strict=True
        ):
            self.buttons[word].on_click(lambda _, action=action: action())
        self.progress = ipywidgets.IntProgress(
            description="Progress", max=100, layout=ipywidgets.Layout(width="20em")
        )
        self.round = ipywidgets.Dropdown(
            options=[("the latest", _LATEST)], description="Show round", style=style,
            layout=ipywidgets.Layout(width="25em"),
        )  # fmt: skip
        self.picture, self.numbers = ipywidgets.HTML(), ipywidgets.HTML()
        wide = ipywidgets.Layout(width="51em", max_width="98%", height="5em")
        self.python = ipywidgets.Textarea(description="In Python", style=style, layout=wide)
        self.command = ipywidgets.Textarea(description="In a shell", style=style, layout=wide)
        self._clock = ipywidgets.Play(
            min=0, max=2**50, interval=INTERVAL, layout=ipywidgets.Layout(display="none")
        )
        for choice in (self.preset, self.size):
            choice.observe(lambda _: self._offer_members(), "value")
        self.member.observe(lambda _: self._choose(), "value")
        self.round.observe(lambda _: self._show_round(), "value")
        self._clock.observe(lambda change: self._on_clock(change["new"]), "value")
        wrap = ipywidgets.Layout(flex_flow="row wrap", display="flex")
        self._parts = (
            ipywidgets.Box([self.preset, self.size, self.member], layout=wrap),
            self.controls.box,
            self.setting,
            ipywidgets.Box([*self.buttons.values(), self.progress], layout=wrap),
            self.state,
            self.round,
            self.picture,
            self.numbers,
            ipywidgets.HTML("<b>Share this setting</b>"),
            self.python,
            self.command,
            self._clock,
        )
        self.widget = ipywidgets.VBox(self._parts)

    def _offer_members(self) -> None:
        name = self.preset.value
        names = titles(members(name, self.size.value)) if name else ["of this page"]
        options = [(words, number) for number, words in enumerate(names)]
        self._choosing = True  # the new list is one choice, whatever it sets on the way
        self.member.options = options
        self.member.value = 0
        self._choosing = False
        if hasattr(self, "controls"):
            self._choose()

    def _choose(self) -> None:
        if self._choosing:
            return
        name, start, ratio = self.preset.value, self._start, self._ratio
        if name:
            start = members(name, self.size.value)[self.member.value]
            ratio = REACHED if name == PLAYGROUND else None
        self.controls.show(start, ratio)
        self._show_setting()

    def _show_setting(self) -> None:
        """What the controls say: whether it can be run, what is known of it, how to share it."""
        if self.session.active:  # it was for another setting
            self.stop()
        try:
            experiment = self.controls.experiment()
            words = self.controls.densities(experiment)
        except (ValueError, TypeError, OverflowError) as error:
            self.experiment = None
            self.buttons["Run"].disabled = True
            self.setting.value = _alert(f"This cannot be run: {error}.")
            self.python.value = self.command.value = ""
            return
        self.buttons["Run"].disabled = False
        changed, self.experiment = experiment != self.experiment, experiment
        compared = self.controls.from_initialisation(experiment)
        if changed or compared != (self.from_0 and self.from_0.experiment):
            self._read(experiment)
        if changed:
            options = [("the latest", _LATEST)]
            options += [(str(number), number) for number in range(experiment.rounds + 1)]
            self._choosing = True  # drawn once, below
            self.round.options = options
            self._choosing = False
            if not self.session.active and self.session.state != "ready":
                generation = self.session.generation
                self.session = Session()
                self.session.generation = generation
        self._words = [words, self._stored()]
        self._forecast, self._due = None, True
        self._show_words()
        self.python.value = as_python(experiment)
        try:
            self.command.value = as_command(experiment)
        except ValueError as error:
            self.command.value = f"not possible: {error}"
        self._show_state()
        self._draw()
        self._start_clock()

    def _study(self) -> list[Experiment]:
        """What the controls ask for: the setting, and what it is compared with."""
        return [r.experiment for r in (self.readings, self.from_0) if r]

    def _read(self, experiment: Experiment) -> None:
        """See what is stored of a setting, and of what it is compared with."""
        compared = self.controls.from_initialisation(experiment)
        self.readings = Readings(experiment, self.store)
        self.from_0 = Readings(compared, self.store) if compared else None

    def _stored(self) -> str:
        """How much of the setting is stored, and of which preset that is."""
        found, trials = dict(self.readings.results), dict(self.readings.trials)
        if self.from_0:
            found |= self.from_0.results
            trials |= self.from_0.trials
        of = len(trials)
        if not found:
            return "Nothing of it is stored yet: press Run."
        home = home_of(list(found))
        source = f", part of the preset {home}" if home else ", from earlier runs"
        if len(found) == of:
            return f"Shown below are the stored results of all {of} networks{source}."
        return f"Shown below are the stored results of {len(found)} of {of} networks{source}."

    def _show_words(self) -> None:
        parts = [f"<p>{html.escape(words)}</p>" for words in self._words]
        if self._forecast is not None:
            parts.append(f"<p>{html.escape(self._forecast.in_words())}</p>")
            if warning := self._forecast.warning():
                parts.append(_alert(f"Warning. {warning}", "status"))
        elif self._due:
            parts.append("<p>Time and memory are being measured.</p>")
        self.setting.value = f'<div style="line-height: 1.4">{"".join(parts)}</div>'

    def _show_forecast(self) -> None:
        self._due = False
        if self.experiment is None:
            return
        try:
            self._forecast = self._forecaster.forecast(self._study())
        except Exception as error:  # in a callback it would reach nobody
            self._words = [*self._words[:2], f"Time and memory cannot be predicted: {error}"]
        self._show_words()

    def _show_state(self) -> None:
        words, session = html.escape(self.session.in_words()), self.session
        role = "alert" if session.state == "failed" else "status"
        self.state.value = f'<p role="{role}"><strong>{words}</strong></p>'
        self.progress.value = 100 if session.state == "done" else session.pace.percent
        paused = session.state == "paused"
        self.buttons["Pause"].description = "Continue" if paused else "Pause"

    def _show_round(self) -> None:
        if not self._choosing:
            self._draw()

    def _draw(self) -> None:
        own = self.readings
        name, reference = self._references.behind(own.experiment)
        number = self.round.value
        number = own.latest_round if number is None or number == _LATEST else number
        charts = [accuracy_chart(own, reference, self.from_0), curve_chart(own, number)]
        rewound = [row for row in self.from_0.tickets() if row["round"]] if self.from_0 else []
        tables: list[tuple[str, list[Row]]] = [
            ("networks", [*own.tickets(), *rewound]),
            ("curves", rows_of(own.curve_lines(number), "iteration", "validation accuracy (%)")),
        ]
        if own.experiment.instability.copies:
            charts.append(path_chart(own, number))
            rows = rows_of(own.path_lines(number), "alpha", "test error (%)")
            tables.append(("error along the line", rows))
        if not self.session.active and (map_ := mask_chart(own, number, self.store)):
            charts.append(map_[0])
            tables.append(("pixels", map_[1]))
        cells = "".join(f'<div style="flex: 1 1 22em; max-width: 30em">{c}</div>' for c in charts)
        note = "There are no other results of this data set and network to draw behind."
        if name:
            note = f"Drawn pale behind: the results of {name}."
        self.picture.value = (
            f'<div style="display: flex; flex-wrap: wrap; gap: 8px">{cells}</div><p>{note}</p>'
        )
        shown = [(f"{name}.csv".replace(" ", "-"), name, rows) for name, rows in tables]
        self.numbers.value = "".join(
            f"<div>{table(name.capitalize(), rows)}{download(file, rows)}</div>"
            for file, name, rows in shown
            if rows
        )

    # The clock.

    def _on_clock(self, number: int) -> None:
        if number % _SPAN:  # multiples are set by the kernel
            self.tick(number)

    def _start_clock(self) -> None:
        base = self.session.generation * _SPAN
        if self._clock.value // _SPAN != self.session.generation:
            self._clock.value = base
        # A front end starts at the change, and only once it shows the clock; a page that was loaded
        # again does not tick although the kernel's clock plays.
        if self._shown:
            _set_playing(self._clock, False)
            _set_playing(self._clock, True)

    def _stop_clock(self) -> None:
        _set_playing(self._clock, False)

    def _events(self, study: list[Experiment]) -> Iterator[Event]:
        return run(study, self.store, self.device)

    def _ended(self) -> None:
        self._references.forget()
        self.controls.disable(False)
        self._show_state()
        self._words = [self._words[0], self._stored()]
        self._forecast, self._due = None, True
        self._show_words()
        self._draw()

    # Where no front end listens, and where one does.

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        if self._due:
            self._show_forecast()
        self._stop_clock()
        if self._shown:  # a clock that is shown twice stops
            before, self.widget = self.widget, ipywidgets.VBox(self._parts)
            before.close()
        self._shown = True
        return {
            "application/vnd.jupyter.widget-view+json": {
                "version_major": 2,
                "version_minor": 0,
                "model_id": self.widget.model_id,
            },
            "text/html": self.picture.value + self.numbers.value,
            "text/plain": f"A panel for {self.experiment or self._start}",
        }


def _alert(words: str, role: str = "alert") -> str:
    return f'<p role="{role}"><strong>{html.escape(words)}</strong></p>'


def _set_playing(clock: Any, playing: bool) -> None:
    # ipywidgets 8 renamed it.
    setattr(clock, "playing" if clock.has_trait("playing") else "_playing", playing)
