"""Checks of values at the border: a ValueError that names the argument, what is allowed, and what
was given.
"""

import math
from collections.abc import Collection, Iterable
from typing import Any


def choice(name: str, value: object, allowed: Collection[str]) -> None:
    """The value must be one of the allowed words."""
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, not {value!r}")


def whole(
    name: str, value: object, low: int, high: int | None = None, *, optional: bool = False
) -> None:
    """The value must be a whole number in [low, high], or None where that is optional."""
    if optional and value is None:
        return
    # type() and not isinstance(): True is an int to Python, but not a number to a reader.
    if type(value) is not int or value < low or (high is not None and value > high):
        span = f"from {low}" + ("" if high is None else f" to {high}")
        raise ValueError(f"{name} must be a whole number {span}{_or_none(optional)}, not {value!r}")


def fraction(name: str, value: object, *, zero: bool = True, optional: bool = False) -> None:
    """The value must be a number in [0, 1), or (0, 1) where zero makes no sense."""
    if optional and value is None:
        return
    ok = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1
    if not ok or (value == 0 and not zero):
        span = "[0, 1)" if zero else "(0, 1)"
        raise ValueError(f"{name} must be a number in {span}{_or_none(optional)}, not {value!r}")


def positive(name: str, value: object, *, zero: bool = False) -> None:
    """The value must be a finite number above zero, or not below it where zero makes sense."""
    ok = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not ok or value < 0 or (value == 0 and not zero):  # type: ignore[operator]
        span = "at least 0" if zero else "above 0"
        raise ValueError(f"{name} must be a finite number {span}, not {value!r}")


def several(name: str, value: object) -> tuple[Any, ...]:
    """The value must be a list, a tuple or the like, of anything; as a tuple."""
    if not isinstance(value, Iterable) or isinstance(value, str):
        raise ValueError(f"{name} must be a list or a tuple, not {value!r}")
    return tuple(value)


def instance(name: str, value: object, kind: type) -> None:
    """The value must be of this class."""
    if not isinstance(value, kind):
        raise ValueError(f"{name} must be a {kind.__name__}, not {value!r}")


def _or_none(optional: bool) -> str:
    return " or None" if optional else ""
