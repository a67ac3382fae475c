"""The statistics of the benchmarks: exact, on plain lists of numbers."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence

__all__ = ["geometric_mean", "median", "quartiles"]

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
