"""Unpooling, resizing, unfolding and folding on arrays beside closed pages, with scratch that is guarded, too."""

from __future__ import annotations

import numpy as np
import pytest

from tests import guard
from tests.resizing import OPERATIONS, draw

pytestmark = pytest.mark.skipif(not guard.AVAILABLE, reason="maps memory as Linux does")

CALLS = 50
# Elements of two sizes are moved; sums are taken in float32 and, of uint8 images, int32.
DTYPES = ("float32", "uint8")


def test_calls_stay_inside():
    out = guard.run("from tests.kernels import test_moving_guard_pages as t; t.check_drawn()")
    assert out.split()[-1] == "done"


def check_drawn():
    """Run drawn calls; called in a process of its own."""
    guard.guard_scratch()
    rng = np.random.default_rng(1)
    for i in range(CALLS):
        for operation in OPERATIONS:
            call = draw(rng, operation, DTYPES[:1] if operation == "fold" else DTYPES)
            print(call, flush=True)
            side = guard.SIDES[i % 2]
            with guard.Pages() as pages:
                arrays = tuple(pages.copy(array, side) for array in call.arrays)
                out = pages.empty(call.expected.shape, call.expected.dtype, side)
                out[...] = 77
                call.check(call.run(arrays, out=out))
    print("done")
