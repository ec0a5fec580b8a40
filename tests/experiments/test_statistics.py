"""A rule says what an interval means, once for every table, figure and claim."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from labkit.experiments.statistics import (
    MARGIN,
    RULES,
    Estimate,
    chance,
    estimate,
    holm,
    interval,
    over_seeds,
    seeds_to_decide,
    verdict,
)


@pytest.mark.parametrize("n", [2, 5, 12])
def test_intervals_hold_the_true_mean_95_times_of_100(n: int):
    samples = np.random.default_rng(0).normal(3.0, 2.0, size=(2_000, n))
    hits = 0
    for sample in samples:
        low, high = interval(pd.Series(sample))
        hits += low < 3.0 < high
    assert 0.935 < hits / len(samples) < 0.965


@pytest.mark.parametrize("n", [2, 3, 7, 40])
def test_intervals_are_students(n: int):
    values = pd.Series(np.random.default_rng(n).normal(size=n))
    expected = stats.t.interval(0.95, n - 1, values.mean(), stats.sem(values))
    assert interval(values) == pytest.approx(expected)


def test_one_seed_has_no_interval_and_decides_nothing():
    found = estimate(pd.Series([0.3]))
    assert found.mean == 0.3 and math.isnan(found.low) and math.isnan(found.high)
    assert {verdict(found, rule) for rule in RULES} == {"undecided"}
    assert seeds_to_decide(found, "above") is None and math.isnan(chance(found, "above"))


@pytest.mark.parametrize(
    ("rule", "low", "high", "said"),
    [
        ("above", 0.1, 0.5, "agrees"),
        ("above", -0.1, 0.7, "undecided"),
        ("above", -0.5, -0.1, "disagrees"),
        ("below", -0.5, -0.1, "agrees"),
        ("below", -0.5, 0.1, "undecided"),
        ("below", 0.1, 0.5, "disagrees"),
        ("at least", -0.1, 3.0, "agrees"),
        ("at least", -1.73, 3.72, "undecided"),  # however high its mean is
        ("at least", -0.9, -0.3, "disagrees"),
        ("at least", -0.9, -0.1, "undecided"),
        ("same", -0.1, 0.1, "agrees"),
        ("same", -0.1, 0.3, "undecided"),
        ("same", 0.3, 0.5, "disagrees"),
        ("same", -0.5, -0.3, "disagrees"),
    ],
)
def test_the_verdict_follows_from_the_whole_interval(rule, low, high, said):
    assert MARGIN == 0.2
    assert verdict(Estimate((low + high) / 2, low, high, 5), rule) == said


def test_a_threshold_moves_the_rule():
    found = Estimate(1.5, 0.9, 2.1, 5)
    assert verdict(found, "above", 1.0) == "undecided" and verdict(found, "above") == "agrees"


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("mean", [-0.35, -0.07, 0.12, 0.5])
def test_as_many_seeds_as_are_asked_for_decide_and_fewer_do_not(rule: str, mean: float):
    def with_seeds(n: int) -> Estimate:
        half = stats.t.ppf(0.975, n - 1) * 0.3 / math.sqrt(n)
        return Estimate(mean, mean - half, mean + half, n, 0.3)

    needed = seeds_to_decide(with_seeds(3), rule)
    assert needed is not None
    assert verdict(with_seeds(needed), rule) != "undecided"
    # An interval that is as wide as the margin is may lie across it at two ends.
    assert needed == 2 or verdict(with_seeds(needed - 1), rule) == "undecided"


def test_a_mean_at_the_bound_is_decided_by_no_number_of_seeds():
    assert seeds_to_decide(Estimate(0.0, -1, 1, 5, 1.0), "above") is None


@pytest.mark.parametrize("rule", ["above", "below"])
def test_chances_are_those_of_the_t_test(rule: str):
    values = pd.Series([0.3, 0.1, 0.5, -0.1, 0.4])
    expected = stats.ttest_1samp(values, 0).pvalue
    assert chance(estimate(values), rule) == pytest.approx(expected)


def test_chances_and_intervals_decide_alike():
    for seed in range(200):
        generator = np.random.default_rng(seed)
        found = estimate(pd.Series(generator.normal(generator.normal(), 0.5, size=4)))
        decided = verdict(found, "at least") != "undecided"
        assert decided == (chance(found, "at least") < 0.05)


def test_holm_multiplies_the_smallest_by_their_number():
    adjusted = holm(pd.Series([0.04, 0.01, np.nan, 0.03]))
    assert adjusted.iloc[[1, 3, 0]].tolist() == pytest.approx([0.03, 0.06, 0.06])
    assert math.isnan(adjusted.iloc[2])
    assert holm(pd.Series([0.9, 0.8])).tolist() == [1.0, 1.0]


def test_draws_of_a_seed_count_as_their_mean():
    rows = pd.DataFrame(
        {"arm": list("aaab"), "seed": [0, 0, 1, 0], "value": [0.1, 0.3, 0.4, np.nan]}
    )
    (row,) = over_seeds(rows, ["arm"], "value", 100).to_dict("records")
    assert (row["arm"], row["seeds"]) == ("a", 2) and row["mean"] == pytest.approx(30)
