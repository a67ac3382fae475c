"""What becomes of the sums of a weight gradient: chunks are added, and rows of filters turned to filters."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np

from fastconv._jit import njit
from fastconv.kernels.cpu import fields as F
from fastconv.kernels.cpu.copy_ops import copy_element
from fastconv.kernels.cpu.program import Kernel
from fastconv.kernels.cpu.rank_update import add_rows, turn_rows
from fastconv.kernels.cpu.row_ops import copy_row, int_at

# The addresses that both kernels of a gradient take: the sums of all chunks, and what becomes of them.
X, DY, SUMS, DWEIGHT, DBIAS = range(5)


class GradientProgram(NamedTuple):
    """The kernel that sums over bands and the one that finishes the sums, which share their fields."""

    bands: Kernel
    finish: Kernel
    g: np.ndarray
    tables: list[np.ndarray]


@cache
def finish_kernel(BITS: int, VL: int) -> Any:
    """Return the kernel that adds the chunks of each tile and turns the sums to (OC, ICG * taps).

    ROW_PLACES is a table of where the rows of a tile's sums, elements of its filters, stand among them.
    """
    size = BITS // 8

    @njit()
    def finish_gradient(g, io, scratch, lo, hi):
        """Tasks are [group][block of input channels][tile of output channels]."""
        NR, K, TAPS = g[F.NR], g[F.ICG] * g[F.KH] * g[F.KW], g[F.KH] * g[F.KW]
        for t in range(lo, hi):
            tile, p = t % g[F.TILES], t // g[F.TILES] % g[F.PASSES]
            group = t // g[F.TILES] // g[F.PASSES]
            sums = io[SUMS] + size * t * g[F.AREA]
            add_rows(BITS, sums, g[F.G] * g[F.PASSES] * g[F.TILES] * g[F.AREA], g[F.CHUNKS], g[F.AREA])
            lanes, rows = min(NR, g[F.OCG] - tile * NR), min(g[F.ICP], g[F.ICG] - p * g[F.ICP]) * TAPS
            channel = group * g[F.OCG] + tile * NR
            dst = io[DWEIGHT] + size * (channel * K + p * g[F.ICP] * TAPS)
            if rows >= VL and lanes >= VL:
                for m0 in range(0, rows, VL):
                    m = min(m0, rows - VL)
                    for o0 in range(0, lanes, VL):
                        o = min(o0, lanes - VL)
                        to = dst + size * (o * K + m)
                        turn_rows(BITS, to, g[F.PLANE_ROWS], sums + size * o, g[F.ROW_PLACES] + 8 * m)
            else:
                for lane in range(lanes):
                    for m in range(rows):
                        source = sums + size * (int_at(g[F.ROW_PLACES], m) + lane)
                        copy_element(BITS, dst + size * (lane * K + m), source)
            if io[DBIAS] and p == 0:
                copy_row(BITS, io[DBIAS] + size * channel, sums + size * g[F.BIAS_AT], lanes)

    return finish_gradient
