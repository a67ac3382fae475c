"""fastconv.signal at its edges: errors, empty arrays, NaN, range, exactness, and what is left to SciPy."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import scipy.signal

import fastconv as fc
from fastconv.signal import arrays, images, others, sums, tiles

A, B = np.arange(12.0).reshape(3, 4), np.ones((2, 2))


def same_error(name, *args, **keywords):
    """Check that SciPy raises a ValueError, and this package one with its text that is a FastconvError."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ValueError) as expected:
            getattr(scipy.signal, name)(*args, **keywords)
    with pytest.raises(fc.FastconvError) as got:
        getattr(fc.signal, name)(*args, **keywords)
    assert isinstance(got.value, ValueError)
    assert str(got.value) == str(expected.value)


@pytest.mark.parametrize("name", ["correlate2d", "convolve2d"])
def test_errors_of_images(name):
    same_error(name, A, B, "wrong")
    same_error(name, A, B, "full", "wrong")
    same_error(name, A[0], B[0])
    same_error(name, A, B[0])
    same_error(name, A, np.ones((1, 5)), "valid")
    same_error(name, A.astype(bool), B.astype(bool))
    same_error(name, A.astype(np.float16), B.astype(np.float16))
    for fill in (1j, [1, 2], [], np.array([1.0, 2.0])):
        same_error(name, A, B, "full", "fill", fill)
    for fill in (300, -1, -1.5, np.nan, np.array([1])):
        same_error(name, A.astype(np.uint8), B.astype(np.uint8), "full", "fill", fill)


@pytest.mark.parametrize("name", ["correlate", "convolve"])
def test_errors_of_arrays(name):
    same_error(name, A, B, "wrong")
    same_error(name, A, B, "full", "wrong")
    same_error(name, A, B[0])
    same_error(name, A, np.ones((1, 5)), "valid")
    same_error(name, A.astype(bool), B.astype(bool))
    same_error(name, A.astype(np.float16), B.astype(np.float16))
    same_error(name, [], [1.0])
    same_error(name, [1.0], [])


@pytest.mark.parametrize("name", ["fftconvolve", "oaconvolve"])
def test_errors_of_spectral(name):
    same_error(name, A, B, "wrong")
    same_error(name, A, B[0])
    same_error(name, A, np.ones((2, 5)), "valid")
    same_error(name, A, B, "full", [])
    same_error(name, A, B, "full", [0, 0])
    same_error(name, A, B, "full", 2)
    same_error(name, A, B, "full", 1)


def test_errors_of_sepfir2d():
    same_error("sepfir2d", A, [1.0, 2.0], [1.0])
    same_error("sepfir2d", A[0], [1.0], [1.0])
    with pytest.raises(fc.ShapeError, match="object too deep"):
        fc.signal.sepfir2d(A[None], [1.0], [1.0])
    with pytest.raises(fc.ShapeError, match="object too deep"):
        fc.signal.sepfir2d(A, [[1.0]], [1.0])
    with pytest.raises(fc.DtypeError, match="according to the rule 'safe'"):
        fc.signal.sepfir2d(A.astype("f4"), np.ones(3), [1.0])


@pytest.mark.parametrize(
    "fill", [True, 2, -1, 2.5, np.float32(1.5), np.int64(3), np.array([[2.0]]), [3], None, np.nan, np.inf]
)
@pytest.mark.parametrize("dtype", ["float32", "int16"])
def test_fill_values(fill, dtype):
    a, b = A.astype(dtype), B.astype(dtype)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = scipy.signal.convolve2d(a, b, fillvalue=fill)
    except ValueError:
        same_error("convolve2d", a, b, fillvalue=fill)
    else:
        np.testing.assert_array_equal(fc.signal.convolve2d(a, b, fillvalue=fill), expected)


def test_scalars_and_empty_arrays():
    for name in ("correlate", "convolve", "fftconvolve", "oaconvolve"):
        assert getattr(fc.signal, name)(2, 3.5) == 7
    assert fc.signal.correlate(2, 1j) == -2j
    for shape, other, mode in (((0, 3), (2, 2), "same"), ((3, 3), (0, 2), "full"), ((3, 3), (3, 0), "valid")):
        a, b = np.ones(shape, "f4"), np.ones(other, "f4")
        np.testing.assert_array_equal(fc.signal.convolve2d(a, b, mode), scipy.signal.convolve2d(a, b, mode))
    # SciPy ends the process with a floating point exception here.
    with pytest.raises(fc.ShapeError, match="an empty image"):
        fc.signal.convolve2d(np.ones((0, 3)), B, "full", "wrap")


def test_nan_stays_where_sums_have_it():
    rng = np.random.default_rng(0)
    x, w = rng.random((300, 300)).astype("f4"), rng.random((141, 141)).astype("f4")
    x[150, 150], x[20, 290] = np.nan, np.inf
    assert fc.signal.choose_conv_method(x, w) == "fft"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = fc.signal.convolve(x, w, "same")
    direct = fc.signal.convolve(x, w, "same", "direct")
    np.testing.assert_array_equal(np.isnan(got), np.isnan(direct))
    np.testing.assert_array_equal(np.isinf(got), np.isinf(direct))
    finite = np.isfinite(direct)
    np.testing.assert_allclose(got[finite], direct[finite], rtol=1e-5)
    with pytest.warns(RuntimeWarning, match="Use of fft convolution on input with NAN or inf"):
        assert np.isnan(fc.signal.convolve(x, w, "same", "fft")).all()


def test_small_numbers_beside_large_ones_keep_their_digits():
    rng = np.random.default_rng(0)
    for dtype, large in (("f4", 1e12), ("f8", 1e12)):
        x, w = rng.random((260, 260)).astype(dtype), rng.random((71, 71)).astype(dtype)
        x[:, :20] *= large
        got = fc.signal.convolve(x, w, "valid")
        direct = fc.signal.convolve(x.astype("f8"), w.astype("f8"), "valid", "direct")
        np.testing.assert_allclose(got, direct, rtol=200 * np.finfo(dtype).eps)


@pytest.mark.parametrize("mode", ["full", "same", "valid"])
@pytest.mark.parametrize("dtype", ["uint8", "int8", "float32", "complex64"])
def test_fft_of_blocks_is_taken_and_right(dtype, mode, monkeypatch):
    rng = np.random.default_rng(0)
    x = (rng.random((210, 190)) * 200 - 100 * (dtype != "uint8")).astype(dtype)
    w = (rng.random((45, 51)) * 99).astype(dtype)
    used = []
    monkeypatch.setattr(tiles, "_plan", lambda padded, taps: ((96, 100), 0.0))
    original = tiles.correlate
    monkeypatch.setattr(tiles, "correlate", lambda *args: used.append(1) or original(*args))
    for boundary in ("fill", "wrap", "symm"):
        got = fc.signal.correlate2d(x, w, mode, boundary, 3 if boundary == "fill" else 0)
        expected = scipy.signal.correlate2d(x, w, mode, boundary, 3 if boundary == "fill" else 0)
        if np.dtype(dtype).kind in "iu":
            np.testing.assert_array_equal(got, expected)
        else:
            np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    assert len(used) == 3


def test_integers_beyond_the_digits_of_double_are_summed():
    x = np.full((300, 300), 2**40, np.int64)
    w = np.full((80, 80), 2**20 + 1, np.int64)
    assert not tiles.exact(x, w)
    expected = (2**40 * (2**20 + 1) * 6400 + 2**63) % 2**64 - 2**63
    assert (fc.signal.convolve(x, w, "valid") == expected).all()


def test_outer_products_run_as_their_factors(monkeypatch):
    rng = np.random.default_rng(0)
    x, column, row = rng.random((60, 70)), rng.random(9), rng.random(7)
    seen = []
    original = sums._directly
    monkeypatch.setattr(sums, "_directly", lambda *args: seen.append(args[6:]) or original(*args))
    got = fc.signal.correlate2d(x, np.outer(column, row), "same", "symm")
    assert seen[0][0] is not None
    np.testing.assert_allclose(got, scipy.signal.correlate2d(x, np.outer(column, row), "same", "symm"), rtol=1e-13)
    fc.signal.correlate2d(x, np.outer(column, row) + 1e-9 * rng.random((9, 7)), "same")
    assert seen[1] == ()


def test_only_what_numba_cannot_load_is_left_to_scipy(monkeypatch):
    handed = []

    def ask(name, *args, **keywords):
        handed.append(name)
        return others.ask_scipy(name, *args, **keywords)

    monkeypatch.setattr(images, "ask_scipy", ask)
    monkeypatch.setattr(arrays, "ask_scipy", ask)
    for dtype in ("bool", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8", "c8", "c16", ">i4"):
        a, b = A.astype(dtype), B.astype(dtype)
        fc.signal.correlate(a[0], b[0])
        fc.signal.convolve(a[0], b[0], method="direct")
        fc.signal.sepfir2d(a, [1.0], [1.0])
        if dtype not in ("bool", "f2"):
            for name in ("correlate2d", "convolve2d", "correlate", "convolve"):
                getattr(fc.signal, name)(a, b)
    assert handed == []
    long = A.astype(np.longdouble)
    for name in ("correlate2d", "convolve2d", "correlate", "convolve"):
        assert getattr(fc.signal, name)(long, B).dtype == np.longdouble
    assert fc.signal.convolve(np.array([1, 2], object), np.array([3], object)).tolist() == [3, 6]
    assert fc.signal.choose_conv_method(long, B) == "direct"
    assert handed == ["correlate2d", "convolve2d", "correlate", "convolve", "convolve", "choose_conv_method"]


def test_choose_conv_method_measures():
    method, times = fc.signal.choose_conv_method(np.ones(300), np.ones(20), measure=True)
    assert method == min(times, key=times.get)
    assert set(times) == {"fft", "direct"}
    assert fc.signal.choose_conv_method(np.full(9, 2**50), np.full(9, 2**50)) == "direct"


@pytest.mark.parametrize("method", ["auto", "direct", "fft", "slow"])
@pytest.mark.parametrize("mode", ["valed", None, 3])
@pytest.mark.parametrize("name", ["convolve", "correlate"])
def test_modes_that_are_none_are_refused_in_the_words_of_scipy(name, mode, method):
    texts = []
    for module in (fc.signal, scipy.signal):
        with pytest.raises(ValueError) as caught:
            getattr(module, name)(np.ones((3, 3)), np.ones((2, 2)), mode, method)
        texts.append(str(caught.value))
    assert texts[0] == texts[1]
