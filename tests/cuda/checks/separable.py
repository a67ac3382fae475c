"""Depthwise-separable convolutions on the device: as one kernel, and as two."""

from __future__ import annotations

from functools import partial

import numpy as np

import fastconv as fc
from tests.cuda.checks.conv import definition
from tests.cuda.checks.forms import channels
from tests.cuda.checks.inputs import integers
from tests.cuda.runtimes import to_device

LAST = {"layout": "channels_last"}
CASES = {
    # name: (x shape, depthwise weight shape, output channels, options)
    "plain": ((2, 3, 6, 7), (3, 1, 3, 3), 5, {"padding": 1}),
    "many_channels": ((1, 9, 9, 3), (9, 1, 3, 3), 33, {"padding": ((2, 0), (1, 1))}),
    "many_pixels": ((2, 1, 9, 9), (2, 1, 3, 3), 2, {"padding": 1, "dilation": (1, 2)}),
    "multiplier_stride": ((1, 2, 9, 7), (6, 1, 3, 2), 5, {"stride": 2, "padding": ((1, 0), (0, 2))}),
    "square_stride": ((1, 2, 9, 8), (2, 1, 3, 3), 4, {"stride": 2, "padding": 1}),
    "stride_over_kernel": ((1, 2, 18, 8), (2, 1, 2, 1), 3, {"stride": (5, 3)}),
    "stride_and_dilation": ((1, 2, 26, 5), (2, 1, 3, 3), 3, {"dilation": (3, 1), "stride": (2, 1), "padding": (3, 1)}),
    "crop": ((1, 2, 9, 8), (2, 1, 3, 3), 3, {"padding": ((-1, 1), (2, -2))}),
    "five": ((1, 2, 6, 6), (2, 1, 5, 5), 3, {"padding": "same"}),
    "tall": ((1, 1, 9, 4), (2, 1, 14, 2), 3, {"padding": "same"}),
    "last": ((2, 6, 5, 3), (3, 1, 3, 3), 5, {"padding": 1, "dilation": 2, **LAST}),
    "last_many": ((1, 9, 3, 5), (10, 1, 3, 3), 33, {"padding": 1, **LAST}),
    "reflect": ((2, 5, 5), (2, 1, 3, 3), 5, {"padding": 1, "padding_mode": "reflect"}),
    "two_kernels": ((1, 3, 1, 6), (3, 1, 3, 3), 33, {"padding": 1}),
    "two_kernels_by_name": ((1, 3, 5, 5), (3, 1, 3, 3), 4, {"algorithm": "direct"}),
    "no_channels": ((1, 0, 4, 4), (0, 1, 3, 3), 5, {}),
    "no_batch": ((0, 2, 4, 4), (2, 1, 3, 3), 5, {}),
}


def check(name, dtype, whole=True):
    x_shape, dw_shape, OC, options = CASES[name]
    x, dw, pw = integers(x_shape, 1, dtype), integers(dw_shape, 2, dtype, -2, 3), integers((OC, dw_shape[0]), 3, dtype)
    bias = integers((OC,), 4, dtype)
    rest = {"depthwise_bias": integers(dw_shape[:1], 5, dtype), "depthwise_activation": "relu"} if whole else {}
    expected = both(x, dw, pw, bias, "relu6", rest, options)
    got = fc.separable_conv2d(x, dw, pw, bias, activation="relu6", device="cuda", **rest, **options)
    assert got.dtype == x.dtype
    np.testing.assert_array_equal(got, expected)


def both(x, dw, pw, bias, activation, between, options):
    """Return the definition of a separable convolution."""
    C = channels(x.shape, "conv2d", options)
    layout = {"layout": options.get("layout", "channels_first")}
    if not C:
        return np.broadcast_to(bias[:, None, None].clip(0, 6), (1, len(pw), 2, 2))
    given = between.get("depthwise_bias"), None, between.get("depthwise_activation")
    options = {key: value for key, value in options.items() if key != "algorithm"}
    middle = definition("conv2d", x, dw, {**options, "groups": C}, *given)
    return definition("conv2d", middle, pw.reshape(*pw.shape[:2], 1, 1), layout, bias, activation=activation)


def check_device_arrays():
    x, dw, pw = integers((1, 3, 5, 5), 1), integers((3, 1, 3, 3), 2), integers((4, 3, 1, 1), 3)
    residual = integers((1, 4, 3, 3), 4)
    middle = definition("conv2d", x, dw, {"groups": 3})
    expected = definition("conv2d", middle, pw, {}, residual=residual)
    here = to_device(x)
    got = fc.separable_conv2d(here, dw, to_device(pw), residual=residual)
    assert type(got) is type(here)
    np.testing.assert_array_equal(got.copy_to_host(), expected)
    out = to_device(np.full(expected.shape, np.nan, np.float32))
    assert fc.separable_conv2d(here, dw, pw, residual=residual, out=out) is out
    np.testing.assert_array_equal(out.copy_to_host(), expected)


def check_strided_input():
    x, dw, pw = integers((2, 3, 5, 4), 1), integers((3, 1, 3, 3), 2), integers((4, 3), 3)
    strided = to_device(np.ascontiguousarray(x.transpose(0, 3, 2, 1)).transpose(0, 3, 2, 1))
    got = fc.separable_conv2d(strided, dw, pw, padding=1).copy_to_host()
    np.testing.assert_array_equal(got, both(x, dw, pw, None, None, {}, {"padding": 1}))


def check_formulas(dtype="float32", tolerance=1e-5):
    x, dw, pw = integers((1, 3, 5, 5), 1, dtype, -2, 3), integers((3, 1, 3, 3), 2, dtype), integers((4, 3), 3, dtype)
    options = {"residual": integers((1, 4, 3, 3), 4, dtype), "device": "cuda"}
    got = fc.separable_conv2d(x, dw, pw, depthwise_activation="silu", activation="silu", **options)
    assert got.dtype == x.dtype
    middle = definition("conv2d", x.astype("f8"), dw.astype("f8"), {"groups": 3}, activation="silu")
    pw = pw[:, :, None, None].astype("f8")
    expected = definition("conv2d", middle, pw, {}, None, options["residual"].astype("f8"), "silu")
    np.testing.assert_allclose(got, expected, tolerance, tolerance)


def check_special_values():
    x, dw, pw = integers((1, 3, 6, 4), 1, low=1), integers((3, 1, 3, 3), 2, low=1), np.ones((2, 3), np.float32)
    # Channels that fill a step of channels are none, whatever the weights of others are.
    dw[0, 0, 1, 1] = np.inf
    for value in (1, np.nan):
        x[0, 1, 2, 2] = value
        for activation in (None, "relu", "leaky_relu"):
            with np.errstate(invalid="ignore"):
                between = {"depthwise_activation": activation}
                expected = both(x, dw, pw, None, activation, between, {"padding": 1})
            got = fc.separable_conv2d(x, dw, pw, activation=activation, padding=1, device="cuda", **between)
            np.testing.assert_allclose(got, expected, 1e-6)


def check_layer(x_shape, dw_shape, OC, options):
    x, dw, pw = integers(x_shape, 1), integers(dw_shape, 2, low=-2, high=3), integers((OC, dw_shape[0]), 3)
    rest = {"depthwise_activation": "relu6", "activation": "relu", **options}
    # The kernels of the CPU are compared with the definition elsewhere.
    expected = fc.separable_conv2d(x, dw, pw, device="cpu", precision="strict", **rest)
    np.testing.assert_array_equal(fc.separable_conv2d(x, dw, pw, device="cuda", **rest), expected)


CHECKS = {
    **{name: partial(check, name, "float32") for name in CASES},
    "float64": partial(check, "last", "float64"),
    "float16": partial(check, "plain", "float16", False),
    "float16_last": partial(check, "last", "float16"),
    "device_arrays": check_device_arrays,
    "strided_input": check_strided_input,
    "formulas": check_formulas,
    "formulas-float16": partial(check_formulas, "float16", 2e-3),
    "special_values": check_special_values,
}
SLOW = tuple(name for name in CHECKS if name not in ("plain", "many_channels", "device_arrays", "no_batch"))
LARGE = {
    "mobilenet": partial(check_layer, (2, 32, 56, 56), (32, 1, 3, 3), 64, {"padding": 1}),
    "mobilenet_stride": partial(check_layer, (2, 64, 57, 57), (64, 1, 3, 3), 60, {"stride": 2, "padding": 1}),
    "channels_last": partial(check_layer, (2, 28, 28, 96), (96, 1, 5, 5), 30, {"padding": 2, **LAST}),
}
