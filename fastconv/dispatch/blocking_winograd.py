"""Cutting a Winograd convolution in runs of tiles, passes over channels and parts of output channels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from fastconv.dispatch.blocking import TILE_END, ceil_div, element_bits, spread, tile_cycles
from fastconv.geometry.conv import ConvGeometry

# Outputs of a tile along an axis, by the taps of the kernel.
MENU = {1: (1,), 3: (2, 4), 5: (2,)}
V_SHARE, M_SHARE = 0.45, 0.35


class WinogradBlocking(NamedTuple):
    """Tile sizes of Winograd convolution; those that are not here are as in `Blocking`, or in kernels/cpu/fields.py."""

    MR: int
    NV: int
    VL: int
    MH: int
    MW: int
    TH: int
    TW: int
    RUN: int
    SEGMENT: int
    ICP: int
    PASSES: int
    TILES: int
    PARTS: int
    PART_TILES: int
    V_BLOCK: int
    V_CHUNK: int
    M_TILE: int
    C_AT: int
    STRIP_AT: int
    Y_AT: int
    Y_PITCH: int
    scratch_bytes: int
    packed_elements: int
    tasks: int
    cycles: float


def winograd_blocking(g: ConvGeometry, target: Any) -> WinogradBlocking:
    """Return the cheapest blocking."""
    return min((cut.blocking() for cut in _cuts(g, target)), key=lambda b: b.cycles)


def _cuts(g: ConvGeometry, target: Any) -> Iterator[_Cut]:
    for MH in MENU[g.KH]:
        for MW in MENU[g.KW]:
            # Both axes have tiles of one size, or one axis has none.
            if MH != MW and min(g.KH, g.KW) > 1 and g.KH == g.KW:
                continue
            for tile in target.outer_tiles[:2]:
                yield from _runs(g, target, (MH, MW), tile)


def _runs(g: ConvGeometry, target: Any, outputs: tuple[int, int], tile: tuple[int, int]) -> Iterator[_Cut]:
    for blocks in (1, 2, 3, 4, 6, 8, 12, 16):
        for ICP in (32, 64, 128, 256, 512, 1 << 30):
            for part in (1, 2, 4, 8, 16, 1 << 30):
                cut = _Cut(g, target, outputs, tile, blocks, ICP, part)
                if cut.fits:
                    yield cut


class _Cut:
    """One candidate and all that follows from it."""

    def __init__(self, g, target, outputs, tile, blocks, ICP, part):
        self.g, self.target = g, target
        self.MH, self.MW = outputs
        self.MR, self.NV = tile
        self.size = element_bits(g) // 8
        self.VL = target.lanes(8 * self.size)
        self.NR = self.NV * self.VL
        self.NH, self.NW = self.MH + g.KH - 1, self.MW + g.KW - 1
        self.points = self.NH * self.NW
        self.TH, self.TW = ceil_div(g.OH, self.MH), ceil_div(g.OW, self.MW)
        self.total = g.N * g.OD * self.TH * self.TW
        self.channels = g.ICG * g.KD
        self.blocks = min(blocks, max(1, ceil_div(self.total, self.MR)))
        self.RUN = self.blocks * self.MR
        self.PASSES = max(1, ceil_div(self.channels, ICP))
        self.ICP = max(16, ceil_div(ceil_div(self.channels, self.PASSES), 16) * 16)
        self.PASSES = max(1, ceil_div(self.channels, self.ICP))
        self.TILES = ceil_div(g.OCG, self.NR)
        self.PARTS = ceil_div(self.TILES, min(part, self.TILES))
        self.PART_TILES = ceil_div(self.TILES, self.PARTS)
        self.PARTS = ceil_div(self.TILES, self.PART_TILES)
        self.runs = ceil_div(self.total, self.RUN)
        self.SEGMENT = min(self.TW, self.RUN, max(1, (64 - g.KW + 1) // self.MW))
        self.V_CHUNK = spread(self.points * self.MR * 16, self.size)
        self.V_BLOCK = ceil_div(self.ICP, 16) * self.V_CHUNK
        self.M_TILE = self.blocks * self.points * self.MR * self.NR
        self.m_tiles = self.PART_TILES if self.PASSES > 1 else 1

    @property
    def fits(self) -> bool:
        """Whether V and M are small enough, or as small as can be."""
        v, m = self.blocks * self.V_BLOCK * self.size, self.m_tiles * self.M_TILE * self.size
        l2 = self.target.l2_bytes
        small = self.blocks == 1 and self.ICP <= 32 and self.m_tiles == 1
        return small or (v <= V_SHARE * l2 and m <= M_SHARE * l2)

    def blocking(self) -> WinogradBlocking:
        """Return the candidate with its memory and its time."""
        pitch = ceil_div(self.SEGMENT * self.MW, self.VL) * self.VL
        sizes = (
            self.blocks * self.V_BLOCK,
            self.m_tiles * self.M_TILE,
            (self.NH * (self.SEGMENT * self.MW + self.NW - self.MW) + self.VL) * self.VL,
            (self.MH * pitch + self.VL) * self.NR,
        )
        at = [0]
        for n in sizes:
            at.append(at[-1] + ceil_div(n * self.size, 64) * 64)
        packed = self.g.G * self.TILES * self.points * self.channels * self.NR
        return WinogradBlocking(
            *(self.MR, self.NV, self.VL, self.MH, self.MW, self.TH, self.TW, self.RUN, self.SEGMENT),
            *(self.ICP, self.PASSES, self.TILES, self.PARTS, self.PART_TILES),
            *(self.V_BLOCK, self.V_CHUNK, self.M_TILE, *at[1:4], pitch),
            *(at[4], packed, self.runs * self.g.G * self.PARTS, self._cycles()),
        )

    def _cycles(self) -> float:
        g = self.g
        full, rest = divmod(self.total, self.RUN)
        mr_blocks = full * self.blocks + ceil_div(rest, self.MR)
        tile = tile_cycles(self.target, g, self.MR, self.NV) * self.channels
        tile += self.PASSES * (TILE_END + 1.5 * self.MR * self.NV)
        products = g.G * mr_blocks * self.TILES * self.points * tile
        again = self.PARTS if self.PASSES > 1 else 1
        vectors_in = g.G * ceil_div(self.channels, self.VL) * self.total * again
        vectors_out = g.G * ceil_div(g.OCG, self.VL) * self.total
        first = g.layout == "channels_first"
        load = 3.0 * self.points + (6.0 if first else 1.0) * self.NH * self.MW
        store = 2.5 * self.points + (10.0 if first else 4.0) * self.MH * self.MW
        weights = g.G * self.TILES * self.NR * self.channels * self.points * self.size * self.runs
        return products + vectors_in * load + vectors_out * store + weights / 16.0
