"""Words of four bytes: the operations against their twins and on closed pages, and the microkernel that sums them."""

from __future__ import annotations

import numpy as np
import pytest

import fastconv as fc
from fastconv._jit import njit
from fastconv.dispatch import plan as plans
from fastconv.kernels.cpu import target, word_ops
from fastconv.kernels.cpu.ir_builder import DOTS, SIGNED_UNSIGNED, UNSIGNED_SIGNED
from fastconv.kernels.cpu.microkernel import ROWS, outer, outer_twin
from fastconv.testing import problem, reference
from tests import cases, guard, words

LENGTHS = (0, 1, 3, 7, 8, 15, 16, 17, 33, 50)
dots = pytest.mark.skipif(not words.AVAILABLE or not target.current().dots, reason="this CPU has no dot products")
quads, flip_row, strided_words = word_ops.quads, word_ops.flip_row, word_ops.strided_words
correction = word_ops.correction


@njit()
def compiled_quads(dst, src, plane, channels, n, flip, count):
    quads(dst, src, plane, channels, n, flip, count)


@njit()
def compiled_flip_row(dst, src, n, flip):
    flip_row(dst, src, n, flip)


@njit()
def compiled_strided_words(dst, pitch, src, step, mask, n, flip):
    strided_words(dst, pitch, src, step, mask, n, flip)


@pytest.mark.parametrize("side", guard.SIDES)
@pytest.mark.skipif(not guard.AVAILABLE, reason="maps memory as Linux does")
def test_operations_equal_their_twins_inside_their_arrays(side):
    rng = np.random.default_rng(0)
    for n in LENGTHS:
        for channels, flip, count in ((4, 0, 1), (3, 0x80808080, 1), (1, 0x80808080, 1), (4, 0, 3)):
            with guard.Pages() as pages:
                x = pages.copy(words.drawn(rng, (4 * (count - 1) + channels, n), "uint8"), side)
                got, expected = (pages.empty((count, n), "uint32", side) for _ in range(2))
                compiled_quads(got.ctypes.data, x.ctypes.data, n, channels, n, flip, count)
                word_ops.quads_twin(expected.ctypes.data, x.ctypes.data, n, channels, n, flip, count)
                np.testing.assert_array_equal(got, expected)
                four = np.zeros((count, n, 4), np.uint8)
                for c in range(4 * (count - 1) + channels):
                    four[c // 4, :, c % 4] = x[c]
                np.testing.assert_array_equal(got, four.view(np.uint32)[..., 0] ^ np.uint32(flip))
                for source in (0, x.ctypes.data):
                    row = n * channels // 4
                    compiled_flip_row(got.ctypes.data, source, min(row, n), flip)
                    word_ops.flip_row_twin(expected.ctypes.data, source, min(row, n), flip)
                    np.testing.assert_array_equal(got, expected)
        with guard.Pages() as pages:
            x, flip = pages.copy(words.drawn(rng, (n * 5 + 3,), "uint8"), side), 0x80808080
            got, expected = (pages.empty((n, 3), "uint32", side) for _ in range(2))
            compiled_strided_words(got.ctypes.data, 3, x.ctypes.data, 5, 0xFFFF, n, flip)
            word_ops.strided_words_twin(expected.ctypes.data, 3, x.ctypes.data, 5, 0xFFFF, n, flip)
            np.testing.assert_array_equal(got, expected)


@dots
def test_corrections_undo_the_flip():
    @njit()
    def both(dst, src, n):
        correction(UNSIGNED_SIGNED, dst, src, n)
        correction(SIGNED_UNSIGNED, dst + 4, src, n)

    rng = np.random.default_rng(1)
    for n in LENGTHS:
        w, got = words.drawn(rng, (4 * n,), "uint8"), np.empty(2, np.int32)
        both(got.ctypes.data, w.ctypes.data, n)
        assert got.tolist() == [-128 * int(w.view("int8").sum(dtype="i8")), 128 * int(w.sum(dtype="i8"))]
        for bits, value in zip(DOTS, got, strict=True):
            one = np.empty(1, np.int32)
            word_ops.correction_twin(bits, one.ctypes.data, w.ctypes.data, n)
            assert one[0] == value


@dots
@pytest.mark.parametrize("BITS", DOTS)
def test_the_microkernel_sums_dot_products(BITS):
    MR, NV, K = 2, 1, 5
    NR = NV * target.current().lanes(BITS)

    @njit()
    def one(a, seg, b, boff, out, ldo):
        outer(MR, NV, 16, ROWS, BITS, a, 0, seg, 1, b, boff, 0, 0, out, ldo, 0, 0)

    rng, kinds = np.random.default_rng(2), ("uint8", "int8") if BITS == UNSIGNED_SIGNED else ("int8", "uint8")
    a, b = words.drawn(rng, (MR, 16, 4), kinds[0]), words.drawn(rng, (K, NR, 4), kinds[1])
    seg, boff, out = np.array([0, K]), np.arange(K) * 4 * NR, np.empty((MR, NR), np.int32)
    expected = np.einsum("mkj,kij->mi", a[:, :K].astype("i8"), b.astype("i8"))
    at = [array.ctypes.data for array in (a, seg, b, boff)]
    one(*at, out.ctypes.data, NR)
    np.testing.assert_array_equal(out, expected)
    out[...] = 0
    outer_twin(MR, NV, 16, ROWS, BITS, at[0], 0, at[1], 1, *at[2:], 0, 0, out.ctypes.data, NR, 0, 0)
    np.testing.assert_array_equal(out, expected)


@dots
@pytest.mark.slow
@pytest.mark.skipif(not guard.AVAILABLE, reason="maps memory as Linux does")
def test_convolutions_of_bytes_stay_inside():
    out = guard.run("from tests.kernels import test_words as t; t.check_named()", timeout=900)
    assert out.split()[-1] == "done"


def check_named():
    """Run all named problems on arrays, words and packed weights beside closed pages; in a process of its own."""
    guard.guard_scratch()
    rng = np.random.default_rng(3)
    with words.forced():
        for i, (name, text) in enumerate(cases.CASES.items()):
            for j, layout in enumerate(cases.LAYOUTS):
                print(name, layout, flush=True)
                p, signs = problem(text), words.SIGNS[(i + 2 * j) % 4]
                x, w = words.drawn(rng, p.input_shape, signs[0]), words.drawn(rng, p.weight_shape, signs[1])
                x = np.ascontiguousarray(np.moveaxis(x, 1, -1)) if layout == "channels_last" else x
                keywords = p.keywords | {"layout": layout, "out_dtype": "int32"}
                expected = reference(x, w, **keywords)
                for side in guard.SIDES:
                    check_one(x, w, expected, side, keywords)
    print("done")


def check_one(x, w, expected, side, keywords):
    """Compare one problem with the expected result, by both algorithms."""
    with guard.Pages() as pages:
        plans.free_buffers.take = lambda size: pages.empty((size,), "uint8", side)
        plans.free_buffers.give_back = lambda buffer: None
        x, w, out = pages.copy(x, side), pages.copy(w, side), pages.copy(expected, side)
        for algorithm in ("direct", "im2col"):
            out[...] = -1
            fc.conv2d(x, w, out=out, algorithm=algorithm, **keywords)
            np.testing.assert_array_equal(out, expected, err_msg=f"{algorithm} {side}")
