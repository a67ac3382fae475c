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
from fastconv.kernels.cpu.packing import source_index
from fastconv.kernels.cpu.program import Program, Region, address, bits_of, blocking_fields, problem_fields, table
from fastconv.kernels.cpu.row_ops import call_row, copy_row, finish_rows, int_at, zero_row
from fastconv.kernels.cpu.squares import fill_lines, finish_turned
from fastconv.kernels.cpu.winograd_transforms import tiles_in, tiles_out
from fastconv.kernels.cpu.winograd_weights import weight_packer


@helper
def segment_at(g, t, tiles):
    """Return (image, row of tiles, first tile, count) of the tiles from t on, of at most `tiles`, that are together."""
    row, tile = t // g[F.TW], t % g[F.TW]
    return row // g[F.TH], row % g[F.TH], tile, min(min(tiles, g[F.TW] - tile), g[F.SEGMENT])


@inline
def fill_strip(BITS, LAST, VL, g, strip, plane, lanes, h0, w0, rows, P):
    """Fill strip [rows][P][VL] with `lanes` channels from row h0 and column w0 of a plane on; `plane` = 0: zeros.

    Up to VL pixels behind it are written too.
    """
    size, H, W, top, first = BITS // 8, g[F.H], g[F.W], min(max(-h0, 0), rows), min(max(-w0, 0), P)
    bottom, last = max(min(H - h0, rows), top), max(min(W - w0, P), first)
    if plane == 0:
        bottom = top
    pixel, channel = (g[F.IC], 1) if LAST else (1, g[F.D] * H * W)
    src, lds = plane + size * ((h0 + top) * W + w0 + first) * pixel, pixel if LAST else channel
    fill_lines(BITS, LAST, strip, src, lds, W * pixel, lanes, rows, top, bottom, first, last, P)
    for k in range(rows * P if g[F.MODE] != F.ZEROS and plane else 0):
        r, i = k // P, k % P
        if r < top or r >= bottom or i < first or i >= last:
            h, w = int_at(g[F.H_SOURCES], h0 + r + g[F.PT]), int_at(g[F.W_SOURCES], w0 + i + g[F.PL])
            for lane in range(lanes):
                src = plane + size * ((h * W + w) * pixel + lane * channel)
                copy_row(BITS, strip + size * (k * VL + lane), src, 1)


@inline
def load_tiles(BITS, LAST, MR, VL, MH, RH, MW, RW, g, x, scratch, group, c0, channels, t0, tiles):
    """Transform `channels` channels (kd, ic) of a group from c0 on, of `tiles` tiles from t0 on."""
    size, strip, t, H, W, IC, ICT = BITS // 8, scratch + g[F.STRIP_AT], 0, g[F.H], g[F.W], g[F.IC], g[F.ICT]
    NH, NW = MH + RH - 1, MW + RW - 1
    pixel, channel = (IC, 1) if LAST else (1, g[F.D] * H * W)
    while t < tiles:
        image, ty, tx, n = segment_at(g, t0 + t, tiles - t)
        h0, w0, P = ty * MH - g[F.PT], tx * MW - g[F.PL], n * MW + RW - 1
        inside = LAST and h0 >= 0 and h0 + NH <= H and w0 >= 0 and w0 + P <= W
        volume = x + size * (image // g[F.OD] * IC * g[F.D] * H * W + group * ICT * channel)
        for c in range(0, channels, VL):
            lanes, kd = min(VL, channels - c), (c0 + c) // ICT
            d = int_at(g[F.D_SOURCES], image % g[F.OD] * g[F.KD] + kd)
            plane = volume + size * (d * H * W * pixel + (c0 + c - kd * ICT) * channel) if d >= 0 else 0
            if inside and lanes == VL and plane:
                src, step, row = plane + size * (h0 * W + w0) * IC, IC, W * IC
            else:
                src, step, row = strip, VL, P * VL
                fill_strip(BITS, LAST, VL, g, strip, plane, lanes, h0, w0, NH, P)
            dst = scratch + size * (c // 16 * g[F.V_CHUNK] + c % 16)
            tiles_in(MR, MH, RH, MW, RW, BITS, dst, g[F.V_PLACES] + 8 * t, src, row, step, n)
        t += n
    # The tiles that the last register tile has too many: what stood there could be denormal.
    if tiles % MR:
        rest = scratch + size * int_at(g[F.V_PLACES], tiles)
        for k in range((channels + 15) // 16 * NH * NW):
            at = k // (NH * NW) * g[F.V_CHUNK] + k % (NH * NW) * MR * 16
            zero_row(BITS, rest + size * at, (MR - tiles % MR) * 16)


@inline
def finish_segment(BITS, LAST, NR, VL, g, io, y, channel, lanes, image, oh, ow, rows, columns):
    """Finish rows x columns outputs of `lanes` channels that stand in Y, [row][Y_PITCH][NR]."""
    size, pitch, OW, OC, plane = BITS // 8, g[F.Y_PITCH] * NR, g[F.OW], g[F.OC], g[F.OUT_PLANE]
    bias, od = io[F.BIAS] + size * channel, image % g[F.OD]
    if LAST:
        dst, step = io[F.OUT] + size * (((image * g[F.OH] + oh) * OW + ow) * OC + channel), size * OW * OC
    else:
        row = (od * g[F.OH] + oh) * OW + ow
        dst, step = io[F.OUT] + size * ((image // g[F.OD] * OC + channel) * plane + row), size * VL * plane
    for i in range(0, rows * VL if LAST else lanes, VL):
        residual, n = io[F.RESIDUAL] + dst - io[F.OUT] if io[F.RESIDUAL] else 0, min(VL, lanes - i)
        if LAST:
            line = y + size * i // VL * pitch
            finish_rows(BITS, 1, dst, OC, line, NR, bias, residual, g[F.LIMITS], columns, lanes)
        else:
            line = y + size * i
            finish_turned(BITS, dst, plane, OW, line, NR, pitch, bias, residual, g[F.LIMITS], n, rows, columns)
            bias += size * VL
        if g[F.ACTIVATION]:
            for k in range(columns if LAST else n * rows):
                at = k * OC if LAST else k // rows * plane + k % rows * OW
                call_row(g[F.ACTIVATION], dst + size * at, lanes if LAST else columns)
        dst += step


@inline
def store_tiles(BITS, LAST, MR, NR, VL, MH, RH, MW, RW, g, io, scratch, m, channel, lanes, t0, tiles):
    """Transform the products of `tiles` tiles from t0 on back, and finish `lanes` channels of their outputs."""
    y, t = scratch + g[F.Y_AT], 0
    while t < tiles:
        image, ty, tx, n = segment_at(g, t0 + t, tiles - t)
        flag, pitch, places = io[F.FLAGS] + image * g[F.TH] + ty, g[F.Y_PITCH] * NR, g[F.M_PLACES] + 8 * t
        for o in range(0, BITS // 8 * lanes, BITS // 8 * VL):
            tiles_out(MR, NR, MH, RH, MW, RW, BITS, y + o, pitch, m + o, places, n, flag)
        oh, ow = ty * MH, tx * MW
        rows, columns = min(MH, g[F.OH] - oh), min(n * MW, g[F.OW] - ow)
        finish_segment(BITS, LAST, NR, VL, g, io, y, channel, lanes, image, oh, ow, rows, columns)
        t += n


def winograd_kernel(BITS, LAST, MR, NV, VL, MH, RH, MW, RW):
    """Return the kernel for tiles of MH x MW outputs and register tiles of MR of them x NV vectors of channels."""
    size, NR, POINTS = BITS // 8, NV * VL, (MH + RH - 1) * (MW + RW - 1)

    @njit()
    def conv_winograd(g, io, scratch, lo, hi):
        loaded, total, TILES = -1, g[F.N] * g[F.TH] * g[F.TW], g[F.TILES]
        for task in range(lo, hi):
            part, block = task % g[F.PARTS], task // g[F.PARTS]
            group, t0 = block % g[F.G], block // g[F.G] * g[F.TILE_RUN]
            tiles, first = min(g[F.TILE_RUN], total - t0), part * g[F.PART_TILES]
            blocks = (tiles + MR - 1) // MR
            for p in range(g[F.PASSES]):
                c0 = p * g[F.ICP]
                channels = min(g[F.ICP], g[F.ICG] - c0)
                if loaded != block or g[F.PASSES] > 1:
                    load_tiles(BITS, LAST, MR, VL, MH, RH, MW, RW, g, io[F.X], scratch, group, c0, channels, t0, tiles)
                    loaded = block
                u = (group * g[F.ICG] + c0) * TILES + first * channels
                u = io[F.WEIGHT] + size * u * POINTS * NR
                for tile in range(first, min(first + g[F.PART_TILES], TILES)):
                    m = scratch + g[F.C_AT] + size * (tile - first) * g[F.M_TILE]
                    products(MR, NV, BITS, scratch, g[F.V_BLOCK], g[F.V_CHUNK], channels, u, m, blocks, POINTS, p)
                    u += size * channels * POINTS * NR
                    if p == g[F.PASSES] - 1:
                        lanes, channel = min(NR, g[F.OCG] - tile * NR), group * g[F.OCG] + tile * NR
                        store_tiles(
                            BITS, LAST, MR, NR, VL, MH, RH, MW, RW, g, io, scratch, m, channel, lanes, t0, tiles
                        )

    return conv_winograd


_kernel = cache(winograd_kernel)


def program(geometry: Any, activation: str | None, b: Any) -> Program:
    """Return the program of Winograd convolution."""
    bits, last = bits_of(geometry), geometry.layout == "channels_last"
    NR, POINTS = b.NV * b.VL, (b.MH + geometry.KH - 1) * (b.MW + geometry.KW - 1)
    t = np.arange(b.TILE_RUN + 1, dtype=np.int64)
    tables = [t // b.MR * b.V_BLOCK + t % b.MR * 16, (t // b.MR * POINTS * b.MR + t % b.MR) * NR]
    values = problem_fields(geometry) | blocking_fields(b) | epilogue_fields(activation, geometry.dtype)
    tables += _sources(geometry, b)
    names = ("V_PLACES", "M_PLACES", "D_SOURCES", "H_SOURCES", "W_SOURCES")
    values |= {name: address(array) for name, array in zip(names, tables, strict=True)}
    kernel = _kernel(bits, last, b.MR, b.NV, b.VL, b.MH, geometry.KH, b.MW, geometry.KW)
    packer = weight_packer(geometry, b, bits, POINTS)
    regions = partial(_regions, geometry, b)
    flags = geometry.N * geometry.OD * b.TH
    return Program(kernel, F.pack(values), b.tasks, b.scratch_bytes, (packer,), tables, flags, regions, geometry)


def _sources(geometry: Any, b: Any) -> list[np.ndarray]:
    """Return tables of where the input has what stands at (od, kd), and in padded rows and columns; -1: zeros."""
    g, mode = geometry, F.MODES.index(geometry.padding_mode)
    depths = [(od * g.SD + kd * g.DD - g.PF, g.D) for od in range(g.OD) for kd in range(g.KD)]
    rows = [(h - g.PT, g.H) for h in range(b.TH * b.MH + g.KH - 1)]
    columns = [(w - g.PL, g.W) for w in range(b.TW * b.MW + g.KW - 1)]
    at = getattr(source_index, "py_func", source_index)
    return [table(at(i, n, mode) for i, n in positions) for positions in (depths, rows, columns)]


def _regions(geometry: Any, b: Any, block: int) -> list[Region]:
    """Return the outputs of one row of tiles."""
    image, ty = divmod(block, b.TH)
    row = ty * b.MH
    return [Region(image, row, min(b.MH, geometry.OH - row), 0, geometry.OW)]
