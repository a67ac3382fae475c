"""How windows over two axes are cut in blocks, and which axis is done in which way."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fastconv.dispatch.window_stages import Plan, in_place, plan
from fastconv.geometry.windows import Axis, Windows

# Rows in L2 cost so many times as much as rows in L1, for each combination; and so do rows of which only those in use
# are in L2, IN_USE bytes in all.
SLOWER = 1.2
IN_USE = 4 << 20
# Outputs of a block that keeps no rows; its borders cost nothing.
FIRST_ELEMENTS = 1 << 15
# Planes with fewer columns of outputs, in vectors, and fewer elements are turned.
TURNED_COLUMNS = 2
TURNED_ELEMENTS = 1 << 12
# More columns than this, times lanes, in one block only where nothing overlaps: rows of a block stay in L2.
COLUMNS = 512


class WindowBlocking(NamedTuple):
    """Blocks of RB x CB outputs; `w` and `h` are the plans of axes that are staged, else None.

    `sliding`: the windows along W slide over rows; `first`: H comes before W.
    """

    RB: int
    CB: int
    ROW_BLOCKS: int
    COLUMN_BLOCKS: int
    w: Plan | None
    h: Plan | None
    sliding: bool
    first: bool
    row_elements: int
    rows: int
    tasks: int
    scratch_bytes: int
    cycles: float


def window_blocking(g: Windows, target: Any) -> WindowBlocking:
    """Return the blocking of a problem."""
    size = np.dtype(g.dtype).itemsize
    VL = target.lanes(8 * size)
    repeatable = g.op != "sum"
    w, h = _plan_w(g.w, g.lanes, VL, repeatable), _plan_h(g.h, repeatable)
    sliding = w is not None and g.lanes == 1 and _slides(g.w, w)
    w = None if sliding else w
    first = h is None and not (g.indices or g.h.trivial or g.w.trivial)
    RB, CB = _block_first(g, size, target) if first else _block(g, w, h, size * (2 if g.indices else 1), target)
    row_elements = _row_elements(g, w, CB, VL)
    # With H first, one row of the input's columns.
    rows = -(-reached(g.w, CB) // CB) if first else _rows(g, h, RB)
    scratch = (row_elements + (rows + 1) * CB * g.lanes + VL) * size
    blocks = -(-g.h.out // RB), -(-g.w.out // CB)
    scratch_bytes = (-(-scratch // 64) * 64) * (2 if g.indices else 1)
    tasks = g.planes * blocks[0] * blocks[1]
    cycles = _cycles(g, w, h, VL)
    return WindowBlocking(RB, CB, *blocks, w, h, sliding, first, row_elements, rows, tasks, scratch_bytes, cycles)


class TurnedBlocking(NamedTuple):
    """Groups of VL small planes: `inner` blocks one group; offsets are those of windows_turned.py, in bytes."""

    inner: WindowBlocking
    VL: int
    size: int
    out_size: int
    offsets: tuple[int, ...]
    tasks: int
    scratch_bytes: int
    cycles: float


def turned_blocking(g: Windows, target: Any) -> TurnedBlocking | None:
    """Return the blocking of planes that are turned to lanes, or None where that does not pay."""
    itemsize = np.dtype(g.dtype).itemsize
    VL, size, out_size = target.lanes(8 * itemsize), g.h.n * g.w.n, g.h.out * g.w.out
    small = g.w.out <= TURNED_COLUMNS * VL and size <= TURNED_ELEMENTS
    if g.lanes > 1 or g.row_elements or g.planes < VL or size < VL or not small or (g.h.trivial and g.w.trivial):
        return None
    inner = window_blocking(g._replace(planes=1, lanes=VL, indices=g.indices and "narrow"), target)
    # What is transposed back is read, and written, in whole squares.
    out = (out_size + VL) * VL
    offsets, at = [], 0
    for elements in (size * VL, out, out if g.indices else 0, out):
        offsets.append(at)
        at += -(-elements * itemsize // 64) * 64
    groups = -(-g.planes // VL)
    cycles = groups * (inner.cycles + 2 * (size + out_size * (2 if g.indices else 1)) + 300)
    return TurnedBlocking(inner, VL, size, out_size, (*offsets, at), groups, at + inner.scratch_bytes, cycles)


def _slides(axis: Axis, w: Plan) -> bool:
    """Return whether the windows along W can be taken from a row as it is, many at a time."""
    steps = axis.stride == 1 or (axis.stride == 2 and axis.dilation == 1 and axis.kernel > 1)
    return axis.mode == "clip" and not axis.trivial and len(w.stages) == 1 and steps


def _plan_w(axis: Axis, lanes: int, VL: int, repeatable: bool) -> Plan | None:
    """Return the plan along W, or None to go from output to output with the lanes as vectors."""
    if axis.trivial:
        return plan(1, 1, 1, repeatable)
    if axis.mode == "adaptive":
        return None
    staged = plan(axis.kernel, axis.stride, axis.dilation, repeatable)
    # A row of single elements is listed only for windows without gaps.
    wide = lanes > 1 and 2 * lanes >= VL
    listed = axis.mode == "clip" and axis.stride > 1 and wide and len(staged.stages) == 1
    return None if listed else staged


def _plan_h(axis: Axis, repeatable: bool) -> Plan | None:
    """Return the plan along H, or None to take the rows of each output from a list."""
    if axis.mode == "adaptive":
        return None
    staged = plan(axis.kernel, axis.stride, axis.dilation, repeatable)
    if axis.mode not in ("fill", "zeros") and len(staged.stages) == 1:
        return None
    return in_place(staged) if repeatable and axis.stride == 1 else staged


def _row_elements(g: Windows, w: Plan | None, CB: int, VL: int) -> int:
    """Return the elements of the areas of one row; a whole vector may be written behind the last."""
    return 0 if w is None else w.areas * (CB + w.reach) * g.lanes + VL


def _rows(g: Windows, h: Plan | None, RB: int) -> int:
    """Return the rows that a block keeps in scratch."""
    if g.h.trivial:
        return 0
    if h is not None:
        return h.areas * (RB + h.reach)
    return reached(g.h, RB)


def reached(axis: Axis, outputs: int) -> int:
    """Return the most inputs that so many neighbouring outputs see."""
    if axis.mode == "adaptive":
        # Ends are rounded up and starts down, so n windows reach over less than n * axis.n / axis.out + 2 inputs.
        return min(axis.n, -(-outputs * axis.n // axis.out) + 1)
    return min(axis.n, (outputs - 1) * axis.stride + (axis.kernel - 1) * axis.dilation + 1)


def _block_first(g: Windows, size: int, target: Any) -> tuple[int, int]:
    """Return (RB, CB) where rows are combined first: one row of a block stays in L1."""
    CB = g.w.out
    while CB > 1 and reached(g.w, CB) * g.lanes * size > target.l1_bytes // 2:
        CB = -(-CB // 2)
    return min(g.h.out, max(1, FIRST_ELEMENTS // (CB * g.lanes))), CB


def _block(g: Windows, w: Plan | None, h: Plan | None, size: int, target: Any) -> tuple[int, int]:
    """Return (RB, CB): blocks with little border whose rows stay in L1, in L2, or at least those that are in use do."""
    best = (float("inf"), 1, g.w.out)
    for CB in _column_choices(g, w):
        across = 1 + (w.reach if w else 0) / CB
        for budget, factor in ((target.l1_bytes // 2, 1.0), (target.l2_bytes // 2, SLOWER), (IN_USE, SLOWER**2)):
            RB = _fitting_rows(g, h, budget // (size * CB * g.lanes))
            border = 1.0 if g.h.trivial else _rows(g, h, RB) / (h.areas if h else 1) / (RB * g.h.stride)
            cost = max(border, 1.0) * across * factor
            if cost < best[0]:
                best = cost, RB, CB
    return best[1], best[2]


def _column_choices(g: Windows, w: Plan | None) -> list[int]:
    """Return the widths of blocks to consider: all columns, or runs of some hundred elements."""
    choices = [g.w.out]
    while w is not None and choices[-1] * g.lanes > COLUMNS and choices[-1] > 1:
        choices.append(-(-choices[-1] // 2))
    return choices


def _fitting_rows(g: Windows, h: Plan | None, rows: int) -> int:
    """Return the most output rows of a block that keeps at most so many rows, at least one."""
    if g.h.trivial:
        return max(1, min(g.h.out, rows))
    low, high = 1, g.h.out
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if _rows(g, h, middle) <= rows else (low, middle - 1)
    return low


def _cycles(g: Windows, w: Plan | None, h: Plan | None, VL: int) -> float:
    """Return a rough count of cycles, which decides how many threads are worth it."""
    kernel_w = w.cost if w else -(-g.w.n // g.w.out) if g.w.mode == "adaptive" else g.w.kernel + 2
    kernel_h = h.cost if h else -(-g.h.n // g.h.out) if g.h.mode == "adaptive" else g.h.kernel + 2
    width = g.w.out * g.lanes / VL
    vectors = g.h.n * (width * kernel_w + g.w.n * g.lanes / VL) + g.h.out * width * kernel_h
    return 2.0 * g.planes * (vectors + 10 * (g.h.n + g.h.out)) * (2 if g.indices else 1)
