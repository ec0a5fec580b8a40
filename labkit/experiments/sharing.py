"""An experiment as text that makes it again: a line of Python, and a command line."""

import shlex
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

from labkit.experiments.experiment import TREATMENTS, Experiment, Treatment, settings
from labkit.experiments.presets import NAMES, SIZES, study


def as_python(experiment: Experiment) -> str:
    """Python source that makes an equal experiment, imports included, in one line."""
    used: set[tuple[str, str]] = set()
    source = _source(experiment, used)
    modules = sorted({module for module, _ in used})
    imports = "; ".join(
        f"from {module} import {', '.join(sorted(n for m, n in used if m == module))}"
        for module in modules
    )
    return f"{imports}; experiment = {source}"


def as_command(experiment: Experiment) -> str:
    """A `labkit run` command for an equal experiment: the nearest preset, and what differs from it.

    Raises ValueError for treatments without a name, which a command line cannot carry.
    """
    unnamed = [t.name for t in experiment.treatments if TREATMENTS.get(t.name) != t]
    if unnamed:
        raise ValueError(f"treatments must be named ones on a command line, not {unnamed}")
    wanted = dict(settings_in_words(experiment))
    found = []
    for name in NAMES:
        for size in SIZES:
            several = study(name, size)
            if len(several) > 1:  # `labkit run` would run them all
                continue
            start = dict(settings_in_words(several[0]))
            changes = [f"{path}={text}" for path, text in wanted.items() if start[path] != text]
            found.append((name, size, changes))
    name, size, changes = min(found, key=lambda one: len(one[2]))
    words = ["labkit", "run", name, "--size", size]
    for change in changes:
        words += ["--set", change]
    return shlex.join(words)


def _source(value: Any, used: set[tuple[str, str]]) -> str:
    if isinstance(value, Treatment) and TREATMENTS.get(value.name) == value:
        return repr(value.name)  # Experiment knows it by name
    if is_dataclass(value) and not isinstance(value, type):
        kind = type(value)
        used.add((kind.__module__, kind.__name__))
        given = {item.name: getattr(value, item.name) for item in fields(value)}
        chosen = settings(value)
        parts = [f"{n}={_source(v, used)}" for n, v in given.items() if n in chosen]
        return f"{kind.__name__}({', '.join(parts)})"
    if isinstance(value, tuple):
        inner = [_source(part, used) for part in value]
        return f"({', '.join(inner)}{',' if len(inner) == 1 else ''})"
    return repr(value)


def settings_in_words(value: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every field of an experiment, as a command line names it and reads its value."""
    for item in fields(value):
        own = getattr(value, item.name)
        if is_dataclass(own):
            yield from settings_in_words(own, f"{prefix}{item.name}.")
        else:
            yield prefix + item.name, _text(own)


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(_text, value))
    return value.name if isinstance(value, Treatment) else str(value)
