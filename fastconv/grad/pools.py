"""Public pullbacks of the pools over sliding windows."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastconv.api.moving import remembered
from fastconv.api.on_device import wants_device
from fastconv.api.pooling import average_divisor, norm, pool_input
from fastconv.geometry.arrays import kind_of
from fastconv.geometry.pool import PoolGeometry, flag, pool_geometry
from fastconv.grad import on_device
from fastconv.grad.arrays import Function, named
from fastconv.grad.windows import WindowPlan, averages_pullback, maxima_pullback, norms_pullback

_Size = int | tuple[int, ...]

_MAX = """Return the gradient of `fastconv.{op}` for its input: each goes to the maximum of its window.

``dinput[n, c, indices[n, c, o]] += grad_output[n, c, o]``, the spatial axes taken as one.

Parameters
----------
grad_output : array_like of the shape of the values that `fastconv.{op}` returns, taken in its dtype
input, kernel_size, stride, padding, dilation, ceil_mode, return_indices, layout, device
    Those of `fastconv.{op}`; `return_indices` changes nothing, since indices have no gradient.

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
PyTorch's: the indices are those of `fastconv.{op}`, the last NaN, or the first of equal elements; windows that overlap
add up, in their order. Whole windows side by side are compared again, at about the speed of a copy; others go by
their indices. Half precision is added up in float32.

Examples
--------
>>> import fastconv as fc
>>> fc.grad.{op}_vjp({example})
({result},)
"""

_AVG = """Return the gradient of `fastconv.{op}` for its input: each is shared by all elements of its window.

``dinput[n, c, i]`` is the sum of ``grad_output[n, c, o] / divisor`` over all windows o that hold i.

Parameters
----------
grad_output : array_like of the shape of the result of `fastconv.{op}`, taken in its dtype
input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, layout, device
    Those of `fastconv.{op}`; only the shape and dtype of `input` matter.

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
Sums of windows that overlap are taken one axis after the other; else elements are only copied. Half precision is added
up in float32.

Examples
--------
>>> import fastconv as fc
>>> fc.grad.{op}_vjp({example})
({result},)
"""

_LP = """Return the gradient of `fastconv.{op}` for its input.

``dinput[n, c, i]`` is the sum of ``grad_output[n, c, o] * (input[n, c, i] / out[n, c, o]) ** (p - 1)`` over all windows
o that hold i.

Parameters
----------
grad_output : array_like of the shape of the result of `fastconv.{op}`, taken in its dtype
input, norm_type, kernel_size, stride, ceil_mode, layout, device
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
PyTorch's: 0 for a window whose sum is 0. For infinite p, which PyTorch does not have, each gradient goes to the element
of the largest, or smallest, magnitude, with its sign.

Examples
--------
>>> import fastconv as fc
>>> fc.grad.{op}_vjp({example})
({result},)
"""


@remembered
def _max_plan(shape: tuple[int, ...], dtype: np.dtype, function: str, axes: int, *given: Any) -> WindowPlan:
    g = pool_geometry(function, axes, shape, *given)
    return WindowPlan(g, None if kind_of(dtype) == "i" else maxima_pullback(dtype, g))


@remembered
def _avg_plan(
    shape: tuple[int, ...], dtype: np.dtype, function: str, axes: int, include: bool, override: Any, *given: Any
) -> WindowPlan:
    g = pool_geometry(function, axes, shape, *given)
    divisor = average_divisor(function, override)
    return WindowPlan(g, None if kind_of(dtype) == "i" else averages_pullback(dtype, g, include, divisor))


@remembered
def _lp_plan(shape: tuple[int, ...], dtype: np.dtype, function: str, axes: int, p: Any, *given: Any) -> WindowPlan:
    g, p = pool_geometry(function, axes, shape, *given), norm(function, p)
    return WindowPlan(g, None if kind_of(dtype) == "i" else norms_pullback(dtype, g, p))


def _geometry(function: str, axes: int, given: tuple[Any, ...]) -> Callable[[tuple[int, ...]], PoolGeometry]:
    """Return what makes the geometry of a shape."""
    return lambda shape: pool_geometry(function, axes, shape, *given)


def _max(axes: int, example: str, result: str) -> Function:
    op = f"max_pool{axes}d"
    name = f"{op}_vjp"

    def vjp(
        grad_output: ArrayLike,
        input: ArrayLike,
        kernel_size: _Size,
        stride: _Size | None = None,
        padding: Any = 0,
        dilation: _Size = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
        *,
        layout: str = "channels_first",
        device: str = "auto",
    ) -> tuple[np.ndarray | None]:
        if wants_device(device, input, grad_output):
            ceil = flag(name, "ceil_mode", ceil_mode)
            flag(name, "return_indices", return_indices)
            given = (kernel_size, stride, padding, dilation, ceil, layout)
            return on_device.windows_vjp(name, grad_output, input, _geometry(name, axes, given), on_device.maxima)
        x, ceil = pool_input(name, input, device), flag(name, "ceil_mode", ceil_mode)
        flag(name, "return_indices", return_indices)
        plan = _max_plan(x.shape, x.dtype, name, axes, kernel_size, stride, padding, dilation, ceil, layout)
        return plan.run(name, grad_output, x, x.dtype)

    return named(vjp, name, _MAX, op=op, example=example, result=result)


def _avg(axes: int, example: str, result: str) -> Function:
    op = f"avg_pool{axes}d"
    name = f"{op}_vjp"

    def vjp(
        grad_output: ArrayLike,
        input: ArrayLike,
        kernel_size: _Size,
        stride: _Size | None = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
        *,
        layout: str = "channels_first",
        device: str = "auto",
    ) -> tuple[np.ndarray | None]:
        if wants_device(device, input, grad_output):
            ceil, include = (
                flag(name, *f) for f in (("ceil_mode", ceil_mode), ("count_include_pad", count_include_pad))
            )
            given, divisor = (kernel_size, stride, padding, 1, ceil, layout), average_divisor(name, divisor_override)
            pull = partial(on_device.averages, count_include_pad=include, divisor=divisor)
            return on_device.windows_vjp(name, grad_output, input, _geometry(name, axes, given), pull)
        x, ceil = pool_input(name, input, device), flag(name, "ceil_mode", ceil_mode)
        include = flag(name, "count_include_pad", count_include_pad)
        sizes = (kernel_size, stride, padding, 1, ceil, layout)
        plan = _avg_plan(x.shape, x.dtype, name, axes, include, divisor_override, *sizes)
        return plan.run(name, grad_output, x, x.dtype)

    return named(vjp, name, _AVG, op=op, example=example, result=result)


def _lp(axes: int, example: str, result: str) -> Function:
    op = f"lp_pool{axes}d"
    name = f"{op}_vjp"

    def vjp(
        grad_output: ArrayLike,
        input: ArrayLike,
        norm_type: float,
        kernel_size: _Size,
        stride: _Size | None = None,
        ceil_mode: bool = False,
        *,
        layout: str = "channels_first",
        device: str = "auto",
    ) -> tuple[np.ndarray | None]:
        if wants_device(device, input, grad_output):
            given = (kernel_size, stride, 0, 1, flag(name, "ceil_mode", ceil_mode), layout)
            pull = partial(on_device.norms, p=norm(name, norm_type))
            return on_device.windows_vjp(name, grad_output, input, _geometry(name, axes, given), pull)
        x, ceil = pool_input(name, input, device), flag(name, "ceil_mode", ceil_mode)
        plan = _lp_plan(x.shape, x.dtype, name, axes, norm_type, kernel_size, stride, 0, 1, ceil, layout)
        return plan.run(name, grad_output, x, x.dtype if kind_of(x.dtype) == "f" else np.dtype(np.float32))

    return named(vjp, name, _LP, op=op, example=example, result=result)


max_pool1d_vjp = _max(1, "[[5.0]], [[1.0, 3.0, 2.0]], 3", "array([[0., 5., 0.]])")
max_pool2d_vjp = _max(2, "[[[5.0]]], [[[1.0, 3.0], [2.0, 0.0]]], 2", "array([[[0., 5.],\n        [0., 0.]]])")
max_pool3d_vjp = _max(3, "[[[[5.0]]]], [[[[1.0, 3.0, 2.0]]]], (1, 1, 3)", "array([[[[0., 5., 0.]]]])")
avg_pool1d_vjp = _avg(1, "[[6.0]], [[1.0, 3.0, 2.0]], 3", "array([[2., 2., 2.]])")
avg_pool2d_vjp = _avg(2, "[[[8.0]]], [[[1.0, 3.0], [2.0, 0.0]]], 2", "array([[[2., 2.],\n        [2., 2.]]])")
avg_pool3d_vjp = _avg(3, "[[[[6.0]]]], [[[[1.0, 3.0, 2.0]]]], (1, 1, 3)", "array([[[[2., 2., 2.]]]])")
lp_pool1d_vjp = _lp(1, "[[5.0]], [[3.0, 4.0]], 2, 2", "array([[3., 4.]])")
lp_pool2d_vjp = _lp(2, "[[[5.0]]], [[[3.0, 0.0], [0.0, 4.0]]], 2, 2", "array([[[3., 0.],\n        [0., 4.]]])")
lp_pool3d_vjp = _lp(3, "[[[[5.0]]]], [[[[3.0, 4.0]]]], 2, (1, 1, 2)", "array([[[[3., 4.]]]])")
