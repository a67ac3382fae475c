"""Batch normalization."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastconv.errors import UnsupportedError
from fastconv.geometry.arguments import integer, shown
from fastconv.nn import initializers
from fastconv.nn.layers import arguments
from fastconv.nn.layers.base import Layer, Shape

_ROLES = ("beta", "gamma", "moving_mean", "moving_variance")


def channel_sums(dy: np.ndarray) -> np.ndarray:
    """Return the sums over all axes but the last."""
    # Long rows first: they are added at the speed of memory, and in fewer, so more exact, steps.
    rows = dy.reshape(math.prod(dy.shape[:-2]), -1).sum(axis=0)
    sums: np.ndarray = rows.reshape(-1, dy.shape[-1]).sum(axis=0)
    return sums


class BatchNormalization(Layer):
    """Channels with mean 0 and variance 1 over a batch, then scaled and shifted, as Keras's.

    Parameters
    ----------
    axis : int
        -1: the channels.
    momentum : float
        Of the moving mean and variance, which `predict` and `evaluate` use instead of the batch's.
    epsilon : float
        Added to the variance.
    center, scale : bool
        Whether there is a beta, and a gamma.
    beta_initializer, gamma_initializer, moving_mean_initializer, moving_variance_initializer : str or callable
    **keywords
        See `Layer`. With ``trainable=False`` the layer normalizes by the moving statistics in training, too.

    Notes
    -----
    Weights: gamma, beta, moving_mean and moving_variance, (C,) each; the last two are not trainable. The variance is
    that of the batch, divided by its size.

    References
    ----------
    S. Ioffe, C. Szegedy, Batch normalization, 2015, arXiv:1502.03167
    """

    def __init__(
        self,
        axis: int = -1,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        moving_mean_initializer: Any = "zeros",
        moving_variance_initializer: Any = "ones",
        **keywords: Any,
    ):
        super().__init__(**keywords)
        kind = "BatchNormalization"
        self.axis = integer(kind, "axis", axis)
        self.momentum = arguments.number(kind, "momentum", momentum, 0, 1, "a number from 0 to 1")
        self.epsilon = arguments.number(kind, "epsilon", epsilon, 0, math.inf, "a number of at least 0")
        self.center, self.scale = arguments.flag(kind, "center", center), arguments.flag(kind, "scale", scale)
        given = beta_initializer, gamma_initializer, moving_mean_initializer, moving_variance_initializer
        each = zip(_ROLES, given, strict=True)
        self._initializers = {role: initializers.found(kind, f"{role}_initializer", value) for role, value in each}
        self._pending: tuple[np.ndarray, np.ndarray] | None = None

    def _result(self, sample: Shape) -> Shape:
        if self.axis not in (-1, len(sample)):
            raise UnsupportedError(f"{self.where}: axis = {shown(self.axis)}, expected -1: channels are last")
        return sample

    def _make(self, sample: Shape) -> None:
        roles = (("gamma", self.scale, True), ("beta", self.center, True))
        for role, there, trainable in (*roles, ("moving_mean", True, False), ("moving_variance", True, False)):
            if there:
                self.add_parameter(role, sample[-1:], self._initializers[role], trainable=trainable)

    def _value(self, role: str, default: float) -> Any:
        """Return a weight's array, or a number where the layer does not have it."""
        return next((p.value for p in self.parameters if p.name == role), self.dtype.type(default))

    def forward(self, x: np.ndarray, training: bool = False, activate: bool = True) -> np.ndarray:
        """Return the output; see `Layer.forward`."""
        gamma, beta = self._value("gamma", 1), self._value("beta", 0)
        if not (training and self.trainable):
            inverse = self._inverse(self._value("moving_variance", 1))
            if training:
                self._saved = None
            return x * (gamma * inverse) + (beta - self._value("moving_mean", 0) * gamma * inverse)
        count = self.dtype.type(max(x.size // x.shape[-1], 1))
        mean = channel_sums(x) / count
        scaled = np.subtract(x, mean, out=self.buffer("scaled", x.shape))
        y = np.multiply(scaled, scaled, out=self.buffer("normalized", x.shape))
        variance = channel_sums(y) / count
        inverse = self._inverse(variance)
        scaled *= inverse
        np.multiply(scaled, gamma, out=y)
        y += beta
        self._saved = scaled, inverse, count
        self._pending = mean, variance
        return y

    def backward(self, dy: np.ndarray, wanted: bool = True, activated: bool = False) -> np.ndarray | None:
        """Return the gradient at the input; see `Layer.backward`."""
        gamma = self._value("gamma", 1)
        if self._saved is None:
            return dy * (gamma * self._inverse(self._value("moving_variance", 1)))
        scaled, inverse, count = self._saved
        shift, scale = channel_sums(dy), channel_sums(dy * scaled)
        for parameter in self.parameters:
            parameter.gradient = {"gamma": scale, "beta": shift}.get(parameter.name)
        dx = dy - scaled * (scale / count)
        dx -= shift / count
        dx *= gamma * inverse
        return dx

    def commit(self) -> None:
        """Move the moving statistics towards those of the last batch."""
        if self._pending is None:
            return
        rate = self.dtype.type(1 - self.momentum)
        for parameter, value in zip(self.parameters[-2:], self._pending, strict=True):
            parameter.set(parameter.value + (value - parameter.value) * rate)
        self._pending = None

    def _inverse(self, variance: np.ndarray) -> np.ndarray:
        """Return one over the deviation."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return 1 / np.sqrt(variance + self.dtype.type(self.epsilon))  # type: ignore[no-any-return]

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make a layer like this one."""
        names = ("axis", "momentum", "epsilon", "center", "scale")
        mine = {name: getattr(self, name) for name in names}
        drawn = {f"{role}_initializer": initializers.config_of(f) for role, f in self._initializers.items()}
        return super().get_config() | mine | drawn
