"""The bounds of rounding errors that explain shows hold for what the kernels compute."""

from __future__ import annotations

import numpy as np
import pytest

import fastconv as fc
from fastconv.dispatch import rounding
from fastconv.testing import assert_close, problem, reference
from fastconv.winograd import transforms
from tests import cases

# Winograd and FFT mix neighbouring outputs.
MIXED = ("winograd", "fft")


def errors(x_shape, w_shape, draw, **keywords):
    """Yield (algorithm, largest error of the magnitude that its bound is relative to, bound)."""
    rng = np.random.default_rng(0)
    x, w = (getattr(rng, draw)(size=shape).astype("f4") for shape in (x_shape, w_shape))
    wide = [a.astype("f8") for a in (x, w)]
    exact, sums = reference(*wide, **keywords), reference(*map(np.abs, wide), **keywords)
    most = np.abs(x).max() * np.abs(wide[1]).sum((1, 2, 3)).reshape(-1, 1, 1)
    for line in fc.explain(fc.conv2d, x, w, **keywords).lines:
        # Those that rank 1 is needed for have a test of their own.
        if line.refused is None and line.algorithm != "separable":
            got = fc.conv2d(x, w, algorithm=line.algorithm, **keywords)
            whole = most if line.algorithm in MIXED else sums
            # Where all taps lie in the padding there is no error.
            share = np.abs(got - exact) / np.where(whole == 0, 1, whole)
            yield line.algorithm, float(share.max()), line.error_bound


@pytest.mark.parametrize("draw", ["standard_normal", "random"])
@pytest.mark.parametrize(
    ("x_shape", "w_shape", "keywords"),
    [
        ((1, 24, 12, 13), (16, 24, 3, 3), {"padding": 1}),
        ((1, 3, 20, 21), (3, 1, 5, 5), {"padding": 2, "groups": 3}),
        ((1, 40, 6, 7), (8, 40, 1, 1), {}),
    ],
)
def test_errors_stay_below_the_bounds_that_explain_shows(x_shape, w_shape, keywords, draw):
    seen = dict.fromkeys(MIXED, 0)
    for name, error, bound in errors(x_shape, w_shape, draw, **keywords):
        assert 0 < error <= bound, name
        # A sum in any order keeps it; and it is no number that nothing could exceed.
        assert bound < 5e-3, name
        seen[name] = error
    if w_shape[2] > 1:
        assert all(seen[name] for name in MIXED if name in seen)


@pytest.mark.slow
def test_errors_of_drawn_problems_stay_below_the_bounds():
    rng = np.random.default_rng(7)
    for i in range(2000):
        p = problem(cases.random_problem(rng))
        if min(p.input_shape) and min(p.weight_shape):
            draw = ("standard_normal", "random")[i % 2]
            for name, error, bound in errors(p.input_shape, p.weight_shape, draw, **p.keywords):
                assert error <= bound, (p, name)


def test_two_passes_stay_below_their_bound():
    rng = np.random.default_rng(0)
    x, column, row = (rng.standard_normal(shape).astype("f4") for shape in ((1, 2, 30, 31), (2, 9), (2, 9)))
    w = (column[:, :, None] * row[:, None, :])[:, None]
    line = next(e for e in fc.explain(fc.conv2d, x, w, groups=2).lines if e.algorithm == "separable")
    got = fc.conv2d(x, w, groups=2, algorithm="separable")
    wide = [a.astype("f8") for a in (x, w)]
    sums = reference(*map(np.abs, wide), groups=2)
    assert (np.abs(got - reference(*wide, groups=2)) / sums).max() <= line.error_bound
    # Known values give what the factors differ; shapes what they may differ after one rounding.
    shapes = next(e for e in fc.explain(fc.conv2d, x.shape, w.shape, groups=2).lines if e.algorithm == "separable")
    u = 2.0**-24
    assert 22 * u < line.error_bound <= shapes.error_bound == (18 + 4 + 3) * u


@pytest.mark.parametrize("factor", [0.9, 1.1])
def test_the_bound_of_sums_is_that_of_assert_close(factor):
    terms, exact = 30, np.ones(1)
    bound = rounding.sum_bound(terms, "float64")
    moved = exact + factor * bound
    if factor < 1:
        assert_close(moved, exact, terms=terms, magnitude=1.0, factor=1.0)
    else:
        with pytest.raises(AssertionError):
            assert_close(moved, exact, terms=terms, magnitude=1.0, factor=1.0)


def test_amplification_of_transforms():
    assert rounding.amplification(1, 1) == 1
    # By hand: output 0 of F(2, 3) and tap 0: 1*1*2 + 1*1/2*2 + 1*1/2*2.
    assert rounding.amplification(2, 3) == 4
    A, G, B = transforms(4, 3)
    worst = max(sum(abs(A[i][p] * G[p][k]) * sum(map(abs, B[p])) for p in range(6)) for i in range(4) for k in range(3))
    assert rounding.amplification(4, 3) == pytest.approx(float(worst), rel=1e-12)
    assert rounding.transform_depth(1, 1) == 0 < rounding.transform_depth(2, 3) < rounding.transform_depth(4, 3)


def test_integers_are_exact_and_wider_floats_are_closer():
    def bounds(dtype, **keywords):
        arrays = np.ones((1, 16, 12, 12), dtype), np.ones((8, 16, 3, 3), dtype)
        return {e.algorithm: e.error_bound for e in fc.explain(fc.conv2d, *arrays, **keywords).lines if not e.refused}

    assert set(bounds("i4").values()) == {0.0}
    narrow, wide = bounds("f4"), bounds("f8")
    for name, bound in wide.items():
        assert 1e-10 < bound / narrow[name] < 1e-7
    assert narrow["direct"] < narrow["winograd"]
    assert narrow["direct"] < narrow["fft"]


@pytest.mark.parametrize(
    ("dtype", "precision"), [("complex64", "default"), ("complex64", "strict"), ("float16", "default")]
)
def test_bounds_contain_what_is_made_of_real_sums(dtype, precision):
    x, w = np.ones((1, 8, 9, 9)), np.ones((4, 8, 3, 3))
    keywords = {"precision": precision, "algorithm": "direct"}

    def bound(kind):
        explained = fc.explain(fc.conv2d, x.astype(kind), w.astype(kind), **keywords)
        planned = fc.plan_conv2d(x.shape, w.astype(kind), dtype=kind, **keywords).explain()
        one, other = (next(line.error_bound for line in e.lines if line.chosen) for e in (explained, planned))
        assert one == other
        return one

    u, plain = 2.0**-24, bound("float32")
    more = {"default": 3.2 * plain + 11 * u, "strict": 1.5 * (plain + u)}[precision]
    expected = plain + 2.0**-11 * (1 + plain) if dtype == "float16" else more
    assert bound(dtype) == pytest.approx(expected, rel=1e-12)
