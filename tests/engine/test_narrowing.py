"""A narrow network is the masked one, without the work."""

import math

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from labkit import (
    Pruning,
    Recipe,
    apply_masks,
    build,
    flops,
    full_masks,
    generator,
    prune,
    shuffle_layers,
    train,
)
from labkit.engine.layers import BatchNorm
from labkit.engine.narrowing import keep_units, narrow, narrow_state, surviving_units, widen_state
from labkit.engine.networks import Masks, Population
from labkit.engine.pruning import survivors
from tests.synthetic import DATA, SHAPES

NORMALISED = ("vgg-small", "resnet-8-w2")
HALF = Pruning("structured", "random", rate=0.5)


def population(name: str, replicas: int = 2) -> Population:
    """Networks whose biases, gammas, betas and statistics are all different numbers."""
    network = build(name, SHAPES[name], 3, replicas).double()
    network.initialise(generator(seed, "initialisation") for seed in range(replicas))
    noise = generator(9, "noise")
    for tensor in [*network.parameters(), *network.buffers()]:
        if tensor.ndim == 2:
            tensor.data += 0.3 * torch.rand(tensor.shape, generator=noise)
    return network


def pruned(network: Population, pruning: Pruning = HALF, seed: int = 0) -> Masks:
    chance = [generator(seed, "pruning", replica) for replica in range(network.replicas)]
    state, units = network.state(), network.units()
    return prune(pruning, state, full_masks(network), chance, units=units)


def images(name: str, replicas: int = 2) -> Tensor:
    return torch.randn(replicas, 6, *SHAPES[name], generator=generator(1, "images")).double()


# --------------------------------------------------------------- the same outputs and gradients


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("name", SHAPES)
def test_a_narrow_network_has_the_outputs_and_gradients_of_the_masked_one(name, training):
    network = population(name).train(training)
    masks = pruned(network)
    masked = network.with_state(apply_masks(network.state(), masks))
    small = narrow(network, masks)
    assert small.training == training
    weights = torch.randn(2, 6, 3, generator=generator(2, "weights")).double()
    logits = [candidate(images(name)) for candidate in (masked, small)]
    torch.testing.assert_close(*logits)
    for output in logits:
        (output * weights).sum().backward()
    gradients = {n: p.grad for n, p in masked.named_parameters() if p.grad is not None}
    for key, gradient in narrow_state(gradients, masks, network.units()).items():
        torch.testing.assert_close(dict(small.named_parameters())[key].grad, gradient)
    after = narrow_state(masked.state(), masks, network.units())
    for key, tensor in small.state().items():  # statistics have moved in training
        torch.testing.assert_close(tensor, after[key])


@pytest.mark.parametrize("name", SHAPES)
def test_trained_it_stays_the_masked_network(name):
    """With momentum and weight decay too, whatever becomes of the betas of pruned units."""
    recipe = Recipe("sgd", 0.05, momentum=0.9, weight_decay=1e-2, batch_size=8, iterations=3)
    network = population(name).float()
    masks, seeds = pruned(network), [3, 4]
    small, masked = narrow(network, masks), network.with_state(network.state())
    for _ in train(masked, recipe, DATA[name], seeds, masks=masks):
        pass
    for _ in train(small, recipe, DATA[name], seeds):
        pass
    expected = narrow_state(masked.state(), masks, network.units())
    for key, tensor in small.state().items():
        torch.testing.assert_close(tensor, expected[key], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "criterion"),
    [*((name, "magnitude") for name in SHAPES), *((name, "gamma") for name in NORMALISED)],
)
@pytest.mark.parametrize("scope", ["layerwise", "global"])
def test_to_prune_units_that_do_nothing_changes_no_output(name, criterion, scope):
    network = population(name).eval()
    units = network.units()
    idle = {layer: ~kept for layer, kept in surviving_units(pruned(network), units).items()}
    layers = dict(network.named_modules())
    with torch.no_grad():
        for unit in units:
            layer, norm = layers[unit.layer], unit.norm and layers[unit.norm]
            own = [layer.weight, layer.bias] if criterion == "magnitude" else []
            own += [norm.weight, norm.bias, norm.mean] if norm else []
            for tensor in own:
                if tensor is not None:
                    tensor[idle[unit.layer].repeat_interleave(unit.size, 1)] = 0
    share = sum(i[0].sum().item() for i in idle.values()) / sum(i.shape[1] for i in idle.values())
    rate = 0.5 if scope == "layerwise" else share
    masks = pruned(network, Pruning("structured", criterion, scope, rate))
    found = surviving_units(masks, units)
    assert all(torch.equal(found[layer], ~idle[layer]) for layer in idle)
    small = narrow(network, masks)
    assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in network.parameters())
    torch.testing.assert_close(small(images(name)), network(images(name)))


@pytest.mark.parametrize("name", NORMALISED)
def test_the_beta_of_a_removed_channel_does_not_leak(name):
    network = population(name).eval()
    masks, units = pruned(network), network.units()
    expected = narrow(network, masks)(images(name))
    layers, kept = dict(network.named_modules()), surviving_units(masks, units)
    with torch.no_grad():
        for unit in units:
            layers[unit.norm].bias[~kept[unit.layer]] = 1e3
    torch.testing.assert_close(narrow(network, masks)(images(name)), expected)
    masked = network.with_state(apply_masks(network.state(), masks))
    torch.testing.assert_close(masked(images(name)), expected)


def test_a_narrow_replica_alone_is_the_replica_in_a_crowd():
    recipe = Recipe("sgd", 0.05, batch_size=8, iterations=4, augmentation="flip-crop")
    network = population("resnet-8-w2", 3).float()
    masks, seeds = pruned(network), [7, 7, 2]
    crowd = narrow(network, masks)
    for _ in train(crowd, recipe, DATA["resnet-8-w2"], seeds):
        pass
    for i, seed in enumerate(seeds):
        alone = narrow(network[i], {name: mask[[i]] for name, mask in masks.items()})
        for _ in train(alone, recipe, DATA["resnet-8-w2"], [seed]):
            pass
        for key, tensor in alone.state().items():
            torch.testing.assert_close(tensor[0], crowd.state()[key][i], rtol=1e-4, atol=1e-5)


# ------------------------------------------------------------------------------- what is left


rates = st.floats(0.01, 0.99)


@settings(deadline=None, max_examples=30)
@given(
    name=st.sampled_from(["lenet-8-6", "conv-2", "resnet-8-w2", "vit-2-4"]),
    criterion=st.sampled_from(["magnitude", "random"]),
    scope=st.sampled_from(["layerwise", "global"]),
    rate=rates,
    flat=st.booleans(),
)
def test_every_layer_keeps_a_unit_and_pruned_units_never_come_back(
    name, criterion, scope, rate, flat
):
    network = build(name, SHAPES[name], 3, 2).initialise([generator(s, "a") for s in (0, 1)])
    if flat:  # nothing but ties
        network = network.with_state({n: torch.ones_like(t) for n, t in network.state().items()})
    units, masks = network.units(), full_masks(network)
    for _ in range(4):
        before = surviving_units(masks, units)
        pruning = Pruning("structured", criterion, scope, rate)
        chance = [generator(seed, "pruning") for seed in (0, 1)]
        masks = prune(pruning, network.state(), masks, chance, units=units)
        after = surviving_units(masks, units)
        assert all(alive.any(1).all() for alive in after.values())
        assert all(not (after[layer] & ~before[layer]).any() for layer in after)
        counts = [torch.stack([a.sum(1) for a in some.values()], 1) for some in (before, after)]
        for had, has in zip(*(count.tolist() for count in counts), strict=True):
            if scope == "global":
                had, has = [sum(had)], [sum(has)]
            least = len(units) if scope == "global" else 1
            removed = [min(round(rate * n), n - least) for n in had]
            assert has == [n - gone for n, gone in zip(had, removed, strict=True)]


@settings(deadline=None, max_examples=20)
@given(name=st.sampled_from(["lenet-8-6", "conv-2", "resnet-8-w2", "vit-2-4"]), rate=rates)
def test_to_widen_undoes_to_narrow(name, rate):
    network = population(name)
    masks, units = pruned(network, Pruning("structured", "random", rate=rate)), network.units()
    small = narrow_state(network.state(), masks, units)
    wide = widen_state(small, masks, units)
    again = narrow_state(wide, masks, units)
    for key, tensor in network.state().items():
        assert wide[key].shape == tensor.shape
        assert torch.equal(again[key], small[key]), "nothing that survives is lost"
        changed = wide[key] != tensor
        assert not wide[key][changed].any(), "what does not survive is zero"
        if key in masks:
            assert torch.equal(wide[key], tensor * masks[key])


def test_each_tensor_keeps_its_surviving_rows_and_columns_in_order():
    network = population("conv-2", 1)
    masks, units = pruned(network), network.units()
    alive = {n: a[0].nonzero().flatten().tolist() for n, a in surviving_units(masks, units).items()}
    state = {name: tensor[0] for name, tensor in network.state().items()}
    small = {name: tensor[0] for name, tensor in narrow(network, masks).state().items()}
    first, second, third = "layers.0", "layers.2", "layers.6"
    assert len(alive[first]) == 32 and len(alive[third]) == 128
    for row, i in enumerate(alive[second]):
        assert small[f"{second}.bias"][row] == state[f"{second}.bias"][i]
        for column, j in enumerate(alive[first]):
            kernel = small[f"{second}.weight"][row, column]
            assert torch.equal(kernel, state[f"{second}.weight"][i, j])
    for row, i in enumerate(alive[third]):
        image = state[f"{third}.weight"][i].view(64, 2, 2)  # filters x pixels
        assert torch.equal(small[f"{third}.weight"][row].view(32, 2, 2), image[alive[second]])


@pytest.mark.parametrize("name", NORMALISED)
def test_batch_norm_keeps_the_parameters_and_statistics_of_its_channels(name):
    network = population(name)
    masks, units = pruned(network), network.units()
    small = narrow(network, masks).state()
    for unit in units:
        for replica, alive in enumerate(surviving_units(masks, units)[unit.layer]):
            for part in ("weight", "bias", "mean", "variance"):
                key = f"{unit.norm}.{part}"
                assert torch.equal(small[key][replica], network.state()[key][replica][alive])


def test_residual_blocks_keep_their_outer_widths():
    network = population("resnet-8-w2")
    assert {unit.layer.split(".")[-1] for unit in network.units()} == {"conv1"}
    before, after = network.state(), narrow(network, pruned(network)).state()
    for key, tensor in before.items():
        inside = "conv1" in key or "norm1" in key
        assert (after[key].shape[1] < tensor.shape[1]) == inside, key
        if "conv2.weight" in key:
            assert after[key].shape[2] == tensor.shape[2] // 2
        elif tensor.ndim > 2:
            assert after[key].shape[2] == tensor.shape[2]


@pytest.mark.parametrize("name", SHAPES)
def test_what_is_removable_is_what_one_layer_writes_and_the_next_reads(name):
    network = population(name)
    layers = dict(network.named_modules())
    for unit in network.units():
        outputs = layers[unit.layer].weight.shape[1] // unit.size
        assert layers[unit.reader].weight.shape[2] % outputs == 0
        assert (unit.norm is not None) == (name in NORMALISED)
        if unit.norm is not None:
            assert isinstance(layers[unit.norm], BatchNorm)
            assert layers[unit.norm].weight.shape[1] == outputs


@pytest.mark.parametrize("name", SHAPES)
def test_weights_and_arithmetic_are_those_that_torch_counts_in_the_narrow_network(name):
    network = population(name, 1).float()
    masks = pruned(network)
    small = narrow(network, masks)
    assert survivors(masks).item() == sum(weight.numel() for weight in small.prunable().values())
    counter = FlopCounterMode(display=False)
    # Attention as products, which every version counts.
    with counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        small.eval()(images(name, 1)[:, :1].float())
    counted = counter.get_total_flops()
    assert flops(small, SHAPES[name], masks).item() == counted
    assert flops(network, SHAPES[name], masks).item() == counted, "masked, it is counted the same"


def test_a_head_goes_as_a_whole_with_its_queries_keys_values_and_what_reads_them():
    network = population("vit-2-4")
    masks, units = full_masks(network), network.units()
    attention = units[0]
    assert (attention.layer, attention.reader) == ("layers.3.qkv", "layers.3.out")
    assert list(network.widths().values()) == [4, 96, 4, 96]
    alive = surviving_units(masks, units)
    alive[attention.layer] = torch.tensor([[True, False, True, True]] * 2)  # head 1 goes
    kept = keep_units(masks, units, alive)
    rows, columns = kept["layers.3.qkv.weight"][0].any(1), kept["layers.3.out.weight"][0].any(0)
    assert (~rows).nonzero().flatten().tolist() == list(range(24, 48)), "its q, k and v rows"
    assert (~columns).nonzero().flatten().tolist() == list(range(8, 16)), "its columns of out"
    small = narrow(network, kept)
    assert [t.shape[1] for n, t in small.state().items() if "layers.3.qkv" in n] == [72, 72]
    assert torch.equal(small.state()["layers.3.out.bias"], network.state()["layers.3.out.bias"])
    every_head = Pruning("structured", rate=0.99, scope="global")
    last = surviving_units(pruned(network, every_head), units)
    assert all(layer.any(1).all() for layer in last.values()), "one of each layer stays"
    only_heads = Pruning("structured", layer_rates=(0.75, 0, 0.75, 0))
    assert list(narrow(network, pruned(network, only_heads)).widths().values()) == [1, 96, 1, 96]


def test_replicas_of_different_widths_cannot_be_side_by_side():
    network = population("lenet-8-6")
    masks, units = full_masks(network), network.units()
    alive = surviving_units(masks, units)
    alive[units[0].layer] = torch.tensor([[True] * 8, [True] * 5 + [False] * 3])
    masks = keep_units(masks, units, alive)
    with pytest.raises(ValueError, match=r"replicas must keep equally many.*\[8, 5\].*layers\.0"):
        narrow(network, masks)
    assert narrow(network[1], {n: m[1:] for n, m in masks.items()}).layers[0].weight.shape[1] == 5


def test_fresh_weights_of_a_narrow_network_are_drawn_for_its_own_fan_in():
    wide = build("lenet-300-100", (1, 28, 28), 10)
    thin = narrow(wide, prune(HALF, wide.state(), full_masks(wide), [generator(0, "a")],
                              units=wide.units()))  # fmt: skip
    thin.initialise([generator(0, "b")])
    weights = list(thin.prunable().values())
    assert [tuple(w.shape[1:]) for w in weights] == [(150, 784), (50, 150), (10, 50)]
    for weight in weights:  # Glorot's variance
        expected = math.sqrt(2 / sum(weight.shape[1:]))
        assert weight.std().item() == pytest.approx(expected, rel=0.1)
    vgg = build("vgg-small", SHAPES["vgg-small"], 3)
    thin = narrow(vgg, pruned(vgg)).initialise([generator(0, "b")])
    last = list(thin.prunable().values())[-2]
    assert last.shape == (1, 64, 64, 3, 3)
    assert last.std().item() == pytest.approx(math.sqrt(2 / (64 * 9)), rel=0.05), "He's variance"


def test_shuffled_units_keep_the_widths_and_nothing_else():
    network = population("vgg-small")
    masks, units = pruned(network), network.units()
    shuffled = shuffle_layers(masks, [generator(s, "shuffle") for s in (0, 1)], units=units)
    before, after = (surviving_units(some, units) for some in (masks, shuffled))
    for layer, alive in before.items():
        assert torch.equal(alive.sum(1), after[layer].sum(1))
        assert not torch.equal(alive, after[layer])
    assert torch.equal(survivors(masks), survivors(shuffled))
    narrow(network, shuffled)(images("vgg-small"))
