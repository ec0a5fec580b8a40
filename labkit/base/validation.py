"""Checks of values at the border: a ValueError that names the argument, what is allowed, and what
was given.

A number comes back in the one form that it has inside, an int or a float of twelve digits, whatever
numpy or arithmetic made of it: results are addressed by their settings, and equal settings must
have one address.
"""

import math
from collections.abc import Collection
from itertools import islice
from numbers import Integral, Real
from typing import Any

MANY = 10_000
LARGEST = 1e30  # float32 ends at 3.4e38, and products with a setting must fit as well


def keep(instance: object, **values: Any) -> None:
    """Set fields of a frozen dataclass that is being made."""
    for name, value in values.items():
        object.__setattr__(instance, name, value)


def choice(name: str, value: object, allowed: Collection[str]) -> None:
    """The value must be one of the allowed words."""
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, not {value!r}")


def whole(
    name: str, value: Any, low: int, high: int | None = None, *, optional: bool = False
) -> Any:
    """The value, a whole number in [low, high], as int; or None where that is optional."""
    if optional and value is None:
        return None
    # True is an int to Python, but not a number to a reader.
    ok = isinstance(value, Integral) and not isinstance(value, bool)
    if not ok or value < low or (high is not None and value > high):
        span = f"from {low}" + ("" if high is None else f" to {high}")
        raise ValueError(f"{name} must be a whole number {span}{_or_none(optional)}, not {value!r}")
    return int(value)


def fraction(name: str, value: object, *, zero: bool = True, optional: bool = False) -> Any:
    """The value, a number in [0, 1), or (0, 1) where zero makes no sense; or None."""
    if optional and value is None:
        return None
    number = _number(value)
    if not 0 <= number < 1 or (number == 0 and not zero):
        span = "[0, 1)" if zero else "(0, 1)"
        raise ValueError(f"{name} must be a number in {span}{_or_none(optional)}, not {value!r}")
    return number


def positive(name: str, value: object, *, zero: bool = False) -> float:
    """The value, a number above zero, or not below it where zero makes sense, up to LARGEST."""
    number = _number(value)
    if not 0 <= number <= LARGEST or (number == 0 and not zero):
        span = "at least 0" if zero else "above 0"
        raise ValueError(
            f"{name} must be a finite number {span} and at most {LARGEST:g}, not {value!r}"
        )
    return number


def several(name: str, value: Any) -> tuple[Any, ...]:
    """The value, a list, a tuple or the like of anything, at most MANY, as a tuple."""
    try:
        # No more: some have no end.
        found = None if isinstance(value, str) else tuple(islice(iter(value), MANY + 1))
    except TypeError:
        found = None
    if found is None:
        raise ValueError(f"{name} must be a list or a tuple, not {value!r}")
    if len(found) > MANY:
        raise ValueError(f"{name} must be at most {MANY} values, not {value!r:.100}")
    return found


def instance(name: str, value: object, kind: type) -> None:
    """The value must be of this class."""
    if not isinstance(value, kind):
        raise ValueError(f"{name} must be a {kind.__name__}, not {value!r}")


def _or_none(optional: bool) -> str:
    return " or None" if optional else ""


def _number(value: object) -> float:
    """As a float of twelve digits: 0.1 + 0.2 is 0.3 to a reader. nan for what is no number."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return math.nan
    try:
        return float(f"{float(value):.12g}")
    except OverflowError:
        return math.inf
