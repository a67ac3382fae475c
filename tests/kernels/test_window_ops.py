"""Row operations of windows against their Python twins, at every length, and on pages whose neighbours are closed."""

from __future__ import annotations

from functools import cache, partial

import numpy as np
import pytest

from fastconv._jit import njit
from fastconv.kernels.cpu import sliding_ops, target, window_ops
from fastconv.kernels.cpu.window_ops import MAX, MIN, SUM
from tests import guard
from tests.kernels.test_row_ops import Plain

# (BITS, OP, INDEX): elements of both sizes, both orders, both kinds of indices.
VARIANTS = (
    (32, MAX, 0),
    (32, MAX, 1),
    (32, MAX, 2),
    (32, SUM, 0),
    (64, MIN, 1),
    (65, MAX, 0),
    (33, MAX, 1),
    (65, SUM, 0),
)
FOR_TARGETS = VARIANTS[:2]
MARKED = [pytest.param(v, marks=pytest.mark.targets if v in FOR_TARGETS else (), id=str(v)) for v in VARIANTS]


@cache
def kernels(BITS, OP, INDEX):
    """Return the compiled operations of one variant, by name."""
    reduce_taps, reduce_sliding, reduce_row = window_ops.reduce_taps, sliding_ops.reduce_sliding, window_ops.reduce_row

    @njit(fastmath=False)
    def taps(dst, idst, src, isrc, offsets, count, add, n):
        reduce_taps(BITS, OP, INDEX, dst, idst, src, isrc, offsets, count, add, n)

    @njit(fastmath=False)
    def sliding(dst, idst, src, first, step, dilation, count, n):
        reduce_sliding(BITS, OP, INDEX, dst, idst, src, first, step, dilation, count, n)

    @njit(fastmath=False)
    def row(dst, src, n):
        reduce_row(BITS, OP, dst, src, n)

    return {"taps": taps, "sliding": sliding, "row": row}


@cache
def finishing(BITS):
    """Return the compiled operations that finish rows."""
    splat_row, divide_row, widen_row = window_ops.splat_row, window_ops.divide_row, window_ops.widen_row

    @njit(fastmath=False)
    def splat(dst, value, n):
        splat_row(BITS, dst, value, n)

    @njit(fastmath=False)
    def divide(row, divisors, step, times, n):
        divide_row(BITS, row, divisors, step, times, n)

    @njit(fastmath=False)
    def widen(dst, src, n):
        widen_row(BITS, dst, src, n)

    return {"splat": splat, "divide": divide, "widen": widen}


def dtypes(BITS):
    """Return the dtypes of elements and of indices."""
    return np.dtype(f"{'i' if BITS & 1 else 'f'}{BITS // 8}"), np.dtype(f"i{BITS // 8}")


def lengths(BITS):
    """Return all lengths up to three vectors, and those around the unrolled loop."""
    VL = target.current().lanes(BITS)
    return [*range(1, 3 * VL + 2), 4 * VL, 4 * VL + 1, 9 * VL - 1]


def values(rng, n, dtype):
    """Return few different numbers, and what compares in its own way."""
    x = rng.integers(-3, 4, n).astype(dtype)
    if dtype.kind == "f":
        x[rng.random(n) < 0.05] = np.nan
        x[rng.random(n) < 0.1] = -np.inf
        x[rng.random(n) < 0.1] = -0.0
    elif rng.random() < 0.5:
        x[rng.random(n) < 0.2] = rng.choice([np.iinfo(dtype).min, np.iinfo(dtype).max])
    return x


def at(array):
    return array.ctypes.data


def compare(compiled, twin, outputs, arguments, place, text):
    """Call both with addresses of outputs and arguments, arrays or numbers, and compare the outputs."""
    placed = [place(a) if isinstance(a, np.ndarray) else a for a in arguments]
    numbers = [at(a) if isinstance(a, np.ndarray) else a for a in placed]
    got, want = [place(a) for a in outputs], [a.copy() for a in outputs]
    compiled(*map(at, got), *numbers)
    twin(*map(at, want), *numbers)
    for one, other in zip(got, want, strict=True):
        np.testing.assert_array_equal(one, other, err_msg=text)


def poisoned(n, dtype, index):
    """Return outputs: values, and indices, one element where there are none."""
    value = np.full(n, np.nan if dtype.kind == "f" else 99, dtype)
    return value, np.full(n if index else 1, -7, f"i{dtype.itemsize}")


def check_taps(variant, place):
    (BITS, _, INDEX), rng = variant, np.random.default_rng(0)
    (dtype, whole), compiled = dtypes(BITS), kernels(*variant)["taps"]
    twin = partial(window_ops.reduce_taps_twin, *variant)
    for n in lengths(BITS):
        for count in (1, 2, 3, 4, 5, 8):
            offsets = rng.integers(0, 20, count)
            # Nothing lies behind the last element of the last run.
            src = values(rng, int(offsets.max()) + n, dtype)
            isrc = rng.integers(0, 1000, len(src)).astype(whole) if INDEX == 1 else 3
            arguments = [src, isrc, offsets.astype(np.int64), count, 5, n]
            compare(compiled, twin, poisoned(n, dtype, INDEX), arguments, place, f"{variant} {n} {count}")


def check_sliding(variant, place):
    (BITS, OP, INDEX), rng = variant, np.random.default_rng(1)
    (dtype, _), compiled = dtypes(BITS), kernels(BITS, OP, INDEX)["sliding"]
    twin = partial(sliding_ops.reduce_sliding_twin, BITS, OP, INDEX)
    for n in lengths(BITS):
        for step, dilation, count in ((1, 1, 1), (1, 1, 3), (1, 4, 2), (2, 1, 2), (2, 1, 3), (2, 1, 4), (2, 1, 7)):
            src = values(rng, (n - 1) * step + (count - 1) * dilation + 1, dtype)
            arguments = [src, 11, step, dilation, count, n]
            text = f"{variant} {n} {step} {dilation} {count}"
            compare(compiled, twin, poisoned(n, dtype, INDEX), arguments, place, text)


def check_row(variant, place):
    (BITS, OP, _), rng = variant, np.random.default_rng(2)
    dtype, compiled = dtypes(BITS)[0], kernels(*variant)["row"]
    for n in lengths(BITS):
        outputs = poisoned(1, dtype, 0)[:1]
        twin = partial(window_ops.reduce_row_twin, BITS, OP)
        compare(compiled, twin, outputs, [values(rng, n, dtype), n], place, f"{variant} {n}")


def check_finishing(BITS, place):
    rng, (dtype, whole), compiled = np.random.default_rng(3), dtypes(BITS), finishing(BITS)
    for n in [0, *lengths(BITS)]:
        x = values(rng, n, dtype)
        compare(
            compiled["splat"], partial(window_ops.splat_row_twin, BITS), [x], [values(rng, 1, dtype), n], place, f"{n}"
        )
        wide, narrow = np.full(n, -7, np.int64), rng.integers(-(2**31), 2**31, n).astype(whole)
        compare(compiled["widen"], partial(window_ops.widen_row_twin, BITS), [wide], [narrow, n], place, f"{n}")
        for step in (0, 1):
            divisors = rng.choice([-7, -2, -1, 1, 2, 3, 9], n if step else 1).astype(dtype)
            times = rng.choice([-3, 1, 2], 1).astype(dtype)
            twin = partial(window_ops.divide_row_twin, BITS)
            compare(compiled["divide"], twin, [x], [divisors, step, times, n], place, f"{n} {step}")


def check_all(variant, place):
    """Run all operations of a variant on arrays that `place` lays out."""
    check_taps(variant, place)
    if variant[2] < 2:
        check_sliding(variant, place)
    if not variant[2]:
        check_row(variant, place)


@pytest.mark.parametrize("variant", MARKED)
def test_window_ops_equal_their_twins(variant):
    place = Plain()
    check_all(variant, place.copy)
    place.check()


@pytest.mark.parametrize("BITS", [pytest.param(32, marks=pytest.mark.targets), 65])
def test_finishing_ops_equal_their_twins(BITS):
    place = Plain()
    check_finishing(BITS, place.copy)
    place.check()


@pytest.mark.skipif(not guard.AVAILABLE, reason="maps memory as Linux does")
def test_window_ops_stay_inside():
    guard.run("from tests.kernels import test_window_ops as t; t.check_guarded()")


def check_guarded():
    """Run all operations on guarded arrays; called in a process of its own."""
    for side in guard.SIDES:
        for variant in VARIANTS:
            with guard.Pages() as pages:
                check_all(variant, lambda array, pages=pages, side=side: pages.copy(array, side).ravel())
        for BITS in (32, 65):
            with guard.Pages() as pages:
                check_finishing(BITS, lambda array, pages=pages, side=side: pages.copy(array, side).ravel())


@pytest.mark.parametrize("variant", [pytest.param((32, MAX, 0), marks=pytest.mark.targets), (64, MIN, 1)], ids=str)
def test_a_run_may_take_the_place_of_the_first_tap(variant):
    """As stages in place do: an element that is combined once more, by the vector at the end, changes nothing."""
    (BITS, _, INDEX), rng = variant, np.random.default_rng(4)
    dtype, whole = dtypes(BITS)
    for n in lengths(BITS):
        # Rows behind each other, as in scratch: no tap but the first lies in the run that is written.
        rows, count = 4 * n, 4
        src, isrc = values(rng, rows, dtype), np.arange(rows, dtype=whole)
        offsets = np.array([0, n, 3 * n, 2 * n], np.int64)
        got, gotten = src.copy(), isrc.copy()
        kernels(*variant)["taps"](at(got), at(gotten), at(got), at(gotten), at(offsets), count, 0, n)
        window_ops.reduce_taps_twin(*variant, at(src), at(isrc), at(src), at(isrc), at(offsets), count, 0, n)
        np.testing.assert_array_equal(got, src)
        np.testing.assert_array_equal(gotten[: n * INDEX], isrc[: n * INDEX])


@pytest.mark.targets
def test_maxima_keep_nan_and_the_first_of_equals():
    nan, inf = np.nan, np.inf
    rows = np.float32([[1, nan, nan, 3, -inf, 0.0], [1, 2, nan, 2, -inf, -0.0], [nan, 2, 1, 3, -inf, 0.0]])
    index = np.arange(18, dtype=np.int32)
    offsets = np.array([0, 6, 12], np.int64)
    out, which = np.zeros(6, "f4"), np.zeros(6, "i4")
    kernels(32, MAX, 1)["taps"](at(out), at(which), at(rows), at(index), at(offsets), 3, 100, 6)
    np.testing.assert_array_equal(out, [nan, nan, nan, 3, -inf, 0])
    assert which.tolist() == [112, 101, 108, 103, 104, 105]


def test_the_smallest_integer_divided_by_minus_one_wraps():
    least = np.iinfo("i8").min
    for n in lengths(65):
        for step in (0, 1):
            row, by, times = np.full(n, least), np.full(n if step else 1, 1), np.array([-1])
            finishing(65)["divide"](at(row), at(by), step, at(times), n)
            assert (row == least).all()
