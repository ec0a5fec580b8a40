"""Survivors alone are trained to the weights of masked training, by fewer products."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor
from torch.nn import functional as F

from labkit import build, density, evaluate_on, full_masks, generator, train
from labkit.engine import sparse
from labkit.engine.data import Split
from labkit.engine.networks import Masks, Population
from labkit.engine.sparse import Masked, Survivors, forward_of, trained_part
from labkit.engine.training import Recipe, Snapshot
from tests.synthetic import random_data

pytestmark = pytest.mark.skipif(
    not torch.backends.mkl.is_available(), reason="torch multiplies compressed rows with MKL"
)
SHAPE = (1, 6, 6)
DATA = random_data(SHAPE)
LAST = 12


def fresh(replicas: int, widths: tuple[int, ...] = (9, 5)) -> Population:
    network = build("lenet-" + "-".join(map(str, widths)), SHAPE, 3, replicas)
    return network.initialise([generator(r, "initialisation") for r in range(replicas)])


def some(network: Population, seed: int, left: tuple[float, ...]) -> Masks:
    """Masks of which layer i keeps the share left[i], in every replica another part."""
    chosen = generator(seed, "masks")
    drawn = {n: torch.rand(w.shape, generator=chosen) for n, w in network.prunable().items()}
    return {n: drawn[n] < share for n, share in zip(drawn, left, strict=False)}


def trained(
    network: Population, recipe: Recipe, masks: Masks, alone: bool | None, **options
) -> list[Snapshot]:
    steps = train(
        network, recipe, DATA, list(range(network.replicas)), masks=masks, sparse=alone, **options
    )
    return [step.snapshot for step in steps if step.snapshot]


def close(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=2e-3, atol=2e-5)


RECIPES = st.builds(
    lambda name, momentum, decay: Recipe(
        name,
        1e-3 if name == "adam" else 0.05,
        momentum if name == "sgd" else 0.0,
        decay,
        batch_size=7,
        iterations=LAST,
        milestones=(0.5,),
    ),
    st.sampled_from(["adam", "sgd"]),
    st.sampled_from([0.0, 0.9]),
    st.sampled_from([0.0, 1e-2]),
)
SHARES = st.sampled_from([0.0, 0.05, 0.3, 0.8, 1.0])


@settings(max_examples=60, deadline=None)
@given(
    recipe=RECIPES,
    replicas=st.integers(1, 4),
    left=st.lists(SHARES, min_size=1, max_size=3).map(tuple),
    resumed=st.booleans(),
    seed=st.integers(0, 99),
)
def test_survivors_alone_end_where_masked_training_ends(recipe, replicas, left, resumed, seed):
    """Whatever the masks, empty rows, layers and layers without a mask among them, and from moments
    of a dense network, too; snapshots hold the same dense tensors."""
    start, moments = 0, None
    whole = fresh(replicas)
    masks = some(whole, seed, left)
    if resumed:
        (held,) = trained(whole, recipe, {}, None, snapshots=[4])
        whole.load_state_dict(held.network)
        start, moments = 4, held.moments
    alone = whole[list(range(replicas))]
    options = {"start": start, "moments": moments, "snapshots": [start, 6, LAST]}
    right = trained(whole, recipe, masks, False, **options)
    found = trained(alone, recipe, masks, True, **options)
    for theirs, ours in zip(right, found, strict=True):
        assert len(theirs.moments) == len(ours.moments)
        for name, weight in theirs.network.items():
            close(ours.network[name], weight)
        for one, other in zip(theirs.moments, ours.moments, strict=True):
            assert one.keys() == other.keys()
            for name, value in one.items():
                close(other[name], value)
    for name, mask in masks.items():
        assert not alone.state()[name][~mask].any()
    for name, weight in whole.state().items():
        close(alone.state()[name], weight)


@pytest.mark.parametrize("share", [0.05, 0.6], ids=["at survivors", "everywhere"])
def test_gradients_of_survivors_are_those_of_autograd(share: float) -> None:
    network = fresh(3)
    masks = some(network, 1, (share,) * 3)
    part = trained_part(network, masks, False, 5, sparse=True)
    images = torch.randn(3, 5, *SHAPE, generator=generator(0, "images"))
    labels = torch.randint(0, 3, (3, 5), generator=generator(0, "labels"))
    logits = network(images)
    loss = sum(F.cross_entropy(logits[r], labels[r]) for r in range(3))
    right = torch.autograd.grad(loss, list(network.parameters()))
    held = [*masks.values()]
    for number, (ours, theirs) in enumerate(
        zip(part.gradients(images, labels), right, strict=True)
    ):
        torch.testing.assert_close(ours, theirs if number % 2 else theirs[held[number // 2]])


def test_training_that_is_left_leaves_its_weights_behind() -> None:
    recipe = Recipe(batch_size=7, iterations=LAST)
    network = fresh(2)
    masks = some(network, 3, (0.2, 0.2, 0.2))
    other = network[[0, 1]]
    for population, alone in ((network, True), (other, False)):
        for step in train(population, recipe, DATA, [0, 1], masks=masks, sparse=alone):
            if step.iteration == 5:
                break
    for name, weight in other.state().items():
        close(network.state()[name], weight)


def test_early_stop_and_evaluations_are_those_of_masked_training() -> None:
    recipe = Recipe(learning_rate=0.01, batch_size=7, iterations=30)
    # What is learnt makes the loss worse on labels of the next class, so the minimum comes early.
    wrong = Split(DATA.validation.images, (DATA.validation.labels + 1) % 3)
    found = []
    for alone in (True, False):
        network = fresh(2)
        found.append(
            [
                step.evaluation
                for step in train(
                    network,
                    recipe,
                    replace(DATA, validation=wrong),
                    [0, 1],
                    masks=some(network, 3, (0.3, 0.3, 0.5)),
                    evaluate_at=range(0, 31, 3),
                    sparse=alone,
                )
                if step.evaluation
            ]
        )
    for ours, theirs in zip(*found, strict=True):
        close(ours.validation.loss, theirs.validation.loss)
    ours, theirs = found[0][-1].early_stop, found[1][-1].early_stop
    assert torch.equal(ours.iteration, theirs.iteration)
    assert (ours.iteration < 30).all(), "else no earlier weights were read"
    close(ours.test.loss, theirs.test.loss)


# ------------------------------------------------------------------------------------ the choice


def big(left: float, replicas: int = 1) -> tuple[Population, Masks]:
    network = build("lenet-300-100", (1, 28, 28), 10, replicas)
    network.initialise([generator(r, "initialisation") for r in range(replicas)])
    masks = some(network, 0, (left,) * 3)
    for name, weight in network.prunable().items():
        weight.data *= masks[name]
    return network, masks


def test_few_survivors_of_many_weights_are_trained_alone() -> None:
    sparse_one, masks = big(0.1)
    assert isinstance(trained_part(sparse_one, masks, False, 60), Survivors)
    for network, held in (
        (sparse_one, {}),
        (sparse_one, full_masks(sparse_one)),
        big(0.5),
        (fresh(1), some(fresh(1), 0, (0.1,) * 3)),  # so small that calls cost more than products
    ):
        assert isinstance(trained_part(network, held, False, 60), Masked)
    assert isinstance(trained_part(sparse_one, masks, False, 60, sparse=False), Masked)
    assert isinstance(trained_part(sparse_one, masks, True, 60), Masked)  # frozen: they have values
    assert isinstance(trained_part(sparse_one, masks, False, 60, precision="bfloat16"), Masked)


@pytest.mark.parametrize("name", ["conv-2", "vgg-small", "resnet-8-w2"])
def test_other_layers_cannot_be_trained_sparsely(name: str) -> None:
    network = build(name, (3, 16, 16), 10)
    masks = {n: torch.zeros_like(m) for n, m in full_masks(network).items()}
    assert isinstance(trained_part(network, masks, False, 8), Masked)
    with pytest.raises(ValueError, match=f"sparse must be False or None.*not True with {name}"):
        trained_part(network, masks, False, 8, sparse=True)


@settings(max_examples=20, deadline=None)
@given(
    replicas=st.integers(1, 3),
    left=st.lists(SHARES, min_size=3, max_size=3),
    size=st.integers(1, 9),
)
def test_products_with_what_is_not_zero_give_the_outputs_of_the_network(replicas, left, size):
    network = fresh(replicas)
    for (name, mask), share in zip(some(network, 5, tuple(left)).items(), left, strict=True):
        network.prunable()[name].data *= mask
        assert share or not mask.any()
    images = torch.randn(1, size, *SHAPE, generator=generator(0, "images"))
    with torch.no_grad(), pytest.MonkeyPatch.context() as patched:
        patched.setattr(sparse, "WEIGHTS", 0)
        patched.setattr(sparse, "EVALUATED", 1.0)
        forward = forward_of(network, sparse.LOOKED_THROUGH)
        assert forward is not network
        torch.testing.assert_close(forward(images), network(images))


def test_sparse_evaluation_is_that_of_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    data = random_data((1, 28, 28), (10, 10, sparse.LOOKED_THROUGH), 10)
    network, masks = big(0.1, replicas=2)
    assert density(masks).max() < sparse.EVALUATED
    assert forward_of(network, len(data.test)) is not network
    found = evaluate_on(network, data, data.test)
    monkeypatch.setattr(sparse, "EVALUATED", 0.0)
    right = evaluate_on(network, data, data.test)
    torch.testing.assert_close(found.loss, right.loss, rtol=1e-6, atol=1e-6)
    assert torch.equal(found.accuracy, right.accuracy)
