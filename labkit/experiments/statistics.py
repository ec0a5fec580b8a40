"""Means over seeds, with their uncertainty.

A seed is one independent repetition of everything; draws of one seed are averaged before anything
else. scipy.special has Student's quantiles without the second that importing scipy.stats takes.
"""

import math

import pandas as pd
from scipy.special import stdtrit

NEAR = 0.1  # densities count as one where their logarithms differ by less


def interval(values: pd.Series) -> tuple[float, float]:
    """95% interval of the mean of independent values, one per seed, by Student's t; nan for a
    single one.
    """
    n = len(values)
    if n < 2:
        return math.nan, math.nan
    half = float(stdtrit(n - 1, 0.975)) * float(values.std(ddof=1)) / math.sqrt(n)
    return float(values.mean()) - half, float(values.mean()) + half
