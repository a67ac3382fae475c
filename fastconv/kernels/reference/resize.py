"""The definition of interpolation: along each axis a matrix, in double precision. Slow, obvious."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import DTypeLike


def resize(x: np.ndarray, matrices: Sequence[np.ndarray]) -> np.ndarray:
    """Return x (N, C, *S) with a matrix (outputs, inputs) applied along each spatial axis, in its own precision."""
    for axis, matrix in enumerate(matrices, 2):
        x = np.moveaxis(np.tensordot(matrix, x, (1, axis)), 0, axis)
    return x


def positions(n: int, out: int, scale: float | None = None, align_corners: bool = False) -> np.ndarray:
    """Return where the centres of outputs lie among those of n inputs."""
    if align_corners:
        return np.arange(out) * ((n - 1) / max(out - 1, 1))
    return (np.arange(out) + 0.5) * (n / out if scale is None else 1 / scale) - 0.5


def nearest(n: int, out: int, exact: bool = False, real: DTypeLike = np.float32) -> np.ndarray:
    """Return the matrix that copies input ``floor(o * n / out)``, or the one whose centre is nearest.

    The quotient is rounded to a float type first, which may lead to the element before.
    """
    step = np.asarray(n / out, real)
    at = (np.arange(out) + (0.5 if exact else 0)).astype(real) * step
    return np.eye(n)[np.floor(at.astype(np.float32)).astype(int)]


def kernel(n: int, at: np.ndarray, weight: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Return the matrix of ``weight(at - i)`` over all i, beyond the ends, too, where inputs are those at the ends."""
    i = np.arange(-n - 3, 2 * n + 3)
    weights = weight(at[:, None] - i)
    return weights @ np.eye(n)[np.clip(i, 0, n - 1)]


def smooth(n: int, out: int, weight: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Return the matrix of a kernel that is stretched where an axis shrinks, over the inputs that there are."""
    distance = positions(n, out)[:, None] - np.arange(n)
    weights = weight(distance / max(1.0, n / out))
    return weights / weights.sum(1, keepdims=True)


def triangle(x: np.ndarray) -> np.ndarray:
    """Return the kernel of linear interpolation."""
    return np.maximum(0, 1 - abs(x))


def cubic(x: np.ndarray, a: float) -> np.ndarray:
    """Return the kernel of Keys, 1981."""
    x = abs(x)
    near, far = (a + 2) * x**3 - (a + 3) * x**2 + 1, a * (x**3 - 5 * x**2 + 8 * x - 4)
    return np.where(x <= 1, near, np.where(x < 2, far, 0))


def area(n: int, out: int) -> np.ndarray:
    """Return the matrix of averages over the inputs that an output touches."""
    matrix = np.zeros((out, n))
    for o in range(out):
        matrix[o, o * n // out : -(-(o + 1) * n // out)] = 1
    return matrix / matrix.sum(1, keepdims=True)


def resize_bytes(x: np.ndarray, matrices: Sequence[np.ndarray]) -> np.ndarray:
    """Return uint8 x with matrices along its axes, from the last on: weights of 15 bits, rounded and clipped each time.

    A square matrix changes nothing.
    """
    for axis, matrix in reversed(list(enumerate(matrices, 2))):
        if matrix.shape[0] == matrix.shape[1]:
            continue
        bits = max(b for b in range(1, 23) if int(matrix.max() * 2.0**b + 0.5) < 2**15)
        scaled = matrix * 2.0**bits
        weights = np.trunc(scaled + np.copysign(0.5, scaled)).astype(int)
        sums = np.moveaxis(np.tensordot(weights, x.astype(int), (1, axis)), 0, axis)
        x = np.clip((sums + 2 ** (bits - 1)) >> bits, 0, 255)
    return x.astype(np.uint8)
