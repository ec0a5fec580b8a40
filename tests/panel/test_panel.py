"""The panel, driven in Python: what is chosen, run, stopped and shown."""

import csv
import io
import multiprocessing
import re
import shlex
import sys
from base64 import b64decode
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from ipywidgets import Widget

from labkit.base.store import Store
from labkit.engine.pruning import Pruning
from labkit.engine.training import Recipe
from labkit.experiments.experiment import Experiment, Task, all_trials
from labkit.experiments.forecast import Forecast
from labkit.experiments.presets import NAMES, SIZES
from labkit.experiments.results import tables
from labkit.experiments.running import Finished, Progress
from labkit.experiments.words import as_command, as_python, with_settings
from labkit.panel import panel as panel_module
from labkit.panel.catalogue import STARTS, members
from labkit.panel.controls import ONE_SHOT, PER_ROUND, REACHED
from labkit.panel.panel import Panel

TINY = Experiment(
    task=Task(
        network="lenet-12-8",
        examples=500,
        validation=200,
        image_size=7,
        recipe=Recipe("sgd", 0.1, iterations=12, batch_size=20),
    ),
    pruning=Pruning(rate=0.5),
    rounds=2,
    treatments=("reinitialise",),  # type: ignore[arg-type]
    seeds=(0, 1),
    evaluate_every=4,
)


@pytest.fixture
def panel(store: Store) -> Iterator[Panel]:
    yield Panel(TINY, store=store, device="cpu")
    Widget.close_all()


def choose(panel: Panel, **values: Any) -> None:
    for name, value in values.items():
        panel.controls.parts[name].value = value


def run_to_the_end(panel: Panel, ticks: int = 2_000) -> None:
    panel.run()
    for _ in range(ticks):
        if not panel.session.active:
            return
        panel.tick()
    raise AssertionError(panel.session.in_words())


# --- Choosing -----------------------------------------------------------------------------------


def test_a_panel_starts_at_its_experiment_and_says_its_densities(panel: Panel):
    assert panel.experiment == TINY
    assert "50.0% of the weights" in panel.setting.value
    assert "Nothing of it is stored yet" in panel.setting.value


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", STARTS)
def test_every_experiment_of_every_preset_goes_through_the_controls_unchanged(
    panel: Panel, name: str, size: str
):
    panel.preset.value, panel.size.value = name, size
    for number, experiment in enumerate(members(name, size)):
        panel.member.value = number
        assert panel.experiment == experiment


@pytest.mark.parametrize(
    ("name", "value", "field"),
    [
        ("dataset", "cifar10-16", lambda e: e.task.dataset),
        ("network", "conv-2", lambda e: e.task.network),
        ("kind", "structured", lambda e: e.pruning.kind),
        ("criterion", "random", lambda e: e.pruning.criterion),
        ("scope", "global", lambda e: e.pruning.scope),
        ("rounds", 1, lambda e: e.rounds),
        ("rewind", 10, lambda e: e.rewind),
        ("learning_rate", 0.5, lambda e: e.task.recipe.learning_rate),
        ("iterations", 30, lambda e: e.task.recipe.iterations),
        ("copies", 2, lambda e: e.instability.copies),
    ],
)
def test_every_control_changes_its_field_and_nothing_else(
    panel: Panel, name: str, value: Any, field: Any
):
    choose(panel, **{name: value})
    assert panel.experiment is not None and field(panel.experiment) == value
    choose(panel, **{name: field(TINY)})
    assert panel.experiment == TINY


def test_seeds_are_a_number_and_treatments_are_ticked(panel: Panel):
    choose(panel, seeds=3)
    assert panel.experiment is not None and panel.experiment.seeds == (0, 1, 2)
    panel.controls.parts["treatment fine-tune"].value = True
    panel.controls.parts["treatment reinitialise"].value = False
    assert [t.name for t in panel.experiment.treatments] == ["fine-tune"]
    choose(panel, treated="the last round")
    assert panel.experiment.treated_rounds == (2,)
    choose(panel, further="draws=3 task.recipe.batch_size=50")
    assert (panel.experiment.draws, panel.experiment.task.recipe.batch_size) == (3, 50)


def test_early_masks_and_other_chains_are_further_settings(panel: Panel, store: Store):
    choose(panel, further="pruning.at=0 pruning.criterion=snip treatments=signs,frozen")
    e = panel.experiment
    assert e is not None and (e.pruning.at, e.pruning.criterion) == (0, "snip")
    assert [t.name for t in e.treatments] == ["signs", "frozen"]
    tuned = replace(TINY, chain="fine-tune", treatments=("rewind", "reinitialise"))
    assert Panel(tuned, store=store, device="cpu").experiment == tuned, "rewind has no box"


@pytest.mark.parametrize("kind", ["unstructured", "structured"])
def test_the_ratio_can_be_said_in_three_ways(panel: Panel, kind: str):
    choose(panel, kind=kind, network="lenet-300-100", ratio=REACHED, percent=10.0)
    assert panel.experiment is not None and panel.experiment.rounds == 2
    reached = re.findall(r"([\d.]+)%", panel.setting.value)[-1]
    assert float(reached) == pytest.approx(10, abs=0.3)
    rate = panel.experiment.pruning.rate
    choose(panel, ratio=PER_ROUND)
    assert panel.experiment.pruning.rate == rate  # only said in another way
    choose(panel, ratio=ONE_SHOT)
    assert (panel.experiment.rounds, panel.experiment.pruning.rate) == (1, rate)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"kind": "structured", "criterion": "obd"}, "criterion"),
        ({"kind": "structured", "criterion": "gamma"}, "batch normalisation"),
        ({"scope": "global", "output": "half the rate"}, "output_rate must be None or 0"),
        ({"rewind": 5_000}, "rewind must be"),
        ({"rounds": -1}, "rounds must be"),
        ({"rounds": 10**9, "ratio": REACHED}, "rounds must be"),
        ({"percent": 0.0}, "rate must be"),
        ({"seeds": 10**9}, "seeds must be"),
        ({"learning_rate": -1.0}, "learning_rate must be"),
        ({"copies": 1}, "copies must be"),
        ({"network": "vgg-small"}, "image"),
        ({"further": "colour=blue"}, "colour"),
        ({"further": "'unfinished"}, "quotation"),
    ],
)
def test_what_does_not_go_together_is_refused_in_words_and_kept(
    panel: Panel, values: dict[str, Any], words: str
):
    choose(panel, **values)
    assert panel.buttons["Run"].disabled and panel.experiment is None
    assert "cannot be run" in panel.setting.value and words in panel.setting.value
    assert 'role="alert"' in panel.setting.value
    for name, value in values.items():
        assert panel.controls.parts[name].value == value  # nothing is corrected silently
    panel.run()
    assert panel.session.state == "ready"
    panel.reset()
    assert panel.experiment == TINY and not panel.buttons["Run"].disabled


def test_every_control_has_a_label(panel: Panel):
    widgets = [*panel.controls.parts.values(), *panel.buttons.values(), panel.preset, panel.size]
    widgets += [panel.member, panel.round, panel.progress, panel.python, panel.command]
    assert all(widget.description for widget in widgets)
    assert len({widget.description for widget in widgets}) == len(widgets)


def test_an_unknown_start_is_refused():
    with pytest.raises(ValueError, match="preset must be one of"):
        Panel("lottry")


# --- Running ------------------------------------------------------------------------------------


def test_a_run_ends_with_all_networks_stored_and_drawn(panel: Panel, store: Store):
    run_to_the_end(panel)
    assert panel.session.state == "done" and panel.progress.value == 100
    assert "Done in" in panel.state.value
    assert len(tables(TINY, store).tickets) == len(all_trials(TINY))
    assert "stored results of all 10 networks" in panel.setting.value
    for words in ("ticket (rewound)", "re-initialised", "Learning curves, round 2", "<desc>"):
        assert words in panel.picture.value
    assert panel.picture.value.count("<svg") == 3  # with the pixel map
    assert "Nothing to train" in (panel.tick() or panel.setting.value)


def test_a_later_rewind_is_compared_with_the_initialisation(panel: Panel, store: Store):
    choose(panel, rewind=10)
    run_to_the_end(panel)
    assert panel.experiment is not None and panel.from_0 is not None
    at_0 = tables(replace(panel.experiment, rewind=0), store).tickets
    last = at_0[(at_0["treatment"] == "rewind") & (at_0["round"] == 2)]
    assert last["seed"].nunique() == 2
    assert f"ticket, rewound to 0 {100 * last['test_accuracy'].mean():.1f}%" in panel.picture.value
    tickets = [row for row in panel.from_0.tickets() if row["treatment"] == "rewind"]
    assert {row["rewind"] for row in tickets} == {0} and len(tickets) == 4
    panel.controls.parts["from 0"].value = False
    assert panel.from_0 is None and "rewound to 0" not in panel.picture.value


def test_the_tables_can_be_downloaded(panel: Panel):
    run_to_the_end(panel)
    links = re.findall(r'download="(.*?)" href="data:text/csv;base64,(.*?)"', panel.numbers.value)
    files = {name: list(csv.DictReader(io.StringIO(b64decode(c).decode()))) for name, c in links}
    assert set(files) == {"networks.csv", "curves.csv", "pixels.csv"}
    assert len(files["networks.csv"]) == 10
    assert len(files["pixels.csv"]) == 7


def test_curves_appear_while_a_network_trains(panel: Panel, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("labkit.panel.session.TICK", 0.0)  # one event at a time
    panel.run()
    before = panel.picture.value
    while not panel.readings.live:
        assert panel.session.active
        panel.tick()
    assert panel.session.state == "running"
    assert panel.picture.value != before and "dense network" in panel.picture.value
    assert panel.state.value.startswith('<p role="status">')


def test_pause_pulls_nothing_until_continued(panel: Panel, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("labkit.panel.session.TICK", 0.0)
    panel.run()
    panel.tick()
    panel.buttons["Pause"].click()
    done = panel.session.pace.latest
    panel.tick()
    assert panel.session.state == "paused" and panel.session.pace.latest is done
    assert "Paused" in panel.state.value and panel.buttons["Pause"].description == "Continue"
    panel.buttons["Pause"].click()
    assert panel.session.state == "running" and panel.buttons["Pause"].description == "Pause"


def test_stop_keeps_what_is_finished_and_run_goes_on_from_there(
    panel: Panel, store: Store, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("labkit.panel.session.TICK", 0.0)
    panel.buttons["Run"].click()
    while panel.session.finished < 2:
        panel.session.pull(panel.session.generation)
    panel.buttons["Stop"].click()
    assert panel.session.state == "stopped" and "2 networks finished" in panel.state.value
    assert not panel.controls.parts["rounds"].disabled
    assert len(tables(TINY, store).tickets) == 2
    run_to_the_end(panel)
    assert panel.session.finished == 8


@pytest.mark.skipif(
    sys.platform != "linux" or torch.cuda.is_available(),
    reason="only a forked process has the data of this test",
)
def test_with_several_cores_it_trains_in_processes_and_stop_ends_them(panel: Panel):
    torch.set_num_threads(2)
    try:
        panel.run()
        while not panel.session.finished:
            panel.tick()
        assert len(multiprocessing.active_children()) == 2
        panel.pause()
        assert panel.session.state == "paused"
        panel.run()
        panel.stop()
        assert multiprocessing.active_children() == [] and torch.get_num_threads() == 2
        run_to_the_end(panel)
        assert multiprocessing.active_children() == [], panel.session.in_words()
    finally:
        torch.set_num_threads(1)


def test_settings_cannot_be_changed_by_hand_during_a_run_and_a_change_stops_it(panel: Panel):
    panel.run()
    assert panel.controls.parts["rounds"].disabled
    choose(panel, rounds=1)  # by a program
    assert panel.session.state in ("ready", "stopped")
    assert panel.experiment is not None and panel.experiment.rounds == 1


def test_a_stale_tick_does_not_pull_the_next_run(panel: Panel, monkeypatch: pytest.MonkeyPatch):
    pulled: list[int] = []

    def events(rounds: int) -> Iterator[Progress]:
        for number in range(1_000):
            pulled.append(rounds)
            yield Progress(number, 1_000, 0)

    monkeypatch.setattr(panel, "_events", lambda study: events(study[0].rounds))
    monkeypatch.setattr("labkit.panel.session.TICK", 0.0)
    panel.run()
    stale = panel._clock.value + 1
    panel._clock.value = stale
    panel.stop()
    choose(panel, rounds=1)
    panel.run()
    pulled.clear()
    panel._clock.value = stale + 1  # was under way when Run was pressed
    assert pulled == []
    assert panel._clock.value > stale + 1  # and the clock is set to this run's ticks again
    panel._clock.value += 1
    assert pulled and set(pulled) == {1}


def test_an_error_in_training_is_shown_in_words(panel: Panel, monkeypatch: pytest.MonkeyPatch):
    def events(_: Experiment) -> Iterator[Progress]:
        yield Progress(0, 10, 0)
        raise RuntimeError("the <disk> is full")

    monkeypatch.setattr(panel, "_events", events)
    run_to_the_end(panel)
    assert panel.session.state == "failed" and 'role="alert"' in panel.state.value
    assert "RuntimeError: the &lt;disk&gt; is full" in panel.state.value
    assert not panel.controls.parts["rounds"].disabled


def test_the_store_is_looked_up_at_a_change(panel: Panel):
    run_to_the_end(panel)
    choose(panel, rewind=10)
    assert "6 of 14 networks" in panel.setting.value  # dense ones, and tickets rewound to 0
    choose(panel, rewind=0)
    assert "all 10 networks, from earlier runs" in panel.setting.value
    assert "re-initialised" in panel.picture.value


def test_a_stored_result_names_its_preset(store: Store):
    dense = next(iter(all_trials(members("lottery", "quick")[0])))
    curve = {"iteration": [0, 100], "validation_accuracy": [0.1, 0.9]}
    ticket = {"density": 1.0, "weights": 1, "early_stop": 100, "test_accuracy": 0.9}
    ticket["final_test_accuracy"] = 0.9
    told = {"trial": dense.describe(), "provenance": {}}
    store.put(dense.key, {**told, "ticket": ticket, "curve": curve})
    panel = Panel("lottery", store=store)
    assert "part of the preset lottery (quick)" in panel.setting.value


def test_error_along_the_line_is_drawn_for_stability_runs(store: Store):
    shaky = replace(TINY, rounds=0, instability=replace(TINY.instability, copies=2, alphas=3))
    panel = Panel(shaky, store=store)
    run_to_the_end(panel)
    assert "Error along the line, round 0" in panel.picture.value
    assert "re-estimated statistics" in panel.picture.value


def test_the_forecast_names_seconds_memory_and_what_binder_does_not_allow(
    panel: Panel, monkeypatch: pytest.MonkeyPatch
):
    panel.tick()
    assert re.search(r"10 networks to train: about .* and [\d,]+ MB", panel.setting.value)
    too_much = Forecast(1, seconds=5_000, megabytes=3_000)
    monkeypatch.setattr(panel._forecaster, "forecast", lambda _: too_much)
    choose(panel, rounds=1)
    panel.tick()
    assert "more than Binder allows" in panel.setting.value
    assert "memory" in too_much.warning() and "core" in too_much.warning()


def test_without_a_front_end_it_is_a_picture_with_its_numbers(panel: Panel):
    run_to_the_end(panel)
    bundle = panel._repr_mimebundle_()
    assert "<svg" in bundle["text/html"] and "<table" in bundle["text/html"]
    first = bundle["application/vnd.jupyter.widget-view+json"]["model_id"]
    again = panel._repr_mimebundle_()["application/vnd.jupyter.widget-view+json"]["model_id"]
    assert first != again  # the first is closed: a clock that is shown twice stops


# --- Sharing ------------------------------------------------------------------------------------


def of_command(line: str) -> Experiment:
    words = re.sub(r"^labkit run ", "", line)
    name, _, size, *rest = shlex.split(words)
    return with_settings(members(name, size)[0], rest[1::2])


EXPERIMENTS = [TINY, *(e for n in NAMES for s in SIZES for e in members(n, s))]


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_a_shared_setting_makes_an_equal_experiment(experiment: Experiment):
    names: dict[str, Any] = {}
    exec(as_python(experiment), names)
    assert names["experiment"] == experiment
    assert of_command(as_command(experiment)) == experiment


# --- Ten thousand changes -----------------------------------------------------------------------


def stub(study: list[Experiment]) -> Iterator[Progress | Finished]:
    for number in range(3):
        yield Progress(number, 3, 0)


class Changes(RuleBasedStateMachine):
    """Any controls in any order: each state is valid or says why not."""

    made = 0

    @initialize()
    def start(self) -> None:
        Widget.close_all()
        self.panel = Panel(TINY, store=Store("/nonexistent", shipped=False), device="cpu")
        self.panel._events = stub  # type: ignore[method-assign]
        self.panel._draw = lambda: None  # type: ignore[method-assign]
        self.panel._forecaster.forecast = lambda _: Forecast(1, 1.0, 1.0)  # type: ignore

    @rule(seed=st.integers(0, 2**32))
    def change_eighty_times(self, seed: int) -> None:
        dice = Random(seed)  # cheaper than a draw each
        for _ in range(80):
            part = dice.choice(list(self.panel.controls.parts.values()))
            if hasattr(part, "options"):
                part.index = dice.randrange(len(part.options))
            elif isinstance(part.value, bool):
                part.value = dice.random() < 0.5
            elif isinstance(part.value, int):
                part.value = dice.choice([*range(-1, 12), 10**12])
            elif isinstance(part.value, float):
                part.value = dice.choice([-1.0, 0.0, 0.1, 10.0, 50.0, 99.9, 100.0, 1e300])
            else:
                part.value = dice.choice(["", "x", "draws=2", "rewind=none", "'"])
            Changes.made += 1
            self.it_can_be_run_or_says_why_not()

    @rule(press=st.sampled_from(["Run", "Pause", "Stop", "Reset"]))
    def press(self, press: str) -> None:
        getattr(self.panel, press.lower())()

    @rule(number=st.sampled_from([None, 1, 1_000_001, 2_000_001]))
    def tick(self, number: int | None) -> None:
        self.panel.tick(number)

    @invariant()
    def it_can_be_run_or_says_why_not(self) -> None:
        if hasattr(self, "panel"):
            refused = "cannot be run" in self.panel.setting.value
            assert self.panel.buttons["Run"].disabled == refused == (self.panel.experiment is None)
            assert self.panel.session.state != "failed"


def test_ten_thousand_changes_leave_it_valid_or_refusing_in_words():
    run_state_machine_as_test(
        Changes,
        settings=settings(
            max_examples=25,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
            derandomize=True,
        ),
    )
    assert Changes.made >= 10_000


def test_the_module_has_no_output_widgets_threads_or_pyplot():
    source = Path(panel_module.__file__).read_text("utf-8")
    for word in ("Output(", "import threading", "import asyncio", "import pyplot"):
        assert word not in source
