"""Initial weights, as in Keras: shapes are Keras's, and so is what counts as fan in and fan out.

References: X. Glorot, Y. Bengio, Understanding the difficulty of training deep feedforward neural networks, 2010
(PMLR 9:249); K. He et al., Delving deep into rectifiers, 2015, arXiv:1502.01852.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from fastconv.errors import ArgumentTypeError, OptionError, ShapeError
from fastconv.geometry.arguments import integer, shown
from fastconv.nn import random

__all__ = ["GlorotNormal", "GlorotUniform", "HeNormal", "HeUniform", "Initializer", "Ones", "Zeros"]

# The standard deviation of the normal distribution that is cut at two of its own.
_CUT_DEVIATION = 0.87962566103423978


class Initializer:
    """Makes an array from a shape and a dtype.

    Parameters
    ----------
    seed : int, optional
        For a generator of its own, which gives the same numbers at each call; by default that of `set_random_seed`.
    """

    def __init__(self, seed: int | None = None):
        self.seed = None if seed is None else abs(integer(type(self).__name__, "seed", seed))

    def __call__(self, shape: tuple[int, ...], dtype: Any = "float32") -> np.ndarray:
        """Return a new array."""
        # Drawn in double: a model has the same initial weights, rounded, in both types.
        return self._draw(random.generator(self.seed), tuple(shape)).astype(dtype)

    def _draw(self, generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make an equal one."""
        return {} if self.seed is None else {"seed": self.seed}


class Zeros(Initializer):
    """All 0."""

    def _draw(self, generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        return np.zeros(shape)


class Ones(Initializer):
    """All 1."""

    def _draw(self, generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        return np.ones(shape)


class GlorotUniform(Initializer):
    """Uniform within ``sqrt(6 / (fan_in + fan_out))``."""

    def _draw(self, generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        fan_in, fan_out = fans(shape)
        return _uniform(generator, shape, math.sqrt(6 / (fan_in + fan_out)))


class GlorotNormal(Initializer):
    """Normal of deviation ``sqrt(2 / (fan_in + fan_out))``, cut at two deviations."""

    def _draw(self, generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        fan_in, fan_out = fans(shape)
        return _cut_normal(generator, shape, math.sqrt(2 / (fan_in + fan_out)))


class HeUniform(Initializer):
    """Uniform within ``sqrt(6 / fan_in)``."""

    def _draw(self, generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        return _uniform(generator, shape, math.sqrt(6 / fans(shape)[0]))


class HeNormal(Initializer):
    """Normal of deviation ``sqrt(2 / fan_in)``, cut at two deviations."""

    def _draw(self, generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        return _cut_normal(generator, shape, math.sqrt(2 / fans(shape)[0]))


INITIALIZERS: Mapping[str, type[Initializer]] = MappingProxyType(
    {
        "zeros": Zeros,
        "ones": Ones,
        "glorot_uniform": GlorotUniform,
        "glorot_normal": GlorotNormal,
        "he_uniform": HeUniform,
        "he_normal": HeNormal,
    }
)

Drawn = Callable[..., Any]


def fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return how many inputs an output of a weight of Keras's shape has, and how many outputs an input; at least 1."""
    if len(shape) < 2:
        n = max(math.prod(shape), 1)
        return n, n
    taps = math.prod(shape[:-2])
    return max(taps * shape[-2], 1), max(taps * shape[-1], 1)


def found(function: str, name: str, value: Any) -> Drawn:
    """Return the initializer that an argument names, or is.

    Raises
    ------
    OptionError
        An unknown name.
    ArgumentTypeError
        Neither a name nor callable.
    """
    rule = f"one of {', '.join(map(repr, INITIALIZERS))} or a callable (shape, dtype) -> array"
    if isinstance(value, str):
        if value not in INITIALIZERS:
            raise OptionError(f"{function}: {name} = {shown(value)}, expected {rule}")
        return INITIALIZERS[value]()
    if isinstance(value, type) and issubclass(value, Initializer):
        return value()
    if not callable(value):
        kind = type(value).__name__
        raise ArgumentTypeError(f"{function}: {name} = {shown(value)} is a {kind}, expected {rule}")
    return value  # type: ignore[no-any-return]


def drawn(function: str, name: str, initializer: Drawn, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Return the initial value of a weight; raise `ShapeError` where a user's callable gives another shape."""
    array = np.asarray(initializer(shape, dtype))
    if array.shape != shape:
        raise ShapeError(f"{function}: {name} returned shape {array.shape}, expected {shape}")
    return array.astype(dtype)


def config_of(initializer: Drawn) -> Any:
    """Return what `from_config` reads: a name, or (name, seed); None of a user's callable."""
    for name, kind in INITIALIZERS.items():
        if type(initializer) is kind:
            return name if initializer.seed is None else [name, initializer.seed]
    return None


def from_config(value: Any) -> Any:
    """Return what `config_of` describes."""
    if isinstance(value, list):
        return INITIALIZERS[value[0]](seed=value[1])
    return "zeros" if value is None else value


def _uniform(generator: np.random.Generator, shape: tuple[int, ...], limit: float) -> np.ndarray:
    return generator.uniform(-limit, limit, shape)


def _cut_normal(generator: np.random.Generator, shape: tuple[int, ...], deviation: float) -> np.ndarray:
    values = generator.standard_normal(shape)
    while (outside := np.abs(values) > 2).any():
        values[outside] = generator.standard_normal(int(outside.sum()))
    return values * (deviation / _CUT_DEVIATION)
