"""Gradients of activations by their formulas in double precision, by differences, and at the kinks."""

from __future__ import annotations

import numpy as np
import pytest

import fastconv as fc
from fastconv.epilogue import ACTIVATIONS
from fastconv.grad.activations import pullback
from fastconv.kernels.reference import grad as reference

NAMES = ("relu", "relu6", "leaky_relu", "sigmoid", "tanh", "silu", "gelu", "gelu_tanh", "hardswish")
BOUNDS = {"float32": 2e-6, "float64": 4e-15}


def drawn(dtype, size=1003):
    """Return gradients, and arguments of all magnitudes."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal(size) * 10 ** rng.uniform(-3, 1.7, size)
    return rng.standard_normal(size).astype(dtype), x.astype(dtype)


@pytest.mark.parametrize("name", NAMES)
def test_derivatives_are_slopes(name):
    _, x = drawn("float64")
    x = x[(np.abs(x) > 1e-3) & (np.abs(np.abs(x) - 3) > 1e-3) & (np.abs(x - 6) > 1e-3)]
    slope = (ACTIVATIONS[name](x + 1e-6) - ACTIVATIONS[name](x - 1e-6)) / 2e-6
    np.testing.assert_allclose(reference.pullback(name, np.ones_like(x), x), slope, rtol=0, atol=1e-8)


@pytest.mark.targets
@pytest.mark.parametrize("name", ["relu", "silu"])
def test_gradients_on_this_target(name):
    check(name, "float32")


@pytest.mark.parametrize("name", NAMES)
def test_gradients_follow_the_formulas(name):
    for dtype in BOUNDS:
        check(name, dtype)


def check(name, dtype):
    grad, x = drawn(dtype)
    want = reference.pullback(name, grad.astype("f8"), x.astype("f8"))
    (got,) = getattr(fc.grad, f"{name}_vjp")(grad, x)
    assert got.dtype == dtype
    np.testing.assert_allclose(got, want, rtol=0, atol=BOUNDS[dtype] * np.abs(grad).max())
    for n in (1, 5, 16, 19):
        np.testing.assert_array_equal(pullback(name, grad[:n], x[:n]), got[:n])


def test_kinks_are_pytorchs():
    x = np.array([-3.0, -0.0, 0.0, 3.0, 6.0])
    for name, want in {
        "relu": [0, 0, 0, 2, 2],
        "relu6": [0, 0, 0, 2, 0],
        "leaky_relu": [0.02, 0.02, 0.02, 2, 2],
        "hardswish": [0, 1, 1, 2, 2],
    }.items():
        np.testing.assert_array_equal(pullback(name, np.full(5, 2.0), x), want)


def test_relu_drops_what_is_not_finite():
    grad, x = np.array([np.nan, np.inf, np.nan, 1.0], "f4"), np.array([-1, 0, 1, np.nan], "f4")
    np.testing.assert_array_equal(fc.grad.relu_vjp(grad, x)[0], [0, 0, np.nan, 1])


@pytest.mark.parametrize("name", NAMES)
def test_half_precision_is_rounded_once(name):
    grad, x = drawn("float16")
    wide = pullback(name, grad.astype("f4"), x.astype("f4"))
    np.testing.assert_array_equal(pullback(name, grad, x), wide.astype("f2"))
    ml_dtypes = pytest.importorskip("ml_dtypes")
    grad, x = (a.astype(ml_dtypes.bfloat16) for a in (grad, x))
    wide = pullback(name, grad.astype("f4"), x.astype("f4"))
    np.testing.assert_array_equal(fc.grad.relu_vjp(grad, x)[0], np.where(x > 0, grad, 0))
    np.testing.assert_array_equal(pullback(name, grad, x), wide.astype(ml_dtypes.bfloat16))


def test_any_shape_and_memory():
    grad, x = (a[:720].reshape(6, 12, 10) for a in drawn("float32"))
    (want,) = fc.grad.tanh_vjp(grad, x)
    for turn in (lambda a: a.transpose(2, 0, 1), lambda a: a[::2, ::-1], lambda a: a.astype(">f4")):
        np.testing.assert_array_equal(fc.grad.tanh_vjp(turn(grad), turn(x))[0], turn(want))
        np.testing.assert_array_equal(pullback("tanh", turn(grad), turn(x)), turn(want))
    (one,) = fc.grad.relu_vjp(np.float64(3), np.float64(2))
    assert one.shape == ()
    assert one == 3
    assert fc.grad.relu_vjp(np.zeros((0, 3)), np.zeros((0, 3)))[0].shape == (0, 3)


def test_no_activation_is_a_copy():
    grad = np.arange(3.0)
    got = pullback(None, grad, grad)
    np.testing.assert_array_equal(got, grad)
    assert not np.shares_memory(got, grad)


def test_other_names_and_dtypes():
    ones = np.ones(3, int)
    assert fc.grad.relu_vjp(ones, ones) == (None,)
    np.testing.assert_array_equal(pullback("swish", np.ones(3), np.ones(3)), pullback("silu", np.ones(3), np.ones(3)))
    with pytest.raises(fc.OptionError, match="activation = 'sine'"):
        pullback("sine", np.ones(3), np.ones(3))
    with pytest.raises(fc.DtypeError, match="silu_vjp: x has dtype int64"):
        fc.grad.silu_vjp(ones, ones)
    with pytest.raises(fc.DtypeError, match="relu_vjp: x has dtype complex128"):
        fc.grad.relu_vjp(ones * 1j, ones * 1j)
    with pytest.raises(fc.ShapeError, match=r"relu_vjp: grad_output has shape \(2,\), expected \(3,\)"):
        fc.grad.relu_vjp(np.ones(2), np.ones(3))
    with pytest.raises(fc.DtypeError, match="relu_vjp: grad_output has dtype complex128, expected real numbers"):
        fc.grad.relu_vjp(np.ones(3, complex), np.ones(3))
    assert fc.grad.relu_vjp(np.ones(3, "f4"), np.ones(3))[0].dtype == np.float64


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_pytorchs(name):
    torch = pytest.importorskip("torch")
    functions = {"gelu_tanh": lambda x: torch.nn.functional.gelu(x, approximate="tanh")}
    function = functions.get(name) or getattr(torch, name, None) or getattr(torch.nn.functional, name)
    for dtype in BOUNDS:
        grad, x = drawn(dtype, 20011)
        x[:8] = [0, -0.0, 3, -3, 6, np.inf, -np.inf, 1e10]
        tensor = torch.from_numpy(x).requires_grad_()
        function(tensor).backward(torch.from_numpy(grad))
        want = tensor.grad.numpy()
        np.testing.assert_allclose(pullback(name, grad, x), want, rtol=0, atol=4 * BOUNDS[dtype] * np.abs(grad).max())
