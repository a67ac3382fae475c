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
from fastconv.kernels.cuda.memory import (
    ALIGNMENT,
    REAL,
    REAL_CODE,
    code_of,
    device,
    load,
    load2,
    load4,
    pointer,
    store4,
    store_at,
)
from fastconv.kernels.cuda.microkernel import Tile, corner, rank_updates
from fastconv.kernels.cuda.moves import bordered
from fastconv.kernels.cuda.packing import pack
from fastconv.kernels.cuda.runtime import Kernel, blocks_of, launch
from fastconv.kernels.cuda.tensor_cores import lane_starts, to_tf32
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
TILES["e"] = TILES["i"] = TILES["f"]
TILES["l"] = TILES["d"]
TILES["tf32"] = (Tile(128, 64, 16, 8, 8, 64, 32, True), Tile(64, 64, 16, 8, 8, 64, 32, True))
# Blocks that keep every multiprocessor of a large device busy.
BUSY = 256
# Blocks of a multiprocessor, by their threads: 128 registers each, but 64 threads fetch more and need up to 170.
BLOCKS = {64: 6, 128: 4, 256: 2}
# A tap in the padding of k lies so far away that it is never inside.
FAR = 0x40000000
# The bit of a tap that is never inside; as many taps of all axes together are bits.
NEVER, BITS = 1 << 31, 31
SIZES = 32


def implicit_gemm(code: str, tile: Tile, masked: bool, apart: bool = False) -> Kernel:
    """Return the kernel of one tile and storage type; `g` are the sizes in the order of `Program.run`.

    In a `masked` one the taps of an axis are bits, so a thread finds whether a tap is inside in one instruction;
    `apart` is that of `tile_ops`.
    """
    BM, BN, BK, TM, TN = tile[:5]
    threads, ROWS, SM, cores, first_of = tile.threads, tile.steps[0], tile.square[0], tile.cores, corner(tile)
    real, updates, (add, store) = REAL[code], rank_updates(tile), tile_ops(tile, apart)
    VECTORS, TAPS, A, WORDS = BM * BK // (4 * threads), BK * BN // threads, BM * BK, 2 if masked else 4
    # Taps of a thread are neighbours where the panel has them so.
    KSTEP, CHUNK = (1, TAPS) if tile.cores else (threads // BN, 1)
    # A power of two, so that one bit of an index tells the buffers apart.
    PANEL = 1 << (BK * (BM + BN) - 1).bit_length()
    BUFFERS = PANEL + BK * (BM + BN)

    if masked:

        @device
        def tap(table, kc, AT, corner, sizes):
            offset, bits = load2(table, kc, AT)
            return offset, uint32(bits & corner) == uint32(0)

    else:

        @device
        def tap(table, kc, AT, corner, sizes):
            offset, kd, kh, kw = load4(table, kc, AT)
            d, h, w = uint32(corner[0] + kd), uint32(corner[1] + kh), uint32(corner[2] + kw)
            return offset, (d < sizes[0]) & (h < sizes[1]) & (w < sizes[2])

    @device
    def outside(first, rate, taps, n, bit):
        """Return the bits of the taps of one axis that lie outside."""
        bits = uint32(0)
        k = uint32(0)
        while k < taps:
            if uint32(first + uint32(k * rate)) >= n:
                bits = uint32(bits | uint32(uint32(1) << uint32(bit + k)))
            k = uint32(k + uint32(1))
        return bits

    @device
    def fetch(a, b, x, weight, table, wa, kc, first, corner, sizes):
        for v in range(VECTORS):
            a[v, 0], a[v, 1], a[v, 2], a[v, 3] = load4(weight, wa, v * 4 * threads)
        taps(b, x, table, kc, first, corner, sizes)

    @device
    def one_by_one(b, x, table, kc, first, corner, sizes):
        for q in range(TAPS):
            offset, inside = tap(table, kc, q * KSTEP * WORDS, corner, sizes)
            value = real(0)
            if inside:
                value = real(load(x, uint32(first + offset)))
            b[q] = value

    @device
    def by_pairs(b, x, table, kc, first, corner, sizes):
        for q in range(TAPS // 2):
            offset, bits, other, more = load4(table, kc, 2 * q * WORDS)
            value = real(0)
            if uint32(bits & corner) == uint32(0):
                value = real(load(x, uint32(first + offset)))
            b[2 * q] = value
            value = real(0)
            if uint32(more & corner) == uint32(0):
                value = real(load(x, uint32(first + other)))
            b[2 * q + 1] = value

    taps = by_pairs if tile.cores and masked else one_by_one

    @device
    def keep(panels, a, b, to_a, to_b):
        for v in range(VECTORS):
            store4(panels, to_a, v * 4 * threads, a[v, 0], a[v, 1], a[v, 2], a[v, 3])
        keep_taps(panels, b, to_b)

    @device
    def keep_rows(panels, b, to_b):
        for q in range(TAPS):
            store_at(panels, to_b, q * KSTEP * BN, b[q])

    @device
    def keep_vectors(panels, b, to_b):
        for q in range(0, TAPS, 4):
            place = uint32(to_b ^ uint32(q))
            store4(panels, place, 0, to_tf32(b[q]), to_tf32(b[q + 1]), to_tf32(b[q + 2]), to_tf32(b[q + 3]))

    keep_taps = keep_vectors if tile.cores else keep_rows

    def conv_implicit_gemm(x, weight, bias, residual, out, table, g, clamp):
        KT, P, OCG, ODHW, OHW, OW, XN, XG, XD, XH, XW, D, H, W = g[:14]
        SD, SH, SW, PF, PT, PL, KD, KH, KW, DD, DH, DW, YN, YC, YD, YH, YW, flags = g[14:]
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
        first = uint32(uint32(uint32(n * XN) + uint32(group * XG)) + uint32(d0 * XD))
        first = uint32(uint32(first + uint32(h0 * XH)) + uint32(w0 * XW))
        if masked:
            bits = uint32(outside(d0, DD, KD, D, uint32(0)) | outside(h0, DH, KH, H, KD))
            bits = uint32(bits | outside(w0, DW, KW, W, uint32(KD + KH)))
            corner = uint32(0xFFFFFFFF) if p >= P else uint32(bits | uint32(NEVER))
        else:
            corner = (d0, uint32(FAR) if p >= P else h0, w0)
        block = uint32(uint32(group * uint32(cuda.gridDim.y)) + uint32(cuda.blockIdx.y))
        wa = uint32(uint32(uint32(block * uint32(KT + uint32(1))) * uint32(A)) + uint32(t * uint32(4)))
        kc = uint32(kb * uint32(CHUNK * WORDS))
        to_a, (fm, fn) = uint32(t * uint32(4)), first_of(t)
        if cores:
            from_a, from_b = lane_starts(t, fm, fn)
            to_b = uint32(uint32(pc * uint32(BK)) + uint32(uint32(uint32(pc // uint32(2)) % uint32(4)) * uint32(4)))
            to_b = uint32(to_b ^ uint32(kb * uint32(CHUNK)))
        else:
            from_a, from_b, to_b = fm, fn, uint32(uint32(kb * uint32(BN)) + pc)
        from_b, to_b, sizes = uint32(from_b + uint32(A)), uint32(to_b + uint32(A)), (D, H, W)
        for i in range(TM):
            for j in range(TN):
                acc[i, j] = real(0)
        if KT:
            fetch(a, b, x, weight, table, wa, kc, first, corner, sizes)
            keep(panels, a, b, to_a, to_b)
        cuda.syncthreads()
        step = uint32(0)
        while step < KT:
            # After the last taps come zeros that nobody uses: a branch would cost more than to fetch them.
            step, wa, kc = uint32(step + uint32(1)), uint32(wa + uint32(A)), uint32(kc + uint32(WORDS * BK))
            fetch(a, b, x, weight, table, wa, kc, first, corner, sizes)
            updates(acc, panels, from_a, from_b)
            from_a, from_b = uint32(from_a ^ uint32(PANEL)), uint32(from_b ^ uint32(PANEL))
            to_a, to_b = uint32(to_a ^ uint32(PANEL)), uint32(to_b ^ uint32(PANEL))
            keep(panels, a, b, to_a, to_b)
            cuda.syncthreads()
        p, m = uint32(n0 + fn), uint32(m0 + fm)
        oc, columns = uint32(uint32(group * OCG) + m), uint32(P - min(P, p))
        channels = uint32(OCG - min(OCG, m))
        place = (p, oc, ODHW, OHW, OW, YN, YD, YH, YW, YC, columns, channels)
        if flags & uint32(1):
            for i in range(TM):
                row = uint32((i // SM) * ROWS + i % SM)
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
    # Fragments, and distances along three axes, do not fit the registers that one block more leaves.
    blocks = BLOCKS[threads] - (cores and not (masked and threads == 64))
    return Kernel(conv_implicit_gemm, arguments, threads, blocks)


def best_tile(code: str, channels: int, pixels: int, groups: int, threads: int = 256) -> Tile:
    """Return the largest tile of the menu that wastes little of itself and keeps the device busy, else the smallest.

    Blocks have at most so many `threads`.
    """
    for tile in [tile for tile in TILES[code] if tile.threads <= threads]:
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
        # The kernel fetches one step of taps more than it uses.
        self.KP = (blocks_of(self.K, self.tile.BK) + 1) * self.tile.BK
        self.MP = blocks_of(g.OCG, self.tile.BM) * self.tile.BM
        self.grid = (blocks_of(pixels, self.tile.BN), self.MP // self.tile.BM, g.G)
        if max(self.grid[1:]) > GRID_LIMIT or max(pixels, g.G * self.KP * self.MP, 4 * self.KP) >= LIMIT:
            raise UnsupportedError(f"{function}: {g.problem} is too large for a CUDA device: 2**32 elements or more")
        self.masked = g.KD + g.KH + g.KW <= BITS
        self.fused = is_fused(activation)
        self.clamp = limits(activation if self.fused else None, self.code)

    def pack(self, stream: Any, weight: Buffer) -> Buffer:
        """Return the weight as the kernel reads it."""
        return pack(stream, weight, self.geometry.G, self.KP, self.tile.BM, self.tile.cores)

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
        sizes: tuple[int, ...] = (self.KP // self.tile.BK - 1, g.N * g.OD * g.OH * g.OW, g.OCG, g.OD * g.OH * g.OW)
        sizes += (g.OH * g.OW, g.OW, XN, XC * g.ICG, XD, XH, XW, g.D, g.H, g.W, g.SD, g.SH, g.SW)
        sizes += (g.PF, g.PT, g.PL, g.KD, g.KH, g.KW, g.DD, g.DH, g.DW, YN, YC, YD, YH, YW, flags)
        numbers = tuple(np.uint32(size & 0xFFFFFFFF) for size in sizes)
        table = tap_table((g.ICG, g.KD, g.KH, g.KW), (g.DD, g.DH, g.DW), (XC, XD, XH, XW), self.KP, self.masked)
        arguments = (x, packed, bias, residual, out, table, numbers, self.clamp)
        launch(stream, implicit_gemm, (self.code, self.tile, self.masked, apart), self.grid, arguments)
        if not self.fused:
            activations.run(stream, self.activation, out, out)


def channels_first(strides: tuple[int, ...], layout: str) -> tuple[int, ...]:
    """Return the strides in the order N, C, D, H, W."""
    return strides if layout == "channels_first" else (strides[0], strides[4], *strides[1:4])


@lru_cache(maxsize=64)
def tap_table(
    taps: tuple[int, ...], rates: tuple[int, ...], strides: tuple[int, ...], KP: int, masked: bool = False
) -> Buffer:
    """Return for each k (offset in elements, its bits) or (offset, kd*DD, kh*DH, kw*DW) on the device."""
    table = np.full((KP, 2 if masked else 4), NEVER if masked else FAR, np.uint32)
    K = math.prod(taps)
    at = np.indices(taps).reshape(4, K)
    places = at * np.array((1, *rates))[:, None]
    table[:K, 0] = np.array(strides, np.uint64) @ places.astype(np.uint64) & 0xFFFFFFFF
    if masked:
        first = np.cumsum((0, *taps[1:3]))[:, None]
        table[:K, 1] = (1 << at[1:] + first).sum(0)
    else:
        table[:K, 1:] = places[1:].T
    return upload(table)


@lru_cache(maxsize=512)
def program(function: str, g: Any, activation: str | None) -> Program:
    """Return a convolution of this geometry."""
    return Program(function, g, activation)
