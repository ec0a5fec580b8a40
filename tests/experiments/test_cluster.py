"""On a cluster of two workers, whatever happens to them, results are those of two jobs here."""

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from labkit.base.store import Store
from labkit.engine.connectivity import Instability
from labkit.engine.pruning import Pruning
from labkit.experiments import cluster as room
from labkit.experiments.cluster import connect, run_on, shares
from labkit.experiments.experiment import Experiment
from labkit.experiments.results import tables
from labkit.experiments.running import Evaluated, Finished, Progress, run
from labkit.experiments.scheduling import in_chunks, missing
from labkit.experiments.task import Task
from tests.synthetic import DATA, SGD, assert_same, finish, local_cluster

dask = pytest.importorskip("dask")
distributed = pytest.importorskip("distributed", reason="dask.distributed is not installed")

PATIENCE = 60


def die(chunk, store, data) -> Iterator[int]:
    yield 0
    os.kill(os.getpid(), signal.SIGKILL)


def stumble(chunk, store, data) -> Iterator[int]:
    yield 0
    raise ValueError(f"no further than {chunk[0].round}")


STUDY = Experiment(
    task=Task(network="lenet-8-6", recipe=SGD),
    pruning=Pruning(rate=0.3),
    rounds=2,
    rewind=4,
    treatments=("reinitialise", "random-mask"),
    seeds=(0, 1, 2),
    evaluate_every=3,
    instability=Instability(copies=2),
)
# Minutes of work, of which nobody waits for the end.
LONG = replace(
    STUDY, task=replace(STUDY.task, recipe=replace(SGD, iterations=500_000)), evaluate_every=100
)


@pytest.fixture(scope="module")
def cluster() -> Iterator["distributed.LocalCluster"]:
    with local_cluster(2) as made:
        yield made


@pytest.fixture
def client(cluster: "distributed.LocalCluster") -> Iterator["distributed.Client"]:
    with distributed.Client(cluster) as made:
        made.wait_for_workers(2, timeout=PATIENCE)
        yield made


@pytest.fixture
def here(synthetic_data: None, tmp_path: Path) -> Store:
    """The results of two jobs on this machine."""
    store = Store(tmp_path / "here", shipped=False)
    finish(STUDY, store, jobs=2)
    return store


def contents(store: Store) -> dict[str, bytes]:
    """The tensors of a store, by the names of their files."""
    return {path.name: path.read_bytes() for path in store.folder.glob("*.pt")}


def assert_same_results(store: Store, other: Store) -> None:
    assert_same(tables(STUDY, store), tables(STUDY, other))
    assert contents(store) == contents(other) != {}
    names = {path.name for path in store.folder.iterdir()}
    assert names == {path.name for path in other.folder.iterdir()}


def idle(client: "distributed.Client") -> bool:
    """Whether no worker computes anything."""
    return not any(client.run(lambda dask_worker: len(dask_worker.state.executing)).values())


def wait_until(what) -> None:
    deadline = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.02)


def test_results_are_those_of_two_jobs(client, here: Store, store: Store) -> None:
    events = list(run(STUDY, store, client=client))
    assert_same_results(store, here)
    local = list(run(STUDY, Store(store.folder / "again", shipped=False), jobs=2))
    for kind in (Evaluated, Finished):  # as many of each, whatever was told when
        assert sum(isinstance(e, kind) for e in events) == sum(isinstance(e, kind) for e in local)
    progress = [event for event in events if isinstance(event, Progress)]
    assert progress[-1].done == progress[-1].total == local[-1].total
    assert [p.done for p in progress] == sorted(p.done for p in progress)
    assert list(run(STUDY, store, client=client)) == [], "nothing is left to do"


def test_what_is_told_of_is_in_the_store(client, here: Store, store: Store) -> None:
    for event in run(STUDY, store, client=client):
        if isinstance(event, Finished):
            assert json.dumps(store.get(event.trial.key)) == json.dumps(event.result)


def test_a_run_goes_on_from_what_the_store_has(client, here: Store, store: Store) -> None:
    """Weights of earlier rounds are sent along with the networks that start from them."""
    finish(replace(STUDY, rounds=1), store, jobs=2)
    assert len(list(store.folder.glob("*.json"))) > 0
    for _ in run(STUDY, store, client=client):
        pass
    assert_same_results(store, here)


def test_a_worker_that_is_killed_costs_nothing_but_time(client, here: Store, store: Store) -> None:
    killed = 0
    pids = list(client.run(os.getpid).values())
    for event in run(STUDY, store, client=client):
        if isinstance(event, Finished) and event.trial.round == 1 and not killed:
            killed = pids.pop()
            os.kill(killed, signal.SIGKILL)
    assert killed
    assert_same_results(store, here)


def test_to_close_ends_what_the_workers_do(client, synthetic_data: None, store: Store) -> None:
    running = run(LONG, store, client=client)
    event = next(e for e in running if isinstance(e, Evaluated))
    assert event.iteration < LONG.task.recipe.iterations and not idle(client)
    running.close()
    wait_until(lambda: idle(client))
    assert not list(store.folder.glob("*.json")), "nothing was finished"


def test_a_stopped_run_goes_on_where_it_was(client, here: Store, store: Store) -> None:
    running = run(STUDY, store, client=client)
    next(event for event in running if isinstance(event, Finished))
    running.close()
    before = {path.name for path in store.folder.glob("*.json")}
    assert before and len(before) < len(list(here.folder.glob("*.json")))
    for event in run(STUDY, store, client=client):
        assert not isinstance(event, Finished) or f"{event.trial.key}.json" not in before
    assert_same_results(store, here)


def test_the_other_end_of_a_dead_client_stops_too(client, cluster, synthetic_data, store) -> None:
    other = distributed.Client(cluster)
    running = run(LONG, store, client=other)
    next(e for e in running if isinstance(e, Evaluated))
    other.close()
    wait_until(lambda: idle(client))
    with pytest.raises(ConnectionError, match="what was finished is kept"):
        list(running)


def test_what_a_worker_raises_is_raised_here(client, synthetic_data: None, store: Store) -> None:
    calls = in_chunks(missing(STUDY, store), "cpu", 2)
    with pytest.raises(ValueError, match="no further than 0"):
        list(run_on(client, stumble, calls, store))
    wait_until(lambda: idle(client))


def test_networks_of_which_workers_die_are_an_error_which_names_memory(
    client, synthetic_data: None, store: Store
) -> None:
    calls = in_chunks(missing(STUDY, store), "cpu", 2)
    with pytest.raises(RuntimeError, match="as when memory runs out"):
        list(run_on(client, die, calls, store))


@pytest.mark.parametrize(
    ("threads", "versions", "named"),
    [(2, None, "one thread each"), (1, {"torch": "1.0"}, "must have the versions of whoever")],
)
def test_workers_that_would_give_other_numbers_are_refused(
    threads: int, versions, named: str, synthetic_data: None, store: Store, monkeypatch
) -> None:
    if versions:
        monkeypatch.setattr(room, "_versions", lambda: versions)
    with (
        local_cluster(1, threads) as other,
        distributed.Client(other) as client,
        pytest.raises(ValueError, match=named),
    ):
        list(run(STUDY, store, client=client))


def test_as_many_shares_as_workers(client) -> None:
    assert shares(None, client) == 2 and shares(7, client) == 7
    with pytest.raises(ValueError, match="jobs must be a whole number"):
        shares(0, client)


def test_of_part_of_the_data_a_part_is_sent() -> None:
    whole = DATA["lenet-8-6"]
    part = replace(whole, train=whole.train[:3])
    sent = room._whole(part)
    assert len(sent.train) == 3 and sent.train.images.untyped_storage().nbytes() == 3 * 64
    assert room._digest(sent) == room._digest(part) != room._digest(whole)
    for other in (replace(whole, name="other"), replace(whole, mean=whole.mean + 1)):
        assert room._digest(other) != room._digest(whole)


def test_nobody_at_the_address(tmp_path: Path) -> None:
    with dask.config.set({"distributed.comm.timeouts.connect": "0.3s"}):
        with pytest.raises(OSError, match="Timed out"):
            connect("tcp://127.0.0.1:9")
        file = tmp_path / "scheduler.json"
        file.write_text(json.dumps({"address": "tcp://127.0.0.1:9"}))
        with pytest.raises(OSError, match="Timed out"):
            connect(str(file))


def test_without_dask_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ValueError, match=r"the extra \[cluster\]"):
        connect("tcp://127.0.0.1:9")
