"""The panel, driven in Python: what is chosen, run, stopped and shown."""

import asyncio
import csv
import io
import multiprocessing
import re
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
from ipywidgets import Play, Text, Widget

from labkit.base.store import Store
from labkit.engine.pruning import Pruning
from labkit.engine.training import Recipe
from labkit.experiments.experiment import Experiment, all_trials
from labkit.experiments.forecast import Forecast
from labkit.experiments.presets import NAMES, SIZES
from labkit.experiments.results import tables
from labkit.experiments.running import Finished, Progress
from labkit.experiments.statistics import interval
from labkit.experiments.task import Task
from labkit.experiments.words import as_python
from labkit.panel import clock as clock_module, panel as panel_module, shown
from labkit.panel.codes import code_of, experiment_of
from labkit.panel.controls import LEFT
from labkit.panel.panel import Panel
from labkit.panel.questions import QUESTIONS, Question
from labkit.panel.references import PLAYED, PLAYGROUND, STARTS, TITLES, members, members_of
from labkit.panel.rows import ROWS

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
        part = panel.controls.parts[name]
        part.value = str(value) if isinstance(part, Text) else value


def pictures(panel: Panel) -> str:
    return "".join(picture.value for picture in panel.stage.pictures)


def left_note(panel: Panel) -> str:
    return panel.controls._left_note.value


def run_to_the_end(panel: Panel, ticks: int = 2_000) -> None:
    panel.run()
    for _ in range(ticks):
        if not panel.session.active:
            return
        panel.tick()
    raise AssertionError(panel.session.in_words())


# --- Choosing -----------------------------------------------------------------------------------


def test_a_panel_starts_at_its_experiment_and_says_its_density(panel: Panel):
    assert panel.experiment == TINY
    weights = TINY.task.image_size**2 * 12 + 12 * 8 + 8 * 10
    assert f"{round(weights / 4):,} of {weights:,} weights survive" in left_note(panel)
    assert "Nothing of this setting is stored yet" in panel.setting.value


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", STARTS)
def test_every_experiment_of_every_preset_goes_through_the_controls_unchanged(
    panel: Panel, name: str, size: str
):
    starts = panel.starts
    starts.preset.value, starts.size.value = name, size
    for number, experiment in enumerate(members(name, size)):
        starts.member.value = number
        assert panel.experiment == experiment


@pytest.mark.parametrize(
    ("name", "value", "field"),
    [
        ("dataset", "kmnist", lambda e: e.task.dataset),
        ("network", "resnet-8", lambda e: e.task.network),
        ("kind", "structured", lambda e: e.pruning.kind),
        ("criterion", "random", lambda e: e.pruning.criterion),
        ("scope", "global", lambda e: e.pruning.scope),
        ("rounds", 1, lambda e: e.rounds),
        ("rewind", 6, lambda e: e.rewind),
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
def test_how_much_is_left_and_what_a_round_removes_say_the_same(panel: Panel, kind: str):
    choose(panel, kind=kind, network="lenet-300-100", left=10)
    assert panel.experiment is not None and panel.experiment.rounds == 2
    reached = float(re.findall(r"([\d.]+)% density", left_note(panel))[0])
    assert reached == pytest.approx(10, abs=0.3)
    rate = panel.experiment.pruning.rate
    assert float(panel.controls.parts["rate"].value) == pytest.approx(100 * rate)
    assert abs(LEFT[panel.controls.slider.value] - 10) < 1.5
    choose(panel, rounds=1)
    assert panel.experiment.pruning.rate > rate  # as much is left, at one stroke
    choose(panel, rate=50)
    assert panel.experiment.pruning.rate == 0.5
    assert kind == "structured" or panel.controls.parts["left"].value == "50"


def test_the_slider_chooses_how_much_is_left(panel: Panel):
    panel.controls.slider.value = LEFT.index(21.0)
    assert panel.experiment is not None and panel.controls.parts["left"].value == "21"
    assert (1 - panel.experiment.pruning.rate) ** 2 == pytest.approx(0.21, abs=0.01)


def test_lists_offer_only_what_can_be_run(panel: Panel):
    choose(panel, network="lenet-12-8")
    offered = [v for _, v in panel.controls.parts["network"].options]
    assert "vgg-small" not in offered and "lenet-300-100" in offered  # images of 7 x 7
    assert "gamma" not in [v for _, v in panel.controls.parts["criterion"].options]
    for name, row in ROWS.items():
        if row.offers is None:
            continue
        for _, value in list(panel.controls.parts[name].options):
            choose(panel, **{name: value})
            assert panel.experiment is not None, (name, value, panel.setting.value)
        panel.controls.show(TINY)


def test_how_much_is_left_can_be_chosen_of_units_after_weights_ranked_together(panel: Panel):
    choose(panel, scope="global")
    choose(panel, kind="structured")
    assert "Across layers" in panel.setting.value
    assert not panel.controls.parts["left"].disabled


def test_a_choice_that_leaves_others_without_sense_changes_them_and_says_so(panel: Panel):
    choose(panel, criterion="obd", output="half the rate")
    panel.controls.parts["treatment random-mask"].value = True
    choose(panel, kind="structured")
    assert panel.experiment is not None and panel.experiment.pruning.criterion == "magnitude"
    for words in ("Changed with it", "What goes first", "Output layer", "random mask"):
        assert words in panel.setting.value
    assert panel.controls.parts["treatment random-mask"].disabled


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"iterations": "1e9"}, "Iterations must be"),
        ({"iterations": "many"}, "Iterations must be a number, not many"),
        ({"iterations": "2.5"}, "Iterations must be a whole number"),
        ({"rounds": -1}, "Rounds must be"),
        ({"rounds": 10**9, "left": 20}, "Rounds must be"),
        ({"rate": 0.0}, "Removed per round must be"),
        ({"left": 0}, "How much is left must be"),
        ({"seeds": 10**9}, "Seeds must be"),
        ({"rounds": 99, "seeds": 100}, "Seeds and Rounds make 19,900 networks"),
        ({"learning_rate": -1.0}, "Learning rate must be"),
        ({"copies": 1}, "Copies must be"),
        ({"further": "colour=blue"}, "colour"),
        ({"further": "'unfinished"}, "quotation"),
    ],
)
def test_what_does_not_go_together_is_refused_in_words_and_kept(
    panel: Panel, values: dict[str, Any], words: str
):
    choose(panel, **values)
    assert panel.bar.buttons["Run"].disabled and panel.experiment is None
    assert "cannot be run" in panel.setting.value and words in panel.setting.value
    assert 'role="alert"' in panel.setting.value
    for name, value in values.items():
        assert panel.controls.parts[name].value == str(value)  # nothing is corrected silently
    assert "Ready" not in panel.bar.state.value
    panel.run()
    assert panel.session.state == "ready"
    panel.reset()
    assert panel.experiment == TINY and not panel.bar.buttons["Run"].disabled


def test_every_control_has_a_label(panel: Panel):
    widgets = [*panel.controls.parts.values(), *panel.bar.buttons.values(), panel.bar.progress]
    widgets += [*panel.starts.box.children, *panel.share._lines, panel.stage.density]
    widgets += [panel.stage.pin, panel.gallery.list, panel.gallery.next, panel.gallery.live]
    assert all(widget.description for widget in widgets)
    assert len({widget.description for widget in widgets}) == len(widgets)


def test_an_unknown_start_is_refused():
    with pytest.raises(ValueError, match="preset must be one of"):
        Panel("lottry")


# --- Running ------------------------------------------------------------------------------------


def test_a_run_ends_with_all_networks_stored_and_drawn(panel: Panel, store: Store):
    run_to_the_end(panel)
    assert panel.session.state == "done" and panel.bar.progress.value == 100
    assert "Done in" in panel.bar.state.value
    assert len(tables(TINY, store).tickets) == len(all_trials(TINY))
    assert "all 10 networks" in panel.setting.value
    for words in ("ticket (rewound)", "re-initialised", "Learning curves at 25.0%", "<desc>"):
        assert words in pictures(panel)
    assert "Surviving weights by layer" in panel.stage.layers.value
    assert "Weights left at each pixel" in panel.stage.mask.value
    assert "Nothing to train" in (panel.tick() or panel.setting.value)


def test_a_later_rewind_is_compared_with_the_initialisation(panel: Panel, store: Store):
    choose(panel, rewind=6)
    run_to_the_end(panel)
    assert panel.experiment is not None and panel.from_0 is not None
    at_0 = tables(replace(panel.experiment, rewind=0), store).tickets
    last = at_0[(at_0["treatment"] == "rewind") & (at_0["round"] == 2)]
    assert last["seed"].nunique() == 2
    assert f"ticket, rewound to 0 {100 * last['test_accuracy'].mean():.1f}%" in pictures(panel)
    assert "the same rewound to 0" in panel.stage.verdict.value
    tickets = [row for row in panel.from_0.tickets() if row["treatment"] == "ticket (rewound)"]
    assert {row["rewind"] for row in tickets} == {0} and len(tickets) == 4
    panel.controls.parts["from 0"].value = False
    assert panel.from_0 is None and "rewound to 0" not in pictures(panel)


def test_the_tables_can_be_downloaded(panel: Panel):
    run_to_the_end(panel)
    assert panel.numbers.value == ""  # sent only where it is looked at
    panel.folds.selected_index = 2
    links = re.findall(r'download="(.*?)" href="data:text/csv;base64,(.*?)"', panel.numbers.value)
    files = {name: list(csv.DictReader(io.StringIO(b64decode(c).decode()))) for name, c in links}
    assert set(files) == {"networks.csv", "curves.csv", "pixels.csv"}
    assert len(files["networks.csv"]) == 10
    assert len(files["pixels.csv"]) == 7


def test_curves_appear_while_a_network_trains(panel: Panel, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("labkit.panel.session.TICK", 0.0)  # one event at a time
    panel.run()
    before = pictures(panel)
    while not panel.live_results.live:
        assert panel.session.active
        panel.tick()
    assert panel.session.state == "running"
    assert pictures(panel) != before and "dense network" in pictures(panel)
    assert panel.bar.state.value.startswith('<p role="status"')


def test_pause_pulls_nothing_until_continued(panel: Panel, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("labkit.panel.session.TICK", 0.0)
    panel.run()
    panel.tick()
    panel.bar.buttons["Pause"].click()
    done = panel.session.pace.latest
    panel.tick()
    assert panel.session.state == "paused" and panel.session.pace.latest is done
    assert (
        "Paused" in panel.bar.state.value and panel.bar.buttons["Pause"].description == "Continue"
    )
    panel.bar.buttons["Pause"].click()
    assert panel.session.state == "running" and panel.bar.buttons["Pause"].description == "Pause"


def test_stop_keeps_what_is_finished_and_run_goes_on_from_there(
    panel: Panel, store: Store, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("labkit.panel.session.TICK", 0.0)
    panel.bar.buttons["Run"].click()
    while panel.session.finished < 2:
        panel.session.pull(panel.session.generation)
    panel.bar.buttons["Stop"].click()
    assert panel.session.state == "stopped" and "2 networks finished" in panel.bar.state.value
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
    play = panel._clock.play
    stale = play.value + 1
    play.value = stale
    panel.stop()
    choose(panel, rounds=1)
    panel.run()
    pulled.clear()
    play.value = stale + 1  # was under way when Run was pressed
    assert pulled == []
    assert play.value > stale + 1  # and the clock is set to this run's ticks again
    play.value += 1
    assert pulled and set(pulled) == {1}


def test_an_error_in_training_is_shown_in_words(panel: Panel, monkeypatch: pytest.MonkeyPatch):
    def events(_: Experiment) -> Iterator[Progress]:
        yield Progress(0, 10, 0)
        raise RuntimeError("the <disk> is full")

    monkeypatch.setattr(panel, "_events", events)
    run_to_the_end(panel)
    assert panel.session.state == "failed" and 'role="alert"' in panel.bar.state.value
    assert "RuntimeError: the &lt;disk&gt; is full" in panel.bar.state.value
    assert not panel.controls.parts["rounds"].disabled


def test_the_store_is_looked_up_at_a_change(panel: Panel):
    run_to_the_end(panel)
    choose(panel, rewind=6)
    assert "6 of 14 networks" in panel.setting.value  # dense ones, and tickets rewound to 0
    choose(panel, rewind=0)
    assert "all 10 networks, from earlier runs" in panel.setting.value
    assert "re-initialised" in pictures(panel)


def test_a_stored_result_names_its_preset(store: Store):
    dense = next(iter(all_trials(members("lottery", "quick")[0])))
    curve = {
        "iteration": [0, 100],
        "validation_loss": [2.3, 0.3],
        "validation_accuracy": [0.1, 0.9],
    }
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
    assert "Error between two copies" in panel.stage.accuracy.value  # charts begin with it
    assert "Between copies that part at iteration 0" in panel.stage.verdict.value


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
    assert first != again  # the first is closed


# --- Sharing ------------------------------------------------------------------------------------


EXPERIMENTS = [TINY, *(e for n in NAMES for s in SIZES for e in members(n, s))]


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_a_shared_setting_makes_an_equal_experiment(experiment: Experiment):
    names: dict[str, Any] = {}
    exec(as_python(experiment), names)
    assert names["experiment"] == experiment


def test_a_code_makes_the_same_panel(panel: Panel, store: Store):
    choose(panel, rewind=6, further="draws=2")
    again = Panel(panel.share.code.value, store=store, device="cpu")
    assert again.experiment == panel.experiment is not None
    assert panel.share.panel.value == f"Panel({panel.share.code.value!r})"


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_a_code_stands_for_its_experiment(experiment: Experiment):
    assert experiment_of(code_of(experiment)) == experiment


def test_a_page_under_voila_opens_the_setting_of_its_address(
    store: Store, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("QUERY_STRING", "setting=playground~rewind%3D60~seeds%3D0%2C1")
    opened = Panel(store=store, device="cpu").experiment
    assert opened is not None and (opened.rewind, opened.seeds) == (60, (0, 1))
    assert Panel(TINY, store=store, device="cpu").experiment == TINY


@pytest.mark.parametrize(
    "code", ["lottry~rewind=1", "lottery.huge", "lottery.quick.7", "playground~x"]
)
def test_a_code_that_is_none_is_refused_in_words(code: str, store: Store):
    with pytest.raises(ValueError, match="must be"):
        Panel(code, store=store)


# --- What a panel opens on ----------------------------------------------------------------------


@pytest.mark.parametrize("name", [*TITLES, PLAYGROUND])
def test_every_panel_opens_on_a_stored_answer_and_says_what_differs(name: str, tmp_path: Path):
    panel = Panel(name, store=Store(tmp_path), device="cpu")
    view = panel.stage.view
    assert view is not None and view.shown.results, "nothing is drawn"
    assert "<path" in panel.stage.accuracy.value and "nothing to show" not in pictures(panel)
    assert panel.experiment is not None
    own, shown = panel.experiment, view.shown.experiment
    if (own.task, own.pruning) != (shown.task, shown.pruning):
        assert "They differ from your setting" in panel.stage.note.value
    assert shown in members_of(name) or (own.task == shown.task), "of its lesson, or the same task"


def test_lesson_05_opens_on_tickets_that_are_rewound_later(tmp_path: Path):
    panel = Panel("stability-imp", store=Store(tmp_path), device="cpu")
    view = panel.stage.view
    assert panel.experiment is not None and panel.experiment.rewind > 0
    assert view is not None and view.shown.experiment.rewind > 0 and view.from_0 is not None
    assert "the same rewound to 0" in panel.stage.verdict.value


def test_the_playground_is_shipped_with_its_mask(tmp_path: Path):
    panel = Panel(store=Store(tmp_path), device="cpu")
    assert panel.stage.view is not None and panel.stage.view.shown.experiment == PLAYED[0]
    assert "Weights left at each pixel" in panel.stage.mask.value
    assert "layer 2" in panel.stage.layers.value and "output" in panel.stage.layers.value


WORDS_OF_THE_CODE = ("obd", "gamma", "scratch-", "reinitialise", "unstructured", "layerwise",
                     "analysed_rounds", "evaluate_every", "vgg-small", "cifar10-16")  # fmt: skip


def test_the_words_on_the_screen_are_those_of_the_lessons(tmp_path: Path):
    panel = Panel(store=Store(tmp_path), device="cpu")
    for name in STARTS:
        panel.starts.preset.value = name
        shown = [panel.stage.verdict.value, panel.stage.note.value, pictures(panel)]
        for part in (*panel.controls.parts.values(), *panel.starts.box.children):
            shown.append(part.description)
            if hasattr(part, "options"):
                shown += [words for words, _ in part.options]
        for word in WORDS_OF_THE_CODE:
            assert not [text for text in shown if word in re.sub('base64,[^"]*', "", text)], word


# --- The scrubber, the pin, the questions -------------------------------------------------------


def test_the_scrubber_moves_all_pictures_together(tmp_path: Path):
    panel = Panel(store=Store(tmp_path), device="cpu")
    before = [picture.value for picture in panel.stage.pictures]
    panel.stage.slider.value -= 1
    after = [picture.value for picture in panel.stage.pictures]
    changed = [one != other for one, other in zip(before, after, strict=True)]
    assert changed == [True, True, False, True, True, True]  # there is no line between copies
    assert panel.stage.view is not None and panel.stage.view.number == PLAYED[0].rounds - 1
    assert panel.stage.density.index == panel.stage.slider.value
    assert f"round {PLAYED[0].rounds - 1} of" in panel.stage.loop.value


def test_points_say_their_values_to_pointer_and_keyboard(tmp_path: Path):
    svg = Panel("lottery", store=Store(tmp_path), device="cpu").stage.accuracy.value
    assert svg.count("<title>") > 30
    focusable = re.findall(r'tabindex="0" role="img" aria-label="(.*?)"', svg)
    assert len(focusable) == 2 and all(re.search(r"\d\d\.\d\d \[", words) for words in focusable)


def test_tables_are_folded_when_another_density_is_shown(tmp_path: Path):
    panel = Panel("lottery", "reference", store=Store(tmp_path), device="cpu")
    panel.folds.selected_index = panel_module._NUMBERS
    assert "<table" in panel.numbers.value
    panel.stage.slider.value -= 1
    assert panel.folds.selected_index is None and panel.numbers.value == ""
    panel.folds.selected_index = panel_module._NUMBERS
    assert "<table" in panel.numbers.value


def test_a_redraw_sends_less_than_30_kilobytes(tmp_path: Path):
    for name in TITLES:
        panel = Panel(name, store=Store(tmp_path), device="cpu")
        sent = len(pictures(panel)) + len(panel.stage.verdict.value) + len(panel.stage.note.value)
        assert sent < 30_000, name
        assert panel.numbers.value == ""


def test_a_pinned_run_stays_as_a_ghost(tmp_path: Path):
    panel = Panel(store=Store(tmp_path), device="cpu")
    pale = panel.stage.accuracy.value.count('opacity="0.38"')
    panel.stage.pin.value = True
    assert panel.stage.accuracy.value.count('opacity="0.38"') > pale
    choose(panel, rewind=60)
    assert "Pinned, pale: LeNet-300-100" in panel.stage.note.value
    panel.stage.pin.value = False
    assert "Pinned" not in panel.stage.note.value


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda q: q.name)
def test_a_question_is_answered_after_the_guess_and_with_it(
    question: Question, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    panel = Panel(store=Store(tmp_path / "store"), device="cpu")
    panel.gallery.list.value = question
    assert "Guess first" in panel.stage.accuracy.value and "<svg" not in pictures(panel)
    assert panel.gallery.live.disabled and panel.gallery.guess is not None
    panel.gallery.guess.value = question.options[1][0]
    assert "your guess" in panel.stage.accuracy.value
    assert f"Stored answer, {len(question.stored.seeds)} seeds" in panel.stage.verdict.value
    assert "nan" not in panel.stage.verdict.value
    assert panel.experiment == question.live and not panel.gallery.live.disabled
    panel.gallery.leave()
    assert panel.gallery.list.index == 0 and panel.gallery.question is None


def test_an_answer_is_the_mean_of_pairs_and_its_interval_decides(tmp_path: Path):
    question = QUESTIONS[0]
    own = Panel("lottery", store=Store(tmp_path), device="cpu").stage.view
    assert own is not None
    rows = tables(question.stored, Store(tmp_path)).tickets
    rows = rows[rows["round"] == question.round].groupby(["treatment", "seed"])["test_accuracy"]
    means = rows.mean()
    gaps = 100 * (means["rewind"] - means["reinitialise"])
    found = question.answer(own.shown, None)
    assert found.mean == pytest.approx(gaps.mean()) and found.seeds == 5
    assert (found.low, found.high) == pytest.approx(interval(gaps))
    between = replace(found, low=-0.5, high=0.5)
    assert len(question.open_options(between)) == 3


def test_networks_that_diverged_are_told_under_the_charts(panel: Panel):
    choose(panel, learning_rate="1e30")
    run_to_the_end(panel)
    count = len(panel.live_results.results)
    assert re.search(rf"[1-9]\d* of {count} networks: diverged", panel.stage.verdict.value)
    assert "nan" not in panel.stage.verdict.value


def test_a_question_can_be_run_by_oneself(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    panel = Panel(store=store, device="cpu")
    panel._events = stub  # type: ignore[method-assign,assignment]
    panel.gallery.next.click()
    panel.run_question()
    assert panel.session.state == "ready"  # a guess comes first
    assert panel.gallery.guess is not None
    panel.gallery.guess.value = QUESTIONS[0].options[0][0]
    assert "No answer to it is stored here" in panel.stage.accuracy.value
    panel.gallery.live.click()
    assert panel.session.state == "running" and panel.experiment == QUESTIONS[0].live


# --- The clock ----------------------------------------------------------------------------------


class Hands:
    """A clock on the wall that is moved by hand."""

    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def hands(panel: Panel) -> Hands:
    panel._clock._now = hands = Hands()
    panel._repr_mimebundle_()  # shown
    return hands


def test_a_run_goes_on_without_a_clock_and_says_so(
    panel: Panel, hands: Hands, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("labkit.panel.session.TICK", 0.0)  # one event at a time
    said = []
    panel.bar.state.observe(lambda change: said.append(change["new"]), "value")
    choose(panel, rounds=1)  # makes it tick, or so it thinks
    hands.time = clock_module.PATIENCE + 1
    panel.bar.buttons["Run"].click()
    assert panel.session.state == "done" and panel.session.finished
    assert any("does not tick" in words and "interrupt" in words for words in said)
    shares = [int(found[1]) for words in said if (found := re.search(r"(\d+)%", words))]
    assert len(set(shares)) > 1  # progress between the pieces


def test_silence_after_run_is_noticed_in_the_kernels_own_loop(
    panel: Panel, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(clock_module, "PATIENCE", 0.05)
    panel._repr_mimebundle_()

    async def kernel() -> None:
        panel.run()
        assert panel.session.state == "running" and not panel._alone
        for _ in range(200):
            await asyncio.sleep(0.05)
            if not panel.session.active:
                return

    asyncio.run(kernel())
    assert panel.session.state == "done"


def test_a_clock_that_ticks_is_left_alone(panel: Panel, hands: Hands):
    choose(panel, rounds=1)
    panel._clock.play.value += 1
    hands.time = 10
    panel.run()
    assert not panel._alone and panel.session.state == "running"


def test_an_interrupt_stops_a_run_without_a_clock(
    panel: Panel, hands: Hands, monkeypatch: pytest.MonkeyPatch
):
    def events(_: object) -> Iterator[Progress]:
        yield Progress(1, 10, 0)
        raise KeyboardInterrupt

    monkeypatch.setattr(panel, "_events", events)
    choose(panel, rounds=1)
    hands.time = 10
    panel.run()
    assert panel.session.state == "stopped" and "Stopped" in panel.bar.state.value


def playing(clock: Play) -> bool:
    """Whether it runs; ipywidgets 7 has an underscore there."""
    return clock.playing if clock.has_trait("playing") else clock._playing


def test_a_panel_that_is_shown_again_goes_on(panel: Panel, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(clock_module, "_SHOWN_AFTER", 0.01)
    monkeypatch.setattr("labkit.panel.session.TICK", 0.0)
    panel._repr_mimebundle_()
    panel.run()
    first = panel._clock.play
    first.value += 1
    done = panel.session.pace.latest

    async def kernel() -> None:
        panel._repr_mimebundle_()
        assert not playing(panel._clock.play)
        await asyncio.sleep(0.1)  # the page has drawn it
        assert playing(panel._clock.play)

    asyncio.run(kernel())
    assert panel._clock.play is not first and panel.session.state == "running"
    panel._clock.play.value += 1
    assert panel.session.pace.latest is not done


def test_double_ticks_change_nothing_but_the_pace(panel: Panel, store: Store):
    panel._repr_mimebundle_()
    panel.run()
    while panel.session.active:
        panel._clock.play.value += 1
        panel.tick(panel.session.generation)
        panel.tick(panel.session.generation - 1)
    assert panel.session.state == "done"
    assert len(tables(TINY, store).tickets) == len(all_trials(TINY))


def test_a_cell_that_is_run_again_closes_what_it_showed(
    store: Store, monkeypatch: pytest.MonkeyPatch
):
    places = iter([("cell", "1"), ("cell", "1"), ("other", "2"), ("cell", "3")])
    monkeypatch.setattr(shown, "_place", lambda: next(places))
    monkeypatch.setattr(shown, "_SHOWN", {})
    panels = [Panel(TINY, store=store, device="cpu") for _ in range(4)]
    for panel in panels:
        panel._repr_mimebundle_()
    assert [panel.bar.progress.comm is None for panel in panels] == [True, True, False, False]


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
            elif part is self.panel.controls.parts["further"]:
                part.value = dice.choice(["", "x", "draws=2", "rewind=none", "'"])
            else:
                numbers = ["-1", "0", "0.1", "1", "2", "3", "10", "50", "99.9", "1e12", "x", ""]
                part.value = dice.choice(numbers)
            Changes.made += 1
            self.it_can_be_run_or_says_why_not()

    @rule(press=st.sampled_from(["Run", "Pause", "Stop", "Reset"]))
    def press(self, press: str) -> None:
        getattr(self.panel, press.lower())()

    @rule(number=st.sampled_from([None, 0, 1, 2]))
    def tick(self, number: int | None) -> None:
        self.panel.tick(number)

    @invariant()
    def it_can_be_run_or_says_why_not(self) -> None:
        if hasattr(self, "panel"):
            refused = "cannot be run" in self.panel.setting.value
            assert (
                self.panel.bar.buttons["Run"].disabled == refused == (self.panel.experiment is None)
            )
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


def test_the_floor_has_no_output_widgets_threads_to_update_them_or_pyplot():
    for path in Path(panel_module.__file__).parent.glob("*.py"):
        source = path.read_text("utf-8")
        for word in ("Output(", "Thread(", "async def", "import pyplot", "pyplot as"):
            assert word not in source, path
