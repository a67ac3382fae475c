"""How far from exact sums may be: not at all where every order of summation is exact, else by a bound."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastconv.testing.fuzz.wanted import Wanted


def within_error(
    value: np.ndarray,
    size: np.ndarray,
    dtype: np.dtype,
    result: np.dtype,
    terms: int,
    relative: float | None,
    reach: float,
    exact: bool,
    activated: bool,
    finite: bool,
) -> Wanted:
    """Return what is wanted of floats: all bits where every order of summation is `exact`, else up to a bound.

    `size` are the sums of the magnitudes of so many terms; `relative` is the error of an algorithm that mixes outputs,
    relative to the largest output that there can be, `reach`; None: it mixes none. Of `finite` arrays all that
    overflows is free: which infinity or NaN it ends as is a matter of the order.
    """
    work, u = unit(np.promote_types(dtype, result))
    with np.errstate(all="ignore"):
        free = ~(size <= largest(work) / 16) & (finite | np.isfinite(size))
        free |= np.isfinite(value) & (np.abs(value) > 0.99 * largest(result))
    if exact and result.itemsize // (1 + (result.kind == "c")) >= 4:
        return Wanted(value, result, free=free)
    sizes, values = (np.nan_to_num(np.abs(v), posinf=0) for v in (size, value))
    # The matrix unit takes denormal numbers as zeros.
    least = float(np.finfo(work).smallest_subnormal if relative is None else np.finfo(work).tiny)
    with np.errstate(all="ignore"):
        bound = 2 * (terms + 8) * (u * sizes + least)
        if relative is not None:
            bound = bound + 2 * relative * reach + 1e3 * u * float(sizes.max(initial=0))
        bound = bound + 2 * unit(result, own=True)[1] * values + (16 * u * (1 + values) if activated else 0)
        bound = bound + (6e-8 if result.itemsize == 2 else 0)
    return Wanted(value, result, bound, free)


def unit(dtype: np.dtype, own: bool = False) -> tuple[np.dtype, float]:
    """Return the dtype that sums are in, and half its machine epsilon; `own`: that of the dtype itself."""
    if dtype.itemsize == 2 and own:
        return dtype, 2.0**-8 if dtype.kind == "V" else 2.0**-11
    double = dtype.itemsize // (1 + (dtype.kind == "c")) == 8
    return np.dtype("float64" if double else "float32"), 2.0**-53 if double else 2.0**-24


def largest(dtype: np.dtype) -> float:
    """Return the largest number of a dtype."""
    return 3.38e38 if dtype.kind == "V" else float(np.finfo(dtype).max)


def is_finite(a: dict[str, Any]) -> bool:
    """Tell whether all elements of all arrays but the result's are finite."""
    arrays = [value for name, value in a.items() if isinstance(value, np.ndarray) and name != "out"]
    return all(bool(np.isfinite(wide(array)).all()) for array in arrays)


def is_whole(a: dict[str, Any]) -> bool:
    """Tell whether sums are exact: of integers, infinities and NaN, small enough that sums of products stay exact."""
    arrays = [value for name, value in a.items() if isinstance(value, np.ndarray) and name != "out"]
    finite = [np.where(np.isfinite(wide(v)), wide(v), 0) for v in arrays]
    return all(bool((np.abs(v.real) <= 16).all() and (v.real == np.rint(v.real)).all()) for v in finite) and all(
        bool((v.imag == np.rint(v.imag)).all()) for v in finite if v.dtype.kind == "c"
    )


def wide(array: np.ndarray) -> np.ndarray:
    """Return an array in double precision."""
    return array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)
