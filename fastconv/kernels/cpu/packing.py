"""Packing of the input: copies of a block into the order that the microkernel reads.

* `strip_*`: a block of the input with its zero border, split by stride phase. In phase (h mod SH, w mod SW) a strided
  convolution reads neighbours with step one, so every stride and dilation is the same table of offsets, and the output
  pixels of a block are one run of the strip (whose row pitch P the output block shares).
* `columns_*`: im2col of one block of output pixels, explicit.

A kernel sees N*OD images (one for each output depth od) with ICG*KD input channels: an input plane under depth tap kd
is a channel of its own, so 3-D convolution is 2-D convolution of planes that `plane_at` finds. What stands outside the
input is zero, or by MODE (fields.py) a copy of what `source_index` says; no padded copy of the input exists.

They are inlined into the kernels that use them. Addresses are integers, sizes in elements.
"""

from __future__ import annotations

from fastconv._jit import inline
from fastconv.kernels.cpu import fields as F
from fastconv.kernels.cpu.row_ops import copy_row, fill_rows, zero_row


@inline
def columns_inside(w0, step, W, n):
    """Return (first, last): column w0 + i * step lies in [0, W) for first <= i < last, of all i < n."""
    before, after = -w0, W - w0
    if step != 1:
        before, after = (before + step - 1) // step, (after + step - 1) // step
    first = min(max(before, 0), n)
    return first, max(min(after, n), first)


@inline
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


@inline
def depth_at(g, image, kd):
    """Return the input depth that output image (n, od) sees under depth tap kd; -1: zeros."""
    return source_index(image % g[F.OD] * g[F.SD] + kd * g[F.DD] - g[F.PF], g[F.D], g[F.MODE])


@inline
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
                w0 = c0 * SW + j * g[F.DW] % SW - g[F.PL]
                first, last = columns_inside(w0, SW, W, P)
                # Rows above, inside and below the image.
                top, bottom = columns_inside(h0, SH, H, ROWS)
                if g[F.MODE] == F.ZEROS:
                    src = x + size * ((plane * H + h0 + top * SH) * W + w0 + first * SW)
                    fill_rows(BITS, dst, src, top, 0, P, P, SW, P)
                    fill_rows(BITS, dst + size * top * P, src, bottom - top, SH * W, first, last, SW, P)
                    fill_rows(BITS, dst + size * bottom * P, src, ROWS - bottom, 0, P, P, SW, P)
                    dst += size * ROWS * P
                else:
                    for r in range(ROWS):
                        row = x + size * (plane * H + source_index(h0 + r * SH, H, g[F.MODE])) * W
                        fill_rows(BITS, dst, row + size * (w0 + first * SW), 1, 0, first, last, SW, P)
                        mirror_columns(BITS, dst, row, w0, SW, W, g[F.MODE], first, last, P)
                        dst += size * P


@inline
def zero_pixels(BITS, dst, n, lanes, pitch):
    """Set `lanes` lanes of n pixels to zero."""
    if lanes == pitch:
        zero_row(BITS, dst, n * pitch)
    else:
        for i in range(n):
            zero_row(BITS, dst + BITS // 8 * i * pitch, lanes)


@inline
def copy_pixel(BITS, dst, src, g, channel, lanes):
    """Copy a pixel: lane i is input channel (channel + i) // M; with a depth multiplier, each channel M times."""
    size = BITS // 8
    if g[F.M] == 1:
        copy_row(BITS, dst, src + size * channel, lanes)
    else:
        for lane in range(lanes):
            copy_row(BITS, dst + size * lane, src + size * ((channel + lane) // g[F.M]), 1)


@inline
def strip_pixels(BITS, strip, plane, g, channel, lanes, pitch, r0, c0):
    """channels_last: fill `lanes` lanes of strip [row phase][column phase][ROWS][P][pitch] for the block at (r0, c0).

    `plane` is the address of the input plane, or 0 for one of zeros; the first lane is `channel` of it.
    """
    size, W, P, IC, SW = BITS // 8, g[F.W], g[F.P], g[F.IC], g[F.SW]
    dst = strip
    for i in range(g[F.ROW_PHASES]):
        h0 = r0 * g[F.SH] + i * g[F.DH] % g[F.SH] - g[F.PT]
        for j in range(g[F.COLUMN_PHASES]):
            w0 = c0 * SW + j * g[F.DW] % SW - g[F.PL]
            for r in range(g[F.ROWS]):
                h = source_index(h0 + r * g[F.SH], g[F.H], g[F.MODE])
                first, last = columns_inside(w0, SW, W, P)
                if h < 0 or plane == 0:
                    first = last = P
                row = plane + size * h * W * IC
                src = row + size * (w0 + first * SW) * IC
                zero_pixels(BITS, dst, first, lanes, pitch)
                if SW == 1 and g[F.M] == 1 and lanes == IC and pitch == IC:
                    copy_row(BITS, dst + size * first * pitch, src, (last - first) * pitch)
                else:
                    for c in range(first, last):
                        copy_pixel(BITS, dst + size * c * pitch, src, g, channel, lanes)
                        src += size * SW * IC
                zero_pixels(BITS, dst + size * last * pitch, P - last, lanes, pitch)
                if g[F.MODE] != F.ZEROS:
                    for c in range(P - (last - first)):
                        c += last - first if c >= first else 0
                        src = row + size * source_index(w0 + c * SW, W, g[F.MODE]) * IC
                        copy_pixel(BITS, dst + size * c * pitch, src, g, channel, lanes)
                dst += size * P * pitch
    zero_pixels(BITS, dst, g[F.SPILL], lanes, pitch)


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
def columns_pixels(BITS, columns, x, g, group, c0, channels, q0, pixels):
    """channels_last im2col: fill rows [pixel][kh][kw][channels] of pitch STEP for output pixels q0 to q0 + pixels.

    Channels are those of the group from c0 on, in the order (kd, ic).
    """
    size, H, W, OW, OH, IC, ICT = BITS // 8, g[F.H], g[F.W], g[F.OW], g[F.OH], g[F.IC], g[F.ICT]
    image, oh, ow = q0 // (OH * OW), q0 // OW % OH, q0 % OW
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
