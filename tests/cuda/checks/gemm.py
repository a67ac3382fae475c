"""Convolutions as products of matrices on the device: integers, bfloat16, large kernels."""

from __future__ import annotations

from functools import partial

import numpy as np

import fastconv as fc
from tests.cuda.checks.conv import CONVOLUTIONS, definition
from tests.cuda.checks.inputs import integers, raises
from tests.cuda.runtimes import to_device

X, W, Y = (1, 2, 5, 6), (3, 2, 3, 3), (1, 3, 5, 6)


def check_integers(dtype, out_dtype=None, activation=None):
    """Sums, residual and bias wrap to the result's dtype, and then comes the activation."""
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    high = min(high, 2**40)
    x, w, bias, residual = (
        np.random.default_rng(i).integers(max(low, -high), high, shape, dtype=np.int64).astype(dtype)
        for i, shape in enumerate((X, W, W[:1], Y))
    )
    padded = np.pad(x.astype("i8"), ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, W[2:], (2, 3))
    # The definition sums large integers in floats; this wraps.
    expected = np.einsum("nchwij,ocij->nohw", windows, w.astype("i8"))
    expected = expected + bias.astype("i8").reshape(-1, 1, 1) + residual.astype("i8")
    expected = expected.astype(out_dtype or dtype)
    if activation is not None:
        expected = np.clip(expected, 0, 6 if activation == "relu6" else None)
    got = fc.conv2d(x, w, bias, padding=1, residual=residual, out_dtype=out_dtype, activation=activation, device="cuda")
    assert got.dtype == np.dtype(out_dtype or dtype)
    np.testing.assert_array_equal(got, expected)


def check_integers_of_the_device():
    x, w = integers(X, 1, "int16"), integers(W, 2, "int16")
    got = fc.conv2d(to_device(x), w, out_dtype="int32")
    assert got.copy_to_host().dtype == np.int32
    np.testing.assert_array_equal(got.copy_to_host(), definition("conv2d", x.astype("i4"), w.astype("i4"), {}))


def check_bfloat16():
    try:
        import ml_dtypes
    except ImportError:
        return
    x, w = integers(X, 1), integers(W, 2)
    expected = definition("conv2d", x, w, {"padding": 1})
    got = fc.conv2d(x.astype(ml_dtypes.bfloat16), w.astype(ml_dtypes.bfloat16), padding=1, device="cuda")
    assert got.dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(got, expected.astype(ml_dtypes.bfloat16))


def check_large_kernel(function, x_shape, w_shape, options):
    """Kernels with more taps along their axes than an integer has bits."""
    x, w = integers(x_shape, 1), integers(w_shape, 2)
    got = getattr(fc, function)(x, w, device="cuda", **options)
    np.testing.assert_array_equal(got, definition(function, x, w, options))


def check_im2col(name, dtype, limit=None):
    """The columns in one piece, in bands of images, and in bands of rows."""
    function, x_shape, w_shape, options = CONVOLUTIONS[name]
    x, w, bias = integers(x_shape, 1, dtype), integers(w_shape, 2, dtype), integers(w_shape[:1], 3, dtype)
    expected = definition(function, x, w, options, bias)
    residual = integers(expected.shape, 4, dtype)
    fc.set_max_workspace(limit)
    try:
        got = getattr(fc, function)(x, w, bias, residual=residual, algorithm="im2col", device="cuda", **options)
    finally:
        fc.set_max_workspace(None)
    assert got.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(got, expected + residual)


def check_im2col_refuses():
    x, w = integers(X, 1), integers(W, 2)
    fc.set_max_workspace(100)
    try:
        raises(fc.UnsupportedError, "im2col", lambda: fc.conv2d(x, w, algorithm="im2col", device="cuda"))
    finally:
        fc.set_max_workspace(None)


def check_errors():
    x, w = integers(X, 1, "int8"), integers(W, 2, "int8")
    raises(fc.DtypeError, "gelu", lambda: fc.conv2d(x, w, activation="gelu", device="cuda"))
    raises(fc.DtypeError, "out_dtype", lambda: fc.conv2d(x.astype("f4"), w, out_dtype="int8", device="cuda"))


CHECKS = {
    **{name: partial(check_integers, name) for name in ("int8", "uint8", "int32", "uint32", "int64")},
    "int8-int32": partial(check_integers, "int8", "int32"),
    "uint8-int64": partial(check_integers, "uint8", "int64"),
    "uint16-relu6": partial(check_integers, "uint16", None, "relu6"),
    "int8-relu": partial(check_integers, "int8", None, "relu"),
    "integers_of_the_device": check_integers_of_the_device,
    "bfloat16": check_bfloat16,
    "long_kernel": partial(check_large_kernel, "conv1d", (1, 1, 40), (1, 1, 33), {"padding": 3}),
    "tall_kernel": partial(check_large_kernel, "conv3d", (1, 1, 2, 31, 2), (1, 1, 1, 31, 2), {"padding": 1}),
    **{
        f"im2col-{name}": partial(check_im2col, name, "float32")
        for name in ("plain", "channels_last", "groups", "crop", "unbatched", "no_batch", "volume_last", "reflect")
    },
    "im2col-float16": partial(check_im2col, "plain", "float16"),
    "im2col-int32": partial(check_im2col, "groups", "int32"),
    "im2col-images": partial(check_im2col, "plain", "float32", 27 * 42 * 4),
    "im2col-rows": partial(check_im2col, "channels_last", "float32", 18 * 7 * 4),
    "im2col-refuses": check_im2col_refuses,
    "errors": check_errors,
}
