"""Every function of fastconv.signal against SciPy's, over drawn problems."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import scipy.signal

import fastconv as fc

# By the kernels that they run on: float32, float64, int16, int64.
DTYPES = ("float32", "float64", "complex64", "complex128", "uint8", "int8", "int16", "uint16", "int64", "uint64", ">f4")
SIZES = {1: 70, 2: 22, 3: 7, 4: 4}
MODES = ("full", "same", "valid")
BOUNDARIES = ("fill", "wrap", "symm", "pad", "circular", "symmetric")


def draw(rng, shape, dtype):
    """Return an array; some integers cover the whole range, some arrays are not C-contiguous."""
    kind = np.dtype(dtype).kind
    if kind in "iu" and rng.random() < 0.3:
        limits = np.iinfo(dtype)
        array = rng.integers(limits.min, limits.max, shape, np.dtype(dtype), endpoint=True)
    elif kind in "iu":
        array = rng.integers(0 if kind == "u" else -9, 10, shape).astype(dtype)
    else:
        array = rng.standard_normal(shape) + (1j * rng.standard_normal(shape) if kind == "c" else 0)
        array = array.astype(dtype)
    return array[::-1] if rng.random() < 0.2 else np.asfortranarray(array) if rng.random() < 0.2 else array


def pair(rng, axes):
    """Return two arrays of small drawn shapes; the first is mostly the larger."""
    most = SIZES[axes]
    shapes = [tuple(rng.integers(1, top, axes).tolist()) for top in (most, 3 + most // 3)]
    if rng.random() < 0.2:
        shapes.reverse()
    one = str(rng.choice(DTYPES))
    other = one if rng.random() < 0.7 else str(rng.choice(DTYPES))
    return draw(rng, shapes[0], one), draw(rng, shapes[1], other)


def result(function, *args):
    """Return the result, or the error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return function(*args)
        except ValueError as error:
            return error


def compare(name, a, b, *args):
    """Compare a call with SciPy's: the result, or that both raise."""
    before = a.copy(), b.copy()
    got, expected = (result(getattr(module, name), a, b, *args) for module in (fc.signal, scipy.signal))
    text = f"{name} {a.dtype}{a.shape} {b.dtype}{b.shape} {args}"
    assert isinstance(got, ValueError) == isinstance(expected, ValueError), f"{text}: {got!r}, {expected!r}"
    if isinstance(expected, ValueError):
        assert str(got) == str(expected), text
        return
    assert got.dtype == expected.dtype, text
    assert got.shape == expected.shape, text
    if got.dtype.kind in "iu":
        np.testing.assert_array_equal(got, expected, err_msg=text)
    elif got.size:
        # SciPy transforms float32 in single precision even where the result is double.
        single = any(array.dtype.itemsize // (1 + (array.dtype.kind == "c")) == 4 for array in (a, b))
        transforms = not name.endswith("2d") and "direct" not in args
        eps = np.finfo(np.float32 if single and transforms else got.dtype).eps
        scale = np.abs(a).max().astype(float) * np.abs(b).max().astype(float) * min(a.size, b.size)
        np.testing.assert_allclose(got, expected, rtol=0, atol=float(8 * eps * scale), err_msg=text)
    assert all(np.array_equal(x, y) for x, y in zip((a, b), before, strict=True))
    assert not np.shares_memory(got, a)
    assert not np.shares_memory(got, b)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("name", ["correlate2d", "convolve2d"])
def test_images(name, seed):
    rng = np.random.default_rng(seed)
    for _ in range(40):
        a, b = pair(rng, 2)
        fill = [0, 0, 1, np.float64(2.5)][rng.integers(4)]
        compare(name, a, b, str(rng.choice(MODES)), str(rng.choice(BOUNDARIES)), fill)


@pytest.mark.parametrize("axes", [1, 2, 3, 4])
@pytest.mark.parametrize("name", ["correlate", "convolve"])
def test_direct_in_any_dimension(name, axes):
    rng = np.random.default_rng(axes)
    for _ in range(40 if axes < 4 else 8):
        compare(name, *pair(rng, axes), str(rng.choice(MODES)), "direct")


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("name", ["correlate", "convolve"])
def test_auto_and_fft_of_floats(name, axes):
    rng = np.random.default_rng(axes)
    for _ in range(40):
        a, b = pair(rng, axes)
        if np.result_type(a, b).kind in "fc":
            compare(name, a, b, str(rng.choice(MODES)), "auto")
            compare(name, a, b, str(rng.choice(MODES)), "fft")


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("name", ["fftconvolve", "oaconvolve"])
def test_spectral(name, axes):
    rng = np.random.default_rng(axes)
    for _ in range(30):
        compare(name, *pair(rng, axes), str(rng.choice(MODES)))


@pytest.mark.parametrize("name", ["fftconvolve", "oaconvolve"])
def test_spectral_along_some_axes(name):
    rng = np.random.default_rng(0)
    for shape, other in (((3, 20, 5), (3, 4, 5)), ((3, 20, 5), (1, 4, 1)), ((1, 4000), (6, 17)), ((4, 9), (4, 9))):
        a, b = rng.standard_normal(shape), rng.standard_normal(other)
        for mode in MODES:
            compare(name, a, b, mode, 1)
            compare(name, a, b, mode, [-1] if len(shape) == 2 else [1])
    compare(name, a, b, "full", [])
    compare(name, a, b, "full", [0, 0])
    compare(name, a, b, "full", 5)
    compare(name, a, np.ones((3, 9)), "full", [1])


@pytest.mark.parametrize(
    "dtype", ["uint8", "int16", "int32", "int64", "float16", "float32", "float64", "c8", "c16", "?"]
)
def test_sepfir2d(dtype):
    rng = np.random.default_rng(0)
    image = (9 * rng.random((14, 17))).astype(dtype)
    for sizes in ((3, 5), (1, 7), (5, 1), (9, 11)):
        row, column = (rng.standard_normal(n).tolist() for n in sizes)
        got, expected = fc.signal.sepfir2d(image, row, column), scipy.signal.sepfir2d(image, row, column)
        assert got.dtype == expected.dtype
        eps = np.finfo(got.dtype).eps
        np.testing.assert_allclose(got, expected, rtol=0, atol=1000 * eps)
