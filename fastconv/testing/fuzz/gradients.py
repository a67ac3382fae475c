"""Gradients: the calls of the operations, with a gradient of their result, and the transposed definitions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import fastconv as fc
from fastconv.epilogue import canonical
from fastconv.errors import FastconvError
from fastconv.geometry.conv import ConvGeometry, conv_geometry
from fastconv.geometry.conv_transpose import TransposeGeometry
from fastconv.kernels.reference import fold as folding
from fastconv.kernels.reference import resize as resizing
from fastconv.kernels.reference.grad import pullback, scattered
from fastconv.kernels.reference.gradients import input_gradient, weight_gradient
from fastconv.testing.definition import reference
from fastconv.testing.fuzz import convolutions, convolved, moving, pools, transposed
from fastconv.testing.fuzz.case import Array, Case
from fastconv.testing.fuzz.draw import Draw
from fastconv.testing.fuzz.wanted import Family, Wanted

DTYPES = ("float32", "float64", "float16")
_GEOMETRY = ("stride", "padding", "dilation", "groups", "layout", "padding_mode")
_CONVS = ("conv1d", "conv2d", "conv3d")
_OWN = ("depthwise_conv2d", "pointwise_conv2d", "separable_conv2d", "spatially_separable_conv2d")
_TRANSPOSED = transposed.FAMILY.ops
_POOLS = pools.FAMILY.ops
_MOVING = moving.FAMILY.ops
_SMALL = 2e5


def draw(d: Draw, op: str) -> Case:
    """Return a case of a gradient."""
    name, part = _split(op)
    narrow = Draw([d.seed(), 1], [t for t in d.dtypes if t in DTYPES])
    narrow.rng = d.rng
    module = _module(name)
    while True:
        case = module.FAMILY.draw(narrow, name)
        a = _plainer(narrow, case.arguments, part)
        if a is None or len({v.dtype for n, v in a.items() if isinstance(v, Array) and n != "indices"}) > 1:
            continue
        shape = _result_shape(name, a)
        if shape is not None and _cost(a, shape) < _SMALL:
            break
    data = a["input"].data
    grad = narrow.array(a["input"].dtype, shape, data if data != "positive" else "normal")
    if part == "input":
        given = {"input_size": a.pop("input").shape, "weight": a.pop("weight"), "grad_output": grad}
    elif part == "weight":
        given = {"input": a.pop("input"), "weight_size": a.pop("weight").shape, "grad_output": grad}
    else:
        given = {"grad_output": grad}
    return d.case(op, given | a)


def _split(op: str) -> tuple[str, str]:
    name, _, part = op.removeprefix("grad.").rpartition("_")
    return name, part


def _module(name: str) -> Any:
    for module in (convolutions, transposed, pools, moving):
        if name in module.FAMILY.ops:
            return module
    raise AssertionError(name)


def _plainer(d: Draw, arguments: dict[str, Any], part: str) -> dict[str, Any] | None:
    """Return the arguments that a gradient has, without what has no gradient that can be compared."""
    leave = ("out", "pool", "out_dtype", "algorithm", "return_indices")
    a = {name: value for name, value in arguments.items() if name not in leave}
    if part != "vjp":
        a = {name: value for name, value in a.items() if name not in ("bias", "residual", "activation")}
        if "input" in a and len(a["input"].shape) < len(a["weight"].shape):
            return None
    if a.get("precision") == "bf16":
        del a["precision"]
    if math.isinf(a.get("norm_type", 1)) or a.get("antialias"):
        return None
    kinks = "activation" in a or "depthwise_activation" in a
    if "depthwise_activation" in a:
        # The kinks of a second one would meet sums that are rounded.
        a.pop("activation", None)
    if a.get("duplicates") == "max":
        del a["duplicates"]
    for name, value in a.items():
        if isinstance(value, Array) and name != "indices":
            data = "positive" if "norm_type" in a else "integers" if kinks else d.one(("integers", "normal"))
            a[name] = value._replace(data=data)
    return a


def _result_shape(name: str, a: dict[str, Any]) -> tuple[int, ...] | None:
    try:
        if name in convolutions.FAMILY.ops:
            return convolutions.result_shape(name, a)
        if name in _TRANSPOSED:
            g = transposed.geometry(name, a)
            return g.output_shape if len(a["input"].shape) == len(g.output_shape) else g.output_shape[1:]
        if name in _POOLS:
            return pools.out_shape(name, a)
        zeros = {key: np.zeros(v.shape, v.dtype) if isinstance(v, Array) else v for key, v in a.items()}
        value = moving.expect(name, zeros)[0].value
        return None if value is None else value.shape
    except FastconvError:
        return None


def _cost(a: dict[str, Any], shape: tuple[int, ...]) -> float:
    taps = math.prod(a["weight"].shape[1:]) if "weight" in a else 8
    planes = math.prod(shape) * taps
    if "kernel_size" in a or "output_size" in a or "keepdims" in a:
        # The matrix of a plane: each input with each output.
        axes = len(shape) - 1
        planes = planes + math.prod(sorted(a["input"].shape)[-axes:]) * 1.0
    return planes


def expect(op: str, a: dict[str, Any]) -> list[Wanted]:
    """Return the gradients by the definition."""
    name, part = _split(op)
    if name in _TRANSPOSED:
        return _of_transposed(name, a)
    if name.startswith("separable"):
        return _of_separable(name, a)
    if name in convolutions.FAMILY.ops:
        return _of_convolution(name, part, a)
    if name in _POOLS:
        return [_of_pool(name, a)]
    return [_of_moving(name, a), Wanted(None)] if name.startswith("max_unpool") else [_of_moving(name, a)]


def _geometry(axes: int, x: tuple[int, ...], w: tuple[int, ...], a: dict[str, Any]) -> ConvGeometry:
    given = {name: a[name] for name in _GEOMETRY if name in a}
    return conv_geometry("grad", axes, x if len(x) == axes + 2 else (1, *x), w, **given)


def _close(value: np.ndarray, size: np.ndarray, dtype: np.dtype, terms: int, strict: bool = True) -> Wanted:
    """Return what is wanted of sums of so many terms; unless `strict`, of an algorithm that mixes outputs."""
    u = 2.0**-53 if dtype == np.float64 else 2.0**-24
    bound = 4 * (terms + 16) * u * size + (2.0**-10 * size + 1e-6 if dtype == np.float16 else 0)
    rough = 0 if strict else 1e-13 if dtype == np.float64 else 3e-5
    free = np.abs(value) > 6e4 if dtype == np.float16 else False
    # Tails of activations are products of denormal numbers, some taken as zeros.
    least = 1e-300 if dtype == np.float64 else 1e-36
    return Wanted(value, dtype, bound + rough * float(size.max(initial=0)) + least, free)


def _of_separable(name: str, a: dict[str, Any]) -> list[Wanted]:
    """Return the gradients of two convolutions, one after the other: that of the first one's result goes between."""
    x, pw, dtype = a["input"], a["pointwise_weight"], a["grad_output"].dtype
    wanted = ("input", "stride", "padding", "dilation", "padding_mode", "layout", "precision")
    first = {key: a[key] for key in wanted if key in a} | {"weight": a["depthwise_weight"]}
    first["groups"] = x.shape[-1 if a.get("layout") == "channels_last" else -3]
    first |= {"bias": a["depthwise_bias"]} if "depthwise_bias" in a else {}
    first |= {"activation": a["depthwise_activation"]} if "depthwise_activation" in a else {}
    keep = {key: value for key, value in first.items() if key != "precision"}
    names = ("bias", "residual", "activation", "layout", "precision", "grad_output")
    second: dict[str, Any] = {key: a[key] for key in names if key in a}
    second |= {"input": reference(**keep, out_dtype="float64"), "weight": pw.reshape(*pw.shape[:2], 1, 1)}
    dmiddle, dpw, dbias, *rest = _of_convolution("conv2d", "vjp", second)
    # The result of the first one is rounded, relative to the magnitudes of its terms.
    keep = {key: np.abs(value) if isinstance(value, np.ndarray) else value for key, value in keep.items()}
    largest = float(reference(**keep | {"activation": None}, out_dtype="float64").max(initial=0))
    lost = largest * float(np.abs(second["grad_output"]).max(initial=0)) * second["input"].size / pw.shape[1]
    middle = np.asarray(dmiddle.value)
    size = np.asarray(dmiddle.bound) / np.finfo(dtype).eps
    dx, ddw, ddb = _of_convolution("conv2d", "vjp", first | {"grad_output": middle.astype(dtype)}, middle, size)
    bound = np.asarray(dpw.bound).reshape(pw.shape) + lost * float(np.finfo(dtype).eps)
    shaped = Wanted(np.asarray(dpw.value).reshape(pw.shape), dtype, bound, dpw.free)
    return [dx, ddw, shaped, dbias, ddb, *rest]


def _of_factors(a: dict[str, Any], dw: np.ndarray, size: np.ndarray, dtype: np.dtype, terms: int) -> list[Wanted]:
    """Return the gradients of a column and a row from that of their product."""
    found = []
    for name, other in (("column", "row"), ("row", "column")):
        both = []
        for gradient, factor in ((dw, a[other].astype(np.float64)), (size, np.abs(a[other].astype(np.float64)))):
            one = np.broadcast_to(factor, (len(dw), factor.shape[-1]))
            product = np.einsum("cohw,cw->ch" if name == "column" else "cohw,ch->cw", gradient, one)
            both.append(product.sum(0) if a[name].ndim == 1 else product)
        found.append(_close(both[0], both[1], dtype, terms * 8))
    return found


def _of_convolution(
    name: str, part: str, a: dict[str, Any], exact: np.ndarray | None = None, magnitude: np.ndarray | None = None
) -> list[Wanted]:
    """Return the gradients of a convolution; `exact` is the gradient in double precision, `magnitude` its terms'."""
    dy, axes = a["grad_output"], int(name[-2])
    x_shape = a["input_size"] if part == "input" else a["input"].shape
    given = convolved.as_conv(name, a | {"input": a.get("input", np.zeros(x_shape))}) if part == "vjp" else a
    w_shape = a["weight_size"] if part == "weight" else given["weight"].shape
    g = _geometry(axes, x_shape, w_shape, given)
    strict, dtype = a.get("precision") == "strict", dy.dtype
    wide, tails = dy.astype(np.float64) if exact is None else exact, np.ones(())
    if a.get("activation"):
        keep = {k: v for k, v in given.items() if k in (*_GEOMETRY, "input", "weight", "bias", "residual")}
        before = reference(**keep, out_dtype="float64")
        wide = pullback(str(canonical(a["activation"])), wide, before)
        # In tails, where they are squared, arguments are rounded.
        tails = 1 + before**2 / 4
    sizes = np.abs(wide if magnitude is None else magnitude) * tails
    products, outputs = math.prod(w_shape[2:]) * g.OCG, g.N * g.OD * g.OH * g.OW
    results = []
    if part in ("input", "vjp"):
        w = given["weight"].astype(np.float64)
        value, size = input_gradient(w, wide, g), input_gradient(np.abs(w), sizes, g)
        value, size = value.reshape(x_shape), size.reshape(x_shape)
        results.append(_close(value, size, dtype, products * 4, strict))
    if part in ("weight", "vjp"):
        x = given["input"].astype(np.float64)
        shape = a["weight"].shape if "weight" in a else w_shape
        value, size = weight_gradient(x, wide, g), weight_gradient(np.abs(x), sizes, g)
    if "column" in a:
        results += _of_factors(a, value, size, dtype, outputs)
    elif part in ("weight", "vjp"):
        results.append(_close(value.reshape(shape), size.reshape(shape), dtype, outputs, strict))
    if part == "vjp":
        results.append(_of_bias(given, wide, sizes, dtype))
        results += [_close(wide, sizes, dtype, 1)] if "residual" in a else []
    return results


def _of_bias(a: dict[str, Any], dy: np.ndarray, sizes: np.ndarray, dtype: np.dtype) -> Wanted:
    if "bias" not in a:
        return Wanted(None)
    C, batch = len(a["bias"]), a["input"].ndim == max(a["weight"].ndim, 4 if a["weight"].ndim == 2 else 0)
    last = a.get("layout") == "channels_last"
    value, size = ((v if last else np.moveaxis(v, int(batch), -1)).reshape(-1, C).sum(0) for v in (dy, np.abs(sizes)))
    return _close(value, size, dtype, dy.size // max(C, 1))


def _of_transposed(name: str, a: dict[str, Any]) -> list[Wanted]:
    """Return the gradients of a transposed convolution: a convolution leads back, and has this weight."""
    x, w, dy, axes = a["input"], a["weight"], a["grad_output"].astype(np.float64), int(name[-2])
    t, sizes = transposed.geometry(name, a), np.abs(dy)
    if a.get("activation"):
        plain = {key: value for key, value in a.items() if key not in ("activation", "grad_output")}
        before = np.asarray(transposed.expect(name, plain)[0].value)
        dy = pullback(str(canonical(a["activation"])), dy, before)
        sizes = np.abs(dy) * (1 + before**2 / 4)
    full, sizes = _whole(t, dy.reshape(t.output_shape)), _whole(t, sizes.reshape(t.output_shape))
    given: dict[str, Any] = {"stride": t.stride[-axes:], "dilation": t.dilation[-axes:]}
    given |= {"groups": t.G, "layout": t.layout}
    g = conv_geometry("grad", axes, full.shape, w.shape, **given)
    strict, dtype = a.get("precision") == "strict", x.dtype
    xw, ww = x.astype(np.float64).reshape(t.input_shape), w.astype(np.float64)
    value, size = reference(full, ww, **given), reference(sizes, abs(ww), **given)
    dx = _close(value.reshape(x.shape), size.reshape(x.shape), dtype, w[0].size * 4, strict)
    value, size = weight_gradient(full, xw, g), weight_gradient(sizes, abs(xw), g)
    dw = _close(value.reshape(w.shape), size.reshape(w.shape), dtype, x.size // max(t.IC, 1), strict)
    return [dx, dw, _of_bias(a, dy, dy, dtype)]


def _whole(t: TransposeGeometry, dy: np.ndarray) -> np.ndarray:
    """Return a gradient with what padding cropped as zeros, without what it added."""
    whole = [(n - 1) * s + r * (k - 1) + 1 for n, s, r, k in zip(t.sizes, t.stride, t.dilation, t.kernel, strict=True)]
    first = 2 if t.layout == "channels_first" else 1
    for axis, (n, p, o) in enumerate(list(zip(whole, t.before, t.outputs, strict=True))[-t.axes :], first):
        kept = np.arange(max(0, -p), min(o, n - p))
        part = np.take(dy, kept, axis)
        pads = [(0, 0)] * dy.ndim
        before = min(max(p, 0), n)
        pads[axis] = (before, n - before - len(kept))
        dy = np.pad(part, pads)
    return dy


def _of_pool(name: str, a: dict[str, Any]) -> Wanted:
    x, dy, layout = a["input"], a["grad_output"].astype(np.float64), a.get("layout", "channels_first")
    axes = pools.axes_of(name, x.ndim)
    planes = pools.first(x, axes, layout).astype(np.float64)
    if not len(planes):
        return Wanted(np.zeros(x.shape, x.dtype))
    taps, counts = pools.windows(name, a, planes.shape[1:])
    dy = dy.reshape(pools.out_shape(name, a | {"keepdims": True})) if name.startswith("global") else dy
    grads = pools.first(dy, axes, layout)
    if "max" in name:
        _, at = pools.maxima(planes, taps)
        full = scattered(np.where(at < 0, 0, grads)[None], np.maximum(at, 0)[None], planes.shape[1:])[0]
        size = scattered(np.where(at < 0, 0, abs(grads))[None], np.maximum(at, 0)[None], planes.shape[1:])[0]
    else:
        n = math.prod(planes.shape[1:])
        units = np.eye(n).reshape(n, *planes.shape[1:])
        matrix = pools.sums(units, taps, np.float64).reshape(n, -1)
        with np.errstate(all="ignore"):
            full, size = _averaged(a, planes, grads, matrix, pools.divisors(a if "avg" in name else {}, counts))
    full, size = (pools.back(v.reshape(planes.shape), x.shape, axes, layout) for v in (full, size))
    wanted = _close(full, size, x.dtype, math.prod(max(map(len, t)) for t in taps) * 4)
    return wanted._replace(free=~np.isfinite(full)) if "norm_type" in a else wanted


def _averaged(
    a: dict[str, Any], planes: np.ndarray, grads: np.ndarray, matrix: np.ndarray, by: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the gradient of averages, or of norms of them, and the sums of its terms' magnitudes."""
    scaled = grads.reshape(len(grads), -1) / by.ravel()
    if "norm_type" not in a:
        return scaled @ matrix.T, abs(scaled) @ matrix.T
    p, terms = a["norm_type"], math.prod(pools.each(a["kernel_size"], planes.ndim - 1))
    flat = planes.reshape(len(planes), -1)
    norms = (flat**p @ matrix / by.ravel() * terms) ** (1 / p - 1)
    value, size = (g * norms * terms @ matrix.T * flat ** (p - 1) for g in (scaled, abs(scaled)))
    # Powers and roots are less accurate than sums.
    return value, 100 * abs(size)


def _of_moving(name: str, a: dict[str, Any]) -> Wanted:
    x, dy, layout = a["input"], a["grad_output"].astype(np.float64), a.get("layout", "channels_first")
    if name == "fold":
        first = moving.batched_first(dy, len(a["output_size"]), layout)
        value = folding.unfold(first, *moving.blocks_of(a))
        return Wanted(value if x.ndim == 3 else value[0], x.dtype)
    axes = len(a["kernel_size"]) if name == "unfold" else int(name[-2]) if moving.has_axes(name) else x.ndim - 2
    batched, sizes = x.ndim == axes + 2, moving.batched_first(x, axes, layout).shape[2:]
    if name.startswith("max_unpool"):
        # What is taken from each element's place.
        at = moving.batched_first(a["indices"], axes, layout)
        planes = moving.batched_first(dy, axes, layout)
        flat = [v.reshape(*at.shape[:2], math.prod(v.shape[2:])) for v in (planes, at)]
        taken = np.take_along_axis(flat[0], flat[1].astype(np.int64), 2)
        return Wanted(moving.placed(taken.reshape(at.shape), batched, layout), x.dtype)
    if name == "unfold":
        columns = dy if batched else dy[None]
        found = [folding.fold(v, sizes, *moving.blocks_of(a)) for v in (columns, abs(columns))]
        terms = math.prod(a["kernel_size"])
    else:
        first = moving.batched_first(dy, axes, layout)
        if name == "interpolate":
            maps = [m.T for m in moving.matrices(a, sizes, x.dtype)]
            terms = 200
        else:
            factors = pools.each(a["scale_factor"], axes)
            maps, terms = _maps(name, a, sizes, factors), math.prod(factors)
        found = (
            [resizing.resize(v, m) for v, m in ((first, maps), (abs(first), [abs(m) for m in maps]))]
            if maps
            else [_nails(first, a, factors)] * 2
        )
        found[1] = abs(found[1])
    value, size = (moving.placed(v, batched, layout) for v in found)
    # Coordinates are rounded to the precision of the sums, hence weights by a multiple of the size of an axis.
    size = size + (float(abs(dy).max(initial=0)) * max(sizes) / 20 if name == "interpolate" else 0)
    return _close(value, size, x.dtype, terms)


def _maps(name: str, a: dict[str, Any], sizes: Any, factors: list[int]) -> list[np.ndarray]:
    if name.startswith("bed"):
        return []
    return [np.repeat(np.eye(n), f, 1) for n, f in zip(sizes, factors, strict=True)]


def _nails(dy: np.ndarray, a: dict[str, Any], factors: list[int]) -> np.ndarray:
    first = np.unravel_index(a.get("position", 0), tuple(factors))
    return dy[:, :, *(slice(int(i), None, f) for i, f in zip(first, factors, strict=True))]


def call(op: str, a: dict[str, Any]) -> Any:
    """Call a gradient."""
    return getattr(fc.grad, op.removeprefix("grad."))(**a)


_OPS = [f"grad.{op}_{part}" for op in _CONVS for part in ("input", "weight", "vjp")]
_OPS += [f"grad.{op}_vjp" for op in (*_OWN, *_TRANSPOSED, *_POOLS, *_MOVING)]
FAMILY = Family(tuple(_OPS), draw, expect, call)
