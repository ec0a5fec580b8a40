"""What is stable, and the map of the contradiction, which need no colour to be read."""

import math

import pandas as pd
import pytest

from labkit.figures import matching, stability

# --- Instability against k ------------------------------------------------------------------


def test_initialisation_has_a_place_on_a_logarithmic_axis(tickets: pd.DataFrame):
    dense = tickets[tickets["treatment"] == "dense"]
    picture = stability.instability_against_rewind(dense)
    (axes,) = picture.figure.axes
    assert axes.get_xscale() == "log"
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert labels == ["0\n(initialisation)", "100", "500"]
    places = list(axes.get_xticks())
    assert 0 < places[0] < places[1] and axes.get_xlim()[0] < places[0]


def test_the_summary_says_from_where_training_is_stable(tickets: pd.DataFrame):
    summary = stability.instability_against_rewind(tickets[tickets["treatment"] == "dense"]).summary
    assert "lenet-5, learning rate 0.1: 20.0 points at k = 0, stable from k = 500 on" in summary
    assert "lenet-5, learning rate 0.01: 0.0 points at k = 0, stable from k = 0 on" in summary
    short = tickets[(tickets["treatment"] == "dense") & (tickets["rewind"] < 500)]
    assert "nowhere stable" in stability.instability_against_rewind(short).summary


def test_the_threshold_is_drawn_and_arms_differ_by_more_than_colour(tickets: pd.DataFrame):
    dense = tickets[tickets["treatment"] == "dense"]
    (axes,) = stability.instability_against_rewind(dense, dense).figure.axes
    assert any(list(line.get_ydata()) == [2.0, 2.0] for line in axes.lines)
    arms = [c.lines[0] for c in axes.containers]
    assert len({(line.get_linestyle(), line.get_marker()) for line in arms}) == 2
    assert {line.get_alpha() for line in arms} == {0.4, 1.0}  # the reference is pale


def test_tickets_are_arms_of_their_own(tickets: pd.DataFrame):
    table = stability.instability_against_rewind(tickets).table
    assert table["arm"].nunique() == 6  # two rates; dense, and tickets of two densities
    assert any(arm.endswith("ticket of 25.0% density") for arm in table["arm"])


def test_one_seed_at_one_iteration_can_be_drawn(tickets: pd.DataFrame):
    one = tickets[(tickets["seed"] == 0) & (tickets["rewind"] == 0)]
    picture = stability.instability_against_rewind(one)
    picture.svg()
    assert picture.table["low"].isna().all()


# --- The map of the contradiction -----------------------------------------------------------


def test_gains_are_paired_by_kind_rate_and_density(tickets: pd.DataFrame):
    at_init = tickets[tickets["rewind"] == 0]
    picture = stability.contradiction_map(at_init)
    table = picture.table.set_index(["kind", "learning_rate", "round"])
    assert len(table) == 8
    assert table["gain"]["unstructured", 0.01, 1] == pytest.approx(1.1)
    assert table["gain"]["unstructured", 0.1, 2] == pytest.approx(1.1 - 10)
    assert table["instability at init"]["structured", 0.1, 1] == pytest.approx(20)
    assert "0.01 is stable" in picture.summary and "0.1 is unstable" in picture.summary
    assert len(picture.figure.axes) == 3
    picture.svg()


def test_the_map_does_not_decide_what_seeds_do_not(tickets: pd.DataFrame):
    calm = (tickets["treatment"] == "dense") & (tickets["learning_rate"] == 0.01)
    tickets.loc[calm, "instability"] = 0.02 * tickets["seed"]  # 0, 2 and 4 points
    summary = stability.contradiction_map(tickets[tickets["rewind"] == 0]).summary
    assert "0.01 is stable or unstable (the interval contains the limit)" in summary
    assert "0.1 is unstable" in summary


def test_kinds_share_a_range_that_holds_all_intervals(tickets: pd.DataFrame):
    noisy = (tickets["kind"] == "structured") & (tickets["seed"] == 2)
    tickets.loc[noisy & (tickets["treatment"] == "rewind"), "final_test_accuracy"] += 0.3
    picture = stability.contradiction_map(tickets[tickets["rewind"] == 0])
    one, other, _ = picture.figure.axes
    assert one.get_ylim() == other.get_ylim()
    low, high = other.get_ylim()
    assert low < picture.table["low"].min() and high > picture.table["high"].max()


def test_the_map_does_without_instability_and_without_one_kind(tickets: pd.DataFrame):
    some = tickets[tickets["kind"] == "structured"].assign(instability=math.nan)
    picture = stability.contradiction_map(some[some["seed"] == 0])
    assert len(picture.figure.axes) == 2 and picture.table["seeds"].eq(1).all()
    picture.svg()


def test_nothing_to_draw_is_an_error_that_says_what_to_do(tickets: pd.DataFrame):
    for draw in (matching.phase_diagram, stability.contradiction_map):
        with pytest.raises(ValueError, match="run the experiment"):
            draw(pd.DataFrame())
    with pytest.raises(ValueError, match="must have an instability"):
        stability.instability_against_rewind(tickets.assign(instability=math.nan))
