"""When the mask is drawn, what is done between rounds, and what survivors keep of their weights."""

from dataclasses import replace

import pytest
import torch

from labkit import (
    TREATMENTS,
    Experiment,
    Pruning,
    Recipe,
    Task,
    Treatment,
    apply_masks,
    evaluate_on,
    full_masks,
    generator,
    prune,
    tables,
    train,
)
from labkit.base.store import Store
from labkit.engine.networks import build
from labkit.engine.saliency import scores_of
from labkit.experiments.experiment import Trial, all_trials
from labkit.experiments.running import Finished, run
from labkit.experiments.scheduling import missing
from labkit.experiments.treatments import CHAINS, REWIND, VARIED
from labkit.experiments.words import as_python, with_settings
from tests.synthetic import DATA, SGD, SHAPES, assert_equal, assert_same, dense_at, finish, initial

pytestmark = pytest.mark.usefixtures("synthetic_data")

LENET = Experiment(
    task=Task(network="lenet-8-6", recipe=SGD),
    pruning=Pruning(scope="global", rate=0.4),
    rounds=3,
    rewind=3,
    seeds=(0, 1),
    evaluate_every=5,
)
FINE_TUNED = replace(LENET, chain="fine-tune", treatments=("rewind", "reinitialise"))
EARLY = replace(
    LENET,
    pruning=Pruning(scope="global", rate=0.4, at=3),
    optimizer_state="restored",
    treatments=("shuffled-mask", "reinitialise", "fine-tune"),
    rounds=2,
)
AT_FIRST = replace(LENET, pruning=Pruning("unstructured", "snip", "global", 0.4, at=0), rewind=0)
CHANNELS = replace(
    LENET,
    task=Task(network="resnet-8-w2", recipe=replace(SGD, iterations=4, slimming=0.01)),
    pruning=Pruning("structured", "gamma", "global", rate=0.4, at=2),
    rewind=2,
    rounds=1,
    treatments=("shuffled-mask", "reinitialise"),
)
HEADS = replace(
    LENET,
    task=Task(network="vit-2-4", recipe=replace(SGD, learning_rate=0.02, iterations=4)),
    pruning=Pruning("structured", "gate", layer_rates=(0.5, 0, 0.5, 0)),
    rewind=0,
    rounds=1,
    treatments=("fine-tune", "reinitialise", "shuffled-mask"),
)
ZHOU = replace(
    LENET,
    rounds=1,
    rewind=0,
    treatments=(*VARIED, "frozen", "untrained", "untrained-signs", "pruned"),
    draws=2,
)
ALL = {"fine-tuned": FINE_TUNED, "early": EARLY, "snip": AT_FIRST, "channels": CHANNELS,
       "heads": HEADS, "zhou": ZHOU}  # fmt: skip


def one(tensors: dict, i: int = 0) -> dict:
    return {name: tensor[i] for name, tensor in tensors.items()}


def beside(tensors: dict) -> dict:
    return {name: tensor[None] for name, tensor in tensors.items()}


@pytest.mark.parametrize("experiment", ALL.values(), ids=ALL)
def test_killed_and_resumed_it_gives_the_same_numbers_and_every_result_is_proved(
    experiment, store, tmp_path
):
    expected = finish(experiment, Store(tmp_path / "whole", shipped=False))
    for _ in range(4):
        stopped = run(experiment, store)
        for event in stopped:
            if isinstance(event, Finished):
                break
        stopped.close()
    assert_same(finish(experiment, store), expected)
    assert not missing(experiment, store), "what is stored is the answer to its own key"


@pytest.mark.parametrize("experiment", ALL.values(), ids=ALL)
def test_it_can_be_told_as_python(experiment):
    made: dict = {}
    exec(as_python(experiment), made)
    assert made["experiment"] == experiment


# ------------------------------------------------------------------------------ between rounds


def test_a_chain_that_fine_tunes_trains_on_with_the_weights_it_has(store, follow):
    """The article's iterative pruning: train, prune, fine-tune, repeat (Han et al. 2015)."""
    for trial, start in follow(FINE_TUNED, store).items():
        if trial.round == 0:
            continue
        assert trial.parent.label == ("fine-tune" if trial.round > 1 else "dense")
        before = store.get_tensors(trial.parent.key)
        expected = prune(FINE_TUNED.pruning, before["final"], before["masks"], [])
        assert_equal(start.masks, one(expected))
        if trial.label == "fine-tune":
            assert_equal(start.state, apply_masks(one(before["final"]), start.masks))
            assert {start.recipe.rate(t) for t in range(10)} == {SGD.rate(9)}
        if trial.label == "rewind":  # once, after training through all rounds
            at_k = dense_at(FINE_TUNED, 3)[trial.seed][0]
            assert_equal(start.state, apply_masks(at_k, start.masks))


@pytest.mark.parametrize("chain", CHAINS)
def test_every_chain_runs_with_its_own_name_in_the_tables(chain, store):
    experiment = replace(LENET, chain=chain, seeds=(0,), rounds=2)
    tickets = finish(experiment, store).tickets
    assert tickets["treatment"].tolist() == ["dense", chain, chain]
    assert set(tickets["between"]) == {chain} and set(tickets["at"]) == {"end"}


def test_the_learning_rate_is_rewound_in_every_round_of_its_chain(store, follow):
    experiment = replace(LENET, chain="learning-rate-rewind", seeds=(0,), rounds=2)
    for trial, start in follow(experiment, store).items():
        if trial.round:
            final = one(store.get_tensors(trial.parent.key)["final"])
            assert_equal(start.state, apply_masks(final, start.masks))
            assert (start.iteration, start.recipe) == (3, SGD)


def test_another_chain_is_other_networks_from_the_same_dense_one():
    keys = [[Trial(replace(LENET, chain=chain), 0, n, REWIND).key for n in (0, 1, 2)]
            for chain in CHAINS]  # fmt: skip
    assert len({dense for dense, *_ in keys}) == 1
    assert len({key for _, *tickets in keys for key in tickets}) == 2 * len(CHAINS)


def test_the_treatment_of_a_chain_is_not_trained_twice():
    e = replace(LENET, chain="fine-tune", treatments=("fine-tune", "rewind"))
    assert [t.name for t in e.treatments] == ["rewind"]
    with pytest.raises(ValueError, match="none of them dense or fine-tune, not fine-tune"):
        replace(e, treatments=(Treatment("fine-tune", weights="fresh"),))


# -------------------------------------------------------------------- when the mask is drawn


def test_an_early_ticket_keeps_its_weights_and_its_place_in_the_training(store, follow):
    """EB Train goes on from the moment of drawing (You et al. 2020); their scripts forget to."""
    moment = dense_at(EARLY, 3)
    for trial, start in follow(EARLY, store).items():
        if trial.round == 0:
            continue
        weights, moments = moment[trial.seed]
        masks = full_masks(build("lenet-8-6", SHAPES["lenet-8-6"], 3))
        for _ in range(trial.round):  # all rounds rank the weights of that moment
            masks = prune(EARLY.pruning, apply_masks(beside(weights), masks), masks, [])
        if trial.label != "shuffled-mask":
            assert_equal(start.masks, one(masks))
        if trial.label == "rewind":
            assert_equal(start.state, apply_masks(weights, start.masks))
            assert start.iteration == 3
            for found, expected in zip(start.moments, moments, strict=True):
                assert_equal(found, expected)
            first = initial(EARLY, trial.seed)
            assert not torch.equal(start.state["layers.0.bias"], first["layers.0.bias"])
        if trial.label == "fine-tune":
            assert_equal(start.state, apply_masks(weights, start.masks))


def test_before_training_the_first_weights_decide_and_nothing_else_is_needed(store, follow):
    starts = follow(replace(AT_FIRST, rounds=2), store)
    for trial, start in starts.items():
        if trial.round == 0:
            continue
        assert not trial.needs and not trial.snapshots
        network = build("lenet-8-6", SHAPES["lenet-8-6"], 3)
        network.initialise([generator(trial.seed, "initialisation")])
        first, masks = network.state(), full_masks(network)
        for number in range(1, trial.round + 1):  # rounds score anew what is left
            now = network.with_state(apply_masks(first, masks))
            noise = [generator(trial.seed, "saliency", number)]
            scores = scores_of(AT_FIRST.pruning, now, masks, DATA["lenet-8-6"], noise, first)
            masks = prune(AT_FIRST.pruning, first, masks, [], scores=scores)
        assert_equal(start.masks, one(masks))
        assert_equal(start.state, apply_masks(one(first), start.masks))


def test_drawn_at_the_end_every_round_is_one_shot(store):
    ladder = replace(LENET, pruning=replace(LENET.pruning, at=10), rewind=0)
    finish(ladder, store)
    usual = replace(LENET, rewind=0, rounds=1)
    finish(usual, store)
    dense = store.get_tensors(Trial(ladder, 0, 0, REWIND).key)
    total = sum(mask.sum().item() for mask in dense["masks"].values())
    for number in (1, 2, 3):
        masks = store.get_tensors(Trial(ladder, 0, number, REWIND).key)["masks"]
        gone = 1 - sum(mask.sum().item() for mask in masks.values()) / total
        one_shot = replace(ladder.pruning, rate=gone)
        assert_equal(masks, prune(one_shot, dense["final"], dense["masks"], []))
    first = [store.get_tensors(Trial(e, 0, 1, REWIND).key)["masks"] for e in (ladder, usual)]
    assert_equal(*first)


def test_units_drawn_early_go_on_narrow_and_all_arms_have_the_penalty(store, follow):
    tickets = finish(CHANNELS, store).tickets
    assert set(tickets["at"]) == {"2"}
    for trial, start in follow(CHANNELS, store).items():
        assert start.recipe.slimming == 0.01, "nothing but the mask tells the arms apart"
        if trial.label in ("rewind", "shuffled-mask"):
            assert start.iteration == 2
    widths = {
        label: [one.tolist() if hasattr(one, "tolist") else one for one in arm["widths"]]
        for label, arm in tickets[tickets["round"] == 1].groupby("treatment")
    }
    assert widths["rewind"] == widths["shuffled-mask"] == widths["reinitialise"]


def test_heads_are_cut_out_and_trained_again(store):
    tickets = finish(HEADS, store).tickets
    dense, left = (tickets[tickets["round"] == n] for n in (0, 1))
    assert all(widths == [2, 96, 2, 96] for widths in left["widths"])
    assert (left["flops"].max() < dense["flops"].min()) and len(left) == 8
    assert set(tickets["family"]) == {"vit"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pruning": Pruning(at=11)}, "pruning.at must be None or at most 10"),
        ({"pruning": Pruning(at=3), "chain": "fine-tune"}, "chain must be rewind where pruning.at"),
        ({"chain": "prune"}, "chain must be one of rewind, fine-tune"),
        (
            {"task": Task(network="vit-2-4", recipe=SGD),
             "pruning": Pruning("unstructured", "synflow", "global")},
            "synflow needs a network without layer normalisation",
        ),
        (
            {"pruning": Pruning("structured"), "treatments": ("frozen",)},
            "must not have frozen with structured pruning",
        ),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_refused_in_words(change, message):
    with pytest.raises(ValueError, match=message):
        replace(LENET, **change)


def test_a_command_line_can_say_it_all():
    words = ["chain=fine-tune", "treatments=signs,frozen"]
    e = with_settings(LENET, words)
    assert e.chain == "fine-tune" and [t.name for t in e.treatments] == ["signs", "frozen"]
    early = with_settings(LENET, ["pruning.at=3", "pruning.criterion=snip"])
    assert (early.pruning.at, early.pruning.criterion) == (3, "snip")
    assert with_settings(early, ["pruning.at=none"]).pruning.at is None


# -------------------------------------------------------------- what survivors keep (Zhou et al.)


@pytest.fixture
def starts(store, follow) -> dict:
    return {(t.label, t.seed, t.draw): s for t, s in follow(ZHOU, store).items()}


def test_signs_keep_the_sign_and_one_magnitude_per_layer(starts):
    for seed in ZHOU.seeds:
        first = initial(ZHOU, seed)
        sizes = set()
        for name, mask in starts["signs", seed, 0].masks.items():
            kept = starts["signs", seed, 0].state[name]
            assert torch.equal(kept[mask].sign(), first[name][mask].sign())
            torch.testing.assert_close(kept[mask].abs(), first[name].std().expand(mask.sum()))
            assert not kept[~mask].any()
            other = starts["random-signs", seed, 0].state[name]
            assert torch.equal(other.abs(), kept.abs())
            agree = (other[mask].sign() == kept[mask].sign()).float().mean()
            assert agree < 0.9, "chance has them"
            sizes.add(round(float(kept.abs().max()), 5))
        assert len(sizes) == 3, "every layer its own"


def test_a_reshuffle_moves_the_values_of_a_layer_between_its_survivors(starts):
    for seed in ZHOU.seeds:
        for draw in (0, 1):
            ticket = apply_masks(initial(ZHOU, seed), starts["reshuffled", seed, draw].masks)
            for label in ("reshuffled", "reshuffled-signs"):
                found = starts[label, seed, draw]
                for name, mask in found.masks.items():
                    own, its = found.state[name][mask], ticket[name][mask]
                    if label == "reshuffled":
                        assert torch.equal(own.sort()[0], its.sort()[0])
                    else:
                        assert torch.equal(own.sign(), its.sign())
                        assert torch.equal(own.abs().sort()[0], its.abs().sort()[0])
                    assert not torch.equal(own, its), (
                        "a shuffle that shuffles nothing proves nothing"
                    )


def test_fresh_magnitudes_have_the_old_signs(starts):
    for seed in ZHOU.seeds:
        first = initial(ZHOU, seed)
        fresh = initial(ZHOU, seed, "re-initialisation", 1, 0)
        start = starts["fresh-signs", seed, 0]
        for name, mask in start.masks.items():
            expected = fresh[name].abs() * first[name].sign()
            assert torch.equal(start.state[name][mask], expected[mask])


def test_what_is_frozen_stays_at_its_first_value_and_the_rest_learns(store):
    treatment = replace(TREATMENTS["frozen"], name="frozen")
    experiment = replace(ZHOU, treatments=(treatment,), seeds=(0,))
    finals = {}
    for event in run(experiment, store):
        if isinstance(event, Finished):
            finals[event.trial.label] = event.trial
    network = build("lenet-8-6", SHAPES["lenet-8-6"], 3)
    network.initialise([generator(0, "initialisation")])
    first = network.state()
    masks = store.get_tensors(finals["rewind"].key)["masks"]
    for _ in train(network, SGD, DATA["lenet-8-6"], [0], masks=masks, frozen=True):
        pass
    for name, mask in masks.items():
        assert torch.equal(network.state()[name][~mask], first[name][~mask])
        assert (network.state()[name][mask] != first[name][mask]).any()
    data = DATA["lenet-8-6"]
    stored = store.get(finals["frozen"].key)["ticket"]
    accuracy = evaluate_on(network, data, data.test).accuracy.item()
    assert stored["final_test_accuracy"] == round(accuracy, 6)
    assert stored["density"] == store.get(finals["rewind"].key)["ticket"]["density"]


def test_a_supermask_is_evaluated_and_never_trained(store, follow):
    starts = {t: s for t, s in follow(ZHOU, store).items() if t.treatment.budget == "none"}
    data = DATA["lenet-8-6"]
    for trial, start in starts.items():
        kept = initial(ZHOU, trial.seed)
        if trial.label == "untrained":
            assert_equal(start.state, apply_masks(kept, start.masks))
        if trial.label == "pruned":  # what is left of the dense network as it is
            final = one(store.get_tensors(trial.parent.key)["final"])
            assert_equal(start.state, apply_masks(final, start.masks))
        network = build("lenet-8-6", SHAPES["lenet-8-6"], 3).with_state(beside(start.state))
        stored = store.get(trial.key)
        accuracy = evaluate_on(network, data, data.test).accuracy.item()
        assert stored["ticket"]["final_test_accuracy"] == round(accuracy, 6)
        assert stored["curve"]["iteration"] == [10]
    rows = tables(ZHOU, store).tickets
    assert (rows[rows["treatment"] == "untrained"]["iterations"] == 0).all()


def test_every_treatment_is_another_start():
    keys = [Trial(ZHOU, 0, 1, treatment).key for treatment in TREATMENTS.values()]
    assert len(set(keys)) == len(keys) - 1, "scratch-e is trained as reinitialise"
    assert Trial(Experiment(task=Task(recipe=Recipe())), 0, 1, REWIND).snapshots == []
    assert len(all_trials(ZHOU)) == 2 + 2 * (1 + 1 + 4 * 2 + 1 + 3)
