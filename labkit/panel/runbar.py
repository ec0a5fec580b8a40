"""The bar under the charts: Run, Pause, Stop, Reset, how far a run is, and what it does."""

import html
from collections.abc import Callable

import ipywidgets

from labkit.panel.session import Session

_ALONE = (
    " This page's clock does not tick, so the run goes on without it: Pause and Stop are not "
    "heard; interrupt the kernel to stop."
)


class RunBar:
    """`box` is what to display; the arguments are what the buttons do."""

    def __init__(
        self,
        run: Callable[[], None],
        pause: Callable[[], None],
        stop: Callable[[], None],
        reset: Callable[[], None],
    ) -> None:
        actions = {"Run": run, "Pause": pause, "Stop": stop, "Reset": reset}
        self.buttons = {}
        for word, action in actions.items():
            button = ipywidgets.Button(description=word, layout=ipywidgets.Layout(width="6em"))
            button.on_click(lambda _, action=action: action())
            self.buttons[word] = button
        self.buttons["Run"].button_style = "primary"
        self.progress = ipywidgets.IntProgress(
            description="Progress", max=100, style={"description_width": "initial"},
            layout=ipywidgets.Layout(flex="0 1 16em"),
        )  # fmt: skip
        self.state = ipywidgets.HTML()
        self.box = ipywidgets.Box(
            [*self.buttons.values(), self.progress, self.state],
            layout=ipywidgets.Layout(display="flex", flex_flow="row wrap", width="100%"),
        )

    def show(self, session: Session, alone: bool, possible: bool) -> None:
        """Say how far a run is. alone: without a clock; possible: whether the setting can be run,
        without which there is nothing to be ready for.
        """
        words = session.in_words() if possible or session.active else ""
        if alone and session.state == "running":
            words += _ALONE
        role = "alert" if session.state == "failed" else "status"
        self.state.value = (
            f'<p role="{role}" style="margin: 0 8px"><strong>{html.escape(words)}</strong></p>'
        )
        self.progress.value = 100 if session.state == "done" else session.pace.percent
        paused = session.state == "paused"
        self.buttons["Pause"].description = "Continue" if paused else "Pause"
