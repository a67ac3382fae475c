"""Convolutions and plans: what they must return, by the definition, and how far from it they may be."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import fastconv as fc
from fastconv.epilogue import ACTIVATIONS
from fastconv.errors import FastconvError
from fastconv.testing.definition import reference
from fastconv.testing.fuzz.bounds import is_finite, is_whole, largest, unit, wide, within_error
from fastconv.testing.fuzz.case import Array
from fastconv.testing.fuzz.pools import each, pairs
from fastconv.testing.fuzz.wanted import Wanted

EXACT = ("direct", "im2col", "pointwise", "depthwise")
PLAIN = (None, "relu", "relu6")
_FACTORS = ("column", "row")


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
    # An activation makes something finite of terms that are not.
    size = np.where(np.isfinite(size), size, np.abs(middle))
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
