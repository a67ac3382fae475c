"""Windows over many small planes: as many planes as a vector has lanes are turned to lanes, and back.

The rows of a small plane do not fill vectors; the same element of VL planes does. The planes are transposed by squares
in registers, the kernel of windows.py runs on them as on channels, in L1 or L2, and its result is transposed back.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from fastconv._jit import inline, njit
from fastconv.kernels.cpu import window_fields as F
from fastconv.kernels.cpu import window_program, windows
from fastconv.kernels.cpu.program import Program, address, bits_of
from fastconv.kernels.cpu.row_ops import copy_row, transpose
from fastconv.kernels.cpu.window_ops import widen_row

# Fields of g behind those of windows.py: planes; elements of an input and of an output plane; tasks of the kernel; byte
# offsets of the turned input, results and indices, of one of them turned back, and of the kernel's own scratch; tables
# of offsets of the lanes, and of the planes that are turned back; whether indices are int64; elements from plane to
# plane of the result.
NAMES = (
    "PLANES",
    "SIZE",
    "OUT_SIZE",
    "TASKS",
    "X_AT",
    "OUT_AT",
    "INDEX_AT",
    "BACK_AT",
    "SCRATCH_AT",
    "LANES",
    "BACK",
    "WIDE",
    "OUT_PITCH",
)
FIRST = len(F.NAMES)
PLANES, SIZE, OUT_SIZE, TASKS, X_AT, OUT_AT, INDEX_AT, BACK_AT, SCRATCH_AT, LANES, BACK, WIDE, OUT_PITCH = range(
    FIRST, FIRST + len(NAMES)
)


@inline
def turned_back(BITS, VL, g, src, back, dst, wide):
    """Transpose the results at `src`, [element][lane], by way of `back` to planes at `dst`, int64 if `wide`."""
    size, n = BITS // 8, g[OUT_SIZE]
    for q in range(0, n, VL):
        transpose(BITS, back + size * q, g[BACK], src + size * q * VL, VL)
    for lane in range(VL):
        row = back + size * lane * (n + VL)
        if wide:
            widen_row(BITS, dst + 8 * lane * g[OUT_PITCH], row, n)
        else:
            copy_row(BITS, dst + size * lane * g[OUT_PITCH], row, n)


@cache
def kernel(BITS: int, OP: int, INDICES: int, VL: int) -> Any:
    """Return the kernel of an operation on planes; INDICES: also which element won."""
    size, inner = BITS // 8, windows.kernel(BITS, OP, INDICES)

    @njit(fastmath=False)
    def turned(g, io, scratch, lo, hi):
        """Tasks are groups of VL planes; the last one overlaps its neighbour."""
        n = g[SIZE]
        x, out, index, back = (
            scratch + g[X_AT], scratch + g[OUT_AT], scratch + g[INDEX_AT], scratch + g[BACK_AT]
        )  # fmt: skip
        addresses = np.empty(4, np.int64)
        for t in range(lo, hi):
            plane = min(t * VL, g[PLANES] - VL)
            src = io[F.X] + size * plane * n
            for q0 in range(0, n, VL):
                q = min(q0, n - VL)
                transpose(BITS, x + size * q * VL, g[LANES], src + size * q, n)
            addresses[F.X], addresses[F.INDEX], addresses[F.OUT], addresses[F.INDEX_OUT] = x, 0, out, index
            # A literal 0 would be a signature, and a compilation, of its own.
            inner(g, addresses, scratch + g[SCRATCH_AT], np.int64(0), g[TASKS])
            to = plane * g[OUT_PITCH]
            turned_back(BITS, VL, g, out, back, io[F.OUT] + size * to, 0)
            if INDICES:
                # Narrow indices are copied as the bits of elements.
                numbers = io[F.INDEX_OUT] + (8 if g[WIDE] else size) * to
                turned_back(BITS, VL, g, index, back, numbers, g[WIDE])

    return turned


def moved(program: Program, out_plane: int) -> Program:
    """Return a program of windows, turned or not, whose result's planes lie `out_plane` elements apart."""
    g = program.g.copy()
    g[F.OUT_PLANE if len(g) == FIRST else OUT_PITCH] = out_plane
    return Program(program.kernel, g, program.tasks, program.scratch_bytes, (), [*program.tables, program.g])


def build(problem: Any, b: Any, divisors: tuple[Any, Any] | None = None, fill: float = 0) -> Program:
    """Return the program of a `geometry.windows.Windows` in a `dispatch.blocking_windows.TurnedBlocking`."""
    VL, bits = b.VL, bits_of(problem)
    inside = problem._replace(planes=1, lanes=VL, indices=problem.indices and "narrow")
    if divisors is not None and problem.divided == "table":
        divisors = np.repeat(divisors[0], VL), divisors[1]
    inner = window_program.build(inside, b.inner, divisors, fill)
    lanes = np.arange(VL, dtype=np.int64) * VL
    back = np.arange(VL, dtype=np.int64) * (b.out_size + VL)
    values = [problem.planes, b.size, b.out_size, inner.tasks, *b.offsets, address(lanes), address(back)]
    g = np.concatenate([inner.g, np.array([*values, problem.indices == "wide", b.out_size], np.int64)])
    run = kernel(bits, window_program.OPS.index(problem.op), int(bool(problem.indices)), VL)
    return Program(run, g, b.tasks, b.scratch_bytes, (), [*inner.tables, lanes, back])
