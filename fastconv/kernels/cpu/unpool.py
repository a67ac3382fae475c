"""Max unpooling: zeros, and each element of the input at the place that its index names.

A task is a plane, in channels_last a block of channels of an image, whose elements are taken in row-major order: so of
several that name one place the last stays, however many threads there are. Zeros are written just ahead of the largest
index met so far: indices of pools ascend but for a row or two, so most of the output is touched once, while in cache.

`place` moves elements of any type as integers of their size. `merge` goes through the elements once more: the largest,
or the sum, of those that name one place. All that are met name a place already written, so no one needs to be marked.
`add` does sums in one pass, as gradients are: it adds to 0, which makes 0 of a lone -0.
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Any

import numpy as np

from fastconv._jit import inline, njit
from fastconv.kernels.cpu.element_ops import load_at, store_at, zero_bytes
from fastconv.kernels.cpu.program import Program
from fastconv.kernels.cpu.row_ops import int_at, zero_row

# Elements of a task that are zeroed at a time, at least.
AHEAD = 2048
# Least channels of a channels_last task, since short runs of memory are slow, and tasks that all images should make.
CHANNELS = 32
TASKS = 4

# The fields of g: input and output positions of a plane; channels, and how many in a task; tasks per image.
COUNT, SIZE, C, BLOCK, BLOCKS, SUM = range(6)

# io: input, indices, output, and a flag for each task, set if an index is out of range.
X, INDICES, OUT, FLAGS = range(4)


@lru_cache(maxsize=128)
def build(bits: int, planes: int, count: int, size: int, channels: int, merge: str) -> Program:
    """Return the program for `count` elements and `size` outputs a plane; `merge` is "last", "max", "sum" or "add"."""
    cuts = max(1, min(-(-TASKS // max(planes, 1)), channels // CHANNELS))
    block = -(-channels // cuts)
    blocks = -(-channels // max(block, 1))
    g = np.array([count, size, channels, block, blocks, merge == "sum"], np.int64)
    kernel = _place(bits, merge == "add") if merge in ("last", "add") else _merge(bits)
    return Program(kernel, g, planes * blocks, 0, ())


@inline
def zeros_ahead(BITS, out, filled, j, size, channels, block):
    """Zero `block` of the channels from position `filled` on, beyond position j; return how far."""
    end = min(size, max(j + 1, filled + AHEAD // block + 1))
    if block == channels:
        zero_bytes(out + BITS // 8 * filled * channels, BITS // 8 * (end - filled) * channels)
    else:
        for i in range(filled, end):
            zero_row(BITS, out + BITS // 8 * i * channels, block)
    return end


@inline
def place_all(BITS, ADD, x, indices, out, count, size, channels, block):
    """Place, or add up, the elements of one task; return whether all indices are in range. Others are left out."""
    filled, good = 0, True
    for p in range(count):
        for c in range(block):
            j = int_at(indices, p * channels + c)
            if j < 0 or j >= size:
                good = False
                continue
            if j >= filled:
                filled = zeros_ahead(BITS, out, filled, j, size, channels, block)
            to, element = j * channels + c, load_at(BITS, x, p * channels + c)
            if ADD:
                store_at(BITS, out, to, load_at(BITS, out, to) + element)
            else:
                store_at(BITS, out, to, element)
    if filled < size:
        zeros_ahead(BITS, out, filled, size - 1, size, channels, block)
    return good


@cache
def _place(BITS: int, ADD: bool) -> Any:
    element = BITS // 8

    @njit(fastmath=False)
    def place(g, io, scratch, lo, hi):
        """Tasks are planes, or blocks of channels."""
        count, size, channels = g[COUNT], g[SIZE], g[C]
        for task in range(lo, hi):
            image, first = task // g[BLOCKS], task % g[BLOCKS] * g[BLOCK]
            block, at = min(g[BLOCK], channels - first), image * count * channels + first
            x, indices = io[X] + element * at, io[INDICES] + 8 * at
            out = io[OUT] + element * (image * size * channels + first)
            if channels == 1:
                good = place_all(BITS, ADD, x, indices, out, count, size, 1, 1)
            else:
                good = place_all(BITS, ADD, x, indices, out, count, size, channels, block)
            store_at(65, io[FLAGS], task, 0 if good else 1)

    return place


@cache
def _merge(BITS: int) -> Any:
    element = BITS // 8

    @njit(fastmath=False)
    def merge(g, io, scratch, lo, hi):
        """Tasks are planes, or blocks of channels; indices are in range."""
        count, size, channels = g[COUNT], g[SIZE], g[C]
        for task in range(lo, hi):
            image, first = task // g[BLOCKS], task % g[BLOCKS] * g[BLOCK]
            block, at = min(g[BLOCK], channels - first), image * count * channels + first
            x, indices = io[X] + element * at, io[INDICES] + 8 * at
            out = io[OUT] + element * (image * size * channels + first)
            place_all(BITS, False, x, indices, out, count, size, channels, block)
            if g[SUM]:
                for p in range(count):
                    for c in range(block):
                        # The bits of all zeros but this one change what is added.
                        store_at(BITS, out, int_at(indices, p * channels + c) * channels + c, -0.0)
            for p in range(count):
                for c in range(block):
                    to = int_at(indices, p * channels + c) * channels + c
                    one, other = load_at(BITS, out, to), load_at(BITS, x, p * channels + c)
                    if g[SUM]:
                        store_at(BITS, out, to, one + other)
                    elif other > one or other != other:
                        store_at(BITS, out, to, other)

    return merge
