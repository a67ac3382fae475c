"""Public interpolation: arrays of other sizes."""

from __future__ import annotations

from functools import reduce
from typing import Any, NamedTuple

import numpy as np

from fastconv.api import resizing_on_device
from fastconv.api.moving import array_input, execute, filled, form_of, moved_as, remembered, rounded
from fastconv.dispatch.resampling import Problem, program
from fastconv.geometry.arrays import element_dtype, kind_of
from fastconv.geometry.planes import planes
from fastconv.geometry.resize import Resize, resize
from fastconv.geometry.taps import area
from fastconv.system import cast, empty


def interpolate(
    input: Any,
    size: int | tuple[int, ...] | None = None,
    scale_factor: float | tuple[float, ...] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
    *,
    layout: str = "channels_first",
    device: str = "auto",
    out: Any = None,
) -> np.ndarray:
    """Resize series, images or volumes, as `torch.nn.functional.interpolate`.

    Along each axis ``out[o] = sum over i of weight(position(o) - i) * input[i]``, where position(o) is
    ``(o + 0.5) / scale - 0.5``, or ``o * (n - 1) / (out - 1)`` with `align_corners`; inputs beyond the ends are those
    at the ends.

    Parameters
    ----------
    input : array_like of shape (N, C, *S), S of one to three axes
        Channels last (N, *S, C). Without a batch: ``input[None]``.
    size : int or tuple of int, optional
        Output size of all axes, or of each. Either this or `scale_factor`.
    scale_factor : float or tuple of float, optional
        Output sizes are ``floor(n * scale_factor)``; positions follow the factor as it is given.
    mode : str
        "nearest" (``input[floor(o / scale)]``), "nearest-exact" (``input[floor((o + 0.5) / scale)]``), "linear" for one
        axis, "bilinear" for two, "trilinear" for three, "bicubic" for two (a = -0.75), or "area" (the average of the
        inputs under an output: adaptive average pooling).
    align_corners : bool, optional
        The centres of the first and last elements stay in place. For linear and cubic modes; by default False.
    recompute_scale_factor : bool, optional
        Take the scale from the input and output sizes instead of `scale_factor`; "area" always does.
    antialias : bool
        Stretch the kernel where an axis shrinks, so that every input counts, as Pillow does. For "bilinear" and
        "bicubic" (then a = -0.5).
    layout : {"channels_first", "channels_last"}
    device : {"auto", "cpu", "cuda"}
    out : ndarray of the shape and dtype of the result, optional
        Written in place and returned; it may overlap `input`.

    Returns
    -------
    ndarray of shape (N, C, *size) and the dtype of `input`

    Raises
    ------
    ShapeError, OptionError, ArgumentTypeError, DtypeError, UnsupportedError
        Bad sizes; bad keyword values; wrong types; a device that is not there.

    Notes
    -----
    Nearest modes move elements of any dtype, and take the very element that PyTorch takes. Others compute in float32 or
    float64, half precision in float32, rounded once; PyTorch rounds its weights to half precision, too. uint8 in
    "bilinear" and "bicubic" has PyTorch's and Pillow's weights of 15 bits and results. Other integers, which PyTorch
    refuses, are computed in float64, rounded to the nearest and clipped, but averages are truncated towards zero, as
    those of pools. With `antialias` or uint8, and one column, PyTorch 2.13 sums elements of other rows; here it is as
    with more columns. Cost of bilinear: 2 multiplications an output, and 2 for each pixel of a row of the input that is
    resized along W. Scratch: some rows, about 256 kB a thread.

    References
    ----------
    R. G. Keys, Cubic convolution interpolation for digital image processing, 1981, doi:10.1109/TASSP.1981.1163711;
    Pillow, Resample.c (fixed point and antialiasing)

    Examples
    --------
    >>> import fastconv as fc
    >>> fc.interpolate([[[1.0, 2.0]]], scale_factor=2)
    array([[[1., 1., 2., 2.]]])
    >>> fc.interpolate([[[1.0, 2.0]]], 4, mode="linear")
    array([[[1.  , 1.25, 1.75, 2.  ]]])
    """
    name = "interpolate"
    x = array_input(name, input, device)
    sizes = (size, scale_factor, recompute_scale_factor)
    found = plan(*form_of(x), layout, sizes, mode, align_corners, antialias)
    if type(x) is not np.ndarray:
        return resizing_on_device.interpolated(x, out, found.shape, found.problem.resize, layout)
    return filled(name, out, found.shape, x.dtype, (x,), lambda target: _interpolate(found, x, target))


class _Interpolation(NamedTuple):
    """What to do with an array of some shape and dtype; `element` is the type in which it is summed, if it is."""

    shape: tuple[int, ...]
    element: np.dtype
    problem: Problem
    layout: str


@remembered
def plan(
    shape: tuple[int, ...],
    dtype: np.dtype,
    layout: str,
    sizes: tuple[Any, Any, Any],
    mode: str,
    align_corners: Any,
    antialias: Any,
) -> _Interpolation:
    """Return what to do, or raise what is wrong with the arguments."""
    name = "interpolate"
    axes = min(max(len(shape) - 2, 1), 3)
    p = planes(name, shape, layout, axes, batched_only=True)
    how = resize(name, p, *sizes, mode, align_corners, antialias)
    element = _element(how, dtype)
    bits, lanes = moved_as(dtype, p.lanes)
    if not mode.startswith("nearest"):
        # Real and imaginary parts are lanes of their own.
        bits, lanes = 0, p.lanes * (2 if dtype.kind == "c" else 1)
    out_shape = p.resized(name, tuple(axis.out for axis in how.axes))
    return _Interpolation(out_shape, element, Problem(how, p.total, lanes, element.name, bits), layout)


def _element(how: Resize, dtype: np.dtype) -> np.dtype:
    """Return the type in which numbers of a dtype are summed, or for nearest modes that of coordinates."""
    if how.mode.startswith("nearest"):
        return np.dtype(np.float64 if dtype in (np.float64, np.complex128) else np.float32)
    if kind_of(dtype) != "i":
        return element_dtype(dtype)
    if how.mode == "area":
        return np.dtype(np.int64)
    fixed = dtype == np.uint8 and how.mode in ("bilinear", "bicubic")
    return np.dtype(np.int32 if fixed else np.float64)


def _interpolate(plan: _Interpolation, x: np.ndarray, out: np.ndarray) -> None:
    """Fill `out`, which is C-contiguous and not empty."""
    element = plan.element
    # Kernels take these as they are: moved, complex, uint8 with weights of 15 bits, floats.
    direct = plan.problem.bits or x.dtype.kind == "c" or element == np.int32
    if direct or (x.dtype == element and element.kind == "f"):
        execute(*program(plan.problem), x, out)
        return
    target = empty(out.shape, element)
    execute(*program(plan.problem), cast(x, element), target)
    if element == np.int64:
        np.copyto(out, _averages(plan, target), casting="unsafe")
    else:
        rounded(target, out)


def _averages(plan: _Interpolation, sums: np.ndarray) -> np.ndarray:
    """Return sums of integers divided by how many inputs they have, truncated toward zero."""
    counts = [np.diff(area(axis, np.int64, divided=False).start) for axis in plan.problem.resize.axes]
    divisor = reduce(np.multiply.outer, counts)
    divisor = divisor if plan.layout == "channels_first" else divisor[..., None]
    return sums // divisor + ((sums < 0) & (sums % divisor != 0))
