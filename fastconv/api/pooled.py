"""What `plan_conv2d(..., pool=n)` adds to a plan: the arguments' checks, and pooled results of any dtype."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from fastconv.api.job import Job, Product
from fastconv.api.pooling import Pool, maxima
from fastconv.dispatch.pooled import DTYPES, Pooled
from fastconv.errors import DtypeError, ShapeError
from fastconv.geometry.arguments import positive
from fastconv.geometry.arrays import kind_of
from fastconv.geometry.pool import pool_geometry
from fastconv.system import empty

# Fills an array from input, weights, bias and residual.
Run = Callable[[np.ndarray, Sequence[Product], np.ndarray | None, np.ndarray | None, np.ndarray], None]
# Brings a weight into the order that a `Run` reads.
Pack = Callable[[Sequence[np.ndarray]], list[np.ndarray]]


def pooled(
    function: str, job: Job, shape: tuple[int, ...], result: np.dtype, size: object
) -> tuple[tuple[int, ...], Run, Pack]:
    """Return (shape of the results, run, pack) of a job whose results, of `shape`, are pooled."""
    number = positive(function, "pool", size)
    g = job.prepared.geometry
    if kind_of(result) == "c":
        raise DtypeError(f"{function}: pool = {number} with results of dtype {result}, expected real numbers")
    if number > min(g.OH, g.OW):
        expected = f"expected at most the convolution's output, {g.OH} x {g.OW}"
        raise ShapeError(f"{function}: pool = {number}, {expected}")
    windows = pool_geometry(function, 2, shape, number, layout=g.layout)
    # Maxima of rounded floats are rounded maxima; integers wrap, and are activated, before they are compared.
    floats = kind_of(result) == "f" or (result == job.element and job.activation is None)
    if floats and g.dtype in DTYPES:
        fused = Pooled(job.prepared, number)

        def run(
            x: np.ndarray,
            weights: Sequence[Product],
            bias: np.ndarray | None,
            residual: np.ndarray | None,
            out: np.ndarray,
        ) -> None:
            job.run(fused.run, x, weights, bias, residual, out)

        return windows.out_shape, run, fused.pack
    pool: Pool = maxima(result, windows)

    def run_both(
        x: np.ndarray, weights: Sequence[Product], bias: np.ndarray | None, residual: np.ndarray | None, out: np.ndarray
    ) -> None:
        middle = empty(shape, result)
        job.run(job.prepared.run, x, weights, bias, residual, middle)
        pool.run(function, middle, out)

    return windows.out_shape, run_both, job.prepared.pack
