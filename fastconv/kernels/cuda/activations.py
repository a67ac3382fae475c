"""Activations of whole arrays, one element per thread: those that an epilogue does not fuse, and all by themselves.

exp is only taken of negative numbers, so nothing overflows; the formulas are those of fastconv/epilogue.py.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
from numba import cuda, types, uint32

from fastconv.epilogue import LEAKY_SLOPE
from fastconv.kernels.cuda.buffers import Buffer
from fastconv.kernels.cuda.memory import ELEMENT, REAL, as_dtype, code_of, device, pointer
from fastconv.kernels.cuda.runtime import Kernel, blocks_of, launch

THREADS = 128


@cache
def formula(name: str, code: str) -> Any:
    """Return the device function of an activation in the real type of a storage type; integers have both clamps."""
    real = REAL.get(code, ELEMENT[code])
    if as_dtype(code).kind in "iu":
        least, most = real(0), real(6)
        if name == "relu6":
            return device(lambda x: least if x < least else (most if x > most else x))
        return device(lambda x: least if x < least else x)
    zero, one, half, root = real(0), real(1), real(0.5), real(math.sqrt(0.5))
    three, six, slope = real(3), real(6), real(LEAKY_SLOPE)
    scale, cubic = real(2 * math.sqrt(2 / math.pi)), real(0.044715)

    @device
    def sigmoid(z):
        tail = math.exp(-math.fabs(z))
        return (one if z >= zero else tail) / (one + tail)

    @device
    def clamped(x, high):
        y = zero if x < zero else x
        return high if y > high else y

    formulas = {
        "relu": lambda x: zero if x < zero else x,
        "relu6": lambda x: clamped(x, six),
        "leaky_relu": lambda x: x * slope if x < zero else x,
        "sigmoid": lambda x: sigmoid(x),
        "tanh": lambda x: math.tanh(x),
        "silu": lambda x: x * sigmoid(x),
        "gelu": lambda x: x * (half * math.erfc(-x * root)),
        "gelu_tanh": lambda x: x * sigmoid(scale * (x + cubic * (x * x * x))),
        "hardswish": lambda x: x * (clamped(x + three, six) / six),
    }
    return device(formulas[name])


def elementwise(code: str, name: str, threads: int) -> Kernel:
    """Return the kernel of an activation."""
    element, activate = ELEMENT[code], formula(name, code)
    real = REAL.get(code, element)

    def activate_elements(x, out, g):
        i = uint32(uint32(uint32(cuda.blockIdx.x) * uint32(threads)) + uint32(cuda.threadIdx.x))
        if i < g[0]:
            # No read-only load: the result may stand where the input stood.
            out[i] = element(activate(real(x[i])))

    return Kernel(activate_elements, (pointer(code), pointer(code), types.UniTuple(types.uint32, 1)), threads)


def run(stream: Any, name: str | None, x: Buffer, out: Buffer) -> None:
    """Fill `out` with an activation of `x`, both contiguous; they may be the same."""
    total = math.prod(x.shape)
    if total:
        arguments = (x, out, (np.uint32(total),))
        launch(stream, elementwise, (code_of(x.dtype), name, THREADS), blocks_of(total, THREADS), arguments)
