"""Implicit GEMM: out[oc, p] = sum over k of weight[k, oc] * columns[k, p], whose columns are never written.

A block computes BM channels of BN pixels, BK taps at a time: the next taps are fetched to registers while the present
ones are multiplied out of shared memory, which has two buffers, so that a step has one barrier. A table gives for each
k the offset of its element from that of the first tap, and how far it lies from it along D, H, W: any stride, padding,
dilation, layout and number of axes is one kernel. Groups are the third axis of the grid.

Source: CUTLASS's implicit GEMM (Thakkar et al.); Chetlur et al. 2014, arXiv:1410.0759.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
from numba import cuda, types, uint32

from fastconv.errors import UnsupportedError
from fastconv.kernels.cuda import activations
from fastconv.kernels.cuda.buffers import GRID_LIMIT, LIMIT, Buffer, upload
from fastconv.kernels.cuda.epilogue import is_fused, limits
from fastconv.kernels.cuda.memory import ALIGNMENT, REAL, REAL_CODE, code_of, load, load4, pointer, store4, store_at
from fastconv.kernels.cuda.microkernel import Tile, rank_updates
from fastconv.kernels.cuda.moves import bordered
from fastconv.kernels.cuda.packing import pack
from fastconv.kernels.cuda.runtime import Kernel, blocks_of, launch
from fastconv.kernels.cuda.tile_ops import tile_ops

TILES = {
    "f": (
        Tile(128, 128, 8, 8, 8, 32, 64),
        Tile(128, 64, 8, 8, 8, 32, 64),
        Tile(64, 64, 8, 8, 8, 32, 64),
        Tile(32, 64, 8, 4, 8, 32, 32),
    ),
    "d": (Tile(64, 64, 16, 4, 4, 32, 16), Tile(32, 32, 8, 4, 4, 32, 16)),
}
TILES["e"] = TILES["f"]
# Blocks that keep every multiprocessor of a large device busy.
BUSY = 256
# A tap in the padding of k lies so far away that it is never inside.
FAR = 0x40000000
SIZES = 28


def implicit_gemm(code: str, tile: Tile, deep: bool, apart: bool = False) -> Kernel:
    """Return the kernel of one tile and storage type; `g` are the sizes in the order of `Program.run`.

    Only a `deep` one looks where its taps lie along D; `apart` is that of `tile_ops`.
    """
    BM, BN, BK, TM, TN, WM, WN = tile
    threads, ROWS = tile.threads, tile.steps[0]
    real, updates, (add, store) = REAL[code], rank_updates(tile), tile_ops(tile, apart)
    KSTEP, M4, VECTORS, WARPS, LANES = threads // BN, BM // 4, BM * BK // (4 * threads), BN // WN, WN // TN
    TAPS, MSTEP, A, PANEL = BK // KSTEP, threads // M4, BM * BK, BK * (BM + BN)
    BUFFERS = 2 * PANEL

    def conv_implicit_gemm(x, weight, bias, residual, out, table, g, clamp):
        MP, KT, P, OCG, ODHW, OHW, OW, XN, XG, XD, XH, XW, D, H, W = g[:15]
        SD, SH, SW, PF, PT, PL, YN, YC, YD, YH, YW, WG, flags = g[15:]
        panels = cuda.shared.array(BUFFERS, real, alignment=ALIGNMENT)
        acc = cuda.local.array((TM, TN), real)
        a = cuda.local.array((VECTORS, 4), real)
        b = cuda.local.array(TAPS, real)
        t, group = uint32(cuda.threadIdx.x), uint32(cuda.blockIdx.z)
        m0, n0 = uint32(uint32(cuda.blockIdx.y) * uint32(BM)), uint32(uint32(cuda.blockIdx.x) * uint32(BN))
        # The pixel whose taps kb, kb + KSTEP, … this thread fetches.
        pc, kb = uint32(t % uint32(BN)), uint32(t // uint32(BN))
        p = uint32(n0 + pc)
        n = uint32(p // ODHW)
        od = uint32(uint32(p - uint32(n * ODHW)) // OHW)
        oh = uint32(uint32(p % OHW) // OW)
        d0, h0 = uint32(uint32(od * SD) - PF), uint32(uint32(oh * SH) - PT)
        w0 = uint32(uint32(uint32(p % OW) * SW) - PL)
        if p >= P:
            h0 = uint32(FAR)
        first = uint32(uint32(uint32(n * XN) + uint32(group * XG)) + uint32(d0 * XD))
        first = uint32(uint32(first + uint32(h0 * XH)) + uint32(w0 * XW))
        ka, ma = uint32(t // uint32(M4)), uint32(uint32(t % uint32(M4)) * uint32(4))
        wa = uint32(uint32(uint32(group * WG) + uint32(ka * MP)) + uint32(m0 + ma))
        to_a, to_b = uint32(uint32(ka * uint32(BM)) + ma), uint32(uint32(uint32(kb * uint32(BN)) + pc) + uint32(A))
        lane, warp = uint32(t % uint32(32)), uint32(t // uint32(32))
        fm = uint32(
            uint32(uint32(warp // uint32(WARPS)) * uint32(WM)) + uint32(uint32(lane // uint32(LANES)) * uint32(4))
        )
        fn = uint32(
            uint32(uint32(warp % uint32(WARPS)) * uint32(WN)) + uint32(uint32(lane % uint32(LANES)) * uint32(4))
        )
        for i in range(TM):
            for j in range(TN):
                acc[i, j] = real(0)
        kc = uint32(kb * uint32(4))
        for step in range(uint32(0), uint32(KT + uint32(1))):
            here = uint32(uint32(uint32(step) & uint32(1)) * uint32(PANEL))
            if step < KT:
                for v in range(VECTORS):
                    at = uint32(wa + uint32(uint32(v * MSTEP) * MP))
                    a[v, 0], a[v, 1], a[v, 2], a[v, 3] = load4(weight, at, 0)
                for q in range(TAPS):
                    offset, kd, kh, kw = load4(table, kc, q * KSTEP * 4)
                    value = real(0)
                    inside = (uint32(h0 + kh) < H) & (uint32(w0 + kw) < W)
                    if deep:
                        inside = inside & (uint32(d0 + kd) < D)
                    if inside:
                        value = real(load(x, uint32(first + offset)))
                    b[q] = value
                wa, kc = uint32(wa + uint32(uint32(BK) * MP)), uint32(kc + uint32(4 * BK))
            if step > 0:
                before = uint32(uint32(PANEL) - here)
                updates(acc, panels, uint32(before + fm), uint32(uint32(before + fn) + uint32(A)))
            if step < KT:
                for v in range(VECTORS):
                    store4(panels, uint32(here + to_a), v * MSTEP * BM, a[v, 0], a[v, 1], a[v, 2], a[v, 3])
                for q in range(TAPS):
                    store_at(panels, uint32(here + to_b), q * KSTEP * BN, b[q])
            cuda.syncthreads()
        p, m = uint32(n0 + fn), uint32(m0 + fm)
        oc, columns = uint32(uint32(group * OCG) + m), uint32(P - min(P, p))
        channels = uint32(OCG - min(OCG, m))
        place = (p, oc, ODHW, OHW, OW, YN, YD, YH, YW, YC, columns, channels)
        if flags & uint32(1):
            for i in range(TM):
                row = uint32((i // 4) * ROWS + i % 4)
                value = real(0)
                if row < channels:
                    value = real(load(bias, uint32(oc + row)))
                for j in range(TN):
                    acc[i, j] += value
        if flags & uint32(2):
            add(acc, residual, place)
        store(acc, out, place, clamp)

    array, own = pointer(code), types.UniTuple(types.uint32, SIZES)
    arguments = (array, pointer(REAL_CODE[code]), array, array, array, pointer("I"), own, types.UniTuple(real, 3))
    return Kernel(conv_implicit_gemm, arguments, threads, 2 if threads == 256 and code != "d" else 1)


def best_tile(code: str, channels: int, pixels: int, groups: int) -> Tile:
    """Return the largest tile of the menu that wastes little of itself and keeps the device busy, else the smallest."""
    for tile in TILES[code]:
        m, n = -(-channels // tile.BM), -(-pixels // tile.BN)
        waste = m * tile.BM * n * tile.BN / max(channels * pixels, 1)
        if m * n * groups >= BUSY and waste <= 1.25:
            return tile
    return TILES[code][-1]


class Program:
    """A convolution with its tile and its table, ready to run."""

    def __init__(self, function: str, g: Any, activation: str | None, tile: Tile | None = None):
        self.geometry, self.activation, self.code = g, activation, code_of(np.dtype(g.dtype))
        pixels = g.N * g.OD * g.OH * g.OW
        self.tile = tile or best_tile(self.code, g.OCG, pixels, g.G)
        self.K = g.ICG * g.KD * g.KH * g.KW
        self.KP, self.MP = (-(-size // step) * step for size, step in ((self.K, self.tile.BK), (g.OCG, self.tile.BM)))
        self.grid = (blocks_of(pixels, self.tile.BN), self.MP // self.tile.BM, g.G)
        if max(self.grid[1:]) > GRID_LIMIT or max(pixels, g.G * self.KP * self.MP, 4 * self.KP) >= LIMIT:
            raise UnsupportedError(f"{function}: {g.problem} is too large for a CUDA device: 2**32 elements or more")
        # Without depth, od is 0 and its only tap inside.
        self.deep = g.axes == 3
        self.fused = is_fused(activation)
        self.clamp = limits(activation if self.fused else None, self.code)

    def pack(self, stream: Any, weight: Buffer) -> Buffer:
        """Return the weight as the kernel reads it."""
        return pack(stream, weight, self.geometry.G, self.KP, self.MP)

    def run(
        self, stream: Any, x: Buffer, packed: Buffer | None, bias: Buffer | None, residual: Buffer | None, out: Buffer
    ) -> None:
        """Fill `out`; it and the input may have any strides, (N, C, D, H, W) or (N, D, H, W, C).

        The residual has the strides of `out`, which is contiguous if the activation is not fused.
        """
        g = self.geometry
        if g.padding_mode != "zeros":
            x, g = bordered(stream, x, g)
        XN, XC, XD, XH, XW = channels_first(x.strides, g.layout)
        YN, YC, YD, YH, YW = channels_first(out.strides, g.layout)
        # Rows and planes one after the other are one row.
        apart = (g.OD > 1 and YD != g.OH * YH) or (g.OH > 1 and YH != g.OW * YW)
        flags = (bias is not None) + 2 * (residual is not None)
        sizes: tuple[int, ...] = (self.MP, self.KP // self.tile.BK, g.N * g.OD * g.OH * g.OW, g.OCG, g.OD * g.OH * g.OW)
        sizes += (g.OH * g.OW, g.OW, XN, XC * g.ICG, XD, XH, XW, g.D, g.H, g.W, g.SD, g.SH, g.SW)
        sizes += (g.PF, g.PT, g.PL, YN, YC, YD, YH, YW, self.KP * self.MP, flags)
        numbers = tuple(np.uint32(size & 0xFFFFFFFF) for size in sizes)
        table = tap_table((g.ICG, g.KD, g.KH, g.KW), (g.DD, g.DH, g.DW), (XC, XD, XH, XW), self.KP)
        arguments = (x, packed, bias, residual, out, table, numbers, self.clamp)
        launch(stream, implicit_gemm, (self.code, self.tile, self.deep, apart), self.grid, arguments)
        if not self.fused:
            activations.run(stream, self.activation, out, out)


def channels_first(strides: tuple[int, ...], layout: str) -> tuple[int, ...]:
    """Return the strides in the order N, C, D, H, W."""
    return strides if layout == "channels_first" else (strides[0], strides[4], *strides[1:4])


@lru_cache(maxsize=64)
def tap_table(taps: tuple[int, ...], rates: tuple[int, ...], strides: tuple[int, ...], KP: int) -> Buffer:
    """Return for each k (offset in elements, kd*DD, kh*DH, kw*DW) on the device."""
    table = np.full((KP, 4), FAR, np.uint32)
    K = math.prod(taps)
    at = np.indices(taps).reshape(4, K) * np.array((1, *rates))[:, None]
    table[:K, 0] = np.array(strides, np.uint64) @ at.astype(np.uint64) & 0xFFFFFFFF
    table[:K, 1:] = at[1:].T
    return upload(table)


@lru_cache(maxsize=512)
def program(function: str, g: Any, activation: str | None) -> Program:
    """Return a convolution of this geometry."""
    return Program(function, g, activation)
