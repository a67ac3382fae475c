"""Two-dimensional correlation, convolution and separable filters, with SciPy's signatures."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastconv.api.convolve import Options, convolve
from fastconv.errors import DtypeError, OptionError, ShapeError
from fastconv.geometry.arrays import as_ndarray
from fastconv.signal import on_device
from fastconv.signal.modes import check_mode, must_swap, padding_mode, pads_of
from fastconv.signal.others import ask_scipy, both, is_foreign
from fastconv.signal.sums import sums_of_products


def correlate2d(
    in1: ArrayLike, in2: ArrayLike, mode: str = "full", boundary: str = "fill", fillvalue: Any = 0
) -> np.ndarray:
    """Cross-correlate two images, as `scipy.signal.correlate2d`.

    ``out[m, n] = sum over i, j of in1[m + i - PT, n + j - PL] * conj(in2[i, j])``.

    Parameters
    ----------
    in1, in2 : array_like of shapes (H, W) and (KH, KW)
        Integers of up to 64 bits, float32, float64, complex64 or complex128; longdouble is left to SciPy. If one is on
        a CUDA device, so is the result; there are no uint64 and no complex numbers there.
    mode : {"full", "valid", "same"}
        Shape of the result: (H + KH - 1, W + KW - 1); (H - KH + 1, W - KW + 1), or with H and KH, W and KW swapped
        where in2 is the larger one; (H, W).
    boundary : {"fill", "wrap", "symm"}
        What in1 is outside: `fillvalue`; periodic; mirrored with the edge repeated. "pad", "circular" and "symmetric"
        mean the same.
    fillvalue : scalar

    Returns
    -------
    ndarray
        Of the promoted dtype; integers wrap.

    Raises
    ------
    ShapeError, OptionError
        As SciPy's ValueError, with its text.

    Notes
    -----
    Cost: ``2 * KH * KW`` FLOP for each output; ``2 * (KH + KW)`` if in2 is an outer product; of large kernels that of
    FFTs in double precision, where they are as exact: see `fastconv.signal`.

    Examples
    --------
    >>> import fastconv as fc
    >>> fc.signal.correlate2d([[1, 2], [3, 4]], [[1, 10]], mode="same")
    array([[21,  2],
           [43,  4]])
    """
    return _two_d("correlate2d", in1, in2, mode, boundary, fillvalue)


def convolve2d(
    in1: ArrayLike, in2: ArrayLike, mode: str = "full", boundary: str = "fill", fillvalue: Any = 0
) -> np.ndarray:
    """Convolve two images, as `scipy.signal.convolve2d`: the kernel is flipped.

    ``out[m, n] = sum over i, j of in1[m - i + KH - 1 - PT, n - j + KW - 1 - PL] * in2[i, j]``. Parameters, results,
    errors and cost are those of `correlate2d`.

    Examples
    --------
    >>> import fastconv as fc
    >>> fc.signal.convolve2d([[1, 2], [3, 4]], [[1, 10]])
    array([[ 1, 12, 20],
           [ 3, 34, 40]])
    """
    return _two_d("convolve2d", in1, in2, mode, boundary, fillvalue)


def _two_d(name: str, in1: Any, in2: Any, mode: Any, boundary: Any, fillvalue: Any) -> np.ndarray:
    if on_device.are_there(in1, in2):
        return on_device.two_d(name, in1, in2, mode, boundary, partial(fill_of, fillvalue))
    flips = name == "convolve2d"
    a, b = both(name, in1, in2)
    if not a.ndim == b.ndim == 2:
        raise ShapeError(f"{name} inputs must both be 2-D arrays")
    swapped = must_swap(mode, a.shape, b.shape)
    check_mode(mode)
    outside = padding_mode(boundary)
    if is_foreign(a, b):
        return np.asarray(ask_scipy(name, a, b, mode, boundary, fillvalue))
    dtype = np.result_type(a, b)
    if dtype in (bool, np.float16):
        raise OptionError("convolve2d not available for this type.")
    fill = fill_of(fillvalue, dtype) if outside == "zeros" else None
    if swapped:
        # The correlation comes out in reverse order. SciPy then conjugates the smaller image, which the result shows.
        a, b = (b, a) if flips else (b[::-1, ::-1], a[::-1, ::-1])
    b = b[::-1, ::-1] if flips else b.conj()
    pads = pads_of(mode, b.shape, odd_after=not flips)
    if not a.size or not b.size:
        return _empty(a, b, pads, outside, dtype)
    return sums_of_products(name, a, b, pads, outside, fill)


def fill_of(value: Any, dtype: np.dtype) -> Any:
    """Return the fill value as a scalar of a dtype, or None if it is 0; the rules of casting are SciPy's."""
    given = np.asarray(value)
    if given.size > 1:
        raise OptionError("`fillvalue` must be scalar or an array with one element.")
    if not given.size:
        raise OptionError("`fillvalue` cannot be an empty array.")
    refused = isinstance(value, np.ndarray) and not np.can_cast(given.dtype, dtype)
    if not isinstance(value, (np.ndarray, np.generic)) and given.dtype.kind == "f" and dtype.kind == "u":
        refused = refused or bool(given < 0)
    try:
        with np.errstate(invalid="ignore", over="ignore"):
            cast = isinstance(value, (np.ndarray, np.generic))
            fill = (given.astype(dtype) if cast else np.array(given.item(), dtype)).reshape(1)
    except (TypeError, ValueError, OverflowError):
        refused = True
    if refused:
        raise OptionError("could not cast `fillvalue` directly to the output type (it was first converted to complex).")
    return fill[0] if fill[0] != 0 else None


def _empty(a: np.ndarray, b: np.ndarray, pads: Any, outside: str, dtype: np.dtype) -> np.ndarray:
    """Return the sums of no products, which are 0."""
    shape = [n + sum(pad) - k + 1 for n, pad, k in zip(a.shape, pads, b.shape, strict=True)]
    if min(shape) < 0:
        raise ShapeError("negative dimensions are not allowed")
    if outside != "zeros" and not a.size and np.prod(shape):
        raise ShapeError(f"an empty image, shape {a.shape}, has no boundary, expected boundary = 'fill'")
    return np.zeros(shape, dtype)


def sepfir2d(input: ArrayLike, hrow: ArrayLike, hcol: ArrayLike) -> np.ndarray:
    """Convolve the rows and the columns of an image with one filter each, as `scipy.signal.sepfir2d`.

    ``out = convolve2d(input, outer(hcol, hrow), "same", "symm")``.

    Parameters
    ----------
    input : array_like of shape (H, W)
    hrow, hcol : array_like of shapes (KW,) and (KH,), odd lengths
        Filters along the rows and along the columns.

    Returns
    -------
    ndarray of shape (H, W)
        float32 of integers of up to 16 bits, float16 and float32, complex64 of complex64, else float64 or complex128.

    Raises
    ------
    ShapeError, OptionError, DtypeError
        As SciPy's ValueError and TypeError, with its text.

    Notes
    -----
    Cost: ``2 * (KH + KW)`` FLOP for each pixel. Filters longer than the image are right too, which SciPy's are not.

    Examples
    --------
    >>> import fastconv as fc
    >>> fc.signal.sepfir2d([[1.0, 2.0, 4.0]], [1.0, 1.0, 1.0], [1.0])
    array([[ 4.,  7., 10.]])
    """
    on_device.refuse("sepfir2d", input)
    x = as_ndarray("sepfir2d", "input", input)
    if is_foreign(x):
        return np.asarray(ask_scipy("sepfir2d", input, hrow, hcol))
    dtype = np.result_type(x, np.float32)
    row, column = _filter("hrow", hrow, dtype), _filter("hcol", hcol, dtype)
    if x.ndim != 2:
        deep = "object too deep for desired array" if x.ndim > 2 else "object of too small depth for desired array"
        raise ShapeError(deep)
    if not len(row) % 2 or not len(column) % 2:
        raise OptionError("hrow and hcol must be odd length")
    x = x.astype(dtype, copy=False)
    if not x.size:
        return x.copy()
    padding = ((len(column) // 2,) * 2, (len(row) // 2,) * 2)
    options = Options(padding=padding, padding_mode="symmetric")
    if dtype.kind == "f":
        options = options._replace(algorithm="separable")
        factors = (np.ascontiguousarray(column[None, ::-1]), np.ascontiguousarray(row[None, ::-1]))
        weight = (factors[0].T * factors[1])[None, None]
        return convolve("sepfir2d", x[None], weight, None, options, factors=factors)[0]
    for h, shape in ((row, (1, -1)), (column, (-1, 1))):
        kernel = h[::-1].reshape(shape)
        x = sums_of_products("sepfir2d", x, kernel, pads_of("same", kernel.shape), "symmetric")
    return x


def _filter(name: str, h: Any, dtype: np.dtype) -> np.ndarray:
    if not isinstance(h, (list, tuple)):
        h = as_ndarray("sepfir2d", name, h)
    if isinstance(h, np.ndarray) and not np.can_cast(h.dtype, dtype):
        raise DtypeError(f"Cannot cast array data from {h.dtype!r} to {dtype!r} according to the rule 'safe'")
    array = np.asarray(h, dtype)
    if array.ndim != 1:
        deep = "object too deep for desired array" if array.ndim else "object of too small depth for desired array"
        raise ShapeError(deep)
    return array
