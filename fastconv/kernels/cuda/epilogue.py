"""What is done to finished sums in registers: ``activation(sum + bias + residual)`` for clamps and the leaky ReLU.

Those are three numbers, so they cost no kernel of their own. The others, which need exp or erf, run in place as a
kernel of one pass (activations.py), since 64 copies of them would not fit an unrolled epilogue.
"""

from __future__ import annotations

import math

import numpy as np

from fastconv.epilogue import LEAKY_SLOPE, clamp_limits
from fastconv.kernels.cuda.memory import REAL_CODE, as_dtype


def is_fused(activation: str | None) -> bool:
    """Return whether an activation is three numbers."""
    return activation == "leaky_relu" or clamp_limits(activation) is not None


def limits(activation: str | None, code: str) -> tuple[np.number, ...]:
    """Return (slope, low, high): negative sums times slope, then between low and high; NaN stays."""
    dtype = as_dtype(REAL_CODE[code])
    real = dtype.type
    if dtype.kind == "i":
        # Integers wrap to their result first.
        return real(1), real(0), real(0)
    low, high = clamp_limits(activation) or (-math.inf, math.inf)
    if np.dtype(real).kind == "i":
        low, high = max(low, np.iinfo(real).min), min(high, np.iinfo(real).max)
    return real(LEAKY_SLOPE if activation == "leaky_relu" else 1.0), real(low), real(high)
