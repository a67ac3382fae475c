"""Maxima, minima and sums over rectangular windows: the one place where the filters meet the kernel of the pools."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from fastconv.dispatch.pooling import prepare
from fastconv.geometry.windows import Axis, whole
from fastconv.system import empty

# Element types of the kernel, each after what it holds in the same order.
_ELEMENTS: Final = {
    **{name: np.dtype(name) for name in ("float32", "float64", "int32", "int64")},
    **dict.fromkeys(("int8", "uint8", "int16", "uint16"), np.dtype("int32")),
    "uint32": np.dtype("int64"),
}
_HALF: Final = 1 << 63


def reduce_windows(
    op: str, x: np.ndarray, sizes: Sequence[int], befores: Sequence[int], modes: Sequence[str], cval: float
) -> np.ndarray:
    """Return the maximum, minimum or mean over the window of each element; NaN where there is one in it.

    Parameters
    ----------
    op : {"max", "min", "mean"}
        Means of floats only, computed in their dtype.
    x : ndarray of integers or floats, no size 0
    sizes, befores : sequence of int
        Of the window along each axis, and how many of its elements stand before the one that gets the result.
    modes : sequence of str
        A padding mode of the convolutions for each axis; "zeros" fills with `cval`.
    cval : float
        In the range of the dtype of integers.

    Returns
    -------
    ndarray
        A new array of the shape and dtype of `x`.

    Notes
    -----
    Two neighbouring axes at a time, in blocks that stay in cache. Large windows are combined from smaller ones, so that
    their cost grows with the logarithm of their size (fastconv/dispatch/window_stages.py).
    """
    fill: float = cval if x.dtype.kind == "f" else int(cval)
    if x.dtype == np.uint64:
        # The order of unsigned numbers is that of signed ones half the range lower.
        low = reduce_windows(op, (x ^ np.uint64(_HALF)).view(np.int64), sizes, befores, modes, fill - _HALF)
        return low.view(np.uint64) ^ np.uint64(_HALF)
    element = _ELEMENTS[x.dtype.name]
    out = np.ascontiguousarray(x, element)
    along = [axis for axis, size in enumerate(sizes) if size > 1]
    while along:
        h = along.pop(0)
        pair = [h, along.pop(0)] if along and along[0] == h + 1 else [h]
        windows = tuple(_axis(x.shape[a], sizes[a], befores[a], modes[a]) for a in pair)
        lanes, planes = math.prod(x.shape[pair[-1] + 1 :]), math.prod(x.shape[:h])
        if len(pair) == 1 and lanes > 1:
            windows, lanes = (*windows, whole(lanes)), 1
        kind, divisor = ("sum", math.prod(sizes[a] for a in pair)) if op == "mean" else (op, None)
        source, out = out, empty(x.shape, element)
        prepare(kind, element.name, planes, lanes, windows, False, divisor, fill).run(source, out)
    return out.astype(x.dtype) if x.dtype != element or out is x else out


def _axis(n: int, size: int, before: int, mode: str) -> Axis:
    return Axis(n, n, size, 1, 1, before, "fill" if mode == "zeros" else mode)
