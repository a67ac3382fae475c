"""Cutting the gradient of a weight in blocks of channels, bands of pixels and chunks of the batch."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

from fastconv.dispatch import workspace
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
    """How the gradient of a weight is computed; `cycles` is the model's time on one thread.

    From pixel to pixel of the input, or of its strip, there are STEP elements; from image to image of a band, from row
    to row, from channel to channel as many as the lower-case names say. The other fields are those of fields.py.
    """

    MR: int
    NV: int
    VL: int
    NR: int
    ALIKE: int
    PLAIN: int
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
    PLANE: int
    STRIP_PLANES: int
    STEP: int
    image_elements: int
    line_elements: int
    channel_elements: int
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
    """Return the cheapest blocking that keeps the limit of scratch, or if none does, the one with the least."""
    planar, plain = g.planar, is_plain(g)
    cuts = [_blocking(planar, plain, target, tile, *cut) for tile in target.gradient_tiles for cut in bands(planar)]
    kept = [b for b in cuts if workspace.refusal(b.scratch_bytes) is None]
    return min(kept, key=lambda b: b.cycles) if kept else min(cuts, key=lambda b: b.scratch_bytes)


workspace.on_change(gradient_blocking.cache_clear)


def is_alike(g: ConvGeometry) -> bool:
    """Return whether a planar convolution is depthwise, of what can be copied so that lane meets lane."""
    return g.G == g.IC > 1 and (g.OC == g.IC or g.layout == "channels_last")


def is_plain(g: ConvGeometry) -> bool:
    """Return whether no tap reads outside of the input, which then needs no copy."""
    return max(g.PF, g.PK, g.PT, g.PB, g.PL, g.PR) <= 0 and g.D == g.KD == 1


def bands(g: ConvGeometry) -> Iterator[tuple[int, int, int]]:
    """Yield (images, rows, columns) of a band."""
    least, most = PIXELS
    columns = {ceil_div(g.OW, max(1, ceil_div(g.OW, limit))) for limit in (most, least * 2)}
    for CB in sorted(columns):
        for RB in sorted({min(g.OH, rows) for rows in (1, 2, 4, 7, 8, 14, 16, 28, 32)}):
            if most >= RB * CB or RB == 1:
                yield 1, RB, CB
    pixels, images = g.OH * g.OW, max(1, g.N * g.OD)
    if pixels < most:
        yield from ((n, g.OH, g.OW) for n in {min(images, max(1, limit // pixels)) for limit in (2 * least, most)})


def _blocking(
    g: ConvGeometry, plain: bool, target: Any, tile: tuple[int, int], IMAGES: int, RB: int, CB: int
) -> GradientBlocking:
    size, (MR, NV) = element_bits(g) // 8, tile
    VL, taps, ALIKE = target.lanes(8 * size), g.KH * g.KW, is_alike(g)
    NR, G, ICG, OCG = (NV * VL, 1, 1, g.OC) if ALIKE else (NV * VL, g.G, g.ICG * g.KD, g.OCG)
    TILES = ceil_div(OCG, NR)
    PART_TILES = 1 if ALIKE else min(TILES, max(1, LANES // NR))
    ICP = max(1, min(ICG, ceil_div(max(1, FILTER // taps), 16) * 16))
    PASSES, PARTS = max(1, ceil_div(ICG, ICP)), ceil_div(TILES, PART_TILES)
    ROWS, P = RB + (g.KH - 1) * g.DH // g.SH, CB + (g.KW - 1) * g.DW // g.SW
    RP, CP = phases(g.SH, g.DH, g.KH), phases(g.SW, g.DW, g.KW)
    pixels, lanes = RP * CP * ROWS * P, NR if ALIKE else ICP
    # Where lanes are channels of the input, they must not reach behind its last one.
    PLAIN = plain and (not ALIKE or (g.layout == "channels_last" and g.OC == g.IC and g.OC % NR == 0))
    if PLAIN:
        planes = PLANE = 0
        first = g.layout == "channels_first"
        STEP, channel = (g.SW, g.H * g.W) if first else (g.SW * g.IC, 1)
        image, line = g.IC * g.H * g.W, g.SH * g.W * (STEP // g.SW)
    elif g.layout == "channels_first" and not ALIKE:
        PLANE, planes, STEP = spread(pixels, size), ICP, 1
        image, line, channel = planes * PLANE, P, PLANE
    else:
        # Lines of neighbouring pixels should not fall into the same sets of a cache.
        STEP = spread(lanes, size) if lanes * size > 256 else lanes
        planes, PLANE = 1, (pixels + MR + 1) * STEP
        image, line, channel = PLANE, P * STEP, 1
    ROW_BLOCKS, COLUMN_BLOCKS = ceil_div(g.OH, RB), ceil_div(g.OW, CB)
    BANDS = ceil_div(g.N * g.OD, IMAGES) * ROW_BLOCKS * COLUMN_BLOCKS
    T_PITCH, AREA = IMAGES * RB * CB * NR, (ceil_div(ICP * taps, MR) + 1) * MR * NR
    blocks, finish, CHUNKS = G * PASSES * PARTS, G * PASSES * TILES, 1
    if g.macs > BIG * VL and blocks < MIN_TASKS:
        CHUNKS = max(1, min(BANDS, ceil_div(MIN_TASKS, blocks)))
    # Rows are copied in whole vectors.
    strip = (IMAGES * image + VL) * size if not PLAIN else 0
    cycles = BANDS * finish * _tile_cycles(g, target, MR, NV, IMAGES * RB * CB, ICP * taps)
    cycles += 0 if PLAIN else BANDS * blocks * IMAGES * _input_cycles(g, VL, pixels, lanes)
    cycles += BANDS * finish * IMAGES * RB * CB * _gradient_cycles(g, VL, min(NR, OCG))
    cycles += finish * AREA * (1.0 + 0.3 * CHUNKS)
    return GradientBlocking(
        *(MR, NV, VL, NR, int(ALIKE), int(PLAIN), ICP, PASSES, RB, CB, ROW_BLOCKS, COLUMN_BLOCKS, TILES, PARTS),
        *(PART_TILES, ROWS, P, 0, RP, CP, PLANE, planes, STEP, image, line, channel, T_PITCH, IMAGES, BANDS, CHUNKS),
        *(AREA, strip, ceil_div(strip, 64) * 64 + PART_TILES * T_PITCH * size, CHUNKS * finish * AREA),
        *(CHUNKS * blocks, finish, cycles),
    )


def _tile_cycles(g: ConvGeometry, target: Any, MR: int, NV: int, pixels: int, rows: int) -> float:
    """Return the cycles of the register tiles of one block of filters in one band."""
    loads = (MR * (NV if is_alike(g) else 1) + NV + 1) / 2
    one = max(MR * NV / 2 * multiply_adds(target, g), 4.0, loads)
    return ceil_div(rows, MR) * (pixels * one + TILE_END + 1.5 * MR * NV)


def _input_cycles(g: ConvGeometry, VL: int, pixels: int, lanes: int) -> float:
    """Return the cycles to lay out so many pixels and channels of the input."""
    if g.layout == "channels_first" and is_alike(g):
        return pixels * lanes * (TRANSPOSE_SCALAR if lanes < VL else TRANSPOSE)
    if g.layout == "channels_first":
        return lanes * (pixels * (COPY if g.SW == 1 else 4 * COPY) + ROW_COPY * pixels / (g.OW + g.KW))
    dense = g.SW == 1 and lanes == g.IC and lanes * 4 <= 256
    return pixels * (lanes * COPY + (0.0 if dense else ROW_COPY))


def _gradient_cycles(g: ConvGeometry, VL: int, lanes: int) -> float:
    """Return the cycles to lay out a pixel of the output's gradient."""
    if g.layout == "channels_first":
        return lanes * (TRANSPOSE_SCALAR if lanes < VL else TRANSPOSE)
    return lanes * COPY + PIXEL_COPY
