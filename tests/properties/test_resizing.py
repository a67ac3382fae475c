"""Laws that tie unpooling, resizing, unfolding and folding together."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import fastconv as fc
from tests.properties.strategies import LAYOUTS, drawn, seeds, to_first, to_last

exactly = settings(derandomize=True, deadline=None, max_examples=60)
layouts = st.sampled_from(LAYOUTS)
factors = st.tuples(*[st.integers(1, 4)] * 2)
shapes = st.tuples(st.integers(1, 2), st.integers(1, 18), st.integers(1, 9), st.integers(1, 21))


class Blocks(NamedTuple):
    """Arguments of unfold and fold for images of some sizes."""

    sizes: tuple[int, int]
    options: dict[str, Any]


@st.composite
def blocks(draw):
    """Draw a kernel that has a position."""
    kernel, dilation, stride = (draw(st.tuples(*[st.integers(1, most)] * 2)) for most in (4, 3, 3))
    pads = draw(st.tuples(*[st.integers(0, 3)] * 2))
    least = [max(1, d * (k - 1) + 1 - 2 * p) for k, d, p in zip(kernel, dilation, pads, strict=True)]
    sizes = tuple(draw(st.integers(n, n + 12)) for n in least)
    return Blocks(sizes, {"kernel_size": kernel, "dilation": dilation, "padding": pads, "stride": stride})


@exactly
@given(blocks(), st.integers(1, 3), layouts, seeds)
def test_folding_what_was_unfolded_counts_the_blocks(b, C, layout, seed):
    x = drawn((2, C, *b.sizes), "float32", seed)

    def twice(a):
        columns = fc.unfold(to_last(a, layout), layout=layout, **b.options)
        return to_first(fc.fold(columns, b.sizes, layout=layout, **b.options), layout)

    np.testing.assert_array_equal(twice(x), x * twice(np.ones_like(x)))


@exactly
@given(blocks(), st.integers(1, 3), layouts, seeds)
def test_fold_is_the_adjoint_of_unfold(b, C, layout, seed):
    x = drawn((1, C, *b.sizes), "float32", seed)
    columns = fc.unfold(to_last(x, layout), layout=layout, **b.options)
    y = drawn(columns.shape, "float32", seed + 1)
    folded = to_first(fc.fold(y, b.sizes, layout=layout, **b.options), layout)
    assert (columns.astype(float) * y).sum() == (x.astype(float) * folded).sum()


@exactly
@given(shapes, factors, layouts, st.sampled_from(["float32", "uint8", "float16"]), seeds)
def test_every_nth_of_what_was_repeated_is_the_input(shape, factor, layout, dtype, seed):
    x = drawn(shape, dtype, seed)
    big = to_first(fc.nearest_unpool2d(to_last(x, layout), factor, layout=layout), layout)
    for dh in range(factor[0]):
        for dw in range(factor[1]):
            np.testing.assert_array_equal(big[..., dh :: factor[0], dw :: factor[1]], x)


@exactly
@given(shapes, factors, layouts, seeds)
def test_beds_of_all_positions_add_up_to_the_repeated(shape, factor, layout, seed):
    x = to_last(drawn(shape, "float32", seed), layout)
    beds = [fc.bed_of_nails_unpool2d(x, factor, position=p, layout=layout) for p in range(factor[0] * factor[1])]
    np.testing.assert_array_equal(sum(beds), fc.nearest_unpool2d(x, factor, layout=layout))


@exactly
@given(shapes, factors, layouts, seeds)
def test_maxima_go_back_to_their_places(shape, factor, layout, seed):
    N, C, H, W = shape
    (KH, KW), rng = factor, np.random.default_rng(seed)
    x = rng.permutation(N * C * H * KH * W * KW).reshape(N, C, H * KH, W * KW).astype("f4") + 1
    windows = x.reshape(N, C, H, KH, W, KW).swapaxes(3, 4).reshape(N, C, H, W, KH * KW)
    at, maxima = windows.argmax(-1), windows.max(-1)
    rows = np.arange(H)[:, None] * KH + at // KW
    indices = rows * W * KW + np.arange(W) * KW + at % KW
    arrays = to_last(maxima, layout), to_last(indices, layout)
    back = to_first(fc.max_unpool2d(*arrays, factor, layout=layout), layout)
    np.testing.assert_array_equal(back, np.where(np.isin(x, maxima), x, 0))


@exactly
@given(shapes, st.tuples(*[st.integers(1, 40)] * 2), st.sampled_from(["bilinear", "bicubic", "area"]), layouts)
def test_a_constant_stays_constant(shape, size, mode, layout):
    x = to_last(np.full(shape, 3.0, "f4"), layout)
    got = to_first(fc.interpolate(x, size, mode=mode, layout=layout), layout)
    np.testing.assert_allclose(got, np.full((*shape[:2], *size), 3, "f4"), rtol=1e-6)


@exactly
@given(shapes, st.tuples(*[st.integers(1, 40)] * 2), st.booleans(), layouts, seeds)
def test_turned_images_are_turned_when_resized(shape, size, align_corners, layout, seed):
    x = drawn(shape, "float32", seed)
    options = {"mode": "bilinear", "align_corners": align_corners, "layout": layout}
    got = to_first(fc.interpolate(to_last(x, layout), size, **options), layout)
    turned = to_last(np.ascontiguousarray(x.swapaxes(2, 3)), layout)
    other = to_first(fc.interpolate(turned, size[::-1], **options), layout)
    np.testing.assert_allclose(got, other.swapaxes(2, 3), rtol=0, atol=1e-5)


@exactly
@given(shapes, st.tuples(*[st.integers(1, 40)] * 2), layouts, seeds)
def test_linear_results_lie_between_their_neighbours(shape, size, layout, seed):
    x = drawn(shape, "float32", seed)
    got = to_first(fc.interpolate(to_last(x, layout), size, mode="bilinear", layout=layout), layout)
    assert got.max() <= x.max() + 1e-5
    assert got.min() >= x.min() - 1e-5
