"""Codes: a setting as a short text, from which a panel makes the same setting again.

    playground~rewind=60~seeds=0,1      in Python: Panel("playground~rewind=60~seeds=0,1")
    stability-imp.quick.1               in a shell: labkit run stability-imp.quick.1
                                        under Voila: ?setting=stability-imp.quick.1

A code is the nearest experiment that a panel can start from, and what differs from it.
"""

import os
from collections.abc import Mapping
from urllib.parse import parse_qs, quote, unquote

from labkit.base.validation import choice
from labkit.experiments.experiment import Experiment
from labkit.experiments.presets import PRESETS
from labkit.experiments.treatments import TREATMENTS
from labkit.experiments.words import field_texts, with_settings
from labkit.panel.references import PLAYGROUND, STARTS, all_members, members

_SAFE = ",.:/-+"


def code_of(experiment: Experiment) -> str:
    """The shortest code of an experiment. Raises ValueError for treatments without a name."""
    unnamed = [t.name for t in experiment.treatments if TREATMENTS.get(t.name) != t]
    if unnamed:
        raise ValueError(f"treatments must be named ones to be shared, not {', '.join(unnamed)}")
    wanted = dict(field_texts(experiment))
    codes = []
    seen: dict[tuple[str, str], int] = {}
    for name, size, member in all_members():
        number = seen.get((name, size), 0)
        seen[name, size] = number + 1
        if name == PLAYGROUND and size != "quick":
            continue
        start = dict(field_texts(member))
        changes = [
            f"{path}={quote(text, safe=_SAFE)}"
            for path, text in wanted.items()
            if start[path] != text
        ]
        place = name if size == "quick" and not number else f"{name}.{size}"
        codes.append("~".join([place + (f".{number}" if number else ""), *changes]))
    return min(codes, key=lambda code: (code.count("~"), len(code)))


def experiment_of(code: str) -> Experiment:
    """The experiment of a code. Raises ValueError in words for what is none."""
    place, *changes = code.split("~")
    name, size, number = (*place.split("."), *("", "quick", "0")[place.count(".") + 1 :])[:3]
    choice("preset", name, STARTS)
    if name != PLAYGROUND:
        choice(f"size of {name}", size, PRESETS[name])
    found = members(name, size)
    last = len(found) - 1
    if number not in map(str, range(last + 1)):
        raise ValueError(f"number of {name} must be a whole number from 0 to {last}, not {number}")
    return with_settings(found[int(number)], map(unquote, changes))


def name_of(code: str) -> str:
    """The preset that a code starts from."""
    return code.partition("~")[0].partition(".")[0]


def setting_of_page(environment: Mapping[str, str] = os.environ) -> str | None:
    """The code that a page under Voila was opened with, `?setting=CODE`, or None."""
    return parse_qs(environment.get("QUERY_STRING", "")).get("setting", [None])[0]
