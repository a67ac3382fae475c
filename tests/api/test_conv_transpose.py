"""Transposed convolutions against their definition; every kernel has one register tile, so that few are compiled."""

from __future__ import annotations

import itertools
import warnings
from unittest import mock

import numpy as np
import pytest

import fastconv as fc
from fastconv.api import conv_transpose as transposed
from fastconv.dispatch import conv_transpose
from fastconv.epilogue import ACTIVATIONS
from fastconv.geometry.conv_transpose import conv_transpose_geometry
from fastconv.kernels.reference.conv_transpose import conv_transpose as definition
from tests import cases
from tests.properties.strategies import one_tile

CALLS = {1: fc.conv_transpose1d, 2: fc.conv_transpose2d, 3: fc.conv_transpose3d}


@pytest.fixture(autouse=True, scope="module")
def _one_tile():
    with one_tile():
        yield


def call(x, w, b=None, **keywords):
    return CALLS[w.ndim - 2](x, w, b, **keywords)


def reference(x, w, b=None, layout="channels_first", activation=None, algorithm="auto", **keywords):
    """Return the definition's result, summed in int64 or double precision and rounded or wrapped once."""
    axes, dtype = w.ndim - 2, np.result_type(x, w, *([] if b is None else [b]))
    g = conv_transpose_geometry("f", axes, x.shape, w.shape, layout=layout, **keywords)
    sums = {"i": np.int64, "u": np.int64, "c": np.complex128}.get(dtype.kind, np.float64)
    y = definition(x if x.ndim == w.ndim else x[None], w, g, b, activation, sums, dtype)
    return y if x.ndim == w.ndim else y[0]


def integers(rng, shape, dtype="float32"):
    whole = rng.integers(-4, 5, shape)
    return (whole + 1j * rng.integers(-4, 5, shape) if np.dtype(dtype).kind == "c" else whole).astype(dtype)


def draw(rng, axes, dtype="float32"):
    """Return a drawn call whose result is not empty: x in channels_first, w, b, keywords."""
    depthwise, G = rng.random() < 0.25, int(rng.integers(1, 4))
    ICG, OCG = (1, int(rng.integers(1, 3))) if depthwise else (int(rng.integers(1, 5)), int(rng.choice([1, 3, 4, 32])))
    sizes = [int(rng.integers(1, (12, 6, 4)[axes - 1])) for _ in range(axes)]
    kernel, stride, dilation = (tuple(map(int, rng.integers(1, most, axes))) for most in (5, 4, 4))
    extra = tuple(int(rng.integers(0, max(pair))) for pair in zip(stride, dilation, strict=True))
    pairs = []
    for n, k, s, d, op in zip(sizes, kernel, stride, dilation, extra, strict=True):
        before, after = map(int, rng.integers(-3, 4, 2))
        pairs.append((before, min(after, (n - 1) * s - before + d * (k - 1) + op)))
    x = integers(rng, (int(rng.integers(1, 3)), G * ICG, *sizes), dtype)
    w, b = integers(rng, (G * ICG, OCG, *kernel), dtype), integers(rng, (G * OCG,), dtype)
    keywords = {"stride": stride, "padding": tuple(pairs), "output_padding": extra, "groups": G, "dilation": dilation}
    return x, w, b if rng.random() < 0.5 else None, keywords


def check(x, w, b, layout, **keywords):
    x = np.ascontiguousarray(np.moveaxis(x, 1, -1)) if layout == "channels_last" else x
    x = x[0] if len(x) == 1 else x
    got, want = call(x, w, b, layout=layout, **keywords), reference(x, w, b, layout, **keywords)
    assert got.dtype == want.dtype
    np.testing.assert_array_equal(got, want, err_msg=f"{x.shape} {w.shape} {layout} {keywords}")


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_drawn_problems(axes):
    rng = np.random.default_rng(axes)
    for i in range(60):
        x, w, b, keywords = draw(rng, axes)
        algorithm = ("auto", "direct", "im2col")[i % 3] if w.shape[1] > 1 else "auto"
        check(
            x,
            w,
            b,
            cases.LAYOUTS[i % 2],
            activation=(None, "relu", "relu6")[i % 5 % 3],
            algorithm=algorithm,
            **keywords,
        )


@pytest.mark.targets
@pytest.mark.parametrize("layout", cases.LAYOUTS)
def test_few_problems_on_every_target(layout):
    rng = np.random.default_rng(0)
    check(integers(rng, (1, 2, 2, 5)), integers(rng, (2, 3, 3, 4)), integers(rng, 3), layout, stride=2, padding=1)
    check(integers(rng, (2, 2, 3, 2)), integers(rng, (2, 3, 2, 2)), None, layout, stride=2)


@pytest.mark.targets
def test_whole_vectors_of_channels():
    rng = np.random.default_rng(0)
    check(integers(rng, (1, 3, 2, 2)), integers(rng, (3, 32, 3, 3)), None, "channels_last", stride=2)


def test_a_part_of_the_batch_at_a_time():
    rng = np.random.default_rng(1)
    x, w, b = integers(rng, (6, 3, 4, 5)), integers(rng, (3, 4, 3, 3)), integers(rng, 4)
    whole = fc.conv_transpose2d(x, w, b, stride=2)
    for size in (1, 2 * 4 * 5 * 11 * 4, 3 * 4 * 5 * 11 * 4):
        with mock.patch.object(conv_transpose, "TEMPORARY_BYTES", size):
            conv_transpose.prepare_transpose.cache_clear()
            transposed._seen.cache_clear()
            np.testing.assert_array_equal(fc.conv_transpose2d(x, w, b, stride=2), whole)
    np.testing.assert_array_equal(whole, reference(x, w, b, stride=2))


@pytest.mark.parametrize(
    "dtype", ["float64", "float16", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "complex64"]
)
def test_dtypes(dtype):
    rng = np.random.default_rng(2)
    x, w, b = (integers(rng, shape, dtype) for shape in ((2, 2, 3, 4), (2, 3, 3, 2), (3,)))
    check(x, w, b, "channels_first", stride=2, padding=1)
    check(x, w, None, "channels_first", stride=(1, 3))


def test_mixed_dtypes_promote():
    rng = np.random.default_rng(3)
    x, w = integers(rng, (1, 2, 3, 4), "int8"), integers(rng, (2, 3, 2, 2), "float32")
    check(x, w, integers(rng, 3, "float64"), "channels_first", stride=2)
    check(integers(rng, (1, 2, 5), "complex64"), integers(rng, (2, 1, 3), "int16"), None, "channels_first", stride=2)


def test_bfloat16():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    rng = np.random.default_rng(4)
    x, w = integers(rng, (1, 2, 3, 4)), integers(rng, (2, 3, 2, 2))
    got = fc.conv_transpose2d(x.astype(ml_dtypes.bfloat16), w.astype(ml_dtypes.bfloat16), stride=2)
    assert got.dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(got.astype("f4"), reference(x, w, stride=2))


def test_out_dtype_widens():
    x, w = np.full((1, 4, 3, 3), 100, np.int8), np.full((4, 2, 2, 2), 100, np.int8)
    got = fc.conv_transpose2d(x, w, stride=2, out_dtype="int32")
    assert got.dtype == np.int32
    assert (got == 40000).all()
    assert (fc.conv_transpose2d(x, w, stride=2) == np.array(40000).astype(np.int8)).all()


@pytest.mark.parametrize("activation", [name for name in ACTIVATIONS if name])
def test_activations_also_where_no_tap_comes(activation):
    rng = np.random.default_rng(5)
    x, w, b = integers(rng, (1, 2, 3, 4)), integers(rng, (2, 3, 1, 2)), np.array([-1.5, 0.5, 7], np.float32)
    got = fc.conv_transpose2d(x, w, b, stride=3, activation=activation)
    want = reference(x, w, b, stride=3, activation=activation)
    np.testing.assert_allclose(got, want, rtol=3e-6, atol=1e-6)
    gap = np.array([ACTIVATIONS[activation](b)[0]], np.float32)
    np.testing.assert_allclose(got[0, 0, 1], np.broadcast_to(gap, got.shape[-1]), rtol=3e-6)


def test_activation_of_wrapped_integers():
    x, w = np.array([[[100, -100, 3]]], np.int8), np.array([[[2]]], np.int8)
    np.testing.assert_array_equal(fc.conv_transpose1d(x, w, activation="relu6"), [[[0, 6, 6]]])
    with pytest.raises(fc.DtypeError, match="activation = 'tanh'"):
        fc.conv_transpose1d(x, w, activation="tanh")


def test_inputs_of_every_kind():
    rng = np.random.default_rng(6)
    x, w = integers(rng, (2, 2, 3, 4)), integers(rng, (2, 3, 2, 2))
    want = reference(x, w, stride=2)
    strided, frozen = np.repeat(x, 2, -1)[..., ::2], x.copy()
    frozen.setflags(write=False)
    for given in (strided, frozen, x.astype(">f4"), np.asfortranarray(x)):
        np.testing.assert_array_equal(fc.conv_transpose2d(given, w[::-1][::-1], stride=2), want)
    got = fc.conv_transpose2d(x.tolist(), w.tolist(), stride=2)
    assert got.dtype == np.int64 or got.dtype == np.float64
    np.testing.assert_array_equal(got, want)


def test_results_are_fresh_and_inputs_stay():
    x, w = np.ones((1, 1, 3, 3), np.float32), np.ones((1, 1, 1, 1), np.float32)
    got = fc.conv_transpose2d(x, w)
    assert not np.may_share_memory(got, x)
    got[...] = 7
    assert (x == 1).all()
    assert (w == 1).all()


def test_out_is_written_and_may_overlap():
    rng = np.random.default_rng(7)
    x, w, b = integers(rng, (2, 3, 4, 4)), integers(rng, (3, 3, 3, 3)), integers(rng, 3)
    want = reference(x, w, b, padding=1)
    for out in (np.full_like(want, np.nan), x.copy(), np.full((2, 3, 4, 8), np.nan, np.float32)[..., ::2]):
        given = out if out.shape == x.shape and not np.isnan(out).any() else x
        assert fc.conv_transpose2d(given, w, b, padding=1, out=out) is out
        np.testing.assert_array_equal(out, want)
    with pytest.raises(fc.ShapeError, match=r"conv_transpose2d: out has shape \(1,\)"):
        fc.conv_transpose2d(x, w, out=np.empty(1, np.float32))
    with pytest.raises(fc.OptionError, match="out has dtype float64"):
        fc.conv_transpose2d(x, w, padding=1, out=np.empty_like(x, np.float64))


@pytest.mark.parametrize("layout", cases.LAYOUTS)
def test_empty_batches(layout):
    x = np.empty((0, 2, 3, 4) if layout == "channels_first" else (0, 3, 4, 2), np.float32)
    for stride, dtype in itertools.product((1, 2), ("float32", "int8", "complex64")):
        got = fc.conv_transpose2d(
            x.astype(dtype), np.ones((2, 3, 2, 2), dtype), np.ones(3, dtype), stride, layout=layout
        )
        assert got.shape == reference(x, np.ones((2, 3, 2, 2)), stride=stride, layout=layout).shape
        assert got.dtype == dtype


def test_special_values_reach_what_they_meet_and_nothing_else():
    w = np.ones((1, 1, 3, 3), np.float32)
    for value in (np.nan, np.inf, -np.inf):
        x = np.ones((1, 1, 4, 5), np.float32)
        x[0, 0, 1, 2] = value
        got = fc.conv_transpose2d(x, w, stride=2)
        touched = np.zeros(got.shape, bool)
        touched[0, 0, 2:5, 4:7] = True
        np.testing.assert_array_equal(np.isfinite(got), ~touched)
        assert np.isnan(got[touched]).all() if np.isnan(value) else (got[touched] == value).all()


def test_a_large_stride_is_no_longer_than_its_result():
    x, w = np.ones((1, 1, 2, 2), np.float32), np.ones((1, 1, 2, 3), np.float32)
    got = fc.conv_transpose2d(x, w, np.array([0.5], np.float32), stride=1000)
    assert got.shape == (1, 1, 1002, 1003)
    assert got.sum(dtype=np.float64) == 4 * 6 + 0.5 * got.size


def test_named_algorithms():
    rng = np.random.default_rng(8)
    x, w = integers(rng, (1, 4, 3, 5)), integers(rng, (4, 1, 3, 3))
    want = reference(x, w, stride=2, groups=4)
    for algorithm in ("direct", "im2col", "depthwise", "measure"):
        np.testing.assert_array_equal(fc.conv_transpose2d(x, w, None, 2, groups=4, algorithm=algorithm), want)
    square = integers(rng, (4, 2, 2, 2))
    got = fc.conv_transpose2d(x, square, stride=2, algorithm="pointwise")
    np.testing.assert_array_equal(got, reference(x, square, stride=2))


@pytest.mark.parametrize(
    ("algorithm", "message"),
    [
        ("pointwise", r"kernel must be 1x1, got 2x2 \(in a stride phase\); im2col, direct can"),
        ("depthwise", r"groups must equal the input channels, got groups = 1, IC = 4 \(in a stride phase\); im2col"),
        ("separable", "it takes one kernel"),
        (
            "winograd",
            "transposed convolution with a stride takes what rounds as direct summation does; im2col, direct can",
        ),
    ],
)
def test_an_algorithm_that_cannot_is_refused(algorithm, message):
    x, w = np.ones((1, 4, 3, 5), np.float32), np.ones((4, 2, 3, 3), np.float32)
    with pytest.raises(fc.UnsupportedError, match=f'conv_transpose2d: algorithm "{algorithm}" refused: {message}'):
        fc.conv_transpose2d(x, w, stride=2, algorithm=algorithm)


def test_errors_of_the_call():
    x, w = np.ones((1, 4, 3, 5), np.float32), np.ones((4, 2, 3, 3), np.float32)
    with pytest.raises(fc.ShapeError, match=r"conv_transpose2d: bias has shape \(4,\), expected \(2,\) \(OC = 2\)"):
        fc.conv_transpose2d(x, w, np.ones(4, np.float32))
    for keyword in ("layout", "algorithm", "precision", "device", "activation"):
        with pytest.raises(fc.OptionError, match=f"conv_transpose2d: {keyword} = 'x'"):
            fc.conv_transpose2d(x, w, **{keyword: "x"})
        with pytest.raises(fc.ArgumentTypeError, match=f"conv_transpose2d: {keyword} "):
            fc.conv_transpose2d(x, w, **{keyword: ["x"]})
    # Equal to what was allowed before, yet another thing.
    fc.conv_transpose2d(x, w, stride=(1, 2))
    with pytest.raises(fc.ArgumentTypeError, match=r"stride = \(True, 2\) is a bool|stride = True is a bool"):
        fc.conv_transpose2d(x, w, stride=(True, 2))
    with pytest.raises(fc.ShapeError, match="conv_transpose1d: input has 4 dimensions"):
        fc.conv_transpose1d(x, w[..., 0])
    with pytest.raises(fc.DtypeError, match="conv_transpose2d: weight has dtype bool"):
        fc.conv_transpose2d(x, w > 0)


def test_half_precision_overflows_without_a_warning():
    x, w = np.full((1, 1, 2), 300, np.float16), np.full((1, 1, 2), 300, np.float16)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isinf(fc.conv_transpose1d(x, w, stride=2)).all()


@pytest.mark.parametrize("layout", cases.LAYOUTS)
def test_bits_are_those_of_one_thread(layout):
    rng = np.random.default_rng(9)
    x, w = rng.standard_normal((2, 40, 40, 40)).astype("f4"), rng.standard_normal((40, 32, 4, 4)).astype("f4")
    with fc.threads(1):
        one = fc.conv_transpose2d(x, w, stride=2, padding=1, layout=layout)
    for count in (2, 3):
        with fc.threads(count):
            np.testing.assert_array_equal(fc.conv_transpose2d(x, w, stride=2, padding=1, layout=layout), one)
