"""Masks only shrink, by exact counts, lowest scores first, and chance is a generator's alone."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from labkit import (
    Pruning,
    apply_masks,
    build,
    density,
    flops,
    full_masks,
    generator,
    prune,
    random_masks,
    remove_lowest,
    shuffle_layers,
)
from labkit.engine.narrowing import surviving_units
from labkit.engine.networks import outline
from labkit.engine.pruning import curvature, densities, removed
from tests.synthetic import SHAPES, random_data

LADDER = (  # Frankle & Carbin 2019: density of LeNet-300-100 by round
    *(0.8004, 0.6406, 0.5128, 0.4105, 0.3287, 0.2632, 0.2107, 0.1688, 0.1352, 0.1083),
    *(0.0868, 0.0695, 0.0557, 0.0447, 0.0358, 0.0287, 0.0231, 0.0185, 0.0149, 0.0119),
)


def draws(replicas: int, purpose: str = "test") -> list[torch.Generator]:
    return [generator(seed, purpose) for seed in range(replicas)]


def lenet(replicas: int = 2, name: str = "lenet-8-6"):
    return build(name, (1, 4, 4), 3, replicas).initialise(draws(replicas))


@st.composite
def scored(draw):
    """Scores with many ties, a mask, and a rate."""
    replicas, size = draw(st.integers(1, 3)), draw(st.integers(1, 30))
    flat = st.lists(st.integers(0, 4), min_size=size, max_size=size)
    scores = [draw(flat) for _ in range(replicas)]
    keep = st.lists(st.booleans(), min_size=size, max_size=size)
    mask = [draw(keep) for _ in range(replicas)]
    rate = draw(st.floats(0, 0.99))
    return torch.tensor(scores, dtype=torch.float32), torch.tensor(mask), rate


@settings(deadline=None)
@given(scored())
def test_exactly_the_rounded_share_of_the_survivors_goes_the_lowest_first(case):
    scores, mask, rate = case
    kept = remove_lowest(scores, mask, rate)
    assert kept.shape == mask.shape and not (kept & ~mask).any(), "masks never grow back"
    for replica in range(len(mask)):
        alive = mask[replica].nonzero().flatten().tolist()
        count = round(rate * len(alive))
        by_score_then_index = sorted(alive, key=lambda i: (scores[replica, i].item(), i))
        assert kept[replica].nonzero().flatten().tolist() == sorted(by_score_then_index[count:])


@settings(deadline=None)
@given(scored())
def test_a_pruned_weight_is_not_ranked_however_high_its_score(case):
    scores, mask, rate = case
    high = scores.masked_fill(~mask, 1e9)
    low = scores.masked_fill(~mask, -1e9)
    assert torch.equal(remove_lowest(high, mask, rate), remove_lowest(low, mask, rate))


def test_the_smallest_magnitudes_go_whatever_their_sign():
    weights = {"a": torch.tensor([[[0.1, -0.5, 0.3, -0.2]]])}
    masks = {"a": torch.ones(1, 1, 4, dtype=torch.bool)}
    pruned = prune(Pruning(rate=0.5), weights, masks, [])
    assert pruned["a"].tolist() == [[[False, True, True, False]]]


def test_the_density_ladder_of_the_paper():
    network = build("lenet-300-100", (1, 28, 28), 10).initialise(draws(1))
    masks, state = full_masks(network), network.state()
    for expected in LADDER:
        before = masks
        masks = prune(Pruning(rate=0.2, output_rate=0.1), state, masks, [])
        assert all(not (masks[name] & ~before[name]).any() for name in masks)
        assert density(masks).item() == pytest.approx(expected, abs=6e-5)


def test_global_scope_ranks_all_layers_together():
    weights = {"a": torch.full((1, 2, 4), 3.0), "b": torch.full((1, 1, 2), 1.0)}
    masks = {name: torch.ones_like(tensor, dtype=torch.bool) for name, tensor in weights.items()}
    pruned = prune(Pruning(scope="global", rate=0.2), weights, masks, [])
    assert pruned["a"].all() and not pruned["b"].any()
    spared = prune(Pruning(scope="global", rate=0.5, output_rate=0), weights, masks, [])
    assert spared["b"].all() and spared["a"].sum() == 4


def test_convolutions_and_the_output_layer_have_rates_of_their_own():
    network = build("conv-2", (3, 8, 8), 10).initialise(draws(1))
    pruning = Pruning(rate=0.2, conv_rate=0.1, output_rate=0.0)
    pruned = prune(pruning, network.state(), full_masks(network), [])
    shares = [1 - mask.float().mean().item() for mask in pruned.values()]
    assert shares == pytest.approx([0.1, 0.1, 0.2, 0.2, 0.0], abs=1e-3)


def test_random_scores_depend_on_the_generator_of_the_replica_alone():
    network, pruning = lenet(3), Pruning(criterion="random", rate=0.5)
    crowd = prune(pruning, network.state(), full_masks(network), draws(3))
    alone = prune(pruning, network[1].state(), full_masks(network[1]), [draws(3)[1]])
    assert all(torch.equal(crowd[name][1:2], alone[name]) for name in crowd)
    assert density(crowd).tolist() == pytest.approx([0.5] * 3, abs=0.01)
    assert not torch.equal(crowd["layers.0.weight"][0], crowd["layers.0.weight"][1])


def test_a_shuffled_mask_keeps_the_count_of_every_layer_and_nothing_else():
    network = lenet()
    masks = prune(Pruning(rate=0.7), network.state(), full_masks(network), [])
    shuffled = shuffle_layers(masks, draws(2))
    for name, mask in masks.items():
        assert torch.equal(mask.flatten(1).sum(1), shuffled[name].flatten(1).sum(1))
    assert not torch.equal(masks["layers.0.weight"], shuffled["layers.0.weight"])


def test_a_random_mask_keeps_only_the_total():
    network = lenet()
    masks = prune(Pruning(rate=0.7), network.state(), full_masks(network), [])
    masks["layers.0.weight"][:] = False
    drawn = random_masks(masks, draws(2))
    assert torch.equal(density(drawn), density(masks))
    assert drawn["layers.0.weight"].any()


def test_density_is_read_from_masks_and_never_from_zeros():
    network = lenet()
    for weight in network.prunable().values():
        weight.data.zero_()
    assert density(full_masks(network)).tolist() == [1.0, 1.0]


def test_only_weights_are_prunable():
    network = build("resnet-8", (3, 16, 16), 10)
    assert all(name.endswith("weight") for name in network.prunable())
    assert not any("norm" in name for name in network.prunable())
    masks = {n: torch.zeros_like(w, dtype=torch.bool) for n, w in network.prunable().items()}
    network.initialise(draws(1))
    state = apply_masks(network.state(), masks)
    for name, tensor in state.items():
        assert torch.equal(tensor, network.state()[name]) != (name in masks)


def test_arithmetic_is_twice_the_surviving_weights_times_their_uses():
    dense = build("lenet-300-100", (1, 28, 28), 10)
    assert flops(dense, (1, 28, 28), full_masks(dense)).item() == 2 * 266_200
    network = build("conv-2", (3, 8, 8), 10, 2).initialise(draws(2))
    conv = 2 * 64 * (27 * 3 // 3 + 64 * 9) * 8 * 8
    head = 2 * (64 * 4 * 4 * 256 + 256 * 256 + 256 * 10)
    assert flops(network, (3, 8, 8), full_masks(network)).tolist() == [conv + head] * 2
    masks = full_masks(network)
    masks["layers.0.weight"][1] = False
    assert flops(network, (3, 8, 8), masks).tolist() == [
        conv + head,
        conv + head - 2 * 64 * 27 * 64,
    ]


def test_counting_leaves_the_network_as_it_was():
    network = build("resnet-8", (3, 16, 16), 10, 2).initialise(draws(2))
    before = network.state()
    flops(network, (3, 16, 16), full_masks(network))
    assert network.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state().items())


# ------------------------------------------------------------------------- criteria of units


def uneven(name: str, replicas: int = 1):
    """Networks whose biases and gammas are all different numbers."""
    network = build(name, SHAPES[name], 3, replicas).initialise(draws(replicas))
    for parameter in network.parameters():
        if parameter.ndim == 2:
            parameter.data += torch.randn(parameter.shape, generator=generator(3, "uneven"))
    return network


def unit_scores(network, criterion: str, mean: bool) -> list[np.ndarray]:
    """The scores of replica 0, layer by layer, by loops over its units."""
    state = {name: tensor[0].numpy() for name, tensor in network.state().items()}
    scores = []
    for unit in network.units():
        if criterion == "gamma":
            scores.append(np.abs(state[f"{unit.norm}.weight"]))
            continue
        own = []
        for incoming in state[f"{unit.layer}.weight"]:
            total = sum(abs(float(w)) for w in incoming.ravel())
            own.append(total / incoming.size if mean else total)
        scores.append(np.array(own))
    return scores


def kept_units(network, pruning: Pruning) -> list[list[int]]:
    units = network.units()
    masks = prune(pruning, network.state(), full_masks(network), draws(1), units=units)
    found = surviving_units(masks, units)
    return [alive[0].nonzero().flatten().tolist() for alive in found.values()]


WITH_CRITERIA = [
    *(("lenet-8-6", "magnitude"), ("conv-2", "magnitude"), ("resnet-8-w2", "magnitude")),
    *(("vgg-small", "gamma"), ("resnet-8-w2", "gamma")),
]


@pytest.mark.parametrize(("name", "criterion"), WITH_CRITERIA)
def test_of_each_layer_the_units_with_the_largest_norm_or_gamma_stay(name: str, criterion: str):
    network = uneven(name)
    kept = kept_units(network, Pruning("structured", criterion, rate=0.3))
    for scores, own in zip(unit_scores(network, criterion, mean=False), kept, strict=True):
        best = np.argsort(scores)[round(0.3 * len(scores)) :]
        assert own == sorted(best.tolist())


@pytest.mark.parametrize(("name", "criterion"), WITH_CRITERIA)
def test_over_all_layers_units_compare_by_their_mean_weight_or_gamma(name: str, criterion: str):
    network = uneven(name)
    scores = unit_scores(network, criterion, mean=True)
    ranking = sorted((s, layer, i) for layer, own in enumerate(scores) for i, s in enumerate(own))
    spared = {(layer, int(own.argmax())) for layer, own in enumerate(scores)}
    ranking = [unit for unit in ranking if unit[1:] not in spared]
    gone = {unit[1:] for unit in ranking[: round(0.6 * sum(map(len, scores)))]}
    kept = kept_units(network, Pruning("structured", criterion, "global", 0.6))
    for layer, own in enumerate(kept):
        assert own == [i for i in range(len(scores[layer])) if (layer, i) not in gone]


def test_pruned_incoming_weights_do_not_count_for_a_unit():
    network = uneven("lenet-8-6")
    pruning, units = Pruning("structured", "magnitude", "global", 0.3), network.units()
    once = prune(pruning, network.state(), full_masks(network), [], units=units)
    state = network.state()
    junk = {n: torch.where(once[n], t, 1e3) if n in once else t for n, t in state.items()}
    twice = [prune(pruning, weights, once, [], units=units) for weights in (state, junk)]
    assert all(torch.equal(twice[0][name], twice[1][name]) for name in once)
    assert density(twice[0]).item() < density(once).item()


def test_every_layer_may_have_a_rate_of_its_own():
    network = uneven("vgg-small")
    rates = (0.0, 0.5, 0.25, 0.1, 0.9)
    kept = kept_units(network, Pruning("structured", layer_rates=rates))
    widths = (32, 64, 128, 128, 128)
    assert [len(k) for k in kept] == [w - round(r * w) for w, r in zip(widths, rates, strict=True)]


def test_random_units_depend_on_the_generator_of_the_replica_alone():
    network, pruning = uneven("conv-2", 3), Pruning("structured", "random", rate=0.5)
    units = network.units()
    crowd = prune(pruning, network.state(), full_masks(network), draws(3), units=units)
    one = network[1]
    alone = prune(pruning, one.state(), full_masks(one), [draws(3)[1]], units=units)
    assert all(torch.equal(crowd[name][1:2], alone[name]) for name in crowd)
    assert not torch.equal(crowd["layers.2.weight"][0], crowd["layers.2.weight"][1])


def test_what_a_criterion_needs_is_asked_for():
    network = uneven("lenet-8-6")
    state, masks = network.state(), full_masks(network)
    with pytest.raises(ValueError, match=r"units must be those of a network .*, not none"):
        prune(Pruning("structured"), state, masks, [])
    with pytest.raises(ValueError, match=r"gamma needs batch normalisation after layers"):
        prune(Pruning("structured", "gamma"), state, masks, [], units=network.units())
    with pytest.raises(ValueError, match="curvature must be given for the criterion obd, not None"):
        prune(Pruning(criterion="obd"), state, masks, [])


# ------------------------------------------------------------------------ optimal brain damage


def test_the_saliency_of_optimal_brain_damage_is_half_the_curvature_times_the_square():
    network = lenet()
    state, masks = network.state(), full_masks(network)
    curved = {n: torch.rand(m.shape, generator=generator(2, n)) for n, m in masks.items()}
    found = prune(Pruning(criterion="obd", rate=0.4), state, masks, [], curvature=curved)
    for name, mask in masks.items():
        saliency = curved[name].double() * state[name].double().square() / 2
        assert torch.equal(found[name], remove_lowest(saliency, mask, 0.4))
        by_magnitude = remove_lowest(state[name].abs(), mask, 0.4)
        assert not torch.equal(found[name], by_magnitude)


def exact_curvature(network, data) -> dict[str, torch.Tensor]:
    """The diagonal of the Gauss-Newton matrix of a single network's mean loss, from the Jacobian of
    its logits: the sum over classes a, b of J_a (p_a [a = b] - p_a p_b) J_b, in the mean.
    """
    weights = network.prunable()
    total = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    for image in data.normalise(data.train.images):
        logits = network(image[None, None])[0, 0]
        chances = logits.detach().softmax(0)
        hessian = chances.diag() - torch.outer(chances, chances)
        rows = [torch.autograd.grad(z, list(weights.values()), retain_graph=True) for z in logits]
        for name, *column in zip(weights, *rows, strict=True):
            j = torch.stack(column)
            total[name] += torch.einsum("a...,ab,b...->...", j, hessian, j) / len(data.train)
    return total


def test_the_curvature_is_the_diagonal_of_the_gauss_newton_matrix():
    data = random_data((1, 2, 2), sizes=(7, 5, 5))
    network = build("lenet-3", (1, 2, 2), 3, 2).initialise(draws(2))
    found = curvature(network, data, draws(2, "curvature"), batches=1_000)
    for replica in range(2):
        for name, expected in exact_curvature(network[replica], data).items():
            own = found[name][replica]
            assert (own >= 0).all()
            # A chi-square with one degree of freedom per batch: within five standard errors.
            torch.testing.assert_close(own, expected[0], rtol=5 * (2 / 1_000) ** 0.5, atol=1e-7)


def test_the_curvature_of_a_replica_depends_on_its_own_weights_and_generator_alone():
    data = random_data(SHAPES["resnet-8-w2"])
    network = uneven("resnet-8-w2", 2)
    before = network.state()
    crowd = curvature(network, data, draws(2), batches=3)
    alone = curvature(network[1], data, [draws(2)[1]], batches=3)
    for name, own in crowd.items():
        assert own.shape == before[name].shape and (own >= 0).all() and own.any()
        torch.testing.assert_close(own[1:], alone[name], rtol=1e-3, atol=1e-6)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state().items())


# What a plan says before anything is trained is what pruning does.


@pytest.mark.parametrize("name", ["lenet-30-20", "conv-2", "resnet-8-w4", "vgg-small"])
@pytest.mark.parametrize(
    "pruning",
    [
        Pruning(rate=0.3, conv_rate=0.1, output_rate=0.15),
        Pruning(rate=0.99),
        Pruning(scope="global", rate=0.4),
        Pruning(scope="global", rate=0.8, output_rate=0.0),
        Pruning("structured", rate=0.4),
        Pruning("structured", rate=0.97),
    ],
    ids=str,
)
def test_densities_told_beforehand_are_those_of_pruning(name: str, pruning: Pruning):
    network = build(name, (3, 16, 16), 10).initialise([generator(0)])
    masks = full_masks(network)
    told = densities(pruning, outline(name, (3, 16, 16), 10), rounds=3)
    assert told is not None and told[0] == 1
    for expected in told[1:]:
        masks = prune(pruning, network.state(), masks, [], units=network.units())
        assert density(masks).item() == pytest.approx(expected, abs=1e-6)


def test_densities_of_units_that_are_ranked_together_are_not_told():
    pruning = Pruning("structured", scope="global", rate=0.4)
    assert densities(pruning, outline("lenet-300-100"), rounds=3) is None


def test_what_a_round_removes_is_rounded_and_leaves_the_least():
    assert [removed(10, rate) for rate in (0.04, 0.05, 0.06, 0.5)] == [0, 0, 1, 5]
    assert removed(10, 0.99, least=1) == 9 and removed(1, 0.9, least=1) == 0
