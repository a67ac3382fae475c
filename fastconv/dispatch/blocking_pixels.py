"""Cutting a depthwise convolution of channels_last arrays in blocks of pixels of one tile of channels."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from fastconv.dispatch.blocking import TILE_END, ceil_div, element_bits, multiply_adds
from fastconv.geometry.conv import ConvGeometry

# Vectors of a register tile, which are pixels and channels.
VECTORS = 8
# Cycles to copy a pixel into a strip, and of a row and a block.
PIXEL_COPY, ROW, BLOCK = 10.0, 20.0, 60.0
# L1 as one sees it from pixels that are a power of two apart: bytes of all sets, and ways that a block may fill.
SETS_BYTES, WAYS = 4096, 8
# Output columns below which nothing is read in place: most of it would be border.
NARROW = 16


class PixelsBlocking(NamedTuple):
    """Blocks of RB x CB outputs; `cycles` is the model's time on one thread. The fields are those of fields.py.

    Outputs from row TOP to BOTTOM and column LEFT to RIGHT read inside the image only, and in place.
    """

    MR: int
    NV: int
    VL: int
    RB: int
    CB: int
    ROW_BLOCKS: int
    COLUMN_BLOCKS: int
    TILES: int
    ROWS: int
    P: int
    TOP: int
    BOTTOM: int
    LEFT: int
    RIGHT: int
    strip_elements: int
    scratch_bytes: int
    packed_elements: int
    tasks: int
    cycles: float


def pixels_blocking(g: ConvGeometry, target: Any, rows: int = 0) -> PixelsBlocking:
    """Return the cheapest blocking, or the cheapest of so many `rows`."""
    # Channels of more than one vector take two, so that kernels are few.
    NV = 1 if target.lanes(element_bits(g)) >= g.OC else 2
    heights = (rows,) if rows else (1, 4, 8, 16)
    choices = [_blocking(g, target, NV, RB, CB) for RB in heights for CB in _columns(g, VECTORS // NV)]
    return min(choices, key=lambda b: (b.scratch_bytes > target.l2_bytes // 2, b.cycles))


def _columns(g: ConvGeometry, MR: int) -> set[int]:
    """Return widths of blocks: the rows under the taps of one stay in L1."""
    pixel = g.IC * element_bits(g) // 8
    slots = SETS_BYTES // math.gcd(pixel, SETS_BYTES) * WAYS
    width = (slots // min(g.KH, 4) - (g.KW - 1) * g.DW) // g.SW
    parts = {ceil_div(g.OW, max(2 * MR, width // MR * MR)), ceil_div(g.OW, 64), ceil_div(g.OW, 2048)}
    return {min(g.OW, ceil_div(ceil_div(g.OW, part), MR) * MR) for part in parts}


def _blocking(g: ConvGeometry, target: Any, NV: int, RB: int, CB: int) -> PixelsBlocking:
    size = element_bits(g) // 8
    VL: int = target.lanes(8 * size)
    NR, MR = NV * VL, VECTORS // NV
    ROWS = (min(RB, g.OH) - 1) * g.SH + (g.KH - 1) * g.DH + 1
    P = (ceil_div(CB, MR) * MR - 1) * g.SW + (g.KW - 1) * g.DW + 1
    RB, TILES = min(RB, g.OH), ceil_div(g.OC, NR)
    ROW_BLOCKS, COLUMN_BLOCKS = ceil_div(g.OH, RB), ceil_div(g.OW, CB)
    strip = g.KD * ROWS * P * NR
    scratch = ceil_div(strip * size, 64) * 64 + MR * NR * size
    edges = _inside(g)
    blocks = g.N * g.OD * ROW_BLOCKS * COLUMN_BLOCKS
    taps = g.KD * g.KH * g.KW
    tile = taps * (MR * NV + NV + 1) / 2 * multiply_adds(target, g) + TILE_END
    share = 1.0
    if edges[1]:
        inside = max(0, edges[1] - edges[0]) * max(0, edges[3] - edges[2] - 2 * MR)
        share = 1 - inside / (g.OH * g.OW)
    copied = share * g.KD * ROWS * P * (PIXEL_COPY + NV * size)
    ragged = TILE_END * MR if g.OC % NR else 0.0
    cycles = blocks * TILES * (RB * (ceil_div(CB, MR) * (tile + ragged) + ROW) + copied + BLOCK)
    packed = TILES * taps * NR
    fields = (MR, NV, VL, RB, CB, ROW_BLOCKS, COLUMN_BLOCKS, TILES, ROWS, P, *edges)
    return PixelsBlocking(*fields, strip, scratch, packed, blocks * TILES, cycles)


def _inside(g: ConvGeometry) -> tuple[int, int, int, int]:
    """Return (TOP, BOTTOM, LEFT, RIGHT); zeros where nothing is read in place."""
    if g.OC != g.IC or g.deep or g.OW < NARROW:
        return 0, 0, 0, 0
    TOP, BOTTOM = _range(g.H, g.OH, g.SH, g.PT, (g.KH - 1) * g.DH)
    LEFT, RIGHT = _range(g.W, g.OW, g.SW, g.PL, (g.KW - 1) * g.DW)
    return TOP, BOTTOM, LEFT, RIGHT


def _range(size: int, out: int, stride: int, before: int, reach: int) -> tuple[int, int]:
    """Return the first output whose taps are all inside, and the first behind it whose taps are not."""
    first = max(0, ceil_div(before, stride))
    return min(first, out), min(out, max(0, (size - 1 - reach + before) // stride + 1))
