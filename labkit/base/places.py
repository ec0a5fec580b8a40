"""Places: where the bundled data and lessons are, and where downloads and results are kept."""

import os
import tempfile
from pathlib import Path

import platformdirs


class DataError(ValueError):
    """A data set cannot be read; the message says what failed and what to do about it."""


def data_folder() -> Path:
    """Where the bundled files are: $LABKIT_DATA, or what came with the lab."""
    return Path(os.environ.get("LABKIT_DATA") or bundled("data")).expanduser()


def bundled(name: str) -> Path:
    """A folder that came with the lab, "data" or "notebooks": a wheel has it inside the package, a
    clone beside it.
    """
    package = Path(__file__).parents[1]
    inside = package / "bundled" / name
    return inside if inside.is_dir() else package.parent / name


def cache_folder() -> Path:
    """Where downloads and results are kept, made when absent: $LABKIT_CACHE, or else "labkit" in
    the platform's cache folder. Raises DataError when it cannot be written to.
    """
    own = os.environ.get("LABKIT_CACHE")
    platforms = platformdirs.user_cache_path("labkit", appauthor=False, opinion=False)
    folder = Path(own).expanduser() if own else platforms
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise DataError(
            f"cannot write to the cache folder {folder} ({error}); "
            "set the environment variable LABKIT_CACHE to a folder that can be written to"
        ) from error
    return folder
