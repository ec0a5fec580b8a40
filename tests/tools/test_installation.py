"""The lab installs: as a wheel, on every Python, with the right torch, and as a fork."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import pytest

import labkit
from labkit.base import workers
from labkit.base.workers import Call, Ended, Silence, run_calls
from tests.tools.test_packaging import tracked_files
from tools import address, install

FORK = "ada-l/tickets.of-mine"
POSIX_ONLY = {
    "os": (
        *(
            "chown",
            "fork",
            "forkpty",
            "getloadavg",
            "getpgid",
            "getuid",
            "kill",
            "killpg",
            "mkfifo",
        ),
        *("nice", "sched_getaffinity", "sched_setaffinity", "setsid", "uname", "wait4"),
    ),
    "signal": ("SIGALRM", "SIGHUP", "SIGKILL", "alarm", "setitimer", "pthread_sigmask"),
}
POSIX_MODULES = ("fcntl", "grp", "pty", "pwd", "resource", "termios", "tty")


# --- A wheel --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wheel(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of the repository, made without a network."""
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=root, check=True, capture_output=True)
    return next(folder.glob("lottery_ticket_lab-*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the wheel was unpacked in, as an installer does it."""
    folder = tmp_path_factory.mktemp("site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def test_a_wheel_has_the_package_the_data_the_results_and_the_lessons(root: Path, wheel: Path):
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    expected = set[str]()
    for path in (path.relative_to(root) for path in tracked_files(root)):
        if path.parts[0] == "labkit":
            expected.add(path.as_posix())
        elif path.parts[0] in ("data", "notebooks") and path.parts[1] != "unfinished":
            expected.add(f"labkit/bundled/{path.as_posix()}")
    assert held == expected
    assert {"labkit/py.typed", "labkit/__init__.pyi", "labkit/bundled/data/SHA256SUMS"} <= held


def test_a_wheel_works_outside_a_clone(installed: Path, tmp_path: Path):
    def call(*words: str) -> str:
        code = "import sys; from labkit.command.cli import main; sys.exit(main())"
        environment = os.environ | {"PYTHONPATH": str(installed)}
        environment.pop("LABKIT_DATA", None)
        command = [sys.executable, "-c", code, *words]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert call("--version") == f"labkit {labkit.__version__}\n"
    doctor = call("doctor")
    assert f"in {installed / 'labkit'}\n" in doctor and doctor.endswith("all is well\n")
    assert "405 of 405 of lottery (reference)" in doctor
    assert re.search(r"reference  .*5 seeds.* 50,000 iterations", call("claims"))
    call("lessons", "mine")
    assert len(list((tmp_path / "mine").glob("*.ipynb"))) == 10


@pytest.mark.long
def test_mypy_sees_the_types_of_an_installed_lab(installed: Path, tmp_path: Path):
    (tmp_path / "mine.py").write_text("from labkit import preset\n\npreset(1)\n")
    options = ["--strict", "--follow-imports=silent", f"--cache-dir={tmp_path}"]
    command = [sys.executable, "-m", "mypy", *options, "mine.py"]
    environment = os.environ | {"PYTHONPATH": str(installed)}  # to mypy, installed packages
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    expected = (
        'mine.py:3: error: Argument 1 to "preset" has incompatible type "int"; expected "str"'
    )
    assert done.stdout.startswith(expected), done.stdout


# --- The versions ---------------------------------------------------------------------------------


def pythons(root: Path) -> list[str]:
    """The versions of Python that the project promises."""
    text = (root / "pyproject.toml").read_text("utf-8")
    return re.findall(r'"Programming Language :: Python :: (3\.\d+)"', text)


@pytest.mark.parametrize("python", pythons(install.ROOT))
def test_the_constraints_can_be_installed(python: str, root: Path):
    uv = shutil.which(
        "uv", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    )
    if uv is None:
        pytest.skip("no uv here, which finds out what can be installed together")
    command = [uv, "pip", "compile", "--quiet", "--no-config", "--no-python-downloads"]
    command += [
        "--python-version",
        python,
        "--python-platform",
        "linux",
        "--only-binary",
        ":all:",
        "-c",
        "constraints.txt",
    ]
    command += ["--all-extras", "--no-header", "--no-annotate", "pyproject.toml"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    if re.search(r"error sending request|Failed to fetch|dns error|timed out", done.stderr):
        pytest.skip("no network to ask PyPI")
    assert done.returncode == 0, done.stderr
    found = dict(line.split("==") for line in done.stdout.split())
    assert found["torch"] in (root / "constraints.txt").read_text("utf-8")


def test_promised_versions_of_python_follow_each_other_and_are_tested(root: Path):
    yaml: Any = pytest.importorskip("yaml")
    promised = pythons(root)
    minors = [int(version.split(".")[1]) for version in promised]
    assert minors == list(range(minors[0], minors[-1] + 1))
    assert f'requires-python = ">={promised[0]}"' in (root / "pyproject.toml").read_text("utf-8")
    assert promised[0] == ".".join(map(str, install.OLDEST))
    tests = yaml.safe_load((root / ".github/workflows/test.yml").read_text("utf-8"))["jobs"]
    assert tests["tests"]["strategy"]["matrix"]["python"] == [promised[0], promised[-1]]
    container = re.search(r"FROM python:(\S+)-slim", (root / "Dockerfile").read_text("utf-8"))
    assert container and container[1] in promised
    devcontainer = json.loads((root / ".devcontainer/devcontainer.json").read_text("utf-8"))
    assert devcontainer["image"].split(":")[1] in promised


def test_workflows_call_what_there_is(root: Path):
    yaml: Any = pytest.importorskip("yaml")
    makefile = (root / "Makefile").read_text("utf-8")
    targets, made = set(re.findall(r"^([a-z-]+):(?!=)", makefile, flags=re.MULTILINE)), set()
    for path in (root / ".github/workflows").glob("*.yml"):
        jobs = yaml.safe_load(path.read_text("utf-8"))["jobs"]
        runs = [step.get("run", "") for job in jobs.values() for step in job["steps"]]
        assert any(runs), path
        for command in runs:
            made |= set(re.findall(r"^make ([a-z-]+)", command))
            assert not command.startswith(".ci/") or os.access(root / command, os.X_OK)
    assert {"site", "test-oldest"} <= made <= targets
    assert "make setup" in (root / ".devcontainer/devcontainer.json").read_text("utf-8")


def test_the_changelog_begins_with_this_version(root: Path):
    changes = (root / "CHANGELOG.md").read_text("utf-8")
    assert re.findall(r"^## (\S+)$", changes, flags=re.MULTILINE)[0] == labkit.__version__


# --- Set-up, with and without make ----------------------------------------------------------------


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A machine with Linux, no driver and no wishes, and an index of CPU builds that it reaches."""
    monkeypatch.setattr(install.sys, "platform", "linux")
    monkeypatch.setattr(install.shutil, "which", lambda name: None)
    monkeypatch.delenv("UV_TORCH_BACKEND", raising=False)
    (tmp_path / "torch").mkdir()
    answer = partial(Silent, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), answer) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


class Silent(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.skipif(Path("/proc/driver/nvidia").exists(), reason="this machine has a GPU")
def test_the_cpu_build_is_chosen_where_there_is_no_driver(
    index: str, monkeypatch: pytest.MonkeyPatch
):
    assert install.cpu_index(index) == index
    assert install.cpu_index(index + "/not-there") is None, "no network: PyPI's build"
    with monkeypatch.context() as patch:
        patch.setenv("UV_TORCH_BACKEND", "cu130")
        assert install.cpu_index(index) is None, "the user chose"
    with monkeypatch.context() as patch:
        patch.setattr(install.shutil, "which", lambda name: "/usr/bin/" + name)
        assert install.cpu_index(index) is None, "there is a GPU"
    monkeypatch.setattr(install.sys, "platform", "win32")
    assert install.cpu_index(index) is None, "PyPI's build for Windows is the CPU's"


def test_set_up_tries_the_best_first_and_ends_with_plain_pip(tmp_path: Path):
    python, uv = tmp_path / "python", tmp_path / "uv"
    uv.touch()
    first, second, third, last = install.attempts(python, uv, ["lab", "test"], "INDEX")
    assert first == [*second, "--torch-backend", "cpu"] and second[0] == str(uv)
    assert third == [*last, "--extra-index-url", "INDEX"] and last[0] == str(python)
    assert last[-4:] == ["-c", "constraints.txt", "-e", ".[lab,test]"]
    assert install.attempts(python, uv, ["lab"], None)[0][:3] == [str(uv), "pip", "install"]
    uv.unlink()
    assert [c[0] for c in install.attempts(python, uv, ["lab"], "INDEX")] == [str(python)] * 2


def fake_wheel(folder: Path, version: str) -> None:
    """A wheel of torch that holds nothing, in an index that holds nothing else."""
    place = folder / "torch"
    place.mkdir(parents=True)
    name, info = f"torch-{version}-py3-none-any.whl", f"torch-{version}.dist-info"
    with zipfile.ZipFile(place / name, "w") as archive:
        archive.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: torch\nVersion: {version}"
        )
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    (place / "index.html").write_text(f'<a href="{name.replace("+", "%2B")}">{name}</a>')


def test_pip_prefers_the_cpu_build_of_the_extra_index(tmp_path: Path):
    fake_wheel(tmp_path / "pypi", "99.1")
    fake_wheel(tmp_path / "cpu", "99.1+cpu")
    (tmp_path / "constraints.txt").write_text("torch==99.1\n")  # as in constraints.txt: no +cpu
    command = [sys.executable, "-m", "pip", "--isolated", "--disable-pip-version-check", "install"]
    command += ["--dry-run", "--no-deps", "--ignore-installed", "--quiet", "--report", "-", "torch"]
    command += [
        "--index-url",
        (tmp_path / "pypi").as_uri(),
        "-c",
        str(tmp_path / "constraints.txt"),
    ]

    def chosen(*more: str) -> str:
        done = subprocess.run([*command, *more], check=True, capture_output=True, text=True)
        (found,) = json.loads(done.stdout)["install"]
        return found["metadata"]["version"]

    assert chosen() == "99.1"
    assert chosen("--extra-index-url", (tmp_path / "cpu").as_uri()) == "99.1+cpu"


def test_an_old_python_is_told_what_is_needed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(
        install,
        "sys",
        SimpleNamespace(version_info=(3, 9), version="3.9.1 (main)", stderr=sys.stderr),
    )
    assert install.main([]) == 1
    assert "needs Python 3.10 or newer, not 3.9.1" in capsys.readouterr().err
    source = (install.ROOT / "tools" / "install.py").read_text("utf-8")
    ast.parse(source, feature_version=(3, 7))


def test_the_readme_has_the_two_commands_for_a_machine_without_make(root: Path):
    readme = (root / "README.md").read_text("utf-8")
    for command in (
        "python tools/install.py",
        r".venv\Scripts\labkit lab",
        'pip install "lottery-ticket-lab[lab] @ git+https://github.com/',
        "labkit lab",
        "https://download.pytorch.org/whl/cpu",
    ):
        assert command in readme, command
    assert install.CPU_INDEX in (root / "Dockerfile").read_text("utf-8")


def test_nothing_that_only_posix_has_is_used_at_import(root: Path):
    modules = [
        ".".join(path.relative_to(root).with_suffix("").parts)
        for path in (root / "labkit").glob("**/*.py")
        if path.name != "__init__.py"
    ]
    code = f"""
import importlib, os, signal, sys
import IPython, ipywidgets, matplotlib.pyplot, pandas, PIL.Image, scipy.stats, seaborn, torch
for name in {POSIX_MODULES}:
    sys.modules[name] = None
for module, names in {POSIX_ONLY}.items():
    for name in names:
        vars(sys.modules[module]).pop(name, None)
for name in {modules}:
    importlib.import_module(name)
import labkit
from labkit.base.machine import available_cores, find_jobs
from labkit.command.terminal import stopped_once
from labkit.experiments.planning import _peak_megabytes
assert available_cores() >= 1 and find_jobs(None, "cpu") >= 1
with stopped_once():
    print("all imported")
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.stdout == "all imported\n", done.stderr


def test_calls_run_in_processes_that_are_not_forked(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(workers, "sys", SimpleNamespace(platform="win32"))
    # A function that is no test's: a process that is not forked imports what it runs.
    ended = run_calls(iter, [Call(()), Call(())], 2)
    ended = [event for event in ended if event[1] != Silence()]  # while they start
    assert sorted(ended, key=lambda event: event[0]) == [(0, Ended()), (1, Ended())]


# --- One address ----------------------------------------------------------------------------------


@pytest.fixture
def clone(root: Path, tmp_path: Path) -> Path:
    """A copy of the text files of the repository, under git."""
    for path in tracked_files(root):
        if path.suffix in address.TEXT and path.parts[-2] != "results":
            target = tmp_path / "clone" / path.relative_to(root)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    for words in (["init", "--quiet"], ["add", "--all"]):
        subprocess.run(["git", *words], cwd=tmp_path / "clone", check=True)
    return tmp_path / "clone"


def test_all_places_name_one_address_and_the_tag_of_this_version(clone: Path):
    assert address.rewrite(clone) == []
    slug, version = address.project((clone / "pyproject.toml").read_text("utf-8"))
    assert version == labkit.__version__
    for path in (clone / "notebooks").glob("*.ipynb"):
        text = path.read_text("utf-8")
        assert text.count(f"{slug}/blob/v{version}/") == text.count(f"{slug}/v{version}?") == 1
        assert f"--branch v{version} {{address}}" in text and f"https://github.com/{slug}" in text
    for name in ("README.md", "CITATION.cff", "CHANGELOG.md"):
        assert (clone / name).is_file()
    assert f"github.com/{slug}" in (clone / "CITATION.cff").read_text("utf-8")


def test_a_fork_and_a_release_are_made_by_one_command(clone: Path):
    old, version = address.project((clone / "pyproject.toml").read_text("utf-8"))
    changed = address.rewrite(clone, FORK)
    assert {"README.md", "pyproject.toml", "CITATION.cff"} <= {path.name for path in changed}
    assert sum(path.suffix == ".ipynb" for path in changed) == 10
    for path in clone.glob("**/*"):
        if path.suffix in address.TEXT:
            assert old not in path.read_text("utf-8"), path
    assert address.rewrite(clone) == []
    project = clone / "pyproject.toml"
    text = project.read_text("utf-8")
    project.write_text(text.replace(f'version = "{version}"', 'version = "7.8.9"', 1), "utf-8")
    assert len(address.rewrite(clone)) == 11, "the lessons and the README"
    for path in (clone / "notebooks").glob("*.ipynb"):
        nbformat.validate(nbformat.read(path, as_version=4))
        assert path.read_text("utf-8").count("v7.8.9") == 3
    address.rewrite(clone, old)
    project.write_text(project.read_text("utf-8").replace("7.8.9", version), "utf-8")
    address.rewrite(clone)
    for path in clone.glob("*/*.ipynb"):
        assert path.read_bytes() == (address.ROOT / path.relative_to(clone)).read_bytes()


@pytest.mark.parametrize("words", [["ada"], ["ada/tickets", "more"], ["https://github.com/a/b"]])
def test_another_word_than_an_address_is_refused(
    words: list[str], capsys: pytest.CaptureFixture[str]
):
    assert address.main(words) == 2
    assert "must be one OWNER/REPO" in capsys.readouterr().err


@pytest.mark.skipif(os.name == "nt", reason="the stand-in for git is a shell script")
def test_the_set_up_cell_says_what_it_could_not_fetch(root: Path, tmp_path: Path):
    git = tmp_path / "git"
    git.write_text("#!/bin/sh\necho 'fatal: Remote branch not found' >&2\nexit 128\n")
    git.chmod(0o755)
    lesson = nbformat.read(root / "notebooks" / "00_welcome.ipynb", as_version=4)
    code = "import sys\nsys.modules['google.colab'] = sys\n" + lesson.cells[1].source
    environment = os.environ | {"PATH": str(tmp_path)}
    command = [sys.executable, "-m", "IPython", "--no-banner", "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert "fatal: Remote branch not found" in done.stdout + done.stderr
