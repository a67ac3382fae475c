"""The definitions of gradients: transposed matrices, sums at indices, formulas. Slow, obvious."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np


def adjoint(forward: Callable[[np.ndarray], np.ndarray], shape: Sequence[int], grad: np.ndarray) -> np.ndarray:
    """Return A^T grad of the linear map A = forward on arrays of a shape, from the images of all unit vectors."""
    units = np.eye(math.prod(shape))
    columns = [np.vdot(forward(unit.reshape(shape)), grad) for unit in units]
    return np.array(columns, grad.dtype).reshape(shape)


def scattered(grad: np.ndarray, indices: np.ndarray, sizes: Sequence[int]) -> np.ndarray:
    """Return (N, C, *sizes) with each element of grad (N, C, *S) added at its flat index."""
    out = np.zeros((*grad.shape[:2], math.prod(sizes)), grad.dtype)
    for place in np.ndindex(grad.shape):
        out[(*place[:2], indices[place])] += grad[place]
    return out.reshape(*grad.shape[:2], *sizes)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return np.exp(-np.logaddexp(0, -x))


def _logistic(x: np.ndarray) -> np.ndarray:
    """Return the derivative of the sigmoid."""
    return _sigmoid(x) * _sigmoid(-x)


def _silu(x: np.ndarray) -> np.ndarray:
    return _sigmoid(x) * (1 + x * _sigmoid(-x))


def _gelu(x: np.ndarray) -> np.ndarray:
    distribution = np.vectorize(math.erfc, otypes=[x.dtype])(-x * math.sqrt(0.5)) / 2
    return distribution + x * np.exp(-x * x / 2) / math.sqrt(2 * math.pi)


def _gelu_tanh(x: np.ndarray) -> np.ndarray:
    scale = 2 * math.sqrt(2 / math.pi)
    z = scale * (x + 0.044715 * x**3)
    return _sigmoid(z) + x * _logistic(z) * (scale * (1 + 3 * 0.044715 * x * x))


# name: (derivative, where the gradient is zero whatever comes from above).
_DERIVATIVES: Mapping[str, tuple[Callable[[np.ndarray], np.ndarray], Callable[[np.ndarray], np.ndarray]]] = {
    "relu": (lambda x: np.ones_like(x), lambda x: x <= 0),
    "relu6": (lambda x: np.ones_like(x), lambda x: (x <= 0) | (x >= 6)),
    "leaky_relu": (lambda x: np.where(x > 0, 1, 0.01), np.zeros_like),
    "sigmoid": (_logistic, np.zeros_like),
    "tanh": (lambda x: 4 * _logistic(2 * x), np.zeros_like),
    "silu": (_silu, np.zeros_like),
    "gelu": (_gelu, np.zeros_like),
    "gelu_tanh": (_gelu_tanh, np.zeros_like),
    "hardswish": (lambda x: np.where(abs(x) < 3, x / 3 + 0.5, 1), lambda x: x <= -3),
}


def pullback(name: str, grad: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return grad times the derivative of an activation at x."""
    derivative, is_zero = _DERIVATIVES[name]
    with np.errstate(all="ignore"):
        return np.where(is_zero(x), 0, grad * derivative(x)).astype(grad.dtype)
