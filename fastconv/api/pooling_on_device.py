"""Pools on a CUDA device: the geometry and the errors of the CPU, arrays that stay where they are."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fastconv.api import pooling
from fastconv.api.on_device import check_target
from fastconv.dispatch.cuda_windows import pool
from fastconv.dispatch.pooling import Divisor
from fastconv.geometry.arrays import kind_of
from fastconv.geometry.pool import PoolGeometry, adaptive_geometry, global_geometry, pool_geometry


def pooled(call: Any, make: Callable[..., Any], out: Any, given: tuple[Any, ...], *flags: bool) -> Any:
    """Return what the pool of the CPU that `make` makes of its arguments would return."""
    return _POOLS[make](call, out, call.buffers["input"].shape, *given, *flags)


def maxima(call: Any, out: Any, g: PoolGeometry, both: bool = False) -> Any:
    """Return the maximum of each window, and with `both` also its index."""
    given = call.buffers["input"].dtype
    dtype = call.unify("fdil", "input")
    check_target(call, out, g.out_shape, call.dtype)
    target = call.target(out, g.out_shape, dtype)
    indices = call.empty(g.out_shape, np.dtype(np.int64)) if both else None
    lowest = np.iinfo(given).min if kind_of(given) == "i" else -math.inf
    pool(call, "max", g, target, indices, lowest=lowest)
    values = call.finish(target, out)
    return (values, call.finish(indices, dtype=np.dtype(np.int64))) if both else values


def averages(
    call: Any, out: Any, g: PoolGeometry, count_include_pad: bool = True, divisor: Divisor | None = None
) -> Any:
    """Return the average of each window; integers are truncated toward zero."""
    dtype = call.unify("fdl", "input")
    check_target(call, out, g.out_shape, call.dtype)
    target = call.target(out, g.out_shape, dtype)
    by = pooling.window_counts(g, count_include_pad) if divisor is None else divisor
    pool(call, "sum", g, target, divisor=by, lowest=0)
    return call.finish(target, out)


def norms(call: Any, out: Any, g: PoolGeometry, p: int | float) -> Any:
    """Return PyTorch's Lp pooling; integers are summed in float64, and their averages truncated."""
    whole = kind_of(call.buffers["input"].dtype) == "i"
    dtype = call.unify("fd", "input", out_dtype=np.dtype(np.float32) if whole else None)
    check_target(call, out, g.out_shape, call.dtype)
    target = call.target(out, g.out_shape, dtype)
    if math.isinf(p):
        # A search for the smallest magnitude is one for the largest of their negatives.
        pool(call, "magnitude", g, target, divisor=1 if p > 0 else -1)
    else:
        op = "whole_norm" if whole and isinstance(p, int) and p > 0 else "square" if p == 2 else "norm"
        pool(call, op, g, target, divisor=pooling.window_counts(g, True), p=p)
    return call.finish(target, out)


def _max(
    call: Any,
    out: Any,
    shape: tuple[int, ...],
    axes: int,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    layout: str,
    ceil: bool,
    both: bool,
) -> Any:
    g = pool_geometry(call.function, axes, shape, kernel_size, stride, padding, dilation, ceil, layout)
    return maxima(call, out, g, both)


def _average(
    call: Any,
    out: Any,
    shape: tuple[int, ...],
    axes: int,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    layout: str,
    divisor_override: Any,
    ceil: bool,
    include: bool,
) -> Any:
    g = pool_geometry(call.function, axes, shape, kernel_size, stride, padding, 1, ceil, layout)
    return averages(call, out, g, include, pooling.average_divisor(call.function, divisor_override))


def _adaptive_average(call: Any, out: Any, shape: tuple[int, ...], axes: int, output_size: Any, layout: str) -> Any:
    return averages(call, out, adaptive_geometry(call.function, axes, shape, output_size, layout))


def _adaptive_max(
    call: Any, out: Any, shape: tuple[int, ...], axes: int, output_size: Any, layout: str, both: bool
) -> Any:
    return maxima(call, out, adaptive_geometry(call.function, axes, shape, output_size, layout), both)


def _global_average(call: Any, out: Any, shape: tuple[int, ...], layout: str, keepdims: bool) -> Any:
    return averages(call, out, global_geometry(call.function, shape, layout, keepdims))


def _global_max(call: Any, out: Any, shape: tuple[int, ...], layout: str, keepdims: bool) -> Any:
    return maxima(call, out, global_geometry(call.function, shape, layout, keepdims))


_POOLS: dict[Callable[..., Any], Callable[..., Any]] = {
    pooling.max_pool: _max,
    pooling.avg_pool: _average,
    pooling.adaptive_max_pool: _adaptive_max,
    pooling.adaptive_avg_pool: _adaptive_average,
    pooling.global_max_pool: _global_max,
    pooling.global_avg_pool: _global_average,
}
