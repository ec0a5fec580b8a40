"""A run in short pieces: pulled a little at every tick of a clock, so that a Stop can come between.

Stopping is not pulling any more. Each run has a generation, and a tick that was sent for an earlier
one does nothing; a lock keeps ticks from meeting where a front end delivers them on two threads.
"""

import threading
import time
from collections.abc import Iterator

from labkit.experiments.progress import Pace, duration
from labkit.experiments.running import Evaluated, Event, Finished, Progress

TICK = 0.1  # seconds of work between two looks at the controls


class Session:
    """A run that can be paused, stopped and followed. state: "ready" (nothing was run), "running",
    "paused", "stopped", "done" or "failed".
    """

    def __init__(self) -> None:
        self.state = "ready"
        self.generation = 0
        self.pace = Pace()
        self.finished = 0  # networks
        self.station = ""  # of the loop: train, prune, rewind, or nothing where none runs
        self.error = ""
        self._events: Iterator[Event] = iter(())
        self._lock = threading.RLock()

    @property
    def active(self) -> bool:
        """Whether there is a run that has not ended, paused ones included."""
        return self.state in ("running", "paused")

    def start(self, events: Iterator[Event]) -> None:
        """Begin a run; one that is active is stopped. Nothing is pulled yet."""
        with self._lock:
            self.stop()
            self.generation += 1
            self.state, self._events = "running", events
            self.pace, self.finished, self.error = Pace(), 0, ""
            self.station = "train"

    def pause(self) -> None:
        """Pause a running run, go on with a paused one."""
        with self._lock:
            self.state = {"running": "paused", "paused": "running"}.get(self.state, self.state)

    def stop(self) -> None:
        """End a run. What was finished is in the store already."""
        with self._lock:
            if self.active:
                self.state = "stopped"
                self._close()

    def pull(self, generation: int) -> list[Evaluated | Finished]:
        """What the run measures in about TICK; nothing for a tick of another generation.

        What the run raises ends it, and is kept in words.
        """
        measured: list[Evaluated | Finished] = []
        if not self._lock.acquire(blocking=False):  # the tick before is not done yet
            return measured
        try:
            deadline = time.perf_counter() + TICK
            while self.state == "running" and generation == self.generation:
                event = next(self._events, None)
                if event is None:
                    self.state, self.station = "done", ""
                elif isinstance(event, Progress):
                    self.pace.update(event)
                else:
                    self.finished += isinstance(event, Finished)
                    self.station = _station(event)
                    measured.append(event)
                if time.perf_counter() > deadline:
                    break
        except Exception as error:  # nobody but the reader of the panel can be told
            self.state = "failed"
            self.error = f"{type(error).__name__}: {error}"
            self._close()
        finally:
            self._lock.release()
        return measured

    def in_words(self) -> str:
        """The state as a sentence."""
        networks = f"{self.finished} network{'' if self.finished == 1 else 's'}"
        at = self.pace.in_words().strip()
        kept = f"{networks} finished in this run, and stored; Run goes on from there"
        if self.state == "done":
            return (
                f"Done in {duration(self.pace.elapsed)}: {networks} trained, and stored."
                if self.finished
                else "Done: everything was stored before."
            )
        return {
            "ready": "Ready.",
            "running": f"Running: {at}.",
            "paused": f"Paused: {at}.",
            "stopped": f"Stopped at {self.pace.percent}%: {kept}.",
            "failed": f"Failed at {self.pace.percent}%. {self.error} ({kept}.)",
        }[self.state]

    def _close(self) -> None:
        self.station = ""
        close = getattr(self._events, "close", None)
        if close is not None:
            close()
        self._events = iter(())


def _station(event: Evaluated | Finished) -> str:
    """Where in the loop a run is: what is finished is pruned next, and what begins was rewound."""
    if isinstance(event, Finished):
        return "prune"
    first = event.trials[0]
    return "rewind" if first.round and event.iteration == first.start else "train"
