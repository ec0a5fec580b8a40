"""Training: the plain loop, batch by batch; masks that hold; a training resumed is the same one."""

import math
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import nn
from torch.nn import functional as F

from labkit.engine import training
from labkit.engine.data import Data, Split
from labkit.engine.layers import BatchNorm
from labkit.engine.networks import Population, build
from labkit.engine.pruning import Masks, Pruning, full_masks, prune
from labkit.engine.training import (
    Recipe,
    Snapshot,
    data_order,
    evaluate_on,
    flip_and_crop,
    generator,
    train,
)
from tests.synthetic import DATA, SHAPES, random_data

ADAM = Recipe(optimizer="adam", learning_rate=0.01, batch_size=16, iterations=24)
SGD = Recipe(
    optimizer="sgd",
    learning_rate=0.1,
    momentum=0.9,
    weight_decay=1e-2,
    batch_size=16,
    iterations=24,
    milestones=(0.5, 0.75),
    warmup=3,
)
AUGMENTED = Recipe(
    optimizer="sgd",
    learning_rate=0.05,
    momentum=0.9,
    weight_decay=1e-3,
    batch_size=8,
    iterations=8,
    augmentation="flip-crop",
)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Networks this small are slower with several threads, far slower beside other programs."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


NETWORKS = ("lenet-8-6", "resnet-8-w2")


def fresh(name: str, seeds: list[int]) -> Population:
    network = build(name, SHAPES[name], 3, len(seeds))
    return network.initialise(generator(seed, "initialisation") for seed in seeds)


def half(network: Population) -> Masks:
    """Masks that keep half of the weights, other ones in each replica."""
    chosen = [generator(replica, "half") for replica in range(network.replicas)]
    return prune(
        Pruning(criterion="random", rate=0.5), network.state(), full_masks(network), chosen
    )


def finish(network: Population, *arguments, **options) -> Population:
    for _ in train(network, *arguments, **options):
        pass
    return network


def assert_equal(one: Population, other: Population) -> None:
    for name, tensor in one.state().items():
        assert torch.equal(tensor, other.state()[name]), name


# ------------------------------------------------------------------ the plain loop as an oracle


def plain_lenet(network: Population, replica: int) -> nn.Sequential:
    state = [tensor[replica] for tensor in network.state().values()]
    layers: list[nn.Module] = [nn.Flatten()]
    for weight, bias in zip(state[::2], state[1::2], strict=True):
        layer = nn.Linear(weight.shape[1], weight.shape[0])
        layer.load_state_dict({"weight": weight, "bias": bias})
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


@pytest.mark.parametrize(
    "recipe",
    [
        ADAM,
        Recipe(learning_rate=0.01, weight_decay=0.01, batch_size=16, iterations=24, warmup=5),
        SGD,
        Recipe(optimizer="sgd", learning_rate=0.1, batch_size=7, iterations=24),
    ],
    ids=["adam", "adam with decay", "sgd with everything", "plain sgd"],
)
def test_training_is_the_plain_pytorch_loop(recipe: Recipe) -> None:
    seeds, data = [3, 1], DATA["lenet-8-6"]
    network = fresh("lenet-8-6", seeds)
    oracles = [plain_lenet(network, replica) for replica in range(2)]
    finish(network, recipe, data, seeds)
    for replica, (seed, oracle) in enumerate(zip(seeds, oracles, strict=True)):
        if recipe.optimizer == "adam":
            optimizer = torch.optim.Adam(
                oracle.parameters(), lr=1.0, weight_decay=recipe.weight_decay
            )
        else:
            optimizer = torch.optim.SGD(
                oracle.parameters(),
                lr=1.0,
                momentum=recipe.momentum,
                weight_decay=recipe.weight_decay,
            )
        passes = [torch.randperm(60, generator=generator(seed, "order", n)) for n in range(10)]
        batches = torch.cat(passes).split(recipe.batch_size)
        for iteration in range(recipe.iterations):
            rate = recipe.learning_rate * min(1, (iteration + 1) / max(recipe.warmup, 1))
            for milestone in recipe.milestones:
                rate *= 0.1 if iteration >= milestone * recipe.iterations else 1
            optimizer.param_groups[0]["lr"] = rate
            images = (data.train.images[batches[iteration]] / 255 - 0.4) / 0.25
            loss = F.cross_entropy(oracle(images), data.train.labels[batches[iteration]])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        for ours, theirs in zip(network.parameters(), oracle.parameters(), strict=True):
            torch.testing.assert_close(ours[replica], theirs, rtol=1e-4, atol=1e-5)


def test_training_learns() -> None:
    data = DATA["lenet-8-6"]
    network = finish(fresh("lenet-8-6", [0]), ADAM, data, [0])
    assert evaluate_on(network, data, data.train).accuracy.item() > 0.8


@pytest.mark.parametrize(("name", "recipe"), [("lenet-8-6", ADAM), ("resnet-8-w2", AUGMENTED)])
def test_a_replica_alone_is_the_replica_in_a_crowd(name: str, recipe: Recipe) -> None:
    seeds = [4, 0, 9]
    crowd = fresh(name, seeds)
    masks = half(crowd)
    alone = [crowd[replica] for replica in range(3)]
    finish(crowd, recipe, DATA[name], seeds, masks=masks)
    for replica, network in enumerate(alone):
        own = {key: mask[[replica]] for key, mask in masks.items()}
        finish(network, recipe, DATA[name], [seeds[replica]], masks=own)
        for key, tensor in network.state().items():
            torch.testing.assert_close(tensor[0], crowd.state()[key][replica], rtol=1e-4, atol=1e-5)


def test_the_same_training_gives_the_same_bits() -> None:
    one, other = (
        finish(fresh("resnet-8-w2", [1, 2]), AUGMENTED, DATA["resnet-8-w2"], [1, 2])
        for _ in range(2)
    )
    assert_equal(one, other)


@pytest.mark.parametrize(("name", "recipe"), [("lenet-8-6", ADAM), ("resnet-8-w2", AUGMENTED)])
def test_nothing_is_drawn_from_a_global_generator(name: str, recipe: Recipe) -> None:
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    finish(fresh(name, [0]), recipe, DATA[name], [0], evaluate_at=[0, recipe.iterations])
    after = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]


def test_a_first_training_imports_neither_a_compiler_nor_symbolic_algebra(root: Path) -> None:
    """torch likes to; that takes seconds, in every notebook and in every process that trains."""
    code = """
import sys
from tests.engine.test_training import ADAM, AUGMENTED, DATA, finish, fresh
for name, recipe in (("lenet-8-6", ADAM), ("resnet-8-w2", AUGMENTED)):
    finish(fresh(name, [0, 1]), recipe, DATA[name], [0, 1], evaluate_at=(8,))
assert not {"sympy", "torch._dynamo", "torch._inductor"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True)


def test_training_computes_in_bfloat16_and_keeps_its_weights_in_float32() -> None:
    for name in NETWORKS:
        recipe = Recipe(learning_rate=0.01, batch_size=16, iterations=4, precision="bfloat16")
        network = fresh(name, [0, 1])
        masks = half(network)
        last = list(train(network, recipe, DATA[name], [0, 1], masks=masks, evaluate_at=[4]))[-1]
        assert all(tensor.dtype == torch.float32 for tensor in network.state().values())
        assert all(tensor.isfinite().all() for tensor in network.state().values())
        assert all((network.state()[key][~mask] == 0).all() for key, mask in masks.items())
        exact = evaluate_on(network, DATA[name], DATA[name].test).loss
        torch.testing.assert_close(last.evaluation.test.loss, exact, rtol=0.05, atol=0.05)


def test_accuracy_in_bfloat16_is_that_in_float32() -> None:
    """Of the same four networks, with a margin of 3 of 400 images for their mean."""
    data = random_data((1, 8, 8), sizes=(300, 10, 400))
    seeds = [0, 1, 2, 3]
    accuracies = {}
    for precision in ("float32", "bfloat16"):
        recipe = replace(ADAM, learning_rate=3e-3, iterations=120, precision=precision)
        network = finish(fresh("lenet-8-6", seeds), recipe, data, seeds)
        accuracies[precision] = evaluate_on(network, data, data.test).accuracy
        assert accuracies[precision].mean() > 0.8, "else nothing was learnt"
    gap = (accuracies["bfloat16"] - accuracies["float32"]).mean().abs()
    assert gap <= 3 / 400


# ------------------------------------------------------------------------------ masks that hold


@pytest.mark.parametrize("recipe", [SGD, ADAM, Recipe(weight_decay=0.1, iterations=24)])
def test_pruned_weights_are_zero_after_every_update(recipe: Recipe) -> None:
    network = fresh("lenet-8-6", [0, 1])
    masks = half(network)
    for step in train(network, recipe, DATA["lenet-8-6"], [0, 1], masks=masks):
        weights = network.prunable()
        for name, mask in masks.items():
            assert not weights[name][~mask].any(), (name, step.iteration)
            if step.iteration:
                assert (weights[name][mask] != 0).all(), "survivors are trained"


@pytest.mark.parametrize("recipe", [SGD, ADAM], ids=["sgd", "adam"])
def test_restored_moments_do_not_revive_pruned_weights(recipe: Recipe) -> None:
    dense = fresh("lenet-8-6", [0])
    at_10 = snapshot(dense, recipe, "lenet-8-6", [0], 10)
    network = fresh("lenet-8-6", [0])
    network.load_state_dict(at_10.network)
    masks = half(network)
    data = DATA["lenet-8-6"]
    for _ in train(network, recipe, data, [0], masks=masks, start=10, moments=at_10.moments):
        for name, mask in masks.items():
            assert not network.prunable()[name][~mask].any()


def test_weights_freeze_by_their_mask_and_not_because_they_are_zero() -> None:
    network = fresh("lenet-8-6", [0])
    weight = network.prunable()["layers.0.weight"]
    with torch.no_grad():
        weight[0, 3, :10] = 0  # zero, and not masked
    before = weight.detach().clone()
    finish(network, ADAM, DATA["lenet-8-6"], [0], masks=full_masks(network))
    assert (weight[0, 3, :10] != 0).all()
    assert (weight[before < 0] != before[before < 0]).all(), "negative weights train as well"


def test_biases_and_batch_norm_are_never_masked() -> None:
    network = fresh("resnet-8-w2", [0])
    nothing = {name: torch.zeros_like(mask) for name, mask in full_masks(network).items()}
    finish(network, AUGMENTED, DATA["resnet-8-w2"], [0], masks=nothing)
    state = network.state()
    assert all(not state[name].any() for name in nothing)
    assert state["layers.8.bias"].all()
    assert (state["layers.1.weight"] != 1).all(), "weight decay"
    assert (state["layers.1.variance"] != 1).all(), "statistics follow the data"


# ------------------------------------------------------------------------------------- slimming


def test_slimming_adds_its_strength_times_the_sign_of_every_gamma_to_the_gradient() -> None:
    recipe = Recipe("sgd", 0.1, batch_size=8, iterations=1)
    network = fresh("resnet-8-w2", [0, 1])
    gammas = {f"{n}.weight" for n, m in network.named_modules() if isinstance(m, BatchNorm)}
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name in gammas:
                parameter[:, ::2] *= -0.5
    before, data = network.state(), DATA["resnet-8-w2"]
    plain = finish(network[[0, 1]], recipe, data, [0, 1]).state()
    slimmed = finish(network[[0, 1]], replace(recipe, slimming=0.03), data, [0, 1]).state()
    for name, tensor in slimmed.items():
        expected = plain[name]
        if name in gammas:
            expected = expected - 0.1 * 0.03 * before[name].sign()
        torch.testing.assert_close(tensor, expected)


# ------------------------------------------------------------------------------------- resuming


def snapshot(network: Population, recipe: Recipe, name: str, seeds: list[int], at: int) -> Snapshot:
    for step in train(network, recipe, DATA[name], seeds, snapshots=[at]):
        if step.snapshot is not None:
            return step.snapshot
    raise AssertionError("no snapshot")


@pytest.mark.parametrize("at", [1, 6])
@pytest.mark.parametrize(
    ("name", "recipe"),
    [
        ("lenet-8-6", ADAM),
        ("lenet-8-6", SGD),
        ("lenet-8-6", Recipe(optimizer="sgd", iterations=24)),
        ("resnet-8-w2", AUGMENTED),
    ],
    ids=["adam", "sgd", "sgd without momentum", "resnet"],
)
def test_resumed_at_k_with_its_moments_it_is_the_same_training(
    name: str, recipe: Recipe, at: int
) -> None:
    seeds = [2, 7]
    whole = finish(fresh(name, seeds), recipe, DATA[name], seeds)
    saved = snapshot(fresh(name, seeds), recipe, name, seeds, at)
    assert saved.iteration == at
    for _ in range(2):  # twice: to resume leaves the snapshot as it is
        resumed = build(name, SHAPES[name], 3, 2)
        resumed.load_state_dict(saved.network)
        finish(resumed, recipe, DATA[name], seeds, start=at, moments=saved.moments)
        assert_equal(resumed, whole)


def test_without_its_moments_it_is_another_training() -> None:
    whole = finish(fresh("lenet-8-6", [2]), ADAM, DATA["lenet-8-6"], [2])
    saved = snapshot(fresh("lenet-8-6", [2]), ADAM, "lenet-8-6", [2], 6)
    resumed = fresh("lenet-8-6", [2])
    resumed.load_state_dict(saved.network)
    finish(resumed, ADAM, DATA["lenet-8-6"], [2], start=6)
    weights = resumed.prunable()["layers.0.weight"], whole.prunable()["layers.0.weight"]
    assert not torch.equal(*weights)


def test_a_snapshot_does_not_change_when_training_goes_on() -> None:
    network = fresh("resnet-8-w2", [0])
    steps = train(network, AUGMENTED, DATA["resnet-8-w2"], [0], snapshots=[2])
    saved = next(step.snapshot for step in steps if step.snapshot)
    state = {name: tensor.clone() for name, tensor in saved.network.items()}
    moments = [{n: t.clone() for n, t in moment.items()} for moment in saved.moments]
    for _ in steps:
        pass
    for name, tensor in state.items():
        assert torch.equal(saved.network[name], tensor)
        assert not torch.equal(network.state()[name], tensor)
    for now, then in zip(saved.moments, moments, strict=True):
        assert all(torch.equal(now[name], then[name]) for name in then)


def test_iterations_are_counted_from_the_start_to_the_last_one() -> None:
    network, data = fresh("lenet-8-6", [0]), DATA["lenet-8-6"]
    steps = list(train(network, ADAM, data, [0], start=20, snapshots=[20, 24, 5]))
    assert [step.iteration for step in steps] == [20, 21, 22, 23, 24]
    assert [step.iteration for step in steps if step.snapshot] == [20, 24]


# ---------------------------------------------------------------------------------- data order


@given(
    examples=st.integers(1, 40),
    batch_size=st.integers(1, 50),
    start=st.integers(0, 30),
    seeds=st.lists(st.integers(0, 5), min_size=1, max_size=4),
)
@settings(max_examples=60, deadline=None)
def test_every_pass_shows_every_example_once_wherever_it_starts(
    examples: int, batch_size: int, start: int, seeds: list[int]
) -> None:
    noises = [(seed, 0) for seed in seeds]
    batches = data_order(noises, examples, batch_size, 0)
    first = [next(batches) for _ in range(start + 5)]
    resumed = data_order(noises, examples, batch_size, start)
    for batch in first[start:]:
        assert batch.shape == (len(seeds), batch_size)
        assert torch.equal(next(resumed), batch), "the order resumes"
    order = torch.cat(first, 1)
    for row, seed in zip(order, seeds, strict=True):
        for one_pass in row.split(examples):
            if len(one_pass) == examples:
                assert sorted(one_pass.tolist()) == list(range(examples))
        assert torch.equal(row, order[seeds.index(seed)]), "one seed, one order"
        assert torch.equal(
            next(data_order([(seed, 0)], examples, batch_size, 0))[0], row[:batch_size]
        )


def test_passes_and_seeds_have_different_orders() -> None:
    batches = data_order([(0, 0), (1, 0)], 50, 50, 0)
    one, two = next(batches), next(batches)
    assert not torch.equal(one[0], one[1])
    assert not torch.equal(one[0], two[0])


def test_purposes_and_seeds_have_independent_generators() -> None:
    drawn = {
        torch.rand(1, generator=generator(*purpose)).item()
        for purpose in [(0, "order", 0), (0, "order", 1), (1, "order", 0), (0, "initialisation")]
    }
    assert len(drawn) == 4
    assert generator(3, "order", 2).initial_seed() == generator(3, "order", 2).initial_seed()


# -------------------------------------------------------------------------------- augmentation


def augmented_by_numpy(images: np.ndarray, noise: tuple[int, int], iteration: int) -> np.ndarray:
    """Pad, crop, mirror, image by image. images: (B, C, H, W)."""
    seed, copy = noise
    purpose = ("augmentation", iteration, *(("copy", copy) if copy else ()))
    height, width = images.shape[2:]
    y, x = height // 8, width // 8
    draws = torch.rand(3, len(images), generator=generator(seed, *purpose))
    result = []
    for image, flip, down, right in zip(images, *draws.tolist(), strict=True):
        top, left = int(down * (2 * y + 1)), int(right * (2 * x + 1))
        crop = np.pad(image, ((0, 0), (y, y), (x, x)))[:, top : top + height, left : left + width]
        result.append(crop[:, :, ::-1] if flip < 0.5 else crop)
    return np.stack(result)


@pytest.mark.parametrize("shape", [(3, 16, 16), (1, 8, 24), (2, 5, 7), (1, 32, 32)])
def test_augmentation_pads_crops_and_mirrors(shape: tuple[int, int, int]) -> None:
    images = torch.rand(3, 12, *shape, generator=torch.Generator().manual_seed(0))
    noises = [(5, 0), (2, 0), (5, 1)]
    result = flip_and_crop(images, noises, 7)
    for replica, noise in enumerate(noises):
        expected = augmented_by_numpy(images[replica].numpy(), noise, 7)
        np.testing.assert_array_equal(result[replica].numpy(), expected)
        alone = flip_and_crop(images[[replica]], [noise], 7)
        assert torch.equal(alone[0], result[replica]), "alone as in a crowd"
    assert not torch.equal(flip_and_crop(images, noises, 8), result)


def test_half_the_images_are_mirrored_and_every_shift_occurs() -> None:
    count, size, pad = 2_000, 16, 2
    image = torch.arange(1.0, 1 + size * size).view(1, 1, 1, size, size)
    results = flip_and_crop(image.expand(1, count, 1, size, size), [(0, 0)], 0)[0, :, 0]
    # The middle of an image never leaves it; the gradient along a row tells the mirrored ones.
    middle = results[:, size // 2, size // 2 - 1 : size // 2 + 1].long()
    mirrored = middle[:, 0] > middle[:, 1]
    assert abs(mirrored.float().mean().item() - 0.5) < 4 * 0.5 / math.sqrt(count)
    shifts = ((middle[:, 0] - 1) // size - size // 2).unique(return_counts=True)
    assert shifts[0].tolist() == list(range(-pad, pad + 1))
    assert shifts[1].min() > count / 5 * 0.8


# ---------------------------------------------------------------------------- the learning rate


def test_the_rate_warms_up_linearly_and_falls_at_the_milestones() -> None:
    recipe = Recipe(
        "sgd", 0.4, iterations=20, warmup=4, milestones=(0.5, 0.75), decay=0.1, momentum=0.9
    )
    rates = [recipe.rate(iteration) for iteration in range(20)]
    assert rates == pytest.approx([0.1, 0.2, 0.3] + [0.4] * 7 + [0.04] * 5 + [0.004] * 5)
    assert Recipe().rate(0) == Recipe().rate(4_999) == 1.2e-3


# ----------------------------------------------------------------------------------- evaluation


def test_evaluation_sees_every_example_with_the_running_statistics() -> None:
    data = random_data((3, 16, 16), sizes=(20, 10, 1_003))
    network = finish(fresh("resnet-8-w2", [0, 1]), AUGMENTED, data, [0, 1])
    found = evaluate_on(network, data, data.test)
    network.eval()
    with torch.no_grad():
        logits = network(data.normalise(data.test.images)[None])
    for replica in range(2):
        loss = F.cross_entropy(logits[replica], data.test.labels)
        assert found.loss[replica].item() == pytest.approx(loss.item(), rel=1e-5)
        right = (logits[replica].argmax(1) == data.test.labels).sum().item()
        assert found.accuracy[replica].item() == right / 1_003


@pytest.mark.parametrize(("name", "rate"), [("lenet-8-6", 0.5), ("resnet-8-w2", 0.2)])
def test_the_test_set_is_read_of_the_last_weights_and_of_the_early_ones(name: str, rate: float):
    recipe = Recipe(learning_rate=rate, batch_size=16, iterations=24)  # high: it goes up and down
    network, data = fresh(name, [0, 1]), DATA[name]
    losses, tests, found = [], [], []
    for step in train(network, recipe, data, [0, 1], evaluate_at=[0, *range(3, 25)]):
        if step.evaluation is None:  # an update, or a piece of an evaluation
            continue
        found.append(step.evaluation)
        validation = evaluate_on(network, data, data.validation)
        assert torch.equal(step.evaluation.validation.loss, validation.loss)
        assert torch.equal(step.evaluation.validation.accuracy, validation.accuracy)
        losses.append(validation.loss)
        tests.append(evaluate_on(network, data, data.test))
    assert all(e.test is None and e.early_stop is None for e in found[:-1])
    stop, last = found[-1].early_stop, found[-1].test
    assert torch.equal(last.loss, tests[-1].loss) and torch.equal(last.accuracy, tests[-1].accuracy)
    best = torch.stack(losses).argmin(0).tolist()
    at = [0, *range(3, 25)]
    assert stop.iteration.tolist() == [at[number] for number in best]
    assert best[0] != best[1], "with one iteration for all, this would show little"
    for replica, number in enumerate(best):
        assert stop.test.accuracy[replica] == tests[number].accuracy[replica]
        torch.testing.assert_close(stop.test.loss[replica], tests[number].loss[replica])


@pytest.mark.parametrize("name", SHAPES)
def test_of_no_examples_nothing_is_known(name: str) -> None:
    network = build(name, SHAPES[name], 3, 2)
    found = evaluate_on(network, DATA[name], DATA[name].test[:0])
    assert found.loss.isnan().all() and found.accuracy.isnan().all()
    assert found.answers.tolist() == [0, 0]


def test_an_evaluation_can_be_left_between_its_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "EVALUATED", 1)  # a hundred images at a time
    data = random_data((1, 8, 8), sizes=(60, 130, 250))  # validation in 2 pieces, test in 3
    last = ADAM.iterations
    steps = list(train(fresh("lenet-8-6", [0]), ADAM, data, [0], evaluate_at=[0, last]))
    for iteration, pieces in ((0, 2), (last, 5)):
        found = [step.evaluation for step in steps if step.iteration == iteration]
        assert found[:-1] == [None] * pieces and found[-1] is not None


@pytest.mark.parametrize(("name", "recipe"), [("lenet-8-6", ADAM), ("resnet-8-w2", AUGMENTED)])
def test_what_is_evaluated_never_changes_the_training(name: str, recipe: Recipe) -> None:
    data = DATA[name]
    silent = finish(fresh(name, [0]), recipe, data, [0])
    other = Split(255 - data.test.images, data.test.labels.flip(0))
    worse = Data(name, data.train, data.validation, other, data.classes, data.mean, data.deviation)
    for measured in (data, worse):
        every = range(recipe.iterations + 1)
        watched = finish(
            fresh(name, [0]), recipe, measured, [0], evaluate_at=every, snapshots=every
        )
        assert_equal(watched, silent)


# -------------------------------------------------------------------------------------- recipes


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("optimizer", "lbfgs", "adam, sgd"),
        ("optimizer", None, "adam, sgd"),
        ("learning_rate", 0, "above 0"),
        ("learning_rate", -0.1, "above 0"),
        ("learning_rate", math.inf, "finite"),
        ("learning_rate", math.nan, "finite"),
        ("learning_rate", "0.1", "number"),
        ("momentum", 1, "[0, 1)"),
        ("momentum", -0.1, "[0, 1)"),
        ("momentum", True, "[0, 1)"),
        ("momentum", math.nan, "[0, 1)"),
        ("momentum", 0.9, "0 with adam"),
        ("weight_decay", -1e-4, "at least 0"),
        ("weight_decay", math.inf, "at least 0"),
        ("batch_size", 0, "from 1"),
        ("batch_size", 60.0, "whole number"),
        ("iterations", 0, "from 1"),
        ("iterations", True, "whole number"),
        ("milestones", (1.5,), "(0, 1)"),
        ("milestones", (0,), "(0, 1)"),
        ("milestones", (0.75, 0.5), "increase"),
        ("milestones", (0.5, 0.5), "increase"),
        ("milestones", 0.5, "list"),
        ("milestones", "0.5", "list"),
        ("decay", 0, "(0, 1)"),
        ("decay", 1, "(0, 1)"),
        ("warmup", -1, "from 0 to 5000"),
        ("warmup", 5_001, "from 0 to 5000"),
        ("augmentation", "cutout", "none, flip-crop"),
        ("precision", "float16", "float32, bfloat16"),
    ],
)
def test_a_recipe_says_what_is_wrong_with_it(field: str, value: object, allowed: str) -> None:
    with pytest.raises(ValueError) as error:
        Recipe(**{field: value})
    assert f"recipe.{field}" in str(error.value)
    assert allowed in str(error.value)
    assert str(value).strip("(,)") in str(error.value)


def test_milestones_may_come_as_a_list() -> None:
    recipe = Recipe(milestones=[0.5, 0.75])
    assert recipe == Recipe(milestones=(0.5, 0.75))
    assert hash(recipe) == hash(Recipe(milestones=(0.5, 0.75)))


def test_tensors_of_a_device_stay_on_it() -> None:
    steps = train(fresh("lenet-8-6", [0]), ADAM, DATA["lenet-8-6"], [0], evaluate_at=[0])
    saved = next(step.evaluation for step in steps if step.evaluation).validation.loss
    assert saved.device.type == "cpu", "measurements are read on the CPU wherever they are made"
