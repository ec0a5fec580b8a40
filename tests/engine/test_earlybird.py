"""A ticket is drawn when its mask has stopped moving; nobody can rank what is all equal."""

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st

from labkit import Pruning, Recipe, build, generator
from labkit.engine.earlybird import MEMORY, early_bird, follow_channels, kept_units, mask_distances
from labkit.figures import mask_distance_map
from tests.synthetic import DATA, SHAPES

SLIM = Recipe("sgd", 0.1, momentum=0.9, batch_size=8, iterations=12, slimming=0.01)
GAMMA = Pruning("structured", "gamma", "global", 0.5)


def resnet(replicas: int = 2):
    network = build("resnet-8-w2", SHAPES["resnet-8-w2"], 3, replicas)
    return network.initialise([generator(s, "a") for s in range(replicas)], gamma=0.5)


def test_the_distance_is_the_share_of_units_that_differ():
    one = torch.tensor([[True, True, False, False]])
    other = torch.tensor([[True, False, True, False]])
    found = mask_distances([one, other, ~one])
    assert found.tolist() == [[[0, 0.5, 1], [0.5, 0, 0.5], [1, 0.5, 0]]]


def test_it_fires_when_the_newest_is_near_all_four_before_it_and_not_at_the_fourth():
    still = torch.zeros(8, 8)
    assert early_bird(still) == 4, "never before five masks are there"
    jumps = still.clone()
    jumps[3:, :3] = jumps[:3, 3:] = 0.5  # another mask from look 3 on
    assert early_bird(jumps) == 7
    assert early_bird(jumps[:7, :7]) is None
    at_the_limit = still + 0.25
    assert early_bird(at_the_limit, threshold=0.25) == 4, "at most, not below"
    drifts = (torch.arange(8.0)[:, None] - torch.arange(8.0)).abs() * 0.04
    assert early_bird(drifts) is None, "each step is small, and the oldest of five is far"
    assert early_bird(drifts, memory=3) == 2


@given(st.integers(1, 12), st.floats(0, 0.5), st.integers(2, 6), st.integers(0, 10**6))
def test_the_rule_is_its_sentence(looks, threshold, memory, seed):
    rng = np.random.default_rng(seed)
    masks = [torch.tensor(rng.random((1, 6)) < 0.7) for _ in range(looks)]
    (distances,) = mask_distances(masks)
    fired = None
    for newest in range(memory - 1, looks):
        before = masks[newest - memory + 1 : newest]
        if all((masks[newest] != m).float().mean() <= threshold for m in before):
            fired = newest
            break
    assert early_bird(distances, threshold, memory) == fired


def test_a_training_is_looked_at_every_so_often_at_all_shares_at_once():
    looks = list(
        follow_channels(resnet(), SLIM, DATA["resnet-8-w2"], [0, 1], every=4, shares=(0.3, 0.6))
    )
    assert [one.iteration for one in looks] == [4, 8, 12]
    total = sum(resnet().widths().values())
    for one in looks:
        for share, kept in one.kept.items():
            assert kept.shape == (2, total)
            assert kept.sum(1).tolist() == [total - round(share * total)] * 2
    assert mask_distances([one.kept[0.3] for one in looks]).shape == (2, 3, 3)


def test_equal_gammas_are_no_ranking():
    network = resnet()
    with pytest.raises(ValueError, match="all its gammas are equal"):
        kept_units(network, network.state(), GAMMA)
    with pytest.raises(ValueError, match=r"at least 1, or None.*a ranking of ties"):
        Pruning("structured", "gamma", "global", 0.5, at=0)


def test_heads_can_be_looked_at_as_well():
    network = build("vit-2-4", SHAPES["vit-2-4"], 3, 1).initialise([generator(0, "a")])
    by_size = Pruning("structured", layer_rates=(0.5, 0, 0.5, 0))
    kept = kept_units(network, network.state(), by_size)
    assert kept.shape == (1, 2 * (4 + 96)) and kept.sum() == 2 * (2 + 96)


def test_the_map_marks_where_the_rule_fires_and_where_the_rate_falls():
    distances, iterations = torch.full((8, 8), 0.3).fill_diagonal_(0), list(range(10, 90, 10))
    assert "do not occur" in mask_distance_map(distances, iterations).summary
    distances[3:, 3:] = 0.02
    picture = mask_distance_map(distances, iterations, drops=[40])
    assert "iteration 80 (star)" in picture.summary and "falls at iteration 40" in picture.summary
    (axes, _) = picture.figure.axes
    vertical = [line for line in axes.lines if line.get_linestyle() == "--"]
    assert [line.get_xdata()[0] for line in vertical[:1]] == [3.5], "between looks 40 and 50"
    assert picture.table.loc[10, 20] == pytest.approx(0.3)
    with pytest.raises(ValueError, match="iterations must be 8 looks, not 3"):
        mask_distance_map(distances, [1, 2, 3])


def test_what_is_no_table_of_distances_is_refused():
    with pytest.raises(ValueError, match=r"distances must be \(L, L\), of one replica"):
        early_bird(torch.zeros(2, 5, 5))
    with pytest.raises(ValueError, match="memory must be a whole number from 2"):
        early_bird(torch.zeros(5, 5), memory=1)
    assert MEMORY == 5
