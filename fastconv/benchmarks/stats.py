"""The statistics of the benchmarks: exact, on plain lists of numbers."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence

__all__ = ["crossover", "geometric_mean", "median", "quartiles"]

median = statistics.median


def quartiles(samples: Sequence[float]) -> tuple[float, float]:
    """Return the first and the third quartile, linear between the order statistics, as NumPy's default."""
    if len(samples) == 1:
        return samples[0], samples[0]
    low, _, high = statistics.quantiles(samples, n=4, method="inclusive")
    return low, high


def geometric_mean(values: Iterable[float]) -> float:
    """Return the geometric mean; NaN for no values."""
    logs = [math.log(value) for value in values]
    return math.exp(math.fsum(logs) / len(logs)) if logs else math.nan


def crossover(places: Sequence[float], before: Sequence[float], after: Sequence[float]) -> float | None:
    """Return the first place from which on `after` is below `before`; None if it is not below at the last one."""
    found = None
    for place, old, new in zip(places, before, after, strict=True):
        if new >= old:
            found = None
        elif found is None:
            found = place
    return found
