"""Public pullbacks of unpooling."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastconv.api.moving import array_input, remembered
from fastconv.api.on_device import wants_device
from fastconv.api.unpool import Unpooling, check_range, check_unique, index_input, unpooling_call, unpooling_plan
from fastconv.api.upsample import Upsampling, upsampling_plan
from fastconv.dispatch.adjoint import repeats_adjoint
from fastconv.geometry.arguments import integer
from fastconv.geometry.arrays import element_dtype, kind_of
from fastconv.geometry.planes import planes
from fastconv.grad import on_device
from fastconv.grad.arrays import Function, named, output_gradient, pulled, real_parts

_Size = int | tuple[int, ...]

_MAX = """Return the gradient of `fastconv.{op}` for its input: each element has that of the place where it was put.

``dinput[n, c, i] = grad_output[n, c, indices[n, c, i]]``, the spatial axes of `grad_output` taken as one.

Parameters
----------
grad_output : array_like of the shape of the result of `fastconv.{op}`, taken in its dtype
input, indices, kernel_size, stride, padding, output_size, duplicates, layout, device
    Those of `fastconv.{op}`; but for duplicates="max" only the shape and dtype of `input` matter.

Returns
-------
(dinput, None)
    An ndarray of the shape and dtype of `input`, None for integers; indices have no gradient.

Raises
------
ShapeError, DtypeError
    `grad_output` does not fit.
ShapeError, OptionError, ArgumentTypeError, DtypeError, UnsupportedError
    As `fastconv.{op}`.

Notes
-----
Of several elements with one place all have its gradient, as in PyTorch, though with duplicates="last" only one of them
stands there. With "max" only that has it: the first of the largest, or the last NaN.

Examples
--------
>>> import fastconv as fc
>>> fc.grad.{op}_vjp({example})
({result}, None)
"""

_NEAREST = """Return the gradient of `fastconv.{op}` for its input: the sum over the block that repeats an element.

Parameters
----------
grad_output : array_like of the shape of the result of `fastconv.{op}`, taken in its dtype
input, scale_factor, layout, device
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

Examples
--------
>>> import fastconv as fc
>>> fc.grad.{op}_vjp({example})
({result},)
"""

_NAILS = """Return the gradient of `fastconv.{op}` for its input: what stands where its elements were put.

Parameters
----------
grad_output : array_like of the shape of the result of `fastconv.{op}`, taken in its dtype
input, scale_factor, position, layout, device
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

Examples
--------
>>> import fastconv as fc
>>> fc.grad.{op}_vjp({example})
({result},)
"""


def _max(axes: int, example: str, result: str) -> Function:
    op = f"max_unpool{axes}d"
    name = f"{op}_vjp"

    def vjp(
        grad_output: ArrayLike,
        input: ArrayLike,
        indices: ArrayLike,
        kernel_size: _Size,
        stride: _Size | None = None,
        padding: Any = 0,
        output_size: _Size | None = None,
        *,
        duplicates: str = "last",
        layout: str = "channels_first",
        device: str = "auto",
    ) -> tuple[np.ndarray | None, None]:
        sizes = (kernel_size, stride, padding, output_size)
        if wants_device(device, input, indices, grad_output):
            given, more = (input, indices), {"grad_output": grad_output}
            call, plan = unpooling_call(name, axes, given, sizes, duplicates, layout, **more)
            if not on_device.match(call, plan.shape, call.buffers["input"].dtype):
                return None, None
            return on_device.taken(call, plan.planes, plan.size, duplicates == "max"), None
        x = array_input(name, input, device)
        where = index_input(name, indices, x)
        plan = unpooling_plan(x.shape, x.dtype, name, axes, sizes, duplicates, layout)
        check_range(name, where, plan.size)
        if duplicates == "error":
            check_unique(name, plan.planes, where)
        grad = output_gradient(name, grad_output, plan.shape, x.dtype)
        if kind_of(x.dtype) == "i":
            return None, None
        return _taken(plan, grad, where, x if duplicates == "max" else None), None

    return named(vjp, name, _MAX, op=op, example=example, result=result)


def _taken(plan: Unpooling, grad: np.ndarray, indices: np.ndarray, x: np.ndarray | None) -> np.ndarray:
    """Return what stands at the indices; given x, only for the elements that stay there, zeros for the others."""
    p = plan.planes
    shape = (p.N, p.C, -1) if p.layout == "channels_first" else (p.N, -1, p.C)
    if not indices.size:
        return np.zeros(indices.shape, grad.dtype)
    along = shape.index(-1)
    where, given = indices.reshape(shape), grad.reshape(shape)
    found = np.take_along_axis(given, where, along)
    if x is not None:
        found[~_stay(x.reshape(shape), where, along, plan.size)] = 0
    return found.reshape(indices.shape)


def _stay(x: np.ndarray, where: np.ndarray, along: int, size: int) -> np.ndarray:
    """Return which elements are the first of the largest, or the last NaN, of those with their place."""
    values, places = (np.moveaxis(a, along, -1).reshape(-1, x.shape[along]) for a in (x, where))
    rows = np.arange(len(values))[:, None]
    largest = np.full((len(values), size), -np.inf, x.dtype)
    with np.errstate(invalid="ignore"):
        np.maximum.at(largest, (rows, places), values)
    best = largest[rows, places]
    nan = values != values
    # The number of each candidate at its place: of assignments to one place the last one stays.
    winner = np.full(largest.shape, -1)
    for candidates, order in ((values == best, -1), (nan, 1)):
        row, at = (each[::order] for each in np.nonzero(candidates))
        winner[row, places[row, at]] = at
    stays = winner[rows, places] == np.arange(values.shape[1])
    return np.moveaxis(stays.reshape(np.moveaxis(x, along, -1).shape), -1, along)


@remembered
def _nearest_plan(
    shape: tuple[int, ...], dtype: np.dtype, function: str, axes: int, scale_factor: Any, layout: str
) -> tuple[Upsampling, tuple[Any, ...]]:
    """Return the plan of the operation, and what `repeats_adjoint` wants to know."""
    plan = upsampling_plan(shape, dtype, function, axes, scale_factor, None, layout)
    p, steps = planes(function, shape, layout, axes), plan.problem[4][-axes:]
    lanes = real_parts(dtype, max(p.lanes, 1))
    return plan, (p.sizes, steps, max(p.total, 1), lanes, element_dtype(dtype).name)


def _nearest(axes: int, example: str, result: str) -> Function:
    op = f"nearest_unpool{axes}d"
    name = f"{op}_vjp"

    def vjp(
        grad_output: ArrayLike,
        input: ArrayLike,
        scale_factor: _Size,
        *,
        layout: str = "channels_first",
        device: str = "auto",
    ) -> tuple[np.ndarray | None]:
        if wants_device(device, input, grad_output):
            call = on_device.begin_vjp(name, grad_output, input)
            given = call.buffers["input"]
            plan = upsampling_plan(given.shape, given.dtype, name, axes, scale_factor, None, layout)
            p, steps = planes(name, given.shape, layout, axes), plan.problem[4][-axes:]
            return (on_device.repeated(call, p, steps) if on_device.match(call, plan.shape, given.dtype) else None,)
        x = array_input(name, input, device)
        dtype = x.dtype if kind_of(x.dtype) != "i" else np.dtype(np.float32)
        plan, problem = _nearest_plan(x.shape, dtype, name, axes, scale_factor, layout)
        grad = output_gradient(name, grad_output, plan.shape, x.dtype)
        if kind_of(x.dtype) == "i":
            return (None,)
        return (pulled(repeats_adjoint(*problem), grad, x.shape, x.dtype, layout),)

    return named(vjp, name, _NEAREST, op=op, example=example, result=result)


def _nails(axes: int, example: str, result: str) -> Function:
    op = f"bed_of_nails_unpool{axes}d"
    name = f"{op}_vjp"

    def vjp(
        grad_output: ArrayLike,
        input: ArrayLike,
        scale_factor: _Size,
        *,
        position: int = 0,
        layout: str = "channels_first",
        device: str = "auto",
    ) -> tuple[np.ndarray | None]:
        number = integer(name, "position", position)
        if wants_device(device, input, grad_output):
            call = on_device.begin_vjp(name, grad_output, input)
            given = call.buffers["input"]
            plan = upsampling_plan(given.shape, given.dtype, name, axes, scale_factor, number, layout)
            steps, firsts = (each[-axes:] for each in plan.problem[4:])
            p, more = planes(name, given.shape, layout, axes), on_device.match(call, plan.shape, given.dtype)
            return (on_device.nailed(call, p, steps, firsts) if more else None,)
        x = array_input(name, input, device)
        plan = upsampling_plan(x.shape, x.dtype, name, axes, scale_factor, number, layout)
        grad = output_gradient(name, grad_output, plan.shape, x.dtype)
        if kind_of(x.dtype) == "i":
            return (None,)
        steps, firsts = (each[-axes:] for each in plan.problem[4:])
        nails = tuple(slice(first, None, step) for first, step in zip(firsts, steps, strict=True))
        rest = (slice(None),) if layout == "channels_last" else ()
        return (grad[(..., *nails, *rest)].copy(),)

    return named(vjp, name, _NAILS, op=op, example=example, result=result)


max_unpool1d_vjp = _max(1, "[[1.0, 2.0, 3.0, 4.0]], [[5.0, 6.0]], [[1, 2]], 2", "array([[2., 3.]])")
max_unpool2d_vjp = _max(2, "[[[1.0, 2.0], [3.0, 4.0]]], [[[5.0]]], [[[2]]], 2", "array([[[3.]]])")
max_unpool3d_vjp = _max(3, "[[[[1.0, 2.0], [3.0, 4.0]]]], [[[[5.0]]]], [[[[2]]]], (1, 2, 2)", "array([[[[3.]]]])")
nearest_unpool1d_vjp = _nearest(1, "[[1.0, 2.0, 3.0, 4.0]], [[5.0, 6.0]], 2", "array([[3., 7.]])")
nearest_unpool2d_vjp = _nearest(2, "[[[1.0, 2.0], [3.0, 4.0]]], [[[5.0]]], 2", "array([[[10.]]])")
nearest_unpool3d_vjp = _nearest(3, "[[[[1.0, 2.0], [3.0, 4.0]]]], [[[[5.0]]]], (1, 2, 2)", "array([[[[10.]]]])")
bed_of_nails_unpool1d_vjp = _nails(1, "[[1.0, 2.0, 3.0, 4.0]], [[5.0, 6.0]], 2", "array([[1., 3.]])")
bed_of_nails_unpool2d_vjp = _nails(2, "[[[1.0, 2.0], [3.0, 4.0]]], [[[5.0]]], 2", "array([[[1.]]])")
bed_of_nails_unpool3d_vjp = _nails(3, "[[[[1.0, 2.0], [3.0, 4.0]]]], [[[[5.0]]]], (1, 2, 2)", "array([[[[1.]]]])")
