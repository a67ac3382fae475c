"""NaN, infinities, denormals and signed zeros go through every algorithm as the definition says."""

from __future__ import annotations

import numpy as np
import pytest

import fastconv as fc
from fastconv.testing import reference
from tests import cases

PROBLEMS = {
    "3x3": "n2ic5h11w13_oc7k3s1p1",
    "stride 2, dilation 2": "n1ic3h13w15_oc5k3s2p2d2",
    "1x1": "n2ic9h5w7_oc10k1s1p0",
    "depthwise": "n2ic6h15w37_oc6k5s1p2g6",
    "depthwise stride 2": "n1ic6h13w15_oc6k3s2p1g6",
    "whole tiles": "n1ic8h8w48_oc32k3s1p1",
    "depthwise whole tiles": "n1ic32h16w48_oc32k3s1p1g32",
    "several passes": "n1ic300h4w6_oc8k3s1p1",
}


def check(a, **more):
    expected = reference(a.x, a.w, a.b, **a.keywords, **more)
    for algorithm in algorithms(a):
        got = fc.conv2d(a.x, a.w, a.b, algorithm=algorithm, **a.keywords, **more)
        np.testing.assert_array_equal(got, expected, err_msg=algorithm)
    return expected


def algorithms(a):
    finite = a._replace(x=np.nan_to_num(a.x), w=np.where(np.isfinite(a.w), a.w, 1))
    # Factors of a kernel with an infinity are not looked for.
    return [name for name in cases.able(finite) if name != "separable" or np.isfinite(a.w).all()]


def pixels(a):
    """Yield the indices of a few pixels: corners, edges, the middle."""
    h, w = (1, 2) if a.keywords["layout"] == "channels_last" else (2, 3)
    for at in ((0, 0), (-1, -1), (0, -1), (a.x.shape[h] // 2, a.x.shape[w] // 2)):
        index = [-1, 0, 0, 0]
        index[h], index[w] = at
        yield tuple(index)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("layout", cases.LAYOUTS)
@pytest.mark.parametrize("text", PROBLEMS.values(), ids=PROBLEMS)
def test_special_pixel_spreads_to_its_receptive_field(text, layout, value):
    a = cases.draw(text, layout, separable=True)
    # No zero weight, which would turn an infinity into NaN, and no cancellation of infinities of two signs.
    a = a._replace(w=np.where(a.w == 0, 1, np.abs(a.w)).astype("f4") if "g" not in text else a.w)
    for index in pixels(a):
        x = a.x.copy()
        x[index] = value
        expected = check(a._replace(x=x))
        touched = reference((x != a.x).astype("f4"), np.ones_like(a.w), **a.keywords) > 0
        np.testing.assert_array_equal(np.isfinite(expected), ~touched)


@pytest.mark.parametrize("layout", cases.LAYOUTS)
@pytest.mark.parametrize("text", PROBLEMS.values(), ids=PROBLEMS)
def test_infinite_weight_at_a_padded_tap_gives_nan(text, layout):
    a = cases.draw(text, layout)
    w = a.w.copy()
    w[-1, -1, 0, 0] = np.inf
    w[0, 0, -1, -1] = np.nan
    expected = check(a._replace(x=np.where(a.x == 0, 1, a.x).astype("f4"), w=w))
    last = expected[..., -1] if layout == "channels_last" else expected[:, -1]
    padded = any(n for side in a.keywords["padding"] for n in side)
    assert np.isnan(last).any() == padded


@pytest.mark.parametrize("layout", cases.LAYOUTS)
@pytest.mark.parametrize("text", PROBLEMS.values(), ids=PROBLEMS)
def test_nan_and_infinite_bias_and_residual(text, layout):
    a = cases.draw(text, layout, separable=True)
    b, r = a.b.copy(), a.r.copy()
    b[:3] = np.nan, np.inf, -np.inf
    r[0, 0, 0, :2], r[-1, -1, -1, -1] = np.nan, -np.inf
    for activation in (None, "relu", "relu6"):
        check(a._replace(b=b), residual=r, activation=activation)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("layout", cases.LAYOUTS)
@pytest.mark.parametrize("name", ["3x3", "depthwise", "1x1"])
def test_denormal_inputs_are_kept(name, layout, dtype):
    a = cases.draw(PROBLEMS[name], layout, dtype, separable=True)
    tiny = np.finfo(dtype).smallest_subnormal
    expected = reference(a.x, a.w, **a.keywords) * tiny
    assert expected.any()
    # The matrix unit takes denormals as zeros.
    for algorithm in set(cases.able(a)) - {"bf16x3"}:
        got = fc.conv2d(a.x * tiny, a.w, algorithm=algorithm, **a.keywords)
        np.testing.assert_array_equal(got, expected, err_msg=algorithm)


@pytest.mark.parametrize("layout", cases.LAYOUTS)
def test_negative_zeros_compare_as_zeros(layout):
    for text in PROBLEMS.values():
        a = cases.draw(text, layout, separable=True)
        check(a._replace(x=-np.zeros_like(a.x), b=-np.zeros_like(a.b)), residual=-np.zeros_like(a.r))


@pytest.mark.parametrize("layout", cases.LAYOUTS)
def test_overflow_is_infinite(layout):
    for text in PROBLEMS.values():
        a = cases.draw(text, layout, separable=True)
        x, w = np.full_like(a.x, 3e38), np.full_like(a.w, 2)
        for algorithm in algorithms(a._replace(w=w)):
            assert np.isposinf(fc.conv2d(x, w, algorithm=algorithm, **a.keywords)).all(), (text, algorithm)
