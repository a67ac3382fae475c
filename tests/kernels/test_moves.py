"""Operations that move bits, against their Python twins, on arrays beside closed pages."""

from __future__ import annotations

import itertools
from functools import cache

import numpy as np
import pytest

from fastconv._jit import njit
from fastconv.kernels.cpu import moves, phase_packing, target
from tests import guard

needs_pages = pytest.mark.skipif(not guard.AVAILABLE, reason="maps memory as Linux does")
LENGTHS = (1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 33, 40)


@cache
def kernels(BITS):
    """Return the compiled operations of one element size."""
    copy_rows, zip_rows, add_ints, deal_four = moves.copy_rows, moves.zip_rows, moves.add_ints, moves.deal_four

    @njit()
    def copied(dst, ldd, src, lds, rows, n):
        copy_rows(BITS, dst, ldd, src, lds, rows, n)

    @njit()
    def zipped(dst, ldd, even, lde, odd, ldo, rows, n):
        zip_rows(BITS, dst, ldd, even, lde, odd, ldo, rows, n)

    @njit()
    def added(dst, one, two, n):
        add_ints(dst, one, two, n)

    @njit()
    def dealt(dst, to, src):
        deal_four(BITS, dst, to, src)

    return copied, zipped, added, dealt


def check_copies(bits, place):
    """Copy rows of every length and count, dense and with steps."""
    dtype, rng = np.dtype(f"i{bits // 8}"), np.random.default_rng(bits)
    for n, rows, (more, less) in itertools.product(LENGTHS, (0, 1, 3), ((0, 0), (3, 1))):
        ldd, lds = n + more, n + less
        src = place(rng.integers(0, 100, max((rows - 1) * lds + n, 1)).astype(dtype))
        got, want = (place(np.full(max((rows - 1) * ldd + n, 1), -1, dtype)) for _ in range(2))
        kernels(bits)[0](got.ctypes.data, ldd, src.ctypes.data, lds, rows, n)
        moves.copy_rows_twin(bits, want.ctypes.data, ldd, src.ctypes.data, lds, rows, n)
        np.testing.assert_array_equal(got, want, err_msg=f"{n} {rows} {ldd} {lds}")


def check_zips(bits, place):
    """Interleave two runs to rows of every length, odd ones too."""
    dtype, rng = np.dtype(f"i{bits // 8}"), np.random.default_rng(bits)
    for n, rows, more in itertools.product((*LENGTHS, 63, 64, 65), (1, 3), (0, 2)):
        half, ldd = (n + 1) // 2 + more, n + more
        parts = [place(rng.integers(0, 100, rows * half).astype(dtype)) for _ in range(2)]
        # The last rows of the sources end where their arrays end.
        even, odd = parts[0][more:], parts[1][more + n % 2 :]
        got, want = (place(np.full((rows - 1) * ldd + n, -1, dtype)) for _ in range(2))
        where = [x for part in (even, odd) for x in (part.ctypes.data, half)]
        kernels(bits)[1](got.ctypes.data, ldd, *where, rows, n)
        moves.zip_rows_twin(bits, want.ctypes.data, ldd, *where, rows, n)
        np.testing.assert_array_equal(got, want, err_msg=f"{n} {rows} {more}")


@pytest.mark.targets
def test_moves_are_those_of_the_twins():
    for bits in (33, 65):
        check_copies(bits, lambda array: array)
        check_zips(bits, lambda array: array)
        check_deals(bits, lambda array: array)


def check_deals(bits, place):
    """Deal the kernels of a vector of channels out to four vectors."""
    lanes, dtype = target.current().lanes(bits), np.dtype(f"i{bits // 8}")
    src, to = place(np.arange(4 * lanes).astype(dtype)), np.array([2, 0, 3, 1]) * lanes
    got, want = (place(np.full(4 * lanes, -1, dtype)) for _ in range(2))
    kernels(bits)[3](got.ctypes.data, to.ctypes.data, src.ctypes.data)
    np.testing.assert_array_equal(got.reshape(4, lanes)[[2, 0, 3, 1]].T.ravel(), src)
    moves.deal_four_twin(bits, want.ctypes.data, to.ctypes.data, src.ctypes.data)
    np.testing.assert_array_equal(got, want)


@pytest.mark.targets
def test_add_ints():
    one, two, got = np.arange(24), np.arange(24) * 1000, np.zeros(24, np.int64)
    kernels(33)[2](got.ctypes.data, one.ctypes.data, two.ctypes.data, 16)
    np.testing.assert_array_equal(got, [*range(0, 16016, 1001), *[0] * 8])


@needs_pages
def test_moves_stay_inside():
    guard.run("from tests.kernels import test_moves as t; t.check_pages()")


def check_pages():
    """Run all on guarded arrays; called in a process of its own."""
    for side, bits in itertools.product(guard.SIDES, (17, 33)):
        with guard.Pages() as pages:
            check_copies(bits, lambda array: pages.copy(array, side))  # noqa: B023
            check_zips(bits, lambda array: pages.copy(array, side))  # noqa: B023
            check_deals(bits, lambda array: pages.copy(array, side))  # noqa: B023


@pytest.mark.targets
@pytest.mark.parametrize("channels", [(2, 3, 5), (1, 19, 9)])
def test_regroup_deals_out_every_tap(channels):
    G, ICG, OCG = channels
    # Taps 0 and 3 are a phase, tap 2 another one, tap 1 is in none.
    first, second = G * OCG * ICG * 2, G * OCG * ICG
    taps = [(1, OCG * ICG * 2, 2), (0, 0, 0), (first, OCG * ICG, 1), (0, OCG * ICG * 2, 2)]
    program = phase_packing.regroup(4, channels, taps)
    w = np.random.default_rng(0).integers(0, 100, (G, ICG, OCG, 4)).astype(np.int32)
    got = np.full(first + second, -1, np.int32)
    program.kernel(program.g, np.array([w.ctypes.data, got.ctypes.data]), 0, 0, program.tasks)
    turned = w.swapaxes(1, 2)
    want = np.concatenate([turned[..., [3, 0]].ravel(), turned[..., 2].ravel()])
    np.testing.assert_array_equal(got, want)
