"""Filters of images are linear, move with the image, and are made of each other."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import fastconv as fc
from tests.properties.strategies import exactly, seeds

MODES = ("reflect", "constant", "nearest", "mirror", "wrap", "grid-mirror", "grid-constant", "grid-wrap")
modes = st.sampled_from(MODES)
dtypes = st.sampled_from(["uint8", "int16", "int64", "float32", "float64"])
shapes = st.one_of(
    st.tuples(st.integers(1, 30)),
    st.tuples(st.integers(1, 9), st.integers(1, 12)),
    st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 6)),
)


def image(shape, dtype, seed):
    """Return small integers of a dtype."""
    return np.random.default_rng(seed).integers(0, 20, shape).astype(dtype)


def kernel(ndim, seed):
    """Return integer weights of drawn sizes."""
    rng = np.random.default_rng(seed)
    return rng.integers(-3, 4, rng.integers(1, 4, ndim)).astype(float)


@exactly
@given(shapes, seeds, modes)
def test_correlate_is_linear(shape, seed, mode):
    x, y, w = image(shape, "f8", seed), image(shape, "f8", seed + 1), kernel(len(shape), seed)
    parts = [fc.ndimage.correlate(a, w, mode=mode, cval=c) for a, c in ((x, 2.0), (y, 3.0), (3 * x + y, 9.0))]
    np.testing.assert_array_equal(3 * parts[0] + parts[1], parts[2])


@exactly
@given(shapes, seeds, st.integers(-40, 40), dtypes)
def test_filters_move_with_a_periodic_image(shape, seed, shift, dtype):
    x, w = image(shape, dtype, seed), kernel(len(shape), seed)
    for axis in range(len(shape)):
        moved = np.roll(x, shift, axis)
        for name, argument in (("correlate", w), ("maximum_filter", w.shape), ("uniform_filter", w.shape)):
            function = getattr(fc.ndimage, name)
            expected = np.roll(function(x, argument, mode="wrap"), shift, axis)
            got = function(moved, argument, mode="wrap")
            # Running sums are rounded differently from another start.
            (np.testing.assert_allclose if "uniform" in name else np.testing.assert_array_equal)(got, expected)


@exactly
@given(shapes, seeds, modes, dtypes)
def test_convolve_is_correlate_with_the_flipped_kernel(shape, seed, mode, dtype):
    x = image(shape, dtype, seed)
    w = np.random.default_rng(seed).integers(-3, 4, (3,) * len(shape))
    np.testing.assert_array_equal(fc.ndimage.convolve(x, w, mode=mode), fc.ndimage.correlate(x, np.flip(w), mode=mode))


@exactly
@given(shapes, seeds, modes, st.sampled_from(["int16", "int64", "float32", "float64"]))
def test_minimum_is_minus_the_maximum_of_the_opposite(shape, seed, mode, dtype):
    x, w = image(shape, dtype, seed), kernel(len(shape), seed)
    footprint = w != 0
    footprint.flat[-1] = True
    for keywords in ({"size": w.shape}, {"footprint": footprint}):
        got = fc.ndimage.minimum_filter(x, mode=mode, cval=4, **keywords)
        np.testing.assert_array_equal(got, -fc.ndimage.maximum_filter(-x, mode=mode, cval=-4, **keywords))


@exactly
@given(shapes, seeds, modes)
def test_uniform_is_the_correlation_with_equal_weights(shape, seed, mode):
    x, size = image(shape, "f8", seed), kernel(len(shape), seed).shape
    expected = fc.ndimage.correlate(x, np.full(size, 1 / np.prod(size)), mode=mode, cval=5.0)
    np.testing.assert_allclose(fc.ndimage.uniform_filter(x, size, mode=mode, cval=5.0), expected, atol=1e-12)


@exactly
@given(shapes, seeds, modes, st.integers(1, 3))
def test_separable_filters_are_the_correlation_with_the_outer_product(shape, seed, mode, radius):
    x = image(shape, "f8", seed)
    line = fc.ndimage.gaussian_filter1d(np.eye(1, 2 * radius + 1, radius)[0], 1.0, mode="constant", radius=radius)
    w = line
    for _ in shape[1:]:
        w = np.multiply.outer(w, line)
    got = fc.ndimage.gaussian_filter(x, 1.0, mode=mode, radius=radius)
    np.testing.assert_allclose(got, fc.ndimage.correlate(x, w, mode=mode), atol=1e-12)


@exactly
@given(shapes, seeds, modes, dtypes)
def test_laplace_is_the_sum_of_its_axes(shape, seed, mode, dtype):
    x = image(shape, dtype, seed)
    parts = [fc.ndimage.correlate1d(x, [1, -2, 1], axis, mode=mode) for axis in range(len(shape))]
    np.testing.assert_array_equal(fc.ndimage.laplace(x, mode=mode), np.sum(parts, axis=0, dtype=dtype))
