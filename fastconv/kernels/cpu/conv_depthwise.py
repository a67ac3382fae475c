"""Depthwise convolution: every channel has its own kernel (M kernels with a depth multiplier).




    out[n, ic*M + m, oh, ow] = sum over kh, kw of weight[ic*M + m, kh, kw] * x[n, ic, h, w],
    h = oh*SH + kh*DH - PT, w = ow*SW + kw*DW - PL

One block of one channel at a time (channels_last: of one tile of channels) is copied with its border into a strip in
L1, then `slide` or `lanes` (depthwise_tiles.py) computes register tiles. One-channel images are its most frequent case.
Sources: Chollet 2017, arXiv:1610.02357 (the operation); XNNPACK dwconv2d-chw (row reuse).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from fastconv._jit import inline, njit
from fastconv.kernels.cpu import fields as F
from fastconv.kernels.cpu.conv_tiles import block_at, finish_pixel, finish_planes
from fastconv.kernels.cpu.depthwise_program import bits_of, column_offsets, fields, lane_packer, row_offsets
from fastconv.kernels.cpu.depthwise_tiles import lanes, slide
from fastconv.kernels.cpu.packing import strip_pixels, strip_planes, strip_repeated
from fastconv.kernels.cpu.program import Packer, Program
from fastconv.kernels.cpu.row_ops import call_row, finish_rows


@inline
def finish_flat(BITS, g, io, c, pitch, rows, columns, channel, dst):
    """Finish the block of one channel that stands in C as one long row."""
    size = BITS // 8
    residual = io[F.RESIDUAL] + dst - io[F.OUT] if io[F.RESIDUAL] else 0
    bias = io[F.BIAS] + size * channel
    finish_rows(BITS, 0, dst, g[F.OW], c, pitch, bias, residual, g[F.LIMITS], rows, columns)
    if g[F.ACTIVATION]:
        for r in range(rows):
            call_row(g[F.ACTIVATION], dst + size * r * g[F.OW], columns)


@inline
def slide_block(BITS, R, NV, TAPS, NR, g, io, x, pitch, rows, columns, weight, KH, KW, coloff, channel, dst, c):
    """Compute rows x columns outputs of one channel from rows of `pitch` elements at x.

    Tiles at the end of a row, and at the last rows, overlap their neighbours rather than the edge. With R = 1, rows
    that are shorter than a tile are one long row, whose columns beyond `columns` are not stored.
    """
    size = BITS // 8
    flat = R == 1 and columns < NR
    width, lines, spacing = columns, rows, g[F.DH] if R > 1 else 1
    if flat:
        width, lines = (rows - 1) * pitch + columns, 1
    for r0 in range(0, lines, R * spacing):
        for d in range(min(spacing, lines - r0)):
            r = r0 + d
            if spacing == 1:
                r = max(min(r, lines - R), 0)
            for q0 in range(0, width, NR):
                q = max(min(q0, width - NR), 0)
                whole = not flat and width >= NR and r + (R - 1) * spacing < rows
                target, ldo, bias, init = c, NR, 0, 0
                if flat:
                    target = c + size * q
                if whole:
                    target, ldo = dst + size * (r * g[F.OW] + q), spacing * g[F.OW]
                    bias = io[F.BIAS] + size * channel
                    if io[F.RESIDUAL]:
                        init = io[F.RESIDUAL] + target - io[F.OUT]
                source, limits = x + size * (r * pitch + q), g[F.LIMITS]
                slide(
                    R,
                    NV,
                    TAPS,
                    BITS,
                    source,
                    g[F.ROW_OFFSETS],
                    coloff,
                    weight,
                    KH,
                    KW,
                    init,
                    ldo,
                    target,
                    ldo,
                    bias,
                    limits,
                )
                for i in range(R):
                    row = r + i * spacing
                    if whole:
                        if g[F.ACTIVATION]:
                            call_row(g[F.ACTIVATION], target + size * i * ldo, NR)
                    elif not flat and row < rows:
                        end, plane = min(q + NR, width), dst + size * row * g[F.OW]
                        finish_planes(BITS, g, io, c + size * i * NR, channel, plane, q, end, pitch, columns, g[F.OW])
    if flat:
        finish_flat(BITS, g, io, c, pitch, rows, columns, channel, dst)


def planes_kernel(BITS, R, NV, TAPS, VL):
    """Return the channels_first kernel for a register tile of R rows x NV vectors."""
    size, NR = BITS // 8, NV * VL

    @njit()
    def depthwise_planes(g, io, scratch, lo, hi):
        c, KH, KW = scratch + g[F.C_AT], g[F.KH], g[F.KW]
        for t in range(lo, hi):
            image, ic, r0, c0 = block_at(g, t)
            x = io[F.X] + size * (image * g[F.IC] + ic) * g[F.H] * g[F.W]
            strip_planes(BITS, scratch, x, g, 1, r0, c0)
            rows, columns = min(g[F.RB], g[F.OH] - r0), min(g[F.CB], g[F.OW] - c0)
            for m in range(g[F.M]):
                oc = ic * g[F.M] + m
                weight = io[F.WEIGHT] + size * oc * KH * KW
                dst = io[F.OUT] + size * (((image * g[F.OC] + oc) * g[F.OH] + r0) * g[F.OW] + c0)
                slide_block(
                    BITS,
                    R,
                    NV,
                    TAPS,
                    NR,
                    g,
                    io,
                    scratch,
                    g[F.P],
                    rows,
                    columns,
                    weight,
                    KH,
                    KW,
                    g[F.COLUMN_OFFSETS],
                    oc,
                    dst,
                    c,
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
            for m in range(min(MR, columns - q)):
                if whole:
                    if g[F.ACTIVATION]:
                        call_row(g[F.ACTIVATION], dst + size * m * ldo, NR)
                else:
                    finish_pixel(BITS, g, io, c + size * m * NR, channel, dst + size * m * g[F.OC], count)


def pixels_kernel(BITS, MR, NV, VL):
    """Return the channels_last kernel for a register tile of MR pixels x NV vectors of channels."""
    size, NR = BITS // 8, NV * VL

    @njit()
    def depthwise_pixels(g, io, scratch, lo, hi):
        c, K = scratch + g[F.C_AT], g[F.KH] * g[F.KW]
        for t in range(lo, hi):
            image, tile, r0, c0 = block_at(g, t)
            fill_lanes(BITS, NR, g, io, scratch, image, tile, r0, c0)
            rows, columns = min(g[F.RB], g[F.OH] - r0), min(g[F.CB], g[F.OW] - c0)
            weight = io[F.WEIGHT] + size * tile * K * NR
            lanes_block(
                BITS,
                MR,
                NV,
                NR,
                g,
                io,
                scratch,
                g[F.P],
                rows,
                columns,
                g[F.COLUMN_OFFSETS],
                weight,
                K,
                image,
                r0,
                c0,
                tile,
                c,
            )

    return depthwise_pixels


@inline
def fill_lanes(BITS, NR, g, io, strip, image, tile, r0, c0):
    """Fill the strip with the pixels that one tile of output channels reads, each channel M times."""
    x = io[F.X] + BITS // 8 * image * g[F.H] * g[F.W] * g[F.IC]
    if g[F.M] == 1:
        strip_pixels(BITS, strip, x + BITS // 8 * tile * NR, g, min(NR, g[F.OC] - tile * NR), NR, r0, c0)
    else:
        strip_repeated(BITS, strip, x, g, tile * NR, min(NR, g[F.OC] - tile * NR), NR, r0, c0)


_planes_kernel = lru_cache(maxsize=None)(planes_kernel)
_pixels_kernel = lru_cache(maxsize=None)(pixels_kernel)


def program(geometry: Any, activation: str | None, b: Any) -> Program:
    """Return the program of depthwise convolution."""
    packers: tuple[Packer, ...] = ()
    bits, first = bits_of(geometry), geometry.layout == "channels_first"
    size = bits // 8
    if first:
        rows = row_offsets(geometry, b, geometry.KH + b.R - 1, b.P, b.COLUMN_PHASES) * size
        columns = column_offsets(geometry, b, 1) * size
        kernel = _planes_kernel(bits, b.R, b.NV, b.TAPS, b.VL)
    else:
        NR = b.NV * b.VL
        rows = row_offsets(geometry, b, geometry.KH, b.P, b.COLUMN_PHASES) * NR * size
        # One table of all taps.
        columns = (rows[:, None] + column_offsets(geometry, b, NR) * size).ravel()
        kernel, packers = _pixels_kernel(bits, b.R, b.NV, b.VL), (lane_packer(geometry, b, geometry.KH * geometry.KW),)
    tables = [rows, columns]
    g = F.pack(fields(geometry, activation, b, tables))
    return Program(kernel, g, b.tasks, b.scratch_bytes, packers, tables)
