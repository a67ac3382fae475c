"""The one door to SciPy's own functions, for numbers that no compiled kernel can load."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastconv.geometry.arrays import as_ndarray


def both(name: str, in1: Any, in2: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the two arrays of a function, of any dtypes and strides."""
    return as_ndarray(name, "in1", in1), as_ndarray(name, "in2", in2)


def is_foreign(*arrays: np.ndarray) -> bool:
    """Return whether one of the arrays holds what Numba has no type for: longdouble, objects, and no numbers."""
    return any(array.dtype.kind not in "biufc" or array.dtype.char in "gG" for array in arrays)


def ask_scipy(name: str, *args: Any, **keywords: Any) -> Any:
    """Return what the function of this name in `scipy.signal` returns, or raise what it raises."""
    import scipy.signal

    return getattr(scipy.signal, name)(*args, **keywords)
