"""Gradients of convolutions and activations on the device, against the definitions."""

from __future__ import annotations

import math
from functools import partial

import numpy as np

import fastconv as fc
from fastconv.epilogue import ACTIVATIONS
from fastconv.geometry.conv import conv_geometry
from fastconv.kernels.reference import grad as formulas
from fastconv.kernels.reference import gradients as reference
from tests.cuda.checks.conv import definition
from tests.cuda.checks.inputs import integers, raises
from tests.cuda.checks.transposed import definition as upward
from tests.cuda.runtimes import to_device

CONVOLUTIONS = {
    # name: (axes, x shape, weight shape, options)
    "plain": (2, (2, 3, 5, 4), (5, 3, 3, 3), {"padding": 1}),
    "channels_last": (2, (2, 5, 4, 3), (8, 3, 2, 3), {"padding": 1, "stride": 2, "layout": "channels_last"}),
    "stride_beyond_kernel": (2, (1, 2, 9, 7), (3, 2, 2, 1), {"stride": (4, 3)}),
    "dilation_crop": (2, (1, 1, 9, 8), (2, 1, 3, 2), {"dilation": (1, 3), "padding": ((-1, 2), (0, -2))}),
    "groups": (2, (2, 4, 3, 4), (16, 2, 3, 3), {"groups": 2, "padding": 1}),
    "one_pixel": (2, (1, 1, 3, 3), (2, 1, 3, 3), {}),
    "unbatched": (2, (2, 4, 4), (3, 2, 1, 1), {}),
    "no_batch": (2, (0, 1, 4, 4), (3, 1, 2, 1), {}),
    "series": (1, (2, 3, 9), (15, 3, 3), {"padding": "causal", "dilation": 2}),
    "volume": (3, (1, 2, 3, 4, 3), (6, 2, 2, 3, 2), {"padding": 1, "stride": (1, 2, 1), "dilation": (2, 1, 1)}),
    "depthwise": (2, (2, 2, 5, 4), (4, 1, 3, 1), {"padding": 1, "stride": (1, 2), "groups": 2}),
    "depthwise_last": (2, (2, 5, 4, 3), (3, 1, 2, 2), {"padding": 1, "groups": 3, "layout": "channels_last"}),
    "few_volume": (3, (1, 1, 3, 4, 3), (1, 1, 2, 3, 1), {"padding": 1, "stride": (1, 2, 1)}),
    "reflect": (2, (1, 1, 5, 4), (1, 1, 3, 3), {"padding": ((2, 1), (3, 0)), "padding_mode": "reflect"}),
    "circular_last": (
        2,
        (1, 3, 4, 2),
        (2, 2, 3, 2),
        {"padding": ((1, 1), (1, -1)), "padding_mode": "circular", "layout": "channels_last"},
    ),
}

# Of whose weights alone gradients are taken.
WEIGHTS = {
    "parts": (1, (1, 9, 258), (5, 9, 3), {"padding": 1}),
    "wide": (2, (1, 8, 3, 3), (33, 8, 3, 3), {}),
    "few_parts": (1, (1, 1, 4100), (1, 1, 1), {}),
    # With a bound that decides at every side, two strides, images that end within a step.
    "seeded": (2, (3, 2, 5, 6), (8, 2, 3, 3), {"stride": (2, 1), "padding": 1}),
}


def drawn(name, dtype="float32"):
    """Return (axes, geometry, x, weight, dy, options)."""
    axes, x_shape, w_shape, options = (CONVOLUTIONS | WEIGHTS)[name]
    batched = x_shape if len(x_shape) == axes + 2 else (1, *x_shape)
    g = conv_geometry("check", axes, batched, w_shape, dtype=dtype, **options)
    out = (g.OD, g.OH, g.OW)[-axes:]
    dy_shape = (g.N, *out, g.OC) if g.layout == "channels_last" else (g.N, g.OC, *out)
    dy_shape = dy_shape[len(batched) - len(x_shape) :]
    x, w, dy = (integers(shape, i, dtype) for i, shape in enumerate((x_shape, w_shape, dy_shape)))
    return axes, g, x, w, dy, options


def channel_sums(dy, g):
    return np.moveaxis(dy, -1 if g.layout == "channels_last" else -1 - g.axes, 0).reshape(g.OC, -1).sum(1)


def check_vjp(name, dtype):
    axes, g, x, w, dy, options = drawn(name, dtype)
    got = getattr(fc.grad, f"conv{axes}d_vjp")(dy, x, w, np.zeros(g.OC, dtype), device="cuda", **options)
    expected = (
        reference.input_gradient(w, dy, g).reshape(x.shape),
        reference.weight_gradient(x, dy, g),
        channel_sums(dy.astype("f8"), g),
    )
    for found, wanted in zip(got, expected, strict=True):
        assert type(found) is np.ndarray
        assert found.dtype == x.dtype
        np.testing.assert_array_equal(found, wanted)


def check_each():
    _, g, x, w, dy, options = drawn("plain")
    here, there, above = map(to_device, (x, w, dy))
    got = fc.grad.conv2d_input(x.shape, there, above, **options)
    assert type(got) is type(here)
    np.testing.assert_array_equal(got.copy_to_host(), reference.input_gradient(w, dy, g))
    strided = to_device(np.ascontiguousarray(dy.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2))
    got = fc.grad.conv2d_weight(here, w.shape, strided, **options)
    np.testing.assert_array_equal(got.copy_to_host(), reference.weight_gradient(x, dy, g))
    host = fc.grad.conv2d_weight(x, w.shape, dy, device="cuda", **options)
    np.testing.assert_array_equal(host, reference.weight_gradient(x, dy, g))


def check_weight(name):
    axes, g, x, w, dy, options = drawn(name)
    got = getattr(fc.grad, f"conv{axes}d_weight")(x, w.shape, dy, device="cuda", **options)
    np.testing.assert_array_equal(got, reference.weight_gradient(x, dy, g))


def check_same_bits():
    _, _, x, w, dy, options = drawn("parts")
    x, w, dy = (np.random.default_rng(i).normal(size=a.shape).astype("f4") for i, a in enumerate((x, w, dy)))
    first, again = (fc.grad.conv1d_weight(x, w.shape, dy, device="cuda", **options) for _ in range(2))
    np.testing.assert_array_equal(first.view("u4"), again.view("u4"))
    # It is the adjoint of the convolution, but for rounding.
    forward = definition("conv1d", x.astype("f8"), w.astype("f8"), options)
    assert math.isclose((forward * dy).sum(), (first.astype("f8") * w).sum(), rel_tol=1e-5)


def adjoints(forward, dy, arrays):
    """Return the gradient of each array of an operation that is linear in each of them."""
    wide = [a.astype("f8") for a in arrays]

    def of_one(i):
        return lambda a: forward(*wide[:i], a, *wide[i + 1 :])

    return [formulas.adjoint(of_one(i), a.shape, dy.astype("f8")) for i, a in enumerate(arrays)]


def close(got, expected, arrays):
    """Hold that gradients are as expected, each of its array's dtype."""
    for found, wanted, array in zip(got, expected, arrays, strict=True):
        assert (found.shape, found.dtype) == (array.shape, array.dtype)
        np.testing.assert_allclose(found, wanted, 2e-3 if array.dtype == "f2" else 1e-5, 1e-5)


def check_epilogue():
    shapes = (1, 1, 4, 4), (2, 1, 3, 2), (2,), (1, 2, 2, 3), (1, 2, 2, 3)
    x, w, b, r, dy = (integers(shape, i) for i, shape in enumerate(shapes))
    pulled = formulas.pullback("relu6", dy, definition("conv2d", x, w, {}, b, r))
    expected = [*adjoints(lambda x, w: definition("conv2d", x, w, {}), pulled, (x, w)), pulled.sum((0, 2, 3)), pulled]
    got = fc.grad.conv2d_vjp(dy, x, w, b, activation="relu6", residual=r, device="cuda")
    close(got, expected, (x, w, b, r))
    # Integers have no gradient, and half precision is rounded at the end.
    _, expected = adjoints(lambda x, w: definition("conv2d", x, w, {}), dy, (x, w))
    none, got, absent = fc.grad.conv2d_vjp(dy, x.astype("i1"), w.astype("f2"), device="cuda")
    assert (none, absent) == (None, None)
    close([got], [expected], [w.astype("f2")])


def check_transposed():
    x, w, b = integers((1, 2, 3, 3), 1), integers((2, 3, 3, 2), 2), integers((3,), 3)
    dy = integers((1, 3, 7, 6), 4)
    expected = adjoints(lambda x, w: upward(2, x, w, {"stride": 2}), dy, (x, w))
    got = fc.grad.conv_transpose2d_vjp(dy, x, w, b, stride=2, device="cuda")
    close(got, [*expected, dy.sum((0, 2, 3))], (x, w, b))
    x, w, dy = integers((4, 5), 1), integers((4, 1, 3), 2), integers((2, 12), 4)
    options = {"stride": 2, "groups": 2, "padding": ((1, -2),)}
    pulled = formulas.pullback("relu", dy, upward(1, x, w, options))
    expected = adjoints(lambda x, w: upward(1, x, w, options), pulled, (x, w))
    got = fc.grad.conv_transpose1d_vjp(dy, x, w, activation="relu", device="cuda", **options)
    close(got[:2], expected, (x, w))


def depthwise(x, w):
    return definition("conv2d", x, w, {"groups": x.shape[1]})


def separable(x, column, row):
    columns, rows = (np.broadcast_to(factor, (x.shape[1], factor.shape[-1])) for factor in (column, row))
    return depthwise(x, columns[:, None, :, None] * rows[:, None, None])


def check_factored():
    x, dy = integers((1, 3, 4, 4), 1), integers((1, 3, 3, 3), 2)
    w, pw, b = integers((3, 1, 2, 2), 3), integers((2, 3), 4), integers((3,), 5)
    got = fc.grad.depthwise_conv2d_vjp(dy, x, w, b, device="cuda")
    close(got, [*adjoints(depthwise, dy, (x, w)), dy.sum((0, 2, 3))], (x, w, b))
    column, row = integers((3, 2), 3), integers((2,), 4)
    got = fc.grad.spatially_separable_conv2d_vjp(dy, x, column, row, device="cuda")
    close(got[:3], adjoints(separable, dy, (x, column, row)), (x, column, row))
    pointwise = partial(np.einsum, "ncij,oc->noij")
    above = integers((1, 2, 4, 4), 2)
    got = fc.grad.pointwise_conv2d_vjp(above, x, pw, device="cuda")
    close(got[:2], adjoints(pointwise, above, (x, pw)), (x, pw))
    middle = depthwise(x, w) + b[:, None, None]
    above = integers((1, 2, 3, 3), 2)
    pulled, dpw = adjoints(pointwise, above, (formulas.pullback("relu", middle, middle), pw))
    pulled = formulas.pullback("relu", pulled, middle)
    got = fc.grad.separable_conv2d_vjp(above, x, w, pw, depthwise_bias=b, depthwise_activation="relu", device="cuda")
    dx, dw = adjoints(depthwise, pulled, (x, w))
    assert got[3] is None
    close((*got[:3], got[4]), (dx, dw, dpw, pulled.sum((0, 2, 3))), (x, w, pw, b))


def check_activation(name, dtype):
    x = np.array([[-np.inf, -20, -3, -1.5, -0.5, -0.0], [0, 0.5, 3, 6, np.nan, np.inf]], dtype)
    grad = np.linspace(-2, 3, 12).reshape(2, 6).astype(dtype)
    expected = formulas.pullback(name, grad.astype("f8"), x.astype("f8"))
    if name == "hardswish":
        # As on the CPU.
        expected[np.isnan(x)] = np.nan
    given = to_device(x)
    (got,) = getattr(fc.grad, f"{name}_vjp")(to_device(grad), given)
    assert type(got) is type(given)
    accuracy = 2e-3 if dtype == "float16" else 1e-6
    np.testing.assert_allclose(got.copy_to_host(), expected, accuracy, 1e-6)


def check_errors():
    _, _, x, w, dy, options = drawn("plain")
    raises(fc.ShapeError, "that of the result", lambda: fc.grad.conv2d_vjp(x, x, w, device="cuda", **options))
    raises(fc.DtypeError, "no array is of floats", lambda: fc.grad.conv2d_weight(*_whole(x, w, dy), device="cuda"))
    raises(fc.ShapeError, "bias", lambda: fc.grad.conv2d_vjp(dy, x, w, np.zeros(3, "f4"), device="cuda", **options))
    raises(fc.DtypeError, "expected floating point", lambda: fc.grad.tanh_vjp(*[to_device(x.astype("i4"))] * 2))
    raises(fc.ShapeError, "that of the result", lambda: fc.grad.relu_vjp(to_device(dy), to_device(x)))
    raises(fc.ShapeError, "column", lambda: fc.grad.spatially_separable_conv2d_vjp(dy, x, w, [1.0], device="cuda"))


def _whole(x, w, dy):
    return x.astype("i4"), w.shape, dy.astype("i4")


CHECKS = {
    **{f"{name}-float32": partial(check_vjp, name, "float32") for name in CONVOLUTIONS},
    **{f"{name}-{d}": partial(check_vjp, name, d) for name in ("channels_last",) for d in ("float64",)},
    **{
        f"activation-{name}-{dtype}": partial(check_activation, name, dtype)
        for name in ACTIVATIONS
        if name not in (None, "swish")
        for dtype in ("float32", *["float16"][: name == "tanh"])
    },
    **{name: partial(check_weight, name) for name in WEIGHTS},
    "each": check_each,
    "same_bits": check_same_bits,
    "epilogue": check_epilogue,
    "transposed": check_transposed,
    "factored": check_factored,
    "errors": check_errors,
}
SLOW = (
    "same_bits",
    *(
        f"{name}-float32"
        for name in ("series", "one_pixel", "stride_beyond_kernel", "few_volume", "unbatched", "no_batch")
    ),
)
