"""Leads along density and size are differences within seeds, draws averaged before."""

import pandas as pd
import pytest

from labkit.figures import leads


def by_density() -> pd.DataFrame:
    """Leads of half a point at 50% and of two at 25%, and a one-shot ticket without any."""
    rows = []
    for seed in range(3):
        for rate in (0.1, 0.01):
            for cut, density, number, lead in (
                *((0.5, 0.5, 1, 0.005), (0.5, 0.25, 2, 0.02)),
                (0.8, 0.2, 1, 0.0),
            ):
                label = {"length": 600, "learning_rate": rate, "cut": cut, "round": number}
                label |= {"density": density, "seed": seed}
                level = 0.9 + 0.01 * seed
                rows.append({**label, "treatment": "rewind", "final_test_accuracy": level + lead})
                for draw in (-0.001, 0.001):
                    accuracy = level + draw
                    rows.append(
                        {**label, "treatment": "reinitialise", "final_test_accuracy": accuracy}
                    )
    return pd.DataFrame(rows)


def test_leads_by_density_are_paired_with_a_panel_per_length():
    longer = by_density().assign(length=3_000)
    picture = leads.difference_by_density(pd.concat([by_density(), longer]))
    found = picture.table.set_index(["length", "learning_rate", "density"])["difference"]
    assert found[600, 0.1, 0.25] == pytest.approx(2) and found[600, 0.1, 0.5] == pytest.approx(0.5)
    assert picture.table["seeds"].eq(3).all() and len(picture.table) == 12
    titles = [axes.get_title() for axes in picture.figure.axes]
    assert titles == ["600 iterations", "3,000 iterations"]
    marks = [c.lines[0] for c in picture.figure.axes[0].containers]
    assert sorted(len(mark.get_xdata()) for mark in marks) == [1, 1, 2, 2]
    assert {m.get_linestyle() for m in marks if len(m.get_xdata()) == 1} == {"None"}
    assert "3,000 iterations at 0.1: +0.5 points at 50% density" in picture.summary


def test_leads_need_both_arms():
    alone = by_density()
    alone = alone[alone["treatment"] == "rewind"]
    with pytest.raises(ValueError, match="must have rewind and reinitialise of one seed"):
        leads.difference_by_density(alone)


def by_size(points: dict[tuple[str, int], float]) -> pd.DataFrame:
    """Tickets of 25% that are ahead by so many points, by network and number of images."""
    rows = []
    for (network, images), lead in points.items():
        label = {"network": network, "images": images, "chain": f"{network}-{images}", "draw": 0}
        weights = int(network.rpartition("-")[2])
        for seed in range(3):
            label |= {"seed": seed, "round": 0, "weights": weights, "density": 1.0}
            rows.append({**label, "treatment": "dense", "final_test_accuracy": 0.9})
            label |= {"round": 1, "weights": weights // 4, "density": 0.25}
            # Seeds differ, and their leads do by a tenth of a point.
            for arm, more in (("rewind", lead + 0.1 * (seed - 1)), ("reinitialise", 0.0)):
                accuracy = 0.8 + 0.02 * seed + more / 100
                rows.append({**label, "treatment": arm, "final_test_accuracy": accuracy})
    return pd.DataFrame(rows)


def test_leads_by_size_have_a_panel_for_weights_and_one_for_images():
    by_points = {("net-400", 9): 2.0, ("net-800", 9): 0.5, ("net-400", 3): 1.0}
    picture = leads.difference_by_size(by_size(by_points))
    found = picture.table.set_index(["panel", "size"])["difference"]
    assert found.to_dict() == pytest.approx(
        {
            ("weights", 400): 2.0,
            ("weights", 800): 0.5,
            ("training images", 3): 1.0,
            ("training images", 9): 2.0,
        }
    )
    axes = picture.figure.axes
    assert [a.get_xlabel() for a in axes] == ["number of weights", "number of training images"]
    # Welch's interval: 2.776 x 0.1 x sqrt(2 / 3), for 4 degrees of freedom.
    assert "from 400 to 800 weights at 25% density +2.0 to +0.5 points" in picture.summary
    assert "a change of -1.50 [-1.73, -1.27]" in picture.summary
    assert "a change of +1.00 [+0.77, +1.23]" in picture.summary


def test_leads_by_size_need_both_arms():
    alone = by_size({("net-400", 9): 2.0})
    with pytest.raises(ValueError, match="must have rewind and reinitialise of one seed"):
        leads.difference_by_size(alone[alone["treatment"] == "rewind"])
    with pytest.raises(ValueError, match="run the experiment"):
        leads.difference_by_size(pd.DataFrame())
