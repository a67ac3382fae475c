"""Activation functions of arrays: those that convolutions fuse, by themselves.

Each runs the compiled row function of the fused one: in float32 and float64 ``conv2d(..., activation="gelu")`` and
``activations.gelu(conv2d(...))`` have the same bits.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike

from fastconv import _namespaces
from fastconv.api.on_device import activate_on_device
from fastconv.dispatch import load
from fastconv.epilogue import ACTIVATIONS, clamp_limits
from fastconv.errors import DtypeError
from fastconv.geometry.arrays import address, as_input, check_out, element_dtype, kind_of, on_device, usable_in_place
from fastconv.system import cast, empty
from fastconv.threads import run

__all__ = [
    "gelu",
    "gelu_tanh",
    "hardswish",
    "leaky_relu",
    "relu",
    "relu6",
    "sigmoid",
    "silu",
    "swish",
    "tanh",
]

# About what an element takes on one core; it only decides whether other threads help.
_SECONDS = 1.5e-9
_SECONDS_GELU = 20e-9

_FLOATS = "float32, float64, float16 or ml_dtypes.bfloat16"

_DOCSTRING = """Return {formula} of each element.

Parameters
----------
x : array_like of any shape
    {dtypes}.
out : ndarray of the shape and dtype of `x`, optional
    Written in place and returned. It may be `x`, or overlap it.

Returns
-------
ndarray of the shape and dtype of `x`
    A NumPy scalar for a number or an array without axes, as from NumPy's own functions.

Raises
------
DtypeError
    Any other dtype.
ShapeError, OptionError, ArgumentTypeError
    `out` cannot take the result.

Notes
-----
NaN stays NaN. In float32 and float64 the bits are those of ``conv2d(..., activation="{name}")`` for the same sum.
Half precision is computed in float32 and rounded once. The error is held by tests/kernels/test_activations.py.

Examples
--------
>>> import fastconv as fc
>>> fc.activations.{name}([-1.0, 0.0, 2.0])
array({example})
"""


class Activation(Protocol):
    """A function of this module."""

    def __call__(self, x: ArrayLike, *, out: np.ndarray | None = None) -> Any:
        """Return the activation of each element."""


def _activation(name: str, formula: str, example: str) -> Activation:
    """Return the public function of an activation of the epilogue."""

    def activation(x: ArrayLike, *, out: np.ndarray | None = None) -> Any:
        return _activated(name, x, out)

    dtypes = f"{_FLOATS}{', or integers' if clamp_limits(name) else ''}"
    activation.__doc__ = _DOCSTRING.format(name=name, formula=formula, example=example, dtypes=dtypes)
    activation.__name__ = activation.__qualname__ = name
    return activation


def _activated(name: str, x: ArrayLike, out: np.ndarray | None) -> Any:
    """Return an activation of `x` as a new array or scalar, or in `out`."""
    function = f"activations.{name}"
    if type(x) is not np.ndarray and on_device(x):
        return activate_on_device(function, name, x, out)
    array = _as_input(function, x)
    shape, dtype, kind = array.shape, array.dtype, kind_of(array.dtype)
    if kind == "c" or (kind == "i" and clamp_limits(name) is None):
        integers = " or integers" if clamp_limits(name) else ""
        raise DtypeError(f"{function}: x has dtype {dtype}, expected floating point ({_FLOATS}){integers}")
    if out is not None:
        check_out(function, out, shape, dtype)
    target = out if out is not None and usable_in_place(out, array) else empty(shape, dtype)
    if kind == "i":
        target[...] = ACTIVATIONS[name](array)
    else:
        _fill(name, array, target)
    if out is None:
        return target if shape else target[()]
    if target is not out:
        out[...] = target
    return out


def _as_input(function: str, x: ArrayLike) -> np.ndarray:
    """Return `x` as kernels take it; numbers and arrays without axes, too."""
    value: Any = np.asarray(x) if isinstance(x, (bool, int, float, complex, np.generic)) else x
    if getattr(value, "ndim", None) == 0:
        return as_input(function, "x", value[None]).reshape(())
    return as_input(function, "x", value)


def _fill(name: str, x: np.ndarray, out: np.ndarray) -> None:
    """Fill `out`, which does not overlap `x`; both are floats, C-contiguous, of one shape and dtype."""
    element = element_dtype(x.dtype)
    x = cast(x, element)
    y = out if out.dtype == element else empty(out.shape, element)
    program = load.load("elementwise:build")(name, element.name, x.size)
    io = np.array((address(x), address(y)), np.int64)
    seconds = x.size * (_SECONDS_GELU if name == "gelu" else _SECONDS)
    run(program.kernel, program.g, io, program.tasks, program.scratch_bytes, seconds)
    if y is not out:
        # Float16 overflows to infinity, as its own arithmetic does.
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            out[...] = y


relu = _activation("relu", "``max(x, 0)``", "[0., 0., 2.]")
relu6 = _activation("relu6", "``min(max(x, 0), 6)``", "[0., 0., 2.]")
leaky_relu = _activation("leaky_relu", "``x`` where positive, else ``0.01 * x``", "[-0.01,  0.  ,  2.  ]")
sigmoid = _activation("sigmoid", "``1 / (1 + exp(-x))``", "[0.26894142, 0.5       , 0.88079708]")
tanh = _activation("tanh", "the hyperbolic tangent", "[-0.76159416,  0.        ,  0.96402758]")
silu = swish = _activation("silu", "``x * sigmoid(x) = x / (1 + exp(-x))``", "[-0.26894142,  0.        ,  1.76159416]")
gelu = _activation("gelu", "``x * Phi(x) = x / 2 * (1 + erf(x / sqrt(2)))``", "[-0.15865525,  0.        ,  1.95449974]")
gelu_tanh = _activation(
    "gelu_tanh",
    "``x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3)))``",
    "[-0.15880801,  0.        ,  1.95459769]",
)
hardswish = _activation("hardswish", "``x * min(max(x + 3, 0), 6) / 6``", "[-0.33333333,  0.        ,  1.66666667]")

_namespaces.imported(__name__)
