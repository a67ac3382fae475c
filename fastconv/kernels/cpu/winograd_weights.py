"""Winograd's transform of the weight, once per plan or per plain call: [group][pass][tile][p][channel][NR].

Some channels of a tile of output channels are transposed to [channel][tap][NR] in L1, then transformed to rows that
stream to memory.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from fastconv._jit import njit
from fastconv.kernels.cpu.program import Packer, table
from fastconv.kernels.cpu.row_ops import zero_row
from fastconv.kernels.cpu.squares import turn
from fastconv.kernels.cpu.winograd_transforms import weights_in

# Fields of the int64 array `p`: C input channels (ic, kd) of a group.
WEIGHT_FIELDS = ("OCG", "C", "KD", "TILES", "ICP")
OCG, C, KD, TILES, ICP = range(len(WEIGHT_FIELDS))
# Channels that are transposed together.
TOGETHER = 16


@cache
def weight_kernel(BITS, NV, VL, MH, RH, MW, RW):
    """Return `pack(p, io, scratch, lo, hi)`: weight (G*OCG, C, RH, RW) to transformed tiles lo to hi."""
    size, NR, TAPS, POINTS = BITS // 8, NV * VL, RH * RW, (MH + RH - 1) * (MW + RW - 1)

    @njit()
    def pack_winograd(p, io, scratch, lo, hi):
        K, ICT = p[C] * TAPS, p[C] // p[KD]
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
                    channel = (c + i) % p[KD] * ICT + (c + i) // p[KD]
                    c0 = channel // p[ICP] * p[ICP]
                    channels = min(p[ICP], p[C] - c0)
                    dst = POINTS * ((group * p[C] + c0) * p[TILES] + tile * channels) + channel - c0
                    dst = io[1] + size * NR * dst
                    for o in range(0, NR, VL):
                        weights_in(
                            NR,
                            MH,
                            RH,
                            MW,
                            RW,
                            BITS,
                            dst + size * o,
                            channels * NR,
                            scratch + size * (i * TAPS * NR + o),
                        )

    return pack_winograd


def weight_packer(geometry: Any, b: Any, bits: int, POINTS: int) -> Packer:
    """Return the packer of a weight (OC, ICG, KD, KH, KW)."""
    channels, NR, taps = geometry.ICG * geometry.KD, b.NV * b.VL, geometry.KH * geometry.KW
    tasks = geometry.G * b.TILES
    kernel = weight_kernel(bits, b.NV, b.VL, b.MH, geometry.KH, b.MW, geometry.KW)
    p = table((geometry.OCG, channels, geometry.KD, b.TILES, b.ICP))
    scratch = (TOGETHER * taps + b.VL) * NR * (bits // 8)
    return Packer(kernel, p, tasks, tasks * POINTS * channels * NR, scratch_bytes=scratch)
