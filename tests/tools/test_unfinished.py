"""A seed that was trained elsewhere and kept is not trained again."""

from pathlib import Path

from labkit.base.store import Store
from labkit.command.cli import main
from labkit.experiments.presets import study
from labkit.experiments.results import tables
from labkit.experiments.scheduling import missing
from labkit.experiments.words import with_settings
from tools import unfinished

SMALL = ["seeds=0,1", "task.recipe.iterations=20", "task.network=lenet-8-6", "task.examples=500",
         "evaluate_every=10", "rounds=2", "treatments=reinitialise"]  # fmt: skip


def test_a_seed_that_is_kept_is_done_and_the_other_is_trained(tmp_path: Path):
    settings = [word for setting in SMALL for word in ("--set", setting)]
    one = ["lottery", *settings, "--set", "seeds=0"]
    there, kept = str(tmp_path / "there"), tmp_path / "kept"
    kept.mkdir()
    assert main(["run", *one, "--store", there, "--jobs", "1"]) == 0
    assert main(["export", one[0], str(kept / "lottery-0.zip"), *one[1:], "--store", there]) == 0

    here = Store(tmp_path / "here", shipped=False)
    assert unfinished.take(here, kept) == 5
    whole = tuple(with_settings(experiment, SMALL) for experiment in study("lottery"))
    assert {trial.seed for trial in missing(whole, here)} == {1}
    assert main(["run", "lottery", *settings, "--store", str(here.folder), "--jobs", "1"]) == 0
    tickets = tables(whole, here).tickets
    assert len(tickets) == 10 and not tickets["stray"].any()


def test_what_is_kept_is_no_part_of_the_shipped_results(root: Path):
    assert unfinished.KEPT.parent == root / "data"
    assert 'exclude = ["data/unfinished"]' in (root / "pyproject.toml").read_text("utf-8")
