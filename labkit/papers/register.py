"""What the papers say: every sentence of them that can come out wrong, as `register.csv` has it.

Each has the paper's own number, whether we can measure it or not, and the rule by which it is read.
"""

import csv
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from labkit.engine.connectivity import STABLE

REGISTER = Path(__file__).with_name("register.csv")
POINTS, PERCENT, FACTOR = "points", "%", "x"


@dataclass(frozen=True)
class Claim:
    """A sentence of a paper that can come out wrong.

    network, published: the paper's, in words; effect: its number in `unit`, or None. unit: how arm
    and against are compared: "points" is the difference in percentage points, "%" the relative
    change, "x" how many times larger `against` is; each per seed, then averaged. Without `against`
    the arm's value is read as it is. rule: see `labkit.experiments.statistics.verdict`. readings:
    columns of `labkit.Tables.tickets`, the paper's own first. where: a query of those columns that
    says in which cells the claim is read; where it names neither `between` nor `at` (nor `drawn`),
    only chains that rewind are, whose masks are drawn after the round before, and where it does not
    name `warmup`, only those without. other: a query for
    the chains in which `against` is found, at the same density of the same task; none where it
    stands in the arm's own. nearest: column and value, in the order in which they choose the
    headline. studies: the presets beside which it is shown. why: it is not attempted.
    """

    claim: str
    paper: str
    place: str
    network: str
    says: str
    published: str
    effect: float | None
    unit: str
    rule: str
    arm: str
    against: str
    readings: tuple[str, ...]
    where: str
    nearest: tuple[tuple[str, str], ...]
    studies: tuple[str, ...]
    why: str = ""
    other: str = ""

    @property
    def threshold(self) -> float:
        """What its value is compared with: no effect, or the limit of what is called stable."""
        if self.readings == ("instability",):
            return 100 * STABLE
        return 1.0 if self.unit == FACTOR else 0.0


@lru_cache(maxsize=1)
def register() -> tuple[Claim, ...]:
    """All claims of `register.csv`, in its order."""
    with REGISTER.open(encoding="utf-8", newline="") as file:
        return tuple(_read(row) for row in csv.DictReader(file, restval=""))


def _read(row: dict[str, str]) -> Claim:
    nearest = (word.partition("=")[::2] for word in row["nearest"].split())
    return Claim(
        **{
            **row,
            "effect": float(row["effect"]) if row["effect"] else None,
            "readings": tuple(row["readings"].split()),
            "nearest": tuple(nearest),
            "studies": tuple(row["studies"].split()),
        }  # type: ignore[arg-type]
    )
