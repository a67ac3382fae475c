"""Comparison up to the rounding of a sum, with a bound that has a proof."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, DTypeLike


def assert_close(
    actual: np.ndarray,
    expected: np.ndarray,
    *,
    terms: int,
    dtype: DTypeLike | None = None,
    magnitude: ArrayLike | None = None,
    factor: float = 2.0,
) -> None:
    """Raise AssertionError unless `actual` is `expected` up to the rounding of a sum of `terms` products.

    The bound is ``factor * (terms + 4) * u * magnitude``, with u half the machine epsilon of `dtype`; with
    ``magnitude = sum(|x| * |weight|) + |bias| + |residual|`` it holds for every order of summation [1]_. NaN and
    infinities must stand in the same places. Integers must be equal; the error of a complex number is the absolute
    value of the difference, and u that of its parts.

    Parameters
    ----------
    actual, expected : ndarray
        Of the same shape.
    terms : int
        Products per output: ``ICG * KD * KH * KW``.
    dtype : dtype, optional
        That of the summation, which `actual` must have; by default that of `actual`.
    magnitude : array_like, optional
        Scalar or array that broadcasts to `expected`. By default its largest finite magnitude, which suits random
        data: the result is then as accurate as typical sums are, though no theorem says so.
    factor : float
        Room for the slope of an activation (at most 1.5). Algorithms with larger constants need more.

    References
    ----------
    .. [1] N. J. Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., section 3.1, SIAM, 2002,
       doi:10.1137/1.9780898718027

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.testing import assert_close
    >>> assert_close(np.float32([1.0000001]), np.array([1.0]), terms=9)
    """
    actual, expected = np.asarray(actual), np.asarray(expected)
    kind = actual.dtype if dtype is None else np.dtype(dtype)
    if actual.shape != expected.shape or actual.dtype != kind:
        raise AssertionError(
            f"got shape {actual.shape}, dtype {actual.dtype}, expected shape {expected.shape}, dtype {kind}",
        )
    if kind.kind in "iu":
        error = np.abs(actual.astype(np.float64) - expected)
        _report(actual, expected, error, np.zeros(()), actual != expected)
        return
    wide = actual.astype(np.complex128 if kind.kind == "c" else np.float64)
    finite = np.isfinite(expected)
    special = ~finite & ~((wide == expected) | (np.isnan(wide) & np.isnan(expected)))
    if magnitude is None:
        magnitude = np.max(np.abs(expected), initial=0, where=finite)
    eps, smallest = _precision(kind)
    # The largest error allowed to a result of size 0 is a few denormals.
    bound = factor * (terms + 4) * (eps / 2 * np.asarray(magnitude, np.float64) + smallest)
    with np.errstate(invalid="ignore"):
        error = np.abs(wide - expected)
    _report(actual, expected, error, bound, special | (finite & ~(error <= bound)))


def _precision(dtype: np.dtype) -> tuple[float, float]:
    """Return the machine epsilon and the smallest denormal of a floating-point dtype, or of a complex one's parts."""
    if dtype.name == "bfloat16":
        return 2.0**-7, 2.0**-133
    unit = np.finfo(dtype)
    return float(unit.eps), float(unit.smallest_subnormal)


def _report(actual: np.ndarray, expected: np.ndarray, error: np.ndarray, bound: np.ndarray, wrong: np.ndarray) -> None:
    """Raise AssertionError about the worst of the `wrong` elements, if there are any."""
    if not wrong.any():
        return
    worst = np.unravel_index(np.argmax(np.where(wrong, np.nan_to_num(error, nan=np.inf), -1)), wrong.shape)
    allowed = np.broadcast_to(bound, wrong.shape)[worst]
    raise AssertionError(
        f"{np.count_nonzero(wrong)} of {wrong.size} elements differ; the worst, at {tuple(map(int, worst))}, "
        f"is {actual[worst]!s}, expected {expected[worst]!s}, error {error[worst]:.3g}, bound {allowed:.3g}",
    )
