"""Cutting a depthwise convolution of channels_first arrays, turned to channels in lanes, in blocks of rows."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from fastconv.dispatch.blocking import TILE_END, ceil_div, element_bits, multiply_adds
from fastconv.geometry.conv import ConvGeometry

# Pixels of a register tile.
MR = 8
# Cycles of a square beside its shuffles, and of a block.
SQUARE_END, BLOCK_END = 12.0, 300.0
# Bytes of a block's strip, sums and results; rows that neighbouring blocks share are turned twice.
L1_BYTES, SLOWER = 40 << 10, 1.15
# Output rows of a block.
ROWS = (1, 2, 4, 7, 8, 14, 16, 28, 32)


class TurnedBlocking(NamedTuple):
    """Blocks of RB output rows of VL channels; `cycles` is the model's time on one thread. Fields as in fields.py."""

    MR: int
    NV: int
    VL: int
    RB: int
    ROW_BLOCKS: int
    TILES: int
    ROWS: int
    P: int
    T_PITCH: int
    strip_elements: int
    c_elements: int
    scratch_bytes: int
    packed_elements: int
    tasks: int
    cycles: float


def turned_blocking(g: ConvGeometry, target: Any, rows: int = 0) -> TurnedBlocking | None:
    """Return the cheapest blocking, or that of so many `rows`; None: too few channels for a vector, too long rows."""
    VL = target.lanes(element_bits(g))
    plain = g.layout == "channels_first" and g.padding_mode == "zeros" and g.OC == g.IC >= VL
    if not plain or g.deep:
        return None
    choices = [_blocking(g, target, VL, min(g.OH, RB)) for RB in ((rows,) if rows else ROWS)]
    fitting = [b for b in choices if b.scratch_bytes <= target.l2_bytes // 2]
    return min(fitting, key=lambda b: b.cycles, default=None)


def _blocking(g: ConvGeometry, target: Any, VL: int, RB: int) -> TurnedBlocking:
    size = element_bits(g) // 8
    LINES, P = (RB - 1) * g.SH + (g.KH - 1) * g.DH + 1, (g.OW - 1) * g.SW + (g.KW - 1) * g.DW + 1
    # A tile reads on behind the last row; one more pixel is for what no tap reads.
    strip, sums, pitch = (LINES * P + MR * g.SW + 1) * VL, (RB * g.OW + max(MR, VL)) * VL, RB * g.OW + VL
    scratch = sum(ceil_div(n * size, 64) * 64 for n in (strip, sums, VL * pitch))
    ROW_BLOCKS, TILES = ceil_div(g.OH, RB), ceil_div(g.OC, VL)
    tasks = g.N * ROW_BLOCKS * TILES
    square = VL * math.log2(VL) + SQUARE_END
    turns = (min(LINES, g.H) * g.W + RB * g.OW) / VL * square
    tile = g.KH * g.KW * max(MR / 2 * multiply_adds(target, g), (MR + 2) / 2) + TILE_END
    work = turns + RB * ceil_div(g.OW, MR) * tile
    if (strip + sums) * size > L1_BYTES:
        work *= SLOWER
    packed = TILES * g.KH * g.KW * VL
    fields = (MR, 1, VL, RB, ROW_BLOCKS, TILES, LINES, P, pitch, strip, sums, scratch, packed, tasks)
    return TurnedBlocking(*fields, cycles=tasks * (work + BLOCK_END))
