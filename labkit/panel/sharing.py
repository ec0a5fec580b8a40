"""Sharing: a setting as a short code, from which a panel makes the same setting again.

    playground~rewind=60~seeds=0,1      in Python: Panel("playground~rewind=60~seeds=0,1")
    stability-imp.quick.1               under Voila: ?setting=stability-imp.quick.1

A code is the nearest experiment of the catalogue, and what differs from it.
"""

import html
import os
from collections.abc import Mapping
from urllib.parse import parse_qs, quote, unquote

import ipywidgets

from labkit.base.validation import choice
from labkit.experiments.experiment import TREATMENTS, Experiment
from labkit.experiments.presets import PRESETS
from labkit.experiments.words import as_command, as_python, settings_in_words, with_settings
from labkit.panel.catalogue import PLAYGROUND, STARTS, catalogue, members

_SAFE = ",.:/-+"


def code_of(experiment: Experiment) -> str:
    """The shortest code of an experiment. Raises ValueError for treatments without a name."""
    unnamed = [t.name for t in experiment.treatments if TREATMENTS.get(t.name) != t]
    if unnamed:
        raise ValueError(f"treatments must be named ones to be shared, not {', '.join(unnamed)}")
    wanted = dict(settings_in_words(experiment))
    codes = []
    seen: dict[tuple[str, str], int] = {}
    for name, size, member in catalogue():
        number = seen.get((name, size), 0)
        seen[name, size] = number + 1
        if name == PLAYGROUND and size != "quick":
            continue
        start = dict(settings_in_words(member))
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


class Sharing:
    """Lines to be copied that make a setting again. `box` is what to display."""

    def __init__(self) -> None:
        self.code, self.panel, self.address, self.python, self.command = (
            ipywidgets.Text(
                description=label,
                style={"description_width": "9.2em"},
                layout=ipywidgets.Layout(width="98%"),
            )
            for label in ("Code", "As a panel", "Under Voila", "In Python", "In a shell")
        )
        self._copy = ipywidgets.HTML()
        self._lines = [self.code, self.panel, self.address, self.python, self.command]
        self.box = ipywidgets.VBox([self._copy, *self._lines])

    def show(self, experiment: Experiment | None) -> None:
        """Say how to make an experiment again; None where there is none."""
        for line in self._lines:
            line.value = ""
        self._copy.value = ""
        if experiment is None:
            return
        self.python.value = as_python(experiment)
        try:
            code = code_of(experiment)
            self.command.value = as_command(experiment)
        except ValueError as error:
            self.code.value = self.command.value = f"not possible: {error}"
            return
        self.code.value, self.address.value = code, f"?setting={code}"
        self.panel.value = f"Panel({code!r})"
        self._copy.value = _copy_button(code)


def _copy_button(code: str) -> str:
    safe = html.escape(code.replace("\\", "\\\\").replace("'", "\\'"))
    return (
        f'<button type="button" class="jupyter-button" onclick="navigator.clipboard.writeText('
        f"'{safe}'); this.textContent='Copied'\">Copy the code</button>"
    )
