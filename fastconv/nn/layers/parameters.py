"""Weights of layers: kept as fastconv's operations take them, given and taken in the shapes of Keras or PyTorch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import numpy as np

from fastconv.errors import DtypeError, ShapeError
from fastconv.geometry.arrays import as_input, kind_of
from fastconv.nn.initializers import Drawn, drawn

LAYOUTS = ("HWIO", "OIHW")

# How many bytes of weights may still be made, while a model is read from a file.
_left: ContextVar[int | None] = ContextVar("_left", default=None)


@contextmanager
def limited(size: int) -> Iterator[None]:
    """Let weights made in this block take `size` bytes together, and raise `ShapeError` for more."""
    token = _left.set(size)
    try:
        yield
    finally:
        _left.reset(token)


def _take(where: str, name: str, shape: tuple[int, ...], dtype: np.dtype) -> None:
    left = _left.get()
    if left is not None:
        left -= math.prod(shape) * dtype.itemsize
        if left < 0:
            raise ShapeError(f"{where}: {name} has shape {shape}, more than the file holds")
        _left.set(left)


class Order(NamedTuple):
    """How the axes of a weight stand here and in Keras.

    Attributes
    ----------
    to_keras : tuple of int
        Transposition of the weight as it is kept.
    multiplied : bool
        Whether it is the weight of a depthwise convolution, kept as (C*M, 1, KH, KW); in Keras (KH, KW, C, M).
    """

    to_keras: tuple[int, ...]
    multiplied: bool = False


PLAIN = Order((0,))
# Of (OC, IC, KH, KW), and of a transposed convolution's (IC, OC, KH, KW).
CONVOLUTION = Order((2, 3, 1, 0))
DEPTHWISE = Order((2, 3, 0, 1), multiplied=True)
MATRIX = Order((1, 0))


class Parameter:
    """One weight. Its memory stays where it is; `version` counts the changes.

    Parameters
    ----------
    where, name : str
        The layer, for messages, and the name in it.
    shape : tuple of int
        In Keras.
    initializer : callable
    order : Order
    trainable : bool
    dtype : dtype
    """

    __slots__ = ("gradient", "name", "order", "shape", "trainable", "value", "version", "where")

    def __init__(
        self,
        where: str,
        name: str,
        shape: tuple[int, ...],
        initializer: Drawn,
        order: Order,
        trainable: bool,
        dtype: np.dtype,
    ):
        self.where, self.name, self.shape, self.order, self.trainable = where, name, shape, order, trainable
        _take(where, name, shape, dtype)
        self.value = self._kept(drawn(where, f"the initializer of {name}", initializer, shape, dtype))
        self.gradient: np.ndarray | None = None
        self.version = 0

    def get(self, layout: str) -> np.ndarray:
        """Return a copy, in Keras's shape for "HWIO", in PyTorch's for "OIHW"."""
        if layout == "OIHW":
            return self.value.copy()
        value = self.value
        if self.order.multiplied:
            value = value.reshape(*self.shape[2:], *value.shape[2:])
        return np.array(value.transpose(self.order.to_keras), order="C").reshape(self.shape)

    def checked(self, array: Any, layout: str) -> np.ndarray:
        """Return `array` as it is kept, or raise what does not fit."""
        given = as_input(self.where, self.name, array)
        expected = self.value.shape if layout == "OIHW" else self.shape
        if given.shape != expected:
            raise ShapeError(f"{self.where}: {self.name} has shape {given.shape}, expected {expected} ({layout})")
        if kind_of(given.dtype) == "c":
            raise DtypeError(f"{self.where}: {self.name} has dtype {given.dtype}, expected real numbers")
        return given if layout == "OIHW" else self._kept(given)

    def set(self, kept: np.ndarray) -> None:
        """Take the values of an array from `checked`."""
        with np.errstate(over="ignore"):
            self.value[...] = kept
        self.version += 1

    def _kept(self, array: np.ndarray) -> np.ndarray:
        """Return an array of Keras's shape as it is kept, contiguous."""
        moved = array.transpose(np.argsort(self.order.to_keras))
        if self.order.multiplied:
            moved = moved.reshape(moved.shape[0] * moved.shape[1], 1, *moved.shape[2:])
        return np.ascontiguousarray(moved)
