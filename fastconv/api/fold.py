"""Public sliding blocks: arrays as columns, and the sums of columns."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fastconv.api import resizing_on_device
from fastconv.api.moving import array_input, execute, filled, form_of, remembered
from fastconv.dispatch import load
from fastconv.dispatch.resampling import moving_seconds
from fastconv.errors import ShapeError
from fastconv.geometry.arguments import LIMIT
from fastconv.geometry.arrays import element_dtype
from fastconv.geometry.fold import Blocks, blocks, fold_sizes, folded, unfold_axes
from fastconv.geometry.planes import Planes, planes
from fastconv.system import empty

_Size = int | tuple[int, ...]

# About what an element of columns takes on one core; it only decides whether other threads help.
_SUM_SECONDS = 0.5e-9


def unfold(
    input: Any,
    kernel_size: _Size,
    dilation: _Size = 1,
    padding: Any = 0,
    stride: _Size = 1,
    *,
    layout: str = "channels_first",
    device: str = "auto",
    out: Any = None,
) -> np.ndarray:
    """Return the sliding blocks of images as columns, as `torch.nn.functional.unfold`: im2col.

    ``out[n, (c*KH + kh)*KW + kw, oh*OW + ow] = input[n, c, oh*SH + kh*DH - PT, ow*SW + kw*DW - PL]``, zeros outside.

    Parameters
    ----------
    input : array_like of shape (N, C, H, W) or (C, H, W)
        Any dtype; channels last (N, H, W, C) or (H, W, C). Volumes, too: of five dimensions, or with three sizes of the
        kernel.
    kernel_size : int or (int, int)
    dilation : int or (int, int)
    padding : int, (int, int) or ((before, after), (before, after))
        Zeros on each side.
    stride : int or (int, int)
    layout : {"channels_first", "channels_last"}
        Of the input; columns are the same in both.
    device : {"auto", "cpu", "cuda"}
    out : ndarray of the shape and dtype of the result, optional
        Written in place and returned; it may overlap `input`.

    Returns
    -------
    ndarray of shape (N, C*KH*KW, L) or (C*KH*KW, L) and the dtype of `input`
        ``L = OH * OW``, ``OH = (H + PT + PB - DH*(KH - 1) - 1) // SH + 1``; always new memory.

    Raises
    ------
    ShapeError, OptionError, ArgumentTypeError, DtypeError, UnsupportedError
        Bad sizes; bad keyword values; wrong types; a device that is not there.

    Notes
    -----
    ``weight.reshape(OC, -1) @ unfold(x, ...)`` is a convolution; `conv2d` does it without the columns, which take KH*KW
    times the memory of the input.

    References
    ----------
    K. Chellapilla, S. Puri, P. Simard, High performance convolutional neural networks for document processing, 2006

    Examples
    --------
    >>> import fastconv as fc
    >>> fc.unfold([[[1, 2, 3], [4, 5, 6]]], 2)
    array([[1, 2],
           [2, 3],
           [4, 5],
           [5, 6]])
    """
    name = "unfold"
    x = array_input(name, input, device)
    plan = unfold_plan(*form_of(x), kernel_size, dilation, padding, stride, layout)
    if type(x) is not np.ndarray:
        return resizing_on_device.unfolded(x, out, plan.shape, plan.blocks, layout)
    source = x if layout == "channels_first" else np.moveaxis(x, -1, 1 if plan.planes.batched else 0)
    return filled(name, out, plan.shape, x.dtype, (x,), lambda target: _unfold(plan, source, target))


def fold(
    input: Any,
    output_size: _Size,
    kernel_size: _Size,
    dilation: _Size = 1,
    padding: Any = 0,
    stride: _Size = 1,
    *,
    layout: str = "channels_first",
    device: str = "auto",
    out: Any = None,
) -> np.ndarray:
    """Return images that are the sums of sliding blocks, as `torch.nn.functional.fold`: col2im.

    It is the adjoint of `unfold`: ``out[n, c, h, w]`` is the sum of all ``input[n, (c*KH + kh)*KW + kw, oh*OW + ow]``
    with ``oh*SH + kh*DH - PT == h`` and ``ow*SW + kw*DW - PL == w``.

    Parameters
    ----------
    input : array_like of shape (N, C*KH*KW, L) or (C*KH*KW, L)
    output_size : int or (int, int)
        H and W; three sizes make volumes.
    kernel_size, dilation, padding, stride, device
        As in `fastconv.unfold`.
    layout : {"channels_first", "channels_last"}
        Of the result; columns are the same in both.
    out : ndarray of the shape and dtype of the result, optional
        Written in place and returned; it may overlap `input`.

    Returns
    -------
    ndarray of shape (N, C, H, W) or (C, H, W), channels last (N, H, W, C) or (H, W, C), and the dtype of `input`
        Integers wrap; half precision is summed in float32.

    Raises
    ------
    ShapeError, OptionError, ArgumentTypeError, DtypeError, UnsupportedError
        As `fastconv.unfold`.

    Notes
    -----
    ``fold(unfold(x))`` is x times the number of blocks that hold each element. Sums have PyTorch's order, whatever the
    number of threads.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv as fc
    >>> fc.fold(np.ones((4, 4)), 3, 2)
    array([[[1., 2., 1.],
            [2., 4., 2.],
            [1., 2., 1.]]])
    """
    name = "fold"
    x = array_input(name, input, device)
    plan = fold_plan(*form_of(x), output_size, kernel_size, dilation, padding, stride, layout)
    if type(x) is not np.ndarray:
        return resizing_on_device.folded(x, out, plan.shape, plan.blocks, plan.planes)
    return filled(name, out, plan.shape, x.dtype, (x,), lambda target: _fold(plan, x, target))


class _Folding(NamedTuple):
    """The sliding blocks, the parts of the shape of the images, and the shape of the result."""

    blocks: Blocks
    planes: Planes
    shape: tuple[int, ...]


@remembered
def unfold_plan(
    shape: tuple[int, ...], dtype: np.dtype, kernel_size: Any, dilation: Any, padding: Any, stride: Any, layout: str
) -> _Folding:
    """Return what to do with images, or raise what is wrong with the arguments."""
    p = planes("unfold", shape, layout, unfold_axes(len(shape), kernel_size))
    b = blocks("unfold", p.sizes, kernel_size, dilation, padding, stride)
    if p.N * p.C * b.offsets * b.positions >= LIMIT:
        raise ShapeError(f"unfold: the columns have 2**47 elements or more; input.shape = {shape}")
    columns = (p.C * b.offsets, b.positions)
    return _Folding(b, p, (p.N, *columns) if p.batched else columns)


@remembered
def fold_plan(
    shape: tuple[int, ...],
    dtype: np.dtype,
    output_size: Any,
    kernel_size: Any,
    dilation: Any,
    padding: Any,
    stride: Any,
    layout: str,
) -> _Folding:
    """Return what to do with columns, or raise what is wrong with the arguments."""
    b = blocks("fold", fold_sizes("fold", output_size), kernel_size, dilation, padding, stride)
    p = folded("fold", shape, layout, b)
    return _Folding(b, p, p.resized("fold", b.sizes))


def _unfold(plan: _Folding, x: np.ndarray, out: np.ndarray) -> None:
    """Fill columns from an array whose channels come first, with any strides."""
    if x.dtype.itemsize == 16:
        for part in ("real", "imag"):
            columns = empty(out.shape, np.float64)
            _unfold(plan, getattr(x, part), columns)
            setattr(out, part, columns)
        return
    count = plan.planes.N * plan.planes.C
    program = load.load("fold:build")("unfold", 8 * x.dtype.itemsize + 1, count, plan.blocks.numbers)
    execute(program, moving_seconds(out.size, x.dtype.itemsize), np.ascontiguousarray(x), out)


def _fold(plan: _Folding, columns: np.ndarray, out: np.ndarray) -> None:
    """Fill images from columns of any dtype."""
    element = element_dtype(columns.dtype)
    if columns.dtype.kind == "c":
        out.real, out.imag = (_sums(plan, part, element).reshape(out.shape) for part in (columns.real, columns.imag))
    elif plan.planes.layout == "channels_first" and columns.dtype == element:
        _sums(plan, columns, element, out)
    else:
        # Float16 overflows to infinity, as its own arithmetic does.
        with np.errstate(all="ignore"):
            out[...] = _sums(plan, columns, element).reshape(out.shape)


def _sums(plan: _Folding, columns: np.ndarray, element: np.dtype, out: np.ndarray | None = None) -> np.ndarray:
    """Return (N, C, *sizes) of an element type, or with channels last a view (N, *sizes, C), or fill `out`."""
    N, C, sizes, _, layout = plan.planes
    sums = empty((N, C, *sizes), element) if out is None else out
    program = load.load("fold:build")("fold", 8 * element.itemsize + (element.kind == "i"), N * C, plan.blocks.numbers)
    execute(program, _SUM_SECONDS * columns.size, np.ascontiguousarray(columns, element), sums)
    return sums if layout == "channels_first" else np.moveaxis(sums, 1, -1)
