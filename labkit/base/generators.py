"""Work in pieces: functions that can be left between any two of them.

A panel that is told to stop can do so only between two pieces, so none may take long.
"""

from collections.abc import Callable, Generator
from functools import update_wrapper
from typing import Generic, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
S = TypeVar("S")
Pieces = Generator[None, None, T]  # yields between pieces, and returns the result


class InPieces(Generic[P, T]):
    """A function that is written as a generator, and yields where it may be left.

    Called like any function it does all pieces and gives the result; its `pieces` are the
    generator, for whoever wants to look up in between.
    """

    def __init__(self, pieces: Callable[P, Pieces[T]]) -> None:
        update_wrapper(self, pieces)
        self.pieces = pieces

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        pieces = self.pieces(*args, **kwargs)
        while True:
            try:
                next(pieces)
            except StopIteration as done:
                return done.value


def between(pieces: Pieces[T], sign: S) -> Generator[S, None, T]:
    """Yield a sign after each piece, and return the result."""
    while True:
        try:
            next(pieces)
        except StopIteration as done:
            return done.value
        yield sign
