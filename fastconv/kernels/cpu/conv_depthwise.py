"""Depthwise convolution: every channel has its own kernel (M kernels with a depth multiplier).

    out[n, ic*M + m, oh, ow] = sum over kh, kw of weight[ic*M + m, kh, kw] * x[n, ic, h, w],
    h = oh*SH + kh*DH - PT, w = ow*SW + kw*DW - PL

One block of one channel at a time is copied with its border into a strip in L1, then `slide` (depthwise_tiles.py)
computes register tiles. One-channel images are its most frequent case. Many small planes, and those with strides, are
turned (depthwise_turned.py); channels_last has a file of its own (depthwise_pixels.py).
Sources: Chollet 2017, arXiv:1610.02357 (the operation); XNNPACK dwconv2d-chw (row reuse).
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from fastconv._jit import inline, njit
from fastconv.kernels.cpu import depthwise_pixels, depthwise_turned
from fastconv.kernels.cpu import fields as F
from fastconv.kernels.cpu.conv_tiles import block_at, finish_pixels
from fastconv.kernels.cpu.depthwise_program import column_offsets, fields, row_offsets
from fastconv.kernels.cpu.depthwise_tiles import lanes, slide
from fastconv.kernels.cpu.packing import plane_at, strip_planes
from fastconv.kernels.cpu.program import Program, address, bits_of
from fastconv.kernels.cpu.row_ops import call_row, fill_rows, finish_rows


@inline
def finish_block(BITS, g, io, c, pitch, rows, columns, channel, dst, ldo):
    """Finish rows of one channel that stand in C, `pitch` apart."""
    size = BITS // 8
    residual = io[F.RESIDUAL] + dst - io[F.OUT] if io[F.RESIDUAL] else 0
    bias = io[F.BIAS] + size * channel
    finish_rows(BITS, 0, dst, ldo, c, pitch, bias, residual, g[F.LIMITS], rows, columns)
    activate_rows(BITS, g, dst, ldo, rows, columns)


@inline
def activate_rows(BITS, g, dst, ldo, rows, columns):
    """Apply the activation to rows that are `ldo` apart."""
    if g[F.ACTIVATION]:
        for r in range(rows):
            call_row(g[F.ACTIVATION], dst + BITS // 8 * r * ldo, columns)


@inline
def segment_at(BITS, NR, g, x, pitch, strip, r, s):
    """Return (source, row offsets, first column, tiles, last) of segment s of a row that is read in place.

    Segment 0 is the tile at the left end and 2 the one at the right end, from the strips; 1 is all between, from x.
    """
    size, OW, edge = BITS // 8, g[F.OW], BITS // 8 * g[F.EDGE]
    if s == 1:
        return x + size * (r * pitch + NR), g[F.INNER_ROWS], NR, (OW - NR - 1) // NR, OW - 3 * NR
    if s == 0:
        return strip + r * edge, g[F.EDGE_ROWS], 0, 1, 0
    return strip + (g[F.ROWS] + r) * edge, g[F.EDGE_ROWS], OW - NR, 1, 0


@inline
def fill_edges(BITS, NR, g, x, rows, strip):
    """Fill the strips at the left and the right end of `rows` rows of the image that start at x."""
    size, W, edge = BITS // 8, g[F.W], g[F.EDGE]
    fill_rows(BITS, strip, x, rows, W, g[F.PL], edge, 1, edge)
    w0 = g[F.OW] - NR - g[F.PL]
    fill_rows(BITS, strip + size * g[F.ROWS] * edge, x + size * w0, rows, W, 0, min(edge, W - w0), 1, edge)


@inline
def slide_block(BITS, R, NV, TAPS, NR, g, io, x, pitch, rows, columns, weight, KH, KW, coloff, channel, dst, c, strip):
    """Compute rows x columns outputs of one channel from rows of `pitch` elements at x, R rows at a time.

    The last tile of a row, and the last rows, overlap their neighbours rather than the edge; what is too small for that
    goes through C. With R = 1, rows that are shorter than a tile are one long row, whose columns beyond `columns` are
    not stored. With `strip` != 0, x is the image itself, and both ends of its rows are in strips.
    """
    size, bias, lim = BITS // 8, io[F.BIAS] + BITS // 8 * channel, g[F.LIMITS]
    flat = R == 1 and columns < NR
    width, lines, spacing = columns, rows, g[F.DH] if R > 1 else 1
    if flat:
        width, lines = (rows - 1) * pitch + columns, 1
    for r0 in range(0, lines, R * spacing):
        for d in range(min(spacing, lines - r0)):
            r = r0 + d
            if spacing == 1:
                r = max(min(r, lines - R), 0)
            to, ldo = dst + size * r * g[F.OW], spacing * g[F.OW]
            straight = not flat and width >= NR and r + (R - 1) * spacing < rows
            target, ld, used, init = c, max(columns, NR), 0, 0
            if straight:
                target, ld, used = to, ldo, bias
                if io[F.RESIDUAL]:
                    init = io[F.RESIDUAL] + to - io[F.OUT]
            for s in range(3 if strip else 1):
                source, offsets, tiles, last = x + size * r * pitch, g[F.ROW_OFFSETS], -(-width // NR), width - NR
                here, added = target, init
                if strip:
                    source, offsets, q, tiles, last = segment_at(BITS, NR, g, x, pitch, strip, r, s)
                    here, added = target + size * q, init + size * q if init else 0
                last = max(last, 0)
                slide(
                    R, NV, TAPS, BITS, source, offsets, coloff, weight, KH, KW, added, here, ld, used, lim, tiles, last
                )
            if straight:
                activate_rows(BITS, g, to, ldo, R, columns)
            elif flat:
                finish_block(BITS, g, io, c, pitch, rows, columns, channel, dst, ldo)
            else:
                left = min(R, (rows - r + spacing - 1) // spacing)
                finish_block(BITS, g, io, c, ld, left, columns, channel, to, ldo)


def planes_kernel(BITS, R, NV, TAPS, VL):
    """Return the channels_first kernel for a register tile of R rows x NV vectors."""
    size, NR = BITS // 8, NV * VL

    @njit()
    def depthwise_planes(g, io, scratch, lo, hi):
        # The depth taps of a row are more rows of the kernel.
        c, KH, KW, offsets = scratch + g[F.C_AT], g[F.KD] * g[F.KH], g[F.KW], g[F.COLUMN_OFFSETS]
        for t in range(lo, hi):
            image, ic, r0, c0 = block_at(g, t)
            rows, columns = min(g[F.RB], g[F.OH] - r0), min(g[F.CB], g[F.OW] - c0)
            h0 = r0 - g[F.PT]
            inside = g[F.EDGE] > 0 and rows >= R and h0 >= 0 and h0 + rows + KH - 1 <= g[F.H]
            source, pitch, strip = scratch, g[F.P], 0
            if inside:
                x = io[F.X] + size * (plane_at(g, image, ic) * g[F.H] + h0) * g[F.W]
                fill_edges(BITS, NR, g, x, rows + KH - 1, scratch)
                source, pitch, strip = x - size * g[F.PL], g[F.W], scratch
            else:
                strip_planes(BITS, scratch, io[F.X], g, image, ic * g[F.KD], g[F.KD], r0, c0)
            for m in range(g[F.M]):
                oc = ic * g[F.M] + m
                weight = io[F.WEIGHT] + size * oc * KH * KW
                plane = (image // g[F.OD] * g[F.OC] + oc) * g[F.OD] + image % g[F.OD]
                dst = io[F.OUT] + size * ((plane * g[F.OH] + r0) * g[F.OW] + c0)
                slide_block(
                    BITS,
                    R,
                    NV,
                    TAPS,
                    NR,
                    g,
                    io,
                    source,
                    pitch,
                    rows,
                    columns,
                    weight,
                    KH,
                    KW,
                    offsets,
                    oc,
                    dst,
                    c,
                    strip,
                )

    return depthwise_planes


@inline
def lanes_block(BITS, MR, NV, NR, g, io, x, pitch, rows, columns, boff, weight, K, image, r0, c0, tile, c):
    """Compute rows x columns output pixels of one tile of channels from pixels of NR lanes at x."""
    size, channel = BITS // 8, tile * NR
    count = min(NR, g[F.OC] - channel)
    for r in range(rows):
        for q in range(0, columns, MR):
            dst = io[F.OUT] + size * (((image * g[F.OH] + r0 + r) * g[F.OW] + c0 + q) * g[F.OC] + channel)
            whole = count == NR and q + MR <= columns
            target, ldo, bias, init = c, NR, 0, 0
            if whole:
                target, ldo, bias = dst, g[F.OC], io[F.BIAS] + size * channel
                if io[F.RESIDUAL]:
                    init = io[F.RESIDUAL] + dst - io[F.OUT]
            pixel = x + size * (r * pitch + q) * NR
            lanes(MR, NV, BITS, pixel, NR, boff, weight, NR, K, init, ldo, target, ldo, bias, g[F.LIMITS])
            if whole:
                activate_rows(BITS, g, dst, ldo, MR, NR)
            else:
                finish_pixels(BITS, g, io, c, NR, channel, dst, min(MR, columns - q), count)


_planes_kernel = cache(planes_kernel)


def program(geometry: Any, activation: str | None, b: Any) -> Program:
    """Return the program of depthwise convolution."""
    if hasattr(b, "T_PITCH"):
        return depthwise_turned.build(geometry, activation, b)
    if hasattr(b, "BOTTOM"):
        return depthwise_pixels.build(geometry, activation, b)
    size = bits_of(geometry) // 8
    rows = row_offsets(geometry, b, geometry.KH + b.R - 1, b.P, b.COLUMN_PHASES) * size
    tables = [rows, column_offsets(geometry, b, 1) * size]
    values = fields(geometry, activation, b, tables)
    if b.EDGE:
        tables += [np.arange(geometry.KH + b.R - 1, dtype=np.int64) * pitch * size for pitch in (b.EDGE, geometry.W)]
        values |= {"EDGE_ROWS": address(tables[2]), "INNER_ROWS": address(tables[3])}
    kernel = _planes_kernel(bits_of(geometry), b.R, b.NV, b.TAPS, b.VL)
    return Program(kernel, F.pack(values), b.tasks, b.scratch_bytes, (), tables)
