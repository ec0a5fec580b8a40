"""The doctor finds what is missing, damaged or filed under a wrong name, and nothing else."""

import os
import re
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import labkit
from labkit.base import machine
from labkit.base.store import Store, enlist, ship
from labkit.command import doctor
from labkit.command.doctor import examine
from labkit.experiments import presets
from labkit.experiments.experiment import Experiment, Trial, all_trials
from labkit.experiments.treatments import REWIND
from tests.synthetic import made_up


def send(results: dict[str, Any], path: Path) -> None:
    """Ship results as the lab's own."""
    ship(results, path)
    enlist(path)


def trials() -> list[Trial]:
    return all_trials(presets.study("lottery", "reference"))


@pytest.fixture(autouse=True)
def own_store(tmp_path, monkeypatch):
    monkeypatch.setenv("LABKIT_STORE", str(tmp_path / "store"))


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A data folder with one bundled file and no results."""
    folder = tmp_path / "data"
    (folder / "mnist").mkdir(parents=True)
    (folder / "mnist/images.gz").write_bytes(b"images")
    digest = doctor.hashlib.sha256(b"images").hexdigest()
    (folder / "SHA256SUMS").write_text(f"{digest}  mnist/images.gz\n")
    (folder / "results").mkdir()
    monkeypatch.setenv("LABKIT_DATA", str(folder))
    return folder


def findings() -> str:
    return "\n".join(f"{state} {text}" for state, text in examine())


def test_all_is_well_here():
    found = findings()
    assert "WRONG" not in found
    for words in ("python 3.", "torch ", "torchvision ", "numpy ", "ipywidgets ", "jupyterlab "):
        assert words in found
    for words in ("device: ", "have their digests", "are those of their names", "0 results and 0"):
        assert words in found


def test_what_is_shipped_is_what_the_presets_ask_for():
    assert "no preset asks for" not in findings()


def test_a_torchvision_that_does_not_fit_is_only_noted(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    assert re.search(r"note torchvision .* cannot be imported .*bundled", findings())


def test_a_missing_package_is_wrong(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", SimpleNamespace())
    monkeypatch.setattr(machine, "version", lambda name: "not installed" if "num" in name else "1")
    assert re.findall(r"WRONG (.*)", findings()) == ["numpy not installed"]


def test_jupyterlab_is_only_for_those_who_open_lessons(monkeypatch):
    known = machine.version
    monkeypatch.setattr(
        machine, "version", lambda name: "not installed" if name == "jupyterlab" else known(name)
    )
    found = findings()
    assert "WRONG" not in found and "note jupyterlab is not installed; `labkit lab`" in found


def test_another_package_of_the_same_import_name_is_wrong(tmp_path, monkeypatch):
    # Theirs over ours: the files of both are in one folder, and their __init__ is imported.
    monkeypatch.setattr(labkit, "__doc__", "Tools for laboratories.")
    assert re.findall(r"WRONG `import labkit` finds another .*`pip uninstall labkit", findings())
    # Theirs removed, and our __init__ with it.
    monkeypatch.setattr(labkit, "__doc__", None)
    monkeypatch.setattr(labkit, "__file__", None)
    assert "another package of that name, a folder without __init__.py" in findings()
    monkeypatch.undo()
    # Theirs installed, ours over it or elsewhere on the path.
    other = tmp_path / "labkit-3.2.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: labkit\nVersion: 3.2\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert (
        "another package of the same import name is installed (labkit 3.2, no summary)"
        in findings()
    )


def test_bundled_files_that_are_damaged_or_missing_are_named(data):
    assert "1 bundled files" in findings()
    (data / "mnist/images.gz").write_bytes(b"other")
    assert re.search(r"WRONG .*images.gz is damaged", findings())
    (data / "mnist/images.gz").unlink()
    assert re.search(r"WRONG .*images.gz is missing", findings())
    (data / "SHA256SUMS").unlink()
    assert re.search(r"WRONG .*cannot read .*SHA256SUMS", findings())


def test_results_must_be_those_of_the_networks_they_are_filed_under(data):
    first, second = trials()[:2]
    good = {trial.key: made_up(trial) for trial in (first, second)}
    send(good, data / "results/lottery.zip")
    assert "ok shipped results: 2 in lottery.zip are those of their names" in findings()
    assert re.search(r"note shipped results: 2 of \d+ of lottery \(reference\)", findings())
    swapped = {first.key: good[second.key], second.key: good[first.key]}
    send(swapped, data / "results/lottery.zip")
    assert re.search(rf"WRONG .*2 of 2 in .*lottery.zip.*{first.key}", findings())
    send({first.key: {"trial": first.describe()}}, data / "results/lottery.zip")
    assert re.search(
        rf"WRONG .*1 of 1 in .*lottery.zip are incomplete or .*{first.key}", findings()
    )


def test_results_that_no_preset_asks_for_are_noted(data):
    odd = Trial(replace(Experiment(), evaluate_every=3), 0, 0, REWIND)
    send({odd.key: made_up(odd)}, data / "results/old.zip")
    assert "note shipped results: no preset asks for 1 in old.zip" in findings()


def test_a_damaged_archive_of_results_is_named(data):
    trial, path = trials()[0], data / "results/lottery.zip"
    send({trial.key: made_up(trial)}, path)
    whole = path.read_bytes()
    for damaged in (b"PK, perhaps", whole[:-30], whole[:60] + b"\0" * 20 + whole[80:]):
        path.write_bytes(damaged)
        assert re.search(r"WRONG shipped results: .*lottery.zip is damaged", findings())
    enlist(path)  # as listed, and yet no archive
    assert re.search(r"WRONG shipped results: .*lottery.zip is damaged", findings())
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.json", "{")
    enlist(path)
    assert re.search(r"WRONG shipped results: .*lottery.zip is damaged", findings())
    path.unlink()
    assert re.search(r"WRONG shipped results: .*lottery.zip is missing", findings())


def test_a_foreign_archive_of_results_is_named_and_left_out(data):
    trial = trials()[0]
    ship({trial.key: made_up(trial)}, data / "results/foreign.zip")
    found = findings()
    assert re.search(r"note shipped results: .*foreign.zip is foreign .* left out", found)
    assert re.search(r"note shipped results: 0 of \d+ of lottery \(reference\)", found)


def test_a_store_that_cannot_be_written_and_damaged_entries_are_wrong(data, tmp_path):
    assert [state for state, text in examine("/dev/null/store") if "store:" in text] == ["WRONG"]
    Store().put("key", {})
    (tmp_path / "store/key.json").write_bytes(b"damaged")
    assert re.search(r"WRONG store: .*key.json is damaged", findings())


def test_a_result_in_the_store_must_be_the_answer_to_its_key(data, tmp_path):
    first, second = trials()[:2]
    Store().put(first.key, made_up(first))
    assert "WRONG store" not in findings()
    Store().put(second.key, made_up(first))
    assert re.findall(r"WRONG store: (.*) is not the answer", findings()) == [
        str(tmp_path / "store" / f"{second.key}.json")
    ]


def test_whatever_lies_in_the_store_is_named_and_the_rest_looked_at(data, tmp_path):
    store = tmp_path / "store"
    Store().put("zzz", {})
    (store / "a-folder.json").mkdir()
    (store / "b-link.json").symlink_to(tmp_path / "nothing")
    os.mkfifo(store / "c-pipe.pt")
    (store / "d-link.pt").symlink_to(store / "d-link.pt")
    named = re.findall(r"WRONG store: \S+/([-\w]+)\.(?:json|pt) is not", findings())
    assert named == ["a-folder", "b-link", "c-pipe", "d-link", "zzz"]
    old = store / "tmpabc.part"
    old.write_bytes(b"half")
    os.utime(old, (0, 0))
    assert "note store: 1 files that killed runs had half written are removed" in findings()
    assert not old.exists()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read all")
def test_an_entry_that_may_not_be_read_is_named(data, tmp_path):
    Store().put("key", {})
    (tmp_path / "store/key.json").chmod(0)
    assert re.search(r"WRONG store: .*key.json cannot be read \(Permission denied\)", findings())
