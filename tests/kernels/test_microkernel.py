"""The outer-product microkernel against its Python twin, on drawn operands for tiles of every kind."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from fastconv._jit import njit
from fastconv.kernels.cpu import target
from fastconv.kernels.cpu.microkernel import COLUMNS, ROWS, WHOLE, outer, outer_twin
from tests import cases

# (MR, NV, MS, PER): as the planes kernel and the pixels kernel use it, wide and tall, and a tile that no menu has.
PANELS, PIXELS = (4, 3, 16, ROWS), (6, 2, 0, COLUMNS)
FOR_TARGETS = [pytest.param(tile, marks=pytest.mark.targets) for tile in (PANELS, PIXELS)]
TILES = [*FOR_TARGETS, (1, 8, 16, ROWS), (3, 2, 0, COLUMNS), (2, 1, 0, WHOLE)]
EDGE = 8


@cache
def kernel(MR, NV, MS, PER, BITS):
    """Return the compiled microkernel of one tile as a function."""

    @njit()
    def one(a, step, seg, segments, b, boff, init, ldi, out, ldo, bias, limits):
        outer(MR, NV, MS, PER, BITS, a, step, seg, segments, b, boff, init, ldi, out, ldo, bias, limits)

    return one


def operands(rng, tile, dtype, lengths, with_init, with_bias):
    """Return the arguments of one call, and the arrays that they point into; the result goes into the last one."""
    MR, NV, MS, PER = tile
    size, NR, K = np.dtype(dtype).itemsize, NV * target.current().lanes(8 * np.dtype(dtype).itemsize), sum(lengths)
    step = MS or int(rng.integers(max(lengths, default=1), 40))
    # Segments with gaps between them, row k of b anywhere, overlapping others.
    span = (MR - 1) * step + max(lengths, default=0) + 3
    seg = np.array([(i * span, n) for i, n in enumerate(lengths)], np.int64).reshape(-1, 2)
    boff = rng.integers(0, 50, K) * size
    a, b = cases.integers(rng, (len(lengths) * span + 1,), dtype), cases.integers(rng, (50 + NR,), dtype)
    ldi, ldo = NR + int(rng.integers(0, 5)), NR + int(rng.integers(0, 5))
    init, out = cases.integers(rng, (MR * ldi,), dtype), np.full(2 * EDGE + MR * ldo, np.nan, dtype)
    bias = cases.integers(rng, ({ROWS: MR, COLUMNS: NR, WHOLE: 1}[PER],), dtype)
    limits = np.array([-9, 11] if rng.random() < 0.5 else [-np.inf, np.inf], dtype)
    keep = (a, b, seg, boff, init, bias, limits, out)
    at = [array.ctypes.data for array in keep]
    args = (at[0], step, at[2], len(lengths), at[1], at[3], at[4] * with_init, ldi)
    return (*args, at[7] + size * EDGE, ldo, at[5] * with_bias, at[6]), keep


def written(tile, dtype, ldo):
    """Return which elements of the result's array the tile fills."""
    MR, NR = tile[0], tile[1] * target.current().lanes(8 * np.dtype(dtype).itemsize)
    mask = np.zeros(2 * EDGE + MR * ldo, bool)
    for m in range(MR):
        mask[EDGE + m * ldo : EDGE + m * ldo + NR] = True
    return mask


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("tile", TILES, ids=str)
def test_outer_equals_its_twin(tile, dtype):
    rng, bits = np.random.default_rng(0), 8 * np.dtype(dtype).itemsize
    for lengths in ([16, 16, 5], [1], [3, 1, 2], [7], []):
        lengths = lengths if tile[2] else [n + 1 for n in lengths]
        for with_init, with_bias in ((0, 0), (1, 0), (0, 1), (1, 1)):
            args, keep = operands(rng, tile, dtype, lengths, with_init, with_bias)
            out = keep[-1]
            before = [array.copy() for array in keep[:-1]]
            kernel(*tile, bits)(*args)
            got = out.copy()
            out[:] = np.nan
            outer_twin(*tile, bits, *args)
            np.testing.assert_array_equal(got, out)
            np.testing.assert_array_equal(np.isfinite(got), written(tile, dtype, args[9]))
            for array, copy in zip(keep[:-1], before, strict=True):
                np.testing.assert_array_equal(array, copy)


@pytest.mark.targets
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("tile", [PANELS, PIXELS], ids=str)
def test_outer_twin_equals_the_definition(tile, dtype):
    rng, bits = np.random.default_rng(1), 8 * np.dtype(dtype).itemsize
    lengths = [16, 3] if tile[2] else [5, 2]
    args, (a, b, seg, boff, init, bias, (low, high), out) = operands(rng, tile, dtype, lengths, 1, 1)
    MR, NR = tile[0], tile[1] * target.current().lanes(bits)
    outer_twin(*tile, bits, *args)
    (_, step, *_), ldi, ldo, size = args, args[7], args[9], bits // 8
    for m in range(MR):
        total, k = init[m * ldi : m * ldi + NR].copy(), 0
        for start, length in seg:
            for kk in range(length):
                total += a[start + m * step + kk] * b[boff[k] // size :][:NR]
                k += 1
        expected = np.clip(total + (bias[m] if tile[3] == ROWS else bias), low, high)
        np.testing.assert_array_equal(out[EDGE + m * ldo :][:NR], expected)


def test_outer_lets_nan_and_infinity_pass():
    tile = PANELS
    for value in (np.nan, np.inf, -np.inf):
        args, keep = operands(np.random.default_rng(2), tile, "float32", [16, 2], 1, 1)
        a, b, _, _, init, bias, limits, out = keep
        a[:], b[:], init[:], bias[:] = 1, 1, 0, 1
        # The first row only.
        a[2], limits[:] = value, [-np.inf, np.inf]
        kernel(*tile, 32)(*args)
        rows = [out[EDGE + m * args[9] :][: 3 * target.current().lanes(32)] for m in range(4)]
        np.testing.assert_array_equal(rows[0], np.full_like(rows[0], value))
        assert all((row == 19).all() for row in rows[1:])
