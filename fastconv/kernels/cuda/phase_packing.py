"""Weights of the stride phases of a transposed convolution, in the order that the tiles read: all in one launch.

A table says for each row, a tap of an input channel in a phase and group, where its weights start; from one output
channel to the next they are as many elements apart as the kernel has taps.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import cuda, types, uint32

from fastconv.kernels.cuda.buffers import Buffer, empty
from fastconv.kernels.cuda.memory import REAL, REAL_CODE, as_dtype, code_of, load, pointer
from fastconv.kernels.cuda.runtime import Kernel, blocks_of, launch

THREADS = 128
# Of a row that only fills a tile.
NOWHERE = 0xFFFFFFFF


def regroup(code: str, threads: int) -> Kernel:
    """Return the kernel that writes one element of the packed weight per thread."""
    real = REAL[code]

    def regroup_weight(weight, rows, packed, g):
        total, MP, OCG, taps = g
        i = uint32(uint32(uint32(cuda.blockIdx.x) * uint32(threads)) + uint32(cuda.threadIdx.x))
        if i >= total:
            return
        row = uint32(i // MP)
        m = uint32(i - uint32(row * MP))
        first = load(rows, row)
        value = real(0)
        if m < OCG and first != uint32(NOWHERE):
            value = real(load(weight, uint32(first + uint32(m * taps))))
        packed[i] = value

    arrays = pointer(code), pointer("I"), pointer(REAL_CODE[code])
    return Kernel(regroup_weight, (*arrays, types.UniTuple(types.uint32, 4)), threads)


def rows_of(channels: tuple[int, int, int], kernel: tuple[int, ...], taps: list[list[int]], KP: int) -> np.ndarray:
    """Return the rows (groups, KP) of one phase, which has the taps of these numbers along each axis.

    `channels` are the groups, and the input and output channels of a group; the weight is (IC, OCG, *kernel).
    """
    G, ICG, OCG = channels
    KD, KH, KW = kernel
    at = [np.array(numbers, np.int64) for numbers in taps]
    tap = (at[0][:, None, None] * KH + at[1][:, None]) * KW + at[2]
    first = np.arange(G * ICG, dtype=np.int64).reshape(G, ICG, 1) * (OCG * KD * KH * KW) + tap.reshape(-1)
    rows = np.full((G, KP), NOWHERE, np.uint32)
    rows[:, : ICG * tap.size] = first.reshape(G, -1)
    return rows


def pack(stream: Any, weight: Buffer, rows: Buffer, MP: int) -> Buffer:
    """Return the packed form of a contiguous weight (IC, OCG, *K), a vector of MP elements for each of the rows."""
    OCG, taps = weight.shape[1], int(np.prod(weight.shape[2:], dtype=np.int64))
    code = code_of(weight.dtype)
    packed = empty((rows.size, MP), as_dtype(REAL_CODE[code]), stream)
    numbers = tuple(map(np.uint32, (packed.size, MP, OCG, taps)))
    launch(stream, regroup, (code, THREADS), blocks_of(packed.size, THREADS), (weight, rows, packed, numbers))
    return packed
