"""unfold: sliding blocks as columns, one element per thread, whose neighbours are those of a row of columns.

Folding is the sum by tables of taps of kernels/cuda/resample.py.
"""

from __future__ import annotations

from typing import Any

from numba import cuda, types, uint32

from fastconv.kernels.cuda.buffers import Buffer
from fastconv.kernels.cuda.division import magics, numbers, quotient
from fastconv.kernels.cuda.memory import ELEMENT, load, pointer
from fastconv.kernels.cuda.moves import BITS, as_bits
from fastconv.kernels.cuda.runtime import Kernel, blocks_of, launch

THREADS = 128
SIZES = 39


def unfold(code: str, threads: int) -> Kernel:
    """Return the kernel for elements of so many bits: columns (N, C, KD, KH, KW, OD, OH, OW)."""
    element = ELEMENT[code]

    def unfold_blocks(x, out, g):
        total, C, OH, OW, length, XN, XC, XD, XH, XW, D, H, W = g[:13]
        KD, KH, KW, SD, SH, SW, PF, PT, PL, DD, DH, DW = g[13:25]
        i = uint32(uint32(uint32(cuda.blockIdx.x) * uint32(threads)) + uint32(cuda.threadIdx.x))
        if i >= total:
            return
        row = quotient(i, g[25], g[26])
        at = uint32(i - uint32(row * length))
        q = quotient(at, g[27], g[28])
        ow = uint32(at - uint32(q * OW))
        od = quotient(q, g[29], g[30])
        oh = uint32(q - uint32(od * OH))
        q = quotient(row, g[31], g[32])
        kw = uint32(row - uint32(q * KW))
        row = quotient(q, g[33], g[34])
        kh = uint32(q - uint32(row * KH))
        q = quotient(row, g[35], g[36])
        kd = uint32(row - uint32(q * KD))
        n = quotient(q, g[37], g[38])
        c = uint32(q - uint32(n * C))
        d = uint32(uint32(uint32(od * SD) + uint32(kd * DD)) - PF)
        h = uint32(uint32(uint32(oh * SH) + uint32(kh * DH)) - PT)
        w = uint32(uint32(uint32(ow * SW) + uint32(kw * DW)) - PL)
        value = element(0)
        if d < D and h < H and w < W:
            place = uint32(uint32(uint32(n * XN) + uint32(c * XC)) + uint32(d * XD))
            value = load(x, uint32(uint32(place + uint32(h * XH)) + uint32(w * XW)))
        out[i] = value

    array = pointer(code)
    return Kernel(unfold_blocks, (array, array, types.UniTuple(types.uint32, SIZES)), threads)


def run(stream: Any, x: Buffer, out: Buffer, problem: tuple[int, ...]) -> None:
    """Fill columns from x (N, C, D, H, W) of any strides; `problem` are the numbers of `fastconv.geometry.fold`."""
    N, C, D, H, W = x.shape
    OD, OH, OW, KD, KH, KW = problem[3:9]
    length = OD * OH * OW
    total = N * C * KD * KH * KW * length
    if total:
        sizes = (total, C, OH, OW, length, *x.strides, D, H, W, *problem[6:18])
        sizes += magics((length, OW, OH, KW, KH, KD, C))
        code = BITS[x.dtype.itemsize]
        arguments = (as_bits(x, code), as_bits(out, code), numbers(sizes))
        launch(stream, unfold, (code, THREADS), blocks_of(total, THREADS), arguments)
