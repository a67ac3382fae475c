"""Pools: what is drawn, and the definition, window after window."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

import fastconv as fc
from fastconv.errors import FastconvError
from fastconv.geometry.pool import adaptive_geometry, global_geometry, pool_geometry
from fastconv.kernels.reference import pool as definition
from fastconv.testing.fuzz.case import Case
from fastconv.testing.fuzz.draw import FLOATS, INTEGERS, LAYOUTS, Draw, in_layout, layout_option
from fastconv.testing.fuzz.wanted import Family, Wanted

DTYPES = (*FLOATS, *INTEGERS, "bfloat16")
_IMAGE = {1: 300, 2: 34, 3: 12}
_KERNEL = {1: (1, 2, 2, 3, 3, 4, 5, 8, 17, 31), 2: (1, 2, 2, 2, 3, 3, 3, 4, 5, 7, 11), 3: (1, 2, 2, 3, 4)}
# The definition goes through outputs one by one.
_OUTPUTS, _MANY = 300, 3000
_NORMS = (1, 2, 2, 3, 0.5, 2.5, -1.0, math.inf, -math.inf)


def axes_of(op: str, ndim: int) -> int:
    """Return the number of spatial axes of an operation on an array."""
    return int(op[-2]) if op[-1] == "d" else ndim - 2


def draw(d: Draw, op: str) -> Case:
    """Return a case of a pool."""
    most = _MANY if d.chance(0.02) else _OUTPUTS
    while True:
        arguments = _arguments(d, op)
        try:
            shape = out_shape(op, arguments)
        except FastconvError:
            continue
        plane = math.prod(shape) // max(math.prod(arguments["input"].shape[:1]), 1)
        if 0 not in shape[1:] and plane <= most * 8 and math.prod(shape) < 60 * most:
            break
    case = d.case(op, arguments)
    kind = arguments["input"].dtype
    result = "float32" if op.startswith("lp") and "int" in kind else kind
    return case.replaced(**d.out(result, shape, {"input": arguments["input"]} if result == kind else {}))


def _arguments(d: Draw, op: str) -> dict[str, Any]:
    axes = int(op[-2]) if op[-1] == "d" else d.one((1, 2, 2, 3))
    dtype, layout = d.dtype(DTYPES), d.one(LAYOUTS)
    batched = op.startswith("global") or not d.chance(0.15)
    sizes = tuple(d.size(_IMAGE[axes]) for _ in range(axes))
    N = 0 if d.chance(0.03) and batched else d.one((1, 1, 2, 3))
    data = d.data(dtype) if not op.startswith("lp") else d.one(("integers", "positive", "positive", "normal"))
    data = {"extreme": "normal"}.get(data, data) if "avg" in op else data
    x = d.array(dtype, in_layout((N, d.size(33), *sizes), layout, batched), data)
    found: dict[str, Any] = {"input": x}
    if op.startswith("adaptive"):
        outs = tuple(None if d.chance(0.1) else d.integer(1, n + 2) for n in sizes)
        found["output_size"] = outs if d.chance(0.8) else outs[:1]
    elif not op.startswith("global"):
        found |= _windows(d, op, axes)
    elif d.chance(0.3):
        found["keepdims"] = False
    if "max" in op and op[-1] == "d" and d.chance(0.5):
        found["return_indices"] = True
    return found | layout_option(layout)


def _windows(d: Draw, op: str, axes: int) -> dict[str, Any]:
    kernel = d.each(axes, _KERNEL[axes])
    found: dict[str, Any] = {"norm_type": d.one(_NORMS)} if op.startswith("lp") else {}
    found["kernel_size"] = d.form(kernel)
    if d.chance(0.75):
        found["stride"] = d.form(d.each(axes, (1, 1, 2, 2, 3, 4)))
    rates = d.each(axes, (1, 1, 1, 2, 3)) if op.startswith("max") else (1,) * axes
    if set(rates) != {1}:
        found["dilation"] = d.form(rates)
    most = [(r * (k - 1) + 1) // 2 for k, r in zip(kernel, rates, strict=True)]
    if not op.startswith("lp") and d.chance(0.6):
        found["padding"] = _padding(d, most)
    if d.chance(0.3):
        found["ceil_mode"] = True
    if op.startswith("avg"):
        found |= {"count_include_pad": False} if d.chance(0.4) else {}
        found |= {"divisor_override": d.one((-3, 2, 7))} if d.chance(0.2) else {}
    return found


def _padding(d: Draw, most: list[int]) -> Any:
    form = d.integer(0, 3)
    if form == 0:
        return d.one(("valid", "same", "same_lower"))
    if form == 1:
        return d.integer(0, min(most))
    before, after = ([d.integer(0, n) for n in most] for _ in range(2))
    return tuple(before) if form == 2 else tuple(zip(before, after, strict=True))


def out_shape(op: str, a: dict[str, Any]) -> tuple[int, ...]:
    """Return the shape of the result."""
    layout, shape = a.get("layout", "channels_first"), a["input"].shape
    if op.startswith("global"):
        return global_geometry(op, shape, layout, a.get("keepdims", True)).out_shape
    axes = axes_of(op, len(shape))
    if op.startswith("adaptive"):
        return adaptive_geometry(op, axes, shape, a["output_size"], layout).out_shape
    names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
    return pool_geometry(op, axes, shape, **{name: a[name] for name in names if name in a}, layout=layout).out_shape


def first(x: np.ndarray, axes: int, layout: str) -> np.ndarray:
    """Return an array in channels_first, (planes, *sizes)."""
    x = x if layout == "channels_first" else np.moveaxis(x, -1, x.ndim - 1 - axes)
    return x.reshape(-1, *x.shape[x.ndim - axes :])


def back(planes: np.ndarray, like: tuple[int, ...], axes: int, layout: str) -> np.ndarray:
    """Return (planes, *sizes) in a layout, with the leading axes of an input of shape `like`."""
    lead = like[: len(like) - axes] if layout == "channels_first" else (*like[: len(like) - 1 - axes], like[-1])
    x = planes.reshape(*lead, *planes.shape[1:])
    return np.ascontiguousarray(x if layout == "channels_first" else np.moveaxis(x, len(lead) - 1, -1))


def each(value: Any, axes: int) -> list[Any]:
    """Return one value for each axis."""
    items = list(value) if isinstance(value, (tuple, list)) else [value]
    return items if len(items) == axes else items * axes


def pairs(
    padding: Any, sizes: Sequence[int], kernel: Sequence[int], stride: Sequence[int], rates: Sequence[int]
) -> list[Any]:
    """Return (before, after) of each axis; with "same" so many windows start inside as strides do."""
    if not isinstance(padding, str):
        return [item if isinstance(item, tuple) else (item, item) for item in each(padding, len(sizes))]
    found = []
    for n, k, s, r in zip(sizes, kernel, stride, rates, strict=True):
        total = max(0, (-(-n // s) - 1) * s + r * (k - 1) + 1 - n) if padding != "valid" else 0
        small, large = total // 2, total - total // 2
        found.append((large, small) if padding == "same_lower" else (small, large))
    return found


def windows(op: str, a: dict[str, Any], sizes: Sequence[int]) -> tuple[list[Any], list[np.ndarray]]:
    """Return the inputs that each output sees along each axis, and how many an average counts."""
    axes = len(sizes)
    if op.startswith(("adaptive", "global")):
        given = each(a.get("output_size", 1), axes)
        taps = [definition.adaptive(n, n if out is None else out) for n, out in zip(sizes, given, strict=True)]
        return taps, [np.array([len(window) for window in found], np.int64) for found in taps]
    kernel, rates = each(a["kernel_size"], axes), each(a.get("dilation", 1), axes)
    stride = each(a["stride"], axes) if "stride" in a else kernel
    found, counts = [], []
    pads = pairs(a.get("padding", 0), sizes, kernel, stride, rates)
    for n, k, s, r, (before, after) in zip(sizes, kernel, stride, rates, pads, strict=True):
        reach = r * (k - 1) + 1
        if a.get("ceil_mode"):
            starts = [i for i in range(-before, n, s) if i - s + reach < n + after]
        else:
            starts = list(range(-before, n + after - reach + 1, s))
        low, high = (-before, n + after) if a.get("count_include_pad", True) else (0, n)
        found.append([[i + j * r for j in range(k)] for i in starts])
        counts.append(np.array([sum(low <= i < high for i in window) for window in found[-1]], np.int64))
    return found, counts


def largest(values: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """Return where in the plane the first maximum of each window is, or the last NaN; -1 in none."""
    if not len(indices):
        return np.full(len(values), -1)
    nans = values != values
    last = nans.shape[1] - 1 - np.argmax(nans[:, ::-1], 1)
    wide = np.where(nans, -np.inf, values.astype(np.float64)) if values.dtype.kind in "fV" else values
    return np.asarray(indices[np.where(nans.any(1), last, np.argmax(wide, 1))])


def maxima(x: np.ndarray, taps: list[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Return maxima of planes and their flat indices; of windows that hold nothing the least value, and -1."""
    at = definition.pool(x, taps, largest).astype(np.int64)
    flat, places = x.reshape(len(x), -1), at.reshape(len(x), -1)
    values = np.take_along_axis(flat, np.maximum(places, 0), 1).reshape(at.shape)
    least = np.iinfo(x.dtype).min if x.dtype.kind in "iu" else -np.inf
    return np.where(at < 0, np.asarray(least).astype(x.dtype), values), at


def expect(op: str, a: dict[str, Any]) -> list[Wanted]:
    """Return the result by the definition."""
    x, layout = a["input"], a.get("layout", "channels_first")
    axes = axes_of(op, x.ndim)
    shape, planes = out_shape(op, a), first(x, axes, layout)
    if not len(planes):
        result = np.dtype("float32") if op.startswith("lp") and x.dtype.kind in "iu" else x.dtype
        empty = Wanted(np.zeros(shape, result))
        return [empty, Wanted(np.zeros(shape, np.int64))] if a.get("return_indices") else [empty]
    taps, counts = windows(op, a, planes.shape[1:])

    def placed(values: np.ndarray) -> np.ndarray:
        return back(values, x.shape, axes, layout).reshape(shape)

    if "max" in op:
        values, at = maxima(planes, taps)
        results = [Wanted(placed(values))]
        return [*results, Wanted(placed(at), free=placed(at < 0))] if a.get("return_indices") else results
    if op.startswith("lp"):
        return [_norms(a, planes, taps, counts, placed)]
    return [_averages(planes, taps, divisors(a, counts), placed)]


def divisors(a: dict[str, Any], counts: list[np.ndarray]) -> np.ndarray:
    """Return what each window's sum is divided by."""
    by = counts[0]
    for more in counts[1:]:
        by = np.multiply.outer(by, more)
    return np.full_like(by, a["divisor_override"]) if "divisor_override" in a else by


def sums(planes: np.ndarray, taps: list[Any], dtype: Any) -> np.ndarray:
    """Return the sums over windows in a dtype."""
    return definition.pool(planes.astype(dtype), taps, lambda values, _: values.sum(1))


def _averages(planes: np.ndarray, taps: list[Any], by: np.ndarray, placed: Any) -> Wanted:
    if planes.dtype.kind in "iu":
        total = sums(planes, taps, np.int64)
        with np.errstate(divide="ignore"):
            value = np.sign(total) * np.sign(by) * (np.abs(total) // np.abs(by))
        huge = sums(np.abs(planes.astype(np.float64)), taps, np.float64) > 2.0**62
        return Wanted(placed(value.astype(planes.dtype)), free=placed(huge | (by == 0)))
    with np.errstate(all="ignore"):
        value = sums(planes, taps, np.float64) / by
        size = sums(np.abs(planes.astype(np.float64)), taps, np.float64) / np.abs(by)
    return _rounded(planes.dtype, value, size, max(map(len, taps[-1])) ** len(taps), placed)


def _rounded(dtype: np.dtype, value: np.ndarray, size: np.ndarray, terms: int, placed: Any) -> Wanted:
    """Return what is wanted of sums in single or double precision that are rounded to a dtype."""
    work = 2.0**-53 if dtype == np.float64 else 2.0**-24
    own = {"float16": 2.0**-11, "bfloat16": 2.0**-8}.get(dtype.name, work)
    clean = (np.nan_to_num(v, posinf=0, neginf=0) for v in (size, np.abs(value)))
    bound = 2 * (terms + 4) * work * next(clean) + 2 * own * next(clean)
    with np.errstate(all="ignore"):
        free = np.isfinite(value) & (np.abs(value) > 6.5e4) if dtype.name == "float16" else np.zeros(value.shape, bool)
    return Wanted(placed(value), dtype, placed(bound + (6e-8 if dtype.itemsize == 2 else 0)), placed(free))


def _norms(a: dict[str, Any], planes: np.ndarray, taps: list[Any], counts: list[np.ndarray], placed: Any) -> Wanted:
    """Return PyTorch's norm: the average of the powers times the size of a window, and its root."""
    p, kind = a["norm_type"], planes.dtype.kind
    dtype = np.dtype("float32") if kind in "iu" else planes.dtype
    x = planes.astype(np.float64)
    terms = math.prod(each(a["kernel_size"], len(taps)))
    if math.isinf(p):
        reduce = np.max if p > 0 else np.min
        value = definition.pool(np.abs(x), taps, lambda values, _: reduce(values, 1))
        return _rounded(dtype, value, np.abs(value), 1, placed)
    whole = kind in "iu" and isinstance(p, int)
    with np.errstate(all="ignore"):
        powers = np.abs(x) ** p if p in (2,) else x**p
        mean = sums(powers, taps, np.float64) / divisors({}, counts)
        size = sums(np.abs(powers), taps, np.float64) / divisors({}, counts)
        mean = np.trunc(mean) if whole else mean
        value = (mean * terms) ** (1 / p)
        # What cancels, or lies near the root's pole, has few digits.
        lost = ~(np.abs(mean) > 1e-3 * size) & (size > 0)
        bound = np.abs(value) * (2e-4 if dtype != np.float64 else 1e-10) * (1 + abs(1 / p))
    bound = np.nan_to_num(bound, posinf=0) + (
        6e-3 * np.abs(np.nan_to_num(value, posinf=0)) if dtype.itemsize == 2 else 0
    )
    huge = np.isfinite(value) & (np.abs(value) > 6e4) if dtype == np.float16 else False
    return Wanted(placed(value), dtype, placed(bound), placed(lost | huge))


def call(op: str, a: dict[str, Any]) -> Any:
    """Call an operation."""
    return getattr(fc, op)(**a)


def names(*stems: str) -> tuple[str, ...]:
    """Return the names of operations of one to three axes."""
    return tuple(f"{stem}{axes}d" for stem in stems for axes in (1, 2, 3))


OPS = names("max_pool", "avg_pool", "lp_pool", "adaptive_max_pool", "adaptive_avg_pool")
FAMILY = Family((*OPS, "global_avg_pool", "global_max_pool"), draw, expect, call)
