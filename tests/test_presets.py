"""Presets are the papers' protocols, and what is smaller than the paper says so."""

import pytest

from labkit import preset
from labkit.presets import NAMES, PAPERS, SIZES


def test_every_paper_names_presets_that_exist_in_every_size():
    for names in PAPERS.values():
        for name in names:
            for size in SIZES:
                preset(name, size)
    assert {name for names in PAPERS.values() for name in names} == set(NAMES)


def test_the_lottery_reference_is_the_papers_protocol_but_for_iterations_and_draws():
    reference = preset("lottery", "reference")
    recipe, pruning = reference.task.recipe, reference.pruning
    assert (reference.task.dataset, reference.task.network) == ("mnist", "lenet-300-100")
    assert (recipe.optimizer, recipe.learning_rate, recipe.batch_size) == ("adam", 1.2e-3, 60)
    assert (pruning.criterion, pruning.scope) == ("magnitude", "layerwise")
    assert (pruning.rate, pruning.output_rate) == (0.2, 0.1)
    assert (reference.task.validation, reference.evaluate_every) == (5_000, 100)
    assert reference.rewind == 0 and len(reference.seeds) >= 5
    assert 0.8**reference.rounds < 0.012
    assert 15_000 <= recipe.iterations < 50_000 and reference.draws == 2


def test_the_quick_lottery_reaches_the_density_of_the_papers_round_seven():
    quick = preset("lottery", "quick")
    assert (1 - quick.pruning.rate) ** quick.rounds == pytest.approx(0.8**7, rel=0.05)


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("bingo", "quick", "preset must be one of lottery, not 'bingo'"),
        ("lottery", "huge", "size must be one of quick, reference, not 'huge'"),
        (3, "quick", "preset must be one of lottery, not 3"),
    ],
)
def test_unknown_names_are_errors_that_list_the_known(name, size, message):
    with pytest.raises(ValueError, match=message):
        preset(name, size)
