"""Gradients: what autograd finds, also where they are worked out by hand."""

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor
from torch.nn import functional as F

from labkit import build, generator
from labkit.engine.gradients import autocast, gradients_of
from labkit.engine.networks import Population

SHAPE = (1, 5, 5)


def population(name: str, replicas: int, classes: int = 3) -> Population:
    network = build(name, SHAPE, classes, replicas).double()
    chosen = [generator(replica, "initialisation") for replica in range(replicas)]
    return network.initialise(chosen)


def batch(replicas: int, size: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    chosen = generator(seed, "batch")
    images = torch.randn(replicas, size, *SHAPE, generator=chosen, dtype=torch.float64)
    return images, torch.randint(0, 3, (replicas, size), generator=chosen)


def by_autograd(network: Population, images: Tensor, labels: Tensor) -> list[Tensor]:
    """Of each replica's mean cross-entropy, one after the other."""
    logits = network(images)
    losses = [F.cross_entropy(logits[r], labels[r]) for r in range(network.replicas)]
    return list(torch.autograd.grad(sum(losses), list(network.parameters())))


@settings(max_examples=40, deadline=None)
@given(
    replicas=st.integers(1, 4),
    widths=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    size=st.integers(1, 7),
)
def test_gradients_of_dense_networks_are_those_of_autograd(replicas, widths, size) -> None:
    network = population("lenet-" + "-".join(map(str, widths)), replicas)
    images, labels = batch(replicas, size)
    found = gradients_of(network, size)(images, labels)
    for ours, right in zip(found, by_autograd(network, images, labels), strict=True):
        torch.testing.assert_close(ours, right)


@pytest.mark.parametrize("name", ["lenet-8-6", "conv-2"])
def test_gradients_follow_weights_and_batches(name: str) -> None:
    """Nothing is left of the call before, in the memory of which the next may be computed."""
    network = population(name, 2)
    gradients = gradients_of(network, 4)
    gradients(*batch(2, 4, seed=1))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(-0.5)
    images, labels = batch(2, 4, seed=2)
    found = gradients(images, labels)
    for ours, right in zip(found, by_autograd(network, images, labels), strict=True):
        torch.testing.assert_close(ours, right, rtol=1e-5, atol=1e-6)  # the loss is in float32


def test_logits_beyond_the_range_of_exp_have_gradients() -> None:
    network = population("lenet-4", 1)
    with torch.no_grad():
        network.layers[2].weight.mul_(1e6)
    images, labels = batch(1, 6)
    found = gradients_of(network, 6)(images, labels)
    for ours, right in zip(found, by_autograd(network, images, labels), strict=True):
        assert ours.isfinite().all()
        torch.testing.assert_close(ours, right)


@settings(max_examples=30, deadline=None)
@given(
    replicas=st.integers(1, 3),
    widths=st.lists(st.integers(1, 40), min_size=1, max_size=3),
    size=st.integers(1, 20),
)
def test_gradients_in_bfloat16_are_those_of_autocast(replicas, widths, size) -> None:
    """By hand, with weights in float32: nothing is rounded that autocast would not round."""
    network = population("lenet-" + "-".join(map(str, widths)), replicas).float()
    images, labels = batch(replicas, size)
    images = images.float()
    found = gradients_of(network, size, "bfloat16")(images, labels)
    with autocast("bfloat16", images.device):
        logits = network(images).float()
    losses = [F.cross_entropy(logits[r], labels[r]) for r in range(replicas)]
    right = torch.autograd.grad(sum(losses), list(network.parameters()))
    for ours, theirs in zip(found, right, strict=True):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours, theirs, rtol=2**-6, atol=2**-8 * theirs.abs().max().item())
