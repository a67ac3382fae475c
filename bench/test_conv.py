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
    try:
        return RIVALS[backend].make(layer, arrays, threads)
    except fc.UnsupportedError as error:
        pytest.skip(str(error))


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
    result = np.asarray(call())
    # A call that was slow may only have compiled.
    if time.perf_counter() - start > SLOWEST and sample(call, 1) > SLOWEST:
        pytest.skip(f"a call takes more than {SLOWEST} s")
    assert_close(
        result, expected(problem, arrays), terms=math.prod(problem.problem.weight_shape[1:]), factor=GATE_FACTOR
    )
    direct = fc.count_ops(problem.function, *arrays, **problem.keywords)
    named = getattr(RIVALS.get(backend), "algorithm", "direct")
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
        benchmark.extra_info["gflops"] = 2 * direct.macs / benchmark.stats.stats.median / 1e9
