"""Dropout."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastconv.errors import OptionError, UnsupportedError
from fastconv.geometry.arguments import integer
from fastconv.nn import random
from fastconv.nn.layers import arguments
from fastconv.nn.layers.base import Layer


class Dropout(Layer):
    """In training, a share of the numbers is set to 0 and the others divided by what is left, as Keras's.

    Parameters
    ----------
    rate : float
        The share, from 0 to below 1.
    noise_shape : None
    seed : int, optional
        For a generator of its own; by default that of `set_random_seed`.
    **keywords
        See `Layer`.

    References
    ----------
    N. Srivastava et al., Dropout: a simple way to prevent neural networks from overfitting, 2014, JMLR 15:1929
    """

    def __init__(self, rate: float, noise_shape: Any = None, seed: int | None = None, **keywords: Any):
        super().__init__(**keywords)
        rule = "a number from 0 to below 1"
        self.rate = arguments.number("Dropout", "rate", rate, 0, 1, rule)
        if self.rate == 1:
            raise OptionError(f"Dropout: rate = {rate}, expected {rule}")
        if noise_shape is not None:
            raise UnsupportedError("Dropout: noise_shape is not supported, expected None")
        self.seed = None if seed is None else abs(integer("Dropout", "seed", seed))
        self._own = None if self.seed is None else random.generator(self.seed)

    def forward(self, x: np.ndarray, training: bool = False, activate: bool = True) -> np.ndarray:
        """Return the output; see `Layer.forward`."""
        if not training:
            return x
        if not self.rate:
            self._saved = None
            return x
        noise = self.buffer("noise", x.shape)
        (self._own or random.generator()).random(dtype=self.dtype.type, out=noise)
        mask = self.buffer("mask", x.shape)
        np.greater_equal(noise, self.rate, out=mask, casting="unsafe")
        mask *= self.dtype.type(1 / (1 - self.rate))
        self._saved = mask
        return np.multiply(x, mask, out=noise)

    def backward(self, dy: np.ndarray, wanted: bool = True, activated: bool = False) -> np.ndarray | None:
        """Return the gradient at the input; see `Layer.backward`."""
        return dy if self._saved is None else dy * self._saved

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make a layer like this one."""
        return super().get_config() | {"rate": self.rate, "seed": self.seed}
