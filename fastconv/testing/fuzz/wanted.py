"""What a call must return, and how far from it a result may be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fastconv.testing.closeness import assert_close
from fastconv.testing.fuzz.case import Case
from fastconv.testing.fuzz.draw import Draw


class Wanted(NamedTuple):
    """One result: its elements, up to an absolute error of `bound`, and its dtype.

    With a bound of 0 all must be equal; where `free` is true, as where sums may overflow on the way, anything may
    stand.
    """

    value: np.ndarray | None
    dtype: np.dtype | None = None
    bound: Any = 0.0
    free: Any = False


class Family(NamedTuple):
    """Operations that are drawn and defined in one way.

    `draw` returns a case of an operation; `expect` what it must return for arguments with contiguous arrays, or the
    error that it must raise. `call` is how the operation is called.
    """

    ops: tuple[str, ...]
    draw: Callable[[Draw, str], Case]
    expect: Callable[[str, dict[str, Any]], list[Wanted] | Exception]
    call: Callable[[str, dict[str, Any]], Any]
    # Results and errors are those of SciPy: a call may fail, if it fails as there.
    scipy: bool = False
    # How often they are drawn, beside others: more where there are more kernels and more options.
    weight: int = 1


def difference(got: Any, wanted: Wanted) -> str:
    """Return in which way a result is not what is wanted; "" if it is."""
    if wanted.value is None or not isinstance(got, (np.ndarray, np.generic)):
        return "" if got is None and wanted.value is None else f"got {type(got).__name__}, expected {wanted.value}"
    dtype = (wanted.value.dtype if wanted.dtype is None else wanted.dtype).newbyteorder("=")
    got, value = np.asarray(got), wanted.value
    if got.shape != value.shape or got.dtype.newbyteorder("=") != dtype:
        return f"got shape {got.shape}, dtype {got.dtype}, expected shape {value.shape}, dtype {dtype}"
    with np.errstate(all="ignore"):
        got, rounded = got.astype(dtype), value.astype(dtype)
        if np.any(wanted.free):
            got, value = np.where(wanted.free, rounded, got), np.where(wanted.free, rounded, value)
    if np.isscalar(wanted.bound) and not wanted.bound:
        return _unequal(got, rounded)
    if dtype.kind in "biu":
        return _unequal(got, value, wanted.bound)
    return _far(got, value, np.broadcast_to(wanted.bound, value.shape))


def _unequal(got: np.ndarray, value: np.ndarray, bound: Any = 0.0) -> str:
    same = got == value
    if got.dtype.kind in "fcV":
        same |= (got != got) & (value != value)
    if np.any(bound):
        same |= np.abs(got.astype(np.float64) - value) <= bound
    if same.all():
        return ""
    worst = tuple(int(i) for i in np.argwhere(~same)[0])
    count = np.count_nonzero(~same)
    first = f"the first, at {worst}, is {got[worst]!s}, expected {value[worst]!s}"
    return f"{count} of {same.size} elements differ; {first}"


def _far(got: np.ndarray, value: np.ndarray, bound: np.ndarray) -> str:
    """Compare by `assert_close`, whose bound is made to be this one."""
    eps = 2.0**-7 if got.dtype.name == "bfloat16" else float(np.finfo(got.dtype).eps)
    wide = value.astype(np.complex128 if got.dtype.kind == "c" else np.float64)
    try:
        with np.errstate(over="ignore"):
            magnitude = np.asarray(bound, np.float64) * (2 / eps)
        assert_close(got, wide, terms=0, factor=0.25, magnitude=magnitude)
    except AssertionError as error:
        return str(error)
    return ""
