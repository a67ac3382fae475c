"""Plans: the same bits as a call, an own copy of the weight, any number of threads at once."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import fastconv as fc
from fastconv.testing import problem
from tests import cases


def normal(a):
    """Return the arrays of a problem filled with normal numbers, which round."""
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(array.shape).astype(array.dtype) for array in a[:4]]
    return cases.Arrays(*arrays, a.keywords)


@pytest.mark.parametrize("layout", cases.LAYOUTS)
@pytest.mark.parametrize("name", cases.FEW)
def test_plan_gives_the_bits_of_a_call(name, layout):
    a = normal(cases.draw(cases.CASES[name], layout))
    more = a.keywords | {"activation": "relu"}
    for algorithm in cases.able(a):
        plan = fc.plan_conv2d(a.x.shape, a.w, a.b, algorithm=algorithm, **more)
        expected = fc.conv2d(a.x, a.w, a.b, residual=a.r, algorithm=algorithm, **more)
        out = cases.poisoned(expected)
        assert plan(a.x, out, residual=a.r) is out
        np.testing.assert_array_equal(out, expected, err_msg=algorithm)
        np.testing.assert_array_equal(plan(a.x, residual=a.r), expected, err_msg=algorithm)
        assert plan.algorithm == algorithm


@pytest.mark.parametrize("name", ["3x3", "depthwise"])
@pytest.mark.parametrize("layout", cases.LAYOUTS)
def test_plan_owns_weight_and_bias(name, layout):
    a = cases.draw(cases.CASES[name], layout, separable=True)
    for algorithm in cases.able(a):
        w, b = a.w.copy(), a.b.copy()
        plan = fc.plan_conv2d(a.x.shape, w, b, algorithm=algorithm, **a.keywords)
        before = plan(a.x)
        w[:], b[:] = np.nan, np.nan
        np.testing.assert_array_equal(plan(a.x), before, err_msg=algorithm)


def test_plan_refuses_another_shape_before_any_write():
    a = cases.draw(cases.CASES["3x3"])
    plan = fc.plan_conv2d(a.x.shape, a.w, **a.keywords)
    out = cases.poisoned(a.r)
    for x in (a.x[0], a.x[:, :, 1:], np.concatenate([a.x, a.x])):
        with pytest.raises(fc.ShapeError, match=r"plan_conv2d: input has shape .* expected"):
            plan(x, out)
    with pytest.raises(fc.ShapeError, match="residual has shape"):
        plan(a.x, out, residual=a.r[:, 1:])
    with pytest.raises(fc.ShapeError, match="out has shape"):
        plan(a.x, out[0])
    with pytest.raises(fc.OptionError, match="out has dtype float64"):
        plan(a.x, out.astype("f8"))
    assert np.isnan(out).all()


def test_plan_refuses_a_wider_input_and_takes_a_narrower_one():
    a = cases.draw(cases.CASES["3x3"])
    with pytest.raises(fc.DtypeError, match="input has dtype float64, expected float32"):
        fc.plan_conv2d(a.x.shape, a.w)(a.x.astype("f8"))
    plan = fc.plan_conv2d(a.x.shape, a.w, dtype="float64", **a.keywords)
    got = plan(a.x)
    assert got.dtype == np.float64
    np.testing.assert_array_equal(got, fc.conv2d(a.x, a.w, **a.keywords))


def test_plan_unbatched_and_lists():
    plan = fc.plan_conv2d([1, 1, 3], [[[[1.0, -1.0]]]], dtype="float64")
    np.testing.assert_array_equal(plan([[[1.0, 2.0, 3.0]]]), [[[-1.0, -1.0]]])


def test_plan_out_may_overlap_the_input():
    rng = np.random.default_rng(0)
    x, w = cases.integers(rng, (1, 3, 9, 8)), cases.integers(rng, (3, 3, 3, 3))
    plan = fc.plan_conv2d(x.shape, w, padding=1)
    expected = plan(x.copy())
    assert plan(x, x) is x
    np.testing.assert_array_equal(x, expected)


@pytest.mark.parametrize("layout", cases.LAYOUTS)
def test_plan_serves_threads_at_once(layout):
    a = normal(cases.draw("n1ic16h30w31_oc24k3s1p1", layout))
    plan = fc.plan_conv2d(a.x.shape, a.w, a.b, **a.keywords)
    inputs = [a.x * np.float32(i + 1) for i in range(8)]
    expected = [plan(x) for x in inputs]
    wrong, start = [], threading.Barrier(8)

    def use(i):
        out = np.empty_like(expected[i])
        start.wait(20)
        for _ in range(30):
            out[:] = np.nan
            plan(inputs[i], out)
            if not np.array_equal(out, expected[i]):
                wrong.append(i)

    users = [threading.Thread(target=use, args=(i,)) for i in range(8)]
    for user in users:
        user.start()
    for user in users:
        user.join(60)
    assert not any(user.is_alive() for user in users)
    assert wrong == []


def test_plan_names_its_problem_and_algorithm():
    text = "n1ic15h13w12_oc17k3s1p1"
    a = cases.draw(text)
    plan = fc.plan_conv2d(a.x.shape, a.w, **a.keywords)
    assert plan.problem == text
    assert problem(plan.problem).weight_shape == a.w.shape
    assert repr(plan) == f"<ConvPlan {text} {plan.algorithm}>"
    assert plan.explain().chosen == plan.algorithm


def test_plan_explain_shows_a_forced_algorithm():
    a = cases.draw(cases.CASES["3x3"])
    for algorithm in ("direct", "im2col"):
        plan = fc.plan_conv2d(a.x.shape, a.w, algorithm=algorithm, **a.keywords)
        assert (plan.algorithm, plan.explain().chosen) == (algorithm, algorithm)
    measured = plan.explain(measure=True).lines
    assert all((line.measured or 0) > 0 for line in measured if not line.refused)


def test_plan_names_a_shape_that_is_none():
    with pytest.raises(fc.ArgumentTypeError, match="plan_conv2d: input_shape"):
        fc.plan_conv2d(5, np.ones((1, 1, 3, 3)))


def test_plan_measures_once():
    a = cases.draw(cases.TINY["3x3"])
    plan = fc.plan_conv2d(a.x.shape, a.w, algorithm="measure", **a.keywords)
    assert plan.algorithm in ("direct", "im2col")
    np.testing.assert_array_equal(plan(a.x), fc.conv2d(a.x, a.w, **a.keywords))
