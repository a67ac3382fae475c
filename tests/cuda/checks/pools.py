"""Pools on the device, against their definition: windows, adaptive and global ones, norms, dtypes, indices, errors."""

from __future__ import annotations

import itertools
from functools import partial

import numpy as np

import fastconv as fc
from fastconv.kernels.reference import grad as pulling
from fastconv.kernels.reference import pool as definition
from tests import pools
from tests.cuda.checks.inputs import integers, raises
from tests.cuda.runtimes import to_device
from tests.pools import Drawn

# name: (function, shape in channels_first, keywords). Each other kernel costs a second, so widths are odd, and maxima
# have indices, but where pairs and values alone are meant.
_BOTH = {"return_indices": True}
WINDOWS = {
    "pairs": ("max_pool2d", (2, 3, 6, 4), {"kernel_size": 2, **_BOTH}),
    "pairs_at_odd_places": ("max_pool2d", (1, 2, 5, 8), {"kernel_size": 3, "stride": (3, 2), "padding": 1, **_BOTH}),
    "in_registers": ("max_pool2d", (1, 2, 10, 8), {"kernel_size": 3, "stride": 1, "padding": 1}),
    "in_registers_apart": ("max_pool2d", (2, 1, 7, 9), {"kernel_size": 2, "ceil_mode": True}),
    "average_in_registers": ("avg_pool2d", (1, 2, 9, 7), {"kernel_size": 3, "stride": 2, "padding": ((1, 0), (1, 1))}),
    "overlapping": ("max_pool2d", (1, 2, 10, 7), {"kernel_size": 3, "stride": (2, 1), "padding": 1, **_BOTH}),
    "apart": ("max_pool2d", (1, 2, 7, 9), {"kernel_size": 2, "stride": (3, 4), **_BOTH}),
    "ceil": ("max_pool1d", (2, 2, 9), {"kernel_size": 2, "padding": ((1, 0),), "ceil_mode": True, **_BOTH}),
    "dilated": ("max_pool2d", (1, 1, 6, 7), {"kernel_size": (2, 3), "stride": 1, "dilation": (3, 2), **_BOTH}),
    "empty_windows": (
        "max_pool1d",
        (1, 2, 3),
        {"kernel_size": 2, "dilation": 6, "padding": ((3, 3),), "stride": 1, **_BOTH},
    ),
    "volume": ("max_pool3d", (1, 2, 3, 4, 5), {"kernel_size": (2, 3, 2), "stride": (1, 3, 2), **_BOTH}),
    "no_batch": ("max_pool2d", (0, 2, 4, 4), {"kernel_size": 2, **_BOTH}),
    "adaptive": ("adaptive_max_pool2d", (1, 2, 7, 5), {"output_size": (3, 4), **_BOTH}),
    "same": ("avg_pool2d", (1, 3, 5, 7), {"kernel_size": 3, "stride": (3, 2), "padding": "same"}),
    "exclusive": ("avg_pool2d", (2, 1, 5, 7), {"kernel_size": 2, "padding": 1, "count_include_pad": False}),
    "overridden": ("avg_pool2d", (1, 2, 8, 5), {"kernel_size": (3, 2), "stride": 1, "divisor_override": -3}),
    "average_volume": ("avg_pool3d", (1, 2, 3, 4, 3), {"kernel_size": 2, "ceil_mode": True}),
    "unbatched": ("avg_pool1d", (3, 9), {"kernel_size": 4}),
    "adaptive_average": ("adaptive_avg_pool3d", (1, 2, 3, 4, 5), {"output_size": (2, None, 3)}),
    "one_output": ("adaptive_max_pool2d", (2, 3, 9, 15), {"output_size": 1, **_BOTH}),
    "global_average": ("global_avg_pool", (2, 3, 8, 9), {}),
    "global_max": ("global_max_pool", (1, 3, 3, 3, 5), {"keepdims": False}),
    "global_small": ("global_avg_pool", (2, 3, 7), {}),
}
# What is run in other dtypes: one kernel of each.
OTHERS = (
    *(("apart", dtype) for dtype in ("float64", "float16", "int8", "uint32")),
    *(("empty_windows", dtype) for dtype in ("int8",)),
    *(("exclusive", dtype) for dtype in ("int8", "float16")),
)


def drawn(name, dtype="float32"):
    function, shape, keywords = WINDOWS[name]
    return Drawn(function, integers(shape, 1, dtype, *((0, 99) if dtype[0] == "u" else (-50, 50))), keywords)


def same(got, expected):
    got, expected = (a if isinstance(a, tuple) else (a,) for a in (got, expected))
    for one, other in zip(got, expected, strict=True):
        assert type(one) is np.ndarray
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


def check_windows(name, dtype, layout):
    a = drawn(name, dtype)
    same(a.run(layout, device="cuda"), pools.expected(a))


def check_special_values():
    x = np.array([[[np.nan, 1, 2, np.nan, 3, 3, -np.inf, -np.inf, np.inf, -0.0, 0.0, np.nan]]], np.float32)
    for size, stride in ((2, 2), (3, 1), (4, 2)):
        keywords = {"kernel_size": (1, size), "stride": (1, stride), "return_indices": True}
        a = Drawn("max_pool2d", x[..., : 12 - size % 2], keywords)
        same(a.run(device="cuda"), pools.expected(a))
    tall = np.full((1, 2, 12, 8), -np.inf, np.float32)
    tall[0, 1, 7, 3] = tall[0, 1, 9, 6] = np.nan
    for layout in ("channels_first", "channels_last"):
        a = Drawn("adaptive_max_pool2d", tall, {"output_size": 1, "return_indices": True})
        same(a.run(layout, device="cuda"), pools.expected(a))


def norm(values, p, size, whole=False):
    """Return PyTorch's norm of windows, the last axis, of which a whole one has `size` elements."""
    with np.errstate(all="ignore"):
        if np.isinf(p):
            return np.abs(values).max(-1) if p > 0 else np.abs(values).min(-1)
        mean = (values.astype(float) ** p).mean(-1)
        return ((np.trunc(mean) if whole else mean) * size) ** (1 / p)


def check_norms():
    x = integers((1, 1, 6, 5), 3) / 2
    taps = [definition.regular(6, 3, 3, 2), definition.regular(5, 3, 2, 2)]
    for p in (2, 3, 2.5, -1, np.inf, -np.inf):
        given = np.abs(x) + 1 if p in (2.5, -1) else x
        got = fc.lp_pool2d(given, p, (3, 2), 2, ceil_mode=True, device="cuda")
        expected = definition.pool(given[0], taps, lambda values, _, p=p: norm(values, p, 6))
        np.testing.assert_allclose(got[0], expected, 1e-5, 1e-6)
    for dtype, p in (("int16", 2), ("int16", 3), ("float16", 2)):
        given = integers((2, 6, 2), 4, dtype, 1)
        got = fc.lp_pool1d(given, p, 3, layout="channels_last", device="cuda")
        assert got.dtype == ("float16" if dtype == "float16" else "float32")
        windows = given.reshape(2, 2, 3, 2).transpose(0, 1, 3, 2)
        np.testing.assert_allclose(got, norm(windows, p, 3, dtype != "float16"), 1e-3 if dtype == "float16" else 1e-6)


GRADIENTS = (
    *("pairs", "overlapping", "apart", "dilated", "empty_windows", "volume", "adaptive", "one_output", "global_max"),
    *(
        "same",
        "exclusive",
        "overridden",
        "average_volume",
        "unbatched",
        "adaptive_average",
        "global_average",
        "no_batch",
    ),
)


def check_gradient(name, dtype, layout):
    a = drawn(name, dtype)
    axes, keep = pools.axes_of(a.name, a.x), a.keywords.get("keepdims", True)
    batched = a.x.ndim == axes + 2
    keywords = {k: v for k, v in a.keywords.items() if k != "return_indices"} | {"layout": layout, "device": "cuda"}
    expected = pools.expected(a)
    indices = None
    if "max" in name + a.name:
        with_indices = a._replace(keywords=a.keywords | {"return_indices": True})
        expected, indices = pools.expected(with_indices)
    grad = integers(expected.shape, 2, dtype)
    turn = (lambda array: pools.to_last(array, batched)) if layout == "channels_last" else np.asarray
    (got,) = getattr(fc.grad, f"{a.name}_vjp")(turn(grad) if keep else grad, turn(a.x), **keywords)
    assert got.dtype == dtype
    sizes = a.x.shape[-axes:]
    if indices is None:
        wanted = averaged_back(a, grad, axes)
    else:
        # Windows that hold nothing have no maximum.
        grad = np.where(expected == (-np.inf if dtype[0] == "f" else 0), 0, grad)
        flat = (-1, 1, *grad.shape[grad.ndim - axes :]) if keep else (-1, 1, *(1,) * axes)
        wanted = pulling.scattered(grad.reshape(flat), indices.reshape(flat), sizes).reshape(a.x.shape)
    np.testing.assert_allclose(got, turn(wanted), 1e-2 if dtype == "float16" else 1e-6, 1e-6)


def averaged_back(a, grad, axes):
    """Return the gradient of averages: each shared by what its window counts."""
    if "output_size" in a.keywords or a.name.startswith("global"):
        taps, counts = pools.grid(a.x, axes, a.keywords.get("output_size", 1))
    else:
        taps, counts = pools.windows(a.x, axes, a.keywords)
    shape = [len(each) for each in taps]
    wanted = grad.reshape(-1, *shape).astype("f8")
    if a.keywords.get("divisor_override"):
        wanted, counts = wanted / a.keywords["divisor_override"], [np.ones(n) for n in shape]
    for axis, (found, count) in enumerate(zip(taps, counts, strict=True)):
        shares = np.zeros((a.x.shape[axis - axes], len(found)))
        for o, window in enumerate(found):
            for i in window:
                if 0 <= i < len(shares):
                    shares[i, o] += 1 / count[o]
        wanted = np.moveaxis(np.tensordot(shares, wanted, (1, axis + 1)), 0, axis + 1)
    return wanted.reshape(a.x.shape)


def check_gradients_of_norms():
    x = integers((1, 1, 4, 5), 3, low=1) / 2
    grad = integers((1, 1, 2, 4), 4)
    for p in (2, 3, -1.5, np.inf, -np.inf):
        (got,) = fc.grad.lp_pool2d_vjp(grad, x, p, 2, (2, 1), device="cuda")
        wanted = np.zeros(x.shape)
        for oh, ow in np.ndindex(2, 4):
            seen = x[0, 0, 2 * oh : 2 * oh + 2, ow : ow + 2].astype("f8")
            if np.isinf(p):
                slopes = np.zeros(4)
                slopes[np.argmax(seen) if p > 0 else np.argmin(seen)] = 1
            else:
                slopes = (seen / (seen**p).sum() ** (1 / p)) ** (p - 1)
            wanted[0, 0, 2 * oh : 2 * oh + 2, ow : ow + 2] += grad[0, 0, oh, ow] * slopes.reshape(2, 2)
        np.testing.assert_allclose(got, wanted, 1e-4, 1e-5)
    assert fc.grad.lp_pool1d_vjp(np.ones((1, 2), "f4"), np.ones((1, 5), "i4"), 2, 2, device="cuda") == (None,)
    (zero,) = fc.grad.lp_pool1d_vjp(np.ones((1, 2), "f4"), np.zeros((1, 5), "f4"), 2, 2, device="cuda")
    np.testing.assert_array_equal(zero, np.zeros((1, 5)))


def check_device_arrays():
    x = integers((2, 3, 6, 7), 1)
    given = to_device(x)
    a = Drawn("max_pool2d", x, {"kernel_size": 2, "stride": 3, "return_indices": True})
    got = fc.max_pool2d(given, **a.keywords)
    assert all(type(each) is type(given) for each in got)
    same(tuple(each.copy_to_host() for each in got), pools.expected(a))
    # Strided inputs are read where they lie; what has no common step for planes is copied.
    for order in ((0, 1, 3, 2), (1, 0, 2, 3), (2, 1, 0, 3)):
        back = tuple(np.argsort(order))
        strided = to_device(np.ascontiguousarray(x.transpose(order)).transpose(back))
        same(tuple(each.copy_to_host() for each in fc.max_pool2d(strided, **a.keywords)), pools.expected(a))
    out = to_device(np.full((2, 3, 2, 2), np.nan, np.float32))
    assert fc.max_pool2d(given, 2, 3, out=out) is out
    same(out.copy_to_host(), pools.expected(a)[0])
    # The result may stand where the input stands.
    assert fc.avg_pool2d(given, 1, out=given) is given
    same(given.copy_to_host(), x)


def check_errors():
    x = to_device(integers((1, 2, 4, 4), 1))
    raises(fc.ShapeError, "padding", lambda: fc.max_pool2d(x, 2, padding=2))
    raises(fc.ShapeError, "out has shape", lambda: fc.max_pool2d(x, 2, out=x))
    raises(fc.DtypeError, "complex64", lambda: fc.max_pool2d(np.ones((1, 2, 2), "c8"), 2, device="cuda"))
    raises(fc.OptionError, "device", lambda: fc.max_pool2d(x, 2, device="gpu"))
    raises(fc.UnsupportedError, "device memory", lambda: fc.max_pool2d(x, 2, device="cpu"))


CHECKS = {
    **{
        f"{name}-{layout}": partial(check_windows, name, "float32", layout)
        for name in WINDOWS
        for layout in ("channels_first", "channels_last")
    },
    **{f"{name}-{dtype}": partial(check_windows, name, dtype, "channels_first") for name, dtype in OTHERS},
    "special_values": check_special_values,
    **{
        f"gradient-{name}-{layout}": partial(check_gradient, name, "float32", layout)
        # Every other one in the other layout, of which kernels know only the strides.
        for name, layout in zip(GRADIENTS, itertools.cycle(("channels_first", "channels_last")), strict=False)
    },
    **{f"gradient-{name}-float64": partial(check_gradient, name, "float64", "channels_first") for name in ("same",)},
    "gradient-adaptive-float16": partial(check_gradient, "adaptive", "float16", "channels_first"),
    "norms": check_norms,
    "gradients_of_norms": check_gradients_of_norms,
    "device_arrays": check_device_arrays,
    "errors": check_errors,
}
SLOW = ("apart-int8", "apart-uint32", "apart-float64")
