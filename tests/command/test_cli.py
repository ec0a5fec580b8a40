"""The command line: what it prints where, what it leaves behind, and its exit status."""

import csv
import errno
import io
import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import labkit
from labkit.base.store import Store, shipped_results
from labkit.command import lessons
from labkit.command.cli import main
from labkit.engine.data import Data, Split
from labkit.engine.pruning import Pruning
from labkit.engine.training import Recipe
from labkit.experiments import planning, presets, running, task as task_module
from labkit.experiments.experiment import Experiment
from labkit.experiments.running import run
from labkit.experiments.task import Task
from labkit.experiments.treatments import Treatment
from labkit.experiments.words import with_settings
from tests.synthetic import local_cluster

RECIPE = Recipe(learning_rate=0.01, iterations=10, batch_size=10)
TINY = Experiment(
    task=Task(network="lenet-8-6", recipe=RECIPE),
    pruning=Pruning(rate=0.79),
    rounds=1,
    treatments=("reinitialise",),
    seeds=(0, 1),
    evaluate_every=5,
)


@pytest.fixture(autouse=True)
def own_folders(tmp_path, monkeypatch):
    """A store and a working folder of the test's own; one thread, as nothing here is large."""
    monkeypatch.setenv("LABKIT_STORE", str(tmp_path / "store"))
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def tiny(monkeypatch):
    """There is one preset, "lottery", and it is a matter of milliseconds."""

    def split(size: int) -> Split:
        g = torch.Generator().manual_seed(size)
        labels = torch.randint(0, 3, (size,), generator=g)
        noise = torch.randint(0, 100, (size, 1, 8, 8), generator=g)
        return Split((noise + 70 * labels[:, None, None, None]).to(torch.uint8), labels)

    zero, one = torch.zeros(1, 1, 1), torch.ones(1, 1, 1)
    data = Data("tiny", split(60), split(30), split(40), ("a", "b", "c"), zero, one)
    monkeypatch.setattr(task_module, "load", lambda *_, **__: data)
    longer = replace(TINY, task=replace(TINY.task, recipe=replace(RECIPE, iterations=20)))
    monkeypatch.setitem(presets.PRESETS, "lottery", {"quick": (TINY,), "reference": (longer,)})
    monkeypatch.setattr(presets, "NAMES", ("lottery",))
    monkeypatch.setattr(presets, "PAPERS", {"lottery": ("lottery",)})
    calibration = planning.plan
    monkeypatch.setattr(planning, "plan", lambda *given: calibration(*given, seconds=0.01))


@pytest.fixture
def command(capsys):
    """Runs one command; gives its status, standard output and standard error."""

    def call(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main(list(words))
        out, err = capsys.readouterr()
        for text in (out, err):
            assert "Traceback" not in text
            assert "\r" not in text and "\x1b" not in text
        return status, out, err

    return call


def stored(tmp_path: Path, kind: str = "json") -> list[Path]:
    return sorted((tmp_path / "store").glob(f"*.{kind}"))


# Settings


def test_settings_are_read_as_the_types_of_their_fields():
    changed = with_settings(
        Experiment(),
        [
            "pruning.rate=0.3",
            "rewind = 100",
            "task.recipe.iterations=500",
            "treatments=reinitialise,shuffled-mask",
            "seeds=0,1",
            "pruning.output_rate=none",
            "treated_rounds=(1, 2)",
            "task.recipe.milestones=0.5,0.75",
            "task.examples=1000",
            "task.dataset=kmnist",
        ],
    )
    assert changed == Experiment(
        task=Task(
            dataset="kmnist",
            examples=1000,
            recipe=Recipe(iterations=500, milestones=(0.5, 0.75)),
        ),
        pruning=Pruning(rate=0.3),
        rewind=100,
        treatments=("reinitialise", "shuffled-mask"),
        treated_rounds=(1, 2),
        seeds=(0, 1),
    )
    assert isinstance(changed.treatments[0], Treatment)


def test_settings_take_effect_together():
    # One after the other, the first of these would be out of range at 5,000 iterations.
    assert (
        with_settings(Experiment(), ["rewind=9000", "task.recipe.iterations=10000"]).rewind == 9000
    )
    assert with_settings(Experiment(), ["rounds=3", "rounds=4"]).rounds == 4
    assert with_settings(Experiment(treatments=("reinitialise",)), ["treatments="]).treatments == ()
    assert with_settings(Experiment(), []) == Experiment()


def test_a_setting_gives_the_same_key_as_the_value_in_python():
    written = with_settings(Experiment(), ["pruning.rate=0.5", "task.recipe.momentum=0"])
    assert [t.key for t in written.trials(1)] == [
        t.key for t in Experiment(pruning=Pruning(rate=0.5)).trials(1)
    ]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("pruning.speed=1", "pruning.rate"),
        ("rate=0.3", "pruning.rate"),
        ("task=mnist", "task.dataset"),
        ("__class__=int", "pruning.rate"),
        ("pruning.rate", "FIELD=VALUE"),
        ("pruning.rate=2", r"pruning.rate must be a number in \(0, 1\), not 2.0"),
        ("pruning.rate=nan", "pruning.rate must be a number"),
        ("pruning.rate=", "pruning.rate must be a number"),
        ("rounds=many", "rounds must be a whole number from 0 to 100, not 'many'"),
        ("rounds=2.5", "rounds must be a whole number"),
        ("rounds=-1", "rounds must be a whole number"),
        ("rewind=none", "rewind must be a whole number"),
        ("rewind=1000000", "rewind must be a whole number"),
        ("seeds=0,0", "seeds must be one or more different numbers"),
        ("seeds=", "seeds must be one or more different numbers"),
        ("seeds=0,x", "seeds must be a whole number"),
        ("treatments=prayer", "treatments must be one of .*fine-tune"),
        ("treatments=reinitialise,reinitialise", "treatments must have different names"),
        ("task.recipe.optimizer=lion", "recipe.optimizer must be one of adam, sgd"),
        ("task.recipe.milestones=0.5,late", "recipe.milestones must be a number"),
        ("task.recipe.learning_rate=inf", "recipe.learning_rate must be a finite number"),
        ("task.dataset=imagenet", "must be one of mnist"),
        ("task.network=transformer", "transformer"),
    ],
)
def test_bad_settings_are_refused_in_a_line(command, tmp_path, setting, message):
    status, out, err = command("run", "lottery", "--set", setting)
    assert (status, out) == (2, "")
    assert err.startswith("labkit: ") and err.count("\n") == 1
    assert re.search(message, err)
    assert not (tmp_path / "store").exists()


# Bad input elsewhere


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "COMMAND"),
        (("dance",), "dance"),
        (("run",), "PRESET"),
        (
            ("run", "bridge"),
            "preset must be one of lottery.*'bridge'",
        ),
        (("run", "lottery", "--size", "huge"), "quick.*reference"),
        (("run", "lottery", "--device", "abacus"), "cpu"),
        (("run", "lottery", "--sett", "rounds=1"), "--sett"),
        (("run", "lottery", "--set"), "--set"),
        (("plan", "bridge"), "preset must be one of"),
        (("export", "bridge", "x.zip"), "preset must be one of"),
        (("export", "lottery"), "FILE.zip"),
        (("reproduce", "bridge"), "paper must be one of lottery"),
        (("reproduce", "--seeds", "none"), "--seeds"),
        (("reproduce", "--seeds", "0"), "--seeds must be a whole number from 1"),
        (("reproduce", "--seeds", "1000000000"), "--seeds must be a whole number"),
        (("reproduce", "--report", "."), "--report must be a file"),
        (("reproduce", "--report", "/dev/null/report.html"), "--report must be a file"),
    ],
)
def test_bad_words_are_refused_in_a_line(command, tiny, words, message):
    status, out, err = command(*words)
    assert (status, out) == (2, "")
    assert err.startswith("labkit: ") and err.count("\n") == 1
    assert re.search(message, err)


def test_a_gpu_that_is_not_there_is_refused(command, tiny, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    status, _, err = command("run", "lottery", "--device", "cuda")
    assert status == 2 and "torch finds here (cpu" in err and "'cuda'" in err


@pytest.mark.parametrize("name", ["run", "reproduce"])
def test_a_store_that_cannot_be_written_is_noticed_before_training(
    command, tiny, monkeypatch, name
):
    monkeypatch.setattr(running, "train", None)
    status, _, err = command(name, "lottery", "--store", "/dev/null/store")
    assert status == 1
    assert "cannot write to the store /dev/null/store" in err and "--store" in err


def test_a_disk_that_fills_up_loses_nothing_finished(command, tiny, tmp_path, monkeypatch):
    put, no_space = Store.put, OSError(errno.ENOSPC, "No space left on device")
    with monkeypatch.context() as patch:

        def fills_up(self, key, result):
            if len(stored(tmp_path)) == 2:
                patch.setattr("tempfile.NamedTemporaryFile", raising(no_space))
            put(self, key, result)

        patch.setattr(Store, "put", fills_up)
        status, _, err = command("run", "lottery")
    assert status == 1 and "No space left" in err
    assert len(stored(tmp_path)) == 2
    assert command("run", "lottery")[0] == 0


def raising(error: BaseException):
    def function(*_, **__):
        raise error

    return function


def test_a_damaged_data_file_is_named(command, tmp_path, monkeypatch):
    folder = tmp_path / "data"
    (folder / "mnist").mkdir(parents=True)
    (folder / "mnist/train-images-idx3-ubyte.gz").write_bytes(b"no images")
    (folder / "SHA256SUMS").write_text(f"{'0' * 64}  mnist/train-images-idx3-ubyte.gz\n")
    monkeypatch.setenv("LABKIT_DATA", str(folder))
    status, _, err = command("run", "lottery")
    assert status == 1 and "train-images-idx3-ubyte.gz is damaged" in err


def test_damaged_shipped_results_are_an_error_in_words(command, tiny, tmp_path, monkeypatch):
    ship_reference(command, tmp_path, monkeypatch)
    path = tmp_path / "data/results/lottery.zip"
    whole = path.read_bytes()
    for damaged in (whole[:-100], whole[:200] + b"\0" * 100 + whole[300:]):
        shipped_results.cache_clear()
        path.write_bytes(damaged)
        status, _, err = command("claims")
        assert status == 1 and "damaged" in err


@pytest.mark.parametrize("kind", ["json", "pt"])
def test_a_damaged_entry_is_reported_and_made_anew(command, tiny, tmp_path, kind):
    first = command("run", "lottery")[1]
    dense = TINY.trials(0)[0]
    damaged = tmp_path / "store" / f"{dense.key}.{kind}"
    damaged.write_bytes(damaged.read_bytes()[:-20])
    status, out, _ = command("doctor")
    assert status == 1 and re.search(rf"WRONG .*{damaged.name} is damaged", out)
    if kind == "pt":  # needed where its ticket is
        (tmp_path / "store" / f"{TINY.trials(1)[0].key}.json").unlink()
    status, again, err = command("run", "lottery")
    assert status == 0
    assert "labkit: warning: the stored result" in err and "damaged" in err
    assert again == first
    assert command("doctor")[0] == 0


def test_a_lack_of_memory_is_said_without_a_traceback(command, tiny, monkeypatch):
    short = RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 1 TB")
    monkeypatch.setattr(running, "train", raising(short))
    status, _, err = command("run", "lottery")
    assert status == 1 and "labkit: not enough memory; `labkit plan` predicts it" in err


def test_a_bug_is_not_disguised_as_bad_input(tiny, monkeypatch):
    monkeypatch.setattr(running, "train", raising(RuntimeError("shapes do not match")))
    with pytest.raises(RuntimeError, match="shapes"):
        main(["run", "lottery"])


# What the commands do


def test_run_trains_prints_means_and_says_where_results_are(command, tiny, tmp_path):
    status, out, err = command("run", "lottery", "--set", "seeds=0,1,2")
    assert status == 0
    assert "9 networks, 0 done before, 9 to train on CPU" in err and "100%" in err
    header, *rows = out.split("\n\n")[0].splitlines()
    assert "test accuracy" in header and "density" in header
    assert [row.split()[:3] for row in rows] == [
        ["0", "dense", "100.00%"],
        ["1", "rewind", rows[1].split()[2]],
        ["1", "reinitialise", rows[1].split()[2]],
    ]
    assert all(row.split()[-1] == "3" for row in rows)
    assert str(tmp_path / "store") in out
    assert len(stored(tmp_path)) == 9


def test_run_again_trains_nothing(command, tiny, monkeypatch):
    first = command("run", "lottery")[1]
    monkeypatch.setattr(running, "train", None)
    status, again, err = command("run", "lottery")
    assert (status, again) == (0, first)
    assert "6 done before, 0 to train" in err and "%" not in err


def test_reproduce_trains_compares_and_reports(command, tiny, tmp_path):
    status, out, err = command("reproduce", "--seeds", "3")
    assert status == 0
    assert "9 networks" in err
    assert "A ticket of 21.1% is more accurate than the dense network" in out
    assert re.search(r"this run   .* 3 seeds.*, 10 iterations", out)
    report = tmp_path / "labkit-report.html"
    assert out.endswith(f"Report: {report}\n")
    assert report.read_text().startswith("<!DOCTYPE html>")


def test_reproduce_takes_its_folders_from_its_options(command, tiny, tmp_path):
    words = ("--size", "reference", "--store", "here", "--report", "deep/in/report.html")
    status, out, _ = command("reproduce", "lottery", *words)
    assert status == 0 and "20 iterations" in out
    assert len(list((tmp_path / "here").glob("*.json"))) == 6
    assert (tmp_path / "deep/in/report.html").is_file()


def test_several_presets_are_sections_of_one_report(command, tiny, tmp_path, monkeypatch):
    monkeypatch.setitem(presets.PRESETS, "second", presets.PRESETS["lottery"])
    monkeypatch.setattr(presets, "PAPERS", {"first": ("lottery", "second")})
    monkeypatch.setattr(presets, "NAMES", ("lottery", "second"))
    status, out, _ = command("reproduce", "all", "--report", "r.html")
    assert status == 0 and out.count("Report: ") == 1
    page = (tmp_path / "r.html").read_text()
    assert re.findall(r"<h2>(.*?)</h2>", page) == ["lottery", "second"]


def test_a_setting_applies_to_every_experiment_of_a_study(command, tiny, monkeypatch):
    study = TINY, replace(TINY, rewind=2), replace(TINY, rewind=4)
    monkeypatch.setitem(presets.PRESETS, "lottery", {"quick": study, "reference": study})
    status, out, err = command("run", "lottery", "--set", "seeds=3")
    # One dense network that all share, and two networks in the round after it for each.
    assert status == 0 and "7 networks, 0 done before, 7 to train" in err
    assert re.search(r"rewind +round +treatment", out)
    _, _, err = command("run", "lottery", "--set", "seeds=3", "--set", "rewind=2")
    assert "3 networks, 3 done before, 0 to train" in err


def test_a_reproduction_trains_even_what_was_shipped(command, tiny, tmp_path, monkeypatch):
    ship_reference(command, tmp_path, monkeypatch)
    _, _, err = command("reproduce", "--size", "reference", "--store", "empty")
    assert "0 done before, 6 to train" in err
    _, _, err = command("run", "lottery", "--size", "reference", "--store", "also-empty")
    assert "6 done before, 0 to train" in err


def ship_reference(command, tmp_path, monkeypatch) -> None:
    assert command("run", "lottery", "--size", "reference", "--store", "elsewhere")[0] == 0
    words = ("--size", "reference", "--store", "elsewhere", "data/results/lottery.zip")
    monkeypatch.setenv("LABKIT_DATA", str(tmp_path / "data"))
    (tmp_path / "data/results").mkdir(parents=True, exist_ok=True)
    assert command("export", "lottery", *words)[0] == 0


def test_claims_set_own_results_beside_the_shipped(command, tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("LABKIT_DATA", str(tmp_path / "nowhere"))
    status, out, err = command("claims")
    assert (status, out) == (1, "") and "there are no results, neither in" in err
    ship_reference(command, tmp_path, monkeypatch)
    command("run", "lottery")
    _, out, _ = command("claims")
    assert re.search(r"reference  .*2 seeds.*, 20 iterations", out)
    assert re.search(r"this run   .*2 seeds.*, 10 iterations", out)


def test_foreign_results_are_the_reference_only_where_they_are_asked_for(
    command, tiny, tmp_path, monkeypatch
):
    ship_reference(command, tmp_path, monkeypatch)
    results = tmp_path / "data/results"
    (results / "lottery.zip").rename(results / "foreign.zip")
    (results / "SHA256SUMS").unlink()
    status, out, err = command("claims")
    assert (status, out) == (1, "") and "there are no results, neither in" in err
    status, out, err = command("claims", "--reference", "data/results/foreign.zip")
    assert status == 0 and re.search(r"reference  .*2 seeds.*, 20 iterations", out)
    assert "reference is data/results/foreign.zip, and not the results that came with" in err
    status, out, err = command("claims", "--reference", "nothing.zip")
    assert (status, out) == (1, "") and "nothing.zip is damaged" in err


def test_claims_are_json_on_request(command, tiny):
    command("run", "lottery")
    status, out, _ = command("claims", "--json")
    rows = json.loads(out)
    assert status == 0 and len(rows) >= 5
    assert {"claim", "paper", "published", "reference", "this_run"} <= set(rows[0])
    measured = [row for row in rows if row["this_run_seeds"]]
    assert max(row["this_run_seeds"] for row in measured) == 2
    assert {row["reference_mean"] for row in rows} == {None}


def test_every_cell_behind_the_claims_is_csv_on_request(command, tiny):
    command("run", "lottery")
    status, out, _ = command("claims", "--cells")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert status == 0 and {row["source"] for row in rows} == {"this_run"}
    assert {"claim", "network", "density", "mean", "low", "high", "verdict"} <= set(rows[0])


def test_lessons_are_written_and_never_overwritten(command, tmp_path, root):
    status, out, err = command("lessons", "mine")
    count = len(list((root / "notebooks").glob("*.ipynb")))
    assert (status, out) == (0, f"{tmp_path / 'mine'}\n") and f"{count} lessons written, 0" in err
    for path in (root / "notebooks").glob("*.ipynb"):
        assert (tmp_path / "mine" / path.name).read_bytes() == path.read_bytes()
    worked = tmp_path / "mine" / "01_pruning.ipynb"
    worked.write_text("my answers")
    (tmp_path / "mine" / "00_welcome.ipynb").unlink()
    assert f"1 lessons written, {count - 1} were there" in command("lessons", "mine")[2]
    assert worked.read_text() == "my answers"
    status, _, err = command("lessons", "/dev/null/mine")
    assert status == 1 and "cannot write lessons to /dev/null/mine" in err


def test_the_lessons_of_a_clone_are_opened_where_they_are(monkeypatch: pytest.MonkeyPatch):
    """`make lab`: the folder to write to is the one that they come from."""
    folder = lessons.bundled("notebooks")
    before = {path: path.read_bytes() for path in folder.rglob("*.*")}
    assert lessons.write_lessons(folder) == (0, len(list(folder.glob("*.ipynb"))))
    monkeypatch.chdir(folder.parent)
    assert lessons.write_lessons(Path(folder.name))[0] == 0
    assert before == {path: path.read_bytes() for path in folder.rglob("*.*")}


def test_lessons_that_are_not_there_are_an_error(command, tmp_path, monkeypatch):
    monkeypatch.setattr(lessons, "bundled", lambda name: tmp_path / name)
    status, _, err = command("lessons")
    assert status == 1 and "there are no lessons in" in err


def test_the_lab_opens_the_first_lesson_with_the_options(command, tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(
        lessons.subprocess,
        "run",
        lambda words, check: calls.append(words) or SimpleNamespace(returncode=3),
    )
    monkeypatch.setattr(lessons.importlib.util, "find_spec", lambda name: name)
    assert command("lab", "mine", "--no-browser", "--port=1")[0] == 3
    assert (tmp_path / "mine" / "07_bug_museum.ipynb").is_file()
    first = str(Path("mine", "00_welcome.ipynb"))
    assert calls == [[sys.executable, "-m", "jupyterlab", "--no-browser", "--port=1", first]]
    monkeypatch.setattr(lessons.importlib.util, "find_spec", lambda name: None)
    status, _, err = command("lab")
    assert status == 1 and 'pip install "lottery-ticket-lab[lab]"' in err


def test_a_code_of_a_panel_stands_for_its_experiment(command):
    code = "playground~rewind=60~seeds=0,1~treatments=~rounds=2"
    status, _, err = command("export", code, "out.zip")  # 2 dense networks, 4 tickets
    assert status == 1 and f"0 of 6 results of {code}" in err
    assert "preset must be one of" in command("export", "bridge.quick", "out.zip")[2]


def test_export_says_how_many_of_how_many(command, tiny, tmp_path):
    status, out, err = command("export", "lottery", "out.zip")
    assert (status, out) == (1, "") and "0 of 6 results" in err
    assert not (tmp_path / "out.zip").exists()
    command("run", "lottery", "--set", "seeds=1")
    status, out, _ = command("export", "lottery", "out.zip")
    assert status == 0 and "3 of 6 results of lottery (quick) are in out.zip" in out
    assert "to go on on another machine, copy that folder" in out
    once = (tmp_path / "out.zip").read_bytes()
    command("export", "lottery", "out.zip")
    assert (tmp_path / "out.zip").read_bytes() == once
    command("run", "lottery")
    assert "another machine" not in command("export", "lottery", "out.zip")[1]
    status, _, err = command("export", "lottery", "/dev/null/out.zip")
    assert status == 1 and "cannot write /dev/null/out.zip" in err
    assert not list(tmp_path.glob("*.part"))


def test_plan_predicts_minutes_and_memory(command, tiny):
    status, out, err = command("plan", "lottery", "--set", "seeds=0,1,2")
    assert (status, err) == (0, "")
    assert "9 networks, 0 of them stored" in out
    assert re.search(r"predicted: [\d.]+ minutes \(.*\), [\d,]+ MB of memory", out)
    command("run", "lottery", "--set", "seeds=0,1,2")
    status, out, _ = command("plan", "lottery", "--set", "seeds=0,1,2")
    assert status == 0 and "9 of them stored" in out and "0 minutes" in out


@pytest.mark.skipif(not hasattr(os, "getloadavg"), reason="this system has no load average")
def test_a_plan_says_when_the_machine_was_busy(command, tiny, monkeypatch):
    for load, said in ((0.0, False), (1000.0, True)):
        monkeypatch.setattr(os, "getloadavg", lambda load=load: (load, load, load))
        assert ("Other programs use this machine" in command("plan", "lottery")[1]) == said


def test_the_doctor_looks_at_the_store_and_says_that_all_is_well(command, tiny, tmp_path):
    command("run", "lottery")
    status, out, _ = command("doctor")
    assert status == 0, out
    assert "device: CPU" in out and "6 results and 4 states" in out
    assert out.endswith("all is well\n")


def test_jobs_train_at_the_same_time_and_are_named(command, tiny):
    status, out, err = command("plan", "lottery", "--jobs", "2")
    assert status == 0 and re.search(r"CPU \w+, 2 processes; .* side by side\n", out)
    status, out, err = command("run", "lottery", "--jobs", "2")
    assert status == 0 and re.search(r"6 to train on CPU \w+, 2 processes;", err)
    assert len(out.splitlines()) > 4
    status, _, err = command("run", "lottery", "--jobs", "0")
    assert (status, err) == (2, "labkit: jobs must be a whole number from 1 to 64, not 0\n")
    for name in ("run", "plan"):
        status, _, err = command(name, "lottery", "--jobs", "5000")
        assert status == 2 and "jobs must be a whole number from 1 to 64, not 5000" in err
    status, _, err = command("reproduce", "--jobs", "many")
    assert status == 2 and "argument --jobs: invalid int value: 'many'" in err


def test_the_doctor_counts_what_is_wrong(command, tmp_path, monkeypatch):
    monkeypatch.setenv("LABKIT_DATA", str(tmp_path))
    status, out, _ = command("doctor", "--store", "/dev/null/store")
    assert status == 1 and out.count("WRONG") == 2
    assert out.endswith("2 problems found\n")


def test_help_and_version_are_there(command):
    for words in (["--help"], ["reproduce", "--help"], ["run", "--help"]):
        status, out, _ = command(*words)
        assert status == 0 and "labkit" in out
    status, out, _ = command("--version")
    assert status == 0 and out == f"labkit {labkit.__version__}\n"


def test_the_command_line_does_not_wait_for_torch(root):
    code = (
        "import sys; from labkit.command import cli; cli.main(['--help']); "
        "assert 'torch' not in sys.modules"
    )
    environment = {**os.environ, "PYTHONPATH": str(root)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True)


def test_warnings_elsewhere_are_left_as_they_were(command, tiny):
    import warnings

    before = (warnings.showwarning, list(warnings.filters))
    command("claims")
    assert (warnings.showwarning, list(warnings.filters)) == before


# Being stopped


def test_sigterm_stops_and_says_how_to_go_on(command, tiny, tmp_path, monkeypatch):
    def interrupted(*given):
        for event in run(*given):
            yield event
            if len(stored(tmp_path)) == 2:
                os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        patch.setattr(running, "run", interrupted)
        status, _, err = command("run", "lottery", "--set", "rounds=1")
    assert status == 143
    assert "kept" in err and err.endswith("run again: labkit run lottery --set rounds=1\n")
    assert signal.getsignal(signal.SIGTERM) is before
    status, _, err = command("run", "lottery", "--set", "rounds=1")
    assert status == 0 and "2 done before, 4 to train" in err


def test_ctrl_c_elsewhere_is_quiet(command, tiny, monkeypatch):
    monkeypatch.setattr(planning, "plan", raising(KeyboardInterrupt()))
    assert command("plan", "lottery") == (130, "", "labkit: stopped\n")


def test_a_second_ctrl_c_while_stopping_changes_nothing(command, tiny, tmp_path, monkeypatch):
    def interrupted(*given):
        try:
            for event in run(*given):
                yield event
                if len(stored(tmp_path)) == 2:
                    os.kill(os.getpid(), signal.SIGINT)
        finally:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(running, "run", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        status, _, err = command("run", "lottery")
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert status == 130 and "kept" in err


def test_a_second_ctrl_c_while_exiting_changes_no_status(root):
    code = (
        "import atexit, os, signal\n"
        "from labkit.command import cli\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "atexit.register(lambda: os.kill(os.getpid(), signal.SIGINT))\n"
        "def stopped(arguments): os.kill(os.getpid(), signal.SIGINT)\n"
        "cli._claims = stopped\n"
        "import sys; sys.argv = ['labkit', 'claims']; cli.console()\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True)
    assert (done.returncode, done.stderr) == (130, b"labkit: stopped\n")


@pytest.mark.parametrize(("closed", "status"), [(">&-", 1), ("2>&-", 0), ("<&-", 0)])
def test_closed_streams_are_no_traceback(closed: str, status: int, root):
    environment = {**os.environ, "PYTHONPATH": str(root)}
    line = f'"{sys.executable}" -m labkit.command.cli doctor {closed}'
    done = subprocess.run(line, shell=True, env=environment, capture_output=True, text=True)
    assert done.returncode == status and "Traceback" not in done.stderr
    assert ("standard output is closed" in done.stderr) == (status == 1)
    assert done.stdout.endswith("all is well\n") == (status == 0)


def test_a_store_of_nobody_is_refused_in_a_line(command, tiny):
    for name in ("run", "doctor", "claims"):
        status, out, err = command(name, *["lottery"] * (name == "run"), "--store", "~nosuchuser/x")
        assert status == 1 and "the store must be a folder, not ~nosuchuser/x" in out + err


@pytest.mark.parametrize(("jobs", "seeds"), [(1, "0"), (2, "0,1,2,3,4")])
def test_ctrl_c_in_a_real_process_keeps_what_is_finished(jobs, seeds, command, tmp_path, root):
    words = ["run", "lottery", "--jobs", str(jobs), "--set", "task.network=lenet-8-6"]
    words += ["--set", f"seeds={seeds}", "--set", "treatments=", "--set", "pruning.rate=0.01"]
    words += ["--set", "task.examples=300"]
    words += ["--set", "task.recipe.iterations=50", "--set", "task.validation=100"]
    words += ["--set", "evaluate_every=50", "--set", "rounds=80"]
    process = subprocess.Popen(
        [sys.executable, "-m", "labkit.command.cli", *words],
        env={**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Where tests run in the background of a shell, interrupts are ignored, and inherited so.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        start_new_session=True,
    )
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if re.search("round [2-9]", line):  # so round 0 is stored
            os.killpg(process.pid, signal.SIGINT)  # as a terminal does it
            break
    out, rest = process.communicate(timeout=60)
    err = "".join(lines) + rest
    assert process.returncode == 130, err
    assert out == "" and "Traceback" not in err
    assert "\r" not in err and "\x1b" not in err
    assert "kept" in err and f"labkit run lottery --jobs {jobs} --set task.network=" in err
    assert not list((tmp_path / "store").glob("*.part"))
    status, out, err = command(*words, "--set", "rounds=2")
    done_before = re.search(r"\d networks, (\d+) done before", err)
    assert status == 0 and done_before and int(done_before[1]) >= 1
    assert [row.split()[1] for row in out.splitlines()[1:4]] == ["dense", "rewind", "rewind"]


# Output that goes nowhere


def test_a_reader_that_left_is_no_traceback(tiny, monkeypatch):
    reading, writing = os.pipe()
    os.close(reading)
    with monkeypatch.context() as patch, os.fdopen(writing, "w") as nowhere:
        patch.setattr(sys, "stdout", nowhere)
        patch.setattr(sys, "stderr", io.StringIO())
        assert main(["doctor"]) == 141


def test_output_to_a_full_disk_is_an_error(tiny, monkeypatch, capsys):
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with monkeypatch.context() as patch, open("/dev/full", "w") as full:
        patch.setattr(sys, "stdout", full)
        assert main(["doctor"]) == 1
    assert "labkit: [Errno 28]" in capsys.readouterr().err


# On a cluster


def test_a_run_on_a_cluster_prints_what_one_here_does(tiny, command, tmp_path):
    with local_cluster(1) as c:
        status, out, err = command("run", "lottery", "--scheduler", c.scheduler_address)
    assert status == 0 and f"1 workers of {c.scheduler_address}" in err and "100%" in err
    assert len(stored(tmp_path)) == 6
    own = str(tmp_path / "own")
    assert (
        command("run", "lottery", "--jobs", "1", "--store", own)[1].split("Results")[0]
        == (out.split("Results")[0])
    )


def test_a_cluster_that_cannot_be_is_an_error(tiny, command):
    dask = pytest.importorskip("dask")
    pytest.importorskip("distributed")
    with dask.config.set({"distributed.comm.timeouts.connect": "0.3s"}):
        status, out, err = command("run", "lottery", "--scheduler", "tcp://127.0.0.1:9")
    assert (status, out) == (1, "") and "Timed out" in err
    status, out, err = command("run", "lottery", "--scheduler", "tcp://x:1", "--device", "mps")
    assert (status, out) == (2, "") and "must be one of cpu, cuda" in err
