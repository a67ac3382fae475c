"""An activation by itself: the epilogue of a convolution on an array.

Each block of BLOCK elements is copied and clamped, then activated in place while it is in L1, by the row operations
that finish the tiles of a convolution. So the bits are theirs, wherever an element lies in a row.
"""

from __future__ import annotations

import math
from functools import cache, lru_cache
from typing import Any

import numpy as np

from fastconv._jit import njit
from fastconv.epilogue import clamp_limits
from fastconv.kernels.cpu.activations import row_function
from fastconv.kernels.cpu.program import Program, address
from fastconv.kernels.cpu.row_ops import call_row, finish_rows

# 16 kB in float64: half of a small L1.
BLOCK = 2048

# The fields of g: elements; address of the clamp's (low, high) and the bias; address of the row function or 0.
SIZE, LIMITS, ACTIVATION = range(3)


@lru_cache(maxsize=128)
def build(name: str, dtype: str, size: int) -> Program:
    """Return the program that fills an array of `size` floats with an activation of another; io = (x, out)."""
    clamp = clamp_limits(name)
    # A bias of -0.0 changes no number, signed zeros included.
    limits = np.array([*(clamp or (-math.inf, math.inf)), -0.0], dtype)
    bits = 8 * limits.itemsize
    g = np.array([size, address(limits), 0 if clamp else row_function(bits, name)], np.int64)
    return Program(_kernel(bits), g, -(-size // BLOCK), 0, (), [limits])


@cache
def _kernel(BITS: int) -> Any:
    size = BITS // 8

    @njit(fastmath=False)
    def activate(g, io, scratch, lo, hi):
        """Tasks are blocks of BLOCK elements."""
        for block in range(lo, hi):
            n = min(BLOCK, g[SIZE] - block * BLOCK)
            at = size * BLOCK * block
            x, out = io[0] + at, io[1] + at
            finish_rows(BITS, 0, out, 0, x, 0, g[LIMITS] + 2 * size, 0, g[LIMITS], 1, n)
            if g[ACTIVATION]:
                call_row(g[ACTIVATION], out, n)

    return activate
