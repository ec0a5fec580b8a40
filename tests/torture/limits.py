"""Limits of what is tortured: memory, which others need too, and patience."""

import resource
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SPARE = 3 * 2**30  # bytes of address space that may be asked for
PATIENCE = 10.0  # seconds of the processor; more is a hang
_GIVEN_UP = 30 * PATIENCE  # seconds, also where it only waits


class Hung(BaseException):
    """It waited for ever."""


@contextmanager
def little_memory() -> Iterator[None]:
    """Within the block the process may grow by SPARE, so that it fails before the machine does."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + SPARE, hard))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


class Watch:
    """Whether what is done takes too long: `with watch: ...`, then `watch.hung`."""

    def __init__(self) -> None:
        self.hung = False
        self.longest = 0.0  # seconds of the processor

    def __enter__(self) -> "Watch":
        def give_up(*_: object) -> None:
            raise Hung

        self._before = signal.signal(signal.SIGALRM, give_up)
        signal.setitimer(signal.ITIMER_REAL, _GIVEN_UP)
        self._began, self.hung = time.process_time(), False
        return self

    def __exit__(self, kind: type | None, *_: object) -> bool:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self._before)
        took = time.process_time() - self._began
        self.longest = max(self.longest, took)
        self.hung = kind is Hung or took > PATIENCE
        return kind is Hung
