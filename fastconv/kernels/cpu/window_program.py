"""Tables of windows over two axes, for the kernel of windows.py."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastconv.kernels.cpu import window_fields as F
from fastconv.kernels.cpu import windows
from fastconv.kernels.cpu.fields import MODES
from fastconv.kernels.cpu.packing import source_index
from fastconv.kernels.cpu.program import Program, address

OPS = ("max", "min", "sum")


def build(problem: Any, b: Any, divisors: tuple[Any, Any] | None = None, fill: float = 0) -> Program:
    """Return the program of a `geometry.windows.Windows` in a `dispatch.blocking_windows.WindowBlocking`.

    `divisors` are a number and 1, or the factors along W and lanes and along H; `fill` stands outside the input in the
    mode "fill".
    """
    dtype = np.dtype(problem.dtype)
    size, L = dtype.itemsize, problem.lanes
    indices = bool(problem.indices)
    half = b.scratch_bytes // (2 if indices else 1)
    PITCH = b.CB * L
    AREA = (b.CB + (b.w.reach if b.w else 0)) * L
    rows_at = b.row_elements * size
    values = {name: getattr(b, name) for name in ("RB", "CB", "ROW_BLOCKS", "COLUMN_BLOCKS")}
    values |= {"L": L, "H": problem.h.n, "W": problem.w.n, "OH": problem.h.out, "OW": problem.w.out}
    values |= {
        "OUT_PLANE": problem.h.out * problem.w.out * L,
        "PITCH": PITCH,
        "AREA": AREA,
        "ROWS_AT": rows_at,
        "INDEX_AT": half,
    }
    values |= {"LAST_AT": rows_at + b.rows * PITCH * size + half, "WIDE": problem.indices == "wide"}
    values |= {"H_WHOLE": problem.h.trivial, "ROW_ELEMENTS": problem.row_elements or problem.w.n}
    direct = b.first or (problem.w.trivial and not indices and b.h is None and not problem.h.trivial)
    values |= {"H_DIRECT": direct, "H_FIRST": b.first, "DW": problem.w.dilation}
    lowest = _neutral(problem.op, dtype)
    outside = fill if "fill" in (problem.w.mode, problem.h.mode) else lowest
    reduced = outside * problem.w.kernel if problem.op == "sum" else outside
    tables = [np.array([outside, reduced], dtype)]
    values["FILL"] = address(tables[0])
    for name, axis, staged, area, unit in (
        ("W", problem.w, b.w, AREA, L),
        ("H", problem.h, b.h, (b.RB + (b.h.reach if b.h else 0)) * PITCH, problem.w.n * L if direct else PITCH),
    ):
        made, fields = _axis_tables(axis, staged, area, unit, problem.op, name == "W" and b.sliding)
        tables += made
        values |= {f"{name}_{key}": value for key, value in fields.items()}
    if b.sliding:
        # The whole windows are one run: they start inside, and end there.
        whole = np.flatnonzero(_listed(problem.w, 1)[1][:, 1] == problem.w.kernel)
        values |= {"INNER": whole[0], "INNER_END": whole[-1] + 1} if len(whole) else {}
    elif indices and b.w is not None:
        tables.append(_columns(problem, b, dtype))
        values["COLUMNS"] = address(tables[-1])
    values["DIVIDE"] = -1
    if divisors is not None:
        by = [np.ascontiguousarray(d, dtype).reshape(-1) for d in divisors]
        tables += by
        values |= {"DIVIDE": problem.divided == "table", "DIVISORS_W": address(by[0]), "DIVISORS_H": address(by[1])}
    g = np.array([values.get(name, 0) for name in F.NAMES], np.int64)
    bits = 8 * size + (dtype.kind == "i")
    kernel = windows.kernel(bits, OPS.index(problem.op), int(indices))
    return Program(kernel, g, b.tasks, b.scratch_bytes, (), tables)


def _neutral(op: str, dtype: np.dtype) -> Any:
    """Return what stands where nothing is: it changes no result."""
    if op == "sum":
        return 0
    if dtype.kind == "f":
        return -math.inf if op == "max" else math.inf
    limits = np.iinfo(dtype)
    return limits.min if op == "max" else limits.max


def _axis_tables(
    axis: Any, staged: Any, area: int, unit: int, op: str, sliding: bool
) -> tuple[list[np.ndarray], dict[str, int]]:
    """Return the tables of an axis and its fields of g; areas and positions are in elements."""
    if staged is None:
        tables, listed = _listed(axis, unit)
        kind = F.SLIDING if sliding else F.LISTED
        fields = {"KIND": kind, "PHASES": 1, "STRIDE": axis.stride, "LIST": address(listed), "TAPS": int(listed[-1, 4])}
        return [listed, *tables], fields
    taps = [np.array([a * area + p * unit for a, p in stage.taps], np.int64) for stage in staged.stages]
    rows, lags = [], dict.fromkeys(range(staged.phases), 0)
    for stage, offsets in zip(staged.stages, taps, strict=True):
        lags[stage.area] = max(lags[a] + p for a, p in stage.taps)
        rows.append((stage.area * area, address(offsets), len(offsets), stage.extra, lags[stage.area]))
    table, sources, listed = np.array(rows, np.int64), _sources(axis, staged, op), _listed(axis, unit)[1]
    fields = {"KIND": F.STAGED, "PHASES": staged.phases, "STRIDE": axis.stride, "BEFORE": axis.before}
    fields |= {"FULL": axis.out + staged.reach, "REACH": staged.reach, "MAP": address(sources)}
    fields |= {"TABLE": address(table), "STAGES": len(rows), "LIST": address(listed)}
    return [*taps, table, sources, listed], fields


def _longest(axis: Any) -> int:
    """Return the inputs of the largest window."""
    return axis.kernel if axis.mode != "adaptive" else -(-axis.n // axis.out) + 1


def _listed(axis: Any, unit: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Return [tables of offsets] and what window_fields.py says of each output; inputs are `unit` elements apart."""
    o = np.arange(axis.out, dtype=np.int64)
    taps = np.arange(_longest(axis), dtype=np.int64) * axis.dilation * unit
    if axis.mode == "adaptive":
        first, end = o * axis.n // axis.out, -(-(o + 1) * axis.n // axis.out)
        return [taps], _rows(first, end - first, first, end, np.full_like(o, address(taps)))
    start, D = o * axis.stride - axis.before, axis.dilation
    skipped = -(np.minimum(start, 0) // D)
    first = start + skipped * D
    count = np.maximum(0, np.minimum(axis.kernel - skipped, -(-(axis.n - first) // D)))
    end = np.minimum(axis.n, start + (axis.kernel - 1) * D + 1)
    listed = _rows(first, count, np.maximum(start, 0), end, np.full_like(o, address(taps)))
    if axis.mode in ("clip", "fill", "zeros"):
        return [taps], listed
    # What stands outside is inside somewhere else.
    outside = np.flatnonzero(count < axis.kernel)
    inputs = start[outside, None] + np.arange(axis.kernel) * D
    mirrored = _mirrored(inputs.ravel(), axis.n, axis.mode).reshape(inputs.shape) * unit
    listed[outside, 0], listed[outside, 1] = 0, axis.kernel
    listed[outside, 4] = address(mirrored) + 8 * axis.kernel * np.arange(len(outside))
    return [taps, mirrored], listed


def _rows(*columns: np.ndarray) -> np.ndarray:
    """Return a C-contiguous table of these columns."""
    return np.ascontiguousarray(np.stack(columns, 1))


def _mirrored(positions: np.ndarray, n: int, mode: str) -> np.ndarray:
    """Return which of n elements stands at each position of an axis that is padded in a mode of the convolutions."""
    number = MODES.index(mode)
    source = getattr(source_index, "py_func", source_index)
    return np.array([p if 0 <= p < n else source(int(p), n, number) for p in positions], np.int64)


def _sources(axis: Any, staged: Any, op: str) -> np.ndarray:
    """Return which input stands at each position [phase][output + reach]; -1: none."""
    full = axis.out + staged.reach
    p = (np.arange(full)[None] * axis.stride + np.arange(staged.phases)[:, None] - axis.before).ravel()
    n, D = axis.n, axis.dilation
    if axis.mode not in ("clip", "fill", "zeros"):
        found = _mirrored(p, n, axis.mode)
    elif axis.mode == "clip" and op != "sum":
        # An element of the window once more changes no maximum: the nearest one that the same windows see.
        found = np.where(p < 0, p % D, p)
        found = np.where(found >= n, np.where(p < 0, -1, p - D * (-(-(p - n + 1) // D))), found)
    else:
        found = p
    return np.ascontiguousarray(np.where((found < 0) | (found >= n), -1, found), np.int64)


def _columns(problem: Any, b: Any, dtype: np.dtype) -> np.ndarray:
    """Return the column of each element of a row, as it is copied."""
    columns = np.maximum(_sources(problem.w, b.w, problem.op), 0)
    return np.repeat(columns, problem.lanes).astype(f"i{dtype.itemsize}")
