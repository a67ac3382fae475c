"""The definitions of the filters of images: every window of the padded array. Slow, obvious, in float64."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

# NumPy's names of the padding modes.
_MODES = {"zeros": "constant", "replicate": "edge", "circular": "wrap", "reflect": "reflect", "symmetric": "symmetric"}


def windows(x: np.ndarray, sizes: Sequence[int], befores: Sequence[int], mode: str, cval: float = 0.0) -> np.ndarray:
    """Return the window around each element, of shape (*x.shape, *sizes); `befores` of each axis stand before it."""
    pads = [(before, size - 1 - before) for size, before in zip(sizes, befores, strict=True)]
    fill: dict[str, Any] = {"constant_values": cval} if mode == "zeros" else {}
    padded = np.pad(x.astype(np.float64), pads, mode=_MODES[mode], **fill)  # type: ignore[call-overload]
    return np.lib.stride_tricks.sliding_window_view(padded, tuple(sizes))


def correlate(x: np.ndarray, weights: np.ndarray, befores: Sequence[int], mode: str, cval: float = 0.0) -> np.ndarray:
    """Return ``out[m] = sum over k of x[m + k - before] * weights[k]`` along every axis."""
    return np.tensordot(windows(x, weights.shape, befores, mode, cval), weights, x.ndim)


def reduce_windows(
    reduce: Callable[..., Any],
    x: np.ndarray,
    footprint: np.ndarray,
    befores: Sequence[int],
    mode: str,
    cval: float = 0.0,
) -> np.ndarray:
    """Return a reduction, such as `numpy.max` or `numpy.mean`, over the elements of a footprint around each element."""
    return np.asarray(reduce(windows(x, footprint.shape, befores, mode, cval)[..., footprint], axis=-1))
