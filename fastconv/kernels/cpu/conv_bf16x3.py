"""Convolution on the matrix unit: float32 as sums of three bfloat16 products.

The loops are those of conv_tiles.py with blocks of 32 x 32 sums in place of register tiles: a task packs a block of the
input, split in high and low parts, and for each 32 output pixels walks all blocks of 32 output channels, so that the
strip's lines stay in L1 and the packed weight streams from L2.

* channels_first: the weight is the rows of a block. A strip holds planes of pairs of channels, [pair][ROWS][P][2], so
  a row of a tile register is 16 pixels of one pair.
* channels_last: the weight is the columns. A strip holds pixels, [ROWS][P][channels], so a row of a tile register is 32
  channels of one pixel.

Every 32 channels of one tap are one step of k. Few channels would leave a step empty: in channels_first im2col columns
(COLUMNS) fill the steps, in channels_last the pixels of a row of the kernel, which follow each other (RUN).
"""

from __future__ import annotations

from functools import cache

from fastconv._jit import helper, njit
from fastconv.kernels.cpu import fields as F
from fastconv.kernels.cpu.bf16_ops import finish_block, split_pairs, split_row
from fastconv.kernels.cpu.conv_tiles import block_at
from fastconv.kernels.cpu.matrix_unit import BLOCK, WEIGHT_BYTES, WEIGHT_ROWS, configure, multiply, release
from fastconv.kernels.cpu.microkernel import COLUMNS as PER_COLUMN
from fastconv.kernels.cpu.microkernel import ROWS as PER_ROW
from fastconv.kernels.cpu.packing import columns_planes, pixels_plane_at, source_index, strip_planes
from fastconv.kernels.cpu.row_ops import call_row, int_at, zero_row

SUMS_BYTES = 4 * BLOCK * BLOCK


@helper
def split_planes(g, io, strip, image, group, ic0, channels, r0, c0, pixels):
    """channels_first: fill a strip of channel pairs, from two planes at a time; the last step of k is filled up."""
    pitch, n = 4 * g[F.PLANE], g[F.PLANE]
    x, temporary, channel, plane = io[F.X], strip + g[F.T_AT], group * g[F.ICG] + ic0, 4 * g[F.H] * g[F.W]
    for c in range(0, -(-channels // BLOCK) * BLOCK, 2):
        both = min(2, channels - c)
        to = strip + c // 2 * pitch
        if both < 1:
            zero_row(32, to, n)
            zero_row(32, to + g[F.LOW], n)
        elif g[F.PLAIN] and both == 2:
            source = x + (image * g[F.IC] + channel + c) * plane + 4 * c0
            split_pairs(to, to + g[F.LOW], source, source + plane, min(g[F.CB], g[F.W] - c0))
        else:
            strip_planes(32, temporary, x, g, image, channel + c, both, r0, c0)
            if both == 1:
                zero_row(32, temporary + pitch, n)
            split_pairs(to, to + g[F.LOW], temporary, temporary + pitch, n)


@helper
def split_columns(g, io, strip, image, group, ic0, channels, r0, q0, pixels):
    """channels_first im2col: fill pairs of columns."""
    pitch, K, temporary = 4 * g[F.PLANE], channels * g[F.KH] * g[F.KW], strip + g[F.T_AT]
    columns_planes(32, temporary, io[F.X], g, group * g[F.ICG] + ic0, channels, q0, pixels)
    zero_row(32, temporary + K * pitch, (K % 2) * g[F.PLANE])
    for k in range(0, -(-K // BLOCK) * BLOCK, 2):
        to, source = strip + k // 2 * pitch, temporary + k * pitch
        if k < K:
            split_pairs(to, to + g[F.LOW], source, source + pitch, pixels)
        else:
            zero_row(32, to, g[F.PLANE])
            zero_row(32, to + g[F.LOW], g[F.PLANE])


@helper
def split_pixel(g, dst, x, image, group, c0, channels, pitch, h, w):
    """Fill one pixel of a strip, with zeros where h < 0."""
    c, ICT = 0, g[F.ICT]
    while c < channels:
        kd, ic = (c0 + c) // ICT, (c0 + c) % ICT
        left = min(channels - c, ICT - ic)
        plane, to = pixels_plane_at(32, g, x, image, kd), dst + 2 * c
        n = 0 if h < 0 or plane == 0 else left
        source = plane + 4 * ((h * g[F.W] + w) * g[F.IC] + group * ICT + ic)
        # The end is filled up; what is too much is written over by the next.
        split_row(to, to + g[F.LOW], source, n, pitch // 2 - c)
        c += left


@helper
def split_pixels(g, io, strip, image, group, c0, channels, r0, col0, pixels):
    """channels_last: fill a strip of pixels with the channels from c0 on of a group, in the order (kd, ic).

    With RUN, pixels have no room between them, and those of all column phases follow each other as in the input.
    """
    x, W, low, pitch, step = io[F.X], g[F.W], g[F.LOW], g[F.PIXEL], g[F.SW]
    # As `ConvGeometry.deep` has it.
    columns, flat = g[F.P], g[F.D] == 1 and g[F.KD] == 1 and g[F.OD] == 1 and g[F.PF] == 0
    if g[F.RUN]:
        pitch, columns, step = 2 * channels, columns * step, 1
    dst = strip
    for phase in range(g[F.ROW_PHASES] * g[F.COLUMN_PHASES]):
        h0 = r0 * g[F.SH] + phase // g[F.COLUMN_PHASES] * g[F.DH] % g[F.SH] - g[F.PT]
        w0 = col0 * g[F.SW] + phase % g[F.COLUMN_PHASES] * g[F.DW] % g[F.SW] - g[F.PL]
        for r in range(g[F.ROWS]):
            h, place = source_index(h0 + r * g[F.SH], g[F.H], g[F.MODE]), 0
            while place < columns:
                w = source_index(w0 + place * step, W, g[F.MODE])
                inside = h >= 0 and w >= 0
                n = 1
                # Pixels that follow each other in the input and in the strip are one run.
                source = x + 4 * (((image * g[F.H] + h) * W + w) * g[F.IC] + group * g[F.ICT] + c0)
                if g[F.PLAIN] and inside and w == w0 + place:
                    n = min(W - w, columns - place)
                    split_row(dst, dst + low, source, n * channels, n * channels)
                elif flat:
                    split_row(dst, dst + low, source, channels if inside else 0, pitch // 2)
                else:
                    split_pixel(g, dst, x, image, group, c0, channels, pitch, h if inside else -1, w)
                place += n
                dst += n * pitch
    for _ in range(g[F.SPILL]):
        split_row(dst, dst + low, dst, 0, pitch // 2)
        dst += pitch
    if g[F.RUN]:
        # Steps of k read on behind the last pixels.
        split_row(dst, dst + low, dst, 0, 2 * BLOCK)


@cache
def finisher(ROLE):
    """Return the function that finishes a block of sums."""
    rows = ROLE == WEIGHT_ROWS

    @helper
    def finish_tile(g, io, c, group, tile, to, q, end, pitch, valid, stride, block):
        """Finish the output pixels q to end; pixel q stands in row q // pitch, as in conv_tiles.py."""
        channels, channel = min(BLOCK, g[F.OCG] - tile * BLOCK), group * g[F.OCG] + tile * BLOCK
        to += 4 * tile * BLOCK * (g[F.OUT_PLANE] if rows else 1)
        r, col = q // pitch, q % pitch
        bias, flag = io[F.BIAS] + 4 * channel, io[F.FLAGS] + block
        while q < end:
            n = min(end - q, valid - col)
            if n > 0:
                dst = to + 4 * g[F.OUT_PIXEL] * (r * stride + col)
                residual = io[F.RESIDUAL] + dst - io[F.OUT] if io[F.RESIDUAL] else 0
                if rows:
                    finish_block(PER_ROW, dst, g[F.OUT_ROW], c, bias, residual, g[F.LIMITS], channels, n, flag)
                else:
                    finish_block(PER_COLUMN, dst, g[F.OUT_ROW], c, bias, residual, g[F.LIMITS], n, channels, flag)
                if g[F.ACTIVATION]:
                    for i in range(channels if rows else n):
                        call_row(g[F.ACTIVATION], dst + 4 * g[F.OUT_ROW] * i, n if rows else channels)
            c += (pitch - col) * (4 if rows else 4 * BLOCK)
            q += pitch - col
            col = 0
            r += 1

    return finish_tile


@cache
def unit_kernel(ROLE, COLUMNS):
    """Return the kernel of a layout; COLUMNS: im2col, else strips."""
    rows, finish_tile = ROLE == WEIGHT_ROWS, finisher(ROLE)
    pack_block = (split_columns if COLUMNS else split_planes) if rows else split_pixels

    @njit()
    def conv_unit(g, io, scratch, lo, hi):
        OHOW, OP, OCG, TILES = g[F.OH] * g[F.OW], g[F.OUT_PLANE], g[F.OCG], g[F.TILES]
        packed = -1
        configure(g[F.PALETTE])
        for t in range(lo, hi):
            part, block = t % g[F.PARTS], t // g[F.PARTS]
            image, group, r0, c0 = block_at(g, block)
            if COLUMNS:
                pitch, valid, stride, base, q0 = OP, OP, g[F.OC] * OP, 0, c0
                pixels = min(g[F.CB], g[F.N] * OHOW - c0)
            else:
                pitch, valid, stride = g[F.P], min(g[F.CB], g[F.OW] - c0), g[F.OW]
                pixels = (min(g[F.RB], g[F.OH] - r0) - 1) * pitch + valid
                base, q0 = (image % g[F.OD] * OHOW + r0 * g[F.OW] + c0) * g[F.OUT_PIXEL], 0
                base += image // g[F.OD] * g[F.OC] * OP
            to = io[F.OUT] + 4 * (base + group * OCG * (OP if rows else 1))
            first = part * g[F.PART_TILES]
            last = min(first + g[F.PART_TILES], TILES)
            for p in range(g[F.PASSES]):
                ic0 = p * g[F.ICP]
                if packed != block or g[F.PASSES] > 1:
                    channels = min(g[F.ICP], g[F.ICG] - ic0)
                    pack_block(g, io, scratch, image, group, ic0, channels, r0, c0, pixels)
                    packed = block
                table = g[F.PASS_TABLE] + F.PASS_BYTES * p
                steps, offsets, panel = int_at(table, 0), int_at(table, 2), int_at(table, 3)
                for q in range(0, pixels, BLOCK):
                    for tile in range(first, last):
                        w = io[F.WEIGHT] + WEIGHT_BYTES * ((group * TILES + tile) * g[F.PANEL] + panel)
                        c = scratch + g[F.C_AT]
                        if g[F.C_TILES]:
                            c += SUMS_BYTES * ((tile - first) * g[F.C_TILES] + q // BLOCK)
                        x = scratch + q * g[F.PIXEL]
                        ROW, HALF, LOW = g[F.TILE_ROW], g[F.TILE_HALF], g[F.LOW]
                        multiply(ROLE, g[F.TERMS], c, p, w, x, offsets, ROW, HALF, LOW, steps)
                        if p == g[F.PASSES] - 1:
                            end = q0 + min(q + BLOCK, pixels)
                            finish_tile(g, io, c, group, tile, to, q0 + q, end, pitch, valid, stride, block)
        release()

    return conv_unit
