"""A short part of each torture; `make torture` is all of it."""

import importlib
from pathlib import Path

import pytest

from labkit.base import store
from tests.torture import __main__ as runner, damage
from tests.torture.figures import Figure, as_table, missed

SHORT = {"kills": 8, "damage": 100, "settings": 100, "panels": 50, "kernels": 2, "folders": 60}
# Of so few, not every kind of damage and every way to die is among them.
SPARSE = {"kills", "damage", "settings"}


def test_every_kind_has_its_short_part():
    assert set(SHORT) == set(runner.KINDS)


@pytest.mark.parametrize("kind", runner.KINDS)
def test_what_is_tortured_a_little_holds(kind: str, tmp_path: Path):
    found = importlib.import_module(f"tests.torture.{kind}").torture(SHORT[kind], 7, tmp_path)
    tried = [figure for figure in found if figure.tried] if kind in SPARSE else found
    assert tried and not missed(tried), as_table(tried)


def test_damage_that_nobody_looks_for_is_a_missed_aim(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(store, "_checked", lambda name, content: content.partition(b"\n")[2])
    assert missed(damage.torture(60, 7, tmp_path))


def test_a_figure_with_a_fault_or_without_a_try_is_missed():
    whole, broken = Figure("it holds"), Figure("it does not", note="longest 3 s")
    whole.count(True, "never told")
    broken.count(True, "never told")
    broken.count(False, "number 4")
    assert not missed([whole]) and missed([whole, broken]) and missed([Figure("never tried")])
    assert as_table([whole, broken]) == (
        "it holds               1 of 1\nit does not            1 of 2  longest 3 s\n    number 4"
    )


def test_the_exit_status_and_the_seed_are_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    held = Figure("it holds", tried=1)
    monkeypatch.setattr(damage, "torture", lambda count, seed, folder: [held])
    assert runner.main(["damage", "--count", "3", "--seed", "5"]) == 0
    assert "damage --count 3 --seed 5" in capsys.readouterr().out
    held.faults.append("number 1")
    assert runner.main(["damage"]) == 1
