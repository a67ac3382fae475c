import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal

from fastconv.epilogue import ACTIVATIONS
from fastconv.geometry.conv import conv2d_geometry, input_shape, output_shape, weight_shape
from fastconv.kernels.reference.conv import conv2d

# The same examples on every run, and no time limit: a busy machine fails no test.
drawn = settings(deadline=None, derandomize=True, max_examples=60)


@st.composite
def geometries(draw, crop=True):
    """A small valid problem in float64."""
    groups = draw(st.integers(1, 3))
    ICG, OCG, KH, KW = (draw(st.integers(1, 3)) for _ in range(4))
    stride, dilation = (draw(st.tuples(*[st.integers(1, 3)] * 2)) for _ in range(2))
    pads = draw(st.tuples(*[st.tuples(*[st.integers(-2 if crop else 0, 3)] * 2)] * 2))
    sizes = []
    for kernel, rate, pad in zip((KH, KW), dilation, pads, strict=True):
        least = max(rate * (kernel - 1) + 1 - sum(pad), 1 - sum(min(0, number) for number in pad))
        sizes.append(max(1, least) + draw(st.integers(0, 5)))
    x = (draw(st.integers(0, 2)), groups * ICG, *sizes)
    return conv2d_geometry(
        "conv2d", x, (groups * OCG, ICG, KH, KW),
        stride=stride, padding=pads, dilation=dilation, groups=groups, dtype="float64",
    )  # fmt: skip


def integers(g, seed=0):
    """Arrays of small integers: every sum is exact."""
    generator = np.random.default_rng(seed)
    shapes = input_shape(g), weight_shape(g), (g.OC,), output_shape(g)
    return tuple(generator.integers(-4, 5, shape).astype(g.dtype) for shape in shapes)


def by_loops(x, weight, g):
    """The index formula, one tap at a time."""
    out = np.zeros(output_shape(g))
    for n, oc, oh, ow in np.ndindex(out.shape):
        first = oc // g.OCG * g.ICG
        for icg, kh, kw in itertools.product(range(g.ICG), range(g.KH), range(g.KW)):
            h, w = oh * g.SH + kh * g.DH - g.PT, ow * g.SW + kw * g.DW - g.PL
            if 0 <= h < g.H and 0 <= w < g.W:
                out[n, oc, oh, ow] += x[n, first + icg, h, w] * weight[oc, icg, kh, kw]
    return out


@drawn
@given(geometries())
def test_conv2d_equals_the_index_formula(g):
    x, weight, _, _ = integers(g)
    assert np.array_equal(conv2d(x, weight, g), by_loops(x, weight, g))


@drawn
@given(geometries(crop=False))
def test_conv2d_equals_torch(g):
    torch = pytest.importorskip("torch")
    x, weight, bias, _ = integers(g)
    padded = torch.nn.functional.pad(torch.from_numpy(x), (g.PL, g.PR, g.PT, g.PB))
    options = {"stride": (g.SH, g.SW), "dilation": (g.DH, g.DW), "groups": g.G}
    expected = torch.nn.functional.conv2d(padded, torch.from_numpy(weight), torch.from_numpy(bias), **options)
    assert np.array_equal(conv2d(x, weight, g, bias), expected.numpy())


@pytest.mark.parametrize("mode", ["full", "same", "valid"])
@pytest.mark.parametrize(("size", "kernel"), [((9, 12), (3, 5)), ((7, 7), (1, 1)), ((5, 8), (5, 3))])
def test_conv2d_equals_scipy_correlate2d(mode, size, kernel):
    g = conv2d_geometry("conv2d", (1, 1, *size), (1, 1, *kernel), padding=mode, dtype="float64")
    x, weight, _, _ = integers(g)
    assert np.array_equal(conv2d(x, weight, g)[0, 0], signal.correlate2d(x[0, 0], weight[0, 0], mode))


@drawn
@given(geometries(), st.sampled_from([None, "relu", "gelu"]))
def test_conv2d_of_channels_last_is_the_transpose(g, activation):
    x, weight, bias, residual = integers(g)
    expected = conv2d(x, weight, g, bias, residual, activation)
    last = g._replace(layout="channels_last")
    actual = conv2d(np.moveaxis(x, 1, -1), weight, last, bias, np.moveaxis(residual, 1, -1), activation)
    assert actual.shape == output_shape(last)
    assert np.array_equal(actual, np.moveaxis(expected, 1, -1))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_conv2d_adds_bias_and_residual_before_the_activation(activation):
    g = conv2d_geometry("conv2d", (2, 4, 6, 5), (6, 2, 3, 3), padding=1, groups=2, dtype="float64")
    x, weight, bias, residual = integers(g)
    total = by_loops(x, weight, g) + bias[:, None, None] + residual
    assert np.array_equal(conv2d(x, weight, g, bias, residual, activation), ACTIVATIONS[activation](total))


def test_conv2d_rounds_once():
    g = conv2d_geometry("conv2d", (1, 3, 1, 1), (1, 3, 1, 1))
    x = np.float32([1e8, 1, -1e8]).reshape(1, 3, 1, 1)
    ones = np.ones((1, 3, 1, 1), np.float32)
    result = conv2d(x, ones, g)
    assert result.dtype == np.float32
    assert result.item() == 1
    assert conv2d(x, ones, g, np.float32([1e-3])).item() == np.float32(1.001)


def test_conv2d_without_input_channels_is_the_bias():
    g = conv2d_geometry("conv2d", (2, 0, 4, 4), (3, 0, 3, 3))
    x, weight, bias, _ = integers(g)
    assert np.array_equal(conv2d(x, weight, g, bias), np.broadcast_to(bias[:, None, None], (2, 3, 2, 2)))


def test_conv2d_poisons_exactly_the_receptive_field():
    g = conv2d_geometry("conv2d", (1, 1, 6, 7), (1, 1, 3, 2), padding=1, dilation=(1, 2), dtype="float64")
    x, weight = np.zeros(input_shape(g)), np.zeros(weight_shape(g))
    x[0, 0, 3, 4] = np.nan
    probe = np.zeros_like(x)
    probe[0, 0, 3, 4] = 1
    assert np.array_equal(np.isnan(conv2d(x, weight, g)), conv2d(probe, np.ones_like(weight), g) > 0)


def test_conv2d_multiplies_the_padding():
    g = conv2d_geometry("conv2d", (1, 1, 3, 3), (1, 1, 3, 3), padding=1, dtype="float64")
    weight = np.zeros((1, 1, 3, 3))
    weight[0, 0, 0, 0] = np.inf
    result = conv2d(np.ones((1, 1, 3, 3)), weight, g)[0, 0]
    # The top left tap of the outputs in the first row and column lies in the padding.
    assert np.isnan(result[0]).all()
    assert np.isnan(result[:, 0]).all()
    assert np.isinf(result[1:, 1:]).all()


def test_conv2d_returns_fresh_contiguous_memory():
    g = conv2d_geometry("conv2d", (1, 1, 3, 3), (1, 1, 1, 1))
    x, weight, _, _ = integers(g)
    before = x.copy()
    result = conv2d(x, weight, g)
    assert result.flags.c_contiguous
    assert result.flags.writeable
    result[:] = 7
    assert np.array_equal(x, before)


def test_conv2d_accumulates_as_told():
    g = conv2d_geometry("conv2d", (1, 3, 1, 1), (1, 3, 1, 1))
    x = np.float32([1e8, 1, -1e8]).reshape(1, 3, 1, 1)
    assert conv2d(x, np.ones_like(x), g, accumulate=np.float32).item() in (0, 1)
    assert conv2d(x, np.ones_like(x), g, accumulate=np.int64).item() == 1
