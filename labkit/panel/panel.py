"""The panel: ask, choose an experiment, run it and watch it train.

from labkit import Panel
Panel("lottery")

A hidden clock ticks in the front end; each tick pulls the run a little, and between two ticks the
kernel hears the controls (`labkit.panel.clock`). Without threads, pyplot or Output widgets, so it
is the same in JupyterLab, Notebook, VS Code, Voila and Colab, with ipywidgets 7.7 or newer. Where
no front end listens, as on a code-hosting page, it is a picture with its numbers.
"""

import html
from collections.abc import Iterator
from typing import Any

import ipywidgets

from labkit.base.machine import find_device, limit_threads
from labkit.base.store import Store
from labkit.experiments.experiment import Experiment
from labkit.experiments.forecast import Forecast, Forecaster, count_networks
from labkit.experiments.running import Event, run
from labkit.panel import vocabulary
from labkit.panel.amends import CLASS, readable_folds
from labkit.panel.answers import answer_to, show_of
from labkit.panel.clock import Clock
from labkit.panel.codes import experiment_of, name_of, setting_of_page
from labkit.panel.controls import Controls
from labkit.panel.gallery import Gallery
from labkit.panel.live import tables_of
from labkit.panel.live_results import LiveResults
from labkit.panel.numbers import download, table
from labkit.panel.questions import Question
from labkit.panel.references import (
    PLAYGROUND,
    References,
    home_of,
    members,
    opening,
)
from labkit.panel.runbar import RunBar
from labkit.panel.session import Session
from labkit.panel.share import ShareBox
from labkit.panel.shown import close_replaced
from labkit.panel.stage import Stage
from labkit.panel.starts import Starts

MOST_NETWORKS = 1_000  # of a setting: more are for the command line
_MORE, _SHARE, _NUMBERS = range(3)  # the folds


class Panel:
    """A panel that starts at an experiment. Show it by making it the last line of a cell.

    start: an Experiment, the name of a preset (an experiment of its study), "playground", a small
    one, or a shared code; None is "playground" or, under Voila, what `?setting=` says. size: of the
    preset. store: None is the user's own. device: see `labkit.base.machine.find_device`.
    Raises ValueError for an unknown name, size, code or device.
    """

    def __init__(
        self,
        start: Experiment | str | None = None,
        size: str = "quick",
        *,
        store: Store | None = None,
        device: str = "auto",
    ) -> None:
        limit_threads()
        start = setting_of_page() or PLAYGROUND if start is None else start
        self._name, self._size = "", size
        if isinstance(start, Experiment):
            self._start = start
        elif "~" in start or "." in start:
            self._start = experiment_of(start)
            self._name = name_of(start)
        else:
            self._start = members(start, size)[opening(start, size)]
            self._name = start
        self.store = store or Store()
        self.device = find_device(device)
        self.session = Session()
        self._forecaster = Forecaster(self.store, self.device)
        self._references = References(self.store)
        self._forecast: Forecast | None = None
        self._alone = False  # whether its clock was found not to tick
        self._due = False  # whether a forecast is to be made at the next tick
        self.experiment: Experiment | None = None
        self.live_results = LiveResults(self._start, self.store)
        self.from_0: LiveResults | None = None  # the same tickets rewound to 0
        self._make_widgets()
        self.controls.show(self._start)
        self._show_setting()

    # What a user does. Each method is also the handler of a button.

    def run(self) -> None:
        """Begin to train what the setting shown has no result of, or go on with a paused run."""
        if self.session.state == "paused":
            self.pause()
        elif not self.session.active and self.experiment is not None:
            self._read(self.experiment)
            self.stage.restart()
            self.session.start(self._events(self._study()))
            self.controls.disable(True)
            self._start_clock()
            self._show_state()
            self._draw()
        if self._alone and self.session.state == "running":
            self._go_on_alone()

    def pause(self) -> None:
        """Pause, or go on."""
        self.session.pause()
        if self.session.state == "running":
            self._start_clock()
        elif self.session.state == "paused":
            self._clock.stop()
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
        self._new_session()
        self.controls.disable(False)
        self.controls.show(self._start)
        self.gallery.leave()
        self._show_setting()

    def tick(self, generation: int | None = None) -> None:
        """What the clock does, for a run's generation; None is the present one."""
        if generation is not None and generation != self.session.generation:
            return
        self._alone = False
        if self.session.state == "running":
            self._pull()
            return
        if self._due:
            self._show_forecast()
        if self.session.state != "running":
            self._clock.stop()

    def run_question(self) -> None:
        """Run oneself what the question asks."""
        if (question := self.gallery.question) and not self.gallery.waiting:
            self.stop()
            self.controls.show(question.live)
            self._show_setting()
            self.run()

    # The run.

    def _pull(self) -> None:
        measured = self.session.pull(self.session.generation)
        for event in measured:
            for live_results in filter(None, (self.live_results, self.from_0)):
                live_results.take(event)
        self._show_state()
        if measured:
            self._draw()
        if not self.session.active:
            self._ended()

    def _go_on_alone(self) -> None:
        """Run to the end in this very callback: no tick comes, and no button is heard."""
        try:
            while self.session.state == "running":
                self._pull()
        except KeyboardInterrupt:
            self.stop()

    def _on_silence(self) -> None:
        """The clock does not tick."""
        self._alone = True
        if self._due:
            self._show_forecast()
        if self.session.state == "running":
            self._go_on_alone()

    def _start_clock(self) -> None:
        self._alone = self._alone or self._clock.dead
        self._clock.start(self.session.generation)

    def _events(self, study: list[Experiment]) -> Iterator[Event]:
        return run(study, self.store, self.device)

    def _new_session(self) -> None:
        generation = self.session.generation
        self.session = Session()
        self.session.generation = generation

    def _ended(self) -> None:
        self._references.forget()
        self.controls.disable(False)
        self._forecast, self._due = None, True
        self._show_state()
        self._show_words()
        self._draw()
        self._show_numbers()

    # What is shown.

    def _make_widgets(self) -> None:
        self.gallery = Gallery(self._ask, self._answer, self.run_question)
        self.stage = Stage(self._move)
        self.controls = Controls(self._start, self._change)
        self.starts = Starts(self._start, self._name, self._size, self._choose)
        self.share = ShareBox()
        self.setting, self.numbers = ipywidgets.HTML(), ipywidgets.HTML()
        self.bar = RunBar(self.run, self.pause, self.stop, self.reset)
        self._clock = Clock(self.tick, self._on_silence)
        more = ipywidgets.VBox([self.starts.box, self.controls.more])
        self.folds = ipywidgets.Accordion([more, self.share.box, self.numbers], selected_index=None)
        for place, title in enumerate(("More settings", "Share", "The numbers")):
            self.folds.set_title(place, title)
        self.folds.observe(lambda _: self._show_numbers(), "selected_index")
        self._parts = (
            self.gallery.box,
            self.stage.box,
            self.bar.box,
            self.controls.main,
            self.setting,
            self.folds,
            self._clock.box,
            readable_folds(),
        )
        self.widget = self._box()

    def _box(self) -> ipywidgets.VBox:
        box = ipywidgets.VBox(self._parts)
        box.add_class(CLASS)
        return box

    def _choose(self, start: Experiment) -> None:
        self.controls.show(start)
        self.gallery.leave()
        self._show_setting()

    def _change(self) -> None:
        """A control was changed."""
        if self.session.active:  # it was for another setting
            self.stop()
        self._show_setting()

    def _show_setting(self) -> None:
        """What the controls say: whether it can be run, what is known of it, how to share it."""
        try:
            experiment = self.controls.experiment()
            if (count := count_networks(experiment)) > MOST_NETWORKS:
                raise ValueError(
                    f"Seeds and Rounds make {count:,} networks; a panel runs at most "
                    f"{MOST_NETWORKS:,}, the command line any number"
                )
        except (ValueError, TypeError, OverflowError) as error:
            self.experiment = None
            self.bar.buttons["Run"].disabled = True
            self.setting.value = _alert(f"This cannot be run. {vocabulary.refusal(error)}.")
            self.share.show(None)
            self._show_state()
            return
        self.bar.buttons["Run"].disabled = False
        self.controls.refresh(experiment)
        changed, self.experiment = experiment != self.experiment, experiment
        compared = self.controls.from_initialisation(experiment)
        if changed or compared != (self.from_0 and self.from_0.experiment):
            self._read(experiment)
        if changed:
            self.stage.restart()
            if not self.session.active and self.session.state != "ready":
                self._new_session()
        self._forecast, self._due = None, True
        self._show_words()
        self.share.show(experiment)
        self._show_state()
        self._draw()
        self._show_numbers()
        self._start_clock()

    def _study(self) -> list[Experiment]:
        """What the controls ask for: the setting, and what it is compared with."""
        return [r.experiment for r in (self.live_results, self.from_0) if r]

    def _read(self, experiment: Experiment) -> None:
        """See what is stored of a setting, and of what it is compared with."""
        compared = self.controls.from_initialisation(experiment)
        self.live_results = LiveResults(experiment, self.store)
        self.from_0 = LiveResults(compared, self.store) if compared else None

    def _stored(self) -> str:
        """How much of the setting is stored, and of which preset that is."""
        found, trials = dict(self.live_results.results), dict(self.live_results.trials)
        if self.from_0:
            found |= self.from_0.results
            trials |= self.from_0.trials
        if not found:
            return "Nothing of this setting is stored yet: press Run."
        home = home_of(self.live_results.experiment)
        source = f", part of the preset {home}" if home else ", from earlier runs"
        count = (
            f"all {len(trials)}" if len(found) == len(trials) else f"{len(found)} of {len(trials)}"
        )
        return f"Stored of this setting: {count} networks{source}."

    def _show_words(self, trouble: str = "") -> None:
        if self.experiment is None:
            return
        told = [self.controls.said, self._stored()]
        if self._forecast is not None:
            told.append(self._forecast.in_words())
        elif trouble or self._due:
            told.append(trouble or "Time and memory are being measured.")
        words = html.escape(" ".join(filter(None, told)))
        warning = self._forecast.warning() if self._forecast else ""
        self.setting.value = f'<p style="line-height: 1.4; margin: 2px 0">{words}</p>' + (
            _alert(f"Warning. {warning}", "status") if warning else ""
        )

    def _show_forecast(self) -> None:
        self._due = False
        if self.experiment is None:
            return
        trouble = ""
        try:
            self._forecast = self._forecaster.forecast(self._study())
        except Exception as error:  # in a callback it would reach nobody
            trouble = f"Time and memory cannot be predicted: {error}"
        self._show_words(trouble)

    def _show_state(self) -> None:
        self.bar.show(self.session, self._alone, self.experiment is not None)

    # The stage.

    def _ask(self) -> None:
        """A question was chosen, or none."""
        self.stop()
        if question := self.gallery.question:
            self.controls.show(question.live)
        self._show_setting()

    def _answer(self) -> None:
        self.stage.restart()
        self._draw()

    def _move(self) -> None:
        """Another density was chosen: tables of the one before are folded, not left to be read."""
        self._draw()
        if self.folds.selected_index == _NUMBERS:
            self.folds.selected_index = None

    def _draw(self) -> None:
        question, session = self.gallery.question, self.session
        if question and session.state == "ready":
            self._draw_answer(question)
            return
        show = show_of(
            self.live_results, self.from_0, self._references, self._name,
            self.controls.parts["from 0"].value,
        )  # fmt: skip
        self.stage.show(show, session.station)

    def _draw_answer(self, question: Question) -> None:
        guess = self.gallery.guess
        if guess is None or guess.value is None:
            words = f"{question.text} Guess first: choose above, then the answer shows."
            self.stage.hide(words)
        elif show := answer_to(question, str(guess.value), self._references):
            self.stage.show(show)
        else:
            self.stage.hide("No answer to it is stored here: run it yourself.")

    def _show_numbers(self) -> None:
        """Tables, which are sent where they are unfolded alone."""
        unfolded = self.folds.selected_index == _NUMBERS
        self.numbers.value = self._numbers() if unfolded else ""

    def _numbers(self) -> str:
        if self.stage.view is None:
            return ""
        return "".join(
            f"<div>{table(name.capitalize(), rows)}"
            f"{download(f'{name}.csv'.replace(' ', '-'), rows)}</div>"
            for name, rows in tables_of(self.stage.view)
        )

    # Where no front end listens, and where one does.

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        if self._due:
            self._show_forecast()
        close_replaced(self)
        before, self.widget = self.widget, self._box()
        before.close()
        self._alone = False
        self._clock.shown(running=self.session.state == "running")
        return {
            "application/vnd.jupyter.widget-view+json": {
                "version_major": 2,
                "version_minor": 0,
                "model_id": self.widget.model_id,
            },
            "text/html": self.stage.as_html() + self._numbers(),
            "text/plain": f"A panel for {self.experiment or self._start}",
        }

    def close(self) -> None:
        """Stop, and take the widgets away."""
        self.stop()
        _close(self.widget)


def _close(widget: Any) -> None:
    for child in getattr(widget, "children", ()):
        _close(child)
    widget.close()


def _alert(words: str, role: str = "alert") -> str:
    return f'<p role="{role}" style="margin: 2px 0"><strong>{html.escape(words)}</strong></p>'
