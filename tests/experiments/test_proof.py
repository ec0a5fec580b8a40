"""A result is believed only under the key that its own settings make."""

import copy
import hashlib
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, strategies as st

from labkit.base.store import Store, shipped_results
from labkit.experiments.experiment import Experiment, Trial, all_trials
from labkit.experiments.proof import proves, result_of
from labkit.experiments.results import tables
from labkit.experiments.scheduling import missing
from labkit.experiments.treatments import TREATMENTS
from tests.synthetic import SGD, finish, made_up


def test_every_shipped_result_proves_its_key(root: Path):
    shipped = shipped_results(root / "data" / "results")
    results = {key: json.loads(content) for key, content in shipped.items()}
    assert results and [key for key, result in results.items() if not proves(result, key)] == []
    some, other = list(results)[:2]
    assert not proves(results[some], other)


@pytest.fixture
def experiment(synthetic_data: None) -> Experiment:
    from labkit.engine.connectivity import Instability
    from labkit.experiments.task import Task

    task = Task(network="lenet-8-6", recipe=SGD)
    analysis = Instability(copies=2, alphas=3, train_examples=20)
    treatments = ("reinitialise", "shuffled-mask")
    return Experiment(
        task, rounds=1, treatments=treatments, seeds=(0, 1), draws=2, instability=analysis
    )


def put_as_before(store: Store, key: str, result: Any) -> None:
    """An entry as it was written before names were in digests."""
    content = json.dumps(result).encode()
    digest = hashlib.sha256(content).hexdigest().encode()
    (store.folder / f"{key}.json").write_bytes(digest + b"\n" + content)


def test_results_of_a_run_prove_theirs_and_no_other(experiment: Experiment, store: Store):
    finish(experiment, store)
    results = {trial: store.get(trial.key) for trial in all_trials(experiment)}
    for trial, result in results.items():
        assert [other for other in results if proves(result, other.key)] == [trial]


def test_swapped_old_results_are_set_aside_and_trained_again(experiment: Experiment, store: Store):
    finish(experiment, store)
    one, other = all_trials(experiment)[:2]
    results = store.get(one.key), store.get(other.key)
    put_as_before(store, one.key, results[1])
    put_as_before(store, other.key, results[0])
    with pytest.warns(UserWarning, match="another's; computing it again"):
        assert {t.key for t in missing(experiment, store)} == {one.key, other.key}
    put_as_before(store, one.key, results[0])
    assert result_of(one, store) == results[0]


def test_a_result_that_lacks_a_part_is_set_aside(experiment: Experiment, store: Store):
    finish(experiment, store)

    def lacks(trial: Trial, part: str) -> None:
        result = store.get(trial.key)
        del result[part]
        store.put(trial.key, result)
        with pytest.warns(UserWarning, match="computing it again"):
            assert result_of(trial, store) is None

    trained, *_, analysed = all_trials(experiment)
    assert analysed.analysis
    lacks(trained, "ticket")
    lacks(analysed, "paths")


def parts_of(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The ways to all that stands in a result."""
    inner = value.items() if isinstance(value, dict) else ()
    for name, part in inner:
        yield (*path, name)
        yield from parts_of(part, (*path, name))


READ = {"ticket", "curve", "paths", "provenance", "instability", "train_instability"}


@pytest.mark.parametrize("unusable", [None, "x", [], [None], {}])
def test_whatever_is_no_result_is_set_aside_and_never_read(
    unusable: Any, experiment: Experiment, store: Store
):
    """A part of a result that is something else, with a digest that fits."""
    finish(experiment, store)
    trained, *_, analysed = all_trials(experiment)
    for trial in (trained, analysed):
        good = store.get(trial.key)
        for path in parts_of(good):
            if path[0] not in READ:
                continue
            result = copy.deepcopy(good)
            holder = result
            for name in path[:-1]:
                holder = holder[name]
            holder[path[-1]] = unusable
            store.put(trial.key, result)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                again = trial.key in {other.key for other in missing(experiment, store)}
                assert again == (not proves(result, trial.key))
                tables(experiment, store)  # of what is left, which can be read
            store.put(trial.key, good)


junk = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.none())


@given(data=st.data(), value=junk)
def test_a_description_that_was_tampered_with_proves_nothing(data: st.DataObject, value: Any):
    trial = Trial(Experiment(treatments=("reinitialise",)), 0, 1, TREATMENTS["reinitialise"])
    result = made_up(trial)
    assert proves(result, trial.key)
    part = result["trial"]
    while isinstance(part, dict):
        holder, name = part, data.draw(st.sampled_from(sorted(part)))
        part = holder[name]
    same = json.dumps(value) == json.dumps(holder[name])  # lists and tuples are one in a file
    assume(name not in ("name", "treatment") and not same)
    holder[name] = value
    assert not proves(result, trial.key)


@pytest.mark.parametrize("told", [None, 3, "", [], {}, {"task": {"recipe": {"speed": 1}}}])
def test_what_is_no_description_proves_nothing(told: Any):
    assert not proves({"trial": told}, "0" * 32) and not proves({}, "0" * 32)
