"""The pullback of maxima: each element of the input gathers the gradients of the windows whose maximum it is.

Which windows may hold an element is a table along each axis; that it is their maximum is what their indices say. So no
two threads write to one place, and sums have the order of the windows. Arrays are (P, D, H, W, L), contiguous.
"""

from __future__ import annotations

from typing import Any

from numba import cuda, types, uint32

from fastconv.kernels.cuda.buffers import Buffer
from fastconv.kernels.cuda.division import magics, numbers, quotient
from fastconv.kernels.cuda.memory import REAL, code_of, load, pointer
from fastconv.kernels.cuda.runtime import Kernel, blocks_of, launch

THREADS = 128
SIZES = 16


def max_pool_grad(code: str, threads: int) -> Kernel:
    """Return the kernel; `table` has (first window, windows) of each input of D, H and W."""
    real = REAL[code]

    def gather_maxima(grad, indices, out, table, g):
        total, L, W, H, D, OD, OH, OW = g[:8]
        i = uint32(uint32(uint32(cuda.blockIdx.x) * uint32(threads)) + uint32(cuda.threadIdx.x))
        if i >= total:
            return
        q = quotient(i, g[8], g[9])
        lane = uint32(i - uint32(q * L))
        rest = quotient(q, g[10], g[11])
        w = uint32(q - uint32(rest * W))
        q = quotient(rest, g[12], g[13])
        h = uint32(rest - uint32(q * H))
        plane = quotient(q, g[14], g[15])
        d = uint32(q - uint32(plane * D))
        number = uint32(uint32(uint32(uint32(d * H) + h) * W) + w)
        at = uint32(d * uint32(2))
        d0, dn = load(table, at), load(table, uint32(at + uint32(1)))
        at = uint32(uint32(D + h) * uint32(2))
        h0, hn = load(table, at), load(table, uint32(at + uint32(1)))
        at = uint32(uint32(uint32(D + H) + w) * uint32(2))
        w0, wn = load(table, at), load(table, uint32(at + uint32(1)))
        acc = real(0)
        base = uint32(uint32(uint32(uint32(plane * OD) + d0) * OH) + h0)
        a = uint32(0)
        while a < dn:
            b = uint32(0)
            while b < hn:
                line = uint32(uint32(base + uint32(a * OH)) + b)
                place = uint32(uint32(uint32(uint32(line * OW) + w0) * L) + lane)
                c = uint32(0)
                while c < wn:
                    if load(indices, place) == types.int64(number):
                        acc += real(load(grad, place))
                    place, c = uint32(place + L), uint32(c + uint32(1))
                b = uint32(b + uint32(1))
            a = uint32(a + uint32(1))
        out[i] = acc

    array, own = pointer(code), types.UniTuple(types.uint32, SIZES)
    return Kernel(gather_maxima, (array, pointer("l"), array, pointer("I"), own), threads)


def run(stream: Any, grad: Buffer, indices: Buffer, out: Buffer, table: Buffer, outs: tuple[int, int, int]) -> None:
    """Fill `out` (P, D, H, W, L) from the gradients and indices (P, *outs, L) of windows."""
    P, D, H, W, L = out.shape
    total = P * D * H * W * L
    if total:
        sizes = numbers((total, L, W, H, D, *outs, *magics((L, W, H, D))))
        arguments = (grad, indices, out, table, sizes)
        launch(stream, max_pool_grad, (code_of(out.dtype), THREADS), blocks_of(total, THREADS), arguments)
