"""Row operations against their Python twins, at every length, and on pages whose neighbours are closed."""

from __future__ import annotations

from functools import cache, partial

import numpy as np
import pytest

from fastconv._jit import njit
from fastconv.kernels.cpu import copy_ops, row_ops, target
from fastconv.kernels.cpu.copy_ops import copy_element, copy_vectors
from tests import cases, guard

LENGTHS = (0, 1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 31, 33)
DTYPES = ("float32", "float64")


@cache
def kernels(BITS):
    """Return the compiled operations of one element size, by name."""
    copy_row, zero_row, fill_rows = row_ops.copy_row, row_ops.zero_row, row_ops.fill_rows
    transpose, finish_rows = row_ops.transpose, row_ops.finish_rows

    @njit()
    def copy(dst, src, n):
        copy_row(BITS, dst, src, n)

    @njit()
    def zero(dst, n):
        zero_row(BITS, dst, n)

    @njit()
    def fill(dst, src, rows, lds, first, last, step, n):
        fill_rows(BITS, dst, src, rows, lds, first, last, step, n)

    @njit()
    def transposed(dst, to, src, lds):
        transpose(BITS, dst, to, src, lds)

    @njit()
    def finish_one(out, ldo, c, ldc, bias, residual, limits, rows, n):
        finish_rows(BITS, 0, out, ldo, c, ldc, bias, residual, limits, rows, n)

    @njit()
    def finish_each(out, ldo, c, ldc, bias, residual, limits, rows, n):
        finish_rows(BITS, 1, out, ldo, c, ldc, bias, residual, limits, rows, n)

    @njit()
    def copy_one(dst, src):
        copy_element(BITS, dst, src)

    @njit()
    def copy_two(dst, src):
        copy_vectors(BITS, 2, dst, src)

    named = {
        "copy_element": copy_one,
        "copy_vectors 2": copy_two,
        "copy_row": copy,
        "zero_row": zero,
        "fill_rows": fill,
        "transpose": transposed,
    }
    return named | {"finish_rows 0": finish_one, "finish_rows 1": finish_each}


def twin(name, bits):
    """Return the Python twin of an operation, with the arguments of the compiled one."""
    word, *literal = name.split()
    module = copy_ops if word in ("copy_element", "copy_vectors") else row_ops
    return partial(getattr(module, f"{word}_twin"), bits, *map(int, literal))


class Plain:
    """Where arrays lie when no page is closed: between elements that must stay as they are."""

    EDGE = 8

    def __init__(self):
        self.whole = []

    def copy(self, array):
        memory = np.full(array.size + 2 * self.EDGE, 55, array.dtype)
        memory[self.EDGE : self.EDGE + array.size] = array.ravel()
        self.whole.append(memory)
        return memory[self.EDGE : self.EDGE + array.size]

    def check(self):
        for memory in self.whole:
            assert (memory[: self.EDGE] == 55).all()
            assert (memory[len(memory) - self.EDGE :] == 55).all()


def check(name, bits, n, arguments, place, spill=0):
    """Compare an operation on n elements with its twin; `arguments` may be arrays, placed by `place`, or numbers.

    It may write `spill` elements more, but not the one after them.
    """
    placed = [place(a) if isinstance(a, np.ndarray) else a for a in arguments]
    numbers = [a.ctypes.data if isinstance(a, np.ndarray) else a for a in placed]
    got, expected = (np.full(n + spill, np.nan, f"f{bits // 8}") for _ in range(2))
    got = place(got)
    kernels(bits)[name](got.ctypes.data, *numbers)
    twin(name, bits)(expected.ctypes.data, *numbers)
    np.testing.assert_array_equal(got[:n], expected[:n], err_msg=f"{name} {numbers}")


def check_all(dtype, place):
    """Run all operations on arrays that `place` lays out."""
    rng, bits = np.random.default_rng(0), 8 * np.dtype(dtype).itemsize
    VL, limits = target.current().lanes(bits), np.array([-3, 5], dtype)
    for n in LENGTHS:
        row = partial(cases.integers, rng, (n,), dtype)
        check("copy_row", bits, n, [row(), n], place)
        check("zero_row", bits, n, [n], place)
        for rows, gap in ((1, 0), (3, 0), (3, 2)):
            pitch = n + gap
            size, block = rows * pitch, partial(cases.integers, rng, (rows * pitch,), dtype)
            for residual in (0, block()):
                for name, bias in (("finish_rows 0", cases.integers(rng, (1,), dtype)), ("finish_rows 1", row())):
                    check(name, bits, size, [pitch, block(), pitch, bias, residual, limits, rows, n], place)
            for step, first, last in (
                (1, 0, n),
                (1, n // 3, n),
                (1, n // 2, n // 2),
                (2, n // 4, n),
                (3, 0, n - n // 3),
            ):
                length = max((last - first - 1) * step + 1, 0)
                lds = length + gap
                source = cases.integers(rng, ((rows - 1) * lds + length,), dtype)
                check("fill_rows", bits, rows * n, [source, rows, lds, first, last, step, n], place, spill=VL)
    for name, n in (("copy_element", 1), ("copy_vectors 2", 2 * VL)):
        check(name, bits, n, [cases.integers(rng, (n,), dtype)], place)
    for lds in (VL, VL + 3):
        src, to = cases.integers(rng, ((VL - 1) * lds + VL,), dtype), rng.permutation(VL).astype(np.int64) * VL
        check("transpose", bits, VL * VL, [to, src, lds], place)


@pytest.mark.targets
@pytest.mark.parametrize("dtype", DTYPES)
def test_row_ops_equal_their_twins(dtype):
    place = Plain()
    check_all(dtype, place.copy)
    place.check()


@pytest.mark.skipif(not guard.AVAILABLE, reason="maps memory as Linux does")
def test_row_ops_stay_inside():
    guard.run("from tests.kernels import test_row_ops as t; t.check_guarded()")


def check_guarded():
    """Run all operations on guarded arrays; called in a process of its own."""
    for side in guard.SIDES:
        for dtype in DTYPES:
            with guard.Pages() as pages:
                check_all(dtype, lambda array, pages=pages, side=side: pages.copy(array, side).ravel())


def test_fill_rows_twin_equals_the_definition():
    src, spill = np.arange(1.0, 18.0, dtype="f4"), target.current().lanes(32)
    for first, last, step, expected in (
        (0, 3, 1, [[1, 2, 3, 0, 0], [11, 12, 13, 0, 0]]),
        (2, 5, 1, [[0, 0, 1, 2, 3], [0, 0, 11, 12, 13]]),
        (1, 4, 3, [[0, 1, 4, 7, 0], [0, 11, 14, 17, 0]]),
        (5, 5, 2, [[0, 0, 0, 0, 0], [0, 0, 0, 0, 0]]),
    ):
        out = np.full(10 + spill, np.nan, "f4")
        row_ops.fill_rows_twin(32, out.ctypes.data, src.ctypes.data, 2, 10, first, last, step, 5)
        np.testing.assert_array_equal(out[:10].reshape(2, 5), expected)


@pytest.mark.targets
def test_finish_rows_lets_nan_pass():
    c, limits, bias = np.float32([np.nan, np.inf, -np.inf, -5, 9] * 5), np.float32([0, 6]), np.zeros(25, "f4")
    for each in (0, 1):
        out = np.zeros(25, "f4")
        at_out, at_c, at_bias, at_limits = (a.ctypes.data for a in (out, c, bias, limits))
        kernels(32)[f"finish_rows {each}"](at_out, 25, at_c, 25, at_bias, 0, at_limits, 1, 25)
        np.testing.assert_array_equal(out, [np.nan, 6, 0, 0, 6] * 5)
