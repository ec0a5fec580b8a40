"""What was trained again and ended elsewhere is noticed, and mended by a run."""

from dataclasses import replace
from pathlib import Path

import pytest

from labkit.base.store import Store
from labkit.engine.pruning import Pruning
from labkit.experiments.experiment import Experiment, Trial, all_trials
from labkit.experiments.results import tables
from labkit.experiments.scheduling import missing
from labkit.experiments.strays import SAME, strays
from labkit.experiments.task import Task
from labkit.experiments.treatments import REWIND, TREATMENTS
from tests.synthetic import SGD, assert_same, finish

pytestmark = pytest.mark.usefixtures("synthetic_data")
EXPERIMENT = Experiment(
    Task(network="resnet-8-w2", recipe=replace(SGD, iterations=6)),
    Pruning(rate=0.5),
    rounds=2,
    treatments=(TREATMENTS["reinitialise"],),
    seeds=(0, 1),
)


def trained_again(trial: Trial, store: Store, by: float) -> None:
    """The network of a trial ends elsewhere: its norm differs by a factor."""
    result = store.get(trial.key)
    store.put(trial.key, result | {"norm": result["norm"] * by})


def test_what_a_run_leaves_has_no_strays(store: Store):
    assert not finish(EXPERIMENT, store).tickets["stray"].any()
    results = {trial.key: store.get(trial.key) for trial in all_trials(EXPERIMENT)}
    assert not strays(all_trials(EXPERIMENT), results)
    told = [set(result["parents"]) for result in results.values()]
    assert told == [{need.key for need in trial.needs} for trial in all_trials(EXPERIMENT)]


def test_what_was_started_from_another_training_is_told_with_all_that_follows(store: Store):
    finish(EXPERIMENT, store)
    trained_again(Trial(EXPERIMENT, 1, 0, REWIND), store, by=1.001)
    tickets = tables(EXPERIMENT, store).tickets
    astray = tickets[tickets["stray"]]
    assert set(astray["seed"]) == {1} and set(astray["round"]) == {1, 2}
    assert len(astray) == 4  # the ticket and its control, in both rounds


def test_rounding_in_other_company_makes_no_stray(store: Store):
    finish(EXPERIMENT, store)
    trained_again(Trial(EXPERIMENT, 1, 0, REWIND), store, by=1 + SAME / 2)
    assert not tables(EXPERIMENT, store).tickets["stray"].any()


def test_strays_are_trained_again_with_their_company(store: Store, tmp_path: Path):
    expected = finish(EXPERIMENT, Store(tmp_path / "whole", shipped=False))
    finish(EXPERIMENT, store)
    ticket = Trial(EXPERIMENT, 1, 1, REWIND)
    result = store.get(ticket.key)
    (parent,) = result["parents"]
    store.put(ticket.key, result | {"parents": {parent: 1.0}})  # of a merged store, say
    lacking = missing(EXPERIMENT, store)
    assert {(t.seed, t.round) for t in lacking if t.treatment == REWIND} == {
        (seed, number) for seed in (0, 1) for number in (1, 2)
    }
    assert_same(finish(EXPERIMENT, store), expected)
    assert not missing(EXPERIMENT, store)


def test_an_analysis_of_another_training_makes_its_ticket_a_stray(store: Store):
    analysed = replace(
        EXPERIMENT, instability=replace(EXPERIMENT.instability, copies=2, alphas=3), treatments=()
    )
    finish(analysed, store)
    (analysis, *_) = [trial for trial in all_trials(analysed) if trial.analysis]
    result = store.get(analysis.key)
    told = {key: 2 * norm for key, norm in result["parents"].items()}
    store.put(analysis.key, result | {"parents": told})
    found = tables(analysed, store)
    for table in (found.tickets, found.paths):
        rows = (table["seed"] == analysis.seed) & (table["round"] == analysis.round)
        assert table.loc[rows, "stray"].all() and not table.loc[~rows, "stray"].any()
