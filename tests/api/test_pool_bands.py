"""Plans that pool band by band: against the definition, whole bands and what is left over."""

from __future__ import annotations

import numpy as np
import pytest

import fastconv as fc
from fastconv.testing import reference
from tests import cases, guard
from tests.api.test_plan_pool import pooled

# Blocks of rows that are, and are not, all of the image, with rows left over for the last window.
PROBLEMS = {
    "n4ic5h9w22_oc20k3s1p1": 2,
    "n1ic3h70w61_oc40k3s1p1": 2,
    "n2ic8h41w30_oc24k5s1p2g2": 3,
    "n4ic33h15w14_oc36k3s2p1": 2,
}


def plan_of(text, layout, algorithm):
    a = cases.draw(text, layout)
    more = a.keywords | {"activation": "relu6", "algorithm": algorithm, "pool": PROBLEMS[text]}
    return a, fc.plan_conv2d(a.x.shape, a.w, a.b, **more)


def expected_of(a, text, layout, residual=None):
    sums = reference(a.x, a.w, a.b, residual=residual, activation="relu6", **a.keywords)
    return pooled(sums, PROBLEMS[text], layout)


FAST, *SLOW = PROBLEMS


@pytest.mark.parametrize("layout", cases.LAYOUTS)
@pytest.mark.parametrize("text", [FAST, *(pytest.param(text, marks=pytest.mark.slow) for text in SLOW)])
def test_bands_equal_the_definition(text, layout):
    for algorithm in ("direct", "auto"):
        a, plan = plan_of(text, layout, algorithm)
        for residual in (None, a.r):
            expected = expected_of(a, text, layout, residual)
            out = cases.poisoned(expected)
            assert plan(a.x, out, residual=residual) is out
            np.testing.assert_array_equal(out, expected)


@pytest.mark.targets
@pytest.mark.parametrize("layout", cases.LAYOUTS)
def test_bands_of_tiny_images(layout):
    a = cases.draw("n4ic2h5w6_oc3k3s1p1", layout)
    plan = fc.plan_conv2d(a.x.shape, a.w, a.b, algorithm="direct", pool=2, **a.keywords)
    np.testing.assert_array_equal(plan(a.x), pooled(reference(a.x, a.w, a.b, **a.keywords), 2, layout))


def test_bands_spread_nan_no_further_than_direct_summation():
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((4, 64, 16, 16)).astype("f4"), rng.standard_normal((32, 64, 3, 3)).astype("f4")
    x[1, 3, 4, 5], x[2, 0, 0, 0] = np.nan, np.inf
    expected = fc.max_pool2d(fc.conv2d(x, w, padding=1, precision="strict"), 2)
    got = fc.plan_conv2d(x.shape, w, padding=1, pool=2)(x)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(expected))
    np.testing.assert_array_equal(np.isinf(got), np.isinf(expected))
    assert np.isnan(got).any()


@pytest.mark.parametrize("layout", cases.LAYOUTS)
def test_bands_give_the_same_bits_for_every_number_of_threads(layout):
    rng = np.random.default_rng(0)
    a = cases.draw("n2ic16h40w40_oc32k3s1p1", layout)
    x = rng.standard_normal(a.x.shape).astype("f4")
    plan, results = fc.plan_conv2d(x.shape, a.w, a.b, pool=2, **a.keywords), []
    for n in (1, 2, 5):
        with fc.threads(n):
            results.append(plan(x))
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


@pytest.mark.slow
@pytest.mark.skipif(not guard.AVAILABLE, reason="maps memory as Linux does")
def test_bands_stay_inside():
    assert guard.run("from tests.api import test_pool_bands as t; t.check_guarded()").split()[-1] == "done"


def check_guarded():
    """Run all problems on guarded arrays; called in a process of its own."""
    guard.guard_scratch()
    for text in PROBLEMS:
        for layout in cases.LAYOUTS:
            for algorithm in ("direct", "auto"):
                a, plan = plan_of(text, layout, algorithm)
                expected = expected_of(a, text, layout)
                for side in guard.SIDES:
                    with guard.Pages() as pages:
                        out = pages.copy(cases.poisoned(expected), side)
                        plan(pages.copy(a.x, side), out)
                        np.testing.assert_array_equal(out, expected)
    print("done")
