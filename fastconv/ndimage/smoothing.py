"""Gaussian and uniform filters over several axes, with SciPy's signatures."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastconv.ndimage import on_device, others
from fastconv.ndimage.arguments import (
    as_array,
    axes_of,
    before_of,
    check_complex,
    padding_mode,
    real_number,
    sequence_of,
    target_of,
)
from fastconv.ndimage.correlation import in_parts
from fastconv.ndimage.lines import gaussian_weights
from fastconv.ndimage.sums import Mean, Pass, averaged, passed


def gaussian_filter(
    input: ArrayLike,
    sigma: Any,
    order: Any = 0,
    output: Any = None,
    mode: Any = "reflect",
    cval: Any = 0.0,
    truncate: float = 4.0,
    *,
    radius: Any = None,
    axes: Any = None,
) -> np.ndarray:
    """Smooth an array by a Gaussian or one of its derivatives, as `scipy.ndimage.gaussian_filter`.

    One pass along each axis with the weights ``exp(-k**2 / (2 * sigma**2))``, ``-radius <= k <= radius``, divided by
    their sum.

    Parameters
    ----------
    input : array_like of any shape
        bool, integers of up to 64 bits, float32, float64, complex64 or complex128.
    sigma : scalar or sequence of scalars
        Standard deviation, for all axes or each; along axes where it is 0 nothing is done.
    order : int or sequence of int
        Which derivative of the Gaussian, with 0 itself.
    output, cval
        As in `correlate`.
    mode : str or sequence of str
        As in `correlate`, for all axes or each.
    truncate : float
        The radius is ``int(truncate * sigma + 0.5)``.
    radius : int or sequence of int, optional
        The radius instead.
    axes : int or sequence of int, optional
        Axes to filter; all if None. Sequences have one item for each.

    Returns
    -------
    ndarray of the shape of `input`
        Integer results are truncated after each pass, and have the bits of SciPy's.

    Raises
    ------
    FastconvError
        As SciPy's errors, with their text.

    Notes
    -----
    ``2 * (2 * radius + 1)`` FLOP an element and axis. The passes along the last two axes of large float32 and float64
    arrays are one, by blocks that stay in cache.

    Examples
    --------
    >>> import fastconv as fc
    >>> fc.ndimage.gaussian_filter([0, 0, 80, 0, 0], sigma=1)
    array([ 4, 19, 31, 19,  4])
    """
    passes_of = partial(gaussian_passes, axes=axes, settings=(order, sigma, mode, radius), truncate=truncate)
    if on_device.is_there(input):
        return on_device.passed("gaussian_filter", input, output, cval, passes_of)
    x = as_array("gaussian_filter", input)
    call = (input, sigma, order, output, mode, cval, truncate)
    if others.is_foreign(x.dtype):
        return np.asarray(others.ask_scipy("gaussian_filter", *call, radius=radius, axes=axes))
    target = target_of(output, x)
    if others.is_foreign(target.dtype, x.dtype.kind == "c"):
        return np.asarray(others.ask_scipy("gaussian_filter", *call, radius=radius, axes=axes))
    passes = passes_of(x.ndim)
    return filtered("gaussian_filter", x, target, cval, passes, passed)


def gaussian_passes(ndim: int, axes: Any, settings: tuple[Any, ...], truncate: Any) -> list[Pass]:
    """Return the passes of order, sigma, mode and radius over an array of so many dimensions."""
    along = axes_of(axes, ndim)
    orders, sigmas, modes, radii = (sequence_of(value, len(along)) for value in settings)
    items = [item for item in zip(along, sigmas, orders, modes, radii, strict=True) if item[1] > 1e-15]
    passes = []
    for axis, deviation, derivative, outside, reach in items:
        weights = gaussian_weights(deviation, derivative, truncate, reach)
        passes.append(Pass(axis, np.ascontiguousarray(weights), len(weights) // 2, padding_mode(outside), 0.0))
    return passes


def uniform_filter(
    input: ArrayLike,
    size: Any = 3,
    output: Any = None,
    mode: Any = "reflect",
    cval: Any = 0.0,
    origin: Any = 0,
    *,
    axes: Any = None,
) -> np.ndarray:
    """Average an array over windows, as `scipy.ndimage.uniform_filter`.

    Parameters
    ----------
    input : array_like of any shape
        bool, integers of up to 64 bits, float32, float64, complex64 or complex128.
    size : int or sequence of int
        Of the window, for all axes or each.
    output, cval
        As in `correlate`.
    mode : str or sequence of str
        As in `correlate`, for all axes or each.
    origin : int or sequence of int
        How far the window is shifted: positive to the left.
    axes : int or sequence of int, optional
        Axes to filter; all if None. Sequences have one item for each.

    Returns
    -------
    ndarray of the shape of `input`
        Integer results are truncated after each pass, and have the bits of SciPy's.

    Raises
    ------
    FastconvError
        As SciPy's errors, with their text.

    Notes
    -----
    Cost of large windows: that of running sums, which does not grow with them. NaN and infinities spread along the axis
    as in SciPy, whose running sums never get rid of them.

    Examples
    --------
    >>> import fastconv as fc
    >>> fc.ndimage.uniform_filter([[0, 9], [0, 0], [9, 9]], size=3)
    array([[2, 4],
           [4, 5],
           [6, 6]])
    """
    means_of = partial(mean_passes, axes=axes, size=size, origin=origin, mode=mode)
    if on_device.is_there(input):
        return on_device.passed("uniform_filter", input, output, cval, means_of)
    x = as_array("uniform_filter", input)
    call = (input, size, output, mode, cval, origin)
    if others.is_foreign(x.dtype):
        return np.asarray(others.ask_scipy("uniform_filter", *call, axes=axes))
    is_complex = x.dtype.kind == "c"
    target = target_of(output, x, is_complex)
    if others.is_foreign(target.dtype, is_complex):
        return np.asarray(others.ask_scipy("uniform_filter", *call, axes=axes))
    return filtered("uniform_filter", x, target, cval, means_of(x.ndim), averaged)


def mean_passes(ndim: int, axes: Any, size: Any, origin: Any, mode: Any) -> list[Mean]:
    """Return the running means over an array of so many dimensions."""
    along = axes_of(axes, ndim)
    sizes, origins, modes = (sequence_of(value, len(along)) for value in (size, origin, mode))
    items = [item for item in zip(along, sizes, origins, modes, strict=True) if item[1] > 1]
    means = []
    for axis, length, shift, outside in items:
        before = before_of(int(length), shift, "invalid origin")
        means.append(Mean(axis, int(length), before, padding_mode(outside), 0.0))
    return means


def filtered(name: str, x: np.ndarray, target: Any, cval: Any, passes: Any, run: Any) -> np.ndarray:
    """Return an array after passes along its axes, or its copy if there are none."""
    if not passes:
        return target.copied(x)
    check_complex(target.dtype, x.dtype.kind == "c")

    def real_passes(a: np.ndarray, _: np.ndarray, dtype: np.dtype, fill: Any) -> np.ndarray:
        value = real_number(fill)
        if not a.size:
            return np.zeros(a.shape, dtype)
        return run(name, a, dtype, [p._replace(cval=value) for p in passes])

    target.check_writable()
    return in_parts(real_passes, x, np.zeros(0), target, cval)
