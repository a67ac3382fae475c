"""Convolution with a column and a row per channel: along W from memory, then along H from shared memory.

    out[n, c, oh, ow] = sum over kh of column[c, kh] * sum over kw of row[c, kw] * x[n, c, h, w],
    h = oh*SH + kh*DH - PT, w = ow*SW + kw*DW - PL

A block computes TH rows of 32 neighbours in memory: columns, with channels last channels of columns. First it convolves
along W the rows that those see, PASS of each thread at a time, into shared memory; then along H, out of that. Columns
that reach over more rows than fit there take two kernels with the intermediate in memory.

Source: Podlozhnyuk 2007, Image Convolution with CUDA; Treitel and Shanks 1971, doi:10.1109/TGE.1971.271457.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numba import cuda, types, uint32

from fastconv.errors import UnsupportedError
from fastconv.kernels.cuda import activations, conv_depthwise
from fastconv.kernels.cuda.buffers import Buffer, empty
from fastconv.kernels.cuda.conv_depthwise import strides_of
from fastconv.kernels.cuda.epilogue import is_fused, limits
from fastconv.kernels.cuda.memory import ELEMENT, REAL, code_of, load, pointer
from fastconv.kernels.cuda.moves import bordered, copy
from fastconv.kernels.cuda.runtime import Kernel, blocks_of, launch

LANES, WARPS = 32, 4
# Outputs of a thread, intermediate rows of a thread at a time, intermediate rows of a block.
ROWS, PASS, CAPACITY = 8, 4, 112
THREADS = LANES * WARPS
SIZES = 30


def two_passes(code: str, threads: int) -> Kernel:
    """Return the kernel of a storage type; `g` are the sizes in the order of `Program.run`."""
    real, element = REAL[code], ELEMENT[code]
    TH, SPACE = ROWS * WARPS, CAPACITY * LANES

    def conv_separable(x, column, row, bias, residual, out, g, clamp):
        L, tiles, bands, BESIDE, PLANES, OH, KH, KW, SEEN = g[:9]
        XN, XC, XH, XW, H, W, SH, SW, PT, PL, DH, DW = g[9:21]
        YN, YC, YH, YW, CC, CK, RC, RK, flags = g[21:]
        slope, low, high = clamp
        middle = cuda.shared.array(SPACE, real)
        some = cuda.local.array(PASS, real)
        acc = cuda.local.array(ROWS, real)
        t, block = uint32(cuda.threadIdx.x), uint32(cuda.blockIdx.x)
        lane, warp = uint32(t % uint32(LANES)), uint32(t // uint32(LANES))
        q = uint32(block // tiles)
        i = uint32(uint32(uint32(block - uint32(q * tiles)) * uint32(LANES)) + lane)
        plane = uint32(q // bands)
        first = uint32(uint32(q - uint32(plane * bands)) * uint32(TH))
        # Channels are planes, or with channels last beside each other.
        ow, n = uint32(i // BESIDE), uint32(plane // PLANES)
        c = uint32(uint32(i - uint32(ow * BESIDE)) + uint32(plane - uint32(n * PLANES)))
        c = c if i < L else uint32(0)
        r, h = warp, uint32(uint32(uint32(first * SH) - PT) + warp)
        w0 = uint32(uint32(ow * SW) - PL)
        start = uint32(uint32(n * XN) + uint32(c * XC))
        while r < SEEN:
            for k in range(PASS):
                some[k] = real(0)
            w, tap, kw = w0, uint32(c * RC), uint32(0)
            while kw < KW:
                factor = real(load(row, tap))
                at = uint32(uint32(start + uint32(h * XH)) + uint32(w * XW))
                inside = (i < L) & (w < W)
                for k in range(PASS):
                    value = real(0)
                    if inside & (uint32(h + uint32(k * WARPS)) < H):
                        value = real(load(x, uint32(at + uint32(uint32(k * WARPS) * XH))))
                    some[k] = real(some[k] + real(value * factor))
                w, tap, kw = uint32(w + DW), uint32(tap + RK), uint32(kw + uint32(1))
            for k in range(PASS):
                middle[uint32(uint32(uint32(r + uint32(k * WARPS)) * uint32(LANES)) + lane)] = some[k]
            r, h = uint32(r + uint32(PASS * WARPS)), uint32(h + uint32(PASS * WARPS))
        cuda.syncthreads()
        if i >= L:
            return
        added = real(0)
        if flags & uint32(1):
            added = real(load(bias, c))
        for j in range(ROWS):
            acc[j] = added
        tap, kh, step = uint32(c * CC), uint32(0), uint32(SH * uint32(LANES))
        at = uint32(uint32(uint32(warp * uint32(ROWS)) * step) + lane)
        while kh < KH:
            factor = real(load(column, tap))
            for j in range(ROWS):
                acc[j] = real(acc[j] + real(middle[uint32(at + uint32(uint32(j) * step))] * factor))
            at, tap = uint32(at + uint32(DH * uint32(LANES))), uint32(tap + CK)
            kh = uint32(kh + uint32(1))
        oh = uint32(first + uint32(warp * uint32(ROWS)))
        at = uint32(uint32(uint32(n * YN) + uint32(c * YC)) + uint32(uint32(oh * YH) + uint32(ow * YW)))
        for j in range(ROWS):
            if oh < OH:
                value = acc[j]
                if flags & uint32(2):
                    value = real(value + real(load(residual, at)))
                # Comparisons are false for NaN, which stays.
                value = real(value * slope) if value < real(0) else value
                value = low if value < low else value
                out[at] = element(high if value > high else value)
            oh, at = uint32(oh + uint32(1)), uint32(at + YH)

    array, own = pointer(code), types.UniTuple(types.uint32, SIZES)
    arguments = (array, array, array, array, array, array, own, types.UniTuple(real, 3))
    return Kernel(conv_separable, arguments, threads)


class Program:
    """A convolution with a column and a row, ready to run."""

    def __init__(self, function: str, g: Any, activation: str | None):
        self.function, self.geometry, self.activation = function, g, activation
        self.code = code_of(np.dtype(g.dtype))
        self.seen = (ROWS * WARPS - 1) * g.SH + (g.KH - 1) * g.DH + 1
        last = g.layout == "channels_last"
        self.beside, self.planes = (g.OC, 1) if last else (1, g.OC)
        self.tiles, self.bands = blocks_of(g.OW * self.beside, LANES), blocks_of(g.OH, ROWS * WARPS)
        self.blocks = self.tiles * self.bands * self.planes * g.N
        if self.blocks >= 2**31:
            raise UnsupportedError(f"{function}: {g.problem} is too large for a CUDA device: 2**31 blocks or more")
        self.fused = is_fused(activation)
        self.clamp = limits(activation if self.fused else None, self.code)

    def run(
        self,
        stream: Any,
        x: Buffer,
        factors: tuple[Buffer, Buffer],
        bias: Buffer | None,
        residual: Buffer | None,
        out: Buffer,
    ) -> None:
        """Fill `out`, contiguous; the factors are (C, K) with any strides, as the input (N, C, D, H, W) has."""
        g = self.geometry
        if g.padding_mode != "zeros":
            x, g = bordered(stream, x, g)
        if self.seen > CAPACITY:
            self._apart(stream, g, x, factors, bias, residual, out)
            return
        (XN, XC, _, XH, XW), (YN, YC, _, YH, YW) = (strides_of(buffer, g.layout) for buffer in (x, out))
        flags = (bias is not None) + 2 * (residual is not None)
        sizes = (g.OW * self.beside, self.tiles, self.bands, self.beside, self.planes, g.OH, g.KH, g.KW, self.seen)
        sizes += (XN, XC, XH, XW, g.H, g.W, g.SH, g.SW, g.PT, g.PL, g.DH, g.DW, YN, YC, YH, YW)
        sizes += (*factors[0].strides, *factors[1].strides, flags)
        numbers = tuple(np.uint32(size & 0xFFFFFFFF) for size in sizes)
        arguments = (x, *factors, bias, residual, out, numbers, self.clamp)
        launch(stream, two_passes, (self.code, THREADS), self.blocks, arguments)
        if not self.fused:
            activations.run(stream, self.activation, out, out)

    def _apart(
        self,
        stream: Any,
        g: Any,
        x: Buffer,
        factors: tuple[Buffer, Buffer],
        bias: Buffer | None,
        residual: Buffer | None,
        out: Buffer,
    ) -> None:
        """Convolve along W, then along H, with the intermediate in memory."""
        along = g._replace(KH=1, SH=1, PT=0, PB=0, DH=1, OH=g.H)
        down = g._replace(KW=1, SW=1, PL=0, PR=0, DW=1, W=g.OW)
        shape = (g.N, g.OC, 1, g.H, g.OW) if g.layout == "channels_first" else (g.N, 1, g.H, g.OW, g.OC)
        middle = empty(shape, out.dtype, stream)
        column, row = (per_channel(stream, factor, g.OC) for factor in factors)
        first = conv_depthwise.program(self.function, along, None)
        last = conv_depthwise.program(self.function, down, self.activation)
        packed = first.pack(stream, row.reshaped(g.OC, 1, 1, g.KW))
        first.run(stream, x, packed, None, None, middle)
        packed = last.pack(stream, column.reshaped(g.OC, 1, g.KH, 1))
        last.run(stream, middle, packed, bias, residual, out)


def per_channel(stream: Any, factor: Buffer, channels: int) -> Buffer:
    """Return a factor (C, K) of any strides as one in C order."""
    whole = empty((channels, factor.shape[1]), factor.dtype, stream)
    copy(stream, factor, whole)
    return whole


def outer(code: str, threads: int) -> Kernel:
    """Return the kernel ``weight[c, kh, kw] = column[c, kh] * row[c, kw]``, one element per thread."""
    real, element = REAL[code], ELEMENT[code]

    def outer_product(column, row, weight, g):
        total, KH, KW, CC, CK, RC, RK = g
        i = uint32(uint32(uint32(cuda.blockIdx.x) * uint32(threads)) + uint32(cuda.threadIdx.x))
        if i >= total:
            return
        q, kw = uint32(i // KW), uint32(i % KW)
        c, kh = uint32(q // KH), uint32(q % KH)
        a = real(load(column, uint32(uint32(c * CC) + uint32(kh * CK))))
        weight[i] = element(real(a * real(load(row, uint32(uint32(c * RC) + uint32(kw * RK))))))

    array = pointer(code)
    return Kernel(outer_product, (array, array, array, types.UniTuple(types.uint32, 7)), threads)


def outer_product(stream: Any, column: Buffer, row: Buffer) -> Buffer:
    """Return the weight (C, 1, KH, KW) of factors (C, K)."""
    (C, KH), KW = column.shape, row.shape[1]
    weight = empty((C, 1, KH, KW), column.dtype, stream)
    if weight.size:
        numbers = tuple(map(np.uint32, (weight.size, KH, KW, *column.strides, *row.strides)))
        grid = blocks_of(weight.size, THREADS)
        launch(stream, outer, (code_of(column.dtype), THREADS), grid, (column, row, weight, numbers))
    return weight


@lru_cache(maxsize=512)
def program(function: str, g: Any, activation: str | None) -> Program:
    """Return a convolution with factors of this geometry."""
    return Program(function, g, activation)
