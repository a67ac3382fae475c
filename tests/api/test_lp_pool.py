"""Lp pools against PyTorch's formula, from sums by definition: the average times the size of a window, and its root."""

from __future__ import annotations

import math

import numpy as np
import pytest

import fastconv as fc
from tests import cases, pools
from tests.pools import Drawn


def expected(x, norm_type, k):
    """Return ``(mean of the elements inside ** p * size) ** (1 / p)`` in double precision."""
    axes = x.ndim - 2
    taps, counts = pools.windows(x, axes, k)
    size = math.prod(pools.each(k["kernel_size"], axes))
    with np.errstate(all="ignore"):
        powers = x.astype(np.float64) ** norm_type
        planes = powers.reshape(-1, *x.shape[2:])
        mean = pools.averages(planes, taps, counts, None, planes.dtype).reshape(*x.shape[:2], *map(len, taps))
        return (mean * size) ** (1 / norm_type)


@pytest.mark.parametrize("norm_type", [1, 2, 2.0, 3, 0.5, -1.0, -2])
def test_drawn_pools_equal_the_formula(norm_type):
    rng = np.random.default_rng(int(norm_type * 10) + 100)
    for _ in range(30):
        a = pools.draw(rng, "lp", N=2)
        x = a.x if norm_type in (1, 2, 3) else np.abs(a.x) + 1
        want = expected(x, norm_type, a.keywords)
        for layout in cases.LAYOUTS:
            got = a._replace(x=x, keywords=a.keywords | {"norm_type": norm_type}).run(layout)
            assert got.dtype == np.float32
            np.testing.assert_allclose(got, want, rtol=2e-6, atol=1e-6, err_msg=f"{x.shape} {a.keywords}")


def test_pythagoras():
    x = np.array([[[3, 4, 5, 12, 8], [0, 0, 0, 0, 15]]], "f4")
    assert fc.lp_pool2d(x, 2, (1, 2)).tolist() == [[[5, 13], [0, 0]]]
    assert fc.lp_pool2d(x, 2, (2, 1)).tolist() == [[[3, 4, 5, 12, 17]]]


def test_a_window_that_is_cut_off_counts_as_a_whole_one():
    x = np.array([[1, 1, 1, 1, 4]], "f4")
    assert fc.lp_pool1d(x, 1, 2, ceil_mode=True).tolist() == [[2, 2, 8]]
    np.testing.assert_allclose(fc.lp_pool1d(x, 2, 2, ceil_mode=True), [[2**0.5, 2**0.5, 32**0.5]], rtol=1e-6)


def test_negative_sums_have_no_odd_root():
    x = np.array([[-1, -1, 1, -3, 2, 2]], "f4")
    got = fc.lp_pool1d(x, 3, 2)
    assert np.isnan(got[0, :2]).all()
    np.testing.assert_allclose(got[0, 2], 16 ** (1 / 3), rtol=1e-6)
    assert fc.lp_pool1d(x, 1, 2).tolist() == [[-2, -2, 4]]
    assert fc.lp_pool1d(x[:, 2:4], 2.0, 2).item() == np.float32(10**0.5)


@pytest.mark.parametrize("dtype", pools.FLOATS)
def test_results_have_the_dtype_of_floating_point(dtype):
    x = np.array([[3, 4, 6, 8]], dtype)
    got = fc.lp_pool1d(x, 2, 2)
    assert got.dtype == dtype
    assert got.tolist() == [[5, 10]]
    out = np.zeros((1, 2), dtype)
    assert fc.lp_pool1d(x, 2, 2, out=out) is out
    assert out.tolist() == [[5, 10]]


def test_half_precision_is_summed_in_single_precision():
    x = np.full((1, 2), 300, "f2")
    assert fc.lp_pool1d(x, 2, 2).item() == np.float16(300 * 2**0.5)


@pytest.mark.parametrize("dtype", pools.INTEGERS)
def test_integers_give_single_precision(dtype):
    x = np.array([[3, 4, 6, 8]], dtype)
    for norm_type in (2.0, np.float32(2)):
        got = fc.lp_pool1d(x, norm_type, 2)
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, [[5, 10]], rtol=1e-6)
    # An integer power of integers is averaged as integers are: 25 / 2 is 12.
    np.testing.assert_allclose(fc.lp_pool1d(x, 2, 2), np.sqrt([[24, 100]]), rtol=1e-6)


def test_infinite_norms_are_magnitudes():
    inf = float("inf")
    x = np.array([[3, -4, -6, 1, -2, 0]], "f4")
    assert fc.lp_pool1d(x, inf, 2).tolist() == [[4, 6, 2]]
    assert fc.lp_pool1d(x, -inf, 2).tolist() == [[3, 1, 0]]
    for dtype in pools.INTEGERS:
        low, high = (np.iinfo(dtype).min, np.iinfo(dtype).max) if dtype != "int64" else (-9, 5)
        extreme = np.array([[0, high, 3, low]], dtype)
        for p, want in ((inf, [high, max(3, abs(low))]), (-inf, [0, min(3, abs(low))])):
            got = fc.lp_pool1d(extreme, p, 2)
            assert got.dtype == np.float32
            np.testing.assert_array_equal(got, np.array([want], "f4"))
    assert np.isnan(fc.lp_pool1d(np.array([[np.nan, 1]], "f4"), inf, 2)).all()


def test_special_values():
    inf, nan = np.inf, np.nan
    x = np.array([[nan, 1, inf, 1, -inf, 1, 0, 0]], "f4")
    np.testing.assert_array_equal(fc.lp_pool1d(x, 2, 2), [[nan, inf, inf, 0]])
    np.testing.assert_array_equal(fc.lp_pool1d(x, 1, 2), [[nan, inf, -inf, 0]])
    np.testing.assert_array_equal(fc.lp_pool1d(x[:, 2:], -1.0, 2), [[1, 1, 0]])


def test_no_planes():
    for layout in cases.LAYOUTS:
        shape = (2, 0, 5, 6) if layout == "channels_first" else (2, 5, 6, 0)
        want = (2, 0, 2, 3) if layout == "channels_first" else (2, 2, 3, 0)
        for p in (2, 2.5, float("inf")):
            assert fc.lp_pool2d(np.zeros(shape, "f4"), p, 2, layout=layout).shape == want


def test_large_windows_and_both_layouts():
    x = np.random.default_rng(0).integers(0, 4, (2, 3, 40, 41)).astype("f4")
    k = {"kernel_size": (17, 31), "stride": (2, 1)}
    for layout in cases.LAYOUTS:
        got = Drawn("lp_pool2d", x, k | {"norm_type": 2}).run(layout)
        np.testing.assert_allclose(got, expected(x, 2, k), rtol=1e-6)
