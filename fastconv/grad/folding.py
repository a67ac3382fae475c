"""Public pullbacks of sliding blocks, of which each is the other's."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from fastconv.api.fold import fold, unfold
from fastconv.api.moving import array_input, remembered
from fastconv.api.on_device import wants_device
from fastconv.geometry.arrays import kind_of
from fastconv.geometry.fold import Blocks, blocks, fold_sizes, folded, unfold_axes
from fastconv.geometry.planes import planes
from fastconv.grad import on_device
from fastconv.grad.arrays import output_gradient

_Size = int | tuple[int, ...]


def unfold_vjp(
    grad_output: ArrayLike,
    input: ArrayLike,
    kernel_size: _Size,
    dilation: _Size = 1,
    padding: Any = 0,
    stride: _Size = 1,
    *,
    layout: str = "channels_first",
    device: str = "auto",
) -> tuple[np.ndarray | None]:
    """Return the gradient of `fastconv.unfold` for its input: its columns, folded.

    Parameters
    ----------
    grad_output : array_like of the shape of the result of `fastconv.unfold`, taken in its dtype
    input, kernel_size, dilation, padding, stride, layout, device
        Those of `fastconv.unfold`; only the shape and dtype of `input` matter.

    Returns
    -------
    tuple of one ndarray of the shape and dtype of `input`, or of None for integers

    Raises
    ------
    ShapeError, DtypeError
        `grad_output` does not fit.
    ShapeError, OptionError, ArgumentTypeError, DtypeError, UnsupportedError
        As `fastconv.unfold`.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv as fc
    >>> fc.grad.unfold_vjp(np.ones((2, 2)), [[[1.0, 2.0, 3.0]]], (1, 2))
    (array([[[1., 2., 1.]]]),)
    """
    name = "unfold_vjp"
    if wants_device(device, input, grad_output):
        call = on_device.begin_vjp(name, grad_output, input)
        given = call.buffers["input"]
        plan = _unfold_plan(given.shape, given.dtype, kernel_size, dilation, padding, stride, layout)
        p = planes(name, given.shape, layout, len(plan.blocks.sizes))
        return (on_device.unfolded(call, plan.blocks, p) if on_device.match(call, plan.shape, given.dtype) else None,)
    x = array_input(name, input, device)
    plan = _unfold_plan(x.shape, x.dtype, kernel_size, dilation, padding, stride, layout)
    grad = output_gradient(name, grad_output, plan.shape, x.dtype)
    if kind_of(x.dtype) == "i":
        return (None,)
    return (fold(grad, plan.blocks.sizes, kernel_size, dilation, padding, stride, layout=layout),)


def fold_vjp(
    grad_output: ArrayLike,
    input: ArrayLike,
    output_size: _Size,
    kernel_size: _Size,
    dilation: _Size = 1,
    padding: Any = 0,
    stride: _Size = 1,
    *,
    layout: str = "channels_first",
    device: str = "auto",
) -> tuple[np.ndarray | None]:
    """Return the gradient of `fastconv.fold` for its input: its images, unfolded.

    Parameters
    ----------
    grad_output : array_like of the shape of the result of `fastconv.fold`, taken in its dtype
    input, output_size, kernel_size, dilation, padding, stride, layout, device
        Those of `fastconv.fold`; only the shape and dtype of `input` matter.

    Returns
    -------
    tuple of one ndarray of the shape and dtype of `input`, or of None for integers

    Raises
    ------
    ShapeError, DtypeError
        `grad_output` does not fit.
    ShapeError, OptionError, ArgumentTypeError, DtypeError, UnsupportedError
        As `fastconv.fold`.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv as fc
    >>> fc.grad.fold_vjp([[[1.0, 2.0, 3.0]]], np.zeros((2, 2)), (1, 3), (1, 2))
    (array([[1., 2.],
            [2., 3.]]),)
    """
    name = "fold_vjp"
    if wants_device(device, input, grad_output):
        call = on_device.begin_vjp(name, grad_output, input)
        given = call.buffers["input"]
        plan = _fold_plan(given.shape, given.dtype, output_size, kernel_size, dilation, padding, stride, layout)
        return (
            on_device.folded(call, plan.blocks, layout) if on_device.match(call, plan.shape, given.dtype) else None,
        )
    x = array_input(name, input, device)
    plan = _fold_plan(x.shape, x.dtype, output_size, kernel_size, dilation, padding, stride, layout)
    grad = output_gradient(name, grad_output, plan.shape, x.dtype)
    if kind_of(x.dtype) == "i":
        return (None,)
    return (unfold(grad, plan.blocks.kernel, dilation, padding, stride, layout=layout),)


class _Plan(NamedTuple):
    """The sliding blocks, and the shape of the result."""

    blocks: Blocks
    shape: tuple[int, ...]


@remembered
def _unfold_plan(
    shape: tuple[int, ...], dtype: np.dtype, kernel_size: Any, dilation: Any, padding: Any, stride: Any, layout: str
) -> _Plan:
    p = planes("unfold_vjp", shape, layout, unfold_axes(len(shape), kernel_size))
    b = blocks("unfold_vjp", p.sizes, kernel_size, dilation, padding, stride)
    columns = (p.C * b.offsets, b.positions)
    return _Plan(b, (p.N, *columns) if p.batched else columns)


@remembered
def _fold_plan(
    shape: tuple[int, ...],
    dtype: np.dtype,
    output_size: Any,
    kernel_size: Any,
    dilation: Any,
    padding: Any,
    stride: Any,
    layout: str,
) -> _Plan:
    b = blocks("fold_vjp", fold_sizes("fold_vjp", output_size), kernel_size, dilation, padding, stride)
    p = folded("fold_vjp", shape, layout, b)
    return _Plan(b, p.resized("fold_vjp", b.sizes))
