"""Cutting the gradient of a weight for the matrix unit: 32 x 32 blocks of a tap, bands of pixels as k."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

from fastconv.dispatch import workspace
from fastconv.dispatch.blocking import (
    BIG,
    MIN_TASKS,
    ROW_COPY,
    TRANSPOSE,
    ceil_div,
    phases,
    spread,
)
from fastconv.dispatch.blocking_bf16x3 import BLOCK, COPY, PLANE, SPLIT, STEP, SUMS, UNALIGNED
from fastconv.dispatch.blocking_gradient import bands, is_alike
from fastconv.geometry.conv import ConvGeometry

# Input channels of a task at most, by taps, and tiles of output channels: their sums should stay in L2.
FILTER, TILES_AT_ONCE = 1152, 4
# Cycles to split and interleave two pixels of a tile of output channels.
PAIR = 50.0
VL = 16


class UnitBlocking(NamedTuple):
    """How the gradient of a weight is computed on the matrix unit; `cycles` is the model's time on one thread."""

    ICP: int
    PASSES: int
    RB: int
    CB: int
    ROW_BLOCKS: int
    COLUMN_BLOCKS: int
    TILES: int
    PARTS: int
    PART_TILES: int
    NR: int
    ROWS: int
    P: int
    SPILL: int
    ROW_PHASES: int
    COLUMN_PHASES: int
    PLANE: int
    STEP: int
    STEPS: int
    T_PITCH: int
    T_AT: int
    LOW: int
    IMAGE_BYTES: int
    C_AT: int
    TEMPORARY_AT: int
    IMAGES: int
    BANDS: int
    CHUNKS: int
    AREA: int
    BIAS_AT: int
    scratch_bytes: int
    sums: int
    tasks: int
    finish_tasks: int
    cycles: float


def unit_blocking(g: ConvGeometry, target: Any) -> UnitBlocking | None:
    """Return the cheapest blocking that keeps the limit of scratch.

    None: no such one, no unit, other elements, or lanes that are channels of both arrays.
    """
    if not target.matrix_unit or g.dtype != "float32" or is_alike(g.planar):
        return None
    return _cheapest(g.planar)


@lru_cache(maxsize=64)
def _cheapest(g: ConvGeometry) -> UnitBlocking | None:
    cuts = (_blocking(g, *band) for band in bands(g))
    kept = (b for b in cuts if workspace.refusal(b.scratch_bytes) is None)
    return min(kept, key=lambda b: b.cycles, default=None)


workspace.on_change(_cheapest.cache_clear)


def _blocking(g: ConvGeometry, IMAGES: int, RB: int, CB: int) -> UnitBlocking:
    taps, TILES, ICG = g.KH * g.KW, ceil_div(g.OCG, BLOCK), max(g.ICG, 1)
    ICP = min(ceil_div(ICG, BLOCK), max(1, FILTER // taps // BLOCK)) * BLOCK
    PASSES, PART_TILES = ceil_div(ICG, ICP), min(TILES, TILES_AT_ONCE)
    PARTS = ceil_div(TILES, PART_TILES)
    ROWS, P = RB + (g.KH - 1) * g.DH // g.SH, CB + (g.KW - 1) * g.DW // g.SW
    RP, CP = phases(g.SH, g.DH, g.KH), phases(g.SW, g.DW, g.KW)
    pixels, STEPS = RP * CP * ROWS * P, ceil_div((RB - 1) * P + CB, BLOCK)
    # The last tap reads whole steps, too; planes begin at cache lines, but not all in the same sets.
    last = ((RP - 1) * CP + CP - 1) * ROWS * P + (g.KH - 1) * g.DH // g.SH * P + (g.KW - 1) * g.DW // g.SW
    PLANES = spread(max(pixels, last + BLOCK * STEPS), 2)
    LOW = 2 * ICP * PLANES + 64
    first = g.layout == "channels_first"
    lanes = min(ICP, ICG)
    pitch, STEP_LANES = ceil_div(pixels, VL) * VL + VL, spread(lanes, 4) if lanes > 64 else lanes
    T_AT = 0 if first else ceil_div(4 * ((pixels + VL + 1) * STEP_LANES + VL), 64) * 64
    temporary = max(4 * (PLANES + 2 * VL), 8 * BLOCK * (STEPS + 1) * BLOCK) if first else T_AT + 4 * VL * pitch
    C_AT = ceil_div(IMAGES * 2 * LOW, 64) * 64 + 64
    TEMPORARY_AT = C_AT + IMAGES * STEPS * 4 * BLOCK * BLOCK
    ROW_BLOCKS, COLUMN_BLOCKS = ceil_div(g.OH, RB), ceil_div(g.OW, CB)
    BANDS = ceil_div(max(g.N, 1), IMAGES) * ROW_BLOCKS * COLUMN_BLOCKS
    BIAS_AT = ICP // BLOCK * taps * BLOCK * BLOCK
    blocks, finish, CHUNKS = g.G * PASSES * PARTS, g.G * PASSES * TILES, 1
    if g.macs > BIG * VL and blocks < MIN_TASKS:
        CHUNKS = max(1, min(BANDS, ceil_div(MIN_TASKS, blocks)))
    AREA = BIAS_AT + BLOCK * BLOCK
    # Rows of pixels are not aligned under most taps.
    step = STEP[3] * (UNALIGNED if taps > 1 else 1.0)
    runs = finish * ceil_div(lanes, BLOCK) * taps
    cycles = BANDS * runs * (IMAGES * STEPS * step + SUMS)
    cycles += BANDS * blocks * IMAGES * lanes * (pixels * (COPY + SPLIT + (0 if first else TRANSPOSE)) + PLANE)
    # Rows of pixels with all channels are copied whole.
    copies = lanes if first else 1 if g.SW == 1 and STEP_LANES == g.IC else P
    cycles += BANDS * blocks * IMAGES * RP * CP * ROWS * copies * ROW_COPY
    cycles += BANDS * finish * IMAGES * (STEPS * (VL * PAIR if not first else BLOCK * BLOCK * (SPLIT + TRANSPOSE)))
    cycles += finish * AREA * (1.0 + 0.3 * CHUNKS)
    return UnitBlocking(
        *(ICP, PASSES, RB, CB, ROW_BLOCKS, COLUMN_BLOCKS, TILES, PARTS, PART_TILES, BLOCK, ROWS, P, 0, RP, CP),
        *(PLANES, STEP_LANES, STEPS, pitch, T_AT, LOW, 2 * LOW, C_AT, TEMPORARY_AT, IMAGES, BANDS, CHUNKS, AREA),
        *(BIAS_AT, TEMPORARY_AT + temporary + 256, CHUNKS * finish * AREA, CHUNKS * blocks, finish, cycles),
    )
