"""Public pullback of interpolation."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from fastconv.api.moving import array_input, remembered
from fastconv.api.on_device import wants_device
from fastconv.dispatch.adjoint import resize_adjoint
from fastconv.geometry.arrays import element_dtype, kind_of
from fastconv.geometry.planes import planes
from fastconv.geometry.resize import Resize, resize
from fastconv.grad import on_device
from fastconv.grad.arrays import output_gradient, pulled, real_parts


def interpolate_vjp(
    grad_output: ArrayLike,
    input: ArrayLike,
    size: int | tuple[int, ...] | None = None,
    scale_factor: float | tuple[float, ...] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
    *,
    layout: str = "channels_first",
    device: str = "auto",
) -> tuple[np.ndarray | None]:
    """Return the gradient of `fastconv.interpolate` for its input.

    ``dinput[i] = sum over o of weight(position(o) - i) * grad_output[o]`` along each axis, with the weights of
    `fastconv.interpolate`.

    Parameters
    ----------
    grad_output : array_like of the shape of the result of `fastconv.interpolate`, taken in its dtype
    input, size, scale_factor, mode, align_corners, recompute_scale_factor, antialias, layout, device
        Those of `fastconv.interpolate`; only the shape and dtype of `input` matter.

    Returns
    -------
    tuple of one ndarray of the shape and dtype of `input`, or of None for integers

    Raises
    ------
    ShapeError, DtypeError
        `grad_output` does not fit.
    ShapeError, OptionError, ArgumentTypeError, DtypeError, UnsupportedError
        As `fastconv.interpolate`.

    Notes
    -----
    A resampling by the transposed weights, the adjoint of `fastconv.interpolate` at its cost. Half precision is summed
    in float32. PyTorch's gradient has other coordinates than PyTorch's result in double precision ("nearest"
    modes), and where a `scale_factor` leaves a size as it is, or doubles it ("nearest", `antialias`).

    Examples
    --------
    >>> import fastconv as fc
    >>> fc.grad.interpolate_vjp([[[1.0, 2.0, 3.0, 4.0]]], [[[0.0, 0.0]]], 4)
    (array([[[3., 7.]]]),)
    """
    name = "interpolate_vjp"
    sizes = (size, scale_factor, recompute_scale_factor)
    if wants_device(device, input, grad_output):
        call = on_device.begin_vjp(name, grad_output, input)
        given = call.buffers["input"]
        p = planes(name, given.shape, layout, min(max(len(given.shape) - 2, 1), 3), batched_only=True)
        how = resize(name, p, *sizes, mode, align_corners, antialias)
        shape = p.resized(name, tuple(axis.out for axis in how.axes))
        return (on_device.resized(call, p, how) if on_device.match(call, shape, given.dtype) else None,)
    x = array_input(name, input, device)
    plan = _plan(x.shape, x.dtype, layout, sizes, mode, align_corners, antialias)
    grad = output_gradient(name, grad_output, plan.shape, x.dtype)
    if plan.problem is None:
        return (None,)
    return (pulled(resize_adjoint(*plan.problem), grad, x.shape, x.dtype, layout),)


class _Plan(NamedTuple):
    """The shape of the result, and what `resize_adjoint` wants to know of floats."""

    shape: tuple[int, ...]
    problem: tuple[Resize, int, int, str] | None


@remembered
def _plan(
    shape: tuple[int, ...],
    dtype: np.dtype,
    layout: str,
    sizes: tuple[Any, Any, Any],
    mode: str,
    align_corners: Any,
    antialias: Any,
) -> _Plan:
    """Return what to do, or raise what is wrong with the arguments."""
    name = "interpolate_vjp"
    p = planes(name, shape, layout, min(max(len(shape) - 2, 1), 3), batched_only=True)
    how = resize(name, p, *sizes, mode, align_corners, antialias)
    out_shape = p.resized(name, tuple(axis.out for axis in how.axes))
    if kind_of(dtype) == "i":
        return _Plan(out_shape, None)
    lanes = real_parts(dtype, max(p.lanes, 1))
    return _Plan(out_shape, (how, max(p.total, 1), lanes, element_dtype(dtype).name))
