"""The report of a reproduction is one page that needs nothing else."""

import pandas as pd
import pytest

from labkit.base.store import StoreError
from labkit.experiments.presets import study
from labkit.experiments.results import Tables
from labkit.papers.claims import claims_table
from labkit.papers.report import Section, write_report


@pytest.fixture
def section() -> Section:
    tickets, curves = [], []
    for seed in (0, 1, 2):
        for treatment, number, density in (("dense", 0, 1.0), ("rewind", 1, 0.211)):
            label = {"seed": seed, "round": number, "treatment": treatment, "draw": 0}
            label |= {"iterations": 200, "density": density, "rewind": 0, "learning_rate": 0.1}
            value = 0.97 + 0.001 * (seed + number)
            ticket = {"test_accuracy": value, "final_test_accuracy": value, "early_stop": 100}
            settings = {"kind": "unstructured", "chain": "c", "family": "lenet", "warmup": 0}
            settings |= {"network": "lenet-300-100", "dataset": "mnist", "optimizer": "adam"}
            settings |= {"length": 200, "epochs": 0.2, "criterion": "magnitude", "cut": 0.2}
            settings |= {"scope": "layerwise", "share": 0.0, "weights": 100, "censored": False}
            settings |= {"between": "rewind", "at": "end", "drawn": 1.0, "task": "t"}
            tickets.append({**label, **settings, **ticket, "train_accuracy": 1.0})
            curves += [{**label, "iteration": i, "validation_accuracy": value} for i in (0, 200)]
    results = Tables(pd.DataFrame(tickets), pd.DataFrame(curves), pd.DataFrame())
    measured = claims_table(results.tickets, results.tickets)
    return Section("lottery", study("lottery"), results, results, measured)


def test_the_report_needs_no_other_file(section: Section, tmp_path):
    page = write_report(tmp_path / "report.html", [section]).read_text("utf-8")
    assert page.count("data:image/svg+xml") == 3
    assert "http://" not in page.replace("http://www.w3.org", "") and "<script" not in page
    assert all(text in page for text in section.claims.rows["says"])
    assert "1.2e-3" not in page and "0.0012" in page  # a setting


def test_a_report_that_cannot_be_written_says_where(section: Section, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot write the report .*r\.html"):
        write_report(tmp_path / "file" / "r.html", [section])
