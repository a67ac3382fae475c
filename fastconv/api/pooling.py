"""What the public pools share: arrays in, windows over their axes, arrays out."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fastconv.api.convolve import DEVICES, is_simple
from fastconv.api.on_device import begin, wants_device
from fastconv.dispatch.pooling import Counts, Divisor, Prepared, is_usual, prepare
from fastconv.errors import ArgumentTypeError, DtypeError, OptionError
from fastconv.geometry.arguments import LIMIT, check_keyword, integer, shown
from fastconv.geometry.arrays import SUPPORTED, as_input, check_out, kind_of, usable_in_place
from fastconv.geometry.pool import PoolGeometry, adaptive_geometry, global_geometry, pool_geometry
from fastconv.geometry.windows import Axis
from fastconv.system import cast, empty

_FLOAT32, _FLOAT64, _INT32, _INT64 = (SUPPORTED[np.dtype(d)] for d in ("float32", "float64", "int32", "int64"))


def pool_input(function: str, value: Any, device: str) -> Any:
    """Return the input of a pool: real numbers, C-contiguous; on the device the call that has it."""
    check_keyword(function, "device", device, DEVICES)
    there = wants_device(device, value)
    x: Any = begin(function, input=value) if there else as_input(function, "input", value)
    check_real(function, x.buffers["input"].dtype if there else x.dtype)
    return x


def check_real(function: str, dtype: np.dtype) -> None:
    """Raise for an input of complex numbers."""
    if kind_of(dtype) == "c":
        raise DtypeError(f"{function}: input has dtype {dtype}, expected real numbers, which can be compared")


def shape_of(x: Any) -> tuple[int, ...]:
    """Return the shape of what `pool_input` returns."""
    shape: tuple[int, ...] = (x if type(x) is np.ndarray else x.buffers["input"]).shape
    return shape


class Pool(NamedTuple):
    """A pool of arrays of one shape and dtype, ready to run."""

    out_shape: tuple[int, ...]
    dtype: np.dtype
    element: np.dtype
    prepared: Prepared
    indices: bool
    # Whether it is small enough to be one of many that are remembered.
    usual: bool
    # The least number of a dtype narrower than the elements, where windows may be empty.
    lowest: int | None = None

    def run(self, function: str, x: np.ndarray, out: np.ndarray | None) -> Any:
        """Return the result, and with `indices` also these."""
        if out is not None:
            check_out(function, out, self.out_shape, self.dtype)
        direct = out is not None and out.dtype == self.element and usable_in_place(out, x)
        target = out if out is not None and direct else empty(self.out_shape, self.element)
        indices = empty(self.out_shape, np.int64) if self.indices else None
        self.prepared.run(x if self.dtype is self.element else cast(x, self.element), target, indices)
        if self.lowest is not None:
            np.maximum(target, self.lowest, out=target)
        if not direct and (out is not None or self.dtype != self.element):
            # Float16 overflows to infinity, as its own arithmetic does.
            with np.errstate(all="ignore"):
                if out is None:
                    target = target.astype(self.dtype)
                else:
                    out[...] = target
        values = target if out is None else out
        return values if indices is None else (values, indices)


# Pools by the arguments as they were given: what is found here was validated before.
_seen: dict[Any, Pool] = {}
_SEEN_LIMIT = 1024


def pooled(
    function: str,
    make: Callable[..., Pool],
    x: Any,
    out: Any,
    given: tuple[Any, ...],
    *flags: bool,
) -> Any:
    """Run ``make(function, x.dtype, x.shape, *given, *flags)``, which is remembered; flags were checked before."""
    if type(x) is not np.ndarray:
        from fastconv.api import pooling_on_device

        return pooling_on_device.pooled(x, make, out, given, *flags)
    # True == 1 == 1.0, so only arguments of the plainest types may be looked up.
    if not all(map(is_simple, given)):
        return make(function, x.dtype, x.shape, *given, *flags).run(function, x, out)
    key = (function, x.dtype, x.shape, given, flags)
    pool = _seen.get(key)
    if pool is None:
        pool = make(function, x.dtype, x.shape, *given, *flags)
        if len(_seen) >= _SEEN_LIMIT:
            _seen.clear()
        if pool.usual:
            _seen[key] = pool
    return pool.run(function, x, out)


def max_pool(
    function: str,
    dtype: np.dtype,
    shape: tuple[int, ...],
    axes: int,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    layout: str,
    ceil_mode: bool,
    indices: bool,
) -> Pool:
    """Return a maximum pool from the arguments of the public functions."""
    g = pool_geometry(function, axes, shape, kernel_size, stride, padding, dilation, ceil_mode, layout)
    return maxima(dtype, g, indices)


def avg_pool(
    function: str,
    dtype: np.dtype,
    shape: tuple[int, ...],
    axes: int,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    layout: str,
    divisor_override: Any,
    ceil_mode: bool,
    count_include_pad: bool,
) -> Pool:
    """Return an average pool from the arguments of the public functions."""
    g = pool_geometry(function, axes, shape, kernel_size, stride, padding, 1, ceil_mode, layout)
    return averages(dtype, g, count_include_pad, average_divisor(function, divisor_override))


def average_divisor(function: str, divisor_override: Any) -> int | None:
    """Return the divisor that the user wants, or None."""
    if divisor_override is None:
        return None
    number = integer(function, "divisor_override", divisor_override, "an int other than 0, or None")
    if number == 0 or abs(number) >= LIMIT:
        raise OptionError(f"{function}: divisor_override = {shown(number)}, expected an int other than 0, below 2**47")
    return number


def adaptive_avg_pool(
    function: str, dtype: np.dtype, shape: tuple[int, ...], axes: int, output_size: Any, layout: str
) -> Pool:
    """Return an adaptive average pool from the arguments of the public functions."""
    return averages(dtype, adaptive_geometry(function, axes, shape, output_size, layout))


def adaptive_max_pool(
    function: str, dtype: np.dtype, shape: tuple[int, ...], axes: int, output_size: Any, layout: str, indices: bool
) -> Pool:
    """Return an adaptive maximum pool from the arguments of the public functions."""
    return maxima(dtype, adaptive_geometry(function, axes, shape, output_size, layout), indices)


def global_avg_pool(function: str, dtype: np.dtype, shape: tuple[int, ...], layout: str, keepdims: bool) -> Pool:
    """Return a global average pool from the arguments of the public functions."""
    return averages(dtype, global_geometry(function, shape, layout, keepdims))


def global_max_pool(function: str, dtype: np.dtype, shape: tuple[int, ...], layout: str, keepdims: bool) -> Pool:
    """Return a global maximum pool from the arguments of the public functions."""
    return maxima(dtype, global_geometry(function, shape, layout, keepdims))


def maxima(dtype: np.dtype, g: PoolGeometry, indices: bool = False) -> Pool:
    """Return the pool of maxima."""
    element = _compared(dtype)
    if indices and element.itemsize == 4 and math.prod(axis.n for axis in g.axes) >= 2**31:
        # Indices have the size of elements on their way.
        element = _FLOAT64 if element.kind == "f" else _INT64
    pool = _pool("max", dtype, element, g, indices)
    if dtype.kind != "i" or dtype == element or all(axis.dilation <= axis.n for axis in g.axes):
        return pool
    return pool._replace(lowest=int(np.iinfo(dtype).min))


def _compared(dtype: np.dtype) -> np.dtype:
    """Return the element type of the kernels in which numbers of a dtype are compared, exactly."""
    if kind_of(dtype) == "f":
        return _FLOAT64 if dtype.itemsize == 8 else _FLOAT32
    return _INT64 if dtype.itemsize == 8 or dtype == np.uint32 else _INT32


def averages(dtype: np.dtype, g: PoolGeometry, count_include_pad: bool = True, divisor: Divisor | None = None) -> Pool:
    """Return the pool of averages, by default over the elements of a window, with or without those in the padding."""
    element = _compared(dtype) if kind_of(dtype) == "f" else _INT64
    return _pool("sum", dtype, element, g, False, window_counts(g, count_include_pad) if divisor is None else divisor)


def window_counts(g: PoolGeometry, count_include_pad: bool) -> Divisor:
    """Return how many elements windows have: one number if it is the same for all."""
    sides = zip(g.axes, g.ends, strict=True)
    counts = [Counts(axis, -axis.before, end) if count_include_pad else Counts(axis, 0, axis.n) for axis, end in sides]
    numbers = [np.unique(each.numbers()) for each in counts]
    return tuple(counts) if max(map(len, numbers)) > 1 else math.prod(int(n[0]) for n in numbers)


def _pool(
    op: str, dtype: np.dtype, element: np.dtype, g: PoolGeometry, indices: bool, divisor: Divisor | None = None
) -> Pool:
    planes, lanes = (g.N * g.C, 1) if g.layout == "channels_first" else (g.N, g.C)
    axes = tuple(axis.trimmed for axis in g.axes)
    axes = _merged(axes) if lanes == 1 and not indices else axes
    # A result without elements is never computed.
    prepared = prepare(op, element.name, max(planes, 1), max(lanes, 1), axes, indices, divisor)
    return Pool(g.out_shape, SUPPORTED.get(dtype, dtype), element, prepared, indices, is_usual(axes))


def _merged(axes: tuple[Axis, ...]) -> tuple[Axis, ...]:
    """Return one axis for all if a window is everything."""
    if len(axes) == 1 or not all(axis in (Axis(axis.n, 1, axis.n), Axis(axis.n, 1, mode="adaptive")) for axis in axes):
        return axes
    n = math.prod(axis.n for axis in axes)
    return (Axis(n, 1, mode="adaptive" if n > 1 else "clip"),)


def lp_averaged(function: str, x: Any, g: PoolGeometry, norm_type: Any, out: Any) -> Any:
    """Return PyTorch's Lp pooling: the root of the average of ``x ** p`` times the size of a whole window."""
    p = norm(function, norm_type)
    if type(x) is not np.ndarray:
        from fastconv.api import pooling_on_device

        return pooling_on_device.norms(x, out, g, p)
    result = x.dtype if kind_of(x.dtype) == "f" else _FLOAT32
    if out is not None:
        check_out(function, out, g.out_shape, result)
    with np.errstate(all="ignore"):
        if math.isinf(p):
            # The magnitude of the smallest integer is none of its dtype, and unsigned ones have no sign.
            magnitudes = np.abs(x.astype(_INT64 if kind_of(x.dtype) == "i" else x.dtype, copy=False))
            sign = 1 if p > 0 else -1
            y = sign * maxima(magnitudes.dtype, g).run(function, sign * magnitudes, None)
        else:
            # Integers to an integer power stay integers, and so does their average.
            element = _INT64 if kind_of(x.dtype) == "i" and isinstance(p, int) and p > 0 else _compared(result)
            mean = averages(element, g).run(function, x.astype(element, copy=False) ** p, None)
            size = math.prod(axis.kernel for axis in g.axes)
            y = (mean * size).astype(_compared(result), copy=False) ** (1.0 / p)
        if out is None:
            return y.astype(result, copy=False)
        out[...] = y
    return out


def norm(function: str, norm_type: Any) -> int | float:
    """Return the exponent as a Python number other than 0."""
    kind = type(norm_type).__name__
    if isinstance(norm_type, (bool, np.bool_)) or not isinstance(norm_type, (int, float, np.integer, np.floating)):
        raise ArgumentTypeError(f"{function}: norm_type = {shown(norm_type)} is a {kind}, expected a number")
    p = int(norm_type) if isinstance(norm_type, (int, np.integer)) else float(norm_type)
    if p == 0 or (abs(p) >= LIMIT if isinstance(p, int) else math.isnan(p)):
        rule = "expected a number other than 0, an int below 2**47"
        raise OptionError(f"{function}: norm_type = {shown(norm_type)}, {rule}")
    return p
