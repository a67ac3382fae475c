"""Filters of an array of any element type in double precision, with the bits of SciPy's C code.

    out[p, h, w, c] = op over kd, kh, kw of x[plane(p, kd), h + kh - PT, w + kw - PL, c]

A block of the array, with its border, is widened to doubles in scratch, which stay in L1 or L2; each row of outputs is
made of whole vectors of it (filter_taps.py) and narrowed again. C elements that no tap moves between are the innermost
axis, so one pass along any axis of an array has H = what stands before it, W = the axis, C = what stands behind.
Element types are fields of g: the kernel of each op is compiled once.
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Any, Final, NamedTuple

import numpy as np

from fastconv._jit import inline, njit
from fastconv.kernels.cpu import target
from fastconv.kernels.cpu.fields import MODES
from fastconv.kernels.cpu.filter_rows import BY_MAGNITUDE, CONSTANT, KINDS, SIZES, narrow_row, widen_row
from fastconv.kernels.cpu.filter_taps import VECTORS, extreme_taps, running_mean, sum_taps
from fastconv.kernels.cpu.packing import source_index
from fastconv.kernels.cpu.program import Program
from fastconv.kernels.cpu.row_ops import int_at

NAMES: Final = (
    *("H", "W", "C", "KD", "KH", "KW", "PT", "PL", "MODE", "KIND", "SIZE", "OUT_KIND", "OUT_SIZE"),
    # A block: ROWS x COLUMNS pixels of LANES elements; PITCH doubles from line to line, PLANE from plane to plane.
    *("ROWS", "COLUMNS", "LANES", "ROW_BLOCKS", "COLUMN_BLOCKS", "LANE_BLOCKS", "PITCH", "PLANE", "ROW_AT"),
)
# fmt: off
(
    H, W, C, KD, KH, KW, PT, PL, MODE, KIND, SIZE, OUT_KIND, OUT_SIZE,
    ROWS, COLUMNS, LANES, ROW_BLOCKS, COLUMN_BLOCKS, LANE_BLOCKS, PITCH, PLANE, ROW_AT,
) = range(len(NAMES))
# fmt: on

# io: addresses; PLANES of the table of input planes of each output plane, -1: constant; VALUE of that constant.
X, OUT, PLANES, TAPS, VALUE = range(5)

# Doubles of a line of a block, of one that shares no lines with others, and of a block: 32 kB, 128 kB and 256 kB.
_LINE, _LONG_LINE, _BLOCK = 4096, 16384, 32768
_NARROW = 256


class Problem(NamedTuple):
    """What is filtered: `planes` output planes of H x W x C elements by KD x KH x KW taps."""

    planes: int
    H: int
    W: int
    C: int
    KD: int
    KH: int
    KW: int
    PT: int
    PL: int
    mode: str
    dtype: str
    out: str
    # uint64 by magnitude.
    safe: bool = False


class Filter(NamedTuple):
    """A filter ready to run; bytes between neighbouring planes, lines and pixels of its scratch, for the taps."""

    program: Program
    strides: tuple[int, int, int]


@inline
def load_line(g, io, line, row, c0, columns, lane, lanes):
    """line[c][i] = the elements of `row` from column c0 - PL on, with what stands beyond its ends."""
    c, dense = 0, lanes == g[C] and lanes == g[LANES]
    while c < columns:
        w, n = source_index(c0 + c - g[PL], g[W], g[MODE]), 1
        dst = line + 8 * c * g[LANES]
        if w < 0:
            widen_row(dst, io[VALUE], CONSTANT, lanes)
        else:
            if dense and w == c0 + c - g[PL]:
                n = min(g[W] - w, columns - c)
            widen_row(dst, row + g[SIZE] * (w * g[C] + lane), g[KIND], n * lanes)
        if lanes < g[LANES]:
            # What the scratch holds may be denormal, on which arithmetic is slow.
            widen_row(dst + 8 * lanes, io[VALUE], CONSTANT, g[LANES] - lanes)
        c += n


@inline
def load_block(g, io, scratch, plane, r0, rows, c0, columns, lane, lanes):
    """Fill the lines of a block with its border."""
    border, end = columns + g[KW] - 1, rows + g[KH] - 1
    # The vectors at the ends of the last lines reach here.
    behind = 8 * g[KD] * g[PLANE]
    widen_row(scratch + behind, io[VALUE], CONSTANT, (g[ROW_AT] - behind) // 8)
    for k in range(g[KD]):
        source = int_at(io[PLANES], plane * g[KD] + k)
        for r in range(end):
            h = source_index(r0 + r - g[PT], g[H], g[MODE]) if source >= 0 else -1
            line = scratch + 8 * (k * g[PLANE] + r * g[PITCH])
            if h < 0:
                widen_row(line, io[VALUE], CONSTANT, border * g[LANES])
            else:
                row = io[X] + g[SIZE] * (source * g[H] + h) * g[W] * g[C]
                load_line(g, io, line, row, c0, border, lane, lanes)


@inline
def store_row(g, io, src, row, c0, columns, lane, lanes):
    """Narrow a row of a block to row number `row` of the result."""
    if lanes == g[C] and lanes == g[LANES]:
        narrow_row(io[OUT] + g[OUT_SIZE] * (row * g[W] + c0) * g[C], src, g[OUT_KIND], columns * lanes)
        return
    for c in range(columns):
        dst = io[OUT] + g[OUT_SIZE] * ((row * g[W] + c0 + c) * g[C] + lane)
        narrow_row(dst, src + 8 * c * g[LANES], g[OUT_KIND], lanes)


def _filter_kernel(OP):
    """Return the kernel of an op: 0 sums, 1 maxima or minima, 2 running means along W."""

    @njit(fastmath=False)
    def filter_blocks(g, io, scratch, lo, hi):
        # Tasks are blocks: (plane, rows, columns, lanes).
        for t in range(lo, hi):
            lane, c0 = t % g[LANE_BLOCKS] * g[LANES], t // g[LANE_BLOCKS] % g[COLUMN_BLOCKS] * g[COLUMNS]
            t //= g[LANE_BLOCKS] * g[COLUMN_BLOCKS]
            r0, plane = t % g[ROW_BLOCKS] * g[ROWS], t // g[ROW_BLOCKS]
            rows, columns = min(g[ROWS], g[H] - r0), min(g[COLUMNS], g[W] - c0)
            lanes = min(g[LANES], g[C] - lane)
            load_block(g, io, scratch, plane, r0, rows, c0, columns, lane, lanes)
            for r in range(rows):
                line, dst, n = scratch + 8 * r * g[PITCH], scratch + g[ROW_AT], columns * g[LANES]
                if OP == 0:
                    sum_taps(dst, line, io[TAPS], n)
                elif OP == 1:
                    extreme_taps(dst, line, io[TAPS], n)
                else:
                    running_mean(dst, line, g[KW], columns, g[LANES])
                store_row(g, io, dst, plane * g[H] + r0 + r, c0, columns, lane, lanes)

    return filter_blocks


_kernel = cache(_filter_kernel)


def _block(op: str, p: Problem, lanes_of_vector: int) -> tuple[int, int, int]:
    """Return (ROWS, COLUMNS, LANES)."""
    if op == "mean":
        # A running sum needs all of its axis; lanes are whole vectors.
        lanes = 1 if p.C == 1 else lanes_of_vector * min(2, -(-p.C // lanes_of_vector))
        columns = p.W
    else:
        lanes = -(-p.C // max(1, p.C // _NARROW))
        line = _LINE if p.KD * p.KH > 1 else _LONG_LINE
        columns = min(p.W, max(line // lanes, 4 * p.KW))
    size = (columns + p.KW - 1) * lanes
    rows = _BLOCK // (p.KD * size) - p.KH + 1
    return min(p.H, max(rows, p.KH if p.KH > 1 else 1)), columns, lanes


@lru_cache(maxsize=256)
def build(op: str, p: Problem) -> Filter:
    """Return the filter; op is "sum", "extreme" or "mean", dtypes are names of `filter_rows.KINDS`.

    io is the addresses (x, out, table of planes, table of taps, value); all sizes are at least 1.
    """
    vector = target.current().lanes(64)
    rows, columns, lanes = _block(op, p, vector)
    pitch = (columns + p.KW - 1) * lanes
    plane = pitch * (rows + p.KH - 1)
    kind, out = KINDS.index(p.dtype), KINDS.index(p.out)
    slack = VECTORS * vector
    values = {name: getattr(p, name) for name in Problem._fields if name in NAMES} | {
        "MODE": MODES.index(p.mode),
        "KIND": kind,
        "SIZE": SIZES[kind],
        "OUT_KIND": BY_MAGNITUDE if p.safe and p.out == "uint64" else out,
        "OUT_SIZE": SIZES[out],
        "ROWS": rows,
        "COLUMNS": columns,
        "LANES": lanes,
        "ROW_BLOCKS": -(-p.H // rows),
        "COLUMN_BLOCKS": -(-p.W // columns),
        "LANE_BLOCKS": -(-p.C // lanes),
        "PITCH": pitch,
        "PLANE": plane,
        "ROW_AT": 8 * (p.KD * plane + slack),
    }
    g = np.array([values[name] for name in NAMES], np.int64)
    tasks = p.planes * values["ROW_BLOCKS"] * values["COLUMN_BLOCKS"] * values["LANE_BLOCKS"]
    scratch = 8 * (p.KD * plane + columns * lanes + 2 * slack)
    kernel: Any = _kernel(("sum", "extreme", "mean").index(op))
    return Filter(Program(kernel, g, tasks, scratch, ()), (8 * plane, 8 * pitch, 8 * lanes))
