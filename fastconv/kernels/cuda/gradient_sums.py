"""Sums over all pixels: partial sums by many blocks, which a second kernel adds in their order, without atomics.

So the same problem gives the same bits on every run and device. The gradient of a bias is summed by a tree in each
block; so is that of a weight, where a group has so few channels and taps that a tile would be empty: depthwise.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import cuda, types, uint32

from fastconv.kernels.cuda.buffers import Buffer, empty
from fastconv.kernels.cuda.conv_direct import channels_first
from fastconv.kernels.cuda.memory import REAL, REAL_CODE, code_of, load, load4, pointer
from fastconv.kernels.cuda.runtime import Kernel, blocks_of, launch

THREADS = 128
# Of a block that adds pixels, and pixels of a thread that are worth a block.
ADDERS, SPAN = 64, 32
# Blocks that keep a large device busy.
BUSY = 1024


def add_parts(code: str, threads: int) -> Kernel:
    """Return the kernel ``out[i] = sum over s of parts[s, i]``, one thread for each i."""
    real = REAL[code]

    def add_partial_sums(parts, out, g):
        n, count = g
        i = uint32(uint32(uint32(cuda.blockIdx.x) * uint32(threads)) + uint32(cuda.threadIdx.x))
        if i < n:
            total, at = real(0), i
            for _ in range(count):
                total += load(parts, at)
                at = uint32(at + n)
            out[i] = total

    array = pointer(REAL_CODE[code])
    return Kernel(add_partial_sums, (array, array, types.UniTuple(types.uint32, 2)), threads)


def add_pixels(code: str, lanes: int, paired: bool, threads: int) -> Kernel:
    """Return the kernel of partial sums over pixels, (blocks along y, channels, taps), with no tap or K of them.

    Of dy itself, or `paired` with what a tap reads of x. `lanes` neighbouring threads take as many channels: 1 where
    pixels are neighbours in memory, 32 where channels are.
    """
    real, ROWS = REAL[code], threads // lanes
    # The rows that are added first: with so many threads, two barriers do.
    FOLD = 8 if ROWS >= 64 else 1

    def add_pixels_of_channels(x, dy, parts, table, g):
        P, K, C, OCG, span, OD, OH, OW, CN, CD, CH, CW, YN, YC, YD, YH, YW = g[:17]
        D, H, W, SD, SH, SW, PF, PT, PL, XN, XG, XD, XH, XW = g[17:]
        sums = cuda.shared.array(threads, real)
        t, part = uint32(cuda.threadIdx.x), uint32(cuda.blockIdx.y)
        row = uint32(t // uint32(lanes))
        pair = uint32(uint32(uint32(cuda.blockIdx.x) * uint32(lanes)) + uint32(t % uint32(lanes)))
        k = uint32(pair // C)
        c = uint32(pair - uint32(k * C))
        p = uint32(uint32(uint32(part * span) * uint32(ROWS)) + row)
        ow = uint32(p % OW)
        rest = uint32(p // OW)
        oh = uint32(rest % OH)
        rest = uint32(rest // OH)
        od, n = uint32(rest % OD), uint32(rest // OD)
        first, d0, h0, w0 = uint32(0), uint32(0), uint32(0), uint32(0)
        if paired and k < K:
            first, d0, h0, w0 = load4(table, uint32(k * uint32(4)), 0)
            first = uint32(first + uint32(uint32(c // OCG) * XG))
        total = real(0)
        for _ in range(span):
            if p < P and k < K:
                at = uint32(uint32(uint32(n * YN) + uint32(c * YC)) + uint32(od * YD))
                value = real(load(dy, uint32(uint32(at + uint32(oh * YH)) + uint32(ow * YW))))
                if paired:
                    d, h = uint32(uint32(od * SD) - PF), uint32(uint32(oh * SH) - PT)
                    w, other = uint32(uint32(ow * SW) - PL), real(0)
                    if uint32(d + d0) < D and uint32(h + h0) < H and uint32(w + w0) < W:
                        at = uint32(uint32(first + uint32(n * XN)) + uint32(d * XD))
                        other = real(load(x, uint32(uint32(at + uint32(h * XH)) + uint32(w * XW))))
                    value = value * other
                total += value
            # ROWS pixels on: each coordinate is carried at most once.
            p, ow = uint32(p + uint32(ROWS)), uint32(ow + CW)
            carry = uint32(1) if ow >= OW else uint32(0)
            ow, oh = uint32(ow - uint32(carry * OW)), uint32(uint32(oh + CH) + carry)
            carry = uint32(1) if oh >= OH else uint32(0)
            oh, od = uint32(oh - uint32(carry * OH)), uint32(uint32(od + CD) + carry)
            carry = uint32(1) if od >= OD else uint32(0)
            od, n = uint32(od - uint32(carry * OD)), uint32(uint32(n + CN) + carry)
        sums[t] = total
        cuda.syncthreads()
        if row < FOLD:
            for r in range(FOLD, ROWS, FOLD):
                total += sums[uint32(t + uint32(r * lanes))]
            sums[t] = total
        cuda.syncthreads()
        if row == 0 and k < K:
            for r in range(1, FOLD):
                total += sums[uint32(t + uint32(r * lanes))]
            parts[uint32(uint32(uint32(uint32(part * C) + c) * K) + k)] = total

    array = pointer(code)
    arguments = (array, array, pointer(REAL_CODE[code]), pointer("I"), types.UniTuple(types.uint32, 31))
    return Kernel(add_pixels_of_channels, arguments, threads)


def steps(by: int, sizes: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """Return how far each of the coordinates (n, od, oh, ow) goes for so many pixels on."""
    rest, CW = divmod(by, sizes[2])
    rest, CH = divmod(rest, sizes[1])
    return (*divmod(rest, sizes[0]), CH, CW)


def finish(stream: Any, parts: Buffer, out: Buffer) -> None:
    """Fill `out` with the sum of the parts (count, *out.shape), both contiguous."""
    numbers = tuple(map(np.uint32, (out.size, parts.shape[0])))
    launch(stream, add_parts, (code_of(out.dtype), THREADS), blocks_of(out.size, THREADS), (parts, out, numbers))


def channel_sums(stream: Any, dy: Buffer, layout: str, out: Buffer) -> None:
    """Fill `out` with the sums over all but the channels of dy, which has three spatial axes and any strides."""
    _sum(stream, (None, dy, None), layout, (1, 1), (0,) * 14, out)


def pair_sums(stream: Any, x: Buffer, dy: Buffer, table: Buffer, g: Any, out: Buffer) -> None:
    """Fill `out`, the gradient (OC, ...) of a weight, pair by pair of a channel and a tap; the table has each tap."""
    XN, XC, XD, XH, XW = channels_first(x.strides, g.layout)
    sizes = (g.D, g.H, g.W, g.SD, g.SH, g.SW, g.PF, g.PT, g.PL, XN, XC * g.ICG, XD, XH, XW)
    _sum(stream, (x, dy, table), g.layout, (out.size // g.OC, g.OCG), sizes, out)


def _sum(stream: Any, arrays: tuple, layout: str, counts: tuple[int, int], sizes: tuple[int, ...], out: Buffer) -> None:
    x, dy, table = arrays
    N, C, OD, OH, OW = channels_first(dy.shape, layout)
    (K, OCG), pixels, lanes = counts, N * OD * OH * OW, 32 if layout == "channels_last" else 1
    rows, across = ADDERS // lanes, blocks_of(C * K, lanes)
    wanted = max(1, min(BUSY // across, blocks_of(pixels, rows * SPAN)))
    span = blocks_of(pixels, rows * wanted)
    blocks = max(1, blocks_of(pixels, rows * max(span, 1)))
    parts = out if blocks == 1 else empty((blocks, *out.shape), out.dtype, stream)
    numbers: tuple[int, ...] = (pixels, K, C, OCG, span, OD, OH, OW, *steps(rows, (OD, OH, OW)))
    numbers += (*channels_first(dy.strides, layout), *sizes)
    arguments = (x, dy, parts, table, tuple(np.uint32(number & 0xFFFFFFFF) for number in numbers))
    literals = code_of(dy.dtype), lanes, x is not None, ADDERS
    launch(stream, add_pixels, literals, (across, blocks), arguments)
    if blocks > 1:
        finish(stream, parts, out)
