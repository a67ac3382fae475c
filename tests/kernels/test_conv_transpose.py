"""Transposed convolutions on arrays beside closed pages, the buffer between the kernels among them, full of NaN."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import fastconv as fc
from fastconv.api import conv_transpose as transposed
from fastconv.dispatch import conv_transpose, plan
from fastconv.geometry.conv_transpose import conv_transpose_geometry
from fastconv.kernels.reference.conv_transpose import conv_transpose as reference
from tests import cases, guard
from tests.properties.strategies import one_tile

pytestmark = pytest.mark.skipif(not guard.AVAILABLE, reason="maps memory as Linux does")

# Input and weight; then the keywords. The first have whole vectors of channels.
PROBLEMS = (
    ((2, 3, 5, 6), (3, 32, 4, 4), {"stride": 2, "padding": 1}),
    ((1, 6, 3, 4), (6, 32, 3, 2), {"stride": 2, "groups": 2, "dilation": 3}),
    ((1, 3, 2, 3), (3, 48, 2, 2), {"stride": 2}),
    ((2, 5, 4, 9), (5, 3, 2, 2), {"stride": 2}),
    ((2, 5, 4, 9), (5, 3, 4, 3), {"stride": (1, 3), "output_padding": (0, 2)}),
    ((1, 7, 5, 6), (7, 1, 3, 3), {"stride": 2, "groups": 7, "padding": ((-2, 1), (1, -3))}),
    ((1, 4, 3, 5), (4, 6, 1, 2), {"stride": (2, 4)}),
    ((3, 4, 19), (4, 5, 5), {"stride": 2}),
    ((2, 3, 2, 3, 4), (3, 2, 3, 2, 3), {"stride": (2, 1, 2), "padding": 1}),
)


def test_transposed_convolutions_stay_inside():
    out = guard.run("from tests.kernels import test_conv_transpose as t; t.check_all()")
    assert out.split()[-1] == "done"


def check_all():
    """Run all problems; called in a process of its own."""
    guard.guard_scratch()
    with one_tile():
        for problem, layout, side in itertools.product(PROBLEMS, cases.LAYOUTS, guard.SIDES):
            print(problem, layout, side, flush=True)
            check(*problem, layout, side)
    print("done")


def check(x_shape, w_shape, keywords, layout, side):
    """Compare one call, a part of the batch at a time too, with the reference."""
    rng, axes = np.random.default_rng(0), len(w_shape) - 2
    x, w = cases.integers(rng, x_shape), cases.integers(rng, w_shape)
    x = np.ascontiguousarray(np.moveaxis(x, 1, -1)) if layout == "channels_last" else x
    g = conv_transpose_geometry("f", axes, x.shape, w.shape, layout=layout, **keywords)
    b = cases.integers(rng, (g.OC,))
    want = reference(x, w, g, b)
    for part in (1 << 30, 1):
        conv_transpose.TEMPORARY_BYTES = part
        conv_transpose.prepare_transpose.cache_clear()
        transposed._seen.cache_clear()
        with guard.Pages() as pages:

            def take(size, pages=pages):
                buffer = pages.empty((size,), np.uint8, side)
                buffer[...] = 0xFF
                return buffer

            plan.free_buffers.take, plan.free_buffers.give_back = take, lambda buffer: None
            guarded = [pages.copy(array, side) for array in (x, w, b)]
            out = pages.copy(cases.poisoned(want), side)
            getattr(fc, f"conv_transpose{axes}d")(*guarded, out=out, layout=layout, **keywords)
            np.testing.assert_array_equal(out, want)
