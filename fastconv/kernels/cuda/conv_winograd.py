"""Winograd's F(2x2,3x3) and F(4x4,3x3): tiles transformed, a product for each of their points, sums transformed back.

With n = m + 2 the tiles are n x n inputs that stand m apart; V[point, c, tile] and U[point, oc, c] are the transformed
input and weight. The products over c are those of the implicit GEMM (conv_direct.py) on a 1x1 kernel, whose groups are
the n * n points. Tiles of more bytes than the workspace come in bands. A NaN or an infinity reaches all outputs of its
tile: to repair them as the CPU does would read the sums again, or wait for the device.

Source: Lavin and Gray 2016, arXiv:1509.09308; Barabasz et al. 2020, arXiv:1803.10986 (points).
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
from numba import cuda, types, uint32

from fastconv.errors import UnsupportedError
from fastconv.kernels.cuda import activations, conv_direct
from fastconv.kernels.cuda.buffers import GRID_LIMIT, LIMIT, Buffer, empty
from fastconv.kernels.cuda.division import magics, numbers, quotient
from fastconv.kernels.cuda.epilogue import is_fused, limits
from fastconv.kernels.cuda.memory import REAL, code_of, load, pointer
from fastconv.kernels.cuda.moves import bordered
from fastconv.kernels.cuda.runtime import Kernel, blocks_of, launch
from fastconv.kernels.cuda.winograd_transforms import transform_in, transform_out
from fastconv.winograd import schemes

# Threads of a block, a tile of one channel each.
THREADS = 128
# Outputs of a tile along H and W.
MENU = (4, 2)
IN_SIZES, OUT_SIZES = 20, 18
# Bytes of transformed tiles and sums where no limit is set.
WORKSPACE = 1 << 28


def forward(code: str, m: int, weight: bool, threads: int) -> Kernel:
    """Return the kernel that transforms tiles of the input, or the `weight`, whose tile is a whole kernel."""
    transform = transform_in(schemes(m, 3).weight if weight else schemes(m, 3).input)

    def winograd_forward(x, out, g):
        total, P, start, TILES, TW, M, XN, XC, XH, XW, H, W, PT, PL = g[:14]
        i = uint32(uint32(uint32(cuda.blockIdx.x) * uint32(threads)) + uint32(cuda.threadIdx.x))
        if i >= total:
            return
        c = quotient(i, g[14], g[15])
        p = uint32(start + uint32(i - uint32(c * P)))
        n = quotient(p, g[16], g[17])
        tile = uint32(p - uint32(n * TILES))
        th = quotient(tile, g[18], g[19])
        h0 = uint32(uint32(th * M) - PT)
        w0 = uint32(uint32(uint32(tile - uint32(th * TW)) * M) - PL)
        first = uint32(uint32(uint32(n * XN) + uint32(c * XC)) + uint32(uint32(h0 * XH) + uint32(w0 * XW)))
        transform(x, out, (first, XH, XW, h0, w0, H, W, i, total))

    array = pointer(code)
    return Kernel(winograd_forward, (array, array, types.UniTuple(types.uint32, IN_SIZES)), threads)


def backward(code: str, m: int, threads: int) -> Kernel:
    """Return the kernel that makes outputs of the sums of all points, with bias, residual and clamp."""
    transform, real = transform_out(schemes(m, 3).output), REAL[code]

    def winograd_backward(sums, bias, residual, out, g, clamp):
        total, P, start, TILES, TW, YN, YC, YH, YW, OH, OW, flags = g[:12]
        i = uint32(uint32(uint32(cuda.blockIdx.x) * uint32(threads)) + uint32(cuda.threadIdx.x))
        if i >= total:
            return
        oc = quotient(i, g[12], g[13])
        p = uint32(start + uint32(i - uint32(oc * P)))
        n = quotient(p, g[14], g[15])
        tile = uint32(p - uint32(n * TILES))
        th = quotient(tile, g[16], g[17])
        oh, ow = uint32(th * uint32(m)), uint32(uint32(tile - uint32(th * TW)) * uint32(m))
        to = uint32(uint32(uint32(n * YN) + uint32(oc * YC)) + uint32(uint32(oh * YH) + uint32(ow * YW)))
        more = real(0)
        if flags & uint32(1):
            more = real(load(bias, oc))
        place = (i, total, to, YH, YW, uint32(OH - oh), uint32(OW - ow), uint32(flags & uint32(2)))
        transform(sums, residual, out, place, more, clamp)

    array, own = pointer(code), types.UniTuple(types.uint32, OUT_SIZES)
    return Kernel(winograd_backward, (array, array, array, array, own, types.UniTuple(real, 3)), threads)


class Program:
    """A convolution of a 3x3 kernel by transformed tiles, ready to run."""

    def __init__(self, function: str, g: Any, activation: str | None, limit: int | None):
        self.function, self.geometry, self.activation = function, g, activation
        self.code, self.fused = code_of(np.dtype(g.dtype)), is_fused(activation)
        self.clamp = limits(activation if self.fused else None, self.code)
        self.m = min(MENU, key=lambda m: math.prod(self._tiles(m)) * (m + 2) ** 2)
        self.points, self.total = (self.m + 2) ** 2, g.N * math.prod(self._tiles(self.m))
        size = np.dtype(g.dtype).itemsize
        # A tile has its points of every channel, in and out.
        each = self.points * (g.IC + g.OC)
        self.band = min((WORKSPACE if limit is None else limit) // size, LIMIT - 1) // each
        if not self.band or self.points * g.G > GRID_LIMIT:
            raise UnsupportedError(
                f'{function}: algorithm "winograd" refused: it needs {each * size} bytes for a tile, '
                f"the limit is {limit} (set_max_workspace), and at most {GRID_LIMIT // self.points} groups; direct can"
            )
        self.band = max(1, min(self.band, self.total))
        self.tile = conv_direct.best_tile(self.code, g.OCG, self.band, self.points * g.G)

    def _tiles(self, m: int) -> tuple[int, int]:
        return blocks_of(self.geometry.OH, m), blocks_of(self.geometry.OW, m)

    def pack(self, stream: Any, weight: Buffer) -> Buffer:
        """Return the transformed weight as the products read it."""
        g, count = self.geometry, self.geometry.OC * self.geometry.ICG
        turned = empty((self.points * g.OC, g.ICG, 1, 1, 1), weight.dtype, stream)
        # A channel for each pair of channels, whose image is one kernel.
        sizes = (count, 1, 0, 1, 1, 0, 0, 9, 3, 1, 3, 3, 0, 0, *magics((1, 1, 1)))
        literals = self.code, self.m, True, THREADS
        if count:
            launch(stream, forward, literals, blocks_of(count, THREADS), (weight, turned, numbers(sizes)))
        return self._products(1).pack(stream, turned)

    def run(
        self, stream: Any, x: Buffer, packed: Buffer, bias: Buffer | None, residual: Buffer | None, out: Buffer
    ) -> None:
        """Fill `out`; it and the input may have any strides, with three spatial axes.

        The residual has the strides of `out`, which is contiguous if the activation is not fused.
        """
        g, points = self.geometry, self.points
        if g.padding_mode != "zeros":
            x, g = bordered(stream, x, g)
        v = empty((points, g.IC, self.band), x.dtype, stream)
        sums = empty((points, g.OC, self.band), x.dtype, stream)
        XN, XC, _, XH, XW = conv_direct.channels_first(x.strides, g.layout)
        YN, YC, _, YH, YW = conv_direct.channels_first(out.strides, g.layout)
        TH, TW = self._tiles(self.m)
        flags = (bias is not None) + 2 * (residual is not None)
        for start in range(0, self.total, self.band):
            P = min(self.band, self.total - start)
            cuts = magics((P, TH * TW, TW))
            sizes = (g.IC * P, P, start, TH * TW, TW, self.m, XN, XC, XH, XW, g.H, g.W, g.PT, g.PL, *cuts)
            literals = self.code, self.m, False, THREADS
            launch(stream, forward, literals, blocks_of(g.IC * P, THREADS), (x, v, numbers(sizes)))
            steps = (0, P, 0, 0, 1)
            product = self._products(P)
            product.run(stream, v._replace(strides=steps), packed, None, None, sums._replace(strides=steps))
            sizes = (g.OC * P, P, start, TH * TW, TW, YN, YC, YH, YW, g.OH, g.OW, flags, *cuts)
            arguments = (sums, bias, residual, out, numbers(sizes), self.clamp)
            launch(stream, backward, (self.code, self.m, THREADS), blocks_of(g.OC * P, THREADS), arguments)
        if not self.fused:
            activations.run(stream, self.activation, out, out)

    def _products(self, P: int) -> Any:
        """Return the convolution of a 1x1 kernel on P tiles, whose groups are the points."""
        g = self.geometry
        ones = dict.fromkeys(("N", "D", "H", "OD", "OH", "KD", "KH", "KW", "SD", "SH", "SW", "DD", "DH", "DW"), 1)
        none = dict.fromkeys(("PF", "PK", "PT", "PB", "PL", "PR"), 0)
        channels = {"G": self.points * g.G, "IC": self.points * g.IC, "OC": self.points * g.OC}
        rest = {"W": P, "OW": P, "padding_mode": "zeros", "layout": "channels_first"}
        return _products(self.function, g._replace(**ones, **none, **channels, **rest), self.tile)


@lru_cache(maxsize=512)
def _products(function: str, g: Any, tile: Any) -> Any:
    return conv_direct.Program(function, g, None, tile)


@lru_cache(maxsize=512)
def program(function: str, g: Any, activation: str | None, limit: int | None) -> Program:
    """Return a convolution of this geometry, with at most so many bytes of transformed tiles and sums."""
    return Program(function, g, activation, limit)
