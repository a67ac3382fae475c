"""Sobel, Prewitt and Laplace filters, with SciPy's signatures."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastconv.ndimage import on_device, others
from fastconv.ndimage.arguments import (
    Target,
    as_array,
    axes_of,
    axis_of,
    check_complex,
    padding_mode,
    real_number,
    sequence_of,
    target_of,
)
from fastconv.ndimage.correlation import in_parts
from fastconv.ndimage.smoothing import filtered
from fastconv.ndimage.sums import Pass, passed, summed


def sobel(input: ArrayLike, axis: int = -1, output: Any = None, mode: Any = "reflect", cval: Any = 0.0) -> np.ndarray:
    """Return Sobel's derivative along one axis, as `scipy.ndimage.sobel`.

    A correlation with (-1, 0, 1) along `axis`, and with (1, 2, 1) along every other.

    Parameters
    ----------
    input : array_like of at least one dimension
        bool, integers of up to 64 bits, float32, float64, complex64 or complex128.
    axis : int
    output, cval
        As in `correlate`.
    mode : str or sequence of str
        As in `correlate`, for all axes or each.

    Returns
    -------
    ndarray of the shape of `input`
        Of unsigned integers negative derivatives wrap, as in SciPy: give a signed `output`.

    Raises
    ------
    FastconvError
        As SciPy's errors, with their text.

    Notes
    -----
    One pass along each axis; those along the last two axes of large float32 and float64 arrays are one.

    Examples
    --------
    >>> import fastconv as fc
    >>> fc.ndimage.sobel([[1, 2, 4], [1, 2, 4], [1, 2, 4]])
    array([[ 4, 12,  8],
           [ 4, 12,  8],
           [ 4, 12,  8]])
    """
    return _derivative("sobel", (input, axis, output, mode, cval), (1.0, 2.0, 1.0))


def prewitt(input: ArrayLike, axis: int = -1, output: Any = None, mode: Any = "reflect", cval: Any = 0.0) -> np.ndarray:
    """Return Prewitt's derivative along one axis, as `scipy.ndimage.prewitt`.

    A correlation with (-1, 0, 1) along `axis`, and with (1, 1, 1) along every other. Parameters, results, errors and
    cost are those of `sobel`.

    Examples
    --------
    >>> import fastconv as fc
    >>> fc.ndimage.prewitt([[1, 2, 4], [1, 2, 4], [1, 2, 4]])
    array([[3, 9, 6],
           [3, 9, 6],
           [3, 9, 6]])
    """
    return _derivative("prewitt", (input, axis, output, mode, cval), (1.0, 1.0, 1.0))


def _derivative(name: str, call: Any, smooth: Sequence[float]) -> np.ndarray:
    input, axis, output, mode, cval = call
    passes_of = partial(_passes, axis=axis, mode=mode, smooth=smooth)
    if on_device.is_there(input):
        return on_device.passed(name, input, output, cval, passes_of, whole=True)
    x = as_array(name, input)
    if others.is_foreign(x.dtype):
        return np.asarray(others.ask_scipy(name, *call))
    axis_of(axis, x.ndim)
    target = target_of(output, x)
    if others.is_foreign(target.dtype, x.dtype.kind == "c"):
        return np.asarray(others.ask_scipy(name, *call))
    return filtered(name, x, target, cval, passes_of(x.ndim), passed)


def _passes(ndim: int, axis: Any, mode: Any, smooth: Sequence[float]) -> list[Pass]:
    """Return the passes of a derivative along `axis` over an array of so many dimensions."""
    along, modes = axis_of(axis, ndim), sequence_of(mode, ndim)
    order = [along, *(other for other in range(ndim) if other != along)]
    passes = []
    for other in order:
        weights = np.array((-1.0, 0.0, 1.0) if other == along else smooth)
        passes.append(Pass(other, weights, 1, padding_mode(modes[other]), 0.0))
    return passes


def laplace(
    input: ArrayLike, output: Any = None, mode: Any = "reflect", cval: Any = 0.0, *, axes: Any = None
) -> np.ndarray:
    """Return the sum of second differences, as `scipy.ndimage.laplace`.

    The sum over the axes of the correlations with (1, -2, 1).

    Parameters
    ----------
    input : array_like of any shape
        bool, integers of up to 64 bits, float32, float64, complex64 or complex128.
    output, cval
        As in `correlate`.
    mode : str or sequence of str
        As in `correlate`, for all axes or each.
    axes : int or sequence of int, optional
        Axes to filter; all if None.

    Returns
    -------
    ndarray of the shape of `input`

    Raises
    ------
    FastconvError
        As SciPy's errors, with their text.

    Notes
    -----
    Large float32 and float64 arrays of up to three dimensions are correlated once, with the sum of the kernels.

    Examples
    --------
    >>> import fastconv as fc
    >>> fc.ndimage.laplace([[0, 0, 0], [0, 1, 0], [0, 0, 0]])
    array([[ 0,  1,  0],
           [ 1, -4,  1],
           [ 0,  1,  0]])
    """
    if on_device.is_there(input):
        return on_device.summed("laplace", input, output, cval, partial(_differences, axes=axes, mode=mode))
    x = as_array("laplace", input)
    if others.is_foreign(x.dtype):
        return np.asarray(others.ask_scipy("laplace", input, output, mode, cval, axes=axes))
    target = target_of(output, x)
    if others.is_foreign(target.dtype, x.dtype.kind == "c"):
        return np.asarray(others.ask_scipy("laplace", input, output, mode, cval, axes=axes))
    return _laplace(x, target, axes, mode, cval) if axes_of(axes, x.ndim) else target.copied(x)


def _laplace(x: np.ndarray, target: Target, axes: Any, mode: Any, cval: Any) -> np.ndarray:
    passes = _differences(x.ndim, axes, mode)
    check_complex(target.dtype, x.dtype.kind == "c")

    def differences(a: np.ndarray, _: np.ndarray, dtype: np.dtype, fill: Any) -> np.ndarray:
        value = real_number(fill)
        there = [p._replace(cval=value) for p in passes]
        return summed("laplace", a, dtype, there) if a.size else np.zeros(a.shape, dtype)

    target.check_writable()
    return in_parts(differences, x, np.zeros(0), target, cval)


def _differences(ndim: int, axes: Any, mode: Any) -> list[Pass]:
    """Return the second differences over an array of so many dimensions."""
    along = axes_of(axes, ndim)
    modes = [padding_mode(outside) for outside in sequence_of(mode, len(along))]
    weights = np.array((1.0, -2.0, 1.0))
    return [Pass(axis, weights, 1, outside, 0.0) for axis, outside in zip(along, modes, strict=True)]
