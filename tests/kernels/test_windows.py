"""Pools on arrays beside closed pages: nothing outside an array or its scratch is read or written.

One process runs a whole check. Its scratch is guarded too and full of NaN, and so are results, indices, and what lies
between two passes, so that what is read before it is written shows.
"""

from __future__ import annotations

from importlib import import_module

import numpy as np
import pytest

import fastconv as fc
from tests import cases, guard, pools
from tests.pools import Drawn

pytestmark = pytest.mark.skipif(not guard.AVAILABLE, reason="maps memory as Linux does")

KINDS = ("max", "max", "avg", "adaptive_max", "adaptive_avg")
# Windows that are put together in stages, of which some are in place, and planes that are cut in blocks.
LARGE = {
    "rows of 31": ("max_pool2d", (1, 2, 3, 200), {"kernel_size": (1, 31), "stride": 1, "padding": (0, 15)}),
    "columns of 31": ("max_pool2d", (1, 2, 120, 21), {"kernel_size": (31, 1), "stride": 1, "padding": (15, 0)}),
    "squares of 17": ("avg_pool2d", (1, 2, 50, 61), {"kernel_size": 17, "stride": 1, "padding": 8}),
    "squares of 15, stride 2": ("max_pool2d", (1, 1, 50, 61), {"kernel_size": 15, "stride": 2, "padding": 7}),
    "columns of 65, stride 3": ("avg_pool2d", (1, 3, 140, 9), {"kernel_size": (65, 2), "stride": (3, 1)}),
    "many planes": ("max_pool2d", (2, 19, 12, 20), {"kernel_size": (9, 2), "stride": 1, "padding": (4, 1)}),
    "dilation 3": ("max_pool2d", (1, 3, 40, 45), {"kernel_size": 9, "stride": 1, "padding": 12, "dilation": 3}),
    "wide": ("max_pool1d", (1, 1, 5000), {"kernel_size": 2, "stride": 2}),
    "many columns": ("avg_pool2d", (1, 1, 40, 3000), {"kernel_size": 3, "stride": 1, "padding": 1}),
    "many lanes": ("max_pool2d", (1, 300, 9, 30), {"kernel_size": 3, "stride": 2, "padding": 1}),
    "volume": ("max_pool3d", (1, 2, 9, 8, 40), {"kernel_size": (5, 2, 7), "stride": 1, "padding": (2, 1, 3)}),
}


def guarded(pages, side):
    """Return NumPy with an `empty` whose arrays end, or start, at a closed page, and hold what no result does."""

    class Guarded:
        def __getattr__(self, name):
            return getattr(np, name)

        def empty(self, shape, dtype=float):
            array = pages.empty(shape, dtype, side)
            array.view(np.uint8)[...] = 0xFF
            return array

    return Guarded()


def check(a: Drawn):
    """Run a call in both layouts and on both sides, with and without `out`, and compare with the definition."""
    api, dispatch = (import_module(f"fastconv.{layer}.pooling") for layer in ("api", "dispatch"))
    want = pools.expected(a)
    values = want[0] if isinstance(want, tuple) else want
    batched = a.x.ndim == pools.axes_of(a.name, a.x) + 2
    for layout in cases.LAYOUTS:
        shape = (pools.to_last(values, batched) if layout == "channels_last" else values).shape
        x = pools.to_last(a.x, batched) if layout == "channels_last" else a.x
        for side in guard.SIDES:
            with guard.Pages() as pages:
                api.np = dispatch.np = guarded(pages, side)
                given, out = pages.copy(x, side), api.np.empty(shape, x.dtype)
                for more in ({}, {"out": out}):
                    got = getattr(fc, a.name)(given, layout=layout, **a.keywords, **more)
                    pairs = zip(*[r if isinstance(r, tuple) else (r,) for r in (got, want)], strict=True)
                    for one, other in pairs:
                        one = pools.to_first(one, batched) if layout == "channels_last" else one
                        np.testing.assert_array_equal(one, other)
                np.testing.assert_array_equal(given, x)
                api.np = dispatch.np = np
                del given, out, got, one


def check_drawn(count, seed):
    """Run drawn pools; called in a process of its own."""
    guard.guard_scratch()
    rng = np.random.default_rng(seed)
    for i in range(count):
        dtype = "int8" if i % 10 == 0 else "float32"
        fixed = {"N": 1, "C": 3} if dtype == "int8" else {}
        a = pools.draw(rng, KINDS[i % len(KINDS)], dtype, **fixed)
        print(a.name, a.x.shape, a.keywords, flush=True)
        check(a)
    print("done")


def check_large():
    """Run pools of large windows and planes; called in a process of its own."""
    guard.guard_scratch()
    rng = np.random.default_rng(0)
    for name, (function, shape, keywords) in LARGE.items():
        for indices in (False, True) if "max" in function else (None,):
            more = {} if indices is None else {"return_indices": indices}
            print(name, indices, flush=True)
            check(Drawn(function, pools.values(rng, shape, "float32"), keywords | more))
    print("done")


def test_drawn_pools_stay_inside():
    out = guard.run("from tests.kernels import test_windows as t; t.check_drawn(150, 0)")
    assert out.split()[-1] == "done"


def test_large_windows_stay_inside():
    out = guard.run("from tests.kernels import test_windows as t; t.check_large()")
    assert out.split()[-1] == "done"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 5))
def test_many_drawn_pools_stay_inside(seed):
    out = guard.run(f"from tests.kernels import test_windows as t; t.check_drawn(800, {seed})")
    assert out.split()[-1] == "done"
