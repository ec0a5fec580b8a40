"""Results on disk, addressed by content.

The name of an entry is a digest of everything that determines it, so a result is found again by
asking for the same thing and never by a label. An entry is written whole or not at all, by a
temporary file that is flushed and renamed, and carries a digest of its content: a damaged one is
reported, set aside and computed anew. Any number of processes may share a store.

Shipped results are zip files of the same entries, read-only, looked up when the store has none.
"""

import hashlib
import io
import json
import os
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from labkit.base.places import DataError, cache_folder, data_folder

FORMAT = 1  # part of every key: raise it when the meaning of a setting or a result changes


class StoreError(ValueError):
    """The store cannot be written; the message says where and why."""


def key_of(lineage: dict[str, Any]) -> str:
    """The address of what these settings determine: 32 hexadecimal digits."""
    text = json.dumps({"format": FORMAT, **lineage}, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class Store:
    """A folder of entries: `KEY.json` for results, `KEY.pt` for the tensors a run resumes from.

    folder: None means $LABKIT_STORE, or else "results" in the platform's cache folder.
    shipped: zip files (by default those in data/results/) in which `get` looks too.
    """

    def __init__(self, folder: Path | str | None = None, *, shipped: bool = True) -> None:
        chosen = folder or os.environ.get("LABKIT_STORE")
        try:
            self.folder = Path(chosen).expanduser() if chosen else cache_folder() / "results"
        except DataError as error:
            raise StoreError(f"{error}, or choose a store with LABKIT_STORE") from error
        self.shipped = shipped

    def get(self, key: str) -> dict[str, Any] | None:
        """The result of this key from the store, or from the shipped results, or None."""
        content = self._read(f"{key}.json")
        if content is None and self.shipped:
            content = shipped_results(data_folder() / "results").get(key)
        return None if content is None else json.loads(content)

    def put(self, key: str, result: dict[str, Any]) -> None:
        """Write a result. Raises StoreError (a full disk, no permission); nothing else is lost."""
        self._write(f"{key}.json", json.dumps(result, allow_nan=True).encode())

    def get_tensors(self, key: str) -> Any:
        """What `put_tensors` wrote under this key, on the CPU, or None. Never from the shipped."""
        content = self._read(f"{key}.pt")
        if content is None:
            return None
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)

    def has_tensors(self, key: str) -> bool:
        """Whether undamaged tensors of this key are in the store."""
        return self._read(f"{key}.pt") is not None

    def put_tensors(self, key: str, tensors: Any) -> None:
        """Write tensors in dictionaries, lists and plain values. Raises StoreError like `put`."""
        buffer = io.BytesIO()
        torch.save(tensors, buffer)
        self._write(f"{key}.pt", buffer.getvalue())

    def check_writable(self) -> None:
        """Raise StoreError where the store cannot be written, before hours are spent on results."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=self.folder).close()
        except OSError as error:
            raise self._unwritable(error) from error

    def damaged(self) -> Iterator[Path]:
        """Entries whose content does not fit their digest."""
        for path in sorted([*self.folder.glob("*.json"), *self.folder.glob("*.pt")]):
            if _checked(path.read_bytes()) is None:
                yield path

    def _read(self, name: str) -> bytes | None:
        path = self.folder / name
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(f"cannot read {path} ({error})") from error
        checked = _checked(content)
        if checked is None:
            warnings.warn(f"the stored result {path} is damaged; computing it again", stacklevel=3)
            path.unlink(missing_ok=True)
        return checked

    def _write(self, name: str, content: bytes) -> None:
        temporary = None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self.folder, suffix=".part", delete=False) as file:
                temporary = Path(file.name)
                file.write(hashlib.sha256(content).hexdigest().encode() + b"\n" + content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.folder / name)
        except OSError as error:
            raise self._unwritable(error) from error
        finally:  # on Ctrl-C too; after the renaming there is nothing left to remove
            if temporary is not None:
                temporary.unlink(missing_ok=True)

    def _unwritable(self, error: OSError) -> StoreError:
        return StoreError(
            f"cannot write to the store {self.folder} ({error}); results finished before are "
            "kept; choose another folder with LABKIT_STORE or --store"
        )


def _checked(content: bytes) -> bytes | None:
    digest, _, payload = content.partition(b"\n")
    return payload if hashlib.sha256(payload).hexdigest().encode() == digest else None


@lru_cache(maxsize=4)
def shipped_results(folder: Path) -> dict[str, bytes]:
    """All results in the zip files of a folder, by key. Raises StoreError for a damaged file.

    They stay JSON, a quarter of the memory, until one is asked for.
    """
    results: dict[str, bytes] = {}
    for path in sorted(folder.glob("*.zip")):
        try:
            with zipfile.ZipFile(path) as archive:
                for name in archive.namelist():
                    results[name.removesuffix(".json")] = archive.read(name)
        except (OSError, ValueError, zipfile.BadZipFile, zlib.error) as error:
            raise StoreError(
                f"the shipped results {path} are damaged ({error}); get the file again from git"
            ) from error
    return results


def ship(results: dict[str, dict[str, Any]], path: Path) -> None:
    """Write results as a zip file that `shipped_results` reads, the same bytes every time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for key, result in sorted(results.items()):
            archive.writestr(
                zipfile.ZipInfo(f"{key}.json"),
                json.dumps(result),
                compresslevel=9,
                compress_type=zipfile.ZIP_DEFLATED,
            )
