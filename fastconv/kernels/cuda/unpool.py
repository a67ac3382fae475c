"""Max unpooling: which elements go to each place is found by integer atomics, what stands there by gathering.

Arrays are (P, n, L), results (P, size, L): planes, places, and channels where they are last. For the last of several
elements with one place, the place takes the maximum of their numbers. Else each place has a list of its elements,
which one thread adds in the order of their numbers, so that sums have the same bits every time; lists are short unless
many indices are the same. Indices out of range are skipped.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import cuda, types, uint32

from fastconv.kernels.cuda.atomics import atomic_exchange, atomic_max
from fastconv.kernels.cuda.buffers import Buffer, empty
from fastconv.kernels.cuda.division import magics, numbers, quotient
from fastconv.kernels.cuda.memory import ELEMENT, code_of, load, pointer
from fastconv.kernels.cuda.moves import BITS, as_bits
from fastconv.kernels.cuda.runtime import Kernel, blocks_of, launch

THREADS = 128
SIZES = 8
UINT32 = np.dtype(np.uint32)


def zeros(threads: int) -> Kernel:
    """Return the kernel that fills an array of uint32 with zeros."""

    def fill_zeros(out, g):
        i = uint32(uint32(uint32(cuda.blockIdx.x) * uint32(threads)) + uint32(cuda.threadIdx.x))
        if i < g[0]:
            out[i] = uint32(0)

    return Kernel(fill_zeros, (pointer("I"), types.UniTuple(types.uint32, 1)), threads)


def chains(linked: bool, threads: int) -> Kernel:
    """Return the kernel that notes at each place its last element, or makes lists, of numbers in a plane, + 1."""

    def note_places(indices, heads, links, g):
        total, n, L, size = g[:4]
        i = uint32(uint32(uint32(cuda.blockIdx.x) * uint32(threads)) + uint32(cuda.threadIdx.x))
        if i >= total:
            return
        q = quotient(i, g[4], g[5])
        lane = uint32(i - uint32(q * L))
        plane = quotient(q, g[6], g[7])
        number = uint32(uint32(q - uint32(plane * n)) + uint32(1))
        at = load(indices, i)
        former = uint32(0)
        if at >= types.int64(0) and at < types.int64(size):
            place = uint32(uint32(uint32(uint32(plane * size) + uint32(at)) * L) + lane)
            if linked:
                former = atomic_exchange(heads, place, number)
            else:
                atomic_max(heads, place, number)
        if linked:
            links[i] = former

    own = types.UniTuple(types.uint32, SIZES)
    return Kernel(note_places, (pointer("l"), pointer("I"), pointer("I"), own), threads)


def merged(code: str, merge: str, threads: int) -> Kernel:
    """Return the kernel of what stands at each place: "last", "max", "sum", or "winner", the number of the maximum."""
    element = ELEMENT[code]
    LAST, SUM, WINNER = merge == "last", merge == "sum", merge == "winner"

    def merge_places(x, heads, links, out, g):
        total, n, L = g[:3]
        i = uint32(uint32(uint32(cuda.blockIdx.x) * uint32(threads)) + uint32(cuda.threadIdx.x))
        if i >= total:
            return
        q = quotient(i, g[4], g[5])
        lane = uint32(i - uint32(q * L))
        base = uint32(uint32(uint32(quotient(q, g[6], g[7]) * n) * L) + lane)
        head = load(heads, i)
        value, winner = element(0), uint32(0)
        if LAST:
            if head > 0:
                value = load(x, uint32(base + uint32(uint32(head - uint32(1)) * L)))
        elif SUM:
            done = uint32(0)
            while head > 0:
                # The next number of the list, which is in no order.
                at, following = head, uint32(0xFFFFFFFF)
                while at > 0:
                    if at > done and at < following:
                        following = at
                    at = load(links, uint32(base + uint32(uint32(at - uint32(1)) * L)))
                if following == uint32(0xFFFFFFFF):
                    break
                value += load(x, uint32(base + uint32(uint32(following - uint32(1)) * L)))
                done = following
        else:
            while head > 0:
                place = uint32(base + uint32(uint32(head - uint32(1)) * L))
                v = load(x, place)
                # The last NaN, else the first of the largest.
                later = v != v and (value == value or head > winner)
                if winner == 0 or later or v > value or (v == value and head < winner):
                    value, winner = v, head
                head = load(links, place)
        out[i] = winner if WINNER else value

    array, own = pointer(code), types.UniTuple(types.uint32, SIZES)
    target = pointer("I") if WINNER else array
    return Kernel(merge_places, (array, pointer("I"), pointer("I"), target, own), threads)


def taken(code: str, threads: int) -> Kernel:
    """Return the kernel ``out[i] = source[indices[i]]``; given the winners of all places, only of those, else 0."""
    element = ELEMENT[code]

    def take_places(source, indices, winners, out, g):
        total, n, L, size = g[:4]
        i = uint32(uint32(uint32(cuda.blockIdx.x) * uint32(threads)) + uint32(cuda.threadIdx.x))
        if i >= total:
            return
        q = quotient(i, g[4], g[5])
        lane = uint32(i - uint32(q * L))
        plane = quotient(q, g[6], g[7])
        at, value = load(indices, i), element(0)
        if at >= types.int64(0) and at < types.int64(size):
            place = uint32(uint32(uint32(uint32(plane * size) + uint32(at)) * L) + lane)
            if g[8] == 0 or load(winners, place) == uint32(uint32(q - uint32(plane * n)) + uint32(1)):
                value = load(source, place)
        out[i] = value

    array, own = pointer(code), types.UniTuple(types.uint32, SIZES + 1)
    return Kernel(take_places, (array, pointer("l"), pointer("I"), array, own), threads)


class Places:
    """Which elements of arrays (P, n, L) go to each place of arrays (P, size, L)."""

    def __init__(self, stream: Any, indices: Buffer, shape: tuple[int, int, int], size: int, linked: bool):
        P, n, L = shape
        self.stream, self.indices, self.linked = stream, indices, linked
        self.elements, self.places = P * n * L, P * size * L
        self.inner, self.outer = ((n, L, size, *magics((L, each))) for each in (n, size))
        self.heads = empty((max(self.places, 1),), UINT32, stream)
        self.links = empty((max(self.elements, 1),), UINT32, stream) if linked else None
        if self.places:
            total = (np.uint32(self.places),)
            launch(stream, zeros, (THREADS,), blocks_of(self.places, THREADS), (self.heads, total))
        if self.elements:
            arguments = (indices, self.heads, self.links, numbers((self.elements, *self.inner)))
            launch(stream, chains, (linked, THREADS), blocks_of(self.elements, THREADS), arguments)

    def merge(self, x: Buffer, out: Buffer, merge: str) -> None:
        """Fill `out` with what stands at each place, "last" of any dtype."""
        if not self.places:
            return
        code, given = code_of(x.dtype), (x, out)
        if merge == "last":
            code = BITS[x.dtype.itemsize]
            given = as_bits(x, code), as_bits(out, code)
        arguments = (given[0], self.heads, self.links, given[1], numbers((self.places, *self.outer)))
        launch(self.stream, merged, (code, merge, THREADS), blocks_of(self.places, THREADS), arguments)

    def winners(self, x: Buffer) -> Buffer:
        """Return the number of the maximum at each place, from 1 on, or 0."""
        found = empty((max(self.places, 1),), UINT32, self.stream)
        self.merge(x, found, "winner")
        return found


def take(
    stream: Any,
    source: Buffer,
    indices: Buffer,
    winners: Buffer | None,
    out: Buffer,
    shape: tuple[int, int, int],
    size: int,
) -> None:
    """Fill `out` (P, n, L) with what stands at its indices in `source` (P, size, L)."""
    P, n, L = shape
    if P * n * L:
        sizes = (P * n * L, n, L, size, *magics((L, n)), winners is not None)
        code = BITS[out.dtype.itemsize]
        arguments = (as_bits(source, code), indices, winners, as_bits(out, code), numbers(sizes))
        launch(stream, taken, (code, THREADS), blocks_of(P * n * L, THREADS), arguments)
