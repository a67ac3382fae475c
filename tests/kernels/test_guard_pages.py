"""Every algorithm on arrays beside closed pages: nothing outside an array or its scratch is read or written.

One process runs all of it; its scratch is guarded too and full of NaN, so that what is read before it is written shows.
"""

from __future__ import annotations

import numpy as np
import pytest

import fastconv as fc
from fastconv.testing import reference
from tests import cases, guard

pytestmark = pytest.mark.skipif(not guard.AVAILABLE, reason="maps memory as Linux does")

RANDOM = 100


def test_pages_catch_one_element_too_far():
    code = """
import ctypes
from tests.guard import Pages
a = Pages().empty((3,), "float32", "{side}")
a[:] = 1
print(a.sum(), flush=True)
ctypes.c_float.from_address(a.ctypes.data + {offset}).value
"""
    for side, offset in (("end", 12), ("start", -4)):
        with pytest.raises(AssertionError, match=r"exit status -11\n3.0"):
            guard.run(code.format(side=side, offset=offset))


def test_convolutions_stay_inside():
    out = guard.run("from tests.kernels import test_guard_pages as t; t.check_named()")
    assert out.split()[-1] == "done"


def test_random_convolutions_stay_inside():
    out = guard.run("from tests.kernels import test_guard_pages as t; t.check_random()")
    assert out.split()[-1] == "done"


def test_convolutions_by_fft_stay_inside():
    out = guard.run("from tests.kernels import test_guard_pages as t; t.check_fft()")
    assert out.split()[-1] == "done"


def check_fft():
    """Run a few problems; called in a process of its own."""
    guard.guard_scratch()
    for name in cases.FEW:
        for layout in cases.LAYOUTS:
            print(name, layout, flush=True)
            a = cases.draw(cases.CASES[name], layout)
            check(a, ["fft"] if a.w.shape[2:] != (1, 1) else [], atol=1e-3)
    print("done")


def check_named():
    """Run all named problems; called in a process of its own."""
    guard.guard_scratch()
    for name, text in cases.CASES.items():
        for layout in cases.LAYOUTS:
            print(name, layout, flush=True)
            check(cases.draw(text, layout, separable=True))
    print("done")


def check_random():
    """Run random problems; called in a process of its own."""
    guard.guard_scratch()
    rng = np.random.default_rng(1)
    for i in range(RANDOM):
        text, layout = cases.random_problem(rng), cases.LAYOUTS[i % 2]
        print(text, layout, flush=True)
        check(cases.draw(text, layout, separable=i % 4 < 2))
    print("done")


def check(a, algorithms=None, atol=0.0):
    """Compare calls and plans, with and without a residual, with the reference."""
    plain, full = reference(a.x, a.w, **a.keywords), reference(a.x, a.w, a.b, residual=a.r, **a.keywords)
    for algorithm in cases.able(a) if algorithms is None else algorithms:
        more = a.keywords | {"algorithm": algorithm}
        for side in guard.SIDES:
            with guard.Pages() as pages:
                x, w, b, r = (pages.copy(array, side) for array in a[:4])
                one, two, three = (pages.copy(cases.poisoned(full), side) for _ in range(3))
                fc.conv2d(x, w, out=one, **more)
                fc.conv2d(x, w, b, residual=r, out=two, **more)
                plan = fc.plan_conv2d(x.shape, w, b, **more)
                plan._packed, plan._bias = (
                    tuple(tuple(pages.copy(p, side) for p in product) for product in plan._packed),
                    b,
                )
                plan(x, three, residual=r)
                for got, expected in ((one, plain), (two, full), (three, full)):
                    np.testing.assert_allclose(got, expected, rtol=0, atol=atol, err_msg=f"{algorithm} {side}")
