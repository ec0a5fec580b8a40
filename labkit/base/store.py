"""Results on disk, addressed by content.

The name of an entry is a digest of everything that determines it, so a result is found again by
asking for the same thing and never by a label. An entry is written whole or not at all, by a
temporary file that is flushed and renamed, and its first line is a digest of its name and of what
follows: an entry that is damaged, renamed or swapped with another is reported, set aside and
computed anew. Old entries, whose digest leaves the name out, are read too; what results tell of
themselves is their proof (`experiments.proof`). Any number of processes may share a store.

Shipped results are zip files of the same entries, read-only, looked up when the store has none.
Theirs are the check sums in SHA256SUMS beside them; a zip file that is not in that list is foreign,
and is read only as a source of its own.
"""

import hashlib
import io
import json
import os
import stat
import tempfile
import time
import warnings
import zipfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from labkit.base.places import DataError, cache_folder, data_folder

SUMS = "SHA256SUMS"  # as `sha256sum *.zip > SHA256SUMS` writes it
UNFINISHED = ".part"
LEFT_OVER = 3600  # seconds after which nobody can still be writing a file
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
    shipped: whether `get` looks in the results that came with the lab too, or, in place of them,
    the zip file in which it does. Raises StoreError for a folder that cannot be.
    """

    def __init__(self, folder: Path | str | None = None, *, shipped: bool | Path = True) -> None:
        chosen = folder or os.environ.get("LABKIT_STORE")
        try:
            self.folder = Path(chosen).expanduser() if chosen else cache_folder() / "results"
        except DataError as error:
            raise StoreError(f"{error}, or choose a store with LABKIT_STORE") from error
        except RuntimeError as error:  # ~somebody whom this system does not know
            raise StoreError(f"the store must be a folder, not {chosen} ({error})") from error
        self.shipped = shipped

    def get(self, key: str) -> dict[str, Any] | None:
        """The result of this key from the store, or from the shipped results, or None."""
        result = self._read(f"{key}.json")
        if result is None and self.shipped:
            source = shipped_folder() if self.shipped is True else self.shipped
            content = shipped_results(source).get(key)
            result = None if content is None else _parsed(f"{key}.json", content)
        return result

    def put(self, key: str, result: dict[str, Any]) -> None:
        """Write a result. Raises StoreError (a full disk, no permission); nothing else is lost."""
        self.write(f"{key}.json", json.dumps(result, allow_nan=True).encode())

    def get_tensors(self, key: str) -> Any:
        """What `put_tensors` wrote under this key, on the CPU, or None. Never from the shipped."""
        return self._read(f"{key}.pt")

    def has_tensors(self, key: str, parts: Collection[str] = ()) -> bool:
        """Whether undamaged tensors of this key are in the store, and have these parts."""
        tensors = self._read(f"{key}.pt")
        if tensors is not None and not set(parts) <= set(tensors):
            self.set_aside(f"{key}.pt")
            return False
        return tensors is not None

    def put_tensors(self, key: str, tensors: Any) -> None:
        """Write tensors in dictionaries, lists and plain values. Raises StoreError like `put`."""
        buffer = io.BytesIO()
        torch.save(tensors, buffer)
        self.write(f"{key}.pt", buffer.getvalue())

    def check_writable(self) -> None:
        """Raise StoreError where the store cannot be written, before hours are spent on results;
        what killed runs had half written is removed.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=self.folder).close()
        except OSError as error:
            raise self._unwritable(error) from error
        self.remove_leftovers()

    def remove_leftovers(self) -> int:
        """Remove what killed runs had half written; how many files that were."""
        removed = 0
        for path in self.folder.glob(f"tmp*{UNFINISHED}"):
            with suppress(OSError):  # another process may have been faster
                if path.stat().st_mtime < time.time() - LEFT_OVER:
                    path.unlink()
                    removed += 1
        return removed

    def entries(self) -> Iterator[tuple[Path, Any]]:
        """All entries: their path, and the content or the error that says why it has none."""
        for path in sorted([*self.folder.glob("*.json"), *self.folder.glob("*.pt")]):
            try:
                if not path.is_file():  # to read a pipe would wait for ever
                    raise StoreError("is not a file")
                yield path, _parsed(path.name, _checked(path.name, path.read_bytes()))
            except OSError as error:
                yield path, StoreError(f"cannot be read ({error.strerror})")
            except StoreError as error:
                yield path, error

    def set_aside(self, name: str) -> None:
        """Remove an entry that cannot be the answer to its key, and say so."""
        path = self.folder / name
        warnings.warn(
            f"the stored result {path} is damaged or another's; computing it again", stacklevel=4
        )
        path.unlink(missing_ok=True)

    def _read(self, name: str) -> Any:
        path = self.folder / name
        try:
            if not stat.S_ISREG(path.stat().st_mode):  # to read a pipe would wait for ever
                raise StoreError(f"cannot read {path}: it must be a file; remove it")
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(f"cannot read {path} ({error})") from error
        try:
            return _parsed(name, _checked(name, content))
        except StoreError:
            self.set_aside(name)
            return None

    def write(self, name: str, content: bytes) -> None:
        """Write an entry by the name of its file, as `put` or `put_tensors` of an `InMemory` store
        made it. Raises StoreError like `put`.
        """
        temporary = None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(
                dir=self.folder, suffix=UNFINISHED, delete=False
            ) as file:
                temporary = Path(file.name)
                file.write(_digest(name, content) + b"\n" + content)
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


class InMemory(Store):
    """A store without a folder, for a machine whose results are to be written by another.

    files: name of a file -> what is in it. written: those of them that were put here, in order.
    """

    def __init__(self, files: Mapping[str, bytes] | None = None) -> None:
        self.folder, self.shipped = Path("in memory"), False
        self.files = dict(files or {})
        self.written: dict[str, bytes] = {}

    def _read(self, name: str) -> Any:
        return _parsed(name, self.files[name]) if name in self.files else None

    def write(self, name: str, content: bytes) -> None:
        self.files[name] = self.written[name] = content


def _digest(name: str, payload: bytes) -> bytes:
    return hashlib.sha256(name.encode() + b"\n" + payload).hexdigest().encode()


def _checked(name: str, content: bytes) -> bytes:
    """What follows the digest, if that fits."""
    digest, _, payload = content.partition(b"\n")
    of_old = hashlib.sha256(payload).hexdigest().encode()  # before names were part of it
    if digest not in (_digest(name, payload), of_old):
        raise StoreError("is damaged or filed under another's name")
    return payload


def _parsed(name: str, payload: bytes) -> Any:
    try:
        if name.endswith(".pt"):
            found = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
        else:
            found = json.loads(payload)
    except Exception as error:  # torch alone raises half a dozen types
        raise StoreError(f"is damaged: {error}") from error
    if not isinstance(found, dict):
        raise StoreError(f"is damaged: it holds a {type(found).__name__}")
    return found


def shipped_folder() -> Path:
    """Where the zip files of results are that come with the lab."""
    return data_folder() / "results"


@lru_cache(maxsize=4)
def shipped_results(source: Path) -> dict[str, bytes]:
    """All results in a zip file, or in those of a folder that its SHA256SUMS lists, by key.

    They stay JSON, a quarter of the memory, until one is asked for. Raises StoreError for a file
    that is damaged or missing.
    """
    if not source.is_dir():
        return {} if source == shipped_folder() else read_zip(source)
    results: dict[str, bytes] = {}
    for name, expected in listed(source).items():
        path = source / name
        if sha256_of(path) != expected:
            raise StoreError(
                f"the shipped results {path} are damaged; install the lab again, or in a clone "
                "`git checkout data`"
            )
        results |= read_zip(path)
    return results


def read_zip(path: Path) -> dict[str, bytes]:
    """The results in a zip file, by key. Raises StoreError for a damaged one."""
    try:
        with zipfile.ZipFile(path) as archive:
            return {n.removesuffix(".json"): archive.read(n) for n in archive.namelist()}
    except Exception as error:  # zipfile raises a dozen types for what a single bit can do
        raise StoreError(f"{path} is damaged ({error})") from error


def listed(folder: Path) -> dict[str, str]:
    """File names in a folder's SHA256SUMS, which may be lacking, and their digests."""
    try:
        lines = (folder / SUMS).read_text("utf-8").splitlines()
        pairs = (line.split(maxsplit=1) for line in lines)
        return {name: digest for digest, name in pairs}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        remedy = "get it again from git"
        raise StoreError(f"cannot read {folder / SUMS} ({error}); {remedy}") from error


def sha256_of(path: Path) -> str:
    """A file's digest, or "" where it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""


def enlist(path: Path) -> None:
    """Bring a zip file's line in the SHA256SUMS beside it up to date: it belongs to the lab."""
    lines = listed(path.parent) | {path.name: sha256_of(path)}
    text = "".join(f"{digest}  {name}\n" for name, digest in sorted(lines.items()))
    (path.parent / SUMS).write_text(text, encoding="utf-8")


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
