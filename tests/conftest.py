"""What holds for every test: the user's own store, settings and kernels are never touched."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Set before any test imports torch, matplotlib or labkit; kernels and servers inherit it. One
# thread, as on Binder: on a busy machine two that wait for each other are many times slower.
_SCRATCH = Path(tempfile.mkdtemp(prefix="labkit-tests-"))
# Processes that share the tests share what lessons have trained, too.
_STORE = os.environ["LABKIT_STORE"] if "PYTEST_XDIST_WORKER" in os.environ else _SCRATCH / "store"
os.environ.update(
    {
        "LABKIT_STORE": str(_STORE),
        "MPLBACKEND": "Agg",
        "OMP_NUM_THREADS": "1",
        "IPYTHONDIR": str(_SCRATCH / "ipython"),
        "JUPYTER_CONFIG_DIR": str(_SCRATCH / "jupyter-config"),
        "JUPYTER_DATA_DIR": str(_SCRATCH / "jupyter-data"),
        "JUPYTER_RUNTIME_DIR": str(_SCRATCH / "jupyter-runtime"),
        "JUPYTER_PLATFORM_DIRS": "1",
    }
)
for name in ("JUPYTER_PATH", "JUPYTER_CONFIG_PATH"):
    os.environ.pop(name, None)


@pytest.fixture
def synthetic_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks have the tiny data of tests.synthetic."""
    from labkit.experiments.task import Task
    from tests.synthetic import DATA

    monkeypatch.setattr(Task, "data", lambda task: DATA[task.network])


@pytest.fixture
def store(tmp_path: Path):
    """An empty store of the test's own, which knows nothing of shipped results."""
    from labkit.base.store import Store

    return Store(tmp_path / "store", shipped=False)


@pytest.fixture
def follow(monkeypatch: pytest.MonkeyPatch):
    """A function that runs an experiment and gives the start of every trial."""
    from tests.synthetic import follower

    return follower(monkeypatch)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory):
    """A headless browser; without one the test is skipped, but never in continuous integration."""
    from tests.browser import chromium, find_browser

    executable = find_browser()
    if executable is None and not os.environ.get("CI"):
        pytest.skip("no Chromium or Chrome is installed")
    assert executable, "continuous integration needs a browser: apt install chromium"
    with chromium(tmp_path_factory.mktemp("profile"), executable) as context:
        yield context


@pytest.fixture(scope="session")
def root() -> Path:
    """The root of the repository."""
    return ROOT


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long tests first, so that in the end no process has to wait for another's."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


def pytest_unconfigure() -> None:
    shutil.rmtree(_SCRATCH, ignore_errors=True)
