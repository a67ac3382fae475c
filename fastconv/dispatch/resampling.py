"""Programs of interpolation and of unpooling without indices, cached while their tables are of a usual size."""

from __future__ import annotations

import math
from functools import lru_cache, reduce
from typing import Any, NamedTuple

import numpy as np

from fastconv.dispatch import load
from fastconv.dispatch.blocking_resample import Blocking, resample_blocking
from fastconv.geometry import taps
from fastconv.geometry.planes import three
from fastconv.geometry.resize import Resize
from fastconv.geometry.taps import Axis, Taps

# Table entries of a program, 16 bytes each, up to which some are kept, and up to which the last one is.
_USUAL, _LARGE = 1 << 19, 1 << 23
_REACH = {"linear": 2, "bilinear": 2, "trilinear": 2, "bicubic": 4, "area": 1}


class Problem(NamedTuple):
    """An interpolation of arrays (planes, *sizes, lanes).

    `element` is the type that is summed: float32 or float64; int32 for uint8 with weights of 15 bits; int64 for sums
    that are not yet divided. Of "nearest" modes it is the type of coordinates, and `bits` the elements that are moved.
    """

    resize: Resize
    planes: int
    lanes: int
    element: str
    bits: int


def program(problem: Problem) -> tuple[Any, float]:
    """Return the program and the seconds that it takes on one thread."""
    return _usual(problem) or _large(problem) or _build(problem)


@lru_cache(maxsize=32)
def _usual(problem: Problem) -> tuple[Any, float] | None:
    return _build(problem) if _entries(problem) <= _USUAL else None


@lru_cache(maxsize=1)
def _large(problem: Problem) -> tuple[Any, float] | None:
    return _build(problem) if _entries(problem) <= _LARGE else None


def _entries(problem: Problem) -> int:
    """Return about how many entries the tables have."""
    mode, axes, antialias = problem.resize
    if mode.startswith("nearest"):
        return sum(axis.out for axis in axes)
    wide = antialias or mode == "area"
    sizes = [_REACH[mode] * (axis.out + (axis.n if wide else 0)) for axis in axes]
    return math.prod(sizes[:-1]) + sizes[-1] * min(problem.lanes, 16)


def _build(problem: Problem) -> tuple[Any, float]:
    if problem.resize.mode.startswith("nearest"):
        return _nearest(problem)
    element = np.dtype(problem.element)
    axes = problem.resize.axes
    each = [tap_tables(problem.resize, axis, element) for axis in axes]
    return resampled(each, [axis.n for axis in axes], problem.planes, problem.lanes, element)


def resampled(each: list[Taps], sizes: list[int], planes: int, lanes: int, element: np.dtype) -> tuple[Any, float]:
    """Return the program that sums arrays (planes, *sizes, lanes) by the taps of each axis, and its seconds."""
    blocking = _cut(each, sizes, planes, lanes, element)
    bits = 8 * element.itemsize + (element.kind == "i")
    return load.load("resample:build")(bits, blocking), blocking.seconds


def _cut(each: list[Taps], sizes: list[int], planes: int, lanes: int, element: np.dtype) -> Blocking:
    if len(each) == 1:
        each, sizes = [taps.identity(1, element.type), *each], [1, *sizes]
    horizontal, W = each[-1], sizes[-1]
    vertical = reduce(
        lambda outer, inner: taps.product(outer, inner[0], inner[1]), zip(each[1:-1], sizes[1:-1], strict=True), each[0]
    )
    VL = load.target().lanes(8 * element.itemsize)
    return resample_blocking(element.itemsize, VL, planes, lanes, (math.prod(sizes[:-1]), W), vertical, horizontal)


class Sums(NamedTuple):
    """Products and additions of an interpolation: of all taps of an output at once, and of one axis after another."""

    whole: tuple[int, int]
    passes: tuple[int, int]
    seconds: float


def sums_of(problem: Problem) -> Sums:
    """Return what an interpolation that is no copy computes; products with a weight of 1 are counted too."""
    element, axes, count = np.dtype(problem.element), problem.resize.axes, problem.planes * problem.lanes
    each, sizes = [tap_tables(problem.resize, axis, element) for axis in axes], [axis.n for axis in axes]
    # Of nothing, the cut of one.
    b = _cut(each, sizes, max(problem.planes, 1), max(problem.lanes, 1), element)
    # Pairs of products and of sums; what is the identity takes none.
    along_w = 0 if each[-1].is_identity else len(each[-1].sources)
    if b.order == "after":
        rows = len(np.unique(b.slot_rows))
        passes = [(rows * along_w, rows * b.OW), (len(b.vertical.sources) * b.OW, b.OH * b.OW)]
    else:
        summed = 0 if b.order == "never" else len(b.vertical.sources)
        passes = [(summed * sizes[-1], b.OH * sizes[-1]), (b.OH * along_w, b.OH * b.OW)]
    products = sum(made for made, _ in passes)
    adds = sum(made - stored for made, stored in passes if made)
    whole, outputs = math.prod(len(table.sources) for table in each), b.OH * b.OW
    return Sums((count * whole, count * (whole - outputs)), (count * products, count * adds), b.seconds)


def tap_tables(resize: Resize, axis: Axis, element: np.dtype) -> Taps:
    """Return the taps of an axis, with weights of a type."""
    cubic = 4 if resize.mode == "bicubic" else 2
    real = element.type
    if resize.mode == "area":
        return taps.area(axis, real, divided=element.kind == "f")
    if element.kind == "i":
        return taps.fixed_point(axis, cubic, resize.antialias)
    if resize.antialias:
        return taps.antialiased(axis, cubic, real)
    return taps.cubic(axis, real) if cubic == 4 else taps.linear(axis, real)


def _nearest(problem: Problem) -> tuple[Any, float]:
    sizes = [axis.n for axis in problem.resize.axes]
    return copies(nearest_sources(problem.resize, problem.element), sizes, problem.planes, problem.lanes, problem.bits)


def nearest_sources(resize: Resize, element: str) -> list[np.ndarray]:
    """Return the input that each output of a "nearest" mode copies, along each axis."""
    mode, axes, _ = resize
    short = len(axes) == 2 and axes[0].out + axes[1].out <= 128
    return [taps.nearest(axis, mode == "nearest-exact", np.dtype(element).type, short) for axis in axes]


def copies(sources: list[np.ndarray], sizes: list[int], planes: int, lanes: int, bits: int) -> tuple[Any, float]:
    """Return the program that copies elements by their places along each axis, and its seconds."""
    all_sources = [np.zeros(1, np.int64)] * (3 - len(sources)) + sources
    built = load.load("nearest:build_nearest")(bits, planes, three(sizes), lanes, all_sources)
    return built, moving_seconds(planes * lanes * math.prod(map(len, sources)), bits // 8)


def moving_seconds(elements: int, itemsize: int) -> float:
    """Return about how long it takes to write so many elements that are hardly computed."""
    return elements * (0.1e-9 + 0.08e-9 * itemsize)


def repeats(bits: int, planes: int, sizes: tuple[int, ...], lanes: int, steps: tuple[int, ...]) -> Any:
    """Return the program that repeats elements `steps` times along D, H and W."""
    usual = sum(n * step for n, step in zip(sizes, steps, strict=True)) <= _USUAL
    return (_usual_repeats if usual else _repeats)(bits, planes, sizes, lanes, steps)


def _repeats(bits: int, planes: int, sizes: tuple[int, ...], lanes: int, steps: tuple[int, ...]) -> Any:
    sources = [np.arange(n * step) // step for n, step in zip(sizes, steps, strict=True)]
    return load.load("nearest:build_nearest")(bits, planes, sizes, lanes, sources)


_usual_repeats = lru_cache(maxsize=32)(_repeats)


@lru_cache(maxsize=128)
def nails(
    bits: int, planes: int, sizes: tuple[int, ...], lanes: int, steps: tuple[int, ...], firsts: tuple[int, ...]
) -> Any:
    """Return the program that stands elements `steps` apart on zeros along D, H and W, the first at `firsts`."""
    return load.load("nearest:build_nails")(bits, planes, sizes, lanes, steps, firsts)
