"""The kernels of the image filters: casts as in C, rows of any type, taps, and that nothing outside is touched."""

from __future__ import annotations

import numpy as np
import pytest

from fastconv._jit import njit
from fastconv.kernels.cpu import filter_rows, filter_taps
from fastconv.kernels.cpu.filter_rows import BY_MAGNITUDE, CONSTANT, KINDS
from fastconv.kernels.reference import filters as reference
from fastconv.ndimage import blocks
from tests import guard

TYPES = KINDS[:CONSTANT]
MODES = ("zeros", "reflect", "replicate", "circular", "symmetric")
LENGTHS = (1, 2, 3, 7, 8, 15, 16, 17, 33)
VALUES = (
    *(0.0, 0.5, -0.5, 1.0, -1.0, -1.5, 200.7, 255.0, 256.0, 300.0, -300.0, 2.0**15, 2.0**16 + 3, -(2.0**15) - 5),
    *(2.0**31 - 1, 2.0**31, 2.0**31 + 5, -(2.0**31) - 7, 2.0**32 + 3, -(2.0**32) - 3, 2.0**62, 2.0**63, 1.5 * 2.0**63),
    *(2.0**64, 2.0**65, -(2.0**63), -1.5 * 2.0**63, -1.5 * 2.0**64, 1e300, -1e300, np.nan, np.inf, -np.inf),
)


@njit(fastmath=False)
def _widen(dst, src, kind, n):
    filter_rows.widen_row(dst, src, kind, n)


@njit(fastmath=False)
def _narrow(dst, src, kind, n):
    filter_rows.narrow_row(dst, src, kind, n)


@njit(fastmath=False)
def _sum(dst, src, table, n):
    filter_taps.sum_taps(dst, src, table, n)


@njit(fastmath=False)
def _extreme(dst, src, table, n):
    filter_taps.extreme_taps(dst, src, table, n)


@njit(fastmath=False)
def _mean(dst, src, size, n, pitch):
    filter_taps.running_mean(dst, src, size, n, pitch)


def cast(value, dtype):
    """Return the int that C makes of a double on x86: 32 or 64 bits, of which the low ones are kept."""
    dtype = np.dtype(dtype)
    bits = 64 if dtype in (np.uint32, np.int64, np.uint64) else 32
    if dtype == np.uint64 and value >= 2.0**63:
        return cast(value - 2.0**63, np.int64) + 2**63
    inside = -(2.0 ** (bits - 1)) <= value < 2.0 ** (bits - 1)
    whole = int(value) if inside else -(2 ** (bits - 1))
    return int(np.uint64(whole % 2**64).astype(f"u{dtype.itemsize}").astype(dtype))


@pytest.mark.targets
@pytest.mark.parametrize("name", TYPES)
def test_rows_are_cast_as_in_c(name):
    values = np.repeat(VALUES, 2)
    out = np.zeros(len(values), name)
    _narrow(out.ctypes.data, values.ctypes.data, KINDS.index(name), len(values))
    if name.startswith("float"):
        with np.errstate(all="ignore"):
            np.testing.assert_array_equal(out, values.astype(name))
    else:
        assert out.tolist() == [cast(value, name) for value in values]


def test_large_negative_numbers_by_magnitude():
    values = np.repeat([v for v in VALUES if not np.isnan(v)], 2)
    out = np.zeros(len(values), np.uint64)
    _narrow(out.ctypes.data, values.ctypes.data, BY_MAGNITUDE, len(values))
    expected = [cast(v, "u8") if v > -1 else -cast(-v, "u8") % 2**64 for v in values]
    assert out.tolist() == expected


@pytest.mark.targets
@pytest.mark.parametrize("name", TYPES)
def test_rows_are_widened(name):
    rng = np.random.default_rng(0)
    for n in LENGTHS:
        x = np.frombuffer(rng.bytes(n * np.dtype(name).itemsize), name)
        out = np.zeros(n)
        _widen(out.ctypes.data, x.ctypes.data, KINDS.index(name), n)
        with np.errstate(all="ignore"):
            np.testing.assert_array_equal(out, x.astype(np.float64))
    _widen(out.ctypes.data, np.array([7.5]).ctypes.data, CONSTANT, len(out))
    assert (out == 7.5).all()


def test_twins_of_rows_are_the_compiled_ones():
    rng = np.random.default_rng(0)
    values = np.concatenate((VALUES, rng.standard_normal(9)))
    for kind, name in enumerate(KINDS):
        if kind != CONSTANT:
            dtype = name.partition(" ")[0]
            one, other = np.zeros(len(values), dtype), np.zeros(len(values), dtype)
            _narrow(one.ctypes.data, values.ctypes.data, kind, len(values))
            filter_rows.narrow_row_twin(other.ctypes.data, values.ctypes.data, kind, len(values))
            np.testing.assert_array_equal(one, other)


def table_of(rng, sign, singles, pairs, start=0.0):
    """Return a table of taps over the first 40 elements."""
    taps = blocks.Taps(
        rng.permutation(40)[:singles], rng.standard_normal(singles), rng.integers(0, 40, (pairs, 2)),
        rng.standard_normal(pairs), sign, start,
    )  # fmt: skip
    return taps.table(8 * np.arange(40))


def test_twins_of_taps_are_the_compiled_ones():
    rng = np.random.default_rng(0)
    for n in (1, 8, 9, 40, 67):
        # Whole vectors are read and written.
        x, one, other = (np.zeros(n + 80) for _ in range(3))
        x[:] = rng.standard_normal(len(x))
        for sign in (1, -1):
            table = table_of(rng, sign, 3, 4, -0.0)
            _sum(one.ctypes.data, x.ctypes.data, table.ctypes.data, n)
            filter_taps.sum_taps_twin(other.ctypes.data, x.ctypes.data, table.ctypes.data, n)
            np.testing.assert_array_equal(one[:n], other[:n])
            table = table_of(rng, sign, 5, 0)
            x[n // 2] = np.nan
            _extreme(one.ctypes.data, x.ctypes.data, table.ctypes.data, n)
            filter_taps.extreme_taps_twin(other.ctypes.data, x.ctypes.data, table.ctypes.data, n)
            np.testing.assert_array_equal(one[:n], other[:n])
            x[n // 2] = 1.0
    for n, size, pitch in ((9, 4, 1), (5, 1, 16), (1, 3, 8)):
        x, one, other = (np.zeros((n + size) * pitch) for _ in range(3))
        x[:] = rng.standard_normal(len(x))
        _mean(one.ctypes.data, x.ctypes.data, size, n, pitch)
        filter_taps.running_mean_twin(other.ctypes.data, x.ctypes.data, size, n, pitch)
        np.testing.assert_array_equal(one, other)


def draw(rng):
    """Return (x, sizes, befores, mode) of a small problem; some have long axes, so that there are several blocks."""
    ndim = int(rng.integers(1, 5))
    shape = rng.integers(1, (40, 12, 6, 4)[ndim - 1], ndim)
    sizes = rng.integers(1, (9, 5, 4, 3)[ndim - 1], ndim)
    if rng.random() < 0.1:
        shape[rng.integers(ndim)] = 1500
    befores = [int(rng.integers(k)) for k in sizes]
    x = rng.integers(-9, 10, shape).astype(str(rng.choice(("int8", "int64", "float32"))))
    return x, sizes, befores, str(rng.choice(MODES))


def check(x, sizes, befores, mode, rng):
    """Compare the three filters with their definitions."""
    sizes = [int(k) for k in sizes]
    weights, cval = rng.integers(-3, 4, sizes).astype(np.float64), float(rng.integers(-3, 4))
    got = blocks.filtered("sum", x, np.dtype("f8"), sizes, befores, mode, cval, blocks.kernel_taps(weights))
    np.testing.assert_array_equal(got, reference.correlate(x, weights, befores, mode, cval))
    footprint = rng.random(sizes) < 0.7
    footprint.flat[0] = True
    places = np.flatnonzero(footprint)
    for sign, reduce in ((1, np.max), (-1, np.min)):
        taps = blocks.Taps(places, np.ones(len(places)), sign=sign)
        got = blocks.filtered("extreme", x, np.dtype("i8"), sizes, befores, mode, cval, taps)
        np.testing.assert_array_equal(got, reference.reduce_windows(reduce, x, footprint, befores, mode, cval))
    axis = int(rng.integers(x.ndim))
    line = [k if i == axis else 1 for i, k in enumerate(sizes)]
    before = [b if i == axis else 0 for i, b in enumerate(befores)]
    none = blocks.Taps(np.zeros(0, np.int64), np.zeros(0))
    got = blocks.filtered("mean", x, np.dtype("f8"), line, before, mode, cval, none, axis=axis)
    expected = reference.reduce_windows(np.sum, x, np.ones(line, bool), before, mode, cval) / line[axis]
    np.testing.assert_array_equal(got, expected)


def test_filters_equal_their_definitions():
    rng = np.random.default_rng(0)
    for _ in range(150):
        check(*draw(rng), rng)


@pytest.mark.targets
def test_filters_equal_their_definitions_on_every_target():
    rng = np.random.default_rng(1)
    for mode in MODES:
        check(rng.integers(-9, 10, (3, 5)).astype("i1"), (2, 3), (1, 0), mode, rng)


@pytest.mark.skipif(not guard.AVAILABLE, reason="maps memory as Linux does")
def test_filters_stay_inside():
    guard.run("from tests.kernels import test_filter_blocks as t; t.check_guarded()")


def check_guarded():
    """Run the filters on guarded arrays and scratch; called in a process of its own."""
    guard.guard_scratch()
    rng = np.random.default_rng(2)
    for i in range(60):
        x, sizes, befores, mode = draw(rng)
        side = guard.SIDES[i % 2]
        with guard.Pages() as pages, pytest.MonkeyPatch.context() as patch:
            # Where the result of a filter comes from.
            patch.setattr(
                blocks, "_result", lambda shape, dtype, pages=pages, side=side: pages.empty(shape, dtype, side)
            )
            check(pages.copy(x, side), sizes, befores, mode, rng)
