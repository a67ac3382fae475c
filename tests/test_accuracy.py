"""The rounding error of the matrix-product algorithms, held against that of np.matmul on sums of the same length."""

from __future__ import annotations

import re
from functools import cache
from unittest import mock

import numpy as np
import pytest

import fastconv as fc
from fastconv.testing import assert_close, problem
from tests import accuracy, cases

# K = IC * KH * KW: a first layer, ResNet's 3x3 layers, VGG's first fully connected layer as a convolution.
SHAPES = {64: (64, 1), 576: (64, 3), 4608: (512, 3), 25088: (512, 7)}
OUTPUTS, SIDE = 24, 10


def rms(error):
    return float(np.sqrt(np.mean(np.square(error, dtype=np.float64))))


@cache
def drawn(K):
    """Return x, w, the exact result and the RMS error of np.matmul in float32 on the same sums."""
    IC, k = SHAPES[K]
    rng = np.random.default_rng(K)
    x = rng.standard_normal((1, IC, SIDE + k - 1, SIDE + k - 1)).astype("f4")
    w = rng.standard_normal((OUTPUTS, IC, k, k)).astype("f4")
    windows = np.lib.stride_tricks.sliding_window_view(x[0], (k, k), (1, 2))
    columns = np.ascontiguousarray(windows.transpose(0, 3, 4, 1, 2).reshape(K, SIDE * SIDE))
    rows = w.reshape(OUTPUTS, K)
    exact = rows.astype("f8") @ columns.astype("f8")
    return x, w, exact, rms(rows @ columns - exact)


@pytest.mark.parametrize("layout", cases.LAYOUTS)
@pytest.mark.parametrize("algorithm", ["direct", "im2col", "pointwise"])
@pytest.mark.parametrize("K", SHAPES)
def test_conv2d_error_is_that_of_matmul(K, algorithm, layout):
    if algorithm == "pointwise" and SHAPES[K][1] > 1:
        # The same sums with all taps as channels.
        k = SHAPES[K][1]
        x, w, exact, allowed = drawn(K)
        windows = np.lib.stride_tricks.sliding_window_view(x[0], (k, k), (1, 2))
        x, w = windows.transpose(0, 3, 4, 1, 2).reshape(1, K, SIDE, SIDE), w.reshape(OUTPUTS, K, 1, 1)
    else:
        x, w, exact, allowed = drawn(K)
    last = layout == "channels_last"
    x = np.moveaxis(x, 1, -1) if last else x
    got = fc.conv2d(x, w, algorithm=algorithm, layout=layout)[0]
    got = np.moveaxis(got, -1, 0) if last else got
    error = got.reshape(OUTPUTS, -1) - exact
    assert rms(error) <= 1.5 * allowed, f"{rms(error) / allowed:.2f} times that of matmul"
    assert_close(got, exact.reshape(got.shape), terms=K)


@pytest.mark.parametrize("algorithm", ["depthwise", "separable", "direct"])
def test_depthwise_error_is_within_the_bound(algorithm):
    rng = np.random.default_rng(0)
    x, column, row = (rng.standard_normal(s).astype("f4") for s in ((1, 8, 40, 50), (8, 7, 1), (8, 1, 7)))
    w = (column * row)[:, None]
    got = fc.conv2d(x, w, groups=8, algorithm=algorithm)
    wide = [array.astype("f8") for array in (x, w)]
    expected = fc.testing.reference(*wide, groups=8)
    assert_close(got, expected, terms=49, magnitude=fc.testing.reference(*map(np.abs, wide), groups=8))


def within_bounds(way, kind, dtype, seed=0):
    """Return whether an algorithm can do it, and check that it stays below its bound."""
    found = accuracy.measured(way, kind, dtype, seed)
    # The matrix unit takes denormals as zeros.
    if found is not None and not (kind == "denormal" and way.algorithm == "bf16x3"):
        assert found.largest <= found.bound, (way, kind, dtype, seed, found)
        assert found.rms <= found.largest
    return found is not None


FEW = ("direct", "depthwise", "winograd F(4x4)", "fft", "bf16x3")


@pytest.mark.parametrize("kind", ["cancelling", "of all sizes", "denormal"])
def test_errors_of_hard_inputs_stay_below_their_bounds(kind):
    able = [way.name for way in accuracy.WAYS if way.name in FEW and within_bounds(way, kind, "float32")]
    assert set(FEW) - {"bf16x3"} <= set(able)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", accuracy.DTYPES)
def test_errors_of_every_algorithm_and_dtype_stay_below_their_bounds(dtype):
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    for way in accuracy.WAYS:
        for kind in accuracy.INPUTS:
            for seed in range(5):
                able = within_bounds(way, kind, dtype, seed)
            assert able or way.algorithm in ("separable", "bf16x3"), (way, dtype)


@pytest.mark.slow
def test_errors_of_drawn_problems_stay_below_their_bounds():
    rng = np.random.default_rng(11)
    for i in range(100):
        p = problem(cases.random_problem(rng))
        if set(p.keywords["dilation"]) | set(p.keywords["stride"]) != {1} or min(p.input_shape) == 0:
            p = problem("n2ic{}h{}w{}_oc{}k3s1p0".format(*rng.integers(3, 40, 4)))
        groups = p.keywords["groups"]
        for algorithm in ("direct", "im2col", "winograd", "fft", "bf16x3", "depthwise"):
            way = accuracy.Way("drawn", algorithm, p.input_shape, p.weight_shape, {"groups": groups})
            if min(np.subtract(p.input_shape[2:], p.weight_shape[2:])) >= 0:
                within_bounds(way, list(accuracy.INPUTS)[i % 5], ("float32", "float64", "complex64")[i % 3], i)


@pytest.mark.slow
def test_errors_of_four_complex_products_stay_below_their_bounds():
    for way in accuracy.WAYS[:4]:
        strict = way._replace(keywords={**way.keywords, "precision": "strict"})
        for kind in accuracy.INPUTS:
            assert within_bounds(strict, kind, "complex64")


def test_table_shows_the_errors_of_each_algorithm():
    with (
        mock.patch.object(accuracy, "WAYS", accuracy.WAYS[:1]),
        mock.patch.object(accuracy, "INPUTS", {"alike": accuracy.alike}),
    ):
        header, _, row = accuracy.table("float32").splitlines()
    assert header == "| algorithm | bound | alike |"
    assert re.fullmatch(r"\| direct \| 292 \| [\d.]+ / 0\.\d+ / [\d.]+ \|", row)
