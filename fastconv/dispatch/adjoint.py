"""Programs of adjoints: what sums or copies inputs along each axis, the other way round.

The adjoint of a resampling by tap tables is the resampling by the transposed tables. Where every input is part of at
most one sum, it only copies.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from fastconv.dispatch.resampling import copies, nearest_sources, resampled, tap_tables
from fastconv.geometry import taps, windows
from fastconv.geometry.resize import Resize
from fastconv.geometry.taps import Taps

# Inputs and outputs of all axes up to which programs are usual, and kept.
_USUAL = 1 << 16


class Adjoint(NamedTuple):
    """A program, io = (gradients of the result, gradients of the input), and the inputs of each axis that get none."""

    program: Any
    seconds: float
    unseen: tuple[np.ndarray, ...]


def windows_adjoint(axes: tuple[windows.Axis, ...], planes: int, lanes: int, element: str) -> Adjoint:
    """Return the adjoint of sums over the windows of arrays (planes, *n, lanes), windows without dilation."""
    build = _usual_windows if sum(axis.n + axis.out for axis in axes) <= _USUAL else _windows
    return build(axes, planes, lanes, element)


def _windows(axes: tuple[windows.Axis, ...], planes: int, lanes: int, element: str) -> Adjoint:
    return _built([_sums(axis, element) for axis in axes], [axis.n for axis in axes], planes, lanes, element)


_usual_windows = lru_cache(maxsize=64)(_windows)


def _sums(axis: windows.Axis, element: str) -> Taps:
    """Return the taps of sums over windows, cut off at the ends."""
    o: Any = np.arange(axis.out, dtype=np.int64)
    start, reach = np.maximum(axis.start(o), 0), np.minimum(axis.reach(o), axis.n)
    return taps.windows(start, reach, np.dtype(element).type)


def resize_adjoint(resize: Resize, planes: int, lanes: int, element: str) -> Adjoint:
    """Return the adjoint of an interpolation of arrays (planes, *n, lanes)."""
    build = _usual_resize if sum(axis.n + axis.out for axis in resize.axes) <= _USUAL else _resize
    return build(resize, planes, lanes, element)


def _resize(resize: Resize, planes: int, lanes: int, element: str) -> Adjoint:
    real = np.dtype(element)
    if resize.mode.startswith("nearest"):
        each = [taps.gathered(sources, real.type) for sources in nearest_sources(resize, element)]
    else:
        each = [tap_tables(resize, axis, real) for axis in resize.axes]
    return _built(each, [axis.n for axis in resize.axes], planes, lanes, element)


_usual_resize = lru_cache(maxsize=32)(_resize)


def repeats_adjoint(sizes: tuple[int, ...], steps: tuple[int, ...], planes: int, lanes: int, element: str) -> Adjoint:
    """Return the adjoint of repeating each element of arrays (planes, *sizes, lanes) `steps` times along each axis."""
    usual = sum(n * step for n, step in zip(sizes, steps, strict=True)) <= _USUAL
    return (_usual_repeats if usual else _repeats)(sizes, steps, planes, lanes, element)


def _repeats(sizes: tuple[int, ...], steps: tuple[int, ...], planes: int, lanes: int, element: str) -> Adjoint:
    real, along = np.dtype(element).type, zip(sizes, steps, strict=True)
    each = [taps.gathered(np.arange(n * step) // step, real) for n, step in along]
    return _built(each, list(sizes), planes, lanes, element)


_usual_repeats = lru_cache(maxsize=32)(_repeats)


def _built(each: list[Taps], sizes: list[int], planes: int, lanes: int, element: str) -> Adjoint:
    """Return the adjoint of sums by the taps of each axis, of which `sizes` are the inputs."""
    dtype = np.dtype(element)
    pairs = [taps.transposed(table, n) for table, n in zip(each, sizes, strict=True)]
    turned, unseen = [table for table, _ in pairs], tuple(places for _, places in pairs)
    outs = [table.out for table in each]
    if all(len(table.sources) == table.out for table in turned) and all((table.weights == 1).all() for table in each):
        copied = copies([table.sources for table in turned], outs, planes, lanes, 8 * dtype.itemsize + 1)
        return Adjoint(*copied, unseen)
    return Adjoint(*resampled(turned, outs, planes, lanes, dtype), unseen)
