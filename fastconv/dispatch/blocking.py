"""Cutting a convolution in blocks, passes and register tiles: the cheapest of a small menu by a cycle model.

The model counts, for one thread: fused multiply-adds of all register tiles, those on ragged edges included; loads where
they are the bound; the ends of tiles; packing. It decides among blockings of one algorithm and, through `cost.py`, among
algorithms.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from fastconv.geometry.conv import ConvGeometry

# Cycles, fitted to the measured kernels of an AVX2 and an AVX-512 CPU (bench/).
TILE_END = 30.0
ROW_END = 14.0
ROW_COPY = 25.0
BYTES_PER_CYCLE = 10.0
# A weight that does not fit in L2 is read anew for every block.
WEIGHT_BYTES_PER_CYCLE = 16.0
# A pass keeps its lines of one pixel tile within this share of L1, its weights and C tiles within these of L2.
L1_SHARE, L2_SHARE = 0.6, 0.4
# With few terms the walk over all pixels of a channel tile is faster: it writes MR planes at a time, not all of them.
TILE_OUTER_K = 300
# To transpose one element, in blocks of VL x VL.
TRANSPOSE_CYCLES = 1.0
# Blocks are also what threads share: a big problem is cut in at least so many tasks.
MIN_TASKS = 8
BIG = 2e5


class Blocking(NamedTuple):
    """Tile sizes of one algorithm on one problem; `cycles` is the model's time of all of it on one thread.

    With LANES output channels are the lanes of a register tile of MR pixels, else pixels are those of MR channels.
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
    IMAGES: int
    TILES: int
    PARTS: int
    PART_TILES: int
    TILE_OUTER: int
    ROWS: int
    P: int
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


def phases(stride: int, dilation: int, kernel: int) -> int:
    """Return how many stride phases the taps 0, dilation, 2 * dilation, … fall in."""
    return len({k * dilation % stride for k in range(min(kernel, stride))})


def ceil_div(a: int, b: int) -> int:
    """Return a / b, rounded up."""
    return -(-a // b)


def spread(elements: int, size: int) -> int:
    """Round up to an odd number of cache lines, so that neighbouring planes do not fall into the same sets."""
    lines = ceil_div(elements * size, 64)
    return (lines | 1) * 64 // size


def tile_cycles(target: Any, MR: int, NV: int) -> float:
    """Cycles of one k in a register tile: two FMAs or two loads a cycle, at least eight FMAs in flight."""
    fmas = max(MR * NV, 8) / 2 * (1 if target.fma else 2)
    loads = (MR + (2.0 if target.vector_bytes == 64 else 1.5) * NV + 1) / 2
    return max(fmas, loads)


def gemm_blocking(g: ConvGeometry, target: Any, columns: bool) -> Blocking:
    """Return the cheapest blocking of direct convolution, or with `columns` of im2col."""
    return min(_candidates(g.flat, target, columns), key=lambda b: b.cycles)


def _candidates(g: ConvGeometry, target: Any, columns: bool) -> Iterator[Blocking]:
    size = int(g.dtype[5:]) // 8
    last = g.layout == "channels_last"
    for LANES in (True,) if last else (False,) if columns else (False, True):
        for MR, NV in target.outer_tiles:
            for RB, CB in _block_sizes(g, columns, NV * target.lanes(8 * size)):
                yield _blocking(g, target, columns, size, (MR, NV), (RB, CB), LANES)


def _block_sizes(g: ConvGeometry, columns: bool, NR: int) -> Iterator[tuple[int, int]]:
    """Yield (rows, columns) of output blocks; for im2col rows = 1 and columns count pixels of the whole batch."""
    if columns:
        total = max(g.N * g.OH * g.OW, 1)
        for tiles in (2, 4, 8, 16):
            yield 1, min(tiles * NR, ceil_div(total, NR) * NR)
        return
    for parts in {1, max(1, g.OW // 256), max(1, g.OW // 96)}:
        CB = ceil_div(g.OW, parts)
        for RB in sorted({min(g.OH, rows) for rows in (1, 2, 4, 7, 8, 14, 16, 28, 32)}):
            if RB * CB <= 4096 or RB == 1:
                yield RB, CB


def _blocking(g, target, columns, size, tile, block, LANES) -> Blocking:
    (MR, NV), (RB, CB), taps = tile, block, g.KH * g.KW
    first, VL = not LANES, target.lanes(8 * size)
    turned = LANES and g.layout == "channels_first"
    NR = NV * VL
    TILES = ceil_div(g.OCG, MR if first else NR)
    ROWS, P = RB + (g.KH - 1) * g.DH // g.SH, CB + (g.KW - 1) * g.DW // g.SW
    RP, CP = phases(g.SH, g.DH, g.KH), phases(g.SW, g.DW, g.KW)
    ICP = _channels_per_pass(g, target, size, columns, NR, RP * CP * ROWS * P, LANES)
    PASSES = max(1, ceil_div(g.ICG, ICP))
    ICP = max(1, ceil_div(g.ICG, PASSES))
    pixels = CB if columns else (RB - 1) * P + CB
    if columns:
        PLANE = spread(CB + NR, size) if first else ICP * taps
        strip = ICP * taps * PLANE if first else (CB + MR) * PLANE
    else:
        PLANE = spread(RP * CP * ROWS * P, size) if first else RP * CP * ROWS * P
        strip = ICP * PLANE + (NR if first else MR * ICP)
    IMAGES, ROW_BLOCKS = (1, 1) if columns else (g.N, ceil_div(g.OH, RB))
    COLUMN_BLOCKS = ceil_div(g.N * g.OH * g.OW, CB) if columns else ceil_div(g.OW, CB)
    blocks = IMAGES * g.G * ROW_BLOCKS * COLUMN_BLOCKS
    C_TILES = ceil_div(pixels, NR if first else MR) if PASSES > 1 else 0
    PARTS = _parts(g, target, size, MR * NR * C_TILES, ICP * taps * (MR if first else NR), TILES, blocks)
    PART_TILES = ceil_div(TILES, PARTS)
    PARTS = ceil_div(TILES, PART_TILES)
    TILE_OUTER = int(first and PASSES == 1 and MR * g.ICG * taps < TILE_OUTER_K)
    scratch = -(-strip * size // 64) * 64 + max(1, PART_TILES * C_TILES) * MR * NR * size
    T_PITCH = 0
    if turned:
        # The C tiles of a block, with room for the last transposed square; then the transposed block.
        T_PITCH = spread(ceil_div(pixels, VL) * VL, size)
        block_c = (ceil_div(pixels, MR) * MR + VL) * NR * size
        scratch = -(-strip * size // 64) * 64 + (PART_TILES if PASSES > 1 else 1) * block_c + NR * T_PITCH * size
    segments = PASSES * ceil_div(ICP * taps, 16)
    packed = g.G * TILES * (segments * MR * 16 if first else g.ICG * taps * NR)
    cycles = _cycles(g, target, columns, size, (MR, NV, NR), (RB, CB, P), (blocks, TILES, PARTS, PASSES), LANES)
    return Blocking(
        *(MR, NV, VL, int(LANES), ICP, PASSES, RB, CB, ROW_BLOCKS, COLUMN_BLOCKS, IMAGES, TILES, PARTS, PART_TILES, TILE_OUTER),
        *(ROWS, P, RP, CP, PLANE, C_TILES, T_PITCH, strip, scratch, packed, blocks * PARTS, cycles),
    )


def _channels_per_pass(g, target, size, columns, NR, plane, LANES) -> int:
    """Input channels whose lines of one pixel tile fit in L1, and whose block of the input fits in L2."""
    taps = g.KH * g.KW
    if LANES:
        l1 = taps * NR * size
    elif columns:
        l1 = taps * (NR * size + 32)
    else:
        l1 = g.KH * phases(g.SW, g.DW, g.KW) * ((NR + (g.KW - 1) * g.DW // g.SW) * size + 32)
    fit = int(target.l1_bytes * L1_SHARE) // l1
    if not columns:
        fit = min(fit, int(target.l2_bytes * L2_SHARE) // (plane * size))
    # A pass that is too short pays more for its C tiles than it gains.
    return max(1, min(max(fit, 48 // taps), max(g.ICG, 1)))


def _parts(g, target, size, c_tile, panel, TILES, blocks) -> int:
    """Cut the channel tiles so that the C tiles and the weights of a pass stay in L2, and threads find enough tasks."""
    budget = target.l2_bytes * L2_SHARE
    parts = max(1, ceil_div(TILES * c_tile * size, int(budget)), ceil_div(TILES * panel * size, int(budget)))
    if g.macs > BIG * target.lanes(8 * size) and blocks * parts < MIN_TASKS:
        parts = ceil_div(MIN_TASKS, max(1, blocks))
    return min(parts, TILES)


def _cycles(g, target, columns, size, tile, block, counts, LANES) -> float:
    (MR, NV, NR), (RB, CB, P), (blocks, TILES, PARTS, PASSES) = tile, block, counts
    first, K, pixels = not LANES, g.ICG * g.KH * g.KW, g.N * g.OH * g.OW
    step = NR if first else MR
    if columns:
        tiles = g.G * (blocks // g.G * ceil_div(CB, step) if blocks else 0)
        ragged = g.G * (g.N if g.OH * g.OW % step else 0)
        copied, rows = g.G * pixels * K, g.G * K * max(1, pixels // min(g.OW, CB)) if first else g.G * pixels * g.KH * g.KW
    else:
        RP, CP = phases(g.SH, g.DH, g.KH), phases(g.SW, g.DW, g.KW)
        ROWS = RB + (g.KH - 1) * g.DH // g.SH
        tiles = blocks * ceil_div((min(RB, g.OH) - 1) * P + CB, step)
        whole = blocks * RB * max(0.0, (CB - step + 1) / step)
        ragged = max(0.0, tiles - whole)
        copied = blocks * RP * CP * ROWS * P * g.ICG
        rows = blocks * RP * CP * ROWS * (g.ICG if first else (1 if g.SW == 1 and g.IC == g.ICG else P))
    # Tiles beyond OCG are padded, so their work is real.
    calls = tiles * TILES
    k = K * tile_cycles(target, MR, NV)
    ends = (TILE_END + 1.5 * MR * NV) * PASSES
    per_ragged = MR * ROW_END * (max(1.0, step / min(P, g.OW)) + 1 if first and not columns else 1.5)
    if not first and g.OCG % NR:
        ragged += tiles / TILES
    packing = PARTS * (copied * size / BYTES_PER_CYCLE + rows * ROW_COPY)
    if LANES and g.layout == "channels_first":
        # Input and output are transposed; no tile is finished by itself.
        ragged = 0.0
        packing += TRANSPOSE_CYCLES * (PARTS * copied + g.OC * pixels)
    weight = g.OC * K * size
    reading = weight * blocks / g.G / WEIGHT_BYTES_PER_CYCLE if weight > target.l2_bytes * L2_SHARE else 0.0
    return calls * (k + ends) + ragged * TILES * per_ragged + packing + reading
