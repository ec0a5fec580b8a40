"""Maps count every weight, and say what they show."""

import pytest
import torch

from labkit.figures import maps


def test_a_pixel_map_counts_the_weights_of_each_pixel():
    mask = torch.zeros(2, 3, 16, dtype=torch.bool)
    mask[:, :, 5] = True  # row 1, column 1
    mask[0, 0, 15] = True
    counts = maps.pixel_map(mask, (1, 4, 4)).table
    assert counts.iloc[1, 1] == 6 and counts.iloc[3, 3] == 1 and counts.to_numpy().sum() == 7
    with pytest.raises(ValueError, match=r"\(R, out, 9\)"):
        maps.pixel_map(mask, (1, 3, 3))


def test_a_histogram_counts_every_weight_once():
    weights = torch.linspace(-1, 1, 101)
    shown = maps.weight_histogram(weights, weights.abs() > 0.5)
    assert shown.table["all"].sum() == 101
    assert shown.table["surviving"].sum() == int((weights.abs() > 0.5).sum())
    assert "49.5%" in shown.summary


def test_the_brightest_colour_of_a_pixel_map_is_its_own_maximum():
    mask = torch.zeros(1, 5, 16, dtype=torch.bool)
    mask[:, :3, 5] = True
    picture = maps.pixel_map(mask, (1, 4, 4))
    assert picture.figure.axes[0].images[0].get_clim() == (0, 3)
    assert "3.8% density" in picture.summary and "holds 100%" in picture.summary


def test_a_mask_that_leaves_nothing_has_a_map():
    picture = maps.pixel_map(torch.zeros(1, 5, 16, dtype=torch.bool), (1, 4, 4))
    assert "0.0% density" in picture.summary and "holds 0%" in picture.summary
    picture.svg()
