"""Operations on elements, bytes and sums of rows against their Python twins, also beside closed pages."""

from __future__ import annotations

from functools import cache, partial

import numpy as np
import pytest

from fastconv._jit import njit
from fastconv.kernels.cpu import element_ops, resample_ops, target
from fastconv.kernels.cpu.element_ops import (
    add_row,
    copy_bytes,
    copy_vector,
    double_row,
    load_at,
    splat_at,
    store_at,
    zero_bytes,
)
from fastconv.kernels.cpu.memory import dtype_of
from fastconv.kernels.cpu.resample_ops import blend_rows, narrow_row, rows_to_columns, widen_row
from tests import guard
from tests.kernels.test_row_ops import Plain

LENGTHS = (1, 2, 3, 7, 15, 16, 17, 31, 33, 64, 100)
MOVED, SUMMED = (9, 33), (32, 33)


@cache
def moving(BITS):
    """Return the compiled operations on elements of one size, by name."""

    @njit()
    def exchange(dst, src, i, j):
        store_at(BITS, dst, i, load_at(BITS, src, j))

    @njit()
    def splat(dst, src, i, j):
        splat_at(BITS, dst, i, load_at(BITS, src, j))

    @njit()
    def vector(dst, src):
        copy_vector(BITS, dst, src)

    @njit()
    def double(dst, src, n):
        double_row(BITS, dst, src, n)

    @njit()
    def copy_all(dst, src, n):
        copy_bytes(dst, src, n)

    @njit()
    def zero_all(dst, n):
        zero_bytes(dst, n)

    return {
        "exchange": exchange,
        "splat": splat,
        "vector": vector,
        "double": double,
        "copy": copy_all,
        "zero": zero_all,
    }


@cache
def summing(BITS):
    """Return the compiled operations that compute in one element type, by name."""

    @njit(fastmath=False)
    def add(dst, src, n):
        add_row(BITS, dst, src, n)

    @njit(fastmath=False)
    def blend(dst, ldo, src, lds, fields, first, count, n):
        blend_rows(BITS, dst, ldo, src, lds, fields, first, count, n)

    @njit(fastmath=False)
    def turn(dst, src, offsets, n):
        rows_to_columns(BITS, dst, src, offsets, n)

    return {"add": add, "blend": blend, "turn": turn}


@cache
def bytewise():
    """Return the compiled copies between uint8 and int32."""

    @njit()
    def widen(dst, src, n):
        widen_row(dst, src, n)

    @njit()
    def narrow(dst, src, n):
        narrow_row(dst, src, n)

    return {"widen": widen, "narrow": narrow}


def integers(rng, n, bits):
    return rng.integers(-50, 50, n).astype(dtype_of(bits))


def check(kernel, twin, got, arguments, place):
    """Compare a compiled operation that writes all of `got`, or a part of it, with its twin."""
    placed = [place(a) if isinstance(a, np.ndarray) else a for a in arguments]
    numbers = [a.ctypes.data if isinstance(a, np.ndarray) else a for a in placed]
    expected, got = got.copy(), place(got)
    kernel(got.ctypes.data, *numbers)
    twin(expected.ctypes.data, *numbers)
    np.testing.assert_array_equal(got, expected, err_msg=str(numbers))


def check_moving(bits, place):
    rng, ops, VL = np.random.default_rng(bits), moving(bits), target.current().lanes(bits)
    twins = {
        "exchange": lambda dst, src, i, j: element_ops.store_at_twin(
            bits, dst, i, element_ops.load_at_twin(bits, src, j)
        ),
        "splat": lambda dst, src, i, j: element_ops.splat_at_twin(bits, dst, i, element_ops.load_at_twin(bits, src, j)),
        "vector": partial(element_ops.copy_vector_twin, bits),
        "double": partial(element_ops.double_row_twin, bits),
        "copy": element_ops.copy_bytes_twin,
        "zero": element_ops.zero_bytes_twin,
    }
    for n in LENGTHS:
        row, size = partial(integers, rng, n, bits), bits // 8
        check(ops["exchange"], twins["exchange"], row(), [row(), n - 1, n // 2], place)
        check(ops["double"], twins["double"], integers(rng, 2 * n, bits), [row(), n], place)
        check(ops["copy"], twins["copy"], row(), [row(), size * n], place)
        check(ops["zero"], twins["zero"], row(), [size * (n - 1)], place)
    check(ops["splat"], twins["splat"], integers(rng, VL + 3, bits), [integers(rng, 2, bits), 3, 1], place)
    check(ops["vector"], twins["vector"], integers(rng, VL, bits), [integers(rng, VL, bits)], place)


def check_summing(bits, place):
    rng, ops, VL = np.random.default_rng(bits), summing(bits), target.current().lanes(bits)
    counts = np.array([1, 2, 3, 1, 4, 2])
    start = np.concatenate([[0], np.cumsum(counts)])
    index, weights = rng.integers(0, 5, start[-1]), integers(rng, start[-1], bits)
    fields = np.array([*(a.ctypes.data for a in (start, index, weights)), 3, 0, 255])
    for n in LENGTHS:
        check(
            ops["add"],
            partial(element_ops.add_row_twin, bits),
            integers(rng, n, bits),
            [integers(rng, n, bits), n],
            place,
        )
        for pitch in (n, n + 3):
            out, src = integers(rng, 3 * pitch + n, bits), integers(rng, 4 * pitch + n, bits)
            arguments = [pitch, src, pitch, fields, 1, 4, n]
            check(ops["blend"], partial(resample_ops.blend_rows_twin, bits), out, arguments, place)
        offsets = rng.integers(0, 9, VL) * 2
        src = integers(rng, int(offsets.max()) + n, bits)
        out = np.zeros(max(n, VL) * VL, dtype_of(bits))
        columns = place(out)
        ops["turn"](columns.ctypes.data, place(src).ctypes.data, place(offsets).ctypes.data, n)
        resample_ops.rows_to_columns_twin(bits, out.ctypes.data, src.ctypes.data, offsets.ctypes.data, n)
        np.testing.assert_array_equal(columns[: n * VL], out[: n * VL])


def check_bytes(place):
    rng = np.random.default_rng(0)
    for n in LENGTHS:
        some = rng.integers(0, 256, n)
        for name, source, result in (("widen", np.uint8, np.int32), ("narrow", np.int32, np.uint8)):
            twin = getattr(resample_ops, f"{name}_row_twin")
            check(bytewise()[name], twin, np.full(n, 7, result), [some.astype(source), n], place)


def check_all(place):
    for bits in MOVED:
        check_moving(bits, place)
    for bits in SUMMED:
        check_summing(bits, place)
    check_bytes(place)


@pytest.mark.targets
def test_operations_equal_their_twins():
    place = Plain()
    check_all(place.copy)
    place.check()


@pytest.mark.skipif(not guard.AVAILABLE, reason="maps memory as Linux does")
def test_operations_stay_inside():
    guard.run("from tests.kernels import test_moving_ops as t; t.check_guarded()")


def check_guarded():
    """Run all operations on guarded arrays; called in a process of its own."""
    for side in guard.SIDES:
        with guard.Pages() as pages:
            check_all(lambda array, pages=pages, side=side: pages.copy(array, side).ravel())


def test_twins_equal_the_definitions():
    out, src = np.zeros(8, "i1"), np.array([1, -2, 3, 4], "i1")
    element_ops.double_row_twin(9, out.ctypes.data, src.ctypes.data, 4)
    np.testing.assert_array_equal(out, [1, 1, -2, -2, 3, 3, 4, 4])
    start, index, weights = np.array([0, 2, 3]), np.array([0, 2, 1]), np.array([3, 5, 300], "i4")
    fields = np.array([*(a.ctypes.data for a in (start, index, weights)), 2, 0, 255])
    rows, out = np.array([[1, 2], [3, -4], [5, 6]], "i4"), np.zeros((2, 2), "i4")
    resample_ops.blend_rows_twin(33, out.ctypes.data, 2, rows.ctypes.data, 2, fields.ctypes.data, 0, 2, 2)
    # (3 * 1 + 5 * 5 + 2) >> 2, and so on; clipped to 0 ... 255.
    np.testing.assert_array_equal(out, [[7, 9], [225, 0]])
