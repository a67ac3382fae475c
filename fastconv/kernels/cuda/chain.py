"""Depthwise, then pointwise convolution as one kernel: the intermediate exists in shared memory only.

    middle[k, p] = activation(bias[k] + sum over taps of dweight[k, tap] * x[n, k // M, h, w])
    out[oc, p] = activation(bias[oc] + residual + sum over k of weight[k, oc] * middle[k, p])

A block computes BM channels of BN pixels as in conv_direct.py, but the panel of BK channels k is the depthwise result
of its pixels, computed there. Pixels are in strips of 4 below each other: a thread slides a window down the column of
one, as in conv_depthwise.py, and writes it to the panel as one vector. So the last strip of an image may have rows to
spare. With channels last neighbours in a warp are channels, and rows of the panels stand further apart. Each block of
channels computes the depthwise result again; dispatch/cuda_separable.py weighs that against memory.

Source: Qararyah et al. 2024, arXiv:2404.19331 (when to fuse); the loop is CUTLASS's implicit GEMM (Thakkar et al.).
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
from numba import cuda, types, uint32

from fastconv.kernels.cuda import activations
from fastconv.kernels.cuda.buffers import GRID_LIMIT, LIMIT, Buffer
from fastconv.kernels.cuda.conv_depthwise import TAPS, WHOLE, Window, slide, strides_of
from fastconv.kernels.cuda.conv_direct import best_tile
from fastconv.kernels.cuda.epilogue import is_fused, limits
from fastconv.kernels.cuda.memory import (
    ALIGNMENT,
    REAL,
    REAL_CODE,
    as_dtype,
    code_of,
    device,
    load,
    load4,
    pointer,
    store4,
)
from fastconv.kernels.cuda.microkernel import Tile, corner, rank_updates
from fastconv.kernels.cuda.moves import bordered
from fastconv.kernels.cuda.packing import pack
from fastconv.kernels.cuda.runtime import Kernel, blocks_of, launch
from fastconv.kernels.cuda.tile_ops import STRIP, strip_ops

SIZES = 30
# Threads of the largest tile, and blocks of a multiprocessor by their threads: windows take 170 registers, 255 of
# float64.
THREADS = {"e": 128, "f": 128, "d": 256}
BLOCKS = {64: 6, 128: 3, 256: 1}


def between(code: str, name: str | None) -> Any:
    """Return ``f(value, clamp)``, the activation of the depthwise result: the formula of a name, else a clamp's."""
    real = REAL[code]
    if name is not None:
        formula = activations.formula(name, code)
        return device(lambda value, clamp: formula(value))

    @device
    def clamped(value, clamp):
        slope, low, high = clamp
        # Comparisons are false for NaN, which stays.
        value = real(value * slope) if value < real(0) else value
        value = low if value < low else value
        return high if value > high else value

    return clamped


def products(code: str, stored: str, window: Window, whole: bool) -> Any:
    """Return ``f(line, factors, taps, x, start, rows, columns, loops)``: a strip of a depthwise convolution.

    Of a kernel that is not one window, `whole`, the loops are (chunks of rows, columns).
    """
    add, KB, KC = slide(code, stored, window), window.KB, window.KC
    if whole:
        return device(
            lambda line, factors, taps, x, start, rows, columns, loops: add(
                line, factors, taps, x, start, rows, columns
            )
        )

    @device
    def looped(line, factors, taps, x, start, rows, columns, loops):
        (tap, row, WK), (plane, local), (h, DH, H, down), (w0, DW, W, across) = taps, start, rows, columns
        XH, leap = loops[2], uint32(DH * uint32(KB))
        chunk = uint32(0)
        while chunk < loops[0]:
            w, at, kw = w0, local, uint32(0)
            while kw < loops[1]:
                here = (uint32(tap + uint32(kw * WK)), row, WK)
                add(line, factors, here, x, (plane, at), (h, DH, H, down), (w, DW, W, across))
                kw = uint32(kw + uint32(KC))
                w, at = uint32(w + uint32(DW * uint32(KC))), uint32(at + uint32(across * uint32(KC)))
            tap, chunk = uint32(tap + uint32(row * uint32(KB))), uint32(chunk + uint32(1))
            h, local = uint32(h + leap), uint32(local + uint32(leap * XH))

    return looped


def depthwise_pointwise(
    code: str, stored: str, tile: Tile, window: Window, whole: bool, last: bool, name: str | None
) -> Kernel:
    """Return the kernel of one tile, storage type and window; `g` are the sizes in the order of `Program.run`.

    The depthwise weights are `stored` so; `name` is that of an activation between which is no clamp.
    """
    BM, BN, BK, TM, TN = tile[:5]
    real, threads, ROWS, COLUMNS = REAL[code], tile.threads, tile.steps[0], BN // STRIP
    KSTEP = threads // COLUMNS
    # As many vectors as make those of 8 lanes, channels of neighbouring columns, meet all banks.
    SKEW = 16 // as_dtype(REAL_CODE[code]).itemsize * max(8 // KSTEP, 1) if last else 0
    LDA, LDB = BM + SKEW, BN + SKEW
    updates, (add, store), first_of = rank_updates(tile, SKEW), strip_ops(tile), corner(tile)
    multiply, activate = products(code, stored, window, whole), between(code, name)
    A, VECTORS = BM * BK, BM * BK // (4 * threads)
    LINES, VECTOR, AT_B = BK // KSTEP, 4 * threads // BM * LDA, BK * LDA
    PANEL = BK * (LDA + LDB)
    BUFFERS = 2 * PANEL

    @device
    def fill(line, k, x, factors, added, start, rows, columns, g, middle):
        """Put a strip of the depthwise result of channel k into `line`, zeros if there is no such channel."""
        CM, M, CHUNKS, KW, XC, XH, WC, WK, flags = g[7], g[8], g[9], g[10], g[12], g[13], g[23], g[24], g[29]
        inside = k < CM
        c = k if inside else uint32(0)
        first = real(0)
        if flags & uint32(4):
            first = real(load(added, c))
        for j in range(STRIP):
            line[j] = first
        ic = c
        if uint32(1) < M:
            ic = uint32(c // M)
        h, DH, H, down = rows
        taps, plane = (uint32(c * WC), uint32(KW * WK), WK), uint32(start[0] + uint32(ic * XC))
        limit = H if inside else uint32(0)
        multiply(line, factors, taps, x, (plane, start[1]), (h, DH, limit, down), columns, (CHUNKS, KW, XH))
        for j in range(STRIP):
            # A weight that is not finite makes NaN of zeros too.
            line[j] = activate(line[j], middle) if inside else real(0)

    @device
    def keep(panels, line, weight, wa, k, to, x, factors, added, start, rows, columns, g, middle):
        """Put BK channels, from that of the first line on, and their weights into a buffer."""
        for v in range(VECTORS):
            a, b, c, d = load4(weight, wa, v * 4 * threads)
            store4(panels, to[0], v * VECTOR, a, b, c, d)
        for q in range(LINES):
            fill(line, uint32(k + uint32(q * KSTEP)), x, factors, added, start, rows, columns, g, middle)
            store4(panels, to[1], q * KSTEP * LDB, line[0], line[1], line[2], line[3])

    def conv_chain(x, factors, added, weight, bias, residual, out, g, middle, clamp):
        KT, STRIPS, OC, PER, SPACING, OW, OH, _, _, _, _, XN, _, XH, XW, H, W, SH, SW, PT, PL, DH, DW = g[:23]
        YN, YC, YH, YW, flags = g[25:]
        panels = cuda.shared.array(BUFFERS, real, alignment=ALIGNMENT)
        acc = cuda.local.array((TM, TN), real)
        line = cuda.local.array(STRIP, real)
        t = uint32(cuda.threadIdx.x)
        m0, s0 = uint32(uint32(cuda.blockIdx.y) * uint32(BM)), uint32(uint32(cuda.blockIdx.x) * uint32(COLUMNS))
        # The strip of channels k, k + KSTEP, … that this thread computes.
        column, k = uint32(t % uint32(COLUMNS)), uint32(t // uint32(COLUMNS))
        if last:
            column, k = uint32(t // uint32(KSTEP)), uint32(t % uint32(KSTEP))
        s = uint32(s0 + column)
        n = uint32(s // PER)
        rest = uint32(s - uint32(n * PER))
        oh = uint32(rest // OW)
        ow = uint32(rest - uint32(oh * OW))
        # Strips between which rows are shared out stand next to each other.
        oh = uint32(oh + uint32(uint32(uint32(oh // SPACING) * uint32(STRIP - 1)) * SPACING))
        h0, w0 = uint32(uint32(oh * SH) - PT), uint32(uint32(ow * SW) - PL)
        start = (uint32(n * XN), uint32(uint32(h0 * XH) + uint32(w0 * XW)))
        rows = (h0, DH, H if s < STRIPS else uint32(0), uint32(DH * XH))
        columns = (w0, DW, W, uint32(DW * XW))
        wa = uint32(uint32(uint32(uint32(cuda.blockIdx.y) * KT) * uint32(A)) + uint32(t * uint32(4)))
        to_a = uint32(uint32(t * uint32(4)) + uint32(uint32(uint32(t * uint32(4)) // uint32(BM)) * uint32(SKEW)))
        to_b = uint32(uint32(uint32(k * uint32(LDB)) + uint32(column * uint32(STRIP))) + uint32(AT_B))
        fm, fn = first_of(t)
        for i in range(TM):
            for j in range(TN):
                acc[i, j] = real(0)
        keep(panels, line, weight, wa, k, (to_a, to_b), x, factors, added, start, rows, columns, g, middle)
        cuda.syncthreads()
        step, here = uint32(0), uint32(0)
        while step < KT:
            step, wa, k = uint32(step + uint32(1)), uint32(wa + uint32(A)), uint32(k + uint32(BK))
            other = uint32(uint32(PANEL) - here)
            if step < KT:
                to = (uint32(to_a + other), uint32(to_b + other))
                keep(panels, line, weight, wa, k, to, x, factors, added, start, rows, columns, g, middle)
            updates(acc, panels, uint32(fm + here), uint32(uint32(fn + uint32(AT_B)) + here))
            here = other
            cuda.syncthreads()
        p, m = uint32(uint32(s0 * uint32(STRIP)) + fn), uint32(m0 + fm)
        left, channels = uint32(STRIPS - min(STRIPS, uint32(p // uint32(STRIP)))), uint32(OC - min(OC, m))
        place = (p, m, PER, SPACING, OW, YN, OH, YH, YW, YC, uint32(left * uint32(STRIP)), channels)
        if flags & uint32(1):
            for i in range(TM):
                row = uint32((i // 4) * ROWS + i % 4)
                value = real(0)
                if row < channels:
                    value = real(load(bias, uint32(m + row)))
                for j in range(TN):
                    acc[i, j] += value
        if flags & uint32(2):
            add(acc, residual, place)
        store(acc, out, place, clamp)

    array, three = pointer(code), types.UniTuple(real, 3)
    arguments = (array, pointer(stored), array, pointer(REAL_CODE[code]), array, array, array)
    numbers = types.UniTuple(types.uint32, SIZES)
    return Kernel(conv_chain, (*arguments, numbers, three, three), threads, BLOCKS[threads])


class Program:
    """A depthwise and a pointwise convolution of its result, ready to run."""

    def __init__(self, g: Any, middle: str | None, pointwise: Any, activation: str | None):
        self.geometry, self.activation, self.code = g, activation, code_of(np.dtype(g.dtype))
        self.last = g.layout == "channels_last"
        common = math.gcd(g.SH, g.DH)
        # Rows from one pixel of a strip to the next, so that their windows overlap at any dilation.
        self.spacing = g.DH // common
        KB = next(k for k in TAPS if g.KH % k == 0)
        # Square kernels are the frequent ones; of others a column, and of that as many taps at once as divide it.
        KC = g.KW if KB == g.KH == g.KW and g.KH * g.KW <= WHOLE else 1
        self.window = Window(STRIP, KB, KC, g.SH // common, False)
        self.bands = blocks_of(g.OH, STRIP * self.spacing) * self.spacing
        self.strips = g.N * self.bands * g.OW
        self.pixels = STRIP * self.strips
        self.OC = pointwise.OC
        self.tile = best_tile(self.code, self.OC, self.pixels, 1, THREADS[self.code])
        self.KT = blocks_of(g.OC, self.tile.BK)
        self.grid = (blocks_of(self.pixels, self.tile.BN), blocks_of(self.OC, self.tile.BM))
        self.name = None if is_fused(middle) else middle
        self.middle = limits(middle if is_fused(middle) else None, self.code)
        self.fused = is_fused(activation)
        self.clamp = limits(activation if self.fused else None, self.code)
        self.stored = REAL_CODE[self.code] if self.last else self.code

    @property
    def fits(self) -> bool:
        """Whether numbers of pixels and weights are those of a kernel."""
        packed = self.grid[1] * self.tile.BM * self.KT * self.tile.BK
        return self.grid[1] <= GRID_LIMIT and max(self.pixels, packed) < LIMIT

    def run(
        self,
        stream: Any,
        x: Buffer,
        weights: tuple[Buffer, Buffer],
        biases: tuple[Buffer | None, Buffer | None],
        residual: Buffer | None,
        out: Buffer,
    ) -> None:
        """Fill `out`, contiguous; the input may have any strides, (N, C, D, H, W) or (N, D, H, W, C).

        Weights and biases are those of the depthwise, then of the pointwise convolution, contiguous.
        """
        g, window = self.geometry, self.window
        if g.padding_mode != "zeros":
            x, g = bordered(stream, x, g)
        (XN, XC, _, XH, XW), (YN, YC, _, YH, YW) = (strides_of(buffer, g.layout) for buffer in (x, out))
        K = g.KH * g.KW
        factors = pack(stream, weights[0], 1, K, g.OC) if self.last else weights[0]
        packed = pack(stream, weights[1], 1, self.KT * self.tile.BK, self.tile.BM)
        if not self.last and window.KC == g.KW > 1 and g.DW * XW == 1:
            window = window._replace(unit=True)
        flags = (biases[1] is not None) + 2 * (residual is not None) + 4 * (biases[0] is not None)
        sizes = [self.KT, self.strips, self.OC, self.bands * g.OW, self.spacing, g.OW, g.OH, g.OC, g.OCG]
        sizes += [g.KH // window.KB, g.KW, XN, XC, XH, XW, g.H, g.W, g.SH, g.SW, g.PT, g.PL, g.DH, g.DW]
        sizes += [*((1, g.OC) if self.last else (K, 1)), YN, YC, YH, YW, flags]
        numbers = tuple(np.uint32(size & 0xFFFFFFFF) for size in sizes)
        whole = window.KB == g.KH and window.KC == g.KW
        literals = (self.code, self.stored, self.tile, window, whole, self.last, self.name)
        arguments = (x, factors, biases[0], packed, biases[1], residual, out, numbers, self.middle, self.clamp)
        launch(stream, depthwise_pointwise, literals, self.grid, arguments)
        if not self.fused:
            activations.run(stream, self.activation, out, out)


@lru_cache(maxsize=512)
def program(g: Any, middle: str | None, pointwise: Any, activation: str | None) -> Program:
    """Return both convolutions, of these geometries and with these activations, as one."""
    return Program(g, middle, pointwise, activation)
