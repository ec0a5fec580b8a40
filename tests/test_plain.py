"""The plain loops that a reader reads first end where `run` ends, bit for bit."""

from dataclasses import replace

import pytest
import torch

from labkit import (
    Experiment,
    Instability,
    Pruning,
    Recipe,
    State,
    Task,
    evaluate_on,
    full_masks,
    generator,
    plain,
    run,
    train,
)
from labkit.engine.networks import build
from tests.synthetic import DATA, SGD, SHAPES

pytestmark = pytest.mark.usefixtures("synthetic_data")

ADAM = Recipe(batch_size=8, iterations=10)
SMALL = replace(SGD, iterations=6, augmentation="flip-crop")
WEIGHTS, FILTERS = Pruning(scope="global", rate=0.4), Pruning("structured", rate=0.4)
CASES = {
    "lenet, to the initialisation": (Task(network="lenet-8-6", recipe=ADAM), WEIGHTS, 0),
    "lenet, to iteration 3": (Task(network="lenet-8-6", recipe=SGD), WEIGHTS, 3),
    "lenet, neurons": (Task(network="lenet-8-6", recipe=SGD), FILTERS, 3),
    "residual, filters": (Task(network="resnet-8-w2", recipe=SMALL), FILTERS, 2),
    "residual, at random": (
        Task(network="resnet-8-w2", recipe=SMALL),
        Pruning(criterion="random", rate=0.4),
        0,
    ),
}
each = pytest.mark.parametrize(("task", "pruning", "k"), CASES.values(), ids=CASES)


def experiment(task: Task, pruning: Pruning, k: int) -> Experiment:
    """A seed and two rounds: each network is a population of its own, as in a plain loop."""
    return Experiment(task, pruning, rounds=2, rewind=k, seeds=(3,), evaluate_every=5)


def finished(e: Experiment, store) -> dict:
    for _ in run(e, store):
        pass
    return {(t.round, t.label, t.analysis): t for n in range(e.rounds + 1) for t in e.trials(n)}


def assert_same_bits(one: State, other: State) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


@each
def test_tickets_are_those_of_run(task, pruning, k, store):
    trials = finished(experiment(task, pruning, k), store)
    for number, (masks, start, trained) in enumerate(plain.tickets(task, pruning, 2, k, seed=3)):
        label = "rewind" if number else "dense"
        kept = store.get_tensors(trials[number, label, False].key)
        assert_same_bits(masks, kept["masks"])
        assert_same_bits(trained, kept["final"])
        for name, mask in masks.items():
            assert not start[name][~mask].any() and not trained[name][~mask].any()


@each
def test_new_weights_are_those_of_run(task, pruning, k, store):
    trials = finished(replace(experiment(task, pruning, k), treatments=("reinitialise",)), store)
    for number, (masks, *_) in enumerate(plain.tickets(task, pruning, 2, k, seed=3)):
        if number:
            trained = plain.reinitialised(task, pruning, masks, number, seed=3)
            stored = store.get(trials[number, "reinitialise", False].key)
            network = build(task.network, SHAPES[task.network], 3).with_state(trained)
            data = DATA[task.network]
            loss = evaluate_on(network, data, data.validation).loss.item()
            # With k = 0 the ticket trains in the same population, which may round differently.
            assert loss == pytest.approx(stored["curve"]["validation_loss"][-1], abs=2e-6)
            accuracy = evaluate_on(network, data, data.test).accuracy.item()
            assert round(accuracy, 6) == stored["ticket"]["final_test_accuracy"]


@each
def test_fine_tuning_from_round_to_round_is_that_of_run(task, pruning, k, store):
    trials = finished(replace(experiment(task, pruning, 0), chain="fine-tune"), store)
    for number, (masks, trained) in enumerate(plain.fine_tuned(task, pruning, 2, seed=3)):
        label = "fine-tune" if number else "dense"
        kept = store.get_tensors(trials[number, label, False].key)
        assert_same_bits(masks, kept["masks"])
        assert_same_bits(trained, kept["final"])


@each
def test_a_ticket_that_is_drawn_early_is_that_of_run(task, pruning, k, store):
    early = experiment(task, replace(pruning, at=k), k)
    trials = finished(replace(early, rounds=1), store)
    masks, start, trained = plain.drawn_at(task, pruning, k, seed=3)
    kept = store.get_tensors(trials[1, "rewind", False].key)
    assert_same_bits(masks, kept["masks"])
    assert_same_bits(trained, kept["final"])
    assert all(not start[name][~mask].any() for name, mask in masks.items())


def test_signs_are_those_of_run(store, follow):
    task, pruning, k = CASES["lenet, to the initialisation"]
    e = replace(experiment(task, pruning, k), treatments=("signs",))
    starts = {(t.round, t.label): start for t, start in follow(e, store).items()}
    (_, first, _), *rounds = plain.tickets(task, pruning, 2, seed=3)
    for number, (masks, *_) in enumerate(rounds, start=1):
        own = plain.signs(first, masks)
        assert_same_bits({n: t[0] for n, t in own.items()}, starts[number, "signs"].state)


@pytest.mark.parametrize("k", [0, 3])
def test_instability_is_that_of_run(k, store):
    task = Task(network="lenet-8-6", recipe=replace(SGD, learning_rate=0.5))
    analysis = Instability(copies=2, alphas=5, train_examples=20)
    trials = finished(replace(experiment(task, WEIGHTS, k), instability=analysis), store)
    seen = []
    for number, (masks, start, _) in enumerate(plain.tickets(task, WEIGHTS, 2, k, seed=3)):
        moments = None
        if number == 0:
            start, moments = dense_at(task, k, seed=3)
        found = plain.instability_at(task, WEIGHTS, masks, start, k, 3, moments, analysis)
        label = "rewind" if number else "dense"
        assert found == store.get(trials[number, label, True].key)["instability"]
        seen.append(found)
    assert max(seen) > 0, "an instability of 0 everywhere would compare nothing"


def dense_at(task: Task, k: int, seed: int) -> tuple:
    network = build(task.network, SHAPES[task.network], 3)
    network.initialise([generator(seed, "initialisation")])
    for step in train(network, task.recipe, task.data(), [seed], snapshots=[k]):
        if step.snapshot is not None:
            return step.snapshot.network, step.snapshot.moments
    raise AssertionError(k)


def test_the_dense_network_has_every_weight():
    task = Task(network="lenet-8-6", recipe=ADAM)
    masks, *_ = next(plain.tickets(task, WEIGHTS, 1))
    assert_same_bits(masks, full_masks(build(task.network, SHAPES[task.network], 3)))
