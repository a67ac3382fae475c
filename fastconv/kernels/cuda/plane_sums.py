"""One window that is everything: maxima, averages and norms of whole planes.

K elements of P planes and L lanes, (P, K, L): TL lanes along L, which are neighbours in memory with channels_last, and
TK along K, which are neighbours with channels_first. Each thread reduces every TK-th element; then a tree in shared
memory of a fixed shape, so that results have the same bits every time.

Source: M. Harris, Optimizing parallel reduction in CUDA, 2007.
"""

from __future__ import annotations

from typing import Any

from numba import cuda, types, uint32

from fastconv.kernels.cuda.buffers import Buffer
from fastconv.kernels.cuda.division import numbers
from fastconv.kernels.cuda.memory import REAL, code_of, device, load, pointer
from fastconv.kernels.cuda.runtime import Kernel, blocks_of, launch
from fastconv.kernels.cuda.windows import REALS, SEARCHES, finish_of, tap_of

THREADS, LANES = 128, 32
SIZES = 7


def plane_sums(code: str, op: str, indexed: bool, TL: int, threads: int) -> Kernel:
    """Return the kernel; `op` and `indexed` are those of kernels/cuda/windows.py."""
    real, tap, finish = REAL[code], device(tap_of(op, code)), device(finish_of(op, code))
    MAX, TK = op in SEARCHES, threads // TL

    def reduce_planes(x, out, indices, g, reals):
        K, L, BL, XP, XK, XL, OK = g
        values = cuda.shared.array(threads, real)
        places = cuda.shared.array(threads, types.uint32)
        t, block = uint32(cuda.threadIdx.x), uint32(cuda.blockIdx.x)
        plane = uint32(block // BL)
        k = uint32(t // uint32(TL))
        lane = uint32(uint32(uint32(block - uint32(plane * BL)) * uint32(TL)) + uint32(t % uint32(TL)))
        value, found = reals[0], k
        if lane < L:
            at = uint32(uint32(uint32(plane * XP) + uint32(lane * XL)) + uint32(k * XK))
            i = k
            while i < K:
                v = tap(real(load(x, at)), reals)
                if not MAX:
                    value += v
                elif v > value or v != v:
                    value, found = v, i
                i, at = uint32(i + uint32(TK)), uint32(at + OK)
        values[t], places[t] = value, found
        cuda.syncthreads()
        half = uint32(TK // 2)
        while half > 0:
            if k < half:
                other = uint32(t + uint32(half * uint32(TL)))
                v, j = values[other], places[other]
                value, found = values[t], places[t]
                if not MAX:
                    values[t] = value + v
                else:
                    # The last NaN, else the first of the largest.
                    later = v != v and (value == value or j > found)
                    if later or v > value or (v == value and j < found):
                        values[t], places[t] = v, j
            cuda.syncthreads()
            half = uint32(half >> uint32(1))
        if k == 0 and lane < L:
            here = uint32(uint32(plane * L) + lane)
            # How many elements an average has is part of `reals`.
            out[here] = finish(values[t], uint32(1), reals)
            if indexed:
                indices[here] = types.int64(places[t])

    array, own = pointer(code), types.UniTuple(types.uint32, SIZES)
    arguments = (array, array, pointer("l"), own, types.UniTuple(real, REALS))
    return Kernel(reduce_planes, arguments, threads)


def run(stream: Any, op: str, x: Buffer, target: Buffer, indices: Buffer | None, reals: tuple[float, ...]) -> None:
    """Fill `target`, and `indices` if there are any, from x (P, D, H, W, L) whose planes have one step."""
    code, (P, D, H, W, L), (XP, XD, XH, XW, XL) = code_of(x.dtype), x.shape, x.strides
    if P * L == 0:
        return
    TL = 1 if L == 1 else LANES
    step = XW if W > 1 else XH if H > 1 else XD
    BL = blocks_of(L, TL)
    sizes = (D * H * W, L, BL, XP, step, XL, step * (THREADS // TL))
    arguments = (x, target, indices, numbers(sizes), tuple(map(x.dtype.type, reals)))
    launch(stream, plane_sums, (code, op, indices is not None, TL, THREADS), P * BL, arguments)
