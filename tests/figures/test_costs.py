"""What a ticket costs: the law of the search, and the picture of it."""

import pandas as pd
import pytest

from labkit import Store, preset, tables
from labkit.figures import cost_of_tickets, does_it_pay
from labkit.figures.costs import account, with_costs


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


def arms(**changes: object) -> pd.DataFrame:
    """Two rounds that halve the weights, with a control, as the tables have them."""
    rows = chain(0.5, 2)
    control = rows[rows["round"] == 2].assign(treatment="reinitialise")
    table = pd.concat([rows, control], ignore_index=True).assign(
        task="t", chain="c", between="rewind", at="end", drawn=1.0, share=0.0,
        criterion="magnitude", kind="unstructured", scope="global", draw=0,
    )  # fmt: skip
    table["final_test_accuracy"] = 0.9 + 0.01 * table["seed"] - 0.1 * table["round"]
    return table.assign(**changes)


def totals(tickets: pd.DataFrame) -> dict[tuple[int, str], float]:
    rows = with_costs(tickets)
    return rows[rows["seed"] == 0].set_index(["round", "treatment"])["total"].to_dict()


def test_a_mask_costs_all_trainings_of_its_chain_and_a_control_costs_that_too():
    found = totals(arms())
    assert found[0, "dense"] == 1
    assert found[1, "rewind"] == 1 + 0.5
    assert found[2, "rewind"] == found[2, "reinitialise"] == 1 + 0.5 + 0.25


def test_a_mask_that_is_drawn_at_a_moment_costs_the_dense_training_until_then():
    found = totals(arms(at="25", drawn=0.25))
    assert found[0, "dense"] == 1
    assert found[1, "rewind"] == 0.25 + 0.5
    assert found[2, "reinitialise"] == 0.25 + 0.25
    assert totals(arms(at="0", drawn=0.0))[2, "rewind"] == 0.25, "before training"


def test_new_weights_in_widths_that_anybody_could_choose_take_no_search():
    predefined = totals(arms(kind="structured", scope="layerwise"))
    assert predefined[2, "reinitialise"] == 0.25
    assert predefined[2, "rewind"] == 1.75
    assert totals(arms(kind="structured"))[2, "reinitialise"] == 1.75, "a ranking over all layers"


def test_only_the_chain_itself_is_searched_through():
    fine_tuned = arms(between="fine-tune").replace({"treatment": {"rewind": "fine-tune"}})
    rewound = fine_tuned[fine_tuned["round"] == 1].assign(treatment="rewind", iterations=900)
    found = totals(pd.concat([fine_tuned, rewound], ignore_index=True))
    assert found[2, "fine-tune"] == 1.75


def test_whether_it_pays_is_drawn_for_the_last_round_with_its_seeds():
    picture = does_it_pay(arms(), arms(at="0", drawn=0.0))
    table = picture.table.loc["this run"].set_index("treatment")
    assert list(table.index) == ["dense", "rewind", "reinitialise"]
    assert table.loc["rewind", "mean"] == pytest.approx(70.5)
    assert table.loc["rewind", "total"] == 1.75 and table.loc["rewind", "seeds"] == 2
    assert set(picture.table.index.get_level_values("run")) == {"reference", "this run"}
    assert "Nothing costs less than the dense training" in picture.summary
    assert "re-initialised" in does_it_pay(arms(kind="structured", scope="layerwise")).summary
    assert picture.figure.axes[0].get_xlabel().startswith("all arithmetic")


def test_moments_of_drawing_and_starts_are_kept_apart():
    early = arms(at="25", drawn=0.25, chain="d")
    back = early.assign(chain="e", share=0.25)
    table = does_it_pay(pd.concat([arms(), early, back], ignore_index=True)).table
    assert len(table) == 1 + 3 * 2, "the dense network once"


def test_without_rows_there_is_nothing_to_pay():
    with pytest.raises(ValueError, match="at least one row"):
        does_it_pay(pd.DataFrame())
