"""Sums over all pixels: partial sums by many blocks, which a second kernel adds in their order, without atomics.

So the same problem gives the same bits on every run and device. The gradient of a bias is summed by a tree in each
block.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import cuda, types, uint32

from fastconv.kernels.cuda.buffers import Buffer, empty
from fastconv.kernels.cuda.memory import REAL, REAL_CODE, code_of, load, pointer
from fastconv.kernels.cuda.runtime import Kernel, blocks_of, launch

THREADS = 128
# Pixels that a thread adds, at most.
SPAN = 64


def add_parts(code: str, threads: int) -> Kernel:
    """Return the kernel ``out[i] = sum over s of parts[s, i]``, one thread for each i."""
    real = REAL[code]

    def add_partial_sums(parts, out, g):
        n, count = g
        i = uint32(uint32(uint32(cuda.blockIdx.x) * uint32(threads)) + uint32(cuda.threadIdx.x))
        if i < n:
            total, at = real(0), i
            for _ in range(count):
                total += load(parts, at)
                at = uint32(at + n)
            out[i] = total

    array = pointer(REAL_CODE[code])
    return Kernel(add_partial_sums, (array, array, types.UniTuple(types.uint32, 2)), threads)


def add_pixels(code: str, lanes: int, threads: int) -> Kernel:
    """Return the kernel of partial sums over pixels, (blocks along x, channels).

    `lanes` neighbouring threads take as many channels: 1 where pixels are neighbours in memory, 32 where channels are.
    """
    real, ROWS = REAL[code], threads // lanes
    LEVELS = int(math.log2(ROWS))

    def add_pixels_of_channels(dy, parts, g):
        P, C, span, ODHW, OHW, OW, YN, YC, YD, YH, YW = g
        sums = cuda.shared.array(threads, real)
        t = uint32(cuda.threadIdx.x)
        row = uint32(t // uint32(lanes))
        c = uint32(uint32(uint32(cuda.blockIdx.y) * uint32(lanes)) + uint32(t % uint32(lanes)))
        p = uint32(uint32(uint32(uint32(cuda.blockIdx.x) * span) * uint32(ROWS)) + row)
        total = real(0)
        for _ in range(span):
            if p < P and c < C:
                n = uint32(p // ODHW)
                rest = uint32(p - uint32(n * ODHW))
                od = uint32(rest // OHW)
                rest = uint32(rest - uint32(od * OHW))
                oh = uint32(rest // OW)
                ow = uint32(rest - uint32(oh * OW))
                at = uint32(uint32(uint32(n * YN) + uint32(c * YC)) + uint32(od * YD))
                total += real(load(dy, uint32(uint32(at + uint32(oh * YH)) + uint32(ow * YW))))
            p = uint32(p + uint32(ROWS))
        sums[t] = total
        cuda.syncthreads()
        half = uint32(threads // 2)
        for _ in range(LEVELS):
            if t < half:
                sums[t] += sums[uint32(t + half)]
            cuda.syncthreads()
            half = uint32(half // uint32(2))
        if row == 0 and c < C:
            parts[uint32(uint32(uint32(cuda.blockIdx.x) * C) + c)] = sums[t]

    arrays = pointer(code), pointer(REAL_CODE[code])
    return Kernel(add_pixels_of_channels, (*arrays, types.UniTuple(types.uint32, 11)), threads)


def finish(stream: Any, parts: Buffer, out: Buffer) -> None:
    """Fill `out` with the sum of the parts (count, *out.shape), both contiguous."""
    numbers = tuple(map(np.uint32, (out.size, parts.shape[0])))
    launch(stream, add_parts, (code_of(out.dtype), THREADS), blocks_of(out.size, THREADS), (parts, out, numbers))


def channel_sums(stream: Any, dy: Buffer, layout: str, out: Buffer) -> None:
    """Fill `out` with the sums over all but the channels of dy, which has three spatial axes and any strides."""
    shape, strides = dy.shape, dy.strides
    if layout == "channels_last":
        shape, strides = ((each[0], each[4], *each[1:4]) for each in (shape, strides))
    N, C, OD, OH, OW = shape
    pixels, lanes = N * OD * OH * OW, 32 if layout == "channels_last" else 1
    rows = THREADS // lanes
    span = min(SPAN, -(-pixels // rows))
    blocks = max(1, blocks_of(pixels, rows * span)) if pixels else 1
    parts = out if blocks == 1 else empty((blocks, C), out.dtype, stream)
    sizes = (pixels, C, span, OD * OH * OW, OH * OW, OW, *strides)
    arguments = (dy, parts, tuple(map(np.uint32, sizes)))
    launch(stream, add_pixels, (code_of(dy.dtype), lanes, THREADS), (blocks, blocks_of(C, lanes)), arguments)
    if blocks > 1:
        finish(stream, parts, out)
