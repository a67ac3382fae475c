"""Direct convolution of channels_first arrays with output channels in lanes.

Where images are small or rows ragged, pixels do not fill vectors; channels do. The strip of a block is transposed to
channels_last while it is packed, the microkernel runs as for channels_last, and each finished block of one channel
tile is transposed back. Both transpositions go over VL x VL squares in registers, and cost little beside a sum of some
hundred k.
"""

from __future__ import annotations

from fastconv._jit import inline, njit
from fastconv.kernels.cpu import fields as F
from fastconv.kernels.cpu.conv_tiles import block_at, finish_planes, run_tile
from fastconv.kernels.cpu.packing import depth_at
from fastconv.kernels.cpu.row_ops import copy_row, int_at, transpose, zero_row


@inline
def turn_run(BITS, VL, dst, places, src, plane, run, pixels):
    """Transpose `run` channels of consecutive pixels, of planes at `src`, to where the table `places` says at `dst`."""
    size = BITS // 8
    if run >= VL and pixels >= VL:
        for first in range(0, run, VL):
            # The last square overlaps its neighbour.
            c = min(first, run - VL)
            for q0 in range(0, pixels, VL):
                q = min(q0, pixels - VL)
                transpose(BITS, dst + size * c, places + 8 * q, src + size * (c * plane + q), plane)
    else:
        for c in range(run):
            for q in range(pixels):
                copy_row(BITS, dst + size * (c + int_at(places, q)), src + size * (c * plane + q), 1)


@inline
def strip_turned(BITS, MR, VL, strip, x, g, image, group, c0, channels, pitch, places, r0, col0):
    """Fill strip [row phase][column phase][ROWS][P][pitch] from planes, for the block at (r0, col0).

    The channels are those of the group from c0 on, in the order (kd, ic); the planes of one kd are a run.
    `places` is a table: where pixel (h, w) of the input goes in the strip, counted from the block's first input row on,
    and with T_COLUMNS from its first input column on; without, a block has whole rows, whose pixels are one run, so
    that a square may straddle rows. The last tile of MR pixels reads zeros behind the strip: what stood there could be
    denormal, which most CPUs are slow at.
    """
    size, H, W, CI = BITS // 8, g[F.H], g[F.W], g[F.T_COLUMNS]
    h0, w0 = r0 * g[F.SH] - g[F.PT], col0 * g[F.SW] - g[F.PL]
    top, left = max(h0, 0), 0
    lines = min(h0 + g[F.T_LINES], H) - top
    zero_row(BITS, strip, (g[F.ROW_PHASES] * g[F.COLUMN_PHASES] * g[F.ROWS] * g[F.P] + g[F.SPILL] + MR) * pitch)
    if CI:
        left = max(w0, 0)
        pixels = min(w0 + CI, W) - left
        places += 8 * ((top - h0) * CI + left - w0)
    else:
        pixels, places = lines * W, places + 8 * (top - h0) * W
        lines = 1
    plane, done, ICT = g[F.D] * H * W, 0, g[F.ICT]
    while done < channels:
        kd, ic = (c0 + done) // ICT, (c0 + done) % ICT
        run, d = min(channels - done, ICT - ic), depth_at(g, image, kd)
        src = x + size * ((((image // g[F.OD] * g[F.IC] + group * ICT + ic) * g[F.D] + d) * H + top) * W + left)
        for line in range(lines if d >= 0 else 0):
            turn_run(BITS, VL, strip + size * done, places + 8 * line * CI, src + size * line * W, plane, run, pixels)
        done += run


@inline
def finish_turned(BITS, VL, NR, g, io, c, turned, lanes, channel, dst, pixels):
    """Transpose a block of C, [pixel][NR], and finish it as `lanes` planes at dst."""
    size = BITS // 8
    for q in range(0, pixels, VL):
        for o in range(0, lanes, VL):
            transpose(BITS, turned + size * (o * g[F.T_PITCH] + q), g[F.T_ROWS], c + size * (q * NR + o), NR)
    for lane in range(lanes):
        row, plane = turned + size * lane * g[F.T_PITCH], dst + size * lane * g[F.OUT_PLANE]
        finish_planes(BITS, g, io, row, channel + lane, plane, 0, pixels, g[F.P], g[F.OW], g[F.OW])


def lanes_kernel(BITS, MR, NV, VL):
    """Return the kernel for a register tile of MR pixels x NV vectors of channels."""
    size, NR = BITS // 8, NV * VL

    @njit()
    def conv_lanes(g, io, scratch, lo, hi):
        OP, OCG, TILES = g[F.OUT_PLANE], g[F.OCG], g[F.TILES]
        packed = -1
        for t in range(lo, hi):
            part, block = t % g[F.PARTS], t // g[F.PARTS]
            image, group, r0, _ = block_at(g, block)
            pixels = (min(g[F.RB], g[F.OH] - r0) - 1) * g[F.P] + g[F.OW]
            row = image % g[F.OD] * g[F.OH] + r0
            plane = io[F.OUT] + size * ((image // g[F.OD] * g[F.OC] + group * OCG) * OP + row * g[F.OW])
            first = part * g[F.PART_TILES]
            for p in range(g[F.PASSES]):
                ic0 = p * g[F.ICP]
                channels = min(g[F.ICP], g[F.ICG] - ic0)
                table = g[F.PASS_TABLE] + F.PASS_BYTES * p
                step = int_at(table, 4)
                if packed != block or g[F.PASSES] > 1:
                    places = int_at(table, 5)
                    strip_turned(BITS, MR, VL, scratch, io[F.X], g, image, group, ic0, channels, step, places, r0, 0)
                    packed = block
                for tile in range(first, min(first + g[F.PART_TILES], TILES)):
                    b = io[F.WEIGHT] + size * ((group * TILES + tile) * g[F.PANEL] + int_at(table, 3))
                    c = scratch + g[F.C_AT]
                    if g[F.PASSES] > 1:
                        c += size * (tile - first) * (g[F.C_TILES] * MR + VL) * NR
                    for q in range(0, pixels, MR):
                        a, to = scratch + size * q * step, c + size * q * NR
                        # No tile is whole: all go to C, to be transposed.
                        run_tile(BITS, MR, NV, 0, 1, NR, g, io, table, a, step, b, to, 0, 0, False, p, 0)
                    if p == g[F.PASSES] - 1:
                        lanes, channel = min(NR, OCG - tile * NR), group * OCG + tile * NR
                        dst, turned = plane + size * tile * NR * OP, scratch + g[F.T_AT]
                        finish_turned(BITS, VL, NR, g, io, c, turned, lanes, channel, dst, pixels)

    return conv_lanes
