"""Cutting a depthwise or a separable convolution in blocks of one channel (or one vector of channels)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from fastconv.dispatch.blocking import BYTES_PER_CYCLE, ROW_COPY, ROW_END, TILE_END, ceil_div, phases
from fastconv.geometry.conv import ConvGeometry

# Pixels of channels_last per register tile.
PIXELS = 4


class DepthwiseBlocking(NamedTuple):
    """Tile sizes; R output rows (channels_last: pixels) of NV vectors; `cycles` is the model's time on one thread.

    MIDDLE is the row pitch of a separable kernel's buffer between its two passes.
    """

    R: int
    NV: int
    VL: int
    RB: int
    CB: int
    ROW_BLOCKS: int
    COLUMN_BLOCKS: int
    IMAGES: int
    TILES: int
    ROWS: int
    P: int
    ROW_PHASES: int
    COLUMN_PHASES: int
    MIDDLE: int
    strip_elements: int
    scratch_bytes: int
    tasks: int
    cycles: float


def depthwise_blocking(g: ConvGeometry, target: Any, separable: bool) -> DepthwiseBlocking:
    """Return the cheapest blocking of a depthwise convolution, in two 1-D passes if `separable`."""
    return min(_candidates(g, target, separable), key=lambda b: b.cycles)


def _candidates(g: ConvGeometry, target: Any, separable: bool) -> Iterator[DepthwiseBlocking]:
    first = g.layout == "channels_first"
    tiles = target.row_tiles if first else ((PIXELS, 2), (PIXELS, 1))
    for R, NV in tiles:
        # Rows share their loads only where neighbouring output rows read neighbouring input rows.
        if first and R > 1 and (g.SH > 1 or R > g.KH):
            continue
        for CB in {ceil_div(g.OW, max(1, g.OW // width)) for width in (g.OW, 256, 128)}:
            for RB in sorted({min(g.OH, rows) for rows in (4, 8, 16, 32, 64)}):
                yield _blocking(g, target, separable, (R, NV), (RB, CB))


def _blocking(g: ConvGeometry, target: Any, separable: bool, tile: Any, block: Any) -> DepthwiseBlocking:
    (R, NV), (RB, CB), size = tile, block, int(g.dtype[5:]) // 8
    first, VL = g.layout == "channels_first", target.lanes(8 * size)
    NR = NV * VL
    # A tile of R rows that reaches below the block reads, and never stores, up to R - 1 rows more.
    spare = (R - 1) * g.DH if first else 0
    ROWS, P = RB + (g.KH - 1) * g.DH // g.SH + spare, CB + (g.KW - 1) * g.DW // g.SW
    RP, CP = phases(g.SH, g.DH, g.KH), phases(g.SW, g.DW, g.KW)
    lanes = 1 if first else NR
    # A vector that starts at the last pixel reads on by a tile.
    slack = max(NR, 8 * VL) if first else PIXELS * NR
    strip = ROWS * P * RP * CP * lanes + slack
    MIDDLE = (CB + NR if first else CB + PIXELS) if separable else 0
    middle = (RP * ROWS * MIDDLE * lanes + slack) if separable else 0
    C = R * NR
    scratch = sum(-(-n * size // 64) * 64 for n in (strip, middle, C))
    TILES = g.IC if first else ceil_div(g.OC, NR)
    ROW_BLOCKS, COLUMN_BLOCKS = ceil_div(g.OH, RB), ceil_div(g.OW, CB)
    tasks = g.N * TILES * ROW_BLOCKS * COLUMN_BLOCKS
    cycles = tasks * _task_cycles(g, target, separable, size, tile, block, (ROWS, P, RP, CP))
    fields = (R, NV, VL, RB, CB, ROW_BLOCKS, COLUMN_BLOCKS, g.N, TILES, ROWS, P, RP, CP, MIDDLE)
    return DepthwiseBlocking(*fields, strip, scratch, tasks, cycles)


def _task_cycles(g, target, separable, size, tile, block, strip) -> float:
    """Cycles of one block of one channel (channels_last: of one tile of channels)."""
    (R, NV), (RB, CB), (ROWS, P, RP, CP), VL = tile, block, strip, target.lanes(8 * size)
    first, fma = g.layout == "channels_first", 1 if target.fma else 2
    load = 2.0 if target.vector_bytes == 64 else 1.5
    rows = RP * CP * ROWS
    if not first:
        NR = NV * VL
        calls, ends = RB * ceil_div(CB, R), TILE_END + ROW_END * (R if g.OC % NR or CB % R else 0)
        tap = (R * NV + NV + 1) / 2 * fma
        taps = g.KH + g.KW * ROWS / RB if separable else g.KH * g.KW
        packing = rows * P * (NR * size / BYTES_PER_CYCLE + ROW_COPY)
        return calls * (taps * tap + ends) + packing
    packing = rows * (P * size / BYTES_PER_CYCLE + ROW_COPY)
    if separable:
        wide = RP * ROWS * ceil_div(CB, 8 * VL) * (g.KW * 8 * load / 2 * fma + TILE_END)
        return packing + wide + _slide_cycles(g.KH, 1, R, NV, VL, load, fma, RB, CB, CB)
    return packing + g.OC // g.IC * _slide_cycles(g.KH, g.KW, R, NV, VL, load, fma, RB, CB, P)


def _slide_cycles(KH, KW, R, NV, VL, load, fma, RB, CB, P) -> float:
    """Cycles of all register tiles of a block of RB x CB outputs; one row at a time runs on over the row pitch."""
    NR = NV * VL
    if R == 1:
        calls, ragged = ceil_div((RB - 1) * P + CB, NR), ceil_div((RB - 1) * P + CB, NR) if P > CB else 1
        work = KH * KW * max(NV / 2 * fma, (NV * load + 1) / 2)
        return calls * (work + TILE_END + 2 * NV) + (ragged * (1 + NR / P) * ROW_END)
    calls = ceil_div(RB, R) * ceil_div(CB, NR)
    whole = CB >= NR and RB >= R
    full = (KH - R + 1) * KW * max(max(R * NV, 8) / 2 * fma, (NV * load + R) / 2)
    edge = R * (R - 1) * KW * max(NV, 4) / 2 * fma + 2 * (R - 1) * 10
    return calls * (full + edge + TILE_END + 2 * NV * R + (0 if whole else R * ROW_END))
