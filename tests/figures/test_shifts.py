"""A forest plot of shifts: a row for each, zero in sight, and what is sure told from the rest."""

import math

import pytest

from labkit.figures.shifts import Shift, forest_of_shifts, place, span
from tests.pictures import outside

FROZEN = Shift("frozen by value", "test accuracy (%)", 92.0, 89.4, -2.6, -3.1, -2.1, 5)
DROPPED = Shift("last batch dropped", "test accuracy (%)", 92.0, 91.99, -0.007, -0.014, 0.001, 5)
MASKED = Shift("masked gradients", "weights (%)", 12.5, 87.9, 75.4, 74.4, 76.4, 3)


def test_each_shift_is_a_row_with_its_name_its_interval_and_its_values():
    (axes,) = forest_of_shifts([FROZEN, DROPPED, MASKED]).figure.axes
    names = [label.get_text().split("\n")[0] for label in axes.get_yticklabels()]
    assert names == ["frozen by value", "last batch dropped", "masked gradients"]
    ends = [bar.get_segments()[0][:, 0].tolist() for bar in axes.collections]
    assert ends == [[-3.1, -2.1], [-0.014, 0.001], [74.4, 76.4]]
    assert [text.get_text() for text in axes.texts][1] == "-0.007 [-0.014, +0.001]"


def test_a_mark_is_hollow_where_its_interval_contains_zero():
    (axes,) = forest_of_shifts([FROZEN, DROPPED]).figure.axes
    faces = [line.get_markerfacecolor() for line in axes.lines if line.get_marker() == "o"]
    assert [face == "white" for face in faces] == [False, True]


def test_the_summary_tells_what_is_shifted_from_what_is_not():
    picture = forest_of_shifts([FROZEN, DROPPED, MASKED])
    sure, unsure = picture.summary.split("Not told from zero: ")
    assert sure.startswith("95% intervals over 3 to 5 seeds.")
    assert "frozen by value, test accuracy -2.6" in sure and "weights +75.4" in sure
    assert "last batch dropped" in unsure
    assert picture.table["shift"].tolist() == [-2.6, -0.007, 75.4]


def test_no_row_moves_when_others_come():
    few, many = ([FROZEN], [FROZEN, DROPPED, MASKED])
    assert span(few) == span(many)
    wider = Shift("wide", "points", 0, 200, 200, 100, 300, 5)
    assert span([*many, wider])[1] > 300


def test_the_axis_keeps_signs_and_order():
    places = [place(shift) for shift in (-10, -0.05, 0, 0.05, 1, 10, 100)]
    assert places == sorted(places) and places[2] == 0 and places[1] == -places[3]
    assert places[6] - places[5] == pytest.approx(places[5] - places[4])


def test_a_single_seed_has_a_mark_and_no_interval():
    one = Shift("alone", "points", 1, 2, 1.0, math.nan, math.nan, 1)
    picture = forest_of_shifts([one])
    assert one.in_words() == "+1.00" and not one.sure
    assert "over 1 seed." in picture.summary and "nan" not in picture.svg()


def test_nothing_is_cut_at_the_edge():
    assert outside(forest_of_shifts([FROZEN])) < 0.01
    assert outside(forest_of_shifts([FROZEN, DROPPED, MASKED] * 4)) < 0.01


def test_without_shifts_there_is_nothing_to_draw():
    with pytest.raises(ValueError, match="shifts must have at least one"):
        forest_of_shifts([])
