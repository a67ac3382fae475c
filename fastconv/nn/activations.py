"""Activations of layers: those of `fastconv.activations`, softmax, and their gradients.

Where a gradient can be read off the output, no sum before the activation needs to be kept; and where the activation
is monotone, too, it commutes with the maximum of a pooling: what follows can be differentiated at the pooled values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastconv.activations import gelu, gelu_tanh, hardswish, leaky_relu, relu, relu6, sigmoid, silu, swish, tanh
from fastconv.dispatch import load
from fastconv.errors import ArgumentTypeError, OptionError
from fastconv.geometry.arguments import shown
from fastconv.geometry.arrays import address, as_input
from fastconv.threads import run

__all__ = [
    "gelu",
    "gelu_tanh",
    "hardswish",
    "leaky_relu",
    "linear",
    "relu",
    "relu6",
    "sigmoid",
    "silu",
    "softmax",
    "swish",
    "tanh",
]


def linear(x: ArrayLike) -> np.ndarray:
    """Return a copy of `x`: no activation.

    Examples
    --------
    >>> import fastconv as fc
    >>> fc.nn.activations.linear([1.0, 2.0])
    array([1., 2.])
    """
    return np.array(x)


def softmax(x: ArrayLike, axis: int = -1) -> np.ndarray:
    """Return ``exp(x) / sum(exp(x))`` along an axis, without overflow.

    Parameters
    ----------
    x : array_like of floats
    axis : int

    Returns
    -------
    ndarray of the shape and dtype of `x`

    Examples
    --------
    >>> import fastconv as fc
    >>> fc.nn.activations.softmax([[0.0, 0.0]])
    array([[0.5, 0.5]])
    """
    array = as_input("softmax", "x", x)
    with np.errstate(invalid="ignore", under="ignore", over="ignore"):
        y = array - array.max(axis=axis, keepdims=True)
        y = np.exp(y, out=y) if y.dtype.kind == "f" else np.exp(y)
        y /= y.sum(axis=axis, keepdims=True)
    return y


# Name -> function. None and "linear" are no activation.
FUNCTIONS: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {
        "relu": relu,
        "relu6": relu6,
        "leaky_relu": leaky_relu,
        "sigmoid": sigmoid,
        "tanh": tanh,
        "silu": silu,
        "gelu": gelu,
        "gelu_tanh": gelu_tanh,
        "hardswish": hardswish,
        "softmax": softmax,
    }
)
ALIASES: Mapping[str, str] = MappingProxyType(
    {"swish": "silu", "hard_swish": "hardswish", "hard_silu": "hardswish"},
)
# Those whose gradient is known from the output; all are monotone.
FROM_OUTPUT = frozenset({"relu", "relu6", "leaky_relu", "sigmoid", "tanh"})

# About what an element of a gradient takes on one core; it only decides whether other threads help.
_SECONDS, _SECONDS_GELU = 1.5e-9, 30e-9
# The name that a dtype tells takes longer than a look here.
_DTYPES = {4: "float32", 8: "float64"}


def canonical(function: str, value: Any) -> str | None:
    """Return the name of an activation, None for none, from a name or one of the functions of this module.

    Raises
    ------
    OptionError
        Unknown name or function; the message lists the allowed ones.
    ArgumentTypeError
        Anything else.
    """
    if value is None:
        return None
    name = value if isinstance(value, str) else getattr(value, "__name__", None)
    rule = f"expected None or one of {', '.join(map(repr, ('linear', *FUNCTIONS, *ALIASES)))}"
    if not isinstance(value, str) and not callable(value):
        raise ArgumentTypeError(f"{function}: activation = {shown(value)} is a {type(value).__name__}, {rule}")
    if name == "linear":
        return None
    name = ALIASES.get(str(name), str(name))
    if name not in FUNCTIONS or (callable(value) and FUNCTIONS[name] is not value):
        raise OptionError(f"{function}: activation = {shown(value)}, {rule}")
    return name


def gradient(name: str | None, dy: np.ndarray, z: np.ndarray, y: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Return the gradient at the input `z` of an activation with output `y`; of `FROM_OUTPUT` only `y` is read.

    It is `dy` itself without an activation, else in `out` or new; all arrays are C-contiguous, of one dtype and shape.
    """
    if name is None:
        return dy
    if name == "softmax":
        weighted = np.multiply(dy, y, out=out)
        weighted -= y * weighted.sum(axis=-1, keepdims=True)
        return weighted
    if name in ("sigmoid", "tanh"):
        np.multiply(y, y, out=out)
        np.subtract(y if name == "sigmoid" else y.dtype.type(1), out, out=out)
        return np.multiply(dy, out, out=out)
    # What is left of `FROM_OUTPUT` has its bends where the output has them.
    program = load.load("activation_grad:build")(name, _DTYPES[dy.itemsize], dy.size)
    io = np.array([address(dy), address(y if name in FROM_OUTPUT else z), address(out)], np.int64)
    seconds = _SECONDS_GELU if name == "gelu" else _SECONDS
    run(program.kernel, program.g, io, program.tasks, 0, dy.size * seconds)
    return out
