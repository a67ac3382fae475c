"""Cutting a depthwise or a separable convolution in blocks of one channel (or one tile of channels)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from fastconv.dispatch.blocking import (
    BYTES_PER_CYCLE,
    ROW_COPY,
    ROW_END,
    TILE_END,
    ceil_div,
    element_bits,
    multiply_adds,
    phases,
)
from fastconv.geometry.conv import ConvGeometry

# Pixels of channels_last per register tile.
PIXELS = 4
# Cycles between two tiles of a row.
SLIDE_END = 12.0
# Cycles to start with a piece of a row: another page, another stream.
PIECE = 60.0
# Vectors of the separable pass along rows, as in kernels/cpu/conv_separable.py.
ROW_NV = 8


class DepthwiseBlocking(NamedTuple):
    """Tile sizes; R output rows (channels_last: pixels) of NV vectors; `cycles` is the model's time on one thread.

    MIDDLE is the row pitch of a separable kernel's buffer between its two passes. The other fields are those of
    kernels/cpu/fields.py.
    """

    R: int
    NV: int
    TAPS: int
    VL: int
    RB: int
    CB: int
    ROW_BLOCKS: int
    COLUMN_BLOCKS: int
    TILES: int
    ROWS: int
    P: int
    ROW_PHASES: int
    COLUMN_PHASES: int
    MIDDLE: int
    EDGE: int
    c_elements: int
    packed_elements: int
    strip_elements: int
    scratch_bytes: int
    tasks: int
    cycles: float


def depthwise_blocking(g: ConvGeometry, target: Any, separable: bool) -> DepthwiseBlocking:
    """Return the cheapest blocking of a depthwise convolution, in two 1-D passes if `separable`."""
    return min((cut.blocking() for cut in _cuts(g, target, separable)), key=lambda b: b.cycles)


def _cuts(g: ConvGeometry, target: Any, separable: bool) -> Iterator[_Cut]:
    first = g.layout == "channels_first"
    for R, NV, TAPS in target.row_tiles if first else ((PIXELS, 2, 0), (PIXELS, 1, 0)):
        # Rows share their loads only where neighbouring output rows read neighbouring input rows.
        if first and R > 1 and (g.SH > 1 or g.KD > 1 or (TAPS or max(R, g.KH)) != g.KH):
            continue
        for CB in {ceil_div(g.OW, max(1, g.OW // width)) for width in (min(g.OW, 2048), 256, 128)}:
            for RB in sorted({min(g.OH, rows) for rows in (4, 8, 16, 32, 64)}):
                yield _Cut(g, target, separable, (R, NV, TAPS), (RB, CB))


class _Cut:
    """One candidate: a register tile and a block size, and all that follows from them."""

    def __init__(
        self, g: ConvGeometry, target: Any, separable: bool, tile: tuple[int, int, int], block: tuple[int, int]
    ):
        self.g, self.target, self.separable = g, target, separable
        (self.R, self.NV, self.TAPS), (self.RB, self.CB) = tile, block
        self.size = element_bits(g) // 8
        self.VL: int = target.lanes(8 * self.size)
        self.first = g.layout == "channels_first"
        self.NR = self.NV * self.VL
        # A tile of R rows that reaches below the block reads, and never stores, up to R - 1 rows more.
        spare = (self.R - 1) * g.DH if self.first else 0
        self.ROWS = self.RB + (g.KH - 1) * g.DH // g.SH + spare
        self.P = self.CB + (g.KW - 1) * g.DW // g.SW
        self.RP, self.CP = phases(g.SH, g.DH, g.KH), phases(g.SW, g.DW, g.KW)
        self.TILES = g.IC if self.first else ceil_div(g.OC, self.NR)
        self.ROW_BLOCKS, self.COLUMN_BLOCKS = ceil_div(g.OH, self.RB), ceil_div(g.OW, self.CB)
        self.fma = multiply_adds(target, g)
        # Load slots of an unaligned vector: one and a half on average, two where every second vector straddles lines.
        self.load = 2.0 if target.vector_bytes == 64 else 1.5

    def blocking(self) -> DepthwiseBlocking:
        """Return the candidate with its memory and its time."""
        lanes = 1 if self.first else self.NR
        # A vector that starts at the last pixel reads on by a tile.
        slack = max(self.NR, ROW_NV * self.VL) if self.first else PIXELS * self.NR
        strip = self.g.KD * self.ROWS * self.P * self.RP * self.CP * lanes + slack
        MIDDLE = self.CB + (self.NR if self.first else PIXELS) if self.separable else 0
        middle = self.RP * self.ROWS * MIDDLE * lanes + slack if self.separable else 0
        EDGE = self._edge()
        if EDGE:
            strip = max(strip, 2 * self.ROWS * EDGE + slack)
        # A block of short rows is one long row in C.
        flat = self.first and self.R == 1 and self.CB < self.NR
        C = self.RB * (MIDDLE or self.P) + self.NR if flat else self.R * max(self.CB, self.NR)
        scratch: int = sum(ceil_div(n * self.size, 64) * 64 for n in (strip, middle, C))
        taps = self.g.KH + self.g.KW if self.separable else self.g.KD * self.g.KH * self.g.KW
        packed = 0 if self.first else self.TILES * taps * self.NR
        tasks = self.g.N * self.g.OD * self.TILES * self.ROW_BLOCKS * self.COLUMN_BLOCKS
        return DepthwiseBlocking(
            *(self.R, self.NV, self.TAPS, self.VL),
            *(self.RB, self.CB, self.ROW_BLOCKS, self.COLUMN_BLOCKS, self.TILES),
            *(self.ROWS, self.P, self.RP, self.CP, MIDDLE, EDGE, C, packed, strip, scratch, tasks),
            cycles=tasks * self._task_cycles(),
        )

    def _edge(self) -> int:
        """Return the columns of the strips at both ends of rows that are read in place, or 0 where none are."""
        g = self.g
        plain = self.first and not self.separable and g.SH == g.SW == g.DH == 1 and self.CB == g.OW
        plain = plain and g.KD == 1 and max(g.PF, g.PK) <= 0 and g.padding_mode == "zeros"
        fits = g.OW >= 3 * self.NR and min(g.PL, g.PR) >= 0 and max(g.PL, g.PR) <= self.NR
        return self.NR + (g.KW - 1) * g.DW if plain and fits else 0

    def _task_cycles(self) -> float:
        """Cycles of one block of one channel (channels_last: of one tile of channels)."""
        g, rows = self.g, self.g.KD * self.RP * self.CP * self.ROWS
        if not self.first:
            packing = rows * self.P * (self.NR * self.size / BYTES_PER_CYCLE + ROW_COPY)
            return packing + self._pixel_cycles()
        packing = rows * (self.P * self.size / BYTES_PER_CYCLE + ROW_COPY + (PIECE if self.CB < g.OW else 0))
        if EDGE := self._edge():
            # Blocks at the top and at the bottom are copied whole, of others both ends of rows.
            border = min(1.0, ((g.PT > 0) + (g.PB > 0)) / self.ROW_BLOCKS)
            ends = rows * 2 * (EDGE * self.size / BYTES_PER_CYCLE + ROW_COPY)
            packing = border * packing + (1.0 - border) * ends
        if not self.separable:
            return packing + g.OC // max(g.IC, 1) * self._slide_cycles(g.KW, self.P)
        row_tile = g.KW * ROW_NV * self.load / 2 * self.fma + TILE_END
        wide = self.RP * self.ROWS * ceil_div(self.CB, ROW_NV * self.VL) * row_tile
        return packing + wide + self._slide_cycles(1, self.CB)

    def _pixel_cycles(self) -> float:
        g, ragged = self.g, self.g.OC % self.NR or self.CB % self.R
        calls = self.RB * ceil_div(self.CB, self.R)
        tap = (self.R * self.NV + self.NV + 1) / 2 * self.fma
        taps = g.KH + g.KW * self.ROWS / self.RB if self.separable else g.KD * g.KH * g.KW
        return calls * (taps * tap + TILE_END + (ROW_END * self.R if ragged else 0))

    def _slide_cycles(self, KW: int, P: int) -> float:
        """Cycles of all register tiles of a block; one row at a time runs on over the row pitch P."""
        R, NV, NR, KH = self.R, self.NV, self.NR, self.g.KD * self.g.KH
        if R == 1:
            flat = self.CB < NR
            calls = ceil_div((self.RB - 1) * P + self.CB, NR) if flat else self.RB * ceil_div(self.CB, NR)
            work = KH * KW * max(NV / 2 * self.fma, (NV * self.load + 1) / 2)
            ragged = calls if flat else 0
            return calls * (work + SLIDE_END + 2 * NV) + ragged * (1 + NR / P) * ROW_END
        calls = ceil_div(self.RB, R) * (ceil_div(self.CB, NR) + (1 if self._edge() else 0))
        ragged_rows = 0 if self.CB >= NR and self.RB >= R else R * ROW_END
        if self.TAPS:
            loads = KH + (KH + R - 1) * NV * self.load
            work = KW * max(max(R * NV * KH, 8) / 2 * self.fma, loads / 2)
            return calls * (work + SLIDE_END + 2 * NV * R + ragged_rows)
        full = (KH - R + 1) * KW * max(max(R * NV, 8) / 2 * self.fma, (NV * self.load + R) / 2)
        edge = R * (R - 1) * KW * max(NV, 4) / 2 * self.fma + 20 * (R - 1)
        return calls * (full + edge + SLIDE_END + 2 * NV * R + ragged_rows)
