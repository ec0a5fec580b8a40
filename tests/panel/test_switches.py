"""Rows of a forest plot come and go with their switches."""

import math
import re

import pytest
from bs4 import BeautifulSoup

from labkit.figures.shifts import Shift
from labkit.panel.switches import NOTHING, Switchboard, forest_chart

SHIFTS = [
    Shift("masked gradients", "weights (%)", 12.5, 87.9, 75.4, 74.4, 76.4, 5),
    Shift("masked gradients", "test accuracy (%)", 90.8, 90.8, 0.006, -0.055, 0.067, 5),
    Shift("frozen <by value>", "test accuracy (%)", 92.0, 89.4, -2.6, -3.1, -2.1, 5),
    Shift("last batch dropped", "test accuracy (%)", 92.0, 91.99, -0.007, -0.014, 0.001, 5),
]


def rows(board: Switchboard) -> list[str]:
    """What the rows of the chart say, from top to bottom."""
    drawn = BeautifulSoup(board.chart.value, "html.parser")
    return [str(row["aria-label"]) for row in drawn.select("g.lk-p")]


def test_at_first_nothing_is_switched_on_and_that_is_said():
    board = Switchboard(SHIFTS)
    assert rows(board) == [] and NOTHING in board.chart.value
    assert [switch.value for switch in board.switches.values()] == [False] * 3


def test_the_plot_grows_with_every_switch_in_the_order_of_switching():
    board = Switchboard(SHIFTS)
    board.switches["last batch dropped"].value = True
    assert rows(board) == ["last batch dropped, test accuracy (%): -0.007 [-0.014, +0.001]"]
    board.switches["masked gradients"].value = True  # which shifts two numbers
    assert [row.split(",")[0] for row in rows(board)] == [
        "last batch dropped",
        "masked gradients",
        "masked gradients",
    ]
    board.switches["last batch dropped"].value = False
    assert len(rows(board)) == 2


def test_all_are_switched_on_and_off_by_one_button():
    board = Switchboard(SHIFTS)
    board.all.value = True
    assert len(rows(board)) == 4
    board.all.value = False
    assert rows(board) == []


def test_a_row_stays_where_it_is_while_others_come():
    board = Switchboard(SHIFTS)
    board.switches["masked gradients"].value = True
    first = re.search(r'<circle cx="[\d.]+"', board.chart.value)
    board.all.value = True
    assert first and first[0] in board.chart.value


def test_marks_lie_in_the_drawing_and_on_their_side_of_zero():
    drawn = BeautifulSoup(forest_chart(SHIFTS), "html.parser")
    zero = float(drawn.select("path[stroke-dasharray]")[0]["d"][1:].split()[0])
    width, height = map(float, str(drawn.svg["viewbox"]).split()[2:])
    for mark, shift in zip(drawn("circle"), SHIFTS, strict=True):
        x, y = float(mark["cx"]), float(mark["cy"])
        assert 0 < x < width and 0 < y < height
        assert (x > zero) == (shift.mean > 0)


def test_one_seed_has_no_bar():
    chart = forest_chart([Shift("alone", "points", 1, 2, 1.0, math.nan, math.nan, 1)])
    assert "nan" not in chart and 'd=""' in chart


def test_without_a_front_end_all_rows_are_shown():
    shown = Switchboard(SHIFTS)._repr_mimebundle_()
    assert "widget-view" in " ".join(shown)
    assert "frozen &lt;by value&gt;" in shown["text/html"] and "<img" in shown["text/html"]


def test_without_shifts_there_is_nothing_to_switch():
    with pytest.raises(ValueError, match="shifts must have at least one"):
        Switchboard([])
