"""Special forms of convolution on the device: depthwise, pointwise, separable, plans, filters of images."""

from __future__ import annotations

from functools import partial

import numpy as np

import fastconv as fc
from tests.cuda.checks.conv import definition
from tests.cuda.checks.inputs import integers, raises
from tests.cuda.runtimes import to_device

DEPTHWISE = {
    # name: (function, x shape, weight shape, options)
    "plain": ("conv2d", (2, 3, 9, 7), (3, 1, 3, 3), {"padding": 1}),
    "multiplier": ("conv2d", (1, 2, 5, 6), (6, 1, 2, 3), {"padding": ((2, 0), (0, 1))}),
    "stride": ("conv2d", (1, 3, 17, 9), (3, 1, 3, 3), {"stride": 2, "padding": 1}),
    "stride_over_kernel": ("conv2d", (1, 2, 9, 8), (2, 1, 2, 1), {"stride": (4, 3)}),
    "dilation": ("conv2d", (1, 2, 20, 7), (2, 1, 3, 3), {"dilation": (2, 3), "padding": 2}),
    "stride_and_dilation": ("conv2d", (1, 2, 25, 7), (2, 1, 3, 2), {"dilation": (3, 2), "stride": (2, 2), "padding": 3}),
    "tall": ("conv2d", (1, 1, 13, 5), (2, 1, 11, 2), {"padding": "same"}),
    "crop": ("conv2d", (1, 2, 7, 8), (2, 1, 3, 3), {"padding": ((-1, 1), (2, -2))}),
    "one_pixel": ("conv2d", (2, 3, 1, 1), (3, 1, 1, 1), {}),
    "no_batch": ("conv2d", (0, 2, 5, 5), (2, 1, 3, 3), {}),
    "unbatched": ("conv2d", (2, 5, 5), (4, 1, 3, 3), {}),
    "last": ("conv2d", (2, 5, 9, 3), (3, 1, 3, 3), {"padding": 1, "layout": "channels_last"}),
    "last_multiplier": ("conv2d", (1, 9, 5, 2), (6, 1, 3, 2), {"stride": (1, 2), "layout": "channels_last"}),
    "series": ("conv1d", (2, 3, 9), (3, 1, 3), {"padding": "causal", "dilation": 2}),
    "volume": ("conv3d", (1, 2, 4, 9, 3), (2, 1, 2, 3, 2), {"padding": 1, "stride": (2, 1, 1), "dilation": (2, 1, 1)}),
    "reflect": ("conv2d", (1, 2, 9, 4), (2, 1, 3, 3), {"padding": ((2, 1), (3, 0)), "padding_mode": "reflect"}),
}


def channels(shape, function, options):
    """Return the channels of an input."""
    return shape[-1] if options.get("layout") == "channels_last" else shape[-1 - int(function[4])]


def check_depthwise(name, dtype):
    function, x_shape, w_shape, options = DEPTHWISE[name]
    options = {**options, "groups": channels(x_shape, function, options)}
    x, w, bias = integers(x_shape, 1, dtype), integers(w_shape, 2, dtype), integers(w_shape[:1], 3, dtype)
    expected = definition(function, x, w, options, bias)
    got = getattr(fc, function)(x, w, bias, device="cuda", algorithm="depthwise", **options)
    assert got.dtype == x.dtype
    np.testing.assert_array_equal(got, expected)


CHECKS = {
    **{f"depthwise-{name}-float32": partial(check_depthwise, name, "float32") for name in DEPTHWISE},
    **{f"depthwise-{n}-{d}": partial(check_depthwise, n, d) for n in ("plain", "last") for d in ("float64", "float16")},
}
