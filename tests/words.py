"""What tests of convolutions of bytes share: the path by dot products, forced, and drawn bytes with their extremes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import numpy as np
from numba.core import config

from fastconv.api import convolve as calls
from fastconv.dispatch import choose, load, plan
from fastconv.kernels.cpu import target

SIGNS = [(x, w) for x in ("int8", "uint8") for w in ("int8", "uint8")]
# With the JIT off the twins of the dot products run on every CPU.
AVAILABLE = load.target().dots or bool(config.DISABLE_JIT)


@contextmanager
def forced(tiles: Any = ((3, 2),)) -> Iterator[None]:
    """Let every convolution of bytes with two channels or more run by dot products, in these register tiles."""
    with_dots = load.target()._replace(dots=True)
    if tiles:
        with_dots = with_dots._replace(outer_tiles=tiles)

    def in_bytes(function: str, g: Any, dtypes: tuple[str, str], *_: Any) -> Any:
        return g._replace(dtype=dtypes[0], weight_dtype=dtypes[1]) if g.ICG > 1 else g

    memories = (calls._seen.clear, choose.choose.cache_clear, plan.prepare.cache_clear)
    patches = [
        mock.patch.object(load, "target", return_value=with_dots),
        mock.patch.object(target, "current", return_value=with_dots),
        mock.patch.object(calls, "in_bytes", in_bytes),
    ]
    try:
        with patches[0], patches[1], patches[2]:
            for forget in memories:
                forget()
            yield
    finally:
        for forget in memories:
            forget()


def drawn(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Return integers over the whole range of a dtype, a third of them its ends."""
    ends = np.iinfo(dtype)
    values = rng.integers(ends.min, ends.max + 1, shape).astype(dtype)
    return np.where(rng.random(shape) < 1 / 3, rng.choice([ends.min, ends.max], shape), values).astype(dtype)
