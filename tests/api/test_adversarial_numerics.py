"""Overflow, special values, half precision, integers and complex numbers: the documented result on every algorithm."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import signal

import fastconv as fc
from fastconv.testing import assert_close, reference
from tests import cases

ALGORITHMS = pytest.mark.parametrize("algorithm", ["auto", "direct", "im2col"])
LAYOUT = pytest.mark.parametrize("layout", cases.LAYOUTS)
MODES = ("zeros", "reflect", "replicate", "circular", "symmetric")


def column(values, dtype):
    """Return values as the channels of a single pixel."""
    return np.asarray(values, dtype).reshape(1, -1, 1, 1)


# Integers.


@ALGORITHMS
@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "u2", "i4", "u4", "i8"])
def test_integers_wrap_and_wider_results_are_exact(dtype, algorithm):
    limits = np.iinfo(dtype)
    x, w = column([limits.max] * 27 + [limits.min], dtype), column([limits.max] * 28, dtype)
    exact = 27 * limits.max**2 + limits.max * limits.min
    got = fc.conv2d(x, w, algorithm=algorithm)
    assert got.dtype == np.dtype(dtype)
    assert got.item() == (exact - limits.min) % 2**limits.bits + limits.min
    if limits.bits <= 16:
        wide = fc.conv2d(x, w, out_dtype="int64", algorithm=algorithm)
        assert (wide.dtype, wide.item()) == (np.int64, exact)


def test_int8_example_of_the_documentation():
    x = np.full((1, 3, 3, 3), 100, np.int8)
    assert fc.conv2d(x, x).item() == -80
    assert fc.conv2d(x, x, out_dtype="int32").item() == 270000
    assert fc.conv2d(x.view(np.uint8), x.view(np.uint8)).item() == 270000 % 256


def test_integers_beyond_the_float_mantissa_are_exact():
    x = column([2**53 + 1, -(2**62), 2**62 - 1], "i8")
    assert fc.conv2d(x, column([1, 1, 1], "i8")).item() == 2**53
    assert fc.conv2d(column([2**24 + 1], "i4"), column([1], "i4")).item() == 2**24 + 1


def test_mixed_integers_promote_as_numpy():
    for one, two in (("u1", "i1"), ("u4", "i4"), ("i2", "u2"), ("i8", "u1"), ("u1", "f4"), ("i4", "f4"), ("f2", "i1")):
        x, w = column([200 % 128, 3], one), column([1, 2], two)
        got = fc.conv2d(x, w)
        assert got.dtype == np.result_type(x, w)
        assert got.item() == 72 + 6


@pytest.mark.parametrize("dtype", ["i1", "u1", "i4"])
def test_activation_of_integers_follows_the_wrap(dtype):
    x, w = column([100, 100], dtype), column([1, 1], dtype)
    wrapped = np.array([200]).astype(dtype)
    assert fc.conv2d(x, w, activation="relu").item() == max(int(wrapped[0]), 0)
    assert fc.conv2d(x, w, activation="relu6").item() == min(max(int(wrapped[0]), 0), 6)
    with pytest.raises(fc.DtypeError, match="activation = 'gelu' with arrays of dtype"):
        fc.conv2d(x, w, activation="gelu")


# Half precision.


@ALGORITHMS
def test_float16_is_summed_in_float32_and_rounded_once(algorithm):
    ones = np.ones((1, 70000, 1, 1), np.float16)
    assert np.isposinf(fc.conv2d(ones, ones, algorithm=algorithm)).all()
    assert fc.conv2d(ones, ones, out_dtype="float32", algorithm=algorithm).item() == 70000
    # In float16 sums of ones stop at 2048.
    some = ones[:, :3001]
    assert fc.conv2d(some, some, algorithm=algorithm).item() == np.float16(3001)
    # One rounding: 60000 + 60000 - 60000 is not infinite, and bias and residual come before it.
    x, bias = column([6e4, 6e4, -6e4], "f2"), np.float16([-6e4])
    got = fc.conv2d(x, column([1, 1, 1], "f2"), bias, residual=column([1], "f2"), algorithm=algorithm)
    assert (got.dtype, got.item()) == (np.float16, 1)


def test_float16_denormals_are_kept():
    tiny = np.finfo("f2").smallest_subnormal
    assert fc.conv2d(column([tiny, tiny], "f2"), column([1, 2], "f2")).item() == 3 * tiny


def test_bfloat16_is_summed_in_float32():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    ones = np.ones((1, 1001, 1, 1), ml_dtypes.bfloat16)
    assert fc.conv2d(ones, ones).item() == ml_dtypes.bfloat16(1001)


# Special values.


@LAYOUT
@pytest.mark.parametrize("dtype", ["f4", "f2"])
@pytest.mark.parametrize(("value", "weight"), [(np.inf, 0.0), (-np.inf, -0.0), (0.0, np.inf), (np.nan, 0.0)])
def test_infinity_times_zero_is_nan(value, weight, dtype, layout):
    for text in ("n1ic3h6w7_oc4k3s1p0", "n1ic4h6w7_oc4k3s1p0g4", "n1ic3h6w7_oc4k1s1p0"):
        a = cases.draw(text, layout, dtype)
        x, w = np.full_like(a.x, value), np.full_like(a.w, weight)
        for algorithm in set(cases.able(a)) - {"separable"}:
            assert np.isnan(fc.conv2d(x, w, algorithm=algorithm, **a.keywords)).all(), (text, algorithm)


@LAYOUT
@pytest.mark.parametrize("mode", MODES)
def test_infinite_weight_at_a_padded_tap_in_every_mode(mode, layout):
    for text in ("n1ic3h6w7_oc4k3s1p1", "n1ic4h6w7_oc4k3s1p2g4", "n1ic3h6w7_oc4k3s2p2d2"):
        a = cases.draw(text, layout)
        x, w = np.where(a.x == 0, 1, np.abs(a.x)).astype("f4"), np.abs(a.w)
        w[0, 0, 0, 0] = np.inf
        more = a.keywords | {"padding_mode": mode}
        expected = reference(x, w, **more)
        for algorithm in set(cases.able(a)) - {"separable"}:
            got = fc.conv2d(x, w, algorithm=algorithm, **more)
            np.testing.assert_array_equal(got, expected, err_msg=f"{text} {algorithm}")
        # Only zeros make a NaN of an infinity.
        assert np.isnan(expected).any() == (mode == "zeros")


@LAYOUT
@pytest.mark.parametrize("mode", MODES[1:])
def test_nan_in_a_corner_spreads_through_the_padding(mode, layout):
    a = cases.draw("n1ic2h6w7_oc4k3s1p2", layout)
    x, more = a.x.copy(), a.keywords | {"padding_mode": mode}
    x[(0, 0, 0, slice(None)) if layout == "channels_last" else (0, slice(None), 0, 0)] = np.nan
    expected = reference(x, a.w, **more)
    for algorithm in ("direct", "im2col"):
        np.testing.assert_array_equal(fc.conv2d(x, a.w, algorithm=algorithm, **more), expected, err_msg=algorithm)


# Complex numbers.


@pytest.mark.parametrize("dtype", ["c8", "c16"])
@pytest.mark.parametrize("precision", ["default", "strict"])
@LAYOUT
def test_complex_weights_are_not_conjugated(dtype, precision, layout):
    rng = np.random.default_rng(0)
    x, w = (cases.integers(rng, s, dtype) + 1j * cases.integers(rng, s, dtype) for s in ((9, 8), (3, 2)))
    x, w = x.astype(dtype), w.astype(dtype)
    expected = signal.correlate(x, w.conj(), "valid", method="direct")
    image = x[None] if layout == "channels_first" else x[..., None]
    got = fc.conv2d(image, w[None, None], layout=layout, precision=precision)
    assert got.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(got.reshape(expected.shape), expected)
    # A real array on either side, and a complex bias and residual on real arrays.
    np.testing.assert_array_equal(
        fc.conv2d(image, w.real[None, None], layout=layout).ravel(),
        signal.correlate(x, w.real, "valid", method="direct").ravel(),
    )
    bias, real = np.array([2 - 3j], dtype), fc.conv2d(image.real, w.real[None, None], layout=layout)
    got = fc.conv2d(image.real, w.real[None, None], bias, residual=real * 1j, layout=layout)
    np.testing.assert_array_equal(got, real * (1 + 1j) + bias)


@pytest.mark.parametrize("precision", ["default", "strict"])
def test_complex_error_is_within_the_bound(precision):
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal((*s, 2)).astype("f4").view("c8")[..., 0] for s in ((1, 16, 20, 20), (8, 16, 3, 3)))
    got, wide = fc.conv2d(x, w, precision=precision), [a.astype("c16") for a in (x, w)]
    # Each part of the three products sums twice as many, and all three are added.
    assert_close(got, reference(*wide), terms=144, magnitude=4 * reference(*map(np.abs, wide)))


# Long sums.


@ALGORITHMS
@LAYOUT
def test_a_million_terms_are_summed_in_blocks(algorithm, layout):
    x = np.random.default_rng(0).random(10**6, "f4")
    expected = x.sum(dtype="f8")
    for shape, k in (((1, 10**6, 1, 1), (1, 1)), ((1, 100, 100, 100), (100, 100))):
        image = x.reshape(shape)
        if layout == "channels_last":
            image = np.moveaxis(image, 1, -1)
        got = fc.conv2d(image, np.ones((1, shape[1], *k), "f4"), layout=layout, algorithm=algorithm)
        assert abs(got.item() / expected - 1) < 1e-5, shape
