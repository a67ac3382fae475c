"""The gradient of a weight: dw[oc, k] = sum over pixels p of dy[oc, p] * columns[k, p], columns that no one writes.

An implicit GEMM as the convolution's (conv_direct.py), summed over pixels: a block has BM output channels times BN
taps and adds BK pixels at a time; a thread fetches one pixel of some channels and some taps. It keeps the pixel's
coordinates and carries from one to the next, so that a step has no division. Rows of the panels in shared memory stand
SKEW elements apart: the pixels of a warp, which are written below each other, fall on different banks. The pixels are
cut in parts, whose sums gradient_sums.py adds.

Source: as conv_direct.py; the split sums are CUTLASS's "split-K".
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numba import cuda, types, uint32

from fastconv.errors import UnsupportedError
from fastconv.kernels.cuda.buffers import GRID_LIMIT, LIMIT, Buffer, empty
from fastconv.kernels.cuda.conv_direct import BUSY, FAR, TILES, channels_first, tap_table
from fastconv.kernels.cuda.epilogue import limits
from fastconv.kernels.cuda.gradient_sums import finish, pair_sums, steps
from fastconv.kernels.cuda.memory import ALIGNMENT, REAL, REAL_CODE, code_of, load, load4, pointer, store_at
from fastconv.kernels.cuda.microkernel import Tile, corner, rank_updates
from fastconv.kernels.cuda.runtime import Kernel, launch
from fastconv.kernels.cuda.tile_ops import tile_ops

SKEW = 4
# A tile that wastes so much of itself loses to sums of single pairs, by the instructions of both.
WASTE = 16
# Pixels of a part: fewer do not pay, more would round more.
LEAST, MOST = 128, 4096
SIZES = 32


def correlate(code: str, tile: Tile, deep: bool) -> Kernel:
    """Return the kernel of one tile and storage type; `g` are the sizes in the order of `Program.run`.

    Only a `deep` one looks where its taps lie along D.
    """
    BM, BN, BK, TM, TN = tile[:5]
    threads, real, updates, (_, store) = tile.threads, REAL[code], rank_updates(tile, SKEW), tile_ops(tile)
    ROWS, LEFT, RIGHT, first_of = threads // BK, BM + SKEW, BN + SKEW, corner(tile)
    CHANNELS, TAPS, A, PANEL = BM // ROWS, BN // ROWS, BK * LEFT, BK * (LEFT + RIGHT)
    BUFFERS = 2 * PANEL

    def conv_weight_gradient(x, dy, out, table, g, clamp):
        P, K, G, OC, OCG, STEPS, OD, OH, OW, CN, CD, CH, CW, D, H, W = g[:16]
        SD, SH, SW, PF, PT, PL, XN, XG, XD, XH, XW, YN, YC, YD, YH, YW = g[16:]
        panels = cuda.shared.array(BUFFERS, real, alignment=ALIGNMENT)
        acc = cuda.local.array((TM, TN), real)
        a = cuda.local.array(CHANNELS, real)
        b = cuda.local.array(TAPS, real)
        t, z = uint32(cuda.threadIdx.x), uint32(cuda.blockIdx.z)
        part = uint32(z // G)
        group = uint32(z - uint32(part * G))
        m0, n0 = uint32(uint32(cuda.blockIdx.y) * uint32(BM)), uint32(uint32(cuda.blockIdx.x) * uint32(BN))
        # The pixel that this thread fetches, its first channel and tap.
        pb, row = uint32(t % uint32(BK)), uint32(t // uint32(BK))
        p = uint32(uint32(uint32(part * STEPS) * uint32(BK)) + pb)
        ow = uint32(p % OW)
        rest = uint32(p // OW)
        oh = uint32(rest % OH)
        rest = uint32(rest // OH)
        od, n = uint32(rest % OD), uint32(rest // OD)
        channels = uint32(OCG - min(OCG, uint32(m0 + row)))
        kc = uint32(uint32(n0 + row) * uint32(4))
        yc, xg = uint32(uint32(uint32(uint32(group * OCG) + m0) + row) * YC), uint32(group * XG)
        to_a, to_b = (
            uint32(uint32(pb * uint32(LEFT)) + row),
            uint32(uint32(pb * uint32(RIGHT)) + uint32(row + uint32(A))),
        )
        fm, fn = first_of(t)
        for i in range(TM):
            for j in range(TN):
                acc[i, j] = real(0)
        for step in range(uint32(0), uint32(STEPS + uint32(1))):
            here = uint32(uint32(uint32(step) & uint32(1)) * uint32(PANEL))
            if step < STEPS:
                d0, h0 = uint32(uint32(od * SD) - PF), uint32(uint32(oh * SH) - PT)
                w0 = uint32(uint32(ow * SW) - PL)
                first = uint32(uint32(uint32(n * XN) + xg) + uint32(d0 * XD))
                first = uint32(uint32(first + uint32(h0 * XH)) + uint32(w0 * XW))
                ya = uint32(uint32(uint32(n * YN) + yc) + uint32(od * YD))
                ya = uint32(uint32(ya + uint32(oh * YH)) + uint32(ow * YW))
                left = channels
                if p >= P:
                    h0, left = uint32(FAR), uint32(0)
                for q in range(CHANNELS):
                    value = real(0)
                    if uint32(q * ROWS) < left:
                        value = real(load(dy, uint32(ya + uint32(uint32(q * ROWS) * YC))))
                    a[q] = value
                for q in range(TAPS):
                    offset, kd, kh, kw = load4(table, kc, q * ROWS * 4)
                    value = real(0)
                    inside = (uint32(h0 + kh) < H) & (uint32(w0 + kw) < W)
                    if deep:
                        inside = inside & (uint32(d0 + kd) < D)
                    if inside:
                        value = real(load(x, uint32(first + offset)))
                    b[q] = value
                # BK pixels on: each coordinate is carried at most once.
                p, ow = uint32(p + uint32(BK)), uint32(ow + CW)
                carry = uint32(1) if ow >= OW else uint32(0)
                ow, oh = uint32(ow - uint32(carry * OW)), uint32(uint32(oh + CH) + carry)
                carry = uint32(1) if oh >= OH else uint32(0)
                oh, od = uint32(oh - uint32(carry * OH)), uint32(uint32(od + CD) + carry)
                carry = uint32(1) if od >= OD else uint32(0)
                od, n = uint32(od - uint32(carry * OD)), uint32(uint32(n + CN) + carry)
            if step > 0:
                before = uint32(uint32(PANEL) - here)
                updates(acc, panels, uint32(before + fm), uint32(uint32(before + fn) + uint32(A)))
            if step < STEPS:
                for q in range(CHANNELS):
                    store_at(panels, uint32(here + to_a), q * ROWS, a[q])
                for q in range(TAPS):
                    store_at(panels, uint32(here + to_b), q * ROWS, b[q])
            cuda.syncthreads()
        k, m = uint32(n0 + fn), uint32(m0 + fm)
        oc = uint32(uint32(uint32(part * OC) + uint32(group * OCG)) + m)
        # The result is one image of K pixels, whose channels are those of all parts.
        whole, none = uint32(0xFFFFFFFF), uint32(0)
        ends = uint32(K - min(K, k)), uint32(OCG - min(OCG, m))
        store(acc, out, (k, oc, whole, whole, whole, none, none, none, uint32(1), K, ends[0], ends[1]), clamp)

    array, own = pointer(code), types.UniTuple(types.uint32, SIZES)
    arguments = (array, array, pointer(REAL_CODE[code]), pointer("I"), own, types.UniTuple(real, 3))
    return Kernel(conv_weight_gradient, arguments, threads, 2 if threads == 256 and code != "d" else 1)


def tile_of(code: str, channels: int, taps: int) -> Tile:
    """Return the largest tile of the menu that wastes little of itself, else the smallest."""
    for tile in TILES[code]:
        if -(-channels // tile.BM) * tile.BM * -(-taps // tile.BN) * tile.BN <= 1.25 * channels * taps:
            return tile
    return TILES[code][-1]


class Program:
    """The gradient of the weight of a convolution with zero padding, ready to run."""

    def __init__(self, function: str, g: Any):
        self.geometry, self.code = g, code_of(np.dtype(g.dtype))
        self.K, self.pixels = g.ICG * g.KD * g.KH * g.KW, g.N * g.OD * g.OH * g.OW
        self.tile = tile_of(self.code, g.OCG, self.K)
        waste = self.tile.BM * self.tile.BN / max(g.OCG * self.K, 1)
        self.few = waste > WASTE
        across = -(-self.K // self.tile.BN), -(-g.OCG // self.tile.BM)
        # Enough for a large device, of so many pixels that a part pays, of so few that it rounds little.
        parts = min(-(-BUSY // (across[0] * across[1] * g.G)), self.pixels // LEAST)
        parts = max(1, parts, -(-self.pixels // MOST))
        total = -(-self.pixels // self.tile.BK)
        self.steps = -(-total // parts)
        self.parts = -(-total // max(self.steps, 1)) or 1
        self.grid = (*across, g.G * self.parts)
        blocks, elements = max(self.grid[1:]), max(self.pixels + MOST, self.parts * g.OC * self.K)
        if (blocks > GRID_LIMIT and not self.few) or elements >= LIMIT:
            raise UnsupportedError(f"{function}: {g.problem} is too large for a CUDA device: 2**32 elements or more")

    def run(self, stream: Any, x: Buffer, dy: Buffer, out: Buffer) -> None:
        """Fill `out`, contiguous; x and dy have three spatial axes and any strides."""
        g = self.geometry
        XN, XC, XD, XH, XW = channels_first(x.strides, g.layout)
        YN, YC, YD, YH, YW = channels_first(dy.strides, g.layout)
        outputs = g.OD, g.OH, g.OW
        sizes: tuple[int, ...] = (self.pixels, self.K, g.G, g.OC, g.OCG, self.steps, *outputs)
        sizes += (*steps(self.tile.BK, outputs), g.D, g.H, g.W, g.SD, g.SH, g.SW, g.PF, g.PT, g.PL)
        sizes += (XN, XC * g.ICG, XD, XH, XW, YN, YC, YD, YH, YW)
        numbers = tuple(np.uint32(size & 0xFFFFFFFF) for size in sizes)
        KP = self.grid[0] * self.tile.BN
        table = tap_table((g.ICG, g.KD, g.KH, g.KW), (g.DD, g.DH, g.DW), (XC, XD, XH, XW), KP)
        if self.few:
            pair_sums(stream, x, dy, table, g, out)
            return
        parts = out if self.parts == 1 else empty((self.parts, *out.shape), out.dtype, stream)
        arguments = (x, dy, parts, table, numbers, limits(None, self.code))
        launch(stream, correlate, (self.code, self.tile, g.axes == 3), self.grid, arguments)
        if self.parts > 1:
            finish(stream, parts, out)


@lru_cache(maxsize=512)
def program(function: str, g: Any) -> Program:
    """Return the gradient of the weight of this geometry."""
    return Program(function, g)
