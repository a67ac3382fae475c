"""The epilogue of a convolution: ``activation(sum + bias + residual)``. This file is the specification.

The functions are NumPy references, not kernels: elementwise, dtype-preserving, NaN stays NaN, and no cancellation
in the tails. At minus infinity they follow PyTorch: where the formula reads ``-inf * 0`` the result is NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeAlias

import numpy as np

from fastconv.errors import ArgumentTypeError, OptionError

Activation: TypeAlias = Callable[[np.ndarray], np.ndarray]

LEAKY_SLOPE = 0.01

_erfc = np.frompyfunc(math.erfc, 1, 1)


def identity(x: np.ndarray) -> np.ndarray:
    """Return `x`."""
    return x


def relu(x: np.ndarray) -> np.ndarray:
    """Return ``max(x, 0)``."""
    return np.maximum(x, 0)


def relu6(x: np.ndarray) -> np.ndarray:
    """Return ``min(max(x, 0), 6)``."""
    return np.minimum(np.maximum(x, 0), 6)


def leaky_relu(x: np.ndarray) -> np.ndarray:
    """Return ``x`` where positive, else ``0.01 * x``."""
    return np.where(x > 0, x, LEAKY_SLOPE * x)


def sigmoid(x: np.ndarray) -> np.ndarray:
    """Return ``1 / (1 + exp(-x))``."""
    # exp of -|x| cannot overflow, and its tail keeps full precision down to the denormals.
    tail = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, tail) / (1 + tail)


def tanh(x: np.ndarray) -> np.ndarray:
    """Return the hyperbolic tangent."""
    return np.tanh(x)


def silu(x: np.ndarray) -> np.ndarray:
    """Return ``x * sigmoid(x)``."""
    with np.errstate(invalid="ignore"):
        return x * sigmoid(x)


def gelu(x: np.ndarray) -> np.ndarray:
    """Return ``x * Phi(x)`` with the normal distribution Phi, by erfc."""
    # 1 + erf(x) would cancel for negative x.
    distribution = 0.5 * np.asarray(_erfc(np.asarray(x, np.float64) * -math.sqrt(0.5)), np.float64)
    with np.errstate(invalid="ignore"):
        return (x * distribution).astype(x.dtype)


def gelu_tanh(x: np.ndarray) -> np.ndarray:
    """Return ``x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3)))``."""
    # (1 + tanh(u)) / 2 is sigmoid(2 u), which does not cancel for negative u; overflow of the cube saturates it.
    with np.errstate(invalid="ignore", over="ignore"):
        return x * sigmoid(2 * math.sqrt(2 / math.pi) * (x + 0.044715 * (x * x * x)))


def hardswish(x: np.ndarray) -> np.ndarray:
    """Return ``x * min(max(x + 3, 0), 6) / 6``."""
    with np.errstate(invalid="ignore"):
        return x * (np.minimum(np.maximum(x + 3, 0), 6) / 6)


ALIASES: Mapping[str, str] = MappingProxyType({"swish": "silu"})

ACTIVATIONS: Mapping[str | None, Activation] = MappingProxyType(
    {
        None: identity,
        "relu": relu,
        "relu6": relu6,
        "leaky_relu": leaky_relu,
        "sigmoid": sigmoid,
        "tanh": tanh,
        "silu": silu,
        "swish": silu,
        "gelu": gelu,
        "gelu_tanh": gelu_tanh,
        "hardswish": hardswish,
    }
)


def canonical(name: str | None, function: str = "conv2d") -> str | None:
    """Return the name that kernels use: aliases resolved, None for no activation.

    Raises
    ------
    OptionError
        Unknown name; the message lists the allowed ones.
    ArgumentTypeError
        Neither a string nor None.
    """
    if name is None:
        return None
    rule = f"expected one of {', '.join(map(repr, ACTIVATIONS))}"
    if not isinstance(name, str):
        raise ArgumentTypeError(f"{function}: activation is a {type(name).__name__}, {rule}")
    if name not in ACTIVATIONS:
        raise OptionError(f"{function}: activation = {name!r}, {rule}")
    return ALIASES.get(name, name)


def clamp_limits(name: str | None) -> tuple[float, float] | None:
    """Return (low, high) if the activation is ``min(max(x, low), high)``, else None."""
    return _CLAMPS.get(name)


_CLAMPS = {None: (-math.inf, math.inf), "relu": (0.0, math.inf), "relu6": (0.0, 6.0)}
