"""Sums that the dtype of the arrays could not hold, on their way to a result that can; and no warnings from within."""

from __future__ import annotations

import math

import numpy as np
import pytest

import fastconv as fc


def test_the_middle_of_separable_conv2d_is_not_rounded():
    x, one = np.full((1, 1, 4, 4), 100, np.int8), np.ones((1, 1), np.int8)
    y = fc.separable_conv2d(x, np.ones((1, 1, 3, 3), np.int8), one, out_dtype="int32")
    assert (y == 900).all()
    x, small = np.full((1, 1, 4, 4), 30000, np.float16), np.full((1, 1), 1e-3, np.float16)
    y = fc.separable_conv2d(x, np.ones((1, 1, 3, 3), np.float16), small)
    assert y.dtype == np.float16
    np.testing.assert_allclose(y, 270, rtol=2e-3)
    third = np.full((1, 1, 1, 1), 1 / 3, np.float32)
    y = fc.separable_conv2d(third, third, np.ones((1, 1), np.float32), out_dtype="float64")
    assert y.item() == float(third.item()) ** 2


@pytest.mark.parametrize("algorithm", ["auto", "separable", "depthwise", "direct", "im2col"])
def test_the_outer_product_of_factors_is_not_rounded(algorithm):
    x, factor = np.full((1, 1, 4, 4), 100, np.int8), np.array([100], np.int8)
    y = fc.spatially_separable_conv2d(x, factor, factor, out_dtype="int32", algorithm=algorithm)
    assert (y == 1_000_000).all()
    x, factor = np.full((1, 1, 4, 4), 1e-3, np.float16), np.array([300], np.float16)
    with np.errstate(all="raise"):
        y = fc.spatially_separable_conv2d(x, factor, factor, algorithm=algorithm)
    np.testing.assert_allclose(y, 90, rtol=2e-3)


@pytest.mark.parametrize("dtype", ["int16", "int32", "int64", "uint16", "float16"])
def test_half_precision_results_of_integers(dtype):
    x, w = np.ones((1, 1, 3, 3), dtype), np.ones((1, 1, 3, 3), dtype)
    y = fc.conv2d(x, w, out_dtype="float16")
    assert y.dtype == np.float16
    assert y.item() == 9


def test_plans_have_an_out_dtype():
    x, w = np.full((1, 1, 4, 4), 100, np.int8), np.full((1, 1, 3, 3), 100, np.int8)
    plan = fc.plan_conv2d(x.shape, w, dtype="int8", out_dtype="int32")
    assert (plan(x) == 90_000).all()
    assert plan(x).dtype == np.int32
    fc.plan_conv2d((2**10, 2, 2**14, 2**13), np.ones((1, 2, 3, 3), np.float32))


def test_no_warnings_from_within():
    x = np.ones((1, 1, 9, 9), np.float32)
    w = np.ones((1, 1, 7, 7), np.float32)
    w[0, 0, 2, 2] = np.inf
    large = np.full((1, 1, 3, 3), 3e38 + 3e38j, np.complex64)
    with np.errstate(all="raise"):
        fc.signal.correlate2d(x[0, 0], w[0, 0], "same")
        fc.conv2d(large, large)
        fc.conv2d(x * np.float32(1e-30), x * np.float32(1e-9), out_dtype="float16")
        fc.separate(np.ones((3, 3)) * 1e-320)


def test_explain_of_integers_and_of_wrong_shapes():
    x, w = np.ones((1, 2, 6, 6), np.int8), np.ones((3, 2, 3, 3), np.int8)
    assert fc.explain(fc.conv2d, x, w, activation="relu").problem.endswith("_i16")
    assert "_i" not in fc.explain(fc.conv2d, x, w, activation="gelu", out_dtype="float32").problem
    with pytest.raises(fc.ShapeError):
        fc.count_ops(fc.depthwise_conv2d, (6, 6), (1, 1, 3, 3))
    with pytest.raises(fc.OptionError, match="algorithm = 'wino'"):
        fc.count_ops(fc.conv2d, x.shape, w.shape, algorithm="wino")


def test_separate_says_what_it_takes():
    with pytest.raises(fc.DtypeError, match="separate: kernel has dtype complex128, expected real numbers"):
        fc.separate(np.ones((2, 2)) * 1j)
    for tol in ("a", [1], -1, 1):
        with pytest.raises(fc.OptionError, match="separate: tol = "):
            fc.separate(np.ones((2, 2)), tol=tol)


@pytest.mark.parametrize("precision", ["default", "strict"])
def test_parts_of_complex_numbers_are_summed_in_the_precision_of_the_result(precision):
    rng = np.random.default_rng(0)
    x, w = ((rng.standard_normal((1, 2, n, n, 2)) @ [1, 1j]).astype(np.complex64) for n in (5, 3))
    got = fc.conv2d(x, w, out_dtype="complex128", precision=precision)
    expected = fc.testing.reference(x, w, out_dtype="complex128")
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize(("dtype", "result"), [("int64", "int32"), ("float64", "float32")])
def test_plans_take_a_residual_of_the_dtype_of_their_input(dtype, result):
    x, w, r = (np.arange(math.prod(s)).reshape(s).astype(dtype) for s in ((1, 2, 4, 4), (3, 2, 1, 1), (1, 3, 4, 4)))
    plan = fc.plan_conv2d(x.shape, w, dtype=dtype, out_dtype=result)
    np.testing.assert_array_equal(plan(x, residual=r), fc.conv2d(x, w, out_dtype=result, residual=r))
    with pytest.raises(fc.DtypeError, match="residual has dtype complex128"):
        plan(x, residual=r + 0j)
