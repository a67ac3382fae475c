"""The kernels of gradients on arrays beside closed pages."""

from __future__ import annotations

import numpy as np
import pytest

from fastconv.kernels.cpu import activation_grad, max_pool_grad, unpool
from fastconv.kernels.cpu.program import address
from fastconv.kernels.reference import grad as reference
from tests import guard
from tests.pools import values

pytestmark = pytest.mark.skipif(not guard.AVAILABLE, reason="maps memory as Linux does")

CALLS = 150


def test_gradients_stay_inside():
    out = guard.run("from tests.kernels import test_grad_guard_pages as t; t.check_drawn()")
    assert out.split()[-1] == "done"


def run(program, *arrays):
    """Run a program on arrays."""
    io = np.array([address(a) for a in arrays], np.int64)
    program.kernel(program.g, io, 0, 0, program.tasks)


def check_drawn():
    """Run drawn calls; called in a process of its own."""
    rng = np.random.default_rng(1)
    for i in range(CALLS):
        side, dtype = guard.SIDES[i % 2], ("float32", "float64")[i // 2 % 2]
        for check in (check_maxima, check_sums, check_activation):
            with guard.Pages() as pages:
                check(rng, pages, side, dtype)
    print("done")


def check_maxima(rng, pages, side, dtype):
    """Compare with the first maximum, or last NaN, of each window."""
    lanes = int(rng.choice([1, 4, 5, 16, 33]))
    kernel = [int(k) for k in rng.integers(1, 4, 3)]
    kernel[2] = 2 if lanes == 1 else kernel[2]
    outs = [int(n) for n in rng.integers(1, [3, 5, 40 if lanes == 1 else 5])]
    sizes = [n * k + int(rng.integers(0, 3)) for n, k in zip(outs, kernel, strict=True)]
    planes = int(rng.integers(1, 4))
    print(planes, sizes, lanes, outs, kernel, side, dtype, flush=True)
    x = pages.copy(values(rng, (planes, *sizes, lanes), dtype, special=True), side)
    grad = pages.copy(values(rng, (planes, *outs, lanes), dtype), side)
    out = pages.empty(x.shape, dtype, side)
    out[...] = 77
    run(max_pool_grad.build(8 * x.itemsize, planes, lanes, *map(tuple, (sizes, outs, kernel))), grad, x, out)
    want = np.zeros(x.shape, dtype)
    for place in np.ndindex(*outs):
        window = (slice(None), *(slice(o * k, (o + 1) * k) for o, k in zip(place, kernel, strict=True)))
        taps = x[window].reshape(planes, -1, lanes)
        nans = np.isnan(taps)
        winner = np.where(nans.any(1), taps.shape[1] - 1 - nans[:, ::-1].argmax(1), taps.argmax(1))
        hot = np.arange(taps.shape[1])[:, None] == winner[:, None]
        want[window] = np.where(hot, grad[(slice(None), *place)][:, None], 0).reshape(want[window].shape)
    np.testing.assert_array_equal(out, want)


def check_sums(rng, pages, side, dtype):
    """Compare with the sums at each index."""
    planes, count, size, lanes = (int(n) for n in rng.integers(1, [3, 40, 90, 80]))
    print(planes, count, size, lanes, side, flush=True)
    x = pages.copy(values(rng, (planes, count, lanes), dtype), side)
    indices = pages.copy(rng.integers(0, size, x.shape), side)
    out = pages.empty((planes, size, lanes), dtype, side)
    out[...] = 77
    program = unpool.build(8 * x.itemsize, planes, count, size, lanes, "add")
    run(program, x, indices, out, np.zeros(program.tasks, np.int64))
    last = (a.swapaxes(1, 2) for a in (x, indices))
    np.testing.assert_array_equal(out.swapaxes(1, 2), reference.scattered(*last, (size,)))


def check_activation(rng, pages, side, dtype):
    """Compare with the formula."""
    name, n = str(rng.choice(activation_grad.NAMES)), int(rng.integers(1, 70))
    print(name, n, side, flush=True)
    grad, x = (pages.copy(rng.standard_normal(n).astype(dtype), side) for _ in range(2))
    out = pages.empty((n,), dtype, side)
    run(activation_grad.build(name, dtype, n), grad, x, out)
    np.testing.assert_allclose(out, reference.pullback(name, grad, x), rtol=1e-4, atol=1e-6)
