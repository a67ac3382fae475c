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
    # name: (x shape, weight shape, options); outputs of 2 or fewer along an axis are tiles of 2x2
    "plain": ((1, 2, 6, 7), (3, 2, 3, 3), {"padding": 1}),
    "two_by_two": ((2, 3, 4, 3), (2, 3, 3, 3), {}),
    "channels_last": ((2, 6, 5, 2), (3, 2, 3, 3), {"padding": 1, "layout": "channels_last"}),
    "uneven_padding": ((1, 2, 5, 6), (2, 2, 3, 3), {"padding": ((2, 0), (0, 1))}),
    "crop": ((1, 2, 9, 9), (2, 2, 3, 3), {"padding": ((-1, 1), (2, -2))}),
    "reflect": ((1, 1, 5, 4), (2, 1, 3, 3), {"padding": ((2, 1), (3, 0)), "padding_mode": "reflect"}),
    "groups": ((1, 4, 4, 4), (2, 2, 3, 3), {"groups": 2, "padding": 1}),
    "one_pixel": ((1, 1, 1, 1), (1, 1, 3, 3), {"padding": 1}),
    "no_batch": ((0, 2, 5, 5), (3, 2, 3, 3), {}),
    "unbatched": ((2, 6, 6), (1, 2, 3, 3), {}),
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


def check_drawn(name, dtype="float32", limit=None):
    x_shape, w_shape, options = PROBLEMS[name]
    x, w = drawn(x_shape, 1, dtype), drawn(w_shape, 2, dtype)
    expected = definition("conv2d", x.astype("f8"), w.astype("f8"), options)
    fc.set_max_workspace(limit)
    try:
        got = fc.conv2d(x, w, algorithm="winograd", device="cuda", **options)
    finally:
        fc.set_max_workspace(None)
    close(got, expected, options, dtype)


def check_exact():
    """The sums of F(2x2,3x3) on integers are exact where the weight's halves and quarters are."""
    x, w = integers((1, 2, 4, 4), 1), 4 * integers((3, 2, 3, 3), 2)
    got = fc.conv2d(x, w, algorithm="winograd", device="cuda")
    np.testing.assert_array_equal(got, definition("conv2d", x, w, {}))


def check_epilogue(activation, layout):
    x, w, bias = drawn((1, 5, 4, 2), 1, "float32"), drawn((3, 2, 3, 3), 2, "float32"), integers((3,), 3)
    residual = drawn((1, 5, 4, 3), 4, "float32")
    if layout == "channels_first":
        x, residual = (np.ascontiguousarray(np.moveaxis(a, -1, 1)) for a in (x, residual))
    options = {"padding": 1, "layout": layout}
    expected = definition("conv2d", x, w, options, bias, residual, activation)
    rest = {"residual": to_device(residual), "activation": activation, "algorithm": "winograd", **options}
    got = fc.conv2d(to_device(x), to_device(w), bias, **rest).copy_to_host()
    np.testing.assert_allclose(got, expected, 1e-4, 1e-4)


def check_plan():
    x, w = drawn((1, 2, 6, 5), 1, "float32"), drawn((2, 2, 3, 3), 2, "float32")
    strided = to_device(np.ascontiguousarray(x.transpose(0, 3, 2, 1))).transpose(0, 3, 2, 1)
    plan = fc.plan_conv2d(x.shape, w, algorithm="winograd", device="cuda")
    assert plan.algorithm == "winograd"
    close(plan(strided).copy_to_host(), definition("conv2d", x.astype("f8"), w.astype("f8"), {}), {}, "float32")


def check_refusals():
    x, w = integers((1, 2, 6, 6), 1), integers((2, 2, 3, 3), 2)

    def refused(match, x=x, w=w, function=fc.conv2d, **options):
        raises(
            fc.UnsupportedError, match, lambda: function(x, w, algorithm="winograd", device="cuda", **options)
        )

    refused("rounding error", precision="strict")
    refused("stride must be 1", stride=2)
    refused("dilation must be 1", dilation=2)
    refused("float32 or float64", x.astype("f2"), w.astype("f2"))
    refused("must be 3x3, got 1x3", w=w[:, :, :1])
    refused("must be 3x3, got 3;", x[0], w[0], fc.conv1d)
    assert fc.plan_conv2d(x.shape, w, device="cuda").algorithm == "direct"
    fc.set_max_workspace(100)
    try:
        refused("576 bytes for a tile")
    finally:
        fc.set_max_workspace(None)


CHECKS = {
    **{f"drawn-{name}": partial(check_drawn, name) for name in PROBLEMS},
    "drawn-float64": partial(check_drawn, "plain", "float64"),
    "drawn-two_by_two-float64": partial(check_drawn, "two_by_two", "float64"),
    "bands": partial(check_drawn, "plain", "float32", 3 * 36 * 5 * 4),
    "exact": check_exact,
    "epilogue-relu": partial(check_epilogue, "relu", "channels_first"),
    "epilogue-silu-channels_last": partial(check_epilogue, "silu", "channels_last"),
    "plan": check_plan,
    "refusals": check_refusals,
}
