"""The definition of unpooling: one element after the other. Slow, obvious."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def max_unpool(x: np.ndarray, indices: np.ndarray, sizes: Sequence[int], duplicates: str = "last") -> np.ndarray:
    """Return (N, C, *sizes) of zeros and the elements of x (N, C, *S) at their flat indices."""
    out = np.zeros((*x.shape[:2], int(np.prod(sizes))), x.dtype)
    taken = np.zeros(out.shape, bool)
    for place in np.ndindex(x.shape):
        at, value = (*place[:2], indices[place]), x[place]
        if duplicates == "last" or not taken[at]:
            out[at] = value
        elif duplicates == "sum":
            out[at] += value
        elif value > out[at] or value != value:
            out[at] = value
        taken[at] = True
    return out.reshape(*x.shape[:2], *sizes)


def nearest_unpool(x: np.ndarray, factors: Sequence[int]) -> np.ndarray:
    """Return x (N, C, *S) with every element repeated along each axis."""
    for axis, factor in enumerate(factors, 2):
        x = np.repeat(x, factor, axis)
    return x


def bed_of_nails(x: np.ndarray, factors: Sequence[int], position: int = 0) -> np.ndarray:
    """Return zeros with the elements of x (N, C, *S) at a flat offset of each block."""
    out = np.zeros((*x.shape[:2], *(n * f for n, f in zip(x.shape[2:], factors, strict=True))), x.dtype)
    first = np.unravel_index(position, tuple(factors))
    out[:, :, *(slice(int(a), None, f) for a, f in zip(first, factors, strict=True))] = x
    return out
