"""Cutting a convolution in blocks, passes and register tiles: the cheapest of a small menu by a cycle model.

The model counts, for one thread: fused multiply-adds of all register tiles, those on ragged edges included; loads where
they are the bound; the ends of tiles; packing; reading a weight that no cache holds. It decides among blockings of one
algorithm and, through `choose.py`, among algorithms.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from fastconv.geometry.conv import ConvGeometry

# Cycles, fitted to the measured kernels (bench/): end of a register tile, of a ragged row, to copy a row, to transpose
# an element in squares of VL x VL.
TILE_END = 30.0
ROW_END = 14.0
ROW_COPY = 25.0
TRANSPOSE = 0.8
# The same one by one, where a pass has too few channels for a square.
TRANSPOSE_SCALAR = 8.0
BYTES_PER_CYCLE = 10.0
# A word of four bytes flipped; put together from four planes; from a pixel.
WORD_FLIP, WORD_QUADS, WORD_STRIDED = 0.3, 0.7, 2.0
# A weight that does not fit in L2 is read anew for every block.
WEIGHT_BYTES_PER_CYCLE = 16.0
# Pixels in lanes are unaligned vectors, which cost more than the loads that the model counts.
PIXELS_IN_LANES = 1.18
# A pass keeps its lines of one pixel tile within this share of L1, its weights and C tiles within these of L2.
L1_SHARE, L2_SHARE = 0.6, 0.4
# With few terms the walk over all pixels of a channel tile is faster: it writes MR planes at a time, not all of them.
TILE_OUTER_TERMS = 300
# Blocks are also what threads share: a problem of so many vector FMAs is cut in at least so many tasks.
BIG, MIN_TASKS = 2e5, 8


class Blocking(NamedTuple):
    """Tile sizes of one algorithm on one problem; `cycles` is the model's time of all of it on one thread.

    With LANES output channels are the lanes of a register tile of MR pixels, else pixels are those of MR channels.
    The other fields are those of kernels/cpu/fields.py.
    """

    MR: int
    NV: int
    VL: int
    LANES: int
    ICP: int
    PASSES: int
    RB: int
    CB: int
    ROW_BLOCKS: int
    COLUMN_BLOCKS: int
    TILES: int
    PARTS: int
    PART_TILES: int
    TILE_OUTER: int
    ROWS: int
    P: int
    SPILL: int
    ROW_PHASES: int
    COLUMN_PHASES: int
    PLANE: int
    C_TILES: int
    T_PITCH: int
    strip_elements: int
    scratch_bytes: int
    packed_elements: int
    tasks: int
    cycles: float


@lru_cache(maxsize=64)
def gemm_blocking(g: ConvGeometry, target: Any, columns: bool, multiple: int = 1) -> Blocking:
    """Return the cheapest blocking of direct convolution, or with `columns` of im2col.

    Blocks have a `multiple` of rows, or all.
    """
    return min(_cuts(g, target, columns, multiple), key=_Cut.cycles).blocking()


def words_blocking(g: ConvGeometry, target: Any, columns: bool) -> Blocking:
    """Return the cheapest blocking of a convolution of bytes, with the time to bring it into words."""
    blocking = gemm_blocking(g.words, target, columns)
    return blocking._replace(cycles=blocking.cycles + words_cycles(g))


def words_cycles(g: ConvGeometry) -> float:
    """Return the cycles to bring the input into words of four channels."""
    words, last = g.words, g.layout == "channels_last"
    if last and g.ICG % 4 == 0:
        return words.N * words.IC * words.D * words.H * words.W * WORD_FLIP if g.flipped else 0.0
    elements = words.N * words.IC * words.D * words.H * words.W
    rows = words.N * words.D * words.H * (1 if last else words.IC)
    return elements * (WORD_STRIDED if last else WORD_QUADS) + rows * ROW_COPY


def _cuts(g: ConvGeometry, target: Any, columns: bool, multiple: int) -> Iterator[_Cut]:
    last = g.layout == "channels_last"
    # Transposed strips have borders of zeros only.
    lanes_too = not columns and g.padding_mode == "zeros"
    for LANES in (True,) if last else (False, True) if lanes_too else (False,):
        turned = LANES and not last
        shape = g.planar if turned else g.flat.planar
        for tile in target.outer_tiles:
            for block in block_sizes(shape, columns, tile[1] * target.lanes(element_bits(g)), multiple):
                # A transposed strip holds whole rows.
                if not turned or block[1] == g.OW:
                    yield _Cut(shape, target, columns, LANES, tile, block)


def block_sizes(g: ConvGeometry, columns: bool, NR: int, multiple: int = 1) -> Iterator[tuple[int, int]]:
    """Yield (rows, columns) of output blocks; for im2col rows = 1 and columns count pixels of the whole batch.

    Rows are a `multiple`, or all.
    """
    if columns:
        total = max(g.N * g.OH * g.OW, 1)
        yield from {(1, min(tiles, ceil_div(total, NR)) * NR) for tiles in (2, 4, 8, 16)}
        return
    for parts in {ceil_div(g.OW, 1024), ceil_div(g.OW, 256), max(1, g.OW // 96)}:
        CB = ceil_div(g.OW, parts)
        for RB in sorted({min(g.OH, ceil_div(rows, multiple) * multiple) for rows in (1, 2, 4, 7, 8, 14, 16, 28, 32)}):
            if RB * CB <= 4096 or multiple >= RB:
                yield RB, CB


class _Cut:
    """One candidate: a register tile and a block size, and all that follows from them."""

    def __init__(
        self, g: ConvGeometry, target: Any, columns: bool, LANES: bool, tile: tuple[int, int], block: tuple[int, int]
    ):
        self.g, self.target, self.columns, self.LANES = g, target, columns, LANES
        (self.MR, self.NV), (self.RB, self.CB) = tile, block
        self.size = element_bits(g) // 8
        self.VL = target.lanes(8 * self.size)
        self.NR, self.taps = self.NV * self.VL, g.KH * g.KW
        # channels_first arrays with channels in lanes are transposed on the way in and out.
        self.turned = LANES and g.layout == "channels_first"
        # Pixels and channels of a register tile.
        self.pixel_step: int = self.MR if LANES else self.NR
        self.channel_step: int = self.NR if LANES else self.MR
        self.TILES = ceil_div(g.OCG, self.channel_step)
        self.ROWS, self.P = self.RB + (g.KH - 1) * g.DH // g.SH, self.CB + (g.KW - 1) * g.DW // g.SW
        self.SPILL = 0
        whole = g.padding_mode == "zeros" and g.SW == 1 and self.CB == g.OW
        if whole and 0 < g.PR <= min(g.PL, (g.KW - 1) * g.DW, self.VL):
            # The border at the start of the next row is the one at the end of this row.
            self.P, self.SPILL = g.W + g.PL, g.PR
        self.RP, self.CP = phases(g.SH, g.DH, g.KH), phases(g.SW, g.DW, g.KW)
        self.plane = self.RP * self.CP * self.ROWS * self.P
        self.pixels = self.CB if columns else (self.RB - 1) * self.P + self.CB
        self.ROW_BLOCKS = 1 if columns else ceil_div(g.OH, self.RB)
        self.COLUMN_BLOCKS = ceil_div(g.N * g.OH * g.OW, self.CB) if columns else ceil_div(g.OW, self.CB)
        self.blocks = (1 if columns else g.N) * g.G * self.ROW_BLOCKS * self.COLUMN_BLOCKS
        self.PASSES = max(1, ceil_div(g.ICG, self._channels_per_pass()))
        self.ICP = max(1, ceil_div(g.ICG, self.PASSES))
        self.C_TILES = ceil_div(self.pixels, self.pixel_step) if self.PASSES > 1 else 0
        self.PART_TILES = ceil_div(self.TILES, self._parts())
        self.PARTS = ceil_div(self.TILES, self.PART_TILES)

    def blocking(self) -> Blocking:
        """Return the candidate with its memory and its time."""
        g = self.g
        PLANE, strip = self._strip()
        T_PITCH = spread(ceil_div(self.pixels, self.VL) * self.VL, self.size) if self.turned else 0
        segments = self.PASSES * ceil_div(self.ICP * self.taps, 16)
        packed = g.ICG * self.taps * self.NR if self.LANES else segments * self.MR * 16
        tile_outer = not self.LANES and self.PASSES == 1 and self.MR * g.ICG * self.taps < TILE_OUTER_TERMS
        return Blocking(
            *(self.MR, self.NV, self.VL, int(self.LANES), self.ICP, self.PASSES, self.RB, self.CB),
            *(self.ROW_BLOCKS, self.COLUMN_BLOCKS, self.TILES, self.PARTS, self.PART_TILES),
            *(int(tile_outer), self.ROWS, self.P, self.SPILL, self.RP, self.CP, PLANE, self.C_TILES, T_PITCH, strip),
            *(self._scratch(strip, T_PITCH), g.G * self.TILES * packed, self.blocks * self.PARTS, self.cycles()),
        )

    def _channels_per_pass(self) -> int:
        """Input channels whose lines of one pixel tile fit in L1, and whose block of the input fits in L2."""
        g, size = self.g, self.size
        if self.LANES:
            lines = self.taps * self.NR * size
        elif self.columns:
            lines = self.taps * (self.NR * size + 32)
        else:
            lines = g.KH * self.CP * ((self.NR + (g.KW - 1) * g.DW // g.SW) * size + 32)
        fit = int(self.target.l1_bytes * L1_SHARE) // lines
        if not self.columns:
            fit = min(fit, int(self.target.l2_bytes * L2_SHARE) // (self.plane * size))
        # A pass that is too short pays more for its C tiles than it gains.
        return max(1, min(max(fit, 48 // self.taps), max(g.ICG, 1)))

    def _parts(self) -> int:
        """Cut the channel tiles so that C tiles and weights of a pass stay in L2, and threads find enough tasks."""
        budget, tile = int(self.target.l2_bytes * L2_SHARE), self.MR * self.NR
        c_bytes = self.TILES * tile * self.C_TILES * self.size
        weight_bytes = self.TILES * self.ICP * self.taps * self.channel_step * self.size
        parts = max(1, ceil_div(c_bytes, budget), ceil_div(weight_bytes, budget))
        if self.g.macs > BIG * self.VL and self.blocks * parts < MIN_TASKS:
            parts = ceil_div(MIN_TASKS, max(1, self.blocks))
        return min(parts, self.TILES)

    def _strip(self) -> tuple[int, int]:
        """Return (PLANE, elements of the strip or the columns), with room for a tile that reads on."""
        # Behind a strip of pixels there is room for a tile that reads on, and for pixels that no tap reads.
        K, slack = self.ICP * self.taps, (self.MR + self.SPILL + 1) * self.ICP if self.LANES else self.NR + self.SPILL
        if self.columns and self.LANES:
            return K, (self.CB + self.MR) * K
        if self.columns:
            pitch = spread(self.CB + self.NR, self.size)
            return pitch, K * pitch
        plane = self.plane if self.LANES else spread(self.plane + self.SPILL, self.size)
        return plane, self.ICP * plane + slack

    def _scratch(self, strip: int, T_PITCH: int) -> int:
        parts, tile = self.PART_TILES if self.PASSES > 1 else 1, self.MR * self.NR
        if self.turned:
            # The C tiles of a block, with room for the last transposed square; then the transposed block.
            block = (ceil_div(self.pixels, self.MR) * self.MR + self.VL) * self.NR
            rest = parts * block + self.NR * T_PITCH
        else:
            rest = max(1, parts * self.C_TILES) * tile
        return ceil_div(strip * self.size, 64) * 64 + rest * self.size

    def cycles(self) -> float:
        """Return the model's time of all of it on one thread."""
        g, K = self.g, self.g.ICG * self.taps
        tiles, ragged = self._tiles()
        ends = (TILE_END + 1.5 * self.MR * self.NV) * self.PASSES
        one = tile_cycles(self.target, self.g, self.MR, self.NV) * (1.0 if self.LANES else PIXELS_IN_LANES)
        work = tiles * self.TILES * (K * one + ends)
        weight = g.OC * K * self.size
        if weight > self.target.l2_bytes * L2_SHARE:
            work += weight * self.blocks / g.G / WEIGHT_BYTES_PER_CYCLE
        if self.turned:
            return work + self._packing() + TRANSPOSE * g.N * g.OC * g.OH * g.OW
        across = self.pixel_step / min(self.P, g.OW) + 1 if not (self.LANES or self.columns) else 1.5
        return work + self._packing() + ragged * self.TILES * self.MR * ROW_END * across

    def _tiles(self) -> tuple[float, float]:
        """Return how many tiles of pixels there are over all blocks, and how many of them are ragged."""
        g, step = self.g, self.pixel_step
        tiles: float = self.blocks * ceil_div(self.pixels, step)
        if self.columns:
            ragged: float = g.G * (g.N if g.OH * g.OW % step else 0)
        else:
            ragged = max(0.0, tiles - self.blocks * self.RB * max(0.0, (self.CB - step + 1) / step))
        return tiles, ragged + (tiles / self.TILES if self.LANES and g.OCG % self.NR else 0)

    def _packing(self) -> float:
        """Return the cycles to copy the input into strips or columns."""
        g, first = self.g, self.g.layout == "channels_first"
        if self.columns:
            pixels = g.N * g.OH * g.OW
            copied = g.G * pixels * g.ICG * self.taps
            rows = copied / min(g.OW, self.CB) if first else g.G * pixels * self.taps
        else:
            copied = self.blocks * self.plane * g.ICG
            lines = self.blocks * self.RP * self.CP * self.ROWS
            rows = lines * (g.ICG if first else 1 if g.SW == 1 and g.G == 1 else self.P)
        turn = TRANSPOSE if self.ICP >= self.VL else TRANSPOSE_SCALAR
        one = self.size / BYTES_PER_CYCLE + (turn if self.turned else 0.0)
        return self.PARTS * (copied * one + rows * (0.0 if self.turned else ROW_COPY))


def phases(stride: int, dilation: int, kernel: int) -> int:
    """Return how many stride phases the taps 0, dilation, 2 * dilation, … fall in."""
    return len({k * dilation % stride for k in range(min(kernel, stride))})


def ceil_div(a: int, b: int) -> int:
    """Return a / b, rounded up."""
    return -(-a // b)


def element_bits(g: ConvGeometry) -> int:
    """Return the bits of one element."""
    return 8 * np.dtype(g.dtype).itemsize


def spread(elements: int, size: int) -> int:
    """Round up to an odd number of cache lines, so that neighbouring planes do not fall into the same sets."""
    lines = ceil_div(elements * size, 64)
    return (lines | 1) * 64 // size


def multiply_adds(target: Any, g: ConvGeometry) -> int:
    """Return the vector operations that a multiplication and an addition take; of 64-bit integers, about."""
    kind = np.dtype(g.dtype)
    if g.weight_dtype:
        # A dot product of bytes is one.
        return 1
    if kind.kind == "f":
        return 1 if target.fma else 2
    return {2: 2, 4: 3, 8: 8}[kind.itemsize]


def tile_cycles(target: Any, g: ConvGeometry, MR: int, NV: int) -> float:
    """Cycles of one k in a register tile: two FMAs or two loads a cycle, at least eight FMAs in flight."""
    fmas = max(MR * NV, 8) / 2 * multiply_adds(target, g)
    loads = (MR + (2.0 if target.vector_bytes == 64 else 1.5) * NV + 1) / 2
    return float(max(fmas, loads))
