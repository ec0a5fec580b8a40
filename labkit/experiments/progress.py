"""Watching a run: pull its events and show how far it is, in a terminal or in a notebook.

Time left is that of the work to do at the pace so far; work is counted in iterations of one network
(`labkit.Progress`), and what a store had already is no part of it. Not by tqdm: a log needs lines
that stay, and the panel a pace without a bar.
"""

import os
import shutil
import sys
import time
from collections.abc import Iterable
from typing import Any, TextIO

from labkit.experiments.mishaps import in_words
from labkit.experiments.running import Event, Finished, Progress

BAR = 24  # characters


class Pace:
    """How far a run is, and how long it takes, from its `Progress` events."""

    def __init__(self) -> None:
        self.latest: Progress | None = None
        self.began = time.monotonic()
        self._start: tuple[float, int] | None = None  # time and work done

    def update(self, progress: Progress) -> None:
        """Take in an event; the clock starts at the first, when the data are loaded."""
        if self.latest is None:
            self.began = time.monotonic()
        # The first iteration is no part of the pace: it imports and allocates for seconds.
        if self._start is None and progress.done > 0:
            self._start = time.monotonic(), progress.done
        self.latest = progress

    @property
    def percent(self) -> int:
        """Share of the work done, whole percent, rounded down, in [0, 100]."""
        if self.latest is None or not self.latest.total:
            return 0
        return 100 * self.latest.done // self.latest.total

    @property
    def elapsed(self) -> float:
        """Seconds since the first event."""
        return time.monotonic() - self.began

    @property
    def left(self) -> float | None:
        """Seconds to go, or None while less than a second's work is known."""
        if self.latest is None or self._start is None:
            return None
        since, before = self._start
        seconds, done = time.monotonic() - since, self.latest.done - before
        if seconds < 1 or done <= 0:
            return None
        return seconds / done * (self.latest.total - self.latest.done)

    def in_words(self) -> str:
        """Percent, round and time left, such as " 40%  round 2  1 min 20 s left"."""
        number = self.latest.round if self.latest else 0
        left = "" if self.left is None else f"  {duration(self.left)} left"
        return f"{self.percent:3d}%  round {number}{left}"


def duration(seconds: float) -> str:
    """A time in words, such as "45 s", "1 min 20 s" or "2 h 5 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest and minutes < 10 else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def follow(events: Iterable[Event], stream: TextIO | None = None) -> None:
    """Pull a run to its end and show its progress on a stream (None: standard error).

    On a terminal that is one line, rewritten; elsewhere a plain line about every tenth of the work.
    A network that came to grief has a line of its own. What the run raises passes through. A run
    without work shows nothing.
    """
    stream = sys.stderr if stream is None else stream
    terminal = stream.isatty() and os.environ.get("TERM") != "dumb"
    pace, shown, drawn_at = Pace(), -1, -1.0
    try:
        for event in events:
            if isinstance(event, Finished) and (words := _mishap(event)):
                width = shutil.get_terminal_size().columns - 1 if terminal else 0
                start = "\r" if terminal else ""
                print(f"{start}{words:<{width}}", file=stream, flush=True)
            if not isinstance(event, Progress):
                continue
            pace.update(event)
            if not terminal:
                tenth = pace.percent // 10
                if tenth > shown:
                    print(pace.in_words().strip(), file=stream, flush=True)
                    shown = tenth
            elif event.done >= event.total or time.monotonic() > drawn_at + 0.1:
                _redraw(pace, stream)
                drawn_at = time.monotonic()
    finally:
        if terminal and pace.latest is not None:
            print(file=stream, flush=True)


def _mishap(event: Finished) -> str:
    """What befell a network, with its seed, round and treatment, or nothing."""
    trial, words = event.trial, in_words(event.result.get("ticket", {}))
    return f"seed {trial.seed}, round {trial.round}, {trial.label}: {words}" if words else ""


def _redraw(pace: Pace, stream: TextIO) -> None:
    filled = BAR * pace.percent // 100
    line = f"[{'#' * filled}{'.' * (BAR - filled)}] {pace.in_words()}"
    width = shutil.get_terminal_size().columns - 1  # a full line would wrap and not be rewritten
    print(f"\r{line[:width]:<{width}}", end="", file=stream, flush=True)


def watch(events: Iterable[Event]) -> None:
    """Pull a run to its end and show its progress as a bar with a text, in a notebook.

    The text says the percentage, the round, the time left, and at the end whether the run is done,
    was stopped or failed; what the run raises passes through. In plain Python nothing is shown.
    """
    import ipywidgets

    style = {"description_width": "initial"}
    bar = ipywidgets.IntProgress(min=0, max=100, description="Training", style=style)
    text = ipywidgets.Label("starting")
    _display(ipywidgets.HBox([bar, text]))
    pace, drawn_at = Pace(), -1.0
    try:
        for event in events:
            if isinstance(event, Progress):
                pace.update(event)
                if time.monotonic() > drawn_at + 0.2:  # each change is a message to the browser
                    bar.value, text.value = pace.percent, pace.in_words().strip()
                    drawn_at = time.monotonic()
    except BaseException as error:
        stopped = isinstance(error, KeyboardInterrupt | GeneratorExit)
        bar.value, bar.bar_style = pace.percent, "warning" if stopped else "danger"
        text.value = (
            f"{'stopped' if stopped else 'failed'} at {pace.percent}%; finished networks are "
            "kept, and running this again goes on from there"
        )
        raise
    bar.value, bar.bar_style = 100, "success"
    nothing_to_do = pace.latest is None
    text.value = "nothing to train" if nothing_to_do else f"done in {duration(pace.elapsed)}"


def _display(widget: Any) -> None:
    from IPython import display, get_ipython

    if get_ipython() is not None:  # outside IPython, display prints the widget's repr
        display.display(widget)
