"""Running: tickets start where the papers say, and to stop and go on changes nothing."""

import errno
import math
import multiprocessing
import os
import sys
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pandas as pd
import pytest
import torch

import labkit
from labkit.base.machine import lab_commit
from labkit.base.store import UNFINISHED, Store, StoreError, enlist, ship
from labkit.engine.connectivity import Instability
from labkit.engine.pruning import Pruning, apply_masks, prune
from labkit.engine.training import EarlyStop, Evaluation, Measurement, Recipe, train
from labkit.experiments import running, scheduling
from labkit.experiments.experiment import Experiment, Trial
from labkit.experiments.results import tables
from labkit.experiments.running import Evaluated, Finished, Progress, run
from labkit.experiments.scheduling import in_chunks, missing
from labkit.experiments.task import Task
from labkit.experiments.tickets import build_network
from labkit.experiments.treatments import REWIND, TREATMENTS, Treatment
from tests.synthetic import (
    DATA,
    SGD,
    Start,
    assert_equal,
    assert_same,
    dense_at,
    finish,
    initial,
)

pytestmark = pytest.mark.usefixtures("synthetic_data")

ADAM = Recipe(learning_rate=0.02, batch_size=8, iterations=10)
LENET = Experiment(
    task=Task(network="lenet-8-6", recipe=ADAM),
    pruning=Pruning(rate=0.3, output_rate=0.1),
    rounds=2,
    seeds=(0, 1),
    evaluate_every=4,
)
REWOUND = replace(LENET, task=replace(LENET.task, recipe=SGD), rewind=3)
RESNET = Experiment(
    task=Task(
        network="resnet-8-w2",
        recipe=replace(SGD, iterations=5, milestones=(), augmentation="flip-crop"),
    ),
    pruning=Pruning(scope="global", rate=0.4),
    rounds=1,
    rewind=2,
    seeds=(3, 1),
    evaluate_every=2,
)


forked = pytest.mark.skipif(
    sys.platform != "linux" or torch.cuda.is_available(),
    reason="only a forked process has the data of these tests",
)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Networks this small are slower with several threads, far slower beside other programs."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


# --------------------------------------------------------------------------- where tickets start


def test_at_k_0_a_ticket_starts_from_the_initialisation(store: Store, follow) -> None:
    starts = follow(LENET, store)
    assert len(starts) == 6
    for trial, start in starts.items():
        expected = initial(LENET, trial.seed)
        assert_equal(start.state, apply_masks(expected, start.masks))
        assert (start.iteration, start.recipe, start.seed) == (0, ADAM, trial.seed)
        assert not start.masks if trial.round == 0 else start.masks


@pytest.mark.parametrize("experiment", [REWOUND, RESNET], ids=["lenet", "resnet"])
def test_at_k_a_ticket_starts_from_the_dense_network_after_k_iterations(
    experiment: Experiment, store: Store, follow
) -> None:
    at_k = dense_at(experiment, experiment.rewind)
    for trial, start in follow(experiment, store).items():
        if trial.round:  # biases and all of batch normalisation included
            assert_equal(start.state, apply_masks(at_k[trial.seed][0], start.masks))
            assert start.iteration == experiment.rewind
            assert trial.work == experiment.task.recipe.iterations - experiment.rewind
            for name, tensor in initial(experiment, trial.seed).items():
                if name.endswith("bias") or name.endswith("variance"):
                    assert not torch.equal(start.state[name], tensor), "they have been trained"


@pytest.mark.parametrize("experiment", [LENET, RESNET], ids=["layerwise", "global"])
def test_a_mask_prunes_what_the_round_before_has_trained(
    experiment: Experiment, store: Store, follow
) -> None:
    for trial, start in follow(experiment, store).items():
        if trial.round:
            before = store.get_tensors(trial.parent.key)
            expected = prune(experiment.pruning, before["final"], before["masks"], [])
            assert_equal(start.masks, {name: mask[0] for name, mask in expected.items()})
            for name, mask in before["masks"].items():
                assert not (start.masks[name] & ~mask[0]).any(), "masks never grow back"
            own = store.get_tensors(trial.key)
            assert_equal({n: m[0] for n, m in own["masks"].items()}, start.masks)
            for name, mask in start.masks.items():
                assert not own["final"][name][0][~mask].any(), "pruned weights stay zero"


def test_random_pruning_differs_between_seeds_and_rounds(store: Store, follow) -> None:
    experiment = replace(LENET, pruning=Pruning(criterion="random", rate=0.5))
    starts = follow(experiment, store)
    masks = {(t.round, t.seed): s.masks["layers.0.weight"] for t, s in starts.items() if t.round}
    assert not torch.equal(masks[1, 0], masks[1, 1])
    assert (masks[2, 0] <= masks[1, 0]).all()


# ------------------------------------------------------------------------------------ treatments


@pytest.fixture
def treated(store: Store, follow) -> dict[tuple[int, str, int, int], Start]:
    """(round, label, seed, draw) -> start of every trial of an experiment with all treatments."""
    usual = list(TREATMENTS)[: list(TREATMENTS).index("signs")]  # the others: test_moments.py
    experiment = replace(REWOUND, treatments=usual, draws=2)
    return {(t.round, t.label, t.seed, t.draw): s for t, s in follow(experiment, store).items()}


def test_treatments_are_what_their_names_say(treated, store: Store) -> None:
    assert len(treated) == 2 + 2 * (4 * 2 + 6 * 4), "scratch-e is trained as reinitialise"
    at_k = dense_at(REWOUND, 3)
    for (number, label, seed, _), start in treated.items():
        assert start.seed == seed, "all arms of a seed see the same batches"
        assert not start.moments, "every round has a new optimizer"
        if number == 0:
            continue
        ticket = treated[number, "rewind", seed, 0]
        same_mask = all(torch.equal(start.masks[n], m) for n, m in ticket.masks.items())
        assert same_mask == (label not in ("shuffled-mask", "random-mask"))
        if label in ("shuffled-mask", "random-mask"):
            assert_equal(start.state, apply_masks(at_k[seed][0], start.masks))
        if label in ("fine-tune", "fine-tune-quarter", "learning-rate-rewind"):
            parent = Trial(REWOUND, seed, number - 1, REWIND)
            final = {n: t[0] for n, t in store.get_tensors(parent.key)["final"].items()}
            assert_equal(start.state, apply_masks(final, start.masks))
        left = sum(mask.sum().item() for mask in start.masks.values())
        dense = 64 * 8 + 8 * 6 + 6 * 3
        lengths = {"fine-tune-quarter": 10 // 4, "scratch-b": round(min(2, dense / left) * 10)}
        lengths["scratch-b-uncapped"] = round(dense / left * 10)
        iterations = lengths.get(label, 10)
        if label.startswith("fine-tune"):
            last_rate = {SGD.rate(9)}
            assert {start.recipe.rate(t) for t in range(10)} == last_rate == {0.1 * 0.1**2}
            assert start.recipe.iterations == iterations
        else:
            assert label in TREATMENTS and start.recipe == replace(SGD, iterations=iterations)
        restarted = ("reinitialise", "scratch-b", "scratch-b-uncapped")
        restarted += ("scratch-rescaled", "fine-tune-quarter")
        assert start.iteration == (0 if label in restarted else 3)


def test_a_reinitialised_control_keeps_the_mask_and_draws_new_weights(treated) -> None:
    drawn = {key: start for key, start in treated.items() if key[1] == "reinitialise"}
    assert len(drawn) == 8  # rounds x seeds x draws
    for (_, _, seed, _), start in drawn.items():
        expected = initial(REWOUND, seed)
        for name, mask in start.masks.items():
            assert (start.state[name] != expected[name])[mask].all()
            assert not start.state[name][~mask].any()
            assert not start.state[name.replace("weight", "bias")].any()
        new = start.state["layers.0.weight"][start.masks["layers.0.weight"]]
        assert new.std().item() == pytest.approx(math.sqrt(2 / (64 + 8)), rel=0.25)
    first = [start.state["layers.0.weight"] for start in drawn.values()]
    products = [(a * b).ne(0).any() and (a == b)[a.ne(0)].any() for a in first for b in first]
    assert sum(map(bool, products)) == len(first), "no two draws share a weight"


def test_control_masks_keep_the_count_per_layer_or_in_all(treated) -> None:
    for (number, label, seed, draw), start in treated.items():
        if label not in ("shuffled-mask", "random-mask"):
            continue
        ticket = treated[number, "rewind", seed, 0].masks
        own = {name: mask.sum().item() for name, mask in start.masks.items()}
        its = {name: mask.sum().item() for name, mask in ticket.items()}
        assert sum(own.values()) == sum(its.values())
        assert own == its or label == "random-mask"
        other = treated[number, label, seed, 1 - draw].masks
        assert not torch.equal(start.masks["layers.0.weight"], other["layers.0.weight"])


@pytest.mark.parametrize(
    "recipe", [ADAM, SGD, replace(SGD, momentum=0.0)], ids=["adam", "sgd", "no momentum"]
)
def test_the_optimizer_is_restored_or_fresh_at_k(recipe: Recipe, store: Store, follow) -> None:
    fresh = replace(REWOUND, task=replace(REWOUND.task, recipe=recipe), rounds=1)
    restored = replace(
        fresh, optimizer_state="restored", treatments=("learning-rate-rewind", "shuffled-mask")
    )
    assert not any(start.moments for start in follow(fresh, store).values())
    at_k = dense_at(fresh, 3)
    for trial, start in follow(restored, store).items():
        if trial.treatment.weights == "final":
            assert not start.moments, "moments go with the weights they belong to"
            continue
        for found, expected in zip(start.moments, at_k[trial.seed][1], strict=True):
            assert_equal(found, expected)
    losses = [tables(e, store).curves for e in (fresh, restored)]
    last = [t[(t["round"] == 1) & (t.treatment == "rewind")].validation_loss for t in losses]
    assert (last[0].iloc[-1] == last[1].iloc[-1]) == (recipe.momentum == 0 and recipe is not ADAM)


def test_a_treatment_of_ones_own_combines_the_three_choices(store: Store, follow) -> None:
    mine = Treatment("mine", mask="shuffled", weights="final", schedule="restarted")
    experiment = replace(REWOUND, rounds=1, treatments=(mine,), seeds=(0,))
    start = next(s for t, s in follow(experiment, store).items() if t.label == "mine")
    dense = store.get_tensors(Trial(experiment, 0, 0, REWIND).key)["final"]
    expected = apply_masks({n: t[0] for n, t in dense.items()}, start.masks)
    assert_equal(start.state, expected)
    assert start.iteration == 0 and start.recipe == SGD


# ----------------------------------------------------------------------------- stop and go on

FULL = replace(REWOUND, treatments=("reinitialise", "fine-tune"), optimizer_state="restored")


@pytest.mark.parametrize("experiment", [FULL, RESNET], ids=["lenet", "resnet"])
def test_the_same_experiment_gives_the_same_numbers(experiment: Experiment, tmp_path: Path) -> None:
    before = torch.get_rng_state()
    one, other = (finish(experiment, Store(tmp_path / n, shipped=False)) for n in "ab")
    assert_same(one, other)
    assert torch.equal(torch.get_rng_state(), before), "nothing is drawn globally"


@pytest.mark.parametrize("experiment", [FULL, RESNET], ids=["lenet", "resnet"])
def test_killed_and_resumed_it_gives_the_same_numbers(
    experiment: Experiment, tmp_path: Path, store: Store
) -> None:
    events = list(run(experiment, store))
    expected = tables(experiment, store)
    finished = [n for n, event in enumerate(events) if isinstance(event, Finished)]
    for count in (1, len(events) // 3, finished[0] + 1, finished[2], finished[-1]):
        other = Store(tmp_path / f"killed-{count}", shipped=False)
        killed = run(experiment, other)
        done = {e.trial for e in islice(killed, count) if isinstance(e, Finished)}
        killed.close()
        assert not done & set(missing(experiment, other)), "what is done is kept"
        assert_same(finish(experiment, other), expected)


JOBS = [FULL, replace(RESNET, instability=Instability(2, 3, train_examples=20))]


@forked
@pytest.mark.parametrize("experiment", JOBS, ids=["lenet", "resnet"])
def test_jobs_change_no_number_but_for_rounding(experiment: Experiment, tmp_path: Path) -> None:
    alone, once, again = (
        finish(experiment, Store(tmp_path / str(number), shipped=False), jobs)
        for number, jobs in enumerate((1, 2, 2))
    )
    assert_same(once, again)
    for one, other in ((alone.tickets, once.tickets), (alone.curves, once.curves)):
        pd.testing.assert_frame_equal(one, other, rtol=1e-3, atol=1e-3)
    assert alone.paths.shape == once.paths.shape


@forked
@pytest.mark.parametrize("count", [1, 5, 20])
def test_killed_and_resumed_jobs_give_the_same_numbers(
    count: int, store: Store, tmp_path: Path
) -> None:
    expected = finish(FULL, Store(tmp_path / "whole", shipped=False), 2)
    killed = run(FULL, store, jobs=2)
    done = {e.trial for e in islice(killed, count) if isinstance(e, Finished)}
    killed.close()
    assert not done & set(missing(FULL, store)), "what is done is kept"
    assert not list(store.folder.glob("*.part")), "nothing half written is left"
    assert_same(finish(FULL, store, 2), expected)


@forked
def test_jobs_report_the_same_events(store: Store) -> None:
    events = list(run(FULL, store, jobs=3))
    trials = [trial for number in range(3) for trial in FULL.trials(number)]
    finished = [event for event in events if isinstance(event, Finished)]
    assert sorted(e.trial.key for e in finished) == sorted(t.key for t in trials)
    for event in finished:
        assert event.result["ticket"] == store.get(event.trial.key)["ticket"]
    evaluated = [event for event in events if isinstance(event, Evaluated)]
    assert {trial for event in evaluated for trial in event.trials} == set(trials)
    progress = [event for event in events if isinstance(event, Progress)]
    assert {p.total for p in progress} == {sum(trial.work for trial in trials)} and len(
        progress
    ) > 1
    assert [p.done for p in progress] == sorted(p.done for p in progress)
    assert progress[-1].done == progress[-1].total
    assert {event.result["provenance"]["threads"] for event in finished} == {1}


@forked
def test_without_a_wish_each_thread_of_torch_is_a_process_of_one(store: Store) -> None:
    torch.set_num_threads(2)  # put back by a fixture
    torch.randn(500, 500) @ torch.randn(500, 500)  # a notebook has used them already
    most, finished = 0, []
    for event in run(FULL, store):
        most = max(most, len(multiprocessing.active_children()))
        assert torch.get_num_threads() == 2
        if isinstance(event, Finished):
            finished.append(event.result["provenance"]["threads"])
    assert most == 2 and set(finished) == {1} and multiprocessing.active_children() == []


@forked
def test_what_fails_in_a_job_is_raised_here(store: Store, monkeypatch) -> None:
    def full_disk(*_) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("labkit.base.store.os.fsync", full_disk)
    with pytest.raises(StoreError, match=r"No space left .* choose another folder"):
        list(run(LENET, store, jobs=2))
    # The other process may have been stopped between making a file and naming it.
    assert not [path for path in store.folder.iterdir() if path.suffix != UNFINISHED]


def test_jobs_out_of_range_are_named(store: Store) -> None:
    for jobs in (0, -1, 1.5, True, 5000):
        with pytest.raises(ValueError, match=f"jobs must be .* from 1 to 64, not {jobs}"):
            next(run(LENET, store, jobs=jobs))
    with pytest.raises(ValueError, match=r"jobs must be 1 on a GPU, .* not 2"):
        next(run(LENET, store, "cuda", jobs=2))


def test_killed_again_and_again_it_still_ends(store: Store, tmp_path: Path) -> None:
    expected = finish(FULL, Store(tmp_path / "whole", shipped=False))
    for _ in range(30):
        stopped = run(FULL, store)
        for event in stopped:
            if isinstance(event, Finished):
                break
        stopped.close()
    assert not missing(FULL, store)
    assert_same(tables(FULL, store), expected)


def test_what_is_there_is_not_trained_again(store: Store, monkeypatch) -> None:
    expected = finish(LENET, store)
    monkeypatch.setattr(Task, "data", lambda _: pytest.fail("the data are not needed"))
    assert list(run(LENET, store)) == []
    assert_same(tables(LENET, store), expected)


def test_experiments_share_the_dense_networks_and_the_chain(store: Store) -> None:
    finish(replace(LENET, rounds=1), store)
    other = replace(LENET, rounds=1, pruning=Pruning(scope="global"))
    assert {trial.round for trial in missing(other, store)} == {1}
    longer = replace(LENET, treatments=("reinitialise",))
    todo = missing(longer, store)
    assert [t for t in todo if t.round == 0] == []
    assert {t.label for t in todo if t.round == 1} == {"reinitialise"}
    assert len(finish(longer, store).tickets) == 2 + 4 + 4


def test_a_chain_known_from_shipped_results_is_trained_when_its_weights_are_needed(
    store: Store, tmp_path: Path, monkeypatch
) -> None:
    expected = finish(LENET, store)
    trials = [t for n in range(3) for t in LENET.trials(n)]
    path = tmp_path / "data" / "results" / "a.zip"
    ship({t.key: store.get(t.key) for t in trials}, path)
    enlist(path)
    monkeypatch.setenv("LABKIT_DATA", str(tmp_path / "data"))
    student = Store(tmp_path / "student")
    assert missing(LENET, student) == []
    assert_same(tables(LENET, student), expected)
    longer = replace(LENET, treatments=("fine-tune",), treated_rounds=(2,))
    assert [(t.round, t.label) for t in missing(longer, student)] == [
        *[(0, "dense")] * 2,
        *[(1, "rewind")] * 2,
        *[(2, "fine-tune")] * 2,
    ]
    assert len(finish(longer, student).tickets) == 8


def test_a_damaged_entry_is_trained_again_with_a_warning(store: Store) -> None:
    expected = finish(LENET, store)
    parent = Trial(LENET, 0, 1, REWIND)
    for suffix in ("pt", "json"):
        path = store.folder / f"{parent.key}.{suffix}"
        path.write_bytes(path.read_bytes()[:-7])
    child = store.folder / f"{Trial(LENET, 0, 2, REWIND).key}.json"
    child.unlink()
    with pytest.warns(UserWarning, match="is damaged or another's; computing it again"):
        again = finish(LENET, store)
    pd.testing.assert_frame_equal(again.tickets, expected.tickets, rtol=1e-3)


@pytest.mark.parametrize("suffix", ["json", "pt"])
def test_what_lost_one_of_a_company_is_trained_again_in_that_company(
    suffix: str, store: Store
) -> None:
    """Killed between two results of one population, say: alone, the other would end elsewhere."""
    expected = finish(RESNET, store)
    dense = Trial(RESNET, 1, 0, REWIND)
    (store.folder / f"{dense.key}.{suffix}").unlink()
    for trial in RESNET.trials(1)[: suffix == "pt"]:  # which needs those weights
        (store.folder / f"{trial.key}.json").unlink()
    assert {trial.seed for trial in missing(RESNET, store) if trial.round == 0} == {3, 1}
    assert_same(finish(RESNET, store), expected)


def test_what_was_trained_in_other_company_stays(store: Store) -> None:
    finish(replace(RESNET, seeds=(3,)), store)
    assert {trial.seed for trial in missing(RESNET, store)} == {1}


def test_damaged_weights_whose_result_is_whole_are_trained_again(store: Store) -> None:
    finish(replace(LENET, rounds=1), store)
    path = store.folder / f"{Trial(LENET, 0, 1, REWIND).key}.pt"
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.warns(UserWarning, match="is damaged or another's; computing it again"):
        assert len(finish(LENET, store).tickets) == 6


def test_lost_rewind_weights_are_trained_again(store: Store) -> None:
    expected = finish(REWOUND, store)
    for seed in REWOUND.seeds:
        (store.folder / f"{Trial(REWOUND, seed, 0, REWIND).dense_key(3)}.pt").unlink()
        (store.folder / f"{Trial(REWOUND, seed, 2, REWIND).key}.json").unlink()
    pd.testing.assert_frame_equal(finish(REWOUND, store).tickets, expected.tickets, rtol=1e-3)


def test_states_early_and_late_are_those_of_one_training(store: Store) -> None:
    """In other company a network ends elsewhere, by rounding; so it is trained again as a whole."""
    finish(replace(REWOUND, rewind=0, rounds=0), store)
    (seed, *_) = REWOUND.seeds
    alone = replace(REWOUND, seeds=(seed,), rounds=0, instability=Instability(copies=2, alphas=3))
    dense = Trial(alone, seed, 0, REWIND)
    marked = {name: t + 1 for name, t in store.get_tensors(dense.key)["final"].items()}
    store.put_tensors(dense.key, {"final": marked, "masks": {}})  # another training's
    finish(alone, store)
    data, saved = alone.task.data(), store.get_tensors(dense.dense_key(alone.rewind))
    network = build_network(alone, data).with_state(saved["network"])
    options = {"start": alone.rewind, "moments": saved["moments"]}
    for _ in train(network, alone.task.recipe, data, [seed], **options):
        pass
    final = store.get_tensors(dense.key)["final"]
    assert all(torch.equal(t, final[name]) for name, t in network.state().items())


def test_a_full_disk_stops_the_run_and_loses_nothing(
    store: Store, tmp_path: Path, monkeypatch
) -> None:
    expected = finish(FULL, Store(tmp_path / "whole", shipped=False))
    real, writes = os.fsync, iter(range(1_000))

    def fills_up(descriptor: int) -> None:
        if next(writes) >= 9:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fills_up)
    with pytest.raises(StoreError, match="No space left on device"):
        finish(FULL, store)
    monkeypatch.setattr(os, "fsync", real)
    assert 0 < len(tables(FULL, store).tickets) < len(expected.tickets)
    assert not any(isinstance(found, StoreError) for _, found in store.entries())
    assert not list(store.folder.glob("*.part"))
    resumed = finish(FULL, store)
    pd.testing.assert_frame_equal(resumed.tickets, expected.tickets, rtol=1e-3)


# ------------------------------------------------------------------------------ events and tables


def test_progress_counts_every_iteration_of_every_network(store: Store) -> None:
    events = list(run(FULL, store, jobs=1))  # where rounds come one after the other
    progress = [event for event in events if isinstance(event, Progress)]
    total = sum(trial.work for number in range(3) for trial in FULL.trials(number))
    assert [p.done for p in progress] == sorted(p.done for p in progress)
    assert {p.total for p in progress} == {total} and progress[-1].done == total
    assert [p.round for p in progress] == sorted(p.round for p in progress)
    finished = [event.trial for event in events if isinstance(event, Finished)]
    assert sorted(t.key for t in finished) == sorted(
        t.key for n in range(3) for t in FULL.trials(n)
    )


def test_a_population_has_one_schedule_and_a_limited_size(monkeypatch) -> None:
    monkeypatch.setattr(scheduling, "population_limit", lambda *_: 3)
    trials = replace(FULL, treatments=tuple(TREATMENTS), draws=3).trials(1)
    chunks = [chunk.argument for chunk in in_chunks(trials, "cpu")]
    assert sorted(t.key for chunk in chunks for t in chunk) == sorted(t.key for t in trials)
    for chunk in chunks:
        assert len(chunk) <= 3
        assert len({(t.start, t.treatment.schedule == "last") for t in chunk}) == 1
        restored = {t.treatment.weights == "rewound" for t in chunk if t.start}
        assert len(restored) <= 1


def test_jobs_share_the_cache(monkeypatch) -> None:
    monkeypatch.setattr(scheduling, "population_limit", lambda *_: 5)
    trials = replace(FULL, treatments=("reinitialise",), draws=5).trials(1)  # 2 and 10
    for jobs, most in ((1, 5), (2, 3), (3, 2), (5, 1), (9, 1)):
        chunks = in_chunks(trials, "cpu", jobs)
        assert max(len(chunk.argument) for chunk in chunks) == most
        assert sorted(t.key for c in chunks for t in c.argument) == sorted(t.key for t in trials)


def test_a_round_has_a_chunk_for_each_job_if_it_has_the_networks(monkeypatch) -> None:
    monkeypatch.setattr(scheduling, "population_limit", lambda *_: 4)
    for count in range(1, 12):
        trials = replace(FULL, treatments=(), seeds=tuple(range(count))).trials(0)
        for jobs in (1, 2, 3, 8):
            chunks = in_chunks(trials, "cpu", jobs)
            assert len(chunks) >= min(jobs, count)
            assert max(len(chunk.argument) for chunk in chunks) <= -(-4 // jobs)


def test_what_is_left_to_do_is_trained_in_the_chunks_in_which_it_would_have_been() -> None:
    trials = replace(FULL, seeds=tuple(range(7)), treatments=("reinitialise",), draws=3).trials(1)
    for jobs in (1, 2, 3):
        chunks = in_chunks(trials, "cpu", jobs)
        for bits in range(2 ** len(chunks)):
            left = [chunk for number, chunk in enumerate(chunks) if bits >> number & 1]
            todo = [trial for trial in trials if any(trial in chunk.argument for chunk in left)]
            again = in_chunks(todo, "cpu", jobs)
            assert [c.argument for c in again] == [c.argument for c in left]


def test_what_a_chunk_waits_for_is_the_chunks_that_leave_what_it_starts_from(store: Store) -> None:
    experiment = replace(
        REWOUND,
        treatments=("fine-tune", "shuffled-mask"),
        instability=Instability(2),
        rounds=1,
        seeds=(0,),
    )
    chunks = in_chunks(missing(experiment, store), "cpu")
    names = [
        {f"{'analysed ' * trial.analysis}{trial.label}" for trial in chunk.argument}
        for chunk in chunks
    ]
    waits = {
        name: set[str]().union(*(names[place] for place in chunk.after))
        for chunk, some in zip(chunks, names, strict=True)
        for name in some
    }
    dense, first = {"dense"}, {"rewind", "shuffled-mask"}  # which have one schedule
    assert waits == {
        "dense": set(),
        "analysed dense": dense,
        "rewind": dense,
        "shuffled-mask": dense,
        "fine-tune": dense,
        "analysed rewind": dense | first,
        "analysed shuffled-mask": dense | first,
    }


def test_a_ticket_waits_for_a_dense_network_that_is_trained_again(store: Store) -> None:
    finish(replace(REWOUND, rounds=1), store)
    for seed in REWOUND.seeds:
        (store.folder / f"{Trial(REWOUND, seed, 0, REWIND).dense_key(3)}.pt").unlink()
    chunks = in_chunks(missing(REWOUND, store), "cpu")
    assert [{trial.round for trial in chunk.argument} for chunk in chunks] == [{0}, {2}]
    assert [chunk.after for chunk in chunks] == [set(), {0}], "round 1, which it prunes, is known"


def test_tables_have_a_row_per_network_and_per_evaluation(store: Store) -> None:
    assert len(tables(FULL, store).tickets) == len(tables(FULL, store).curves) == 0
    tickets, curves = _both(FULL, store)
    assert len(tickets) == 2 + 2 * 6
    for column in ("seed", "round", "treatment", "draw", "density"):
        assert column in tickets and column in curves
    assert set(tickets.treatment) == {"dense", "rewind", "reinitialise", "fine-tune"}
    assert set(curves[curves["round"] == 0].iteration) == {0, 4, 8, 10}
    rewound = curves[curves.treatment == "rewind"]
    assert set(rewound.iteration) == {4, 8, 10}, "they start at 3"
    sizes = {0: 64 * 8 + 8 * 6 + 6 * 3}
    sizes[1] = sizes[0] - round(0.3 * 512) - round(0.3 * 48) - round(0.1 * 18)
    for number, size in sizes.items():
        rows = tickets[tickets["round"] == number]
        assert set(rows.weights) == {size}
        assert set(rows.parameters) == {size + 8 + 6 + 3}
        assert set(rows.flops) == {2 * size}
        assert rows.density.tolist() == pytest.approx([size / sizes[0]] * len(rows))


def _both(experiment: Experiment, store: Store) -> tuple[pd.DataFrame, pd.DataFrame]:
    found = finish(experiment, store)
    return found.tickets, found.curves


def test_early_stopping_is_the_minimum_of_the_validation_loss(store: Store) -> None:
    wild = replace(FULL.task, recipe=replace(FULL.task.recipe, learning_rate=0.2))
    tickets, curves = _both(replace(FULL, task=wild, evaluate_every=1), store)
    names = ["seed", "round", "treatment", "draw"]
    by_network = dict(list(curves.groupby(names)))
    for row in tickets.to_dict("records"):
        curve = by_network[tuple(row[name] for name in names)].reset_index(drop=True)
        best = curve.loc[curve.validation_loss.idxmin()]
        assert row["early_stop"] == best.iteration
        assert row["censored"] == (best.iteration == 10)
        assert row["test_accuracy"] == row["final_test_accuracy"] or not row["censored"]
    assert 0 < tickets.censored.mean() < 1
    assert (tickets.test_accuracy != tickets.final_test_accuracy).any()


@pytest.mark.parametrize(("stop", "censored"), [(0, False), (10, False), (20, True)])
def test_a_minimum_at_the_last_evaluation_is_censored(stop: int, censored: bool) -> None:
    def measured(accuracy: float) -> Measurement:
        return Measurement(torch.tensor([9.0, 1.0]), torch.tensor([0.0, accuracy]), torch.ones(2))

    early = EarlyStop(torch.tensor([5, stop]), measured(0.25))
    found = running._on_the_test_set(20, Evaluation(measured(0.0), measured(0.5), early), 1)
    assert found == {
        "early_stop": stop,
        "censored": censored,
        "test_accuracy": 0.25,
        "final_test_accuracy": 0.5,
    }


def test_a_result_tells_where_it_comes_from(store: Store) -> None:
    event = next(event for event in run(LENET, store) if isinstance(event, Finished))
    assert event.result["trial"]["seed"] == event.trial.seed
    assert event.result["trial"]["task"]["recipe"]["iterations"] == 10
    provenance = event.result["provenance"]
    assert provenance["torch"] == torch.__version__
    assert (provenance["labkit"], provenance["commit"]) == (labkit.__version__, lab_commit())
    assert {"device", "threads", "seconds", "python", "finished"} <= set(provenance)


def test_a_diverging_network_is_a_result_too(store: Store) -> None:
    wild = Recipe("sgd", 1e30, batch_size=8, iterations=6)
    experiment = replace(LENET, task=replace(LENET.task, recipe=wild), rounds=1, evaluate_every=1)
    found = finish(experiment, store)
    assert len(found.tickets) == 4
    assert (found.tickets.early_stop == 0).all()
    assert (found.tickets.test_accuracy.between(0, 1)).all()


def test_without_validation_images_the_early_stop_is_the_last_iteration(store: Store, monkeypatch):
    data = DATA["lenet-8-6"]
    every = replace(data, validation=data.validation[:0])
    monkeypatch.setattr(Task, "data", lambda task: every)
    tickets = finish(replace(LENET, rounds=1, treatments=()), store).tickets
    assert tickets["early_stop"].eq(LENET.task.recipe.iterations).all()
    assert tickets["censored"].all()
    assert tickets["test_accuracy"].equals(tickets["final_test_accuracy"])


def test_scratch_b_spends_what_pruning_saves_up_to_twice_the_epochs_or_all_of_it():
    capped, whole = (TREATMENTS[name] for name in ("scratch-b", "scratch-b-uncapped"))
    dense = replace(LENET.task.recipe, iterations=100)
    assert [capped.recipe(dense, gain).iterations for gain in (1.5, 2.0, 7.3)] == [150, 200, 200]
    assert [whole.recipe(dense, gain).iterations for gain in (1.5, 2.0, 7.3)] == [150, 200, 730]


def test_results_keep_what_the_mask_leaves_in_few_numbers(store, synthetic_data):
    dense = Experiment(Task(network="lenet-8-6", recipe=SGD), Pruning(rate=0.5), 1, seeds=(0,))
    conv = replace(dense, task=replace(dense.task, network="conv-2"))
    for experiment, part, axes in ((dense, "pixels", 0), (conv, "filters", (1, 2, 3))):
        for event in run(experiment, store, jobs=1):
            if isinstance(event, Finished) and event.trial.round:
                kept = event.result["mask"]
                masks = store.get_tensors(event.trial.key)["masks"]
                assert kept["layers"] == [int(mask.sum()) for mask in masks.values()]
                assert sum(kept["layers"]) == event.result["ticket"]["weights"]
                first = next(iter(masks.values()))[0]
                assert kept[part] == first.sum(axes).flatten().tolist()
