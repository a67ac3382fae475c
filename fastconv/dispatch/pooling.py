"""Windows over 1 to 3 axes, prepared: one or two passes of the kernel for two axes."""

from __future__ import annotations

import os
import threading
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from fastconv.dispatch import load
from fastconv.dispatch.blocking_windows import turned_blocking, window_blocking
from fastconv.dispatch.cost import seconds
from fastconv.geometry.arrays import address
from fastconv.geometry.windows import Axis, Windows, whole
from fastconv.system import empty
from fastconv.threads import run

# Outputs of all axes up to which programs are usual.
USUAL = 1 << 14
# Rows as short as this are not worth a reduction of their own: planes are turned to lanes.
SHORT = 128

_lock = threading.Lock()


class Counts(NamedTuple):
    """How many inputs, from `low` on and before `high`, the windows along an axis have: what an average divides by."""

    axis: Axis
    low: int
    high: int

    def numbers(self) -> np.ndarray:
        """Return the count of each output."""
        o: Any = np.arange(self.axis.out, dtype=np.int64)
        start, reach = self.axis.start(o), self.axis.reach(o)
        return np.minimum(reach, self.high) - np.maximum(start, self.low)


# One number, or the counts of all axes.
Divisor: TypeAlias = int | tuple[Counts, ...]


class _Pass:
    """Windows over two axes, ready to run."""

    __slots__ = ("geometry", "program", "seconds")

    def __init__(self, g: Windows, divisor: Divisor | None, fill: float):
        self.geometry = g
        target, divisors = load.target(), _divisors(g, divisor)
        blocking = turned_blocking(g, target)
        if blocking is None:
            plain = window_blocking(g, target)
            self.program = load.load("window_program:build")(g, plain, divisors, fill)
            self.seconds = seconds(plain.cycles)
        else:
            self.program = load.load("windows_turned:build")(g, blocking, divisors, fill)
            self.seconds = seconds(blocking.cycles)

    def run(self, x: int, indices_in: int, out: int, indices: int) -> None:
        """Fill the arrays at two addresses from those at two others; an address of 0: none."""
        program = self.program
        io = np.array((x, indices_in, out, indices), np.int64)
        run(program.kernel, program.g, io, program.tasks, program.scratch_bytes, self.seconds)


def _divisors(g: Windows, divisor: Divisor | None) -> tuple[Any, Any] | None:
    """Return the factors along W and lanes, and along H."""
    if divisor is None:
        return None
    if isinstance(divisor, int):
        return divisor, 1
    h, *rest = [counts.numbers() for counts in divisor]
    if not rest:
        h, rest = np.ones(g.h.out, np.int64), [h]
    w = rest[0]
    for counts in rest[1:]:
        w = np.multiply.outer(w, counts).ravel()
    return np.repeat(w, g.w.out * g.lanes // len(w)), h


class Prepared:
    """Maxima, minima, sums or averages over windows of 1 to 3 axes, ready to run; immutable."""

    __slots__ = ("_first", "_middle", "_second")

    def __init__(self, g: Windows, d: Axis | None, divisor: Divisor | None, fill: float):
        self._second = None
        if d is None:
            self._first = _Pass(g, divisor, fill)
            return
        h, w, planes = g.h, g.w, g.planes
        self._middle = planes, d.n, h.out, w.out, g.lanes
        first = g._replace(planes=planes * d.n, indices=g.indices and "narrow", divided="")
        self._first = _Pass(first, None, fill)
        fill = fill * h.kernel * w.kernel if g.op == "sum" else fill
        self._second = _Pass(g._replace(h=d, w=whole(h.out * w.out), row_elements=h.n * w.n), divisor, fill)

    @property
    def passes(self) -> list[Windows]:
        """The windows of each pass."""
        return [each.geometry for each in (self._first, self._second) if each is not None]

    @property
    def program(self) -> Any:
        """The program of its only pass."""
        return self._first.program

    def run(self, x: np.ndarray, out: np.ndarray, indices: np.ndarray | None = None) -> None:
        """Fill `out` and `indices`, which overlap nothing else; all arrays are C-contiguous."""
        if out.size == 0:
            return
        which = 0 if indices is None else address(indices)
        if self._second is None:
            self._first.run(address(x), 0, address(out), which)
            return
        middle = empty(self._middle, x.dtype)
        between = None if indices is None else empty(self._middle, f"i{x.itemsize}")
        at = 0 if between is None else address(between)
        self._first.run(address(x), 0, address(middle), at)
        self._second.run(address(middle), at, address(out), which)


def prepare(
    op: str,
    dtype: str,
    planes: int,
    lanes: int,
    axes: tuple[Axis, ...],
    indices: bool = False,
    divisor: Divisor | None = None,
    fill: float = 0,
) -> Prepared:
    """Return windows over arrays of shape (planes, *n, lanes), whose result has the shape (planes, *outputs, lanes).

    Parameters
    ----------
    op : {"max", "min", "sum"}
    dtype : {"float32", "float64", "int32", "int64"}
    axes : tuple of 1 to 3 Axis
    indices : bool
        Whether the number, over `axes`, of the element that won is wanted too, in int64.
    divisor : int or tuple of Counts, one for each axis, optional
    fill : float
        What stands outside of axes with the mode "fill".
    """
    remembered = _usual if is_usual(axes) else _large
    return remembered(op, dtype, planes, lanes, axes, indices, divisor, fill)


def is_usual(axes: tuple[Axis, ...]) -> bool:
    """Return whether the tables of such windows, some 40 bytes an output of each axis, are small enough for many."""
    return sum(axis.out for axis in axes) <= USUAL


def _prepared(
    op: str,
    dtype: str,
    planes: int,
    lanes: int,
    axes: tuple[Axis, ...],
    indices: bool,
    divisor: Divisor | None,
    fill: float,
) -> Prepared:
    *depth, h, w = axes if len(axes) > 1 else (whole(1), axes[0])
    kind = "wide" if indices else ""
    divided = "" if divisor is None else "constant" if isinstance(divisor, int) else "table"
    if h == whole(1) and not indices and not depth and w.n > SHORT:
        # Rows of many planes make blocks together.
        h, planes = whole(planes), 1
        divisor = divisor[-1:] if isinstance(divisor, tuple) else divisor
    g = Windows(op, dtype, planes, lanes, h, w, kind, divided)
    # Threads that meet a new problem together would otherwise all compile its kernel.
    with _lock:
        return Prepared(g, depth[0] if depth else None, divisor, fill)


_usual, _large = lru_cache(maxsize=512)(_prepared), lru_cache(maxsize=4)(_prepared)


def _renew_lock() -> None:
    global _lock
    _lock = threading.Lock()


# A forked child may have inherited the lock from a thread that it does not have.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)
