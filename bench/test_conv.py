"""Convolution, forward: every backend and algorithm on every problem of the suite, checked before it is timed."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest

import fastconv as fc
from fastconv.benchmarks import problems
from fastconv.benchmarks.measure import GATE_FACTOR
from fastconv.benchmarks.rivals import RIVALS
from fastconv.benchmarks.timing import loops_for, sample
from fastconv.dispatch import cuda
from fastconv.testing import assert_close, reference

# A call that takes longer would make the suite unbearable.
SLOWEST = 2.0


def call_of(backend, layer, arrays, threads):
    """Return the call of a backend, or skip the test if only the values of the weight forbid it."""
    x, weight = arrays
    if backend == "fastconv":
        convolve, keywords = layer.function, layer.keywords
        return lambda: convolve(x, weight, **keywords)
    if backend == "fastconv-plan":
        if layer.problem.axes != 2:
            pytest.skip("plans are of conv2d")
        plan = fc.plan_conv2d(x.shape, weight, **layer.keywords, dtype=x.dtype)
        return lambda: plan(x)
    if backend in ("cuda", "cuda with copies"):
        return device_call(backend, layer, arrays)
    try:
        return RIVALS[backend].make(layer, arrays, threads)
    except fc.UnsupportedError as error:
        pytest.skip(str(error))


def device_call(backend, layer, arrays):
    """Return a call that waits for the device, on arrays that are there or here; skip without a device."""
    if (missing := cuda.missing()) is not None:
        pytest.skip(f"no CUDA device: {missing}")
    (x, weight), convolve, keywords = arrays, layer.function, layer.keywords
    if backend == "cuda with copies":
        return lambda: convolve(x, weight, **keywords, device="cuda")
    runtime = cuda.kernels("runtime:current")()
    there = [runtime.to_device(a, 0) for a in arrays]
    kept = []

    def call():
        # The time between two events is that of the device; to take it waits for the end.
        runtime.seconds(lambda: kept.append(convolve(*there, **keywords)), 1)
        return kept.pop()

    return call


@pytest.fixture(scope="module")
def expected():
    """Return the reference of a layer, computed once for all backends."""
    found = {}

    def of(layer, arrays):
        if layer not in found:
            found.clear()
            found[layer] = reference(*arrays, **layer.keywords)
        return found[layer]

    return of


def test_conv_forward(benchmark, request, problem, backend, threads, expected):
    arrays = problems.draw(problem)
    call = call_of(backend, problem, arrays, threads)
    start = time.perf_counter()
    result = call()
    result = result.copy_to_host() if hasattr(result, "copy_to_host") else np.asarray(result)
    # A call that was slow may only have compiled.
    if time.perf_counter() - start > SLOWEST and sample(call, 1) > SLOWEST:
        pytest.skip(f"a call takes more than {SLOWEST} s")
    assert_close(
        result, expected(problem, arrays), terms=math.prod(problem.problem.weight_shape[1:]), factor=GATE_FACTOR
    )
    direct = fc.count_ops(problem.function, *arrays, **problem.keywords)
    named = getattr(RIVALS.get(backend), "algorithm", "direct")
    if backend in ("fastconv", "fastconv-plan"):
        named = "auto"
    taken = fc.count_ops(problem.function, *arrays, **problem.keywords, algorithm=named)
    benchmark.group = f"conv_forward/{problem.title}"
    rounds = request.config.getoption("rounds")
    benchmark.pedantic(call, rounds=rounds, iterations=loops_for(call), warmup_rounds=1)
    benchmark.extra_info |= {
        "threads": threads,
        "macs": direct.macs,
        "saved": direct.multiplies - taken.multiplies,
    }
    # Absent with --benchmark-disable.
    if benchmark.stats:
        seconds = benchmark.stats.stats.median
        benchmark.extra_info["gflops"] = 2 * direct.macs / seconds / 1e9
        benchmark.extra_info["gbytes"] = (direct.bytes_read + direct.bytes_written) / seconds / 1e9
