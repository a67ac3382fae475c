"""The row functions of activations against their definition in double, over the whole range of numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fastconv._jit import njit
from fastconv.epilogue import ACTIVATIONS
from fastconv.kernels.cpu.activations import NAMES, row_function
from fastconv.kernels.cpu.row_ops import call_row

BOUNDS = {"float32": 4e-7, "float64": 1e-15}


@njit()
def call(function, row, n):
    """Call one row function."""
    call_row(function, row, n)


def activated(name, values):
    """Return the row function's result, made in place between two elements that must stay."""
    padded = np.concatenate([[77], values, [77]]).astype(values.dtype)
    call(row_function(8 * values.itemsize, name), padded[1:].ctypes.data, len(values))
    assert padded[0] == padded[-1] == 77
    return padded[1:-1]


def exact(name, values):
    """Return the definition's result computed with more bits: a denormal sigmoid in float64 has lost some."""
    wide = "f8" if values.dtype == np.float32 or name == "gelu" else np.longdouble
    with np.errstate(all="ignore"):
        return ACTIVATIONS[name](values.astype(wide)).astype("f8")


def bound(name, x):
    """Return the error allowed for each x, relative to the result."""
    wide = x.astype("f8")
    with np.errstate(over="ignore"):
        exponent = 2 * math.sqrt(2 / math.pi) * np.abs(wide + 0.044715 * wide**3)
    # The exponent of gelu_tanh is rounded too, which its result feels the more the larger it is.
    return BOUNDS[x.dtype.name] * (np.maximum(exponent, 1) if name == "gelu_tanh" else 1)


def numbers(dtype):
    """Return numbers near the bends, over all magnitudes, and in the tails where exp under- and overflows."""
    rng, info = np.random.default_rng(0), np.finfo(dtype)
    limit = math.log(float(info.max))
    with np.errstate(all="ignore"):
        parts = [
            rng.uniform(-8, 8, 4001),
            np.linspace(-1.3 * limit, 1.3 * limit, 4001),
            np.geomspace(float(info.tiny), 1e4, 501),
            -np.geomspace(float(info.tiny), 1e4, 501),
            [0.0, 1.0, -1.0, 3.0, -3.0, 6.0, 20.0, -20.0, 88.0, -87.0, 709.0, -708.0],
        ]
        return np.concatenate(parts).astype(dtype)


@pytest.mark.parametrize("dtype", BOUNDS)
@pytest.mark.parametrize("name", NAMES)
def test_row_function_is_within_its_bound(name, dtype):
    x = numbers(dtype)
    got, expected, tiny = activated(name, x).astype("f8"), exact(name, x), float(np.finfo(dtype).tiny)
    normal = np.abs(expected) >= tiny
    error = np.abs(got - expected) / np.maximum(np.abs(expected), tiny)
    error = np.where(normal, error / bound(name, x), 0)
    worst = int(np.argmax(error))
    assert error[worst] <= 1, f"x = {x[worst]!r}: {got[worst]!r}, expected {expected[worst]!r}"
    # Below the smallest normal number a result may be flushed to zero.
    assert (np.abs(got[~normal]) <= 2 * tiny).all()


@pytest.mark.targets
@pytest.mark.parametrize("dtype", BOUNDS)
@pytest.mark.parametrize("name", NAMES)
def test_row_function_at_every_length(name, dtype):
    values = np.linspace(-5, 5, 37).astype(dtype)
    for n in (0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 37):
        got, expected = activated(name, values[:n]).astype("f8"), exact(name, values[:n])
        assert (np.abs(got - expected) <= bound(name, values[:n]) * np.abs(expected)).all()


@pytest.mark.parametrize("dtype", BOUNDS)
@pytest.mark.parametrize("name", NAMES)
def test_row_function_at_special_values(name, dtype):
    x = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0] * 5, dtype)
    got, expected = activated(name, x), exact(name, x)
    np.testing.assert_array_equal(got, expected)
    largest = np.array([np.finfo(dtype).max, np.finfo(dtype).min] * 3, dtype)
    np.testing.assert_allclose(activated(name, largest), exact(name, largest), rtol=BOUNDS[dtype])


@pytest.mark.parametrize("dtype", BOUNDS)
@pytest.mark.parametrize("name", ["tanh", "silu", "gelu", "gelu_tanh", "leaky_relu", "hardswish"])
def test_row_function_keeps_the_sign_of_zero(name, dtype):
    x = np.array([0.0, -0.0], dtype)
    np.testing.assert_array_equal(np.signbit(activated(name, x)), np.signbit(exact(name, x)))


def test_row_function_is_compiled_once():
    assert row_function(32, "tanh") == row_function(32, "tanh")
    assert len({row_function(bits, name) for bits in (32, 64) for name in NAMES}) == 2 * len(NAMES)
