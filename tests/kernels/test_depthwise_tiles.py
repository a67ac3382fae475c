"""The register tiles of depthwise convolution against their Python twins."""

from __future__ import annotations

from functools import cache, partial

import numpy as np
import pytest

from fastconv._jit import njit
from fastconv.kernels.cpu import target
from fastconv.kernels.cpu.depthwise_tiles import lanes, lanes_twin, slide, slide_twin, stencil, stencil_twin
from tests import cases

# (R, NV, TAPS): loops over any number of rows, and rows unrolled for just so many taps.
FOR_TARGETS = [pytest.param(tile, marks=pytest.mark.targets) for tile in ((4, 2, 0), (3, 3, 3))]
TILES = [*FOR_TARGETS, (1, 8, 0), (2, 1, 0), (4, 2, 5)]
EDGE = 8


@cache
def slide_kernel(R, NV, TAPS, BITS):
    """Return `slide` of one tile as a function."""

    @njit()
    def one(x, rowoff, coloff, weight, KH, KW, init, out, ldo, bias, limits, tiles, last):
        slide(R, NV, TAPS, BITS, x, rowoff, coloff, weight, KH, KW, init, out, ldo, bias, limits, tiles, last)

    return one


@cache
def lanes_kernel(MR, NV, BITS):
    """Return `lanes` of one tile as a function."""

    @njit()
    def one(x, step, boff, weight, ldw, K, init, ldi, out, ldo, bias, limits):
        lanes(MR, NV, BITS, x, step, boff, weight, ldw, K, init, ldi, out, ldo, bias, limits)

    return one


@cache
def stencil_kernel(MR, NV, KW, SW, BITS):
    """Return `stencil` of one tile as a function."""

    @njit()
    def one(x, step, pitch, weight, KH, init, ldi, out, ldo, bias, limits):
        stencil(MR, NV, KW, SW, BITS, x, step, pitch, weight, KH, init, ldi, out, ldo, bias, limits)

    return one


def at(array):
    """Return the address of an array's first element."""
    return array.ctypes.data


def ends(rng, rows, width, dtype, biases, with_init, with_bias):
    """Return the addresses of what ends a tile, by name, and of its result the array; rows are `ldo` apart."""
    size, ldo = np.dtype(dtype).itemsize, width + int(rng.integers(0, 4))
    init, bias = cases.integers(rng, (rows * ldo,), dtype), cases.integers(rng, (biases,), dtype)
    limits, out = np.array([-20, 15], dtype), np.full(2 * EDGE + rows * ldo, np.nan, dtype)
    at_ends = {"init": at(init) * with_init, "out": at(out) + size * EDGE, "ldo": ldo}
    return at_ends | {"bias": at(bias) * with_bias, "limits": at(limits)}, out, (init, bias, limits)


def check(compiled, twin, args, out, rows, NR, ldo):
    """Call both, and compare all of the result's array."""
    compiled(*args)
    got = out.copy()
    out[:] = np.nan
    twin(*args)
    np.testing.assert_array_equal(got, out)
    filled = np.zeros(len(out), bool)
    for m in range(rows):
        filled[EDGE + m * ldo : EDGE + m * ldo + NR] = True
    np.testing.assert_array_equal(np.isfinite(got), filled)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("tile", TILES, ids=str)
def test_slide_equals_its_twin(tile, dtype):
    (R, NV, TAPS), size = tile, np.dtype(dtype).itemsize
    rng, NR = np.random.default_rng(0), NV * target.current().lanes(8 * size)
    for KH, KW, width in ((TAPS or R, 1, NR), (TAPS or R + 1, 3, 3 * NR), (TAPS or max(R, 5), 2, 2 * NR + 3)):
        x, weight = cases.integers(rng, (90 + width,), dtype), cases.integers(rng, (KH * KW,), dtype)
        rowoff, coloff = rng.integers(0, 60, KH + R - 1) * size, rng.integers(0, 30, KW) * size
        for with_init, with_bias in ((0, 0), (1, 0), (0, 1), (1, 1)):
            end, out, keep = ends(rng, R, width, dtype, 1, with_init, with_bias)
            tiles = (*end.values(), -(-width // NR), width - NR)
            args = (at(x), at(rowoff), at(coloff), at(weight), KH, KW, *tiles)
            check(slide_kernel(*tile, 8 * size), partial(slide_twin, *tile, 8 * size), args, out, R, width, end["ldo"])
            del keep


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("tile", [pytest.param((4, 2), marks=pytest.mark.targets), (4, 1), (1, 1)], ids=str)
def test_lanes_equals_its_twin(tile, dtype):
    (MR, NV), size = tile, np.dtype(dtype).itemsize
    rng, NR = np.random.default_rng(0), NV * target.current().lanes(8 * size)
    for K in (0, 1, 9, 10):
        step, ldw = NR + int(rng.integers(0, 3)), NR + int(rng.integers(0, 3))
        x, weight = cases.integers(rng, (50 + MR * step + NR,), dtype), cases.integers(rng, (K * ldw + NR,), dtype)
        boff = rng.integers(0, 50, K) * size
        for with_init, with_bias in ((0, 0), (1, 0), (0, 1), (1, 1)):
            end, out, keep = ends(rng, MR, NR, dtype, NR, with_init, with_bias)
            rest = (end["init"], end["ldo"], end["out"], end["ldo"], end["bias"], end["limits"])
            args = (at(x), step, at(boff), at(weight), ldw, K, *rest)
            twin = partial(lanes_twin, MR, NV, 8 * size)
            check(lanes_kernel(MR, NV, 8 * size), twin, args, out, MR, NR, end["ldo"])
            del keep


@pytest.mark.parametrize("tile", [pytest.param((8, 1, 3, 1), marks=pytest.mark.targets), (4, 2, 5, 2)], ids=str)
def test_stencil_equals_its_twin(tile):
    MR, NV, KW, SW = tile
    rng, NR = np.random.default_rng(0), NV * target.current().lanes(32)
    for KH in (1, 3):
        step, pitch = NR + int(rng.integers(0, 3)), 300 + NR
        x, weight = cases.integers(rng, (KH * pitch + (MR * SW + KW) * step,)), cases.integers(rng, (KH * KW * NR,))
        for with_init, with_bias in ((0, 0), (1, 1)):
            end, out, keep = ends(rng, MR, NR, "float32", NR, with_init, with_bias)
            rest = (end["init"], end["ldo"], end["out"], end["ldo"], end["bias"], end["limits"])
            args = (at(x), step, pitch, at(weight), KH, *rest)
            check(stencil_kernel(*tile, 32), partial(stencil_twin, *tile, 32), args, out, MR, NR, end["ldo"])
            del keep


@pytest.mark.parametrize("taps", [0, 5])
def test_slide_multiplies_only_the_taps_of_a_row(taps):
    R, NV, KH = 4, 2, 5
    NR = NV * target.current().lanes(32)
    x = np.ones((KH + R - 1, NR), "f4")
    x[0], x[-1] = np.nan, np.inf
    rowoff, coloff, weight = np.arange(KH + R - 1, dtype=np.int64) * NR * 4, np.zeros(1, np.int64), np.ones(KH, "f4")
    end, out, keep = ends(np.random.default_rng(0), R, NR, "float32", 1, 0, 0)
    slide_kernel(R, NV, taps, 32)(at(x), at(rowoff), at(coloff), at(weight), KH, 1, *end.values(), 1, 0)
    rows = np.array([out[EDGE + i * end["ldo"] :][:NR] for i in range(R)])
    # Row 0 of the input reaches the first output row alone, the last one the last alone.
    np.testing.assert_array_equal(rows, np.repeat(np.float32([[np.nan], [5], [5], [np.inf]]), NR, axis=1))
    del keep
