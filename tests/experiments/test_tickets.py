"""Narrow tickets, other criteria and budgets: what each network starts from, and for how long."""

from dataclasses import replace

import pytest
import torch

from labkit.base.store import Store
from labkit.engine.narrowing import narrow, narrow_state, surviving_units
from labkit.engine.networks import State, build
from labkit.engine.pruning import Pruning, curvature, prune
from labkit.engine.training import Recipe, generator
from labkit.experiments.experiment import Experiment, Trial, all_trials
from labkit.experiments.running import Finished, run
from labkit.experiments.scheduling import in_chunks
from labkit.experiments.task import Task
from labkit.experiments.treatments import REWIND, Treatment
from tests.synthetic import (
    DATA,
    SGD,
    SHAPES,
    assert_equal,
    assert_same,
    dense_at,
    finish,
    initial,
    one,
)

pytestmark = pytest.mark.usefixtures("synthetic_data")

LENET = Experiment(
    task=Task(network="lenet-8-6", recipe=SGD),
    pruning=Pruning("structured", rate=0.4),
    rounds=2,
    rewind=3,
    treatments=("fine-tune", "fine-tune-quarter", "scratch-e", "scratch-b", "shuffled-mask"),
    seeds=(0, 1),
    evaluate_every=4,
)
CONV = replace(
    LENET,
    task=Task(network="conv-2", recipe=replace(SGD, iterations=6)),
    treatments=("scratch-b",),
    rounds=1,
)
SHORT = replace(SGD, iterations=3, milestones=(), augmentation="flip-crop")
RESNET = replace(
    LENET,
    task=Task(network="resnet-8-w2", recipe=SHORT),
    treatments=("scratch-e",),
    rounds=1,
    rewind=2,
    evaluate_every=2,
)
SLIMMING = replace(
    RESNET,
    task=replace(RESNET.task, recipe=replace(SHORT, slimming=0.01)),
    pruning=Pruning("structured", "gamma", "global", rate=0.4),
)
ALL = {"lenet": LENET, "conv": CONV, "resnet": RESNET, "slimming": SLIMMING}
each = pytest.mark.parametrize("experiment", ALL.values(), ids=ALL)


def whole(trial: Trial):
    network = trial.experiment.task.network
    return build(network, SHAPES[network], 3)


def narrowed(state: State, trial: Trial, store: Store) -> State:
    """A single network's tensors, cut to what the stored masks of a trial leave of them."""
    masks = store.get_tensors(trial.key)["masks"]
    beside = {name: tensor[None] for name, tensor in state.items()}
    return one(narrow_state(beside, masks, whole(trial).units()), 0)


# ------------------------------------------------------------------------------- narrow tickets


@each
def test_a_narrow_ticket_starts_from_its_units_after_k_iterations(experiment, store, follow):
    at_k = dense_at(experiment, experiment.rewind)
    for trial, start in follow(experiment, store).items():
        if trial.round and trial.treatment == REWIND:  # batch normalisation included
            assert_equal(start.state, narrowed(at_k[trial.seed][0], trial, store))
            assert start.iteration == experiment.rewind
            assert not start.masks, "nothing is left to mask"
            assert not start.moments


@each
def test_units_are_pruned_by_what_the_round_before_has_trained(experiment, store):
    finish(experiment, store)
    for trial in all_trials(experiment):
        if trial.round and trial.treatment == REWIND:
            before, own = (store.get_tensors(t.key) for t in (trial.parent, trial))
            units = whole(trial).units()
            expected = prune(experiment.pruning, before["final"], before["masks"], [], units=units)
            assert_equal(own["masks"], expected)
            for name, mask in own["masks"].items():
                assert not (mask & ~before["masks"][name]).any(), "masks never grow back"
                assert not own["final"][name][~mask].any()


@pytest.mark.parametrize("recipe", [SGD, Recipe(batch_size=8, iterations=10)], ids=["sgd", "adam"])
def test_restored_moments_are_those_of_the_surviving_units(recipe, store, follow):
    task = replace(LENET.task, recipe=recipe)
    experiment = replace(LENET, task=task, optimizer_state="restored", treatments=())
    at_k = dense_at(experiment, 3)
    names = list(initial(experiment, 0))
    for trial, start in follow(experiment, store).items():
        if trial.round:
            full = at_k[trial.seed][1]
            for kind in ["momentum_buffer"] if recipe is SGD else ["exp_avg", "exp_avg_sq"]:
                moments = {n: part[kind] for n, part in zip(names, full, strict=True)}
                expected = narrowed(moments, trial, store)
                assert_equal(
                    {n: p[kind] for n, p in zip(names, start.moments, strict=True)}, expected
                )
                for name, moment in expected.items():
                    assert moment.shape == start.state[name].shape
            if recipe is not SGD:
                assert {part["step"].item() for part in start.moments} == {3}


@each
def test_sizes_in_the_tables_are_those_of_the_narrow_network(experiment, store):
    tickets = finish(experiment, store).tickets
    for trial in all_trials(experiment):
        result = store.get(trial.key)["ticket"]
        row = tickets[(tickets["round"] == trial.round) & (tickets.treatment == trial.label)]
        row = row[row.seed == trial.seed].iloc[0]
        assert row.parameters == result["parameters"]
        if trial.treatment != REWIND:
            continue
        masks = store.get_tensors(trial.key)["masks"]
        small = narrow(whole(trial), masks)
        assert result["parameters"] == sum(p.numel() for p in small.parameters())
        assert result["weights"] == sum(w.numel() for w in small.prunable().values())
        if trial.round:
            alive = surviving_units(masks, small.units()).values()
            assert result["widths"] == [int(a.sum()) for a in alive]


def test_shuffled_units_keep_the_widths_of_the_ticket(store, follow):
    starts = {(t.round, t.label, t.seed): s for t, s in follow(LENET, store).items()}
    for number in (1, 2):
        for seed in LENET.seeds:
            ticket = starts[number, "rewind", seed].state
            shuffled = starts[number, "shuffled-mask", seed].state
            assert all(shuffled[name].shape == ticket[name].shape for name in ticket)
            assert any(not torch.equal(shuffled[name], ticket[name]) for name in ticket)


def test_fine_tuning_starts_from_the_trained_units(store, follow):
    for trial, start in follow(LENET, store).items():
        if trial.label in ("fine-tune", "fine-tune-quarter"):
            final = one(store.get_tensors(trial.parent.key)["final"], 0)
            ticket = Trial(LENET, trial.seed, trial.round, REWIND)
            assert_equal(start.state, narrowed(final, ticket, store))


@pytest.mark.parametrize("name", ["lenet", "slimming"])
def test_structured_pruning_killed_and_resumed_gives_the_same_numbers(name, store, tmp_path):
    experiment = ALL[name]
    expected = finish(experiment, Store(tmp_path / "whole", shipped=False))
    for _ in range(30):
        stopped = run(experiment, store)
        for event in stopped:
            if isinstance(event, Finished):
                break
        stopped.close()
    assert_same(finish(experiment, store), expected)


# ---------------------------------------------------------------------------------- fresh weights


@pytest.mark.parametrize("name", ["lenet", "resnet", "slimming"])
def test_fresh_weights_are_drawn_for_the_narrow_network(name, store, follow):
    experiment = ALL[name]
    gamma = 0.5 if experiment.task.recipe.slimming else 1.0
    for trial, start in follow(experiment, store).items():
        if trial.label != "scratch-e":
            continue
        ticket = Trial(experiment, trial.seed, trial.round, REWIND)
        small = narrow(whole(trial), store.get_tensors(ticket.key)["masks"])
        chance = generator(trial.seed, "re-initialisation", trial.round, trial.draw)
        assert_equal(start.state, one(small.initialise([chance], gamma=gamma).state(), 0))
        for key, tensor in start.state.items():
            if key.endswith("bias"):
                assert not tensor.any()
        assert start.iteration == 0


def test_rescaled_weights_are_fresh_ones_divided_by_the_root_of_their_layers_density(store, follow):
    experiment = replace(
        LENET,
        pruning=Pruning(rate=0.5, output_rate=0.1),
        treatments=("scratch-e", "scratch-rescaled"),
        draws=2,
    )
    starts = {(t.round, t.seed, t.draw, t.label): s for t, s in follow(experiment, store).items()}
    for (*which, label), start in starts.items():
        if label == "scratch-rescaled":
            plain = starts[(*which, "scratch-e")]
            assert_equal(start.masks, plain.masks)
            for name, mask in start.masks.items():
                expected = plain.state[name] / mask.float().mean().sqrt()
                torch.testing.assert_close(start.state[name], expected)
            assert (start.iteration, start.recipe) == (plain.iteration, plain.recipe)


# ----------------------------------------------------------------------------------------- budgets


def arithmetic(network: str, state: State) -> int:
    """Multiplications of a 4 x 4 image by hand: those of a convolution happen at 16 places."""
    weights = [tensor for name, tensor in state.items() if name.endswith("weight")]
    return sum(w.numel() * (16 if w.ndim == 4 else 1) for w in weights)


@pytest.mark.parametrize("name", ["lenet", "conv"])
def test_scratch_b_has_the_dense_networks_arithmetic_but_at_most_twice_its_epochs(
    name, store, follow
):
    experiment = ALL[name]
    network, recipe = experiment.task.network, experiment.task.recipe
    dense = arithmetic(network, initial(experiment, 0))
    seen = set()
    for trial, start in follow(experiment, store).items():
        if trial.label != "scratch-b":
            continue
        ratio = dense / arithmetic(network, start.state)
        stretched = round(min(2, ratio) * recipe.iterations)
        assert start.recipe == replace(recipe, iterations=stretched)
        assert start.iteration == 0
        assert trial.work == 2 * recipe.iterations >= stretched
        rates = [start.recipe.rate(t) for t in range(stretched)]
        for n, milestone in enumerate((0.5, 0.8)):
            first = round(milestone * stretched)
            assert rates[first - 1] / rates[first] == pytest.approx(10)
            assert rates[first] == pytest.approx(0.1 * 0.1 ** (n + 1)), "milestones move along"
        seen.add(stretched)
    assert seen == ({16, 20} if name == "lenet" else {12})


def test_the_tables_tell_how_long_each_network_was_trained(store):
    tickets = finish(LENET, store).tickets
    found = tickets[tickets["round"] < 2].groupby("treatment").iterations.unique().to_dict()
    assert {name: iterations.tolist() for name, iterations in found.items()} == {
        **{"dense": [10], "rewind": [7], "fine-tune": [7], "fine-tune-quarter": [2]},
        **{"scratch-e": [10], "scratch-b": [16], "shuffled-mask": [7]},
    }


def test_networks_of_different_arithmetic_do_not_share_a_budget():
    """A random mask moves weights between layers, and global pruning does so by seed."""
    mine = Treatment("mine", mask="random", weights="fresh", schedule="restarted", budget="flops")
    ours = replace(mine, name="ours", mask="ticket")
    experiment = replace(CONV, pruning=Pruning(rate=0.3), treatments=(mine, ours), draws=2)
    chunks = [chunk.argument for chunk in in_chunks(experiment.trials(1), "cpu")]
    assert all(len(chunk) == 1 for chunk in chunks if chunk[0].label == "mine")
    assert any(len(chunk) > 1 for chunk in chunks if chunk[0].label == "ours")
    everywhere = replace(experiment, pruning=Pruning(scope="global", rate=0.3))
    chunks = [chunk.argument for chunk in in_chunks(everywhere.trials(1), "cpu")]
    assert all(len(chunk) == 1 for chunk in chunks if chunk[0].label != "rewind")


# -------------------------------------------------------------------------------------- criteria


def test_the_penalty_of_slimming_is_for_the_chain_and_gammas_start_at_one_half(store, follow):
    starts = follow(SLIMMING, store)
    assert {t.label for t in starts} == {"dense", "rewind", "scratch-e"}
    for trial, start in starts.items():
        chain = trial.label in ("dense", "rewind")
        assert start.recipe.slimming == (0.01 if chain else 0.0)
        if trial.label != "rewind":
            gammas = [t for n, t in start.state.items() if n.endswith("weight") and t.ndim == 1]
            assert gammas and all((gamma == 0.5).all() for gamma in gammas)


def test_optimal_brain_damage_prunes_by_the_curvature_of_the_trained_network(store):
    experiment = replace(
        LENET, pruning=Pruning(criterion="obd", rate=0.4), treatments=(), rounds=2, seeds=(1,)
    )
    finish(experiment, store)
    for number in (1, 2):
        trial = Trial(experiment, 1, number, REWIND)
        before = store.get_tensors(trial.parent.key)
        network = whole(trial)
        network.load_state_dict(before["final"])
        curved = curvature(network, DATA["lenet-8-6"], [generator(1, "curvature", number)])
        expected = prune(experiment.pruning, before["final"], before["masks"], [], curvature=curved)
        assert_equal(store.get_tensors(trial.key)["masks"], expected)


def test_a_narrow_network_trained_alone_is_the_one_trained_in_a_crowd(store, tmp_path):
    crowd = finish(RESNET, store)
    other = Store(tmp_path / "alone", shipped=False)
    alone = finish(replace(RESNET, seeds=(1,)), other)
    assert len(alone.tickets) == 3
    for trial in all_trials(replace(RESNET, seeds=(1,))):
        if trial.treatment == REWIND:
            own, theirs = (s.get_tensors(trial.key)["final"] for s in (other, store))
            for name, tensor in own.items():
                torch.testing.assert_close(tensor, theirs[name], rtol=1e-3, atol=1e-4)
    same = crowd.tickets[crowd.tickets.seed == 1]
    assert same.parameters.tolist() == alone.tickets.parameters.tolist()
