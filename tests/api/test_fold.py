"""unfold and fold: their forms, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest

import fastconv as fc

X = np.arange(24.0, dtype="f4").reshape(1, 2, 3, 4)


def test_columns_are_channels_then_offsets_by_positions():
    columns = fc.unfold(X, (2, 3))
    assert columns.shape == (1, 12, 4)
    for c, kh, kw, oh, ow in np.ndindex(2, 2, 3, 2, 2):
        assert columns[0, (c * 2 + kh) * 3 + kw, oh * 2 + ow] == X[0, c, oh + kh, ow + kw]
    np.testing.assert_array_equal(fc.unfold(X[0], (2, 3)), columns[0])
    np.testing.assert_array_equal(fc.unfold(np.moveaxis(X, 1, -1), (2, 3), layout="channels_last"), columns)


def test_unfold_times_a_weight_is_a_convolution():
    w = np.random.default_rng(0).integers(-3, 4, (5, 2, 2, 3)).astype("f4")
    options = {"stride": (2, 1), "padding": ((1, 0), (2, 1)), "dilation": (1, 2)}
    columns = fc.unfold(X, (2, 3), **options)
    conv = fc.conv2d(X, w, **options)
    np.testing.assert_array_equal((w.reshape(5, -1) @ columns).reshape(conv.shape), conv)


def test_volumes_of_five_dimensions_or_three_sizes():
    x = np.arange(60.0).reshape(1, 3, 4, 5)
    columns = fc.unfold(x, (2, 2, 2))
    assert columns.shape == (8, 24)
    np.testing.assert_array_equal(fc.unfold(x[None], 2)[0], columns)
    back = fc.fold(columns, (3, 4, 5), 2)
    assert back.shape == (1, 3, 4, 5)
    assert back[0, 1, 1, 1] == 8 * x[0, 1, 1, 1]


def test_positional_order_is_pytorchs():
    columns = fc.unfold(X, 2, 2, 1, 3)
    np.testing.assert_array_equal(columns, fc.unfold(X, kernel_size=2, dilation=2, padding=1, stride=3))
    folded = fc.fold(columns, (3, 4), 2, 2, 1, 3)
    expected = fc.fold(columns, output_size=(3, 4), kernel_size=2, dilation=2, padding=1, stride=3)
    np.testing.assert_array_equal(folded, expected)


def test_one_number_is_every_axis():
    np.testing.assert_array_equal(fc.fold(np.ones((1, 4)), 2, 1), np.ones((1, 2, 2)))


def test_a_stride_beyond_the_image_takes_no_memory():
    columns = fc.unfold(X, 3, stride=2**46)
    assert columns.shape == (1, 18, 1)
    assert fc.fold(columns, (3, 4), 3, stride=2**46).shape == X.shape


def test_integers_wrap_and_half_is_summed_in_float32():
    columns = np.full((4, 4), 100, "i1")
    assert fc.fold(columns, 3, 2)[0, 1, 1] == np.int8(400 - 512 + 0)
    half = np.full((9, 49), 300.25, "f2")
    # Nine times the element, rounded once; summed in half precision it is another number.
    assert fc.fold(half, 9, 3)[0, 4, 4] == np.float16(9 * np.float32(np.float16(300.25)))


def test_special_values_stay_where_they_are():
    x = X.copy()
    x[0, 0, 1, 1], x[0, 1, 2, 3], x[0, 1, 0, 0] = np.nan, np.inf, -0.0
    np.testing.assert_array_equal(fc.fold(fc.unfold(x, 1), (3, 4), 1), x)
    columns = fc.unfold(x, 2, padding=1)
    assert np.isnan(columns).sum() == 4
    assert np.isinf(columns).sum() == 4
    back = fc.fold(columns, (3, 4), 2, padding=1)
    np.testing.assert_array_equal(np.isnan(back), np.isnan(x))


@pytest.mark.parametrize(
    ("arguments", "keywords", "error", "text"),
    [
        ((X, 0), {}, fc.OptionError, "kernel_size = 0"),
        (
            (X, (4, 1)),
            {},
            fc.ShapeError,
            r"kernel_size has effective size 4 along H \(KH = 4, dilation = 1\), expected at most",
        ),
        ((X, 2, 3), {}, fc.ShapeError, "effective size 4 along H"),
        ((X, 2.0), {}, fc.ArgumentTypeError, "kernel_size = 2.0 is a float"),
        ((X, 2, 1, -1), {}, fc.ShapeError, "padding = -1 is negative"),
        ((X, 2, 1, ((1, -1), (0, 0))), {}, fc.ShapeError, "expected no negative numbers"),
        ((X, 2, 1, "same"), {}, fc.OptionError, "padding = 'same', expected an int"),
        ((X, 2, 1, 0, 0), {}, fc.OptionError, "stride = 0"),
        ((X, (2, 2, 2, 2)), {}, fc.OptionError, "kernel_size = .* has length 4"),
        ((X[0, 0], 2), {}, fc.ShapeError, r"expected 4 \(N, C, H, W\) or 3 \(C, H, W\)"),
        ((X[..., :0], 1), {}, fc.ShapeError, "input has W = 0"),
        ((X, 2**20, 1, 2**40), {}, fc.ShapeError, r"2\*\*47 elements or more"),
        ((X, 2), {"layout": 1}, fc.ArgumentTypeError, "layout = 1"),
        ((X, 2), {"device": "gpu"}, fc.OptionError, "device"),
        ((X, 2), {"out": np.zeros((8, 6), "f4")}, fc.ShapeError, "out has shape"),
    ],
)
def test_bad_unfolds_are_refused(arguments, keywords, error, text):
    with pytest.raises(error, match=text):
        fc.unfold(*arguments, **keywords)


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ((np.ones((4, 5)), 3, 2), fc.ShapeError, "input has L = 5, expected 4, the 2 x 2 blocks"),
        ((np.ones((6, 4)), 3, 2), fc.ShapeError, r"input has C\*K = 6, expected a multiple of K = 4"),
        ((np.ones(4), 3, 2), fc.ShapeError, "input has 1 dimensions, expected 3"),
        ((np.ones((1, 1, 4, 4)), 3, 2), fc.ShapeError, "input has 4 dimensions"),
        ((np.ones((4, 4)), 1, 2), fc.ShapeError, "effective size 2 along H"),
        ((np.ones((4, 4)), 0, 2), fc.OptionError, "output_size = 0"),
        ((np.ones((4, 4)), (3, 3, 3, 3), 2), fc.OptionError, "output_size"),
        ((np.ones((4, 4)), 3.0, 2), fc.ArgumentTypeError, "output_size = 3.0 is a float"),
    ],
)
def test_bad_folds_are_refused(arguments, error, text):
    with pytest.raises(error, match=text):
        fc.fold(*arguments)
