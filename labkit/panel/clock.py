"""The clock of a panel: a hidden Play that ticks in the front end, and what if it does not.

Between two ticks the kernel hears the controls, without threads: the same in JupyterLab, Notebook,
VS Code, Voila and Colab. Two views of one Play stop each other, so that each time a panel is shown
it gets a Play of its own. A front end begins at a change that it sees, so one that shows a panel
whose run goes on is told again a little later. And a front end may not tick at all (Colab once did
not): where nothing was heard for PATIENCE seconds, the panel is told and goes on by itself.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import ipywidgets

INTERVAL = 50  # milliseconds between two ticks
PATIENCE = 2.0  # seconds
_SHOWN_AFTER = 0.7  # seconds until a front end has drawn what it was sent
_SPAN = 1_000_000  # ticks of one generation: 14 hours


class Clock:
    """Calls tick(generation) at every tick, and silent() when none comes.

    A tick carries the generation that it was started for; those of earlier ones are echoes.
    """

    def __init__(
        self,
        tick: Callable[[int], None],
        silent: Callable[[], None],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tick, self._silent, self._now = tick, silent, now
        self._shown = False
        self._generation = 0
        self._wait = 0  # the latest of the waits for a tick; an older one is void
        self._since: float | None = None  # when the first tick became due, none having come
        self.box = ipywidgets.Box(layout=ipywidgets.Layout(display="none"))
        self._renew()

    @property
    def dead(self) -> bool:
        """Whether ticks have been due for PATIENCE, and none has come since it was shown."""
        return self._since is not None and self._now() - self._since > PATIENCE

    @property
    def value(self) -> int:
        return self.play.value

    def shown(self, running: bool) -> None:
        """A front end is about to show it. running: whether it should tick as soon as it does."""
        self._renew()
        self._shown = True
        self._since = None
        if running:
            self._later(_SHOWN_AFTER, lambda: self.start(self._generation))

    def start(self, generation: int) -> None:
        """Tick for a generation."""
        self._generation = generation
        if self.play.value // _SPAN != generation:
            self.play.value = generation * _SPAN
        # A front end starts at the change, and only once it shows the clock; a page that was loaded
        # again does not tick although the kernel's clock plays.
        if self._shown:
            _set_playing(self.play, False)
            _set_playing(self.play, True)
            self._since = self._now() if self._since is None else self._since
            self._later(PATIENCE, self._judge)

    def stop(self) -> None:
        """Tick no more."""
        self._wait += 1
        _set_playing(self.play, False)
        self._since = None

    def _judge(self) -> None:
        if self._since is not None:
            self._silent()

    def _later(self, seconds: float, action: Callable[[], None]) -> None:
        """Do something in the kernel's own loop, if there is one, unless a tick comes before."""
        self._wait += 1
        wait, due = self._wait, self._now() + seconds
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # plain Python
            return

        def act() -> None:
            if wait != self._wait:
                return
            if self._now() > due + 0.5:  # the kernel was busy: ticks may wait to be heard
                self._later(seconds, action)
            else:
                action()

        loop.call_later(seconds, act)

    def _on_value(self, number: int) -> None:
        if not number % _SPAN:  # set by the kernel
            return
        self._wait += 1
        self._since = None
        if number // _SPAN != self._generation:
            self.start(self._generation)  # an echo must not stay the clock's value
            return
        self._tick(number // _SPAN)

    def _renew(self) -> None:
        before = self.box.children
        value = before[0].value if before else 0
        self.play: Any = ipywidgets.Play(min=0, max=2**50, value=value, interval=INTERVAL)
        self.play.observe(lambda change: self._on_value(change["new"]), "value")
        self.box.children = (self.play,)
        for old in before:
            old.unobserve_all()
            old.close()


def _set_playing(clock: Any, playing: bool) -> None:
    # ipywidgets 8 renamed it.
    setattr(clock, "playing" if clock.has_trait("playing") else "_playing", playing)
