"""Maxima, minima and sums over windows of two axes, one axis after the other.

A task is a block of output rows and columns of one plane. First each input row that the block needs is reduced along W
(`across`), into rows in scratch; then these along H (`down`), into the result. An axis is done in one of these ways:

* staged: the row, or the rows, are copied with what stands outside them, split by stride phase, and whole runs are
  combined, in stages for large windows (window_stages.py). Nothing depends on the position of an output.
* listed: each output has its first input and its number of inputs in a table: windows that are cut off at the border,
  or of any sizes; no copy. Along W the runs are the lanes of a pixel.
* sliding, along W: as listed, but the outputs whose windows are wholly inside are computed together, with steps of 1
  or 2 from lane to lane.

Where indices are asked for, W comes first, so that of equal elements the first in row-major order wins. Else few rows
are combined first, where they lie, and the result slides along W once for each output row. Sizes are in elements.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from fastconv._jit import helper, njit
from fastconv.kernels.cpu import window_fields as F
from fastconv.kernels.cpu.packing import columns_inside
from fastconv.kernels.cpu.row_ops import copy_row, fill_rows, int_at, zero_row
from fastconv.kernels.cpu.sliding_ops import reduce_sliding
from fastconv.kernels.cpu.window_ops import divide_row, reduce_row, reduce_taps, splat_row, widen_row


@cache
def reduction(BITS: int, OP: int, INDEX: int) -> Any:
    """Return `reduce_taps` as a function that is compiled once, for all its callers."""

    @helper
    def reduce(dst, idst, src, isrc, taps, count, add, n):
        reduce_taps(BITS, OP, INDEX, dst, idst, src, isrc, taps, count, add, n)

    return reduce


@cache
def across_of(BITS: int, OP: int, INDICES: int) -> Any:
    """Return the compiled function that reduces a row along W."""
    size, reduce = BITS // 8, reduction(BITS, OP, INDICES)
    # Where pixels are taken one by one, their indices are counted.
    reduce_pixel = reduction(BITS, OP, 2 * INDICES)

    @helper
    def copied_row(g, scratch, src, c0, cols):
        """Copy the row at `src` into the areas of its stride phases, with what stands outside it."""
        n, S = cols + g[F.W_REACH], g[F.W_STRIDE]
        for j in range(g[F.W_PHASES]):
            dst, w0 = scratch + size * j * g[F.AREA], c0 * S + j - g[F.W_BEFORE]
            first, last = columns_inside(w0, S, g[F.W], n)
            inside = src + size * (w0 + first * S) * g[F.L]
            if inside == dst + size * first * g[F.L]:
                # The row was made where it is needed.
                pass
            elif g[F.L] == 1:
                fill_rows(BITS, dst, inside, 1, 0, first, last, S, n)
            elif S == 1:
                copy_row(BITS, dst + size * first * g[F.L], inside, (last - first) * g[F.L])
            else:
                for i in range(first, last):
                    copy_row(BITS, dst + size * i * g[F.L], inside + size * (i - first) * S * g[F.L], g[F.L])
            i = 0 if first else last
            while i < n:
                w, run, to = int_at(g[F.W_MAP], j * g[F.W_FULL] + c0 + i), 1, dst + size * i * g[F.L]
                end = first if i < first else n
                while i + run < end and int_at(g[F.W_MAP], j * g[F.W_FULL] + c0 + i + run) == w:
                    run += 1
                if w < 0:
                    splat_row(BITS, to, g[F.FILL], run * g[F.L])
                elif g[F.L] == 1:
                    splat_row(BITS, to, src + size * w, run)
                else:
                    for k in range(run):
                        copy_row(BITS, to + size * k * g[F.L], src + size * w * g[F.L], g[F.L])
                i += run
                if i == first:
                    i = last

    @helper
    def sliding(g, src, c0, cols, dst, idst, add):
        """Reduce the row at `src` along W: whole windows together, those that are cut off one by one."""
        end = c0 + cols
        inner, inner_end = min(max(g[F.INNER], c0), end), max(min(g[F.INNER_END], end), min(max(g[F.INNER], c0), end))
        o = c0
        while o < end:
            row, n, step = g[F.W_LIST] + 8 * F.LIST_FIELDS * o, 1, 1
            w, count = int_at(row, 0), int_at(row, 1)
            if o == inner and inner_end > inner:
                n, step = inner_end - inner, g[F.W_STRIDE]
            to, ito = dst + size * (o - c0), idst + size * (o - c0)
            if count:
                reduce_sliding(BITS, OP, INDICES, to, ito, src + size * w, add + w, step, g[F.DW], count, n)
            else:
                splat_row(BITS, to, g[F.FILL], 1)
                if INDICES:
                    zero_row(BITS, ito, 1)
            o += n

    @helper
    def across(g, scratch, src, isrc, c0, cols, dst, idst, add):
        """Reduce the row at `src` along W to `cols` outputs from c0 on; `isrc`: its indices, if not COLUMNS."""
        lanes = g[F.L]
        if g[F.W_KIND] == F.SLIDING:
            sliding(g, src, c0, cols, dst, idst, add)
        elif g[F.W_KIND] == F.STAGED:
            base, first = scratch, c0 - g[F.W_BEFORE]
            whole = first >= 0 and first + cols + g[F.W_REACH] <= g[F.W]
            if g[F.W_STRIDE] == 1 and g[F.W_STAGES] == 1 and whole:
                base = src + size * first * lanes
            else:
                copied_row(g, scratch, src, c0, cols)
            index = isrc + size * first * lanes if isrc else scratch + g[F.INDEX_AT]
            for s in range(g[F.W_STAGES]):
                row = g[F.W_TABLE] + 8 * F.STAGE_FIELDS * s
                to, ito, n, plus = dst, idst, cols * lanes, add
                if s < g[F.W_STAGES] - 1:
                    to = scratch + size * int_at(row, 0)
                    ito, n, plus = to + g[F.INDEX_AT], n + int_at(row, 3) * lanes, 0
                reduce(to, ito, base, index, int_at(row, 1), int_at(row, 2), plus, n)
        else:
            for c in range(cols):
                listed = g[F.W_LIST] + 8 * F.LIST_FIELDS * (c0 + c)
                first, count, to = int_at(listed, 0), int_at(listed, 1), dst + size * c * lanes
                w = size * first * lanes
                if count == 0:
                    splat_row(BITS, to, g[F.FILL], lanes)
                    if INDICES:
                        zero_row(BITS, idst + size * c * lanes, lanes)
                elif lanes == 1 and not INDICES:
                    reduce_row(BITS, OP, to, src + w, count)
                else:
                    ito = idst + size * c * lanes
                    reduce_pixel(to, ito, src + w, g[F.DW], g[F.W_TAPS], count, add + first, lanes)

    return across


@cache
def down_of(BITS: int, OP: int, INDICES: int) -> tuple[Any, Any, Any]:
    """Return the compiled functions that reduce along H, from a list and by stages, and finish a row."""
    size, reduce = BITS // 8, reduction(BITS, OP, INDICES)

    @helper
    def listed_down(g, scratch, r, base, pitch, n, dst):
        """Reduce along H to n elements of output row r; input row h lies at ``base + h * pitch``."""
        last = scratch + g[F.LAST_AT]
        row = g[F.H_LIST] + 8 * F.LIST_FIELDS * r
        h, count = int_at(row, 0), int_at(row, 1)
        if count:
            src = base + size * h * pitch
            reduce(dst, last, src, src + g[F.INDEX_AT], int_at(row, 4), count, 0, n)
        else:
            splat_row(BITS, dst, g[F.FILL] + size, n)
            if INDICES:
                zero_row(BITS, last, n)

    @helper
    def staged_down(g, scratch, s, i, n, dst):
        """Compute row i of stage s along H, n elements; the last stage goes to `dst`."""
        row, last = g[F.H_TABLE] + 8 * F.STAGE_FIELDS * s, s == g[F.H_STAGES] - 1
        base = scratch + g[F.ROWS_AT] + size * i * g[F.PITCH]
        to = dst if last else base + size * int_at(row, 0)
        ito = scratch + g[F.LAST_AT] if last else to + g[F.INDEX_AT]
        reduce(to, ito, base, base + g[F.INDEX_AT], int_at(row, 1), int_at(row, 2), 0, n)

    @helper
    def finish(g, io, scratch, row, r, c0, n):
        """Divide an output row, or bring its indices where they belong; `row` counts elements of the output."""
        if g[F.DIVIDE] >= 0:
            divisors = g[F.DIVISORS_W] + size * c0 * g[F.L] * g[F.DIVIDE]
            divide_row(BITS, io[F.OUT] + size * row, divisors, g[F.DIVIDE], g[F.DIVISORS_H] + size * r * g[F.DIVIDE], n)
        if INDICES:
            if g[F.WIDE]:
                widen_row(BITS, io[F.INDEX_OUT] + 8 * row, scratch + g[F.LAST_AT], n)
            else:
                copy_row(BITS, io[F.INDEX_OUT] + size * row, scratch + g[F.LAST_AT], n)

    return listed_down, staged_down, finish


@helper
def rows_at(g, p, r0, rows, filled):
    """Return how many rows along W are to be reduced at step p of a block before rows along H are."""
    if g[F.H_WHOLE] or g[F.H_FIRST]:
        return 1
    if g[F.H_KIND] == F.STAGED:
        return g[F.H_PHASES]
    return 0 if g[F.H_DIRECT] else int_at(g[F.H_LIST], F.LIST_FIELDS * (r0 + p) + 3) - filled


@cache
def kernel(BITS: int, OP: int, INDICES: int) -> Any:
    """Return the kernel of an operation; INDICES: also which element won."""
    size, across = BITS // 8, across_of(BITS, OP, INDICES)
    listed_down, staged_down, finish = down_of(BITS, OP, INDICES)

    @njit(fastmath=False)
    def windows(g, io, scratch, lo, hi):
        """Tasks are blocks [plane][row block][column block]; a row is reduced along H once its inputs are."""
        staged, through = g[F.H_KIND] == F.STAGED, g[F.H_WHOLE] or g[F.H_FIRST]
        last, PITCH, W = scratch + g[F.LAST_AT], g[F.PITCH], g[F.W] * g[F.L]
        for t in range(lo, hi):
            c0 = t % g[F.COLUMN_BLOCKS] * g[F.CB]
            r0 = t // g[F.COLUMN_BLOCKS] % g[F.ROW_BLOCKS] * g[F.RB]
            plane = t // (g[F.COLUMN_BLOCKS] * g[F.ROW_BLOCKS])
            rows, cols = min(g[F.RB], g[F.OH] - r0), min(g[F.CB], g[F.OW] - c0)
            n, x = cols * g[F.L], io[F.X] + size * plane * g[F.H] * W
            out = plane * g[F.OUT_PLANE] + (r0 * g[F.OW] + c0) * g[F.L]
            start = 0 if staged else int_at(g[F.H_LIST], F.LIST_FIELDS * r0 + 2)
            filled, w0, w1, between = start, 0, 0, 0
            if g[F.H_FIRST]:
                w0 = int_at(g[F.W_LIST], F.LIST_FIELDS * c0 + 2) * g[F.L]
                w1 = int_at(g[F.W_LIST], F.LIST_FIELDS * (c0 + cols - 1) + 3) * g[F.L]
                between = scratch + g[F.ROWS_AT]
                if g[F.W_KIND] == F.STAGED and g[F.W_STRIDE] == 1:
                    # Where the row would be copied to.
                    between = scratch + size * (w0 - (c0 - g[F.W_BEFORE]) * g[F.L])
            if INDICES and g[F.W_KIND] == F.STAGED:
                for j in range(g[F.W_PHASES]):
                    columns = g[F.COLUMNS] + size * (j * g[F.W_FULL] + c0) * g[F.L]
                    copy_row(BITS, scratch + g[F.INDEX_AT] + size * j * g[F.AREA], columns, n + g[F.W_REACH] * g[F.L])
            for p in range(rows + g[F.H_REACH]):
                row = out + p * g[F.OW] * g[F.L]
                for j in range(rows_at(g, p, r0, rows, filled)):
                    h, slot = r0 + p, 0
                    dst, idst = io[F.OUT] + size * row, last
                    if not through:
                        h, slot = filled, filled - start
                        if staged:
                            h = int_at(g[F.H_MAP], j * g[F.H_FULL] + r0 + p)
                            slot = j * (g[F.RB] + g[F.H_REACH]) + p
                        filled += 1
                        dst = scratch + g[F.ROWS_AT] + size * slot * PITCH
                        idst = dst + g[F.INDEX_AT]
                    src, isrc = x + size * h * W, 0
                    if io[F.INDEX]:
                        isrc = io[F.INDEX] + size * (plane * g[F.H] + h) * W
                    if g[F.H_FIRST]:
                        listed_down(g, scratch, h, x + size * w0, W, w1 - w0, between)
                        # Columns are counted from the start of a row that is not there.
                        src = between - size * w0
                    if h < 0:
                        splat_row(BITS, dst, g[F.FILL] + size, n)
                    else:
                        across(g, scratch, src, isrc, c0, cols, dst, idst, h * g[F.ROW_ELEMENTS])
                for s in range(g[F.H_STAGES]):
                    table = g[F.H_TABLE] + 8 * F.STAGE_FIELDS * s
                    i = p - int_at(table, 4)
                    if 0 <= i < rows + int_at(table, 3):
                        row = out + i * g[F.OW] * g[F.L]
                        staged_down(g, scratch, s, i, n, io[F.OUT] + size * row)
                        if s == g[F.H_STAGES] - 1:
                            finish(g, io, scratch, row, r0 + i, c0, n)
                if not staged:
                    if g[F.H_DIRECT] and not g[F.H_FIRST]:
                        base = x + size * c0 * g[F.L]
                        listed_down(g, scratch, r0 + p, base, W, n, io[F.OUT] + size * row)
                    elif not through:
                        base = scratch + g[F.ROWS_AT] - size * start * PITCH
                        listed_down(g, scratch, r0 + p, base, PITCH, n, io[F.OUT] + size * row)
                    finish(g, io, scratch, row, r0 + p, c0, n)

    return windows
