"""Packing of the input: copies of a block into the order that the microkernel reads.

* `strip_*`: a block of the input with its zero border, split by stride phase. In phase (h mod SH, w mod SW) a strided
  convolution reads neighbours with step one, so every stride and dilation is the same table of offsets, and the output
  pixels of a block are one run of the strip (whose row pitch P the output block shares).
* `columns_*`: im2col of one block of output pixels, explicit.

A kernel sees N*OD images (one for each output depth od) with ICG*KD input channels: an input plane under depth tap kd
is a channel of its own, so 3-D convolution is 2-D convolution of planes that `plane_at` finds. What stands outside the
input is zero, or by MODE (fields.py) a copy of what `source_index` says; no padded copy of the input exists.

They are merged into the kernels that use them. Addresses are integers, sizes in elements.
"""

from __future__ import annotations

from fastconv._jit import helper, inline
from fastconv.kernels.cpu import fields as F
from fastconv.kernels.cpu.row_ops import copy_row, fill_rows, zero_row


@helper
def columns_inside(w0, step, W, n):
    """Return (first, last): column w0 + i * step lies in [0, W) for first <= i < last, of all i < n."""
    before, after = -w0, W - w0
    if step != 1:
        before, after = (before + step - 1) // step, (after + step - 1) // step
    first = min(max(before, 0), n)
    return first, max(min(after, n), first)


@helper
def source_index(i, n, mode):
    """Return which of n elements stands at position i of a padded axis, as numpy.pad has it; -1 for a zero."""
    if 0 <= i < n:
        return i
    if mode == F.ZEROS:
        return -1
    if mode == F.REPLICATE:
        return min(max(i, 0), n - 1)
    if mode == F.CIRCULAR:
        return i % n
    # A mirror repeats after 2n elements, or 2n - 2 if the ends are not doubled.
    period = 2 * n if mode == F.SYMMETRIC else max(2 * n - 2, 1)
    i %= period
    return min(i, 2 * n - 1 - i if mode == F.SYMMETRIC else period - i)


@helper
def depth_at(g, image, kd):
    """Return the input depth that output image (n, od) sees under depth tap kd; -1: zeros."""
    return source_index(image % g[F.OD] * g[F.SD] + kd * g[F.DD] - g[F.PF], g[F.D], g[F.MODE])


@helper
def plane_at(g, image, channel):
    """Return the number of the input plane (n, ic, d) that output image (n, od) sees as channel (ic, kd); -1: zeros."""
    d = depth_at(g, image, channel % g[F.KD])
    return -1 if d < 0 else (image // g[F.OD] * g[F.IC] + channel // g[F.KD]) * g[F.D] + d


@inline
def pixels_plane_at(BITS, g, x, image, kd):
    """channels_last: return the address of the input plane (n, d) under depth tap kd; 0: zeros."""
    d = depth_at(g, image, kd)
    return 0 if d < 0 else x + BITS // 8 * (image // g[F.OD] * g[F.D] + d) * g[F.H] * g[F.W] * g[F.IC]


@inline
def mirror_columns(BITS, dst, row, w0, step, W, mode, first, last, n):
    """Fill the elements i < n of dst outside of [first, last) with what stands at column w0 + i * step of `row`."""
    size = BITS // 8
    for i in range(n - (last - first)):
        i += last - first if i >= first else 0
        copy_row(BITS, dst + size * i, row + size * source_index(w0 + i * step, W, mode), 1)


@helper
def rows_alike(r, rows, h0, step, H, mode):
    """Return (h, n): row r of a strip is row h of the image or, at -1, zeros, and so on for n rows."""
    h = source_index(h0 + r * step, H, mode) if H else -1
    if h >= 0 and h != h0 + r * step:
        return h, 1
    top, bottom = columns_inside(h0, step, H, rows)
    return h, (bottom if h >= 0 else top if r < top else rows) - r


@inline
def strip_planes(BITS, strip, x, g, image, channel, channels, r0, c0):
    """channels_first: fill strip [channel][row phase][column phase][ROWS][P] for the output block at (r0, c0).

    `fill_rows` leaves zeros behind the last row of a plane, where SPILL elements may be read.
    """
    size, W, P, SH, SW, ROWS = BITS // 8, g[F.W], g[F.P], g[F.SH], g[F.SW], g[F.ROWS]
    for c in range(channels):
        dst, plane = strip + size * c * g[F.PLANE], plane_at(g, image, channel + c)
        # A plane of zeros is one without rows.
        H = g[F.H] if plane >= 0 else 0
        for i in range(g[F.ROW_PHASES]):
            h0 = r0 * SH + i * g[F.DH] % SH - g[F.PT]
            for j in range(g[F.COLUMN_PHASES]):
                w0, r = c0 * SW + j * g[F.DW] % SW - g[F.PL], 0
                while r < ROWS:
                    h, n = rows_alike(r, ROWS, h0, SH, H, g[F.MODE])
                    first, last = columns_inside(w0, SW, W, P)
                    if h < 0:
                        first = last = P
                    row = x + size * (plane * H + h) * W
                    fill_rows(BITS, dst, row + size * (w0 + first * SW), n, SH * W, first, last, SW, P)
                    if g[F.MODE] != F.ZEROS:
                        for k in range(n if h >= 0 else 0):
                            line, source = dst + size * k * P, row + size * k * SH * W
                            mirror_columns(BITS, line, source, w0, SW, W, g[F.MODE], first, last, P)
                    dst += size * n * P
                    r += n


@inline
def strip_pixels(BITS, MR, strip, plane, g, channel, lanes, pitch, r0, c0):
    """channels_last: fill `lanes` lanes of strip [row phase][column phase][ROWS][P][pitch] for the block at (r0, c0).

    `plane` is the address of the input plane, or 0 for one of zeros; lane i is input channel (channel + i) // M: with a
    depth multiplier, each channel comes M times. Behind the strip the last tile of MR pixels reads zeros: what stood
    there could be denormal, which most CPUs are slow at.
    """
    size, W, P, IC, SW, M = BITS // 8, g[F.W], g[F.P], g[F.IC], g[F.SW], g[F.M]
    dense = SW == 1 and M == 1 and lanes == IC and pitch == IC
    dst = strip
    for i in range(g[F.ROW_PHASES]):
        h0 = r0 * g[F.SH] + i * g[F.DH] % g[F.SH] - g[F.PT]
        for j in range(g[F.COLUMN_PHASES]):
            w0 = c0 * SW + j * g[F.DW] % SW - g[F.PL]
            for r in range(g[F.ROWS]):
                h, c = source_index(h0 + r * g[F.SH], g[F.H], g[F.MODE]) if plane else -1, 0
                while c < P:
                    w, n = source_index(w0 + c * SW, W, g[F.MODE]) if h >= 0 else -1, 1
                    if dense and w >= 0 and w == w0 + c:
                        n = min(W - w, P - c)
                    src = plane + size * ((h * W + w) * IC + channel)
                    if w < 0:
                        zero_row(BITS, dst, lanes)
                    elif M == 1:
                        copy_row(BITS, dst, src, n * lanes)
                    else:
                        for lane in range(lanes):
                            source = src + size * ((channel + lane) // M - channel)
                            copy_row(BITS, dst + size * lane, source, 1)
                    dst += size * n * pitch
                    c += n
    for _ in range(g[F.SPILL] + MR):
        zero_row(BITS, dst, lanes)
        dst += size * pitch


@inline
def columns_planes(BITS, columns, x, g, channel, channels, q0, pixels):
    """channels_first im2col: fill columns [k][PLANE] for `pixels` output pixels from q0 on, counted over the batch."""
    size, H, W, OW, OH = BITS // 8, g[F.H], g[F.W], g[F.OW], g[F.OH]
    image0, oh0, ow0 = q0 // (OH * OW), q0 // OW % OH, q0 % OW
    dst = columns
    for c in range(channels):
        for kh in range(g[F.KH]):
            for kw in range(g[F.KW]):
                oh, ow, image, done = oh0, ow0, image0, 0
                plane = plane_at(g, image, channel + c)
                while done < pixels:
                    run = min(pixels - done, OW - ow)
                    h = source_index(oh * g[F.SH] + kh * g[F.DH] - g[F.PT], H, g[F.MODE])
                    w0 = ow * g[F.SW] + kw * g[F.DW] - g[F.PL]
                    first, last = columns_inside(w0, g[F.SW], W, run)
                    if h < 0 or plane < 0:
                        first = last = run
                    row, to = x + size * (plane * H + h) * W, dst + size * done
                    fill_rows(BITS, to, row + size * (w0 + first * g[F.SW]), 1, 0, first, last, g[F.SW], run)
                    if g[F.MODE] != F.ZEROS:
                        mirror_columns(BITS, to, row, w0, g[F.SW], W, g[F.MODE], first, last, run)
                    done += run
                    ow = 0
                    oh += 1
                    if oh == OH:
                        oh = 0
                        image += 1
                        plane = plane_at(g, image, channel + c)
                dst += size * g[F.PLANE]


@inline
def columns_pixels(BITS, MR, columns, x, g, group, c0, channels, q0, pixels):
    """channels_last im2col: fill rows [pixel][kh][kw][channels] of pitch STEP for output pixels q0 to q0 + pixels.

    Channels are those of the group from c0 on, in the order (kd, ic). The last tile of MR pixels ends in zeros.
    """
    size, H, W, OW, OH, IC, ICT = BITS // 8, g[F.H], g[F.W], g[F.OW], g[F.OH], g[F.IC], g[F.ICT]
    image, oh, ow = q0 // (OH * OW), q0 // OW % OH, q0 % OW
    zero_row(BITS, columns + size * pixels * g[F.STEP], (-pixels % MR) * g[F.STEP])
    for q in range(pixels):
        dst = columns + size * q * g[F.STEP]
        for kh in range(g[F.KH]):
            h = source_index(oh * g[F.SH] + kh * g[F.DH] - g[F.PT], H, g[F.MODE])
            for kw in range(g[F.KW]):
                w = source_index(ow * g[F.SW] + kw * g[F.DW] - g[F.PL], W, g[F.MODE])
                left, c = channels, c0
                while left > 0:
                    n = min(left, ICT - c % ICT)
                    plane = pixels_plane_at(BITS, g, x, image, c // ICT)
                    if h < 0 or w < 0 or plane == 0:
                        zero_row(BITS, dst, n)
                    else:
                        copy_row(BITS, dst, plane + size * ((h * W + w) * IC + group * ICT + c % ICT), n)
                    dst += size * n
                    left -= n
                    c += n
        ow += 1
        if ow == OW:
            ow = 0
            oh += 1
            if oh == OH:
                oh = 0
                image += 1
