"""Plans: what is left to do once a problem is known, and the machinery that runs it.

`prepare` builds everything but the packed weight, and is cached by problem; a plain call packs the weight into a
temporary buffer, a `Plan` once and for all.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from fastconv.dispatch import load, workspace
from fastconv.dispatch.choose import Candidate, choose
from fastconv.dispatch.cost import pack_seconds, seconds
from fastconv.geometry.arrays import address
from fastconv.geometry.conv import ConvGeometry, output_shape
from fastconv.geometry.regions import region_geometry, region_input, region_of
from fastconv.system import empty
from fastconv.threads import run

_lock = threading.Lock()


# A packed weight is as large as the weight. To get that much fresh memory from the system at every call costs more than
# to pack; so each thread keeps a few buffers, unless they are larger than this.
KEEP_BYTES, KEEP_BUFFERS = 16 << 20, 3


class _Free(threading.local):
    """Buffers of this thread that no call uses."""

    def __init__(self) -> None:
        self.buffers: list[np.ndarray] = []

    def take(self, size: int) -> np.ndarray:
        """Return a buffer of at least `size` bytes that starts at a cache line."""
        for i, buffer in enumerate(self.buffers):
            if buffer.size >= size:
                return self.buffers.pop(i)
        return _lines(size)

    def give_back(self, buffer: np.ndarray) -> None:
        """Keep a buffer for the next call of this thread."""
        if buffer.size <= KEEP_BYTES:
            self.buffers.append(buffer)
            # The smallest comes first.
            self.buffers.sort(key=len)
            del self.buffers[:-KEEP_BUFFERS]


free_buffers = _Free()


def _lines(size: int) -> np.ndarray:
    """Return `size` bytes that start at a cache line."""
    memory = empty(size + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + size]


def packed_bytes(packer: Any, dtype: np.dtype) -> int:
    """Return the size of a packed weight, with the corrections behind it."""
    return int((packer.elements + packer.corrections) * dtype.itemsize)


def pack_weight(packer: Any, weight: np.ndarray, buffer: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return a weight in the kernel's order, in `buffer`."""
    array = buffer[: packed_bytes(packer, dtype)].view(dtype)
    words = None if packer.words is None else in_words(packer.words, weight, array[packer.elements :])
    io = np.array((address(weight if words is None else words), address(array)), np.int64)
    run(packer.kernel, packer.p, io, packer.tasks, packer.scratch_bytes, pack_seconds(packer.elements))
    if words is not None:
        free_buffers.give_back(words)
    return array


def in_words(words: Any, array: np.ndarray, corrections: np.ndarray | None = None) -> np.ndarray:
    """Return an array of bytes in words of four, in a buffer of this thread; fill the corrections of a weight."""
    buffer = free_buffers.take(4 * words.elements)
    io = np.array((address(array), address(buffer), 0 if corrections is None else address(corrections)), np.int64)
    run(words.kernel, words.p, io, words.tasks, 0, pack_seconds(words.elements))
    return buffer


class Prepared:
    """A problem with its algorithm, ready but for the weight. Immutable, so any number of threads may run it."""

    __slots__ = (
        "_no_bias",
        "activation",
        "candidate",
        "dtype",
        "entry",
        "geometry",
        "out_shape",
        "precision",
        "program",
        "seconds",
    )

    def __init__(
        self, geometry: ConvGeometry, activation: str | None, precision: str, candidate: Candidate, entry: str = "call"
    ):
        self.geometry, self.activation, self.candidate = geometry, activation, candidate
        self.precision, self.entry = precision, entry
        self.dtype, self.out_shape = np.dtype(geometry.sums_dtype), output_shape(geometry)
        self.program = load.load(candidate.row.kernel)(geometry, activation, candidate.blocking)
        self.seconds = seconds(candidate.blocking.cycles)
        self._no_bias = np.zeros(geometry.OC, self.dtype)

    @property
    def algorithm(self) -> str:
        """Name of the algorithm."""
        return self.candidate.row.name

    def pack(self, weights: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the weight arrays in the order that the kernel reads; those that it reads as they are, unchanged.

        Where blocks may be computed anew, the weights stand behind the packed ones.
        """
        packers = self.program.packers
        if not packers:
            return list(weights)
        packed = self._packed(weights, [_lines(packed_bytes(packer, self.dtype)) for packer in packers])
        return [*packed, *weights] if self.program.flags else packed

    def run_once(
        self,
        x: np.ndarray,
        weights: Sequence[np.ndarray],
        bias: np.ndarray | None,
        residual: np.ndarray | None,
        out: np.ndarray,
    ) -> None:
        """Pack the weight into a buffer of this thread, and run."""
        packers = self.program.packers
        if not packers:
            self.run(x, weights, bias, residual, out)
            return
        buffers = [free_buffers.take(packed_bytes(packer, self.dtype)) for packer in packers]
        try:
            self.run(x, [*self._packed(weights, buffers), *weights], bias, residual, out)
        finally:
            for buffer in buffers:
                free_buffers.give_back(buffer)

    def _packed(self, weights: Sequence[np.ndarray], buffers: Sequence[np.ndarray]) -> list[np.ndarray]:
        each = zip(self.program.packers, weights, buffers, strict=True)
        return [pack_weight(packer, weight, buffer, self.dtype) for packer, weight, buffer in each]

    def run(
        self,
        x: np.ndarray,
        packed: Sequence[np.ndarray],
        bias: np.ndarray | None,
        residual: np.ndarray | None,
        out: np.ndarray,
    ) -> None:
        """Fill `out`, which overlaps no other array; all are C-contiguous, of the plan's dtype and shapes."""
        if out.size == 0:
            return
        program = self.program
        bias = self._no_bias if bias is None else bias
        words = None
        if self.geometry.weight_dtype:
            (packer,) = program.packers
            if packer.corrections:
                bias = bias + packed[0][packer.elements :]
            if program.words is not None:
                x = words = in_words(program.words, x)
            elif address(x) % 4:
                # Channels that are words as they are, but not where words may stand.
                x = x.copy()
        flags = np.zeros(program.flags, np.uint8)
        row = packed[min(len(packed), 2) - 1]
        arrays = (x, packed[0], bias, residual, out, row, flags)
        io = np.array([0 if a is None else address(a) for a in arrays], np.int64)
        run(program.kernel, program.g, io, program.tasks, program.scratch_bytes, self.seconds)
        if program.flags and flags.any():
            self._repair(flags, x, packed[-1], bias, residual, out)
        if words is not None:
            free_buffers.give_back(words)

    def _repair(
        self,
        flags: np.ndarray,
        x: np.ndarray,
        weight: np.ndarray,
        bias: np.ndarray,
        residual: np.ndarray | None,
        out: np.ndarray,
    ) -> None:
        """Compute the flagged blocks by direct summation: what is not finite spreads no further than it does there."""
        g = self.program.geometry
        for block in np.flatnonzero(flags).tolist():
            for region in self.program.regions(block):
                part = region_geometry(g, region)
                sums = np.empty(output_shape(part), self.dtype)
                added = None if residual is None else np.ascontiguousarray(region_of(g, residual, region))
                direct = prepare("conv", part, self.activation, "direct", "strict", "repair")
                direct.run_once(region_input(g, x, region), (weight,), bias, added, sums)
                region_of(g, out, region)[...] = sums


@lru_cache(maxsize=512)
def prepare(
    function: str, g: ConvGeometry, activation: str | None, algorithm: str, precision: str, entry: str = "call"
) -> Prepared:
    """Return the prepared problem, from the bounded cache if it was met before; `entry` is who asks.

    A "call", a "plan", or the "repair" of a result, which is not subject to the limit of scratch.
    """
    candidate = choose(function, g, algorithm, precision, entry)
    # Threads that meet a new problem together would otherwise all compile its kernel.
    with _lock:
        return Prepared(g, activation, precision, candidate, entry)


workspace.on_change(prepare.cache_clear)


def _renew_lock() -> None:
    global _lock
    _lock = threading.Lock()


# A forked child may have inherited the lock from a thread that it does not have.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)
