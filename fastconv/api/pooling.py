"""What the public pools share: arrays in, windows over their axes, arrays out."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np

from fastconv.api.convolve import DEVICES
from fastconv.dispatch.pooling import Counts, Divisor, reduce_axes
from fastconv.errors import ArgumentTypeError, DtypeError, OptionError, UnsupportedError
from fastconv.geometry.arguments import LIMIT, check_keyword, integer, shown
from fastconv.geometry.arrays import SUPPORTED, as_input, check_out, kind_of, usable_in_place
from fastconv.geometry.pool import PoolGeometry
from fastconv.geometry.windows import Axis

_FLOAT32, _FLOAT64, _INT32, _INT64 = (SUPPORTED[np.dtype(d)] for d in ("float32", "float64", "int32", "int64"))


def pool_input(function: str, value: Any, device: str) -> np.ndarray:
    """Return the input of a pool: real numbers, C-contiguous."""
    check_keyword(function, "device", device, DEVICES)
    if device == "cuda":
        raise UnsupportedError(f'{function}: device = "cuda"; this version runs on the CPU only')
    x = as_input(function, "input", value)
    if kind_of(x.dtype) == "c":
        raise DtypeError(f"{function}: input has dtype {x.dtype}, expected real numbers, which can be compared")
    return x


def maxima(function: str, x: np.ndarray, g: PoolGeometry, out: np.ndarray | None, return_indices: bool = False) -> Any:
    """Return the maxima of windows, and with `return_indices` (maxima, indices)."""
    if out is not None:
        check_out(function, out, g.out_shape, x.dtype)
    element = _compared(x.dtype)
    plane = math.prod(axis.n for axis in g.axes)
    if return_indices and element.itemsize == 4 and plane >= 2**31:
        # Indices have the size of elements on their way.
        element = _FLOAT64 if element.kind == "f" else _INT64
    indices = np.empty(g.out_shape, np.int64) if return_indices else None
    values = _reduced("max", x, element, g, out, indices)
    return values if indices is None else (values, indices)


def _compared(dtype: np.dtype) -> np.dtype:
    """Return the element type of the kernels in which numbers of a dtype are compared, exactly."""
    if kind_of(dtype) == "f":
        return _FLOAT64 if dtype.itemsize == 8 else _FLOAT32
    return _INT64 if dtype.itemsize == 8 or dtype == np.uint32 else _INT32


def averaged(
    function: str,
    x: np.ndarray,
    g: PoolGeometry,
    out: np.ndarray | None,
    count_include_pad: bool = True,
    divisor_override: Any = None,
) -> np.ndarray:
    """Return the averages of windows."""
    if out is not None:
        check_out(function, out, g.out_shape, x.dtype)
    element = _compared(x.dtype) if kind_of(x.dtype) == "f" else _INT64
    return _reduced("sum", x, element, g, out, None, _divisor(function, g, count_include_pad, divisor_override))


def _divisor(function: str, g: PoolGeometry, count_include_pad: bool, override: Any) -> Divisor:
    """Return what sums are divided by: the elements of a window, with or without those in the padding."""
    if override is not None:
        number = integer(function, "divisor_override", override, "an int other than 0, or None")
        if number == 0 or abs(number) >= LIMIT:
            raise OptionError(f"{function}: divisor_override = {number}, expected an int other than 0, below 2**47")
        return number
    return _counted(g.axes, g.ends, count_include_pad)


@lru_cache(maxsize=256)
def _counted(axes: tuple[Axis, ...], ends: tuple[int, ...], count_include_pad: bool) -> Divisor:
    """Return how many elements windows have: one number if it is the same for all."""
    sides = zip(axes, ends, strict=True)
    counts = [Counts(axis, -axis.before, end) if count_include_pad else Counts(axis, 0, axis.n) for axis, end in sides]
    numbers = [set(each.numbers().tolist()) for each in counts]
    return tuple(counts) if max(map(len, numbers)) > 1 else math.prod(n.pop() for n in numbers)


def _reduced(
    op: str,
    x: np.ndarray,
    element: np.dtype,
    g: PoolGeometry,
    out: np.ndarray | None,
    indices: np.ndarray | None,
    divisor: Divisor | None = None,
) -> np.ndarray:
    """Return the windows of an array of any real dtype, computed in `element`."""
    direct = out is not None and out.dtype == element and usable_in_place(out, x)
    target = out if direct and out is not None else np.empty(g.out_shape, element)
    planes, lanes = (g.N * g.C, 1) if g.layout == "channels_first" else (g.N, g.C)
    axes = _merged(g.axes) if lanes == 1 and indices is None else g.axes
    reduce_axes(op, x.astype(element, copy=False), target, planes, lanes, axes, indices, divisor)
    if out is None:
        # Float16 overflows to infinity, as its own arithmetic does.
        with np.errstate(all="ignore"):
            return target.astype(x.dtype, copy=False)
    if not direct:
        with np.errstate(all="ignore"):
            out[...] = target
    return out


def _merged(axes: tuple[Axis, ...]) -> tuple[Axis, ...]:
    """Return one axis for all if a window is everything."""
    if len(axes) == 1 or any(axis.out > 1 or (axis.mode != "adaptive" and axis.n > 1) for axis in axes):
        return axes
    n = math.prod(axis.n for axis in axes)
    return (Axis(n, 1, mode="adaptive" if n > 1 else "clip"),)


def lp_averaged(function: str, x: np.ndarray, g: PoolGeometry, norm_type: Any, out: np.ndarray | None) -> np.ndarray:
    """Return PyTorch's Lp pooling: the root of the average of ``x ** p`` times the size of a whole window."""
    p = _norm(function, norm_type)
    result = x.dtype if kind_of(x.dtype) == "f" else _FLOAT32
    if out is not None:
        check_out(function, out, g.out_shape, result)
    with np.errstate(all="ignore"):
        if math.isinf(p):
            sign = 1 if p > 0 else -1
            y = sign * maxima(function, sign * np.abs(x), g, None)
        else:
            # Integers to an integer power stay integers, and so does their average.
            element = _INT64 if kind_of(x.dtype) == "i" and isinstance(p, int) and p > 0 else _compared(result)
            mean = averaged(function, x.astype(element, copy=False) ** p, g, None)
            size = math.prod(axis.kernel for axis in g.axes)
            y = (mean * size).astype(_compared(result), copy=False) ** (1.0 / p)
        if out is None:
            return y.astype(result, copy=False)
        out[...] = y
    return out


def _norm(function: str, norm_type: Any) -> int | float:
    """Return the exponent as a Python number other than 0."""
    kind = type(norm_type).__name__
    if isinstance(norm_type, (bool, np.bool_)) or not isinstance(norm_type, (int, float, np.integer, np.floating)):
        raise ArgumentTypeError(f"{function}: norm_type = {shown(norm_type)} is a {kind}, expected a number")
    p = int(norm_type) if isinstance(norm_type, (int, np.integer)) else float(norm_type)
    if p == 0 or math.isnan(p) or (isinstance(p, int) and abs(p) >= LIMIT):
        raise OptionError(f"{function}: norm_type = {shown(norm_type)}, expected a number other than 0")
    return p
