"""A made-up study of the third paper, for figures of stability and of matching."""

import math
from collections.abc import Iterator, Sequence

import pandas as pd
import pytest

INSTABILITY = {0: 0.2, 100: 0.03, 500: 0.01}
OTHERS = {
    "dataset": "mnist",
    "optimizer": "sgd",
    "length": 600,
    "criterion": "magnitude",
    "scope": "global",
    "cut": 0.5,
    "between": "rewind",
    "at": "end",
}
GAP = {0: -0.05, 100: -0.01, 500: 0.01}


def rows(seeds: Sequence[int], rates: Sequence[float]) -> Iterator[dict[str, object]]:
    """Two kinds; at the highest rate unstable at initialisation, with poor tickets from there."""
    for seed in seeds:
        for rate in rates:
            worse = rate == max(rates)
            for k, unstable in INSTABILITY.items():
                for kind in ("unstructured", "structured"):
                    label = {"seed": seed, "rewind": k, "kind": kind, "learning_rate": rate}
                    label |= {"network": "lenet-5", "chain": f"{rate} {k} {kind}", **OTHERS}
                    label |= {"instability": unstable if worse else 0.0, "draw": 0}
                    label["density"], label["round"] = 1.0, 0
                    dense = 0.75 + 0.001 * seed
                    yield {**label, "treatment": "dense", "final_test_accuracy": dense}
                    for number, density in ((1, 0.5), (2, 0.25)):
                        label |= {"round": number, "density": density}
                        reached = dense + GAP[k] * number * worse
                        yield {**label, "treatment": "rewind", "final_test_accuracy": reached}
                        label |= {"instability": math.nan}
                        yield {**label, "treatment": "reinitialise", "final_test_accuracy": 0.74}
                        label |= {"instability": unstable if worse else 0.0}


@pytest.fixture
def tickets() -> pd.DataFrame:
    return pd.DataFrame(rows((0, 1, 2), (0.01, 0.1)))


@pytest.fixture
def unstructured(tickets: pd.DataFrame) -> pd.DataFrame:
    return tickets[(tickets["kind"] == "unstructured") & (tickets["learning_rate"] == 0.1)]
