import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastconv.errors import ArgumentTypeError, OptionError, ShapeError
from fastconv.geometry.padding import NAMES, effective_kernel, named, output_size, resolve

# The same examples on every run, and no time limit: a busy machine fails no test.
drawn = settings(deadline=None, derandomize=True)

AXES = {"sizes": (10, 7), "kernel": (3, 4), "stride": (1, 2), "dilation": (2, 1)}

sizes, kernels, strides, dilations = (st.integers(1, top) for top in (40, 7, 9, 4))


@drawn
@given(sizes, kernels, strides, dilations, st.integers(0, 5), st.integers(0, 5))
def test_output_size_counts_the_windows_that_fit(size, kernel, stride, dilation, before, after):
    last = size + before + after - effective_kernel(kernel, dilation)
    fitting = len(range(0, last + 1, stride))
    assert max(0, output_size(size, (before, after), kernel, stride, dilation)) == fitting


@pytest.mark.parametrize("name", ["same", "same_lower"])
@drawn
@given(size=sizes, kernel=kernels, stride=strides, dilation=dilations)
def test_same_follows_the_contract(name, size, kernel, stride, dilation):
    pad = named(name, size, kernel, stride, dilation)
    assert sum(pad) == max(0, dilation * (kernel - 1) - (size - 1) % stride)
    assert output_size(size, pad, kernel, stride, dilation) == -(-size // stride)
    odd = pad[1] - pad[0] if name == "same" else pad[0] - pad[1]
    assert odd == sum(pad) % 2


@drawn
@given(size=sizes, kernel=kernels, stride=strides, dilation=dilations)
def test_same_is_tensorflows_formula(size, kernel, stride, dilation):
    # As in tensorflow/core/framework/kernel_shape_util.cc.
    out = (size + stride - 1) // stride
    total = max((out - 1) * stride + effective_kernel(kernel, dilation) - size, 0)
    assert named("same", size, kernel, stride, dilation) == (total // 2, total - total // 2)


@drawn
@given(size=sizes, kernel=kernels, dilation=dilations)
def test_full_overlaps_each_end_by_one_tap(size, kernel, dilation):
    pad = named("full", size, kernel, 1, dilation)
    assert output_size(size, pad, kernel, 1, dilation) == size + dilation * (kernel - 1)


@pytest.mark.parametrize(
    ("padding", "expected"),
    [
        (2, ((2, 2), (2, 2))),
        (np.int8(2), ((2, 2), (2, 2))),
        ((2,), ((2, 2), (2, 2))),
        ([1, 2], ((1, 1), (2, 2))),
        (((1, 2), (3, 4)), ((1, 2), (3, 4))),
        ([[1, 2], [3, np.int64(4)]], ((1, 2), (3, 4))),
        (((1, -2),), ((1, -2), (1, -2))),
        ("valid", ((0, 0), (0, 0))),
        ("same", ((2, 2), (1, 2))),
        ("same_lower", ((2, 2), (2, 1))),
        ("full", ((4, 4), (3, 3))),
    ],
)
def test_resolve_accepts_every_form(padding, expected):
    pads = resolve("conv2d", padding, **AXES)
    assert pads == expected
    assert all(type(number) is int for pair in pads for number in pair)


@pytest.mark.parametrize("axes", [1, 3])
def test_resolve_takes_any_number_of_axes(axes):
    ones = (1,) * axes
    assert resolve("conv", tuple(range(axes)), (9,) * axes, ones, ones, ones) == tuple((n, n) for n in range(axes))


def test_causal_sees_no_later_element():
    assert resolve("conv1d", "causal", (9,), (4,), (2,), (3,)) == ((9, 0),)
    for axes in (2, 3):
        with pytest.raises(OptionError, match=r"^conv: padding = 'causal', expected 'valid', 'same', 'same_lower', "):
            resolve("conv", "causal", *[(9,) * axes] * 4)
    with pytest.raises(OptionError, match=r"^conv1d: padding = \(1, 2\) has length 2, expected .*'causal', an int, a"):
        resolve("conv1d", (1, 2), (9,), (4,), (2,), (3,))


@pytest.mark.parametrize(
    ("padding", "error", "value"),
    [
        ("causal", OptionError, "'causal'"),
        ("SAME", OptionError, "'SAME'"),
        ((1, 2, 3), OptionError, "(1, 2, 3)"),
        ((), OptionError, "()"),
        (((1, 2, 3), (1, 2)), OptionError, "((1, 2, 3), (1, 2))"),
        (1.5, ArgumentTypeError, "1.5"),
        (True, ArgumentTypeError, "True"),
        (None, ArgumentTypeError, "None"),
        ((1, 2.0), ArgumentTypeError, "2.0"),
        (((1, True), (0, 0)), ArgumentTypeError, "True"),
        ((1, (2, 3)), ArgumentTypeError, "(1, (2, 3))"),
    ],
)
def test_resolve_names_argument_value_and_what_is_allowed(padding, error, value):
    with pytest.raises(error) as caught:
        resolve("conv2d", padding, **AXES)
    text = str(caught.value)
    assert text.startswith("conv2d: padding = ")
    assert value in text
    assert "\n" not in text
    assert all(repr(name) in text for name in NAMES)
    assert "pairs" in text


@pytest.mark.parametrize("padding", [-1, (-1, 2), [0, -3], 2**47, 2**62, ((2**63, 0), (0, 0)), ((0, -(2**50)), (0, 0))])
def test_resolve_refuses_sizes_out_of_range(padding):
    with pytest.raises(ShapeError, match=r"conv2d: padding = .* expected"):
        resolve("conv2d", padding, **AXES)
