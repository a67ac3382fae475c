"""Unpooling, interpolation, sliding blocks and their pullbacks on the device, against their definitions."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

import fastconv as fc
from fastconv.kernels.reference import fold as folding
from fastconv.kernels.reference import resize as definition
from fastconv.kernels.reference import unpool as unpooling
from tests.cuda.checks.inputs import integers, raises
from tests.cuda.runtimes import to_device
from tests.resizing import matrix

LAYOUTS = ("channels_first", "channels_last")
# name: (input's shape, output's sizes, mode, more keywords); "smooth" stands for antialias.
RESIZED: dict[str, tuple[Any, ...]] = {
    "nearest": ((2, 2, 5), (8,), "nearest", {}),
    "nearest_exact": ((1, 2, 4, 5), (3, 7), "nearest-exact", {}),
    "linear": ((1, 3, 5), (9,), "linear", {}),
    "bilinear": ((2, 2, 4, 5), (7, 3), "bilinear", {}),
    "corners": ((1, 2, 4, 5), (7, 3), "bilinear", {"align_corners": True}),
    "trilinear": ((1, 2, 3, 2, 3), (4, 4, 2), "trilinear", {}),
    "bicubic": ((1, 1, 4, 5), (5, 8), "bicubic", {}),
    "smooth": ((1, 2, 13, 12), (2, 3), "bilinear smooth", {"antialias": True}),
    "area": ((1, 2, 5, 7), (3, 4), "area", {}),
}
# Positions of blocks: (kernel, dilation, padding, stride).
BLOCKS = {
    "overlapping": ((2, 3), (1, 1), ((1, 0), (1, 1)), (1, 2)),
    "dilated": ((2, 2), (3, 2), ((0, 2), (0, 0)), (2, 1)),
    "volume": ((2, 1, 2), (1, 1, 1), ((0, 0), (1, 0), (0, 1)), (1, 2, 3)),
}


def placed(array, layout):
    """Return an array of channels_first in a layout, contiguous."""
    return np.ascontiguousarray(np.moveaxis(array, 1, -1)) if layout == "channels_last" else array


def matrices(name, dtype="float32"):
    shape, outs, mode, keywords = RESIZED[name]
    real = "f8" if dtype == "float64" else "f4"
    corners = keywords.get("align_corners", False)
    return [matrix(mode, n, out, corners, real) for n, out in zip(shape[2:], outs, strict=True)]


def check_interpolate(name, dtype, layout):
    shape, outs, mode, keywords = RESIZED[name]
    x = integers(shape, 1, dtype, 0, 99)
    given, keywords = placed(x, layout), keywords | {"mode": mode.partition(" ")[0], "layout": layout}
    got = fc.interpolate(given, outs, device="cuda", **keywords)
    assert got.dtype == dtype
    if dtype == "uint8" and mode.startswith("bi"):
        expected = definition.resize_bytes(x, matrices(name))
        np.testing.assert_array_equal(got, placed(expected, layout))
        return
    expected = definition.resize(x.astype("f8"), matrices(name, dtype))
    if dtype == "int32":
        expected = np.trunc(expected + 1e-9) if mode == "area" else np.rint(expected)
    accuracy = 1e-3 if dtype == "float16" else 1e-5
    np.testing.assert_allclose(got, placed(expected, layout), accuracy, 1e-3 if dtype == "float16" else 1e-4)
    if dtype[0] != "f":
        return
    grad = integers(expected.shape, 2, dtype)
    wanted = definition.resize(grad.astype("f8"), [m.T for m in matrices(name, dtype)])
    (pulled,) = fc.grad.interpolate_vjp(placed(grad, layout), given, outs, device="cuda", **keywords)
    np.testing.assert_allclose(pulled, placed(wanted, layout), accuracy, 1e-2 if dtype == "float16" else 1e-4)


def check_repeated(layout, dtype):
    for shape, factors in (((2, 2, 3), (4,)), ((1, 2, 3, 2), (2, 3)), ((1, 1, 2, 1, 3), (1, 2, 2))):
        x, axes = integers(shape, 1, dtype), len(factors)
        name = f"nearest_unpool{axes}d"
        got = getattr(fc, name)(placed(x, layout), factors, layout=layout, device="cuda")
        expected = unpooling.nearest_unpool(x, factors)
        np.testing.assert_array_equal(got, placed(expected, layout))
        nails = getattr(fc, f"bed_of_nails_unpool{axes}d")
        got = nails(placed(x, layout), factors, position=1, layout=layout, device="cuda")
        np.testing.assert_array_equal(got, placed(unpooling.bed_of_nails(x, factors, 1), layout))
        if dtype == "float32":
            grad = integers(expected.shape, 2)
            blocks = [m for n, f in zip(shape[2:], factors, strict=True) for m in (n, f)]
            blocked = grad.reshape(*shape[:2], *blocks)
            vjp = getattr(fc.grad, f"{name}_vjp")
            (pulled,) = vjp(placed(grad, layout), placed(x, layout), factors, layout=layout, device="cuda")
            summed = blocked.sum(tuple(range(3, blocked.ndim, 2)))
            np.testing.assert_array_equal(pulled, placed(summed, layout))
            vjp = getattr(fc.grad, f"bed_of_nails_unpool{axes}d_vjp")
            (pulled,) = vjp(placed(grad, layout), placed(x, layout), factors, layout=layout, device="cuda")
            np.testing.assert_array_equal(pulled, placed(grad[(..., *(slice(None, None, f) for f in factors))], layout))


def check_max_unpool(duplicates, dtype, layout):
    x, sizes = integers((2, 2, 3, 4), 1, dtype), (6, 8)
    random = np.random.default_rng(2)
    indices = random.integers(0, 7, x.shape)
    if duplicates == "error":
        indices = np.argsort(random.random((4, 48)), 1)[:, :12].reshape(x.shape)
    if duplicates == "max" and dtype == "float32":
        x[0, 0, 1:, 1] = x[1, 1, 0, 3] = np.nan
    rule = "last" if duplicates == "error" else duplicates
    expected = unpooling.max_unpool(x, indices, sizes, rule)
    given = placed(x, layout), placed(indices, layout)
    options = {"duplicates": duplicates, "layout": layout}
    got = fc.max_unpool2d(*given, 2, device="cuda", **options)
    assert got.dtype == dtype
    np.testing.assert_array_equal(got, placed(expected, layout))
    if dtype != "float32":
        return
    grad = integers(expected.shape, 3)
    taken = np.take_along_axis(grad.reshape(2, 2, -1), indices.reshape(2, 2, -1), -1).reshape(x.shape)
    if duplicates == "max":
        winners = np.zeros(x.shape, bool)
        for n, c in np.ndindex(2, 2):
            for place in np.unique(indices[n, c]):
                among = np.flatnonzero(indices[n, c] == place)
                values = x[n, c].ravel()[among]
                nans = np.flatnonzero(values != values)
                winners[n, c].ravel()[among[nans[-1] if len(nans) else np.argmax(values)]] = True
        taken = np.where(winners, taken, 0)
    pulled, none = fc.grad.max_unpool2d_vjp(placed(grad, layout), *given, 2, device="cuda", **options)
    assert none is None
    np.testing.assert_array_equal(pulled, placed(taken, layout))


def check_indices_of_the_device():
    x = integers((1, 2, 6, 7), 1)
    there = to_device(x)
    values, indices = fc.max_pool2d(there, 3, 2, return_indices=True)
    got = fc.max_unpool2d(values, indices, 3, 2, output_size=(6, 7))
    assert type(got) is type(there)
    shown, where = values.copy_to_host(), indices.copy_to_host()
    np.testing.assert_array_equal(got.copy_to_host(), unpooling.max_unpool(shown, where, (6, 7)))
    # Those out of range cannot be looked for without waiting; they are left out.
    wild = to_device(np.where(where == where.max(), -1, np.where(where == where.min(), 99, where)))
    kept = (where != where.max()) & (where != where.min())
    expected = unpooling.max_unpool(np.where(kept, shown, 0), np.where(kept, where, 41), (6, 7))
    np.testing.assert_array_equal(fc.max_unpool2d(values, wild, 3, 2, output_size=(6, 7)).copy_to_host(), expected)
    raises(
        fc.OptionError,
        "more than once",
        lambda: fc.max_unpool2d(values, to_device(where * 0), 3, 2, duplicates="error"),
    )
    raises(fc.OptionError, "indices has 99", lambda: fc.max_unpool2d(values, np.where(kept, where, 99), 3, 2))
    raises(fc.ShapeError, "indices", lambda: fc.max_unpool2d(values, to_device(where[:, :1]), 3, 2))


def check_blocks(name, dtype, layout):
    kernel, dilation, pads, stride = BLOCKS[name]
    x = integers((2, 2, 3, 4, 5)[: 2 + len(kernel)], 1, dtype)
    sizes, options = x.shape[2:], (dilation, pads, stride)
    columns = folding.unfold(x, kernel, *options)
    got = fc.unfold(placed(x, layout), kernel, *options, layout=layout, device="cuda")
    np.testing.assert_array_equal(got, columns)
    given = integers(columns.shape, 2, dtype)
    images = folding.fold(given, sizes, kernel, *options)
    got = fc.fold(given, sizes, kernel, *options, layout=layout, device="cuda")
    assert got.dtype == dtype
    np.testing.assert_array_equal(got, placed(images, layout))
    if dtype[0] == "f":
        (pulled,) = fc.grad.unfold_vjp(given, placed(x, layout), kernel, *options, layout=layout, device="cuda")
        np.testing.assert_array_equal(pulled, placed(images, layout))
        (pulled,) = fc.grad.fold_vjp(placed(x, layout), given, sizes, kernel, *options, layout=layout, device="cuda")
        np.testing.assert_array_equal(pulled, columns)


def check_device_arrays():
    x = integers((2, 3, 4, 5), 1)
    strided = to_device(np.ascontiguousarray(x.transpose(1, 0, 3, 2)).transpose(1, 0, 3, 2))
    got = fc.nearest_unpool2d(strided, 2)
    assert type(got) is type(strided)
    np.testing.assert_array_equal(got.copy_to_host(), unpooling.nearest_unpool(x, (2, 2)))
    np.testing.assert_array_equal(fc.unfold(strided, 2).copy_to_host(), fc.unfold(x, 2, device="cuda"))
    expected = fc.interpolate(x, (3, 7), mode="bilinear", device="cuda")
    out = to_device(np.full((2, 3, 3, 7), np.nan, np.float32))
    assert fc.interpolate(strided, (3, 7), mode="bilinear", out=out) is out
    np.testing.assert_array_equal(out.copy_to_host(), expected)
    raises(fc.UnsupportedError, "complex128", lambda: fc.unfold(x.astype("c16"), 2, device="cuda"))
    for empty in (fc.unfold(x[:0], 2, device="cuda"), fc.interpolate(x[:0], 3, mode="bicubic", device="cuda")):
        assert empty.size == 0


CHECKS = {
    **{
        f"interpolate-{name}-{layout}": partial(check_interpolate, name, "float32", layout)
        for name in RESIZED
        for layout in LAYOUTS
    },
    **{
        f"interpolate-{name}-{dtype}": partial(check_interpolate, name, dtype, "channels_first")
        for name, dtype in (
            *(("bilinear", dtype) for dtype in ("float64", "float16", "uint8", "int32")),
            *(("nearest", dtype) for dtype in ("int8", "float64")),
            *(("bicubic", "uint8"), ("smooth", "uint8"), ("area", "int32")),
        )
    },
    **{
        f"repeated-{layout}-{dtype}": partial(check_repeated, layout, dtype)
        for layout, dtype in (*((layout, "float32") for layout in LAYOUTS), ("channels_first", "int16"))
    },
    **{
        f"max_unpool-{rule}-{layout}": partial(check_max_unpool, rule, "float32", layout)
        for rule in ("last", "max", "sum", "error")
        for layout in LAYOUTS
    },
    **{
        f"max_unpool-{rule}-{dtype}": partial(check_max_unpool, rule, dtype, "channels_first")
        for rule, dtype in (("last", "uint8"), ("sum", "int16"), ("max", "float16"))
    },
    "indices_of_the_device": check_indices_of_the_device,
    **{f"{name}-{layout}": partial(check_blocks, name, "float32", layout) for name in BLOCKS for layout in LAYOUTS},
    **{f"overlapping-{dtype}": partial(check_blocks, "overlapping", dtype, "channels_last") for dtype in ("int16",)},
    "device_arrays": check_device_arrays,
}
