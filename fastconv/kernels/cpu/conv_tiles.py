"""The tile loops that direct convolution, im2col and pointwise convolution share.

A task is a block of output pixels times a range of output-channel tiles. It packs the block of the input (a strip with
its border, or im2col columns), then walks register tiles through the microkernel, some hundred k at a time (a pass),
and finishes each tile while it is in cache: bias, clamp, residual, activation.

* `planes_kernel` (channels_first, pixels in lanes): per pixel tile all channel tiles. The strip's lines of one pixel
  tile stay in L1, the weight panels of a pass stream from L2.
* `pixels_kernel` (channels_last, channels in lanes): per channel tile all pixel tiles; roles exchanged.

Whole tiles go straight from registers to `out`. Ragged ones go through a C tile in scratch, row by row.
"""

from __future__ import annotations

from fastconv._jit import inline, njit
from fastconv.kernels.cpu import fields as F
from fastconv.kernels.cpu.microkernel import outer
from fastconv.kernels.cpu.packing import columns_pixels, columns_planes, pixels_plane_at, strip_pixels, strip_planes
from fastconv.kernels.cpu.row_ops import call_row, finish_rows, int_at


@inline
def block_at(g, block):
    """Return (image (n, od), group, first output row, first output column) of a block."""
    column = block % g[F.COLUMN_BLOCKS]
    block //= g[F.COLUMN_BLOCKS]
    row = block % g[F.ROW_BLOCKS]
    block //= g[F.ROW_BLOCKS]
    return block // g[F.G], block % g[F.G], row * g[F.RB], column * g[F.CB]


@inline
def finish_planes(BITS, g, io, c, channel, dst, q, end, pitch, valid, stride):
    """Finish one row of a ragged C tile: output pixels q to end of one channel plane.

    Pixel q stands in row q // pitch; the columns from `valid` on do not exist; rows of `dst` are `stride` apart.
    """
    size = BITS // 8
    r, col, start = q // pitch, q % pitch, q
    while q < end:
        n = min(end - q, valid - col)
        if n > 0:
            o = size * (r * stride + col)
            residual = io[F.RESIDUAL] + dst - io[F.OUT] + o if io[F.RESIDUAL] else 0
            bias = io[F.BIAS] + size * channel
            finish_rows(BITS, 0, dst + o, 0, c + size * (q - start), 0, bias, residual, g[F.LIMITS], 1, n)
            if g[F.ACTIVATION]:
                call_row(g[F.ACTIVATION], dst + o, n)
        q += pitch - col
        col = 0
        r += 1


@inline
def run_tile(BITS, MR, NV, MS, PER, NR, g, io, table, a, step, b, c, dst, ldo, whole, p, channel):
    """Compute one register tile of pass p: in its last pass a whole tile goes to `dst`, finished; all else to C."""
    size = BITS // 8
    last = p == g[F.PASSES] - 1
    init, ldi, target, ld, bias = 0, NR, c, NR, 0
    if p > 0:
        init = c
    elif whole and io[F.RESIDUAL]:
        init, ldi = io[F.RESIDUAL] + dst - io[F.OUT], ldo
    if whole and last:
        target, ld, bias = dst, ldo, io[F.BIAS] + size * channel
    segments, seg, boff = int_at(table, 0), int_at(table, 1), int_at(table, 2)
    outer(MR, NV, MS, PER, BITS, a, step, seg, segments, b, boff, init, ldi, target, ld, bias, g[F.LIMITS])
    if whole and last and g[F.ACTIVATION]:
        for m in range(MR):
            call_row(g[F.ACTIVATION], dst + size * m * ldo, NR)


@inline
def next_planes_tile(g, NR, first, parts, pixels, pitch, q0, tile, q, r, col):
    """Return the tile after (tile, q), and the row and column of its first pixel, without a division."""
    if g[F.TILE_OUTER]:
        q += NR
        if q >= pixels:
            return tile + 1, 0, q0 // pitch, q0 % pitch
    else:
        tile += 1
        if tile < first + parts:
            return tile, q, r, col
        tile, q = first, q + NR
    col += NR
    while col >= pitch:
        col -= pitch
        r += 1
    return tile, q, r, col


@inline
def finish_pixels(BITS, g, io, c, NR, channel, dst, pixels, lanes):
    """Finish `lanes` channels of neighbouring output pixels from a ragged C tile, whose rows are NR long."""
    size, OC = BITS // 8, g[F.OC]
    residual = io[F.RESIDUAL] + dst - io[F.OUT] if io[F.RESIDUAL] else 0
    finish_rows(BITS, 1, dst, OC, c, NR, io[F.BIAS] + size * channel, residual, g[F.LIMITS], pixels, lanes)
    if g[F.ACTIVATION]:
        for m in range(pixels):
            call_row(g[F.ACTIVATION], dst + size * m * OC, lanes)


def planes_kernel(BITS, MR, NV, VL, COLUMNS):
    """Return the channels_first kernel for a tile of MR channels x NV vectors; COLUMNS: im2col, else strips."""
    size, NR = BITS // 8, NV * VL

    @njit()
    def conv_planes(g, io, scratch, lo, hi):
        OHOW, OP, OCG, TILES = g[F.OH] * g[F.OW], g[F.OUT_PLANE], g[F.OCG], g[F.TILES]
        packed = -1
        for t in range(lo, hi):
            part, block = t % g[F.PARTS], t // g[F.PARTS]
            image, group, r0, c0 = block_at(g, block)
            if COLUMNS:
                pitch, valid, stride, base, q0 = OP, OP, g[F.OC] * OP, 0, c0
                pixels = min(g[F.CB], g[F.N] * OHOW - c0)
            else:
                pitch, valid, stride, base, q0 = g[F.P], min(g[F.CB], g[F.OW] - c0), g[F.OW], r0 * g[F.OW] + c0, 0
                pixels = (min(g[F.RB], g[F.OH] - r0) - 1) * pitch + valid
                base += image % g[F.OD] * OHOW
            plane = io[F.OUT] + size * ((image // g[F.OD] * g[F.OC] + group * OCG) * OP + base)
            first = part * g[F.PART_TILES]
            parts = min(g[F.PART_TILES], TILES - first)
            for p in range(g[F.PASSES]):
                ic0 = p * g[F.ICP]
                if packed != block or g[F.PASSES] > 1:
                    channels = min(g[F.ICP], g[F.ICG] - ic0)
                    channel = group * g[F.ICG] + ic0
                    if COLUMNS:
                        columns_planes(BITS, scratch, io[F.X], g, channel, channels, c0, pixels)
                    else:
                        strip_planes(BITS, scratch, io[F.X], g, image, channel, channels, r0, c0)
                    packed = block
                table = g[F.PASS_TABLE] + F.PASS_BYTES * p
                tile, q, r, col = first, 0, q0 // pitch, q0 % pitch
                for _ in range(parts * ((pixels + NR - 1) // NR)):
                    rows, channel = min(MR, OCG - tile * MR), group * OCG + tile * MR
                    whole = rows == MR and col + NR <= valid and q + NR <= pixels
                    a = io[F.WEIGHT] + size * ((group * TILES + tile) * g[F.PANEL] + int_at(table, 3))
                    c = scratch + g[F.C_AT] + size * (tile - first) * g[F.C_TILES] * NR * MR
                    if g[F.C_TILES]:
                        c += size * q * MR
                    dst, b = plane + size * tile * MR * OP, scratch + size * q
                    to = dst + size * (r * stride + col)
                    run_tile(BITS, MR, NV, 16, 0, NR, g, io, table, a, 0, b, c, to, OP, whole, p, channel)
                    if p == g[F.PASSES] - 1 and not whole:
                        end = q0 + min(q + NR, pixels)
                        for m in range(rows):
                            line, row = c + size * m * NR, dst + size * m * OP
                            finish_planes(BITS, g, io, line, channel + m, row, q0 + q, end, pitch, valid, stride)
                    tile, q, r, col = next_planes_tile(g, NR, first, parts, pixels, pitch, q0, tile, q, r, col)

    return conv_planes


@inline
def deep_strip(BITS, MR, strip, x, g, image, group, c0, channels, pitch, r0, col0):
    """channels_last: fill a strip with the channels from c0 on of a group, which come in the order (kd, ic).

    Its pixels are `pitch` elements apart.
    """
    c, ICT = 0, g[F.ICT]
    while c < channels:
        kd, ic = (c0 + c) // ICT, (c0 + c) % ICT
        n = min(channels - c, ICT - ic)
        plane, to = pixels_plane_at(BITS, g, x, image, kd), strip + BITS // 8 * c
        strip_pixels(BITS, MR, to, plane, g, group * ICT + ic, n, pitch, r0, col0)
        c += n


def pixels_kernel(BITS, MR, NV, VL, COLUMNS):
    """Return the channels_last kernel for a register tile of MR pixels x NV vectors of channels."""
    size, NR = BITS // 8, NV * VL

    @njit()
    def conv_pixels(g, io, scratch, lo, hi):
        OHOW, OCG, TILES, OC = g[F.OH] * g[F.OW], g[F.OCG], g[F.TILES], g[F.OC]
        packed = -1
        for t in range(lo, hi):
            part, block = t % g[F.PARTS], t // g[F.PARTS]
            image, group, r0, c0 = block_at(g, block)
            if COLUMNS:
                pitch = valid = pixels = min(g[F.CB], g[F.N] * OHOW - c0)
                base = c0
            else:
                pitch, valid, base = g[F.P], min(g[F.CB], g[F.OW] - c0), image * OHOW + r0 * g[F.OW] + c0
                pixels = (min(g[F.RB], g[F.OH] - r0) - 1) * pitch + valid
            first = part * g[F.PART_TILES]
            for p in range(g[F.PASSES]):
                ic0 = p * g[F.ICP]
                if packed != block or g[F.PASSES] > 1:
                    channels = min(g[F.ICP], g[F.ICG] - ic0)
                    if COLUMNS:
                        columns_pixels(BITS, MR, scratch, io[F.X], g, group, ic0, channels, c0, pixels)
                    else:
                        deep_strip(BITS, MR, scratch, io[F.X], g, image, group, ic0, channels, channels, r0, c0)
                    packed = block
                table = g[F.PASS_TABLE] + F.PASS_BYTES * p
                step = int_at(table, 4)
                for tile in range(first, min(first + g[F.PART_TILES], TILES)):
                    b = io[F.WEIGHT] + size * ((group * TILES + tile) * g[F.PANEL] + int_at(table, 3))
                    lanes, channel = min(NR, OCG - tile * NR), group * OCG + tile * NR
                    r, col = 0, 0
                    for q in range(0, pixels, MR):
                        c = scratch + g[F.C_AT] + size * (tile - first) * g[F.C_TILES] * MR * NR
                        if g[F.C_TILES]:
                            c += size * q * NR
                        to = io[F.OUT] + size * ((base + r * g[F.OW] + col) * OC + channel)
                        whole = lanes == NR and col + MR <= valid and q + MR <= pixels
                        a = scratch + size * q * step
                        run_tile(BITS, MR, NV, 0, 1, NR, g, io, table, a, step, b, c, to, OC, whole, p, channel)
                        m, end = 0, 0 if whole or p < g[F.PASSES] - 1 else min(MR, pixels - q)
                        while m < end:
                            # Those of one row, of which the last ones may lie in its border.
                            h, w = r + (col + m) // pitch, (col + m) % pitch
                            n = min(end - m, pitch - w)
                            if w < valid:
                                dst = io[F.OUT] + size * ((base + h * g[F.OW] + w) * OC + channel)
                                sums = c + size * m * NR
                                finish_pixels(BITS, g, io, sums, NR, channel, dst, min(n, valid - w), lanes)
                            m += n
                        col += MR
                        while col >= pitch:
                            col -= pitch
                            r += 1

    return conv_pixels
