"""Correlation and convolution in any number of dimensions, with SciPy's signatures."""

from __future__ import annotations

import timeit
import warnings
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastconv.errors import OptionError, ShapeError
from fastconv.signal import on_device
from fastconv.signal.modes import SPECTRAL_TEXT, check_mode, must_swap, pads_of
from fastconv.signal.others import ask_scipy, both, is_foreign
from fastconv.signal.spectral import fftconvolve
from fastconv.signal.sums import is_cheaper_by_fft, sums_of_products

_METHODS_TEXT = "Acceptable method flags are 'auto', 'direct', or 'fft'."


def correlate(in1: ArrayLike, in2: ArrayLike, mode: str = "full", method: str = "auto") -> Any:
    """Cross-correlate two arrays of the same number of dimensions, as `scipy.signal.correlate`.

    ``out[m] = sum over k of in1[m + k - K + 1] * conj(in2[k])`` along every axis, of which `mode` keeps a part. "same"
    with an even kernel starts one element earlier than that of `correlate2d`, as in SciPy.

    Parameters
    ----------
    in1, in2 : array_like
        Integers of up to 64 bits, floating point or complex; longdouble and objects are left to SciPy. If one is on a
        CUDA device, so is the result, by direct sums, of kernels that reach along at most three axes.
    mode : {"full", "valid", "same"}
        Size along each axis: ``n + k - 1``; ``n - k + 1``, or ``k - n + 1`` where in2 is the larger one; n.
    method : {"auto", "direct", "fft"}
        "direct" sums the products one by one; "fft" is `fftconvolve`; "auto" takes the cheaper of "direct" and FFTs of
        blocks, which it never lets spread NaN and infinities or spoil small numbers beside large ones.

    Returns
    -------
    ndarray
        Of the promoted dtype; integers wrap, and are exact with "auto" and "direct".

    Raises
    ------
    ShapeError, OptionError
        As SciPy's ValueError, with its text.

    Examples
    --------
    >>> import fastconv as fc
    >>> fc.signal.correlate([1, 2, 3], [1, 10], mode="valid")
    array([21, 32])
    """
    if on_device.are_there(in1, in2):
        return on_device.any_d("correlate", in1, in2, mode, method)
    a, b = both("correlate", in1, in2)
    if a.ndim == b.ndim == 0:
        return a * (b.conj() if b.dtype.kind == "c" else b)
    if a.ndim != b.ndim:
        raise ShapeError("in1 and in2 should have the same dimensionality")
    check_mode(mode)
    if is_foreign(a, b):
        return ask_scipy("correlate", a, b, mode, method)
    b = b.conj()
    if method == "fft":
        must_swap(mode, a.shape, b.shape)
        return _by_fft(a, b[(slice(None, None, -1),) * b.ndim], mode)
    return _sums("correlate", a, b, mode, method)


def convolve(in1: ArrayLike, in2: ArrayLike, mode: str = "full", method: str = "auto") -> Any:
    """Convolve two arrays of the same number of dimensions, as `scipy.signal.convolve`.

    ``out[m] = sum over k of in1[m - k] * in2[k]`` along every axis, of which `mode` keeps a part. Parameters, results
    and errors are those of `correlate`.

    Examples
    --------
    >>> import fastconv as fc
    >>> fc.signal.convolve([1, 2, 3], [1, 10])
    array([ 1, 12, 23, 30])
    """
    if on_device.are_there(in1, in2):
        return on_device.any_d("convolve", in1, in2, mode, method)
    a, b = both("convolve", in1, in2)
    if a.ndim == b.ndim == 0:
        return a * b
    if a.ndim != b.ndim:
        raise ShapeError("volume and kernel should have the same dimensionality")
    if is_foreign(a, b):
        return ask_scipy("convolve", a, b, mode, method)
    must_swap(mode, a.shape, b.shape)
    if method == "auto":
        check_mode(mode, f"Acceptable mode flags are 'valid', 'same', or 'full', not mode={mode}")
    elif method == "fft":
        check_mode(mode, SPECTRAL_TEXT)
        return _by_fft(a, b, mode)
    elif method == "direct":
        check_mode(mode)
    return _sums("convolve", a, b[(slice(None, None, -1),) * b.ndim], mode, method)


def choose_conv_method(in1: ArrayLike, in2: ArrayLike, mode: str = "full", measure: bool = False) -> Any:
    """Return the faster method for `convolve` and `correlate`, as `scipy.signal.choose_conv_method`.

    Parameters
    ----------
    in1, in2, mode
        As in `convolve`.
    measure : bool
        Time both.

    Returns
    -------
    method : {"direct", "fft"}
        "direct" wherever "fft" would not be exact for integers.
    times : dict of {"fft", "direct"} to seconds
        Only with `measure`.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv as fc
    >>> fc.signal.choose_conv_method(np.ones((100, 100)), np.ones((3, 3)))
    'direct'
    """
    on_device.refuse("choose_conv_method", in1, in2)
    a, b = both("choose_conv_method", in1, in2)
    if is_foreign(a, b):
        return ask_scipy("choose_conv_method", a, b, mode, measure)
    if measure:
        times = {method: _seconds(a, b, mode, method) for method in ("fft", "direct")}
        return min(times, key=lambda method: times[method]), times
    check_mode(mode, f"Acceptable mode flags are 'valid', 'same', or 'full', not mode={mode}")
    if a.ndim != b.ndim or not a.ndim or not a.size or not b.size:
        return "direct"
    if b.size > a.size and mode != "same":
        a, b = b, a
    if mode == "valid" and any(n < k for n, k in zip(a.shape, b.shape, strict=True)):
        return "direct"
    return "fft" if is_cheaper_by_fft("choose_conv_method", a, b, pads_of(mode, b.shape)) else "direct"


def _sums(name: str, x: np.ndarray, kernel: np.ndarray, mode: str, method: object) -> np.ndarray:
    """Return the cross-correlation of x and a kernel that is conjugated already."""
    if method not in ("auto", "direct"):
        raise OptionError(_METHODS_TEXT)
    dtype = np.result_type(x, kernel)
    if dtype in (bool, np.float16) and (x.ndim > 1 or (mode == "same" and kernel.size > x.size)):
        raise OptionError("Unsupported type")
    swap = must_swap(mode, x.shape, kernel.shape)
    if x.ndim == 1 and not (x.size and kernel.size) and (mode != "same" or not kernel.size):
        second = bool(x.size) or swap
        if (name, method) == ("correlate", "direct"):
            raise ShapeError(f"{'second' if x.size else 'first'} array argument cannot be empty")
        raise ShapeError(f"{'v' if second else 'a'} cannot be empty")
    if swap or (mode == "full" and kernel.size > x.size):
        # The sums are the same, in reverse order.
        backwards = (slice(None, None, -1),) * x.ndim
        x, kernel = kernel[backwards], x[backwards]
    pads = pads_of(mode, kernel.shape)
    if x.size and kernel.size:
        return sums_of_products(name, x, kernel, pads, method=str(method))
    shape = [n + sum(pad) - k + 1 for n, pad, k in zip(x.shape, pads, kernel.shape, strict=True)]
    if min(shape) < 0:
        raise ShapeError("negative dimensions are not allowed")
    return np.zeros(shape, dtype)


def _by_fft(a: np.ndarray, b: np.ndarray, mode: str) -> np.ndarray:
    out = fftconvolve(a, b, mode)
    dtype = np.result_type(a, b)
    if dtype.kind in "biu":
        out = np.rint(out)
    elif not np.isfinite(out).all():
        warnings.warn(
            "Use of fft convolution on input with NAN or inf results in NAN or inf output. Consider using "
            "method='direct' instead.",
            category=RuntimeWarning,
            stacklevel=3,
        )
    with warnings.catch_warnings():
        # The imaginary part that rounding leaves of real arrays.
        warnings.simplefilter("ignore", np.exceptions.ComplexWarning)
        return np.asarray(out.astype(dtype))


def _seconds(a: np.ndarray, b: np.ndarray, mode: str, method: str) -> float:
    timer = timeit.Timer(lambda: convolve(a, b, mode, method))
    timer.timeit(1)
    number, spent = timer.autorange() if a.size * b.size < 1 << 20 else (1, timer.timeit(1))
    return spent / number
