"""Claims are measured paired by seed, with an interval, and can come out either way."""

import json
import math

import numpy as np
import pandas as pd
import pytest

from labkit.experiments.experiment import all_trials
from labkit.experiments.presets import NAMES, SIZES, study
from labkit.papers import claims
from labkit.papers.claims import Estimate, interval, measure, table, to_text, verdict
from labkit.papers.published import CLAIMS, LEAST, MOST, Claim, arm


def ticket(seed: int, treatment: str, density: float, accuracy: float, stop: int, draw: int = 0):
    return {
        "seed": seed,
        "round": 0 if treatment == "dense" else 7,
        "treatment": treatment,
        "draw": draw,
        "iterations": 500,
        "density": density,
        "early_stop": stop,
        "test_accuracy": accuracy,
    }


def claim(unit: str = "points", expected: str = "above", against: str = "dense") -> Claim:
    column = "test_accuracy" if unit == "points" else "early_stop"
    arms = arm("rewind", 0.211), arm(against, None if against == "dense" else 0.211)
    threshold = 1.0 if unit == "x" else 0.0
    return Claim("paper", "text", *arms, column, unit, expected, "higher", threshold)


def seeds(differences: list[float]) -> pd.DataFrame:
    """Tickets at 21% density that differ from dense networks of very different accuracy."""
    rows = []
    for seed, difference in enumerate(differences):
        level = 0.5 + 0.1 * seed
        rows.append(ticket(seed, "dense", 1.0, level, 1000))
        rows.append(ticket(seed, "rewind", 0.2107, level + difference / 100, 500))
    return pd.DataFrame(rows)


def test_differences_are_taken_within_a_seed_before_they_are_averaged():
    estimate = measure(claim(), seeds([0.4, 0.5, 0.6]))
    assert estimate is not None
    assert estimate.mean == pytest.approx(0.5)
    # Student's t with two degrees of freedom: 4.303 x 0.1 / sqrt(3), however seeds differ.
    assert estimate.high - estimate.mean == pytest.approx(4.303 * 0.1 / math.sqrt(3), rel=1e-3)
    assert (estimate.seeds, estimate.iterations) == (3, 500)


def test_draws_of_a_treatment_count_as_their_mean():
    rows = [ticket(0, "rewind", 0.21, 0.98, 500)]
    rows += [ticket(0, "reinitialise", 0.21, a, 900, d) for d, a in enumerate((0.96, 0.98))]
    estimate = measure(claim(against="reinitialise"), pd.DataFrame(rows))
    assert estimate is not None and estimate.mean == pytest.approx(1.0)


def test_a_seed_without_one_of_the_arms_is_left_out():
    rows = pd.concat([seeds([0.4, 0.6]), pd.DataFrame([ticket(9, "dense", 1.0, 0.1, 1)])])
    estimate = measure(claim(), rows)
    assert estimate is not None and estimate.seeds == 2


def test_a_claim_is_not_measured_at_another_density():
    rows = seeds([0.4, 0.6])
    rows.loc[rows["treatment"] == "rewind", "density"] = 0.5
    assert measure(claim(), rows) is None


def test_relative_changes_and_factors_are_means_of_ratios():
    rows = seeds([0, 0])
    rows.loc[(rows["treatment"] == "dense") & (rows["seed"] == 1), "early_stop"] = 2000
    change, factor = measure(claim("%", "below"), rows), measure(claim("x", "above"), rows)
    assert change is not None and change.mean == pytest.approx((-50 - 75) / 2)
    assert factor is not None and factor.mean == pytest.approx((2 + 4) / 2)


@pytest.mark.parametrize("n", [2, 5, 12])
def test_intervals_hold_the_true_mean_95_times_of_100(n: int):
    samples = np.random.default_rng(0).normal(3.0, 2.0, size=(2_000, n))
    hits = 0
    for sample in samples:
        low, high = interval(pd.Series(sample))
        hits += low < 3.0 < high
    assert 0.935 < hits / len(samples) < 0.965


@pytest.mark.parametrize(
    ("expected", "low", "mean", "high", "said"),
    [
        ("above", 0.1, 0.3, 0.5, "agrees"),
        ("above", -0.1, 0.3, 0.7, "undecided"),
        ("above", -0.5, -0.3, -0.1, "disagrees"),
        ("below", -0.5, -0.3, -0.1, "agrees"),
        ("below", 0.1, 0.3, 0.5, "disagrees"),
        ("matching", -0.5, -0.1, 0.3, "agrees"),
        ("matching", -0.9, -0.5, -0.3, "disagrees"),
        ("matching", -0.9, -0.5, -0.1, "undecided"),
        ("above", math.nan, 0.3, math.nan, "one seed: no interval"),
    ],
)
def test_the_verdict_follows_from_the_interval(expected, low, mean, high, said):
    assert verdict(claim(expected=expected), Estimate(mean, low, high, 5, 500)) == said


def test_a_factor_has_no_effect_at_one():
    assert verdict(claim("x"), Estimate(1.5, 0.9, 2.1, 5, 500)) == "undecided"
    assert verdict(claim("x"), Estimate(1.5, 1.1, 1.9, 5, 500)) == "agrees"


def test_the_table_names_seeds_and_iterations_and_survives_json():
    measured = table(None, seeds([0.4, 0.5, 0.6]))
    row = measured.iloc[1]
    assert row["this_run"].endswith("3 seeds, 500 iterations")
    assert row["this_run_verdict"] == "agrees" and row["reference_verdict"] == "not measured"
    assert len(json.loads(measured.to_json(orient="records"))) == len(CLAIMS["lottery"])
    text = to_text(measured)
    assert all(c.text in text and c.published in text for c in CLAIMS["lottery"])


def as_if_run(name: str, size: str) -> pd.DataFrame:
    """Tickets with the densities that a study comes to, all equally accurate and unstable."""
    rows = []
    for trial in all_trials(study(name, size)):
        e = trial.experiment
        share = (1 - e.pruning.rate) ** trial.round
        density = share**2 if e.pruning.structured else share
        row = ticket(trial.seed, trial.label, density, 0.9, 100, trial.draw)
        row |= {"round": trial.round, "rewind": e.rewind, "kind": e.pruning.kind}
        row |= {"network": e.task.network}
        row |= {"learning_rate": e.task.recipe.learning_rate, "final_test_accuracy": 0.9}
        row["instability"] = 0.03 if trial.analysed else math.nan
        if not trial.analysis:
            rows.append(row)
    return pd.DataFrame(rows)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", NAMES)
def test_a_finished_preset_measures_every_claim_that_is_made_about_it(name: str, size: str):
    assert set(CLAIMS) == set(NAMES)
    tickets = as_if_run(name, size)
    for known in CLAIMS[name]:
        estimate = measure(known, tickets)
        family = dict(known.arm.where).get("network", "")
        own = tickets[tickets["network"].str.startswith(family)].dropna(subset=[known.column])
        if size == "quick" and (
            own.empty or (name == "lottery" and (known.arm.density or 1) < 0.2)
        ):
            continue  # a network, or a density, of the reference alone
        assert estimate is not None, known.text
        rate = dict(known.arm.where).get("learning_rate")
        if rate in (LEAST, MOST):
            of_study = own["learning_rate"].agg("min" if rate == LEAST else "max")
            own = own[own["learning_rate"] == of_study]
        assert estimate.seeds == len(set(own["seed"]))


def test_each_claim_of_the_lottery_is_read_at_exactly_one_round_of_the_reference():
    # 20% per round, output layer 10%: the ladder of REFERENCE 2.1, nearly 0.8^round.
    ladder = [0.8**k for k in range(1, 21)]
    for c in CLAIMS["lottery"]:
        assert sum(abs(math.log(d / c.arm.density)) < claims.NEAR for d in ladder) == 1


def test_a_claim_about_a_value_needs_no_other_arm():
    rows = as_if_run("stability-dense", "quick")
    stable, unstable, _ = CLAIMS["stability-dense"]
    estimate = measure(unstable, rows)
    assert estimate is not None and estimate.mean == pytest.approx(3)  # points
    assert claims.in_words(unstable, Estimate(3, 2.5, 3.5, 3, 600)).startswith("3.00 points [2.50")
    assert verdict(unstable, Estimate(3, 2.5, 3.5, 3, 600)) == "agrees"
    assert verdict(stable, Estimate(3, 2.5, 3.5, 3, 600)) == "disagrees"


def test_least_and_most_are_those_of_the_study():
    rows = pd.concat([seeds([1, 1]), seeds([3, 3])], ignore_index=True)
    rows["learning_rate"] = [0.01] * 4 + [0.1] * 4
    for which, difference in ((LEAST, 1), (MOST, 3)):
        arms = (arm(t, where={"learning_rate": which}) for t in ("rewind", "dense"))
        estimate = measure(Claim("p", "t", *arms, "test_accuracy", "points", "above", "-"), rows)
        assert estimate is not None and estimate.mean == pytest.approx(difference)


def test_each_network_has_a_least_and_a_most_of_its_own():
    planned = study("reconciliation", "reference")
    rates = {e.task.network: [] for e in planned}
    for e in planned:
        rates[e.task.network].append(e.task.recipe.learning_rate)
    assert len({max(each) for each in rates.values()}) == 2
    tickets = as_if_run("reconciliation", "reference")
    for known in CLAIMS["reconciliation"]:
        assert measure(known, tickets, planned) is not None, known.text


def test_what_an_unfinished_study_lacks_is_not_measured_elsewhere():
    planned = study("stability-dense", "reference")
    rows = as_if_run("stability-dense", "reference")
    part = rows[(rows["learning_rate"] == 0.4) & rows["rewind"].isin([0, 300])]
    calm, unstable, late = CLAIMS["stability-dense"]
    assert measure(unstable, part, planned) is not None
    assert measure(calm, part, planned) is None and measure(late, part, planned) is None
    said = table(part, None, "stability-dense")["reference_verdict"].tolist()
    assert said[0] == said[2] == "not measured" != said[1]
