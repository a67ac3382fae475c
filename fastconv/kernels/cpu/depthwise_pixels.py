"""Depthwise convolution of channels_last arrays: register tiles of MR pixels x NV vectors of channels.

Where all taps of a block's outputs lie inside the image, pixels are read where they are. Borders, of an output row or
of MR columns, go through a strip: a copy with its zeros, or with what the padding mode puts there. Blocks of one part
of the image follow one another through all channels, so neighbouring cache lines are read together.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from fastconv._jit import helper, inline, njit
from fastconv.kernels.cpu import fields as F
from fastconv.kernels.cpu.conv_tiles import finish_pixels
from fastconv.kernels.cpu.copy_ops import copy_element, copy_vectors
from fastconv.kernels.cpu.depthwise_program import tap_packer
from fastconv.kernels.cpu.depthwise_tiles import lanes, stencil, stencil_taps
from fastconv.kernels.cpu.epilogue import epilogue_fields
from fastconv.kernels.cpu.packing import depth_at, source_index
from fastconv.kernels.cpu.program import Program, address, aligned, bits_of, blocking_fields, problem_fields
from fastconv.kernels.cpu.row_ops import call_row, copy_row, zero_row


@helper
def part_of(g, part, MR, r0, rows, c0, columns, inside):
    """Return (row, end, column, end) of part 0 to 4 of a block: top, bottom, left, right, and what lies inside."""
    if not inside:
        return (0, rows, 0, columns) if part == 0 else (0, 0, 0, 0)
    top = min(max(g[F.TOP] - r0, 0), rows)
    bottom = max(min(g[F.BOTTOM] - r0, rows), top)
    # Whole tiles at the sides.
    left = (max(g[F.LEFT] - c0, 0) + MR - 1) // MR * MR
    right = columns - (max(c0 + columns - g[F.RIGHT], 0) + MR - 1) // MR * MR
    if right - left < MR:
        left = right = columns
    if part == 0:
        return 0, top, 0, columns
    if part == 1:
        return bottom, rows, 0, columns
    if part == 2:
        return top, bottom, 0, left
    if part == 3:
        return top, bottom, right, columns
    return top, bottom, left, right


@inline
def fill_strip(BITS, NV, NR, g, strip, plane, channel, count, h0, lines, w0, width):
    """Fill strip [line][P][NR] with `lines` x `width` pixels from (h0, w0) on; `plane` 0: zeros.

    Lane i is input channel (channel + i) // M: with a depth multiplier, each channel comes M times.
    """
    size, IC, W, M = BITS // 8, g[F.IC], g[F.W], g[F.M]
    for line in range(lines):
        h = source_index(h0 + line, g[F.H], g[F.MODE]) if plane else -1
        for i in range(width):
            w = source_index(w0 + i, W, g[F.MODE]) if h >= 0 else -1
            dst = strip + size * (line * g[F.P] + i) * NR
            src = plane + size * (h * W + w) * IC
            if w < 0:
                zero_row(BITS, dst, NR)
            elif M > 1:
                for lane in range(count):
                    copy_element(BITS, dst + size * lane, src + size * ((channel + lane) // M))
            elif count == NR:
                copy_vectors(BITS, NV, dst, src + size * channel)
            else:
                copy_row(BITS, dst, src + size * channel, count)


@inline
def tiles_of_row(
    BITS, MR, NV, NR, TAPS, STEP, g, io, x, step, pitch, boff, weight, channel, count, dst, columns, overlap, c
):
    """Compute `columns` outputs of one row; the last whole tile may overlap its neighbour, others go through C."""
    size, OC = BITS // 8, g[F.OC]
    for q0 in range(0, columns, MR):
        q = min(q0, columns - MR) if overlap else q0
        to, whole = dst + size * q * OC, count == NR and q + MR <= columns
        target, ldo, bias, init = c, NR, 0, 0
        if whole:
            target, ldo, bias = to, OC, io[F.BIAS] + size * channel
            if io[F.RESIDUAL]:
                init = io[F.RESIDUAL] + to - io[F.OUT]
        pixel, limits = x + size * q * g[F.SW] * step, g[F.LIMITS]
        if TAPS:
            down = g[F.DH] * pitch
            stencil(MR, NV, TAPS, STEP, BITS, pixel, step, down, weight, g[F.KH], init, ldo, target, ldo, bias, limits)
        else:
            K, across = g[F.KD] * g[F.KH] * g[F.KW], g[F.SW] * step
            lanes(MR, NV, BITS, pixel, across, boff, weight, NR, K, init, ldo, target, ldo, bias, limits)
        if not whole:
            finish_pixels(BITS, g, io, c, NR, channel, to, min(MR, columns - q), count)
        elif g[F.ACTIVATION]:
            for m in range(MR):
                call_row(g[F.ACTIVATION], to + size * m * OC, NR)


@cache
def kernel(BITS: int, MR: int, NV: int, VL: int, TAPS: int, STEP: int) -> Any:
    """Return the kernel for a register tile of MR pixels x NV vectors; for rows of TAPS > 0 taps and a stride STEP."""
    size, NR = BITS // 8, NV * VL

    @njit()
    def depthwise_pixels(g, io, scratch, lo, hi):
        """Tasks are blocks [image][row block][column block][tile of NR channels]."""
        IC, OW, SW, H, W = g[F.IC], g[F.OW], g[F.SW], g[F.H], g[F.W]
        c, KW, K = scratch + g[F.C_AT], g[F.KW], g[F.KD] * g[F.KH] * g[F.KW]
        lines, width = (g[F.KH] - 1) * g[F.DH] + 1, (KW - 1) * g[F.DW] + 1
        for t in range(lo, hi):
            tile, block = t % g[F.TILES], t // g[F.TILES]
            c0, block = block % g[F.COLUMN_BLOCKS] * g[F.CB], block // g[F.COLUMN_BLOCKS]
            r0, image = block % g[F.ROW_BLOCKS] * g[F.RB], block // g[F.ROW_BLOCKS]
            rows, columns = min(g[F.RB], g[F.OH] - r0), min(g[F.CB], OW - c0)
            channel = tile * NR
            count, weight = min(NR, g[F.OC] - channel), io[F.WEIGHT] + size * channel * K
            inside = g[F.BOTTOM] > 0 and count == NR
            for part in range(5):
                r, end, q, q_end = part_of(g, part, MR, r0, rows, c0, columns, inside)
                if r >= end or q >= q_end:
                    continue
                h0, w0 = (r0 + r) * g[F.SH] - g[F.PT], (c0 + q) * SW - g[F.PL]
                if part == 4:
                    x, step, pitch, boff = io[F.X] + size * channel, IC, W * IC, g[F.INNER_ROWS]
                    x += size * ((image * H + h0) * W + w0) * IC
                else:
                    n = (q_end - q + MR - 1) // MR * MR
                    x, step, pitch, boff = scratch, NR, g[F.P] * NR, g[F.COLUMN_OFFSETS]
                    for kd in range(g[F.KD]):
                        d = depth_at(g, image, kd)
                        plane = 0
                        if d >= 0:
                            plane = io[F.X] + size * (image // g[F.OD] * g[F.D] + d) * H * W * IC
                        strip, tall = scratch + size * kd * g[F.PLANE] * NR, (end - r - 1) * g[F.SH] + lines
                        fill_strip(BITS, NV, NR, g, strip, plane, channel, count, h0, tall, w0, (n - 1) * SW + width)
                for row in range(r, end):
                    dst = io[F.OUT] + size * (((image * g[F.OH] + r0 + row) * OW + c0 + q) * g[F.OC] + channel)
                    source = x + size * (row - r) * g[F.SH] * pitch
                    tiles_of_row(
                        BITS, MR, NV, NR, TAPS, STEP, g, io, source, step, pitch, boff, weight, channel, count, dst,
                        q_end - q, part == 4, c,
                    )  # fmt: skip

    return depthwise_pixels


def build(geometry: Any, activation: str | None, b: Any) -> Program:
    """Return the program of a depthwise convolution in a `dispatch.blocking_pixels.PixelsBlocking`."""
    bits, NR = bits_of(geometry), b.NV * b.VL
    size, KH, KW = bits // 8, geometry.KH, geometry.KW
    kd, kh, kw = np.ogrid[: geometry.KD, :KH, :KW]
    down, across = kh * geometry.DH, kw * geometry.DW
    tables = [
        np.ascontiguousarray(((kd * b.ROWS + down) * b.P + across) * NR * size, np.int64).ravel(),
        np.ascontiguousarray((0 * kd + down * geometry.W + across) * geometry.IC * size, np.int64).ravel(),
    ]
    values = problem_fields(geometry) | blocking_fields(b) | epilogue_fields(activation, geometry.dtype)
    values |= {"COLUMN_OFFSETS": address(tables[0]), "INNER_ROWS": address(tables[1]), "PLANE": b.ROWS * b.P}
    values |= {"M": geometry.OC // max(geometry.IC, 1), "C_AT": aligned(b.strip_elements * size)}
    packer = tap_packer(geometry, b, geometry.KD * KH * KW)
    program = kernel(bits, b.MR, b.NV, b.VL, *stencil_taps(geometry))
    return Program(program, F.pack(values), b.tasks, b.scratch_bytes, (packer,), tables)
