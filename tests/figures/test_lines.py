"""Lines and planes pass through the networks they are named after."""

from typing import Any

import pandas as pd
import pytest
import torch

from labkit.engine import connectivity
from labkit.engine.data import Data, Split
from labkit.engine.networks import Population, build, stack
from labkit.engine.training import evaluate_on, generator
from labkit.figures import lines as landscapes
from tests.pictures import outside


@pytest.fixture
def data() -> Data:
    noise = generator(0, "images")
    images = torch.randint(0, 256, (60, 1, 4, 4), generator=noise, dtype=torch.uint8)
    split = Split(images, torch.arange(60) % 3)
    zero, one = torch.zeros(1, 1, 1), torch.ones(1, 1, 1)
    return Data("noise", split, split[:10], split, ("a", "b", "c"), zero, one)


def three(name: str) -> tuple[Population, dict[str, Any]]:
    population = build(name, (1, 4, 4), 3, 3).initialise([generator(i) for i in range(3)])
    return population, {f"copy {i}": population[i].state() for i in range(3)}


def lines(**columns: object) -> pd.DataFrame:
    table = pd.DataFrame({"alpha": [0.0, 0.5, 1.0], "test_error": [0.1, 0.3, 0.2]})
    table["train_error"] = table["test_error"] / 2
    label = {"network": "resnet-8", "statistics": "interpolated", "seed": 0, "pair": "0-1"}
    return table.assign(**(label | {"rewind": 0} | columns))


# --- Lines ----------------------------------------------------------------------------------


def test_a_barrier_is_drawn_from_the_mean_of_its_ends_to_its_highest_point():
    picture = landscapes.barrier(torch.linspace(0, 1, 5), torch.tensor([2.0, 4, 12, 5, 4]))
    (axes,) = picture.figure.axes
    arrow, said = axes.texts
    assert (*arrow.xyann, *arrow.xy) == (0.5, 3, 0.5, 12)
    assert said.get_text() == "9.0 points" and "an instability of 9.0 points" in picture.summary
    assert picture.table["test error (%)"].tolist() == [2, 4, 12, 5, 4]
    assert axes.get_ylim()[0] == 0 and axes.get_ylim()[1] > 12
    oracle = 100 * connectivity.instability(torch.tensor([0.02, 0.04, 0.12, 0.05, 0.04]))
    assert oracle == pytest.approx(9)


@pytest.mark.parametrize("errors", [[1.0], [1.0, 2, 3]])
def test_a_barrier_needs_an_error_for_each_place(errors: list[float]):
    with pytest.raises(ValueError, match="alphas and errors must have as many entries"):
        landscapes.barrier([0, 1] if len(errors) > 1 else [0], errors)


def test_each_rewind_iteration_has_a_panel_with_train_and_test():
    paths = pd.concat([lines(), lines(seed=1), lines(rewind=100)])
    picture = landscapes.error_along_line(paths)
    assert [axes.get_title().split("\n")[0] for axes in picture.figure.axes] == [
        "k = 0 (initialisation)",
        "k = 100",
    ]
    looks = {line.get_linestyle() for line in picture.figure.axes[0].lines}
    assert looks == {"-", "--"}  # not told apart by colour alone
    assert picture.table["test_error"].tolist() == pytest.approx([10, 30, 20] * 2)
    assert "at the ends, at most 30.0%" in picture.summary and "15.0%" in picture.summary
    known = landscapes.error_along_line(paths.assign(learning_rate=0.1))
    assert "two copies, learning rate 0.1, " in known.summary


def test_no_panel_cuts_a_line_off_and_flat_lines_look_flat():
    flat = lines(rewind=100, test_error=0.1, train_error=0.1)
    for paths, least in (
        (pd.concat([flat, lines()]), 30),
        (pd.concat([lines(), flat]), 30),
        (flat, 15),
    ):
        for axes in landscapes.error_along_line(paths).figure.axes:
            low, high = axes.get_ylim()
            assert low < 10 and high > least


def test_a_line_says_which_statistics_it_used_where_there_are_any():
    (axes,) = landscapes.error_along_line(lines()).figure.axes
    assert "interpolated statistics" in axes.get_title()
    (axes,) = landscapes.error_along_line(lines(network="lenet-300-100")).figure.axes
    assert "statistics" not in axes.get_title()


def test_lines_can_be_compared_by_another_column():
    both = pd.concat([lines(), lines(statistics="re-estimated")])
    picture = landscapes.error_along_line(both, "statistics")
    assert [axes.get_title() for axes in picture.figure.axes] == ["interpolated", "re-estimated"]
    with pytest.raises(ValueError, match="by must be one of"):
        landscapes.error_along_line(both, "colour")


def test_no_line_is_an_error_that_says_what_to_do():
    with pytest.raises(ValueError, match="run an analysis of instability first"):
        landscapes.error_along_line(pd.DataFrame())


# --- Planes ---------------------------------------------------------------------------------


def plane(network: Population, states: dict[str, Any], data: Data, **options: Any):
    return connectivity.error_surface(network, states, data, data.test, **options)


def test_distances_on_the_plane_are_distances_between_weights(data: Data):
    network, states = three("lenet-5")
    surface = plane(network, states, data, points=2)
    places = torch.tensor(list(surface.networks.values()))
    vectors = [torch.cat([t.flatten() for t in state.values()]) for state in states.values()]
    for i in range(3):
        for j in range(3):
            between = (vectors[i] - vectors[j]).norm()
            assert (places[i] - places[j]).norm() == pytest.approx(between.item(), abs=1e-4)


def test_the_first_two_networks_stand_where_the_plane_says(data: Data):
    network, states = three("lenet-5")
    # A third network right above the first: the grid's lower corners are the first two.
    aside = states["copy 1"]["layers.2.bias"] - states["copy 0"]["layers.2.bias"]
    assert not aside.any()  # so a step along this bias is at right angles to the line
    states["copy 2"] = {n: t.clone() for n, t in states["copy 0"].items()}
    states["copy 2"]["layers.2.bias"] += 1
    surface = plane(network, states, data, points=2, margin=0.0)
    own = 1 - evaluate_on(network, data, data.test).accuracy
    assert surface.error[0].tolist() == pytest.approx(own[:2].tolist())
    assert surface.networks["copy 2"] == pytest.approx((0.0, 3**0.5))


def test_the_plane_has_the_same_values_in_any_chunks(data: Data, monkeypatch):
    network, states = three("lenet-5")
    together = plane(network, states, data, points=4).error
    monkeypatch.setattr(connectivity, "SIDE_BY_SIDE", 1)
    assert torch.equal(plane(network, states, data, points=4).error, together)


def test_pruned_weights_are_pruned_everywhere_on_the_plane(data: Data):
    _, states = three("lenet-5")
    for state in states.values():
        state["layers.0.weight"][:, :2] = 0
    shares = torch.tensor([[0.2, 1.5], [0.9, -1.0], [-0.1, 0.5]])
    grid = connectivity._combine(list(states.values()), shares)
    assert not grid["layers.0.weight"][:, :2].any() and grid["layers.0.weight"].shape[0] == 2


def test_statistics_are_re_estimated_beyond_the_networks(data: Data):
    network, states = three("resnet-8-w2")
    before = network.state()
    surface = plane(network, states, data, points=3, margin=1.0)
    assert surface.statistics == "re-estimated" and surface.error.isfinite().all()
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state().items())


def test_a_line_is_no_plane(data: Data):
    network, states = three("lenet-5")
    with pytest.raises(ValueError, match="states must be three, for a plane, not 2"):
        plane(network, {name: states[name] for name in ("copy 0", "copy 1")}, data)
    states["copy 2"] = {n: (t + states["copy 1"][n]) / 2 for n, t in states["copy 0"].items()}
    with pytest.raises(ValueError, match="must not lie on one line"):
        plane(stack([network]), states, data)


def test_a_map_marks_and_names_the_three_networks(data: Data):
    network, states = three("lenet-5")
    surface = plane(network, states, data, points=5)
    picture = landscapes.error_map(surface)
    axes = picture.figure.axes[0]
    assert {text.get_text() for text in axes.texts} >= set(states)
    assert len({line.get_marker() for line in axes.lines}) == 3
    assert picture.table.shape == (5, 5) and "Half-way between copy 0 and copy 1" in picture.summary
    assert outside(picture) < 0.01
