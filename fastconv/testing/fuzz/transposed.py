"""Transposed convolutions: what is drawn, and the definition."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import fastconv as fc
from fastconv.epilogue import ACTIVATIONS
from fastconv.errors import FastconvError
from fastconv.geometry.conv_transpose import TransposeGeometry, conv_transpose_geometry
from fastconv.testing.fuzz.bounds import is_finite, is_whole, within_error
from fastconv.testing.fuzz.case import Case
from fastconv.testing.fuzz.convolutions import ALGORITHMS, DTYPES
from fastconv.testing.fuzz.convolved import EXACT, PLAIN
from fastconv.testing.fuzz.draw import LAYOUTS, Draw, in_layout, layout_option
from fastconv.testing.fuzz.pools import each, names, pairs
from fastconv.testing.fuzz.wanted import Family, Wanted

_IMAGE = {1: 150, 2: 20, 3: 7}
_KERNEL = {1: (1, 2, 3, 3, 4, 5, 7, 9), 2: (1, 2, 3, 3, 4, 5), 3: (1, 2, 3)}
_PRODUCTS = 4e5
_GEOMETRY = ("stride", "padding", "output_padding", "groups", "dilation", "layout")


def draw(d: Draw, op: str) -> Case:
    """Return a case of a transposed convolution."""
    while True:
        arguments = _arguments(d, op)
        try:
            g = geometry(op, arguments)
        except FastconvError:
            continue
        shape = g.output_shape if arguments["input"].shape[1:] == g.input_shape[1:] else g.output_shape[1:]
        if 0 not in shape[1:] and math.prod(shape) < 1e5 and g.macs < _PRODUCTS:
            break
    case = d.case(op, arguments)
    if len({a.dtype for a in case.arrays.values()}) > 1:
        return case
    return case.replaced(**d.out(arguments["input"].dtype, shape, case.arrays))


def _arguments(d: Draw, op: str) -> dict[str, Any]:
    axes = int(op[-2])
    dtype, layout, batched = d.dtype(DTYPES), d.one(LAYOUTS), not d.chance(0.15)
    G, ICG, OCG = (d.size(33), 1, 1) if d.chance(0.2) else (d.one((1, 1, 2, 3)), d.size(24), d.size(33))
    kernel, stride = d.each(axes, _KERNEL[axes]), d.each(axes, (1, 1, 2, 2, 3, 4))
    dilation = d.each(axes, (1, 1, 1, 2, 3))
    sizes = tuple(d.size(_IMAGE[axes]) for _ in range(axes))
    N = 0 if d.chance(0.03) and batched else d.one((1, 1, 2, 3))
    data = d.data(dtype)
    data = "integers" if data == "special" else data
    found: dict[str, Any] = {
        "input": d.array(dtype, in_layout((N if batched else 1, G * ICG, *sizes), layout, batched), data),
        "weight": d.array(dtype, (G * ICG, OCG, *kernel), data),
        "bias": d.array(dtype, (G * OCG,), data) if d.chance(0.4) else None,
        "stride": d.form(stride) if set(stride) != {1} else None,
        "groups": G if G > 1 else None,
        "dilation": d.form(dilation) if set(dilation) != {1} else None,
    }
    more = tuple(d.integer(0, max(s, r) - 1) for s, r in zip(stride, dilation, strict=True))
    if d.chance(0.3) and any(more):
        found["output_padding"] = d.form(more)
    form = d.integer(0, 3)
    if form == 1:
        found["padding"] = d.one(("valid", "same", "same_lower"))
    elif form == 2:
        found["padding"] = tuple((d.integer(-1, 3), d.integer(-1, 3)) for _ in range(axes))
    elif form == 3:
        found["padding"] = d.form(d.each(axes, (0, 1, 1, 2)))
    if "complex" not in dtype and d.chance(0.3):
        found["activation"] = d.one(tuple(filter(None, ACTIVATIONS)) if "float" in dtype else PLAIN[1:])
    found |= {"algorithm": d.one(ALGORITHMS)} if d.chance(0.4) else {}
    found |= {"precision": "strict"} if d.chance(0.2) else {}
    return {name: value for name, value in found.items() if value is not None} | layout_option(layout)


def geometry(op: str, a: dict[str, Any]) -> TransposeGeometry:
    """Return the geometry of a call, as if it had a batch."""
    axes, x = int(op[-2]), a["input"].shape
    given = {name: a[name] for name in _GEOMETRY if name in a}
    return conv_transpose_geometry(op, axes, x if len(x) == axes + 2 else (1, *x), a["weight"].shape, **given)


def _checked(g: TransposeGeometry, a: dict[str, Any]) -> TransposeGeometry:
    """Return a geometry whose padding and sizes are those of the formula, or raise."""
    if isinstance(a.get("padding", 0), str):
        return g
    both = pairs(a.get("padding", 0), *(t[-g.axes :] for t in (g.sizes, g.kernel, g.stride, g.dilation)))
    more = each(a.get("output_padding", 0), g.axes)
    along = zip(
        g.sizes[-g.axes :], g.kernel[-g.axes :], g.stride[-g.axes :], g.dilation[-g.axes :], both, more, strict=True
    )
    outputs = [(n - 1) * s - before - after + r * (k - 1) + m + 1 for n, k, s, r, (before, after), m in along]
    if outputs != list(g.outputs[-g.axes :]) or [before for before, _ in both] != list(g.before[-g.axes :]):
        raise AssertionError(f"sizes {g.outputs}, padding {g.before}, expected {outputs}, {both}")
    return g


def scattered(x: np.ndarray, weight: np.ndarray, g: TransposeGeometry, dtype: Any) -> np.ndarray:
    """Return (N, OC, OD, OH, OW): every product goes to where it belongs, one tap after the other."""
    x = x if g.layout == "channels_first" else np.moveaxis(x.reshape(g.N, *g.sizes, g.IC), -1, 1)
    images = x.reshape(g.N, g.G, g.ICG, *g.sizes).astype(dtype)
    taps = weight.reshape(g.G, g.ICG, g.OCG, *g.kernel).astype(dtype)
    along = list(zip(g.sizes, g.stride, g.kernel, g.dilation, g.before, g.outputs, strict=True))
    # Room for all products, and for the outputs that padding adds.
    ends = [max((n - 1) * s + r * (k - 1) + 1, o + p) + max(-p, 0) for n, s, k, r, p, o in along]
    whole = np.zeros((g.N, g.G, g.OCG, *ends), dtype)
    for k in np.ndindex(g.kernel):
        starts = [i * r + max(-p, 0) for i, (_, _, _, r, p, _) in zip(k, along, strict=True)]
        at = tuple(slice(i, i + (n - 1) * s + 1, s) for i, (n, s, *_) in zip(starts, along, strict=True))
        whole[:, :, :, *at] += np.einsum("ngidhw,gio->ngodhw", images, taps[..., *k])
    kept = tuple(slice(max(p, 0), max(p, 0) + o) for *_, p, o in along)
    return whole[:, :, :, *kept].reshape(g.N, g.OC, *g.outputs)


def expect(op: str, a: dict[str, Any]) -> list[Wanted]:
    """Return the result by the definition, with the error that its algorithm may have."""
    g, x, w = _checked(geometry(op, a), a), a["input"], a["weight"]
    arrays = [v for name, v in a.items() if isinstance(v, np.ndarray) and name != "out"]
    dtype = np.result_type(*arrays)
    wide: Any = {"i": np.int64, "u": np.int64, "c": np.complex128}.get(dtype.kind, np.float64)
    shape = g.output_shape if x.ndim == len(g.output_shape) else g.output_shape[1:]

    def placed(sums: np.ndarray, bias: Any) -> np.ndarray:
        if bias is not None:
            sums = sums + bias.astype(sums.dtype)[:, None, None, None]
        return np.ascontiguousarray(sums if g.layout == "channels_first" else np.moveaxis(sums, 1, -1)).reshape(shape)

    with np.errstate(all="ignore"):
        value, bias = placed(scattered(x, w, g, wide), a.get("bias")), a.get("bias")
        value = value.astype(dtype) if dtype.kind in "iu" else value
        value = ACTIVATIONS[a.get("activation")](value)
        if dtype.kind in "iu":
            return [Wanted(value.astype(dtype))]
        size = placed(scattered(np.abs(x), np.abs(w), g, np.float64), None if bias is None else np.abs(bias))
    relative = None if a.get("precision") == "strict" or a.get("algorithm", "auto") in EXACT else 1e-4
    relative = None if a.get("algorithm", "auto") == "auto" and g.macs < 2e4 else relative
    relative = relative if dtype not in (np.float64, np.complex128) or relative is None else 1e-12
    reach = float(np.nan_to_num(np.abs(x)).max(initial=0)) * float(np.nan_to_num(np.abs(w)).sum())
    exact = is_whole(a) and relative is None and a.get("activation") in PLAIN
    activated, terms = bool(a.get("activation")), w[:, 0].size
    return [within_error(value, size, dtype, dtype, terms, relative, reach, exact, activated, is_finite(a))]


def call(op: str, a: dict[str, Any]) -> Any:
    """Call an operation."""
    return getattr(fc, op)(**a)


FAMILY = Family(names("conv_transpose"), draw, expect, call, weight=4)
