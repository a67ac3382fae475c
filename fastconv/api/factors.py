"""Finding the factors of separable kernels."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from fastconv.errors import DtypeError, OptionError, ShapeError, UnsupportedError
from fastconv.geometry.arguments import shown
from fastconv.geometry.arrays import as_input


class Separation(NamedTuple):
    """Factors of a kernel: ``kernel = sum over r of outer(columns[r], rows[r])``, up to `error`.

    Attributes
    ----------
    columns : ndarray of shape (rank, KH)
    rows : ndarray of shape (rank, KW)
    rank : int
    error : float
        Sum of the absolute differences to the kernel: no output differs by more, times the largest input.
    """

    columns: np.ndarray
    rows: np.ndarray
    rank: int
    error: float


@np.errstate(under="ignore")
def separate(kernel: ArrayLike, tol: float | None = None) -> Separation:
    """Return the factors of the lowest rank that reproduce a 2-D kernel within a tolerance, by SVD.

    Parameters
    ----------
    kernel : array_like of shape (KH, KW), float32 or float64
    tol : float, optional
        Largest allowed 2-norm of the difference, relative to that of the kernel; by default max(KH, KW) times the
        machine epsilon of the kernel's dtype, which is what rounding alone does to an exactly separable kernel.

    Returns
    -------
    Separation
        With rank 1, ``columns[0]`` and ``rows[0]`` are the arguments of `fastconv.spatially_separable_conv2d`.

    Raises
    ------
    ShapeError
        Unless the kernel has 2 dimensions and no empty one.
    OptionError
        Unless 0 <= tol < 1, or if the kernel holds NaN or infinities.

    Notes
    -----
    Cost: O(KH * KW * min(KH, KW)). A convolution of rank R costs R * (KH + KW) multiplications an output. By the
    theorem of Eckart and Young no factors of that rank come closer in the 2-norm [1]_.

    References
    ----------
    .. [1] C. Eckart, G. Young, The approximation of one matrix by another of lower rank, Psychometrika 1, 1936,
       doi:10.1007/BF02288367

    Examples
    --------
    >>> import fastconv as fc
    >>> sobel = fc.separate([[1.0, 0.0, -1.0], [2.0, 0.0, -2.0], [1.0, 0.0, -1.0]])
    >>> sobel.rank
    1
    """
    k = as_input("separate", "kernel", kernel)
    if k.ndim != 2 or not k.size:
        raise ShapeError(f"separate: kernel has shape {k.shape}, expected (KH, KW), each at least 1")
    if k.dtype.kind == "c":
        raise DtypeError(f"separate: kernel has dtype {k.dtype}, expected real numbers")
    k = k if k.dtype in (np.float32, np.float64) else k.astype(np.float64)
    try:
        limit = max(k.shape) * float(np.finfo(k.dtype).eps) if tol is None else float(tol)
    except (TypeError, ValueError):
        limit = -1.0
    if not 0 <= limit < 1:
        raise OptionError(f"separate: tol = {shown(tol)}, expected a number from 0 to below 1")
    if not np.isfinite(k).all():
        raise OptionError("separate: kernel holds NaN or infinities, expected finite numbers")
    wide = k.astype(np.float64)
    U, S, V = np.linalg.svd(wide, full_matrices=False)
    rank = max(1, int((S[0] * limit < S).sum()))
    root = np.sqrt(S[:rank])
    columns, rows = (U[:, :rank] * root).T.astype(k.dtype), (V[:rank] * root[:, None]).astype(k.dtype)
    error = np.abs(wide - columns.astype(np.float64).T @ rows.astype(np.float64)).sum()
    return Separation(np.ascontiguousarray(columns), np.ascontiguousarray(rows), rank, float(error))


@np.errstate(all="ignore")
def rank_one_factors(function: str, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (columns, rows) of shapes (OC, KH) and (OC, KW) of a depthwise weight, or raise if one has a higher rank.

    The row through the largest element of a kernel and the column through it, divided by it, are factors if any are:
    one outer product tests it.
    """
    if weight.dtype.kind == "i":
        raise UnsupportedError(
            f'{function}: algorithm "separable" refused: the factors of integers are no integers; '
            "depthwise, im2col, direct can"
        )
    OC, _, KH, KW = weight.shape
    kernels = weight.reshape(OC, KH, KW)
    peak = np.abs(kernels).reshape(OC, -1).argmax(axis=1)
    kh, kw, oc = peak // KW, peak % KW, np.arange(OC)
    largest = kernels[oc, kh, kw]
    rows = kernels[oc, kh, :].copy()
    columns = kernels[oc, :, kw] / np.where(largest == 0, 1, largest)[:, None]
    gap = np.abs(kernels - columns[:, :, None] * rows[:, None, :]).max(axis=(1, 2), initial=0)
    allowed = max(KH, KW) * float(np.finfo(weight.dtype).eps) * np.abs(largest)
    bad = np.flatnonzero(~(gap <= allowed))
    if bad.size:
        raise UnsupportedError(
            f'{function}: algorithm "separable" refused: kernels must have rank 1, kernel {bad[0]} has not '
            f"(largest difference to an outer product {gap[bad[0]]:.3g}, allowed {allowed[bad[0]]:.3g}); "
            "depthwise, im2col, direct can"
        )
    return np.ascontiguousarray(columns), np.ascontiguousarray(rows)
