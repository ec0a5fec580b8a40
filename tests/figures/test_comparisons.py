"""Arms are compared seed by seed, at their own size, and marked by more than colour."""

import pandas as pd
import pytest

from labkit.figures import comparisons

EFFECT = {"dense": 3.0, "rewind": 1.0, "fine-tune-quarter": 0.0, "scratch-e": 0.5, "scratch-b": 2.0}


def tickets(
    seeds: tuple[int, ...] = (0, 1, 2), level: float = 60.0, size: int = 40, **settings: object
) -> pd.DataFrame:
    """A study of one experiment: seeds differ by a whole point, arms by the same in each seed."""
    rows = []
    for seed in seeds:
        for treatment, effect in EFFECT.items():
            row = {
                "dataset": "mnist",
                "network": "lenet-300-100",
                "learning_rate": 0.1,
                "rewind": 0,
            }
            row |= {"kind": "structured", "criterion": "magnitude", "seed": seed, "draw": 0}
            row |= {"treatment": treatment, "round": int(treatment != "dense"), **settings}
            dense = treatment == "dense"
            row |= {"density": 1.0 if dense else size / 160, "weights": 160 if dense else size}
            value = (level + seed + effect * (1 + 0.1 * seed)) / 100
            row |= {"final_test_accuracy": value, "test_accuracy": value / 2}
            rows.append(row)
    return pd.DataFrame(rows)


def of(table: pd.DataFrame, treatment: str) -> pd.Series:
    (row,) = table[table["treatment"] == treatment].to_dict("records")
    return row


def test_differences_are_taken_within_each_seed():
    table = comparisons.compare_treatments(tickets(), against="fine-tune-quarter").table
    row = of(table, "scratch-b")
    assert row["difference_mean"] == pytest.approx(2.2) and row["seeds"] == 3
    half = 4.303 * 0.2 / 3**0.5  # seeds themselves differ by five times as much
    assert row["difference_high"] - row["difference_mean"] == pytest.approx(half, rel=1e-3)
    assert row["mean"] == pytest.approx(63.2)
    assert of(table, "dense")["difference_mean"] == pytest.approx(3.3)


def test_draws_of_a_seed_are_averaged_before_seeds_are_compared():
    again = tickets()
    drawn = again[again["treatment"] == "scratch-e"].assign(draw=1)
    drawn["final_test_accuracy"] += 0.01
    both = comparisons.compare_treatments(
        pd.concat([again, drawn]), against="fine-tune-quarter"
    ).table
    assert of(both, "scratch-e")["difference_mean"] == pytest.approx(0.55 + 0.5)
    assert of(both, "scratch-e")["seeds"] == 3


def test_a_reference_alone_is_not_called_this_run():
    alone = comparisons.compare_treatments(None, tickets(), against="fine-tune-quarter")
    assert set(alone.table["run"]) == {"reference"} and "his run" not in alone.summary
    labels = [text.get_text() for text in alone.figure.legends[0].get_texts()]
    assert "shipped reference" in labels  # not pale, where nothing stands before it


def test_a_seed_without_the_arm_to_compare_with_has_no_difference():
    some = tickets()
    some = some[(some["seed"] > 0) | (some["treatment"] != "fine-tune-quarter")]
    row = of(comparisons.compare_treatments(some, against="fine-tune-quarter").table, "scratch-b")
    assert row["difference_mean"] == pytest.approx(2.3) and row["mean"] == pytest.approx(63.2)


def test_networks_of_another_size_are_another_block():
    study = pd.concat([tickets(), tickets(size=16, level=50)])
    table = comparisons.compare_treatments(study, against="fine-tune-quarter").table
    assert set(table["block"]) == {"25% density", "10% density"}
    assert (table.groupby("block")["treatment"].nunique() == len(EFFECT)).all()


def test_global_pruning_of_units_is_one_block_whatever_its_seeds_keep():
    parts = [
        tickets(seeds=(seed,), size=40 + 3 * seed).assign(widths=lambda t: [[9, 3]] * len(t))
        for seed in (0, 1, 2)
    ]
    study = pd.concat(parts, ignore_index=True)
    study.loc[study["treatment"] == "dense", "widths"] = None
    table = comparisons.compare_treatments(study, against="fine-tune-quarter").table
    assert table["block"].nunique() == 1 and of(table, "scratch-b")["seeds"] == 3


def test_the_reference_stands_beside_a_run_of_nearly_the_same_density():
    picture = comparisons.compare_treatments(
        tickets(seeds=(0,)), tickets(size=42), against="fine-tune-quarter"
    )
    assert picture.table.groupby("run")["block"].unique().map(len).to_dict() == {
        comparisons.THIS_RUN: 1,
        comparisons.REFERENCE: 1,
    }
    assert picture.table["block"].nunique() == 1
    left, right = picture.figure.axes
    labels = [label.get_text() for label in left.get_yticklabels()]
    assert labels[:3] == ["26% density", "dense network", "fine-tuned, a quarter"]
    assert "points" in right.get_xlabel() and "%" in left.get_xlabel()
    assert {line.get_alpha() for line in left.lines} == {1.0, 0.4}


def test_the_legend_names_what_is_drawn():
    def names(*tables: pd.DataFrame) -> list[str]:
        picture = comparisons.compare_treatments(*tables, against="fine-tune-quarter")
        return [text.get_text() for text in picture.figure.legends[0].get_texts()]

    assert names(tickets(seeds=(0,))) == ["this run, one seed"]
    explained = ["a seed", "95% interval"]
    assert names(tickets()) == ["this run", *explained]
    assert names(tickets(seeds=(0,)), tickets()) == [
        *("this run", "pale: shipped reference"),
        *explained,
    ]


def test_blocks_name_the_settings_that_differ():
    study = pd.concat([tickets(), tickets(learning_rate=0.01)])
    blocks = set(comparisons.compare_treatments(study, against="fine-tune-quarter").table["block"])
    assert blocks == {"25% density, learning rate 0.1", "25% density, learning rate 0.01"}


def test_a_run_and_a_reference_of_another_length_share_their_rows():
    both = comparisons.compare_treatments(
        tickets(length=150), tickets(length=1_500), against="fine-tune-quarter"
    )
    assert set(both.table["block"]) == {"25% density"}
    lengths = pd.concat([tickets(length=150), tickets(length=1_500)])
    blocks = set(
        comparisons.compare_treatments(lengths, against="fine-tune-quarter").table["block"]
    )
    assert blocks == {"25% density, length 150", "25% density, length 1500"}


def test_the_summary_tells_the_best_arm_and_whether_there_is_an_interval():
    one = comparisons.compare_treatments(tickets(seeds=(0,)), against="fine-tune-quarter").summary
    assert one == (
        "This run, 25% density: Scratch-B is highest, +2.00 points against "
        "fine-tuned, a quarter (1 seed)."
    )
    three = comparisons.compare_treatments(tickets(), against="fine-tune-quarter").summary
    assert "+2.20 points [+1.70, +2.70] against" in three and "(3 seeds)" in three


def test_another_accuracy_can_be_compared():
    table = comparisons.compare_treatments(
        tickets(), against="fine-tune-quarter", column="test_accuracy"
    ).table
    assert of(table, "scratch-b")["difference_mean"] == pytest.approx(1.1)


def test_there_must_be_something_to_compare_with():
    with pytest.raises(ValueError, match=r"scratch-b, scratch-e.*not 'fine-tune'"):
        comparisons.compare_treatments(tickets(), against="fine-tune")
    with pytest.raises(ValueError, match="nothing"):
        comparisons.compare_treatments(pd.DataFrame())


def rates() -> pd.DataFrame:
    parts = []
    for kind, size in (("unstructured", 32), ("structured", 40)):
        for rate, level in ((0.1, 70.0), (0.01, 60.0)):
            parts.append(tickets(kind=kind, size=size, learning_rate=rate, level=level))
    study = pd.concat(parts, ignore_index=True)
    small = (study["learning_rate"] == 0.01) & (study["kind"] == "unstructured")
    study.loc[small & (study["treatment"] == "rewind"), "final_test_accuracy"] += 0.05
    return study


def test_the_interaction_has_a_mean_for_each_kind_and_rate():
    picture = comparisons.difference_by_learning_rate(rates(), arm="rewind", against="scratch-e")
    table = picture.table.set_index(["kind", "learning_rate"])["difference_mean"]
    assert table["unstructured", 0.01] == pytest.approx(5.55)
    assert table["unstructured", 0.1] == pytest.approx(0.55)
    assert table["structured", 0.01] == pytest.approx(table["structured", 0.1])
    assert "unstructured at 0.01 +5.55 points [" in picture.summary


def test_kinds_differ_by_more_than_colour_and_the_reference_is_pale():
    picture = comparisons.difference_by_learning_rate(rates(), rates(), against="scratch-e")
    (axes,) = picture.figure.axes
    labels = {text.get_text() for text in picture.figure.legends[0].get_texts()}
    assert labels == {
        *("unstructured, 20% density", "structured, 25% density"),
        *("unstructured, 20% density, reference", "structured, 25% density, reference"),
    }
    assert {line.get_marker() for line in axes.lines} >= {"o", "s"}
    assert {line.get_linestyle() for line in axes.lines} >= {"-", "--"}
    assert {line.get_alpha() for line in axes.lines} >= {1.0, 0.4}


def test_a_run_of_one_rate_alone_can_be_shown():
    one = rates()
    one = one[(one["learning_rate"] == 0.1) & (one["seed"] == 0)]
    picture = comparisons.difference_by_learning_rate(one, against="scratch-e")
    assert len(picture.table) == 2 and "[" not in picture.summary
    with pytest.raises(ValueError, match="rewind and scratch-b"):
        alone = one[one["treatment"] != "rewind"]
        comparisons.difference_by_learning_rate(alone, against="scratch-b")
