"""Phases: what is stable, what matches, and that neither needs colour to be read."""

import math
from collections.abc import Iterator, Sequence

import pandas as pd
import pytest

from labkit.figures import stability as phases

INSTABILITY = {0: 0.2, 100: 0.03, 500: 0.01}
OTHERS = {
    "dataset": "mnist",
    "optimizer": "sgd",
    "length": 600,
    "criterion": "magnitude",
    "scope": "global",
    "cut": 0.5,
    "between": "rewind",
    "at": "end",
}
GAP = {0: -0.05, 100: -0.01, 500: 0.01}


def rows(seeds: Sequence[int], rates: Sequence[float]) -> Iterator[dict[str, object]]:
    """Two kinds; at the highest rate unstable at initialisation, with poor tickets from there."""
    for seed in seeds:
        for rate in rates:
            worse = rate == max(rates)
            for k, unstable in INSTABILITY.items():
                for kind in ("unstructured", "structured"):
                    label = {"seed": seed, "rewind": k, "kind": kind, "learning_rate": rate}
                    label |= {"network": "lenet-5", "chain": f"{rate} {k} {kind}", **OTHERS}
                    label |= {"instability": unstable if worse else 0.0, "draw": 0}
                    label["density"], label["round"] = 1.0, 0
                    dense = 0.75 + 0.001 * seed
                    yield {**label, "treatment": "dense", "final_test_accuracy": dense}
                    for number, density in ((1, 0.5), (2, 0.25)):
                        label |= {"round": number, "density": density}
                        reached = dense + GAP[k] * number * worse
                        yield {**label, "treatment": "rewind", "final_test_accuracy": reached}
                        label |= {"instability": math.nan}
                        yield {**label, "treatment": "reinitialise", "final_test_accuracy": 0.74}
                        label |= {"instability": unstable if worse else 0.0}


@pytest.fixture
def tickets() -> pd.DataFrame:
    return pd.DataFrame(rows((0, 1, 2), (0.01, 0.1)))


@pytest.fixture
def unstructured(tickets: pd.DataFrame) -> pd.DataFrame:
    return tickets[(tickets["kind"] == "unstructured") & (tickets["learning_rate"] == 0.1)]


# --- Instability against k ------------------------------------------------------------------


def test_initialisation_has_a_place_on_a_logarithmic_axis(tickets: pd.DataFrame):
    dense = tickets[tickets["treatment"] == "dense"]
    picture = phases.instability_against_rewind(dense)
    (axes,) = picture.figure.axes
    assert axes.get_xscale() == "log"
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert labels == ["0\n(initialisation)", "100", "500"]
    places = list(axes.get_xticks())
    assert 0 < places[0] < places[1] and axes.get_xlim()[0] < places[0]


def test_the_summary_says_from_where_training_is_stable(tickets: pd.DataFrame):
    summary = phases.instability_against_rewind(tickets[tickets["treatment"] == "dense"]).summary
    assert "lenet-5, learning rate 0.1: 20.0 points at k = 0, stable from k = 500 on" in summary
    assert "lenet-5, learning rate 0.01: 0.0 points at k = 0, stable from k = 0 on" in summary
    short = tickets[(tickets["treatment"] == "dense") & (tickets["rewind"] < 500)]
    assert "nowhere stable" in phases.instability_against_rewind(short).summary


def test_the_threshold_is_drawn_and_arms_differ_by_more_than_colour(tickets: pd.DataFrame):
    dense = tickets[tickets["treatment"] == "dense"]
    (axes,) = phases.instability_against_rewind(dense, dense).figure.axes
    assert any(list(line.get_ydata()) == [2.0, 2.0] for line in axes.lines)
    arms = [c.lines[0] for c in axes.containers]
    assert len({(line.get_linestyle(), line.get_marker()) for line in arms}) == 2
    assert {line.get_alpha() for line in arms} == {0.4, 1.0}  # the reference is pale


def test_tickets_are_arms_of_their_own(tickets: pd.DataFrame):
    table = phases.instability_against_rewind(tickets).table
    assert table["arm"].nunique() == 6  # two rates; dense, and tickets of two densities
    assert any(arm.endswith("ticket of 25.0% density") for arm in table["arm"])


def test_one_seed_at_one_iteration_can_be_drawn(tickets: pd.DataFrame):
    one = tickets[(tickets["seed"] == 0) & (tickets["rewind"] == 0)]
    picture = phases.instability_against_rewind(one)
    picture.svg()
    assert picture.table["low"].isna().all()


# --- The phase diagram ----------------------------------------------------------------------


def test_cells_hold_the_gap_to_the_dense_network_and_the_instability(unstructured: pd.DataFrame):
    picture = phases.phase_diagram(unstructured)
    table = picture.table.set_index(["rewind", "round"])
    assert table["gap"][0, 2] == pytest.approx(-10) and table["gap"][500, 1] == pytest.approx(1)
    words = [text.get_text() for text in picture.figure.axes[0].texts]
    assert "−10.0 ✗" in words and "+1.0 ✓" in words and "20.0" in words and len(words) == 12
    assert table["matching"].tolist() == ["disagrees"] * 4 + ["agrees"] * 2
    assert table["stable"].tolist() == ["disagrees"] * 4 + ["agrees"] * 2
    assert table["seeds"].eq(3).all()


def test_what_the_seeds_leave_open_is_neither_matching_nor_below(unstructured: pd.DataFrame):
    one = unstructured[unstructured["seed"] == 0]
    picture = phases.phase_diagram(one)
    assert set(picture.table["matching"]) == {"undecided"}
    assert any(text.get_text().endswith("?") for text in picture.figure.axes[0].texts)
    assert "0 match the dense network, 0 fall below it, and 6 are undecided" in picture.summary


def test_cells_are_counted_by_matching_and_stable(unstructured: pd.DataFrame):
    counts = phases.matching_by_stability(unstructured)
    assert counts.loc["unstable"].to_dict() == {"yes": 0, "no, below": 4, "undecided": 0}
    assert counts.loc["stable"].to_dict() == {"yes": 2, "no, below": 0, "undecided": 0}
    assert counts.loc["undecided"].sum() == 0
    for nothing in (unstructured.drop(columns="instability").assign(instability=math.nan),
                    unstructured.iloc[:0]):  # fmt: skip
        with pytest.raises(ValueError, match="cells whose instability was analysed"):
            phases.matching_by_stability(nothing)


def test_the_contour_parts_stable_cells_from_hatched_ones(unstructured: pd.DataFrame):
    axes = phases.phase_diagram(unstructured).figure.axes[0]
    assert sum(bool(patch.get_hatch()) for patch in axes.patches) == 4  # k = 0 and 100
    assert all(list(line.get_xdata()) == [1.5, 1.5] for line in axes.lines) and axes.lines


def test_numbers_can_be_read_on_their_cells(unstructured: pd.DataFrame):
    assert phases._ink((0.0, 0.1, 0.3, 1)) == "white" and phases._ink((1, 0.9, 0.2, 1)) == "black"


def test_the_summary_counts_where_stable_and_matching_agree(unstructured: pd.DataFrame):
    assert "go together in 6 of 6 cells" in phases.phase_diagram(unstructured).summary
    unknown = unstructured.assign(instability=math.nan)
    picture = phases.phase_diagram(unknown)
    assert "cells" not in picture.summary and not picture.figure.axes[0].lines


def test_a_cell_that_was_not_run_stays_empty(unstructured: pd.DataFrame):
    missing = (unstructured["rewind"] == 500) & (unstructured["round"] == 2)
    picture = phases.phase_diagram(unstructured[~missing])
    assert len(picture.table) == 5
    picture.svg()


def test_each_learning_rate_has_columns_of_its_own(tickets: pd.DataFrame):
    unstructured = tickets[tickets["kind"] == "unstructured"]
    some = unstructured[(unstructured["learning_rate"] == 0.1) | (unstructured["rewind"] == 0)]
    picture = phases.phase_diagram(some)
    axes = picture.figure.axes[0]
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert labels[:2] == ["0 (initial.)\nrate 0.01", "0 (initial.)\nrate 0.1"]
    assert labels[2:] == ["100\nrate 0.1", "500\nrate 0.1"]
    table = picture.table.set_index(["learning_rate", "rewind", "round"])
    assert table["gap"][0.01, 0, 2] == 0 and table["gap"][0.1, 0, 2] == pytest.approx(-10)
    contour = {tuple(line.get_xdata()) for line in axes.lines}
    assert contour == {(0.5, 0.5), (2.5, 2.5)}  # stable, unstable, unstable, stable


# --- The map of the contradiction -----------------------------------------------------------


def test_gains_are_paired_by_kind_rate_and_density(tickets: pd.DataFrame):
    at_init = tickets[tickets["rewind"] == 0]
    picture = phases.contradiction_map(at_init)
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
    summary = phases.contradiction_map(tickets[tickets["rewind"] == 0]).summary
    assert "0.01 is stable or unstable (the interval contains the limit)" in summary
    assert "0.1 is unstable" in summary


def test_kinds_share_a_range_that_holds_all_intervals(tickets: pd.DataFrame):
    noisy = (tickets["kind"] == "structured") & (tickets["seed"] == 2)
    tickets.loc[noisy & (tickets["treatment"] == "rewind"), "final_test_accuracy"] += 0.3
    picture = phases.contradiction_map(tickets[tickets["rewind"] == 0])
    one, other, _ = picture.figure.axes
    assert one.get_ylim() == other.get_ylim()
    low, high = other.get_ylim()
    assert low < picture.table["low"].min() and high > picture.table["high"].max()


def test_the_map_does_without_instability_and_without_one_kind(tickets: pd.DataFrame):
    some = tickets[tickets["kind"] == "structured"].assign(instability=math.nan)
    picture = phases.contradiction_map(some[some["seed"] == 0])
    assert len(picture.figure.axes) == 2 and picture.table["seeds"].eq(1).all()
    picture.svg()


def test_nothing_to_draw_is_an_error_that_says_what_to_do(tickets: pd.DataFrame):
    for draw in (phases.phase_diagram, phases.contradiction_map):
        with pytest.raises(ValueError, match="run the experiment"):
            draw(pd.DataFrame())
    with pytest.raises(ValueError, match="must have an instability"):
        phases.instability_against_rewind(tickets.assign(instability=math.nan))
