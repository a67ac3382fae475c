"""Public pullbacks of the pools whose windows follow from the output size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastconv.api.moving import remembered
from fastconv.api.on_device import wants_device
from fastconv.api.pooling import pool_input
from fastconv.geometry.arrays import kind_of
from fastconv.geometry.pool import PoolGeometry, adaptive_geometry, flag, global_geometry
from fastconv.grad import on_device
from fastconv.grad.arrays import Function, named
from fastconv.grad.windows import WindowPlan, averages_pullback, maxima_pullback

_DOC = """Return the gradient of `fastconv.{op}` for its input: each {rule}.

Parameters
----------
grad_output : array_like of the shape of {what} that `fastconv.{op}` returns, taken in its dtype
{arguments}
    Those of `fastconv.{op}`.

Returns
-------
tuple of one ndarray of the shape and dtype of `input`, or of None for integers

Raises
------
ShapeError, DtypeError
    `grad_output` does not fit.
ShapeError, OptionError, ArgumentTypeError, DtypeError, UnsupportedError
    As `fastconv.{op}`.

Notes
-----
As `fastconv.grad.{like}_vjp`.

Examples
--------
>>> import fastconv as fc
>>> fc.grad.{op}_vjp({example})
({result},)
"""

_AVG = {"rule": "is shared by all elements of its window", "what": "the result", "like": "avg_pool2d"}
_MAX = {"rule": "goes to the maximum of its window", "what": "the values", "like": "max_pool2d"}


@remembered
def _plan(shape: tuple[int, ...], dtype: np.dtype, function: str, axes: int, output_size: Any, layout: str) -> Any:
    g = adaptive_geometry(function, axes, shape, output_size, layout)
    return _planned(function, dtype, g)


@remembered
def _global_plan(shape: tuple[int, ...], dtype: np.dtype, function: str, keepdims: bool, layout: str) -> Any:
    return _planned(function, dtype, global_geometry(function, shape, layout, keepdims))


def _planned(function: str, dtype: np.dtype, g: Any) -> WindowPlan:
    if kind_of(dtype) == "i":
        return WindowPlan(g, None)
    return WindowPlan(g, maxima_pullback(dtype, g) if "max" in function else averages_pullback(dtype, g))


def _geometry(function: str, axes: int, given: tuple[Any, ...]) -> Callable[[tuple[int, ...]], PoolGeometry]:
    """Return what makes the geometry of a shape."""
    return lambda shape: adaptive_geometry(function, axes, shape, *given)


def _adaptive_avg(axes: int, example: str, result: str) -> Function:
    op = f"adaptive_avg_pool{axes}d"
    name = f"{op}_vjp"

    def vjp(
        grad_output: ArrayLike,
        input: ArrayLike,
        output_size: Any,
        *,
        layout: str = "channels_first",
        device: str = "auto",
    ) -> tuple[np.ndarray | None]:
        if wants_device(device, input, grad_output):
            given = (output_size, layout)
            return on_device.windows_vjp(name, grad_output, input, _geometry(name, axes, given), on_device.averages)
        x = pool_input(name, input, device)
        return _plan(x.shape, x.dtype, name, axes, output_size, layout).run(name, grad_output, x, x.dtype)

    arguments = "input, output_size, layout, device"
    return named(vjp, name, _DOC, op=op, example=example, result=result, arguments=arguments, **_AVG)


def _adaptive_max(axes: int, example: str, result: str) -> Function:
    op = f"adaptive_max_pool{axes}d"
    name = f"{op}_vjp"

    def vjp(
        grad_output: ArrayLike,
        input: ArrayLike,
        output_size: Any,
        return_indices: bool = False,
        *,
        layout: str = "channels_first",
        device: str = "auto",
    ) -> tuple[np.ndarray | None]:
        flag(name, "return_indices", return_indices)
        if wants_device(device, input, grad_output):
            given = (output_size, layout)
            return on_device.windows_vjp(name, grad_output, input, _geometry(name, axes, given), on_device.maxima)
        x = pool_input(name, input, device)
        return _plan(x.shape, x.dtype, name, axes, output_size, layout).run(name, grad_output, x, x.dtype)

    arguments = "input, output_size, return_indices, layout, device"
    return named(vjp, name, _DOC, op=op, example=example, result=result, arguments=arguments, **_MAX)


def _global(op: str, words: dict[str, str], result: str) -> Function:
    name = f"{op}_vjp"

    def vjp(
        grad_output: ArrayLike,
        input: ArrayLike,
        *,
        keepdims: bool = True,
        layout: str = "channels_first",
        device: str = "auto",
    ) -> tuple[np.ndarray | None]:
        keep = flag(name, "keepdims", keepdims)
        if wants_device(device, input, grad_output):
            pull = on_device.maxima if "max" in op else on_device.averages

            def geometry(shape: tuple[int, ...]) -> PoolGeometry:
                return global_geometry(name, shape, layout, keep)

            return on_device.windows_vjp(name, grad_output, input, geometry, pull)
        x = pool_input(name, input, device)
        return _global_plan(x.shape, x.dtype, name, keep, layout).run(name, grad_output, x, x.dtype)

    example, arguments = "[[[6.0]]], [[[1.0, 3.0, 2.0]]]", "input, keepdims, layout, device"
    return named(vjp, name, _DOC, op=op, example=example, result=result, arguments=arguments, **words)


adaptive_avg_pool1d_vjp = _adaptive_avg(1, "[[6.0]], [[1.0, 3.0, 2.0]], 1", "array([[2., 2., 2.]])")
adaptive_avg_pool2d_vjp = _adaptive_avg(2, "[[[6.0]]], [[[1.0, 3.0, 2.0]]], 1", "array([[[2., 2., 2.]]])")
adaptive_avg_pool3d_vjp = _adaptive_avg(3, "[[[[6.0]]]], [[[[1.0, 3.0, 2.0]]]], 1", "array([[[[2., 2., 2.]]]])")
adaptive_max_pool1d_vjp = _adaptive_max(1, "[[6.0]], [[1.0, 3.0, 2.0]], 1", "array([[0., 6., 0.]])")
adaptive_max_pool2d_vjp = _adaptive_max(2, "[[[6.0]]], [[[1.0, 3.0, 2.0]]], 1", "array([[[0., 6., 0.]]])")
adaptive_max_pool3d_vjp = _adaptive_max(3, "[[[[6.0]]]], [[[[1.0, 3.0, 2.0]]]], 1", "array([[[[0., 6., 0.]]]])")
global_avg_pool_vjp = _global("global_avg_pool", _AVG, "array([[[2., 2., 2.]]])")
global_max_pool_vjp = _global("global_max_pool", _MAX, "array([[[0., 6., 0.]]])")
