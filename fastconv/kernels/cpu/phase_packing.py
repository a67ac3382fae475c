"""The weight (IC, OC/groups, *K) of a transposed convolution, dealt out to the convolutions of its stride phases.

`regroup` copies it into a weight (OC, IC/groups, *taps) for each phase, taps flipped, which the phase's own packer then
brings into the order of its microkernel. Some input and output channels are taken at a time, so that each cache line of
the weight comes once.

`flip` is `regroup` for stride 1, where all kernels are turned as they are: whole ones, by shuffles of vectors.

`pack_lanes` does both at once where all phases keep channels in lanes and there are vectors of them: the kernels of VL
output channels are transposed in registers, and the vector of each tap goes to its place in the packed weight of its
phase. It reads and writes at the speed of memory, 2 to 3 times as fast as the two copies.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from fastconv._jit import njit
from fastconv.kernels.cpu import target as targets
from fastconv.kernels.cpu import weight_packers as W
from fastconv.kernels.cpu.copy_ops import copy_vectors
from fastconv.kernels.cpu.moves import add_ints, bits_of_size, copy_rows, deal_four, flip_rows
from fastconv.kernels.cpu.program import Packer, Program, address, aligned, table
from fastconv.kernels.cpu.row_ops import int_at, transpose, zero_row

# `regroup` takes so many input and output channels at a time. Their kernels stay in L1 while the taps are dealt out,
# also where those of the input channels, a power of two apart, fall into the same sets.
BLOCK = 8

# Fields of g. TAPS, of `regroup`: a table that has for each tap of the kernel where its first element goes, elements
# from group to group there, and how many taps its phase has (0: it is in no phase); of `flip`, how far the kernels of
# VL output channels lie apart. Of `pack_lanes`: STEPS is a table [ICG][ROUNDED] of what an input channel adds to where
# a tap goes, BLOCKS one [G * OCG / VL][ROUNDED] of where that is for a block of VL output channels; rows have ROUNDED
# entries, whole vectors, those behind the kernel lead nowhere. MISSING is a table of how many lanes follow a tap's last
# channel in its tile: zeros.
GROUPS, ICG, OCG, KERNEL, TAPS = range(5)
STEPS, BLOCKS, ROUNDED, MISSING = range(4, 8)


@cache
def _regroup_kernel(BITS: int) -> Any:
    size = BITS // 8

    @njit()
    def regroup(g, io, scratch, lo, hi):
        """Tasks are blocks of output channels of a group; io = (weight, weights of the phases)."""
        K, spread, blocks = g[KERNEL], g[OCG] * g[KERNEL], (g[OCG] + BLOCK - 1) // BLOCK
        for t in range(lo, hi):
            group, first = t // blocks, t % blocks * BLOCK
            for ic in range(0, g[ICG], BLOCK):
                rows = min(BLOCK, g[ICG] - ic)
                for c in range(first, min(first + BLOCK, g[OCG])):
                    src = io[0] + size * ((group * g[ICG] + ic) * spread + c * K)
                    for k in range(K):
                        taps = int_at(g[TAPS], 3 * k + 2)
                        to = int_at(g[TAPS], 3 * k) + group * int_at(g[TAPS], 3 * k + 1) + (c * g[ICG] + ic) * taps
                        if taps:
                            copy_rows(BITS, io[1] + size * to, taps, src + size * k, spread, rows, 1)

    return regroup


def regroup(itemsize: int, channels: tuple[int, int, int], taps: Sequence[tuple[int, int, int]]) -> Program:
    """Return the program that cuts a weight by phase; `channels` are G, IC/groups, OC/groups, `taps` as TAPS says."""
    entries = table(number for tap in taps for number in tap)
    g = table((*channels, len(taps), address(entries)))
    tasks = channels[0] * -(-channels[2] // BLOCK)
    return Program(_regroup_kernel(bits_of_size(itemsize)), g, tasks, 0, (), [entries])


@cache
def _flip_kernel(BITS: int, VL: int) -> Any:
    size = BITS // 8

    @njit()
    def flip(g, io, scratch, lo, hi):
        """Tasks are blocks of VL output channels of a group; io = (weight, flipped weight)."""
        K, IC, OC = g[KERNEL], g[ICG], g[OCG]
        blocks = (OC + VL - 1) // VL
        squares = K == 1 and IC >= VL and OC >= VL
        for t in range(lo, hi):
            group, c = t // blocks, t % blocks * VL
            if squares:
                c = min(c, OC - VL)
            for first in range(0, IC, VL):
                # The last square overlaps its neighbour.
                ic = min(first, IC - VL) if squares else first
                src = io[0] + size * ((group * IC + ic) * OC + c) * K
                dst = io[1] + size * ((group * OC + c) * IC + ic) * K
                if squares:
                    transpose(BITS, dst, g[TAPS], src, OC)
                else:
                    for i in range(min(VL, OC - c)):
                        rows = min(VL, IC - ic)
                        flip_rows(BITS, dst + size * i * IC * K, K, src + size * i * K, OC * K, rows, K)

    return flip


def flip(itemsize: int, channels: tuple[int, int, int], taps: int) -> Program:
    """Return the program that exchanges the channels of a weight and flips its kernels: all there is to stride 1."""
    VL = targets.current().lanes(8 * itemsize)
    places = np.arange(VL, dtype=np.int64) * channels[1]
    g = table((*channels, taps, address(places)))
    tasks = channels[0] * -(-channels[2] // VL)
    return Program(_flip_kernel(bits_of_size(itemsize), VL), g, tasks, 0, (), [places])


@cache
def _lanes_kernel(BITS: int, VL: int) -> Any:
    size = BITS // 8

    @njit()
    def pack_lanes(g, io, scratch, lo, hi):
        """Tasks are blocks of VL output channels of a group; io = (weight, packed weights of the phases)."""
        K, rounded, blocks = g[KERNEL], g[ROUNDED], g[OCG] // VL
        for t in range(lo, hi):
            group, c = t // blocks, t % blocks * VL
            for ic in range(g[ICG]):
                places, channel = scratch, group * g[ICG] + ic
                add_ints(places, g[BLOCKS] + 8 * t * rounded, g[STEPS] + 8 * ic * rounded, rounded)
                src = io[0] + size * (channel * g[OCG] + c) * K
                if K == 1:
                    copy_vectors(BITS, 1, io[1] + size * int_at(places, 0), src)
                elif K == 4:
                    deal_four(BITS, io[1], places, src)
                # A vector reads on behind its kernel, so the last ones of the weight are moved by element.
                elif rounded == K or c + VL < g[OCG] or channel + 1 < g[GROUPS] * g[ICG]:
                    for k in range(0, rounded, VL):
                        transpose(BITS, io[1], places + 8 * k, src + size * k, K)
                else:
                    for k in range(K):
                        copy_rows(BITS, io[1] + size * int_at(places, k), 1, src + size * k, K, VL, 1)
                if c + VL == g[OCG]:
                    for k in range(K):
                        zero_row(BITS, io[1] + size * (int_at(places, k) + VL), int_at(g[MISSING], k))

    return pack_lanes


def pack_lanes(
    itemsize: int,
    channels: tuple[int, int, int],
    taps: Sequence[tuple[int, int, int] | None],
    packers: Sequence[Packer | None],
    begins: Sequence[int],
    nowhere: int,
) -> Program | None:
    """Return the program that packs the weights of all phases, or None where one has no whole vectors of channels.

    Each tap is (phase, start, place): its place among the taps of a phase whose output channels are (group, start,
    channel); None: it is in no phase. The packed weight of a phase begins at element `begins`; `nowhere` is an element
    from which on VL may be overwritten.
    """
    (G, IC, OC), VL = channels, targets.current().lanes(8 * itemsize)
    if OC % VL or not all(packer and _has_lanes(packer, G) for packer in packers):
        return None
    rounded = -(-len(taps) // VL) * VL
    steps, blocks = np.zeros((IC, rounded), np.int64), np.full((G, OC // VL, rounded), nowhere, np.int64)
    missing = np.zeros(len(taps), np.int64)
    for k, tap in enumerate(taps):
        if tap is None:
            continue
        phase, start, place = tap
        packer = packers[phase]
        assert packer is not None
        p, (to,) = packer.p, packer.tables
        NR = p[W.PANEL] // p[W.K_ALL]
        steps[:, k] = to[place :: p[W.K_ALL] // IC]
        tile, lane = np.divmod(start * OC + np.arange(0, OC, VL), NR)
        tiles = np.arange(G)[:, None] * p[W.TILES] + tile
        blocks[:, :, k] = begins[phase] + tiles * p[W.PANEL] + lane
        if (start + 1) * OC == p[W.OCG]:
            missing[k] = p[W.TILES] * NR - p[W.OCG]
    g = table((*channels, len(taps), address(steps), address(blocks), rounded, address(missing)))
    return Program(
        _lanes_kernel(bits_of_size(itemsize), VL), g, G * OC // VL, aligned(8 * rounded), (), [steps, blocks, missing]
    )


def _has_lanes(packer: Packer, G: int) -> bool:
    """Return whether a packer makes rows of lanes that are channels of one group; in depthwise ones there are many."""
    return bool(packer.tables) and packer.tasks == G * packer.p[W.TILES]
