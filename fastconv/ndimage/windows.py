"""Maxima, minima and sums over rectangular windows: the one place that knows how they are computed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from fastconv.ndimage.blocks import padded_indices

_UFUNCS: Final = {"max": np.maximum, "min": np.minimum, "sum": np.add}


@np.errstate(all="ignore")
def reduce_windows(
    op: str, x: np.ndarray, sizes: Sequence[int], befores: Sequence[int], modes: Sequence[str], cval: float
) -> np.ndarray:
    """Return the maximum, minimum or sum over the window of each element; NaN where there is one in it.

    Parameters
    ----------
    op : {"max", "min", "sum"}
    x : ndarray of integers or floats, no size 0
        Sums are taken in its dtype.
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
    Windows of 1, 2, 4, ... elements are made from two of half the size, and every other one from those of the binary
    digits of its size: about 2 log2(size) operations an element and axis.
    """
    out = x
    for axis, (size, before, mode) in enumerate(zip(sizes, befores, modes, strict=True)):
        if size > 1:
            padded = _padded(out, axis, before, size - 1 - before, mode, cval)
            if op == "sum":
                cval *= size
            out = np.moveaxis(_along_first(_UFUNCS[op], np.moveaxis(padded, axis, 0), size, x.shape[axis]), 0, axis)
    return np.array(out, order="C", copy=True if out is x else None)


def _padded(x: np.ndarray, axis: int, before: int, after: int, mode: str, cval: float) -> np.ndarray:
    n = x.shape[axis]
    padded = np.take(x, padded_indices(n, before, after, mode), axis=axis)
    if mode == "zeros":
        lines = np.moveaxis(padded, axis, 0)
        lines[:before] = lines[before + n :] = np.array(cval).astype(x.dtype)
    return padded


def _along_first(ufunc: np.ufunc, windows: np.ndarray, size: int, n: int) -> np.ndarray:
    """Return the windows of `size` elements, of which there are n, from those of one."""
    out, at, length = None, 0, 1
    while True:
        if size & length:
            part = windows[at : at + n]
            out = part if out is None else ufunc(out, part)
            at += length
        if 2 * length > size:
            assert out is not None
            return out
        windows = ufunc(windows[:-length], windows[length:])
        length *= 2
