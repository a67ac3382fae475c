"""The steps of the optimizers against their formulas, element by element."""

from __future__ import annotations

import numpy as np
import pytest

import fastconv as fc
from fastconv.nn import optimizers
from fastconv.nn.initializers import Ones
from fastconv.nn.layers.parameters import MATRIX, PLAIN, Parameter
from tests import guard

# One block, several, and ends of all lengths.
SIZES = ((1,), (5,), (17,), (4096,), (4097,), (3, 5000))


def parameters(dtype, seed=0):
    rng = np.random.default_rng(seed)
    found = []
    for shape in SIZES:
        order = MATRIX if len(shape) == 2 else PLAIN
        parameter = Parameter("a layer", "kernel", shape, Ones(), order, True, np.dtype(dtype))
        parameter.value[...] = rng.normal(size=parameter.value.shape)
        found.append(parameter)
    return found


def gradients(found, step):
    rng = np.random.default_rng(step + 100)
    return [rng.normal(size=p.value.shape).astype(p.value.dtype) for p in found]


def adam(w, g, state, t):
    """Keras's formula, in the dtype of the weights."""
    m, v = state
    kind = w.dtype.type
    m += (g - m) * kind(1 - 0.9)
    v += (g * g - v) * kind(1 - 0.999)
    rate = kind(0.01 * np.sqrt(1 - 0.999**t) / (1 - 0.9**t))
    w -= m * rate / (np.sqrt(v) + kind(1e-7))


def sgd(momentum, nesterov):
    def step(w, g, state, t):
        v = state[0]
        kind = w.dtype.type
        v *= kind(momentum)
        v -= kind(0.1) * g
        w += kind(momentum) * v - kind(0.1) * g if nesterov else v

    return step


CASES = {
    "adam": (lambda: optimizers.Adam(0.01), adam),
    "sgd": (lambda: optimizers.SGD(0.1), sgd(0.0, False)),
    "momentum": (lambda: optimizers.SGD(0.1, 0.9), sgd(0.9, False)),
    "nesterov": (lambda: optimizers.SGD(0.1, 0.9, True), sgd(0.9, True)),
}


@pytest.mark.targets
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", CASES)
def test_step_follows_the_formula(name, dtype):
    make, formula = CASES[name]
    optimizer, found = make(), parameters(dtype)
    expected = [p.value.copy() for p in found]
    states = [[np.zeros_like(w), np.zeros_like(w)] for w in expected]
    for t in range(1, 4):
        for p, g in zip(found, gradients(found, t), strict=True):
            p.gradient = g
        optimizer.step(found)
        for w, g, state in zip(expected, gradients(found, t), states, strict=True):
            formula(w, g, state, t)
    for p, w in zip(found, expected, strict=True):
        np.testing.assert_allclose(p.value, w, rtol=4 * np.finfo(dtype).eps, atol=4 * np.finfo(dtype).eps)
        assert p.version == 3
    assert optimizer.iterations == 3


def test_step_has_the_same_bits_for_all_threads():
    results = []
    for threads in (1, 2, 3):
        optimizer = optimizers.Adam(0.01)
        found = [Parameter("a layer", "bias", (500_000,), Ones(), PLAIN, True, np.dtype("float32"))]
        with fc.threads(threads):
            for t in range(3):
                found[0].gradient = gradients(found, t)[0]
                optimizer.step(found)
        results.append(found[0].value.tobytes())
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_moments_never_become_denormal(dtype):
    tiny = np.finfo(dtype).tiny
    for optimizer in (optimizers.Adam(), optimizers.SGD(momentum=0.5)):
        parameter = Parameter("a layer", "bias", (100,), Ones(), PLAIN, True, np.dtype(dtype))
        parameter.gradient = np.full(100, 3 * tiny, dtype)
        for _ in range(5):
            optimizer.step([parameter])
            parameter.gradient[...] = 0
        for moments in optimizer._slots[id(parameter)][1]:
            assert ((moments == 0) | (np.abs(moments) >= tiny)).all()
        parameter.gradient[...] = np.nan
        optimizer.step([parameter])
        assert np.isnan(parameter.value).all()


def test_learning_rate_may_change_between_steps():
    parameter = Parameter("a layer", "bias", (3,), Ones(), PLAIN, True, np.dtype("float64"))
    parameter.gradient = np.ones(3)
    optimizer = optimizers.SGD(0.5)
    optimizer.step([parameter])
    optimizer.learning_rate = 0.25
    optimizer.step([parameter])
    np.testing.assert_array_equal(parameter.value, 0.25)


WRONG = {
    "learning_rate": (lambda: optimizers.Adam(-1), fc.OptionError, "Adam: learning_rate = -1, expected a finite"),
    "nan": (lambda: optimizers.SGD(float("nan")), fc.OptionError, "SGD: learning_rate = nan"),
    "string": (lambda: optimizers.SGD("0.1"), fc.ArgumentTypeError, "SGD: learning_rate = '0.1' is a str"),
    "beta": (
        lambda: optimizers.Adam(beta_1=1),
        fc.OptionError,
        "Adam: beta_1 = 1, expected a number from 0 to below 1",
    ),
    "epsilon": (lambda: optimizers.Adam(epsilon=0), fc.OptionError, "Adam: epsilon = 0, expected a number above 0"),
    "momentum": (lambda: optimizers.SGD(momentum=True), fc.ArgumentTypeError, "SGD: momentum = True is a bool"),
    "nesterov": (lambda: optimizers.SGD(nesterov=1), fc.ArgumentTypeError, "SGD: nesterov = 1 is a int"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments_are_named(name):
    make, kind, text = WRONG[name]
    with pytest.raises(kind, match=f"^{text}"):
        make()


@pytest.mark.skipif(not guard.AVAILABLE, reason="maps memory as Linux does")
def test_steps_stay_inside():
    out = guard.run("from tests.nn import test_optimizers as t; t.check_guarded()")
    assert out.split()[-1] == "done"


def check_guarded():
    """Step weights beside closed pages; called in a process of its own."""
    for side in guard.SIDES:
        for dtype in ("float32", "float64"):
            for make, _ in CASES.values():
                with guard.Pages() as pages:
                    optimizer, found = make(), parameters(dtype)
                    for p in found:
                        p.value, p.gradient = pages.copy(p.value, side), pages.copy(p.value, side)
                    optimizer._prepared(found)
                    for p in found:
                        kept = optimizer._slots[id(p)][1]
                        kept[:] = [pages.copy(array, side) for array in kept]
                    for _ in range(2):
                        optimizer.step(found)
    print("done")
