"""NaN and infinities at each position of the input and of the weight reach what they reach in direct summation.

Every image of a batch has its value at another position, and so has every kernel; so a value that reached another image
or another channel would show, too. Results are compared with the definition element by element: the same NaN, the same
signs of infinities, and what is finite is right.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.ndimage

import fastconv as fc
from fastconv.geometry.conv import conv_geometry
from fastconv.kernels.reference import resize as resizing
from fastconv.kernels.reference.gradients import weight_gradient
from fastconv.testing import reference
from tests import cases, pools
from tests.resizing import matrix

VALUES = (np.nan, np.inf, -np.inf)
MODES = ("zeros", "reflect", "replicate", "circular", "symmetric")
# (input channels, output channels, groups, KH, KW, H, W)
DENSE, ONE, DEPTH = (2, 3, 1, 3, 3, 4, 5), (3, 2, 1, 1, 1, 3, 4), (2, 2, 2, 3, 3, 4, 5)
ALGORITHMS = {
    **dict.fromkeys(("auto", "direct", "im2col", "winograd", "fft", "bf16x3"), DENSE),
    "pointwise": ONE,
    **dict.fromkeys(("depthwise", "separable"), DEPTH),
}


def at_each_position(array, value, axis):
    """Return copies of an array along a new axis, with a value at another position in each."""
    copies = np.repeat(array[None], array.size, 0)
    copies.reshape(array.size, -1)[np.arange(array.size), np.arange(array.size)] = value
    return np.moveaxis(copies, 0, axis)


def problem(algorithm, mode, layout, rng, dtype="float32"):
    """Return one image, a weight of small integers, and keywords."""
    IC, OC, G, KH, KW, H, W = ALGORITHMS[algorithm]
    x = cases.integers(rng, (IC, H, W) if layout == "channels_first" else (H, W, IC), dtype)
    draw = cases.rank_one if algorithm == "separable" else cases.integers
    w = draw(rng, (OC, IC // G, KH, KW), dtype)
    return x, w, {"padding": KH // 2, "padding_mode": mode, "layout": layout, "groups": G}


def compare(algorithm, x, w, keywords, **more):
    """Check a call against the definition."""
    want = reference(x, w, **keywords)
    try:
        got = fc.conv2d(x, w, algorithm=algorithm, **keywords, **more)
    except fc.UnsupportedError:
        return False
    finite = np.isfinite(want)
    text = f"{algorithm} {keywords}"
    np.testing.assert_array_equal(got[~finite], want[~finite], err_msg=text)
    # Small integers: only winograd and fft round.
    np.testing.assert_allclose(
        got[finite], want[finite], rtol=0, atol=1e-3 * (algorithm in cases.ROUNDED), err_msg=text
    )
    return True


def check_input(algorithm, mode, layout, value, dtype="float32"):
    """Put a value at each position of the input."""
    x, w, keywords = problem(algorithm, mode, layout, np.random.default_rng(0), dtype)
    return compare(algorithm, at_each_position(x, value, 0), w, keywords)


def check_weight(algorithm, mode, layout, value, dtype="float32"):
    """Put a value at each position of the weight of each output channel."""
    x, w, keywords = problem(algorithm, mode, layout, np.random.default_rng(1), dtype)
    if keywords["groups"] > 1:
        # Every kernel of a group belongs to another channel of the input.
        x, w = (
            np.concatenate([a] * w[0].size, a.ndim - 1 if layout == "channels_last" and a is x else 0) for a in (x, w)
        )
        keywords["groups"] = len(w)
        for i, kernel in enumerate(w):
            kernel.reshape(-1)[i // 2] = value
    else:
        w = at_each_position(w, value, 1).reshape(-1, *w.shape[1:])
    return compare(algorithm, x[None], w, keywords)


@pytest.mark.parametrize("algorithm", ["auto", "direct", "winograd", "fft", "bf16x3", "depthwise"])
def test_nan_and_infinity_at_each_position(algorithm):
    for check, value in ((check_input, np.nan), (check_input, np.inf), (check_weight, -np.inf)):
        done = check(algorithm, "zeros", "channels_first", value)
        assert done or algorithm == "bf16x3"


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("layout", cases.LAYOUTS)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_nan_and_infinities_at_each_position_in_every_mode(algorithm, layout, dtype):
    for mode, value in itertools.product(MODES, VALUES):
        done = check_input(algorithm, mode, layout, value, dtype)
        # Factors of kernels that are not finite are not looked for.
        if algorithm != "separable":
            check_weight(algorithm, mode, layout, value, dtype)
        assert done or algorithm == "bf16x3", (mode, value)


@pytest.mark.slow
@pytest.mark.parametrize("layout", cases.LAYOUTS)
@pytest.mark.parametrize(("axes", "IC"), [(1, 2), (3, 2), (3, 16)])
def test_nan_and_infinities_at_each_position_of_one_and_three_axes(axes, IC, layout):
    rng = np.random.default_rng(11)
    sizes = {1: (7,), 3: (3, 2, 4)}[axes]
    x, w = cases.integers(rng, (IC, *sizes)), cases.integers(rng, (3, IC, *[3] * axes))
    convolve, taken = getattr(fc, f"conv{axes}d"), set()
    for value in VALUES:
        images = at_each_position(x, value, 0)
        images = pools.to_last(images) if layout == "channels_last" else images
        want = reference(images, w, padding=1, layout=layout)
        finite = np.isfinite(want)
        for algorithm, precision in itertools.product(ALGORITHMS, ("default", "bf16")):
            more = {"padding": 1, "layout": layout, "algorithm": algorithm, "precision": precision}
            try:
                got = convolve(images, w, **more)
            except fc.UnsupportedError:
                continue
            taken.add(algorithm)
            np.testing.assert_array_equal(got[~finite], want[~finite], err_msg=str(more))
            np.testing.assert_allclose(got[finite], want[finite], rtol=0, atol=1e-2, err_msg=str(more))
    assert {"direct", "im2col", "winograd", "fft"} - taken <= ({"winograd"} if IC == 2 and axes == 3 else set())


def test_auto_spreads_no_further():
    check_auto(AUTO[:1], "channels_first")


@pytest.mark.slow
@pytest.mark.parametrize("layout", cases.LAYOUTS)
def test_auto_spreads_no_further_where_it_takes_an_algorithm_that_rounds(layout):
    check_auto(AUTO, layout)


AUTO = (((1, 64, 20, 20), (64, 64, 3, 3)), ((1, 1, 300, 300), (1, 1, 31, 31)), ((1, 64, 30, 30), (32, 64, 1, 1)))


def check_auto(problems, layout):
    """Check problems for which the planner takes algorithms that round more."""
    rng, taken = np.random.default_rng(2), set()
    for x_shape, w_shape in problems:
        x, w = cases.integers(rng, x_shape), cases.integers(rng, w_shape)
        x = pools.to_last(x) if layout == "channels_last" else x
        keywords = {"layout": layout}
        taken.add(fc.plan_conv2d(x.shape, w, **keywords).algorithm)
        for value in VALUES:
            one = x.copy()
            one.reshape(-1)[rng.integers(0, x.size)] = value
            want, got = reference(one, w, **keywords), fc.conv2d(one, w, **keywords)
            finite = np.isfinite(want)
            np.testing.assert_array_equal(got[~finite], want[~finite])
            np.testing.assert_allclose(got[finite], want[finite], rtol=0, atol=0.02)
    assert taken & {"winograd", "fft", "bf16x3"}


@pytest.mark.parametrize("precision", ["default", "strict"])
def test_complex_sums_that_are_not_finite_are_those_of_four_products(precision):
    rng = np.random.default_rng(3)
    x, w = (cases.integers(rng, s, "complex64") + 1j * cases.integers(rng, s) for s in ((2, 4, 5), (3, 2, 3, 3)))
    x, w = x.astype("complex64"), w.astype("complex64")
    for value in (np.nan, np.inf, complex(0, -np.inf), complex(np.inf, np.nan), 3e38 + 3e38j):
        images = at_each_position(x, value, 0)
        got = fc.conv2d(images, w, padding=1, precision=precision)
        with np.errstate(all="ignore"):
            parts = [reference(a, b, padding=1) for a in (images.real, images.imag) for b in (w.real, w.imag)]
            want = [parts[0] - parts[3], parts[1] + parts[2]]
        for one, other in zip((got.real, got.imag), want, strict=True):
            special = ~np.isfinite(other)
            np.testing.assert_array_equal(one[special], other[special], err_msg=str(value))
            np.testing.assert_allclose(one[~special], other[~special], rtol=1e-6, err_msg=str(value))


@pytest.mark.parametrize("layout", cases.LAYOUTS)
def test_transposed_convolutions_with_a_special_value_at_each_position(layout):
    rng = np.random.default_rng(8)
    x, w = cases.integers(rng, (2, 3, 4)), cases.integers(rng, (2, 3, 3, 3))
    for stride, value in itertools.product((1, 2, 3), VALUES):
        images = at_each_position(x, value, 0)
        sizes = [(n - 1) * stride + 3 for n in x.shape[1:]]
        want = np.zeros((len(images), 3, *sizes))
        with np.errstate(all="ignore"):
            for i, j, a, b in itertools.product(*map(range, (3, 4, 3, 3))):
                products = images[:, :, None, i, j] * w[None, :, :, a, b].astype("f8")
                want[:, :, i * stride + a, j * stride + b] += products.sum(1)
        images = pools.to_last(images) if layout == "channels_last" else images
        got = fc.conv_transpose2d(images, w, stride=stride, layout=layout)
        np.testing.assert_array_equal(pools.to_first(got) if layout == "channels_last" else got, want)


def test_gradients_of_weights_with_a_special_value_at_each_position():
    rng = np.random.default_rng(9)
    x, dy = cases.integers(rng, (1, 2, 3, 4)), cases.integers(rng, (1, 3, 3, 4))
    words = {"stride": 1, "padding": 1, "dilation": 1, "groups": 1, "layout": "channels_first", "dtype": "float32"}
    g = conv_geometry("test", 2, x.shape, (3, 2, 3, 3), **words, padding_mode="zeros")
    for value in VALUES:
        calls = [(image[None], dy) for image in at_each_position(x[0], value, 0)]
        calls += [(x, image[None]) for image in at_each_position(dy[0], value, 0)]
        for one, other in calls:
            with np.errstate(all="ignore"):
                want = weight_gradient(one, other, g)
            np.testing.assert_array_equal(fc.grad.conv2d_weight(one, (3, 2, 3, 3), other, padding=1), want)


@pytest.mark.parametrize("value", VALUES)
def test_factors_with_a_special_value_at_each_position(value):
    rng = np.random.default_rng(10)
    x, factors = cases.integers(rng, (1, 1, 4, 5)), [cases.integers(rng, (1, 3)) for _ in range(2)]
    for which, at in itertools.product(range(2), range(3)):
        column, row = (f.copy() for f in factors)
        (column, row)[which][0, at] = value
        with np.errstate(all="ignore"):
            outer = reference(x, column[:, None, :, None] * row[:, None, None, :], padding=1)
        got = fc.spatially_separable_conv2d(x, column, row, padding=1)
        # As documented, NaN and infinities are not told apart.
        finite = np.isfinite(outer)
        np.testing.assert_array_equal(np.isfinite(got), finite)
        np.testing.assert_array_equal(got[finite], outer[finite])


# What is not a convolution.


@pytest.mark.parametrize("dtype", ["float32", pytest.param("float64", marks=pytest.mark.slow)])
def test_denormals_are_kept(dtype):
    rng, tiny = np.random.default_rng(12), np.finfo(dtype).smallest_subnormal
    x = cases.integers(rng, (1, 2, 4, 6), dtype) * 16
    for function in (
        lambda x: fc.max_pool2d(x, 2),
        lambda x: fc.avg_pool2d(x, 2),
        lambda x: fc.adaptive_avg_pool2d(x, (2, 3)),
        lambda x: fc.interpolate(x, (8, 12), mode="bilinear"),
        lambda x: fc.nearest_unpool2d(x, 2),
        lambda x: fc.fold(fc.unfold(x, 2), (4, 6), 2),
        fc.activations.relu,
        fc.activations.relu6,
        lambda x: fc.ndimage.correlate(x, np.full((1, 1, 2, 2), 0.25)),
        lambda x: fc.grad.avg_pool2d_vjp(x, np.zeros((1, 2, 8, 12), x.dtype), 2)[0],
        lambda x: fc.conv_transpose2d(x, np.ones((2, 1, 2, 2), x.dtype), stride=2),
    ):
        # All are linear up to signs, but for the 6.
        want = np.maximum(x, 0) * tiny if function is fc.activations.relu6 else function(x) * tiny
        np.testing.assert_array_equal(function(x * tiny), want)
        assert want.any()


def check_filters(modes, values):
    """Compare the filters with SciPy's."""
    x = cases.integers(np.random.default_rng(7), (4, 5), "float64")
    w = np.array([[1.0, 0, -2], [0, 3, 1]])
    filters = {
        "correlate": (w,), "uniform_filter": (3,), "maximum_filter": (2,), "minimum_filter": (3,),
        "gaussian_filter": (0.7,), "sobel": (), "laplace": (),
    }  # fmt: skip
    for (name, arguments), mode, value in itertools.product(filters.items(), modes, values):
        for image in at_each_position(x, value, 0):
            want = expected_filter(name, image, arguments, mode)
            got = getattr(fc.ndimage, name)(image, *arguments, mode=mode)
            np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12, err_msg=f"{name} {mode} {value}")


@np.errstate(all="ignore")
def expected_filter(name, image, arguments, mode):
    """Return SciPy's result; of extrema NaN where one is in the window: there the order of elements decides."""
    function = getattr(scipy.ndimage, name)
    if "imum" not in name or not np.isnan(image).any():
        return function(image, *arguments, mode=mode)
    nans = scipy.ndimage.maximum_filter(np.isnan(image).astype("f8"), *arguments, mode=mode)
    others = function(
        np.where(np.isnan(image), -np.inf if name == "maximum_filter" else np.inf, image), *arguments, mode=mode
    )
    return np.where(nans > 0, np.nan, others)


def test_filters_with_nan_at_each_position():
    check_filters(("reflect",), VALUES[:1])


@pytest.mark.slow
def test_filters_with_special_values_at_each_position_in_every_mode():
    check_filters(("reflect", "constant", "nearest", "mirror", "wrap"), VALUES)


@pytest.mark.parametrize("layout", cases.LAYOUTS)
@pytest.mark.parametrize("kind", ["max", "avg", "adaptive_max", "adaptive_avg"])
def test_pools_with_a_special_value_at_each_position(kind, layout):
    rng = np.random.default_rng(4)
    # The definition of means sums exactly, so only NaN and infinities of one sign are put.
    for k in (
        ({"output_size": 3},)
        if "adaptive" in kind
        else ({"kernel_size": 2}, {"kernel_size": 3, "stride": 1, "padding": 1})
    ):
        for value in VALUES:
            x = at_each_position(cases.integers(rng, (2, 5, 6)), value, 0)
            pools.check(pools.Drawn(f"{kind}_pool2d", x, k), (layout,))


@pytest.mark.parametrize("p", [1.0, 2.0, 3.0])
def test_lp_pools_with_a_special_value_at_each_position(p):
    x = np.random.default_rng(5).random((2, 4, 6)).astype("float32")
    for value in VALUES:
        images = at_each_position(x, value, 0)
        got = fc.lp_pool2d(images, p, 2)
        windows = images.reshape(len(images), 2, 2, 2, 3, 2).astype("float64")
        # As in C, and in PyTorch: the cube root of minus infinity, a power, is infinity.
        want = (windows**p).sum((3, 5)) ** (1 / p)
        np.testing.assert_allclose(got, want, rtol=1e-5, err_msg=str(value))


@pytest.mark.parametrize("mode", ["nearest", "bilinear", "bicubic", "area"])
def test_resizing_with_a_special_value_at_each_position(mode):
    x = cases.integers(np.random.default_rng(6), (1, 4, 5))
    for outs, value in itertools.product(((7, 9), (8, 10), (3, 2)), VALUES):
        images = at_each_position(x, value, 0)
        got = fc.interpolate(images, outs, mode=mode)
        matrices = [matrix(mode, n, out) for n, out in zip(x.shape[1:], outs, strict=True)]
        supports = [support(mode, m) for m in matrices]
        # What sees the value: the taps of its row and column, those of weight 0 too.
        seen = resizing.resize((images != x).astype("f4"), supports) > 0
        finite = np.isfinite(got)
        np.testing.assert_array_equal(finite | seen, True, err_msg=f"{mode} {outs} {value}")
        weighed = resizing.resize((images != x).astype("f4"), [(m != 0).astype("f8") for m in matrices]) > 0
        np.testing.assert_array_equal(finite & weighed, False, err_msg=f"{mode} {outs} {value}")
        want = resizing.resize(np.broadcast_to(x, images.shape), matrices)
        np.testing.assert_allclose(got[~seen], want[~seen], atol=1e-4)


def support(mode, weights):
    """Return the taps that a mode reads: those with a weight, and their neighbours up to its width."""
    reach = {"bilinear": 1, "bicubic": 3}.get(mode, 0)
    found = weights != 0
    for shift in range(1, reach + 1):
        found[:, shift:] |= weights[:, :-shift] != 0
        found[:, :-shift] |= weights[:, shift:] != 0
    return found.astype("f8")
