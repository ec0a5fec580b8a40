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
os.environ.update(
    {
        "LABKIT_STORE": str(_SCRATCH / "store"),
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


@pytest.fixture(scope="session")
def root() -> Path:
    """The root of the repository."""
    return ROOT


def pytest_unconfigure() -> None:
    shutil.rmtree(_SCRATCH, ignore_errors=True)
