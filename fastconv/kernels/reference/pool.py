"""The definition of pooling: for every output, the elements of its window, one by one. Slow, obvious."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np


def pool(
    x: np.ndarray, taps: Sequence[Sequence[Sequence[int]]], reduce: Callable[[np.ndarray, np.ndarray], Any]
) -> np.ndarray:
    """Return ``reduce(values, indices)`` of the windows of x (planes, *sizes).

    taps[axis][o] are the inputs along an axis that output o sees; what lies outside is left out. `values` are those of
    a window in row-major order, (planes, count), `indices` their numbers over the spatial axes.
    """
    sizes, outs = x.shape[1:], [len(each) for each in taps]
    flat, numbers = x.reshape(len(x), -1), np.arange(np.prod(sizes)).reshape(sizes)
    results = []
    for o in itertools.product(*map(range, outs)):
        inside = [[i for i in taps[axis][o[axis]] if 0 <= i < n] for axis, n in enumerate(sizes)]
        indices = numbers[np.ix_(*inside)].ravel()
        results.append(reduce(flat[:, indices], indices))
    return np.stack(results, 1).reshape(len(x), *outs, *np.shape(results[0])[1:])


def regular(n: int, out: int, kernel: int, stride: int, before: int = 0, dilation: int = 1) -> list[list[int]]:
    """Return the taps of a pool's windows along one axis."""
    return [[o * stride + k * dilation - before for k in range(kernel)] for o in range(out)]


def adaptive(n: int, out: int) -> list[list[int]]:
    """Return the taps of adaptive windows along one axis."""
    return [list(range(o * n // out, -(-(o + 1) * n // out))) for o in range(out)]


def largest(values: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """Return (value, index) of the first maximum, or of the last NaN, of each plane; of none (least value, 0)."""
    found = []
    for row in values:
        if not len(row):
            found.append((-np.inf if row.dtype.kind in "fV" else np.iinfo(row.dtype).min, 0))
            continue
        nans = np.flatnonzero(row != row)
        at = nans[-1] if len(nans) else int(np.argmax(row))
        found.append((row[at], indices[at]))
    return np.array(found, object)


def mean(values: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """Return the average of each plane in double precision."""
    return values.astype(np.float64).mean(1)
