"""Convolutions and plans: what is drawn, and the definition."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import fastconv as fc
from fastconv.epilogue import ACTIVATIONS
from fastconv.errors import FastconvError
from fastconv.geometry.conv import conv_geometry, output_shape
from fastconv.testing.definition import reference
from fastconv.testing.fuzz.bounds import is_finite, is_whole, largest, unit, wide, within_error
from fastconv.testing.fuzz.case import DROP, Array, Case
from fastconv.testing.fuzz.draw import COMPLEX, FLOATS, INTEGERS, LAYOUTS, Draw, in_layout, layout_option
from fastconv.testing.fuzz.pools import each, pairs
from fastconv.testing.fuzz.wanted import Family, Wanted

DTYPES = (*FLOATS, *INTEGERS, *COMPLEX, "bfloat16")
EXACT = ("direct", "im2col", "pointwise", "depthwise")
_FACTORS = ("column", "row")
ALGORITHMS = ("auto", "direct", "im2col", "pointwise", "depthwise", "separable", "winograd", "fft", "bf16x3")
MODES = ("zeros", "reflect", "replicate", "circular", "symmetric")
# Largest sizes of an image and of a kernel, by the number of axes; multiplications of a small and of a large problem.
_IMAGE = {1: 300, 2: 40, 3: 14}
_KERNEL = {1: (1, 2, 3, 3, 4, 5, 7, 9, 17), 2: (1, 1, 2, 3, 3, 3, 4, 5, 5, 7), 3: (1, 1, 2, 3, 3)}
_SMALL, _LARGE = 3e5, 2e7
_RATES = (1, 1, 1, 1, 2, 2, 3)
# Sums of 32-bit floats that are exact in whatever order: what `integers`, `ones` and `rank1` make.
WHOLE = ("integers", "ones", "rank1", "special")
PLAIN = (None, "relu", "relu6")


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


def as_conv(op: str, a: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of the one convolution that an operation is."""
    rest = {name: value for name, value in a.items() if name not in ("out", "pool", "column", "row")}
    last = a.get("layout") == "channels_last"
    C = a["input"].shape[-1 if last else -3] if int(op[-2]) == 2 else 0
    if op.startswith("depthwise"):
        rest["groups"] = C
    elif op.startswith("pointwise"):
        w = a["weight"]
        rest["weight"] = w if isinstance(w, Array) else w.reshape(*w.shape[:2], 1, 1)
    elif op.startswith("spatially"):
        whole = all(value.dtype.kind in "iu" for value in a.values() if isinstance(value, np.ndarray))
        column, row = (a[name].astype(np.int64) if whole else wide(a[name]) for name in _FACTORS)
        product = column[..., :, None] * row[..., None, :]
        rest |= {"groups": C, "weight": np.broadcast_to(product, (C, *product.shape[-2:]))[:, None]}
    return rest


_NUMPY = {"zeros": "constant", "replicate": "edge", "circular": "wrap"}


def padded(axes: int, a: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a convolution with its padding done by NumPy: cropped first, then padded."""
    x, kernel = a["input"], a["weight"].shape[2:]
    stride, rates = (each(a.get(name, 1), axes) for name in ("stride", "dilation"))
    first = x.ndim - axes - (a.get("layout") == "channels_last")
    sizes, padding = x.shape[first : first + axes], a.get("padding", 0)
    reach = [r * (k - 1) for k, r in zip(kernel, rates, strict=True)]
    if padding in ("full", "causal"):
        both = [(n, n if padding == "full" else 0) for n in reach]
    else:
        both = pairs(padding, sizes, kernel, stride, rates)
    mode = a.get("padding_mode", "zeros")
    kept = [slice(None)] * x.ndim
    widths = [(0, 0)] * x.ndim
    for axis, (n, (before, after)) in enumerate(zip(sizes, both, strict=True), first):
        kept[axis], widths[axis] = slice(max(-before, 0), n - max(-after, 0)), (max(before, 0), max(after, 0))
    whole = np.pad(x[tuple(kept)], widths, _NUMPY.get(mode, mode))  # type: ignore[call-overload]
    return {name: value for name, value in a.items() if not name.startswith("padding")} | {"input": whole}


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
    x = np.asarray(a["input"])
    given = {name: value for name, value in a.items() if name not in ("input", "out", "residual")}
    arrays = [np.asarray(a[name]) for name in ("input", "weight", "bias", "residual") if name in a]
    try:
        dtype = np.result_type(*arrays).newbyteorder("=")
    except TypeError:
        # Of what is no number; the plan refuses it.
        dtype = x.dtype
    plan = fc.plan_conv2d(x.shape, **given, dtype=dtype)
    return plan(a["input"], **{name: a[name] for name in ("out", "residual") if name in a})


def expect(op: str, a: dict[str, Any]) -> list[Wanted]:
    """Return the result by the definition, with the error that its algorithm may have."""
    arrays = [value for name, value in a.items() if isinstance(value, np.ndarray) and name != "out"]
    dtype = np.result_type(*arrays)
    result = np.dtype(a["out_dtype"]) if "out_dtype" in a else dtype
    if op.startswith("separable"):
        value, size = _two(a, result)
    else:
        value, size = _once(as_conv(op, a), result)
    if "pool" in a:
        value, size = (_maxima(each, a["pool"], a.get("layout")) for each in (value, size))
    if result.kind in "iu":
        return [Wanted(value, result)]
    return [_error(op, a, value, size, dtype, result)]


def _once(a: dict[str, Any], result: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """Return one convolution in double precision, and the sums of magnitudes; integers are activated once they wrap."""
    names = ("activation", "out_dtype", "algorithm", "precision", "device")
    given = padded(a["weight"].ndim - 2, {name: value for name, value in a.items() if name not in names})
    activation = a.get("activation")
    if result.kind in "iu":
        value = reference(**given, out_dtype=result)
        return ACTIVATIONS[activation](value).astype(result), value
    value = reference(**given, activation=activation, out_dtype="complex128" if result.kind == "c" else "float64")
    _check_sizes(given, value.shape)
    sizes = {name: np.abs(wide(v)) if isinstance(v, np.ndarray) else v for name, v in given.items()}
    return value, reference(**sizes, out_dtype="float64")


def _check_sizes(a: dict[str, Any], shape: tuple[int, ...]) -> None:
    """Raise unless a result without padding has the sizes of the formula."""
    x, kernel = a["input"], a["weight"].shape[2:]
    axes = len(kernel)
    stride, rates = (each(a.get(name, 1), axes) for name in ("stride", "dilation"))
    first = x.ndim - axes - (a.get("layout") == "channels_last")
    along = zip(x.shape[first : first + axes], kernel, stride, rates, strict=True)
    sizes = tuple((n - r * (k - 1) - 1) // s + 1 for n, k, s, r in along)
    if shape[first : first + axes] != sizes:
        raise AssertionError(f"sizes of {shape}, expected {sizes}")


def _two(a: dict[str, Any], result: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """Return a depthwise convolution and a pointwise one of its result."""
    first_names = ("input", "stride", "padding", "dilation", "padding_mode", "layout")
    first = {name: a[name] for name in first_names if name in a} | {"weight": a["depthwise_weight"]}
    first |= {"bias": a["depthwise_bias"]} if "depthwise_bias" in a else {}
    first["groups"] = a["input"].shape[-1 if a.get("layout") == "channels_last" else -3]
    middle_type = (
        np.dtype("int64") if result.kind in "iu" else np.dtype("complex128" if result.kind == "c" else "float64")
    )
    middle, size = _once(first | {"activation": a.get("depthwise_activation")}, middle_type)
    w = a["pointwise_weight"]
    names = ("bias", "residual", "layout", "activation")
    second: dict[str, Any] = {name: a[name] for name in names if name in a}
    second |= {"input": middle, "weight": w.reshape(*w.shape[:2], 1, 1)}
    value, _ = _once(second, result)
    return value, value if result.kind in "iu" else _once(second | {"input": size}, result)[1]


def _maxima(values: np.ndarray, pool: int, layout: str | None) -> np.ndarray:
    """Return the maxima of squares side by side."""
    axis = values.ndim - (3 if layout == "channels_last" else 2)
    for i in (axis, axis + 1):
        n = values.shape[i] // pool
        kept = np.take(values, np.arange(n * pool), i)
        values = kept.reshape(*values.shape[:i], n, pool, *values.shape[i + 1 :]).max(i + 1)
    return values


def _error(op: str, a: dict[str, Any], value: Any, size: Any, dtype: np.dtype, result: np.dtype) -> Wanted:
    """Return what is wanted of floats."""
    relative, reach = _relative_error(op, a), _reach(op, a)
    plain = a.get("activation") in PLAIN and a.get("depthwise_activation") in PLAIN
    exact = relative is None and plain and is_whole(a)
    terms, activated = _terms(op, a), bool(a.get("activation"))
    wanted = within_error(value, size, dtype, result, terms, relative, reach, exact, activated, is_finite(a))
    if op.startswith("separable") and not exact:
        # Between the two halves zeros may become tiny numbers and these zeros, which make another thing of infinity.
        wanted = wanted._replace(free=wanted.free | ~np.isfinite(value))
    return wanted if exact else _two_passes(op, a, wanted, *unit(np.promote_types(dtype, result)), dtype)


def _two_passes(op: str, a: dict[str, Any], wanted: Wanted, work: np.dtype, u: float, dtype: np.dtype) -> Wanted:
    """Return what is wanted where one of two passes, or a product of factors, may overflow, underflow or be rounded."""
    names = ("depthwise_weight", "pointwise_weight", "column", "row")
    most = [
        float(np.nan_to_num(np.abs(wide(a[name])), posinf=0).max(initial=0)) for name in ("input", *names) if name in a
    ]
    x, terms, rough = most[0], float(_terms(op, a)), _relative_error(op, a) is not None
    # The matrix unit takes denormal numbers as zeros.
    floor = float(np.finfo(work).tiny if rough else np.finfo(work).smallest_subnormal)
    lost = 8 * terms * floor * (1 + sum(most) + _reach(op, a) / max(x, 1e-300))
    if len(most) == 1 and a.get("algorithm") != "separable":
        return wanted._replace(bound=wanted.bound + (lost if rough else 0))
    products = [x * n * terms for n in most[1:]] + [math.prod(most[1:]), _reach(op, a)]
    if max(products) > largest(work) / 16:
        return wanted._replace(free=True)
    rounded = unit(dtype, own=True)[1] * math.prod(most) * terms if "column" in a else 0
    return wanted._replace(bound=wanted.bound + lost + rounded)


def _terms(op: str, a: dict[str, Any]) -> int:
    names = ("weight", "depthwise_weight", "pointwise_weight", "column", "row")
    counts = [math.prod(a[name].shape[1:]) or 1 for name in names[:3] if name in a]
    return sum(counts) + sum(a[name].shape[-1] for name in names[3:] if name in a)


def _relative_error(op: str, a: dict[str, Any]) -> float | None:
    """Return the bound of the algorithm, relative to the largest input times the sum of a kernel; None: it is direct.

    "auto" takes one that rounds more only where that saves 50 microseconds, which problems of some size do.
    """
    algorithm = a.get("algorithm", "auto")
    if a.get("precision") == "strict" or algorithm in EXACT:
        return None
    if algorithm == "auto" and a["input"].size * _terms(op, a) < 2e4 and a.get("precision") != "bf16":
        return None
    if "column" in a or op.startswith("separable"):
        return 2.0**-6 if a.get("precision") == "bf16" else 1e-4 if a["input"].dtype.itemsize < 8 else 1e-12
    keep = {name: value for name, value in as_conv(op, a).items() if name != "out"}
    function = getattr(fc, f"conv{op[-2]}d")
    named = keep.pop("algorithm", "auto")
    try:
        lines = fc.explain(function, **keep).lines
    except FastconvError:
        return None
    errors = [line.error_bound for line in lines if line.error_bound and named in ("auto", line.algorithm)]
    return max(errors, default=None)


def _reach(op: str, a: dict[str, Any]) -> float:
    """Return the most that an output can be: the largest input times the sum of a filter's magnitudes."""
    given = as_conv(op, a) if not op.startswith("separable") else a | {"weight": a["depthwise_weight"]}
    x, w = (np.nan_to_num(np.abs(wide(given[name])), posinf=0) for name in ("input", "weight"))
    return float(x.max(initial=0) * w.reshape(len(w), -1).sum(1).max(initial=0))


OPS = ("conv1d", "conv2d", "conv3d", "depthwise_conv2d", "pointwise_conv2d", "separable_conv2d")
FAMILY = Family((*OPS, "spatially_separable_conv2d", "plan_conv2d"), draw, expect, call, weight=6)
