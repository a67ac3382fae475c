"""Factored convolutions and the search for factors, against their definitions."""

from __future__ import annotations

import numpy as np
import pytest

import fastconv as fc
from fastconv.testing import assert_close, reference
from tests import cases


def channels_of(a):
    return a.x.shape[1 if a.keywords["layout"] == "channels_first" else -1]


def without_groups(keywords):
    return {name: value for name, value in keywords.items() if name != "groups"}


@pytest.mark.parametrize("layout", cases.LAYOUTS)
@pytest.mark.parametrize("name", [name for name in cases.CASES if name.startswith("depthwise")])
def test_depthwise_conv2d_equals_reference(name, layout):
    a = cases.draw(cases.CASES[name], layout)
    expected = reference(a.x, a.w, a.b, residual=a.r, activation="relu", **a.keywords)
    out = cases.poisoned(expected)
    more = without_groups(a.keywords) | {"residual": a.r, "activation": "relu"}
    assert fc.depthwise_conv2d(a.x, a.w, a.b, out=out, **more) is out
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("layout", cases.LAYOUTS)
@pytest.mark.parametrize("text", ["n2ic32h9w22_oc32k3s1p1g32", "n1ic35h11w37_oc35k3s2p1g35"])
def test_depthwise_conv2d_activates_each_output_once(text, layout):
    a = cases.draw(text, layout)
    expected = reference(a.x, a.w, a.b, residual=a.r, activation="leaky_relu", **a.keywords)
    more = without_groups(a.keywords) | {"residual": a.r, "activation": "leaky_relu"}
    np.testing.assert_allclose(fc.depthwise_conv2d(a.x, a.w, a.b, **more), expected, rtol=1e-6)


def test_depthwise_conv2d_refuses_a_full_weight():
    with pytest.raises(fc.ShapeError, match="depthwise_conv2d: weight has IC/groups = 3, expected 1"):
        fc.depthwise_conv2d(np.ones((1, 3, 5, 5)), np.ones((3, 3, 3, 3)))


@pytest.mark.parametrize("layout", cases.LAYOUTS)
@pytest.mark.parametrize("name", ["1x1", "1x1 batch", "1x1 many channels", "one pixel"])
def test_pointwise_conv2d_equals_reference(name, layout):
    a = cases.draw(cases.CASES[name], layout)
    expected = reference(a.x, a.w, a.b, residual=a.r, **a.keywords)
    for w in (a.w, a.w[:, :, 0, 0]):
        out = cases.poisoned(expected)
        assert fc.pointwise_conv2d(a.x, w, a.b, layout=layout, residual=a.r, out=out) is out
        np.testing.assert_array_equal(out, expected)


def test_pointwise_conv2d_refuses_other_weights():
    for shape in ((3,), (2, 3, 3, 3), (2, 3, 1)):
        with pytest.raises(fc.ShapeError, match=r"pointwise_conv2d: weight has shape .* expected"):
            fc.pointwise_conv2d(np.ones((3, 4, 4)), np.ones(shape))


@pytest.mark.parametrize("layout", cases.LAYOUTS)
@pytest.mark.parametrize("name", ["depthwise", "depthwise multiplier 2, stride 2, batch"])
def test_separable_conv2d_equals_two_references(name, layout):
    a = cases.draw(cases.CASES[name], layout)
    pointwise = cases.integers(np.random.default_rng(1), (11, len(a.w), 1, 1))
    bias = cases.integers(np.random.default_rng(2), (11,))
    middle = reference(a.x, a.w, a.b, activation="relu6", **a.keywords)
    expected = reference(middle, pointwise, bias, layout=layout, activation="relu")
    more = without_groups(a.keywords) | {"depthwise_bias": a.b, "depthwise_activation": "relu6", "activation": "relu"}
    for weight in (pointwise, pointwise[:, :, 0, 0]):
        out = cases.poisoned(expected)
        assert fc.separable_conv2d(a.x, a.w, weight, bias, out=out, **more) is out
        np.testing.assert_array_equal(out, expected)


def test_separable_conv2d_promotes_all_arrays():
    x, w = np.ones((2, 4, 4), "f4"), np.ones((2, 1, 3, 3), "f4")
    assert fc.separable_conv2d(x, w, np.ones((3, 2))).dtype == np.float64
    assert fc.separable_conv2d(x, w, np.ones((3, 2), "f4")).dtype == np.float32


@pytest.mark.parametrize("layout", cases.LAYOUTS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["depthwise", "depthwise uneven", "depthwise dilation 3, stride 2", "depthwise wide"])
def test_spatially_separable_conv2d_is_exact(name, dtype, layout):
    a = cases.draw(cases.CASES[name], layout, dtype)
    rng, channels, (KH, KW) = np.random.default_rng(0), channels_of(a), a.w.shape[2:]
    more = without_groups(a.keywords) | {"residual": a.r}
    for batch in ((), (channels,)):
        column, row = cases.integers(rng, (*batch, KH), dtype), cases.integers(rng, (*batch, KW), dtype)
        weight = np.broadcast_to(column[..., :, None] * row[..., None, :], (channels, KH, KW))[:, None]
        expected = reference(a.x, weight, a.b, residual=a.r, **a.keywords)
        for algorithm in ("auto", "separable", "direct"):
            out = cases.poisoned(expected)
            got = fc.spatially_separable_conv2d(a.x, column, row, a.b, out=out, algorithm=algorithm, **more)
            assert got is out
            np.testing.assert_array_equal(out, expected, err_msg=algorithm)


def test_spatially_separable_conv2d_strict_sums_the_outer_product():
    x, k = np.random.default_rng(0).standard_normal((1, 30, 30)).astype("f4"), np.float32([0.3, 0.7, 0.1])
    strict = fc.spatially_separable_conv2d(x, k, k, precision="strict")
    np.testing.assert_array_equal(strict, fc.conv2d(x, np.outer(k, k)[None, None], precision="strict"))
    with pytest.raises(fc.UnsupportedError, match='precision="strict" forbids'):
        fc.spatially_separable_conv2d(x, k, k, precision="strict", algorithm="separable")


@pytest.mark.parametrize("algorithm", ["auto", "im2col", "direct"])
def test_spatially_separable_conv2d_multiplies_factors_in_the_precision_of_the_result(algorithm):
    rng = np.random.default_rng(0)
    x, column, row = (rng.standard_normal(shape).astype("f4") for shape in ((1, 6, 6), 3, 3))
    outer = np.outer(column.astype("f8"), row)
    for factors, dtype in (((column, row), "c16"), ((column * np.complex64(1j), row), "c16"), ((column, row), "f8")):
        got = fc.spatially_separable_conv2d(x, *factors, np.zeros(1, dtype), algorithm=algorithm)
        expected = reference(x, (outer * (1 if factors[0] is column else 1j))[None, None], out_dtype=dtype)
        np.testing.assert_allclose(got, expected, rtol=1e-14, atol=1e-14)


def test_spatially_separable_conv2d_names_a_wrong_factor():
    x = np.ones((3, 5, 5))
    for column, row, name in (
        (np.ones((2, 3)), np.ones(3), "column"),
        (np.ones(3), np.ones((4, 3)), "row"),
        (np.ones((1, 1, 3)), np.ones(3), "column"),
    ):
        with pytest.raises(fc.ShapeError, match=f"spatially_separable_conv2d: {name} has shape"):
            fc.spatially_separable_conv2d(x, column, row)


def test_separable_algorithm_takes_rank_one_and_refuses_the_rest():
    rng = np.random.default_rng(0)
    x, column, row = (rng.standard_normal(shape).astype("f4") for shape in ((1, 4, 20, 20), (4, 5, 1), (4, 1, 3)))
    w = (column * row)[:, None]
    got, expected = fc.conv2d(x, w, groups=4, algorithm="separable"), reference(x, w, groups=4)
    magnitude = reference(np.abs(x), np.abs(w), groups=4)
    assert_close(got, expected, terms=15, magnitude=magnitude)
    w[2, 0, 0, 0] += 0.01
    with pytest.raises(fc.UnsupportedError, match=r'"separable" refused: kernels must have rank 1, kernel 2 has not'):
        fc.conv2d(x, w, groups=4, algorithm="separable")
    with pytest.raises(fc.UnsupportedError, match='"separable" refused: groups must equal'):
        fc.conv2d(x, np.ones((2, 4, 3, 3), "f4"), algorithm="separable")
    w[2, 0, 0, 0] = np.nan
    with pytest.raises(fc.UnsupportedError, match='"separable" refused: kernels must have rank 1, kernel 2'):
        fc.conv2d(x, w, groups=4, algorithm="separable")


def test_separable_algorithm_takes_a_zero_kernel():
    x = np.ones((2, 6, 6), "f4")
    assert not fc.conv2d(x, np.zeros((2, 1, 3, 3), "f4"), groups=2, algorithm="separable").any()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_separate_finds_the_rank_and_reconstructs(rank, dtype):
    rng = np.random.default_rng(rank)
    for KH, KW in ((5, 7), (7, 4), (3, 3)):
        wide = rng.standard_normal((KH, rank)) @ rng.standard_normal((rank, KW))
        kernel = wide.astype(dtype)
        s = fc.separate(kernel, tol=1e-5 if dtype == "float32" else None)
        assert (s.rank, s.columns.shape, s.rows.shape) == (rank, (rank, KH), (rank, KW))
        assert s.columns.dtype == s.rows.dtype == kernel.dtype
        again = s.columns.astype("f8").T @ s.rows.astype("f8")
        assert np.isclose(np.abs(kernel - again).sum(), s.error, rtol=1e-6, atol=1e-300)
        assert s.error <= 20 * np.finfo(dtype).eps * KH * KW * np.abs(kernel).max()


def test_separate_bounds_the_error_of_the_result():
    rng = np.random.default_rng(0)
    kernel = np.outer([1.0, 4, 6, 4, 1], [1.0, 4, 6, 4, 1]) + 0.1 * rng.standard_normal((5, 5))
    x = rng.uniform(-3, 3, (1, 30, 30))
    s = fc.separate(kernel, tol=0.1)
    assert s.rank < np.linalg.matrix_rank(kernel)
    got = sum(fc.spatially_separable_conv2d(x, c, r) for c, r in zip(s.columns, s.rows, strict=True))
    gap = np.abs(got - reference(x, kernel[None, None])).max()
    assert 0 < gap <= s.error * np.abs(x).max() * (1 + 1e-9)
    # The 2-norm of the difference is the first singular value left out.
    left = np.linalg.svd(kernel - s.columns.T @ s.rows, compute_uv=False)[0]
    assert left <= 0.1 * np.linalg.svd(kernel, compute_uv=False)[0]


def test_separate_of_zeros_lists_and_one_row():
    assert fc.separate(np.zeros((3, 4))).rank == 1
    assert fc.separate([[1.0, 2.0, 3.0]]).rank == 1
    assert fc.separate(np.eye(3)).rank == 3


@pytest.mark.parametrize(
    ("kernel", "tol", "error"),
    [
        (np.ones(3), None, fc.ShapeError),
        (np.ones((0, 3)), None, fc.ShapeError),
        (np.ones((1, 3, 3)), None, fc.ShapeError),
        (np.ones((3, 3)), 1.0, fc.OptionError),
        (np.ones((3, 3)), -0.1, fc.OptionError),
        (np.ones((3, 3)), float("nan"), fc.OptionError),
        (np.full((3, 3), np.inf), None, fc.OptionError),
    ],
)
def test_separate_names_what_is_wrong(kernel, tol, error):
    with pytest.raises(error, match=r"separate: (kernel|tol)"):
        fc.separate(kernel, tol)
