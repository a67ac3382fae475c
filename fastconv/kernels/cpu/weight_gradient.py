"""The gradient of a convolution's weight and bias: a sum over all pixels of the batch.

    dweight[oc, ic, kh, kw] = sum over n, oh, ow of dy[n, oc, oh, ow] * x[n, ic, oh*SH + kh*DH - PT, ow*SW + kw*DW - PL]

A task has a block of input channels, a range of tiles of output channels, and a share (chunk) of the images. It goes
through its bands of some hundred pixels: packs the input of a band, its border and stride phases laid out as for
convolution, unless it has no border and is read in place, and the output's gradient to [tile][pixel][NR]; then each
register tile of the filters is one `rank_update` over the pixels, added to the sums of the bands before. How the batch
is cut depends on the problem alone, and a second kernel adds the chunks in order while it turns the sums to the
weight's layout: so the bits are the same for every number of threads. The bias is a row of ones beside the input.

Depthwise convolution (`alike`) is the same with the channels of a tile as lanes of both operands.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from fastconv._jit import helper, inline, njit
from fastconv.kernels.cpu import fields as F
from fastconv.kernels.cpu.conv_gemm import input_lines, places_of, tap_at
from fastconv.kernels.cpu.conv_lanes import strip_turned, turn_run
from fastconv.kernels.cpu.conv_tiles import deep_strip
from fastconv.kernels.cpu.copy_ops import copy_vectors
from fastconv.kernels.cpu.gradient_sums import DBIAS, DY, SUMS, GradientProgram, X, finish_kernel
from fastconv.kernels.cpu.packing import pixels_plane_at, strip_pixels, strip_planes
from fastconv.kernels.cpu.program import address, aligned, bits_of, blocking_fields, problem_fields, table
from fastconv.kernels.cpu.rank_update import rank_update
from fastconv.kernels.cpu.row_ops import copy_row, int_at, zero_row


@inline
def pack_pixels(BITS, NV, panel, dy, g, image, channel, lanes, r0, c0, rows, columns):
    """channels_last: fill [pixel][NR] with `lanes` channels of a block, zeros behind them."""
    size, NR = BITS // 8, g[F.NR]
    for r in range(rows):
        src = dy + size * (((image * g[F.OH] + r0 + r) * g[F.OW] + c0) * g[F.OC] + channel)
        for _ in range(columns):
            if lanes == NR:
                copy_vectors(BITS, NV, panel, src)
            else:
                copy_row(BITS, panel, src, lanes)
                zero_row(BITS, panel + size * lanes, NR - lanes)
            panel += size * NR
            src += size * g[F.OC]


@inline
def pack_planes(BITS, VL, panel, dy, g, image, channel, lanes, r0, c0, rows, columns):
    """channels_first: fill [pixel][NR] with `lanes` channels of a block, zeros behind them."""
    size, NR, OW, plane = BITS // 8, g[F.NR], g[F.OW], g[F.OUT_PLANE]
    # A plane is a channel of image (n, od).
    src = dy + size * (((image // g[F.OD] * g[F.OC] + channel) * g[F.OD] + image % g[F.OD]) * g[F.OH] + r0) * OW
    if lanes < NR:
        zero_row(BITS, panel, rows * columns * NR)
    if columns == OW:
        turn_run(BITS, VL, panel, g[F.T_ROWS], src, plane, lanes, rows * OW)
    else:
        for r in range(rows):
            to = panel + size * r * columns * NR
            turn_run(BITS, VL, to, g[F.T_ROWS], src + size * (r * OW + c0), plane, lanes, columns)


@inline
def pack_input(BITS, MR, VL, FIRST, ALIKE, strip, x, g, image, group, c0, channels, r0, col0):
    """Fill a strip with the channels from c0 on of a group, for the block at (r0, col0)."""
    if FIRST and ALIKE:
        places, pitch = g[F.PLACES], g[F.STEP]
        strip_turned(BITS, MR, VL, strip, x, g, image, group, c0, channels, pitch, places, r0, col0)
    elif FIRST:
        strip_planes(BITS, strip, x, g, image, group * g[F.ICG] + c0, channels, r0, col0)
    elif ALIKE:
        plane = pixels_plane_at(BITS, g, x, image, 0)
        strip_pixels(BITS, MR, strip, plane, g, c0, channels, g[F.STEP], r0, col0)
    else:
        deep_strip(BITS, MR, strip, x, g, image, group, c0, channels, g[F.STEP], r0, col0)


@helper
def plain_at(g, first, image, group, channel, r0, col0):
    """Return where in the input, read in place, the first pixel of a block and of a channel of a group stands."""
    row, column, channel = r0 * g[F.SH] - g[F.PT], col0 * g[F.SW] - g[F.PL], group * g[F.ICG] + channel
    if first:
        return ((image * g[F.IC] + channel) * g[F.H] + row) * g[F.W] + column
    return ((image * g[F.H] + row) * g[F.W] + column) * g[F.IC] + channel


@cache
def band_kernel(BITS: int, MR: int, NV: int, VL: int, FIRST: bool, ALIKE: int) -> Any:
    """Return the kernel that sums over the bands; FIRST: channels_first, ALIKE: depthwise."""
    size, NR = BITS // 8, NV * VL

    @njit()
    def weight_gradient(g, io, scratch, lo, hi):
        """Tasks are [chunk][group][block of input channels][part of the tiles of output channels]."""
        OH, OW, OCG, TILES, PASSES = g[F.OH], g[F.OW], g[F.OCG], g[F.TILES], g[F.PASSES]
        panel = scratch + g[F.C_AT]
        for t in range(lo, hi):
            first, p = t % g[F.PARTS] * g[F.PART_TILES], t // g[F.PARTS] % PASSES
            unit = t // g[F.PARTS] // PASSES
            group, chunk = unit % g[F.G], unit // g[F.G]
            last = min(first + g[F.PART_TILES], TILES)
            channels, c0 = min(g[F.ICP], g[F.ICG] - p * g[F.ICP]), p * g[F.ICP]
            if ALIKE:
                channels, c0 = min(NR, OCG - first * NR), first * NR
            rest = g[F.PASS_TABLE] + 16 * p
            places, tiles = int_at(rest, 0), int_at(rest, 1)
            begin = chunk * g[F.BANDS] // g[F.CHUNKS]
            for band in range(begin, (chunk + 1) * g[F.BANDS] // g[F.CHUNKS]):
                col0, block = band % g[F.COLUMN_BLOCKS] * g[F.CB], band // g[F.COLUMN_BLOCKS]
                r0, image0 = block % g[F.ROW_BLOCKS] * g[F.RB], block // g[F.ROW_BLOCKS] * g[F.IMAGES]
                rows, columns = min(g[F.RB], OH - r0), min(g[F.CB], OW - col0)
                images = min(g[F.IMAGES], g[F.N] - image0)
                a = scratch
                if g[F.PLAIN]:
                    a = io[X] + size * plain_at(g, FIRST, image0, group, c0, r0, col0)
                for i in range(0 if g[F.PLAIN] else images):
                    strip, image = scratch + size * i * g[F.PLANE] * g[F.STRIP_PLANES], image0 + i
                    pack_input(BITS, MR, VL, FIRST, ALIKE, strip, io[X], g, image, group, c0, channels, r0, col0)
                pixels = rows * columns
                add = int(band > begin)
                for tile in range(first, last):
                    b = panel + size * (tile - first) * g[F.T_PITCH]
                    lanes, channel = min(NR, OCG - tile * NR), group * OCG + tile * NR
                    for i in range(images):
                        to = b + size * i * pixels * NR
                        if FIRST:
                            pack_planes(BITS, VL, to, io[DY], g, image0 + i, channel, lanes, r0, col0, rows, columns)
                        else:
                            pack_pixels(BITS, NV, to, io[DY], g, image0 + i, channel, lanes, r0, col0, rows, columns)
                    c = io[SUMS] + size * (((chunk * g[F.G] + group) * PASSES + p) * TILES + tile) * g[F.AREA]
                    lines = images * rows
                    for m in range(tiles):
                        at, to = places + 8 * m * MR, c + size * m * MR * NR
                        rank_update(MR, NV, ALIKE, BITS, a, g[F.STEP], g[F.LINES], lines, columns, at, b, to, add)
                    if io[DBIAS] and p == 0:
                        zeros, to = g[F.ZEROS_AT], c + size * g[F.BIAS_AT]
                        rank_update(MR, NV, ALIKE, BITS, g[F.ONES], 0, zeros, 1, images * pixels, zeros, b, to, add)

    return weight_gradient


def build(geometry: Any, b: Any) -> GradientProgram:
    """Return the program of a weight gradient in a `dispatch.blocking_gradient.GradientBlocking`.

    The weight's layout is (OC, ICG, KD, KH, KW), with channels last (OC, KD, ICG, KH, KW).
    """
    bits, first = bits_of(geometry), geometry.layout == "channels_first"
    values = problem_fields(geometry) | blocking_fields(b)
    planar, NR = geometry.planar, b.NV * b.VL
    K = planar.ICG * planar.KH * planar.KW
    if b.ALIKE:
        values |= {"G": 1, "ICG": 1, "ICT": geometry.IC, "OCG": geometry.OC, "M": geometry.OC // geometry.IC}
        K = planar.KH * planar.KW
    else:
        values["M"] = 1
    columns = b.CB < planar.OW
    T_COLUMNS = (b.CB - 1) * planar.SW + (planar.KW - 1) * planar.DW + 1 if columns else 0
    values |= {"T_LINES": input_lines(planar, b), "T_COLUMNS": T_COLUMNS, "C_AT": aligned(b.strip_bytes)}
    lines = np.arange(b.IMAGES)[:, None] * b.image_elements + np.arange(b.RB) * b.line_elements
    tables = {
        "LINES": np.ascontiguousarray(lines.ravel(), np.int64),
        "ZEROS_AT": np.zeros(b.MR, np.int64),
        "ONES": np.ones(NR, geometry.dtype),
        "T_ROWS": np.arange(b.IMAGES * b.RB * b.CB, dtype=np.int64) * NR,
        "PLANE_ROWS": np.arange(b.VL, dtype=np.int64) * K,
        "ROW_PLACES": np.arange(b.ICP * planar.KH * planar.KW, dtype=np.int64) * NR,
        "PLACES": places_of(planar, b, b.STEP, T_COLUMNS) if first and b.ALIKE else np.empty(0, np.int64),
    }
    rows = [_row_places(planar, b, min(b.ICP, planar.ICG - p * b.ICP)) for p in (0, b.PASSES - 1)]
    passes = [rows[p == b.PASSES - 1] for p in range(b.PASSES)]
    tables["PASS_TABLE"] = table(x for row in passes for x in (address(row), len(row) // b.MR))
    values |= {name: address(array) for name, array in tables.items()}
    values["BIAS_AT"] = b.AREA - b.MR * NR
    kernel = band_kernel(bits, b.MR, b.NV, b.VL, first, b.ALIKE)
    return GradientProgram(kernel, finish_kernel(bits, b.VL), F.pack(values), [*rows, *tables.values()])


def _row_places(g: Any, b: Any, channels: int) -> np.ndarray:
    """Return where the rows (channel, kh, kw) of filters lie from a pixel on, the last one again up to whole tiles."""
    if b.PLAIN:
        pixel = b.STEP // g.SW
        taps = np.array([(kh * g.DH * g.W + kw * g.DW) * pixel for kh in range(g.KH) for kw in range(g.KW)], np.int64)
    else:
        taps = np.array([tap_at(g, b, kh, kw) for kh in range(g.KH) for kw in range(g.KW)], np.int64) * b.STEP
    places = taps if b.ALIKE else (np.arange(channels)[:, None] * b.channel_elements + taps).ravel()
    return np.pad(places, (0, -len(places) % b.MR), mode="edge")
