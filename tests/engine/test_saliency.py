"""Scores are what their papers define, whatever the network, and each replica has its own."""

import math

import pytest
import torch
from torch.nn import functional as F

from labkit import Pruning, apply_masks, build, density, full_masks, generator, prune
from labkit.engine.networks import Population, State
from labkit.engine.pruning import survivors
from labkit.engine.saliency import (
    PER_CLASS,
    TEMPERATURE,
    balanced,
    gates,
    grasp,
    same_sign,
    scores_of,
    snip,
    synflow,
)
from tests.synthetic import DATA, SHAPES


def draws(replicas: int = 2) -> list[torch.Generator]:
    return [generator(seed, "test") for seed in range(replicas)]


def network(name: str = "lenet-8-6", replicas: int = 2) -> Population:
    return build(name, SHAPES[name], 3, replicas).initialise(draws(replicas)).double()


def batch(name: str = "lenet-8-6", replicas: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = balanced(DATA[name], draws(replicas))
    return images.double(), labels


def gradient(own: Population, images: torch.Tensor, labels: torch.Tensor) -> State:
    """Of the mean loss of a single network, logits at GraSP's temperature."""
    logits = own.train()(images)[0] / TEMPERATURE
    weights = own.prunable()
    found = torch.autograd.grad(F.cross_entropy(logits, labels[0]), list(weights.values()))
    return dict(zip(weights, found, strict=True))


def length(gradients: State) -> float:
    return math.sqrt(sum((g**2).sum().item() for g in gradients.values()))


def moved(own: Population, direction: State, step: float) -> Population:
    state = own.state()
    return own.with_state(state | {n: state[n] + step * d for n, d in direction.items()})


@pytest.mark.parametrize("name", ["lenet-8-6", "resnet-8-w2", "vit-2-4"])
def test_snip_is_what_the_loss_changes_by_without_a_weight_to_first_order(name):
    populated, (images, labels) = network(name), batch(name)
    found = snip(populated, images, labels)
    for replica in range(2):
        alone, own = populated[replica].train(), images[[replica]]
        weights = alone.prunable()
        loss = F.cross_entropy(alone(own)[0], labels[replica])
        gradients = torch.autograd.grad(loss, list(weights.values()))
        for (layer, weight), g in zip(weights.items(), gradients, strict=True):
            torch.testing.assert_close(found[layer][replica], (weight * g)[0].abs())
    assert all((score >= 0).all() for score in found.values()), "what lowers the loss matters too"


def test_grasp_is_the_weight_times_the_hessian_times_the_gradient():
    populated, (images, labels) = network(), batch()
    found = grasp(populated, images, labels)
    for replica in range(2):
        own, sample = populated[replica], (images[[replica]], labels[[replica]])
        g = gradient(own, *sample)
        ahead, behind = (gradient(moved(own, g, step), *sample) for step in (1e-3, -1e-3))
        for layer, weight in own.prunable().items():
            product = (ahead[layer] - behind[layer]) / 2e-3  # the Hessian's, along the gradient
            torch.testing.assert_close(
                found[layer][[replica]], weight * product, rtol=1e-4, atol=1e-12
            )


def test_without_what_grasp_removes_the_gradient_is_longer_than_without_the_other_end():
    populated, sample = network(replicas=1), batch(replicas=1)
    scores, full = grasp(populated, *sample), full_masks(populated)
    few = Pruning(criterion="grasp", scope="global", rate=0.1)

    def length_without(ranked: State) -> float:
        masks = prune(few, {}, full, [], scores=ranked)
        return length(
            gradient(populated.with_state(apply_masks(populated.state(), masks)), *sample)
        )

    before = length(gradient(populated, *sample))
    wrong_end = {name: -score for name, score in scores.items()}
    assert length_without(scores) > before > length_without(wrong_end)


def test_every_class_has_as_many_images_and_every_replica_its_own():
    images, labels = balanced(DATA["lenet-8-6"], draws())
    assert images.shape[:2] == labels.shape == (2, 3 * PER_CLASS)
    for row in labels:
        assert torch.bincount(row).tolist() == [PER_CLASS] * 3
    assert not torch.equal(images[0], images[1])
    again, _ = balanced(DATA["lenet-8-6"], draws()[1:])
    assert torch.equal(again[0], images[1])


# ---------------------------------------------------------------------------------- SynFlow


def flow(own: Population, rate: float = 0.5) -> dict:
    shape = SHAPES.get(own.name, (1, 8, 8))
    return synflow(own, full_masks(own), shape, Pruning("unstructured", "synflow", "global", rate))


@pytest.mark.parametrize("name", ["lenet-8-6", "conv-2", "resnet-8-w2"])
def test_synflow_leaves_exactly_the_density_that_was_asked_for(name):
    own = network(name)
    found = flow(own, rate=0.83)
    total = sum(mask[0].numel() for mask in full_masks(own).values())
    left = torch.stack([score.flatten(1).sum(1) for score in found.values()]).sum(0)
    assert left.tolist() == [total - round(0.83 * total)] * 2
    pruning = Pruning("unstructured", "synflow", "global", 0.83)
    masks = prune(pruning, own.state(), full_masks(own), [], scores=found)
    assert all(torch.equal(masks[name], score.bool()) for name, score in found.items())


def test_synflow_needs_neither_data_nor_signs_and_leaves_the_network_alone():
    own = network()
    before = own.state()
    found = flow(own)
    signs = {n: t * torch.where(torch.rand_like(t) < 0.5, -1, 1) for n, t in before.items()}
    other = flow(own.with_state(signs))
    assert all(torch.equal(found[name], other[name]) for name in found)
    assert all(torch.equal(t, before[name]) for name, t in own.state().items())


def test_synflow_keeps_a_path_at_densities_at_which_first_magnitudes_empty_a_layer():
    own = build("vgg-small", SHAPES["vgg-small"], 3).initialise(draws(1))
    sparse = Pruning("unstructured", "magnitude", "global", 0.998)
    by_size = prune(sparse, own.state(), full_masks(own), [])
    assert not all(mask.any() for mask in by_size.values()), "global magnitude ranks by fan-in"
    found = flow(own, 0.998)
    assert sum(int(score.sum()) for score in found.values()) == survivors(by_size).item()
    assert all(score.any() for score in found.values())


def test_the_flow_of_a_deep_network_is_more_than_float32_can_hold():
    deep = build("lenet" + "-20" * 12, (1, 8, 8), 3).initialise(draws(1))
    strong = deep.with_state({name: 1e3 * t for name, t in deep.state().items()})
    state = {name: t.abs() for name, t in strong.state().items()}
    assert strong.with_state(state)(torch.ones(1, 1, 1, 8, 8)).isinf().any()
    weak, found = flow(deep), flow(strong)
    assert all(torch.equal(found[name], weak[name]) for name in weak), "the scale is all the same"


def test_synflow_of_a_transformer_is_refused():
    with pytest.raises(ValueError, match="network without layer normalisation, not vit-2-4"):
        flow(network("vit-2-4"))


# ------------------------------------------------------------------------------- gates, signs


@pytest.mark.parametrize("name", ["vit-2-4", "lenet-8-6", "conv-2", "resnet-8-w2"])
def test_a_gate_is_felt_as_the_weights_that_read_the_unit_are(name):
    """To scale a head is to scale the columns that read it, which have gradients of their own."""
    own, data = network(name, 1).eval(), DATA[name]
    found = gates(own.float(), data, [generator(4, "images")], batches=1)
    own.double()
    index = torch.randint(len(data.train), (100,), generator=generator(4, "images"))
    layers, chosen = dict(own.named_modules()), data.train[index]
    felt = {layer: torch.zeros(width).double() for layer, width in own.widths().items()}
    for image, label in zip(data.normalise(chosen.images).double(), chosen.labels, strict=True):
        loss = F.cross_entropy(own(image[None, None])[0], label[None])
        weights = [layers[unit.reader].weight for unit in own.units()]
        gradients = torch.autograd.grad(loss, weights)
        for unit, weight, g in zip(own.units(), weights, gradients, strict=True):
            product = (weight * g)[0].flatten(2).sum(2) if g.ndim == 5 else (weight * g)[0]
            by_unit = product.sum(0).view(len(felt[unit.layer]), -1).sum(1)
            felt[unit.layer] += by_unit.detach().abs()
    for layer, expected in felt.items():
        expected = F.normalize(expected, dim=0)
        torch.testing.assert_close(found[layer][0].double(), expected, rtol=1e-4, atol=1e-5)


def test_heads_that_do_nothing_go_first_and_one_of_each_layer_stays():
    own = build("vit-2-4", SHAPES["vit-2-4"], 3).initialise(draws(1))
    out = dict(own.named_modules())["layers.3.out"].weight
    with torch.no_grad():
        out[:, :, 8:24] = 0  # nobody reads heads 1 and 2
    scores = gates(own, DATA["vit-2-4"], draws(1))
    assert (scores["layers.3.qkv"] > 0).tolist() == [[True, False, False, True]]
    pruning = Pruning("structured", "gate", layer_rates=(0.5, 0, 0.75, 0))
    masks = prune(pruning, own.state(), full_masks(own), [], units=own.units(), scores=scores)
    left = {n: m[0].any(1).view(4, 24).any(1) for n, m in masks.items() if "qkv" in n}
    assert left["layers.3.qkv.weight"].tolist() == [True, False, False, True]
    assert left["layers.5.qkv.weight"].sum() == 1


def test_what_has_changed_its_sign_goes_before_what_is_small():
    own = network(replicas=1)
    first = own.state()
    name = "layers.0.weight"
    now = first[name] * 2
    now[0, 0, 0], now[0, 0, 1] = -5 * first[name][0, 0, 0], 0.001 * first[name][0, 0, 1]
    scores = same_sign(own.with_state(first | {name: now}), first)
    order = scores[name].flatten().argsort()[:2].tolist()
    assert order == [0, 1] and scores[name][0, 0, 0] < 0


@pytest.mark.parametrize("criterion", ["snip", "grasp", "synflow", "same-sign"])
def test_a_replica_is_scored_as_if_it_were_alone(criterion):
    crowd, data = network().float(), DATA["lenet-8-6"]
    pruning = Pruning("unstructured", criterion, "global", 0.6)
    for replica in range(2):
        alone = crowd[replica]
        both = (scores_of(pruning, own, full_masks(own), data, drawn, own.state())
                for own, drawn in ((crowd, draws()), (alone, [draws()[replica]])))  # fmt: skip
        together, single = both
        for name, score in single.items():
            torch.testing.assert_close(together[name][[replica]], score)
        masks = prune(pruning, alone.state(), full_masks(alone), [], scores=single)
        assert density(masks).item() == pytest.approx(0.4, abs=0.01)


def test_scores_that_are_needed_and_missing_are_an_error():
    own = network("vit-2-4")
    for pruning in (Pruning(criterion="snip"), Pruning("structured", "gate")):
        with pytest.raises(ValueError, match="scores must be given for the criterion"):
            prune(pruning, own.state(), full_masks(own), [], units=own.units())
    assert scores_of(Pruning(), own, full_masks(own), DATA["vit-2-4"], draws(), {}) is None


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (("structured", "gamma", "global", 0.5, None, None, (), 0), "at least 1, or None.*ties"),
        (("unstructured", "synflow"), "scope must be global with synflow"),
        (("structured", "snip"), "structured pruning must be one of magnitude, gamma"),
        (("unstructured", "gate"), "unstructured pruning must be one of magnitude, obd"),
        (("unstructured", "snip", "global", 0.5, None, None, (), -1), "at must be a whole number"),
    ],
)
def test_what_makes_no_sense_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        Pruning(*values)
