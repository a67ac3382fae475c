"""Winograd convolution: fewer products, in a transformed domain, for kernels of 3 and 5 taps with stride 1.

    out = A [sum over ic of (G w G^T) * (B x B^T)] A^T  on tiles of MH x MW outputs; see fastconv/winograd.py

A task is a run of tiles, over rows and images, times a range of output-channel tiles. Per pass over input channels:
`load_tiles` copies VL channels of the rows of some neighbouring tiles into a strip in L1, lanes = channels (a
channels_first image is transposed on the way; a channels_last one is read in place but at its borders), and transforms
them to panels [channel / 16][p][MR][16] in L2; then the microkernel multiplies, per position p, all tiles with one tile
of transformed weights. `store_tiles` transforms the sums back and finishes them, while they are in L2.

Sources: Lavin and Gray 2016, arXiv:1509.09308; Jia, Zlateski, Durand and Li 2018, doi:10.1145/3178487.3178496 (tile
blocks that stay in L2).
"""

from __future__ import annotations

from functools import cache, partial
from typing import Any

import numpy as np

from fastconv._jit import helper, inline, njit
from fastconv.kernels.cpu import fields as F
from fastconv.kernels.cpu.epilogue import epilogue_fields
from fastconv.kernels.cpu.microkernel import products
from fastconv.kernels.cpu.packing import columns_inside, depth_at, rows_alike, source_index
from fastconv.kernels.cpu.program import (
    Program,
    Region,
    address,
    bits_of,
    blocking_fields,
    problem_fields,
)
from fastconv.kernels.cpu.row_ops import call_row, copy_row, fill_rows, finish_rows, int_at, zero_row
from fastconv.kernels.cpu.squares import finish_turned, turn_lines
from fastconv.kernels.cpu.winograd_transforms import tiles_in, tiles_out
from fastconv.kernels.cpu.winograd_weights import weight_packer


@helper
def segment_at(g, t, tiles):
    """Return (image, row of tiles, first tile, count) of the tiles from t on, of at most `tiles`, that are together."""
    row, tile = t // g[F.TW], t % g[F.TW]
    return row // g[F.TH], row % g[F.TH], tile, min(min(tiles, g[F.TW] - tile), g[F.SEGMENT])


@inline
def channel_at(BITS, LAST, g, x, image, group, c):
    """Return the address of the input plane that an image (n, od) sees as channel c = (kd, ic) of a group; 0: zeros."""
    ic, d = group * g[F.ICT] + c % g[F.ICT], depth_at(g, image, c // g[F.ICT])
    n, plane = image // g[F.OD], g[F.H] * g[F.W]
    if d < 0:
        return 0
    if LAST:
        return x + BITS // 8 * ((n * g[F.D] + d) * plane * g[F.IC] + ic)
    return x + BITS // 8 * ((n * g[F.IC] + ic) * g[F.D] + d) * plane


@inline
def fill_strip(BITS, LAST, VL, g, strip, plane, lanes, h0, w0, rows, P):
    """Fill strip [rows][P][VL] with `lanes` channels of the input from row h0 and column w0 on; `plane` = 0: zeros.

    Up to VL pixels behind it are written too.
    """
    size, W, dst, r, H = BITS // 8, g[F.W], strip, 0, g[F.H] if plane else 0
    first, last = columns_inside(w0, 1, W, P)
    pixel, channel = (g[F.IC], 1) if LAST else (1, g[F.D] * g[F.H] * W)
    while r < rows:
        h, n = rows_alike(r, rows, h0, 1, H, g[F.MODE])
        row = plane + size * h * W * pixel
        if h < 0:
            zero_row(BITS, dst, n * P * VL)
        elif LAST:
            n = 1
            zero_row(BITS, dst, P * VL)
            fill_rows(
                BITS, dst + size * first * VL, row + size * (w0 + first) * pixel, last - first, pixel, 0, lanes, 1, VL
            )
        else:
            turn_lines(BITS, dst, row + size * (w0 + first), channel, W, lanes, n, first, last, P)
        if g[F.MODE] != F.ZEROS and h >= 0:
            for k in range(n * (P - (last - first))):
                i = k % (P - (last - first))
                i += last - first if i >= first else 0
                k //= P - (last - first)
                src = row + size * (k * W + source_index(w0 + i, W, g[F.MODE])) * pixel
                for lane in range(lanes):
                    copy_row(BITS, dst + size * ((k * P + i) * VL + lane), src + size * lane * channel, 1)
        dst += size * n * P * VL
        r += n


def winograd_kernel(BITS, LAST, MR, NV, VL, MH, RH, MW, RW):
    """Return the kernel for tiles of MH x MW outputs and register tiles of MR of them x NV vectors of channels."""
    size, NR, NH, NW = BITS // 8, NV * VL, MH + RH - 1, MW + RW - 1
    POINTS = NH * NW

    @inline
    def load_tiles(g, io, scratch, group, c0, channels, t0, tiles):
        """Transform `channels` channels of `tiles` tiles, which begin at channel c0 of the group and at tile t0."""
        strip, t = scratch + g[F.STRIP_AT], 0
        while t < tiles:
            image, ty, tx, n = segment_at(g, t0 + t, tiles - t)
            h0, w0, P = ty * MH - g[F.PT], tx * MW - g[F.PL], n * MW + RW - 1
            inside = LAST and h0 >= 0 and h0 + NH <= g[F.H] and w0 >= 0 and w0 + P <= g[F.W]
            for c in range(0, channels, VL):
                lanes = min(VL, channels - c)
                plane = channel_at(BITS, LAST, g, io[F.X], image, group, c0 + c)
                if inside and lanes == VL and plane:
                    src, pixel, row = plane + size * (h0 * g[F.W] + w0) * g[F.IC], g[F.IC], g[F.W] * g[F.IC]
                else:
                    src, pixel, row = strip, VL, P * VL
                    fill_strip(BITS, LAST, VL, g, strip, plane, lanes, h0, w0, NH, P)
                dst = scratch + size * (c // 16 * g[F.V_CHUNK] + c % 16)
                tiles_in(MR, MH, RH, MW, RW, BITS, dst, g[F.V_PLACES] + 8 * t, src, row, pixel, n)
            t += n
        # The tiles that the last register tile has too many: what stood there could be denormal.
        if tiles % MR:
            rest = scratch + size * int_at(g[F.V_PLACES], tiles)
            for c in range(0, channels, 16):
                for p in range(POINTS):
                    dst = rest + size * (c // 16 * g[F.V_CHUNK] + p * MR * 16)
                    zero_row(BITS, dst, (MR - tiles % MR) * 16)

    @inline
    def finish_segment(g, io, y, channel, lanes, image, oh, ow, rows, columns):
        """Finish rows x columns outputs of `lanes` channels that stand in Y, [row][Y_PITCH][NR]."""
        limits, pitch = g[F.LIMITS], g[F.Y_PITCH]
        bias = io[F.BIAS] + size * channel
        if LAST:
            for r in range(rows):
                dst = io[F.OUT] + size * (((image * g[F.OH] + oh + r) * g[F.OW] + ow) * g[F.OC] + channel)
                residual = io[F.RESIDUAL] + dst - io[F.OUT] if io[F.RESIDUAL] else 0
                line = y + size * r * pitch * NR
                finish_rows(BITS, 1, dst, g[F.OC], line, NR, bias, residual, limits, columns, lanes)
                for q in range(columns if g[F.ACTIVATION] else 0):
                    call_row(g[F.ACTIVATION], dst + size * q * g[F.OC], lanes)
        else:
            row = (image % g[F.OD] * g[F.OH] + oh) * g[F.OW] + ow
            out = io[F.OUT] + size * ((image // g[F.OD] * g[F.OC] + channel) * g[F.OUT_PLANE] + row)
            for o in range(0, lanes, VL):
                n, dst, ldo, line = min(VL, lanes - o), out + size * o * g[F.OUT_PLANE], g[F.OUT_PLANE], y + size * o
                residual = io[F.RESIDUAL] + dst - io[F.OUT] if io[F.RESIDUAL] else 0
                finish_turned(
                    BITS, dst, ldo, g[F.OW], line, NR, pitch * NR, bias + size * o, residual, limits, n, rows, columns
                )
                for k in range(n * rows if g[F.ACTIVATION] else 0):
                    call_row(g[F.ACTIVATION], dst + size * (k // rows * ldo + k % rows * g[F.OW]), columns)

    @inline
    def store_tiles(g, io, scratch, m, channel, lanes, t0, tiles):
        """Transform the products of `tiles` tiles back, and finish `lanes` channels of their outputs."""
        y, t = scratch + g[F.Y_AT], 0
        while t < tiles:
            image, ty, tx, n = segment_at(g, t0 + t, tiles - t)
            flag, pitch = io[F.FLAGS] + image * g[F.TH] + ty, g[F.Y_PITCH] * NR
            for o in range(0, lanes, VL):
                src, places = m + size * o, g[F.M_PLACES] + 8 * t
                tiles_out(MR, NR, MH, RH, MW, RW, BITS, y + size * o, pitch, src, places, n, flag)
            oh, ow = ty * MH, tx * MW
            rows, columns = min(MH, g[F.OH] - oh), min(n * MW, g[F.OW] - ow)
            finish_segment(g, io, y, channel, lanes, image, oh, ow, rows, columns)
            t += n

    @njit()
    def conv_winograd(g, io, scratch, lo, hi):
        loaded, total = -1, g[F.N] * g[F.TH] * g[F.TW]
        for task in range(lo, hi):
            part, block = task % g[F.PARTS], task // g[F.PARTS]
            group, t0 = block % g[F.G], block // g[F.G] * g[F.TILE_RUN]
            tiles, first = min(g[F.TILE_RUN], total - t0), part * g[F.PART_TILES]
            last = min(first + g[F.PART_TILES], g[F.TILES])
            for p in range(g[F.PASSES]):
                c0 = p * g[F.ICP]
                channels = min(g[F.ICP], g[F.ICG] - c0)
                if loaded != block or g[F.PASSES] > 1:
                    load_tiles(g, io, scratch, group, c0, channels, t0, tiles)
                    loaded = block
                blocks = (tiles + MR - 1) // MR
                u = group * g[F.ICG] * g[F.TILES] + c0 * g[F.TILES] + first * channels
                u = io[F.WEIGHT] + size * u * POINTS * NR
                for tile in range(first, last):
                    m = scratch + g[F.C_AT] + size * (tile - first) * g[F.M_TILE]
                    products(MR, NV, BITS, scratch, g[F.V_BLOCK], g[F.V_CHUNK], channels, u, m, blocks, POINTS, p)
                    u += size * channels * POINTS * NR
                    if p == g[F.PASSES] - 1:
                        lanes, channel = min(NR, g[F.OCG] - tile * NR), group * g[F.OCG] + tile * NR
                        store_tiles(g, io, scratch, m, channel, lanes, t0, tiles)

    return conv_winograd


_kernel = cache(winograd_kernel)


def program(geometry: Any, activation: str | None, b: Any) -> Program:
    """Return the program of Winograd convolution."""
    bits, last = bits_of(geometry), geometry.layout == "channels_last"
    NR, POINTS = b.NV * b.VL, (b.MH + geometry.KH - 1) * (b.MW + geometry.KW - 1)
    t = np.arange(b.TILE_RUN + 1, dtype=np.int64)
    tables = [t // b.MR * b.V_BLOCK + t % b.MR * 16, (t // b.MR * POINTS * b.MR + t % b.MR) * NR]
    values = problem_fields(geometry) | blocking_fields(b) | epilogue_fields(activation, geometry.dtype)
    values |= {"V_PLACES": address(tables[0]), "M_PLACES": address(tables[1])}
    kernel = _kernel(bits, last, b.MR, b.NV, b.VL, b.MH, geometry.KH, b.MW, geometry.KW)
    packer = weight_packer(geometry, b, bits, POINTS)
    regions = partial(_regions, geometry, b)
    flags = geometry.N * geometry.OD * b.TH
    return Program(kernel, F.pack(values), b.tasks, b.scratch_bytes, (packer,), tables, flags, regions, geometry)


def _regions(geometry: Any, b: Any, block: int) -> list[Region]:
    """Return the outputs of one row of tiles."""
    image, ty = divmod(block, b.TH)
    row = ty * b.MH
    return [Region(image, row, min(b.MH, geometry.OH - row), 0, geometry.OW)]
