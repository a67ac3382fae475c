"""The families of calls that run inside a fence: those of guarded_calls.py, of elements, and what the fuzzer draws."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import fastconv as fc
from fastconv.epilogue import ACTIVATIONS
from fastconv.nn.initializers import Ones
from fastconv.nn.layers.parameters import PLAIN, Parameter
from fastconv.testing.fuzz.check import OPS, check
from fastconv.testing.fuzz.running import drawn as drawn_case
from tests import guarded_calls as calls
from tests.guarded_calls import Call


def _lengths(count: int) -> range:
    """Return lengths up to two vectors and an element, of which there are 33 at most."""
    return range(1, 2 + min(count, 33))


def activations(rng: Any, count: int, small: bool) -> Iterator[Call]:
    """Yield activations and their gradients."""
    for name, dtype, n in itertools.product(ACTIVATIONS, ("float32", "float64"), _lengths(count)):
        if name is not None and hasattr(fc.activations, name):
            x, dy = (rng.standard_normal(n).astype(dtype) for _ in range(2))
            yield Call(f"{name} {dtype} {n}", _activation(name), (x, dy))


def _activation(name: str) -> Callable[..., Any]:
    def run(x: Any, dy: Any) -> Any:
        return [getattr(fc.activations, name)(x), *getattr(fc.grad, f"{name}_vjp")(dy, x)]

    return run


def steps(rng: Any, count: int, small: bool) -> Iterator[Call]:
    """Yield steps of the optimizers."""
    from tests.nn.test_optimizers import CASES

    for name, n, dtype in itertools.product(CASES, _lengths(count), ("float32", "float64")):

        def run(w, g, name=name):
            optimizer, parameter = CASES[name][0](), Parameter("a layer", "bias", w.shape, Ones(), PLAIN, True, w.dtype)
            parameter.value, parameter.gradient = w.copy(), g
            for _ in range(2):
                optimizer.step([parameter])
            return parameter.value

        yield Call(f"{name} {n}", run, tuple(rng.standard_normal(n).astype(dtype) for _ in range(2)))


def fuzzed(rng: Any, count: int, small: bool) -> Iterator[Call]:
    """Yield what the fuzzer draws of all operations, with its checks, in one thread."""
    for i in range(10 * count):
        case = drawn_case(0, i, tuple(OPS))
        yield Call(str(case), partial(check, case._replace(threads=1)), ())


FAMILIES: dict[str, Callable[[Any, int, bool], Iterator[Call]]] = {
    family.__name__: family
    for family in (
        *(steps, activations, calls.movements, calls.windows, calls.filters, calls.whole_vectors, calls.layers),
        *(calls.weights, calls.other_dtypes),
        *(calls.dot_products, calls.matrix_unit),
        *(calls.convolutions, calls.doubles, fuzzed),
    )
}
