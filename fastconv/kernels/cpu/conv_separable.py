"""Spatially separable convolution: a rank-1 kernel as a pass along rows, then a pass along columns.

    middle[h, ow] = sum over kw of x[h, ow*SW + kw*DW - PL] * row[kw]
    out[oh, ow] = sum over kh of middle[oh*SH + kh*DH - PT, ow] * column[kh]

KH + KW multiplications an output instead of KH * KW. Both passes of a block run while it is in L1 or L2; rows that
neighbouring blocks share are computed twice.
Source: Treitel and Shanks 1971, The design of multistage separable planar filters, doi:10.1109/TGE.1971.271457.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from fastconv._jit import njit
from fastconv.kernels.cpu import fields as F
from fastconv.kernels.cpu.conv_depthwise import lanes_block, slide_block
from fastconv.kernels.cpu.conv_tiles import block_at
from fastconv.kernels.cpu.depthwise_program import column_offsets, fields, row_offsets, tap_packer
from fastconv.kernels.cpu.depthwise_tiles import lanes, slide
from fastconv.kernels.cpu.packing import pixels_plane_at, strip_pixels, strip_planes
from fastconv.kernels.cpu.program import Program, address, bits_of

# Vectors of the pass along rows, which has one output row and no reuse of loads.
ROW_NV = 8


def planes_kernel(BITS, R, NV, TAPS, VL):
    """Return the channels_first kernel; tables: row offsets of `middle`, column offsets of the strip, a single 0."""
    size, NR = BITS // 8, NV * VL

    @njit()
    def separable_planes(g, io, scratch, lo, hi):
        MIDDLE, KH, KW, P = g[F.MIDDLE], g[F.KH], g[F.KW], g[F.P]
        middle, c, zero = scratch + g[F.MIDDLE_AT], scratch + g[F.C_AT], g[F.ZERO]
        for t in range(lo, hi):
            image, ic, r0, c0 = block_at(g, t)
            strip_planes(BITS, scratch, io[F.X], g, image, ic, 1, r0, c0)
            rows, columns = min(g[F.RB], g[F.OH] - r0), min(g[F.CB], g[F.OW] - c0)
            for m in range(g[F.M]):
                oc = ic * g[F.M] + m
                for r in range(g[F.ROW_PHASES] * g[F.ROWS]):
                    phase = r // g[F.ROWS]
                    src = scratch + size * (phase * (g[F.COLUMN_PHASES] - 1) * g[F.ROWS] + r) * P
                    row, dst, limits = io[F.ROW] + size * oc * KW, middle + size * r * MIDDLE, g[F.LIMITS]
                    offsets, tiles = g[F.COLUMN_OFFSETS], (columns + ROW_NV * VL - 1) // (ROW_NV * VL)
                    last = max(columns - ROW_NV * VL, 0)
                    slide(1, ROW_NV, 0, BITS, src, zero, offsets, row, 1, KW, 0, dst, 0, 0, limits, tiles, last)
                weight = io[F.WEIGHT] + size * oc * KH
                dst = io[F.OUT] + size * (((image * g[F.OC] + oc) * g[F.OH] + r0) * g[F.OW] + c0)
                slide_block(
                    BITS, R, NV, TAPS, NR, g, io, middle, MIDDLE, rows, columns, weight, KH, 1, zero, oc, dst, c, 0
                )

    return separable_planes


def pixels_kernel(BITS, MR, NV, VL):
    """Return the channels_last kernel."""
    size, NR = BITS // 8, NV * VL

    @njit()
    def separable_pixels(g, io, scratch, lo, hi):
        MIDDLE, KH, KW, P = g[F.MIDDLE], g[F.KH], g[F.KW], g[F.P]
        middle, c = scratch + g[F.MIDDLE_AT], scratch + g[F.C_AT]
        offsets, lines = g[F.COLUMN_OFFSETS], g[F.ROW_OFFSETS]
        for t in range(lo, hi):
            image, tile, r0, c0 = block_at(g, t)
            x = pixels_plane_at(BITS, g, io[F.X], image, 0)
            strip_pixels(BITS, MR, scratch, x, g, tile * NR, min(NR, g[F.OC] - tile * NR), NR, r0, c0)
            rows, columns = min(g[F.RB], g[F.OH] - r0), min(g[F.CB], g[F.OW] - c0)
            row, weight = io[F.ROW] + size * tile * KW * NR, io[F.WEIGHT] + size * tile * KH * NR
            for r in range(g[F.ROW_PHASES] * g[F.ROWS]):
                phase = r // g[F.ROWS]
                src = scratch + size * (phase * (g[F.COLUMN_PHASES] - 1) * g[F.ROWS] + r) * P * NR
                for q in range(0, columns, MR):
                    dst = middle + size * (r * MIDDLE + q) * NR
                    pixel, limits = src + size * q * NR, g[F.LIMITS]
                    lanes(MR, NV, BITS, pixel, NR, offsets, row, NR, KW, 0, 0, dst, NR, 0, limits)
            lanes_block(
                BITS, MR, NV, NR, g, io, middle, MIDDLE, rows, columns, lines, weight, KH, image, r0, c0, tile, c
            )

    return separable_pixels


_planes_kernel = cache(planes_kernel)
_pixels_kernel = cache(pixels_kernel)


def program(geometry: Any, activation: str | None, b: Any) -> Program:
    """Return the program of separable convolution; its weights are (column, row), (OC, KH) and (OC, KW)."""
    bits, first = bits_of(geometry), geometry.layout == "channels_first"
    size, NR = bits // 8, b.NV * b.VL
    width = 1 if first else NR
    count = geometry.KH + b.R - 1 if first else geometry.KH
    tables = [
        row_offsets(geometry, b, count, b.MIDDLE, 1) * width * size,
        column_offsets(geometry, b, width) * size,
        np.zeros(1, np.int64),
    ]
    values = fields(geometry, activation, b, tables) | {"ZERO": address(tables[2])}
    kernel = _planes_kernel(bits, b.R, b.NV, b.TAPS, b.VL) if first else _pixels_kernel(bits, b.R, b.NV, b.VL)
    packers = () if first else tuple(tap_packer(geometry, b, taps) for taps in (geometry.KH, geometry.KW))
    return Program(kernel, F.pack(values), b.tasks, b.scratch_bytes, packers, tables)
