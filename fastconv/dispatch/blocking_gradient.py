"""Cutting the gradient of a weight in blocks of channels, bands of pixels and chunks of the batch."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

from fastconv.dispatch.blocking import (
    BIG,
    MIN_TASKS,
    ROW_COPY,
    TRANSPOSE,
    TRANSPOSE_SCALAR,
    ceil_div,
    element_bits,
    multiply_adds,
    phases,
    spread,
)
from fastconv.geometry.conv import ConvGeometry

# Elements of a filter, and lanes of output channels, that a task has at most, as its sums should stay in L2.
FILTER, LANES = 576, 128
# Pixels of a band: fewer pay too much for loading and storing sums, more leave L1.
PIXELS = (64, 512)
# Cycles: end of a register tile beside its loads and stores, to copy an element of input or gradient, to start a pixel.
TILE_END, COPY, PIXEL_COPY = 20.0, 0.25, 3.0


class GradientBlocking(NamedTuple):
    """How the gradient of a weight is computed; `cycles` is the model's time on one thread. Fields as in fields.py."""

    MR: int
    NV: int
    VL: int
    NR: int
    ALIKE: int
    ICP: int
    PASSES: int
    RB: int
    CB: int
    ROW_BLOCKS: int
    COLUMN_BLOCKS: int
    TILES: int
    PARTS: int
    PART_TILES: int
    ROWS: int
    P: int
    SPILL: int
    ROW_PHASES: int
    COLUMN_PHASES: int
    STEP: int
    PLANE: int
    T_PITCH: int
    IMAGES: int
    BANDS: int
    CHUNKS: int
    AREA: int
    strip_bytes: int
    scratch_bytes: int
    sums: int
    tasks: int
    finish_tasks: int
    cycles: float


@lru_cache(maxsize=64)
def gradient_blocking(g: ConvGeometry, target: Any) -> GradientBlocking:
    """Return the cheapest blocking of a problem that is `g.flat.planar` where that is possible."""
    cuts = (_blocking(g, target, tile, *cut) for tile in target.gradient_tiles for cut in _bands(g))
    return min(cuts, key=lambda b: b.cycles)


def is_alike(g: ConvGeometry) -> bool:
    """Return whether the convolution is depthwise, with the depth in one plane."""
    return g.G == g.IC > 1 and g.KD == g.OD == g.D == 1 and (g.OC == g.IC or g.layout == "channels_last")


def _bands(g: ConvGeometry) -> Iterator[tuple[int, int, int]]:
    """Yield (images, rows, columns) of a band."""
    least, most = PIXELS
    columns = {ceil_div(g.OW, max(1, ceil_div(g.OW, limit))) for limit in (most, least * 2)}
    for CB in sorted(columns):
        for RB in sorted({min(g.OH, rows) for rows in (1, 2, 4, 7, 8, 14, 16, 28, 32)}):
            if RB * CB <= most or RB == 1:
                yield 1, RB, CB
    pixels, images = g.OH * g.OW, g.N * g.OD
    if pixels < most:
        yield from ((n, g.OH, g.OW) for n in {min(images, max(1, limit // pixels)) for limit in (2 * least, most)})


def _blocking(
    g: ConvGeometry, target: Any, tile: tuple[int, int], IMAGES: int, RB: int, CB: int
) -> GradientBlocking:
    size, (MR, NV) = element_bits(g) // 8, tile
    VL, taps, ALIKE = target.lanes(8 * size), g.KH * g.KW, is_alike(g)
    NR, ICG, OCG = NV * VL, (1 if ALIKE else g.ICG * g.KD), (g.OC if ALIKE else g.OCG)
    TILES = ceil_div(OCG, NR)
    PART_TILES = 1 if ALIKE else min(TILES, max(1, LANES // NR))
    ICP = max(1, min(ICG, ceil_div(max(1, FILTER // taps), 16) * 16))
    PASSES, PARTS = max(1, ceil_div(ICG, ICP)), ceil_div(TILES, PART_TILES)
    G = 1 if ALIKE else g.G
    ROWS, P = RB + (g.KH - 1) * g.DH // g.SH, CB + (g.KW - 1) * g.DW // g.SW
    RP, CP = phases(g.SH, g.DH, g.KH), phases(g.SW, g.DW, g.KW)
    lanes = NR if ALIKE else ICP
    # Lines of neighbouring pixels should not fall into the same sets of a cache.
    STEP = spread(lanes, size) if lanes * size > 64 else lanes
    PLANE = (RP * CP * ROWS * P + MR + 1) * STEP
    ROW_BLOCKS, COLUMN_BLOCKS = ceil_div(g.OH, RB), ceil_div(g.OW, CB)
    BANDS = ceil_div(g.N * g.OD, IMAGES) * ROW_BLOCKS * COLUMN_BLOCKS
    T_PITCH = IMAGES * RB * CB * NR
    AREA = (ceil_div(ICP * taps, MR) + 1) * MR * NR
    blocks = G * PASSES * PARTS
    CHUNKS = 1
    if g.macs > BIG * VL and blocks < MIN_TASKS:
        CHUNKS = max(1, min(BANDS, ceil_div(MIN_TASKS, blocks)))
    strip = IMAGES * PLANE * size
    finish = G * PASSES * TILES
    cycles = _cycles(g, target, MR, NV, IMAGES * RB * CB, ICP * taps) * BANDS * G * PASSES * TILES
    first = g.layout == "channels_first"
    turn = TRANSPOSE_SCALAR if first and lanes < VL else TRANSPOSE if first else COPY
    pixels = IMAGES * RP * CP * ROWS * P
    cycles += BANDS * G * PASSES * PARTS * (pixels * (lanes * turn + PIXEL_COPY) + IMAGES * ROWS * ROW_COPY)
    turn = TRANSPOSE_SCALAR if first and OCG < VL else TRANSPOSE if first else COPY
    cycles += BANDS * G * PASSES * TILES * IMAGES * RB * CB * (min(NR, OCG) * turn + PIXEL_COPY)
    cycles += finish * AREA * (1.0 + 0.3 * CHUNKS)
    return GradientBlocking(
        *(MR, NV, VL, NR, int(ALIKE), ICP, PASSES, RB, CB, ROW_BLOCKS, COLUMN_BLOCKS, TILES, PARTS, PART_TILES),
        *(ROWS, P, 0, RP, CP, STEP, PLANE, T_PITCH, IMAGES, BANDS, CHUNKS, AREA, strip),
        ceil_div(strip, 64) * 64 + PART_TILES * T_PITCH * size,
        *(CHUNKS * finish * AREA, CHUNKS * blocks, finish, cycles),
    )


def _cycles(g: ConvGeometry, target: Any, MR: int, NV: int, pixels: int, rows: int) -> float:
    """Return the cycles of the register tiles of one block of filters in one band."""
    loads = (MR * (NV if is_alike(g) else 1) + NV + 1) / 2
    one = max(MR * NV / 2 * multiply_adds(target, g), 4.0, loads)
    return ceil_div(rows, MR) * (pixels * one + TILE_END + 1.5 * MR * NV)
