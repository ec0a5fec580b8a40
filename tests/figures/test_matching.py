"""Phases: what is stable, what matches, and that neither needs colour to be read."""

import math

import pandas as pd
import pytest

from labkit.figures import matching


def test_cells_hold_the_gap_to_the_dense_network_and_the_instability(unstructured: pd.DataFrame):
    picture = matching.phase_diagram(unstructured)
    table = picture.table.set_index(["rewind", "round"])
    assert table["gap"][0, 2] == pytest.approx(-10) and table["gap"][500, 1] == pytest.approx(1)
    words = [text.get_text() for text in picture.figure.axes[0].texts]
    assert "−10.0 ✗" in words and "+1.0 ✓" in words and "20.0" in words and len(words) == 12
    assert table["matching"].tolist() == ["disagrees"] * 4 + ["agrees"] * 2
    assert table["stable"].tolist() == ["disagrees"] * 4 + ["agrees"] * 2
    assert table["seeds"].eq(3).all()


def test_what_the_seeds_leave_open_is_neither_matching_nor_below(unstructured: pd.DataFrame):
    one = unstructured[unstructured["seed"] == 0]
    picture = matching.phase_diagram(one)
    assert set(picture.table["matching"]) == {"undecided"}
    assert any(text.get_text().endswith("?") for text in picture.figure.axes[0].texts)
    assert "0 match the dense network, 0 fall below it, and 6 are undecided" in picture.summary


def test_cells_are_counted_by_matching_and_stable(unstructured: pd.DataFrame):
    counts = matching.matching_by_stability(unstructured)
    assert counts.loc["unstable"].to_dict() == {"yes": 0, "no, below": 4, "undecided": 0}
    assert counts.loc["stable"].to_dict() == {"yes": 2, "no, below": 0, "undecided": 0}
    assert counts.loc["undecided"].sum() == 0
    for nothing in (unstructured.drop(columns="instability").assign(instability=math.nan),
                    unstructured.iloc[:0]):  # fmt: skip
        with pytest.raises(ValueError, match="cells whose instability was analysed"):
            matching.matching_by_stability(nothing)


def test_the_contour_parts_stable_cells_from_hatched_ones(unstructured: pd.DataFrame):
    axes = matching.phase_diagram(unstructured).figure.axes[0]
    assert sum(bool(patch.get_hatch()) for patch in axes.patches) == 4  # k = 0 and 100
    assert all(list(line.get_xdata()) == [1.5, 1.5] for line in axes.lines) and axes.lines


def test_numbers_can_be_read_on_their_cells(unstructured: pd.DataFrame):
    assert (
        matching._ink((0.0, 0.1, 0.3, 1)) == "white" and matching._ink((1, 0.9, 0.2, 1)) == "black"
    )


def test_the_summary_counts_where_stable_and_matching_agree(unstructured: pd.DataFrame):
    assert "go together in 6 of 6 cells" in matching.phase_diagram(unstructured).summary
    unknown = unstructured.assign(instability=math.nan)
    picture = matching.phase_diagram(unknown)
    assert "cells" not in picture.summary and not picture.figure.axes[0].lines


def test_a_cell_that_was_not_run_stays_empty(unstructured: pd.DataFrame):
    missing = (unstructured["rewind"] == 500) & (unstructured["round"] == 2)
    picture = matching.phase_diagram(unstructured[~missing])
    assert len(picture.table) == 5
    picture.svg()


def test_each_learning_rate_has_columns_of_its_own(tickets: pd.DataFrame):
    unstructured = tickets[tickets["kind"] == "unstructured"]
    some = unstructured[(unstructured["learning_rate"] == 0.1) | (unstructured["rewind"] == 0)]
    picture = matching.phase_diagram(some)
    axes = picture.figure.axes[0]
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert labels[:2] == ["0 (initial.)\nrate 0.01", "0 (initial.)\nrate 0.1"]
    assert labels[2:] == ["100\nrate 0.1", "500\nrate 0.1"]
    table = picture.table.set_index(["learning_rate", "rewind", "round"])
    assert table["gap"][0.01, 0, 2] == 0 and table["gap"][0.1, 0, 2] == pytest.approx(-10)
    contour = {tuple(line.get_xdata()) for line in axes.lines}
    assert contour == {(0.5, 0.5), (2.5, 2.5)}  # stable, unstable, unstable, stable


def test_controls_stand_beside_tickets_by_the_share_of_the_training(tickets: pd.DataFrame):
    some = tickets[tickets["kind"] == "unstructured"]
    picture = matching.difference_by_rewind(some)
    found = picture.table.set_index(["learning_rate", "round", "treatment", "share"])
    # 500 of 600 iterations, 1 point a round above a dense network of 75.1% on average
    late = round(100 * 500 / 600, 2)
    assert found.loc[(0.1, 2, "rewind", late), "gap"] == pytest.approx(2.0)
    assert found.loc[(0.1, 1, "reinitialise", 0.0), "gap"] == pytest.approx(-1.1)
    assert found.loc[(0.1, 1, "rewind", 0.0), "instability"] == pytest.approx(20)
    axes = picture.figure.axes
    assert [a.get_title() for a in axes[:4]] == [
        "50% density, rate 0.01",
        "50% density, rate 0.1",
        "25% density, rate 0.01",
        "25% density, rate 0.1",
    ]
    assert len(axes) == 8 and len(axes[1].containers) == 2
    assert axes[4].get_ylim()[1] > 20, "all of the highest instability can be seen"
    words = "25% density, rate 0.1: -10.0 points at k = 0% (no, below), -2.0 points at k = 16.67%"
    assert words in picture.summary


def test_densities_without_controls_are_left_out(tickets: pd.DataFrame):
    bare = tickets[(tickets["treatment"] != "reinitialise") | (tickets["round"] == 2)]
    table = matching.difference_by_rewind(bare[bare["kind"] == "unstructured"]).table
    assert set(table["round"]) == {2} and set(table["treatment"]) == {"rewind", "reinitialise"}
    for nothing in (tickets[tickets["treatment"] != "reinitialise"], pd.DataFrame()):
        with pytest.raises(ValueError, match="must have controls, such as new weights"):
            matching.difference_by_rewind(nothing)
