"""The factors of separable kernels: their outer product, and their gradients from that of the product."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import cuda, types, uint32

from fastconv.kernels.cuda.buffers import Buffer, empty
from fastconv.kernels.cuda.gradient_sums import channel_sums
from fastconv.kernels.cuda.memory import REAL, code_of, load, pointer
from fastconv.kernels.cuda.runtime import Kernel, blocks_of, launch

THREADS = 128


def outer(code: str, threads: int) -> Kernel:
    """Return the kernel ``weight[c, h, w] = column[c, h] * row[c, w]``, one element per thread."""

    def outer_product(column, row, weight, g):
        total, KH, KW, CS, RS = g
        i = uint32(uint32(uint32(cuda.blockIdx.x) * uint32(threads)) + uint32(cuda.threadIdx.x))
        if i < total:
            rest = uint32(i // KW)
            c = uint32(rest // KH)
            kh, kw = uint32(rest - uint32(c * KH)), uint32(i - uint32(rest * KW))
            one, other = load(column, uint32(uint32(c * CS) + kh)), load(row, uint32(uint32(c * RS) + kw))
            weight[i] = one * other

    array = pointer(code)
    return Kernel(outer_product, (array, array, array, types.UniTuple(types.uint32, 5)), threads)


def contract(code: str, threads: int) -> Kernel:
    """Return the kernel ``out[c, i] = sum over j of weight[c, i, j] * factor[c, j]``, one element per thread."""
    real = REAL[code]

    def contract_with_factor(weight, factor, out, g):
        total, N, taps, CS, NS, JS, FS = g
        i = uint32(uint32(uint32(cuda.blockIdx.x) * uint32(threads)) + uint32(cuda.threadIdx.x))
        if i < total:
            c = uint32(i // N)
            at = uint32(uint32(c * CS) + uint32(uint32(i - uint32(c * N)) * NS))
            value = real(0)
            for j in range(taps):
                value += load(weight, at) * load(factor, uint32(uint32(c * FS) + uint32(j)))
                at = uint32(at + JS)
            out[i] = value

    array = pointer(code)
    return Kernel(contract_with_factor, (array, array, array, types.UniTuple(types.uint32, 7)), threads)


def product(stream: Any, column: Buffer, row: Buffer, weight: Buffer) -> None:
    """Fill the weight (C, 1, KH, KW) with the outer products of contiguous factors, of each channel or one for all."""
    KH, KW = weight.shape[2:]
    numbers = tuple(map(np.uint32, (weight.size, KH, KW, *(_step(factor) for factor in (column, row)))))
    literals = code_of(weight.dtype), THREADS
    if weight.size:
        launch(stream, outer, literals, blocks_of(weight.size, THREADS), (column, row, weight, numbers))


def gradient(stream: Any, dw: Buffer, other: Buffer, axis: int, out: Buffer) -> None:
    """Fill `out` with the gradient of the factor along an axis of the kernel; `other` is that along the other one."""
    C, _, KH, KW = dw.shape
    (N, NS), (taps, JS) = ((KH, KW), (KW, 1)) if axis == 0 else ((KW, 1), (KH, KW))
    each = out if len(out.shape) == 2 else empty((C, N), out.dtype, stream)
    numbers = tuple(map(np.uint32, (C * N, N, taps, KH * KW, NS, JS, _step(other))))
    if C:
        launch(stream, contract, (code_of(dw.dtype), THREADS), blocks_of(C * N, THREADS), (dw, other, each, numbers))
    if each is not out:
        channel_sums(stream, each.reshaped(C, 1, 1, 1, N), "channels_last", out)


def _step(factor: Buffer) -> int:
    """Return how far the next channel's factor is."""
    return factor.shape[-1] if len(factor.shape) == 2 else 0
