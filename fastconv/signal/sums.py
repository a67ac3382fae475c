"""Sums of products of an array with a kernel: the one place where `fastconv.signal` meets the convolution kernels."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from fastconv.api.convolve import Options, convolve, job_of
from fastconv.api.factors import rank_one_factors
from fastconv.errors import UnsupportedError
from fastconv.signal import tiles
from fastconv.signal.modes import Pads
from fastconv.system import empty

# Below this many taps, to look for something cheaper costs more than it saves.
FEW_TAPS: Final = 25

# What the kernels compute in, where it is not the arrays' own dtype: sums modulo 2**64 do not depend on the sign,
# and a disjunction is a sum that is not 0.
_AS: Final[dict[Any, np.dtype]] = {np.dtype(np.uint64): np.dtype(np.int64), np.dtype(bool): np.dtype(np.int32)}


def sums_of_products(
    function: str,
    x: np.ndarray,
    kernel: np.ndarray,
    pads: Pads,
    padding_mode: str = "zeros",
    fill: Any = None,
    method: str = "auto",
) -> np.ndarray:
    """Return ``out[m] = sum over k of x[m + k - before] * kernel[k]`` along every axis.

    Parameters
    ----------
    x, kernel : ndarray of one number of dimensions, at least 1, no size 0
        Of dtypes that NumPy promotes to bool, an integer of up to 64 bits, floating point or complex of two of them.
    pads : (before, after) for each axis, none negative
    padding_mode : str
        What `x` is outside, as of the convolutions.
    fill : scalar of the result's dtype, optional
        What it is instead, with "zeros".
    method : {"auto", "direct"}
        "direct": sum the products one by one. "auto": by FFT in tiles (see `tiles.py`) or the outer product that
        the kernel is, where that is cheaper and its rounding error no larger.

    Returns
    -------
    ndarray
        Of the promoted dtype; integers wrap.
    """
    dtype = np.result_type(x, kernel)
    x, kernel = (_converted(a, dtype) for a in (x, kernel))
    fill = None if fill is None else np.asarray(fill, dtype).astype(_AS.get(dtype, dtype))
    if x.ndim > 3:
        out = _by_leading_axis(function, x, kernel, pads, method)
    else:
        found = None
        if method == "auto" and kernel.size >= FEW_TAPS:
            found = _cheaply(function, x, kernel, pads, padding_mode, fill)
        out = _directly(function, x, kernel, pads, padding_mode, fill) if found is None else found
    return out.astype(dtype, copy=False)


def _converted(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return an array in what the kernels compute results of this dtype in; what is real stays real."""
    if dtype.kind == "c" and array.dtype.kind != "c":
        return array.astype(np.finfo(dtype).dtype, copy=False)
    return array.astype(dtype, copy=False).astype(_AS.get(dtype, dtype), copy=False)


def _by_leading_axis(function: str, x: np.ndarray, kernel: np.ndarray, pads: Pads, method: str) -> np.ndarray:
    """Return the sums in more than three dimensions from those of all slices along the first."""
    (before, after), *rest = pads
    n, k = len(x), len(kernel)
    sizes = [size + sum(pad) - taps + 1 for size, pad, taps in zip(x.shape[1:], rest, kernel.shape[1:], strict=True)]
    out = np.zeros((n + before + after - k + 1, *sizes), np.result_type(x, kernel))
    for m, part in enumerate(out):
        for i in range(max(0, before - m), min(k, n + before - m)):
            part += sums_of_products(function, x[m + i - before], kernel[i], tuple(rest), method=method)
    return out


def _directly(
    function: str,
    x: np.ndarray,
    kernel: np.ndarray,
    pads: Pads,
    padding_mode: str,
    fill: Any,
    factors: tuple[np.ndarray, np.ndarray] | None = None,
) -> np.ndarray:
    """Return the sums by the convolution kernels; `factors` are the (column, row) whose outer product `kernel` is."""
    if fill is not None:
        x, pads = np.pad(x, pads, constant_values=fill), ((0, 0),) * x.ndim
    options = _options(x, pads, padding_mode, factors)
    shape = [n + sum(pad) - k + 1 for n, pad, k in zip(x.shape, pads, kernel.shape, strict=True)]
    out = empty(shape, np.result_type(x, kernel))
    convolve(function, x[None], kernel[None, None], None, options, out[None], factors=factors)
    return out


def _options(x: np.ndarray, pads: Pads, padding_mode: str, factors: Any) -> Options:
    # SciPy's sums are as exact as direct ones in the arrays' own type.
    algorithm, precision = ("auto", "strict") if factors is None else ("separable", "default")
    options = Options(padding=pads, padding_mode=padding_mode, algorithm=algorithm, axes=x.ndim)
    return options._replace(precision=precision)


def is_cheaper_by_fft(function: str, x: np.ndarray, kernel: np.ndarray, pads: Pads) -> bool:
    """Return whether "auto" sums by FFTs of blocks where nothing is padded but zeros."""
    dtype = np.result_type(x, kernel)
    if x.ndim > 3 or kernel.size < FEW_TAPS or dtype in (bool, np.float16):
        return False
    return _blocks(function, _converted(x, dtype), _converted(kernel, dtype), pads, "zeros", None) is not None


def _blocks(
    function: str, x: np.ndarray, kernel: np.ndarray, pads: Pads, padding_mode: str, factors: Any
) -> tuple[int, ...] | None:
    """Return the sizes of blocks for FFTs, or None where the convolution kernels are cheaper or only they are exact."""
    dtype = np.result_type(x, kernel)
    job = job_of(function, x[None], kernel[None, None], dtype, dtype, _options(x, pads, padding_mode, factors))
    products = job.complex_input + job.complex_weight + 1
    padded = [n + sum(pad) for n, pad in zip(x.shape, pads, strict=True)]
    blocks, seconds = tiles.plan(padded, kernel.shape)
    cost = job.prepared.candidate.cost
    cheaper = cost is not None and seconds * min(products, 2) < cost.seconds * products
    return blocks if cheaper and tiles.exact(x, kernel) else None


def _cheaply(
    function: str, x: np.ndarray, kernel: np.ndarray, pads: Pads, padding_mode: str, fill: Any
) -> np.ndarray | None:
    """Return the sums by the factors of the kernel or by FFT, or None if the sums of the products are cheaper."""
    factors = _outer_factors(function, kernel)
    blocks = _blocks(function, x, kernel, pads, padding_mode, factors)
    if blocks is not None:

        def direct(tile: np.ndarray) -> np.ndarray:
            return _directly(function, tile, kernel, ((0, 0),) * x.ndim, "zeros", None)

        return tiles.correlate(x, kernel, pads, padding_mode, fill, blocks, direct)
    return None if factors is None else _directly(function, x, kernel, pads, padding_mode, fill, factors)


@np.errstate(all="ignore")
def _outer_factors(function: str, kernel: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Return (column, row) of shapes (1, KH) and (1, KW) if the kernel is their outer product to rounding.

    To rounding of each of its elements, so the result is as exact as that of the sum over all of them.
    """
    if kernel.ndim != 2 or min(kernel.shape) < 3 or kernel.dtype not in (np.float32, np.float64):
        return None
    try:
        column, row = rank_one_factors(function, kernel[None, None])
    except UnsupportedError:
        return None
    gap = np.abs(column[0][:, None] * row[0] - kernel)
    exact = (gap <= 4 * np.finfo(kernel.dtype).eps * np.abs(kernel)).all()
    return (column, row) if exact else None
