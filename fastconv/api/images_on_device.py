"""Correlations of arrays of any number of dimensions on a CUDA device: what `signal` and `ndimage` run there.

The arrays are images of one channel. Axes that no tap moves along are merged: with their neighbours, and those in front
with the batch; so a filter along one axis of many is one launch of the register-window kernel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastconv.dispatch import cuda
from fastconv.errors import UnsupportedError
from fastconv.geometry.conv import ConvGeometry, conv_geometry

Pads = Sequence[tuple[int, int]]


def correlated(
    call: Any,
    x: Any,
    kernel: Any,
    pads: Pads,
    mode: str = "zeros",
    fill: Any = 0,
    residual: Any = None,
    target: Any = None,
) -> Any:
    """Return ``sum over k of x[m + k - before] * kernel[k]`` along every axis, plus `residual`, as a new array.

    Parameters
    ----------
    call : Call
    x, kernel : Buffer
        Contiguous, of the same dtype and number of dimensions, no size 0.
    pads : (before, after) for each axis, none negative
    mode : str
        What `x` is outside, as of the convolutions; "zeros" means `fill`.
    residual : Buffer, optional
        Contiguous, of the shape of the result.
    target : Buffer, optional
        Contiguous, of the shape of the result, which it takes; else a new one.
    """
    sizes, taps, ends = _merged(x.shape, kernel.shape, pads)
    if len(taps) > 4:
        raise UnsupportedError(
            f"{call.function}: a kernel of shape {kernel.shape} on a CUDA device, expected one that reaches along at "
            "most 3 axes"
        )
    g = _geometry(call.function, sizes, taps, ends, mode, x.dtype)
    shape = tuple(n + sum(pad) - k + 1 for n, pad, k in zip(x.shape, pads, kernel.shape, strict=True))
    if target is None:
        target = call.empty(shape, x.dtype)
    if not math.prod(shape):
        return target
    image = x.reshaped(g.N, 1, g.D, g.H, g.W)
    if fill:
        image, g = cuda.kernels("moves:bordered")(call.stream, image, g, fill)
    program = cuda.kernels("conv_depthwise:program")(call.function, g, None)
    added, result = (None if a is None else a.reshaped(g.N, 1, g.OD, g.OH, g.OW) for a in (residual, target))
    packed = program.pack(call.stream, kernel.reshaped(1, 1, g.KD, g.KH, g.KW))
    program.run(call.stream, image, packed, None, added, result)
    return target


def _merged(shape: Sequence[int], taps: Sequence[int], pads: Pads) -> tuple[list[int], list[int], list[Any]]:
    """Return sizes, taps and pads of the batch and of the axes that are left of an array."""
    sizes, along, ends = [1], [1], [(0, 0)]
    for n, k, pad in zip(shape, taps, pads, strict=True):
        if k == 1 and along[-1] == 1 and not any(pad):
            sizes[-1] *= n
        else:
            sizes.append(n)
            along.append(k)
            ends.append(pad)
    if len(sizes) == 1:
        return [1, *sizes], [1, *along], [(0, 0), *ends]
    if len(sizes) == 2:
        # Lines are rows of one image, of which a thread takes several.
        return [1, *sizes], [1, *along], [(0, 0), *ends]
    return sizes, along, ends


def _geometry(
    function: str, sizes: Sequence[int], taps: Sequence[int], pads: Pads, mode: str, dtype: np.dtype
) -> ConvGeometry:
    return conv_geometry(
        function,
        len(sizes) - 1,
        (sizes[0], 1, *sizes[1:]),
        (1, 1, *taps[1:]),
        padding=tuple(pads[1:]),
        dtype=dtype.name,
        padding_mode=mode,
    )


def separated(call: Any, x: Any, factors: tuple[np.ndarray, np.ndarray], pads: Pads, mode: str) -> Any:
    """Return a contiguous array correlated along its last two axes with a column and a row, `pads` of these two."""
    H, W = x.shape[-2:]
    column, row = (call.read("weights", f[None].astype(x.dtype)) for f in factors)
    sizes, taps = (x.size // (H * W), H, W), (1, len(factors[0]), len(factors[1]))
    g = _geometry(call.function, sizes, taps, ((0, 0), *pads), mode, x.dtype)
    target = call.empty((*x.shape[:-2], g.OH, g.OW), x.dtype)
    program = cuda.kernels("conv_separable:program")(call.function, g, None)
    image, result = x.reshaped(g.N, 1, 1, H, W), target.reshaped(g.N, 1, 1, g.OH, g.OW)
    program.run(call.stream, image, (column, row), None, None, result)
    return target


def reversed_along_all(call: Any, x: Any) -> Any:
    """Return an array in reverse order along every axis."""
    target = call.empty(x.shape, x.dtype)
    if x.size:
        cuda.kernels("moves:move")(call.stream, x, target, [np.arange(n)[::-1] for n in x.shape])
    return target
