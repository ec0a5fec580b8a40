"""An experiment in words, and back: `pruning.rate=0.3` of a command line is one of its fields, and
an experiment is a line of Python that makes it again.

A value is read as the type that the field is annotated with, and checked by the dataclass it ends
in. A value that cannot be read goes there as it is, so that every message comes from one place.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from labkit.experiments.experiment import Experiment
from labkit.experiments.task import settings
from labkit.experiments.treatments import TREATMENTS, Treatment

_WORDS = {"true": True, "yes": True, "false": False, "no": False}


def with_settings(experiment: Experiment, settings: Iterable[str]) -> Experiment:
    """The experiment with fields changed by settings such as "task.recipe.iterations=500".

    settings: FIELD=VALUE each. FIELD is a path of names joined by dots; VALUE is a number or word,
    several of them separated by commas for a tuple (nothing after "=" for an empty one), or "none"
    where the field is optional. All take effect together, so their order does not matter; of two
    for one field, the last counts. Raises ValueError: for an unknown field, listing the known
    ones; for a value out of range, as the dataclass says.
    """
    known = dict(_fields(type(experiment)))
    values: dict[str, Any] = {}
    for setting in settings:
        path, equals, text = setting.partition("=")
        path = path.strip()
        if not equals:
            raise ValueError(f"a setting must be FIELD=VALUE, not {setting!r}")
        if path not in known:
            raise ValueError(f"a setting must be of one of {', '.join(known)}, not {path!r}")
        values[path] = _read(text.strip(), known[path])
    return with_values(experiment, values)


def with_values(experiment: Experiment, values: Mapping[str, Any]) -> Experiment:
    """The same for values by the path of their field. All take effect together."""
    changes: dict[str, Any] = {}
    for path, value in values.items():
        nested = changes
        *parents, name = path.split(".")
        for parent in parents:
            nested = nested.setdefault(parent, {})
        nested[name] = value
    return _changed(experiment, changes)


def _fields(kind: type, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Paths of all fields that are no dataclass themselves, and their types."""
    hints = get_type_hints(kind)
    for field in fields(kind):
        if is_dataclass(hints[field.name]):
            yield from _fields(hints[field.name], f"{prefix}{field.name}.")
        else:
            yield prefix + field.name, hints[field.name]


def _changed(value: Any, changes: dict[str, Any]) -> Any:
    inner = {
        name: _changed(getattr(value, name), change) if isinstance(change, dict) else change
        for name, change in changes.items()
    }
    return replace(value, **inner)


def _read(text: str, kind: Any) -> Any:
    if get_origin(kind) in (Union, UnionType):
        kinds = [member for member in get_args(kind) if member is not type(None)]
        return None if text.lower() == "none" else _read(text, kinds[0])
    if get_origin(kind) is tuple:
        parts = text.strip("()[]").split(",")
        return tuple(_read(part.strip(), get_args(kind)[0]) for part in parts if part.strip())
    if kind is bool:
        return _WORDS.get(text.lower(), text)
    if kind in (str, Treatment):  # Experiment knows the treatments by name
        return text
    try:
        return kind(text)
    except ValueError:
        return text


def as_python(experiment: Experiment) -> str:
    """Python source that makes an equal experiment, imports included, in one line."""
    used: set[str] = set()
    source = _source(experiment, used)
    return f"from labkit import {', '.join(sorted(used))}; experiment = {source}"


def _source(value: Any, used: set[str]) -> str:
    if isinstance(value, Treatment) and TREATMENTS.get(value.name) == value:
        return repr(value.name)  # Experiment knows it by name
    if is_dataclass(value) and not isinstance(value, type):
        kind = type(value)
        used.add(kind.__name__)
        given = {item.name: getattr(value, item.name) for item in fields(value)}
        chosen = settings(value)
        parts = [f"{n}={_source(v, used)}" for n, v in given.items() if n in chosen]
        return f"{kind.__name__}({', '.join(parts)})"
    if isinstance(value, tuple):
        inner = [_source(part, used) for part in value]
        return f"({', '.join(inner)}{',' if len(inner) == 1 else ''})"
    return repr(value)


def field_texts(value: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every field of an experiment, as a command line names it and reads its value."""
    for item in fields(value):
        held = getattr(value, item.name)
        if is_dataclass(held):
            yield from field_texts(held, f"{prefix}{item.name}.")
        else:
            yield prefix + item.name, _text(held)


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(_text, value))
    return value.name if isinstance(value, Treatment) else str(value)
