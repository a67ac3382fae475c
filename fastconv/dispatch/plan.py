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

from fastconv.dispatch import load
from fastconv.dispatch.choose import Candidate, choose
from fastconv.dispatch.cost import HERTZ, pack_seconds
from fastconv.geometry.arrays import address
from fastconv.geometry.conv import ConvGeometry, output_shape
from fastconv.threads import run

_lock = threading.Lock()


class Prepared:
    """A problem with its algorithm, ready but for the weight. Immutable, so any number of threads may run it."""

    __slots__ = ("_no_bias", "activation", "candidate", "dtype", "geometry", "out_shape", "program", "seconds")

    def __init__(self, geometry: ConvGeometry, activation: str | None, candidate: Candidate):
        self.geometry, self.activation, self.candidate = geometry, activation, candidate
        self.dtype, self.out_shape = np.dtype(geometry.dtype), output_shape(geometry)
        self.program = load.load(candidate.row.kernel)(geometry, activation, candidate.blocking)
        self.seconds = candidate.blocking.cycles / HERTZ
        self._no_bias = np.zeros(geometry.OC, self.dtype)

    def pack(self, weights: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the weight arrays in the order that the kernel reads; those that it reads as they are, unchanged."""
        packers = self.program.packers
        return (
            [self._packed(packer, w) for packer, w in zip(packers, weights, strict=True)] if packers else list(weights)
        )

    def _packed(self, packer: Any, weight: np.ndarray) -> np.ndarray:
        packed = np.empty(packer.elements, self.dtype)
        io = np.array((address(weight), address(packed)), np.int64)
        run(packer.kernel, packer.p, io, packer.tasks, 0, pack_seconds(packer.elements))
        return packed

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
        added = 0 if residual is None else address(residual)
        io = np.array(
            (address(x), address(packed[0]), address(bias), added, address(out), address(packed[-1])), np.int64
        )
        run(program.kernel, program.g, io, program.tasks, program.scratch_bytes, self.seconds)


@lru_cache(maxsize=512)
def prepare(function: str, g: ConvGeometry, activation: str | None, algorithm: str, precision: str) -> Prepared:
    """Return the prepared problem, from the bounded cache if it was met before."""
    candidate = choose(function, g, algorithm, precision)
    # Threads that meet a new problem together would otherwise all compile its kernel.
    with _lock:
        return Prepared(g, activation, candidate)


def _renew_lock() -> None:
    global _lock
    _lock = threading.Lock()


# A forked child may have inherited the lock from a thread that it does not have.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)
