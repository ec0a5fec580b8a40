"""A picture is seen, read aloud, and checked against its numbers."""

import base64
import re
from collections.abc import Callable
from dataclasses import replace

import pandas as pd
import pytest

from labkit import figures
from labkit.base.store import Store
from labkit.engine.connectivity import Instability
from labkit.engine.pruning import Pruning
from labkit.experiments.experiment import Experiment
from labkit.experiments.mishaps import UNKNOWN
from labkit.experiments.results import Tables
from labkit.experiments.task import Task
from labkit.figures.picture import Picture, empty_axes, figure_of
from tests.pictures import outside
from tests.synthetic import DATA, SGD, finish


def drawn(table: pd.DataFrame) -> Picture:
    axes = empty_axes(2, 1)
    axes.plot(table.iloc[:, -1])
    return Picture(figure_of(axes), "A line <through> two points.", table)


def test_the_image_carries_its_summary_and_stands_on_white():
    page = drawn(pd.DataFrame({"density": [1.0, 0.5]})).to_html()
    ((source, words),) = re.findall(r'src="data:image/svg\+xml;base64,(.*?)" alt="(.*?)"', page)
    assert b"<svg" in base64.b64decode(source)
    assert words == "A line &lt;through&gt; two points." and f">{words}</figcaption>" in page
    assert "background:white" in page


def test_the_numbers_are_there_on_request_with_the_names_of_their_rows():
    page = drawn(pd.DataFrame({"density": [0.123456789, 0.5]})).to_html()
    assert "<details>" in page and "<td>0.123457</td>" in page and "<th>0</th>" not in page
    named = pd.DataFrame({"density": [1.0, 0.5]}, index=pd.Index(["dense", "ticket"]))
    assert "<th>ticket</th>" in drawn(named).to_html()


def test_the_same_picture_is_the_same_text():
    table = pd.DataFrame({"density": [1.0, 0.5]})
    assert drawn(table).svg() == drawn(table).svg()


def test_counts_are_whole_numbers_even_where_one_is_missing():
    table = pd.DataFrame({"weights": [1_389_216.0, None], "share": [0.5, 1.0], 0.1: ["a", "b"]})
    shown = Picture(figure_of(empty_axes()), "words", table).to_html()
    assert "<td>1389216</td>" in shown and "<td>0.5</td>" in shown
    assert "e+06" not in shown and "NA" not in shown


# What went wrong is said in every picture of it.

DIVERGING = Experiment(
    Task(network="lenet-8-6", recipe=replace(SGD, learning_rate=1e30)),
    Pruning("structured"),
    rounds=1,
    treatments=("fine-tune", "reinitialise"),  # type: ignore[arg-type]
    seeds=(0, 1),
    instability=Instability(2, 3, train_examples=20),
)
PICTURES: dict[str, Callable[[Tables], Picture]] = {
    "accuracy": lambda t: figures.accuracy_against_density(t.tickets),
    "early stop": lambda t: figures.early_stop_against_density(t.tickets),
    "curves": lambda t: figures.learning_curves(t.curves, 1),
    "treatments": lambda t: figures.compare_treatments(t.tickets),
    "learning rates": lambda t: figures.difference_by_learning_rate(t.tickets),
    "densities": lambda t: figures.difference_by_density(t.tickets),
    "instability": lambda t: figures.instability_against_rewind(t.tickets),
    "phases": lambda t: figures.phase_diagram(t.tickets),
    "contradictions": lambda t: figures.contradiction_map(t.tickets),
    "lines": lambda t: figures.error_along_line(t.paths),
    "layers": lambda t: figures.kept_per_layer(t.tickets),
}


@pytest.fixture(scope="module")
def diverged(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Task, "data", lambda task: DATA[task.network])
        return finish(DIVERGING, Store(tmp_path_factory.mktemp("store"), shipped=False))


def above(picture: Picture) -> str:
    return "\n".join(text.get_text() for text in picture.figure.texts)


@pytest.mark.parametrize("make", PICTURES.values(), ids=PICTURES)
def test_nothing_is_cut_at_the_edge(make: Callable[[Tables], Picture], diverged: Tables):
    assert outside(make(diverged)) < 0.01


@pytest.mark.parametrize("make", PICTURES.values(), ids=PICTURES)
def test_a_picture_of_networks_that_diverged_says_so(
    make: Callable[[Tables], Picture], diverged: Tables
):
    picture = make(diverged)
    words = "networks: diverged: losses or weights are not finite"
    assert words in above(picture) and words in picture.summary
    well = UNKNOWN
    parts = (diverged.tickets, diverged.curves, diverged.paths)
    sound = make(Tables(*(part.assign(**well) for part in parts)))
    assert above(sound) == "" and "diverged" not in sound.summary


def test_a_picture_counts_networks_and_tells_those_of_the_reference(diverged: Tables):
    picture = figures.accuracy_against_density(diverged.tickets, diverged.tickets)
    assert picture.summary.count("8 of 8 networks: diverged") == 2
    assert "In the reference 8 of 8" in picture.summary
    assert "6 of 6 networks" not in figures.learning_curves(diverged.curves, 1).summary
