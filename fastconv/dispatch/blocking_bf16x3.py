"""Cutting a convolution for the matrix unit: blocks of 32 x 32 sums, by a cycle model as in blocking.py."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from fastconv.dispatch.blocking import (
    MIN_TASKS,
    ROW_COPY,
    WEIGHT_BYTES_PER_CYCLE,
    block_sizes,
    ceil_div,
    phases,
    spread,
)
from fastconv.geometry.conv import ConvGeometry

# Rows and columns of a block of sums, and k of one step.
BLOCK = 32
# Cycles, fitted to an Intel Xeon (Sapphire Rapids): a step of three products and of one, and what more it takes where
# rows of pixels are not aligned; a block of sums from memory and back, its epilogue for each run of pixels.
STEP, UNALIGNED = {3: 230.0, 1: 85.0}, 1.6
SUMS, FINISH = 200.0, 280.0
# Of the strips: an element split, and copied before; a pixel; a plane of a channel, and an element of the end of a row
# that is not a whole vector, with a stride.
SPLIT, COPY, PIXEL, PLANE, GATHER = 0.45, 0.4, 35.0, 80.0, 2.0
# CPUs with the unit have 48 KB of L1 and 2 MB of L2.
L1_BYTES, L2_BYTES = 30 << 10, 1 << 20


class Bf16Blocking(NamedTuple):
    """Sizes as in `Blocking`; those of the matrix unit are in bytes, see kernels/cpu/fields.py."""

    TERMS: int
    COLUMNS: int
    PLAIN: int
    RUN: int
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
    C_AT: int
    C_TILES: int
    T_AT: int
    TILE_ROW: int
    TILE_HALF: int
    LOW: int
    PIXEL: int
    scratch_bytes: int
    packed_elements: int
    tasks: int
    cycles: float


def bf16_blocking(g: ConvGeometry, target: Any, terms: int = 3, multiple: int = 1) -> Bf16Blocking:
    """Return the cheapest blocking, of blocks of a `multiple` of rows; `terms` products for each one of float32."""
    flat = g.flat
    return min((cut.blocking() for cut in _cuts(flat.planar, terms, flat.deep, multiple)), key=lambda b: b.cycles)


def _cuts(g: ConvGeometry, terms: int, deep: bool, multiple: int) -> Iterator[_Cut]:
    first = g.layout == "channels_first"
    # Columns have no rows.
    for filled in (False,) if first and multiple > 1 else (False, True):
        # Whole steps of k are full as they are.
        if filled and (g.ICG % BLOCK == 0 or g.KH * g.KW == 1 or not (first or (g.DW == 1 and g.SW <= g.KW))):
            continue
        for RB, CB in block_sizes(g, filled and first, BLOCK, multiple):
            for share in (1, 2, 8):
                yield _Cut(g, terms, deep, filled, RB, CB, share)


class _Cut:
    """One candidate, and all that follows from it; `filled`: steps of k are filled with several taps."""

    def __init__(self, g: ConvGeometry, terms: int, deep: bool, filled: bool, RB: int, CB: int, share: int):
        self.g, self.terms, self.deep, self.RB, self.CB = g, terms, deep, RB, CB
        self.first, self.taps = g.layout == "channels_first", g.KH * g.KW
        self.columns, self.run = filled and self.first, filled and not self.first
        self.TILES = ceil_div(g.OCG, BLOCK)
        self.ROWS, self.P = RB + (g.KH - 1) * g.DH // g.SH, CB + (g.KW - 1) * g.DW // g.SW
        self.SPILL = 0
        if g.padding_mode == "zeros" and g.SW == 1 and CB == g.OW and 0 < g.PR <= min(g.PL, (g.KW - 1) * g.DW, 16):
            self.P, self.SPILL = g.W + g.PL, g.PR
        self.RP, self.CP = phases(g.SH, g.DH, g.KH), 1 if self.run else phases(g.SW, g.DW, g.KW)
        self.plane = self.RP * self.CP * self.ROWS * self.P
        self.pixels = CB if self.columns else (RB - 1) * self.P + CB
        self.ROW_BLOCKS = 1 if self.columns else ceil_div(g.OH, RB)
        self.COLUMN_BLOCKS = ceil_div(g.N * g.OH * g.OW, CB) if self.columns else ceil_div(g.OW, CB)
        self.blocks = (1 if self.columns else g.N) * g.G * self.ROW_BLOCKS * self.COLUMN_BLOCKS
        self.ICP = self._channels_per_pass(share)
        self.PASSES = ceil_div(max(g.ICG, 1), self.ICP)
        self.C_TILES = ceil_div(self.pixels, BLOCK) if self.PASSES > 1 else 0
        self.PART_TILES = ceil_div(self.TILES, self._parts())
        self.PARTS = ceil_div(self.TILES, self.PART_TILES)

    def blocking(self) -> Bf16Blocking:
        """Return the candidate with its memory and its time."""
        strip = self._strip()
        sums = max(1, self.C_TILES * self.PART_TILES) * 4 * BLOCK * BLOCK
        c_at = strip["T_AT"] + strip.pop("temporary")
        return Bf16Blocking(
            TERMS=self.terms,
            COLUMNS=int(self.columns),
            PLAIN=int(self._plain()),
            RUN=int(self.run),
            ICP=self.ICP,
            PASSES=self.PASSES,
            RB=self.RB,
            CB=self.CB,
            ROW_BLOCKS=self.ROW_BLOCKS,
            COLUMN_BLOCKS=self.COLUMN_BLOCKS,
            TILES=self.TILES,
            PARTS=self.PARTS,
            PART_TILES=self.PART_TILES,
            ROWS=self.ROWS,
            P=self.P,
            SPILL=self.SPILL,
            ROW_PHASES=self.RP,
            COLUMN_PHASES=self.CP,
            C_AT=c_at,
            C_TILES=self.C_TILES,
            scratch_bytes=c_at + sums,
            packed_elements=self.g.G * self.TILES * self._steps() * BLOCK * BLOCK,
            tasks=self.blocks * self.PARTS,
            cycles=self._cycles(),
            **strip,
        )

    def _plain(self) -> bool:
        """Return whether rows of the strip are rows of the input, of all its channels in channels_last."""
        g = self.g
        if self.first:
            ones = (g.KH, g.KW, g.SH, g.SW, g.H, g.OH) == (1,) * 6
            return ones and not self.deep and g.PL == g.PR == 0
        return g.G == 1 and not self.deep and (self.run or (g.SW == 1 and g.IC == self.ICP))

    def _lines(self, channels: int) -> int:
        """Return the bytes of the strip that 32 pixels read in a pass over some channels."""
        g = self.g
        if self.columns:
            return 4 * channels * self.taps * BLOCK
        return 4 * channels * g.KH * self.CP * (BLOCK * (g.SW if self.run else 1) + (g.KW - 1) * g.DW // g.SW)

    def _channels_per_pass(self, share: int) -> int:
        """Input channels whose lines of 32 pixels stay in L1, times `share`, and whose strip stays in L2."""
        g = self.g
        if self.run:
            return g.ICG
        fit = share * L1_BYTES // self._lines(1)
        if self.columns:
            return max(1, min(fit, L2_BYTES // 2 // (4 * self.taps * self.CB), max(g.ICG, 1)))
        fit = min(fit, L2_BYTES // 2 // (4 * self.plane)) // BLOCK * BLOCK
        whole = ceil_div(max(g.ICG, 1), BLOCK) * BLOCK
        passes = ceil_div(whole, max(BLOCK, fit))
        return ceil_div(whole // BLOCK, passes) * BLOCK

    def _steps(self) -> int:
        """Return the steps of k of all passes."""
        g = self.g
        if self.run:
            return g.KH * ceil_div(g.KW * g.ICG, BLOCK)
        if self.columns:
            last = g.ICG - (self.PASSES - 1) * self.ICP
            return (self.PASSES - 1) * ceil_div(self.ICP * self.taps, BLOCK) + ceil_div(last * self.taps, BLOCK)
        return self.taps * ceil_div(g.ICG, BLOCK)

    def _parts(self) -> int:
        """Cut the channel tiles so that sums and weight of a pass stay in L2, and threads find enough tasks."""
        sums = self.TILES * self.C_TILES * 4 * BLOCK * BLOCK
        weight = self.TILES * ceil_div(self._steps(), self.PASSES) * 4 * BLOCK * BLOCK
        parts = max(1, ceil_div(sums, L2_BYTES // 2), ceil_div(weight, L2_BYTES))
        if self.g.macs > 4e6 and self.blocks * parts < MIN_TASKS:
            parts = ceil_div(MIN_TASKS, self.blocks)
        return min(parts, self.TILES)

    def _strip(self) -> dict[str, int]:
        """Return the memory of a strip: high parts, low parts, and the float32 that they are split from."""
        k = self.ICP * self.taps if self.columns else self.ICP
        if self.first:
            PLANE = spread((self.CB if self.columns else self.plane + self.SPILL) + BLOCK, 4)
            PIXEL, ROW, HALF = 4, 4 * PLANE, 64
            LOW, lines = ceil_div(k, BLOCK) * BLOCK // 2 * ROW + 256, k + 1 if self.columns else 2
            temporary = ceil_div(lines * PLANE * 4 + 256, 64) * 64
        else:
            PLANE = temporary = 0
            PIXEL = ROW = 2 * k * self.g.SW if self.run else ceil_div(k, BLOCK) * BLOCK * 2
            # Behind it a tile register reads on.
            HALF, LOW = 16 * ROW, ceil_div((self.plane + self.SPILL + 2 * BLOCK) * ROW + 512, 64) * 64
        sizes = {"PLANE": PLANE, "PIXEL": PIXEL, "TILE_ROW": ROW, "TILE_HALF": HALF, "LOW": LOW}
        return sizes | {"T_AT": 2 * LOW, "temporary": temporary}

    def _cycles(self) -> float:
        g = self.g
        runs = 1.0 if self.columns else 1 + BLOCK / self.P
        tiles = self.blocks * ceil_div(self.pixels, BLOCK) * self.TILES
        step = STEP[self.terms] * (1.0 if self._lines(self.ICP) <= 1.5 * L1_BYTES else 1.25)
        if self.first and not self.columns and g.KW > 1:
            step *= UNALIGNED
        work = tiles * (self._steps() * step + self.PASSES * SUMS + FINISH * runs)
        weight = 4 * g.OC * self._steps() * BLOCK
        if weight > L2_BYTES:
            work += weight * self.blocks / g.G / WEIGHT_BYTES_PER_CYCLE
        return work + self.PARTS * self._packing()

    def _packing(self) -> float:
        """Return the cycles to split the input into strips or columns."""
        g = self.g
        if self.columns:
            copied = g.G * g.N * g.OH * g.OW * g.ICG * self.taps
            return copied * (3 * COPY + SPLIT) + copied / min(g.OW, self.CB) * 2 * ROW_COPY
        lines = self.blocks * self.RP * self.CP * self.ROWS
        copied = lines * self.P * g.ICG * (g.SW if self.run else 1)
        if self._plain():
            return copied * SPLIT + lines * ROW_COPY * (g.ICG if self.first else 1)
        if self.first:
            row = ROW_COPY + (GATHER * (self.P % 16) if g.SW > 1 else 0.0)
            planes = self.blocks * self.RP * self.CP * g.ICG
            return copied * (COPY + SPLIT) + lines * g.ICG * row + planes * PLANE
        return copied * SPLIT + self.PASSES * lines * self.P * (g.SW if self.run else 1) * PIXEL
