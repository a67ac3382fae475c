"""Pooling and upsampling."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from fastconv import grad
from fastconv.api.adaptive import global_avg_pool
from fastconv.api.moving import execute
from fastconv.api.pool import avg_pool2d, max_pool2d
from fastconv.api.pooling import Pool, maxima
from fastconv.api.resize import interpolate
from fastconv.api.upsample import nearest_unpool2d
from fastconv.dispatch.resampling import moving_seconds
from fastconv.geometry.arguments import check_keyword
from fastconv.geometry.padding import output_size, resolve
from fastconv.geometry.pool import pool_geometry
from fastconv.grad.windows import Maxima, maxima_pullback
from fastconv.nn.layers import arguments
from fastconv.nn.layers.base import Layer, Shape
from fastconv.nn.layers.products import LAST

INTERPOLATIONS = ("nearest", "bilinear")


class _Pooling(Layer):
    """Windows over images, reduced."""

    _axes = 3

    def __init__(
        self,
        pool_size: Any = (2, 2),
        strides: Any = None,
        padding: str = "valid",
        data_format: str | None = None,
        name: str | None = None,
        **keywords: Any,
    ):
        super().__init__(name=name, **keywords)
        kind = type(self).__name__
        arguments.data_format(kind, data_format)
        self.pool_size = arguments.pair(kind, "pool_size", pool_size)
        self.strides = self.pool_size if strides is None else arguments.pair(kind, "strides", strides)
        self.padding = arguments.padding(kind, padding)

    def _result(self, sample: Shape) -> Shape:
        pads = resolve(self.where, self.padding, sample[:2], self.pool_size, self.strides, (1, 1))
        each = zip(sample[:2], pads, self.pool_size, self.strides, (1, 1), strict=True)
        return (*(output_size(*axis) for axis in each), sample[2])

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make a layer like this one."""
        mine = {name: getattr(self, name) for name in ("pool_size", "strides", "padding")}
        return super().get_config() | mine


class MaxPooling2D(_Pooling):
    """The maximum of windows, as Keras's: `fastconv.max_pool2d`.

    Parameters
    ----------
    pool_size : int or (int, int)
    strides : int or (int, int), optional
        By default the pool size.
    padding : {"valid", "same"}
    data_format : {None, "channels_last"}
    name : str, optional
    **keywords
        See `Layer`.
    """

    def forward(self, x: np.ndarray, training: bool = False, activate: bool = True) -> np.ndarray:
        """Return the output; see `Layer.forward`."""
        if not training:
            y: np.ndarray = max_pool2d(x, self.pool_size, self.strides, self.padding, layout=LAST)
            return y
        kept: _Kept = self.prepared(x.shape, self._keep)
        self._saved = x, kept
        kept.pool.prepared.run(x, kept.out)
        return kept.out

    def backward(self, dy: np.ndarray, wanted: bool = True, activated: bool = False) -> np.ndarray | None:
        """Return the gradient at the input; see `Layer.backward`."""
        x, kept = self._saved
        pullback: Maxima = kept.pullback
        if pullback.program is None:
            return pullback.pull("max_pool2d_vjp", dy, x)
        dx = self.buffer("gradient", x.shape)
        execute(pullback.program, kept.seconds, dy, x, dx)
        return dx

    def _keep(self, shape: Shape) -> _Kept:
        options = self.pool_size, self.strides, self.padding, 1, False, LAST
        g = pool_geometry("max_pool2d", 2, shape, *options)
        pool = maxima(self.dtype, g)
        seconds = moving_seconds(2 * math.prod(shape), self.dtype.itemsize)
        return _Kept(pool, maxima_pullback(self.dtype, g), np.empty(pool.out_shape, self.dtype), seconds)


class _Kept(NamedTuple):
    """Maxima over windows of a batch's shape, their pullback, and the memory of the result.

    What the public functions check and look up at each call is done once.
    """

    pool: Pool
    pullback: Maxima
    out: np.ndarray
    seconds: float


class AveragePooling2D(_Pooling):
    """The average of windows, as Keras's: `fastconv.avg_pool2d`; cells in the padding do not count.

    Parameters
    ----------
    pool_size, strides, padding, data_format, name, **keywords
        As in `MaxPooling2D`.
    """

    def forward(self, x: np.ndarray, training: bool = False, activate: bool = True) -> np.ndarray:
        """Return the output; see `Layer.forward`."""
        out = self.buffer("pooled", (len(x), *self._output)) if training else None
        if training:
            self._saved = x
        return avg_pool2d(x, self.pool_size, self.strides, self.padding, count_include_pad=False, layout=LAST, out=out)

    def backward(self, dy: np.ndarray, wanted: bool = True, activated: bool = False) -> np.ndarray | None:
        """Return the gradient at the input; see `Layer.backward`."""
        options = self.pool_size, self.strides, self.padding
        return grad.avg_pool2d_vjp(dy, self._saved, *options, count_include_pad=False, layout=LAST)[0]


class GlobalAveragePooling2D(Layer):
    """The average of each channel, as Keras's: `fastconv.global_avg_pool`.

    Parameters
    ----------
    data_format : {None, "channels_last"}
    keepdims : bool
        Whether the spatial axes stay, with size 1.
    **keywords
        See `Layer`.
    """

    _axes = 3

    def __init__(self, data_format: str | None = None, keepdims: bool = False, **keywords: Any):
        super().__init__(**keywords)
        arguments.data_format("GlobalAveragePooling2D", data_format)
        self.keepdims = arguments.flag("GlobalAveragePooling2D", "keepdims", keepdims)

    def _result(self, sample: Shape) -> Shape:
        return (1, 1, sample[2]) if self.keepdims else (sample[2],)

    def forward(self, x: np.ndarray, training: bool = False, activate: bool = True) -> np.ndarray:
        """Return the output; see `Layer.forward`."""
        return global_avg_pool(x, layout=LAST, keepdims=self.keepdims)

    def backward(self, dy: np.ndarray, wanted: bool = True, activated: bool = False) -> np.ndarray | None:
        """Return the gradient at the input; see `Layer.backward`."""
        dx = self.buffer("gradient", (len(dy), *self._input))
        dx[...] = dy.reshape(len(dy), 1, 1, -1) / self.dtype.type(self._input[0] * self._input[1])
        return dx

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make a layer like this one."""
        return super().get_config() | {"keepdims": self.keepdims}


class UpSampling2D(Layer):
    """Images enlarged by whole numbers, as Keras's: `fastconv.nearest_unpool2d` or `fastconv.interpolate`.

    Parameters
    ----------
    size : int or (int, int)
    data_format : {None, "channels_last"}
    interpolation : {"nearest", "bilinear"}
    **keywords
        See `Layer`.
    """

    _axes = 3

    def __init__(
        self, size: Any = (2, 2), data_format: str | None = None, interpolation: str = "nearest", **keywords: Any
    ):
        super().__init__(**keywords)
        kind = "UpSampling2D"
        arguments.data_format(kind, data_format)
        self.size = arguments.pair(kind, "size", size)
        check_keyword(kind, "interpolation", interpolation, INTERPOLATIONS)
        self.interpolation = interpolation

    def _result(self, sample: Shape) -> Shape:
        return sample[0] * self.size[0], sample[1] * self.size[1], sample[2]

    def forward(self, x: np.ndarray, training: bool = False, activate: bool = True) -> np.ndarray:
        """Return the output; see `Layer.forward`."""
        out = self.buffer("enlarged", (len(x), *self._output)) if training else None
        if training:
            self._saved = x
        if self.interpolation == "nearest":
            return nearest_unpool2d(x, self.size, layout=LAST, out=out)
        return interpolate(x, scale_factor=self.size, mode="bilinear", layout=LAST, out=out)

    def backward(self, dy: np.ndarray, wanted: bool = True, activated: bool = False) -> np.ndarray | None:
        """Return the gradient at the input; see `Layer.backward`."""
        x = self._saved
        if self.interpolation == "nearest":
            return grad.nearest_unpool2d_vjp(dy, x, self.size, layout=LAST)[0]
        return grad.interpolate_vjp(dy, x, scale_factor=self.size, mode="bilinear", layout=LAST)[0]

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make a layer like this one."""
        return super().get_config() | {"size": self.size, "interpolation": self.interpolation}
