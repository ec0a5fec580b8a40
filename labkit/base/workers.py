"""Generators that run one after another here, or several at a time in processes of their own.

What they yield comes out of one generator, so whoever pulls does not see the difference. A small
network keeps one core busy and no more: networks in processes of one thread each are trained faster
than the same networks, one after the other, with a thread on every core.
"""

import gc
import multiprocessing
import pickle
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, TypeVar

import torch

EVERY = 0.05  # seconds between two numbers that a process sends


A = TypeVar("A")


@dataclass(frozen=True)
class Call(Generic[A]):
    """What a generator function is called with.

    alone: it runs in this process, with all of torch's threads and with nothing beside it. after:
    the calls that must have ended before it begins, by their places in the sequence.
    """

    argument: A
    alone: bool = False
    after: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Ended:
    """Comes after the last that a call yields."""


def run_calls(
    function: Callable[[A], Iterator[Any]], calls: Sequence[Call[A]], jobs: int
) -> Iterator[tuple[int, Any]]:
    """Everything that the calls yield, each with the place of its call; `Ended` when one has ended.

    jobs: how many run at a time, from 1, each in a process of its own with one thread. Of whole
    numbers, which say how far a call is, processes leave most out; all else that they yield is
    pickled. What a call raises is raised here, and ends the others; so does closing this generator.
    Raises RuntimeError where a process dies.
    """
    waiting, ended = dict(enumerate(calls)), set[int]()
    running: dict[Connection, _Process] = {}
    try:
        while waiting or running:
            for number in next_to_begin(waiting, ended, len(running), jobs):
                call = waiting.pop(number)
                if call.alone:
                    for value in function(call.argument):
                        yield number, value
                    ended.add(number)
                    yield number, Ended()
                else:
                    process = _Process(number, function, call.argument)
                    running[process.connection] = process
            for connection in wait(list(running)) if running else ():
                process = running[connection]  # type: ignore[index]
                value = process.receive()
                if isinstance(value, _Begun):
                    continue
                if isinstance(value, Ended):
                    ended.add(process.number)
                    running.pop(process.connection).finish()
                yield process.number, value
    finally:
        for process in running.values():
            process.stop()
        for process in running.values():
            process.finish()


def next_to_begin(
    waiting: Mapping[int, Call[Any]], ended: set[int], running: int, jobs: int
) -> list[int]:
    """Which of the waiting begin now, in their order: as many as make `jobs`, or one alone, which
    nothing overtakes.
    """
    chosen: list[int] = []
    for number, call in waiting.items():
        if not call.after <= ended:
            continue
        if running + len(chosen) == jobs or (call.alone and (running or chosen)):
            break
        chosen.append(number)
        if call.alone:
            break
    return chosen


class _Process:
    """A process that calls a generator function and sends what it yields."""

    def __init__(self, number: int, function: Callable[[A], Iterator[Any]], argument: A) -> None:
        # A fork shares the memory of torch and of the data; of torch's threads, which it does not
        # inherit, it needs none. Where there is a GPU, torch does not train in a fork.
        forks = sys.platform == "linux" and not torch.cuda.is_available()
        context: Any = multiprocessing.get_context("fork" if forks else "spawn")
        self._begun = forks  # what is spawned has the user's script to import first
        self.number = number
        self.connection, sender = context.Pipe(duplex=False)
        ends = self.connection, sender
        self._process = context.Process(target=_send, args=(*ends, function, argument), daemon=True)
        self._process.start()
        sender.close()

    def receive(self) -> Any:
        try:
            value = pickle.loads(self.connection.recv_bytes())
        except EOFError as error:
            self._process.join()
            if not self._begun:
                raise RuntimeError(
                    "a process ended before it began: where processes are spawned (outside Linux, "
                    "or with a GPU) a script must be a file, and needs "
                    '`if __name__ == "__main__":` around what it does'
                ) from error
            raise RuntimeError(
                f"a process died with status {self._process.exitcode}, as when memory runs out; "
                "fewer jobs need less"
            ) from error
        self._begun = True
        if isinstance(value, _Raised):
            raise value.error from RuntimeError(value.traceback)
        return value

    def stop(self) -> None:
        self._process.terminate()

    def finish(self) -> None:
        self.connection.close()  # first: should it want to send, it ends
        self._process.join()


@dataclass(frozen=True)
class _Begun:
    """The first that a process sends."""


@dataclass(frozen=True)
class _Raised:
    """What a call raised."""

    error: Exception
    traceback: str


def _send(
    receiver: Connection, sender: Connection, function: Callable[[A], Iterator[Any]], argument: A
) -> None:
    """Run a call to its end, to SIGTERM, or until nobody receives any more."""
    receiver.close()  # each end is open in one process then, so either notices when the other dies
    # Ctrl-C in a terminal reaches every process of the group; the one that pulls decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # so that files half written are removed
    gc.freeze()  # to look for garbage writes to every object, which would then not be shared
    torch.set_num_threads(1)
    try:
        sender.send_bytes(pickle.dumps(_Begun()))
        for value in _guarded(function(argument)):
            sender.send_bytes(pickle.dumps(value))
    except BrokenPipeError:
        return


def _guarded(values: Iterator[Any]) -> Iterator[Any]:
    """What a call yields, with an end; of whole numbers one now and then."""
    sent = 0.0
    try:
        for value in values:
            if not isinstance(value, int):
                yield value
            elif time.monotonic() > sent + EVERY:
                yield value
                sent = time.monotonic()
    except Exception as error:
        yield _Raised(error, traceback.format_exc())
    else:
        yield Ended()
