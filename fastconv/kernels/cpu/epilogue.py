"""The epilogue as kernels take it: two limits of a clamp, and the address of a row function or 0."""

from __future__ import annotations

import math
from functools import cache

import numpy as np

from fastconv.epilogue import clamp_limits
from fastconv.kernels.cpu.activations import row_function


@cache
def _limits(dtype: str, low: float, high: float) -> np.ndarray:
    """Return the clamp's two numbers as an array that lives as long as the process."""
    return np.array([low, high], dtype)


def epilogue_fields(name: str | None, dtype: str) -> dict[str, int]:
    """Return the fields LIMITS and ACTIVATION of `g`."""
    clamp = clamp_limits(name)
    low, high = clamp or (-math.inf, math.inf)
    if np.dtype(dtype).kind == "i":
        # Integer results are activated once they have wrapped to their own dtype.
        low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    activation = 0 if clamp or name is None else row_function(8 * np.dtype(dtype).itemsize, name)
    return {"LIMITS": _limits(dtype, low, high).ctypes.data, "ACTIVATION": activation}
