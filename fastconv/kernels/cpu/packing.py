"""Packing of the input: copies of a block into the order that the microkernel reads.

* `strip_*`: a block of the input with its zero border, split by stride phase. In phase (h mod SH, w mod SW) a strided
  convolution reads neighbours with step one, so every stride and dilation is the same table of offsets, and the output
  pixels of a block are one run of the strip (whose row pitch P the output block shares).
* `columns_*`: im2col of one block of output pixels, explicit.

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
def strip_planes(BITS, strip, x, g, channels, r0, c0):
    """channels_first: fill strip [channel][row phase][column phase][ROWS][P] for the output block at (r0, c0).

    `fill_rows` leaves zeros behind the last row of a plane, where SPILL elements may be read.
    """
    size, H, W, P, SH, SW, ROWS = BITS // 8, g[F.H], g[F.W], g[F.P], g[F.SH], g[F.SW], g[F.ROWS]
    for ic in range(channels):
        dst = strip + size * ic * g[F.PLANE]
        for i in range(g[F.ROW_PHASES]):
            h0 = r0 * SH + i * g[F.DH] % SH - g[F.PT]
            for j in range(g[F.COLUMN_PHASES]):
                w0 = c0 * SW + j * g[F.DW] % SW - g[F.PL]
                first, last = columns_inside(w0, SW, W, P)
                # Rows above, inside and below the image.
                top, bottom = columns_inside(h0, SH, H, ROWS)
                src = x + size * ((ic * H + h0 + top * SH) * W + w0 + first * SW)
                fill_rows(BITS, dst, src, top, 0, P, P, SW, P)
                fill_rows(BITS, dst + size * top * P, src, bottom - top, SH * W, first, last, SW, P)
                fill_rows(BITS, dst + size * bottom * P, src, ROWS - bottom, 0, P, P, SW, P)
                dst += size * ROWS * P


@inline
def strip_pixels(BITS, strip, x, g, channel, channels, pitch, r0, c0):
    """channels_last: fill strip [row phase][column phase][ROWS][P][pitch] for the output block at (r0, c0).

    Lane i < channels of a pixel is input channel (channel + i) // M: with a depth multiplier, each channel M times.
    """
    size, H, W, P, IC = BITS // 8, g[F.H], g[F.W], g[F.P], g[F.IC]
    dst = strip
    for i in range(g[F.ROW_PHASES]):
        h0 = r0 * g[F.SH] + i * g[F.DH] % g[F.SH] - g[F.PT]
        for j in range(g[F.COLUMN_PHASES]):
            w0 = c0 * g[F.SW] + j * g[F.DW] % g[F.SW] - g[F.PL]
            for r in range(g[F.ROWS]):
                h = h0 + r * g[F.SH]
                first, last = columns_inside(w0, g[F.SW], W, P)
                if h < 0 or h >= H:
                    first = last = P
                zero_row(BITS, dst, first * pitch)
                src = x + size * (h * W + w0 + first * g[F.SW]) * IC
                if g[F.SW] == 1 and g[F.M] == 1 and channels == IC and pitch == IC:
                    copy_row(BITS, dst + size * first * pitch, src, (last - first) * pitch)
                else:
                    for c in range(first, last):
                        pixel = dst + size * c * pitch
                        if g[F.M] == 1:
                            copy_row(BITS, pixel, src + size * channel, channels)
                        else:
                            for lane in range(channels):
                                copy_row(BITS, pixel + size * lane, src + size * ((channel + lane) // g[F.M]), 1)
                        src += size * g[F.SW] * IC
                zero_row(BITS, dst + size * last * pitch, (P - last) * pitch)
                dst += size * P * pitch
    zero_row(BITS, dst, g[F.SPILL] * pitch)


@inline
def columns_planes(BITS, columns, x, g, channels, q0, pixels):
    """channels_first im2col: fill columns [k][PLANE] for `pixels` output pixels from q0 on, counted over the batch."""
    size, H, W, OW, OH = BITS // 8, g[F.H], g[F.W], g[F.OW], g[F.OH]
    n0, oh0, ow0 = q0 // (OH * OW), q0 // OW % OH, q0 % OW
    dst = columns
    for ic in range(channels):
        for kh in range(g[F.KH]):
            for kw in range(g[F.KW]):
                plane = x + size * (n0 * g[F.IC] + ic) * H * W
                oh, ow, done = oh0, ow0, 0
                while done < pixels:
                    run = min(pixels - done, OW - ow)
                    h, w0 = oh * g[F.SH] + kh * g[F.DH] - g[F.PT], ow * g[F.SW] + kw * g[F.DW] - g[F.PL]
                    first, last = columns_inside(w0, g[F.SW], W, run)
                    if h < 0 or h >= H:
                        first = last = run
                    src = plane + size * (h * W + w0 + first * g[F.SW])
                    fill_rows(BITS, dst + size * done, src, 1, 0, first, last, g[F.SW], run)
                    done += run
                    ow = 0
                    oh += 1
                    if oh == OH:
                        oh = 0
                        plane += size * g[F.IC] * H * W
                dst += size * g[F.PLANE]


@inline
def columns_pixels(BITS, columns, x, g, channels, q0, pixels):
    """channels_last im2col: fill rows [pixel][kh][kw][channels] of pitch STEP for output pixels q0 to q0 + pixels."""
    size, H, W, OW, OH, IC = BITS // 8, g[F.H], g[F.W], g[F.OW], g[F.OH], g[F.IC]
    n, oh, ow = q0 // (OH * OW), q0 // OW % OH, q0 % OW
    for q in range(pixels):
        dst = columns + size * q * g[F.STEP]
        image = x + size * n * H * W * IC
        for kh in range(g[F.KH]):
            h = oh * g[F.SH] + kh * g[F.DH] - g[F.PT]
            for kw in range(g[F.KW]):
                w = ow * g[F.SW] + kw * g[F.DW] - g[F.PL]
                if 0 <= h < H and 0 <= w < W:
                    copy_row(BITS, dst, image + size * (h * W + w) * IC, channels)
                else:
                    zero_row(BITS, dst, channels)
                dst += size * channels
        ow += 1
        if ow == OW:
            ow = 0
            oh += 1
            if oh == OH:
                oh = 0
                n += 1
