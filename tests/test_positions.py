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
from fastconv.kernels.reference import resize as resizing
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


# What is not a convolution.


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
    """Return SciPy's result; of extrema NaN where there is one in the window, as the order of elements decides there."""
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
