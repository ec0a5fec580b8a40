"""Settings in words: `pruning.rate=0.3` on a command line becomes a field of an experiment.

A value is read as the type that the field is annotated with, and checked by the dataclass it ends
in. A value that cannot be read goes there as it is, so that every message comes from one place.
"""

from collections.abc import Iterable, Iterator
from dataclasses import fields, is_dataclass, replace
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from labkit.experiments.experiment import Experiment, Treatment

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
    changes: dict[str, Any] = {}
    for setting in settings:
        path, equals, text = setting.partition("=")
        path = path.strip()
        if not equals:
            raise ValueError(f"a setting must be FIELD=VALUE, not {setting!r}")
        if path not in known:
            raise ValueError(f"a setting must be of one of {', '.join(known)}, not {path!r}")
        nested = changes
        *parents, name = path.split(".")
        for parent in parents:
            nested = nested.setdefault(parent, {})
        nested[name] = _read(text.strip(), known[path])
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
