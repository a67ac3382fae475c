"""Convolutions on the device, against the definition: shapes, dtypes, epilogues, arrays of the device, errors."""

from __future__ import annotations

from functools import partial

import numpy as np

import fastconv as fc
from fastconv.epilogue import ACTIVATIONS
from fastconv.geometry.conv import conv_geometry
from fastconv.kernels.reference import conv as reference
from tests.cuda.checks.inputs import integers, raises
from tests.cuda.runtimes import to_device

CONVOLUTIONS = {
    # name: (function, x shape, weight shape, options)
    "plain": ("conv2d", (2, 3, 6, 7), (4, 3, 3, 3), {"padding": 1}),
    "channels_last": ("conv2d", (2, 6, 5, 3), (5, 3, 2, 3), {"padding": 1, "stride": 2, "layout": "channels_last"}),
    "tall_stride_dilation": ("conv2d", (1, 2, 9, 8), (3, 2, 3, 2), {"stride": (2, 1), "dilation": (1, 3)}),
    "groups": ("conv2d", (2, 4, 5, 5), (6, 2, 3, 3), {"groups": 2, "padding": 1}),
    "uneven_padding": ("conv2d", (1, 2, 5, 6), (2, 2, 3, 3), {"padding": ((2, 0), (0, 1))}),
    "crop": ("conv2d", (1, 2, 7, 8), (2, 2, 3, 3), {"padding": ((-1, 1), (2, -2))}),
    "unbatched": ("conv2d", (2, 5, 5), (3, 2, 1, 1), {}),
    "no_batch": ("conv2d", (0, 2, 5, 5), (3, 2, 3, 3), {}),
    "series_causal": ("conv1d", (2, 3, 9), (2, 3, 3), {"padding": "causal", "dilation": 2}),
    "volume": ("conv3d", (1, 2, 4, 5, 4), (2, 2, 2, 3, 2), {"padding": 1, "stride": (1, 2, 1), "dilation": (2, 1, 1)}),
    "volume_last": ("conv3d", (1, 4, 5, 4, 2), (2, 2, 2, 3, 2), {"padding": 1, "layout": "channels_last"}),
    "wide": ("conv2d", (1, 1, 9, 9), (33, 1, 3, 3), {"padding": "same"}),
    **{
        mode: ("conv2d", (1, 2, 5, 4), (2, 2, 3, 3), {"padding": ((2, 1), (3, 0)), "padding_mode": mode})
        for mode in ("reflect", "replicate", "circular", "symmetric")
    },
}


def definition(function, x, w, options, bias=None, residual=None, activation=None):
    axes = int(function[4])
    batched = x.ndim == axes + 2
    g = conv_geometry(function, axes, x.shape if batched else (1, *x.shape), w.shape, dtype=x.dtype.name, **options)
    expected = reference.conv(x, w, g, bias, residual, activation)
    return expected if batched else expected[0]


def check_conv(name, dtype):
    function, x_shape, w_shape, options = CONVOLUTIONS[name]
    x, w = integers(x_shape, 1, dtype), integers(w_shape, 2, dtype)
    bias = integers(w_shape[:1], 3, dtype)
    expected = definition(function, x, w, options, bias)
    got = getattr(fc, function)(x, w, bias, device="cuda", **options)
    assert type(got) is np.ndarray
    assert got.dtype == x.dtype
    np.testing.assert_array_equal(got, expected)


def check_layer(x_shape, w_shape, options, dtype="float32"):
    x, w = integers(x_shape, 1, dtype), integers(w_shape, 2, dtype)
    # The kernels of the CPU are compared with the definition elsewhere.
    expected = fc.conv2d(x, w, device="cpu", precision="strict", **options)
    np.testing.assert_array_equal(fc.conv2d(x, w, device="cuda", **options), expected)


def check_epilogue(activation):
    x, w, bias, residual = (integers(s, i) for i, s in enumerate([(1, 2, 5, 5), (3, 2, 3, 3), (3,), (1, 3, 3, 3)]))
    x, w = x / 8, w / 8
    expected = definition("conv2d", x, w, {}, bias, residual, activation)
    got = fc.conv2d(x, w, bias, residual=residual, activation=activation, device="cuda")
    np.testing.assert_allclose(got, expected, 1e-6, 1e-6)


def check_special_values():
    x = integers((1, 1, 4, 4), 1)
    x[0, 0, 1, 1], x[0, 0, 3, 3] = np.nan, np.inf
    w = np.ones((1, 1, 2, 2), np.float32)
    for activation in ("relu", "relu6", "leaky_relu"):
        expected = definition("conv2d", x, w, {"padding": 1}, activation=activation)
        got = fc.conv2d(x, w, padding=1, activation=activation, device="cuda")
        np.testing.assert_allclose(got, expected, 1e-6)
    # Padding is arithmetic zeros.
    w[0, 0, 0, 0] = np.inf
    with np.errstate(invalid="ignore"):
        expected = definition("conv2d", x, w, {"padding": 1})
    np.testing.assert_array_equal(fc.conv2d(x, w, padding=1, device="cuda"), expected)


def check_device_arrays():
    x, w = integers((2, 3, 5, 5), 1), integers((4, 3, 3, 3), 2)
    expected = definition("conv2d", x, w, {})
    here, there = to_device(x), to_device(w)
    got = fc.conv2d(here, there)
    assert type(got) is type(here)
    np.testing.assert_array_equal(got.copy_to_host(), expected)
    # A weight of the host is copied; a strided input is read where it lies.
    np.testing.assert_array_equal(fc.conv2d(here, w).copy_to_host(), expected)
    strided = to_device(np.ascontiguousarray(x.transpose(0, 1, 3, 2)).transpose(0, 1, 3, 2))
    np.testing.assert_array_equal(fc.conv2d(strided, w).copy_to_host(), expected)
    out = to_device(np.full(expected.shape, np.nan, np.float32))
    assert fc.conv2d(here, there, out=out) is out
    np.testing.assert_array_equal(out.copy_to_host(), expected)
    # The result may stand where the input stands.
    one = integers((3, 3, 1, 1), 4)
    expected = definition("conv2d", x, one, {})
    assert fc.conv2d(here, one, out=here) is here
    np.testing.assert_array_equal(here.copy_to_host(), expected)


def check_out_of_the_host():
    x, w = integers((1, 2, 4, 4), 1), integers((2, 2, 3, 3), 2)
    out = np.full((1, 2, 4, 2), np.nan, np.float32)[:, :, ::2]
    assert fc.conv2d(x, w, out=out, device="cuda") is out
    np.testing.assert_array_equal(out, definition("conv2d", x, w, {}))


def check_errors():
    x, w = integers((1, 2, 4, 4), 1), integers((2, 2, 3, 3), 2)
    d = to_device(x)
    raises(fc.UnsupportedError, "complex64", lambda: fc.conv2d(x.astype("c8"), w, device="cuda"))
    raises(fc.UnsupportedError, "direct can", lambda: fc.conv2d(x, w, device="cuda", algorithm="winograd"))
    raises(fc.UnsupportedError, "device memory", lambda: fc.conv2d(d, w, device="cpu"))
    raises(fc.ArgumentTypeError, "on the device", lambda: fc.conv2d(d, w, out=np.empty((1, 2, 2, 2), "f4")))
    raises(fc.ShapeError, "out has shape", lambda: fc.conv2d(d, w, out=d))
    raises(fc.ShapeError, "bias", lambda: fc.conv2d(d, w, np.zeros(3, "f4")))
    raises(fc.ShapeError, "weight has IC/groups", lambda: fc.conv2d(d, w, groups=2))


CHECKS = {
    **{f"{name}-float32": partial(check_conv, name, "float32") for name in CONVOLUTIONS},
    **{
        f"{name}-{d}": partial(check_conv, name, d) for name in ("plain", "volume_last") for d in ("float64", "float16")
    },
    **{f"activation-{name}": partial(check_epilogue, name) for name in ACTIVATIONS if name},
    "special_values": check_special_values,
    "device_arrays": check_device_arrays,
    "out_of_the_host": check_out_of_the_host,
    "errors": check_errors,
}

# Each tile of the menu, on sizes that do not fill it.
LARGE = {
    "128x128": partial(check_layer, (9, 5, 61, 63), (124, 5, 3, 3), {"padding": 1}),
    "128x64": partial(check_layer, (2, 8, 91, 93), (125, 8, 3, 3), {"padding": 2, "dilation": 2}),
    "64x64": partial(check_layer, (2, 32, 95, 95), (62, 32, 3, 3), {"padding": 1}),
    "32x64": partial(check_layer, (1, 3, 224, 224), (24, 3, 7, 7), {"padding": 3, "stride": 2}),
    "groups": partial(check_layer, (1, 64, 56, 56), (96, 16, 3, 3), {"padding": 1, "groups": 4}),
    "channels_last": partial(check_layer, (1, 56, 57, 48), (72, 48, 3, 3), {"padding": 1, "layout": "channels_last"}),
    "pointwise": partial(check_layer, (1, 256, 28, 28), (128, 256, 1, 1), {}),
    "float64": partial(check_layer, (2, 24, 41, 41), (70, 24, 3, 3), {"padding": 1}, "float64"),
}
