"""Adaptive and global pools against their definition: integer-valued data, exact equality."""

from __future__ import annotations

import numpy as np
import pytest

import fastconv as fc
from tests import cases, pools
from tests.pools import Drawn

KINDS = ("adaptive_max", "adaptive_avg")
GLOBAL = ("global_max_pool", "global_avg_pool")


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", KINDS)
def test_drawn_pools_equal_the_definition(kind, seed):
    rng = np.random.default_rng(seed)
    for _ in range(60):
        pools.check(pools.draw(rng, kind))


@pytest.mark.targets
def test_tiny():
    x = pools.values(np.random.default_rng(0), (1, 2, 5, 7), "float32")
    pools.check(Drawn("adaptive_avg_pool2d", x, {"output_size": (2, 3)}))


@pytest.mark.parametrize("dtype", [*pools.FLOATS[1:], *pools.INTEGERS])
def test_every_dtype(dtype):
    rng = np.random.default_rng(3)
    more = {"indices": False} if dtype in ("float64", "uint32", "int64") else {}
    for kind in KINDS:
        for _ in range(8):
            pools.check(pools.draw(rng, kind, dtype, axes=2, N=1, C=3, **more))
    for name in GLOBAL:
        pools.check(Drawn(name, pools.values(rng, (1, 3, 5, 7), dtype), {}))


def test_every_pair_of_sizes():
    """Sizes that divide each other, and those that do not; more outputs than inputs too."""
    rng = np.random.default_rng(0)
    for n in range(1, 13):
        x = pools.values(rng, (3, n), "float32", special=n % 2 == 0)
        for out in range(1, 16):
            pools.check(Drawn("adaptive_max_pool1d", x, {"output_size": out, "return_indices": bool(out % 2)}))
            pools.check(Drawn("adaptive_avg_pool1d", np.nan_to_num(x, posinf=0, neginf=0), {"output_size": out}))


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_output_sizes_in_all_their_forms(axes):
    sizes = (5, 6, 7)[-axes:]
    x = pools.values(np.random.default_rng(axes), (2, 3, *sizes), "float32")
    for kind in KINDS:
        function = getattr(fc, f"{kind}_pool{axes}d")
        one = function(x, (1,) * axes)
        assert one.shape == (2, 3) + (1,) * axes
        for form in (1, (1,), [1], np.int64(1), [np.int8(1)] * axes):
            np.testing.assert_array_equal(function(x, form), one)
        for form in (None, (None,), (None,) * axes, sizes):
            np.testing.assert_array_equal(function(x, form), x)
        mixed = (2, *[None] * (axes - 1))
        np.testing.assert_array_equal(function(x, mixed), function(x, (2, *sizes[1:])))
        assert function(x, mixed).shape == (2, 3, 2, *sizes[1:])


def test_windows_overlap_where_sizes_do_not_divide():
    x = np.arange(5, dtype="f4")[None]
    assert fc.adaptive_avg_pool1d(x, 3).tolist() == [[0.5, 2, 3.5]]
    assert fc.adaptive_max_pool1d(x, 3).tolist() == [[1, 3, 4]]
    assert fc.adaptive_avg_pool1d(x[:, :2], 3).tolist() == [[0, 0.5, 1]]
    assert fc.adaptive_avg_pool1d(x.astype("i4"), 3).tolist() == [[0, 2, 3]]


def test_indices_are_those_of_the_whole_input():
    x = np.array([[[0, 9, 0, 1], [7, 0, 0, 9], [0, 0, 9, 9]]], "f4")
    values, indices = fc.adaptive_max_pool2d(x, 2, return_indices=True)
    assert values.tolist() == [[[9, 9], [7, 9]]]
    assert indices.tolist() == [[[1, 7], [4, 7]]]
    x[0, 0, 0] = x[0, 1, 1] = np.nan
    assert fc.adaptive_max_pool2d(x, 2, return_indices=True)[1].tolist() == [[[5, 7], [5, 7]]]


@pytest.mark.parametrize("name", GLOBAL)
def test_global_pools(name):
    rng = np.random.default_rng(0)
    for sizes in ((1,), (40,), (33, 1), (7, 9), (17, 19), (3, 5, 7), (1, 1, 2)):
        for N, C in ((1, 1), (2, 3), (3, 17), (1, 40)):
            x = pools.values(rng, (N, C, *sizes), "float32", special="max" in name)
            pools.check(Drawn(name, x, {}))
            pools.check(Drawn(name, x, {"keepdims": False}))


def test_global_pools_are_means_and_maxima():
    x = np.random.default_rng(0).standard_normal((2, 5, 200, 300)).astype("f4")
    last = pools.to_last(x)
    np.testing.assert_array_equal(fc.global_max_pool(x), x.max((2, 3), keepdims=True))
    np.testing.assert_array_equal(fc.global_max_pool(last, layout="channels_last", keepdims=False), x.max((2, 3)))
    want = x.astype("f8").mean((2, 3))
    # Sums of 16 or more interleaved parts: the error grows with a sixteenth of their length at most.
    bound = 200 * 300 / 4 * np.finfo("f4").eps * np.abs(x).mean()
    for got in (
        fc.global_avg_pool(x, keepdims=False),
        fc.global_avg_pool(last, layout="channels_last", keepdims=False),
    ):
        np.testing.assert_allclose(got, want, rtol=0, atol=bound)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_special_values_stay_in_their_windows(value):
    x = np.ones((1, 2, 9, 40), "f4")
    x[0, 1, 4, 17] = value
    for layout in cases.LAYOUTS:
        k = {"output_size": (4, 7)}
        touched = pools.expected(Drawn("adaptive_max_pool2d", (x != 1).astype("f4"), k)) > 0
        assert touched.any()
        got = Drawn("adaptive_avg_pool2d", x, k).run(layout)
        np.testing.assert_array_equal(got, np.where(touched, np.float32(value), 1))
        whole = fc.global_avg_pool(pools.to_last(x) if layout == "channels_last" else x, layout=layout, keepdims=False)
        np.testing.assert_array_equal(whole, np.array([[1, value]], "f4"))


@pytest.mark.parametrize("layout", cases.LAYOUTS)
@pytest.mark.parametrize(("N", "C"), [(0, 3), (2, 0)])
def test_global_pools_of_no_planes(N, C, layout):
    for name in GLOBAL:
        for keepdims in (True, False):
            pools.check(Drawn(name, np.zeros((N, C, 4, 5), "f4"), {"keepdims": keepdims}), [layout])
