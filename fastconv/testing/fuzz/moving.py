"""Unpooling, interpolation, unfolding and folding: what is drawn, and the definitions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import fastconv as fc
from fastconv.kernels.reference import fold as folding
from fastconv.kernels.reference import resize as resizing
from fastconv.kernels.reference import unpool as unpooling
from fastconv.testing.fuzz.case import Case
from fastconv.testing.fuzz.draw import COMPLEX, FLOATS, INTEGERS, LAYOUTS, Draw, in_layout, layout_option
from fastconv.testing.fuzz.pools import each, names
from fastconv.testing.fuzz.wanted import Family, Wanted

DTYPES = (*FLOATS, *INTEGERS, *COMPLEX, "bfloat16")
_IMAGE = {1: 200, 2: 34, 3: 11}
_CHANNELS = (1, 1, 2, 3, 5, 8, 9, 16, 17, 33)
MODES = {
    1: ("nearest", "nearest-exact", "linear", "area"),
    2: ("nearest", "nearest-exact", "bilinear", "bicubic", "area"),
    3: ("nearest", "nearest-exact", "trilinear", "area"),
}
# The definition of max_unpool goes through elements one by one.
_ELEMENTS = {"max_unpool": 2000}


def draw(d: Draw, op: str) -> Case:
    """Return a case of an operation."""
    axes = d.one((2, 2, 3)) if "fold" in op else int(op[-2]) if has_axes(op) else d.one((1, 2, 2, 3))
    dtype, layout = d.dtype(DTYPES), d.one(LAYOUTS)
    batched = op == "interpolate" or not d.chance(0.15)
    sizes = tuple(d.size(_IMAGE[axes]) for _ in range(axes))
    N, C = (0 if d.chance(0.03) and batched else d.one((1, 1, 2, 3))), d.one(_CHANNELS)
    N = N if batched else 1
    while N * C * math.prod(sizes) > _ELEMENTS.get(op[:10], 40000):
        C, sizes = (C + 1) // 2, tuple((n + 1) // 2 for n in sizes)
    shape = (N, C, *sizes)
    arguments, out = _DRAW[op.rstrip("123d") if has_axes(op) else op](d, dtype, shape, layout, batched)
    case = d.case(op, arguments | layout_option(layout))
    return case.replaced(**d.out(dtype, out, {"input": arguments["input"]}))


def _max_unpool(d: Draw, dtype: str, shape: Any, layout: str, batched: bool) -> tuple[dict[str, Any], tuple[int, ...]]:
    axes = len(shape) - 2
    kernel, stride = (d.each(axes, (1, 2, 2, 3)) for _ in range(2))
    sizes = tuple((n - 1) * s + k for n, k, s in zip(shape[2:], kernel, stride, strict=True))
    places, given = math.prod(sizes), in_layout(shape, layout, batched)
    rules = ("last", "max", "sum", "error")
    duplicates = d.one(rules if "complex" not in dtype else ("last", "sum", "error"))
    once = layout == "channels_first" and batched and places >= math.prod(shape[2:])
    if duplicates == "error" and not once:
        duplicates = "last"
    data = d.data(dtype)
    data = data if data not in ("normal", "extreme", "special") or duplicates != "sum" else "integers"
    order = duplicates == "error" or (once and d.chance(0.5))
    index_type = d.one(("int64", "int64", "int32"))
    x = d.array(dtype, given, data)
    indices = d.array(index_type, given, f"order:{places}" if order else f"below:{places}")
    if order and indices.memory == "broadcast":
        indices = indices._replace(memory="plain")
    found: dict[str, Any] = {"input": x, "indices": indices, "kernel_size": d.form(kernel), "stride": d.form(stride)}
    found |= {} if duplicates == "last" else {"duplicates": duplicates}
    return found, in_layout((*shape[:2], *sizes), layout, batched)


def _nearest_unpool(
    d: Draw, dtype: str, shape: Any, layout: str, batched: bool
) -> tuple[dict[str, Any], tuple[int, ...]]:
    factors = d.each(len(shape) - 2, (1, 2, 2, 3, 4, 19))
    # What a large factor takes along two axes is not worth its memory.
    factors = factors if math.prod(factors) <= 76 else (2,) * len(factors)
    sizes = tuple(n * f for n, f in zip(shape[2:], factors, strict=True))
    x = d.array(dtype, in_layout(shape, layout, batched), d.data(dtype))
    return {"input": x, "scale_factor": d.form(factors)}, in_layout((*shape[:2], *sizes), layout, batched)


def _bed_of_nails(
    d: Draw, dtype: str, shape: Any, layout: str, batched: bool
) -> tuple[dict[str, Any], tuple[int, ...]]:
    factors = d.each(len(shape) - 2, (1, 2, 2, 3))
    sizes = tuple(n * f for n, f in zip(shape[2:], factors, strict=True))
    x = d.array(dtype, in_layout(shape, layout, batched), d.data(dtype))
    position = d.integer(0, math.prod(factors) - 1)
    found = {"input": x, "scale_factor": d.form(factors)} | ({"position": position} if position else {})
    return found, in_layout((*shape[:2], *sizes), layout, batched)


def _blocks(d: Draw, sizes: tuple[int, ...]) -> tuple[dict[str, Any], int]:
    """Draw blocks that have a position, and return how many positions they have."""
    axes = len(sizes)
    kernel, rates, stride = d.each(axes, (1, 2, 2, 3)), d.each(axes, (1, 1, 2, 3)), d.each(axes, (1, 1, 2, 3))
    pads, count = [], 1
    for n, k, r, s in zip(sizes, kernel, rates, stride, strict=True):
        before, after = d.integer(0, 3), d.integer(0, 3)
        reach = r * (k - 1) + 1
        after += max(0, reach - n - before - after)
        pads.append((before, after))
        count *= (n + before + after - reach) // s + 1
    found: dict[str, Any] = {"kernel_size": kernel, "dilation": d.form(rates), "padding": tuple(pads)}
    return found | {"stride": d.form(stride)}, count


def _unfold(d: Draw, dtype: str, shape: Any, layout: str, batched: bool) -> tuple[dict[str, Any], tuple[int, ...]]:
    found, count = _blocks(d, shape[2:])
    x = d.array(dtype, in_layout(shape, layout, batched), d.data(dtype))
    rows = shape[1] * math.prod(found["kernel_size"])
    return {"input": x} | found, ((shape[0],) if batched else ()) + (rows, count)


def _fold(d: Draw, dtype: str, shape: Any, layout: str, batched: bool) -> tuple[dict[str, Any], tuple[int, ...]]:
    found, count = _blocks(d, shape[2:])
    rows = shape[1] * math.prod(found["kernel_size"])
    x = d.array(dtype, ((shape[0],) if batched else ()) + (rows, count), d.data(dtype))
    return {"input": x, "output_size": shape[2:]} | found, in_layout(shape, layout, batched)


def _has_ties(n: int, out: int) -> bool:
    """Tell whether a centre falls on the border of two inputs, so that rounding says which is nearer."""
    rounded = (out // math.gcd(n, out)).bit_count() > 1
    return rounded and any((2 * o + 1) * n % (2 * out) == 0 for o in range(out))


def _interpolate(d: Draw, dtype: str, shape: Any, layout: str, batched: bool) -> tuple[dict[str, Any], tuple[int, ...]]:
    mode = d.one(MODES[len(shape) - 2])
    data = d.data(dtype)
    data = {"extreme": "normal"}.get(data, data) if not mode.startswith("nearest") else data
    if not mode.startswith("nearest") and dtype in ("int64", "uint32", "int32") and data == "full":
        data = "integers"
    found: dict[str, Any] = {"input": d.array(dtype, in_layout(shape, layout), data)}
    if d.chance(0.3):
        scale = d.one((2, 3, 1.5, 0.5, 1))
        outs = tuple(max(int(n * scale), 1) for n in shape[2:])
        found["scale_factor"] = scale if min(shape[2:]) * scale >= 1 else 2
        outs = outs if found["scale_factor"] == scale else tuple(2 * n for n in shape[2:])
    else:
        outs = tuple(d.integer(1, 2 * n + 2) for n in shape[2:])
        found["size"] = outs if d.chance(0.9) else outs[0]
        outs = outs if found["size"] == outs else outs[:1] * len(outs)
    if mode == "nearest-exact" and "size" in found and any(map(_has_ties, shape[2:], outs)):
        mode = "nearest"
    found |= {"mode": mode} if mode != "nearest" else {}
    if "scale_factor" not in found and mode in ("bilinear", "bicubic") and d.chance(0.3):
        found["antialias"] = True
    elif mode.endswith("linear") and d.chance(0.3):
        found["align_corners"] = True
    return found, in_layout((*shape[:2], *outs), layout)


_DRAW = {
    "max_unpool": _max_unpool,
    "nearest_unpool": _nearest_unpool,
    "bed_of_nails_unpool": _bed_of_nails,
    "unfold": _unfold,
    "fold": _fold,
    "interpolate": _interpolate,
}


def batched_first(x: np.ndarray, axes: int, layout: str) -> np.ndarray:
    """Return an array in channels_first with a batch."""
    x = x if x.ndim == axes + 2 else x[None]
    return x if layout == "channels_first" else np.moveaxis(x, -1, 1)


def placed(x: np.ndarray, batched: bool, layout: str) -> np.ndarray:
    """Return an array (N, C, *S) in a layout, with or without its batch."""
    x = np.ascontiguousarray(x if layout == "channels_first" else np.moveaxis(x, 1, -1))
    return x if batched else x[0]


def expect(op: str, a: dict[str, Any]) -> list[Wanted]:
    """Return the result by the definition."""
    x, layout = a["input"], a.get("layout", "channels_first")
    if op == "fold":
        columns = x if x.ndim == 3 else x[None]
        sums = columns.astype(np.float64) if x.dtype.kind in "fV" else columns
        value = folding.fold(sums, a["output_size"], *blocks_of(a))
        size = folding.fold(np.abs(columns).astype(np.float64), a["output_size"], *blocks_of(a))
        value, size = (placed(v, x.ndim == 3, layout) for v in (value, size))
        return [_summed(x.dtype, value, size, _taps(a), bool(np.isfinite(sums).all()))]
    axes = len(a["kernel_size"]) if op == "unfold" else int(op[-2]) if has_axes(op) else x.ndim - 2
    batched, first = x.ndim == axes + 2, batched_first(x, axes, layout)
    if op == "unfold":
        value = folding.unfold(first, *blocks_of(a))
        return [Wanted(value if batched else value[0])]
    if op == "interpolate":
        return [_resized(a, first, layout)]
    if op.startswith("nearest"):
        return [Wanted(placed(unpooling.nearest_unpool(first, each(a["scale_factor"], axes)), batched, layout))]
    if op.startswith("bed"):
        factors = each(a["scale_factor"], axes)
        return [Wanted(placed(unpooling.bed_of_nails(first, factors, a.get("position", 0)), batched, layout))]
    indices = batched_first(a["indices"], axes, layout)
    kernel = each(a["kernel_size"], axes)
    stride = each(a.get("stride", kernel), axes)
    sizes = [(n - 1) * s + k for n, k, s in zip(first.shape[2:], kernel, stride, strict=True)]
    rule = a.get("duplicates", "last")
    value = unpooling.max_unpool(first, indices, sizes, "last" if rule == "error" else rule)
    return [Wanted(placed(value, batched, layout))]


def has_axes(op: str) -> bool:
    """Tell whether an operation's name says how many axes there are."""
    return op[-2:] in ("1d", "2d", "3d")


def blocks_of(a: dict[str, Any]) -> tuple[Any, ...]:
    """Return the kernel, dilation, padding in pairs, and stride of blocks."""
    axes = len(a["kernel_size"])
    rates, stride = (each(a.get(name, 1), axes) for name in ("dilation", "stride"))
    return a["kernel_size"], rates, a.get("padding", ((0, 0),) * axes), stride


def _taps(a: dict[str, Any]) -> int:
    return math.prod(a["kernel_size"])


def _summed(dtype: np.dtype, value: np.ndarray, size: np.ndarray, terms: int, finite: bool) -> Wanted:
    if dtype.kind in "iu":
        return Wanted(value.astype(dtype))
    wide = dtype in (np.float64, np.complex128)
    work, own = 2.0**-53 if wide else 2.0**-24, {"float16": 2.0**-11, "bfloat16": 2.0**-8}.get(dtype.name, 0)
    with np.errstate(all="ignore"):
        most = 3.3e38 if dtype.kind == "V" else float(np.finfo(dtype).max)
        free = ~(size <= most / 16) & (finite | np.isfinite(size))
        clean = np.nan_to_num(size, posinf=0)
        bound = 2 * (terms + 4) * work * clean + 2 * own * clean
    return Wanted(value, dtype, bound + (1e-7 if dtype.itemsize == 2 else 0), free)


def matrix(a: dict[str, Any], n: int, out: int, real: str) -> np.ndarray:
    """Return the matrix of an interpolation along an axis."""
    mode, scale = a.get("mode", "nearest"), a.get("scale_factor")
    if mode.startswith("nearest"):
        step = np.asarray(n / out if scale is None else 1 / scale, real)
        at = (np.arange(out) + (0.5 if mode.endswith("exact") else 0)).astype(real) * step
        return np.eye(n)[np.minimum(np.floor(at.astype(np.float32)).astype(int), n - 1)]
    if mode == "area":
        return resizing.area(n, out)
    if a.get("antialias"):
        smooth = resizing.triangle if mode == "bilinear" else lambda x: resizing.cubic(x, -0.5)
        return resizing.smooth(n, out, smooth)
    kernel = (lambda x: resizing.cubic(x, -0.75)) if mode == "bicubic" else resizing.triangle
    at = resizing.positions(n, out, scale, a.get("align_corners", False))
    return resizing.kernel(n, np.maximum(at, 0) if mode != "bicubic" else at, kernel)


def matrices(a: dict[str, Any], sizes: tuple[int, ...], dtype: np.dtype) -> list[np.ndarray]:
    """Return the matrix of each axis."""
    real = "f8" if dtype in (np.float64, np.complex128) else "f4"
    if "size" in a:
        outs = each(a["size"], len(sizes))
    else:
        outs = [int(n * a["scale_factor"]) for n in sizes]
    return [matrix(a, n, out, real) for n, out in zip(sizes, outs, strict=True)]


def _resized(a: dict[str, Any], x: np.ndarray, layout: str) -> Wanted:
    found, mode, dtype = matrices(a, x.shape[2:], x.dtype), a.get("mode", "nearest"), x.dtype
    if mode.startswith("nearest"):
        index = [np.argmax(m, 1) for m in found]
        return Wanted(placed(x[:, :, *np.ix_(*index)], True, layout))
    if dtype == np.uint8 and mode in ("bilinear", "bicubic"):
        return Wanted(placed(resizing.resize_bytes(x, found), True, layout))
    wide = x if dtype.kind == "c" else x.astype(np.float64)
    with np.errstate(all="ignore"):
        value = resizing.resize(wide, found)
    largest = float(np.abs(np.where(np.isfinite(wide), wide, 0)).max(initial=0))
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        exact = np.trunc(np.round(value, 9)) if mode == "area" else np.clip(np.rint(value), limits.min, limits.max)
        near = (np.abs(value - np.floor(value) - 0.5) < 1e-9 * max(largest, 1)) & (mode != "area")
        return Wanted(placed(exact.astype(dtype), True, layout), bound=placed(np.where(near, 1.0, 0.0), True, layout))
    # Weights and their sums, rounded: a few units of the largest element.
    u = 2.0**-53 if dtype in (np.float64, np.complex128) else 2.0**-24
    own = {"float16": 2.0**-10, "bfloat16": 2.0**-7}.get(dtype.name, 0)
    bound = ((200 + 4 * max(x.shape[2:])) * u + own) * largest + 1e-7 * (dtype.itemsize == 2)
    special = ~np.isfinite(wide)
    if not special.any():
        return Wanted(placed(value, True, layout), dtype, bound)
    # How far NaN and infinities with a weight of zero reach is not part of the definition.
    near = resizing.resize(special.astype(np.float64), [(np.abs(m) > 0) * 1.0 for m in found])
    reach = resizing.resize(special.astype(np.float64), [np.ones_like(m) for m in found])
    clean = resizing.resize(np.where(special, 0, wide), found)
    value = np.where(near > 0, value, clean)
    return Wanted(placed(value, True, layout), dtype, bound, placed((near > 0) | (reach > 0), True, layout))


def call(op: str, a: dict[str, Any]) -> Any:
    """Call an operation."""
    return getattr(fc, op)(**a)


OPS = (*names("max_unpool", "nearest_unpool", "bed_of_nails_unpool"), "unfold", "fold", "interpolate")
FAMILY = Family(OPS, draw, expect, call)
