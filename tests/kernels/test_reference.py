import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal

from fastconv.epilogue import ACTIVATIONS
from fastconv.geometry.conv import PADDING_MODES, conv_geometry, input_shape, output_shape, weight_shape
from fastconv.kernels.reference.conv import conv

# The same examples on every run, and no time limit: a busy machine fails no test.
drawn = settings(deadline=None, derandomize=True, max_examples=60)


@st.composite
def geometries(draw, crop=True, axes=(1, 2, 3), modes=PADDING_MODES):
    """A small valid problem in float64."""
    axes = draw(st.sampled_from(axes))
    groups = draw(st.integers(1, 3))
    ICG, OCG, *kernel = (draw(st.integers(1, 3)) for _ in range(2 + axes))
    stride, dilation = (draw(st.tuples(*[st.integers(1, 3)] * axes)) for _ in range(2))
    pads = draw(st.tuples(*[st.tuples(*[st.integers(-2 if crop else 0, 3)] * 2)] * axes))
    sizes = []
    for size, rate, pad in zip(kernel, dilation, pads, strict=True):
        least = max(rate * (size - 1) + 1 - sum(pad), 1 - sum(min(0, number) for number in pad))
        sizes.append(max(1, least) + draw(st.integers(0, 4)))
    x = (draw(st.integers(0, 2)), groups * ICG, *sizes)
    return conv_geometry(
        "conv", axes, x, (groups * OCG, ICG, *kernel), stride=stride, padding=pads, dilation=dilation, groups=groups,
        padding_mode=draw(st.sampled_from(modes)), dtype="float64",
    )  # fmt: skip


def integers(g, seed=0):
    """Arrays of small integers: every sum is exact."""
    generator = np.random.default_rng(seed)
    shapes = input_shape(g), weight_shape(g), (g.OC,), output_shape(g)
    return tuple(generator.integers(-4, 5, shape).astype(g.dtype) for shape in shapes)


def source(i, first, last, mode):
    """Return the index that stands for i in an image of the indices from `first` to `last`, None for a zero."""
    n = last - first + 1
    i -= first
    if mode == "zeros":
        return first + i if 0 <= i < n else None
    if mode == "replicate":
        return first + min(max(i, 0), n - 1)
    if mode == "circular":
        return first + i % n
    # Mirrored about the edge (symmetric), or about the middle of the last element (reflect): a wave of this period.
    period = 2 * n if mode == "symmetric" else max(2 * n - 2, 1)
    i %= period
    return first + (i if i < n else period - i - (mode == "symmetric"))


def by_loops(x, weight, g):
    """The index formula, one tap at a time."""
    sizes, kernel = x.shape[2:], weight.shape[2:]
    pads = [(g.PF, g.PK), (g.PT, g.PB), (g.PL, g.PR)][-g.axes :]
    steps = list(zip((g.SD, g.SH, g.SW), (g.DD, g.DH, g.DW), strict=True))[-g.axes :]
    out = np.zeros(output_shape(g))
    for n, oc, *place in np.ndindex(out.shape):
        first = oc // g.OCG * g.ICG
        for tap in np.ndindex(kernel):
            taken = [
                source(o * s + k * d - a, max(0, -a), size - 1 - max(0, -b), g.padding_mode)
                for o, k, (s, d), (a, b), size in zip(place, tap, steps, pads, sizes, strict=True)
            ]
            if None not in taken:
                values = x[(n, slice(first, first + g.ICG), *taken)]
                out[(n, oc, *place)] += values @ weight[(oc, slice(None), *tap)]
    return out


@drawn
@given(geometries())
def test_conv_equals_the_index_formula(g):
    x, weight, _, _ = integers(g)
    assert np.array_equal(conv(x, weight, g), by_loops(x, weight, g))


@drawn
@given(geometries(crop=False, modes=["zeros"]))
def test_conv_equals_torch(g):
    torch = pytest.importorskip("torch")
    x, weight, bias, _ = integers(g)
    padded = torch.nn.functional.pad(torch.from_numpy(x), (g.PL, g.PR, g.PT, g.PB, g.PF, g.PK)[: 2 * g.axes])
    stride, dilation = (g.SD, g.SH, g.SW)[-g.axes :], (g.DD, g.DH, g.DW)[-g.axes :]
    function = getattr(torch.nn.functional, f"conv{g.axes}d")
    expected = function(padded, torch.from_numpy(weight), torch.from_numpy(bias), stride, 0, dilation, g.G)
    assert np.array_equal(conv(x, weight, g, bias), expected.numpy())


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_padding_modes_equal_torch(axes, mode):
    torch = pytest.importorskip("torch")
    pads = ((1, 2), (3, 0), (2, 1))[:axes]
    g = conv_geometry(
        "conv", axes, (2, 4, *(5, 4, 6)[:axes]), (6, 2, *(2, 3, 1)[:axes]), padding=pads, stride=2, groups=2,
        padding_mode=mode, dtype="float64",
    )  # fmt: skip
    x, weight, _, _ = integers(g)
    ends = [end for pair in reversed(pads) for end in pair]
    padded = torch.nn.functional.pad(torch.from_numpy(x), ends, mode=mode)
    expected = getattr(torch.nn.functional, f"conv{axes}d")(padded, torch.from_numpy(weight), stride=2, groups=2)
    assert np.array_equal(conv(x, weight, g), expected.numpy())


@pytest.mark.parametrize("mode", ["full", "same", "valid"])
@pytest.mark.parametrize(
    ("size", "kernel"), [((9, 12), (3, 5)), ((7, 7), (1, 1)), ((5, 8), (5, 3)), ((12,), (5,)), ((5, 6, 7), (3, 1, 5))]
)
@pytest.mark.parametrize("dtype", [np.float64, np.int64, np.complex128])
def test_conv_equals_scipy_correlate(mode, size, kernel, dtype):
    g = conv_geometry("conv", len(size), (1, 1, *size), (1, 1, *kernel), padding=mode, dtype="float64")
    x, weight, _, _ = (array.astype(dtype) for array in integers(g))
    if dtype is np.complex128:
        x, weight = x * (1 + 2j), weight * (2 - 1j)
    # SciPy conjugates its second argument, a convolution does not.
    expected = signal.correlate(x[0, 0], weight[0, 0].conj(), mode, method="direct")
    result = conv(x, weight, g, accumulate=dtype, dtype=dtype)
    assert result.dtype == dtype
    assert np.array_equal(result[0, 0], expected)


def test_conv_of_integers_wraps():
    g = conv_geometry("conv1d", 1, (1, 1, 3), (1, 1, 2))
    x, weight = np.int8([[[127, 2, -128]]]), np.int8([[[2, 1]]])
    exact = np.array([256, -124])
    assert np.array_equal(conv(x, weight, g, accumulate=np.int64, dtype=np.int64)[0, 0], exact)
    assert np.array_equal(conv(x, weight, g, accumulate=np.int64, dtype=np.int8)[0, 0], exact.astype(np.int8))


@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
def test_conv_takes_the_planar_and_the_flat_form_of_a_problem(layout):
    x = (2, 3, 4, 5, 6) if layout == "channels_first" else (2, 4, 5, 6, 3)
    g = conv_geometry("conv3d", 3, x, (5, 3, 1, 1, 1), layout=layout, dtype="float64")
    x, weight, _, _ = integers(g)
    expected = conv(x, weight, g)
    assert np.array_equal(conv(x, weight, g.flat).reshape(expected.shape), expected)
    if layout == "channels_first":
        x = np.moveaxis(x, 2, 1)
        expected = np.moveaxis(expected, 2, 1)
    assert np.array_equal(conv(np.ascontiguousarray(x), weight, g.planar).reshape(expected.shape), expected)


@drawn
@given(geometries(), st.sampled_from([None, "relu", "gelu"]))
def test_conv_of_channels_last_is_the_transpose(g, activation):
    x, weight, bias, residual = integers(g)
    expected = conv(x, weight, g, bias, residual, activation)
    last = g._replace(layout="channels_last")
    actual = conv(np.moveaxis(x, 1, -1), weight, last, bias, np.moveaxis(residual, 1, -1), activation)
    assert actual.shape == output_shape(last)
    assert np.array_equal(actual, np.moveaxis(expected, 1, -1))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_conv_adds_bias_and_residual_before_the_activation(activation):
    g = conv_geometry("conv2d", 2, (2, 4, 6, 5), (6, 2, 3, 3), padding=1, groups=2, dtype="float64")
    x, weight, bias, residual = integers(g)
    total = by_loops(x, weight, g) + bias[:, None, None] + residual
    assert np.array_equal(conv(x, weight, g, bias, residual, activation), ACTIVATIONS[activation](total))


def test_conv_rounds_once():
    g = conv_geometry("conv2d", 2, (1, 3, 1, 1), (1, 3, 1, 1))
    x = np.float32([1e8, 1, -1e8]).reshape(1, 3, 1, 1)
    ones = np.ones((1, 3, 1, 1), np.float32)
    result = conv(x, ones, g)
    assert result.dtype == np.float32
    assert result.item() == 1
    assert conv(x, ones, g, np.float32([1e-3])).item() == np.float32(1.001)


def test_conv_without_input_channels_is_the_bias():
    g = conv_geometry("conv2d", 2, (2, 0, 4, 4), (3, 0, 3, 3))
    x, weight, bias, _ = integers(g)
    assert np.array_equal(conv(x, weight, g, bias), np.broadcast_to(bias[:, None, None], (2, 3, 2, 2)))


def test_conv_poisons_exactly_the_receptive_field():
    g = conv_geometry("conv2d", 2, (1, 1, 6, 7), (1, 1, 3, 2), padding=1, dilation=(1, 2), dtype="float64")
    x, weight = np.zeros(input_shape(g)), np.zeros(weight_shape(g))
    x[0, 0, 3, 4] = np.nan
    probe = np.zeros_like(x)
    probe[0, 0, 3, 4] = 1
    assert np.array_equal(np.isnan(conv(x, weight, g)), conv(probe, np.ones_like(weight), g) > 0)


def test_conv_multiplies_the_padding():
    g = conv_geometry("conv2d", 2, (1, 1, 3, 3), (1, 1, 3, 3), padding=1, dtype="float64")
    weight = np.zeros((1, 1, 3, 3))
    weight[0, 0, 0, 0] = np.inf
    result = conv(np.ones((1, 1, 3, 3)), weight, g)[0, 0]
    # The top left tap of the outputs in the first row and column lies in the padding.
    assert np.isnan(result[0]).all()
    assert np.isnan(result[:, 0]).all()
    assert np.isinf(result[1:, 1:]).all()


def test_conv_returns_fresh_contiguous_memory():
    g = conv_geometry("conv2d", 2, (1, 1, 3, 3), (1, 1, 1, 1))
    x, weight, _, _ = integers(g)
    before = x.copy()
    result = conv(x, weight, g)
    assert result.flags.c_contiguous
    assert result.flags.writeable
    result[:] = 7
    assert np.array_equal(x, before)


def test_conv_accumulates_as_told():
    g = conv_geometry("conv2d", 2, (1, 3, 1, 1), (1, 3, 1, 1))
    x = np.float32([1e8, 1, -1e8]).reshape(1, 3, 1, 1)
    assert conv(x, np.ones_like(x), g, accumulate=np.float32).item() in (0, 1)
    assert conv(x, np.ones_like(x), g, accumulate=np.int64).item() == 1
