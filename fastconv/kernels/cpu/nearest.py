"""Upsampling that only moves data: rows with repeated elements, and rows of zeros with elements here and there.

Both walk over output rows in the order of their addresses. An output row that shows the same input row as the one
before it is a copy of that, so elements are spread once for all rows they stand in. Arrays are (planes, D, H, W,
lanes), with lanes the channels of channels_last, the two halves of complex128, or 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from fastconv._jit import inline, njit
from fastconv.kernels.cpu import target as targets
from fastconv.kernels.cpu.element_ops import (
    copy_bytes,
    copy_vector,
    double_row,
    load_at,
    splat_at,
    store_at,
    zero_bytes,
)
from fastconv.kernels.cpu.program import Program, address, table
from fastconv.kernels.cpu.row_ops import int_at

# Output rows in a task: enough that the rows they repeat are mostly within.
BLOCK = 16

# The fields of g. SD, SH, SW: step of the nails, PD, PH, PW: the first; D_TABLE, H_TABLE, W_TABLE: addresses.
ROWS, OD, OH, OW, D, H, W, LANES, KIND, D_TABLE, H_TABLE, W_TABLE, SD, SH, SW, PD, PH, PW = range(18)

# How a row is spread: not at all; each element twice; each element as a run from W_TABLE[w] on; output ow is element
# W_TABLE[ow], or the same of pixels of several lanes.
SAME, TWICE, RUNS, GATHER, PIXELS = range(5)


def build_nearest(bits: int, planes: int, sizes: Sequence[int], lanes: int, sources: Sequence[np.ndarray]) -> Program:
    """Return the program that fills an array from another, io = (x, out), by which inputs the outputs show.

    `sizes` and `sources` are those of D, H and W.
    """
    sources = [table(map(int, source)) for source in sources]
    outs = [len(source) for source in sources]
    kind, spread = _spread(sources[2], sizes[2], lanes)
    tables = [sources[0], sources[1], spread]
    rows = planes * outs[0] * outs[1]
    g = np.array([rows, *outs, *sizes, lanes, kind, *map(address, tables), *[0] * 6], np.int64)
    return Program(_nearest(bits), g, -(-rows // BLOCK), 0, (), tables)


def _spread(source: np.ndarray, n: int, lanes: int) -> tuple[int, np.ndarray]:
    """Return how rows are spread, and the table for it."""
    out = len(source)
    if np.array_equal(source, np.arange(n)):
        return SAME, source
    if lanes > 1:
        return PIXELS, source
    if out == 2 * n and np.array_equal(source, np.arange(out) // 2):
        return TWICE, source
    return (RUNS, np.searchsorted(source, np.arange(n + 1))) if out >= 2 * n else (GATHER, source)


def build_nails(
    bits: int, planes: int, sizes: Sequence[int], lanes: int, steps: Sequence[int], firsts: Sequence[int]
) -> Program:
    """Return the program that stands elements on zeros, io = (x, out): output ``first + i * step`` is element i."""
    outs = [n * step for n, step in zip(sizes, steps, strict=True)]
    rows = planes * outs[0] * outs[1]
    g = np.array([rows, *outs, *sizes, lanes, *[0] * 4, *steps, *firsts], np.int64)
    return Program(_nails(bits), g, -(-rows // BLOCK), 0, ())


@inline
def spread_runs(BITS, VL, dst, src, starts, n, out):
    """dst[starts[i]:starts[i + 1]] = src[i], i < n: whole vectors, of which the next run covers what is too much."""
    for i in range(n):
        at, end, element = int_at(starts, i), int_at(starts, i + 1), load_at(BITS, src, i)
        while at < end:
            if at + VL <= out:
                splat_at(BITS, dst, at, element)
                at += VL
            else:
                store_at(BITS, dst, at, element)
                at += 1


@inline
def spread_pixels(BITS, VL, dst, src, source, out, n, lanes):
    """dst[o * lanes + c] = src[source[o] * lanes + c]; pixels shorter than a vector are copied by too long ones."""
    size = BITS // 8
    for o in range(out):
        to, at = dst + size * o * lanes, int_at(source, o)
        start = src + size * at * lanes
        if lanes >= VL:
            for c in range(lanes // VL):
                copy_vector(BITS, to + size * c * VL, start + size * c * VL)
            copy_vector(BITS, to + size * (lanes - VL), start + size * (lanes - VL))
        elif (n - at) * lanes >= VL and (out - o) * lanes >= VL:
            copy_vector(BITS, to, start)
        else:
            for c in range(lanes):
                store_at(BITS, to, c, load_at(BITS, start, c))


@cache
def _nearest(BITS: int) -> Any:
    size, VL = BITS // 8, targets.current().lanes(BITS)

    @njit(fastmath=False)
    def nearest(g, io, scratch, lo, hi):
        """Tasks are blocks of BLOCK output rows."""
        n, out, lanes, kind, spread = g[W], g[OW], g[LANES], g[KIND], g[W_TABLE]
        length, before = size * out * lanes, 0
        for row in range(lo * BLOCK, min(hi * BLOCK, g[ROWS])):
            oh, plane = row % g[OH], row // g[OH]
            d = plane // g[OD] * g[D] + int_at(g[D_TABLE], plane % g[OD])
            src = io[0] + size * (d * g[H] + int_at(g[H_TABLE], oh)) * n * lanes
            dst = io[1] + length * row
            if src == before:
                copy_bytes(dst, dst - length, length)
            elif kind == SAME:
                copy_bytes(dst, src, length)
            elif kind == TWICE:
                double_row(BITS, dst, src, n)
            elif kind == RUNS:
                spread_runs(BITS, VL, dst, src, spread, n, out)
            elif kind == GATHER:
                for o in range(out):
                    store_at(BITS, dst, o, load_at(BITS, src, int_at(spread, o)))
            else:
                spread_pixels(BITS, VL, dst, src, spread, out, n, lanes)
            before = src

    return nearest


@cache
def _nails(BITS: int) -> Any:
    size = BITS // 8

    @njit(fastmath=False)
    def nails(g, io, scratch, lo, hi):
        """Tasks are blocks of BLOCK output rows."""
        lanes = g[LANES]
        length = size * g[OW] * lanes
        for row in range(lo * BLOCK, min(hi * BLOCK, g[ROWS])):
            dst, oh, plane = io[1] + length * row, row % g[OH] - g[PH], row // g[OH]
            od = plane % g[OD] - g[PD]
            zero_bytes(dst, length)
            if od % g[SD] or oh % g[SH]:
                continue
            h = (plane // g[OD] * g[D] + od // g[SD]) * g[H] + oh // g[SH]
            src, dst = io[0] + size * h * g[W] * lanes, dst + size * g[PW] * lanes
            for w in range(g[W]):
                for c in range(lanes):
                    store_at(BITS, dst, w * g[SW] * lanes + c, load_at(BITS, src, w * lanes + c))

    return nails
