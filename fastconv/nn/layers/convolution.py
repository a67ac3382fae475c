"""Convolutions with one weight: whole, and of every channel by itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastconv.api.conv import conv2d, depthwise_conv2d
from fastconv.errors import OptionError, ShapeError
from fastconv.geometry.arguments import positive
from fastconv.geometry.padding import output_size, resolve
from fastconv.nn import initializers
from fastconv.nn.layers import arguments
from fastconv.nn.layers.base import ActivatedLayer, Shape, shown_shape
from fastconv.nn.layers.parameters import CONVOLUTION, DEPTHWISE
from fastconv.nn.layers.products import LAST, ProductLayer


class WindowLayer(ActivatedLayer):
    """A layer with a kernel that moves over an image: its arguments and sizes."""

    _axes = 3

    def __init__(
        self,
        kernel_size: Any,
        strides: Any,
        padding: Any,
        data_format: Any,
        dilation_rate: Any,
        activation: Any,
        use_bias: Any,
        bias_initializer: Any,
        keywords: dict[str, Any],
    ):
        super().__init__(activation, **keywords)
        kind = type(self).__name__
        arguments.data_format(kind, data_format)
        self.kernel_size = arguments.pair(kind, "kernel_size", kernel_size)
        self.strides = arguments.pair(kind, "strides", strides)
        self.dilation_rate = arguments.pair(kind, "dilation_rate", dilation_rate)
        self.padding = arguments.padding(kind, padding)
        self.use_bias = arguments.flag(kind, "use_bias", use_bias)
        self.bias_initializer = initializers.found(kind, "bias_initializer", bias_initializer)

    def _sizes(self, sample: Shape) -> tuple[int, int]:
        """Return the output's height and width."""
        axes = sample[:2], self.kernel_size, self.strides, self.dilation_rate
        pads = resolve(self.where, self.padding, *axes)
        each = zip(sample[:2], pads, *axes[1:], strict=True)
        height, width = (output_size(*axis) for axis in each)
        return height, width

    def _add_bias(self, size: int) -> None:
        if self.use_bias:
            self.add_parameter("bias", (size,), self.bias_initializer)

    def _bias(self) -> np.ndarray | None:
        return self.parameters[-1].value if self.use_bias else None

    def _taken(self, gradients: Sequence[np.ndarray | None]) -> np.ndarray | None:
        """Set the gradients of the weights, which stand in their order behind that of the input; return this one."""
        for parameter, gradient in zip(self.parameters, gradients[1:], strict=False):
            parameter.gradient = gradient
        return gradients[0]

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make a layer like this one."""
        names = ("kernel_size", "strides", "padding", "dilation_rate", "use_bias")
        mine = {name: getattr(self, name) for name in names}
        return super().get_config() | mine | {"bias_initializer": initializers.config_of(self.bias_initializer)}


class Conv2D(ProductLayer, WindowLayer):
    """Convolution of images, as Keras's: `fastconv.conv2d` with the activation fused.

    Parameters
    ----------
    filters : int
        Output channels.
    kernel_size, strides, dilation_rate : int or (int, int)
    padding : {"valid", "same"}
    data_format : {None, "channels_last"}
    groups : int
    activation : str, optional
        See `fastconv.nn.activations`.
    use_bias : bool
    kernel_initializer, bias_initializer : str or callable
    **keywords
        `name`, `trainable`, `dtype`, `input_shape`: see `Layer`.

    Notes
    -----
    Weights: kernel (KH, KW, IC/groups, OC) and bias (OC,).
    """

    def __init__(
        self,
        filters: int,
        kernel_size: Any,
        strides: Any = (1, 1),
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: Any = (1, 1),
        groups: int = 1,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        **keywords: Any,
    ):
        super().__init__(
            kernel_size, strides, padding, data_format, dilation_rate, activation, use_bias, bias_initializer, keywords
        )
        self.filters = positive("Conv2D", "filters", filters)
        self.groups = positive("Conv2D", "groups", groups)
        if self.filters % self.groups:
            raise OptionError(f"Conv2D: filters = {self.filters} is no multiple of groups = {self.groups}")
        self.kernel_initializer = initializers.found("Conv2D", "kernel_initializer", kernel_initializer)

    def _result(self, sample: Shape) -> Shape:
        if sample[2] % self.groups:
            expected = f"expected a multiple of groups = {self.groups} channels"
            raise ShapeError(f"{self.where}: input has shape {shown_shape(sample)}, {expected}")
        return (*self._sizes(sample), self.filters)

    def _make(self, sample: Shape) -> None:
        shape = *self.kernel_size, sample[2] // self.groups, self.filters
        self.add_parameter("kernel", shape, self.kernel_initializer, CONVOLUTION)
        self._add_bias(self.filters)

    @property
    def options(self) -> tuple[Any, ...]:
        """Stride, padding, dilation and groups, as operations take them."""
        return self.strides, self.padding, self.dilation_rate, self.groups

    def _sums(self, x: np.ndarray, activation: str | None, out: np.ndarray | None) -> np.ndarray:
        kernel = self.parameters[0].value
        return conv2d(x, kernel, self._bias(), *self.options, layout=LAST, activation=activation, out=out)

    def macs(self) -> int:
        """Return the multiplications of one sample, those in the padding included."""
        return math.prod(self._output) * math.prod(self.kernel_size) * (self._input[2] // self.groups)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make a layer like this one."""
        mine = {"filters": self.filters, "groups": self.groups}
        mine["kernel_initializer"] = initializers.config_of(self.kernel_initializer)
        return super().get_config() | mine


class DepthwiseConv2D(ProductLayer, WindowLayer):
    """Convolution of every channel with kernels of its own, as Keras's: `fastconv.depthwise_conv2d`.

    Parameters
    ----------
    kernel_size, strides, padding, data_format, dilation_rate, activation, use_bias, bias_initializer
        As in `Conv2D`.
    depth_multiplier : int
        Kernels, and so output channels, for each input channel.
    depthwise_initializer : str or callable
    **keywords
        See `Layer`.

    Notes
    -----
    Weights: kernel (KH, KW, C, depth_multiplier) and bias (C * depth_multiplier,).
    """

    def __init__(
        self,
        kernel_size: Any,
        strides: Any = (1, 1),
        padding: str = "valid",
        depth_multiplier: int = 1,
        data_format: str | None = None,
        dilation_rate: Any = (1, 1),
        activation: Any = None,
        use_bias: bool = True,
        depthwise_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        **keywords: Any,
    ):
        super().__init__(
            kernel_size, strides, padding, data_format, dilation_rate, activation, use_bias, bias_initializer, keywords
        )
        kind = "DepthwiseConv2D"
        self.depth_multiplier = positive(kind, "depth_multiplier", depth_multiplier)
        self.depthwise_initializer = initializers.found(kind, "depthwise_initializer", depthwise_initializer)

    def _result(self, sample: Shape) -> Shape:
        return (*self._sizes(sample), sample[2] * self.depth_multiplier)

    def _make(self, sample: Shape) -> None:
        shape = *self.kernel_size, sample[2], self.depth_multiplier
        self.add_parameter("kernel", shape, self.depthwise_initializer, DEPTHWISE)
        self._add_bias(sample[2] * self.depth_multiplier)

    @property
    def options(self) -> tuple[Any, ...]:
        """Stride, padding, dilation and groups, as operations take them."""
        return self.strides, self.padding, self.dilation_rate, self._input[2]

    def _sums(self, x: np.ndarray, activation: str | None, out: np.ndarray | None) -> np.ndarray:
        kernel = self.parameters[0].value
        return depthwise_conv2d(x, kernel, self._bias(), *self.options[:3], layout=LAST, activation=activation, out=out)

    def macs(self) -> int:
        """Return the multiplications of one sample."""
        return math.prod(self._output) * math.prod(self.kernel_size)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make a layer like this one."""
        config = super().get_config() | {"depth_multiplier": self.depth_multiplier}
        return config | {"depthwise_initializer": initializers.config_of(self.depthwise_initializer)}
