"""Cutting a Winograd convolution in runs of tiles, passes over channels and parts of output channels.

The model counts, for one thread: products, as in blocking.py; both transforms of data, for each vector of channels of a
tile; a transformed weight that L2 does not hold, which is fetched, for each run of tiles, while products are computed.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

from fastconv.dispatch import load
from fastconv.dispatch.blocking import BIG, MIN_TASKS, ceil_div, element_bits, spread, tile_cycles
from fastconv.dispatch.cost import OpCount, winograd_ops
from fastconv.geometry.conv import ConvGeometry

# Outputs of a tile along an axis, by the taps of the kernel; F(4,5) only along one axis. F(6x6,3x3) keeps within the
# bound of the error (1.5e-5 of the largest output, where F(4x4,3x3) has 2e-6), but was not faster on any layer: its
# transformed tiles are as many bytes, and its weight is 1.8 times as large.
OUTPUTS = {1: (1,), 3: (2, 4), 5: (2, 4)}
# Shares of L2 for the transformed input and for the products of a run.
V_SHARE, M_SHARE = 0.5, 0.5
# Pixels of one row of a strip in L1.
STRIP_PIXELS = 64
# Cycles, fitted to an Intel Xeon (Sapphire Rapids): end of a register tile; for each vector of channels of a tile, one
# transformed position, one pixel in (transposed and as it is) and the rest; and the same on the way out.
TILE_END = 20.0
IN_POINT, IN_PIXEL, IN_REST = 5.8, (1.5, 3.5), 110.0
OUT_POINT, OUT_PIXEL, OUT_REST = 4.0, (5.0, 7.0), 150.0
STREAM_BYTES_PER_CYCLE = 7.0
# Cost of an element of the transformed weight, in that of a packed one; fresh memory comes in pages of zeros.
TRANSFORMED, TRANSFORMED_FRESH, KEPT_BYTES = 1.8, 5.0, 16 << 20
# A pass over few channels is not worth its sums.
LEAST_CHANNELS = 32


class WinogradBlocking(NamedTuple):
    """Tile sizes; names as in `Blocking`, those of tiles as in kernels/cpu/fields.py."""

    MR: int
    NV: int
    VL: int
    MH: int
    MW: int
    TH: int
    TW: int
    TILE_RUN: int
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


@lru_cache(maxsize=256)
def winograd_blocking(g: ConvGeometry, target: Any) -> WinogradBlocking:
    """Return the cheapest blocking."""
    return min(_cuts(g, target), key=lambda cut: cut.cycles).blocking()


def planned_ops(g: ConvGeometry, bias: bool = False) -> OpCount:
    """Count the operations with the tiles that the planner takes."""
    b = winograd_blocking(g, load.target())
    return winograd_ops(g, bias, (b.MH, b.MW))


def tile_menu(g: ConvGeometry) -> list[tuple[int, int]]:
    """Return the (MH, MW) for a kernel, both small or both large."""
    if g.KH == g.KW == 5:
        return [(2, 2)]
    small, large = ((OUTPUTS[g.KH][i], OUTPUTS[g.KW][i]) for i in (0, -1))
    if 5 in (g.KH, g.KW) and 1 not in (g.KH, g.KW):
        large = (2 if g.KH == 5 else 4, 2 if g.KW == 5 else 4)
    return [small, large]


def _cuts(g: ConvGeometry, target: Any) -> Iterator[_Cut]:
    for outputs in tile_menu(g):
        shape = _Shape(g, target, outputs)
        for blocks in sorted({min(n, shape.all_blocks) for n in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)}):
            for passes in sorted({1, *(ceil_div(shape.channels, n) for n in (32, 64, 128, 256))}):
                for part in (1, 2, 4, 8) if passes > 1 else (shape.TILES,):
                    cut = _Cut(shape, blocks, passes, part)
                    if cut.fits:
                        yield cut


class _Shape:
    """What follows from the problem and the tile of outputs."""

    def __init__(self, g: ConvGeometry, target: Any, outputs: tuple[int, int]):
        self.g, self.target = g, target
        (self.MH, self.MW), (self.MR, self.NV) = outputs, target.winograd_tile
        self.size = element_bits(g) // 8
        self.VL = target.lanes(8 * self.size)
        self.NR = self.NV * self.VL
        self.NH, self.NW = self.MH + g.KH - 1, self.MW + g.KW - 1
        self.points = self.NH * self.NW
        self.TH, self.TW = ceil_div(g.OH, self.MH), ceil_div(g.OW, self.MW)
        self.total = g.N * g.OD * self.TH * self.TW
        self.all_blocks = max(1, ceil_div(self.total, self.MR))
        self.channels = g.ICG * g.KD
        self.TILES = ceil_div(g.OCG, self.NR)
        self.V_CHUNK = spread(self.points * self.MR * 16, self.size)
        self.packed = g.G * self.TILES * self.NR * self.channels * self.points


class _Cut:
    """One candidate: runs of `blocks` register tiles, passes, and `part` channel tiles a task."""

    def __init__(self, shape: _Shape, blocks: int, passes: int, part: int):
        self.shape, self.blocks = shape, blocks
        self.TILE_RUN, self.runs = blocks * shape.MR, ceil_div(shape.total, blocks * shape.MR)
        # Panels have room for 16 channels.
        self.ICP = max(16, ceil_div(ceil_div(shape.channels, passes), 16) * 16)
        self.PASSES = max(1, ceil_div(shape.channels, self.ICP))
        self.V_BLOCK = ceil_div(self.ICP, 16) * shape.V_CHUNK
        self.M_TILE = blocks * shape.points * shape.MR * shape.NR
        self.PART_TILES = min(self._part(part), shape.TILES)
        self.PARTS = ceil_div(shape.TILES, self.PART_TILES)
        self.tasks = self.runs * shape.g.G * self.PARTS
        self.m_tiles = self.PART_TILES if self.PASSES > 1 else 1
        self.cycles = self._cycles()

    def _part(self, part: int) -> int:
        """Return the channel tiles of a task, few enough that threads share the work."""
        s = self.shape
        tasks = self.runs * s.g.G
        if s.g.macs > BIG * s.VL and tasks * ceil_div(s.TILES, part) < MIN_TASKS:
            return max(1, s.TILES * tasks // MIN_TASKS)
        return part

    @property
    def fits(self) -> bool:
        """Whether the transformed input and the products stay in L2, or are as small as can be."""
        l2, size = self.shape.target.l2_bytes, self.shape.size
        v, m = self.blocks * self.V_BLOCK * size, self.m_tiles * self.M_TILE * size
        least = self.blocks == 1 and self.ICP <= LEAST_CHANNELS and self.PART_TILES == 1
        return least or (v <= V_SHARE * l2 and m <= M_SHARE * l2)

    def blocking(self) -> WinogradBlocking:
        """Return the candidate with its memory."""
        s, g = self.shape, self.shape.g
        SEGMENT = min(s.TW, self.TILE_RUN, max(1, (STRIP_PIXELS - g.KW + 1) // s.MW))
        Y_PITCH = ceil_div(SEGMENT * s.MW, s.VL) * s.VL
        # Transposed squares write, and read, VL pixels at least.
        strip = (s.NH * (SEGMENT * s.MW + g.KW - 1) + s.VL) * s.VL
        sizes = (self.blocks * self.V_BLOCK, self.m_tiles * self.M_TILE, strip, (s.MH * Y_PITCH + s.VL) * s.NR)
        at = [0]
        for elements in sizes:
            at.append(at[-1] + ceil_div(elements * s.size, 64) * 64)
        # In a single pass all tiles of channels take turns in one place.
        M_TILE = self.M_TILE if self.PASSES > 1 else 0
        columns = (self.V_BLOCK, s.V_CHUNK, M_TILE, at[1], at[2], at[3], Y_PITCH)
        return WinogradBlocking(
            *(s.MR, s.NV, s.VL, s.MH, s.MW, s.TH, s.TW, self.TILE_RUN, SEGMENT, self.ICP, self.PASSES),
            *(s.TILES, self.PARTS, self.PART_TILES, *columns, at[4], self._packing(), self.tasks),
            self.cycles,
        )

    def _packing(self) -> int:
        """Return how many elements could be packed while the weight is transformed."""
        packed = self.shape.packed
        return int(packed * (TRANSFORMED if packed * self.shape.size <= KEPT_BYTES else TRANSFORMED_FRESH))

    def _cycles(self) -> float:
        s, g = self.shape, self.shape.g
        full, rest = divmod(s.total, self.TILE_RUN)
        register_tiles = g.G * (full * self.blocks + ceil_div(rest, s.MR)) * s.TILES * s.points
        products = register_tiles * (tile_cycles(s.target, g, s.MR, s.NV) * s.channels + self.PASSES * TILE_END)
        weight = s.packed * s.size
        streams = self.runs if weight > s.target.l2_bytes * (1 - V_SHARE) else 1
        stream = streams * weight / STREAM_BYTES_PER_CYCLE
        first = g.layout == "channels_first"
        loads = g.G * ceil_div(s.channels, s.VL) * s.total * (self.PARTS if self.PASSES > 1 else 1)
        stores = g.G * ceil_div(g.OCG, s.VL) * s.total
        load = IN_POINT * s.points + IN_PIXEL[first] * s.NH * s.MW + IN_REST
        store = OUT_POINT * s.points + OUT_PIXEL[first] * s.MH * s.MW + OUT_REST
        return max(products, stream) + 0.25 * min(products, stream) + loads * load + stores * store
