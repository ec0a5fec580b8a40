"""What `labkit doctor` looks at: versions, device, data, shipped results and the store.

Each check yields findings: a state, "ok", "note" or "WRONG", and a sentence.
"""

import hashlib
import importlib
import json
import platform
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import labkit
from labkit.base import machine
from labkit.base.places import data_folder
from labkit.base.store import Store, StoreError
from labkit.experiments import presets
from labkit.experiments.experiment import Trial, all_trials

PACKAGES = ("torch", "numpy", "pandas", "matplotlib", "seaborn", "ipywidgets", "jupyterlab")
PARTS = {"trial", "provenance"}  # of every result, beside what was measured

Findings: TypeAlias = Iterator[tuple[str, str]]


def examine(store: Path | str | None = None) -> Findings:
    """All findings, in the order in which a reader would look. store: its folder, as for Store."""
    yield from _versions()
    yield "ok", f"device: {machine.device_in_words(machine.find_device())}"
    yield from _data()
    yield from _shipped()
    yield from _store(store)


def _versions() -> Findings:
    yield "ok", f"labkit {labkit.__version__} in {Path(__file__).parent}"
    yield "ok", f"python {platform.python_version()} on {platform.platform()}"
    for name in PACKAGES:
        version = machine.version(name)
        yield "WRONG" if version == "not installed" else "ok", f"{name} {version}"
    version = machine.version("torchvision")
    try:
        importlib.import_module("torchvision")
        yield "ok", f"torchvision {version}"
    except Exception as error:  # one built for another torch raises RuntimeError, or worse
        yield (
            "note",
            f"torchvision {version} cannot be imported ({type(error).__name__}: {error}); "
            "without it only the bundled data sets can be used",
        )


def _data() -> Findings:
    folder, bad, count = data_folder(), 0, 0
    try:
        listed = [line.split() for line in (folder / "SHA256SUMS").read_text().splitlines()]
        for expected, name in listed:
            count += 1
            content = (folder / name).read_bytes() if (folder / name).is_file() else None
            if content is None or hashlib.sha256(content).hexdigest() != expected:
                bad += 1
                yield "WRONG", f"data: {folder / name} is {'damaged' if content else 'missing'}"
    except (OSError, ValueError) as error:
        yield "WRONG", f"data: cannot read {folder / 'SHA256SUMS'} ({error})"
        return
    if not bad:
        yield "ok", f"data: {count} bundled files in {folder} have their digests"


def _shipped() -> Findings:
    folder = data_folder() / "results"
    found: set[str] = set()
    asked = {name: _asked(name) for name in presets.NAMES}
    trials = {key: trial for each in asked.values() for key, trial in each.items()}
    for path in sorted(folder.glob("*.zip")):
        try:
            results = _read(path)
        except (OSError, ValueError, zipfile.BadZipFile, zlib.error) as error:
            yield "WRONG", f"shipped results: {path} is damaged ({error})"
            continue
        wrong = sorted(k for k in results if not _sound(results[k], trials.get(k)))
        foreign = results.keys() - trials.keys()
        found |= results.keys()
        if wrong:
            some = ", ".join(wrong[:3]) + (", ..." if len(wrong) > 3 else "")
            yield (
                "WRONG",
                f"shipped results: {len(wrong)} of {len(results)} in {path} are incomplete or not "
                f"those of the networks they are filed under ({some})",
            )
        else:
            yield "ok", f"shipped results: {len(results)} in {path.name} are those of their names"
        if foreign:
            yield "note", f"shipped results: no preset asks for {len(foreign)} in {path.name}"
    for name, keys in asked.items():
        state = "ok" if keys.keys() <= found else "note"
        had = len(keys.keys() & found)
        yield state, f"shipped results: {had} of {len(keys)} of {name} (reference)"


def _read(path: Path) -> dict[str, Any]:
    """Results by key; the archive checks each entry's check sum as it is read."""
    with zipfile.ZipFile(path) as archive:
        return {
            name.removesuffix(".json"): json.loads(archive.read(name))
            for name in archive.namelist()
        }


def _sound(result: Any, trial: Trial | None) -> bool:
    """Whether a result has all its parts, and is that of the trial, if its key is a trial's."""
    if not isinstance(result, dict) or not result.keys() >= PARTS:
        return False
    if trial is None:
        return True
    told, own = result["trial"], trial.describe()
    # By what is done and not by its name: one treatment may have two.
    choices = own.get("choices", {})
    same = {**choices, **told.get("choices", {}), "name": ""} == {**choices, "name": ""}
    return same and all(told.get(n, own[n]) == own[n] for n in ("seed", "round", "draw"))


def _asked(name: str) -> dict[str, Trial]:
    """The trials of a preset at reference size, by their keys."""
    return {trial.key: trial for trial in all_trials(presets.study(name, "reference"))}


def _store(folder: Path | str | None) -> Findings:
    try:
        store = Store(folder)
        store.check_writable()
        results, tensors = (len(list(store.folder.glob(f"*.{kind}"))) for kind in ("json", "pt"))
        yield (
            "ok",
            f"store: {results} results and {tensors} states of networks in {store.folder}, "
            "which can be written to",
        )
        for path in store.damaged():
            yield "WRONG", f"store: {path} is damaged; the next run that needs it makes it anew"
    except (StoreError, OSError) as error:
        yield "WRONG", f"store: {error}"
