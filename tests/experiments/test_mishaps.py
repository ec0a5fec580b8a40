"""What went wrong without an error is told: in the result, in the tables, and to who follows."""

import io
from dataclasses import replace

import pandas as pd
import pytest

from labkit.base.store import Store
from labkit.engine.pruning import Pruning
from labkit.experiments.experiment import Experiment, all_trials
from labkit.experiments.mishaps import UNKNOWN, in_words, told
from labkit.experiments.progress import follow
from labkit.experiments.results import tables
from labkit.experiments.running import Finished, run
from labkit.experiments.task import Task
from tests.synthetic import SGD, finish

pytestmark = pytest.mark.usefixtures("synthetic_data")
SOUND = Experiment(Task(network="lenet-8-6", recipe=SGD), rounds=1, seeds=(0, 1))
TOLD = list(UNKNOWN)


def with_recipe(**settings: float) -> Experiment:
    return replace(SOUND, task=replace(SOUND.task, recipe=replace(SGD, **settings)))


def test_a_sound_network_has_no_mishap(store: Store):
    tickets = finish(SOUND, store).tickets
    assert (tickets[TOLD] == [False, 0, False, False, False]).all(axis=None)


@pytest.mark.parametrize("network", ["lenet-8-6", "resnet-8-w2"])
@pytest.mark.parametrize("rate", [1e4, 1e30])
def test_a_network_that_diverged_says_so(network: str, rate: float, store: Store):
    experiment = with_recipe(learning_rate=rate, weight_decay=1e4)
    experiment = replace(experiment, task=replace(experiment.task, network=network))
    out = io.StringIO()
    follow(run(experiment, store), out)
    found = tables(experiment, store)
    assert found.tickets["diverged"].all()
    for seed in (0, 1):
        assert f"seed {seed}, round 0, dense: diverged" in out.getvalue()
    assert {store.get(t.key)["ticket"]["diverged"] for t in all_trials(experiment)} == {True}


def test_a_layer_that_lost_all_its_weights_says_so(store: Store):
    experiment = replace(SOUND, pruning=Pruning(scope="global", rate=0.99))
    tickets = finish(experiment, store).tickets
    assert (tickets.loc[tickets["round"] == 0, "empty_layers"] == 0).all()
    assert (tickets.loc[tickets["round"] == 1, "empty_layers"] > 0).all()
    # Nothing but the last biases is left to answer with.
    assert tickets.loc[tickets["round"] == 1, "one_class"].all()


def test_a_network_that_answers_one_class_only_says_so(store: Store):
    # Each update takes all of a weight and leaves next to nothing, of the last batch's gradient.
    experiment = with_recipe(momentum=0.0, weight_decay=10.0, milestones=())
    tickets = finish(experiment, store).tickets
    assert tickets["one_class"].all() and not tickets["diverged"].any()


def test_results_from_before_read_as_unknown(store: Store):
    finish(SOUND, store)
    for trial in all_trials(SOUND):
        result = store.get(trial.key)
        for name in set(TOLD) & set(result["ticket"]):
            del result["ticket"][name]
        del result["norm"], result["parents"]
        store.put(trial.key, result)
    tickets = tables(SOUND, store).tickets
    assert (tickets[TOLD] == list(UNKNOWN.values())).all(axis=None)


def test_a_network_that_fell_to_chance_says_so_whatever_result_it_has(store: Store):
    finish(SOUND, store)
    dense = next(iter(all_trials(SOUND)))
    result = store.get(dense.key)
    result["ticket"] |= {"test_accuracy": 0.9, "final_test_accuracy": 0.44}
    store.put(dense.key, result)
    tickets = tables(SOUND, store).tickets
    fell = tickets["collapsed"]
    assert fell.sum() == 1 and tickets.loc[fell, "seed"].item() == dense.seed
    words = "lost more than half of the accuracy while training"
    assert told(tickets) == [f"1 of 4 networks: {words}"]
    other = tickets.assign(chain="another")  # whose dense networks are the same
    assert told(pd.concat([tickets, other])) == [f"1 of 6 networks: {words}"]


@pytest.mark.parametrize(
    ("ticket", "words"),
    [
        ({}, ""),
        ({"diverged": False, "empty_layers": 0, "one_class": False}, ""),
        ({"diverged": True, "one_class": True}, "diverged: losses or weights are not finite"),
        ({"empty_layers": 1}, "1 layer without any weight left"),
        (
            {"empty_layers": 2, "one_class": True},
            "2 layers without any weight left, gives all test images one answer",
        ),
    ],
)
def test_mishaps_are_said_in_words(ticket, words):
    assert in_words(ticket) == words


def test_a_result_says_in_what_company_it_was_trained(store: Store):
    events = [e for e in run(SOUND, store) if isinstance(e, Finished)]
    assert [e.result["provenance"]["company"] for e in events] == [
        *[[["dense", 0, 0], ["dense", 1, 0]]] * 2,
        *[[["rewind", 0, 0], ["rewind", 1, 0]]] * 2,
    ]
