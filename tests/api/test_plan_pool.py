"""Plans that pool: the maximum pooling, by its definition, of the convolution's definition."""

from __future__ import annotations

import numpy as np
import pytest

import fastconv as fc
from fastconv.testing import reference
from tests import cases


def pooled(y, size, layout):
    """Return the maximum of each window of a batched array, by its definition; NaN is the largest."""
    if layout == "channels_last":
        return np.moveaxis(pooled(np.moveaxis(y, -1, 1), size, "channels_first"), 1, -1)
    OH, OW = (n // size for n in y.shape[2:])
    cut = y[:, :, : OH * size, : OW * size].reshape(*y.shape[:2], OH, size, OW, size)
    return cut.max(axis=(3, 5))


SIZES = {"3x3": 2, "1x1 batch": 2, "3x3 batch": 3, "7x7 stride 2": 5, "groups 3, batch, stride 2": 2, "c 0": 2}
SIZES |= {"depthwise whole tiles": 2, "depthwise multiplier 2, stride 2, batch": 1, "crop all": 4, "n 0": 2}


@pytest.mark.parametrize("layout", cases.LAYOUTS)
@pytest.mark.parametrize("name", SIZES)
def test_plan_pools_what_it_convolves(name, layout):
    a, size = cases.draw(cases.CASES[name], layout), SIZES[name]
    for algorithm in cases.able(a) if name == "groups 3, batch, stride 2" else ("auto",):
        more = a.keywords | {"algorithm": algorithm}
        plan = fc.plan_conv2d(a.x.shape, a.w, a.b, activation="relu6", pool=size, **more)
        for residual in (None, a.r):
            sums = reference(a.x, a.w, a.b, residual=residual, activation="relu6", **a.keywords)
            expected = pooled(sums, size, layout)
            out = cases.poisoned(expected)
            assert plan(a.x, out, residual=residual) is out
            np.testing.assert_allclose(out, expected, rtol=0, atol=1e-3 if algorithm == "auto" else 0)


@pytest.mark.targets
@pytest.mark.parametrize("layout", cases.LAYOUTS)
def test_plan_pools_a_tiny_image(layout):
    a = cases.draw("n2ic2h5w5_oc3k3s1p1", layout)
    plan = fc.plan_conv2d(a.x.shape, a.w, a.b, pool=2, **a.keywords)
    np.testing.assert_array_equal(plan(a.x), pooled(reference(a.x, a.w, a.b, **a.keywords), 2, layout))


def test_plan_pools_as_max_pool2d_does():
    x, w = np.ones((1, 1, 6, 8), "f4"), np.ones((1, 1, 1, 1), "f4")
    x[0, 0, 1, 2], x[0, 0, 3, 3], x[0, 0, 4, 7] = np.nan, -np.inf, np.inf
    x[0, 0, :2, 6:] = -0.0
    got = fc.plan_conv2d(x.shape, w, pool=2)(x)
    np.testing.assert_array_equal(got, fc.max_pool2d(x, 2))
    assert np.isnan(got[0, 0, 0, 1])
    assert np.isnan(got).sum() == 1


# Those whose kernels other tests need too.
FAST_TYPES = ("int8", "float16")
SLOW_TYPES = [pytest.param(d, marks=pytest.mark.slow) for d in ("uint8", "int16", "uint32", "int64", "float64")]


@pytest.mark.parametrize("dtype", [*FAST_TYPES, *SLOW_TYPES])
def test_plan_pools_every_real_dtype(dtype):
    rng = np.random.default_rng(0)
    x, w = rng.integers(0, 100, (2, 3, 6, 7)).astype(dtype), rng.integers(0, 9, (4, 3, 3, 3)).astype(dtype)
    got = fc.plan_conv2d(x.shape, w, padding=1, dtype=dtype, pool=2)(x)
    expected = pooled(fc.conv2d(x, w, padding=1), 2, "channels_first")
    assert got.dtype == expected.dtype
    np.testing.assert_array_equal(got, expected)


def test_plan_pools_integers_after_they_wrapped():
    x = np.full((1, 1, 2, 2), 100, np.int8)
    x[0, 0, 0, 0] = 1
    plan = fc.plan_conv2d(x.shape, np.full((1, 1, 1, 1), 2, np.int8), dtype="int8", activation="relu", pool=2)
    np.testing.assert_array_equal(plan(x), [[[[2]]]])


def test_plan_pools_into_an_array_that_overlaps_the_input():
    x, w = np.random.default_rng(0).standard_normal((1, 2, 6, 6)).astype("f4"), np.ones((2, 2, 3, 3), "f4")
    plan = fc.plan_conv2d(x.shape, w, padding=1, pool=2)
    expected, out = plan(x.copy()), x.ravel()[:18].reshape(1, 2, 3, 3)
    assert plan(x, out) is out
    np.testing.assert_array_equal(out, expected)


def test_plan_pools_without_a_batch_with_any_padding_mode():
    x, w = cases.integers(np.random.default_rng(0), (2, 7, 8)), cases.integers(np.random.default_rng(1), (3, 2, 3, 3))
    plan = fc.plan_conv2d(x.shape, w, padding=1, padding_mode="circular", pool=2)
    expected = fc.max_pool2d(fc.conv2d(x, w, padding=1, padding_mode="circular"), 2)
    assert plan(x).shape == (3, 3, 4)
    np.testing.assert_array_equal(plan(x), expected)


def test_plan_names_what_is_wrong_with_pool():
    w = np.ones((1, 1, 3, 3))
    for pool, error in ((0, fc.OptionError), (-2, fc.OptionError), (True, fc.ArgumentTypeError), (2.0, TypeError)):
        with pytest.raises(error, match="plan_conv2d: pool = "):
            fc.plan_conv2d((1, 1, 5, 5), w, pool=pool)
    with pytest.raises(fc.ShapeError, match="plan_conv2d: pool = 4, expected at most the convolution's output, 3 x 3"):
        fc.plan_conv2d((1, 1, 5, 5), w, pool=4)
    with pytest.raises(fc.DtypeError, match="plan_conv2d: pool = 2 with results of dtype complex128"):
        fc.plan_conv2d((1, 1, 5, 5), w, dtype="complex128", pool=2)
    plan = fc.plan_conv2d((1, 1, 5, 5), w, dtype="float64", pool=2)
    with pytest.raises(fc.ShapeError, match="plan_conv2d: residual has shape"):
        plan(np.ones((1, 1, 5, 5)), residual=np.ones((1, 1, 1, 1)))
    with pytest.raises(fc.ShapeError, match="plan_conv2d: out has shape"):
        plan(np.ones((1, 1, 5, 5)), np.ones((1, 1, 3, 3)))
