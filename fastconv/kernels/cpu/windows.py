"""Maxima, minima and sums over windows of two axes, one axis after the other.

A task is a block of output rows and columns of one plane. First each input row that the block needs is reduced along W
(`across`), into rows in scratch; then these along H (`down`), into the result. An axis is done in one of two ways:

* staged: the row, or the rows, are copied with what stands outside them, split by stride phase, and whole runs are
  combined, in stages for large windows (window_stages.py). Nothing depends on the position of an output.
* listed: each output has its first input and its number of inputs in a table: windows that are cut off at the border,
  or of any sizes; no copy. Along W the runs are the lanes of a pixel.

Rows come first, so that of equal elements the first in row-major order wins. Everything is a call of `reduce_taps`.
Sizes and offsets are in elements.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from fastconv._jit import inline, njit
from fastconv.kernels.cpu.packing import columns_inside
from fastconv.kernels.cpu.row_ops import copy_row, fill_rows, int_at, zero_row
from fastconv.kernels.cpu.window_ops import divide_row, reduce_row, reduce_taps, splat_row, widen_row

# Fields of g. _AXIS: STAGED, 0 or 1; PHASES of STRIDE, each with FULL positions in MAP, which says what input stands
# there (-1: none) and BLOCK + REACH positions in a block; STAGES rows of TABLE; or LIST, LIST_FIELDS an output, and
# TAPS, the offsets of a window.
_AXIS = ("STAGED", "PHASES", "STRIDE", "BEFORE", "FULL", "REACH", "MAP", "TABLE", "STAGES", "LIST", "TAPS")
NAMES = (
    *("L", "H", "W", "OH", "OW", "RB", "CB", "ROW_BLOCKS", "COLUMN_BLOCKS"),
    *(f"W_{name}" for name in _AXIS),
    *(f"H_{name}" for name in _AXIS),
    # H_WHOLE: rows are results; H_DIRECT: rows of the input are combined where they are.
    *("H_WHOLE", "H_DIRECT"),
    # Elements of a row in scratch, and from stride phase to stride phase of the copied row; byte offset of the rows;
    # bytes from values to indices; byte offset of a row of indices; address of the indices of a row.
    *("PITCH", "AREA", "ROWS_AT", "INDEX_AT", "LAST_AT", "COLUMNS"),
    # Indices are int64; divisors: step from element to element (-1: none) and addresses along W and H; fill values of
    # the input and of a row that is reduced along W; what a row adds to indices.
    *("WIDE", "DIVIDE", "DIVISORS_W", "DIVISORS_H", "FILL", "ROW_ELEMENTS"),
)
# fmt: off
(
    L, H, W, OH, OW, RB, CB, ROW_BLOCKS, COLUMN_BLOCKS,
    W_STAGED, W_PHASES, W_STRIDE, W_BEFORE, W_FULL, W_REACH, W_MAP, W_TABLE, W_STAGES, W_LIST, W_TAPS,
    H_STAGED, H_PHASES, H_STRIDE, H_BEFORE, H_FULL, H_REACH, H_MAP, H_TABLE, H_STAGES, H_LIST, H_TAPS,
    H_WHOLE, H_DIRECT,
    PITCH, AREA, ROWS_AT, INDEX_AT, LAST_AT, COLUMNS,
    WIDE, DIVIDE, DIVISORS_W, DIVISORS_H, FILL, ROW_ELEMENTS,
) = range(len(NAMES))
# fmt: on

# First input and number of inputs of an output; the inputs from START to END - 1 contain those of all outputs from this
# one on, and up to this one.
LIST_FIELDS = ("FIRST", "COUNT", "START", "END")

# The addresses in `io`; INDEX: indices of the input's elements, or 0.
X, INDEX, OUT, INDEX_OUT = range(4)


@inline
def copied_row(BITS, g, scratch, src, c0, cols):
    """Copy the row at `src` into the areas of its stride phases, with what stands outside it."""
    size, n, S = BITS // 8, cols + g[W_REACH], g[W_STRIDE]
    for j in range(g[W_PHASES]):
        dst, w0 = scratch + size * j * g[AREA], c0 * S + j - g[W_BEFORE]
        first, last = columns_inside(w0, S, g[W], n)
        inside = src + size * (w0 + first * S) * g[L]
        if g[L] == 1:
            fill_rows(BITS, dst, inside, 1, 0, first, last, S, n)
        elif S == 1:
            copy_row(BITS, dst + size * first * g[L], inside, (last - first) * g[L])
        else:
            for i in range(first, last):
                copy_row(BITS, dst + size * i * g[L], inside + size * (i - first) * S * g[L], g[L])
        for i in range(n - (last - first)):
            i += last - first if i >= first else 0
            w, to = int_at(g[W_MAP], j * g[W_FULL] + c0 + i), dst + size * i * g[L]
            if w < 0:
                splat_row(BITS, to, g[FILL], g[L])
            else:
                copy_row(BITS, to, src + size * w * g[L], g[L])


@inline
def across(BITS, OP, INDICES, g, scratch, src, isrc, c0, cols, dst, idst, add):
    """Reduce the row at `src` along W to `cols` outputs from c0 on; `isrc`: indices of its elements, if not COLUMNS."""
    size, lanes = BITS // 8, g[L]
    if g[W_STAGED]:
        base, first = scratch, c0 - g[W_BEFORE]
        whole = first >= 0 and first + cols + g[W_REACH] <= g[W]
        if g[W_STRIDE] == 1 and g[W_STAGES] == 1 and whole:
            base = src + size * first * lanes
        else:
            copied_row(BITS, g, scratch, src, c0, cols)
        index = isrc + size * first * lanes if isrc else scratch + g[INDEX_AT]
        for s in range(g[W_STAGES]):
            row = g[W_TABLE] + 32 * s
            to, ito, n, plus = dst, idst, cols * lanes, add
            if s < g[W_STAGES] - 1:
                to = scratch + size * int_at(row, 0)
                ito, n, plus = to + g[INDEX_AT], n + int_at(row, 3) * lanes, 0
            reduce_taps(BITS, OP, INDICES, to, ito, base, index, int_at(row, 1), int_at(row, 2), plus, n)
    else:
        for c in range(cols):
            listed = g[W_LIST] + 32 * (c0 + c)
            w, count, to = size * int_at(listed, 0) * lanes, int_at(listed, 1), dst + size * c * lanes
            if count == 0:
                splat_row(BITS, to, g[FILL], lanes)
                if INDICES:
                    zero_row(BITS, idst + size * c * lanes, lanes)
            elif lanes == 1 and not INDICES:
                reduce_row(BITS, OP, to, src + w, count)
            else:
                ito = idst + size * c * lanes
                reduce_taps(BITS, OP, INDICES, to, ito, src + w, g[COLUMNS] + w, g[W_TAPS], count, add, lanes)


@inline
def rows_of(BITS, OP, INDICES, g, io, scratch, plane, r0, rows, c0, cols):
    """Reduce all rows along W that output rows r0 to r0 + rows need; return the first of them if they are listed."""
    size, n = BITS // 8, g[RB] + g[H_REACH]
    lo, count = 0, rows + g[H_REACH]
    if not g[H_STAGED]:
        lo = int_at(g[H_LIST], 4 * r0 + 2)
        count = int_at(g[H_LIST], 4 * (r0 + rows) - 1) - lo
    for j in range(g[H_PHASES]):
        for i in range(count):
            h = int_at(g[H_MAP], j * g[H_FULL] + r0 + i) if g[H_STAGED] else lo + i
            dst = scratch + g[ROWS_AT] + size * (j * n + i) * g[PITCH]
            if h < 0:
                splat_row(BITS, dst, g[FILL] + size, cols * g[L])
                continue
            at = (plane * g[H] + h) * g[W] * g[L]
            isrc = io[INDEX] + size * at if io[INDEX] else 0
            add, idst = h * g[ROW_ELEMENTS], dst + g[INDEX_AT]
            across(BITS, OP, INDICES, g, scratch, io[X] + size * at, isrc, c0, cols, dst, idst, add)
    return lo


@inline
def finish(BITS, INDICES, g, io, scratch, row, r, c0, n):
    """Finish an output row: divide it, or bring its indices where they belong; `row` counts elements of the output."""
    size = BITS // 8
    if g[DIVIDE] >= 0:
        divisors = g[DIVISORS_W] + size * c0 * g[L] * g[DIVIDE]
        divide_row(BITS, io[OUT] + size * row, divisors, g[DIVIDE], g[DIVISORS_H] + size * r * g[DIVIDE], n)
    if INDICES:
        if g[WIDE]:
            widen_row(BITS, io[INDEX_OUT] + 8 * row, scratch + g[LAST_AT], n)
        else:
            copy_row(BITS, io[INDEX_OUT] + size * row, scratch + g[LAST_AT], n)


@inline
def down(BITS, OP, INDICES, g, io, scratch, r, i, lo, c0, cols, dst):
    """Reduce along H to output row r, the i-th of its block."""
    size, n, last = BITS // 8, cols * g[L], scratch + g[LAST_AT]
    if g[H_STAGED]:
        row = g[H_TABLE] + 32 * (g[H_STAGES] - 1)
        base, taps, count = scratch + g[ROWS_AT] + size * i * g[PITCH], int_at(row, 1), int_at(row, 2)
    else:
        h, count, taps = int_at(g[H_LIST], 4 * r), int_at(g[H_LIST], 4 * r + 1), g[H_TAPS]
        base = scratch + g[ROWS_AT] + size * (h - lo) * g[PITCH]
        if g[H_DIRECT]:
            base = lo + size * (h * g[W] + c0) * g[L]
    if count == 0:
        splat_row(BITS, dst, g[FILL] + size, n)
        if INDICES:
            zero_row(BITS, last, n)
    else:
        reduce_taps(BITS, OP, INDICES, dst, last, base, base + g[INDEX_AT], taps, count, 0, n)


@inline
def stages_down(BITS, OP, INDICES, g, scratch, rows, n):
    """Run all stages along H but the last."""
    size = BITS // 8
    for s in range(g[H_STAGES] - 1):
        row = g[H_TABLE] + 32 * s
        for i in range(rows + int_at(row, 3)):
            base = scratch + g[ROWS_AT] + size * i * g[PITCH]
            to = base + size * int_at(row, 0)
            index = base + g[INDEX_AT]
            ito = to + g[INDEX_AT]
            reduce_taps(BITS, OP, INDICES, to, ito, base, index, int_at(row, 1), int_at(row, 2), 0, n)


@cache
def kernel(BITS: int, OP: int, INDICES: int) -> Any:
    """Return the kernel of an operation; INDICES: also which element won."""
    size = BITS // 8

    @njit(fastmath=False)
    def windows(g, io, scratch, lo, hi):
        """Tasks are blocks [plane][row block][column block]."""
        for t in range(lo, hi):
            c0 = t % g[COLUMN_BLOCKS] * g[CB]
            r0 = t // g[COLUMN_BLOCKS] % g[ROW_BLOCKS] * g[RB]
            plane = t // (g[COLUMN_BLOCKS] * g[ROW_BLOCKS])
            rows, cols = min(g[RB], g[OH] - r0), min(g[CB], g[OW] - c0)
            n, start = cols * g[L], 0
            if INDICES and g[W_STAGED]:
                for j in range(g[W_PHASES]):
                    columns = g[COLUMNS] + size * (j * g[W_FULL] + c0) * g[L]
                    copy_row(BITS, scratch + g[INDEX_AT] + size * j * g[AREA], columns, n + g[W_REACH] * g[L])
            if g[H_DIRECT]:
                start = io[X] + size * plane * g[H] * g[W] * g[L]
            elif not g[H_WHOLE]:
                start = rows_of(BITS, OP, INDICES, g, io, scratch, plane, r0, rows, c0, cols)
                stages_down(BITS, OP, INDICES, g, scratch, rows, n)
            for i in range(rows):
                r = r0 + i
                row = ((plane * g[OH] + r) * g[OW] + c0) * g[L]
                dst = io[OUT] + size * row
                if g[H_WHOLE]:
                    at = (plane * g[H] + r) * g[W] * g[L]
                    isrc = io[INDEX] + size * at if io[INDEX] else 0
                    src, last = io[X] + size * at, scratch + g[LAST_AT]
                    across(BITS, OP, INDICES, g, scratch, src, isrc, c0, cols, dst, last, r * g[ROW_ELEMENTS])
                else:
                    down(BITS, OP, INDICES, g, io, scratch, r, i, start, c0, cols, dst)
                finish(BITS, INDICES, g, io, scratch, row, r, c0, n)

    return windows
