"""Convolutions of bytes as convolutions of words: input and weight are brought into words of four channels first.

    sum over ic of weight[oc, ic] * x[ic] = sum over q of dot(weight word [oc, q], input word [q])

The dot product takes unsigned bytes on one side and signed ones on the other (VPDPBUSD, which wraps and never
saturates). A weight keeps its bytes; so an input whose bytes have the signs of the weight's is flipped, x -> x +- 128,
and 128 times the sum of each output channel's weights corrects the bias. Zeros of the padding are flipped like all
others, so such an input gets its border here. Channels that fill the last word of a group have weights of zero.

All else is what direct convolution and im2col do with int32, at a quarter of the channels.
Sources: Intel 64 and IA-32 Architectures Software Developer's Manual, VPDPBUSD; the correction is the one of oneDNN's
int8 inference (compensation) and of Jacob et al. 2018, arXiv:1712.05877, section 2.3.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fastconv._jit import helper, njit
from fastconv.kernels.cpu.ir_builder import SIGNED_UNSIGNED, UNSIGNED_SIGNED
from fastconv.kernels.cpu.packing import columns_inside
from fastconv.kernels.cpu.word_ops import correction, flip_row, quads, strided_words

FLIP = 0x80808080
# Fields of `p`: groups; channels and words of a group; words of a task; sizes of the source and of the words, and where
# the source begins in these; what the bytes are flipped by; the signs of (ones, weight), where it needs corrections.
_FIELDS = ("G", "ICG", "QUADS", "RUN", "D", "H", "W", "WD", "WH", "WW", "PF", "PT", "PL", "FLIPPED", "SUMS")
G, ICG, QUADS, RUN, D, H, W, WD, WH, WW, PF, PT, PL, FLIPPED, SUMS = range(len(_FIELDS))


class Words(NamedTuple):
    """How an array of bytes becomes `elements` words; io = (bytes, words, corrections)."""

    kernel: Any
    p: np.ndarray
    tasks: int
    elements: int


@helper
def row_of(p, d, h):
    """Return the number of the source's row at row h of plane d of the words; -1: in the border."""
    d -= p[PF]
    h -= p[PT]
    inside = 0 <= d < p[D] and 0 <= h < p[H]
    return d * p[H] + h if inside else -1


@njit()
def words_of_planes(p, io, scratch, lo, hi):
    """Kernel of channels_first, and of weights: images [group][channel][plane].

    A task is `RUN` words of a group of channels of one image, or of one output channel.
    """
    runs, rows, flip = p[QUADS] // p[RUN], p[WD] * p[WH], p[FLIPPED]
    plane, pixels = p[D] * p[H] * p[W], rows * p[WW]
    first, last = columns_inside(-p[PL], 1, p[W], p[WW])
    for t in range(lo, hi):
        group, quad = t // runs, t % runs * p[RUN]
        src, dst = io[0] + (group * p[ICG] + 4 * quad) * plane, io[1] + 4 * (group * p[QUADS] + quad) * pixels
        channels = min(4 * p[RUN], p[ICG] - 4 * quad)
        if p[RUN] > 1:
            # Without a border; one pixel's channels are words as they are.
            whole = channels // 4
            if plane == 1:
                flip_row(dst, src, whole, flip)
            else:
                quads(dst, src, plane, 4, plane, flip, whole)
            rest = 4 * whole * plane
            quads(dst + rest, src + rest, plane, channels % 4, plane, flip, p[RUN] - whole)
        else:
            for i in range(rows):
                row = row_of(p, i // p[WH], i % p[WH])
                if row < 0:
                    flip_row(dst, 0, p[WW], flip)
                else:
                    flip_row(dst, 0, first, flip)
                    quads(dst + 4 * first, src + row * p[W] + first - p[PL], plane, channels, last - first, flip, 1)
                    flip_row(dst + 4 * last, 0, p[WW] - last, flip)
                dst += 4 * p[WW]
        words = p[QUADS] * pixels
        if p[SUMS] == UNSIGNED_SIGNED:
            correction(UNSIGNED_SIGNED, io[2] + 4 * group, io[1] + 4 * group * words, words)
        elif p[SUMS] == SIGNED_UNSIGNED:
            correction(SIGNED_UNSIGNED, io[2] + 4 * group, io[1] + 4 * group * words, words)


@njit()
def words_of_pixels(p, io, scratch, lo, hi):
    """Kernel of channels_last: a task is a row of pixels."""
    IC, words, flip = p[G] * p[ICG], p[G] * p[QUADS], p[FLIPPED]
    first, last = columns_inside(-p[PL], 1, p[W], p[WW])
    n = last - first
    for t in range(lo, hi):
        image, row = t // (p[WD] * p[WH]), row_of(p, t // p[WH] % p[WD], t % p[WH])
        dst = io[1] + 4 * t * p[WW] * words
        if row < 0:
            flip_row(dst, 0, p[WW] * words, flip)
            continue
        flip_row(dst, 0, first * words, flip)
        flip_row(dst + 4 * last * words, 0, (p[WW] - last) * words, flip)
        dst += 4 * first * words
        src = io[0] + ((image * p[D] * p[H] + row) * p[W] + first - p[PL]) * IC
        if 4 * words == IC:
            flip_row(dst, src, n * words, flip)
            continue
        for group in range(p[G]):
            for quad in range(p[QUADS]):
                left, to = min(4, p[ICG] - 4 * quad), dst + 4 * (group * p[QUADS] + quad)
                at = src + group * p[ICG] + 4 * quad
                # Whole words are read, whose end may belong to the next pixel, which has two channels or more; of the
                # last pixel, bytes.
                strided_words(to, words, at, IC, (1 << 8 * left) - 1, n - 1, flip)
                if n > 0:
                    quads(to + 4 * (n - 1) * words, at + (n - 1) * IC, 1, left, 1, flip, 1)


def of_input(g: Any) -> Words | None:
    """Return what brings the input of `g` into the words of `g.words`; None where it is in that order already."""
    words = g.words
    elements = words.N * words.IC * words.D * words.H * words.W
    p = [g.G, g.ICG, words.ICG, 1, g.D, g.H, g.W, words.D, words.H, words.W, 0, 0, 0]
    p += [FLIP if g.flipped else 0, 0]
    if (words.D, words.H, words.W) != (g.D, g.H, g.W):
        p[PF : PL + 1] = g.PF, g.PT, g.PL
    if g.layout == "channels_last":
        if not g.flipped and g.ICG % 4 == 0:
            return None
        return Words(words_of_pixels, np.array(p, np.int64), words.N * words.D * words.H, elements)
    if p[D : W + 1] == p[WD : WW + 1]:
        # Without a border a plane is one row, and all quads of one pixel one task.
        pixels = p[D] * p[H] * p[W]
        p[D : W + 1] = p[WD : WW + 1] = 1, 1, pixels
        p[RUN] = words.ICG if pixels == 1 else 1
    return Words(words_of_planes, np.array(p, np.int64), words.N * words.IC // p[RUN], elements)


def of_weight(g: Any) -> Words:
    """Return what brings the weight of `g` into words, and fills in corrections where the input is flipped."""
    taps, quads_of_group = g.KD * g.KH * g.KW, g.words.ICG
    sums = product_bits(g, False) if g.flipped else 0
    p = [1, g.ICG, quads_of_group, quads_of_group, 1, 1, taps, 1, 1, taps, 0, 0, 0, 0, sums]
    return Words(words_of_planes, np.array(p, np.int64), g.OC, g.OC * quads_of_group * taps)


def product_bits(g: Any, weight_first: bool) -> int:
    """Return the element type of the microkernel's products, whose first operand is the weight or the input."""
    return SIGNED_UNSIGNED if (g.weight_dtype == "int8") == weight_first else UNSIGNED_SIGNED
