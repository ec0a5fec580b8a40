"""Work in pieces: a generator that can be left between any two of them, and returns its result.

A panel that is told to stop can do so only between two pieces, so none may take long.
"""

from collections.abc import Generator
from typing import TypeVar

T = TypeVar("T")
S = TypeVar("S")
Pieces = Generator[None, None, T]


def complete(pieces: Pieces[T]) -> T:
    """Do all pieces, and give the result."""
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
