"""The line between two networks: its ends are the networks, and what lies between is measured."""

from collections import Counter
from dataclasses import replace
from itertools import combinations, islice
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, strategies as st
from torch import nn

from labkit.base.store import Store
from labkit.engine.connectivity import (
    Instability,
    error_along,
    instability,
    interpolate,
    reestimate_statistics,
)
from labkit.engine.data import Split
from labkit.engine.layers import BatchNorm
from labkit.engine.narrowing import narrow
from labkit.engine.networks import Population, build
from labkit.engine.pruning import Pruning
from labkit.engine.training import Recipe, data_order, evaluate_on, flip_and_crop, generator, train
from labkit.experiments import running
from labkit.experiments.experiment import Experiment, Trial
from labkit.experiments.results import tables
from labkit.experiments.running import Finished, Progress, run
from labkit.experiments.scheduling import missing
from labkit.experiments.task import Task
from labkit.experiments.treatments import REWIND
from tests.synthetic import DATA, SHAPES, assert_equal, assert_same, dense_at, finish, one

pytestmark = pytest.mark.usefixtures("synthetic_data")

ADAM = Recipe(learning_rate=0.02, batch_size=8, iterations=6)
SGD = Recipe("sgd", 0.1, momentum=0.9, weight_decay=1e-3, batch_size=8, iterations=6)
LENET = Experiment(
    task=Task(network="lenet-8-6", recipe=SGD),
    pruning=Pruning(rate=0.4),
    rounds=1,
    rewind=2,
    treatments=("shuffled-mask", "fine-tune"),
    draws=2,
    seeds=(0, 1),
    evaluate_every=2,
    instability=Instability(copies=3, alphas=5, train_examples=30),
)
RESNET = replace(
    LENET,
    task=Task(network="resnet-8-w2", recipe=replace(SGD, iterations=3, augmentation="flip-crop")),
    rewind=1,
    treatments=(),
    instability=Instability(copies=2, alphas=3, train_examples=30),
)
NARROW = replace(LENET, pruning=Pruning("structured", rate=0.4), treatments=())


def trained(name: str, seeds: list[int], iterations: int = 4) -> Population:
    recipe = Recipe("sgd", 0.1, batch_size=8, iterations=iterations)
    network = build(name, SHAPES[name], 3, len(seeds))
    network.initialise(generator(seed, "initialisation") for seed in seeds)
    for _ in train(network, recipe, DATA[name], seeds):
        pass
    return network


# ----------------------------------------------------------------------------------- the line


def test_between_two_networks_each_number_moves_evenly_from_one_to_the_other():
    network = trained("resnet-8-w2", [0, 1])
    start, end = network[0].state(), network[1].state()
    alphas = torch.linspace(0, 1, 7)
    line = interpolate(start, end, alphas)
    for name, states in line.items():
        a, b = start[name][0].double().numpy(), end[name][0].double().numpy()
        for alpha, state in zip(alphas.tolist(), states, strict=True):
            np.testing.assert_allclose(state.numpy(), a + alpha * (b - a), rtol=1e-4, atol=1e-6)
        assert torch.equal(states[:1], start[name]) and torch.equal(states[-1:], end[name])


@pytest.mark.parametrize("statistics", ["re-estimated", "interpolated"])
@pytest.mark.parametrize("name", ["lenet-8-6", "resnet-8-w2"])
def test_the_ends_of_a_line_are_the_trained_networks_exactly(name: str, statistics: str):
    network, data = trained(name, [0, 1]), DATA[name]
    analysis = Instability(copies=2, alphas=7, statistics=statistics, train_examples=30)
    before = network.state()
    path = error_along(network, network[0].state(), network[1].state(), data, analysis, SGD)
    assert_equal(network.state(), before)
    for at, replica in ((0, 0), (-1, 1)):
        for errors, split in ((path.test_error, data.test), (path.train_error, data.train[:30])):
            accuracy = evaluate_on(network[replica], data, split).accuracy
            assert errors[at] == 1 - accuracy[0]
    assert len(path.alphas) == len(path.train_error) == len(path.test_error) == 7


@pytest.mark.parametrize("statistics", ["re-estimated", "interpolated"])
def test_between_the_ends_errors_are_those_of_the_interpolated_network(statistics: str):
    network, data = trained("resnet-8-w2", [0, 1]), DATA["resnet-8-w2"]
    analysis = Instability(copies=2, alphas=7, statistics=statistics, train_examples=30)
    ends = network[0].state(), network[1].state()
    path = error_along(network, *ends, data, analysis, SGD)
    for i in range(1, 6):
        alpha = i / 6
        mixed = {n: (1 - alpha) * t + alpha * ends[1][n] for n, t in ends[0].items()}
        middle = network.with_state(mixed)
        if statistics == "re-estimated":
            reestimate_statistics(middle, data, data.train[:30])
        assert path.test_error[i] == 1 - evaluate_on(middle, data, data.test).accuracy[0]
        assert path.train_error[i] == 1 - evaluate_on(middle, data, data.train[:30]).accuracy[0]


@pytest.mark.parametrize("name", ["lenet-8-6", "resnet-8-w2"])
def test_a_network_is_connected_with_itself(name: str):
    state = trained(name, [0]).state()
    analysis = Instability(copies=2, statistics="interpolated", train_examples=30)
    path = error_along(build(name, SHAPES[name], 3), state, state, DATA[name], analysis, SGD)
    assert instability(path.test_error) == instability(path.train_error) == 0
    assert len(path.alphas) == 30, "as in the paper"


# ------------------------------------------------------------------------------ batch statistics


def test_re_estimated_statistics_are_those_of_torch_over_the_same_batches():
    network, data = trained("resnet-8-w2", [0, 1]), DATA["resnet-8-w2"]
    oracles: dict[str, list[nn.BatchNorm2d]] = {}
    for name, module in network.named_modules():
        if isinstance(module, BatchNorm):
            channels = module.weight.shape[1]
            own = [nn.BatchNorm2d(channels, momentum=None) for _ in range(2)]
            oracles[name] = own

            def observe(_, inputs, own=own):
                for part, oracle in zip(inputs[0].chunk(2, 1), own, strict=True):
                    oracle(part)

            module.register_forward_pre_hook(observe)
    weights = {n: p.clone() for n, p in network.named_parameters()}
    reestimate_statistics(network, data, data.train, batch_size=20)
    assert len(oracles) == 9
    for name, own in oracles.items():
        for replica, oracle in enumerate(own):
            assert oracle.num_batches_tracked == 3
            state = network.state()
            torch.testing.assert_close(state[f"{name}.mean"][replica], oracle.running_mean)
            torch.testing.assert_close(state[f"{name}.variance"][replica], oracle.running_var)
    for name, parameter in network.named_parameters():
        assert torch.equal(parameter, weights[name]), "only statistics change"
    assert all(m.momentum == 0.1 for m in network.modules() if isinstance(m, BatchNorm))


def test_re_estimated_statistics_forget_what_was_there_before():
    network, data = trained("resnet-8-w2", [0]), DATA["resnet-8-w2"]
    other = network.with_state(network.state())
    for name, buffer in other.named_buffers():
        buffer += 7 if name.endswith("mean") else 3
    for candidate in (network, other):
        reestimate_statistics(candidate, data, data.train)
    assert_equal(network.state(), other.state())


def test_statistics_are_re_estimated_on_images_as_augmented_as_in_training():
    network, data = trained("resnet-8-w2", [0, 1]), DATA["resnet-8-w2"]
    recipe = replace(SGD, augmentation="flip-crop")
    analysis = Instability(copies=2, alphas=3, train_examples=30)
    ends = network[0].state(), network[1].state()
    path = error_along(network, *ends, data, analysis, recipe)
    middle = network.with_state({n: (t + ends[1][n]) / 2 for n, t in ends[0].items()})
    plain = middle[0]
    reestimate_statistics(plain, data, data.train[:30])
    seen: list[torch.Tensor] = []
    middle.layers[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    reestimate_statistics(middle, data, data.train[:30], "flip-crop")
    shown = data.normalise(data.train.images[:30])
    assert seen[0].shape == shown.shape and not torch.equal(seen[0], shown)
    assert any((image == 0).all(0).any(0).any() for image in seen[0]), "zeros have moved in"
    assert not torch.equal(middle.state()["layers.1.mean"], plain.state()["layers.1.mean"])
    assert path.test_error[1] == 1 - evaluate_on(middle, data, data.test).accuracy[0]


def test_no_image_is_left_over_alone():
    """Where pooling leaves one pixel, a batch of one image has no variance."""
    network, data = trained("vgg-small", [0], iterations=1), DATA["vgg-small"]
    reestimate_statistics(network, data, data.train[:11], batch_size=5)
    assert all(tensor.isfinite().all() for tensor in network.state().values())


# ------------------------------------------------------------------------------------ instability


def test_instability_is_the_rise_above_the_mean_of_the_ends():
    assert instability(torch.tensor([0.1, 0.3, 0.5, 0.3, 0.2])) == pytest.approx(0.35)
    assert instability(torch.tensor([0.4, 0.1, 0.2])) == pytest.approx(0.1), "the valley is none"
    assert instability(torch.tensor([0.25, 0.25, 0.25])) == 0


@given(st.lists(st.floats(0, 1, width=32), min_size=2, max_size=30))
def test_instability_is_never_negative_and_the_same_from_either_end(errors: list[float]):
    there = torch.tensor(errors)
    assert 0 <= instability(there) <= 1
    assert instability(there) == instability(there.flip(0))


# ----------------------------------------------------------------------------------------- copies


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[SimpleNamespace]:
    """What every training is called with, how many updates it makes, and how it ends."""
    found: list[SimpleNamespace] = []

    def spy(network, recipe, data, seeds, **options):
        call = SimpleNamespace(state=network.state(), recipe=recipe, seeds=seeds, **options)
        call.updates, call.analysis = 0, "evaluate_at" not in options
        found.append(call)
        for step in train(network, recipe, data, seeds, **options):
            call.updates = step.iteration - options["start"]
            yield step
        call.final = network.state()

    monkeypatch.setattr(running, "train", spy)
    return found


def analyses(experiment: Experiment, store: Store, calls: list[SimpleNamespace]):
    """Trial and training of every analysis."""
    done = [e.trial for e in run(experiment, store) if isinstance(e, Finished)]
    own = [call for call in calls if call.analysis]
    return list(zip([t for t in done if t.analysis], own, strict=True))


@pytest.mark.parametrize("state", ["fresh", "restored"])
@pytest.mark.parametrize("experiment", [LENET, RESNET], ids=["lenet", "resnet"])
def test_copies_share_all_that_is_known_at_k(experiment: Experiment, state: str, store, calls):
    experiment = replace(experiment, optimizer_state=state)
    k, copies = experiment.rewind, experiment.instability.copies
    at_k = dense_at(experiment, k)
    found = analyses(experiment, store, calls)
    assert len(found) == 2 * (3 if experiment.treatments else 2)
    for trial, call in found:
        weights, moments = at_k[trial.seed]
        assert call.copies == list(range(1, copies)), "the network itself is copy 0"
        assert call.seeds == [trial.seed] * (copies - 1)
        assert (call.start, call.recipe) == (k, experiment.task.recipe)
        masks = call.masks or {}
        assert bool(masks) == (trial.round > 0)
        for i in range(copies - 1):
            for name, tensor in one(call.state, i).items():
                pruned = name in masks
                expected = weights[name] * masks[name][i] if pruned else weights[name]
                assert torch.equal(tensor, expected)
            own = store.get_tensors(trial.needs[0].key)["masks"]
            assert all(torch.equal(mask[i], own[name][0]) for name, mask in masks.items())
            if trial.round == 0 or state == "restored":
                for part, expected in zip(call.moments, moments, strict=True):
                    assert_equal(one(part, i), expected)
            else:
                assert not call.moments


def test_copies_differ_in_the_order_of_the_data_and_the_augmentation():
    noises = [(4, 0), (4, 1), (4, 2), (5, 1)]
    batches = data_order(noises, 60, 60, 3)
    orders = {tuple(row) for _ in range(3) for row in next(batches).tolist()}
    assert len(orders) == 12, "in every pass"
    alone = next(data_order([(4, 2)], 60, 60, 3))
    assert torch.equal(alone[0], next(data_order(noises, 60, 60, 3))[2])
    images = torch.rand(1, 20, 3, 16, 16, generator=generator(0, "images")).expand(
        4, -1, -1, -1, -1
    )
    shifted = flip_and_crop(images, noises, 3)
    for i, j in combinations(range(4), 2):
        assert not torch.equal(shifted[i], shifted[j])


@pytest.mark.parametrize("recipe", [ADAM, SGD], ids=["adam", "sgd"])
@pytest.mark.parametrize("rewind", [0, 2])
def test_copies_of_one_network_end_at_different_places(recipe, rewind, store, calls):
    experiment = replace(LENET, task=replace(LENET.task, recipe=recipe), rewind=rewind, rounds=0)
    for trial, call in analyses(experiment, store, calls):
        ends = [store.get_tensors(trial.needs[0].key)["final"], call.final]
        weights = torch.cat([end["layers.0.weight"] for end in ends])
        assert len(weights) == 3
        for i, j in combinations(range(3), 2):
            assert not torch.equal(weights[i], weights[j])


@pytest.mark.parametrize(
    "experiment",
    [
        replace(LENET, rewind=0),
        LENET,
        replace(LENET, task=replace(LENET.task, recipe=ADAM)),
        replace(LENET, optimizer_state="restored"),
        RESNET,
        replace(NARROW, optimizer_state="restored"),
    ],
    ids=["from the start", "sgd", "adam", "restored", "resnet", "narrow"],
)
def test_a_copy_without_other_noise_ends_where_the_network_ended(
    experiment: Experiment, store: Store, monkeypatch: pytest.MonkeyPatch
):
    """Bit for bit: so all that an analysis measures comes from the noise."""
    ends = []

    def without_noise(network, recipe, data, seeds, *, copies, **options):
        yield from train(network, recipe, data, seeds, copies=[0] * len(copies), **options)
        if "evaluate_at" not in options:
            ends.append(network.state())

    monkeypatch.setattr(running, "train", without_noise)
    alone = replace(experiment.instability, copies=2)
    experiment = replace(experiment, seeds=(1,), treatments=(), instability=alone)
    for event in run(experiment, store):
        if isinstance(event, Finished) and event.trial.analysis:
            stored = store.get_tensors(event.trial.needs[0].key)
            own = stored["final"]
            if event.trial.narrow:
                network = build("lenet-8-6", SHAPES["lenet-8-6"], 3)
                own = narrow(network.with_state(own), stored["masks"]).state()
            assert_equal(ends[-1], own)
            if experiment is not RESNET and event.trial.experiment.task.network != "resnet-8-w2":
                assert event.result["instability"] == event.result["train_instability"] == 0
    assert len(ends) == 2


@pytest.mark.parametrize("experiment", [LENET, RESNET], ids=["lenet", "resnet"])
def test_an_analysis_leaves_the_networks_as_they_are(experiment: Experiment, tmp_path: Path):
    plain = finish(
        replace(experiment, instability=Instability()), Store(tmp_path / "plain", shipped=False)
    )
    analysed = finish(experiment, Store(tmp_path / "analysed", shipped=False))
    names = ["instability", "train_instability"]
    assert plain.tickets[names].isna().all(axis=None) and len(plain.paths) == 0
    pd.testing.assert_frame_equal(
        plain.tickets.drop(columns=names), analysed.tickets.drop(columns=names), check_exact=True
    )
    pd.testing.assert_frame_equal(plain.curves, analysed.curves, check_exact=True)


def test_a_network_that_diverges_is_analysed_too(store: Store):
    wild = Recipe("sgd", 1e30, batch_size=8, iterations=3)
    found = finish(replace(LENET, task=replace(LENET.task, recipe=wild)), store)
    assert found.tickets.instability.notna().sum() == 6
    assert found.paths.test_error.between(0, 1).all()


# ----------------------------------------------------------------------------------------- tables


@pytest.mark.parametrize("experiment", [LENET, NARROW], ids=["masked", "narrow"])
def test_paths_have_a_row_for_every_alpha_of_every_pair_of_copies(experiment, store: Store):
    found = finish(experiment, store)
    paths, tickets = found.paths, found.tickets
    assert set(paths.pair) == {"0-1", "0-2", "1-2"}
    assert set(paths.statistics) == {"re-estimated"}
    names = ["round", "treatment", "seed", "draw"]
    lines = paths.groupby([*names, "pair"])
    assert len(lines) == 3 * len(tickets[tickets.instability.notna()])
    for _, line in lines:
        assert line.alpha.tolist() == [0, 0.25, 0.5, 0.75, 1]
        for column, errors in (("instability", "test"), ("train_instability", "train")):
            own = line[f"{errors}_error"].to_numpy()
            rise = own.max() - (own[0] + own[-1]) / 2
            assert line[column].to_numpy() == pytest.approx([rise] * 5, abs=1e-5)
    rows = tickets.set_index(names)
    for where, own in paths.groupby(names):
        row = rows.loc[where]
        assert own.density.unique().tolist() == [row.density]
        ends = own[own.pair == "0-1"].test_error
        assert ends.iloc[0] == pytest.approx(1 - row.final_test_accuracy, abs=1e-5)
        for column in ("instability", "train_instability"):
            mean = own.drop_duplicates("pair")[column].mean()
            assert row[column] == pytest.approx(mean)
    rewound = tickets.treatment.isin(["dense", "rewind", "shuffled-mask"]) & (tickets.draw == 0)
    assert (tickets.instability.notna() == rewound).all()


# ---------------------------------------------------------------------------- stop, go on, studies


def test_a_killed_analysis_goes_on_where_it_was(store: Store, tmp_path: Path):
    events = list(run(LENET, store))
    expected = tables(LENET, store)
    assert len(expected.paths) == 6 * 3 * 5
    places = [n for n, e in enumerate(events) if isinstance(e, Finished) and e.trial.analysis]
    for count in (places[0] - 1, places[0] + 1, places[-1]):
        other = Store(tmp_path / f"killed-{count}", shipped=False)
        killed = run(LENET, other)
        done = {e.trial for e in islice(killed, count) if isinstance(e, Finished)}
        killed.close()
        assert not done & set(missing(LENET, other))
        assert_same(finish(LENET, other), expected)


def test_an_analysis_of_known_networks_trains_only_copies(store: Store, calls):
    finish(replace(LENET, instability=Instability(), treatments=()), store)
    calls.clear()
    chain = replace(LENET, treatments=())
    assert all(trial.analysis for trial in missing(chain, store))
    finish(chain, store)
    assert all(call.analysis for call in calls) and len(calls) == 4


def test_progress_counts_the_iterations_of_copies(store: Store, calls):
    total = sum(trial.work for trial in missing(LENET, store))
    progress = [event for event in run(LENET, store) if isinstance(event, Progress)]
    assert {event.total for event in progress} == {total} and progress[-1].done == total
    assert [event.done for event in progress] == sorted(event.done for event in progress)
    assert sum(call.updates * len(call.seeds) for call in calls) == total


GRID = [replace(LENET, rewind=k, rounds=0) for k in (0, 2, 5)]
STUDY = [
    *(replace(LENET, rewind=k, treatments=()) for k in (2, 0, 4)),
    replace(NARROW, instability=Instability(), treatments=("scratch-e",)),
    replace(LENET, task=replace(LENET.task, recipe=ADAM), rounds=0),
]


def test_a_study_trains_nothing_twice(store: Store, calls):
    """The dense network passes every k once, and its states there are kept for all experiments."""
    trials = missing(GRID, store)
    assert Counter(t.analysis for t in trials) == {False: 2, True: 6}
    assert sum(trial.work for trial in trials) == 2 * 6 + 2 * 2 * (6 + 4 + 1)
    found = finish(GRID, store)
    trained = sum(call.updates * len(call.seeds) for call in calls)
    assert trained == sum(trial.work for trial in trials)
    assert not missing(GRID, store) and not missing(GRID[1], store)
    assert found.tickets.groupby("rewind").size().to_dict() == {0: 2, 2: 2, 5: 2}
    assert found.tickets.groupby("seed").final_test_accuracy.nunique().eq(1).all()
    assert len(found.paths) == 3 * 2 * 3 * 5


def test_results_do_not_depend_on_the_order_of_experiments(store: Store, tmp_path: Path):
    backwards = Store(tmp_path / "backwards", shipped=False)
    finish(STUDY, store)
    finish(STUDY[::-1], backwards)
    for experiment in STUDY:
        assert not missing(experiment, store)
        one, other = (tables(experiment, s) for s in (store, backwards))
        assert_same(one, other)
    together = tables(STUDY, store)
    parts = [tables(experiment, store) for experiment in STUDY]
    assert len(together.tickets) == sum(len(part.tickets) for part in parts)
    assert len(together.paths) == sum(len(part.paths) for part in parts)
    assert set(together.tickets.learning_rate) == {0.1, 0.02}
    assert set(together.tickets.kind) == {"structured", "unstructured"}


@pytest.mark.parametrize("first", ["plain", "analysed"])
def test_networks_that_two_experiments_share_are_kept_for_the_one_that_compares_them(
    first: str, store: Store
):
    plain = replace(LENET, instability=Instability(), seeds=(1,))
    analysed = replace(LENET, seeds=(1,), draws=1)
    study = [plain, analysed] if first == "plain" else [analysed, plain]
    finish(study, store)
    assert tables(analysed, store).tickets.instability.notna().sum() == 3
    assert not missing(study, store)


def test_weights_of_a_compared_network_that_are_lost_are_trained_again(store: Store):
    plain = replace(LENET, instability=Instability(), draws=1)
    finish(plain, store)
    analysed = replace(LENET, draws=1)
    again = {(t.label, t.analysis) for t in missing(analysed, store)}
    assert again == {
        *{("shuffled-mask", False), ("shuffled-mask", True)},
        ("rewind", False),  # in whose company the shuffled mask was trained
        *{("dense", True), ("rewind", True)},
    }
    finish(analysed, store)
    lost = store.folder / f"{Trial(LENET, 0, 0, REWIND).key}.pt"
    lost.unlink()
    assert not missing(analysed, store), "results are enough, as long as nothing needs the weights"


def test_the_train_error_of_a_line_is_read_on_the_first_training_images():
    network, data = trained("lenet-8-6", [0, 1]), DATA["lenet-8-6"]
    labels = data.train.labels.clone()
    labels[30:] = (labels[30:] + 1) % 3  # what is not read may be anything
    other = replace(data, train=Split(data.train.images, labels))
    analysis = Instability(copies=2, alphas=3, train_examples=30)
    ends = network[0].state(), network[1].state()
    paths = [error_along(network, *ends, d, analysis, SGD) for d in (data, other)]
    assert torch.equal(paths[0].train_error, paths[1].train_error)
