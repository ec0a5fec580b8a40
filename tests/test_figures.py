"""Each figure carries a sentence, the numbers it shows, and marks that need no colour."""

import pandas as pd
import pytest
import torch

from labkit import figures, report
from labkit.claims import table
from labkit.presets import preset
from labkit.running import Tables


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
    return Tables(pd.DataFrame(tickets), pd.DataFrame(curves))


def test_density_runs_from_dense_to_sparse_on_a_logarithmic_axis(results: Tables):
    (axes,) = figures.accuracy_against_density(results.tickets).figure.axes
    left, right = axes.get_xlim()
    assert left > right and axes.get_xscale() == "log"
    assert "density" in axes.get_xlabel() and "%" in axes.get_ylabel()


def test_arms_differ_by_more_than_colour(results: Tables):
    (axes,) = figures.accuracy_against_density(results.tickets).figure.axes
    looks = [(line.get_linestyle(), line.get_marker()) for line in axes.lines]
    assert len(set(looks)) == len(looks) == 3


def test_every_treatment_has_a_style_of_its_own():
    from labkit import TREATMENTS

    assert set(figures.STYLE) == {"dense", *TREATMENTS}
    dashed = [(str(dash), marker) for _, dash, marker, _ in figures.STYLE.values()]
    assert len(set(dashed) - {("-", "o")}) == len(dashed) - 2  # dense is a line without markers


def test_the_table_holds_mean_and_interval_over_seeds(results: Tables):
    shown = figures.accuracy_against_density(results.tickets).table
    row = shown[(shown["treatment"] == "rewind") & (shown["round"] == 1)].iloc[0]
    assert row["mean"] == pytest.approx(98.1) and row["seeds"] == 3
    assert row["high"] - row["mean"] == pytest.approx(4.303 * 0.1 / 3**0.5, rel=1e-3)


def test_the_summary_names_what_is_best(results: Tables):
    summary = figures.accuracy_against_density(results.tickets).summary
    assert "ticket" in summary and "50.0% density" in summary and "98.10%" in summary
    summary = figures.early_stop_against_density(results.tickets).summary
    assert "50.0% density" in summary and "200 iterations" in summary


def test_a_reference_is_drawn_behind_in_arms_of_its_own(results: Tables):
    (axes,) = figures.early_stop_against_density(results.tickets, results.tickets).figure.axes
    labels = [line.get_label() for line in axes.lines]
    assert "ticket (rewound)" in labels and "ticket (rewound), reference" in labels


def test_nothing_to_draw_is_an_error_that_says_what_to_do():
    with pytest.raises(ValueError, match="run the experiment first"):
        figures.accuracy_against_density(pd.DataFrame())


def test_learning_curves_show_the_dense_network_and_one_round(results: Tables):
    picture = figures.learning_curves(results.curves, 2)
    assert set(picture.table["treatment"]) == {"dense", "rewind", "reinitialise"}
    with pytest.raises(ValueError, match=r"round must be one of \[0, 1, 2\], not 7"):
        figures.learning_curves(results.curves, 7)


def test_a_pixel_map_counts_the_weights_of_each_pixel():
    mask = torch.zeros(2, 3, 16, dtype=torch.bool)
    mask[:, :, 5] = True  # row 1, column 1
    mask[0, 0, 15] = True
    counts = figures.pixel_map(mask, (1, 4, 4)).table
    assert counts.iloc[1, 1] == 6 and counts.iloc[3, 3] == 1 and counts.to_numpy().sum() == 7
    with pytest.raises(ValueError, match=r"\(R, out, 9\)"):
        figures.pixel_map(mask, (1, 3, 3))


def test_a_histogram_counts_every_weight_once():
    weights = torch.linspace(-1, 1, 101)
    shown = figures.weight_histogram(weights, weights.abs() > 0.5)
    assert shown.table["all"].sum() == 101
    assert shown.table["surviving"].sum() == int((weights.abs() > 0.5).sum())
    assert "49.5%" in shown.summary


def test_a_picture_is_an_image_with_its_summary_as_text(results: Tables):
    picture = figures.accuracy_against_density(results.tickets)
    assert picture.svg().lstrip().startswith("<?xml")
    rich = picture._repr_html_()
    assert f'alt="{picture.summary}"' in rich and "background:white" in rich


def test_the_report_needs_no_other_file(results: Tables, tmp_path):
    measured = table(results.tickets, results.tickets)
    path = report.write_report(
        tmp_path / "new" / "report.html", preset("lottery"), results, results, measured
    )
    page = path.read_text()
    assert page.count("data:image/svg+xml") == 3
    assert "http://" not in page.replace("http://www.w3.org", "") and "<script" not in page
    assert all(text in page for text in measured["claim"])


def test_a_report_that_cannot_be_written_says_where(results: Tables, tmp_path):
    (tmp_path / "file").write_text("")
    measured = table(None, results.tickets)
    with pytest.raises(report.StoreError, match="cannot write the report"):
        report.write_report(
            tmp_path / "file" / "r.html", preset("lottery"), results, None, measured
        )
