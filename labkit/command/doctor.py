"""What `labkit doctor` looks at: versions, device, data, shipped results and the store.

Each check yields findings: a state, "ok", "note" or "WRONG", and a sentence.
"""

import hashlib
import importlib
import json
import platform
from collections.abc import Iterator
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any, TypeAlias

import labkit
from labkit.base import machine
from labkit.base.places import data_folder
from labkit.base.store import SUMS, Store, StoreError, listed, read_zip, sha256_of, shipped_folder
from labkit.command.lessons import INSTALL_LAB
from labkit.experiments import presets
from labkit.experiments.experiment import all_trials
from labkit.experiments.proof import proves
from labkit.panel.references import PLAYED, PLAYGROUND

PACKAGES = ("torch", "numpy", "pandas", "matplotlib", "seaborn", "ipywidgets")
TITLE = "The Lottery Ticket Lab"  # the package and its distribution begin with it
_REMEDY = "the next run that needs it makes it anew"

Findings: TypeAlias = Iterator[tuple[str, str]]


def examine(store: Path | str | None = None) -> Findings:
    """All findings, in the order in which a reader would look. store: its folder, as for Store."""
    yield from _versions()
    device = machine.find_device()
    words = machine.device_label(device, machine.find_jobs(None, device))
    yield "ok", f"device: {words}"
    yield from _data()
    yield from _shipped()
    yield from _store(store)


def _versions() -> Findings:
    yield "ok", f"labkit {machine.lab_version()} in {Path(__file__).parents[1]}"
    yield from _namesakes()
    yield "ok", f"python {platform.python_version()} on {platform.platform()}"
    for name in PACKAGES:
        version = machine.version(name)
        yield "WRONG" if version == "not installed" else "ok", f"{name} {version}"
    version = machine.version("jupyterlab")
    if version == "not installed":
        yield "note", f"jupyterlab is {version}; `labkit lab` needs it: {INSTALL_LAB}"
    else:
        yield "ok", f"jupyterlab {version}"
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


def _namesakes() -> Findings:
    """Another person's package of the same import name, over this one's files or beside them."""
    remedy = f"`pip uninstall labkit {machine.DISTRIBUTION}`, then install {machine.DISTRIBUTION}"
    if not (labkit.__doc__ or "").startswith(TITLE):
        file = getattr(labkit, "__file__", None) or "a folder without __init__.py"
        yield "WRONG", f"`import labkit` finds another package of that name, {file}: {remedy}"
    with suppress(metadata.PackageNotFoundError):
        other = metadata.metadata("labkit")
        summary = other["Summary"] if "Summary" in other else ""  # noqa: SIM401  # it has no get
        if not summary.startswith(TITLE):  # the lab itself once had this name
            told = f"labkit {other['Version']}, {summary or 'no summary'}"
            yield (
                "WRONG",
                f"another package of the same import name is installed ({told}): {remedy}",
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
    folder = shipped_folder()
    found: set[str] = set()
    studies = {name: presets.study(name, "reference") for name in presets.NAMES}
    studies |= {PLAYGROUND: PLAYED}
    asked = {name: {trial.key for trial in all_trials(e)} for name, e in studies.items()}
    asked_for = set().union(*asked.values())
    try:
        sums = listed(folder)
    except StoreError as error:
        yield "WRONG", f"shipped results: {error}"
        return
    for name in sorted(sums.keys() | {path.name for path in folder.glob("*.zip")}):
        path = folder / name
        if name not in sums:
            yield "note", f"shipped results: {path} is foreign ({SUMS} lacks it) and left out"
            continue
        if sha256_of(path) != sums[name]:
            state = "damaged: it is not what SHA256SUMS says" if path.exists() else "missing"
            yield "WRONG", f"shipped results: {path} is {state}; get it again from git"
            continue
        try:
            results = {key: json.loads(content) for key, content in read_zip(path).items()}
        except ValueError as error:
            yield "WRONG", f"shipped results: {path} is damaged ({error})"
            continue
        found |= results.keys()
        yield from _proofs(path, results)
        if foreign := results.keys() - asked_for:
            yield "note", f"shipped results: no preset asks for {len(foreign)} in {path.name}"
    for name, keys in asked.items():
        state = "ok" if keys <= found else "note"
        yield state, f"shipped results: {len(keys & found)} of {len(keys)} of {name} (reference)"


def _proofs(path: Path, results: dict[str, Any]) -> Findings:
    wrong = sorted(key for key, result in results.items() if not proves(result, key))
    if wrong:
        some = ", ".join(wrong[:3]) + (", ..." if len(wrong) > 3 else "")
        yield (
            "WRONG",
            f"shipped results: {len(wrong)} of {len(results)} in {path} are incomplete or not "
            f"those of the networks they are filed under ({some})",
        )
    else:
        yield "ok", f"shipped results: {len(results)} in {path.name} are those of their names"


def _store(folder: Path | str | None) -> Findings:
    try:
        store = Store(folder)
        removed = store.remove_leftovers()
        store.check_writable()
        results, tensors = (len(list(store.folder.glob(f"*.{kind}"))) for kind in ("json", "pt"))
        yield (
            "ok",
            f"store: {results} results and {tensors} states of networks in {store.folder}, "
            "which can be written to",
        )
        if removed:
            yield "note", f"store: {removed} files that killed runs had half written are removed"
        for path, found in store.entries():
            if isinstance(found, StoreError):
                yield "WRONG", f"store: {path} {found}; {_REMEDY}"
            elif path.suffix == ".json" and not proves(found, path.stem):
                yield "WRONG", f"store: {path} is not the answer to its key; {_REMEDY}"
    except (StoreError, OSError) as error:
        yield "WRONG", f"store: {error}"
