"""fastconv.ndimage at its edges: errors, outputs, special values, and what is left to SciPy."""

from __future__ import annotations

import inspect
import warnings

import numpy as np
import pytest
import scipy.ndimage

import fastconv as fc
from fastconv.ndimage import others, sums
from tests.ndimage.drawn import NAMES
from tests.properties.strategies import one_tile

X = np.arange(12.0).reshape(3, 4)
ARGUMENTS = {
    "correlate": (np.ones((3, 2)),),
    "convolve": (np.ones((3, 2)),),
    "correlate1d": ([1.0, 2.0, 4.0],),
    "convolve1d": ([1.0, 2.0, 4.0],),
    "gaussian_filter": (1.0,),
    "gaussian_filter1d": (1.0,),
    "sobel": (),
    "prewitt": (),
    "laplace": (),
}
ARGUMENTS = {name: ARGUMENTS.get(name, (3,)) for name in NAMES}


def both(name, *args, **keywords):
    """Return what the two functions return or raise."""
    results = []
    for module in (fc.ndimage, scipy.ndimage):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore" if module is scipy.ndimage else "error")
            try:
                results.append(getattr(module, name)(*args, **keywords))
            except Exception as error:
                results.append(error)
    return results


def same(name, *args, **keywords):
    """Check that SciPy's result, or its error with its text, is ours."""
    got, expected = both(name, *args, **keywords)
    text = f"{name} {args[1:]} {keywords}: {got!r}, {expected!r}"
    if isinstance(expected, Exception):
        assert type(expected) in type(got).__mro__, text
        assert str(got) == str(expected), text
        return got
    assert not isinstance(got, Exception), text
    assert (got.dtype, got.shape) == (expected.dtype, expected.shape), text
    np.testing.assert_array_equal(got, expected, err_msg=text)
    return got


def test_signatures_are_scipys():
    for name in NAMES:
        ours, theirs = (inspect.signature(getattr(module, name)).parameters for module in (fc.ndimage, scipy.ndimage))
        assert [(p.name, p.kind, p.default) for p in ours.values()] == [
            (p.name, p.kind, p.default) for p in theirs.values()
        ], name


@pytest.mark.parametrize("name", NAMES)
def test_errors_of_the_common_arguments(name):
    args = ARGUMENTS[name]
    for mode in ("x", None, 3, b"reflect"):
        assert isinstance(same(name, X, *args, mode=mode), fc.FastconvError)
    for cval in ("a", None, 1j, [1.0]):
        assert isinstance(same(name, X, *args, cval=cval), fc.FastconvError)
    for output in ("bool", "U3", "complex64", np.zeros((4, 3)), [1, 2], 3, np.float16, np.longdouble, object, "no"):
        assert isinstance(same(name, X, *args, output=output), Exception)
    assert isinstance(same(name, X + 1j, *args, output=np.zeros((3, 4))), fc.FastconvError)
    locked = np.zeros((3, 4))
    locked.flags.writeable = False
    assert isinstance(same(name, X, *args, output=locked), fc.OptionError)
    parameters = inspect.signature(getattr(fc.ndimage, name)).parameters
    if "origin" in parameters:
        for origin in (3, -3, 2**70, 0.5, "a"):
            assert isinstance(both(name, X, *args, origin=origin)[0], fc.FastconvError)
        for origin in (3, -3, 2**70):
            same(name, X, *args, origin=origin)
    if "axis" in parameters:
        for axis in (2, -3, 2**70):
            assert isinstance(same(name, X, *args, axis=axis), fc.OptionError)
        assert isinstance(same(name, np.array(5.0), *args), fc.OptionError)
    if "axes" in parameters:
        for axes in ((0, 2), (0, 0), (-3,), 1.5, (0, 1.5), "a"):
            assert isinstance(same(name, X, *args, axes=axes), Exception)
        assert isinstance(both(name, X, *args, axes=2)[0], IndexError)


def test_errors_of_single_functions():
    for name in ("correlate", "convolve"):
        for w in (np.ones(3), np.ones((0, 3)), 2.0, np.ones((1, 2, 3))):
            assert isinstance(same(name, X, w), fc.ShapeError)
        assert isinstance(same(name, X, np.ones((3, 3)), axes=(0,)), fc.ShapeError)
        assert isinstance(same(name, X, np.ones((3, 3)), mode=["reflect", "wrap"]), fc.OptionError)
        assert isinstance(same(name, X, np.ones((3, 3)) * 1j, cval=1j), fc.OptionError)
        assert isinstance(same(name, X, [["a"]]), ValueError)
    for w in ([], np.ones((2, 2)), 3.0):
        assert isinstance(same("correlate1d", X, w), fc.OptionError)
    for name in ("gaussian_filter", "gaussian_filter1d"):
        for keywords in ({"radius": -1}, {"radius": 1.5}, {"order": -1}, {"truncate": -5.0}):
            assert isinstance(same(name, X, 1.0, **keywords), fc.OptionError)
    for name in ("uniform_filter", "gaussian_filter", "maximum_filter"):
        assert isinstance(same(name, X, (1, 2, 3)), fc.OptionError)
        assert isinstance(same(name, X, 3, mode=["reflect"]), fc.OptionError)
    for name in ("uniform_filter1d", "maximum_filter1d", "minimum_filter1d"):
        assert isinstance(same(name, X, 0), fc.OptionError)
    for name in ("maximum_filter", "minimum_filter"):
        assert isinstance(same(name, X), fc.OptionError)
        assert isinstance(same(name, X, footprint=np.zeros((3, 3))), fc.OptionError)
        assert isinstance(same(name, X, footprint=[1, 0, 1]), fc.ShapeError)
        same(name, X, footprint=[[1, 0, 1]], mode=["reflect", "wrap"])
        assert isinstance(same(name, X * 1j, 3), fc.DtypeError)
        with pytest.warns(UserWarning, match="ignoring size because footprint is set") as caught:
            getattr(fc.ndimage, name)(X, 3, [[1, 0, 1]])
        assert caught[0].filename == __file__


def test_a_real_output_of_complex_numbers_becomes_complex():
    with pytest.warns(UserWarning, match="promoting specified output dtype to complex") as caught:
        got = fc.ndimage.correlate1d(X * 1j, [1.0], output=np.float32)
    assert got.dtype == np.complex64
    assert caught[0].filename == __file__


@pytest.mark.parametrize("name", NAMES)
def test_inputs_of_any_kind(name):
    args = ARGUMENTS[name]
    expected = getattr(fc.ndimage, name)(X, *args)
    locked = X.copy()
    locked.flags.writeable = False
    unaligned = np.frombuffer(b"x" + X.tobytes(), np.uint8)[1:].view(np.float64).reshape(X.shape)
    wide = np.zeros((6, 12))
    wide[::2, ::3] = X
    for x in (X.tolist(), locked, np.asfortranarray(X), X[::-1][::-1], X.astype(">f8"), unaligned, wide[::2, ::3]):
        got = getattr(fc.ndimage, name)(x, *args)
        assert got.dtype == np.float64
        np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(getattr(fc.ndimage, name)(np.ma.masked_array(X), *args), expected)
    # SciPy filters what is below the mask.
    with pytest.raises(fc.DtypeError, match=f"^{name}: input has masked elements"):
        getattr(fc.ndimage, name)(np.ma.masked_array(X, X > 3), *args)


@pytest.mark.parametrize("name", NAMES)
def test_outputs_of_any_kind(name):
    args = ARGUMENTS[name]
    expected = getattr(fc.ndimage, name)(X, *args)
    wide = np.full((6, 12), np.nan)
    for out in (np.empty((3, 4)), np.asfortranarray(X), wide[::2, ::3], np.empty((3, 4), ">f8")):
        assert getattr(fc.ndimage, name)(X, *args, output=out) is out
        np.testing.assert_array_equal(out, expected)
    assert np.isnan(wide).sum() == 72 - 12
    x = X.copy()
    assert getattr(fc.ndimage, name)(x, *args, output=x) is x
    np.testing.assert_array_equal(x, expected)
    memory = np.concatenate((X.ravel(), [0.0] * 4))
    x = memory[:12].reshape(3, 4)
    getattr(fc.ndimage, name)(x, *args, output=memory[4:].reshape(3, 4))
    np.testing.assert_array_equal(memory[4:].reshape(3, 4), expected)


def test_nothing_to_do_is_a_copy():
    for name, args in (("gaussian_filter", (0,)), ("uniform_filter", (1,)), ("maximum_filter", (1,)), ("laplace", ())):
        keywords = {"axes": ()} if name == "laplace" else {}
        got = same(name, X, *args, **keywords)
        assert not np.shares_memory(got, X)
        same(name, X, *args, output=np.uint8, **keywords)
        same(name, np.array(5.0), *args, **keywords)


def test_numbers_that_are_not_finite_stand_where_scipy_has_them(monkeypatch):
    monkeypatch.setattr(sums, "LEAST_ELEMENTS", 0)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((20, 30)).astype(np.float32)
    x[4, 5], x[12, 20], x[13, 22], x[17, 3] = np.nan, np.inf, -np.inf, 3e38
    plus = [[0, 1.0, 0], [1, 1, 1], [0, 1, 0]]
    huge = np.full((20, 30), np.finfo(np.float32).max)
    with one_tile():
        for name, *args in (
            ("correlate", plus),
            ("correlate", [[1.0, np.nan, 1e-20], [2, np.inf, 1]]),
            ("correlate", [[1e30, 1.0], [1.0, 1e-30]]),
            ("convolve1d", [0.0, 1.0, 1.0]),
            ("gaussian_filter", 1.0),
            ("uniform_filter", 3),
            ("sobel",),
            ("laplace",),
        ):
            same(name, x, *args)
            same(name, x, *args, mode="constant", cval=np.nan)
            same(name, x, *args, mode="constant", cval=1e300)
            same(name, huge, *args)


def test_nan_is_the_extreme_of_every_window_that_has_it():
    x = np.arange(20.0)
    x[7] = np.nan
    for name in ("maximum_filter", "minimum_filter"):
        for dtype in ("f4", "f8"):
            array = x.astype(dtype)
            got = getattr(fc.ndimage, name)(array, 3)
            assert np.flatnonzero(np.isnan(got)).tolist() == [6, 7, 8]
            got = getattr(fc.ndimage, name)(array, footprint=[1, 0, 1])
            assert np.flatnonzero(np.isnan(got)).tolist() == [6, 8]


def test_integers_that_doubles_do_not_hold_are_rounded_as_in_scipy():
    x = np.array([2**63 - 1, 2**53 + 1, -(2**63), 0, 2**62 + 1])
    for dtype in (np.int64, np.uint64):
        array = x.astype(dtype)
        for name in ("maximum_filter", "minimum_filter", "uniform_filter"):
            same(name, array, 2)
        same("maximum_filter", array, footprint=[1, 0, 1])
        same("correlate", array, [1.0, -3.0])
        same("correlate1d", array, [1.0, -3.0])


def test_fill_values_out_of_range_wrap_as_in_scipy():
    x = np.arange(12).reshape(3, 4)
    for dtype in ("uint8", "int8", "uint16", "bool", "int64", "uint64"):
        for cval in (300, -3.7, 1e300, np.inf, -np.inf, np.nan):
            for name, argument in (("correlate", np.ones((2, 2))), ("uniform_filter", 3)):
                same(name, x.astype(dtype), argument, mode="constant", cval=cval)
            same("maximum_filter", x.astype(dtype), footprint=[[1, 0, 1]], mode="constant", cval=cval)
            if not np.isnan(cval):
                same("maximum_filter", x.astype(dtype), 3, mode="constant", cval=cval)


@pytest.mark.parametrize("name", NAMES)
def test_only_what_no_kernel_takes_is_left_to_scipy(name, monkeypatch):
    handed, original = [], others.ask_scipy

    def ask(*args, **keywords):
        handed.append(args[0])
        return original(*args, **keywords)

    monkeypatch.setattr(others, "ask_scipy", ask)
    args = ARGUMENTS[name]
    dtypes = ["?", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"]
    for dtype in dtypes + ([] if "imum" in name else ["c8", "c16"]):
        getattr(fc.ndimage, name)(X.astype(dtype), *args)
        getattr(fc.ndimage, name)(X, *args, output=np.dtype(dtype) if dtype[0] != "c" else None)
    assert handed == []
    for dtype in ("f2", "g", "O", "M8[s]", "U3"):
        assert isinstance(same(name, X.astype(int).astype(dtype), *args), Exception)
    assert len(handed) == 5


def test_empty_arrays():
    for shape in ((0,), (0, 3), (3, 0), (2, 0, 3)):
        for dtype in ("f4", "u1"):
            x = np.zeros(shape, dtype)
            for mode in ("reflect", "mirror", "nearest", "wrap", "constant"):
                same("correlate", x, np.ones((3,) * x.ndim), mode=mode)
                same("maximum_filter", x, footprint=np.eye(3).reshape((3,) * 2 + (1,) * (x.ndim - 2)), mode=mode)
                for name in NAMES:
                    if "corr" not in name and "conv" not in name:
                        same(name, x, *ARGUMENTS[name], mode=mode)


@pytest.mark.targets
def test_windows_larger_than_the_array():
    x = np.array([[3, 1, 4], [1, 5, 9]], np.uint8)
    for mode in ("reflect", "mirror", "nearest", "wrap", "constant"):
        for array in (x, x.astype("f4"), x[:1, :1]):
            same("uniform_filter", array, 11, mode=mode)
            same("maximum_filter", array, (9, 1), mode=mode, origin=(3, 0))
            same("correlate", array, np.arange(63.0).reshape(9, 7), mode=mode)
            same("correlate1d", array, np.arange(13.0) ** 2, 0, mode=mode)
