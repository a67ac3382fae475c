"""Filtering an image in bands of rows: so many at once as a limit on memory allows, with the rows around them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from fastconv import signal
from fastconv.ndimage.blocks import padded_indices

__all__ = ["BOUNDARIES", "Filter", "filtered"]

# The names of `fastconv.conv2d`, and those of SciPy and OpenCV where they mean the same everywhere.
BOUNDARIES = {
    **{name: name for name in ("zeros", "reflect", "symmetric", "replicate", "circular")},
    "constant": "zeros",
    "grid-constant": "zeros",
    "mirror": "reflect",
    "reflect101": "reflect",
    "grid-mirror": "symmetric",
    "nearest": "replicate",
    "edge": "replicate",
    "wrap": "circular",
    "grid-wrap": "circular",
}

# Sums of these are taken in float32, of others in float64.
_NARROW = ("uint8", "int8", "float16", "float32")


class Filter(NamedTuple):
    """What is done with each channel: the kernels' one sum, or the root of the squares of two.

    Attributes
    ----------
    kernels : sequence of ndarray of shape (KH, KW)
        One, or two of one shape: the length of the gradient.
    boundary : str
        What the image is outside: a value of `BOUNDARIES`.
    scale, offset : float
        The result is ``scale * sum + offset``.
    """

    kernels: Sequence[np.ndarray]
    boundary: str = "symmetric"
    scale: float = 1.0
    offset: float = 0.0


def filtered(
    pixels: np.ndarray, colours: int, what: Filter, dtype: np.dtype, memory: int
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the first row and the pixels of each band of the result, from the top.

    Parameters
    ----------
    pixels : ndarray of shape (H, W) or (H, W, C)
    colours : int
        How many channels, from the first, are filtered; the others stay as they are.
    what : Filter
    dtype : dtype
        Of the result. Integers are rounded to the nearest, halves to even, and clipped to their range; NaN becomes 0.
    memory : int
        Bytes that all arrays of a band may take together; a band has at least one row.
    """
    whole = pixels if pixels.ndim == 3 else pixels[:, :, None]
    H, W, C = whole.shape
    KH, KW = what.kernels[0].shape
    work = np.dtype(np.float32 if pixels.dtype.name in _NARROW else np.float64)
    kernels = [kernel.astype(work) for kernel in what.kernels]
    rows, columns = (padded_indices(n, k // 2, k - 1 - k // 2, what.boundary) for n, k in ((H, KH), (W, KW)))
    each = (W + KW) * (2 * C * max(pixels.dtype.itemsize, dtype.itemsize) + (3 + 2 * len(kernels)) * work.itemsize)
    step = max(1, memory // each - KH)
    for top in range(0, H, step):
        end = min(top + step, H)
        band = _taken(whole, rows[top : end + KH - 1], 0)
        out = np.empty((end - top, W, C), dtype)
        for c in range(C):
            if c < colours:
                plane = _taken(np.ascontiguousarray(band[:, :, c], work), columns, 1)
                sums = _filtered(plane, kernels)
                out[:, :, c] = _as(sums * work.type(what.scale) + work.type(what.offset), dtype)
            else:
                out[:, :, c] = _kept(whole[top:end, :, c], dtype)
        yield top, out.reshape(end - top, *pixels.shape[1:])


def _taken(array: np.ndarray, indices: np.ndarray, axis: int) -> np.ndarray:
    """Return the elements at some indices of an axis; -1 is a zero."""
    found = np.take(array, indices, axis)
    if (indices < 0).any():
        found[(indices < 0) if axis == 0 else (slice(None), indices < 0)] = 0
    return found


def _filtered(plane: np.ndarray, kernels: Sequence[np.ndarray]) -> np.ndarray:
    sums = [signal.correlate2d(plane, kernel, mode="valid") for kernel in kernels]
    return sums[0] if len(sums) == 1 else np.hypot(*sums)


def _as(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    with np.errstate(over="ignore"):
        if dtype.kind == "f":
            return values.astype(dtype)
        limits = np.iinfo(dtype)
        # The bounds of 32 bits are no float32.
        values = np.nan_to_num(np.rint(values.astype(np.float64) if dtype.itemsize == 4 else values), posinf=limits.max)
        return values.clip(limits.min, limits.max).astype(dtype)


def _kept(channel: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return a channel that is not filtered; in another dtype full stays full and nothing nothing."""
    if channel.dtype == dtype:
        return channel
    most = [1.0 if d.kind == "f" else float(np.iinfo(d).max) for d in (channel.dtype, dtype)]
    return _as(channel.astype(np.float64) * (most[1] / most[0]), dtype)
