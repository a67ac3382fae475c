"""The pullback of max pooling with windows of any kind: gradients are added to the maxima.

The taps of a window are compared again, as in kernels/cpu/max_pool_grad.py, and its gradient is added where the maximum
is: to all taps, most of them 0, which is a few vectors in L1, where indices would be looked up one by one. Windows are
cut off at the ends of the input: those of a row that have as many columns make a run. Windows overlap, so a task is an
image, or some of its channels, and windows are met in row-major order. Rows are made zero just before they are needed.

In channels_first as many planes as a vector has lanes are turned to channels, and back, as in windows_turned.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from fastconv._jit import inline, njit
from fastconv.kernels.cpu import target as targets
from fastconv.kernels.cpu.element_ops import store_at, zero_bytes
from fastconv.kernels.cpu.max_pool_grad import GRAD, OUT, X, route_rows
from fastconv.kernels.cpu.program import Program, address, aligned
from fastconv.kernels.cpu.row_ops import int_at, transpose, zero_row

# Least channels of a task, and tasks that all images should make.
CHANNELS, TASKS = 32, 4

# The fields of g: sizes; dilations; the step of windows along W; channels, and how many in a task, and tasks per image;
# addresses of the tables of (first input, inputs) along D and H, and of the runs along W.
D, H, W, OD, OH, OW, DD, DH, DW, SW, C, BLOCK, BLOCKS, D_TABLE, H_TABLE, RUNS, COUNT = range(17)

# Behind them, of planes: how many; elements of one, and of its gradients; byte offsets of what is turned, in scratch;
# addresses of the tables of offsets of the pixels, and of the planes.
PLANES, SIZE, GRAD_SIZE, GRAD_AT, X_AT, OUT_AT, PIXELS, BACK = range(17, 25)

# Scratch up to which planes are turned.
MOST_SCRATCH = 8 << 20

# The fields of a run: the first window, the windows, the first input, the inputs of each.
O0, LENGTH, FIRST, TAPS = range(4)


def build(
    bits: int,
    images: int,
    channels: int,
    sizes: Sequence[int],
    windows: Sequence[tuple[np.ndarray, np.ndarray]],
    dilation: Sequence[int],
    stride: int,
) -> Program:
    """Return the program for arrays (images, *sizes, channels), three sizes.

    `windows` are the first inputs of those along each axis, and how many they have, `dilation` apart; where they all
    are inside, they are `stride` apart along W.
    """
    cuts = max(1, min(-(-TASKS // max(images, 1)), channels // CHANNELS))
    # Whole vectors.
    block = -(-channels // (16 * cuts)) * 16
    blocks = -(-channels // block)
    tables = [np.ascontiguousarray(np.stack(pair, 1), np.int64) for pair in windows]
    runs = _runs(*windows[2], stride)
    most = [int(counts.max()) for _, counts in windows]
    outs = [len(first) for first, _ in windows]
    numbers = (*sizes, *outs, *dilation, stride, channels, block, blocks)
    g = np.array([*numbers, address(tables[0]), address(tables[1]), address(runs), len(runs)], np.int64)
    return Program(_kernel(bits), g, images * blocks, 8 * most[0] * most[1] * most[2], (), [*tables[:2], runs])


def build_turned(bits: int, planes: int, sizes: Sequence[int], windows: Any, dilation: Any, stride: int) -> Any:
    """Return the program for arrays (planes, *sizes), or None where planes are few, small or too large."""
    VL, n, m = targets.current().lanes(bits), math.prod(sizes), math.prod(len(first) for first, _ in windows)
    inner = build(bits, 1, VL, sizes, windows, dilation, stride)
    parts = [aligned(inner.scratch_bytes), *(aligned(bits // 8 * VL * size) for size in (m, n, n))]
    if min(planes, n, m) < VL or sum(parts) > MOST_SCRATCH:
        return None
    pixels, back = np.arange(VL) * VL, np.arange(VL) * n
    offsets = np.cumsum(parts)[:3].tolist()
    g = np.concatenate([inner.g, np.array([planes, n, m, *offsets, address(pixels), address(back)], np.int64)])
    return Program(_turned(bits, VL), g, -(-planes // VL), sum(parts), (), [*inner.tables, pixels, back])


def _runs(first: np.ndarray, counts: np.ndarray, stride: int) -> np.ndarray:
    """Return the runs of windows that are `stride` apart and have as many inputs."""
    starts = np.flatnonzero((np.diff(first) != stride) | (np.diff(counts) != 0)) + 1
    starts = np.concatenate([[0], starts])
    lengths = np.diff(np.concatenate([starts, [len(first)]]))
    return np.ascontiguousarray(np.stack([starts, lengths, first[starts], counts[starts]], 1), np.int64)


@inline
def list_taps(taps, g, depth, height, width):
    """List the offsets of the elements of a window."""
    i = 0
    for d in range(depth):
        for h in range(height):
            for w in range(width):
                store_at(65, taps, i, ((d * g[DD] * g[H] + h * g[DH]) * g[W] + w * g[DW]) * g[C])
                i += 1


@inline
def zero_rows(BITS, out, g, first, end, block):
    """Make rows of `block` of the channels zero."""
    size = BITS // 8
    if block == g[C]:
        zero_bytes(out + size * first * g[W] * g[C], size * (end - first) * g[W] * g[C])
    else:
        for pixel in range(first * g[W], end * g[W]):
            zero_row(BITS, out + size * pixel * g[C], block)


@cache
def _kernel(BITS: int) -> Any:
    size = BITS // 8

    @njit(fastmath=False)
    def add(g, io, scratch, lo, hi):
        """Tasks are images, or blocks of channels."""
        for task in range(lo, hi):
            image, c = task // g[BLOCKS], task % g[BLOCKS] * g[BLOCK]
            block, filled = min(g[BLOCK], g[C] - c), 0
            start = size * (image * g[D] * g[H] * g[W] * g[C] + c)
            x, out = io[X] + start, io[OUT] + start
            for row in range(g[OD] * g[OH]):
                d, depth = int_at(g[D_TABLE], 2 * (row // g[OH])), int_at(g[D_TABLE], 2 * (row // g[OH]) + 1)
                h, height = int_at(g[H_TABLE], 2 * (row % g[OH])), int_at(g[H_TABLE], 2 * (row % g[OH]) + 1)
                end = (d + (depth - 1) * g[DD]) * g[H] + h + (height - 1) * g[DH] + 1
                if depth > 0 and height > 0 and end > filled:
                    zero_rows(BITS, out, g, filled, end, block)
                    filled = end
                grad = io[GRAD] + size * ((image * g[OD] * g[OH] + row) * g[OW] * g[C] + c)
                for i in range(g[COUNT]):
                    run = g[RUNS] + 32 * i
                    width, at = int_at(run, TAPS), size * ((d * g[H] + h) * g[W] + int_at(run, FIRST)) * g[C]
                    if depth * height * width > 0:
                        list_taps(scratch, g, depth, height, width)
                        given, step, count = grad + size * int_at(run, O0) * g[C], g[SW] * g[C], depth * height * width
                        lines = int_at(run, LENGTH)
                        route_rows(BITS, 1, 1, out + at, x + at, step, given, g[C], scratch, count, lines, block)
            zero_rows(BITS, out, g, filled, g[D] * g[H], block)

    return add


@inline
def turn(BITS, VL, dst, src, g, n):
    """dst[i * VL + lane] = src[lane * n + i] of VL planes of n elements."""
    for q0 in range(0, n, VL):
        # The last block overlaps the one before it.
        q = min(q0, n - VL)
        transpose(BITS, dst + BITS // 8 * q * VL, g[PIXELS], src + BITS // 8 * q, n)


@cache
def _turned(BITS: int, VL: int) -> Any:
    size, inner = BITS // 8, _kernel(BITS)

    @njit(fastmath=False)
    def turned(g, io, scratch, lo, hi):
        """Tasks are groups of VL planes; the last one overlaps its neighbour."""
        n, m = g[SIZE], g[GRAD_SIZE]
        addresses = np.empty(3, np.int64)
        addresses[GRAD], addresses[X], addresses[OUT] = scratch + g[GRAD_AT], scratch + g[X_AT], scratch + g[OUT_AT]
        for task in range(lo, hi):
            plane = min(task * VL, g[PLANES] - VL)
            turn(BITS, VL, addresses[GRAD], io[GRAD] + size * plane * m, g, m)
            turn(BITS, VL, addresses[X], io[X] + size * plane * n, g, n)
            # Literals would be a signature, and a compilation, of its own.
            inner(g, addresses, scratch, np.int64(0), np.int64(1))
            for q0 in range(0, n, VL):
                q = min(q0, n - VL)
                to = io[OUT] + size * (plane * n + q)
                transpose(BITS, to, g[BACK], addresses[OUT] + size * q * VL, VL)

    return turned
