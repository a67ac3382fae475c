"""Maxima, minima and sums over rectangular windows: the one place that knows how they are computed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from fastconv.ndimage.blocks import padded_indices
from fastconv.threads import run

# Elements of a block, of its rows at least, and what one and each doubling takes; only the speed depends on them.
_BLOCK: Final = 1 << 17
_LEAST_WIDTH: Final = 64
_SECONDS: Final = 1e-9

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
    out = np.array(x, order="C")
    for axis, (size, before, mode) in enumerate(zip(sizes, befores, modes, strict=True)):
        if size > 1:
            out = _along(op, out, axis, size, padded_indices(x.shape[axis], before, size - 1 - before, mode), cval)
            cval = cval * size if op == "sum" else cval
    return out


def _along(op: str, x: np.ndarray, axis: int, size: int, sources: np.ndarray, cval: float) -> np.ndarray:
    """Return the windows along one axis; `sources` are the elements of the padded axis, -1 for the fill value."""
    n, inner = x.shape[axis], math.prod(x.shape[axis + 1 :])
    lines, out = x.reshape(-1, n, inner), np.empty(x.shape, x.dtype)
    result = out.reshape(lines.shape)
    outside = np.flatnonzero(sources < 0)
    fill = np.array(cval if outside.size else 0).astype(x.dtype)
    # Blocks that stay in cache: of neighbouring elements behind the axis, or of lines.
    width = min(inner, max(_LEAST_WIDTH, _BLOCK // n))
    height = max(1, _BLOCK // (n * width))
    columns = -(-inner // width)

    def blocks(g: Any, io: Any, scratch: int, lo: int, hi: int) -> None:
        for task in range(lo, hi):
            top, left = task // columns * height, task % columns * width
            part = lines[top : top + height, :, left : left + width]
            padded = np.take(part, sources, axis=1)
            padded[:, outside] = fill
            result[top : top + height, :, left : left + width] = _windows(_UFUNCS[op], padded, size, n)

    tasks = -(-len(lines) // height) * columns
    run(blocks, None, None, tasks, 0, x.size * _SECONDS * math.log2(2 * size))
    return out


def _windows(ufunc: np.ufunc, windows: np.ndarray, size: int, n: int) -> np.ndarray:
    """Return the n windows of `size` elements along axis 1 from those of one."""
    out, at, length = None, 0, 1
    while True:
        if size & length:
            part = windows[:, at : at + n]
            out = part if out is None else ufunc(out, part)
            at += length
        if 2 * length > size:
            assert out is not None
            return out
        windows = ufunc(windows[:, :-length], windows[:, length:])
        length *= 2
