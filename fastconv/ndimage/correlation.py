"""Correlation and convolution with a kernel of any number of dimensions, with SciPy's signatures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastconv.errors import OptionError
from fastconv.ndimage import on_device, others
from fastconv.ndimage.arguments import (
    Target,
    as_array,
    axes_of,
    before_of,
    check_complex,
    expanded,
    flipped_origin,
    is_sequence,
    padding_mode,
    real_number,
    sequence_of,
    target_of,
)
from fastconv.ndimage.errors import FilterError, FilterShapeError
from fastconv.ndimage.sums import correlated
from fastconv.system import empty

_ORIGIN = "Invalid origin; origin must satisfy -(weights.shape[k] // 2) <= origin[k] <= (weights.shape[k]-1) // 2"


def correlate(
    input: ArrayLike,
    weights: ArrayLike,
    output: Any = None,
    mode: str = "reflect",
    cval: Any = 0.0,
    origin: Any = 0,
    *,
    axes: Any = None,
) -> np.ndarray:
    """Correlate an array with a kernel, as `scipy.ndimage.correlate`.

    ``out[m] = sum over k of input[m + k - K//2 - origin] * conj(weights[k])`` along every axis.

    Parameters
    ----------
    input : array_like of any shape
        bool, integers of up to 64 bits, float32, float64, complex64 or complex128. If it is on a CUDA device, so is the
        result; there are real numbers there, floats are summed in their own type, and weights that count as 0 make NaN
        of infinities.
    weights : array_like of as many dimensions as there are axes to filter
        Used as float64; those below 2.2e-16 count as 0.
    output : ndarray of the shape of `input`, or dtype, optional
        Where the result goes, which may be `input`, or its dtype; else that of `input`.
    mode : {"reflect", "constant", "nearest", "mirror", "wrap", "grid-mirror", "grid-constant", "grid-wrap"}
        What the array is outside: mirrored with the edge repeated, `cval`, the edge, mirrored at the edge, periodic.
    cval : scalar
    origin : int or sequence of int
        How far the kernel is shifted: positive to the left.
    axes : int or sequence of int, optional
        Axes to filter; all if None.

    Returns
    -------
    ndarray of the shape of `input`
        Integer results are those of double precision, truncated; they have the bits of SciPy's.

    Raises
    ------
    FastconvError
        As SciPy's ValueError, RuntimeError and TypeError, with its text; also an `OptionError` or `ShapeError`.

    Notes
    -----
    Large float32 and float64 images run on the kernels of `fastconv.conv2d`, in their own precision, with all of their
    ways to save work (outer products, FFTs of blocks); if a result is not finite, all are summed as SciPy does. Other
    arrays are summed in double precision in SciPy's order.

    Examples
    --------
    >>> import fastconv as fc
    >>> fc.ndimage.correlate([[1, 2], [3, 4]], [[1, 10]], mode="constant")
    array([[10, 21],
           [30, 43]])
    """
    return _filtered("correlate", input, weights, output, mode, cval, origin, axes)


def convolve(
    input: ArrayLike,
    weights: ArrayLike,
    output: Any = None,
    mode: str = "reflect",
    cval: Any = 0.0,
    origin: Any = 0,
    *,
    axes: Any = None,
) -> np.ndarray:
    """Convolve an array with a kernel, as `scipy.ndimage.convolve`: the kernel is flipped.

    ``out[m] = sum over k of input[m - k + K//2 - origin] * weights[k]`` along every axis. Parameters, results, errors
    and cost are those of `correlate`.

    Examples
    --------
    >>> import fastconv as fc
    >>> fc.ndimage.convolve([[1, 2], [3, 4]], [[1, 10]], mode="constant")
    array([[12, 20],
           [34, 40]])
    """
    return _filtered("convolve", input, weights, output, mode, cval, origin, axes)


def _filtered(
    name: str, input: Any, weights: Any, output: Any, mode: Any, cval: Any, origin: Any, axes: Any
) -> np.ndarray:
    if on_device.is_there(input):
        kernel_of = partial(kernel_over_all_axes, origin=origin, axes=axes, flips=name == "convolve")
        return on_device.correlation(name, (input, weights), output, mode, cval, kernel_of)
    x, w = as_array(name, input), as_array(name, weights, "weights")
    call = (name, input, weights, output, mode, cval, origin)
    if others.is_foreign(x.dtype):
        return np.asarray(others.ask_scipy(*call, axes=axes))
    is_complex = "c" in (x.dtype.kind, w.dtype.kind)
    early = target_of(output, x, True) if is_complex else None
    if w.dtype.kind == "c" and name == "correlate":
        w = w.conj()
    w = w.astype(np.complex128 if w.dtype.kind == "c" else np.float64, copy=False)
    w, befores = kernel_over_all_axes(x.ndim, w, origin, axes, name == "convolve")
    target = target_of(output, x) if early is None else early
    if others.is_foreign(target.dtype, is_complex):
        return np.asarray(others.ask_scipy(*call, axes=axes))
    if is_sequence(mode):
        raise FilterError("A sequence of modes is not supported")
    outside = padding_mode(mode)

    def real_sums(a: np.ndarray, kernel: np.ndarray, dtype: np.dtype, fill: Any) -> np.ndarray:
        value = real_number(fill)
        return correlated(name, a, dtype, kernel, befores, outside, value) if a.size else np.zeros(a.shape, dtype)

    target.check_writable()
    return in_parts(real_sums, x, w, target, cval)


def kernel_over_all_axes(ndim: int, w: np.ndarray, origin: Any, axes: Any, flips: bool) -> tuple[np.ndarray, list[int]]:
    """Return the kernel with as many axes as the array, and how many of its elements stand before the result."""
    along = axes_of(axes, ndim)
    w, origins = over_all_axes(ndim, along, w, "weights", origin)
    if flips:
        w = w[(slice(None, None, -1),) * ndim]
        origins = [flipped_origin(size, shift) for size, shift in zip(w.shape, origins, strict=True)]
    return w, [before_of(size, shift, _ORIGIN) for size, shift in zip(w.shape, origins, strict=True)]


def over_all_axes(
    ndim: int, axes: Sequence[int], kernel: np.ndarray, name: str, origin: Any
) -> tuple[np.ndarray, list[Any]]:
    """Return a kernel and its origins for all axes of the array, of which it may have only `axes`."""
    if len(axes) < ndim and kernel.ndim != len(axes):
        raise FilterShapeError(f"{name}.ndim ({kernel.ndim}) must match len(axes) ({len(axes)})")
    origins = sequence_of(origin, len(axes))
    if len(axes) < ndim:
        kernel = np.expand_dims(kernel, tuple(axis for axis in range(ndim) if axis not in axes))
        origins = expanded(origins, axes, ndim, 0)
    sizes = [size for size in kernel.shape if size > 0]
    if len(sizes) != ndim:
        raise FilterShapeError(f"{name}.ndim ({len(sizes)}) must match len(axes) ({len(axes)})")
    return kernel, origins


def in_parts(
    real_sums: Callable[[np.ndarray, np.ndarray, np.dtype, Any], np.ndarray],
    x: np.ndarray,
    w: np.ndarray,
    target: Target,
    cval: Any,
) -> np.ndarray:
    """Return `real_sums(x, weights, dtype, cval)`, of complex numbers those of their parts put together."""
    if x.dtype.kind != "c" and w.dtype.kind != "c":
        return target.filled(real_sums(x, w, target.native, cval))
    check_complex(target.dtype, True)
    out = empty(x.shape, target.native)
    part = out.real.dtype
    if x.dtype.kind != "c":
        if np.iscomplexobj(cval):
            raise OptionError("Cannot provide a complex-valued cval when the input is real.")
        out.real, out.imag = (real_sums(x, kernel, part, cval) for kernel in (w.real, w.imag))
        return target.filled(out)
    fills = np.real(cval), np.imag(cval)
    if w.dtype.kind != "c":
        out.real, out.imag = (real_sums(a, w, part, fill) for a, fill in zip((x.real, x.imag), fills, strict=True))
        return target.filled(out)
    # What is infinite in both parts has no difference, as in SciPy.
    with np.errstate(all="ignore"):
        out.real = real_sums(x.real, w.real, part, fills[0])
        out.real -= real_sums(x.imag, w.imag, x.imag.dtype, fills[1])
        out.imag = real_sums(x.real, w.imag, part, fills[0])
        out.imag += real_sums(x.imag, w.real, x.imag.dtype, fills[1])
    return target.filled(out)
