"""Special forms of convolution on the device: depthwise, pointwise, by factors, plans, filters of images."""

from __future__ import annotations

from functools import partial

import numpy as np
import scipy.ndimage
import scipy.signal

import fastconv as fc
from tests.cuda.checks.conv import definition
from tests.cuda.checks.inputs import integers, raises
from tests.cuda.runtimes import to_device

DEPTHWISE = {
    # name: (function, x shape, weight shape, options)
    "plain": ("conv2d", (2, 3, 9, 7), (3, 1, 3, 3), {"padding": 1}),
    "multiplier": ("conv2d", (1, 2, 9, 6), (6, 1, 3, 3), {"padding": ((2, 0), (0, 1))}),
    "stride": ("conv2d", (1, 3, 17, 9), (3, 1, 3, 3), {"stride": 2, "padding": 1}),
    "stride_over_kernel": ("conv2d", (1, 2, 18, 8), (2, 1, 2, 1), {"stride": (5, 3)}),
    "dilation": ("conv2d", (1, 2, 20, 7), (2, 1, 3, 3), {"dilation": (2, 3), "padding": 2}),
    "stride_and_dilation": (
        "conv2d",
        (1, 2, 25, 9),
        (2, 1, 3, 3),
        {"dilation": (3, 1), "stride": (2, 2), "padding": 3},
    ),
    "tall": ("conv2d", (1, 1, 13, 5), (2, 1, 9, 2), {"padding": "same"}),
    "crop": ("conv2d", (1, 2, 7, 8), (2, 1, 3, 3), {"padding": ((-1, 1), (2, -2))}),
    "one_pixel": ("conv2d", (2, 3, 1, 1), (3, 1, 1, 1), {}),
    "no_batch": ("conv2d", (0, 2, 5, 5), (2, 1, 3, 3), {}),
    "unbatched": ("conv2d", (2, 6, 5), (4, 1, 3, 3), {}),
    "last": ("conv2d", (2, 5, 9, 3), (3, 1, 3, 3), {"padding": 1, "layout": "channels_last"}),
    "last_multiplier": ("conv2d", (1, 9, 5, 2), (6, 1, 3, 3), {"stride": (1, 2), "layout": "channels_last"}),
    "series": ("conv1d", (2, 3, 9), (3, 1, 3), {"padding": "causal", "dilation": 2}),
    "volume": ("conv3d", (1, 2, 4, 9, 3), (2, 1, 2, 3, 3), {"padding": 1, "stride": (2, 1, 1), "dilation": (2, 1, 1)}),
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


def check_depthwise_function():
    x, w, bias = integers((2, 3, 9, 5), 1), integers((6, 1, 3, 3), 2), integers((6,), 3)
    residual = integers((2, 6, 5, 3), 4)
    options = {"stride": 2, "padding": 1}
    expected = definition("conv2d", x, w, {**options, "groups": 3}, bias, residual, "relu")
    rest = {**options, "residual": residual, "activation": "relu"}
    np.testing.assert_array_equal(fc.depthwise_conv2d(x, w, bias, device="cuda", **rest), expected)
    got = fc.depthwise_conv2d(to_device(x), to_device(w), bias, **rest)
    np.testing.assert_array_equal(got.copy_to_host(), expected)
    expected = definition("conv2d", x, w, {**options, "groups": 3}, bias, residual, "silu")
    rest["activation"] = "silu"
    np.testing.assert_allclose(fc.depthwise_conv2d(x, w, bias, device="cuda", **rest), expected, 1e-6, 1e-6)
    # A strided input is read where it lies.
    strided = to_device(np.ascontiguousarray(x.transpose(0, 3, 2, 1)).transpose(0, 3, 2, 1))
    plain = definition("conv2d", x, w, {"groups": 3, "padding": 1})
    np.testing.assert_array_equal(fc.depthwise_conv2d(strided, w, padding=1).copy_to_host(), plain)
    last = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
    got = fc.depthwise_conv2d(to_device(last), w, padding=1, layout="channels_last").copy_to_host()
    np.testing.assert_array_equal(got, plain.transpose(0, 2, 3, 1))


def check_depthwise_special_values():
    x = integers((1, 2, 9, 4), 1)
    x[0, 0, 1, 1], x[0, 1, 8, 3] = np.nan, np.inf
    w = np.ones((2, 1, 3, 2), np.float32)
    # Padding is arithmetic zeros.
    w[1, 0, 0, 0] = np.inf
    options = {"padding": 1, "groups": 2}
    for activation in (None, "relu", "leaky_relu"):
        with np.errstate(invalid="ignore"):
            expected = definition("conv2d", x, w, options, activation=activation)
        got = fc.conv2d(x, w, activation=activation, device="cuda", algorithm="depthwise", **options)
        np.testing.assert_allclose(got, expected, 1e-6)


def check_pointwise():
    x, w, bias = integers((2, 3, 4, 5), 1), integers((4, 3), 2), integers((4,), 3)
    expected = definition("conv2d", x, w[:, :, None, None], {}, bias)
    np.testing.assert_array_equal(fc.pointwise_conv2d(x, w, bias, device="cuda"), expected)
    turned = to_device(np.ascontiguousarray(w.T).T)
    got = fc.pointwise_conv2d(to_device(x), turned, bias, algorithm="pointwise")
    np.testing.assert_array_equal(got.copy_to_host(), expected)
    last = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
    got = fc.pointwise_conv2d(last[0], w[:, :, None, None], bias, layout="channels_last", device="cuda")
    np.testing.assert_array_equal(got, expected.transpose(0, 2, 3, 1)[0])


FACTORS = {
    # name: (x shape, column shape, row shape, options)
    "plain": ((2, 2, 7, 6), (3,), (5,), {"padding": "same"}),
    "each": ((1, 3, 34, 3), (3, 4), (3, 2), {"padding": 1}),
    "stride_dilation": ((1, 2, 9, 9), (3,), (2, 2), {"stride": 2, "dilation": (1, 3), "padding": ((2, 0), (1, 2))}),
    "last": ((2, 6, 12, 3), (3, 3), (3,), {"padding": 1, "layout": "channels_last"}),
    "symmetric": ((1, 1, 4, 4), (5,), (5,), {"padding": 2, "padding_mode": "symmetric"}),
    "too_tall": ((1, 2, 5, 4), (9,), (3, 3)[:1], {"padding": "same", "dilation": (11, 1)}),
    "too_tall_last": ((1, 5, 4, 2), (2, 9), (3,), {"padding": "same", "dilation": (11, 1), "layout": "channels_last"}),
    "unbatched": ((2, 5, 5), (3,), (3,), {}),
    "no_batch": ((0, 2, 5, 5), (3,), (3,), {}),
}


def check_factors(name, dtype, **more):
    x_shape, column_shape, row_shape, options = FACTORS[name]
    x, column, row = integers(x_shape, 1, dtype), integers(column_shape, 2, dtype), integers(row_shape, 3, dtype)
    C = channels(x_shape, "conv2d", options)
    columns, rows = (np.broadcast_to(f, (C, f.shape[-1])) for f in (column, row))
    w, bias = columns[:, None, :, None] * rows[:, None, None, :], integers((C,), 4, dtype)
    expected = definition("conv2d", x, w, {**options, "groups": C}, bias, activation="relu")
    got = fc.spatially_separable_conv2d(x, column, row, bias, activation="relu", device="cuda", **options, **more)
    assert got.dtype == x.dtype
    np.testing.assert_array_equal(got, expected)


def check_factors_of_device_arrays():
    x, column, row, residual = (integers(s, i) for i, s in enumerate([(1, 2, 5, 5), (2, 3), (3,), (1, 2, 3, 3)]))
    w = column[:, None, :, None] * row[None, None, None]
    expected = definition("conv2d", x, w, {"groups": 2}, residual=residual)
    turned = to_device(np.ascontiguousarray(column.T).T)
    got = fc.spatially_separable_conv2d(to_device(x), turned, to_device(row), residual=to_device(residual))
    np.testing.assert_array_equal(got.copy_to_host(), expected)


def check_plan():
    x, w, bias, residual = (integers(s, i) for i, s in enumerate([(2, 3, 6, 5), (4, 3, 3, 3), (4,), (2, 4, 6, 5)]))
    expected = definition("conv2d", x, w, {"padding": 1}, bias, residual, "relu")
    weight = to_device(w)
    plan = fc.plan_conv2d(x.shape, weight, bias, padding=1, activation="relu")
    assert plan.algorithm == "direct"
    assert "n2ic3h6w5" in repr(plan)
    here = to_device(x)
    np.testing.assert_array_equal(plan(here, residual=residual).copy_to_host(), expected)
    out = to_device(np.full(expected.shape, np.nan, np.float32))
    assert plan(here, out, residual=to_device(residual)) is out
    np.testing.assert_array_equal(out.copy_to_host(), expected)
    got = plan(x, residual=residual)
    assert type(got) is np.ndarray
    np.testing.assert_array_equal(got, expected)
    raises(fc.ShapeError, "input has shape", lambda: plan(x[:1]))
    raises(fc.DtypeError, "input has dtype float64", lambda: plan(x.astype("f8")))
    raises(fc.UnsupportedError, "pool", lambda: fc.plan_conv2d(x.shape, w, pool=2, device="cuda"))


def check_plan_owns_its_weight():
    x, w, bias = integers((3, 9, 4), 1), integers((3, 1, 3, 3), 2), integers((3,), 3)
    expected = definition("conv2d", x, w, {"groups": 3, "padding": 1}, bias)
    weight, added = to_device(w), to_device(bias)
    plan = fc.plan_conv2d(x.shape, weight, added, padding=1, groups=3, device="cuda")
    assert plan.algorithm == "depthwise"
    for array in (weight, added):
        fc.activations.relu(array, out=array)
    np.testing.assert_array_equal(plan(x), expected)


IMAGES = {
    # name: (in1 shape, in2 shape, arguments)
    "full": ((7, 6), (3, 2), {}),
    "same_even": ((5, 6), (2, 4), {"mode": "same", "boundary": "symm"}),
    "valid_swapped": ((3, 2), (9, 5), {"mode": "valid"}),
    "wrap": ((4, 5), (3, 3), {"boundary": "wrap"}),
    "fill": ((9, 5), (3, 3), {"fillvalue": 3}),
    "empty": ((3, 0), (2, 2), {}),
}


def check_images(name, dtype):
    first, second, arguments = IMAGES[name]
    a, b = integers(first, 1, dtype, 0, 9), integers(second, 2, dtype, 0, 9)
    for function in (fc.signal.correlate2d, fc.signal.convolve2d):
        expected = getattr(scipy.signal, function.__name__)(a, b, **arguments)
        got = function(to_device(a), b, **arguments).copy_to_host()
        assert got.dtype == expected.dtype
        np.testing.assert_array_equal(got, expected)


def check_arrays():
    for sizes, taps, mode in (((4, 5, 3), (2, 2, 3), "full"), ((11,), (4,), "same"), ((3,), (5,), "full")):
        a, b = integers(sizes, 1), integers(taps, 2)
        for function in (fc.signal.correlate, fc.signal.convolve):
            got = function(to_device(a), to_device(b), mode).copy_to_host()
            np.testing.assert_array_equal(got, getattr(scipy.signal, function.__name__)(a, b, mode, "direct"))


FILTERS = {
    # name: (function, shape, dtype, arguments, keywords)
    "correlate": ("correlate", (9, 6), "float32", ([[1, 2, 0], [3, 1, 2]],), {"mode": "mirror", "origin": (0, -1)}),
    "convolve_axes": ("convolve", (3, 9, 5), "float64", ([[1.0, 2], [3, 4]],), {"axes": (0, 2), "mode": "nearest"}),
    "correlate1d": ("correlate1d", (3, 9, 2), "float32", ([1, 3, 2],), {"axis": 1, "mode": "constant", "cval": 2}),
    "convolve1d": ("convolve1d", (9, 5), "uint8", ([0.5, 1, 2],), {"mode": "wrap"}),
    "gaussian": ("gaussian_filter", (4, 9, 6), "float32", (1,), {"order": (0, 1, 0)}),
    "gaussian_modes": ("gaussian_filter", (9, 6), "float64", ((1, 0),), {"mode": ("wrap", "mirror")}),
    "gaussian_integers": ("gaussian_filter", (9, 6), "uint8", (1,), {}),
    "gaussian_line": ("gaussian_filter1d", (3, 9), "float32", (1,), {"axis": 0}),
    "uniform": ("uniform_filter", (9, 6), "float32", ((3, 2),), {"mode": "grid-wrap"}),
    "uniform_line": ("uniform_filter1d", (9,), "float64", (4,), {"origin": 1}),
    "sobel": ("sobel", (9, 5), "uint8", (0,), {}),
    "prewitt": ("prewitt", (2, 9, 4), "float32", (), {}),
    "laplace": ("laplace", (9, 6), "uint8", (), {"mode": ("nearest", "constant"), "cval": 3}),
    "unfiltered": ("gaussian_filter", (3, 4), "float32", (0,), {}),
    "empty": ("correlate", (0, 4), "float32", ([[1, 2]],), {}),
}


def check_filter(name):
    function, shape, dtype, arguments, keywords = FILTERS[name]
    x = integers(shape, 1, dtype, 0, 100)
    expected = getattr(scipy.ndimage, function)(x, *arguments, **keywords)
    given = to_device(x)
    got = getattr(fc.ndimage, function)(given, *arguments, **keywords)
    assert type(got) is type(given)
    assert got is not given
    values = got.copy_to_host()
    assert values.dtype == expected.dtype
    np.testing.assert_allclose(values, expected, 1e-6, 1e-4 if expected.dtype.kind == "f" else 0)


def check_filter_in_place():
    x, w = integers((9, 4), 1), integers((2, 3), 2)
    given = to_device(x)
    expected = scipy.ndimage.convolve(x, w)
    assert fc.ndimage.convolve(given, to_device(w), given) is given
    np.testing.assert_array_equal(given.copy_to_host(), expected)
    strided = to_device(np.ascontiguousarray(x.T).T)
    np.testing.assert_array_equal(fc.ndimage.sobel(strided).copy_to_host(), scipy.ndimage.sobel(x))


def check_errors_of_filters():
    x = to_device(integers((3, 4), 1))
    raises(fc.UnsupportedError, "device memory", lambda: fc.ndimage.maximum_filter(x, 3))
    raises(fc.UnsupportedError, "device memory", lambda: fc.ndimage.minimum_filter1d(x, 3))
    whole = to_device(integers((3, 4), 1, "uint8"))
    raises(fc.UnsupportedError, "dtype uint8", lambda: fc.ndimage.uniform_filter(whole, 3))
    raises(fc.UnsupportedError, "and complex64", lambda: fc.ndimage.sobel(x, output="complex64"))
    raises(fc.OptionError, "boundary mode", lambda: fc.ndimage.sobel(x, mode="zeros"))
    raises(fc.ShapeError, "out has shape", lambda: fc.ndimage.sobel(x, output=to_device(integers((3, 3), 1))))
    raises(fc.ShapeError, "weights.ndim", lambda: fc.ndimage.correlate(x, [1.0]))


def check_errors_of_images():
    x = to_device(integers((3, 3), 1))
    raises(fc.UnsupportedError, "device memory", lambda: fc.signal.fftconvolve(x, x))
    raises(fc.UnsupportedError, "device memory", lambda: fc.signal.sepfir2d(x, [1.0], [1.0]))
    raises(fc.UnsupportedError, "method", lambda: fc.signal.convolve(x, x, method="fft"))
    raises(fc.UnsupportedError, "complex64", lambda: fc.signal.convolve2d(x, np.ones((2, 2), "c8")))
    raises(fc.UnsupportedError, "3 axes", lambda: fc.signal.convolve(*[to_device(np.ones((2,) * 4, "f4"))] * 2))
    raises(fc.ShapeError, "2-D", lambda: fc.signal.convolve2d(x, np.ones(3)))
    raises(fc.OptionError, "mode flags", lambda: fc.signal.convolve2d(x, x, "all"))


def check_errors_of_forms():
    x, w = to_device(integers((1, 2, 4, 4), 1)), integers((2, 1, 3, 3), 2)
    raises(fc.ShapeError, "weight has shape", lambda: fc.pointwise_conv2d(x, w))
    raises(fc.ShapeError, "depthwise_weight has shape", lambda: fc.separable_conv2d(x, w[:1], w[0, 0]))
    raises(fc.ShapeError, "pointwise_weight has shape", lambda: fc.separable_conv2d(x, w, w[0, 0]))
    raises(fc.ShapeError, "column has shape", lambda: fc.spatially_separable_conv2d(x, w, w[0, 0, 0]))
    raises(fc.UnsupportedError, "groups must equal", lambda: fc.conv2d(x, w[:, [0, 0]], algorithm="depthwise"))
    raises(fc.UnsupportedError, "kernel must be 1x1", lambda: fc.conv2d(x, w[:, [0, 0]], algorithm="pointwise"))
    raises(fc.OptionError, "layout", lambda: fc.depthwise_conv2d(x, w, layout="NCHW"))


CHECKS = {
    **{f"depthwise-{name}-float32": partial(check_depthwise, name, "float32") for name in DEPTHWISE},
    "depthwise-float64": partial(check_depthwise, "last", "float64"),
    "depthwise-float16": partial(check_depthwise, "plain", "float16"),
    "depthwise_function": check_depthwise_function,
    "depthwise_special_values": check_depthwise_special_values,
    "pointwise": check_pointwise,
    **{f"factors-{name}": partial(check_factors, name, "float32") for name in FACTORS},
    "factors-float64": partial(check_factors, "last", "float64"),
    "factors-strict": partial(check_factors, "each", "float32", precision="strict"),
    "factors-direct": partial(check_factors, "last", "float32", algorithm="direct"),
    "factors_of_device_arrays": check_factors_of_device_arrays,
    "plan": check_plan,
    "plan_owns_its_weight": check_plan_owns_its_weight,
    **{f"images-{name}-float32": partial(check_images, name, "float32") for name in IMAGES},
    **{f"images-full-{dtype}": partial(check_images, "full", dtype) for dtype in ("float64", "uint8")},
    "images-fill-uint8": partial(check_images, "fill", "uint8"),
    "arrays": check_arrays,
    **{f"filter-{name}": partial(check_filter, name) for name in FILTERS},
    "filter_in_place": check_filter_in_place,
    "errors_of_filters": check_errors_of_filters,
    "errors_of_images": check_errors_of_images,
    "errors_of_forms": check_errors_of_forms,
}
SLOW = ("factors-float64", "images-full-float64", "depthwise-float64", "factors-too_tall_last")
