"""Sharing: the lines that make a setting again, and a button that copies its code."""

import html
import shlex

import ipywidgets

from labkit.experiments.experiment import Experiment
from labkit.experiments.words import as_python
from labkit.panel.codes import code_of


class ShareBox:
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
            self.command.value = f"labkit run {shlex.quote(code)}"
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
