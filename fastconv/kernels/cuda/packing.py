"""Weights in the order that the tiles read: for each group [k][oc], padded with zeros to whole tiles."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import cuda, types, uint32

from fastconv.kernels.cuda.buffers import Buffer, empty
from fastconv.kernels.cuda.memory import REAL, REAL_CODE, as_dtype, code_of, load, pointer
from fastconv.kernels.cuda.runtime import Kernel, blocks_of, launch

THREADS = 128


def transpose(code: str, threads: int) -> Kernel:
    """Return the kernel that writes one element of the packed weight per thread."""
    real = REAL[code]

    def pack_weight(weight, packed, g):
        total, K, KP, OCG, MP = g
        i = uint32(uint32(uint32(cuda.blockIdx.x) * uint32(threads)) + uint32(cuda.threadIdx.x))
        if i >= total:
            return
        row = uint32(i // MP)
        m = uint32(i - uint32(row * MP))
        group = uint32(row // KP)
        k = uint32(row - uint32(group * KP))
        value = real(0)
        if m < OCG and k < K:
            oc = uint32(uint32(group * OCG) + m)
            value = real(load(weight, uint32(uint32(oc * K) + k)))
        packed[i] = value

    numbers = types.UniTuple(types.uint32, 5)
    return Kernel(pack_weight, (pointer(code), pointer(REAL_CODE[code]), numbers), threads)


def pack(stream: Any, weight: Buffer, groups: int, KP: int, MP: int) -> Buffer:
    """Return the packed form of a contiguous weight (OC, ICG, *K): (groups, KP, MP)."""
    OC, K = weight.shape[0], int(np.prod(weight.shape[1:], dtype=np.int64))
    code = code_of(weight.dtype)
    packed = empty((groups, KP, MP), as_dtype(REAL_CODE[code]), stream)
    total = groups * KP * MP
    numbers = tuple(map(np.uint32, (total, K, KP, OC // groups, MP)))
    launch(stream, transpose, (code, THREADS), blocks_of(total, THREADS), (weight, packed, numbers))
    return packed
