"""Arguments that are wrong, empty, huge or of a strange kind: the documented outcome, for every convolution."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import fastconv as fc
from fastconv.testing import reference
from tests import cases

CONVS = {1: fc.conv1d, 2: fc.conv2d, 3: fc.conv3d}
AXES = pytest.mark.parametrize("axes", CONVS)


def ones(axes, N=1, C=4, size=5, dtype="f4"):
    return np.ones((N, C, *[size] * axes), dtype)


def kernel(axes, OC=6, ICG=4, size=3, dtype="f4"):
    return np.ones((OC, ICG, *[size] * axes), dtype)


# What is empty.


@AXES
@pytest.mark.parametrize("dtype", ["f4", "f2", "i1", "c8"])
@pytest.mark.parametrize("layout", cases.LAYOUTS)
def test_empty_batch_gives_an_empty_result(axes, dtype, layout):
    x = ones(axes, N=0, dtype=dtype)
    x = x if layout == "channels_first" else np.moveaxis(x, 1, -1)
    got = CONVS[axes](x, kernel(axes, dtype=dtype), np.ones(6, dtype), padding=1, layout=layout)
    sizes = [5] * axes
    assert got.shape == ((0, 6, *sizes) if layout == "channels_first" else (0, *sizes, 6))
    assert got.dtype == np.dtype(dtype)


@AXES
@pytest.mark.parametrize("dtype", ["f4", "f2", "i1", "c8"])
@pytest.mark.parametrize("layout", cases.LAYOUTS)
def test_no_input_channels_gives_the_bias(axes, dtype, layout):
    x = ones(axes, N=2, C=0, dtype=dtype)
    x = x if layout == "channels_first" else np.moveaxis(x, 1, -1)
    bias = np.arange(1, 7).astype(dtype)
    for algorithm in ("auto", "direct", "im2col"):
        got = CONVS[axes](x, kernel(axes, ICG=0, dtype=dtype), bias, layout=layout, algorithm=algorithm)
        got = got if layout == "channels_first" else np.moveaxis(got, -1, 1)
        np.testing.assert_array_equal(got, np.broadcast_to(bias.reshape(-1, *[1] * axes), (2, 6, *[3] * axes)))
        assert not CONVS[axes](x, kernel(axes, ICG=0, dtype=dtype), layout=layout, algorithm=algorithm).any()


@AXES
@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular", "symmetric"])
def test_other_empty_sizes_are_errors(axes, mode):
    x, w = ones(axes), kernel(axes)
    name = "DHW"[-1]
    cases_ = [
        (x[..., :0], w, f"input has {name} = 0, expected at least 1"),
        (x, w[:0], "weight has OC = 0, expected at least 1"),
        (x, w[..., :0], f"weight has K{name} = 0, expected at least 1"),
    ]
    for input, weight, message in cases_:
        with pytest.raises(fc.ShapeError, match=f"^conv{axes}d: {message}") as caught:
            CONVS[axes](input, weight, padding=1, padding_mode=mode)
        assert isinstance(caught.value, ValueError)


# What does not fit.


@AXES
def test_kernel_larger_than_the_input_by_one_along_one_axis(axes):
    for axis in range(axes):
        name = "DHW"[axis - axes]
        sizes, pads = [4] * axes, [(0, 0)] * axes
        sizes[axis], pads[axis] = 2, (1, 0)
        x, w = np.ones((1, 4, *sizes), "f4"), kernel(axes)
        message = rf"weight has effective size 3 along {name} \(K{name} = 3, dilation = 1\), expected at most .* size 2"
        with pytest.raises(fc.ShapeError, match=f"^conv{axes}d: {message}"):
            CONVS[axes](x, w)
        np.testing.assert_array_equal(
            CONVS[axes](x, w, padding=tuple(pads)), reference(x, w, padding=tuple(pads)), err_msg="just enough padding"
        )


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular", "symmetric"])
@pytest.mark.parametrize("padding", [((-3, -2), (0, 0)), ((0, 0), (-5, 9)), ((-6, 3), (-1, -1))])
def test_padding_that_crops_all_is_an_error_in_every_mode(mode, padding):
    with pytest.raises(fc.ShapeError, match=r"^conv2d: padding = .*crops all of"):
        fc.conv2d(ones(2), kernel(2), padding=padding, padding_mode=mode)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input": ones(2)[0, 0]}, r"input has 2 dimensions, expected 4 \(N, C, H, W\) or 3 \(C, H, W\)"),
        ({"weight": kernel(2, ICG=3)}, r"weight has IC/groups = 3, expected 4 \(IC = 4, groups = 1\)"),
        ({"groups": 3}, "input has IC = 4, expected a multiple of groups = 3"),
        ({"bias": np.ones(5, "f4")}, r"bias has shape \(5,\), expected \(6,\) \(OC = 6\)"),
        ({"bias": np.ones((6, 1), "f4")}, r"bias has shape \(6, 1\), expected \(6,\)"),
        ({"bias": np.float32(1)}, "bias = .*is a scalar, expected an array"),
        ({"input": None}, "input = None is of type NoneType, expected an array of numbers"),
        ({"weight": None}, "weight = None is of type NoneType, expected an array of numbers"),
        ({"residual": np.ones((1, 6, 3, 2), "f4")}, r"residual has shape \(1, 6, 3, 2\), expected \(1, 6, 3, 3\)"),
        ({"padding": -1}, "padding = -1 is negative, expected ints of at least 0, or .before, after. pairs to crop"),
        ({"padding": "causal"}, "padding = 'causal', expected 'valid', 'same'"),
    ],
)
def test_errors_name_argument_value_and_what_is_allowed(change, message):
    arguments = {"input": ones(2), "weight": kernel(2)} | change
    with pytest.raises(fc.FastconvError, match=f"^conv2d: {message}") as caught:
        fc.conv2d(**arguments)
    assert "\n" not in str(caught.value)


# Numbers: huge ones, and those that are equal to a good one but of the wrong type.


@AXES
@pytest.mark.parametrize("name", ["stride", "dilation", "groups", "padding"])
@pytest.mark.parametrize("value", [2**47, 2**62, 2**63, 2**64])
def test_numbers_near_the_end_of_integers_are_errors(axes, name, value):
    with pytest.raises(ValueError, match=rf"^conv{axes}d: {name} = {value}.*expected"):
        CONVS[axes](ones(axes), kernel(axes), **{name: value})


def test_dilation_that_overflows_is_an_error():
    for value in (2**31, 2**46):
        with pytest.raises(fc.ShapeError, match=f"weight has effective size {2 * value + 1} along"):
            fc.conv2d(ones(2), kernel(2), dilation=value)


@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
@pytest.mark.parametrize("algorithm", ["auto", "direct", "im2col"])
def test_huge_stride_is_one_output(algorithm, layout):
    x, w = (
        cases.integers(np.random.default_rng(0), (1, 5, 5, 5)),
        cases.integers(np.random.default_rng(1), (6, 5, 3, 3)),
    )
    got = fc.conv2d(x, w, stride=2**46, layout=layout, algorithm=algorithm)
    np.testing.assert_array_equal(got, reference(x, w, stride=7, layout=layout))


@pytest.mark.parametrize("layout", cases.LAYOUTS)
def test_huge_dilation_of_a_single_tap_moves_nothing(layout):
    x, w = (
        cases.integers(np.random.default_rng(0), (1, 5, 5, 5)),
        cases.integers(np.random.default_rng(1), (6, 5, 1, 1)),
    )
    for algorithm in ("auto", "direct", "im2col"):
        got = fc.conv2d(x, w, dilation=2**46, layout=layout, algorithm=algorithm)
        np.testing.assert_array_equal(got, reference(x, w, layout=layout), err_msg=algorithm)


@pytest.mark.parametrize("name", ["stride", "dilation", "padding", "groups"])
@pytest.mark.parametrize("value", [True, np.True_, 1.0, np.float64(1), "1", None, [1.0], (True,)])
def test_equal_numbers_of_other_types_are_errors_after_the_right_one_too(name, value):
    x, w = ones(2), kernel(2)
    # The problem is known from here on.
    fc.conv2d(x, w, **{name: 1})
    with pytest.raises(fc.FastconvError, match=f"^conv2d: {name} = .*expected"):
        fc.conv2d(x, w, **{name: value})
    expected = fc.conv2d(x, w, **{name: 1}).tobytes()
    right = (np.int8(1), np.uint64(1)) if name == "groups" else (np.int8(1), (1,), [1], (np.int64(1), 1))
    for same in right:
        assert fc.conv2d(x, w, **{name: same}).tobytes() == expected


@pytest.mark.skipif(sys.platform != "linux", reason="relies on memory that is only promised")
@pytest.mark.parametrize("layout", cases.LAYOUTS)
def test_offsets_beyond_two_to_the_31_are_right(layout):
    H, W = 2**15 + 3, 2**16
    x = np.zeros((1, 1, H, W) if layout == "channels_first" else (1, H, W, 1), np.int16)
    image = x.reshape(H, W)
    image[-3:, -40:] = np.arange(120).reshape(3, 40)
    assert x.size > 2**31
    w = np.arange(9, dtype=np.int16).reshape(1, 1, 3, 3)
    # All but a corner is cropped away, so that almost no page of it is touched.
    padding = ((3 - H, 0), (40 - W, 0))
    expected = reference(image[-3:, -40:][None], w)
    for algorithm in ("direct", "im2col"):
        got = fc.conv2d(x, w, padding=padding, layout=layout, algorithm=algorithm)
        np.testing.assert_array_equal(got.reshape(expected.shape), expected, err_msg=algorithm)


# Kinds of arrays.


@AXES
@pytest.mark.parametrize("name", ["input", "weight", "bias", "residual"])
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda a: a.astype(bool), "{} has dtype bool, expected an array of numbers"),
        (lambda a: a.astype(object), "{} = .* expected an array of numbers"),
        (lambda a: a.astype("U1"), "{} has dtype <U3?1?, expected an array of numbers"),
        (lambda a: a.astype("M8[D]"), "{} has dtype datetime64.D., expected an array of numbers"),
        (lambda a: a.astype("u8"), "{} has dtype uint64, expected an array of numbers"),
        (lambda a: a.astype("g"), "{} has dtype .*, expected an array of numbers"),
        (lambda a: np.ma.masked_array(a, mask=a == 1), "{} has masked elements"),
    ],
)
def test_arrays_of_other_kinds_are_type_errors(axes, name, make, message):
    arguments = {"input": ones(axes), "weight": kernel(axes), "bias": np.ones(6, "f4")}
    arguments["residual"] = np.ones((1, 6, *[3] * axes), "f4")
    arguments[name] = make(arguments[name].astype("f8"))
    compiled = sys.modules["fastconv._jit"].compilations() if "fastconv._jit" in sys.modules else 0
    out = np.full((1, 6, *[3] * axes), 7, "f4")
    with pytest.raises(TypeError, match=f"^conv{axes}d: " + message.format(name)) as caught:
        CONVS[axes](**arguments, out=out)
    assert isinstance(caught.value, fc.DtypeError)
    assert (out == 7).all()
    if "fastconv._jit" in sys.modules:
        assert sys.modules["fastconv._jit"].compilations() == compiled


@AXES
@pytest.mark.parametrize("dtype", ["f4", "i2", "c8"])
def test_kinds_of_memory_add_no_compilation(axes, dtype):
    x, w = ones(axes, dtype=dtype), kernel(axes, dtype=dtype)
    expected = CONVS[axes](x, w, padding=1).tobytes()
    before = sys.modules["fastconv._jit"].compilations()
    read_only = x.copy()
    read_only.flags.writeable = False
    same = [x.tolist(), np.asfortranarray(x), x.astype(x.dtype.newbyteorder()), read_only, memoryview(x)]
    same += [np.broadcast_to(x[:, :1, :1], x.shape), np.ma.masked_array(x), np.repeat(x, 2, -1)[..., ::2]]
    for stride in (1, np.int8(1), np.uint64(1), (1,), [1] * axes):
        for array in same[1:]:
            assert CONVS[axes](array, w, stride=stride, padding=1).tobytes() == expected
        assert CONVS[axes](same[0], w.astype(dtype), stride=stride, padding=1).dtype in (w.dtype, "f8", "i8", "c16")
    known = {"f4": "f8", "i2": "i8", "c8": "f8"}[dtype]
    assert sys.modules["fastconv._jit"].compilations() - before <= 4, f"only kernels of {known}, for the list"


@AXES
def test_unusual_arrays_give_the_same_bits(axes, tmp_path):
    rng = np.random.default_rng(axes)
    x, w, b = (cases.integers(rng, a.shape) for a in (ones(axes), kernel(axes), np.ones(6)))
    expected = CONVS[axes](x, w, b).tobytes()
    x.tofile(tmp_path / "x")
    mapped = np.memmap(tmp_path / "x", "f4", "r", shape=x.shape)
    assert CONVS[axes](mapped, memoryview(w), np.ma.masked_array(b)).tobytes() == expected
    assert CONVS[axes](x.astype("f8").tolist(), w, b).astype("f4").tobytes() == expected
    with pytest.warns(PendingDeprecationWarning):
        matrix = np.matrix([[1.0, 2.0, 3.0]])
    np.testing.assert_array_equal(fc.conv1d(matrix, [[[1.0, 1.0]]]), [[3.0, 5.0]])
