"""Programs of the matrix unit: tables, and the packing of the weight in high and low parts."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from fastconv._jit import njit
from fastconv.kernels.cpu import fields as F
from fastconv.kernels.cpu.bf16_ops import split_gathered, split_row, turn_tile
from fastconv.kernels.cpu.conv_bf16x3 import unit_kernel
from fastconv.kernels.cpu.conv_gemm import tap_at
from fastconv.kernels.cpu.epilogue import epilogue_fields
from fastconv.kernels.cpu.matrix_unit import (
    BLOCK,
    DEPTH,
    PALETTE,
    TILE_BYTES,
    WEIGHT_BYTES,
    WEIGHT_COLUMNS,
    WEIGHT_ROWS,
)
from fastconv.kernels.cpu.program import (
    Packer,
    Program,
    Region,
    address,
    blocking_fields,
    problem_fields,
    table,
)
from fastconv.kernels.cpu.row_ops import zero_row

# Fields of a packer: output channels a group, columns and tiles of the weight, steps of k, address of the index, and
# whether that is the order of the columns themselves.
OCG, K_ALL, TILES, STEPS, INDEX, PLAIN = range(6)


@cache
def pack_kernel(ROLE):
    """Return `pack(p, io, scratch, lo, hi)`: weight (G*OCG, K) to blocks [G*tiles][step][high, low][half][16][32]."""

    @njit()
    def pack_unit(p, io, scratch, lo, hi):
        for t in range(lo, hi):
            first = t % p[TILES] * BLOCK
            rows = min(BLOCK, p[OCG] - first)
            panel = io[1] + t * p[STEPS] * WEIGHT_BYTES
            source = io[0] + 4 * (t // p[TILES] * p[OCG] + first) * p[K_ALL]
            # The rows of a step lie together: they are written one after the other, both halves.
            for step in range(p[STEPS]):
                k, to = DEPTH * step, panel + step * WEIGHT_BYTES
                left = min(DEPTH, p[K_ALL] - k)
                for i in range(BLOCK):
                    row = source + 4 * i * p[K_ALL]
                    if i >= rows:
                        zero_row(32, to, 16)
                        zero_row(32, to + 2 * TILE_BYTES, 16)
                    elif p[PLAIN]:
                        split_row(to, to + 2 * TILE_BYTES, row + 4 * k, left, DEPTH)
                    else:
                        split_gathered(to, to + 2 * TILE_BYTES, row, p[INDEX] + 4 * k)
                    to += 64
            if ROLE == WEIGHT_COLUMNS:
                for tile in range(4 * p[STEPS]):
                    turn_tile(panel + tile * TILE_BYTES)

    return pack_unit


def program(geometry: Any, activation: str | None, b: Any) -> Program:
    """Return the program of a blocking of dispatch/blocking_bf16x3.py."""
    flat = geometry.flat
    role = WEIGHT_ROWS if geometry.layout == "channels_first" else WEIGHT_COLUMNS
    values = problem_fields(flat) | blocking_fields(b) | epilogue_fields(activation, geometry.dtype)
    KD, planar = flat.KD, flat.planar
    passes, steps, index, tables = _tables(planar, b, KD, role)
    pixel = values["OUT_PLANE"] if role == WEIGHT_ROWS else geometry.OC
    values |= {"M": 1, "PASS_TABLE": address(passes), "PANEL": steps, "PALETTE": address(PALETTE)}
    values |= {"OUT_PIXEL": 1 if role == WEIGHT_ROWS else geometry.OC, "OUT_ROW": pixel}
    K = planar.ICG * planar.KH * planar.KW
    tasks = planar.G * b.TILES
    p = table((planar.OCG, K, b.TILES, steps, address(index), _is_plain(index, K)))
    packer = Packer(pack_kernel(role), p, tasks, tasks * steps * WEIGHT_BYTES // 4, (index,))
    blocks = b.tasks // b.PARTS
    return Program(
        unit_kernel(role, bool(b.COLUMNS)),
        F.pack(values),
        b.tasks,
        b.scratch_bytes,
        (packer,),
        [passes, *tables],
        flags=blocks,
        regions=lambda block: regions(flat, b, block),
        geometry=flat,
    )


def _is_plain(index: np.ndarray, K: int) -> bool:
    """Return whether all steps together are the K columns of the weight in their order."""
    places = index.ravel()
    return bool((places[:K] == np.arange(K)).all() and (places[K:] < 0).all())


def _tables(g: Any, b: Any, KD: int, role: int) -> tuple[np.ndarray, int, np.ndarray, list[np.ndarray]]:
    """Return the table of passes, the steps of k in all, the weight column of each k of each step, other tables."""
    rows, tables, columns, done = [], [], [], 0
    for p in range(b.PASSES):
        first = p * b.ICP
        channels = np.arange(first, min(first + b.ICP, g.ICG))
        column = _columns(g, b, KD, role, channels)
        offsets = _offsets(g, b, role, len(column))
        rows.append((len(column), 0, address(offsets), done, 0, 0))
        done += len(column)
        tables.append(offsets)
        columns.append(column)
    index = np.ascontiguousarray(np.concatenate(columns), np.int32)
    return table(x for row in rows for x in row), done, index, tables


def _columns(g: Any, b: Any, KD: int, role: int, channels: np.ndarray) -> np.ndarray:
    """Return (steps, 32): which column (ic, kd, tap) of the weight is multiplied in each place, -1 for none."""
    taps = np.arange(g.KH * g.KW)
    if role == WEIGHT_COLUMNS:
        # Channels come in the order (kd, ic).
        ICT = g.ICG // KD
        channels = channels % ICT * KD + channels // ICT
    place = channels * len(taps)
    if b.COLUMNS:
        # Columns are those of the weight.
        rows = (place[:, None] + taps).reshape(1, -1)
    elif b.RUN:
        # Each row of the kernel: the channels of one pixel after those of another.
        rows = (place + taps[:, None]).reshape(g.KH, -1)
    if b.COLUMNS or b.RUN:
        return np.pad(rows, ((0, 0), (0, -rows.shape[1] % DEPTH)), constant_values=-1).reshape(-1, DEPTH)
    filled = np.pad(place, (0, -len(place) % DEPTH), constant_values=-1)
    return np.where(filled >= 0, filled + taps[:, None], -1).reshape(-1, DEPTH)


def _offsets(g: Any, b: Any, role: int, steps: int) -> np.ndarray:
    """Return where in the strip each step begins, in bytes."""
    one = 64 * b.PLANE if role == WEIGHT_ROWS else 2 * DEPTH
    if b.COLUMNS:
        return np.arange(steps, dtype=np.int64) * one
    if b.RUN:
        rows = [tap_at(g, b, kh, 0) * b.PIXEL for kh in range(g.KH)]
        along = np.arange(steps // g.KH, dtype=np.int64) * one
        return (np.array(rows, np.int64)[:, None] + along).ravel()
    taps = [tap_at(g, b, kh, kw) * b.PIXEL for kh in range(g.KH) for kw in range(g.KW)]
    per_tap = np.arange(steps // len(taps), dtype=np.int64) * one
    return (np.array(taps, np.int64)[:, None] + per_tap).ravel()


def regions(g: Any, b: Any, block: int) -> list[Region]:
    """Return the parts of the output that a block computes."""
    if b.COLUMNS:
        first = block % b.COLUMN_BLOCKS * b.CB
        return _runs(g, first, min(first + b.CB, g.N * g.OD * g.OH * g.OW))
    column = block % b.COLUMN_BLOCKS * b.CB
    row = block // b.COLUMN_BLOCKS % b.ROW_BLOCKS * b.RB
    image = block // (b.COLUMN_BLOCKS * b.ROW_BLOCKS * g.G)
    return [Region(image, row, min(b.RB, g.OH - row), column, min(b.CB, g.OW - column))]


def _runs(g: Any, first: int, end: int) -> list[Region]:
    """Return the rows and parts of rows of a run of output pixels, counted over the batch."""
    found = []
    while first < end:
        row, column = divmod(first, g.OW)
        columns = min(g.OW - column, end - first)
        found.append(Region(row // g.OH, row % g.OH, 1, column, columns))
        first += columns
    return found
