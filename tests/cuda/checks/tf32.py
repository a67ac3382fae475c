"""Convolutions on tensor cores, against the definition of what is rounded to TF32."""

from __future__ import annotations

from functools import partial
from unittest import mock

import numpy as np

import fastconv as fc
from fastconv.kernels.cuda.runtime import current
from tests.cuda.checks.conv import definition
from tests.cuda.checks.inputs import integers, raises
from tests.cuda.runtimes import to_device

CONVOLUTIONS = {
    # name: (function, x shape, weight shape, options)
    "plain": ("conv2d", (2, 3, 4, 5), (5, 3, 3, 3), {"padding": 1}),
    "stride_dilation": (
        "conv2d",
        (1, 2, 9, 8),
        (3, 2, 3, 2),
        {"stride": (2, 1), "dilation": (1, 3), "padding": (0, 2)},
    ),
    "groups": ("conv2d", (1, 4, 5, 5), (6, 2, 3, 3), {"groups": 2, "padding": 1}),
    "channels_last": ("conv2d", (2, 6, 5, 3), (5, 3, 2, 3), {"padding": 1, "stride": 2, "layout": "channels_last"}),
    "series": ("conv1d", (2, 3, 9), (2, 3, 3), {"padding": "causal", "dilation": 2}),
    "volume": ("conv3d", (1, 2, 4, 5, 4), (2, 2, 2, 3, 2), {"padding": 1, "stride": (1, 2, 1), "dilation": (2, 1, 1)}),
    "pointwise": ("conv2d", (17, 3, 3), (65, 17, 1, 1), {}),
    "no_batch": ("conv2d", (0, 2, 5, 5), (3, 2, 3, 3), {}),
    "no_channels": ("conv2d", (1, 0, 3, 3), (2, 0, 2, 2), {}),
}


def rounded(array):
    """Return the nearest numbers with a mantissa of 10 bits, of two the one farther from zero."""
    bits = array.view(np.uint32).astype(np.uint64)
    return (bits + 0x1000 & 0xFFFFE000).astype(np.uint32).view(np.float32)


def check_exact(name):
    function, x_shape, w_shape, options = CONVOLUTIONS[name]
    x, w = integers(x_shape, 1, low=-1024, high=1025), integers(w_shape, 2)
    bias = integers(w_shape[:1], 3)
    got = getattr(fc, function)(x, w, bias, device="cuda", precision="tf32", **options)
    np.testing.assert_array_equal(got, definition(function, x, w, options, bias))


def check_rounding():
    random = np.random.default_rng(7)
    x, w = (random.standard_normal(shape).astype("f4") for shape in ((2, 5, 5, 6), (4, 5, 3, 3)))
    bias, residual = (random.standard_normal(shape).astype("f4") for shape in ((4,), (2, 4, 5, 6)))
    call = partial(fc.conv2d, x, w, bias, padding=1, residual=residual, activation="relu", device="cuda")
    got = call(precision="tf32")
    expected = definition("conv2d", rounded(x), rounded(w), {"padding": 1}, bias, residual, "relu")
    np.testing.assert_allclose(got, expected, 1e-5, 1e-5)
    exact = definition("conv2d", x, w, {"padding": 1}, bias, residual, "relu")
    np.testing.assert_allclose(got, exact, 0, 2e-2)
    assert abs(got - exact).max() > 1e-4


def check_halfway():
    # Of two TF32 numbers as near, the one farther from zero; what is no number stays.
    x = np.array([[[1 + 2**-11, -1 - 2**-11, 1 + 2**-12, 1 + 3 * 2**-11, np.inf, np.nan]]], np.float32)
    got = fc.conv1d(x, np.ones((1, 1, 1), np.float32), device="cuda", precision="tf32")
    np.testing.assert_array_equal(got[0, 0], [1 + 2**-10, -1 - 2**-10, 1, 1 + 2**-9, np.inf, np.nan])
    got = fc.conv1d(np.ones_like(x), x[:, :, :1], device="cuda", precision="tf32")
    np.testing.assert_array_equal(got, np.full_like(x, 1 + 2**-10))


def check_device_arrays():
    x, w = integers((1, 2, 5, 4), 1), integers((3, 2, 3, 3), 2)
    expected = definition("conv2d", x, w, {})
    strided = to_device(np.ascontiguousarray(x.transpose(0, 1, 3, 2)).transpose(0, 1, 3, 2))
    np.testing.assert_array_equal(fc.conv2d(strided, w, precision="tf32").copy_to_host(), expected)
    plan = fc.plan_conv2d(x.shape, w, device="cuda", precision="tf32")
    assert plan.algorithm == "direct"
    np.testing.assert_array_equal(plan(x), expected)


def check_errors():
    x, w = integers((1, 2, 4, 4), 1), integers((2, 2, 3, 3), 2)
    call = partial(fc.conv2d, device="cuda", precision="tf32")
    for dtype in ("float64", "float16", "int32"):
        raises(fc.UnsupportedError, "expected float32", partial(call, x.astype(dtype), w.astype(dtype)))
    raises(fc.UnsupportedError, "direct can", lambda: call(x, w, algorithm="im2col"))
    raises(fc.UnsupportedError, "on CUDA devices only", lambda: fc.conv2d(x, w, device="cpu", precision="tf32"))
    raises(fc.UnsupportedError, "on CUDA devices only", lambda: fc.conv2d(x, w, precision="tf32"))
    transposed = partial(fc.conv_transpose2d, x, w, device="cuda", precision="tf32")
    raises(fc.UnsupportedError, "on CUDA devices only", transposed)
    with mock.patch.object(type(current()), "compute_capability", return_value=(7, 5)):
        raises(fc.UnsupportedError, "7.5, expected 8.0 or more", lambda: call(x[:, :, :3], w))
    raises(fc.OptionError, "precision", lambda: fc.conv2d(x, w, device="cuda", precision="tf16"))


CHECKS = {
    **{name: partial(check_exact, name) for name in CONVOLUTIONS},
    "rounding": check_rounding,
    "halfway": check_halfway,
    "device_arrays": check_device_arrays,
    "errors": check_errors,
}
