"""Transposed convolutions on the device, against the definition."""

from __future__ import annotations

from functools import partial

import numpy as np

import fastconv as fc
from fastconv.geometry.conv_transpose import conv_transpose_geometry
from fastconv.kernels.reference import conv_transpose as reference
from tests.cuda.checks.inputs import integers, raises
from tests.cuda.runtimes import to_device

TRANSPOSED = {
    # name: (axes, x shape, weight shape, options)
    "one_phase": (2, (2, 3, 4, 5), (3, 4, 3, 3), {"padding": 1}),
    "stride": (2, (1, 2, 4, 3), (2, 3, 3, 2), {"stride": 2, "padding": 1, "output_padding": 1}),
    "channels_last": (2, (2, 3, 4, 2), (2, 3, 3, 3), {"stride": (2, 1), "layout": "channels_last"}),
    "groups": (2, (1, 4, 3, 3), (4, 3, 3, 3), {"stride": (2, 1), "groups": 2}),
    "depthwise": (2, (1, 2, 3, 3), (2, 1, 2, 2), {"stride": 2, "groups": 2}),
    "gaps": (2, (1, 2, 3, 2), (2, 2, 2, 1), {"stride": 3, "output_padding": 1}),
    "dilation": (2, (1, 2, 4, 3), (2, 2, 3, 2), {"stride": (2, 3), "dilation": (3, 2)}),
    "dilation_shares_stride": (2, (1, 1, 4, 3), (1, 2, 3, 2), {"stride": (2, 4), "dilation": (2, 6)}),
    "pairs": (2, (1, 2, 4, 3), (2, 2, 3, 3), {"stride": 2, "padding": ((2, 0), (-1, -2))}),
    "same": (2, (1, 1, 3, 4), (1, 2, 3, 2), {"stride": 2, "padding": "same"}),
    "crops_most": (2, (1, 2, 4, 4), (2, 1, 3, 3), {"stride": 2, "padding": 3}),
    "unbatched": (2, (2, 3, 3), (2, 3, 2, 2), {"stride": 2}),
    "no_batch": (2, (0, 2, 3, 3), (2, 3, 2, 2), {"stride": 2}),
    "wide": (2, (1, 2, 3, 2), (2, 33, 2, 2), {"stride": (1, 2)}),
    "series": (1, (2, 2, 5), (2, 3, 4), {"stride": 3, "padding": 1}),
    "volume": (3, (1, 2, 2, 3, 2), (2, 2, 2, 3, 2), {"stride": (2, 1, 2), "padding": (0, 1, 0), "dilation": (1, 2, 1)}),
    "volume_last": (3, (1, 2, 2, 3, 2), (2, 2, 3, 2, 2), {"stride": 2, "layout": "channels_last"}),
}


def definition(axes, x, w, options, bias=None, activation=None):
    batched = x if x.ndim == axes + 2 else x[None]
    g = conv_transpose_geometry("check", axes, batched.shape, w.shape, dtype=x.dtype.name, **options)
    expected = reference.conv_transpose(batched, w, g, bias, activation)
    return expected if x.ndim == axes + 2 else expected[0]


def check_transposed(name, dtype):
    axes, x_shape, w_shape, options = TRANSPOSED[name]
    x, w = integers(x_shape, 1, dtype), integers(w_shape, 2, dtype)
    bias = integers((w_shape[1] * options.get("groups", 1),), 3, dtype)
    got = getattr(fc, f"conv_transpose{axes}d")(x, w, bias, device="cuda", **options)
    assert type(got) is np.ndarray
    assert got.dtype == x.dtype
    np.testing.assert_array_equal(got, definition(axes, x, w, options, bias))


def check_activation(activation):
    x, w, bias = integers((1, 2, 3, 3), 1) / 8, integers((2, 2, 2, 1), 2), integers((2,), 3)
    got = fc.conv_transpose2d(x, w, bias, 3, activation=activation, device="cuda")
    np.testing.assert_allclose(got, definition(2, x, w, {"stride": 3}, bias, activation), 1e-6, 1e-6)


def check_device_arrays():
    x, w = integers((1, 2, 3, 4), 1), integers((2, 3, 3, 2), 2)
    expected = definition(2, x, w, {"stride": 2})
    here = to_device(np.ascontiguousarray(x.transpose(0, 1, 3, 2)).transpose(0, 1, 3, 2))
    got = fc.conv_transpose2d(here, to_device(w), stride=2)
    assert type(got) is type(here)
    np.testing.assert_array_equal(got.copy_to_host(), expected)
    out = to_device(np.full(expected.shape, np.nan, np.float32))
    assert fc.conv_transpose2d(here, w, stride=2, out=out) is out
    np.testing.assert_array_equal(out.copy_to_host(), expected)


def check_errors():
    x, w = integers((1, 2, 4, 4), 1), integers((2, 2, 3, 3), 2)
    raises(fc.ShapeError, "bias has shape", lambda: fc.conv_transpose2d(x, w, np.zeros(3, "f4"), device="cuda"))
    raises(fc.ShapeError, "out has shape", lambda: fc.conv_transpose2d(to_device(x), w, out=to_device(x)))
    raises(fc.UnsupportedError, "direct can", lambda: fc.conv_transpose2d(x, w, algorithm="fft", device="cuda"))
    raises(fc.UnsupportedError, "complex64", lambda: fc.conv_transpose2d(x.astype("c8"), w, device="cuda"))


CHECKS = {
    **{f"{name}-float32": partial(check_transposed, name, "float32") for name in TRANSPOSED},
    **{f"{name}-{d}": partial(check_transposed, name, d) for name in ("stride",) for d in ("float64", "float16")},
    "activation-relu6": partial(check_activation, "relu6"),
    "activation-tanh": partial(check_activation, "tanh"),
    "device_arrays": check_device_arrays,
    "errors": check_errors,
}
