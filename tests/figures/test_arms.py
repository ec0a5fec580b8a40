"""Each figure carries a sentence, the numbers it shows, and marks that need no colour."""

from dataclasses import fields, replace

import pandas as pd
import pytest

from labkit import TREATMENTS
from labkit.experiments.results import Tables
from labkit.figures import arms as figures
from labkit.figures.picture import ARMS


@pytest.fixture
def results() -> Tables:
    tickets, curves = [], []
    for seed in (0, 1, 2):
        for treatment, number, density, accuracy in (
            ("dense", 0, 1.0, 0.97),
            ("rewind", 1, 0.5, 0.98),
            ("reinitialise", 1, 0.5, 0.96),
            ("rewind", 2, 0.25, 0.975),
            ("reinitialise", 2, 0.25, 0.95),
        ):
            label = {"seed": seed, "round": number, "treatment": treatment, "draw": 0}
            label |= {"iterations": 200, "density": density}
            value = accuracy + 0.001 * seed
            tickets.append({**label, "test_accuracy": value, "early_stop": 100 * (1 + number)})
            for iteration in (0, 100, 200):
                reached = value * iteration / 200
                curves.append({**label, "iteration": iteration, "validation_accuracy": reached})
    empty = {field.name: pd.DataFrame() for field in fields(Tables)}
    return replace(Tables(**empty), tickets=pd.DataFrame(tickets), curves=pd.DataFrame(curves))


def test_density_runs_from_dense_to_sparse_on_a_logarithmic_axis(results: Tables):
    (axes,) = figures.accuracy_against_density(results.tickets).figure.axes
    left, right = axes.get_xlim()
    assert left > right and axes.get_xscale() == "log"
    assert "density" in axes.get_xlabel() and "%" in axes.get_ylabel()


def test_arms_differ_by_more_than_colour(results: Tables):
    (axes,) = figures.accuracy_against_density(results.tickets).figure.axes
    looks = [(line.get_linestyle(), line.get_marker()) for line in axes.lines]
    assert len(set(looks)) == len(looks) == 3


def test_learning_curves_differ_by_more_than_colour_too(results: Tables):
    (axes,) = figures.learning_curves(results.curves, 1).figure.axes
    looks = [(line.get_linestyle(), line.get_marker()) for line in axes.lines]
    assert len(set(looks)) == len(looks) == 3


def test_every_treatment_has_a_name_and_a_pair_of_dashes_and_marker_of_its_own():
    assert set(ARMS) >= {"dense", *TREATMENTS}
    assert len({look.name for look in ARMS.values()}) == len(ARMS)
    assert len({(str(look.dash), look.marker) for look in ARMS.values()}) == len(ARMS)


def test_the_table_holds_mean_and_interval_over_seeds(results: Tables):
    shown = figures.accuracy_against_density(results.tickets).table
    row = shown[(shown["treatment"] == "rewind") & (shown["round"] == 1)].iloc[0]
    assert row["mean"] == pytest.approx(98.1) and row["seeds"] == 3
    assert row["high"] - row["mean"] == pytest.approx(4.303 * 0.1 / 3**0.5, rel=1e-3)


def test_the_interval_of_an_arm_with_a_single_density_is_seen(results: Tables):
    once = results.tickets[results.tickets["round"] < 2]
    (axes,) = figures.accuracy_against_density(once).figure.axes
    (line,) = [c for c in axes.collections if type(c).__name__ == "LineCollection"]
    low, high = line.get_segments()[0][:, 1]
    assert low < 96.1 < high


def test_the_summary_names_what_is_best(results: Tables):
    summary = figures.accuracy_against_density(results.tickets).summary
    assert "ticket" in summary and "50.0% density" in summary and "98.10%" in summary
    summary = figures.early_stop_against_density(results.tickets).summary
    assert "50.0% density" in summary and "200 iterations" in summary


def test_a_reference_is_drawn_pale_and_named_once(results: Tables):
    more = results.tickets.assign(density=results.tickets["density"] ** 3)
    figure = figures.early_stop_against_density(results.tickets, more).figure
    (axes,), (legend,) = figure.axes, figure.legends
    assert [line.get_alpha() for line in axes.lines].count(0.4) == len(axes.lines) / 2 == 3
    assert sorted(text.get_text() for text in legend.get_texts()) == [
        "dense network",
        "pale: shipped reference",
        "re-initialised",
        "ticket (rewound)",
    ]
    assert min(axes.get_xticks()) == 0.02  # the reference has its ticks, too


def test_the_legend_covers_no_data(results: Tables):
    for picture in (
        figures.accuracy_against_density(results.tickets, results.tickets),
        figures.learning_curves(results.curves, 1),
    ):
        picture.svg()  # which lays it out
        (axes,), (legend,) = picture.figure.axes, picture.figure.legends
        assert not legend.get_window_extent().overlaps(axes.get_window_extent())


def test_nothing_to_draw_is_an_error_that_says_what_to_do():
    with pytest.raises(ValueError, match="run the experiment first"):
        figures.accuracy_against_density(pd.DataFrame())


def test_learning_curves_show_the_dense_network_and_one_round(results: Tables):
    picture = figures.learning_curves(results.curves, 2)
    assert set(picture.table["treatment"]) == {"dense", "rewind", "reinitialise"}
    with pytest.raises(ValueError, match=r"round must be one of \[0, 1, 2\], not 7"):
        figures.learning_curves(results.curves, 7)


def test_long_learning_curves_are_means_of_evaluations_that_follow_each_other():
    label = {"seed": 0, "draw": 0, "density": 1.0}
    curves = pd.DataFrame(
        {**label, "round": number, "treatment": treatment, "iteration": 10 * i}
        | {"validation_accuracy": 0.5 + 0.001 * i + number / 10}
        for number, treatment in enumerate(("dense", "rewind"))
        for i in range(301)
    )
    picture = figures.learning_curves(curves, 1)
    (axes,) = picture.figure.axes
    assert axes.get_xlabel() == "iteration, means of 4 evaluations"
    for treatment, first in (("dense", 50.15), ("rewind", 60.15)):
        arm = picture.table[picture.table["treatment"] == treatment].reset_index()
        assert len(arm) == 76 and arm["iteration"].tolist()[-1] == 3_000
        assert arm.loc[0, ["iteration", "mean"]].tolist() == pytest.approx([15, first])
