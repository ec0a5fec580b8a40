"""What a well-behaved command does in a terminal: messages, warnings, signals, pipes."""

import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

_STOPS = (signal.SIGINT, signal.SIGTERM)


class Terminated(KeyboardInterrupt):
    """SIGTERM: stop as Ctrl-C does."""


def say(message: object) -> None:
    """A message on standard error."""
    print(f"labkit: {message}", file=sys.stderr, flush=True)


@contextmanager
def warnings_in_one_line() -> Iterator[None]:
    """Within the block a warning is a message, without the line of code that gave it."""

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        # Of its own line, also when a progress bar stands on this one.
        start = "\n" if sys.stderr.isatty() else ""
        print(f"{start}labkit: warning: {message}", file=sys.stderr, flush=True)

    with warnings.catch_warnings():
        warnings.filterwarnings("default", category=UserWarning)
        warnings.showwarning = show
        yield


@contextmanager
def stopped_once() -> Iterator[None]:
    """Within the block the first SIGTERM raises Terminated, or the first Ctrl-C KeyboardInterrupt,
    so that a run is closed in order; what comes while it is being closed is ignored.
    """

    def stop(number: int, *_: Any) -> NoReturn:
        ignore_interrupts()
        raise Terminated if number == signal.SIGTERM else KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():  # signals belong to that one
        yield
        return
    before = {number: signal.getsignal(number) for number in _STOPS}
    for number, handler in before.items():
        if handler != signal.SIG_IGN:  # as in the background of a shell
            signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)


def ignore_interrupts() -> None:
    """From here on the exit status is decided, whatever signal comes."""
    for number in _STOPS:
        signal.signal(number, signal.SIG_IGN)


def open_closed_streams() -> bool:
    """Give a process that was started without standard error one that leads nowhere; whether it has
    a standard output.
    """
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    return sys.stdout is not None


def silence(*streams: Any) -> None:
    """Let a stream whose other end is gone flush into nothing when the interpreter exits."""
    for stream in streams:
        try:
            target = stream.fileno()
        except (OSError, ValueError):  # not a real file
            continue
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, target)
        os.close(nowhere)
