"""Weighted sums of floating-point images on the kernels of the convolutions, and of all others as SciPy takes them.

The convolution kernels sum in the image's own type and fuse multiplications and additions. Their result stands where
all of it is finite; else, as where nothing is gained, the sums are taken again in double precision in SciPy's order: so
NaN, infinities and what overflows on the way are where SciPy has them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from fastconv.api.convolve import Options, convolve
from fastconv.ndimage.blocks import Taps, filtered, kernel_taps, line_taps
from fastconv.ndimage.windows import reduce_windows
from fastconv.signal.sums import sums_of_products
from fastconv.threads import run

# Below this many elements both ways take about the same time, and one kernel serves all types.
LEAST_ELEMENTS: Final = 1 << 15
# Weights of this size neither vanish nor overflow in float32.
_RANGE: Final = (1e-25, 1e25)
# With fewer elements behind an axis than fill a vector, a convolution along it has nothing to work on.
_LEAST_INNER: Final = 16
# A kernel of so few taps is faster as it is than as its factors.
_FEW_TAPS: Final = 9
# Elements that one thread looks at at once, and what each takes.
_BLOCK: Final = 1 << 16
_SECONDS: Final = 0.25e-9


class Pass(NamedTuple):
    """A correlation along one axis; `before` taps stand before the element that gets the result."""

    axis: int
    weights: np.ndarray
    before: int
    mode: str
    cval: float


class Mean(NamedTuple):
    """A running mean along one axis."""

    axis: int
    size: int
    before: int
    mode: str
    cval: float


def correlated(
    function: str, x: np.ndarray, dtype: np.dtype, weights: np.ndarray, befores: Sequence[int], mode: str, cval: float
) -> np.ndarray:
    """Return the correlation of x with a kernel of as many dimensions, float64; bool as uint8."""
    taps = kernel_taps(weights)
    if _is_fast(x, dtype, taps.weights, mode, cval):
        kernel = np.zeros(weights.size)
        kernel[taps.singles] = taps.weights
        out = _by_convolution(function, x, kernel.reshape(weights.shape), befores, mode, cval)
        if out is not None and _is_finite(out):
            return out
    return filtered("sum", x, dtype, weights.shape, befores, mode, cval, taps, safe=True)


def passed(function: str, x: np.ndarray, dtype: np.dtype, passes: Sequence[Pass]) -> np.ndarray:
    """Return x correlated along one axis after the other, each result cast to `dtype`; bool as uint8."""
    if all(_is_fast(x, dtype, p.weights, p.mode, p.cval) for p in passes):
        out = _passed_by_convolution(function, x, passes)
        if _is_finite(out):
            return out
    for p in passes:
        x = _exact_pass(x, dtype, p)
    return x


def summed(function: str, x: np.ndarray, dtype: np.dtype, passes: Sequence[Pass]) -> np.ndarray:
    """Return the sum of correlations of x, each along one axis and cast to `dtype`."""
    outsides = {(p.mode, p.cval) for p in passes}
    if len(outsides) == 1 and all(_is_fast(x, dtype, p.weights, p.mode, p.cval) for p in passes):
        kernel, befores = _sum_of_kernels(x.ndim, passes)
        out = _by_convolution(function, x, kernel, befores, *outsides.pop())
        if out is not None and _is_finite(out):
            return out
    out = _exact_pass(x, dtype, passes[0]).view(dtype)
    # Integers wrap, and a sum of truths is their disjunction.
    with np.errstate(all="ignore"):
        for p in passes[1:]:
            out += _exact_pass(x, dtype, p).view(dtype)
    return out


def _sum_of_kernels(ndim: int, passes: Sequence[Pass]) -> tuple[np.ndarray, list[int]]:
    sizes, befores = [1] * ndim, [0] * ndim
    for p in passes:
        sizes[p.axis], befores[p.axis] = len(p.weights), p.before
    kernel = np.zeros(sizes)
    for p in passes:
        line: list[int | slice] = list(befores)
        line[p.axis] = slice(None)
        kernel[tuple(line)] += p.weights
    return kernel, befores


def averaged(function: str, x: np.ndarray, dtype: np.dtype, means: Sequence[Mean]) -> np.ndarray:
    """Return running means along one axis after the other, each result cast to `dtype`; bool as uint8."""
    if all(_is_fast(x, dtype, np.zeros(0), m.mode, m.cval) for m in means):
        sizes, befores, modes = [1] * x.ndim, [0] * x.ndim, ["zeros"] * x.ndim
        for m in means:
            sizes[m.axis], befores[m.axis], modes[m.axis] = m.size, m.before, m.mode
        out = reduce_windows("mean", x, sizes, befores, modes, means[0].cval)
        if _is_finite(out):
            return out
    for m in means:
        sizes, befores = _line_sizes(x.ndim, m.axis, m.size, m.before)
        none = Taps(np.zeros(0, np.int64), np.zeros(0))
        x = filtered("mean", x, dtype, sizes, befores, m.mode, m.cval, none, axis=m.axis)
    return x


def _is_fast(x: np.ndarray, dtype: np.dtype, weights: np.ndarray, mode: str, cval: float) -> bool:
    """Return whether the convolution kernels may be tried."""
    if x.size < LEAST_ELEMENTS or x.dtype != dtype or dtype not in (np.float32, np.float64):
        return False
    sizes = np.abs(np.append(weights, cval if mode == "zeros" else 0.0))
    return bool(((sizes == 0) | ((sizes >= _RANGE[0]) & (sizes <= _RANGE[1]))).all())


def _is_finite(out: np.ndarray) -> bool:
    """Return whether all numbers are finite; if a sum of many of them overflows, the answer is no as well."""
    numbers, sums = out.reshape(-1), []

    def add(g: Any, io: Any, scratch: int, lo: int, hi: int) -> None:
        with np.errstate(all="ignore"):
            sums.append(float(numbers[lo * _BLOCK : hi * _BLOCK].sum()))

    run(add, None, None, -(-out.size // _BLOCK), 0, out.size * _SECONDS)
    return all(map(math.isfinite, sums))


def _exact_pass(x: np.ndarray, dtype: np.dtype, p: Pass) -> np.ndarray:
    sizes, befores = _line_sizes(x.ndim, p.axis, len(p.weights), p.before)
    return filtered("sum", x, dtype, sizes, befores, p.mode, p.cval, line_taps(p.weights))


def _line_sizes(ndim: int, axis: int, size: int, before: int) -> tuple[list[int], list[int]]:
    sizes, befores = [1] * ndim, [0] * ndim
    sizes[axis], befores[axis] = size, before
    return sizes, befores


def _by_convolution(
    function: str, x: np.ndarray, kernel: np.ndarray, befores: Sequence[int], mode: str, cval: float
) -> np.ndarray | None:
    """Return the correlation by the convolution kernels; None if they cannot, or have too little to work on."""
    shape, taps, pads = [1], [1], [(0, 0)]
    for n, k, before in zip(x.shape, kernel.shape, befores, strict=True):
        if k == 1 and taps[-1] == 1:
            shape[-1] *= n
        else:
            shape.append(n)
            taps.append(k)
            pads.append((before, k - 1 - before))
    if shape[0] == 1 and len(shape) > 1:
        shape, taps, pads = shape[1:], taps[1:], pads[1:]
    if len(shape) > 3 or (taps[-1] == 1 and shape[-1] < _LEAST_INNER):
        return None
    fill = x.dtype.type(cval) if mode == "zeros" and cval else None
    images = np.ascontiguousarray(x).reshape(shape)
    weights = kernel.reshape(taps).astype(x.dtype)
    return sums_of_products(function, images, weights, tuple(pads), mode, fill).reshape(x.shape)


def _passed_by_convolution(function: str, x: np.ndarray, passes: Sequence[Pass]) -> np.ndarray:
    """Return x after all passes: those along the last two axes at once, the others one by one."""
    last = {p.axis - x.ndim: p for p in passes if p.axis >= x.ndim - 2}
    together = len(last) == 2 and _fit_together(*last.values())
    for p in passes:
        if together and p.axis >= x.ndim - 2:
            continue
        sizes, befores = _line_sizes(x.ndim, p.axis, len(p.weights), p.before)
        found = _by_convolution(function, x, p.weights.reshape(sizes), befores, p.mode, p.cval)
        x = _exact_pass(x, x.dtype, p) if found is None else found
    return _two_at_once(function, x, last[-2], last[-1]) if together else x


def _fit_together(one: Pass, other: Pass) -> bool:
    return one.mode == other.mode and (one.mode != "zeros" or not one.cval)


def _two_at_once(function: str, x: np.ndarray, column: Pass, row: Pass) -> np.ndarray:
    if len(column.weights) * len(row.weights) <= _FEW_TAPS:
        sizes, befores = _line_sizes(x.ndim, x.ndim - 1, len(row.weights), row.before)
        sizes[-2], befores[-2] = len(column.weights), column.before
        kernel = np.outer(column.weights, row.weights).reshape(sizes)
        found = _by_convolution(function, x, kernel, befores, column.mode, 0.0)
        if found is not None:
            return found
    pads = tuple((p.before, len(p.weights) - 1 - p.before) for p in (column, row))
    factors = (column.weights[None].astype(x.dtype), row.weights[None].astype(x.dtype))
    with np.errstate(all="ignore"):
        weight = (factors[0].T * factors[1])[None, None]
    options = Options(padding=pads, padding_mode=column.mode, algorithm="separable")
    images = np.ascontiguousarray(x).reshape(-1, 1, *x.shape[-2:])
    return convolve(function, images, weight, None, options, factors=factors).reshape(x.shape)
