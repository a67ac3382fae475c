"""Winograd's transform of the weight, once per plan or per plain call: [group][pass][tile][p][channel][NR].

Some channels of a tile of output channels are transposed to [channel][tap][NR] in L1, transformed to [p][channel][NR]
in L2, and copied from there, run by run: 36 streams of single lines would be three times as slow.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from fastconv._jit import njit
from fastconv.kernels.cpu.program import Packer, table
from fastconv.kernels.cpu.row_ops import copy_row, zero_row
from fastconv.kernels.cpu.squares import turn
from fastconv.kernels.cpu.winograd_transforms import weights_in

# Fields of the int64 array `p`: C input channels (ic, kd) of a group.
WEIGHT_FIELDS = ("OCG", "C", "KD", "TILES", "ICP")
OCG, C, KD, TILES, ICP = range(len(WEIGHT_FIELDS))
# Channels that are transposed together.
TOGETHER = 4


@cache
def weight_kernel(BITS, NV, VL, MH, RH, MW, RW):
    """Return `pack(p, io, scratch, lo, hi)`: weight (G*OCG, C, RH, RW) to transformed tiles lo to hi."""
    size, NR, TAPS, POINTS = BITS // 8, NV * VL, RH * RW, (MH + RH - 1) * (MW + RW - 1)

    @njit()
    def pack_winograd(p, io, scratch, lo, hi):
        K, ICT, rows = p[C] * TAPS, p[C] // p[KD], scratch + size * (TOGETHER * TAPS + VL) * NR
        for t in range(lo, hi):
            group, tile = t // p[TILES], t % p[TILES]
            lanes = min(NR, p[OCG] - tile * NR)
            src = io[0] + size * (group * p[OCG] + tile * NR) * K
            if lanes < NR:
                zero_row(BITS, scratch, (TOGETHER * TAPS + VL) * NR)
            for c in range(0, p[C], TOGETHER):
                columns = min(TOGETHER, p[C] - c) * TAPS
                for o in range(0, lanes, VL):
                    turn(BITS, scratch + size * o, NR, src + size * (o * K + c * TAPS), K, lanes - o, columns)
                for i in range(columns // TAPS):
                    for o in range(0, NR, VL):
                        to, taps = rows + size * (i * NR + o), scratch + size * (i * TAPS * NR + o)
                        weights_in(NR, MH, RH, MW, RW, BITS, to, TOGETHER * NR, taps)
                # The channels (ic, kd) come as (kd, ic); without depth they stay together.
                run = columns // TAPS if p[KD] == 1 else 1
                for i in range(0, columns // TAPS, run):
                    channel = (c + i) % p[KD] * ICT + (c + i) // p[KD]
                    c0 = channel // p[ICP] * p[ICP]
                    channels = min(p[ICP], p[C] - c0)
                    dst = POINTS * ((group * p[C] + c0) * p[TILES] + tile * channels) + channel - c0
                    for k in range(POINTS):
                        to = io[1] + size * NR * (dst + k * channels)
                        copy_row(BITS, to, rows + size * (k * TOGETHER + i) * NR, run * NR)

    return pack_winograd


def weight_packer(geometry: Any, b: Any, bits: int, POINTS: int) -> Packer:
    """Return the packer of a weight (OC, ICG, KD, KH, KW)."""
    channels, NR, taps = geometry.ICG * geometry.KD, b.NV * b.VL, geometry.KH * geometry.KW
    tasks = geometry.G * b.TILES
    kernel = weight_kernel(bits, b.NV, b.VL, b.MH, geometry.KH, b.MW, geometry.KW)
    p = table((geometry.OCG, channels, geometry.KD, b.TILES, b.ICP))
    scratch = (TOGETHER * (taps + POINTS) + b.VL) * NR * (bits // 8)
    return Packer(kernel, p, tasks, tasks * POINTS * channels * NR, scratch_bytes=scratch)
