"""A case of a benchmark of operations, and its data."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

Call = Callable[[], Any]
LAYOUTS = ("channels_first", "channels_last")


class Work(NamedTuple):
    """Multiply-adds of an operation in its plainest form, and how many multiplications ours saves of these."""

    macs: int
    saved: int


class Case(NamedTuple):
    """One operation on drawn data; `rivals` are names and calls. Results are arrays, or tuples of them."""

    name: str
    problem: str
    ours: Call
    rivals: dict[str, Call]
    tolerance: float
    input_bytes: int
    ops: Work | None = None


def installed(package: str) -> bool:
    """Return whether a package is installed."""
    return importlib.util.find_spec(package) is not None


def draw(*shape: int) -> np.ndarray:
    """Return normal deviates."""
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def arranged(x: np.ndarray, layout: str) -> tuple[np.ndarray, Any]:
    """Return an array (N, C, H, W) in a layout, and as PyTorch's tensor (N, C, H, W) in the same memory, or None."""
    array = x if layout == "channels_first" else np.ascontiguousarray(np.moveaxis(x, 1, -1))
    if not installed("torch"):
        return array, None
    import torch

    tensor = torch.from_numpy(array)
    return array, tensor if layout == "channels_first" else tensor.movedim(-1, 1)
