"""Transposed convolution."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastconv import grad
from fastconv.api.conv_transpose import conv_transpose2d
from fastconv.errors import OptionError
from fastconv.geometry.arguments import integer, positive, shown
from fastconv.geometry.padding import effective_kernel
from fastconv.nn import initializers
from fastconv.nn.layers import arguments
from fastconv.nn.layers.base import Shape
from fastconv.nn.layers.convolution import WindowLayer
from fastconv.nn.layers.parameters import CONVOLUTION
from fastconv.nn.layers.products import LAST


class Conv2DTranspose(WindowLayer):
    """Convolution that enlarges images, as Keras's: `fastconv.conv_transpose2d`.

    Parameters
    ----------
    filters : int
        Output channels.
    kernel_size, strides, padding, data_format, dilation_rate, activation, use_bias, kernel_initializer,
    bias_initializer
        As in `Conv2D`.
    output_padding : int or (int, int), optional
        Rows and columns at the end, below the stride. By default the output of "same" is `strides` times as large as
        the input, that of "valid" ``(n - 1) * stride + max(K, stride)``, with ``K = dilation_rate * (k - 1) + 1``.
    **keywords
        See `Layer`.

    Notes
    -----
    Weights: kernel (KH, KW, filters, IC) and bias (filters,). With `output_padding` the output has ``(n - 1) * stride +
    K + output_padding`` rows for "valid", ``(n - 1) * stride + K % 2 + output_padding`` for "same".
    """

    def __init__(
        self,
        filters: int,
        kernel_size: Any,
        strides: Any = (1, 1),
        padding: str = "valid",
        output_padding: Any = None,
        data_format: str | None = None,
        dilation_rate: Any = (1, 1),
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        **keywords: Any,
    ):
        super().__init__(
            kernel_size, strides, padding, data_format, dilation_rate, activation, use_bias, bias_initializer, keywords
        )
        kind = "Conv2DTranspose"
        self.filters = positive(kind, "filters", filters)
        self.kernel_initializer = initializers.found(kind, "kernel_initializer", kernel_initializer)
        self.output_padding = None if output_padding is None else self._added(output_padding)

    def _added(self, value: Any) -> arguments.Pair:
        """Return the output padding of both axes."""
        kind, rule = "Conv2DTranspose", "None, an int or 2 ints, each from 0 to below the stride"
        items = value if isinstance(value, (tuple, list)) else (value, value)
        numbers = tuple(integer(kind, "output_padding", item, rule) for item in items)
        if len(numbers) != 2 or not all(0 <= n < s for n, s in zip(numbers, self.strides, strict=False)):
            shown_stride = f"strides = {self.strides}"
            raise OptionError(f"{kind}: output_padding = {shown(value)}, expected {rule} ({shown_stride})")
        return numbers[0], numbers[1]

    @property
    def pads(self) -> tuple[arguments.Pair, arguments.Pair]:
        """What is cropped before and after each axis of the whole result; negative: added."""
        each = zip(self.kernel_size, self.strides, self.dilation_rate, self.output_padding or (None, None), strict=True)
        height, width = (self._pads(*axis) for axis in each)
        return height, width

    def _pads(self, kernel: int, stride: int, dilation: int, added: int | None) -> arguments.Pair:
        K = effective_kernel(kernel, dilation)
        if self.padding == "valid":
            return 0, K - max(K, stride) if added is None else -added
        # Keras pads the input, spread by the stride, with so much, and convolves.
        total = stride + K - 2 if added is None else K + K % 2 - 2 + added
        before = min(total - total // 2, K - 1)
        return K - 1 - before, K - 1 - (total - before)

    def _result(self, sample: Shape) -> Shape:
        each = zip(sample[:2], self.kernel_size, self.strides, self.dilation_rate, self.pads, strict=True)
        sizes = ((n - 1) * s + effective_kernel(k, d) - sum(pads) for n, k, s, d, pads in each)
        return (*sizes, self.filters)

    def _make(self, sample: Shape) -> None:
        shape = *self.kernel_size, self.filters, sample[2]
        self.add_parameter("kernel", shape, self.kernel_initializer, CONVOLUTION)
        self._add_bias(self.filters)

    def _options(self) -> tuple[Any, ...]:
        """Return stride, padding, output padding, groups and dilation, as the operation takes them."""
        return self.strides, self.pads, 0, 1, self.dilation_rate

    def _sums(self, x: np.ndarray, activation: str | None, out: np.ndarray | None) -> np.ndarray:
        kernel = self.parameters[0].value
        more: dict[str, Any] = {"layout": LAST, "activation": activation, "out": out}
        return conv_transpose2d(x, kernel, self._bias(), *self._options(), **more)

    def _gradients(self, dy: np.ndarray, x: np.ndarray, wanted: bool) -> np.ndarray | None:
        kernel = self.parameters[0].value
        return self._taken(grad.conv_transpose2d_vjp(dy, x, kernel, self._bias(), *self._options(), layout=LAST))

    def macs(self) -> int:
        """Return the multiplications of one sample, those with outputs that are cropped included."""
        return math.prod(self._input) * math.prod(self.kernel_size) * self.filters

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make a layer like this one."""
        mine: dict[str, Any] = {"filters": self.filters, "output_padding": self.output_padding}
        mine["kernel_initializer"] = initializers.config_of(self.kernel_initializer)
        return super().get_config() | mine
