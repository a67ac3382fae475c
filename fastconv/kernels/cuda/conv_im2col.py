"""Columns in memory, then one product: columns[c, k, p] is the input under tap k at pixel p, zero in the padding.

The product is the implicit GEMM (conv_direct.py) of a 1x1 kernel on the columns, whose channels are (c, k). Columns of
more bytes than the workspace come in bands: whole images, or rows of one. It moves KH * KW times the input through
memory, so it is there to be compared with; the implicit GEMM computes the same sums in the same order.

Source: Chellapilla, Puri and Simard 2006.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numba import cuda, types, uint32

from fastconv.errors import UnsupportedError
from fastconv.kernels.cuda import activations, conv_direct
from fastconv.kernels.cuda.buffers import GRID_LIMIT, LIMIT, Buffer, empty
from fastconv.kernels.cuda.epilogue import is_fused
from fastconv.kernels.cuda.memory import ELEMENT, code_of, load, load4, pointer
from fastconv.kernels.cuda.moves import bordered
from fastconv.kernels.cuda.runtime import Kernel, blocks_of, launch

# Threads of a block, a pixel each, and taps of a thread.
THREADS, TAPS = 128, 8
SIZES = 20
# Bytes of columns where no limit is set.
WORKSPACE = 1 << 28


def columns(code: str, threads: int) -> Kernel:
    """Return the kernel that writes some taps of one pixel per thread."""
    element = ELEMENT[code]

    def write_columns(x, table, out, g):
        P, K, start, ODHW, OHW, OW, XN, XD, XH, XW, D, H, W = g[:13]
        SD, SH, SW, PF, PT, PL, taps = g[13:]
        i = uint32(uint32(uint32(cuda.blockIdx.x) * uint32(threads)) + uint32(cuda.threadIdx.x))
        if i >= P:
            return
        p = uint32(start + i)
        n = uint32(p // ODHW)
        od = uint32(uint32(p - uint32(n * ODHW)) // OHW)
        oh = uint32(uint32(p % OHW) // OW)
        d0, h0 = uint32(uint32(od * SD) - PF), uint32(uint32(oh * SH) - PT)
        w0 = uint32(uint32(uint32(p % OW) * SW) - PL)
        first = uint32(uint32(uint32(n * XN) + uint32(d0 * XD)) + uint32(uint32(h0 * XH) + uint32(w0 * XW)))
        k = uint32(uint32(cuda.blockIdx.y) * taps)
        last = min(uint32(k + taps), K)
        while k < last:
            offset, kd, kh, kw = load4(table, uint32(k * uint32(4)), 0)
            value = element(0)
            if (uint32(d0 + kd) < D) & (uint32(h0 + kh) < H) & (uint32(w0 + kw) < W):
                value = load(x, uint32(first + offset))
            out[uint32(uint32(k * P) + i)] = value
            k = uint32(k + uint32(1))

    array = pointer(code)
    return Kernel(write_columns, (array, pointer("I"), array, types.UniTuple(types.uint32, SIZES)), threads)


class Program:
    """A convolution on columns in memory, ready to run."""

    def __init__(self, function: str, g: Any, activation: str | None, limit: int | None):
        self.function, self.geometry, self.activation = function, g, activation
        self.K, self.code = g.IC * g.KD * g.KH * g.KW, code_of(np.dtype(g.dtype))
        self.fused = is_fused(activation)
        size = np.dtype(g.dtype).itemsize
        most = min((WORKSPACE if limit is None else limit) // size, LIMIT - 1) // max(self.K, 1)
        image = g.OD * g.OH * g.OW
        # Pixels of a band: of whole images, else of rows.
        self.band = most // image * image if most >= image else most // g.OW * g.OW
        if not self.band or self.K > GRID_LIMIT * TAPS:
            raise UnsupportedError(
                f'{function}: algorithm "im2col" refused: it needs {self.K * g.OW * size} bytes for a row of columns, '
                f"the limit is {limit} (set_max_workspace); direct can"
            )
        self.tile = conv_direct.best_tile(self.code, g.OCG, min(self.band, g.N * image), g.G)

    def pack(self, stream: Any, weight: Buffer) -> Buffer:
        """Return the weight as the product reads it."""
        return self._product(1, 1).pack(stream, weight)

    def run(
        self, stream: Any, x: Buffer, packed: Buffer, bias: Buffer | None, residual: Buffer | None, out: Buffer
    ) -> None:
        """Fill `out`; it and the residual are contiguous, with three spatial axes."""
        g, last = self.geometry, self.geometry.layout == "channels_last"
        if g.padding_mode != "zeros":
            x, g = bordered(stream, x, g)
        image = g.OD * g.OH * g.OW
        total = g.N * image
        matrix = empty((self.K, min(self.band, total)), x.dtype, stream)
        start, step = 0, self.band
        while start < total:
            # Rows of an image end with it.
            P = min(step, total - start if step >= image else image - start % image)
            self._write(stream, x, matrix, g, start, P)
            N, pixels = (P // image, image) if image <= P else (1, P)
            YN, YC, *_, YW = conv_direct.channels_first(out.strides, g.layout)
            first = start // image * YN + start % image * YW
            views = [_view(matrix, N, (pixels, P, 1), last), _view(out, N, (YN, YC, YW), last, first)]
            added = None if residual is None else _view(residual, N, (YN, YC, YW), last, first)
            self._product(N, pixels).run(stream, views[0], packed, bias, added, views[1])
            start += P
        if not self.fused:
            activations.run(stream, self.activation, out, out)

    def _write(self, stream: Any, x: Buffer, matrix: Buffer, g: Any, start: int, P: int) -> None:
        XN, XC, XD, XH, XW = conv_direct.channels_first(x.strides, g.layout)
        table = conv_direct.tap_table((g.IC, g.KD, g.KH, g.KW), (g.DD, g.DH, g.DW), (XC, XD, XH, XW), self.K)
        sizes: tuple[int, ...] = (
            P,
            self.K,
            start,
            g.OD * g.OH * g.OW,
            g.OH * g.OW,
            g.OW,
            XN,
            XD,
            XH,
            XW,
            g.D,
            g.H,
            g.W,
        )
        sizes += (g.SD, g.SH, g.SW, g.PF, g.PT, g.PL, TAPS)
        numbers = tuple(np.uint32(size & 0xFFFFFFFF) for size in sizes)
        grid = blocks_of(P, THREADS), blocks_of(self.K, TAPS)
        if self.K:
            launch(stream, columns, (self.code, THREADS), grid, (x, table, matrix, numbers))

    def _product(self, N: int, pixels: int) -> Any:
        """Return the convolution of a 1x1 kernel on columns of so many images and pixels of each."""
        ones = dict.fromkeys(("D", "H", "OD", "OH", "KD", "KH", "KW", "SD", "SH", "SW", "DD", "DH", "DW"), 1)
        none = dict.fromkeys(("PF", "PK", "PT", "PB", "PL", "PR"), 0)
        sizes = {"N": N, "IC": self.K, "W": pixels, "OW": pixels, "padding_mode": "zeros"}
        g = self.geometry._replace(**ones, **none, **sizes)
        return _product(self.function, g, self.activation if self.fused else None, self.tile)


def _view(array: Buffer, N: int, steps: tuple[int, int, int], last: bool, first: int = 0) -> Buffer:
    """Return elements as images of one row, whose steps are those of N, C and the pixels."""
    n, c, w = steps
    return array.part(first, (n, 0, 0, w, c) if last else (n, c, 0, 0, w))


@lru_cache(maxsize=512)
def _product(function: str, g: Any, activation: str | None, tile: Any) -> Any:
    return conv_direct.Program(function, g, activation, tile)


@lru_cache(maxsize=512)
def program(function: str, g: Any, activation: str | None, limit: int | None) -> Program:
    """Return a convolution of this geometry, with at most so many bytes of columns."""
    return Program(function, g, activation, limit)
