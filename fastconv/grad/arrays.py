"""What all gradients share: the gradient that comes in, and results that are sums the other way round."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

import numpy as np

from fastconv.api.moving import execute
from fastconv.dispatch.adjoint import Adjoint
from fastconv.errors import DtypeError, ShapeError
from fastconv.geometry.arrays import as_input, element_dtype, kind_of
from fastconv.system import cast, empty

Shape: TypeAlias = tuple[int, ...]
Function: TypeAlias = Callable[..., tuple[np.ndarray | None, ...]]
F = TypeVar("F", bound=Callable[..., Any])


def named(function: F, name: str, doc: str, /, **words: Any) -> F:
    """Return a function of a family with its own name and docstring."""
    function.__name__ = function.__qualname__ = name
    function.__doc__ = doc.format(**words)
    return function


def output_gradient(function: str, value: Any, shape: Shape, dtype: np.dtype) -> np.ndarray:
    """Return grad_output as kernels take it, in the dtype of the operation's result, if it has its shape."""
    return matched(function, as_input(function, "grad_output", value), shape, dtype)


def matched(function: str, grad: np.ndarray, shape: Shape, dtype: np.dtype) -> np.ndarray:
    """Return grad_output in the dtype of the operation's result, once it has its shape."""
    if grad.shape != shape:
        raise ShapeError(f"{function}: grad_output has shape {grad.shape}, expected {shape}, that of the result")
    if grad.dtype.kind == "c" and dtype.kind != "c":
        raise DtypeError(f"{function}: grad_output has dtype {grad.dtype}, expected real numbers, as the result has")
    # Integers have no gradient, and what comes in for them does not matter.
    return grad if kind_of(dtype) == "i" else converted(grad, dtype)


def real_parts(dtype: np.dtype, lanes: int) -> int:
    """Return how many real numbers stand where `lanes` of a dtype do."""
    return 2 * lanes if dtype.kind == "c" else lanes


def converted(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return an array in another dtype; half precision overflows to infinity, as its own arithmetic does."""
    with np.errstate(all="ignore"):
        return cast(values, dtype)


def pulled(adjoint: Adjoint, grad: np.ndarray, shape: Shape, dtype: np.dtype, layout: str) -> np.ndarray:
    """Return the gradient of an input of a shape and dtype by an adjoint."""
    element = dtype if dtype.kind == "c" else element_dtype(dtype)
    if not grad.size or 0 in shape:
        return np.zeros(shape, dtype)
    out = empty(shape, element)
    execute(adjoint.program, adjoint.seconds, converted(grad, element), out)
    last = len(shape) - (layout == "channels_last")
    for axis, places in enumerate(adjoint.unseen, last - len(adjoint.unseen)):
        if len(places):
            out[(slice(None),) * axis + (_run(places),)] = 0
    return converted(out, dtype)


def _run(places: np.ndarray) -> slice | np.ndarray:
    """Return ascending places, as a slice if they are one."""
    first, last = int(places[0]), int(places[-1])
    return slice(first, last + 1) if last - first + 1 == len(places) else places
