"""The rounding error of the matrix-product algorithms, held against that of np.matmul on sums of the same length."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

import fastconv as fc
from fastconv.testing import assert_close
from tests import cases

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
