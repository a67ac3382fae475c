"""Separable blocks, pools, ways back from them, transposed convolutions and image filters beside other libraries."""

from __future__ import annotations

import functools
import itertools

import numpy as np

from fastconv.benchmarks import operations
from fastconv.benchmarks.timing import loops_for


@functools.lru_cache(maxsize=1)
def made(case):
    """Return a case, and our result, once for all of its backends."""
    name, i = case
    found = next(itertools.islice(operations.SUITES[name](), i, None))
    return found, operations.results_of(found.ours())


def test_operation(benchmark, request, case, problem, backend, threads):
    operations.set_threads(threads)
    found, ours = made(case)
    call = found.ours if backend == "fastconv" else found.rivals[backend]
    for a, b in zip(ours, operations.results_of(call()), strict=True):
        bound = found.tolerance * max(1.0, float(np.abs(b).max()))
        assert a.shape == b.shape
        assert np.abs(a.astype(np.float64) - b).max() <= bound
    benchmark.group = problem
    benchmark.pedantic(call, rounds=request.config.getoption("rounds"), iterations=loops_for(call), warmup_rounds=1)
    moved = found.input_bytes + sum(y.nbytes for y in ours)
    ops = found.ops
    benchmark.extra_info |= {"threads": threads, "bytes": moved}
    if ops is not None:
        benchmark.extra_info |= {"macs": ops.macs, "saved": ops.saved}
    # Absent with --benchmark-disable.
    if benchmark.stats:
        seconds = benchmark.stats.stats.median
        benchmark.extra_info["gbytes"] = moved / seconds / 1e9
        if ops is not None:
            benchmark.extra_info["gflops"] = 2 * ops.macs / seconds / 1e9
