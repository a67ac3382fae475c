"""Packing of the weight, once per plan or per plain call.

* Panels [tile][pass][k/16][m][16] for a weight that is broadcast (pixels in lanes): whole cache lines, and constant
  distances between the rows of a register tile.
* Rows [tile][k][NR] for a weight in lanes, k in the order in which the kernel meets its terms.

Addresses are integers, sizes in elements.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from fastconv._jit import njit
from fastconv.kernels.cpu.copy_ops import copy_element
from fastconv.kernels.cpu.program import Packer, address, table
from fastconv.kernels.cpu.row_ops import copy_row, int_at, transpose, zero_row

# Fields of the int64 array `p` of the weight packers; TO is the address of a table: where weight column k goes in a
# tile. OVERLAP: the last tile of lanes is a whole one, which overlaps its neighbour.
PACK_FIELDS = ("OCG", "K", "TILES", "KP", "PANEL", "TO", "OVERLAP")
OCG, K_ALL, TILES, KP, PANEL, TO, OVERLAP = range(len(PACK_FIELDS))


@cache
def panel_kernel(BITS, MR):
    """Return `pack(p, io, scratch, lo, hi)`: weight (G*OCG, K) to panels [G*tiles][pass][S][MR][16], tiles lo to hi."""
    size = BITS // 8

    @njit()
    def pack_panels(p, io, scratch, lo, hi):
        K = p[K_ALL]
        for t in range(lo, hi):
            group, tile = t // p[TILES], t % p[TILES]
            rows = min(MR, p[OCG] - tile * MR)
            src = io[0] + size * (group * p[OCG] + tile * MR) * K
            dst = io[1] + size * t * p[PANEL]
            for k0 in range(0, K, p[KP]):
                for k in range(k0, min(k0 + p[KP], K), 16):
                    n = min(16, min(k0 + p[KP], K) - k)
                    for m in range(rows):
                        copy_row(BITS, dst + size * m * 16, src + size * (m * K + k), n)
                    zero_row(BITS, dst + size * rows * 16, (MR - rows) * 16)
                    dst += size * MR * 16

    return pack_panels


@cache
def lane_kernel(BITS, NR, VL):
    """Return `pack(p, io, scratch, lo, hi)`: weight (G*OCG, K) to rows [G*tiles][K][NR], tiles lo to hi.

    Whole VL x VL blocks are transposed in registers; the ragged rest is moved by element.
    """
    size = BITS // 8

    @njit()
    def pack_lanes(p, io, scratch, lo, hi):
        K, table = p[K_ALL], p[TO]
        for t in range(lo, hi):
            group, tile = t // p[TILES], t % p[TILES]
            first = tile * NR
            if p[OVERLAP]:
                first = min(first, p[OCG] - NR)
            lanes = min(NR, p[OCG] - first)
            src = io[0] + size * (group * p[OCG] + first) * K
            dst = io[1] + size * t * p[PANEL]
            if lanes < NR:
                zero_row(BITS, dst, K * NR)
            squares = lanes // VL * VL
            whole = K // VL * VL if squares else 0
            # VL source rows are VL streams, which the CPU prefetches; NR of them would be too many.
            for o in range(0, squares, VL):
                for k in range(0, whole, VL):
                    transpose(BITS, dst + size * o, table + 8 * k, src + size * (o * K + k), K)
            for i in range(lanes):
                for k in range(whole if i < squares else 0, K):
                    copy_element(BITS, dst + size * (i + int_at(table, k)), src + size * (i * K + k))

    return pack_lanes


def panels(bits: int, b: Any, OCG: int, groups: int, K: int, KP: int, panel: int) -> Packer:
    """Return the packer of a weight (groups * OCG, K) to panels; a pass has KP columns, a tile `panel` elements."""
    tasks = groups * b.TILES
    return Packer(panel_kernel(bits, b.MR), table((OCG, K, b.TILES, KP, panel, 0, 0)), tasks, tasks * panel)


def lanes(bits: int, b: Any, OCG: int, tasks: int, K: int, order: np.ndarray, overlap: bool = False) -> Packer:
    """Return the packer of a weight (groups * OCG, K) to `tasks` tiles of rows; column k becomes row order[k]."""
    NR = b.NV * b.VL
    to = order * NR
    p = table((OCG, K, b.TILES, K, K * NR, address(to), overlap))
    return Packer(lane_kernel(bits, NR, b.VL), p, tasks, tasks * K * NR, (to,))
