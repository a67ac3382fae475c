"""Separable convolutions in bands: against the definition of one convolution after the other."""

from __future__ import annotations

import numpy as np
import pytest

import fastconv as fc
from fastconv.dispatch import separable
from fastconv.testing import reference
from tests import cases, guard

# (N, C, H, W, OC, kernel, stride): so small that a band is an image, but for the last, where an image has two; channels
# that fill vectors, and do not.
PROBLEMS = {
    "images": (4, 16, 8, 13, 5, 3, 1),
    "ragged": (4, 35, 9, 11, 21, 5, 1),
    "stride 2": (5, 40, 17, 23, 8, 3, 2),
    "bands": (2, 72, 32, 40, 33, 3, 1),
}
NAMES = ["images", "bands", *(pytest.param(name, marks=pytest.mark.slow) for name in ("ragged", "stride 2"))]


def draw(problem, layout, rng, dtype="float32"):
    """Return (x, dw, pw, depthwise bias, bias), keywords and the result's shape."""
    N, C, H, W, OC, K, stride = problem
    shapes = (N, C, H, W), (C, 1, K, K), (OC, C, 1, 1), (C,), (OC,)
    x, *others = (cases.integers(rng, shape, dtype) for shape in shapes)
    keywords = {"stride": stride, "padding": K // 2, "layout": layout}
    if layout == "channels_last":
        x = np.ascontiguousarray(np.moveaxis(x, 1, -1))
    return (x, *others), keywords


def expected_of(arrays, keywords, residual=None):
    """Return ``relu6`` between, ``relu`` behind, by the definition."""
    x, dw, pw, first, last = arrays
    middle = reference(x, dw, first, activation="relu6", groups=len(dw), **keywords)
    return reference(middle, pw, last, residual=residual, activation="relu", layout=keywords["layout"])


def run(arrays, keywords, **more):
    x, dw, pw, first, last = arrays
    more |= {"depthwise_bias": first, "depthwise_activation": "relu6", "activation": "relu"}
    return fc.separable_conv2d(x, dw, pw, last, **keywords, **more)


@pytest.mark.parametrize("layout", cases.LAYOUTS)
@pytest.mark.parametrize("name", NAMES)
def test_bands_equal_the_definition(name, layout):
    rng = np.random.default_rng(0)
    arrays, keywords = draw(PROBLEMS[name], layout, rng)
    plain = expected_of(arrays, keywords)
    residual, out = cases.integers(rng, plain.shape), cases.poisoned(plain)
    assert run(arrays, keywords, out=out) is out
    np.testing.assert_array_equal(out, plain)
    np.testing.assert_array_equal(run(arrays, keywords, residual=residual), expected_of(arrays, keywords, residual))


@pytest.mark.targets
@pytest.mark.parametrize("layout", cases.LAYOUTS)
def test_bands_of_a_small_batch(layout):
    arrays, keywords = draw(PROBLEMS["images"], layout, np.random.default_rng(0))
    np.testing.assert_array_equal(run(arrays, keywords), expected_of(arrays, keywords))


def test_problems_are_cut_in_bands():
    for layout in cases.LAYOUTS:
        for name, problem in PROBLEMS.items():
            arrays, keywords = draw(problem, layout, np.random.default_rng(0))
            g = fc.plan_conv2d(arrays[0].shape, arrays[1], groups=problem[1], **keywords)._prepared.geometry
            assert separable.band_rows(g) == (g.OH if name != "bands" else 16)


@pytest.mark.parametrize("layout", cases.LAYOUTS)
def test_bands_give_the_same_bits_for_every_number_of_threads(layout):
    rng = np.random.default_rng(0)
    arrays, keywords = draw(PROBLEMS["bands"], layout, rng)
    arrays = tuple(rng.standard_normal(a.shape).astype("f4") for a in arrays)
    results = []
    for n in (1, 2, 5):
        with fc.threads(n):
            results.append(run(arrays, keywords))
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


@pytest.mark.parametrize("layout", cases.LAYOUTS)
def test_bands_spread_nan_as_two_convolutions_do(layout):
    arrays, keywords = draw((4, 64, 12, 16, 40, 3, 1), layout, np.random.default_rng(0))
    x = arrays[0]
    x.reshape(-1)[[5, 7000, 20000]] = np.nan, np.inf, -np.inf
    middle = fc.depthwise_conv2d(x, arrays[1], arrays[3], **keywords)
    expected = fc.pointwise_conv2d(middle, arrays[2], arrays[4], layout=layout, precision="strict")
    got = fc.separable_conv2d(*arrays[:3], arrays[4], depthwise_bias=arrays[3], **keywords)
    np.testing.assert_array_equal(got, expected)
    assert not np.isfinite(got).all()


@pytest.mark.slow
@pytest.mark.skipif(not guard.AVAILABLE, reason="maps memory as Linux does")
def test_bands_stay_inside():
    assert guard.run("from tests.api import test_separable_bands as t; t.check_guarded()").split()[-1] == "done"


def check_guarded():
    """Run all problems on guarded arrays; called in a process of its own."""
    guard.guard_scratch()
    for problem in PROBLEMS.values():
        for layout in cases.LAYOUTS:
            arrays, keywords = draw(problem, layout, np.random.default_rng(0))
            expected = expected_of(arrays, keywords)
            for side in guard.SIDES:
                with guard.Pages() as pages:
                    out = pages.copy(cases.poisoned(expected), side)
                    run([pages.copy(a, side) for a in arrays], keywords, out=out)
                    np.testing.assert_array_equal(out, expected)
    print("done")


@pytest.mark.parametrize("layout", cases.LAYOUTS)
def test_separable_conv2d_without_channels_is_the_bias(layout):
    x = np.ones((2, 0, 4, 5) if layout == "channels_first" else (2, 4, 5, 0), "f4")
    dw, pw = np.ones((0, 1, 3, 3), "f4"), np.ones((2, 0), "f4")
    got = fc.separable_conv2d(x, dw, pw, np.float32([3, -4]), layout=layout, activation="relu")
    assert got.shape == ((2, 2, 2, 3) if layout == "channels_first" else (2, 2, 3, 2))
    np.testing.assert_array_equal(np.unique(got), [0, 3])
    assert not fc.separable_conv2d(x[0], dw, pw, layout=layout).any()


def test_separable_conv2d_of_an_empty_batch():
    got = fc.separable_conv2d(np.ones((0, 16, 8, 8), "f4"), np.ones((16, 1, 3, 3), "f4"), np.ones((3, 16), "f4"))
    assert got.shape == (0, 3, 6, 6)


@pytest.mark.parametrize("dtype", ["float16", pytest.param("int8", marks=pytest.mark.slow)])
def test_separable_conv2d_rounds_or_wraps_once(dtype):
    arrays, keywords = draw(PROBLEMS["images"], "channels_first", np.random.default_rng(0), dtype)
    got = fc.separable_conv2d(*arrays[:3], arrays[4], depthwise_bias=arrays[3], **keywords)
    middle = reference(arrays[0].astype("i8"), arrays[1].astype("i8"), arrays[3].astype("i8"), groups=16, **keywords)
    expected = reference(middle, arrays[2].astype("i8"), arrays[4].astype("i8"))
    assert got.dtype == dtype
    np.testing.assert_array_equal(got, expected.astype(dtype))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"depthwise_weight": np.ones((4, 2, 3, 3))},
            "depthwise_weight has shape .* expected .C.M, 1, KH, KW. with C = 4",
        ),
        ({"depthwise_weight": np.ones((6, 1, 3, 3))}, "depthwise_weight has shape"),
        ({"pointwise_weight": np.ones((3, 5))}, "pointwise_weight has shape .* expected .OC, 4."),
        ({"pointwise_weight": np.ones((3, 4, 1))}, "pointwise_weight has shape"),
        ({"pointwise_weight": np.ones((0, 4))}, "pointwise_weight has shape"),
        ({"bias": np.ones(4)}, r"bias has shape \(4,\), expected \(3,\)"),
        ({"depthwise_bias": np.ones(3)}, r"depthwise_bias has shape \(3,\), expected \(4,\)"),
        ({"residual": np.ones((3, 6, 6))}, "residual has shape"),
        ({"out": np.ones((3, 6, 6))}, "out has shape"),
        ({"stride": 0}, "stride = 0"),
        ({"activation": "rely"}, "activation = 'rely'"),
        ({"depthwise_activation": "rely"}, "activation = 'rely'"),
        ({"algorithm": "direkt"}, "algorithm = 'direkt'"),
        ({"input": np.ones((4, 2, 2))}, "weight has effective size 3"),
        ({"input": np.ones(4)}, "input has 1 dimensions"),
    ],
)
def test_separable_conv2d_names_itself_and_the_argument(change, message):
    given = {
        "input": np.ones((4, 8, 9)),
        "depthwise_weight": np.ones((4, 1, 3, 3)),
        "pointwise_weight": np.ones((3, 4)),
    }
    with pytest.raises((fc.ShapeError, fc.OptionError), match=f"^separable_conv2d: {message}"):
        fc.separable_conv2d(**(given | change))
