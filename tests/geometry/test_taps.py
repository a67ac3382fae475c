"""The tables of resizing: hand-computed coordinates, and how axes and lanes are put together."""

from __future__ import annotations

import numpy as np
import pytest

from fastconv.geometry import taps
from fastconv.geometry.taps import Axis


def dense(table, n):
    """Return the matrix of a table."""
    matrix = np.zeros((table.out, n), table.weights.dtype)
    for o in range(table.out):
        for p in range(table.start[o], table.start[o + 1]):
            matrix[o, table.sources[p]] += table.weights[p]
    return matrix


def test_linear_doubles():
    expected = [[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]]
    np.testing.assert_array_equal(dense(taps.linear(Axis(2, 4), np.float32), 2), expected)


def test_linear_keeps_an_axis_of_the_same_size_whatever_the_scale():
    np.testing.assert_array_equal(dense(taps.linear(Axis(3, 3, 1.2), np.float32), 3), np.eye(3))


def test_cubic_halfway_has_the_weights_of_opencv():
    row = dense(taps.cubic(Axis(4, 7, None, True), np.float64), 4)[3]
    np.testing.assert_allclose(row, [-0.09375, 0.59375, 0.59375, -0.09375])


def test_antialiased_halves_as_pillow_does():
    table = taps.antialiased(Axis(6, 3), 2, np.float64)
    np.testing.assert_allclose(dense(table, 6)[1], [0, 0.125, 0.375, 0.375, 0.125, 0])
    np.testing.assert_allclose(dense(table, 6)[0], np.array([3, 3, 1, 0, 0, 0]) / 7)


def test_area_windows_touch_what_they_overlap():
    np.testing.assert_allclose(dense(taps.area(Axis(5, 3), np.float64), 5)[1], [0, 1 / 3, 1 / 3, 1 / 3, 0])
    counts = taps.area(Axis(5, 3), np.int64, divided=False)
    np.testing.assert_array_equal(np.diff(counts.start), [2, 3, 2])


def test_fixed_point_weights_fill_15_bits():
    table = taps.fixed_point(Axis(2, 4), 2, False)
    assert (table.shift, table.low, table.high) == (14, 0, 255)
    np.testing.assert_array_equal(dense(table, 2)[1], [0.75 * 2**14, 0.25 * 2**14])


@pytest.mark.parametrize("kernel", [2, 4])
def test_weights_add_up_to_one(kernel):
    for n in (1, 2, 5, 30):
        for out in (1, 3, 30, 77):
            plain = taps.linear if kernel == 2 else taps.cubic
            for table in (plain(Axis(n, out), np.float64), taps.antialiased(Axis(n, out), kernel, np.float64)):
                np.testing.assert_allclose(dense(table, n).sum(1), 1, atol=1e-14)
                assert (np.diff(table.start) > 0).all()
                assert table.sources.min() >= 0
                assert table.sources.max() < n


def test_products_and_lanes_are_kronecker_products():
    a, b = taps.antialiased(Axis(7, 3), 2, np.float64), taps.cubic(Axis(3, 5), np.float64)
    both = np.kron(dense(a, 7), dense(b, 3))
    np.testing.assert_allclose(dense(taps.product(a, b, 3), 21), both, atol=1e-15)
    np.testing.assert_array_equal(dense(taps.with_lanes(a, 4), 28), np.kron(dense(a, 7), np.eye(4)))


def test_identity_is_found():
    assert taps.identity(4, np.float32).is_identity
    assert taps.area(Axis(4, 4), np.float32).is_identity
    assert not taps.area(Axis(4, 2), np.float32).is_identity
    # Weights of 0 beside it are not left out.
    assert not taps.linear(Axis(4, 4), np.float32).is_identity
