"""Every function of fastconv.ndimage against SciPy's, over drawn problems."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage

import fastconv as fc
from fastconv.ndimage import sums
from tests.ndimage.drawn import COMPLEX, DTYPES, NAMES, Call
from tests.properties.strategies import one_tile

# Rounding errors of sums in the type of the array, in its eps times the largest element and the sum of the weights.
ERROR = 16.0


@pytest.mark.parametrize("name", NAMES)
def test_small_arrays_have_the_bits_of_scipy(name):
    rng = np.random.default_rng(1)
    for _ in range(150):
        Call(rng, name, DTYPES + COMPLEX).compare()


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_many_small_arrays_have_the_bits_of_scipy(name):
    rng = np.random.default_rng(2)
    for _ in range(2500):
        Call(rng, name, DTYPES + COMPLEX).compare()


@pytest.mark.targets
@pytest.mark.parametrize("name", ["correlate", "gaussian_filter", "uniform_filter", "maximum_filter"])
def test_integers_are_equal_on_every_target(name):
    rng = np.random.default_rng(3)
    for _ in range(10):
        Call(rng, name, ("uint8", "int64", "bool"), axes=2).compare()


@pytest.fixture
def by_convolution(monkeypatch):
    """Let arrays of every size run on the kernels of the convolutions."""
    monkeypatch.setattr(sums, "LEAST_ELEMENTS", 0)
    with one_tile():
        yield


@pytest.mark.parametrize("name", NAMES)
def test_kernels_of_convolutions_agree_with_scipy(name, by_convolution):
    rng = np.random.default_rng(4)
    for _ in range(40):
        Call(rng, name, ("float32",)).compare(ERROR)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_kernels_of_convolutions_agree_with_scipy_on_many(name, monkeypatch):
    monkeypatch.setattr(sums, "LEAST_ELEMENTS", 0)
    rng = np.random.default_rng(5)
    for _ in range(250):
        Call(rng, name, ("float32", "float64", "complex64", "complex128")).compare(ERROR)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float64"])
def test_large_images(dtype):
    rng = np.random.default_rng(6)
    x = (rng.random((700, 900)) * 250).astype(dtype)
    kernel = rng.standard_normal((9, 7))
    for name, *args in (
        ("correlate", kernel),
        ("convolve", rng.standard_normal((31, 31))),
        ("gaussian_filter", 2.0),
        ("uniform_filter", 5),
        ("uniform_filter", 101),
        ("sobel",),
        ("laplace",),
        ("maximum_filter", 9),
        ("minimum_filter", (2, 31)),
    ):
        got, expected = (getattr(module, name)(x, *args) for module in (fc.ndimage, scipy.ndimage))
        if np.dtype(dtype).kind == "u":
            np.testing.assert_array_equal(got, expected)
        else:
            np.testing.assert_allclose(got, expected, rtol=0, atol=3000 * np.finfo(dtype).eps * 250)


def test_the_number_of_threads_changes_no_bit(by_convolution):
    rng = np.random.default_rng(7)
    x = 99 * rng.random((300, 400))
    for array, name, argument in (
        (x.astype("u1"), "correlate", rng.standard_normal((5, 5))),
        (x.astype("u1"), "uniform_filter", 25),
        (x.astype("f4"), "gaussian_filter", 3.0),
        (x.astype("f4"), "maximum_filter", 7),
    ):
        with fc.threads(1):
            expected = getattr(fc.ndimage, name)(array, argument)
        for threads in (2, 3, 8):
            with fc.threads(threads):
                np.testing.assert_array_equal(getattr(fc.ndimage, name)(array, argument), expected)
