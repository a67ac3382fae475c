"""Unpooling, resizing, unfolding and folding: drawn calls against the definitions, and what all of them promise."""

from __future__ import annotations

from importlib import import_module

import numpy as np
import pytest

import fastconv as fc
from tests.resizing import OPERATIONS, draw, integers

# Element types of the kernels: one dtype of each size that only moves, and what sums are taken in.
DTYPES = {
    "max_unpool": ("float32", "uint8", "int64", "complex128"),
    "nearest_unpool": ("float32", "uint8", "float16", "complex128"),
    "bed_of_nails_unpool": ("float32", "int8"),
    "unfold": ("float32", "float16"),
    "fold": ("float32", "float16", "int16", "complex64"),
    "interpolate": ("float32", "float32", "float16", "complex64", "uint8"),
}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_drawn_calls_are_the_definition(operation):
    rng = np.random.default_rng(OPERATIONS.index(operation))
    for _ in range(60 if operation == "max_unpool" else 120):
        call = draw(rng, operation, DTYPES[operation])
        if operation == "interpolate" and call.expected.dtype == np.float16:
            call = call._replace(error=1e-3 if call.error else 0.0)
        call.check(call.run())


@pytest.mark.slow
@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_dtype(operation):
    names = ("float32", "float64", "float16", "complex64", "complex128")
    names += ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32")
    rng = np.random.default_rng(7)
    for name in names:
        for _ in range(40):
            call = draw(rng, operation, (name,))
            if name == "float16" and operation == "interpolate":
                call = call._replace(error=1e-3 if call.error else 0.0)
            call.check(call.run())


@pytest.mark.parametrize("operation", OPERATIONS)
def test_arrays_of_any_kind(operation):
    rng = np.random.default_rng(3)
    for _ in range(8):
        call = draw(rng, operation)
        before = [a.copy() for a in call.arrays]
        spread = [np.repeat(a, 2, -1)[..., ::2] for a in call.arrays]
        for array in spread:
            array.flags.writeable = False
        swapped = [a.astype(a.dtype.newbyteorder()) for a in call.arrays]
        for arrays in (spread, swapped, [a.tolist() if a.size else a for a in call.arrays]):
            got = call.run(arrays)
            if arrays is spread or arrays is swapped:
                call.check(got)
            np.testing.assert_allclose(got, call.expected, rtol=0, atol=1e-4)
        for array, same in zip(call.arrays, before, strict=True):
            np.testing.assert_array_equal(array, same)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_out_is_filled_and_returned(operation):
    rng = np.random.default_rng(4)
    for i in range(12):
        call = draw(rng, operation)
        shape = call.expected.shape
        poisoned = np.full((*shape[:-1], 2 * shape[-1]), np.nan, "f4")
        out = np.full(shape, np.nan, "f4") if i % 2 else poisoned[..., ::2]
        assert call.run(out=out) is out
        call.check(out)
        np.testing.assert_array_equal(poisoned[..., 1::2], np.nan)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_out_may_overlap_the_input(operation):
    rng = np.random.default_rng(5)
    for shift in (0, 1, 5):
        call = draw(rng, operation)
        x, *rest = call.arrays
        memory = np.zeros(x.size + call.expected.size + shift, "f4")
        inside = memory[: x.size].reshape(x.shape)
        inside[...] = x
        out = memory[shift : shift + call.expected.size].reshape(call.expected.shape)
        assert call.run((inside, *rest), out=out) is out
        call.check(out)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_results_are_new_memory(operation):
    rng = np.random.default_rng(6)
    for _ in range(10):
        call = draw(rng, operation)
        got = call.run()
        assert got.flags.owndata or got.base.flags.owndata
        assert not any(np.shares_memory(got, array) for array in call.arrays)


def test_arguments_that_change_nothing_still_copy():
    x = np.arange(24.0, dtype="f4").reshape(1, 2, 3, 4)
    same = [fc.nearest_unpool2d(x, 1), fc.bed_of_nails_unpool2d(x, 1), fc.fold(fc.unfold(x, 1), (3, 4), 1)]
    same += [fc.interpolate(x, (3, 4), mode=mode) for mode in ("nearest", "bilinear", "bicubic", "area")]
    same += [fc.interpolate(x, (3, 4), mode="bicubic", antialias=True)]
    for got in same:
        np.testing.assert_array_equal(got, x)
        assert not np.shares_memory(got, x)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_thread_counts_change_no_bit(operation, monkeypatch):
    # Else the drawn problems are too short for a second thread.
    threads = import_module("fastconv.threads")
    monkeypatch.setattr(threads, "PARALLEL_SECONDS", 0.0)
    monkeypatch.setattr(threads, "CHUNK_SECONDS", (1e-9, 1e-9))
    rng = np.random.default_rng(8)
    for _ in range(20):
        call = draw(rng, operation)
        if operation == "interpolate":
            x = rng.standard_normal(call.arrays[0].shape).astype("f4")
            call = call._replace(arrays=(x,))
        with fc.threads(1):
            one = call.run()
        with fc.threads(3):
            np.testing.assert_array_equal(call.run(), one)


@pytest.mark.targets
@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
def test_one_small_call_of_each(layout):
    rng = np.random.default_rng(9)
    seen = set()
    while len(seen) < 2 * len(OPERATIONS):
        operation = OPERATIONS[len(seen) // 2]
        call = draw(rng, operation)
        if call.expected.size > 3000 or not call.expected.size or call.keywords["layout"] != layout:
            continue
        call.check(call.run())
        seen.add((operation, len(seen)))


def test_bfloat16_moves_and_is_summed_in_float32():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    x = integers(np.random.default_rng(0), (1, 3, 5, 6), "float32")
    half = x.astype(ml_dtypes.bfloat16)
    for function in (
        lambda a: fc.nearest_unpool2d(a, 2),
        lambda a: fc.unfold(a, 2),
        lambda a: fc.fold(fc.unfold(a, 2), (5, 6), 2),
        lambda a: fc.interpolate(a, scale_factor=2, mode="bilinear"),
        lambda a: fc.interpolate(a, 3, mode="area"),
    ):
        got = function(half)
        assert got.dtype == ml_dtypes.bfloat16
        np.testing.assert_array_equal(got, function(x).astype(ml_dtypes.bfloat16))


@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
def test_no_images_and_no_channels(layout):
    for N, C in ((0, 3), (2, 0)):
        shape = (N, C, 4, 5) if layout == "channels_first" else (N, 4, 5, C)
        x = np.zeros(shape, "f4")
        big = (N, C, 8, 10) if layout == "channels_first" else (N, 8, 10, C)
        for got in (
            fc.nearest_unpool2d(x, 2, layout=layout),
            fc.bed_of_nails_unpool2d(x, 2, layout=layout),
            fc.max_unpool2d(x, np.zeros(shape, int), 2, layout=layout),
            fc.interpolate(x, scale_factor=2, layout=layout),
            fc.interpolate(x, scale_factor=2, mode="bicubic", layout=layout),
            fc.interpolate(x, (8, 10), mode="area", layout=layout),
        ):
            assert got.shape == big
        columns = fc.unfold(x, 2, layout=layout)
        assert columns.shape == (N, C * 4, 12)
        assert fc.fold(columns, (4, 5), 2, layout=layout).shape == shape
