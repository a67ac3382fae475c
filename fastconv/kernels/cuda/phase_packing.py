"""Weights of the stride phases of a transposed convolution, in the order that the tiles read: all in one launch.

A table says for each row, a tap of an input channel in a phase, a group and a block of output channels, where its
weights start and how many there are; from one output channel to the next they are as many elements apart as the kernel
has taps.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import cuda, types, uint32

from fastconv.kernels.cuda.buffers import Buffer, empty
from fastconv.kernels.cuda.memory import REAL, REAL_CODE, as_dtype, code_of, load, load2, pointer
from fastconv.kernels.cuda.runtime import Kernel, blocks_of, launch

THREADS = 128


def regroup(code: str, threads: int) -> Kernel:
    """Return the kernel that writes one element of the packed weight per thread."""
    real = REAL[code]

    def regroup_weight(weight, rows, packed, g):
        total, BM, taps = g
        i = uint32(uint32(uint32(cuda.blockIdx.x) * uint32(threads)) + uint32(cuda.threadIdx.x))
        if i >= total:
            return
        row = uint32(i // BM)
        m = uint32(i - uint32(row * BM))
        first, channels = load2(rows, uint32(row * uint32(2)), 0)
        value = real(0)
        if m < channels:
            value = real(load(weight, uint32(first + uint32(m * taps))))
        packed[i] = value

    arrays = pointer(code), pointer("I"), pointer(REAL_CODE[code])
    return Kernel(regroup_weight, (*arrays, types.UniTuple(types.uint32, 3)), threads)


def rows_of(
    channels: tuple[int, int, int], kernel: tuple[int, ...], taps: list[list[int]], KP: int, BM: int
) -> np.ndarray:
    """Return the rows of one phase, which has the taps of these numbers along each axis: (groups * blocks * KP, 2).

    `channels` are the groups, and the input and output channels of a group; the weight is (IC, OCG, *kernel).
    """
    G, ICG, OCG = channels
    KD, KH, KW = kernel
    at = [np.array(numbers, np.int64) for numbers in taps]
    tap = (at[0][:, None, None] * KH + at[1][:, None]) * KW + at[2]
    first = np.arange(G * ICG, dtype=np.int64).reshape(G, ICG, 1) * (OCG * KD * KH * KW) + tap.reshape(-1)
    blocks = np.arange(0, OCG, BM)
    # Rows of no channels fill a tile.
    rows = np.zeros((G, len(blocks), KP, 2), np.uint32)
    used = rows[:, :, : ICG * tap.size]
    used[..., 0] = first.reshape(G, 1, -1) + blocks[:, None] * (KD * KH * KW)
    used[..., 1] = np.minimum(OCG - blocks, BM)[:, None]
    return rows.reshape(-1, 2)


def pack(stream: Any, weight: Buffer, rows: Buffer, BM: int) -> Buffer:
    """Return the packed form of a contiguous weight (IC, OCG, *K), a vector of BM elements for each of the rows."""
    taps = int(np.prod(weight.shape[2:], dtype=np.int64))
    code = code_of(weight.dtype)
    packed = empty((rows.size // 2, BM), as_dtype(REAL_CODE[code]), stream)
    numbers = tuple(map(np.uint32, (packed.size, BM, taps)))
    launch(stream, regroup, (code, THREADS), blocks_of(packed.size, THREADS), (weight, rows, packed, numbers))
    return packed
