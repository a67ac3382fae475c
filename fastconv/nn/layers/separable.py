"""Depthwise separable convolution."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastconv import grad
from fastconv.api.separable import separable_conv2d
from fastconv.geometry.arguments import positive
from fastconv.nn import initializers
from fastconv.nn.layers.base import Shape
from fastconv.nn.layers.convolution import WindowLayer
from fastconv.nn.layers.parameters import CONVOLUTION, DEPTHWISE
from fastconv.nn.layers.products import LAST


class SeparableConv2D(WindowLayer):
    """A depthwise convolution, then one of 1x1, as Keras's: `fastconv.separable_conv2d` in one pass.

    Parameters
    ----------
    filters : int
        Output channels.
    kernel_size, strides, padding, data_format, dilation_rate, activation, use_bias, bias_initializer
        As in `Conv2D`.
    depth_multiplier : int
        Depthwise kernels for each input channel.
    depthwise_initializer, pointwise_initializer : str or callable
    **keywords
        See `Layer`.

    Notes
    -----
    Weights: depthwise_kernel (KH, KW, C, M), pointwise_kernel (1, 1, C * M, filters) and bias (filters,).
    """

    def __init__(
        self,
        filters: int,
        kernel_size: Any,
        strides: Any = (1, 1),
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: Any = (1, 1),
        depth_multiplier: int = 1,
        activation: Any = None,
        use_bias: bool = True,
        depthwise_initializer: Any = "glorot_uniform",
        pointwise_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        **keywords: Any,
    ):
        super().__init__(
            kernel_size, strides, padding, data_format, dilation_rate, activation, use_bias, bias_initializer, keywords
        )
        kind = "SeparableConv2D"
        self.filters = positive(kind, "filters", filters)
        self.depth_multiplier = positive(kind, "depth_multiplier", depth_multiplier)
        self.depthwise_initializer = initializers.found(kind, "depthwise_initializer", depthwise_initializer)
        self.pointwise_initializer = initializers.found(kind, "pointwise_initializer", pointwise_initializer)

    def _result(self, sample: Shape) -> Shape:
        return (*self._sizes(sample), self.filters)

    def _make(self, sample: Shape) -> None:
        M = self.depth_multiplier
        shape = *self.kernel_size, sample[2], M
        self.add_parameter("depthwise_kernel", shape, self.depthwise_initializer, DEPTHWISE)
        mixed = 1, 1, sample[2] * M, self.filters
        self.add_parameter("pointwise_kernel", mixed, self.pointwise_initializer, CONVOLUTION)
        self._add_bias(self.filters)

    def _sums(self, x: np.ndarray, activation: str | None, out: np.ndarray | None) -> np.ndarray:
        depthwise, pointwise = (p.value for p in self.parameters[:2])
        options = self.strides, self.padding, self.dilation_rate
        more: dict[str, Any] = {"layout": LAST, "activation": activation, "out": out}
        return separable_conv2d(x, depthwise, pointwise, self._bias(), *options, **more)

    def _gradients(self, dy: np.ndarray, x: np.ndarray, wanted: bool) -> np.ndarray | None:
        depthwise, pointwise = (p.value for p in self.parameters[:2])
        options = self.strides, self.padding, self.dilation_rate
        found = grad.separable_conv2d_vjp(dy, x, depthwise, pointwise, self._bias(), *options, layout=LAST)
        return self._taken(found)

    def macs(self) -> int:
        """Return the multiplications of one sample."""
        OH, OW, OC = self._output
        channels = self._input[2] * self.depth_multiplier
        return OH * OW * channels * (math.prod(self.kernel_size) + OC)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make a layer like this one."""
        mine: dict[str, Any] = {"filters": self.filters, "depth_multiplier": self.depth_multiplier}
        for name in ("depthwise_initializer", "pointwise_initializer"):
            mine[name] = initializers.config_of(getattr(self, name))
        return super().get_config() | mine
