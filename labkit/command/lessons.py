"""The lessons in a folder of the user's own, and JupyterLab on them."""

import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from labkit.base.places import DataError, bundled

FIRST = "00_welcome.ipynb"
INSTALL_LAB = 'pip install "lottery-ticket-lab[lab]", in a clone pip install -e ".[lab]"'


def write_lessons(folder: Path) -> tuple[int, int]:
    """Copy the lessons into a folder, made when absent, and say how many were copied and how many
    were there before: one in which somebody worked is never overwritten.

    Raises DataError where this installation has no lessons or the folder cannot be written to.
    """
    source = bundled("notebooks")
    lessons = sorted(source.glob("*.ipynb"))
    if not lessons:
        raise DataError(f"there are no lessons in {source}; install the lab again")
    missing = [path for path in lessons if not (folder / path.name).exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in missing:
            shutil.copyfile(path, folder / path.name)
    except OSError as error:
        raise DataError(f"cannot write lessons to {folder} ({error})") from error
    return len(missing), len(lessons) - len(missing)


def open_lab(folder: Path, options: Sequence[str] = ()) -> int:
    """Open the first lesson of a folder in JupyterLab, and return its status when it is closed.

    options: more words for its command line. Raises DataError where JupyterLab is not installed.
    """
    if importlib.util.find_spec("jupyterlab") is None:
        raise DataError(f"JupyterLab is not installed: {INSTALL_LAB}; or open {folder} in another")
    command = [sys.executable, "-m", "jupyterlab", *options, str(folder / FIRST)]
    return subprocess.run(command, check=False).returncode
