"""Generators that run one after another here, or several at a time in processes of their own.

What they yield comes out of one generator, so whoever pulls does not see the difference. Threads of
one training wait for each other at every operation, and where anything else runs, for one that the
system has taken off. So the cores are used by processes of one thread each, which share the data
and wait for nobody.
"""

import gc
import multiprocessing
import pickle
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, TypeVar

import torch

EVERY = 0.05  # seconds between two numbers that a process sends, and until silence is told
AHEAD = 4  # how much a process sends before it waits for who pulls: not to pull is to pause

A = TypeVar("A")


@dataclass(frozen=True)
class Call(Generic[A]):
    """What a generator function is called with.

    after: the calls that must have ended before it begins, by their places in the sequence, all
    before its own.
    """

    argument: A
    after: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Ended:
    """Comes after the last that a call yields."""


@dataclass(frozen=True)
class Silence:
    """Comes where the processes yield nothing for a while, so that nobody who pulls is kept."""


class Order:
    """The order in which calls begin: as they are given, `jobs` at a time, each after those that it
    needs.
    """

    def __init__(self, calls: Sequence[Call[Any]], jobs: int) -> None:
        self._waiting, self._jobs = dict(enumerate(calls)), jobs
        self._running, self._ended = set[int](), set[int]()

    def begin(self) -> list[int]:
        """The places of those that begin now, from now on running; none where all have ended."""
        ready = [n for n, call in self._waiting.items() if call.after <= self._ended]
        chosen = ready[: self._jobs - len(self._running)]
        for number in chosen:
            del self._waiting[number]
        self._running.update(chosen)
        return chosen

    def end(self, number: int) -> None:
        """A running one has ended."""
        self._running.remove(number)
        self._ended.add(number)

    def __bool__(self) -> bool:
        return bool(self._waiting or self._running)


def run_calls(
    function: Callable[[A], Iterator[Any]], calls: Sequence[Call[A]], jobs: int
) -> Iterator[tuple[int, Any]]:
    """Everything that the calls yield, each with the place of its call; `Ended` when one has ended.

    jobs: how many run at a time; 1 is in this process, more are in processes of one thread each. Of
    whole numbers, which say how far a call is, processes leave most out, and all else that they
    yield is pickled; where they yield nothing, `Silence` comes. What a call raises is raised here,
    and ends the others; so does closing this generator. Raises RuntimeError where a process dies.
    """
    if jobs > 1:
        yield from _in_processes(function, calls, jobs)
        return
    for number, call in enumerate(calls):
        for value in function(call.argument):
            yield number, value
        yield number, Ended()


def _in_processes(
    function: Callable[[A], Iterator[Any]], calls: Sequence[Call[A]], jobs: int
) -> Iterator[tuple[int, Any]]:
    order = Order(calls, jobs)
    idle: list[_Process] = []
    running: dict[Any, _Process] = {}
    try:
        while order:
            for number in order.begin():
                process = idle.pop() if idle else _Process(function)
                running[process.connection] = process
                process.begin(number, calls[number].argument)
            came = wait(list(running), EVERY)
            for connection in came:
                process = running[connection]
                value = process.receive()
                if isinstance(value, Ended):
                    order.end(process.number)
                    idle.append(running.pop(connection))
                yield process.number, value
            if not came:
                yield next(iter(running.values())).number, Silence()
    finally:
        every = [*idle, *running.values()]
        for process in every:
            process.stop()
        for process in every:
            process.finish()


class _Process:
    """A process that calls a generator function, again and again, and sends what it yields."""

    def __init__(self, function: Callable[[Any], Iterator[Any]]) -> None:
        # A fork shares the memory of torch and of the data; of torch's threads, which it does not
        # inherit, it needs none. Where there is a GPU, torch does not train in a fork.
        forks = sys.platform == "linux" and not torch.cuda.is_available()
        context: Any = multiprocessing.get_context("fork" if forks else "spawn")
        self._heard = forks  # what is spawned has the user's script to import first
        self.number = -1
        self.connection, theirs = context.Pipe()
        ends = self.connection, theirs
        self._process = context.Process(target=_serve, args=(*ends, function), daemon=True)
        self._process.start()
        theirs.close()

    def begin(self, number: int, argument: Any) -> None:
        self.number = number
        self._tell(pickle.dumps(argument))

    def receive(self) -> Any:
        """What comes next."""
        try:
            value = pickle.loads(self.connection.recv_bytes())
        except (EOFError, ConnectionResetError) as error:
            raise self._death() from error
        self._heard = True
        self._tell(_RECEIVED)
        if isinstance(value, _Raised):
            raise value.error from RuntimeError(value.traceback)
        return value

    def _tell(self, message: bytes) -> None:
        with suppress(ConnectionError):  # it has died, which `receive` will find
            self.connection.send_bytes(message)

    def _death(self) -> RuntimeError:
        self._process.join()
        if not self._heard:
            return RuntimeError(
                "a process ended before it began: where processes are spawned (outside Linux, "
                "or with a GPU) a script must be a file, and needs "
                '`if __name__ == "__main__":` around what it does; jobs=1 needs no processes'
            )
        return RuntimeError(
            f"a process died with status {self._process.exitcode}, as when memory runs out; "
            "fewer jobs need less"
        )

    def stop(self) -> None:
        self._process.terminate()

    def finish(self) -> None:
        self.connection.close()  # first: should it want to send, it ends
        self._process.join()


_RECEIVED = b""  # what a process hears of each value that it sent; a call is longer


@dataclass(frozen=True)
class _Raised:
    """What a call raised."""

    error: Exception
    traceback: str


def _serve(far: Connection, near: Connection, function: Callable[[Any], Iterator[Any]]) -> None:
    """Run calls as they come, until SIGTERM, or until nobody is at the far end any more."""
    far.close()  # each end is open in one process then, so either notices when the other dies
    # Ctrl-C in a terminal reaches every process of the group; the one that pulls decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # so that files half written are removed
    gc.freeze()  # to look for garbage writes to every object, which would then not be shared
    torch.set_num_threads(1)
    ahead = 1
    try:
        near.send_bytes(pickle.dumps(Silence()))  # it has begun
        while True:
            while (message := near.recv_bytes()) == _RECEIVED:
                ahead -= 1
            for value in _guarded(function(pickle.loads(message))):
                while ahead == AHEAD or near.poll():
                    near.recv_bytes()
                    ahead -= 1
                near.send_bytes(pickle.dumps(value))
                ahead += 1
    except (EOFError, ConnectionError):
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
