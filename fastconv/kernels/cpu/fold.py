"""unfold: sliding blocks as columns; fold: the sum of columns where they overlap.

Columns are (planes * K, L), K the kernel offsets and L the positions of a plane (D, H, W). Unfolding writes one row
of L after the other, by the row operations that pack strips of a convolution. Folding is the gather of its transpose:
an output row adds up the column rows that reach it, in the order of kernel offsets, as PyTorch does. What stands SW
apart is kept together (phases) while it is summed, so that every column row is added as whole vectors, whatever the
stride and the padding; the phases are interleaved once, as the row is stored.
"""

from __future__ import annotations

import math
from functools import cache, lru_cache
from typing import Any

import numpy as np

from fastconv._jit import inline, njit
from fastconv.kernels.cpu import target as targets
from fastconv.kernels.cpu.element_ops import add_row, load_at, store_at, zero_bytes
from fastconv.kernels.cpu.packing import columns_inside
from fastconv.kernels.cpu.program import Program
from fastconv.kernels.cpu.row_ops import copy_row, fill_rows

# The fields of g. PITCH: elements of a phase of the sums.
D_, H_, W_, OD_, OH_, OW_, KD_, KH_, KW_, SD_, SH_, SW_, PF_, PT_, PL_, DD_, DH_, DW_, PITCH = range(19)


@lru_cache(maxsize=128)
def build(operation: str, bits: int, planes: int, problem: tuple[int, ...]) -> Program:
    """Return the program of "unfold" or "fold", io = (x, out); `problem` are the fields of g but for PITCH."""
    offsets, positions = math.prod(problem[KD_ : KW_ + 1]), math.prod(problem[OD_ : OW_ + 1])
    shifts = (problem[KW_] - 1) * problem[DW_] // problem[SW_]
    pitch = max(problem[OW_] + shifts, (problem[W_] + problem[PL_] - 1) // problem[SW_] + 1, 0)
    g = np.array([*problem, pitch], np.int64)
    if operation == "unfold":
        return Program(_unfold(bits), g, planes * offsets if positions else 0, 0, ())
    return Program(_fold(bits), g, planes * problem[D_] * problem[H_], bits // 8 * pitch * problem[SW_], ())


@inline
def fill_exactly(BITS, dst, src, first, last, step, n):
    """dst[i] = src[(i - first) * step] for first <= i < last, 0 for the other i < n: nothing behind them is written."""
    size = BITS // 8
    zero_bytes(dst, size * first)
    if step == 1:
        copy_row(BITS, dst + size * first, src, last - first)
    else:
        for i in range(last - first):
            store_at(BITS, dst, first + i, load_at(BITS, src, i * step))
    zero_bytes(dst + size * last, size * (n - last))


@cache
def _unfold(BITS: int) -> Any:
    size, VL = BITS // 8, targets.current().lanes(BITS)

    @njit()
    def unfold(g, io, scratch, lo, hi):
        """Tasks are rows of columns: a kernel offset of a plane."""
        OH, OW, SW, length = g[OH_], g[OW_], g[SW_], g[OD_] * g[OH_] * g[OW_]
        end = io[1] + size * hi * length
        for row in range(lo, hi):
            kw, kh = row % g[KW_], row // g[KW_] % g[KH_]
            kd, plane = row // (g[KW_] * g[KH_]) % g[KD_], row // (g[KW_] * g[KH_] * g[KD_])
            w0, h0, dst = kw * g[DW_] - g[PL_], kh * g[DH_] - g[PT_], io[1] + size * row * length
            first, last = columns_inside(w0, SW, g[W_], OW)
            top, bottom = columns_inside(h0, g[SH_], g[H_], OH)
            for od in range(g[OD_]):
                d = od * g[SD_] + kd * g[DD_] - g[PF_]
                inside = 0 <= d < g[D_] and last > first
                zero_bytes(dst, size * OW * (top if inside else OH))
                if inside:
                    h = (plane * g[D_] + d) * g[H_] + h0 + top * g[SH_]
                    src, to = io[0] + size * (h * g[W_] + w0 + first * SW), dst + size * OW * top
                    lds, rows = g[SH_] * g[W_], bottom - top
                    # `fill_rows` writes up to a vector too much, but never into what another call writes.
                    safe = min(rows, (end - to) // size // OW - VL // OW - 1)
                    if safe > 0:
                        fill_rows(BITS, to, src, safe, lds, first, last, SW, OW)
                    for r in range(max(safe, 0), rows):
                        fill_exactly(BITS, to + size * r * OW, src + size * r * lds, first, last, SW, OW)
                    zero_bytes(dst + size * OW * bottom, size * OW * (OH - bottom))
                dst += size * OH * OW

    return unfold


@inline
def add_columns(BITS, sums, columns, g, plane, d, h):
    """Add the column rows that reach output row (d, h) of a plane to the phases of its sums."""
    size, SW, DW, OW, pitch = BITS // 8, g[SW_], g[DW_], g[OW_], g[PITCH]
    for kd in range(g[KD_]):
        od = d + g[PF_] - kd * g[DD_]
        if od % g[SD_] or not 0 <= od // g[SD_] < g[OD_]:
            continue
        for kh in range(g[KH_]):
            oh = h + g[PT_] - kh * g[DH_]
            if oh % g[SH_] or not 0 <= oh // g[SH_] < g[OH_]:
                continue
            k = ((plane * g[KD_] + kd) * g[KH_] + kh) * g[KW_]
            at = (od // g[SD_]) * g[OH_] + oh // g[SH_]
            for kw in range(g[KW_]):
                row = columns + size * ((k + kw) * g[OD_] * g[OH_] + at) * OW
                add_row(BITS, sums + size * (kw * DW % SW * pitch + kw * DW // SW), row, OW)


@cache
def _fold(BITS: int) -> Any:
    size = BITS // 8

    @njit(fastmath=False)
    def fold(g, io, scratch, lo, hi):
        """Tasks are output rows."""
        W, SW, PL, pitch = g[W_], g[SW_], g[PL_], g[PITCH]
        for row in range(lo, hi):
            out = io[1] + size * row * W
            zero_bytes(scratch, size * SW * pitch)
            add_columns(BITS, scratch, io[0], g, row // (g[H_] * g[D_]), row // g[H_] % g[D_], row % g[H_])
            if SW == 1:
                copy_row(BITS, out, scratch + size * PL, W)
                continue
            for phase in range(SW):
                i = -((phase - PL) // SW)
                w = i * SW + phase - PL
                while w < W:
                    store_at(BITS, out, w, load_at(BITS, scratch, phase * pitch + i))
                    w += SW
                    i += 1

    return fold
