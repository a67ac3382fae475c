"""Running windows over 1 to 3 axes: as one or two passes of the kernel for two axes."""

from __future__ import annotations

import os
import threading
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from fastconv.dispatch import load
from fastconv.dispatch.blocking_windows import window_blocking
from fastconv.dispatch.cost import HERTZ
from fastconv.geometry.arrays import address
from fastconv.geometry.windows import Axis, Windows, whole
from fastconv.threads import run

_lock = threading.Lock()


class Counts(NamedTuple):
    """How many inputs, from `low` on and before `high`, the windows along an axis have: what an average divides by."""

    axis: Axis
    low: int
    high: int

    def numbers(self) -> np.ndarray:
        """Return the count of each output."""
        o = range(self.axis.out)
        start, reach = (np.array([f(i) for i in o], np.int64) for f in (self.axis.start, self.axis.reach))
        return np.minimum(reach, self.high) - np.maximum(start, self.low)


# One number, or the counts of all axes.
Divisor: TypeAlias = int | tuple[Counts, ...]


class Pass(NamedTuple):
    """Windows, and what their sums are divided by at the end; hashable."""

    windows: Windows
    divisor: Divisor | None = None
    fill: float = 0


@lru_cache(maxsize=256)
def _prepared(g: Pass) -> tuple[Any, float]:
    """Return the program of a pass and the seconds that it takes."""
    blocking = window_blocking(g.windows, load.target())
    # Threads that meet a new problem together would otherwise all compile its kernel.
    with _lock:
        program = load.load("window_program:build")(g.windows, blocking, _divisors(g), g.fill)
    return program, blocking.cycles / HERTZ


def _divisors(g: Pass) -> tuple[Any, Any] | None:
    """Return the factors along W and lanes, and along H."""
    if g.divisor is None:
        return None
    if isinstance(g.divisor, int):
        return g.divisor, 1
    h, *rest = [counts.numbers() for counts in g.divisor]
    if not rest:
        h, rest = np.ones(g.windows.h.out, np.int64), [h]
    w = rest[0]
    for counts in rest[1:]:
        w = np.multiply.outer(w, counts).ravel()
    return np.repeat(w, g.windows.w.out * g.windows.lanes // len(w)), h


def run_pass(
    g: Pass, x: np.ndarray, out: np.ndarray, indices_in: np.ndarray | None = None, indices: np.ndarray | None = None
) -> None:
    """Fill `out` and `indices`, which overlap nothing else; all arrays are C-contiguous."""
    if out.size == 0:
        return
    program, seconds = _prepared(g)
    arrays = (x, indices_in, out, indices)
    io = np.array([0 if a is None else address(a) for a in arrays], np.int64)
    run(program.kernel, program.g, io, program.tasks, program.scratch_bytes, seconds)


def reduce_axes(
    op: str,
    x: np.ndarray,
    out: np.ndarray,
    planes: int,
    lanes: int,
    axes: tuple[Axis, ...],
    indices: np.ndarray | None = None,
    divisor: Divisor | None = None,
    fill: float = 0,
) -> None:
    """Fill `out` (planes, *outputs, lanes) with maxima, minima, sums or averages over windows of x (planes, *n, lanes).

    Parameters
    ----------
    op : {"max", "min", "sum"}
    x, out : ndarray, C-contiguous, float32, float64, int32 or int64
    axes : tuple of 1 to 3 Axis
    indices : int64 ndarray, optional
        Filled with the number, over `axes`, of the element that won.
    divisor : int or tuple of Counts, one for each axis, optional
    fill : float
        What stands outside of axes with the mode "fill".
    """
    dtype, kind = x.dtype.name, "" if indices is None else "wide"
    divided = "" if divisor is None else "constant" if isinstance(divisor, int) else "table"
    if len(axes) < 3:
        h, w = axes if len(axes) == 2 else (whole(1), axes[0])
        if h == whole(1) and not kind:
            # Rows of many planes make blocks together.
            h, planes = whole(planes), 1
            divisor = divisor[-1:] if isinstance(divisor, tuple) else divisor
        run_pass(Pass(Windows(op, dtype, planes, lanes, h, w, kind, divided), divisor, fill), x, out, None, indices)
        return
    d, h, w = axes
    sizes = (planes, d.n, h.out, w.out, lanes)
    middle = np.empty(sizes, x.dtype)
    which = None if indices is None else np.empty(sizes, f"i{x.itemsize}")
    first = Windows(op, dtype, planes * d.n, lanes, h, w, kind and "narrow")
    run_pass(Pass(first, None, fill), x, middle, None, which)
    second = Windows(op, dtype, planes, lanes, d, whole(h.out * w.out), kind, divided, h.n * w.n)
    run_pass(Pass(second, divisor, fill * h.kernel * w.kernel if op == "sum" else fill), middle, out, which, indices)


def _renew_lock() -> None:
    global _lock
    _lock = threading.Lock()


# A forked child may have inherited the lock from a thread that it does not have.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)
