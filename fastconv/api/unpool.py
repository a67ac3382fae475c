"""Public max unpooling: elements back to where pooling took them from."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from fastconv.api import resizing_on_device
from fastconv.api.moving import array_input, execute, filled, moved_as, remembered
from fastconv.api.on_device import begin, wants_device
from fastconv.dispatch import load
from fastconv.dispatch.cuda import kernels
from fastconv.dispatch.resampling import moving_seconds
from fastconv.errors import DtypeError, OptionError, ShapeError
from fastconv.geometry.arguments import check_keyword, per_axis, shown
from fastconv.geometry.arrays import as_input, check_out, element_dtype, kind_of, on_device
from fastconv.geometry.padding import resolve
from fastconv.geometry.planes import Planes, planes
from fastconv.geometry.resize import unpooled_sizes
from fastconv.system import empty

_Size = int | tuple[int, ...]

DUPLICATES = ("last", "max", "sum", "error")


def max_unpool1d(
    input: Any,
    indices: Any,
    kernel_size: _Size,
    stride: _Size | None = None,
    padding: Any = 0,
    output_size: _Size | None = None,
    *,
    duplicates: str = "last",
    layout: str = "channels_first",
    device: str = "auto",
    out: Any = None,
) -> np.ndarray:
    """Put maxima back to their places among zeros, as `torch.nn.functional.max_unpool1d`.

    Parameters
    ----------
    input, indices : array_like of shape (N, C, W) or (C, W)
    kernel_size, stride, padding, output_size, duplicates, layout, device, out
        As in `fastconv.max_unpool2d`, along W.

    Returns
    -------
    ndarray of shape (N, C, OW) and the dtype of `input`
        Sizes as in `fastconv.max_unpool2d`.

    Raises
    ------
    ShapeError, OptionError, ArgumentTypeError, DtypeError, UnsupportedError
        As `fastconv.max_unpool2d`.

    Examples
    --------
    >>> import fastconv as fc
    >>> fc.max_unpool1d([[5.0, 7.0]], [[1, 2]], 2)
    array([[0., 5., 7., 0.]])
    """
    sizes = (kernel_size, stride, padding, output_size)
    return _max_unpool("max_unpool1d", 1, input, indices, sizes, duplicates, layout, device, out)


def max_unpool2d(
    input: Any,
    indices: Any,
    kernel_size: _Size,
    stride: _Size | None = None,
    padding: Any = 0,
    output_size: _Size | None = None,
    *,
    duplicates: str = "last",
    layout: str = "channels_first",
    device: str = "auto",
    out: Any = None,
) -> np.ndarray:
    """Put maxima back to their places among zeros, as `torch.nn.functional.max_unpool2d`.

    ``out[n, c, indices[n, c, h, w]] = input[n, c, h, w]``, the spatial axes of `out` taken as one; zeros elsewhere.

    Parameters
    ----------
    input : array_like of shape (N, C, H, W) or (C, H, W)
        Any dtype; channels last (N, H, W, C) or (H, W, C).
    indices : array_like of the shape of `input`
        Integers from 0 to OH*OW - 1, as `fastconv.max_pool2d` returns them.
    kernel_size, stride, padding
        Those of the pooling; the stride is by default the kernel size, the padding an int, (int, int) or pairs.
    output_size : int, (int, int) or the whole shape of the output, optional
        Pooling gives several sizes the same one; less than a stride from the default.
    duplicates : {"last", "max", "sum", "error"}
        What stands where several indices are the same: the last element in row-major order; the largest, or NaN; the
        sum; or raise.
    layout : {"channels_first", "channels_last"}
    device : {"auto", "cpu", "cuda"}
    out : ndarray of the shape and dtype of the result, optional
        Written in place and returned; it may overlap the inputs. After an error it is as before.

    Returns
    -------
    ndarray of shape (N, C, OH, OW) and the dtype of `input`
        ``OH = (H - 1)*SH + KH - PT - PB``

    Raises
    ------
    ShapeError, OptionError, ArgumentTypeError, DtypeError, UnsupportedError
        Bad sizes; an index out of range, a duplicate with "error", bad keyword values; wrong types; a
        device that is not there.

    Notes
    -----
    Deterministic: a plane is the work of one thread, or with channels last some channels of an image are.

    References
    ----------
    M. D. Zeiler, G. W. Taylor, R. Fergus, Adaptive deconvolutional networks, 2011, doi:10.1109/ICCV.2011.6126474

    Examples
    --------
    >>> import fastconv as fc
    >>> fc.max_unpool2d([[[6, 8]]], [[[5, 3]]], 2)
    array([[[0, 0, 0, 8],
            [0, 6, 0, 0]]])
    """
    sizes = (kernel_size, stride, padding, output_size)
    return _max_unpool("max_unpool2d", 2, input, indices, sizes, duplicates, layout, device, out)


def max_unpool3d(
    input: Any,
    indices: Any,
    kernel_size: _Size,
    stride: _Size | None = None,
    padding: Any = 0,
    output_size: _Size | None = None,
    *,
    duplicates: str = "last",
    layout: str = "channels_first",
    device: str = "auto",
    out: Any = None,
) -> np.ndarray:
    """Put maxima back to their places among zeros, as `torch.nn.functional.max_unpool3d`.

    Parameters
    ----------
    input, indices : array_like of shape (N, C, D, H, W) or (C, D, H, W)
    kernel_size, stride, padding, output_size, duplicates, layout, device, out
        As in `fastconv.max_unpool2d`, along D, H, W.

    Returns
    -------
    ndarray of shape (N, C, OD, OH, OW) and the dtype of `input`
        Sizes as in `fastconv.max_unpool2d`.

    Raises
    ------
    ShapeError, OptionError, ArgumentTypeError, DtypeError, UnsupportedError
        As `fastconv.max_unpool2d`.

    Examples
    --------
    >>> import fastconv as fc
    >>> fc.max_unpool3d([[[[9]]]], [[[[6]]]], 2)
    array([[[[0, 0],
             [0, 0]],
            [[0, 0],
             [9, 0]]]])
    """
    sizes = (kernel_size, stride, padding, output_size)
    return _max_unpool("max_unpool3d", 3, input, indices, sizes, duplicates, layout, device, out)


def _max_unpool(
    function: str,
    axes: int,
    input: Any,
    indices: Any,
    sizes: tuple[Any, Any, Any, Any],
    duplicates: str,
    layout: str,
    device: str,
    out: np.ndarray | None,
) -> np.ndarray:
    """Return the unpooled array; `sizes` are kernel_size, stride, padding and output_size."""
    if wants_device(device, input, indices):
        return unpooled_on_device(function, axes, (input, indices), sizes, duplicates, layout, out)
    x = array_input(function, input, device)
    where = index_input(function, indices, x)
    plan = unpooling_plan(x.shape, x.dtype, function, axes, sizes, duplicates, layout)
    if out is not None:
        check_out(function, out, plan.shape, x.dtype)
    # What may not be written before all indices are known to be good, or could not be.
    if out is not None or duplicates != "last" or not plan.size:
        check_range(function, where, plan.size)
    if duplicates == "error":
        check_unique(function, plan.planes, where)

    def fill(target: np.ndarray) -> None:
        if not _place(plan, x, where, target):
            check_range(function, where, plan.size)

    return filled(function, out, plan.shape, x.dtype, (x, where), fill)


def unpooled_on_device(
    function: str, axes: int, arrays: tuple[Any, Any], sizes: tuple[Any, ...], duplicates: str, layout: str, out: Any
) -> Any:
    """Return the unpooled array of the device; indices there are read only where "error" asks for them."""
    call, plan = unpooling_call(function, axes, arrays, sizes, duplicates, layout)
    return resizing_on_device.unpooled(call, out, plan.shape, plan.planes, plan.size, plan.merge)


def unpooling_call(
    function: str,
    axes: int,
    arrays: tuple[Any, Any],
    sizes: tuple[Any, ...],
    duplicates: str,
    layout: str,
    **more: Any,
) -> tuple[Any, Unpooling]:
    """Return the call that has input and indices, as int64, on the device, and what to do with them."""
    call = begin(function, input=arrays[0], indices=arrays[1], **more)
    x, indices = call.buffers["input"], call.buffers["indices"]
    check_indices(function, indices, x)
    plan = unpooling_plan(x.shape, x.dtype, function, axes, sizes, duplicates, layout)
    call.buffers["indices"] = kernels("casts:cast")(call.stream, indices, np.dtype(np.int64))
    if duplicates == "error" or not on_device(arrays[1]):
        where = call.values("indices") if on_device(arrays[1]) else as_input(function, "indices", arrays[1])
        check_range(function, where, plan.size)
        if duplicates == "error":
            check_unique(function, plan.planes, where)
    return call, plan


class Unpooling(NamedTuple):
    """The parts of the input's shape; the shape of the result, the size of its planes; "last", "max" or "sum"."""

    planes: Planes
    shape: tuple[int, ...]
    size: int
    merge: str


@remembered
def unpooling_plan(
    shape: tuple[int, ...],
    dtype: np.dtype,
    function: str,
    axes: int,
    sizes: tuple[Any, Any, Any, Any],
    duplicates: str,
    layout: str,
) -> Unpooling:
    """Return what to do with an array, or raise what is wrong with the arguments."""
    check_keyword(function, "duplicates", duplicates, DUPLICATES)
    p = planes(function, shape, layout, axes)
    if duplicates == "max" and dtype.kind == "c":
        raise DtypeError(f'{function}: input has dtype {dtype} with duplicates = "max", expected real numbers')
    spatial = _output_sizes(function, p, *sizes)
    merge = "last" if duplicates == "error" else duplicates
    return Unpooling(p, p.resized(function, spatial), math.prod(spatial), merge)


def index_input(function: str, value: Any, x: np.ndarray) -> np.ndarray:
    """Return the indices as int64."""
    indices = as_input(function, "indices", value)
    check_indices(function, indices, x)
    return indices.astype(np.int64, copy=False)


def check_indices(function: str, indices: Any, x: Any) -> None:
    """Raise unless indices are integers, one for each element of x."""
    if kind_of(indices.dtype) != "i":
        raise DtypeError(f"{function}: indices has dtype {indices.dtype}, expected integers")
    if indices.shape != x.shape:
        raise ShapeError(f"{function}: indices has shape {indices.shape}, expected that of input, {x.shape}")


def _output_sizes(
    function: str, p: Planes, kernel_size: Any, stride: Any, padding: Any, output_size: Any
) -> tuple[int, ...]:
    """Return the spatial sizes of the output."""
    axes = len(p.sizes)
    kernel = per_axis(function, "kernel_size", kernel_size, axes)
    own = stride is None or (isinstance(stride, (tuple, list)) and not stride)
    strides = kernel if own else per_axis(function, "stride", stride, axes)
    if isinstance(padding, str):
        raise OptionError(f"{function}: padding = {shown(padding)}, expected ints or (before, after) pairs")
    pads = resolve(function, padding, p.sizes, kernel, strides, (1,) * axes)
    return unpooled_sizes(function, p, kernel, strides, pads, output_size)


def check_range(function: str, indices: np.ndarray, size: int) -> None:
    """Raise if there is an index that is no place of a plane of `size`."""
    if not indices.size or (indices.min() >= 0 and indices.max() < size):
        return
    at = np.unravel_index(np.argmax((indices < 0) | (indices >= size)), indices.shape)
    place = tuple(int(i) for i in at)
    rule = f"0 to {size - 1}, the places of an output plane" if size else "none, since the output is empty"
    raise OptionError(f"{function}: indices has {indices[at]} at {place}, expected {rule}")


def check_unique(function: str, p: Planes, indices: np.ndarray) -> None:
    """Raise if an index stands in a plane twice."""
    batched = indices.reshape(p.N, *(indices.shape[1:] if p.batched else indices.shape))
    first = batched if p.layout == "channels_first" else np.moveaxis(batched, -1, 1)
    ordered = np.sort(first.reshape(p.N * p.C, math.prod(p.sizes)), axis=1)
    plane, at = np.nonzero(ordered[:, 1:] == ordered[:, :-1])
    if len(plane):
        n, c = divmod(int(plane[0]), p.C)
        raise OptionError(
            f"{function}: indices has {ordered[plane[0], at[0]]} more than once in plane (n = {n}, c = {c}), expected "
            'different ones with duplicates = "error"'
        )


def _place(plan: Unpooling, x: np.ndarray, indices: np.ndarray, out: np.ndarray) -> bool:
    """Fill `out`; return whether all indices were in range."""
    p, merge = plan.planes, plan.merge
    element = _element(x.dtype, merge)
    if element is None:
        parts = [empty(out.shape, x.real.dtype) for _ in range(2)]
        good = [
            _place(plan, np.ascontiguousarray(part), indices, target)
            for part, target in zip((x.real, x.imag), parts, strict=True)
        ]
        out.real, out.imag = parts
        return all(good)
    moves = merge == "last"
    target = out if moves or out.dtype == element else empty(out.shape, element)
    bits = moved_as(x.dtype, 1)[0] if moves else 8 * element.itemsize + (element.kind == "i")
    program = load.load("unpool:build")(bits, p.total, math.prod(p.sizes), plan.size, p.lanes, merge)
    flags = np.zeros(program.tasks, np.int64)
    seconds = x.size * 1e-9 + moving_seconds(out.size, out.itemsize)
    execute(program, seconds, x if moves else x.astype(element, copy=False), indices, target, flags)
    if target is not out:
        # Float16 overflows to infinity, as its own arithmetic does.
        with np.errstate(all="ignore"):
            np.copyto(out, target, casting="unsafe")
    return not flags.any()


def _element(dtype: np.dtype, merge: str) -> np.dtype | None:
    """Return the type in which elements are moved or merged; None: real and imaginary parts are, one by one."""
    if merge == "last":
        return None if dtype.itemsize == 16 else dtype
    if dtype.kind == "c":
        return None
    return np.dtype(np.int64) if kind_of(dtype) == "i" else element_dtype(dtype)
