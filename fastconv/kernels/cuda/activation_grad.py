"""The pullback of an activation: ``grad * f'(x)``, one element per thread.

The derivatives are those of kernels/cpu/activation_grad.py: no tail cancels, exp is only taken of negative numbers, and
where a derivative is 0 by definition the gradient is 0 even if what comes from above is not finite.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
from numba import cuda, types, uint32

from fastconv.epilogue import LEAKY_SLOPE
from fastconv.kernels.cuda.buffers import Buffer
from fastconv.kernels.cuda.memory import ELEMENT, REAL, code_of, device, load, pointer
from fastconv.kernels.cuda.runtime import Kernel, blocks_of, launch

THREADS = 128


@cache
def derivative(name: str, code: str) -> Any:
    """Return the device function (grad, x) of an activation in the real type of a storage type."""
    real = REAL[code]
    zero, one, half, three, six, four = map(real, (0, 1, 0.5, 3, 6, 4))
    slope, root, density = real(LEAKY_SLOPE), real(math.sqrt(0.5)), real(1 / math.sqrt(2 * math.pi))
    scale, cubic = real(2 * math.sqrt(2 / math.pi)), real(0.044715)
    steep = real(3 * 0.044715 * 2 * math.sqrt(2 / math.pi))

    @device
    def logistic(z):
        """The derivative of the sigmoid"""
        tail = math.exp(-math.fabs(z))
        return tail / ((one + tail) * (one + tail))

    @device
    def sigmoid(z):
        tail = math.exp(-math.fabs(z))
        return (one if z >= zero else tail) / (one + tail)

    @device
    def gelu_tanh(g, x):
        z = scale * (x + cubic * (x * x * x))
        return g * (sigmoid(z) + x * logistic(z) * (scale + steep * (x * x)))

    formulas = {
        "relu": lambda g, x: zero if x <= zero else g,
        "relu6": lambda g, x: zero if x <= zero or x >= six else g,
        "leaky_relu": lambda g, x: g if x > zero else g * slope,
        "sigmoid": lambda g, x: g * logistic(x),
        "tanh": lambda g, x: g * (four * logistic(x + x)),
        "silu": lambda g, x: g * (sigmoid(x) * (one + x * sigmoid(-x))),
        "gelu": lambda g, x: g * (half * math.erfc(-x * root) + x * math.exp(-half * (x * x)) * density),
        "gelu_tanh": lambda g, x: gelu_tanh(g, x),
        "hardswish": lambda g, x: zero if x <= -three else (g if x >= three else g * (x / three + half)),
    }
    return device(formulas[name])


def elementwise(code: str, name: str, threads: int) -> Kernel:
    """Return the kernel of an activation's pullback."""
    real, element, pull = REAL[code], ELEMENT[code], derivative(name, code)

    def pull_elements(grad, x, out, g):
        i = uint32(uint32(uint32(cuda.blockIdx.x) * uint32(threads)) + uint32(cuda.threadIdx.x))
        if i < g[0]:
            out[i] = element(pull(real(load(grad, i)), real(load(x, i))))

    array = pointer(code)
    return Kernel(pull_elements, (array, array, array, types.UniTuple(types.uint32, 1)), threads)


def run(stream: Any, name: str, grad: Buffer, x: Buffer, out: Buffer) -> None:
    """Fill `out` with the gradient of x from that of its activation; all are contiguous, `out` is a third array."""
    if x.size:
        arguments = (grad, x, out, (np.uint32(x.size),))
        launch(stream, elementwise, (code_of(x.dtype), name, THREADS), blocks_of(x.size, THREADS), arguments)
