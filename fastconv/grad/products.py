"""Gradients of arrays of any dtype by products of real elements."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fastconv.errors import DtypeError, ShapeError
from fastconv.geometry.arrays import as_input, common_dtype, kind_of
from fastconv.grad.arrays import converted

# What may be left out.
_OPTIONAL = ("bias", "residual")


def given(function: str, **arrays: Any) -> tuple[list[Any], np.dtype]:
    """Return the named arrays as `as_input` does, and their common dtype, which is not of integers.

    A bias or residual that is None stays None.
    """
    found = {
        name: None if a is None and name in _OPTIONAL else as_input(function, name, a) for name, a in arrays.items()
    }
    dtype = common_dtype(function, *found.values())
    check_floats(function, found)
    return list(found.values()), dtype


def check_floats(function: str, arrays: Mapping[str, Any]) -> None:
    """Raise if all arrays that are there are of integers."""
    dtypes = {name: a.dtype for name, a in arrays.items() if a is not None}
    if all(kind_of(dtype) == "i" for dtype in dtypes.values()):
        kinds = ", ".join(f"{name} {dtype}" for name, dtype in dtypes.items())
        raise DtypeError(f"{function}: no array is of floats ({kinds}), expected one at least")


def check_gradient(function: str, dy: Any, shape: tuple[int, ...], dtype: np.dtype | None) -> None:
    """Raise unless the gradient has the shape of the output, and is real if the output's dtype is."""
    if dy.shape != shape:
        raise ShapeError(f"{function}: grad_output has shape {dy.shape}, expected {shape}, that of the result")
    if dtype is not None and dy.dtype.kind == "c" and dtype.kind != "c":
        raise DtypeError(f"{function}: grad_output has dtype {dy.dtype}, expected real numbers, as the result has")


def check_pointwise(function: str, name: str, shape: tuple[int, ...]) -> None:
    """Raise unless a weight is one of 1x1 kernels, or has no axes for them."""
    if len(shape) != 2 and (len(shape) != 4 or shape[2:] != (1, 1)):
        expected = "(OC, C) or (OC, C, 1, 1)" if name == "weight" else "(OC, C*M) or (OC, C*M, 1, 1)"
        raise ShapeError(f"{function}: {name} has shape {shape}, expected {expected}")


def is_wanted(array: Any) -> bool:
    """Return whether an array has a gradient: it is there, and not of integers."""
    return array is not None and kind_of(array.dtype) != "i"


def bilinear(
    product: Callable[[np.ndarray, np.ndarray], np.ndarray],
    a: np.ndarray,
    b: np.ndarray,
    element: np.dtype,
    dtype: np.dtype,
) -> np.ndarray:
    """Return ``product(a, conj(b))``, computed by real products of `element`, in `dtype`: its real part if that is."""
    if a.dtype.kind != "c" and b.dtype.kind != "c":
        return converted(product(_real(a, element), _real(b, element)), dtype)
    (ar, ai), (br, bi) = _parts(a, element), _parts(b, element)
    with np.errstate(all="ignore"):
        real = _sum(product, (ar, br, 1), (ai, bi, 1))
        if dtype.kind != "c":
            return converted(real, dtype)
        imaginary = _sum(product, (ai, br, 1), (ar, bi, -1))
        result = np.empty(real.shape, dtype)
        result.real, result.imag = real, imaginary
    return result


def _real(a: np.ndarray, element: np.dtype) -> np.ndarray:
    return np.ascontiguousarray(a, element)


def _parts(a: np.ndarray, element: np.dtype) -> tuple[np.ndarray, np.ndarray | None]:
    return _real(a.real, element), _real(a.imag, element) if a.dtype.kind == "c" else None


def _sum(product: Callable[[np.ndarray, np.ndarray], np.ndarray], *terms: Any) -> np.ndarray:
    """Return the sum of sign * product(a, b) over the (a, b, sign) whose parts are there; the first ones are."""
    found = [sign * product(a, b) for a, b, sign in terms if a is not None and b is not None]
    return found[0] if len(found) == 1 else found[0] + found[1]


def channel_sums(dy: np.ndarray, channel: int, dtype: np.dtype) -> np.ndarray:
    """Return the sum over all axes but one, the gradient of a bias, in `dtype`."""
    wide = np.complex128 if dy.dtype.kind == "c" else np.float64
    with np.errstate(all="ignore"):
        sums = dy.sum(tuple(axis for axis in range(dy.ndim) if axis != channel % dy.ndim), dtype=wide)
        return (sums if dtype.kind == "c" else sums.real).astype(dtype)
