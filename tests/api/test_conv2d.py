"""conv2d on every named problem, by every algorithm that can, against the reference."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastconv as fc
from fastconv.epilogue import ACTIVATIONS
from fastconv.testing import assert_close, reference
from tests import cases


def check_exactly(a, expected, algorithms, **more):
    """Compare each algorithm's result, written into an array of NaN; "auto" may take one that rounds integers."""
    for algorithm in algorithms:
        out = cases.poisoned(expected)
        got = fc.conv2d(a.x, a.w, out=out, algorithm=algorithm, **a.keywords, **more)
        assert got is out
        bound = 1e-5 * np.abs(expected).max(initial=0) if algorithm == "auto" else 0
        np.testing.assert_allclose(got, expected, rtol=0, atol=bound, err_msg=algorithm)


@pytest.mark.parametrize("layout", cases.LAYOUTS)
@pytest.mark.parametrize("name", cases.CASES)
def test_conv2d_is_exact(name, layout):
    for separable in (False, True) if name.startswith(("depthwise", "one image")) else (False,):
        a = cases.draw(cases.CASES[name], layout, separable=separable)
        algorithms = ["separable"] if separable else ["auto", *cases.able(a)]
        check_exactly(a, reference(a.x, a.w, **a.keywords), algorithms)


@pytest.mark.parametrize("layout", cases.LAYOUTS)
@pytest.mark.parametrize("name", cases.FEW[::2])
def test_conv2d_float64_is_exact(name, layout):
    a = cases.draw(cases.CASES[name], layout, "float64", separable=True)
    check_exactly(a, reference(a.x, a.w, **a.keywords), cases.able(a))


@pytest.mark.targets
@pytest.mark.parametrize("layout", cases.LAYOUTS)
@pytest.mark.parametrize(
    ("name", "dtype"), [*((name, "float32") for name in cases.TINY), ("3x3", "float64"), ("depthwise", "float64")]
)
def test_conv2d_tiny(name, dtype, layout):
    a = cases.draw(cases.TINY[name], layout, dtype, separable=True)
    more = {"bias": a.b, "residual": a.r, "activation": "relu6" if dtype == "float32" else None}
    check_exactly(a, reference(a.x, a.w, **more, **a.keywords), cases.able(a), **more)


@pytest.mark.parametrize("layout", cases.LAYOUTS)
@pytest.mark.parametrize("name", cases.FEW)
def test_conv2d_bias_residual_and_clamp_are_exact(name, layout):
    a = cases.draw(cases.CASES[name], layout, separable=True)
    for more in ({"bias": a.b}, {"residual": a.r}, {"bias": a.b, "residual": a.r, "activation": "relu6"}):
        check_exactly(a, reference(a.x, a.w, **more, **a.keywords), cases.able(a), **more)


def in_range(a):
    """Return the problem scaled so that its results lie where activations bend."""
    scale = 4 / (1 + np.abs(reference(a.x, a.w, **a.keywords)).max())
    return a._replace(w=a.w * a.w.dtype.type(2.0 ** np.floor(np.log2(scale))), b=a.b / 4, r=a.r / 4)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("activation", [name for name in ACTIVATIONS if name])
def test_conv2d_activation(activation, dtype):
    for name in ("3x3 two vectors", "depthwise whole tiles", "depthwise 5x5", "groups 2"):
        for layout in cases.LAYOUTS:
            a = in_range(cases.draw(cases.CASES[name], layout, dtype, separable=True))
            more = {"bias": a.b, "residual": a.r, "activation": activation, **a.keywords}
            expected = reference(a.x, a.w, **more)
            for algorithm in cases.able(a) if dtype == "float32" else ("direct",):
                got = fc.conv2d(a.x, a.w, algorithm=algorithm, **more)
                # Sums are exact, so what is left is the activation.
                assert_close(got, expected, terms=1)


@pytest.mark.targets
@pytest.mark.parametrize("activation", [name for name in ACTIVATIONS if name])
def test_conv2d_activation_tiny(activation):
    for name in ("3x3", "depthwise"):
        for layout in cases.LAYOUTS:
            a = in_range(cases.draw(cases.TINY[name], layout))
            got = fc.conv2d(a.x, a.w, a.b, activation=activation, **a.keywords)
            assert_close(got, reference(a.x, a.w, a.b, activation=activation, **a.keywords), terms=1)


def test_conv2d_out_dtype():
    a = cases.draw(cases.CASES["3x3"])
    expected = reference(a.x, a.w, a.b, **a.keywords)
    got = fc.conv2d(a.x, a.w, a.b, out_dtype="float64", **a.keywords)
    assert got.dtype == np.float64
    np.testing.assert_array_equal(got, expected)
    # The sum is made in the wider type: 2**24 + 1 is no float32.
    x = np.array([[[2.0**24, 1.0]]], np.float32)
    assert fc.conv2d(x, np.ones((1, 1, 1, 2), np.float32), out_dtype=np.float64).item() == 2**24 + 1
    narrow = fc.conv2d(a.x.astype("f8"), a.w.astype("f8"), a.b, out_dtype="float32", **a.keywords)
    assert narrow.dtype == np.float32
    np.testing.assert_array_equal(narrow, expected)
    out = np.full(expected.shape, np.nan)
    assert fc.conv2d(a.x, a.w, a.b, out=out, out_dtype=float, **a.keywords) is out
    np.testing.assert_array_equal(out, expected)
    with pytest.raises(fc.OptionError, match="out has dtype float64"):
        fc.conv2d(a.x, a.w, a.b, out=out, **a.keywords)


@pytest.mark.parametrize("layout", cases.LAYOUTS)
def test_conv2d_unbatched(layout):
    a = cases.draw(cases.CASES["3x3"], layout)
    expected = reference(a.x, a.w, a.b, residual=a.r, **a.keywords)[0]
    got = fc.conv2d(a.x[0], a.w, a.b, residual=a.r[0], **a.keywords)
    np.testing.assert_array_equal(got, expected)
    out = cases.poisoned(expected)
    assert fc.conv2d(a.x[0], a.w, a.b, residual=a.r[0], out=out, **a.keywords) is out
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("wide", ["x", "w", "b", "r"])
def test_conv2d_mixed_dtypes_promote(wide):
    a = cases.draw(cases.CASES["groups 2"])
    a = a._replace(**{wide: getattr(a, wide).astype("f8")})
    got = fc.conv2d(a.x, a.w, a.b, residual=a.r, **a.keywords)
    assert got.dtype == np.float64
    np.testing.assert_array_equal(got, reference(a.x, a.w, a.b, residual=a.r, **a.keywords))


def test_conv2d_lists():
    got = fc.conv2d([[[1.0, 2.0, 3.0]]], [[[[1.0, -1.0]]]], [0.5])
    np.testing.assert_array_equal(got, [[[-0.5, -0.5]]])


@pytest.mark.parametrize("padding", ["valid", "same", "same_lower", "full"])
@pytest.mark.parametrize("stride", [1, 2])
def test_conv2d_named_padding(padding, stride):
    a, more = cases.draw("n1ic3h11w12_oc4kh3kw4s1p0"), {"stride": stride, "padding": padding}
    np.testing.assert_array_equal(fc.conv2d(a.x, a.w, **more), reference(a.x, a.w, **more))


@st.composite
def problems(draw):
    """Draw the arguments of a torch convolution: sizes, and the keywords as an int or a pair."""
    ints = lambda low, high: st.integers(low, high)  # noqa: E731
    groups, kernel = draw(ints(1, 3)), (draw(ints(1, 4)), draw(ints(1, 4)))
    one_or_two = lambda low, high: st.one_of(ints(low, high), st.tuples(ints(low, high), ints(low, high)))  # noqa: E731
    more = {"stride": draw(one_or_two(1, 3)), "padding": draw(one_or_two(0, 3)), "dilation": draw(one_or_two(1, 2))}
    image = (draw(ints(8, 20)), draw(ints(8, 40)))
    x_shape = (draw(ints(0, 2)), groups * draw(ints(1, 6)), *image)
    w_shape = (groups * draw(ints(1, 9)), x_shape[1] // groups, *kernel)
    return x_shape, w_shape, more | {"groups": groups}, draw(st.booleans()), draw(ints(0, 99))


@settings(derandomize=True, max_examples=60, deadline=None)
@given(problems())
def test_conv2d_equals_torch(drawn):
    torch = pytest.importorskip("torch")
    x_shape, w_shape, more, with_bias, seed = drawn
    rng = np.random.default_rng(seed)
    x, w = cases.integers(rng, x_shape), cases.integers(rng, w_shape)
    b = cases.integers(rng, w_shape[:1]) if with_bias else None
    tensors = [None if array is None else torch.from_numpy(array) for array in (x, w, b)]
    expected = torch.nn.functional.conv2d(*tensors, **more).numpy()
    np.testing.assert_array_equal(fc.conv2d(x, w, b, **more), expected)


def test_conv2d_refuses_what_an_algorithm_cannot():
    x, w = np.ones((1, 4, 5, 5), "f4"), np.ones((2, 4, 3, 3), "f4")
    for algorithm in ("pointwise", "depthwise", "separable"):
        with pytest.raises(
            fc.UnsupportedError, match=f'conv2d: algorithm "{algorithm}" refused: .*im2col, .*direct can'
        ):
            fc.conv2d(x, w, algorithm=algorithm)


def test_conv2d_measure_is_exact_and_remembers():
    a = cases.draw(cases.CASES["3x3"])
    expected = reference(a.x, a.w, **a.keywords)
    for _ in range(2):
        got = fc.conv2d(a.x, a.w, algorithm="measure", precision="strict", **a.keywords)
        np.testing.assert_array_equal(got, expected)


def test_conv2d_results_own_their_memory():
    a = cases.draw(cases.TINY["3x3"])
    one, two = (fc.conv2d(a.x, a.w, **a.keywords) for _ in range(2))
    assert not np.shares_memory(one, two)
    w = a.w.copy()
    w[:] = 0
    assert not fc.conv2d(a.x, w, **a.keywords).any()
