"""Many images as one, without matplotlib."""

from __future__ import annotations

import numpy as np
import pytest

from fastconv.viz import mosaic


@pytest.mark.parametrize(
    ("count", "H", "W", "expected"),
    [(1, 28, 28, 1), (3, 5, 5, 3), (32, 26, 26, 16), (64, 7, 7, 16), (6, 28, 28, 6), (7, 9, 9, 7), (2, 3, 300, 1)],
)
def test_columns_make_rows_of_equal_length(count, H, W, expected):
    assert mosaic.columns(count, H, W) == expected


def test_columns_of_a_prime_leave_the_last_row_short():
    across = mosaic.columns(61, 8, 8)
    assert 10 <= across <= 25


def test_joined_has_every_image_and_gaps_of_nan():
    images = np.arange(3 * 20 * 30.0).reshape(3, 20, 30)
    sheet = mosaic.joined(images, 2, 0.1)
    assert sheet.shape == (20 + 3 + 20, 30 + 3 + 30)
    np.testing.assert_array_equal(sheet[:20, :30], images[0])
    np.testing.assert_array_equal(sheet[:20, 33:], images[1])
    np.testing.assert_array_equal(sheet[23:, :30], images[2])
    assert np.isnan(sheet).sum() == sheet.size - images.size


def test_joined_enlarges_small_images_by_whole_numbers():
    images = np.arange(4.0).reshape(1, 2, 2)
    np.testing.assert_array_equal(mosaic.joined(images, 1, 0.1), images[0].repeat(10, axis=0).repeat(10, axis=1))


def test_colours_diverge_around_0_only_where_there_are_negative_numbers():
    assert mosaic.colours(np.array([0.0, 3.0]))["vmin"] == 0
    signed = mosaic.colours(np.array([-1.0, 3.0, np.nan]))
    assert (signed["vmin"], signed["vmax"]) == (-3, 3)


@pytest.mark.parametrize("values", [np.zeros(4), np.full(4, np.nan), np.full(4, np.inf), np.full(4, -2.0), np.ones(4)])
@pytest.mark.parametrize("scale", [mosaic.colours, mosaic.grey])
def test_scales_are_never_empty(values, scale):
    found = scale(values)
    assert np.isfinite([found["vmin"], found["vmax"]]).all()
    assert found["vmin"] < found["vmax"]
