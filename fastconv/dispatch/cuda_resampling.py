"""Sums by tables of taps on the device: interpolation, folding, and the adjoints of what is linear along each axis."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from fastconv.dispatch.cuda import kernels
from fastconv.dispatch.pooling import Divisor
from fastconv.dispatch.resampling import nearest_sources, tap_tables
from fastconv.geometry import taps, windows
from fastconv.geometry.fold import Blocks
from fastconv.geometry.planes import three
from fastconv.geometry.resize import Resize
from fastconv.geometry.taps import Taps
from fastconv.geometry.windows import window_inputs

# Taps of all axes together from which they are taken one axis after the other.
MANY = 40


def resampled(
    stream: Any,
    kind: str,
    x: Any,
    target: Any,
    build: Callable[..., list[Taps]],
    arguments: tuple[Any, ...],
    limits: tuple[float, float] = (0, 0),
) -> None:
    """Fill `target` from x (P, D, H, W, L) by the taps ``build(*arguments, element)`` of its last axes.

    `kind` is that of kernels/cuda/resample.py. Tables are kept on the device.
    """
    if 0 not in target.shape and 0 not in x.shape:
        ready = _ready(build, arguments, x.strides[1:4], x.shape[4], kind, x.dtype.name)
        kernels("resample:run")(stream, kind, x, target, ready, limits)


@lru_cache(maxsize=64)
def _ready(
    build: Callable[..., list[Taps]],
    arguments: tuple[Any, ...],
    strides: tuple[int, ...],
    lanes: int,
    kind: str,
    element: str,
) -> list[Any]:
    """Return the tables of each pass."""
    dtype = np.dtype(element)
    found = build(*arguments, dtype)
    one = taps.identity(1, dtype.type)
    ready = []
    for axes in _passes([one] * (3 - len(found)) + found, kind):
        ready.append(kernels("resample:prepared")(axes, strides, element))
        _, H, W = (axis.out for axis in axes)
        strides = (H * W * lanes, W * lanes, lanes)
    return ready


def _passes(axes: list[Taps], kind: str) -> list[list[Taps]]:
    """Return the taps of each pass: of all axes together, or one axis after the other, from the last on."""
    most = [int(np.diff(axis.start).max(initial=0)) for axis in axes]
    work = [i for i, axis in enumerate(axes) if most[i] != 1 or not axis.is_identity]
    together = math.prod(most) <= MANY
    if len(work) < 2 or kind == "sum" or (together and kind != "fixed"):
        return [axes]
    # As many inputs as are seen.
    sizes = [int(axis.sources.max(initial=0)) + 1 for axis in axes]
    passes = []
    for axis in reversed(work):
        real = axes[axis].weights.dtype.type
        passes.append([taps.identity(n, real) if i != axis else axes[axis] for i, n in enumerate(sizes)])
        sizes[axis] = axes[axis].out
    return passes


def resize_taps(resize: Resize, element: np.dtype) -> list[Taps]:
    """Return the taps of an interpolation."""
    if resize.mode.startswith("nearest"):
        return [taps.gathered(sources, element.type) for sources in nearest_sources(resize, element.name)]
    return [tap_tables(resize, axis, element) for axis in resize.axes]


def resize_adjoint(resize: Resize, element: np.dtype) -> list[Taps]:
    """Return those of its adjoint."""
    return [adjoint(table, axis.n) for table, axis in zip(resize_taps(resize, element), resize.axes, strict=True)]


def repeats_adjoint(sizes: tuple[int, ...], steps: tuple[int, ...], element: np.dtype) -> list[Taps]:
    """Return the taps of sums over blocks of `steps` elements."""
    each = zip(sizes, steps, strict=True)
    return [adjoint(taps.gathered(np.arange(n * step) // step, element.type), n) for n, step in each]


def averages_adjoint(axes: tuple[windows.Axis, ...], divisor: Divisor, element: np.dtype) -> list[Taps]:
    """Return the taps of the adjoint of averages over windows without dilation."""
    found = []
    for i, axis in enumerate(axes):
        first, count = window_inputs(axis)
        by = np.ones(axis.out) if isinstance(divisor, int) else divisor[i].numbers()
        if i == 0 and isinstance(divisor, int):
            by = by * divisor
        start = np.concatenate([[0], np.cumsum(count)])
        sources = np.arange(start[-1]) + np.repeat(first - start[:-1], count)
        with np.errstate(divide="ignore"):
            weights = np.repeat(1 / by, count).astype(element)
        found.append(adjoint(Taps(start, sources, weights), axis.n))
    return found


def fold_taps(b: Blocks, element: np.dtype) -> list[Taps]:
    """Return the taps of folding; sources are elements of the columns (K, L) of a plane."""
    numbers = [b.numbers[i : i + 3] for i in range(0, 18, 3)]
    found = []
    for i, (n, out, kernel, stride, before, rate) in enumerate(zip(*numbers, strict=True)):
        offset = math.prod(numbers[2][i + 1 :]) * b.positions
        position = math.prod(numbers[1][i + 1 :])
        at, k = np.arange(n)[:, None] + before - np.arange(kernel) * rate, np.arange(kernel)
        o = at // stride
        hit = (at % stride == 0) & (o >= 0) & (o < out)
        sources = (k * offset + o * position)[hit]
        start = np.concatenate([[0], np.cumsum(hit.sum(1))])
        found.append(Taps(start, sources, np.ones(len(sources), element)))
    return found


def adjoint(table: Taps, n: int) -> Taps:
    """Return the taps of the adjoint, from outputs to n inputs, of which some may have none."""
    outputs = np.repeat(np.arange(table.out), np.diff(table.start))
    order = np.argsort(table.sources, kind="stable")
    counts = np.bincount(table.sources, minlength=n)
    return Taps(np.concatenate([[0], np.cumsum(counts)]), outputs[order], table.weights[order])


@lru_cache(maxsize=64)
def windows_over(axes: tuple[windows.Axis, ...]) -> Any:
    """Return (first, count) of the windows that may hold each input along D, H and W, on the device."""
    parts = [np.array([[0, 1]])] * (3 - len(axes))
    for axis in axes:
        o: Any = np.arange(axis.out, dtype=np.int64)
        start, reach, inputs = axis.start(o), axis.reach(o), np.arange(axis.n)
        first = np.searchsorted(reach, inputs, side="right")
        last = np.searchsorted(start, inputs, side="right")
        parts.append(np.stack([first, np.maximum(last - first, 0)], 1))
    return kernels("buffers:upload")(np.concatenate(parts).astype(np.uint32))


def outs_of(axes: tuple[windows.Axis, ...]) -> tuple[int, int, int]:
    """Return the outputs along D, H and W."""
    return three([axis.out for axis in axes])
