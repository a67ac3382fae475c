"""Filters along one axis, with SciPy's signatures."""

from __future__ import annotations

import numbers
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastconv.errors import OptionError, UnsupportedError
from fastconv.ndimage import on_device, others
from fastconv.ndimage.arguments import (
    as_array,
    axis_of,
    before_of,
    flipped_origin,
    padding_mode,
    real_number,
    target_of,
)
from fastconv.ndimage.correlation import in_parts
from fastconv.ndimage.errors import FilterError
from fastconv.ndimage.sums import Mean, Pass, averaged, passed

_ORIGIN = "Invalid origin; origin must satisfy -(len(weights) // 2) <= origin <= (len(weights)-1) // 2"


def correlate1d(
    input: ArrayLike,
    weights: ArrayLike,
    axis: int = -1,
    output: Any = None,
    mode: str = "reflect",
    cval: Any = 0.0,
    origin: int = 0,
) -> np.ndarray:
    """Correlate an array with weights along one axis, as `scipy.ndimage.correlate1d`.

    ``out[m] = sum over k of input[m + k - K//2 - origin] * conj(weights[k])``.

    Parameters
    ----------
    input : array_like of at least one dimension
    weights : array_like of shape (K,)
    axis : int
    output, mode, cval
        As in `correlate`.
    origin : int
        From ``-(K // 2)`` to ``(K - 1) // 2``.

    Returns
    -------
    ndarray of the shape of `input`

    Raises
    ------
    FastconvError
        As SciPy's errors, with their text.

    Notes
    -----
    ``2 * K`` FLOP an element. Dtypes and exactness are those of `correlate`.

    Examples
    --------
    >>> import fastconv as fc
    >>> fc.ndimage.correlate1d([2, 8, 0, 4, 1, 9, 9, 0], weights=[1, 3])
    array([ 8, 26,  8, 12,  7, 28, 36,  9])
    """
    w = as_array("correlate1d", weights, "weights")
    return _line("correlate1d", (input, weights, axis, output, mode, cval, origin), w, origin)


def convolve1d(
    input: ArrayLike,
    weights: ArrayLike,
    axis: int = -1,
    output: Any = None,
    mode: str = "reflect",
    cval: Any = 0.0,
    origin: int = 0,
) -> np.ndarray:
    """Convolve an array with weights along one axis, as `scipy.ndimage.convolve1d`: they are flipped.

    ``out[m] = sum over k of input[m - k + K//2 - origin] * weights[k]``. Parameters, results, errors and cost are those
    of `correlate1d`.

    Examples
    --------
    >>> import fastconv as fc
    >>> fc.ndimage.convolve1d([2, 8, 0, 4, 1, 9, 9, 0], weights=[1, 3])
    array([14, 24,  4, 13, 12, 36, 27,  0])
    """
    w = as_array("convolve1d", weights, "weights")[::-1]
    shift = flipped_origin(len(w), origin)
    return _line("convolve1d", (input, weights, axis, output, mode, cval, origin), w.conj(), shift)


def _line(name: str, call: Any, w: np.ndarray, origin: Any) -> np.ndarray:
    if on_device.is_there(call[0]):
        passes_of = partial(_passes, w=w, axis=call[2], mode=call[4], origin=origin)
        return on_device.passed(name, call[0], call[3], call[5], passes_of)
    x, (axis, output, mode, cval) = as_array(name, call[0]), call[2:6]
    if others.is_foreign(x.dtype):
        return np.asarray(others.ask_scipy(name, *call))
    w = w.conj().astype(np.complex128, copy=False) if w.dtype.kind == "c" else w.astype(np.float64, copy=False)
    is_complex = "c" in (x.dtype.kind, w.dtype.kind)
    target = target_of(output, x, is_complex)
    if others.is_foreign(target.dtype, is_complex):
        return np.asarray(others.ask_scipy(name, *call))
    if w.ndim != 1 or w.shape[0] < 1:
        raise FilterError("no filter weights given")
    along = axis_of(axis, x.ndim)
    before = before_of(len(w), origin, _ORIGIN)
    outside = padding_mode(mode)

    def real_sums(a: np.ndarray, kernel: np.ndarray, dtype: np.dtype, fill: Any) -> np.ndarray:
        one = Pass(along, np.ascontiguousarray(kernel), before, outside, real_number(fill))
        return passed(name, a, dtype, [one]) if a.size else np.zeros(a.shape, dtype)

    target.check_writable()
    return in_parts(real_sums, x, w, target, cval)


def _passes(ndim: int, w: np.ndarray, axis: Any, mode: Any, origin: Any) -> list[Pass]:
    """Return the pass along an axis of an array of so many dimensions, on a device."""
    if w.ndim != 1 or w.shape[0] < 1:
        raise FilterError("no filter weights given")
    if w.dtype.kind == "c":
        raise UnsupportedError(f"weights of dtype {w.dtype} on a CUDA device, expected real numbers")
    return [Pass(axis_of(axis, ndim), w, before_of(len(w), origin, _ORIGIN), padding_mode(mode), 0.0)]


def gaussian_filter1d(
    input: ArrayLike,
    sigma: float,
    axis: int = -1,
    order: int = 0,
    output: Any = None,
    mode: str = "reflect",
    cval: Any = 0.0,
    truncate: float = 4.0,
    *,
    radius: int | None = None,
) -> np.ndarray:
    """Smooth an array along one axis by a Gaussian or one of its derivatives, as `scipy.ndimage.gaussian_filter1d`.

    Parameters
    ----------
    input, axis, output, mode, cval
        As in `correlate1d`.
    sigma, order, truncate, radius
        As in `gaussian_filter`, one of each.

    Returns
    -------
    ndarray of the shape of `input`

    Raises
    ------
    FastconvError
        As SciPy's errors, with their text.

    Examples
    --------
    >>> import fastconv as fc
    >>> fc.ndimage.gaussian_filter1d([1.0, 2.0, 3.0, 4.0, 5.0], 1)
    array([1.42704095, 2.06782203, 3.        , 3.93217797, 4.57295905])
    """
    w = gaussian_weights(sigma, order, truncate, radius)
    x = input if on_device.is_there(input) else as_array("gaussian_filter1d", input)
    return _line("correlate1d", (x, w, axis, output, mode, cval, 0), w, 0)


def gaussian_weights(sigma: Any, order: Any, truncate: Any, radius: Any) -> np.ndarray:
    """Return the sampled Gaussian or its derivative as weights of a correlation; of the first operations of SciPy."""
    reach = int(truncate * float(sigma) + 0.5) if radius is None else radius
    if not isinstance(reach, numbers.Integral) or reach < 0:
        raise OptionError("Radius must be a nonnegative integer.")
    if order < 0:
        raise OptionError("order must be non-negative")
    variance = sigma * sigma
    x = np.arange(-int(reach), int(reach) + 1)
    density = np.exp(-0.5 / variance * x**2)
    density = density / density.sum()
    if order == 0:
        return density[::-1]
    # The derivative of q(x) * exp(p(x)) is (q' + q * p') * exp(p): a matrix on the coefficients of q.
    exponents = np.arange(order + 1)
    step = np.diag(exponents[1:], 1) + np.diag(np.ones(order) / -variance, -1)
    q = np.zeros(order + 1)
    q[0] = 1
    for _ in range(order):
        q = step.dot(q)
    return ((x[:, None] ** exponents).dot(q) * density)[::-1]


def uniform_filter1d(
    input: ArrayLike,
    size: int,
    axis: int = -1,
    output: Any = None,
    mode: str = "reflect",
    cval: Any = 0.0,
    origin: int = 0,
) -> np.ndarray:
    """Average an array along one axis over windows, as `scipy.ndimage.uniform_filter1d`.

    Parameters
    ----------
    input, axis, output, mode, cval
        As in `correlate1d`.
    size : int
        Of the window.
    origin : int
        From ``-(size // 2)`` to ``(size - 1) // 2``.

    Returns
    -------
    ndarray of the shape of `input`

    Raises
    ------
    FastconvError
        As SciPy's errors, with their text.

    Examples
    --------
    >>> import fastconv as fc
    >>> fc.ndimage.uniform_filter1d([2, 8, 0, 4, 1, 9, 9, 0], size=3)
    array([4, 3, 4, 1, 4, 6, 6, 3])
    """
    return _uniform_line((input, size, axis, output, mode, cval, origin))


def _uniform_line(call: Any) -> np.ndarray:
    input, size, axis, output, mode, cval, origin = call
    if on_device.is_there(input):
        means_of = partial(_means, size=size, axis=axis, mode=mode, origin=origin)
        return on_device.passed("uniform_filter1d", input, output, cval, means_of)
    x = as_array("uniform_filter1d", input)
    if others.is_foreign(x.dtype):
        return np.asarray(others.ask_scipy("uniform_filter1d", *call))
    along = axis_of(axis, x.ndim)
    if size < 1:
        raise FilterError("incorrect filter size")
    is_complex = x.dtype.kind == "c"
    target = target_of(output, x, is_complex)
    if others.is_foreign(target.dtype, is_complex):
        return np.asarray(others.ask_scipy("uniform_filter1d", *call))
    before, outside = before_of(size, origin, "invalid origin"), padding_mode(mode)

    def means(a: np.ndarray, _: np.ndarray, dtype: np.dtype, fill: Any) -> np.ndarray:
        one = Mean(along, size, before, outside, real_number(fill))
        return averaged("uniform_filter1d", a, dtype, [one]) if a.size else np.zeros(a.shape, dtype)

    target.check_writable()
    return in_parts(means, x, np.zeros(0), target, cval)


def _means(ndim: int, size: Any, axis: Any, mode: Any, origin: Any) -> list[Mean]:
    """Return the mean along an axis of an array of so many dimensions, on a device."""
    if size < 1:
        raise FilterError("incorrect filter size")
    return [Mean(axis_of(axis, ndim), size, before_of(size, origin, "invalid origin"), padding_mode(mode), 0.0)]
