"""Convolution on the matrix unit: errors, special values, refusals; its arithmetic on every CPU, by Python twins."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

import fastconv as fc
from fastconv.dispatch import load
from fastconv.testing import reference
from tests import cases

unit = pytest.mark.skipif(not load.target().matrix_unit, reason="this CPU has no matrix unit")

EMULATED = """
import numpy as np
from fastconv.kernels.cpu import target
target.current = lambda: target.AVX512._replace(matrix_unit=True)
import fastconv as fc
from fastconv.testing import reference
from tests import cases

problems = ("n1ic3h5w6_oc5k3s1p1", "n2ic34h4w3_oc33k1s1p0", "n1ic6h6w7_oc4k3s2p1d2g2", "n1ic32h3w5_oc3k3s1p1")
for text in problems:
    for layout in cases.LAYOUTS:
        a = cases.draw(text, layout)
        got = fc.conv2d(a.x, a.w, a.b, residual=a.r, algorithm="bf16x3", **a.keywords)
        np.testing.assert_array_equal(got, reference(a.x, a.w, a.b, residual=a.r, **a.keywords), err_msg=text)
        x = np.random.default_rng(0).standard_normal(a.x.shape).astype("f4")
        x.flat[3] = np.nan
        exact, got = (fc.conv2d(x, a.w, algorithm=name, **a.keywords) for name in ("direct", "bf16x3"))
        np.testing.assert_allclose(got, exact, rtol=1e-4, atol=1e-3)
print("done")
"""


def test_arithmetic_of_the_unit_in_plain_python():
    environment = os.environ | {"NUMBA_DISABLE_JIT": "1"}
    run = subprocess.run([sys.executable, "-c", EMULATED], env=environment, capture_output=True, text=True, timeout=120)
    assert run.stdout.split() == ["done"], run.stderr[-2000:]


@pytest.mark.skipif(load.target().matrix_unit, reason="this CPU has a matrix unit")
def test_refusal_names_the_missing_unit():
    x, w = np.ones((1, 4, 5, 5), "f4"), np.ones((2, 4, 3, 3), "f4")
    with pytest.raises(fc.UnsupportedError, match="no matrix unit for bfloat16"):
        fc.conv2d(x, w, algorithm="bf16x3")


@unit
def test_strict_and_other_dtypes_are_refused():
    x, w = np.ones((1, 4, 5, 5), "f4"), np.ones((2, 4, 3, 3), "f4")
    with pytest.raises(fc.UnsupportedError, match='precision="strict" forbids'):
        fc.conv2d(x, w, algorithm="bf16x3", precision="strict")
    with pytest.raises(fc.UnsupportedError, match="arrays must be float32, got float64"):
        fc.conv2d(x.astype("f8"), w.astype("f8"), algorithm="bf16x3")


@unit
@pytest.mark.parametrize("layout", cases.LAYOUTS)
@pytest.mark.parametrize(("IC", "k", "side"), [(64, 1, 20), (64, 3, 12), (512, 3, 7), (3, 7, 20), (17, 3, 9)])
def test_error_is_below_the_bound(IC, k, side, layout):
    rng = np.random.default_rng(IC)
    for scale in (1.0, 1e-12, 1e12):
        x = (rng.standard_normal((1, IC, side, side)) * scale).astype("f4")
        w = rng.standard_normal((40, IC, k, k)).astype("f4")
        exact = reference(x.astype("f8"), w.astype("f8"), padding=k // 2)
        three, one = (convolved(x, w, layout, padding=k // 2, precision=precision) for precision in ("default", "bf16"))
        assert np.abs(three - exact).max() <= 1e-5 * np.abs(exact).max()
        assert 1e-4 * np.abs(exact).max() < np.abs(one - exact).max() <= 1e-2 * np.abs(exact).max()


def convolved(x, w, layout, **keywords):
    """Return the result in channels_first."""
    x = np.moveaxis(x, 1, -1) if layout == "channels_last" else x
    y = fc.conv2d(x, w, algorithm="bf16x3", layout=layout, **keywords)
    return np.moveaxis(y, -1, 1) if layout == "channels_last" else y


@unit
@pytest.mark.parametrize("mode", ["zeros", "reflect"])
@pytest.mark.parametrize("layout", cases.LAYOUTS)
def test_what_is_not_finite_spreads_as_in_direct_convolution(layout, mode):
    rng = np.random.default_rng(1)
    for shape, k in (((2, 5, 9, 31), 3), ((2, 64, 6, 20), 1), ((1, 40, 8, 9), 5)):
        w = rng.standard_normal((33, shape[1], k, k)).astype("f4")
        # 3.4e38 rounds to an infinite bfloat16.
        for value in (np.nan, np.inf, -np.inf, np.float32(3.4e38)):
            x = rng.standard_normal(shape).astype("f4")
            x[tuple(rng.integers(0, shape))] = value
            more = {"padding": k // 2, "padding_mode": mode, "activation": "relu", "layout": layout}
            arranged = np.moveaxis(x, 1, -1) if layout == "channels_last" else x
            exact = fc.conv2d(arranged, w, algorithm="direct", **more)
            got = fc.conv2d(arranged, w, algorithm="bf16x3", **more)
            plan = fc.plan_conv2d(arranged.shape, w, algorithm="bf16x3", **more)
            np.testing.assert_array_equal(plan(arranged), got)
            np.testing.assert_array_equal(np.isfinite(got), np.isfinite(exact))
            finite = np.isfinite(exact)
            np.testing.assert_array_equal(got[~finite], exact[~finite])
            small = finite & (np.abs(exact) < 1e30)
            assert np.abs(got[small] - exact[small]).max() < 1e-3


@unit
def test_bits_do_not_depend_on_the_threads():
    a = cases.draw("n2ic40h30w31_oc70k3s1p1")
    x = np.random.default_rng(2).standard_normal(a.x.shape).astype("f4")
    results = set()
    for count in (1, 2, 3):
        with fc.threads(count):
            results.add(fc.conv2d(x, a.w, algorithm="bf16x3", **a.keywords).tobytes())
    assert len(results) == 1


@unit
@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_unit_works_in_a_forked_child():
    a = cases.draw("n1ic32h5w6_oc32k3s1p1")
    expected = fc.conv2d(a.x, a.w, algorithm="bf16x3", **a.keywords)
    child = os.fork()
    if child == 0:
        same = np.array_equal(fc.conv2d(a.x, a.w, algorithm="bf16x3", **a.keywords), expected)
        os._exit(0 if same else 1)
    assert os.waitpid(child, 0)[1] == 0
