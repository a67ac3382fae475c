"""Calls inside a function that Numba compiled beside the same calls in Python."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import fastconv as fc
from fastconv.benchmarks.case import Case, draw


def calls() -> Iterator[Case]:
    """Yield layers from large to tiny, where what a call costs shows."""
    import numba

    from fastconv.integrations.numba import init

    # In a copy of the sources, which no installer told Numba about.
    init()

    def convolve(x: Any, weight: Any) -> Any:
        return fc.conv2d(x, weight, padding=1)

    def pool(x: Any) -> Any:
        return fc.max_pool2d(x, 2)

    for C, size in ((64, 56), (256, 14), (8, 16), (2, 8)):
        yield _case("conv2d 3x3 p1", convolve, numba.njit(convolve), draw(1, C, size, size), draw(C, C, 3, 3))
    for C, size in ((64, 112), (2, 8)):
        yield _case("max_pool2d 2x2", pool, numba.njit(pool), draw(1, C, size, size))


def _case(name: str, plain: Callable[..., Any], jitted: Callable[..., Any], *arrays: Any) -> Case:
    problem = "x".join(map(str, arrays[0].shape)) + " float32"
    rivals = {"plain": lambda: plain(*arrays)}
    return Case(name, problem, lambda: jitted(*arrays), rivals, 0.0, arrays[0].nbytes)
