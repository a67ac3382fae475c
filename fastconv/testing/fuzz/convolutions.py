"""Convolutions and plans: what is drawn."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import fastconv as fc
from fastconv.epilogue import ACTIVATIONS
from fastconv.errors import FastconvError
from fastconv.geometry.conv import conv_geometry, output_shape
from fastconv.testing.fuzz.case import DROP, Array, Case
from fastconv.testing.fuzz.convolved import PLAIN, expect
from fastconv.testing.fuzz.draw import COMPLEX, FLOATS, INTEGERS, LAYOUTS, Draw, in_layout, layout_option
from fastconv.testing.fuzz.wanted import Family

DTYPES = (*FLOATS, *INTEGERS, *COMPLEX, "bfloat16")
ALGORITHMS = ("auto", "direct", "im2col", "pointwise", "depthwise", "separable", "winograd", "fft", "bf16x3")
MODES = ("zeros", "reflect", "replicate", "circular", "symmetric")
# Largest sizes of an image and of a kernel, by the number of axes; multiplications of a small and of a large problem.
_IMAGE = {1: 300, 2: 40, 3: 14}
_KERNEL = {1: (1, 2, 3, 3, 4, 5, 7, 9, 17), 2: (1, 1, 2, 3, 3, 3, 4, 5, 5, 7), 3: (1, 1, 2, 3, 3)}
_SMALL, _LARGE = 3e5, 2e7
_RATES = (1, 1, 1, 1, 2, 2, 3)


def draw(d: Draw, op: str) -> Case:
    """Return a case of a convolution."""
    while True:
        arguments = _arguments(d, op)
        try:
            shape = result_shape(op, arguments)
        except FastconvError:
            continue
        if 0 not in shape[1:] and math.prod(shape) < 3e5:
            break
    dtype = arguments["input"].dtype
    given = {name: value for name, value in arguments.items() if value is not None}
    if len({value.dtype for value in given.values() if isinstance(value, Array)}) > 1:
        # Whether a result can hold all of them is not drawn.
        given.pop("out_dtype", None)
    if any("complex" in value.dtype for value in given.values() if isinstance(value, Array)):
        # They have no order, hence no activation and no maximum.
        given = {name: value for name, value in given.items() if "activation" not in name and name != "pool"}
        # What infinity is as a complex number, and times one, is a matter of the order, too.
        given = {name: _finite(value) for name, value in given.items()}
    case = d.case(op, given)
    inputs = case.arrays
    pool = given.get("pool")
    if pool and _pooled(shape, pool, given.get("layout")).count(0) > shape.count(0):
        pool, case = None, case.replaced(pool=DROP)
    if d.chance(0.2):
        residual = d.array(dtype, shape, given["input"].data)
        case = case.replaced(residual=residual)
        inputs = case.arrays
    if pool:
        shape = _pooled(shape, pool, given.get("layout"))
    mixed = len({a.dtype for a in inputs.values()}) > 1
    if mixed or "out_dtype" in given:
        return case
    return case.replaced(**d.out(dtype, shape, inputs))


def _finite(value: Any) -> Any:
    special = isinstance(value, Array) and value.data == "special"
    return value._replace(data="integers") if special else value


def _arguments(d: Draw, op: str) -> dict[str, Any]:
    """Draw arguments that may or may not fit together."""
    axes = int(op[-2])
    dtype, layout, batched = d.dtype(DTYPES), d.one(LAYOUTS), not d.chance(0.15)
    pointwise = op.startswith("pointwise")
    separable = "separable" in op
    depthwise = op.startswith("depthwise") or separable or (not pointwise and d.chance(0.3))
    G, ICG, OCG = (
        (d.size(40), 1, d.one((1, 1, 1, 2, 3))) if depthwise else (d.one((1, 1, 1, 2, 3)), d.size(40), d.size(48))
    )
    G = 1 if pointwise else G
    OCG = 1 if op.startswith("spatially") else OCG
    kernel = (1,) * axes if pointwise else d.each(axes, _KERNEL[axes])
    stride, dilation = (d.each(axes, of) for of in ((1, 1, 1, 2, 2, 3, 4), _RATES))
    sizes = [d.size(_IMAGE[axes]) for _ in range(axes)]
    N = 0 if d.chance(0.03) else d.one((1, 1, 1, 2, 3))
    N, ICG, OCG, sizes = _within(N, G, ICG, OCG, math.prod(kernel), sizes, _LARGE if d.chance(0.02) else _SMALL)
    data = d.data(dtype)
    x = d.array(dtype, in_layout((max(N, int(not batched)), G * ICG, *sizes), layout, batched or N > 1), data)
    found: dict[str, Any] = {"input": x} | _weights(d, op, dtype, data, (G, ICG, OCG, *kernel))
    OC = G * OCG if not op.startswith("separable") else found["pointwise_weight"].shape[0]
    if d.chance(0.4):
        found["bias"] = d.array(d.other(dtype, DTYPES), (OC,), data)
    if not pointwise:
        found |= {"stride": d.form(stride)} if set(stride) != {1} else {}
        found |= _padding(d, op, kernel, dilation) | ({"dilation": d.form(dilation)} if set(dilation) != {1} else {})
        found |= {"groups": G} if G > 1 and op.startswith(("conv", "plan")) else {}
        found |= {"padding_mode": d.one(MODES[1:])} if d.chance(0.2) else {}
    return found | layout_option(layout) | _options(d, op, dtype)


def _within(
    N: int, G: int, ICG: int, OCG: int, taps: int, sizes: list[int], most: float
) -> tuple[int, int, int, list[int]]:
    """Return sizes that are halved until a problem has at most so many multiplications."""
    while max(N, 1) * G * ICG * OCG * taps * math.prod(sizes) > most:
        longest = max(ICG, OCG, *sizes)
        if longest in (ICG, OCG) and longest > 1:
            ICG, OCG = ((n + 1) // 2 if n == longest else n for n in (ICG, OCG))
        elif longest > 1:
            sizes[sizes.index(longest)] = (longest + 1) // 2
        else:
            break
    return N, ICG, OCG, sizes


def _weights(d: Draw, op: str, dtype: str, data: str, sizes: tuple[int, ...]) -> dict[str, Any]:
    G, ICG, OCG, *kernel = sizes
    data = {"special": "integers", "extreme": d.one(("normal", "extreme"))}.get(data, data)
    if d.chance(0.1) and data == "integers" and dtype in FLOATS:
        data = "special"
    other = d.other(dtype, DTYPES)
    if op.startswith("separable"):
        OC = d.size(33)
        shape: tuple[int, ...] = (OC, G * OCG) if d.chance(0.5) else (OC, G * OCG, 1, 1)
        return {
            "depthwise_weight": d.array(dtype, (G * OCG, 1, *kernel), data),
            "pointwise_weight": d.array(other, shape, data),
            "depthwise_bias": d.array(dtype, (G * OCG,), data) if d.chance(0.3) else None,
            "depthwise_activation": d.one(("relu", "relu6", "silu")) if d.chance(0.3) and "float" in dtype else None,
        }
    if op.startswith("spatially"):
        # Infinite factors: which sums are NaN is a matter of the order.
        data = "integers" if data == "special" else data
        lead = (G,) if d.chance(0.5) else ()
        return {name: d.array(dtype, (*lead, n), data) for name, n in zip(("column", "row"), kernel, strict=True)}
    shape = (G * OCG, ICG, *kernel)
    if op.startswith("pointwise") and d.chance(0.5):
        shape = shape[:2]
    if ICG == 1 and len(kernel) == 2 and len(shape) == 4 and d.chance(0.2):
        data = "rank1"
    return {"weight": d.array(other, shape, data)}


def _padding(d: Draw, op: str, kernel: tuple[int, ...], dilation: tuple[int, ...]) -> dict[str, Any]:
    axes, form = len(kernel), d.integer(0, 5)
    if form == 0:
        return {}
    if form == 1:
        return {"padding": d.one(("valid", "same", "same_lower", "full", *(("causal",) if axes == 1 else ())))}
    if form == 2:
        return {"padding": tuple((d.integer(-2, 4), d.integer(-2, 4)) for _ in range(axes))}
    if form == 3:
        numbers = tuple(r * (k - 1) // 2 for k, r in zip(kernel, dilation, strict=True))
    else:
        numbers = d.each(axes, (0, 1, 2, 3, 9))
    return {"padding": d.form(numbers)} if any(numbers) else {}


def _options(d: Draw, op: str, dtype: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if "complex" not in dtype and d.chance(0.35):
        found["activation"] = d.one(tuple(filter(None, ACTIVATIONS)) if "float" in dtype else PLAIN[1:])
    if d.chance(0.55):
        found["algorithm"] = d.one(ALGORITHMS)
    if d.chance(0.2):
        found["precision"] = d.one(("strict", "strict", "bf16"))
    if d.chance(0.07):
        results = {"i": ("int32", "int64"), "u": ("int32", "int64"), "f": ("float32", "float64"), "c": ("complex128",)}
        found["out_dtype"] = d.one(results.get(dtype[0], ("float32", "float64")))
    if op.startswith("plan") and d.chance(0.4):
        found["pool"] = d.one((2, 2, 3)) if "complex" not in dtype else None
    return found


def result_shape(op: str, a: dict[str, Any]) -> tuple[int, ...]:
    """Return the shape of the convolution, before a pool, from the shapes of its arrays."""
    axes, x = int(op[-2]), a["input"].shape
    if op.startswith("spatially"):
        weight: tuple[int, ...] = (a["column"].shape[-1], a["row"].shape[-1])
    else:
        weight = a["depthwise_weight" if op.startswith("separable") else "weight"].shape
        weight = (*weight[2:], *(1,) * (2 + axes - len(weight)))
    last = a.get("layout") == "channels_last"
    C = x[-1] if last else x[-1 - axes]
    OC = a["pointwise_weight" if op.startswith("separable") else "weight"].shape[0] if "column" not in a else C
    names = ("stride", "padding", "dilation", "layout", "padding_mode")
    given = {name: a[name] for name in names if a.get(name) is not None}
    batched = len(x) == axes + 2
    g = conv_geometry(op, axes, x if batched else (1, *x), (OC, C, *weight), **given)
    return output_shape(g) if batched else output_shape(g)[1:]


def _pooled(shape: tuple[int, ...], pool: int, layout: str | None) -> tuple[int, ...]:
    first = len(shape) - (3 if layout == "channels_last" else 2)
    return tuple(n // pool if first <= i < first + 2 else n for i, n in enumerate(shape))


def call(op: str, a: dict[str, Any]) -> Any:
    """Call an operation; a plan is made and run."""
    if op != "plan_conv2d":
        return getattr(fc, op)(**a)
    x = _array(a["input"])
    given = {name: value for name, value in a.items() if name not in ("input", "out", "residual")}
    arrays = [_array(a[name]) for name in ("input", "weight", "bias", "residual") if name in a]
    try:
        dtype = np.result_type(*arrays).newbyteorder("=")
    except TypeError:
        # Of what is no number; the plan refuses it.
        dtype = x.dtype
    plan = fc.plan_conv2d(x.shape, **given, dtype=dtype)
    return plan(a["input"], **{name: a[name] for name in ("out", "residual") if name in a})


def _array(value: Any) -> np.ndarray:
    """Return an array, of objects if it is none."""
    try:
        return np.asarray(value)
    except ValueError:
        return np.asarray(value, object)


OPS = ("conv1d", "conv2d", "conv3d", "depthwise_conv2d", "pointwise_conv2d", "separable_conv2d")
FAMILY = Family((*OPS, "spatially_separable_conv2d", "plan_conv2d"), draw, expect, call, weight=6)
