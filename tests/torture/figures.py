"""The figures of a torture: of so many times, how often what must hold held."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

SHOWN = 5  # faults of a figure


@dataclass
class Figure:
    """What must hold, how often it was tried, and what did not hold, in words. note: a measure."""

    must: str
    tried: int = 0
    faults: list[str] = field(default_factory=list)
    note: str = ""

    def count(self, held: bool, fault: str) -> None:
        """Tried once more; fault: what to tell of it where it did not hold."""
        self.tried += 1
        if not held:
            self.faults.append(fault)


def missed(figures: Iterable[Figure]) -> bool:
    """Whether an aim is missed: something did not hold, or was never tried."""
    return any(figure.faults or not figure.tried for figure in figures)


def as_table(figures: Sequence[Figure]) -> str:
    """A line per figure, and below those that are missed some of their faults."""
    width = max(len(figure.must) for figure in figures)
    lines = []
    for figure in figures:
        held = f"{figure.tried - len(figure.faults):,} of {figure.tried:,}"
        lines.append(f"{figure.must:<{width}}  {held:>16}  {figure.note}".rstrip())
        lines += [f"    {fault}" for fault in figure.faults[:SHOWN]]
    return "\n".join(lines)
