"""Layers of vectors: dense, flattened, activated."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastconv.api.conv import pointwise_conv2d
from fastconv.geometry.arguments import positive
from fastconv.nn import activations, initializers
from fastconv.nn.layers import arguments
from fastconv.nn.layers.base import Layer, Shape
from fastconv.nn.layers.parameters import MATRIX
from fastconv.nn.layers.products import LAST, ProductLayer


class Dense(ProductLayer):
    """``activation(x @ kernel + bias)`` over the last axis, as Keras's: `fastconv.pointwise_conv2d`.

    Parameters
    ----------
    units : int
        Outputs.
    activation : str, optional
        See `fastconv.nn.activations`.
    use_bias : bool
    kernel_initializer, bias_initializer : str or callable
    **keywords
        See `Layer`.

    Notes
    -----
    Weights: kernel (in, units) and bias (units,). The batch is one row of pixels whose channels are the features.
    """

    def __init__(
        self,
        units: int,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        **keywords: Any,
    ):
        super().__init__(activation, **keywords)
        self.units = positive("Dense", "units", units)
        self.use_bias = arguments.flag("Dense", "use_bias", use_bias)
        self.kernel_initializer = initializers.found("Dense", "kernel_initializer", kernel_initializer)
        self.bias_initializer = initializers.found("Dense", "bias_initializer", bias_initializer)

    def _result(self, sample: Shape) -> Shape:
        return (*sample[:-1], self.units)

    def _make(self, sample: Shape) -> None:
        self.add_parameter("kernel", (sample[-1], self.units), self.kernel_initializer, MATRIX)
        if self.use_bias:
            self.add_parameter("bias", (self.units,), self.bias_initializer)

    @property
    def options(self) -> tuple[Any, ...]:
        """Stride, padding, dilation and groups, as operations take them."""
        return 1, 0, 1, 1

    def _bias(self) -> np.ndarray | None:
        return self.parameters[1].value if self.use_bias else None

    def _sums(self, x: np.ndarray, activation: str | None, out: np.ndarray | None) -> np.ndarray:
        pixels = x.reshape(1, 1, -1, self._input[-1])
        row = None if out is None else out.reshape(1, 1, -1, self.units)
        kernel = self.parameters[0].value
        y = pointwise_conv2d(pixels, kernel, self._bias(), layout=LAST, activation=activation, out=row)
        return y.reshape(len(x), *self._output) if out is None else out

    def _as_pixels(self, x: np.ndarray) -> np.ndarray:
        return x.reshape(1, 1, -1, x.shape[-1])

    def macs(self) -> int:
        """Return the multiplications of one sample."""
        return math.prod(self._input) * self.units

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make a layer like this one."""
        mine = {"units": self.units, "use_bias": self.use_bias}
        names = ("kernel_initializer", "bias_initializer")
        return super().get_config() | mine | {name: initializers.config_of(getattr(self, name)) for name in names}


class Flatten(Layer):
    """Samples as vectors, as Keras's: the last axis, that of channels, runs fastest.

    Parameters
    ----------
    data_format : {None, "channels_last"}
    **keywords
        See `Layer`.
    """

    def __init__(self, data_format: str | None = None, **keywords: Any):
        super().__init__(**keywords)
        arguments.data_format("Flatten", data_format)

    def _result(self, sample: Shape) -> Shape:
        return (math.prod(sample),)

    def forward(self, x: np.ndarray, training: bool = False, activate: bool = True) -> np.ndarray:
        """Return the output, a view; see `Layer.forward`."""
        return x.reshape(len(x), *self._output)

    def backward(self, dy: np.ndarray, wanted: bool = True, activated: bool = False) -> np.ndarray | None:
        """Return the gradient at the input; see `Layer.backward`."""
        return dy.reshape(len(dy), *self._input)


class Activation(Layer):
    """An activation by itself, as Keras's.

    Parameters
    ----------
    activation : str or function
        See `fastconv.nn.activations`.
    **keywords
        See `Layer`.
    """

    def __init__(self, activation: Any, **keywords: Any):
        super().__init__(**keywords)
        self.activation = activations.canonical("Activation", activation)

    def forward(self, x: np.ndarray, training: bool = False, activate: bool = True) -> np.ndarray:
        """Return the output; see `Layer.forward`."""
        y = x if self.activation is None or not activate else activations.FUNCTIONS[self.activation](x)
        if training:
            self._saved = x, y
        return y

    def backward(self, dy: np.ndarray, wanted: bool = True, activated: bool = False) -> np.ndarray | None:
        """Return the gradient at the input; see `Layer.backward`."""
        if activated:
            return dy
        x, y = self._saved
        return activations.gradient(self.activation, dy, x, y, self.buffer("slopes", dy.shape))

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make a layer like this one."""
        return super().get_config() | {"activation": self.activation}
