"""The kernels of gradients on arrays beside closed pages."""

from __future__ import annotations

import numpy as np
import pytest

import fastconv as fc
from fastconv.geometry.windows import Axis
from fastconv.grad.windows import window_inputs
from fastconv.kernels.cpu import activation_grad, max_pool_grad, max_pool_sums, unpool
from fastconv.kernels.cpu.program import address
from fastconv.kernels.reference import grad as reference
from tests import guard
from tests.cases import LAYOUTS
from tests.pools import values

pytestmark = pytest.mark.skipif(not guard.AVAILABLE, reason="maps memory as Linux does")

CALLS = 80


def test_gradients_stay_inside():
    out = guard.run("from tests.kernels import test_grad_guard_pages as t; t.check_drawn(); t.check_adjoints()")
    assert out.split()[-1] == "done"


def check_adjoints():
    """Run public gradients whose results are guarded, too."""
    guard.guard_scratch()
    rng, empty = np.random.default_rng(1), np.empty
    for i in range(CALLS):
        side, layout = guard.SIDES[i % 2], LAYOUTS[i // 2 % 2]
        sizes, outs = ([int(n) for n in rng.integers(1, most, 2)] for most in ((12, 40), (20, 60)))
        channels = int(rng.choice([1, 2, 5, 17]))
        shapes = [(2, channels, *each) if layout == LAYOUTS[0] else (2, *each, channels) for each in (sizes, outs)]
        for mode in ("nearest", "bilinear", "bicubic", "area"):
            print(shapes, mode, layout, side, flush=True)
            x, grad = (values(rng, shape, "float32") for shape in shapes)
            (want,) = fc.grad.interpolate_vjp(grad, x, outs, mode=mode, layout=layout)
            with guard.Pages() as pages:
                given = pages.copy(grad, side)
                np.empty = lambda shape, dtype=float, s=side, p=pages: p.empty(np.atleast_1d(shape), dtype, s)
                (got,) = fc.grad.interpolate_vjp(given, x, outs, mode=mode, layout=layout)
                np.empty = empty
                np.testing.assert_array_equal(got, want)
    print("done")


def run(program, *arrays, scratch=0):
    """Run a program on arrays."""
    io = np.array([address(a) for a in arrays], np.int64)
    program.kernel(program.g, io, scratch, 0, program.tasks)


def check_drawn():
    """Run drawn calls; called in a process of its own."""
    rng = np.random.default_rng(1)
    for i in range(CALLS):
        side, dtype = guard.SIDES[i % 2], ("float32", "float64")[i // 2 % 2]
        with guard.Pages() as pages:
            check_maxima(rng, pages, side, dtype)
            # Each kernel takes time to compile, and the other types go the same way.
            for check in (check_windows, check_sums, check_activation):
                check(rng, pages, side, "float32")
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
    taps = [[range(o * k, (o + 1) * k) for o in range(n)] for n, k in zip(outs, kernel, strict=True)]
    np.testing.assert_array_equal(out, routed(grad, x, taps))


def routed(grad, x, taps):
    """Return gradients (planes, *outs, lanes), each added to the first maximum, or last NaN, of its window of x."""
    want = np.zeros(x.shape, x.dtype)
    for place in np.ndindex(grad.shape[1:-1]):
        window = np.ix_(*(each[o] for each, o in zip(taps, place, strict=True)))
        values, given = x[:, *window], grad[:, *place]
        flat = values.reshape(len(x), -1, x.shape[-1])
        if flat.shape[1]:
            nans = np.isnan(flat)
            winner = np.where(nans.any(1), flat.shape[1] - 1 - nans[:, ::-1].argmax(1), flat.argmax(1))
            hot = np.arange(flat.shape[1])[:, None] == winner[:, None]
            want[:, *window] += np.where(hot, given[:, None], 0).reshape(values.shape)
    return want


def check_windows(rng, pages, side, dtype):
    """The same of windows that overlap, are cut off, or hold nothing."""
    images, lanes, taps, axes = int(rng.integers(1, 3)), int(rng.choice([4, 16, 19, 70])), [], []
    for most in (3, 7, 9):
        n, K, S, P, D = (int(rng.integers(low, high)) for low, high in ((1, most), (1, 4), (1, 4), (0, 2), (1, 4)))
        axis = Axis(n, max(1, (n + 2 * P - D * (K - 1) - 1) // S + 1), K, S, D, P)
        axis = axis if rng.random() < 0.8 else Axis(n, int(rng.integers(1, n + 2)), mode="adaptive")
        axes.append(axis)
        inputs = (range(axis.start(o), axis.reach(o), axis.dilation) for o in range(axis.out))
        taps.append([[i for i in each if 0 <= i < n] for each in inputs])
    print(images, lanes, axes, side, dtype, flush=True)
    x = pages.copy(values(rng, (images, *(axis.n for axis in axes), lanes), dtype, special=True), side)
    grad = pages.copy(values(rng, (images, *(axis.out for axis in axes), lanes), dtype), side)
    out = pages.empty(x.shape, dtype, side)
    out[...] = 77
    dilation, inputs = tuple(axis.dilation for axis in axes), [window_inputs(axis) for axis in axes]
    sizes, stride = x.shape[1:-1], axes[2].stride
    program = max_pool_sums.build(8 * x.itemsize, images, lanes, sizes, inputs, dilation, stride)
    run(program, grad, x, out, scratch=pages.address(program.scratch_bytes, "end"))
    want = routed(grad, x, taps)
    np.testing.assert_array_equal(out, want)
    first = [np.moveaxis(a, -1, 1).reshape(-1, *a.shape[1:-1]) for a in (grad, x, want)]
    program = max_pool_sums.build_turned(8 * x.itemsize, len(first[0]), sizes, inputs, dilation, stride)
    if program is not None:
        grad, x = (pages.copy(a, side) for a in first[:2])
        out = pages.empty(x.shape, dtype, side)
        run(program, grad, x, out, scratch=pages.address(program.scratch_bytes, "end"))
        np.testing.assert_array_equal(out, first[2])


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
    name, n = str(rng.choice(["relu", "silu"])), int(rng.integers(1, 70))
    print(name, n, side, flush=True)
    grad, x = (pages.copy(rng.standard_normal(n).astype(dtype), side) for _ in range(2))
    out = pages.empty((n,), dtype, side)
    run(activation_grad.build(name, dtype, n), grad, x, out)
    np.testing.assert_allclose(out, reference.pullback(name, grad, x), rtol=1e-4, atol=1e-6)
