"""The drawn pictures of ideas that lessons show: read, not drawn, here (`tools.drawing` does)."""

import base64
import html
import re
from dataclasses import dataclass

from labkit.base.places import bundled
from labkit.base.validation import choice


@dataclass(frozen=True)
class Idea:
    """A drawn picture of an idea. svg: its text, with a title and a description.

    A notebook holds it in the output of a cell, whole: that shows in every front end, before the
    cell is run and wherever the notebook is opened alone. Markdown does not: Colab resolves no path
    and no attachment (colabtools issues 3836 and 2092), JupyterLab draws no SVG that is attached
    (issue 10464), and an address needs a network.
    """

    svg: str

    @property
    def words(self) -> str:
        """What it shows, for who does not see it."""
        found = re.search(r"<title>(.*?)</title><desc>(.*?)</desc>", self.svg)
        return ". ".join(map(html.unescape, found.groups())) if found else ""

    def _repr_html_(self) -> str:
        # An image, which JupyterLab shows of a notebook that it does not trust yet, too.
        image = base64.b64encode(self.svg.encode()).decode()
        return (
            f'<img src="data:image/svg+xml;base64,{image}" alt="{html.escape(self.words)}" '
            'style="max-width: 100%">'
        )

    def __repr__(self) -> str:
        return f"A picture. {self.words}"


def idea(name: str) -> Idea:
    """A picture of an idea, as it came with the lab. Raises ValueError for an unknown name."""
    folder = bundled("notebooks") / "ideas"
    choice("name", name, sorted(path.stem for path in folder.glob("*.svg")))
    return Idea((folder / f"{name}.svg").read_text("utf-8"))
