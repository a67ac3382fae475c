"""Blocks of windows cover all outputs, and the rows that they keep are enough for any block."""

from __future__ import annotations

import numpy as np
import pytest

from fastconv.dispatch import load
from fastconv.dispatch.blocking_windows import turned_blocking, window_blocking
from fastconv.geometry.windows import Axis, Windows, whole
from fastconv.kernels.cpu import target as targets

TARGETS = [targets.AVX512, targets.AVX2, targets.SSE2, targets.NEON]


def clip(n, kernel, stride, dilation=1, before=0):
    """Return the axis of a pool with as much padding behind the input as before it."""
    out = (n + 2 * before - dilation * (kernel - 1) - 1) // stride + 1
    return Axis(n, out, kernel, stride, dilation, before)


def axes(rng, most):
    """Yield axes of all kinds."""
    while True:
        n, kernel, stride = (int(rng.integers(1, m + 1)) for m in (most, 40, 4))
        if (kind := rng.integers(5)) == 0:
            yield whole(n)
        elif kind == 1:
            yield Axis(n, int(rng.integers(1, n + 3)), mode="adaptive")
        else:
            axis = clip(n, kernel, stride, int(rng.choice([1, 1, 2])), int(rng.integers(kernel // 2 + 1)))
            if axis.out > 0:
                yield axis.trimmed


def drawn(count):
    """Yield windows with everything drawn."""
    rng = np.random.default_rng(0)
    rows, columns = axes(rng, 300), axes(rng, 900)
    for _ in range(count):
        op, dtype = str(rng.choice(["max", "sum"])), str(rng.choice(["float32", "float64", "int64"]))
        indices = str(rng.choice(["", "wide"])) if op == "max" else ""
        planes, lanes = int(rng.integers(1, 40)), int(rng.choice([1, 1, 3, 16, 64, 257]))
        yield Windows(op, dtype, planes, lanes, next(rows), next(columns), indices)


def needed_rows(axis, RB):
    """Return the most inputs that a block of RB outputs sees."""
    blocks = [(r, min(r + RB, axis.out) - 1) for r in range(0, axis.out, RB)]
    return max(min(axis.n, axis.reach(last)) - max(0, axis.start(first)) for first, last in blocks)


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_blocks_cover_all_outputs_and_keep_the_rows_that_they_need(target):
    kept = 0
    for g in drawn(400):
        b = window_blocking(g, target)
        for size, block, blocks in ((g.h.out, b.RB, b.ROW_BLOCKS), (g.w.out, b.CB, b.COLUMN_BLOCKS)):
            assert block * (blocks - 1) < size <= block * blocks, g
        assert b.tasks == g.planes * b.ROW_BLOCKS * b.COLUMN_BLOCKS
        itemsize = np.dtype(g.dtype).itemsize * (2 if g.indices else 1)
        assert b.scratch_bytes >= b.rows * b.CB * g.lanes * itemsize
        # The elements of a window over single ones are taken as one run.
        assert not (b.w is None and not b.sliding and g.lanes == 1 and not g.indices and g.w.dilation > 1), (g, b)
        if b.h is None and not (b.first or g.h.trivial):
            kept += 1
            assert b.rows >= needed_rows(g.h, b.RB), (g, b)
    assert kept > 50


def test_scratch_is_bounded_by_caches_or_by_what_one_row_needs():
    for g in drawn(400):
        b = window_blocking(g, load.target())
        itemsize = np.dtype(g.dtype).itemsize * (2 if g.indices else 1)
        row = (g.w.n + g.w.out) * g.lanes * itemsize * (1 + (b.w.areas if b.w else 0))
        rows = (g.h.kernel * g.h.dilation + 2 * (b.h.areas if b.h else 1)) * g.w.out * g.lanes * itemsize * 4
        assert b.scratch_bytes <= (8 << 20) + row + (rows if b.RB == 1 else 0), (g, b)


def test_small_planes_are_turned():
    target = load.target()
    VL = target.lanes(32)
    small = Windows("max", "float32", 3 * VL + 1, 1, clip(7, 3, 1, 1, 1), clip(9, 3, 1, 1, 1), "wide")
    b = turned_blocking(small, target)
    assert b.VL == VL
    assert b.tasks == 4
    assert b.inner.tasks >= 1
    assert b.scratch_bytes >= (63 + 2 * 63) * VL * 4 + b.inner.scratch_bytes
    assert list(b.offsets) == sorted(b.offsets)


@pytest.mark.parametrize(
    "change",
    [
        {"planes": 2},
        {"lanes": 3},
        {"h": clip(300, 3, 1), "w": clip(300, 3, 1)},
        {"h": whole(7), "w": whole(9)},
        {"h": whole(1), "w": clip(2, 2, 1)},
    ],
)
def test_other_planes_are_not_turned(change):
    g = Windows("max", "float32", 40, 1, clip(7, 3, 1, 1, 1), clip(9, 3, 1, 1, 1))
    assert turned_blocking(g._replace(**change), load.target()) is None
