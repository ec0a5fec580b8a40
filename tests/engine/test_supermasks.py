"""A mask can be learned while every weight stays as it was drawn."""

import pytest
import torch

from labkit import build, density, evaluate_on, generator
from labkit.engine.supermasks import learn_masks
from tests.synthetic import DATA, SHAPES

EASY = DATA["lenet-8-6"]


def lenet(replicas: int = 2):
    network = build("lenet-30-20", SHAPES["lenet-8-6"], 3, replicas)
    return network.initialise([generator(s, "a") for s in range(replicas)])


def test_weights_are_zero_or_what_they_were_and_the_density_is_the_one_asked_for():
    network = lenet()
    first = network.state()
    *_, masks = learn_masks(network, EASY, [0, 1], density=0.4, iterations=30, batch_size=8)
    for name, tensor in network.state().items():
        expected = first[name] * masks[name] if name in masks else first[name]
        assert torch.equal(tensor, expected)
    for mask in masks.values():
        total = mask[0].numel()
        assert mask.flatten(1).sum(1).tolist() == [total - round(0.6 * total)] * 2
    assert density(masks).tolist() == pytest.approx([0.4, 0.4], abs=0.01)


def test_a_learned_mask_reads_what_the_first_one_does_not():
    network = lenet(3)
    training = learn_masks(
        network, EASY, [0, 1, 2], 0.5, iterations=300, learning_rate=1e-2, batch_size=8
    )
    next(training)
    at_first = evaluate_on(network, EASY, EASY.train).accuracy.mean()
    list(training)
    learned = evaluate_on(network, EASY, EASY.train).accuracy.mean()
    assert learned > 0.9 > at_first + 0.2, "three classes, told apart by their brightness"


def test_a_replica_learns_what_it_learns_alone():
    crowd = list(learn_masks(lenet(), EASY, [0, 1], 0.5, iterations=5, batch_size=8))[-1]
    alone = list(learn_masks(lenet()[1], EASY, [1], 0.5, iterations=5, batch_size=8))[-1]
    for name, mask in alone.items():
        assert (mask[0] != crowd[name][1]).float().mean() < 0.01, "but for rounding"


@pytest.mark.parametrize("share", [0, 1, 1.5])
def test_all_or_nothing_is_no_mask(share):
    with pytest.raises(ValueError, match=r"density must be a number in \(0, 1\)"):
        next(learn_masks(lenet(), EASY, [0, 1], share))
