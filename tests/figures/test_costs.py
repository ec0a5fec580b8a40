"""What a ticket costs: the law of the search, and the picture of it."""

import pandas as pd
import pytest

from labkit import Store, preset, tables
from labkit.figures import cost_of_tickets
from labkit.figures.costs import account


def chain(
    rate: float, rounds: int, seeds: tuple[int, ...] = (0, 1), start: int = 0
) -> pd.DataFrame:
    """Networks whose arithmetic is in proportion to their density."""
    return pd.DataFrame(
        {
            "seed": seed,
            "round": r,
            "treatment": "rewind" if r else "dense",
            "density": (1 - rate) ** r,
            "flops": 1e6 * (1 - rate) ** r,
            "iterations": 100 - (start if r else 0),
        }
        for seed in seeds
        for r in range(rounds + 1)
    )


@pytest.mark.parametrize("rate", [0.2, 0.5])
def test_a_search_little_by_little_pays_after_as_many_uses_as_rounds_would_prune_all(rate: float):
    found = account(chain(rate, 6))
    for number, row in found.set_index("round").iterrows():
        density = (1 - rate) ** number
        assert row["iterative"] == pytest.approx((1 - density) / rate)
        assert row["iterative_pays"] == pytest.approx(1 / rate), "whatever the round"
        assert row["one_shot_pays"] == pytest.approx(1 / (1 - density))
        assert row["use"] == pytest.approx(density)


def test_rewinding_to_a_later_iteration_saves_the_iterations_before_it():
    found = account(chain(0.5, 2, start=20)).set_index("round")
    assert found.loc[1, "use"] == pytest.approx(0.5 * 0.8)
    assert found.loc[2, "iterative"] == pytest.approx(1 + 0.5 * 0.8)


def test_other_arms_and_unfinished_seeds_change_nothing():
    whole = chain(0.2, 3)
    control = whole[whole["round"] > 0].assign(treatment="reinitialise", flops=1.0)
    unfinished = chain(0.7, 1, seeds=(7,))
    pd.testing.assert_frame_equal(account(pd.concat([whole, control, unfinished])), account(whole))


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (pd.DataFrame(), "columns density, flops"),
        (chain(0.2, 0), r"not rounds \[0\]"),
        (chain(0.2, 3).query("round != 2"), r"not rounds \[0, 1, 3\]"),
        (
            pd.concat([chain(0.2, 1).assign(network=name) for name in ("lenet-30", "lenet-40")]),
            "of one experiment",
        ),
    ],
)
def test_what_has_no_account_is_refused(rows: pd.DataFrame, says: str):
    with pytest.raises(ValueError, match=says):
        account(rows)


def test_the_picture_tells_the_numbers_that_it_draws():
    picture = cost_of_tickets(chain(0.2, 5))
    (axes,) = picture.figure.axes
    left, right = axes.get_xlim()
    assert left > right and axes.get_xscale() == "log" and "density" in axes.get_xlabel()
    drawn = [line.get_ydata().tolist() for line in axes.lines]
    assert drawn == [picture.table[name].tolist() for name in ("iterative", "one_shot", "use")]
    looks = [(line.get_linestyle(), line.get_marker()) for line in axes.lines]
    assert len(set(looks)) == 3
    assert "paid after 5.0 of them" in picture.summary


def test_the_shipped_lottery_obeys_the_law():
    tickets = tables(preset("lottery", "reference"), Store()).tickets
    found = account(tickets).set_index("round")
    # 20% per round, 10% of the last layer: a thousandth of the weights changes the law that little.
    assert found["iterative_pays"].between(4.9, 5.1).all()
    assert found["use"].tolist() == pytest.approx(found["density"].tolist(), rel=0.05)
