"""Weights in the order that the tiles read: for each block of channels [k][oc], padded with zeros to whole tiles.

For tensor cores the order within 16 taps is that in which lanes load fragments (tensor_cores.py).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import cuda, types, uint32

from fastconv.kernels.cuda.buffers import Buffer, empty
from fastconv.kernels.cuda.memory import REAL, REAL_CODE, as_dtype, code_of, load, pointer
from fastconv.kernels.cuda.runtime import Kernel, blocks_of, launch
from fastconv.kernels.cuda.tensor_cores import SLAB, to_tf32

THREADS = 128


def transpose(code: str, threads: int, cores: bool = False) -> Kernel:
    """Return the kernel that writes one element of the packed weight per thread, for tensor cores in TF32."""
    real = REAL[code]
    kept = to_tf32 if cores else real

    def pack_weight(weight, packed, g):
        total, K, KP, OCG, MT, BM = g
        i = uint32(uint32(uint32(cuda.blockIdx.x) * uint32(threads)) + uint32(cuda.threadIdx.x))
        if i >= total:
            return
        row = uint32(i // BM)
        block = uint32(row // KP)
        group = uint32(block // MT)
        k = uint32(row - uint32(block * KP))
        m = uint32(uint32(uint32(block - uint32(group * MT)) * BM) + uint32(i - uint32(row * BM)))
        if cores:
            slab = uint32(uint32(k // uint32(SLAB)) * uint32(SLAB))
            rest = uint32(i - uint32(uint32(uint32(block * KP) + slab) * BM))
            # Sixteen rows, two pairs of taps of each lane, its rows and taps: as tensor_cores.py says.
            lane, q = uint32(uint32(rest // uint32(4)) % uint32(32)), uint32(rest % uint32(4))
            row = uint32(uint32(uint32(rest // uint32(256)) * uint32(16)) + uint32(lane // uint32(4)))
            row = uint32(row + uint32(uint32(q % uint32(2)) * uint32(8)))
            m = uint32(uint32(uint32(block - uint32(group * MT)) * BM) + row)
            k = uint32(uint32(slab + uint32(uint32(lane % uint32(4)) * uint32(4))) + uint32(q // uint32(2)))
            k = uint32(k + uint32(uint32(uint32(rest // uint32(128)) % uint32(2)) * uint32(2)))
        value = real(0)
        if m < OCG and k < K:
            oc = uint32(uint32(group * OCG) + m)
            value = kept(load(weight, uint32(uint32(oc * K) + k)))
        packed[i] = value

    numbers = types.UniTuple(types.uint32, 6)
    return Kernel(pack_weight, (pointer(code), pointer(REAL_CODE[code]), numbers), threads)


def pack(stream: Any, weight: Buffer, groups: int, KP: int, BM: int, cores: bool = False) -> Buffer:
    """Return the packed form of a contiguous weight (OC, ICG, *K): (groups, blocks of channels, KP, BM)."""
    OC, K = weight.shape[0], int(np.prod(weight.shape[1:], dtype=np.int64))
    code, MT = code_of(weight.dtype), blocks_of(OC // groups, BM)
    packed = empty((groups, MT, KP, BM), as_dtype(REAL_CODE[code]), stream)
    numbers = tuple(map(np.uint32, (packed.size, K, KP, OC // groups, MT, BM)))
    literals = (code, THREADS, *[True] * cores)
    launch(stream, transpose, literals, blocks_of(packed.size, THREADS), (weight, packed, numbers))
    return packed
