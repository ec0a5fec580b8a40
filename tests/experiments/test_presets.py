"""Presets are the papers' protocols, and what is smaller than the paper says so."""

from dataclasses import replace

import pytest

from labkit import flops, full_masks, generator, preset, prune
from labkit.engine.connectivity import Instability
from labkit.engine.narrowing import narrow
from labkit.engine.networks import build
from labkit.experiments.experiment import Experiment, all_trials
from labkit.experiments.later import LATER
from labkit.experiments.presets import DECIDING, NAMES, PAPERS, PRESETS, SIZES, study


def test_every_paper_names_presets_that_exist_in_every_size():
    for names in PAPERS.values():
        for name in names:
            for size in SIZES:
                assert all(isinstance(e, Experiment) for e in study(name, size))
    assert {name for names in PAPERS.values() for name in names} == set(NAMES) - set(
        DECIDING
    ) - set(LATER)


def test_a_study_of_several_experiments_is_no_single_preset():
    assert preset("lottery") == study("lottery")[0]
    with pytest.raises(ValueError, match=r"preset must be a single experiment, not stability-imp"):
        preset("stability-imp")


@pytest.mark.parametrize("name", NAMES)
def test_quick_and_reference_ask_the_same_questions(name):
    quick, reference = study(name, "quick"), study(name, "reference")
    assert {e.pruning.kind for e in quick} == {e.pruning.kind for e in reference}
    assert any(e.instability.copies for e in quick) == any(e.instability.copies for e in reference)
    assert sum(len(e.seeds) for e in quick) < sum(len(e.seeds) for e in reference)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", NAMES)
def test_bundled_data_are_enough_for_every_preset(name, size):
    """And every network can be built for the images of its task."""
    shapes = {"mnist": (1, 28, 28), "cifar10-16": (3, 16, 16)}
    for experiment in study(name, size):
        build(experiment.task.network, shapes[experiment.task.dataset], classes=10)


def test_references_have_the_seeds_and_pairs_that_their_papers_ask_for():
    for name in NAMES:
        for experiment in study(name, "reference"):
            copies = experiment.instability.copies
            if name in LATER:
                assert len(experiment.seeds) >= 5 and min(experiment.seeds) >= 20, "fresh ones"
            elif name in DECIDING:
                assert len(experiment.seeds) >= 3 and min(experiment.seeds) >= 10, "fresh ones"
            elif name.startswith(("stability", "reconciliation")):
                assert len(experiment.seeds) >= 3
                assert copies == 0 or copies * (copies - 1) / 2 >= 3
            else:
                assert len(experiment.seeds) >= 5


def test_networks_that_presets_share_are_the_same_trials():
    def keys(name: str, size: str = "reference") -> set[str]:
        return {trial.key for trial in all_trials(study(name, size))}

    assert keys("stability-dense") & keys("reconciliation")
    assert keys("stability-imp", "quick") & keys("reconciliation", "quick")
    assert keys("rethinking-structured") & keys("rethinking-learning-rate")


def test_structured_and_unstructured_differ_in_pruning_alone():
    for size in SIZES:
        weights, filters = (study("rethinking-learning-rate", size)[i] for i in (0, 2))
        assert replace(filters, pruning=weights.pruning) == weights


def test_the_reconciliation_crosses_rates_and_kinds():
    for size, rates in (("quick", 2), ("reference", 5)):
        treated = [e for e in study("reconciliation", size) if e.treatments]
        points = {(e.task.network, e.task.recipe.learning_rate, e.pruning.kind) for e in treated}
        assert len(points) == len(treated) == 2 * rates
        assert all(e.instability == Instability() for e in treated)


def test_the_lottery_reference_is_the_papers_protocol():
    reference = preset("lottery", "reference")
    recipe, pruning = reference.task.recipe, reference.pruning
    assert (reference.task.dataset, reference.task.network) == ("mnist", "lenet-300-100")
    assert (recipe.optimizer, recipe.learning_rate, recipe.batch_size) == ("adam", 1.2e-3, 60)
    assert (pruning.criterion, pruning.scope) == ("magnitude", "layerwise")
    assert (pruning.rate, pruning.output_rate) == (0.2, 0.1)
    assert (reference.task.validation, reference.evaluate_every) == (5_000, 100)
    assert reference.rewind == 0 and len(reference.seeds) == 5
    assert 0.8**reference.rounds < 0.012
    assert (recipe.iterations, reference.draws) == (50_000, 3)


def test_the_quick_lottery_reaches_the_density_of_the_papers_round_seven():
    quick = preset("lottery", "quick")
    assert (1 - quick.pruning.rate) ** quick.rounds == pytest.approx(0.8**7, rel=0.05)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in (*DECIDING, *LATER)])
def test_full_sizes_are_single_networks_for_the_papers_number_of_epochs(name: str):
    full = set(PRESETS[name]) - set(SIZES)
    assert full
    for size in full:
        tasks = {(e.task.dataset, e.task.network) for e in study(name, size)}
        ((dataset, network),) = tasks
        assert size.startswith(network) and dataset == "cifar10"
        for experiment in study(name, size):
            build(network, (3, 32, 32), classes=10)
            recipe = experiment.task.recipe
            if recipe.optimizer == "sgd":  # of all training images, as both papers train
                assert recipe.iterations * recipe.batch_size / 50_000 == pytest.approx(160, abs=0.2)
                assert experiment.task.validation == 0


def test_full_sizes_are_liu_et_als_protocol():
    """REFERENCE 2.4 and 3: standardised pixels, convolutions alone, Scratch-B without a limit."""
    names = [name for name in NAMES if name.startswith("rethinking")]
    for name in names:
        for size in set(PRESETS[name]) - set(SIZES):
            for e in study(name, size):
                assert e.task.normalisation == "standard"
                recipe = e.task.recipe
                assert (recipe.momentum, recipe.weight_decay) == (0.9, 1e-4)
                assert (recipe.batch_size, recipe.milestones) == (64, (0.5, 0.75))
                if not e.pruning.structured:
                    assert e.pruning.output_rate == 0 and e.pruning.scope == "global"
                budgets = {t.budget for t in e.treatments}
                assert "flops" not in budgets
                for treatment in e.treatments:
                    if treatment.name.startswith("fine-tune-quarter"):
                        tuned = treatment.recipe(recipe)
                        assert tuned.iterations == recipe.iterations // 4  # 40 of 160 epochs
                        assert tuned.learning_rate == pytest.approx(recipe.learning_rate / 100)


@pytest.mark.parametrize(
    ("size", "parameters", "arithmetic"),
    [  # pruned shares of parameters and FLOPs: Li et al. 2017, table 1
        ("vgg-16-a", 0.640, 0.342),
        ("resnet-56-a", 0.094, 0.104),
        ("resnet-56-b", 0.137, 0.276),
    ],
)
def test_full_sizes_prune_what_the_paper_prunes(size: str, parameters: float, arithmetic: float):
    (experiment,) = study("rethinking-structured", size)
    network = build(experiment.task.network, (3, 32, 32), 10).initialise([generator(0, "test")])
    full, units = full_masks(network), network.units()
    masks = prune(experiment.pruning, network.state(), full, [], units=units)
    left, dense = (
        sum(p.numel() for p in one.parameters()) for one in (narrow(network, masks), network)
    )
    assert 1 - left / dense == pytest.approx(parameters, abs=0.01)
    left, dense = (flops(network, (3, 32, 32), some).item() for some in (masks, full))
    assert 1 - left / dense == pytest.approx(arithmetic, abs=0.01)


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("bingo", "quick", "preset must be one of lottery, .*, not 'bingo'"),
        (
            "lottery",
            "huge",
            "size of lottery must be one of quick, reference, conv.*, not 'huge'",
        ),
        (3, "quick", "preset must be one of lottery, .*, not 3"),
    ],
)
def test_unknown_names_are_errors_that_list_the_known(name, size, message):
    with pytest.raises(ValueError, match=message):
        preset(name, size)
