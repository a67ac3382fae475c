"""Filters, convolutions and pools of dask arrays, beside SciPy's and the definitions on whole arrays."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st

import fastconv as fc
from docs.making import blocks
from fastconv.testing import assert_close, reference
from tests import pools

da = pytest.importorskip("dask.array")
dask = pytest.importorskip("dask")
ours = pytest.importorskip("fastconv.integrations.dask")
graph = pytest.importorskip("fastconv.integrations.dask.graph")

# How many problems are drawn of each kind, times some.
ROUNDS = pytest.mark.parametrize("rounds", [1, pytest.param(12, marks=pytest.mark.slow)])
MODES = ("reflect", "constant", "nearest", "mirror", "wrap", "grid-mirror", "grid-constant", "grid-wrap")
sizes = st.lists(st.integers(1, 5), min_size=1, max_size=6)
PADDING_MODES = ("zeros", "reflect", "replicate", "circular", "symmetric")


@pytest.fixture(autouse=True)
def _one_thread():
    with dask.config.set(scheduler="synchronous"):
        yield


def chunks_of(rng, shape):
    """Return drawn chunks: of one element, as large as the array, uneven, also empty ones; not very many."""
    found = []
    for n in shape:
        most = int(rng.choice([max(1, n // 4), max(1, n // 2), n + 1]))
        sizes = []
        while sum(sizes) < n:
            sizes.append(min(int(rng.integers(0, most + 1)), n - sum(sizes)))
        found.append(tuple(sizes) or (0,))
    return tuple(found)


def chunked(rng, x):
    return da.from_array(x, chunks=chunks_of(rng, x.shape))


def same(result, expected, text):
    """Compare what dask computes, and what it knew before, with an array."""
    got = result.compute()
    assert (result.shape, result.dtype) == (expected.shape, expected.dtype) == (got.shape, got.dtype), text
    np.testing.assert_array_equal(got, expected, err_msg=text)


@ROUNDS
@pytest.mark.parametrize("name", ["correlate2d", "convolve2d"])
@pytest.mark.parametrize("boundary", ["fill", "wrap", "symm"])
def test_images_are_those_of_scipy(name, boundary, rounds):
    rng = np.random.default_rng(rounds)
    for _ in range(10 * rounds):
        x = rng.integers(-9, 9, rng.integers(1, 20, 2)).astype(rng.choice(["int32", "float32", "uint8"]))
        mode = str(rng.choice(["full", "same", "valid"]))
        most = np.minimum(x.shape, 9) if mode == "valid" else (9, 9)
        kernel = rng.integers(-3, 3, rng.integers(1, np.add(most, 1))).astype(x.dtype)
        fill = int(rng.integers(0, 3))
        d = chunked(rng, x)
        result = getattr(ours, name)(d, kernel, mode, boundary, fill)
        text = f"{x.dtype} {d.chunks} {kernel.shape} {mode} {fill}"
        same(result, getattr(scipy.signal, name)(x, kernel, mode, boundary, fill), text)


FILTERS = {
    "correlate": lambda rng, ndim: {"weights": rng.integers(-3, 4, rng.integers(1, 5, ndim))},
    "convolve": lambda rng, ndim: {"weights": rng.integers(-3, 4, rng.integers(1, 5, ndim)), "origin": -1},
    "correlate1d": lambda rng, ndim: {"weights": rng.integers(-3, 4, 4), "axis": 0, "origin": 1},
    "convolve1d": lambda rng, ndim: {"weights": rng.integers(-3, 4, 4), "axis": -1, "origin": 1},
    "gaussian_filter": lambda rng, ndim: {"sigma": 0.8, "order": int(rng.integers(3))},
    "gaussian_filter1d": lambda rng, ndim: {"sigma": 1.5, "axis": 0},
    "uniform_filter": lambda rng, ndim: {"size": int(rng.integers(2, 5)), "origin": int(rng.integers(-1, 1))},
    "uniform_filter1d": lambda rng, ndim: {"size": 9, "axis": 0},
    "sobel": lambda rng, ndim: {"axis": int(rng.integers(ndim))},
    "prewitt": lambda rng, ndim: {"axis": int(rng.integers(ndim))},
    "laplace": lambda rng, ndim: {"axes": int(rng.integers(ndim))},
    "maximum_filter": lambda rng, ndim: {"size": [*rng.integers(1, 5, ndim)]},
    "minimum_filter": lambda rng, ndim: {"footprint": rng.integers(0, 2, (4,) * ndim) | (np.arange(4) == 1)},
    "maximum_filter1d": lambda rng, ndim: {"size": 5, "axis": 0, "origin": 2},
    "minimum_filter1d": lambda rng, ndim: {"size": 21},
}


@ROUNDS
@pytest.mark.parametrize("name", FILTERS)
def test_filters_are_those_of_scipy(name, rounds):
    rng = np.random.default_rng(rounds)
    for mode in MODES * rounds:
        shape = ((17,), (7, 11), (3, 5, 4))[int(rng.integers(3))]
        x = rng.integers(0, 99, shape).astype(rng.choice(["uint8", "int16", "int64"]))
        keywords = FILTERS[name](rng, x.ndim) | {"mode": mode, "cval": 7}
        d = chunked(rng, x)
        text = f"{name} {x.dtype} {d.chunks} {keywords}"
        if "weights" in keywords and min(keywords["weights"].shape) < 2:
            keywords.pop("origin", None)
        result = getattr(ours, name)(d, **keywords)
        assert result.chunks == tuple(tuple(n for n in sizes if n) for sizes in d.chunks), text
        same(result, getattr(scipy.ndimage, name)(x, **keywords), text)


@pytest.mark.parametrize("name", ["correlate", "gaussian_filter", "uniform_filter", "sobel", "laplace"])
def test_filters_of_floats_are_equal_to_rounding(name):
    rng = np.random.default_rng(2)
    x = rng.standard_normal((210, 170)).astype(np.float32)
    keywords = {"correlate": {"weights": rng.standard_normal((7, 5))}, "gaussian_filter": {"sigma": (1, 2)}}
    keywords = keywords.get(name, {}) | {"mode": str(rng.choice(MODES)), "output": "float64"}
    result = getattr(ours, name)(da.from_array(x, chunks=(100, 61)), **keywords)
    assert_close(result.compute(), getattr(scipy.ndimage, name)(x, **keywords), terms=35, dtype="float64")


def test_maxima_have_the_bits_of_the_whole():
    rng = np.random.default_rng(3)
    x = rng.standard_normal((60, 70)).astype(np.float32)
    x[rng.random(x.shape) < 0.01] = np.nan
    d = da.from_array(x, chunks=(17, 23))
    for mode in MODES:
        expected = fc.ndimage.maximum_filter(x, (5, 8), mode=mode, cval=np.inf)
        same(ours.maximum_filter(d, (5, 8), mode=mode, cval=np.inf), expected, mode)


def test_filters_take_a_mode_for_each_axis():
    x = np.arange(99).reshape(9, 11) ** 2 % 31
    d = da.from_array(x, chunks=(2, 3))
    for modes in (("wrap", "constant"), ("constant", "mirror"), ("nearest", "reflect")):
        for name, argument in (("gaussian_filter", 1.0), ("uniform_filter", 3), ("maximum_filter", 3)):
            expected = getattr(scipy.ndimage, name)(x, argument, mode=modes, cval=50)
            same(getattr(ours, name)(d, argument, mode=modes, cval=50), expected, name)


def drawn_conv(rng, axes):
    """Return an input, a weight, a bias and the keywords of a convolution."""
    G = int(rng.choice([1, 1, 2]))
    IC, OC = (G * int(n) for n in rng.integers(1, 3, 2))
    most = {1: 40, 2: 13, 3: 6}[axes]
    sizes, kernel = (tuple(int(n) for n in rng.integers(1, limit, axes)) for limit in (most, 5))
    layout = str(rng.choice(["channels_first", "channels_last"]))
    N = int(rng.integers(0, 3))
    shape = (N, IC, *sizes) if layout == "channels_first" else (N, *sizes, IC)
    dtype = rng.choice(["int8", "int32", "float32"])
    x = rng.integers(-5, 6, shape if N else shape[1:]).astype(dtype)
    weight, bias = rng.integers(-3, 4, (OC, IC // G, *kernel)).astype(dtype), rng.integers(-3, 4, OC).astype(dtype)
    pairs = tuple((int(a), int(b)) for a, b in rng.integers(-1, 8, (axes, 2)))
    keywords = {
        "stride": tuple(int(n) for n in rng.integers(1, 4, axes)),
        "padding": ("same", "full", int(rng.integers(4)), pairs)[int(rng.integers(4))],
        "dilation": tuple(int(n) for n in rng.integers(1, 3, axes)),
        "groups": G,
        "padding_mode": str(rng.choice(PADDING_MODES)),
        "layout": layout,
        "activation": (None, "relu")[int(rng.integers(2))],
    }
    return x, weight, bias, keywords


@ROUNDS
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_convolutions_are_those_of_the_definition(axes, rounds):
    rng = np.random.default_rng(axes + 3 * rounds)
    for _ in range(20 * rounds):
        x, weight, bias, keywords = drawn_conv(rng, axes)
        d = chunked(rng, x)
        function, text = getattr(ours, f"conv{axes}d"), f"{x.shape} {weight.shape} {keywords} {d.chunks}"
        try:
            expected = reference(x, weight, bias, **keywords)
        except fc.FastconvError as error:
            with pytest.raises(type(error), match=re.escape(str(error).removeprefix("reference"))):
                function(d, weight, bias, **keywords)
            continue
        same(function(d, weight, bias, **keywords), expected, text)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(sizes, sizes, st.data())
def test_any_chunks_give_the_same_convolution(rows, columns, data):
    x = np.random.default_rng(len(rows)).integers(-9, 9, (1, 2, sum(rows), sum(columns)))
    weight = np.random.default_rng(0).integers(-9, 9, (2, 2, 3, 2))
    keywords = {
        "padding": data.draw(st.tuples(st.integers(2, 9), st.integers(2, 9))),
        "stride": data.draw(st.integers(1, 3)),
        "padding_mode": data.draw(st.sampled_from(PADDING_MODES)),
    }
    d = da.from_array(x, chunks=((1,), (1, 1), tuple(rows), tuple(columns)))
    same(ours.conv2d(d, weight, **keywords), reference(x, weight, **keywords), str(keywords))


def test_convolution_of_floats_is_equal_to_rounding():
    rng = np.random.default_rng(5)
    x, weight = (rng.standard_normal(s).astype(np.float32) for s in ((2, 8, 70, 90), (16, 8, 3, 3)))
    result = ours.conv2d(da.from_array(x, chunks=(1, 4, 33, 40)), weight, padding=1)
    assert result.chunks == ((1, 1), (16,), (33, 33, 4), (40, 40, 10))
    assert_close(result.compute(), reference(x, weight, padding=1), terms=72, dtype=np.float32)


def test_forms_of_convolution():
    rng = np.random.default_rng(6)
    x = rng.integers(-4, 5, (2, 3, 9, 12))
    d, depthwise = da.from_array(x, chunks=(1, 2, 4, 5)), rng.integers(-3, 4, (6, 1, 3, 2))
    pointwise, bias, column, row = (rng.integers(-3, 4, shape) for shape in ((4, 6), 4, 3, (3, 5)))
    options = {"padding": "same", "padding_mode": "reflect", "stride": 2}
    first = reference(x, depthwise, groups=3, **options)
    same(ours.depthwise_conv2d(d, depthwise, **options), first, "depthwise")
    mixed = reference(first, pointwise[:, :, None, None], bias)
    same(ours.separable_conv2d(d, depthwise, pointwise, bias, **options), mixed, "separable")
    same(ours.pointwise_conv2d(d, pointwise[:, :3]), reference(x, pointwise[:, :3, None, None]), "pointwise")
    outer = np.einsum("i,cj->cij", column, row)[:, None]
    expected = reference(x, outer, groups=3, **options)
    same(ours.spatially_separable_conv2d(d, column, row, **options), expected, "spatially separable")


@ROUNDS
@pytest.mark.parametrize("kind", ["max", "avg"])
@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_pools_are_those_of_the_definition(kind, dtype, rounds):
    rng = np.random.default_rng(rounds)
    for _ in range(15 * rounds):
        a = pools.draw(rng, kind, dtype, N=int(rng.integers(0, 3)), C=2, indices=False)
        a.keywords.pop("return_indices", None)
        d = chunked(rng, a.x)
        same(getattr(ours, a.name)(d, **a.keywords), pools.expected(a), f"{a.name} {a.x.shape} {a.keywords} {d.chunks}")
        last = pools.to_last(a.x, a.x.ndim == pools.axes_of(a.name, a.x) + 2)
        result = getattr(ours, a.name)(chunked(rng, last), layout="channels_last", **a.keywords)
        expected = getattr(fc, a.name)(last, layout="channels_last", **a.keywords)
        same(result, expected, f"{a.name} {last.shape} {a.keywords}")


def test_chunks_are_those_of_the_input_divided_by_the_stride():
    x = da.zeros((1, 3, 100, 60), chunks=(1, 1, (40, 35, 25), 30))
    assert ours.conv2d(x, np.zeros((5, 3, 3, 3)), padding=1).chunks == ((1,), (5,), (40, 35, 25), (30, 30))
    assert ours.conv2d(x, np.zeros((5, 3, 3, 3)), padding=1, stride=2).chunks == ((1,), (5,), (20, 18, 12), (15, 15))
    assert ours.max_pool2d(x, 5).chunks == ((1,), (1, 1, 1), (8, 7, 5), (6, 6))
    assert ours.correlate2d(x[0, 0], np.zeros((5, 4))).chunks == ((42, 35, 27), (32, 31))
    assert ours.correlate2d(x[0, 0], np.zeros((5, 4)), "same").chunks == ((40, 35, 25), (30, 30))


class Counted:
    """An array that counts what is read of it."""

    def __init__(self, x):
        self.x, self.shape, self.dtype, self.ndim, self.read = x, x.shape, x.dtype, x.ndim, []

    def __getitem__(self, index):
        self.read.append(index)
        return self.x[index]


@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
def test_nothing_is_read_before_it_is_asked_for_and_each_chunk_once(scheduler):
    x = np.arange(64 * 64.0).reshape(64, 64)
    source = Counted(x)
    d = da.from_array(source, chunks=16, meta=np.zeros((0, 0)), asarray=True)
    y = ours.correlate2d(d, np.ones((5, 5)), "same", "symm")
    assert source.read == []
    expected = scipy.signal.correlate2d(x, np.ones((5, 5)), "same", "symm")
    np.testing.assert_allclose(y.compute(scheduler=scheduler), expected)
    assert len(source.read) == 16
    assert sum(x[index].size for index in source.read) == x.size


def test_one_block_reads_no_more_than_its_neighbours():
    source = Counted(np.ones((64, 64)))
    d = da.from_array(source, chunks=16, meta=np.zeros((0, 0)), asarray=True)
    ours.correlate(d, np.ones((3, 3))).blocks[0, 0].compute()
    assert len(source.read) == 4


def test_kernels_are_in_the_graph_once():
    kernel = np.random.default_rng(0).random((31, 31))
    x = da.zeros((500, 500), chunks=50)
    y = ours.correlate2d(x, kernel, "same")
    assert y.npartitions == 100
    assert pickle.dumps(dict(y.__dask_graph__())).count(kernel.tobytes()) == 1
    optimised = dask.optimize(y)[0]
    assert pickle.dumps(dict(optimised.__dask_graph__())).count(kernel.tobytes()) == 1
    assert len(y.__dask_graph__()) < 12 * y.npartitions


def test_kernels_may_be_dask_arrays():
    x, kernel = np.arange(90).reshape(9, 10), np.arange(12).reshape(3, 4)
    d, k = da.from_array(x, chunks=4), da.from_array(kernel, chunks=2)
    same(ours.correlate2d(d, k, "same"), scipy.signal.correlate2d(x, kernel, "same"), "correlate2d")
    same(ours.convolve(d, k, mode="wrap"), scipy.ndimage.convolve(x, kernel, mode="wrap"), "convolve")
    weight, bias = kernel[None, None], np.array([7])
    result = ours.conv2d(d[None, None], da.from_array(weight, chunks=2), da.from_array(bias), padding="same")
    same(result, reference(x[None, None], weight, bias, padding="same"), "conv2d")


def test_empty_arrays():
    empty = da.zeros((0, 5), chunks=3)
    assert ours.sobel(empty).compute().shape == (0, 5)
    assert ours.correlate2d(empty, np.ones((3, 3))).compute().tolist() == np.zeros((2, 7)).tolist()
    assert ours.conv2d(da.zeros((0, 2, 8, 8), chunks=3), np.ones((3, 2, 3, 3))).compute().shape == (0, 3, 6, 6)
    no_channels = ours.conv2d(da.zeros((1, 0, 8, 8), chunks=3), np.ones((3, 0, 3, 3)), np.arange(3.0))
    assert no_channels.compute()[0, :, 0, 0].tolist() == [0, 1, 2]
    assert ours.max_pool2d(da.zeros((0, 2, 8, 8), chunks=3), 2).compute().shape == (0, 2, 4, 4)
    assert ours.gaussian_filter(da.from_array(np.array(3.0)), 1).compute() == 3


def test_names_depend_on_the_arguments_alone():
    x = da.zeros((20, 20), chunks=6)
    names = [ours.gaussian_filter(x, sigma).name for sigma in (1, 1, 2)]
    assert names[0] == names[1] != names[2]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: ours.sobel(np.ones((3, 3))), "sobel: input is a ndarray, expected a dask array: "),
        (lambda x: ours.correlate2d(x[x[:, 0] > 0], np.ones((2, 2))), "in1 has chunks of unknown sizes along axis 0"),
        (lambda x: ours.conv2d(x[None], da.ones(9)[da.ones(9) > 0]), "weight has chunks of unknown sizes along axis 0"),
        (lambda x: ours.sobel(x, output=np.ones((9, 9))), "sobel: output = 'ndarray', expected a dtype or None"),
        (lambda x: ours.sobel(x, mode="edge"), "boundary mode not supported"),
        (lambda x: ours.maximum_filter(x), "no footprint provided"),
        (lambda x: ours.correlate(x, np.ones((3, 3)), origin=2), "Invalid origin; origin must satisfy"),
        (
            lambda x: ours.correlate2d(x, np.ones((3, 3)), "half"),
            "Acceptable mode flags are 'valid', 'same', or 'full'",
        ),
        (lambda x: ours.correlate2d(x, np.ones((11, 11)), "valid"), r"in2 has shape \(11, 11\), expected at most"),
        (lambda x: ours.conv2d(x[None, None], np.ones((1, 2, 3, 3))), r"conv2d: weight has IC/groups = 2, expected 1"),
        (lambda x: ours.conv2d(x[None, None], np.ones((1, 1, 3, 3)), activation="no"), "conv2d: activation = 'no'"),
        (lambda x: ours.max_pool2d(x[None, None], 3, padding=2), "max_pool2d: padding = "),
        (lambda x: ours.max_pool2d(x[None, None] * 1j, 3), "max_pool2d: input has dtype complex128"),
    ],
)
def test_errors_come_before_anything_is_computed(call, message):
    with pytest.raises(fc.FastconvError, match=message):
        call(da.ones((9, 9), chunks=4))


class OnDevice:
    """An array that NumPy may move around, but not convert into one of its own."""

    def __init__(self, x):
        self.x = x
        self.shape, self.dtype, self.ndim, self.size = x.shape, x.dtype, x.ndim, x.size

    def __array__(self, *args, **keywords):
        raise TypeError("an array of another library")

    def __array_function__(self, function, types, args, keywords):
        args = [a.x if isinstance(a, OnDevice) else a for a in args]
        return OnDevice(function(*args, **keywords))

    def __getitem__(self, index):
        return OnDevice(self.x[index])

    def __setitem__(self, index, value):
        self.x[index] = value.x if isinstance(value, OnDevice) else value

    def astype(self, dtype, **keywords):
        return OnDevice(self.x.astype(dtype, **keywords))

    def copy(self):
        return OnDevice(self.x.copy())


def test_chunks_of_other_libraries_stay_there():
    x = np.arange(99.0).reshape(9, 11)
    d = da.from_array(OnDevice(x), chunks=(4, 5), asarray=False, meta=OnDevice(np.zeros((0, 0))))
    types = []

    def filtered(block, in2, **keywords):
        types.append(type(block))
        return OnDevice(fc.signal.correlate2d(block.x, in2, **keywords))

    kernel = np.ones((3, 3))
    axes = [graph.Axis(n, n, 3, 1, 1, 1, "symmetric") for n in x.shape]
    keywords = {"mode": "valid"}
    operation = graph.Operation("f", filtered, axes, {}, keywords, {"in2": kernel}, x.dtype, lambda block: ({}, None))
    y = graph.apply(d, operation)
    assert isinstance(y._meta, OnDevice)
    blocks = dask.compute(*y.to_delayed().ravel())
    assert {*types, *map(type, blocks)} == {OnDevice}
    rows = [np.concatenate([block.x for block in blocks[i : i + 3]], 1) for i in (0, 3, 6)]
    np.testing.assert_array_equal(np.concatenate(rows), scipy.signal.correlate2d(x, kernel, "same", "symm"))


def test_the_page_of_the_documentation_is_right():
    page = Path(__file__).resolve().parents[2] / "docs" / "dask.md"
    assert any(blocks.blocks(page))
    blocks.run(page)
