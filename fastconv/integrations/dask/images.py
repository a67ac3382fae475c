"""Correlation and convolution of images in chunks, with the arguments of `scipy.signal`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dask.array as da
import numpy as np

from fastconv import signal
from fastconv.errors import ShapeError
from fastconv.geometry.windows import Axis
from fastconv.integrations.dask.graph import Operation, apply, as_shared, checked, stand_in
from fastconv.integrations.dask.windows import Extent
from fastconv.signal.images import fill_of
from fastconv.signal.modes import check_mode, must_swap, padding_mode, pads_of


def correlate2d(in1: da.Array, in2: Any, mode: str = "full", boundary: str = "fill", fillvalue: Any = 0) -> da.Array:
    """Cross-correlate an image with a kernel, as `fastconv.signal.correlate2d`.

    Parameters
    ----------
    in1 : dask array of shape (H, W)
    in2 : array_like or dask array of shape (KH, KW)
        With the mode "valid", at most as large as the image.
    mode : {"full", "valid", "same"}
    boundary : {"fill", "wrap", "symm"}
    fillvalue : scalar

    Returns
    -------
    dask array

    Raises
    ------
    ShapeError, OptionError, ArgumentTypeError
        As `fastconv.signal.correlate2d`; also chunks of unknown sizes, and images that are no dask arrays.

    Notes
    -----
    A block of h x w outputs reads (h + KH - 1) x (w + KW - 1) elements. Integers are exact, floats equal to rounding.
    """
    return _correlated("correlate2d", in1, in2, mode, boundary, fillvalue)


def convolve2d(in1: da.Array, in2: Any, mode: str = "full", boundary: str = "fill", fillvalue: Any = 0) -> da.Array:
    """Convolve an image with a kernel, as `fastconv.signal.convolve2d`: the kernel is flipped.

    Parameters, results, errors and notes are those of `correlate2d`.
    """
    return _correlated("convolve2d", in1, in2, mode, boundary, fillvalue)


def _correlated(name: str, in1: Any, in2: Any, mode: Any, boundary: Any, fillvalue: Any) -> da.Array:
    x, kernel = checked(name, "in1", in1), as_shared(name, "in2", in2)
    function = getattr(signal, name)
    if not x.ndim == kernel.ndim == 2:
        raise ShapeError(f"{name} inputs must both be 2-D arrays")
    swapped = must_swap(mode, x.shape, kernel.shape)
    check_mode(mode)
    # Of nothing, nothing is computed: what it returns, or raises, does not depend on the sizes.
    dtype = function(np.zeros((0, 0), x.dtype), np.zeros((1, 1), kernel.dtype), "full", boundary, fillvalue).dtype
    if swapped:
        raise ShapeError(f"{name}: in2 has shape {kernel.shape}, expected at most {x.shape}, the shape of in1")
    if 0 in (*x.shape, *kernel.shape):
        empty = function(np.zeros(x.shape, x.dtype), stand_in(kernel), mode, boundary, fillvalue)
        return da.zeros_like(x, dtype=dtype, shape=empty.shape, chunks="auto")
    outside = padding_mode(boundary)
    fill = fill_of(fillvalue, dtype) if outside == "zeros" else None
    pads = pads_of(mode, kernel.shape, odd_after=name == "correlate2d")
    axes = [
        Axis(n, n + before + after - k + 1, k, 1, 1, before, outside)
        for n, k, (before, after) in zip(x.shape, kernel.shape, pads, strict=True)
    ]
    return apply(
        x,
        Operation(
            name,
            function,
            axes,
            whole={"mode": mode, "boundary": boundary, "fillvalue": fillvalue},
            split={"mode": "valid"},
            arrays={"in2": kernel},
            dtype=dtype,
            more=nothing_more,
            fill=0 if fill is None else fill,
            # A fill value need not fit into the image's own dtype.
            block_dtype=None if fill is None else dtype,
        ),
    )


def nothing_more(block: Sequence[Extent]) -> tuple[dict[str, Any], None]:
    """Return that a block needs no keywords of its own and that all of its result is kept."""
    return {}, None
