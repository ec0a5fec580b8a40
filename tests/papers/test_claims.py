"""Claims are fixed, read in every trained cell, paired by seed, and can come out either way."""

import json
import math
from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import pytest

from labkit.base.places import data_folder
from labkit.base.store import Store
from labkit.experiments.presets import NAMES
from labkit.experiments.statistics import RULES
from labkit.experiments.treatments import NEW_WEIGHTS, TREATMENTS
from labkit.papers.cells import cells, evidence, headlines, under_one_name
from labkit.papers.claims import NOT_MEASURED, claims_table
from labkit.papers.register import Claim, register

COLUMNS = {"test_accuracy", "final_test_accuracy", "train_accuracy", "early_stop", "instability"}
CLAIM = Claim(
    claim="test",
    paper="paper",
    place="section 1",
    network="a network",
    says="Tickets are better",
    published="higher",
    effect=0.5,
    unit="points",
    rule="above",
    arm="rewind",
    against="dense",
    readings=("test_accuracy",),
    where="",
    nearest=(("density", "0.21"),),
    studies=("lottery",),
)


def ticket(seed: int, treatment: str, accuracy: float, stop: int = 500, **changes: object):
    density = 1.0 if treatment == "dense" else 0.21
    return {
        "network": "lenet-5", "family": "lenet", "dataset": "mnist",
        "optimizer": "sgd",
        "learning_rate": 0.1, "length": 600, "epochs": 1.0, "kind": "unstructured",
        "criterion": "magnitude", "scope": "global", "cut": 0.5, "warmup": 0,
        "rewind": 0, "share": 0.0,
        "between": "rewind", "at": "end", "drawn": 1.0, "task": "t",
        "chain": "c", "seed": seed, "round": 0 if treatment == "dense" else 7,
        "treatment": treatment, "draw": 0, "iterations": 500, "density": density, "weights": 100,
        "early_stop": stop, "censored": False, "test_accuracy": accuracy,
        "final_test_accuracy": accuracy, "instability": math.nan,
    } | changes  # fmt: skip


def seeds(differences: list[float], **changes: object) -> pd.DataFrame:
    """Tickets that differ from dense networks of very different accuracy."""
    rows = []
    for seed, difference in enumerate(differences):
        level = 0.5 + 0.1 * seed
        rows.append(ticket(seed, "dense", level, 1000) | changes)
        rows.append(ticket(seed, "rewind", level + difference / 100) | changes)
    return pd.DataFrame(rows)


def one(claim: Claim, tickets: pd.DataFrame) -> dict:
    (row,) = cells(claim, tickets).to_dict("records")
    return row


def test_differences_are_taken_within_a_seed_before_they_are_averaged():
    row = one(CLAIM, seeds([0.4, 0.5, 0.6]))
    assert row["mean"] == pytest.approx(0.5)
    # Student's t with two degrees of freedom: 4.303 x 0.1 / sqrt(3), however seeds differ.
    assert row["high"] - row["mean"] == pytest.approx(4.303 * 0.1 / math.sqrt(3), rel=1e-3)
    assert (row["seeds"], row["iterations"], row["verdict"]) == (3, 500, "agrees")
    assert row["paper_inside"]


def test_draws_of_a_treatment_count_as_their_mean():
    rows = [ticket(0, "rewind", 0.98)]
    rows += [ticket(0, "reinitialise", a, draw=d) for d, a in enumerate((0.96, 0.98))]
    row = one(replace(CLAIM, against="reinitialise"), pd.DataFrame(rows))
    assert row["mean"] == pytest.approx(1.0) and row["verdict"] == "undecided"


def test_a_seed_without_one_of_the_arms_is_left_out():
    rows = pd.concat([seeds([0.4, 0.6]), pd.DataFrame([ticket(9, "dense", 0.1)])])
    assert one(CLAIM, rows)["seeds"] == 2


def test_early_stops_that_were_cut_off_are_no_measurement():
    claim = replace(CLAIM, readings=("early_stop",), unit="%", rule="below")
    rows = seeds([0, 0, 0])
    rows.loc[1, "censored"] = True  # a ticket's
    rows.loc[2, "censored"] = True  # another seed's dense network's
    row = one(claim, rows)
    assert row["seeds"] == 1 and row["mean"] == pytest.approx(-50)


@pytest.mark.parametrize("mishap", ["diverged", "stray"])
def test_networks_that_diverged_or_strayed_are_no_measurement(mishap: str):
    rows = seeds([0.4, 0.6, -40]).assign(**{mishap: [False] * 5 + [True]})
    assert one(CLAIM, rows)["mean"] == pytest.approx(0.5)


def test_relative_changes_and_factors_are_means_of_ratios():
    rows = seeds([0, 0])
    rows.loc[(rows["treatment"] == "dense") & (rows["seed"] == 1), "early_stop"] = 2000
    stop = replace(CLAIM, readings=("early_stop",))
    assert one(replace(stop, unit="%"), rows)["mean"] == pytest.approx((-50 - 75) / 2)
    assert one(replace(stop, unit="x"), rows)["mean"] == pytest.approx((2 + 4) / 2)
    assert replace(stop, unit="x").threshold == 1


def test_a_claim_about_a_value_needs_no_other_arm():
    claim = replace(CLAIM, against="", readings=("instability",), rule="below", effect=None)
    rows = seeds([0, 0]).assign(instability=[0.03, 0.011, 0.03, 0.012])
    assert claim.threshold == 2  # points
    row = one(claim, rows)
    assert row["mean"] == pytest.approx(1.15) and row["verdict"] == "agrees"


def test_arms_are_compared_within_a_chain_and_every_chain_is_shown():
    at = {"chain": "other", "learning_rate": 0.01}
    found = cells(CLAIM, pd.concat([seeds([1.0, 1.1, 0.9]), seeds([-1.0, -1.1, -0.9], **at)]))
    assert found.set_index("learning_rate")["verdict"].to_dict() == {
        0.1: "agrees",
        0.01: "disagrees",
    }


def test_the_headline_is_nearest_to_the_papers_setting_whatever_it_says():
    parts = [
        seeds([1.0, 1.1, 0.9], chain="a", learning_rate=0.1),
        seeds([-1.0, -1.1, -0.9], chain="b", learning_rate=0.1, length=6_000),
        seeds([1.0, 1.1, 0.9], chain="c", learning_rate=0.4),
    ]
    found = cells(CLAIM, pd.concat(parts))
    claim = replace(CLAIM, nearest=(("learning_rate", "0.1"), ("density", "0.2")))
    (head,) = headlines(claim, found).to_dict("records")
    assert (head["learning_rate"], head["length"], head["verdict"]) == (0.1, 6_000, "disagrees")


def test_a_claim_reads_only_what_it_is_about():
    claim = replace(CLAIM, where="learning_rate >= 0.1")
    assert cells(claim, seeds([1, 1], learning_rate=0.01)).empty
    assert cells(replace(CLAIM, why="too large"), seeds([1, 1])).empty


def test_only_a_claim_that_asks_for_it_reads_early_masks_chains_that_fine_tune_and_warm_ups():
    early = seeds([1, 1], chain="early", at="0", drawn=0.0, criterion="snip")
    tuned = seeds([1, 1], chain="tuned", between="fine-tune")
    warm = seeds([1, 1], chain="warm", warmup=60)
    both = pd.concat([early, tuned, warm])
    assert cells(CLAIM, both).empty
    for where, chain in (("at == '0'", "early"), ("drawn < 1", "early"), ("at != 'end'", "early"),
                         ("between == 'fine-tune'", "tuned"), ("warmup > 0", "warm")):  # fmt: skip
        found = cells(replace(CLAIM, where=where), both)
        assert found["cell"].str.startswith(chain).all() and len(found) == 1


def test_an_arm_can_be_compared_with_another_chain_of_the_same_density_and_task():
    later = seeds([2.0, 2.2, 1.8])
    early = seeds([0.5, 0.7, 0.3], chain="early", at="0", drawn=0.0)
    sparser = seeds([9, 9, 9], chain="sparser").assign(density=0.1)
    elsewhere = seeds([9, 9, 9], chain="elsewhere", task="u")
    claim = replace(CLAIM, where="at == '0'", against="rewind", other="at == 'end'", rule="below")
    row = one(claim, pd.concat([later, early, sparser, elsewhere]))
    assert row["mean"] == pytest.approx(-1.5) and row["verdict"] == "agrees"
    assert cells(claim, pd.concat([early, sparser, elsewhere])).empty
    varied = {"kind": "structured", "scope": "global"}
    at_the_end, drawn = (part.assign(**varied) for part in (later, early))
    drawn["density"] *= 0.7  # which units go depends on the training
    assert one(claim, pd.concat([at_the_end, drawn]))["mean"] == pytest.approx(-1.5)


# The register.


def test_every_claim_is_one_that_can_be_read():
    names = [claim.claim for claim in register()]
    assert len(set(names)) == len(names) >= 40
    for claim in register():
        assert claim.paper and claim.place and claim.network and claim.says, claim
        assert claim.rule in RULES and set(claim.readings) <= COLUMNS and claim.readings
        assert claim.unit in ("points", "%", "x") and set(claim.studies) <= set(NAMES)
        assert claim.why or claim.studies, claim
        if claim.readings == ("instability",):
            assert not claim.against and claim.effect is None
        assert isinstance(cells(claim, seeds([1, 1])), pd.DataFrame)


@pytest.fixture(scope="module")
def shipped() -> pd.DataFrame:
    return evidence(Store(data_folder() / "results"))


def test_of_equal_rows_the_first_is_kept(monkeypatch):
    """Or the pages that are made of them depend on the processor: numpy sorts by its vectors."""
    same = pd.concat([seeds([0.5] * 9, chain=f"c{n}", instability=n % 2) for n in range(30)])
    read: list[int] = []

    def table(*_: object) -> SimpleNamespace:
        read.append(len(read))
        return SimpleNamespace(tickets=same.assign(preset=read[-1]))

    monkeypatch.setattr("labkit.papers.cells.tables", table)
    found = evidence(Store(data_folder() / "results"))
    assert len(read) > 5 and set(found["preset"]) == {0}
    assert found["chain"].tolist() == same["chain"].tolist()


def test_scratch_e_and_new_weights_are_one_arm():
    assert len({replace(TREATMENTS[name], name="") for name in NEW_WEIGHTS}) == 1
    rows = seeds([1.0, 2.0, 3.0]).to_dict("records")
    rows += [ticket(seed, "reinitialise", 0.5 + 0.1 * seed) for seed in range(3)]
    claim = replace(CLAIM, arm="rewind", against="scratch-e")
    found = one(claim, pd.DataFrame(rows))
    assert found["mean"] == pytest.approx(2.0) and found["seeds"] == 3
    # The same networks under both names count once.
    rows += [ticket(seed, "scratch-e", 0.5 + 0.1 * seed) for seed in range(3)]
    assert one(claim, pd.DataFrame(rows)) == found
    assert one(replace(CLAIM, against="reinitialise"), pd.DataFrame(rows))["mean"] == found["mean"]


def asked(cell) -> tuple:
    usual = cell["between"] == "rewind" and cell["at"] == "end"
    warm = ("warm-up",) if cell["warmup"] else ()
    slim = ("slimming",) if cell["criterion"] == "gamma" else ()  # arms differ in the penalty, too
    return cell["kind"], *warm, *slim, *(() if usual else (cell["between"], cell["criterion"]))


def test_every_trained_cell_of_an_arm_pair_is_shown_somewhere(shipped: pd.DataFrame):
    """No density, rate or kind is left out because of what it says. Chains that are drawn before
    their end, do not rewind, warm up or slim, are asked by kind of chain.
    """
    shown, pairs = set(), set()
    for claim in register():
        for cell in cells(claim, shipped).to_dict("records"):
            chain, number, _, *arms = cell["cell"].split()
            shown.add((chain, int(number), *sorted(arms)))
            if claim.against and not claim.other:
                pairs.add((*arms, *asked(cell)))
    assert len(pairs) > 8
    for chain, of_chain in under_one_name(shipped).groupby("chain"):
        for number, at in of_chain[of_chain["round"] > 0].groupby("round"):
            trained = {"dense", *at["treatment"]}
            for arm, against, *kind in pairs:
                if {arm, against} <= trained and kind == [*asked(at.iloc[0])]:
                    cell = (chain, number, *sorted((arm, against)))
                    where = at.iloc[0][["network", "learning_rate", "kind", "density", "rewind"]]
                    assert cell in shown, f"{arm} against {against}: {where.to_dict()}"


def test_every_claim_has_a_row_measured_or_not(shipped: pd.DataFrame):
    found = claims_table(shipped)
    assert set(found.rows["claim"]) == {claim.claim for claim in register()}
    assert (
        found.rows["reference_verdict"]
        .isin(["agrees", "disagrees", "undecided", "not measured", "not attempted"])
        .all()
    )
    assert sum(found.counts().values()) == len(found.rows)


def test_one_number_is_told_as_one_number(shipped: pd.DataFrame):
    rows = claims_table(shipped).rows.dropna(subset=["again"])
    assert len(rows)
    by_claim = claims_table(shipped).rows.groupby("claim")["reference_cell"].agg(set)
    for row in rows.to_dict("records"):
        assert row["reference_cell"] in by_claim[row["again"]]


# The table.


def test_the_table_names_its_seeds_and_survives_json():
    measured = claims_table(
        None, seeds([0.4, 0.5, 0.6]).assign(optimizer="adam", train_accuracy=1.0)
    )
    (row,) = measured.rows[
        (measured.rows["claim"] == "above-dense-21")
        & (measured.rows["reading"] == "at the early stop")
    ].to_dict("records")
    assert row["this_run"].startswith("+0.50 points [") and "3 seeds" in row["this_run"]
    assert row["this_run_verdict"] == "agrees" and row["reference_verdict"] == NOT_MEASURED
    assert len(json.loads(measured.rows.to_json(orient="records"))) == len(measured.rows)
    text, page = measured.to_text(), measured.to_html()
    for claim in register():
        assert claim.says in text and claim.published in text
    assert "<details>" in page and ">this run</th>" in page and ">reference</th>" not in page
    assert f"<b>agrees</b> {row['this_run']}<br><small>{row['this_run_setting']}</small>" in page


def test_a_table_can_be_about_a_preset_alone():
    some = claims_table(None, None, "stability-dense").rows
    assert 0 < len(some) < len(claims_table(None).rows)
    assert set(some["claim"]) == {c.claim for c in register() if "stability-dense" in c.studies}


def test_what_is_undecided_says_what_would_decide():
    row = claims_table(
        None, seeds([0.4, -0.2, 0.3]).assign(optimizer="adam", train_accuracy=1.0)
    ).rows
    said = row.set_index(["claim", "reading"]).loc[("above-dense-21", "at the early stop")]
    assert "seeds like these would decide" in said["this_run"]
