"""Factored convolutions are those with the product of their factors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastconv as fc
from tests.properties.strategies import LAYOUTS, drawn, exactly, narrow_dtypes, problems, seeds, to_first, to_last

real_dtypes = st.sampled_from(["float32", "float32", "float16"])


def without(p: Any, *names: str) -> dict[str, Any]:
    return {name: value for name, value in p.keywords.items() if name not in names}


def single(p: Any, filters: int) -> Any:
    """Return the problem made depthwise, with `filters` kernels a channel."""
    C = p.x.shape[1]
    w = drawn((C * filters, 1, *p.w.shape[2:]), p.w.dtype, 5)
    keywords = p.keywords | {"groups": C}
    return p._replace(w=w, b=drawn((len(w),), p.w.dtype, 6), keywords=keywords)


@exactly
@given(problems(axes=(2,), types=narrow_dtypes), st.integers(1, 3))
def test_depthwise_conv2d_is_conv2d_with_a_group_per_channel(p, filters):
    p = single(p, filters)
    layout = p.keywords["layout"]
    got = fc.depthwise_conv2d(to_last(p.x, layout), p.w, p.b, **without(p, "groups"))
    np.testing.assert_array_equal(to_first(got, layout), p.run())


@exactly
@given(problems(axes=(2,), types=real_dtypes), seeds, st.booleans(), st.sampled_from(["auto", "direct"]))
def test_spatially_separable_conv2d_is_depthwise_with_the_outer_product(p, seed, each, algorithm):
    layout, (KH, KW), C = p.keywords["layout"], p.w.shape[2:], p.x.shape[1]
    column, row = (drawn((C, n) if each else (n,), p.x.dtype, seed + n) for n in (KH, KW))
    weight = np.broadcast_to(column[..., :, None] * row[..., None, :], (C, KH, KW))[:, None]
    b, x = drawn((C,), p.x.dtype, seed), to_last(p.x, layout)
    more = without(p, "groups")
    got = fc.spatially_separable_conv2d(x, column, row, b, algorithm=algorithm, **more)
    np.testing.assert_array_equal(got, fc.depthwise_conv2d(x, weight, b, **more))


@pytest.mark.parametrize("real", [False, True])
def test_spatially_separable_conv2d_takes_complex_factors(real):
    x, column, row = drawn((1, 2, 6, 7), "complex64", 1), np.complex64([1 + 1j, 2, 3j]), np.complex64([1, 2 - 1j])
    x = x.real if real else x
    weight = np.broadcast_to(np.outer(column, row), (2, 3, 2))[:, None]
    np.testing.assert_array_equal(fc.spatially_separable_conv2d(x, column, row), fc.depthwise_conv2d(x, weight))


@exactly
@given(problems(axes=(2,), types=st.just("float32")), st.integers(1, 2), st.integers(3, 4), seeds)
def test_separable_conv2d_is_depthwise_then_pointwise(p, filters, OC, seed):
    p = single(p, filters)
    layout = p.keywords["layout"]
    pointwise = drawn((OC, len(p.w)), p.w.dtype, seed)
    b, x, more = drawn((OC,), p.w.dtype, seed), to_last(p.x, layout), without(p, "groups")
    middle = fc.depthwise_conv2d(x, p.w, p.b, **more)
    got = fc.separable_conv2d(x, p.w, pointwise, b, depthwise_bias=p.b, **more)
    np.testing.assert_array_equal(got, fc.pointwise_conv2d(middle, pointwise, b, layout=layout))
    # Without a bias between them the two are one full convolution.
    M, shape = filters, p.w.shape[2:]
    full = (pointwise[:, :, None, None] * p.w[:, 0]).reshape(OC, -1, M, *shape).sum(2, dtype=p.w.dtype)
    both = fc.separable_conv2d(x, p.w, pointwise, b, **more)
    np.testing.assert_array_equal(both, fc.conv2d(x, full, b, **more))


@exactly
@given(
    st.integers(0, 2), st.integers(1, 20), st.sampled_from([1, 4, 16]), narrow_dtypes, seeds, st.sampled_from(LAYOUTS)
)
def test_pointwise_conv2d_is_a_matrix_product(N, IC, OC, dtype, seed, layout):
    x, w, b = drawn((N, IC, 3, 7), dtype, seed), drawn((OC, IC), dtype, seed + 1), drawn((OC,), dtype, seed + 2)
    product = (w @ x.reshape(N, IC, 21)).reshape(N, OC, 3, 7) + b[:, None, None]
    got = fc.pointwise_conv2d(to_last(x, layout), w, b, layout=layout)
    assert got.dtype == product.dtype
    np.testing.assert_array_equal(to_first(got, layout), product)
