"""The gradient of a weight on the matrix unit: float32 as sums of three bfloat16 products, pixels as k.

The tasks and the finish are those of weight_gradient.py. A band's input is laid out in planes of bfloat16, high and low
parts, with its border: rows of a tile register are 32 pixels of 16 channels, and another tap is another address. The
output's gradient is packed as a weight is: blocks of 32 pixels x 32 output channels, pairs of pixels together, zeros
where the pitch of the planes has no output. So each 32 channels x 32 output channels of one tap are one run of products
over all pixels of the band. The sums stand in the order [block of 32 channels][tap][32][32], then those of the bias,
whose input is a row of ones.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from fastconv._jit import helper, njit
from fastconv.kernels.cpu import fields as F
from fastconv.kernels.cpu.bf16_ops import split_pairs, split_row
from fastconv.kernels.cpu.conv_gemm import tap_at
from fastconv.kernels.cpu.conv_tiles import deep_strip
from fastconv.kernels.cpu.gradient_sums import DBIAS, DY, SUMS, GradientProgram, X, finish_kernel
from fastconv.kernels.cpu.matrix_unit import (
    BLOCK,
    PALETTE,
    TILE_BYTES,
    WEIGHT_BYTES,
    WEIGHT_COLUMNS,
    configure,
    multiply,
    release,
)
from fastconv.kernels.cpu.packing import strip_planes
from fastconv.kernels.cpu.program import address, blocking_fields, problem_fields, table
from fastconv.kernels.cpu.row_ops import int_at, transpose, zero_row

# Lanes of a register; the unit comes with AVX-512.
VL = 16


@helper
def planes_of_planes(g, x, planes, temporary, image, group, c0, channels, r0, col0):
    """channels_first: fill [channel][PLANE] with bfloat16, high parts and LOW bytes behind them the low ones."""
    n = g[F.ROW_PHASES] * g[F.COLUMN_PHASES] * g[F.ROWS] * g[F.P]
    for c in range(channels):
        strip_planes(32, temporary, x, g, image, group * g[F.ICG] + c0 + c, 1, r0, col0)
        to = planes + 2 * c * g[F.PLANE]
        split_row(to, to + g[F.LOW], temporary, n, g[F.PLANE])


@helper
def planes_of_pixels(g, x, planes, temporary, image, group, c0, channels, r0, col0):
    """channels_last: the same from a strip of pixels, turned VL pixels of VL channels at a time."""
    n, turned = g[F.ROW_PHASES] * g[F.COLUMN_PHASES] * g[F.ROWS] * g[F.P], temporary + g[F.T_AT]
    deep_strip(32, VL, temporary, x, g, image, group, c0, channels, g[F.STEP], r0, col0)
    for c in range(0, channels, VL):
        # Behind the last pixel there are VL more, and behind the last channel the next pixel.
        for q in range(0, n, VL):
            transpose(32, turned + 4 * q, g[F.T_ROWS], temporary + 4 * (q * g[F.STEP] + c), g[F.STEP])
        for i in range(min(VL, channels - c)):
            to = planes + 2 * (c + i) * g[F.PLANE]
            split_row(to, to + g[F.LOW], turned + 4 * i * g[F.T_PITCH], n, g[F.PLANE])


@helper
def blocks_of_planes(g, dy, panel, temporary, image, channel, lanes, r0, c0, rows, columns):
    """channels_first: pack the gradient of an image's block, `lanes` <= 32 output channels, in blocks of 32 pixels."""
    steps, OW, plane, P = g[F.STEPS], g[F.OW], g[F.OUT_PLANE], g[F.P]
    pitch = 2 * (BLOCK * steps + BLOCK)
    low = BLOCK * pitch
    src = dy + 4 * (((image // g[F.OD] * g[F.OC] + channel) * g[F.OD] + image % g[F.OD]) * g[F.OH] + r0) * OW
    for o in range(BLOCK):
        to, row = temporary + o * pitch, src + 4 * (o * plane + c0)
        if o >= lanes:
            zero_row(32, to, pitch // 4)
            zero_row(32, to + low, pitch // 4)
        elif P == columns == OW:
            split_row(to, to + low, row, rows * OW, BLOCK * steps)
        else:
            for r in range(rows):
                # The end is filled up; what is too much is written over by the next row.
                end = P if r < rows - 1 else BLOCK * steps - r * P
                split_row(to + 2 * r * P, to + low + 2 * r * P, row + 4 * r * OW, columns, end)
    for step in range(steps):
        for part in range(2):
            for half in range(2):
                to = panel + step * WEIGHT_BYTES + (2 * part + half) * TILE_BYTES
                source = temporary + part * low + half * VL * pitch + 2 * BLOCK * step
                transpose(32, to, g[F.T_ROWS], source, pitch // 4)


@helper
def blocks_of_pixels(g, dy, panel, temporary, image, channel, lanes, r0, c0, rows, columns):
    """channels_last: the same."""
    OC, OW, P, r, col = g[F.OC], g[F.OW], g[F.P], 0, 0
    src = dy + 4 * (((image * g[F.OH] + r0) * OW + c0) * OC + channel)
    first = src
    for q in range(BLOCK * g[F.STEPS]):
        pixel = src + 4 * (r * OW + col) * OC if col < columns and r < rows else g[F.ZEROS_AT]
        col += 1
        if col == P:
            col = 0
            r += 1
        if q % 2 == 0:
            first = pixel
            continue
        to = panel + q // BLOCK * WEIGHT_BYTES + q % BLOCK // 2 * 64
        for half in range(0, BLOCK, VL):
            if lanes > half:
                n = min(VL, lanes - half)
                split_pairs(to, to + 2 * TILE_BYTES, first + 4 * half, pixel + 4 * half, n)
            else:
                zero_row(32, to, VL)
                zero_row(32, to + 2 * TILE_BYTES, VL)
            to += TILE_BYTES


@cache
def band_kernel(FIRST: bool) -> Any:
    """Return the kernel that sums over the bands; FIRST: channels_first."""
    fill_planes, fill_blocks = (planes_of_planes, blocks_of_planes) if FIRST else (planes_of_pixels, blocks_of_pixels)

    @njit()
    def gradient_unit(g, io, scratch, lo, hi):
        """Tasks are [chunk][group][block of input channels][part of the tiles of output channels]."""
        OCG, TILES, PASSES, TAPS, STEPS = g[F.OCG], g[F.TILES], g[F.PASSES], g[F.KH] * g[F.KW], g[F.STEPS]
        blocks, temporary = scratch + g[F.C_AT], scratch + g[F.TEMPORARY_AT]
        configure(g[F.PALETTE])
        for t in range(lo, hi):
            first, p = t % g[F.PARTS] * g[F.PART_TILES], t // g[F.PARTS] % PASSES
            unit = t // g[F.PARTS] // PASSES
            group, chunk = unit % g[F.G], unit // g[F.G]
            last, c0 = min(first + g[F.PART_TILES], TILES), p * g[F.ICP]
            channels = min(g[F.ICP], g[F.ICG] - c0)
            begin = chunk * g[F.BANDS] // g[F.CHUNKS]
            for band in range(begin, (chunk + 1) * g[F.BANDS] // g[F.CHUNKS]):
                col0, block = band % g[F.COLUMN_BLOCKS] * g[F.CB], band // g[F.COLUMN_BLOCKS]
                r0, image0 = block % g[F.ROW_BLOCKS] * g[F.RB], block // g[F.ROW_BLOCKS] * g[F.IMAGES]
                rows, columns = min(g[F.RB], g[F.OH] - r0), min(g[F.CB], g[F.OW] - col0)
                images = min(g[F.IMAGES], g[F.N] - image0)
                for i in range(images):
                    to = scratch + i * g[F.IMAGE_BYTES]
                    fill_planes(g, io[X], to, temporary, image0 + i, group, c0, channels, r0, col0)
                for tile in range(first, last):
                    lanes, channel = min(BLOCK, OCG - tile * BLOCK), group * OCG + tile * BLOCK
                    for i in range(images):
                        to = blocks + i * STEPS * WEIGHT_BYTES
                        fill_blocks(g, io[DY], to, temporary, image0 + i, channel, lanes, r0, col0, rows, columns)
                    c = io[SUMS] + 4 * (((chunk * g[F.G] + group) * PASSES + p) * TILES + tile) * g[F.AREA]
                    add, steps, row = int(band > begin), images * STEPS, 2 * g[F.PLANE]
                    if io[DBIAS] and p == 0:
                        ones, low = g[F.ONES], 2 * BLOCK * STEPS
                        to = c + 4 * g[F.BIAS_AT]
                        multiply(WEIGHT_COLUMNS, 3, to, add, blocks, ones, g[F.ONES_STEPS], 0, 0, low, steps)
                    for cb in range(0, channels, BLOCK):
                        for tap in range(TAPS):
                            x = scratch + 2 * (cb * g[F.PLANE] + int_at(g[F.TAPS_AT], tap))
                            half, low = 16 * row, g[F.LOW]
                            multiply(WEIGHT_COLUMNS, 3, c, add, blocks, x, g[F.LINES], row, half, low, steps)
                            c += 4 * BLOCK * BLOCK
        release()

    return gradient_unit


def build(geometry: Any, b: Any) -> GradientProgram:
    """Return the program of a weight gradient in a `dispatch.blocking_gradient_unit.UnitBlocking`."""
    first = geometry.layout == "channels_first"
    values = problem_fields(geometry) | blocking_fields(b) | {"M": 1, "PALETTE": address(PALETTE)}
    planar = geometry.planar
    taps, steps = planar.KH * planar.KW, np.arange(b.STEPS, dtype=np.int64) * 2 * BLOCK
    m = np.arange(b.ICP * taps, dtype=np.int64)
    channel, tap = np.divmod(m, taps)
    rows = (channel // BLOCK * taps + tap) * BLOCK * BLOCK + channel % BLOCK * BLOCK
    K = planar.ICG * taps
    ones = np.zeros(2 * BLOCK * b.STEPS, np.uint16)
    # 1.0 in bfloat16; the low parts are zeros.
    ones[: BLOCK * b.STEPS] = 0x3F80
    tables = {
        "LINES": (np.arange(b.IMAGES, dtype=np.int64)[:, None] * b.IMAGE_BYTES + steps).ravel(),
        "ONES_STEPS": np.tile(steps, b.IMAGES),
        "ONES": ones,
        "TAPS_AT": table(tap_at(planar, b, kh, kw) for kh in range(planar.KH) for kw in range(planar.KW)),
        "ROW_PLACES": rows,
        "PLANE_ROWS": np.arange(VL, dtype=np.int64) * K,
        "T_ROWS": np.arange(VL, dtype=np.int64) * (VL if first else b.T_PITCH),
        "ZEROS_AT": np.zeros(BLOCK, np.float32),
    }
    values |= {name: address(array) for name, array in tables.items()}
    return GradientProgram(band_kernel(first), finish_kernel(32, VL), F.pack(values), list(tables.values()))
