"""The picture of an architecture counts every unit of every layer, in front of the dense ones."""

import pandas as pd
import pytest

from labkit import build
from labkit.figures import layers as architecture

KEPT = {0: [30, 60, 90, 20, 5], 1: [32, 58, 80, 30, 5], 2: [28, 62, 90, 20, 5]}


def tickets(network: str = "vgg-small", criterion: str = "gamma") -> pd.DataFrame:
    rows = []
    for seed, widths in KEPT.items():
        label = {"network": network, "criterion": criterion, "seed": seed}
        rows.append({**label, "round": 0, "treatment": "dense", "density": 1.0})
        for treatment in ("rewind", "scratch-e"):
            row = {**label, "round": 1, "treatment": treatment, "widths": widths}
            rows.append({**row, "density": 0.3 + 0.01 * seed})
    return pd.DataFrame(rows)


@pytest.mark.parametrize("network", ["vgg-small", "lenet-300-100", "resnet-8"])
def test_dense_widths_are_those_of_the_network(network: str):
    population = build(network, (3, 32, 32), 10)
    weights = population.prunable()
    widths = [weights[f"{unit.layer}.weight"].shape[1] for unit in population.units()]
    assert architecture.dense_widths(network) == widths


def test_the_table_counts_every_layer_once_per_seed():
    table = architecture.kept_per_layer(tickets()).table
    assert table["layer"].tolist() == [1, 2, 3, 4, 5]
    assert table["dense"].tolist() == [32, 64, 128, 128, 128]
    assert table["mean"].tolist() == pytest.approx([30, 60, 260 / 3, 70 / 3, 5])
    assert (table["seeds"] == 3).all()  # treatments share what is kept
    assert table["max"].iloc[0] == 32 and table["min"].iloc[0] == 28
    assert table["share"].iloc[4] == pytest.approx(5 / 128)


def test_the_dense_network_stands_behind_and_every_seed_has_a_mark():
    picture = architecture.kept_per_layer(tickets())
    (axes,) = picture.figure.axes
    (dense,) = axes.patches
    assert dense.get_data().values.tolist() == [32, 64, 128, 128, 128]
    marks = [line for line in axes.lines if line.get_linestyle() == "None"]
    assert sum(len(line.get_xdata()) for line in marks) == 15
    assert "layer" in axes.get_xlabel() and "filters" in axes.get_ylabel()


def test_arms_differ_by_dash_and_marker():
    both = pd.concat([tickets(), tickets(criterion="magnitude")])
    (axes,) = architecture.kept_per_layer(both).figure.axes
    means = [line for line in axes.lines if line.get_linestyle() != "None"]
    assert len({line.get_linestyle() for line in means}) == len(means) == 2
    assert len({line.get_marker() for line in means}) == 2


def test_a_reference_of_another_network_has_axes_of_its_own():
    picture = architecture.kept_per_layer(tickets(), tickets())
    assert len(picture.figure.axes) == 1 and "Reference, vgg-small" in picture.summary
    other = tickets("lenet-32-64-128-128-128")
    picture = architecture.kept_per_layer(tickets(), other)
    titles = [axes.get_title() for axes in picture.figure.axes]
    assert titles == ["vgg-small", "lenet-32-64-128-128-128"]


def test_without_structured_pruning_there_is_nothing_to_show():
    with pytest.raises(ValueError, match="prune structures first"):
        architecture.kept_per_layer(tickets().drop(columns="widths"))
    with pytest.raises(ValueError, match="prune structures first"):
        architecture.kept_per_layer(pd.DataFrame(), pd.DataFrame())
