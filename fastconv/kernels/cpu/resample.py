"""Resampling of one to three axes as weighted sums of rows, whatever the mode: its weights come as tables.

An array is (planes, H, W, lanes); H holds all axes but the last, since weights of depth and height multiply. Sums are
of whole rows: along H of rows of the image, along W of its columns. With many lanes (channels_last) a column is a run
of memory. With few, VL rows are turned into columns of VL, summed, and turned back, a chunk of columns at a time in L1.

A task is a block of output rows of a plane, or whole planes if they are small. Where H grows, the rows a block sees are
first resampled along W, into scratch (each once, unlike the output rows between them), then summed along H into the
output; where it shrinks, rows are summed first. `VERTICAL` says which. uint8 is made int32 as rows are first read, and
back as they are stored.

Sums of each output have one order and one rounding, so blocks and tasks change no bit.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from fastconv._jit import inline, njit
from fastconv.kernels.cpu import target as targets
from fastconv.kernels.cpu.element_ops import copy_bytes, store_at
from fastconv.kernels.cpu.program import Program, address, aligned
from fastconv.kernels.cpu.resample_ops import blend_rows, narrow_row, rows_to_columns, widen_row
from fastconv.kernels.cpu.row_ops import int_at, transpose

# Values of VERTICAL.
ORDERS = ("never", "before", "after")
NEVER, BEFORE, AFTER = range(3)

# The fields of g. Rows have ROW_IN and ROW_OUT elements; GROUP planes in a task, or BLOCKS tasks in a plane; blocks of
# rows are in ROW_BLOCKS; blocks of columns, COLUMN_BLOCKS of them or 0 with many lanes, in COLUMNS; SLOT_ROWS says
# which rows a block sees. H_PASS, W_PASS: addresses of the tables of the passes. PITCH, TO: elements from row to row of
# what is resampled along W, and the address of a table of VL such steps. The others are byte offsets in the scratch.
NAMES = (
    *("PLANES", "H", "OH", "OW", "LANES", "ROW_IN", "ROW_OUT", "GROUP", "BLOCKS", "VERTICAL", "ROW_BLOCKS"),
    *("SLOT_ROWS", "COLUMN_BLOCKS", "COLUMNS", "H_PASS", "W_PASS", "PITCH", "TO"),
    *("OFFSETS_AT", "SUMS_AT", "COLUMNS_AT", "TILE_AT", "LINE_AT"),
)
# fmt: off
(
    PLANES, H, OH, OW, LANES, ROW_IN, ROW_OUT, GROUP, BLOCKS, VERTICAL, ROW_BLOCKS,
    SLOT_ROWS, COLUMN_BLOCKS, COLUMNS, H_PASS, W_PASS, PITCH, TO,
    OFFSETS_AT, SUMS_AT, COLUMNS_AT, TILE_AT, LINE_AT,
) = range(len(NAMES))
# fmt: on

# The fields of a block of rows: its output rows [O0, O1), and its SLOTS, in SLOT_ROWS from SLOT on.
O0, O1, SLOT, SLOTS = range(4)


def build(bits: int, blocking: Any) -> Program:
    """Return the program of a `Blocking` of dispatch/blocking_resample.py; io = (x, out)."""
    VL, size = targets.current().lanes(bits), bits // 8
    slots = int(blocking.row_blocks[:, SLOTS].max()) * blocking.GROUP
    slots = -(-slots // VL) * VL
    turned = len(blocking.columns) > 0
    pitch = -(-blocking.ROW_OUT // VL) * VL if turned else blocking.ROW_OUT
    widest = int((blocking.columns[:, 3] - blocking.columns[:, 2]).max()) if turned else 0
    copied = blocking.order == "before" or bits == 33
    sizes = [slots * pitch * size, slots * 8, slots * blocking.ROW_IN * size * copied]
    sizes += [max(widest, VL) * VL * size, VL * VL * size] if turned else [0, 0]
    sizes += [blocking.ROW_OUT * size * (bits == 33)]
    _, offsets, sums, columns, tile, line, total = np.cumsum([0, *map(aligned, sizes)]).tolist()
    passes = [_fields(each) for each in (blocking.vertical, blocking.horizontal)]
    tables = [blocking.row_blocks, blocking.slot_rows, blocking.columns, *passes, np.arange(VL) * pitch]
    tables = [np.ascontiguousarray(each, np.int64) for each in tables]
    numbers = {name: getattr(blocking, name) for name in NAMES if name in blocking._fields}
    numbers |= dict(
        zip(("ROW_BLOCKS", "SLOT_ROWS", "COLUMNS", "H_PASS", "W_PASS", "TO"), map(address, tables), strict=True)
    )
    numbers |= {"BLOCKS": len(blocking.row_blocks), "COLUMN_BLOCKS": len(blocking.columns), "PITCH": pitch}
    numbers |= {"VERTICAL": ORDERS.index(blocking.order), "OFFSETS_AT": offsets, "SUMS_AT": sums}
    numbers |= {"COLUMNS_AT": columns, "TILE_AT": tile, "LINE_AT": line}
    tasks = -(-blocking.PLANES // blocking.GROUP) * len(blocking.row_blocks)
    g = np.array([numbers[name] for name in NAMES], np.int64)
    return Program(_kernel(bits), g, tasks, total, (), [*tables, *blocking.vertical[:3], *blocking.horizontal[:3]])


def _fields(taps: Any) -> np.ndarray:
    """Return the table of a pass, with the addresses of arrays that the program keeps alive."""
    return np.array([*map(address, taps[:3]), *taps[3:]], np.int64)


@inline
def row_of(g, plane, block, slots, slot):
    """Return the number of the input row that a slot of the planes from `plane` on holds."""
    return (plane + slot // slots) * g[H] + int_at(g[SLOT_ROWS], int_at(block, SLOT) + slot % slots)


@inline
def sum_before(BITS, sums, x, g, plane, planes, o0, rows):
    """Sum the rows of an output block along H."""
    size, ROW_I = BITS // 8, g[ROW_IN]
    for p in range(planes):
        image = x + size * (plane + p) * g[H] * ROW_I
        blend_rows(BITS, sums + size * p * rows * ROW_I, ROW_I, image, ROW_I, g[H_PASS], o0, rows, ROW_I)


@inline
def resample_turned(BITS, VL, dst, src, offsets, g, scratch, count):
    """Resample `count` rows along W, VL at a time turned into columns."""
    size = BITS // 8
    columns, tile = scratch + g[COLUMNS_AT], scratch + g[TILE_AT]
    for q in range(0, count, VL):
        to = dst + size * q * g[PITCH]
        for i in range(g[COLUMN_BLOCKS]):
            block = g[COLUMNS] + 32 * i
            first, end = int_at(block, 2), int_at(block, 3)
            rows_to_columns(BITS, columns, src + size * first, offsets + 8 * q, end - first)
            origin = columns - size * first * VL
            for c in range(int_at(block, 0), int_at(block, 1), VL):
                n = min(VL, int_at(block, 1) - c)
                blend_rows(BITS, tile, VL, origin, VL, g[W_PASS], c, n, VL)
                transpose(BITS, to + size * c, g[TO], tile, VL)


@inline
def store_rows(BITS, out, src, g, scratch, o0, rows):
    """Write output rows from o0 on of a plane: sums of rows resampled along W, or those rows."""
    size, ROW_O, pitch, line = BITS // 8, g[ROW_OUT], g[PITCH], scratch + g[LINE_AT]
    if g[VERTICAL] == AFTER and BITS != 33:
        blend_rows(BITS, out, ROW_O, src, pitch, g[H_PASS], o0, rows, ROW_O)
        return
    for r in range(rows):
        if BITS != 33:
            copy_bytes(out + size * r * ROW_O, src + size * r * pitch, size * ROW_O)
        elif g[VERTICAL] == AFTER:
            blend_rows(BITS, line, ROW_O, src, pitch, g[H_PASS], o0 + r, 1, ROW_O)
            narrow_row(out + r * ROW_O, line, ROW_O)
        else:
            narrow_row(out + r * ROW_O, src + size * r * pitch, ROW_O)


@cache
def _kernel(BITS: int) -> Any:
    # The only integers of 32 bits are uint8 on their way.
    size, outer, VL = BITS // 8, 1 if BITS == 33 else BITS // 8, targets.current().lanes(BITS)

    @njit(fastmath=False)
    def resample(g, io, scratch, lo, hi):
        """Tasks are blocks of rows of a plane, or groups of planes."""
        ROW_I, ROW_O, pitch = g[ROW_IN], g[ROW_OUT], g[PITCH]
        sums, offsets = scratch + g[SUMS_AT], scratch + g[OFFSETS_AT]
        for task in range(lo, hi):
            plane, block = task // g[BLOCKS] * g[GROUP], g[ROW_BLOCKS] + 32 * (task % g[BLOCKS])
            planes, o0 = min(g[GROUP], g[PLANES] - plane), int_at(block, O0)
            rows, slots = int_at(block, O1) - o0, int_at(block, SLOTS)
            count, src = planes * slots, io[0]
            if g[VERTICAL] == BEFORE:
                sum_before(BITS, sums, src, g, plane, planes, o0, rows)
            for slot in range(-(-count // VL) * VL):
                # A last group of VL rows is filled with the last of them.
                s = min(slot, count - 1)
                row = s if g[VERTICAL] == BEFORE else row_of(g, plane, block, slots, s)
                if BITS == 33:
                    widen_row(sums + size * s * ROW_I, src + row * ROW_I, ROW_I)
                    row = s
                store_at(65, offsets, slot, row * ROW_I)
            if g[VERTICAL] == BEFORE or BITS == 33:
                src = sums
            if g[COLUMN_BLOCKS]:
                resample_turned(BITS, VL, scratch, src, offsets, g, scratch, count)
            else:
                # Straight into the output if nothing is left to be done there.
                straight, lanes = BITS != 33 and g[VERTICAL] != AFTER, g[LANES]
                for q in range(count):
                    row, to = src + size * int_at(offsets, q), scratch + size * q * pitch
                    if straight:
                        to = io[1] + size * ((plane + q // slots) * g[OH] + o0 + q % slots) * ROW_O
                    blend_rows(BITS, to, lanes, row, lanes, g[W_PASS], 0, g[OW], lanes)
                if straight:
                    continue
            for p in range(planes):
                out = io[1] + outer * ((plane + p) * g[OH] + o0) * ROW_O
                store_rows(BITS, out, scratch + size * p * slots * pitch, g, scratch, o0, rows)

    return resample
