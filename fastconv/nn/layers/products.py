"""Convolutions in training: prepared for a batch's shape, with arrays that stay where they are.

A step of training calls the same operations on arrays of the same shapes thousands of times. So what the public
functions check and look up at each call is done once, and results are written to the same memory. The numbers are those
of `fastconv.conv2d` and of `fastconv.grad`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastconv.api.convolve import Options, find
from fastconv.dispatch.plan import Prepared
from fastconv.grad.problem import gradients_of
from fastconv.nn.layers.base import ActivatedLayer
from fastconv.nn.layers.parameters import Parameter

LAST = "channels_last"


class Product:
    """A convolution of inputs of one shape with a kernel and perhaps a bias, and its gradients.

    Parameters
    ----------
    shape : tuple of int
        (N, H, W, C).
    parameters : list of Parameter
        The kernel, kept as (OC, IC/groups, KH, KW) or (OC, IC), and perhaps a bias.
    options : tuple
        Stride, padding, dilation and groups.
    activation : str or None
        One that the convolution fuses.
    """

    def __init__(
        self, shape: tuple[int, ...], parameters: list[Parameter], options: tuple[Any, ...], activation: str | None
    ):
        self.kernel, *rest = parameters
        self.bias = rest[0] if rest else None
        value = self.kernel.value
        self.weight = value if value.ndim == 4 else value[:, :, None, None]
        stride, padding, dilation, groups = options
        every = Options(stride, padding, dilation, groups, "zeros", LAST)
        about = shape, self.weight.shape, value.dtype
        self.prepared: Prepared = find("conv2d", *about, every._replace(activation=activation))
        self.gradients = gradients_of("conv2d_vjp", *about, every)
        self.out = np.empty(self.prepared.out_shape, value.dtype)
        self.dbias = np.empty(len(value), value.dtype) if rest else None
        self._dx: np.ndarray | None = None
        self._shape = shape

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Return the convolution, activated; the next call overwrites it."""
        bias = None if self.bias is None else self.bias.value
        self.prepared.run_once(x, (self.weight,), bias, None, self.out)
        return self.out

    def pull(self, dy: np.ndarray, x: np.ndarray) -> None:
        """Set the gradients of kernel and bias."""
        kernel = self.kernel
        kernel.gradient = self.gradients.weight(x, dy, self.dbias).reshape(kernel.value.shape)
        if self.bias is not None:
            self.bias.gradient = self.dbias

    def pull_input(self, dy: np.ndarray) -> np.ndarray:
        """Return the gradient of the input; the next call overwrites it."""
        if self._dx is None:
            self._dx = np.empty(self._shape, self.out.dtype)
        if self._dx.size:
            self.gradients.transposed.run_once(dy, (self.weight,), None, None, self._dx)
        return self._dx


class ProductLayer(ActivatedLayer):
    """A layer that is a `Product` of its input, an image, or what `_as_pixels` makes one."""

    @property
    def options(self) -> tuple[Any, ...]:
        """Stride, padding, dilation and groups, as operations take them."""
        raise NotImplementedError

    def _as_pixels(self, x: np.ndarray) -> np.ndarray:
        """Return an input, or an output, as an image."""
        return x

    def _kept_sums(self, x: np.ndarray, activation: str | None) -> np.ndarray:
        image = self._as_pixels(x)
        product: Product = self.prepared(
            (image.shape, activation), lambda key: Product(key[0], self.parameters, self.options, key[1])
        )
        self._in_use = product
        y = product.forward(image)
        return y if image is x else y.reshape(len(x), *self._output)

    def _gradients(self, dy: np.ndarray, x: np.ndarray, wanted: bool) -> np.ndarray | None:
        dy, product = self._as_pixels(dy), self._in_use
        if self.trainable:
            product.pull(dy, self._as_pixels(x))
        dx: np.ndarray | None = product.pull_input(dy).reshape(x.shape) if wanted else None
        return dx
