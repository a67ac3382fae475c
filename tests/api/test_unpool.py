"""max_unpool, nearest_unpool and bed_of_nails_unpool: sizes, duplicates, positions, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

import fastconv as fc

X = np.arange(1.0, 5.0, dtype="f4").reshape(1, 1, 2, 2)
INDICES = np.array([5, 7, 13, 15]).reshape(1, 1, 2, 2)


def placed(size, places, values):
    out = np.zeros(size, "f4")
    out.flat[list(places)] = values
    return out[None, None]


def test_elements_stand_where_their_indices_say():
    np.testing.assert_array_equal(fc.max_unpool2d(X, INDICES, 2), placed((4, 4), (5, 7, 13, 15), (1, 2, 3, 4)))
    np.testing.assert_array_equal(fc.max_unpool2d(X, INDICES, 3, 2), placed((5, 5), (5, 7, 13, 15), (1, 2, 3, 4)))
    np.testing.assert_array_equal(
        fc.max_unpool2d(X, INDICES, (3, 4), 2, (0, 1)), placed((5, 4), (5, 7, 13, 15), (1, 2, 3, 4))
    )
    pairs = fc.max_unpool2d(X, INDICES, 3, 2, ((1, 0), (0, 0)))
    np.testing.assert_array_equal(pairs, placed((4, 5), (5, 7, 13, 15), (1, 2, 3, 4)))


@pytest.mark.parametrize("size", [(5, 4), [5, 4], (9, 9, 5, 4), (1, 1, 5, 4)])
def test_output_size_is_spatial_or_whole(size):
    expected = placed((5, 4), (5, 7, 13, 15), (1, 2, 3, 4))
    np.testing.assert_array_equal(fc.max_unpool2d(X, INDICES, 2, output_size=size), expected)
    np.testing.assert_array_equal(fc.max_unpool2d(X[0], INDICES[0], 2, output_size=size), expected[0])


def test_output_size_of_channels_last_has_its_layout():
    x, indices = np.ones((2, 2, 2, 3), "f4"), np.zeros((2, 2, 2, 3), int)
    for size in ((2, 5, 4, 3), (2, 3, 5, 4), (5, 4)):
        assert fc.max_unpool2d(x, indices, 2, output_size=size, layout="channels_last").shape == (2, 5, 4, 3)
    # Read as (N, *S, C) these sizes are far from the default, 18 and 9.
    x, indices = np.ones((2, 6, 3, 9), "f4"), np.zeros((2, 6, 3, 9), int)
    assert fc.max_unpool2d(x, indices, 3, output_size=(2, 9, 18, 9), layout="channels_last").shape == (2, 18, 9, 9)
    assert fc.max_unpool1d(np.ones((3, 2)), [[0, 1]] * 3, 2, output_size=(7,), layout="channels_last").shape == (7, 2)


def test_output_size_of_one_axis_may_be_an_int():
    np.testing.assert_array_equal(fc.max_unpool1d([[5.0]], [[2]], 2, output_size=3), [[0, 0, 5]])


@pytest.mark.parametrize(
    ("size", "error", "text"),
    [
        ((6, 4), fc.ShapeError, r"output_size = \(6, 4\), expected H from 3 to 5, W from 3 to 5"),
        ((4, 2), fc.ShapeError, "expected H from 3 to 5, W from 3 to 5"),
        ((4,), fc.OptionError, "has length 1"),
        ((1, 4, 4), fc.OptionError, "has length 3, expected a tuple of 2 ints, or of 4 with N and C"),
        ((4.0, 4), fc.ArgumentTypeError, "output_size = 4.0 is a float"),
        (True, fc.ArgumentTypeError, "output_size = True is a bool"),
        ("44", fc.ArgumentTypeError, "output_size = '44' is a str"),
    ],
)
def test_output_sizes_are_checked(size, error, text):
    with pytest.raises(error, match=text):
        fc.max_unpool2d(X, INDICES, 2, output_size=size)


@pytest.mark.parametrize(
    ("rule", "expected"), [("last", [0, 3, 0, -1]), ("max", [0, 5, 0, -1]), ("sum", [0, 7, 0, -1])]
)
def test_duplicates(rule, expected):
    x, indices = [[5, -1, -1, 3]], [[1, 3, 1, 1]]
    for dtype in ("f4", "f8", "i1", "f2"):
        got = fc.max_unpool1d(np.array(x, dtype), indices, 1, duplicates=rule)
        np.testing.assert_array_equal(got, np.array([expected], dtype))
        last = fc.max_unpool1d(np.array(x, dtype).T, np.array(indices).T, 1, duplicates=rule, layout="channels_last")
        np.testing.assert_array_equal(last, got.T)


def test_duplicates_of_special_values():
    nan, inf = np.nan, np.inf
    x, indices = np.array([[1, nan, 2, -inf, inf, inf, -0.0]]), np.array([[0, 0, 0, 1, 1, 2, 3]])
    largest = fc.max_unpool1d(x, indices, 1, duplicates="max")
    np.testing.assert_array_equal(largest, [[nan, inf, inf, -0.0, 0, 0, 0]])
    total = fc.max_unpool1d(x, indices, 1, duplicates="sum")
    np.testing.assert_array_equal(total, [[nan, nan, inf, -0.0, 0, 0, 0]])
    # Negative zeros are as they were, whatever the rule.
    for rule in ("last", "max", "sum", "error"):
        assert np.signbit(fc.max_unpool1d([[-0.0, 1.0]], [[1, 0]], 1, duplicates=rule)[0, 1])


def test_duplicates_of_integers_wrap_as_sums_and_are_exact_as_maxima():
    x, indices = np.array([[100, 100]], "i1"), [[1, 1]]
    np.testing.assert_array_equal(fc.max_unpool1d(x, indices, 1, duplicates="sum"), np.array([[0, -56]], "i1"))
    x = np.array([[2**62 + 1, 2**62]])
    np.testing.assert_array_equal(fc.max_unpool1d(x, indices, 1, duplicates="max"), [[0, 2**62 + 1]])
    np.testing.assert_array_equal(
        fc.max_unpool1d(np.uint32([[2**32 - 1, 1]]), indices, 1, duplicates="max"), [[0, 2**32 - 1]]
    )


def test_duplicates_of_complex_numbers():
    x, indices = np.array([[1 + 2j, 3 - 1j]]), [[1, 1]]
    np.testing.assert_array_equal(fc.max_unpool1d(x, indices, 1, duplicates="sum"), [[0, 4 + 1j]])
    np.testing.assert_array_equal(fc.max_unpool1d(x, indices, 1), [[0, 3 - 1j]])
    with pytest.raises(fc.DtypeError, match='complex128 with duplicates = "max", expected real'):
        fc.max_unpool1d(x, indices, 1, duplicates="max")


@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
def test_duplicates_may_raise(layout):
    x, indices = np.ones((2, 3, 4), "f4"), np.tile([3, 1, 0, 2], (2, 3, 1))
    last = layout == "channels_last"
    arrange = (lambda a: np.moveaxis(a, 1, -1)) if last else (lambda a: a)
    fc.max_unpool1d(arrange(x), arrange(indices), 1, duplicates="error", layout=layout)
    indices[1, 2, 3] = 3
    out = np.full(arrange(x).shape, 7, "f4")
    with pytest.raises(fc.OptionError, match=r"indices has 3 more than once in plane \(n = 1, c = 2\)"):
        fc.max_unpool1d(arrange(x), arrange(indices), 1, duplicates="error", layout=layout, out=out)
    assert (out == 7).all()


@pytest.mark.parametrize("bad", [-1, 16, 2**40, -(2**63), 2**63 - 1])
@pytest.mark.parametrize("rule", ["last", "max", "sum", "error"])
def test_indices_out_of_range_raise_before_any_write(bad, rule):
    indices = INDICES.copy()
    indices[0, 0, 1, 0] = bad
    text = rf"indices has {bad} at \(0, 0, 1, 0\), expected 0 to 15"
    with pytest.raises(fc.OptionError, match=text):
        fc.max_unpool2d(X, indices, 2, duplicates=rule)
    out = np.full((1, 1, 4, 4), 7, "f4")
    with pytest.raises(ValueError, match=text):
        fc.max_unpool2d(X, indices, 2, duplicates=rule, out=out)
    assert (out == 7).all()


def test_indices_into_nothing_raise():
    with pytest.raises(fc.OptionError, match="expected none, since the output is empty"):
        fc.max_unpool1d([[1.0]], [[0]], 2, 2, 1)
    assert fc.max_unpool1d(np.ones((0, 1)), np.ones((0, 1), int), 2, 2, 1).shape == (0, 0)


@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "u2", "i4", "u4", "i8"])
def test_indices_may_be_of_any_integer_type(dtype):
    np.testing.assert_array_equal(fc.max_unpool2d(X, INDICES.astype(dtype), 2), fc.max_unpool2d(X, INDICES, 2))


@pytest.mark.parametrize("dtype", ["f4", "f8", "?", "c8"])
def test_other_indices_are_refused(dtype):
    with pytest.raises(fc.DtypeError, match="indices has dtype"):
        fc.max_unpool2d(X, INDICES.astype(dtype), 2)


@pytest.mark.parametrize(
    ("arguments", "keywords", "error", "text"),
    [
        (
            (X, INDICES[0], 2),
            {},
            fc.ShapeError,
            r"indices has shape \(1, 2, 2\), expected that of input, \(1, 1, 2, 2\)",
        ),
        ((X[0, 0], INDICES[0, 0], 2), {}, fc.ShapeError, "input has 2 dimensions, expected 4"),
        ((X[..., :0], INDICES[..., :0], 2), {}, fc.ShapeError, "input has W = 0, expected at least 1"),
        ((X, INDICES, 0), {}, fc.OptionError, "kernel_size = 0"),
        ((X, INDICES, 2.0), {}, fc.ArgumentTypeError, "kernel_size = 2.0 is a float"),
        ((X, INDICES, 2, (1, 2, 3)), {}, fc.OptionError, "stride"),
        ((X, INDICES, 2, 2, -1), {}, fc.ShapeError, "padding = -1 is negative"),
        ((X, INDICES, 2, 2, "same"), {}, fc.OptionError, "padding = 'same', expected ints"),
        ((X, INDICES, 1, 1, 9), {}, fc.ShapeError, r"output sizes are \(-16, -16\)"),
        ((X, INDICES, 2**45), {}, fc.ShapeError, r"2\*\*47 elements or more"),
        ((X, INDICES, 2), {"duplicates": "first"}, fc.OptionError, "duplicates = 'first', expected one of 'last'"),
        ((X, INDICES, 2), {"duplicates": 1}, fc.ArgumentTypeError, "duplicates = 1"),
        ((X, INDICES, 2), {"layout": "nchw"}, fc.OptionError, "layout = 'nchw'"),
        ((X, INDICES, 2), {"device": "gpu"}, fc.OptionError, "device = 'gpu'"),
        ((X, INDICES, 2), {"out": np.zeros((1, 1, 4, 5), "f4")}, fc.ShapeError, "out has shape"),
        ((X, INDICES, 2), {"out": np.zeros((1, 1, 4, 4))}, fc.OptionError, "out has dtype float64"),
        ((None, INDICES, 2), {}, fc.DtypeError, "input = None"),
        ((X > 2, INDICES, 2), {}, fc.DtypeError, "input has dtype bool"),
    ],
)
def test_bad_calls_are_refused(arguments, keywords, error, text):
    with pytest.raises(error, match=text):
        fc.max_unpool2d(*arguments, **keywords)


def test_arguments_that_equal_good_ones_are_refused_after_them():
    fc.nearest_unpool2d(X, 1)
    for factor in (True, 1.0, (1, True)):
        with pytest.raises(fc.ArgumentTypeError, match="scale_factor"):
            fc.nearest_unpool2d(X, factor)


def test_nearest_and_nails_of_one_to_three_axes():
    line = [[1, 2]]
    np.testing.assert_array_equal(fc.nearest_unpool1d(line, (3,)), [[1, 1, 1, 2, 2, 2]])
    np.testing.assert_array_equal(fc.bed_of_nails_unpool1d(line, 2, position=1), [[0, 1, 0, 2]])
    box = np.arange(8).reshape(1, 2, 2, 2)
    assert (fc.nearest_unpool3d(box, (2, 3, 4))[:, ::2, ::3, ::4] == box).all()
    nails = fc.bed_of_nails_unpool3d(box, (2, 3, 4), position=23)
    np.testing.assert_array_equal(nails[:, 1::2, 2::3, 3::4], box)
    assert np.count_nonzero(nails) == 7


@pytest.mark.parametrize("factor", [49, 197])
def test_nearest_is_exact_where_a_rounded_scale_is_not(factor):
    # In float32, 49 * (1 / 49) is below 1.
    got = fc.nearest_unpool1d(np.arange(300)[None], factor)
    np.testing.assert_array_equal(got[0], np.repeat(np.arange(300), factor))


@pytest.mark.parametrize(
    ("function", "arguments", "keywords", "error", "text"),
    [
        (fc.nearest_unpool2d, (X, 1.5), {}, fc.ArgumentTypeError, "scale_factor = 1.5 is a float"),
        (fc.nearest_unpool2d, (X, 0), {}, fc.OptionError, "scale_factor = 0"),
        (fc.nearest_unpool2d, (X, (1, 2, 3)), {}, fc.OptionError, "scale_factor = .* has length 3"),
        (fc.nearest_unpool2d, (X, 2**40), {}, fc.ShapeError, r"2\*\*47 elements or more"),
        (fc.nearest_unpool1d, (X, 2), {}, fc.ShapeError, r"expected 3 \(N, C, W\) or 2 \(C, W\)"),
        (
            fc.bed_of_nails_unpool2d,
            (X, 2),
            {"position": 4},
            fc.OptionError,
            "position = 4, expected an int from 0 to 3",
        ),
        (fc.bed_of_nails_unpool2d, (X, 2), {"position": -1}, fc.OptionError, "position = -1"),
        (fc.bed_of_nails_unpool2d, (X, 2), {"position": 10**60}, fc.OptionError, "position = 2.*or more"),
        (fc.bed_of_nails_unpool2d, (X, 2), {"position": 1.0}, fc.ArgumentTypeError, "position = 1.0 is a float"),
        (fc.bed_of_nails_unpool2d, (X, 2), {"position": True}, fc.ArgumentTypeError, "position = True is a bool"),
        (fc.bed_of_nails_unpool3d, (X, 2), {}, None, ""),
    ],
)
def test_bad_factors_and_positions_are_refused(function, arguments, keywords, error, text):
    if error is None:
        # Four dimensions are a volume without a batch.
        assert function(*arguments, **keywords).shape == (1, 2, 4, 4)
        return
    with pytest.raises(error, match=text):
        function(*arguments, **keywords)
