"""Cutting a convolution for the matrix unit: blocks of 32 x 32 sums, by a cycle model as in blocking.py."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from fastconv.dispatch.blocking import (
    BYTES_PER_CYCLE,
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
# Cycles, fitted to an Intel Xeon (Sapphire Rapids): a step of three products and of one, a block of sums from memory
# and back, its epilogue for each run of pixels, an element split, a pixel of a strip.
STEP = {3: 200.0, 1: 80.0}
SUMS, FINISH, SPLIT, PIXEL = 200.0, 280.0, 0.45, 14.0
# CPUs with the unit have 48 KB of L1 and 2 MB of L2.
L1_BYTES, L2_BYTES = 30 << 10, 1 << 20


class Bf16Blocking(NamedTuple):
    """Sizes as in `Blocking`; those of the matrix unit are in bytes, see kernels/cpu/fields.py."""

    TERMS: int
    COLUMNS: int
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
    STEP: int
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


def bf16_blocking(g: ConvGeometry, target: Any, terms: int = 3) -> Bf16Blocking:
    """Return the cheapest blocking; `terms` products for each one of float32."""
    return min((cut.blocking() for cut in _cuts(g.flat.planar, terms)), key=lambda b: b.cycles)


def _cuts(g: ConvGeometry, terms: int) -> Iterator[_Cut]:
    for columns in (False, True):
        # Windows of single pixels are the pixels.
        if columns and (g.ICG % BLOCK == 0 or g.KH * g.KW == 1):
            continue
        for RB, CB in block_sizes(g, columns, BLOCK):
            for share in (1, 2):
                yield _Cut(g, terms, columns, RB, CB, share)


class _Cut:
    """One candidate, and all that follows from it."""

    def __init__(self, g: ConvGeometry, terms: int, columns: bool, RB: int, CB: int, share: int):
        self.g, self.terms, self.columns, self.RB, self.CB = g, terms, columns, RB, CB
        self.first, self.taps = g.layout == "channels_first", g.KH * g.KW
        self.TILES = ceil_div(g.OCG, BLOCK)
        self.ROWS, self.P = RB + (g.KH - 1) * g.DH // g.SH, CB + (g.KW - 1) * g.DW // g.SW
        self.SPILL = 0
        if g.padding_mode == "zeros" and g.SW == 1 and CB == g.OW and 0 < g.PR <= min(g.PL, (g.KW - 1) * g.DW, 16):
            self.P, self.SPILL = g.W + g.PL, g.PR
        self.RP, self.CP = phases(g.SH, g.DH, g.KH), phases(g.SW, g.DW, g.KW)
        self.plane = self.RP * self.CP * self.ROWS * self.P
        self.pixels = CB if columns else (RB - 1) * self.P + CB
        self.ROW_BLOCKS = 1 if columns else ceil_div(g.OH, RB)
        self.COLUMN_BLOCKS = ceil_div(g.N * g.OH * g.OW, CB) if columns else ceil_div(g.OW, CB)
        self.blocks = (1 if columns else g.N) * g.G * self.ROW_BLOCKS * self.COLUMN_BLOCKS
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

    def _channels_per_pass(self, share: int) -> int:
        """Input channels whose lines of 32 pixels stay in L1, times `share`, and whose strip stays in L2."""
        g = self.g
        if self.columns:
            fit, strip = share * L1_BYTES // (4 * BLOCK * self.taps), 4 * self.taps * self.CB
            return max(1, min(fit, L2_BYTES // 2 // strip, max(g.ICG, 1)))
        lines = 4 * g.KH * self.CP * (BLOCK + (g.KW - 1) * g.DW // g.SW)
        fit = min(share * L1_BYTES // lines, L2_BYTES // 2 // (4 * self.plane)) // BLOCK * BLOCK
        whole = ceil_div(max(g.ICG, 1), BLOCK) * BLOCK
        passes = ceil_div(whole, max(BLOCK, fit))
        return ceil_div(whole // BLOCK, passes) * BLOCK

    def _steps(self) -> int:
        """Return the steps of k of all passes."""
        if self.columns:
            last = self.g.ICG - (self.PASSES - 1) * self.ICP
            return (self.PASSES - 1) * ceil_div(self.ICP * self.taps, BLOCK) + ceil_div(last * self.taps, BLOCK)
        return self.taps * ceil_div(self.g.ICG, BLOCK)

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
        if self.first:
            PLANE = spread((self.CB if self.columns else self.plane + self.SPILL) + BLOCK, 4)
            k = self.ICP * self.taps if self.columns else self.ICP
            LOW = ceil_div(k, BLOCK) * BLOCK // 2 * PLANE * 4 + 256
            lines = k + 1 if self.columns else 2
            return {
                "PLANE": PLANE,
                "STEP": 0,
                "PIXEL": 4,
                "TILE_ROW": 4 * PLANE,
                "TILE_HALF": 64,
                "LOW": LOW,
                "T_AT": 2 * LOW,
                "temporary": ceil_div(lines * PLANE * 4 + 256, 64) * 64,
            }
        k = self.ICP * self.taps if self.columns else self.ICP
        row = ceil_div(k, BLOCK) * BLOCK * 2
        pixels = (self.CB if self.columns else self.plane + self.SPILL) + 2 * BLOCK
        temporary = ceil_div((self.CB + BLOCK) * k * 4 + 64, 64) * 64 if self.columns else 0
        LOW = pixels * row + 256
        return {
            "PLANE": 0,
            "STEP": k,
            "PIXEL": row,
            "TILE_ROW": row,
            "TILE_HALF": 16 * row,
            "LOW": LOW,
            "T_AT": 2 * LOW,
            "temporary": temporary,
        }

    def _cycles(self) -> float:
        g = self.g
        runs = 1.0 if self.columns else 1 + BLOCK / self.P
        tiles = self.blocks * ceil_div(self.pixels, BLOCK) * self.TILES
        step = STEP[self.terms] * (1.0 if self._lines() <= 1.5 * L1_BYTES else 1.5)
        work = tiles * (self._steps() * step + self.PASSES * SUMS + FINISH * runs)
        weight = 4 * g.OC * ceil_div(g.ICG, BLOCK) * BLOCK * self.taps
        if weight > L2_BYTES:
            work += weight * self.blocks / g.G / WEIGHT_BYTES_PER_CYCLE
        return work + self.PARTS * self._packing()

    def _lines(self) -> int:
        """Return the bytes of the strip that 32 pixels read in a pass."""
        g = self.g
        if self.columns:
            return 4 * self.ICP * self.taps * BLOCK
        return 4 * self.ICP * g.KH * self.CP * (BLOCK + (g.KW - 1) * g.DW // g.SW)

    def _packing(self) -> float:
        """Return the cycles to split the input into strips or columns."""
        g = self.g
        if self.columns:
            copied = g.G * g.N * g.OH * g.OW * g.ICG * self.taps
            rows = copied / min(g.OW, self.CB) if self.first else g.G * g.N * g.OH * g.OW * (self.taps + 1)
        else:
            copied = self.blocks * self.plane * ceil_div(g.ICG, BLOCK) * BLOCK
            rows = self.blocks * self.RP * self.CP * self.ROWS * (g.ICG if self.first else self.P)
        one = 4 / BYTES_PER_CYCLE + SPLIT if self.first or self.columns else SPLIT
        return copied * one + rows * (ROW_COPY if self.first else PIXEL)
