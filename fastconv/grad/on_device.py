"""Pullbacks on a CUDA device of pools, unpooling, resizing and folding: all of them gather."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fastconv.api import resizing_on_device
from fastconv.api.on_device import begin
from fastconv.api.pooling import check_real, window_counts
from fastconv.dispatch.cuda import kernels
from fastconv.dispatch.cuda_resampling import averages_adjoint, outs_of, repeats_adjoint, resampled, windows_over
from fastconv.dispatch.cuda_resampling import resize_adjoint as resize_adjoint_taps
from fastconv.dispatch.cuda_windows import planes_of, pool
from fastconv.dispatch.pooling import Divisor
from fastconv.errors import DtypeError, ShapeError
from fastconv.geometry.arrays import kind_of
from fastconv.geometry.fold import Blocks
from fastconv.geometry.planes import Planes, three
from fastconv.geometry.pool import PoolGeometry
from fastconv.geometry.resize import Resize

# The index that no element has.
NOTHING = 2**32 - 1
Result = tuple[Any, ...]
Shape = tuple[int, ...]


def begin_vjp(function: str, grad_output: Any, input: Any) -> Any:
    """Return the call of a pullback."""
    return begin(function, grad_output=grad_output, input=input)


def match(call: Any, shape: Shape, dtype: np.dtype) -> bool:
    """Bring grad_output to the dtype of the operation's result, if it has its shape; return whether there is more."""
    grad = call.buffers["grad_output"]
    if grad.shape != shape:
        raise ShapeError(f"{call.function}: grad_output has shape {grad.shape}, expected {shape}, that of the result")
    if grad.dtype.kind == "c" and dtype.kind != "c":
        given = f"grad_output has dtype {grad.dtype}"
        raise DtypeError(f"{call.function}: {given}, expected real numbers, as the result has")
    if kind_of(call.buffers["input"].dtype) == "i":
        return False
    call.buffers["grad_output"] = kernels("casts:cast")(call.stream, grad, dtype)
    return True


def _empty(call: Any, shape: Shape, dtype: Any) -> Any:
    return kernels("buffers:empty")(shape, np.dtype(dtype), call.stream)


def windows_vjp(
    function: str,
    grad_output: Any,
    input: Any,
    geometry: Callable[[Shape], PoolGeometry],
    pull: Callable[[Any, PoolGeometry], Any],
) -> Result:
    """Return the pullback of a pool, whose geometry follows from the shape of its input."""
    call = begin_vjp(function, grad_output, input)
    x = call.buffers["input"]
    check_real(function, x.dtype)
    g = geometry(x.shape)
    result = x.dtype if kind_of(x.dtype) == "f" or "lp_pool" not in function else np.dtype(np.float32)
    return (pull(call, g) if match(call, g.out_shape, result) else None,)


def maxima(call: Any, g: PoolGeometry) -> Any:
    """Return the gradient of the input of maxima."""
    element = call.unify("fd", "grad_output", "input")
    target = call.target(None, call.buffers["input"].shape, element)
    _to_maxima(call, "max", g, target, None)
    return call.finish(target)


def _to_maxima(call: Any, op: str, g: PoolGeometry, target: Any, sign: int | None) -> None:
    values, indices = _empty(call, g.out_shape, target.dtype), _empty(call, g.out_shape, np.int64)
    pool(call, op, g, values, indices, divisor=sign, empty_index=NOTHING)
    grad, out = call.contiguous("grad_output"), planes_of(target, len(g.axes), g.layout)
    kernels("max_pool_grad:run")(call.stream, grad, indices, out, windows_over(g.axes), outs_of(g.axes))


def averages(call: Any, g: PoolGeometry, count_include_pad: bool = True, divisor: Divisor | None = None) -> Any:
    """Return the gradient of the input of averages."""
    element = call.unify("fd", "grad_output", "input")
    target = call.target(None, call.buffers["input"].shape, element)
    by = window_counts(g, count_include_pad) if divisor is None else divisor
    _to_windows(call, call.contiguous("grad_output"), g, target, by)
    return call.finish(target)


def _to_windows(call: Any, grad: Any, g: PoolGeometry, target: Any, divisor: Divisor) -> None:
    lanes = 1 if g.layout == "channels_first" else g.C
    source = grad.reshaped(g.N * g.C // max(lanes, 1), *outs_of(g.axes), lanes)
    out = planes_of(target, len(g.axes), g.layout)
    resampled(call.stream, "weighted", source, out, averages_adjoint, (g.axes, divisor))


def norms(call: Any, g: PoolGeometry, p: int | float) -> Any:
    """Return the gradient of the input of PyTorch's Lp pooling; 0 of a window whose sum is 0."""
    element = call.unify("fd", "grad_output", "input")
    x, grad = call.contiguous("input"), call.contiguous("grad_output")
    factor, target = kernels("powers:run"), call.target(None, x.shape, element)
    size = math.prod(axis.kernel for axis in g.axes)
    if math.isinf(p):
        _to_maxima(call, "magnitude", g, target, 1 if p > 0 else -1)
        factor(call.stream, "sign", target, x, target, 1, size)
        return call.finish(target)
    sums, outer = _empty(call, g.out_shape, element), _empty(call, g.out_shape, element)
    counts = window_counts(g, True)
    pool(call, "norm", g, sums, divisor=counts, p=p, root=1)
    factor(call.stream, "outer", grad, sums, outer, p, size)
    _to_windows(call, outer, g, target, counts)
    factor(call.stream, "inner", target, x, target, p, size)
    return call.finish(target)


def linear(call: Any, p: Planes, outs: Shape, kind: str, build: Any, arguments: tuple[Any, ...]) -> Any:
    """Return the gradient of the input of what is linear along each axis, by the taps of its adjoint."""
    element = call.unify("fd", "grad_output", "input")
    target = call.target(None, call.buffers["input"].shape, element)
    source = call.contiguous("grad_output").reshaped(p.total, *three(outs), p.lanes)
    out = planes_of(target, len(outs), p.layout)
    resampled(call.stream, kind, source, out, build, arguments)
    return call.finish(target)


def resized(call: Any, p: Planes, how: Resize) -> Any:
    """Return the gradient of the input of an interpolation."""
    kind = "sum" if how.mode.startswith("nearest") else "weighted"
    return linear(call, p, tuple(axis.out for axis in how.axes), kind, resize_adjoint_taps, (how,))


def repeated(call: Any, p: Planes, steps: Shape) -> Any:
    """Return the sums over the blocks that repeat an element."""
    outs = tuple(n * step for n, step in zip(p.sizes, steps, strict=True))
    return linear(call, p, outs, "sum", repeats_adjoint, (p.sizes, steps))


def nailed(call: Any, p: Planes, steps: Shape, firsts: Shape) -> Any:
    """Return what stands where elements were put."""
    shape = call.buffers["input"].shape
    each = zip(p.sizes, steps, firsts, strict=True)
    call.buffers["input"] = call.buffers["grad_output"]
    return resizing_on_device.moved(call, None, shape, [np.arange(n) * s + first for n, s, first in each], p.layout)


def unfolded(call: Any, b: Blocks, p: Planes) -> Any:
    """Return the gradient of images from that of their columns."""
    shape = call.buffers["input"].shape
    call.buffers["input"] = call.buffers["grad_output"]
    return resizing_on_device.folded(call, None, shape, b, p)


def folded(call: Any, b: Blocks, layout: str) -> Any:
    """Return the gradient of columns from that of their images."""
    shape = call.buffers["input"].shape
    call.buffers["input"] = call.buffers["grad_output"]
    return resizing_on_device.unfolded(call, None, shape, b, layout)


def taken(call: Any, p: Planes, size: int, only_maxima: bool) -> Any:
    """Return what stands at the indices, given `only_maxima` only for elements that stay there, zeros for others."""
    winners, x = None, call.buffers["input"]
    if only_maxima:
        call.unify("fd", "input")
        winners = resizing_on_device.places_of(call, p, size, linked=True).winners(call.contiguous("input"))
    grad = call.contiguous("grad_output")
    call.dtype = grad.dtype
    target = call.target(None, x.shape, grad.dtype)
    parts = (p.total, math.prod(p.sizes), p.lanes)
    kernels("unpool:take")(call.stream, grad, call.contiguous("indices"), winners, target, parts, size)
    return call.finish(target)
