"""Winograd's convolution on the device: within its error of the definition, exact where its sums are, refusals."""

from __future__ import annotations

from functools import partial

import numpy as np

import fastconv as fc
from tests.cuda.checks.conv import definition
from tests.cuda.checks.inputs import integers, raises
from tests.cuda.runtimes import to_device

# Of the largest output of a channel; see the Notes of fc.conv2d.
BOUND = {"float32": 3e-5, "float64": 1e-13}

PROBLEMS = {
    # name: (x shape, weight shape, options); outputs of 2 along an axis, up to 4 along the other, are tiles of 2x2
    "plain": ((1, 2, 3, 7), (3, 2, 3, 3), {"padding": 1}),
    "groups_crop": ((1, 4, 4, 3), (2, 2, 3, 3), {"groups": 2, "padding": ((-1, 1), (0, 1))}),
    "no_batch": ((0, 2, 5, 5), (3, 2, 3, 3), {}),
}


def drawn(shape, seed, dtype):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def close(got, expected, options, dtype):
    """Hold that the error is within the bound, of the largest output of each channel."""
    assert got.dtype == np.dtype(dtype)
    assert got.shape == expected.shape
    axis = got.ndim - 1 if options.get("layout") == "channels_last" else got.ndim - 3
    others = tuple(i for i in range(got.ndim) if i != axis)
    scale = np.abs(expected).max(others, initial=0, keepdims=True)
    assert (np.abs(got - expected) <= BOUND[dtype] * scale).all(), np.abs(got - expected).max()


def check_drawn(x_shape, w_shape, options, dtype="float32"):
    x, w = drawn(x_shape, 1, dtype), drawn(w_shape, 2, dtype)
    expected = definition("conv2d", x.astype("f8"), w.astype("f8"), options)
    got = fc.conv2d(x, w, algorithm="winograd", device="cuda", **options)
    close(got, expected, options, dtype)


def check_bands():
    """Three of four tiles, then the last; F(2x2,3x3) on integers is exact where the weight's quarters are integers."""
    x, w = integers((2, 3, 4, 5), 1), 4 * integers((2, 3, 3, 3), 2)
    fc.set_max_workspace(3 * 16 * 5 * 4)
    try:
        got = fc.conv2d(x, w, algorithm="winograd", device="cuda")
    finally:
        fc.set_max_workspace(None)
    np.testing.assert_array_equal(got, definition("conv2d", x, w, {}))


def check_unbatched_channels_last():
    x, w, bias = drawn((2, 3, 2), 1, "float32"), drawn((3, 2, 3, 3), 2, "float32"), integers((3,), 3)
    options = {"padding": 1, "layout": "channels_last"}
    residual = drawn((2, 3, 3), 4, "float32")
    expected = definition("conv2d", x[None], w, options, bias, residual[None], "silu")[0]
    rest = {"residual": to_device(residual), "activation": "silu", "algorithm": "winograd", **options}
    got = fc.conv2d(to_device(x), to_device(w), bias, **rest).copy_to_host()
    np.testing.assert_allclose(got, expected, 1e-5, 1e-5)


def check_plan_with_border():
    x, w, bias = drawn((1, 1, 2, 3), 1, "float32"), drawn((2, 1, 3, 3), 2, "float32"), integers((2,), 3)
    options = {"padding": ((1, 1), (2, 0)), "padding_mode": "reflect"}
    residual = drawn((1, 2, 2, 3), 4, "float32")
    expected = definition("conv2d", x, w, options, bias, residual, "relu")
    rest = {"activation": "relu", "algorithm": "winograd", **options}
    plan = fc.plan_conv2d(x.shape, w, bias, device="cuda", **rest)
    assert plan.algorithm == "winograd"
    np.testing.assert_allclose(plan(to_device(x), residual=residual).copy_to_host(), expected, 1e-5, 1e-5)


def check_refusals():
    x, w = integers((1, 2, 6, 6), 1), integers((2, 2, 3, 3), 2)

    def refused(match, x=x, w=w, function=fc.conv2d, **options):
        raises(fc.UnsupportedError, match, lambda: function(x, w, algorithm="winograd", device="cuda", **options))

    refused("rounding error", precision="strict")
    refused("stride must be 1", stride=2)
    refused("dilation must be 1", dilation=2)
    refused("float32 or float64", x.astype("f2"), w.astype("f2"))
    refused("must be 3x3, got 1x3", w=w[:, :, :1])
    refused("must be 3x3, got 3;", x[:, :, 0], w[:, :, 0], fc.conv1d)
    assert fc.plan_conv2d(x.shape, w, device="cuda").algorithm == "direct"
    fc.set_max_workspace(100)
    try:
        refused("576 bytes for a tile")
    finally:
        fc.set_max_workspace(None)


CHECKS = {
    **{name: partial(check_drawn, *problem) for name, problem in PROBLEMS.items()},
    "float64": partial(check_drawn, *PROBLEMS["plain"], "float64"),
    "bands": check_bands,
    "unbatched_channels_last": check_unbatched_channels_last,
    "plan_with_border": check_plan_with_border,
    "refusals": check_refusals,
}

LARGE = {
    "batch": partial(check_drawn, (8, 16, 28, 30), (124, 16, 3, 3), {"padding": 1}),
    "channels_last": partial(check_drawn, (1, 29, 27, 40), (33, 40, 3, 3), {"padding": 1, "layout": "channels_last"}),
    "groups": partial(check_drawn, (2, 24, 19, 17), (21, 8, 3, 3), {"groups": 3, "padding": 1}),
    "large_float64": partial(check_drawn, (2, 20, 13, 14), (37, 20, 3, 3), {"padding": 1}, "float64"),
}
SLOW = ("bands", "groups_crop")
