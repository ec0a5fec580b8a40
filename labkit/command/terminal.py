"""What a well-behaved command does in a terminal: messages, warnings, signals, pipes."""

import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn


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
def stopped_by_sigterm() -> Iterator[None]:
    """Within the block SIGTERM raises Terminated, so that a run is closed in order."""

    def stop(*_: Any) -> NoReturn:
        raise Terminated

    if threading.current_thread() is not threading.main_thread():  # signals belong to that one
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


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
