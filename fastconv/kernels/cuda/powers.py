"""Powers of Lp pools, and the two factors of their gradient, one element per thread."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
from numba import cuda, float64, types, uint32

from fastconv.kernels.cuda.buffers import Buffer
from fastconv.kernels.cuda.memory import REAL, code_of, device, pointer
from fastconv.kernels.cuda.runtime import SIMULATED, Kernel, blocks_of, launch

THREADS = 128


@cache
def power_of(code: str) -> Any:
    """Return the device function ``v ** p``; in float64 without the subroutine that CUDA's own is.

    There whole powers are products, others exp(p * log(v)), whose error grows with the logarithm, to some 1e-14.
    """
    if code != "d" or SIMULATED:
        return device(lambda v, p: v**p)

    @device
    def power(v, p):
        size = math.fabs(p)
        found = float64(1)
        if math.floor(size) == size and size < float64(4294967296.0):
            left, factor = uint32(size), v
            while left > uint32(0):
                if uint32(left & uint32(1)) > uint32(0):
                    found *= factor
                factor *= factor
                left = uint32(left >> uint32(1))
            if p < float64(0):
                found = float64(1) / found
        else:
            found = math.exp(p * math.log(v))
        return found

    return power


def norm_factors(code: str, kind: str, threads: int) -> Kernel:
    """Return the kernel of one factor of the gradient of Lp pools; reals are (p, the size of a window).

    Parameters
    ----------
    kind : {"outer", "inner", "sign"}
        ``a * (b ** (1/p - 1) / p) * size`` of gradients and sums, 0 where the sum is; ``a * (p * b ** (p - 1))`` of
        what windows give and inputs; a times the sign of b.
    """
    real, power = REAL[code], power_of(code)
    formulas = {
        "outer": lambda a, b, n: real(0) if b == real(0) else a * (power(b, real(1) / n[0] - real(1)) / n[0]) * n[1],
        "inner": lambda a, b, n: a * (n[0] * power(b, n[0] - real(1))),
        "sign": lambda a, b, n: a if b > real(0) else -a if b < real(0) else b * real(0),
    }
    factor = device(formulas[kind])

    def multiply_elements(a, b, out, g, reals):
        i = uint32(uint32(uint32(cuda.blockIdx.x) * uint32(threads)) + uint32(cuda.threadIdx.x))
        if i < g[0]:
            # No read-only load: the result may stand where a stood.
            out[i] = factor(a[i], b[i], reals)

    array = pointer(code)
    arguments = (array, array, array, types.UniTuple(types.uint32, 1), types.UniTuple(real, 2))
    return Kernel(multiply_elements, arguments, threads)


def run(stream: Any, kind: str, a: Buffer, b: Buffer, out: Buffer, p: float, size: int) -> None:
    """Fill `out` with a factor times a; all are contiguous, and a may be out."""
    if out.size:
        reals = tuple(map(out.dtype.type, (p, size)))
        arguments = (a, b, out, (np.uint32(out.size),), reals)
        launch(stream, norm_factors, (code_of(out.dtype), kind, THREADS), blocks_of(out.size, THREADS), arguments)
