"""Masks by their origin, beside their checks."""

import pandas as pd
import pytest

from labkit.figures import sanity_checks
from labkit.figures.origins import CHECKS, origin

LOST = {"ticket, iterative": 5.0, "snip, before training": 1.0}


def tickets(seeds: tuple[int, ...] = (0, 1)) -> pd.DataFrame:
    """An iterative ticket and a mask of SNIP, with all checks; and an early mask without any."""
    rows = []
    for name, at, cut, criterion in (
        ("ticket, iterative", "end", 0.4, "magnitude"),
        ("snip, before training", "0", 0.97, "snip"),
    ):
        for seed in seeds:
            for number, arm in enumerate(CHECKS):
                accuracy = 0.9 + 0.01 * seed - LOST[name] / 100 * (number == 2)
                rows.append((name, criterion, cut, at, seed, arm, 0.028, accuracy))
    rows += [("early", "magnitude", 0.97, "40", seed, "rewind", 0.028, 0.5) for seed in seeds]
    columns = ["chain", "criterion", "cut", "at", "seed", "treatment", "density"]
    return pd.DataFrame(rows, columns=[*columns, "final_test_accuracy"])


def test_what_shuffling_costs_is_told_of_every_mask_that_has_checks():
    picture = sanity_checks(tickets())
    assert "ticket, iterative +5.0" in picture.summary
    assert "snip, before training +1.0" in picture.summary
    assert set(picture.table["mask"]) == set(LOST), "the early mask has no checks"
    assert picture.table["seeds"].eq(2).all()
    means = picture.table.set_index(["mask", "treatment"])["mean"]
    assert means["snip, before training", "shuffled-mask"] == pytest.approx(89.5)


def test_the_reference_is_told_first_and_drawn_too():
    picture = sanity_checks(tickets((0,)), tickets((3, 4, 5)))
    assert "reference" in picture.summary
    assert list(dict.fromkeys(picture.table.index.get_level_values("run"))) == [
        "reference",
        "this run",
    ]


@pytest.mark.parametrize(
    ("at", "cut", "words"),
    [
        ("0", 0.9, "grasp, before training"),
        ("end", 0.2, "ticket, iterative"),
        ("end", 0.9, "ticket, one-shot"),
        ("40", 0.9, "grasp, at iteration 40"),
    ],
)
def test_an_origin_in_words(at: str, cut: float, words: str):
    assert origin(pd.Series({"at": at, "cut": cut, "criterion": "grasp"})) == words


def test_without_checks_at_that_density_there_is_nothing_to_draw():
    for rows in (tickets(), tickets().iloc[:0]):
        with pytest.raises(ValueError, match=r"masks of 50\.0% with their checks"):
            sanity_checks(rows, density=0.5)
