"""A convolution and a maximum pooling as one step: the convolution's output is never stored but for one image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fastconv.dispatch import pooling
from fastconv.dispatch.plan import Prepared, free_buffers, prepare
from fastconv.geometry.conv import output_shape
from fastconv.geometry.windows import Axis

# Elements that the pool kernels compare as they are.
DTYPES = ("float32", "float64", "int32", "int64")


class Pooled:
    """A prepared convolution whose output is pooled: the maximum of each `size` x `size` window, `size` apart.

    Each image goes through a buffer that stays in cache, if it is small enough, from the convolution to the pool.
    """

    __slots__ = ("_image", "_out", "_pool")

    def __init__(self, prepared: Prepared, size: int):
        g = prepared.geometry
        self._image = prepared
        if g.N > 1:
            names = prepared.activation, prepared.algorithm, prepared.precision
            self._image = prepare("plan_conv2d", g._replace(N=1), *names)
        planes, lanes = (g.OC, 1) if g.layout == "channels_first" else (1, g.OC)
        axes = tuple(Axis(n, n // size, size, size).trimmed for n in (g.OH, g.OW))
        self._pool = pooling.prepare("max", g.dtype, planes, lanes, axes)

    def pack(self, weights: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the weight arrays in the order that `run` reads; see `Prepared.pack`."""
        return self._image.pack(weights)

    def run(
        self,
        x: np.ndarray,
        packed: Sequence[np.ndarray],
        bias: np.ndarray | None,
        residual: np.ndarray | None,
        out: np.ndarray,
    ) -> None:
        """Fill `out` as `Prepared.run` does; `residual` has the shape of the convolution's output."""
        if out.size == 0:
            return
        image = self._image
        shape = output_shape(image.geometry)
        size = int(np.prod(shape)) * image.dtype.itemsize
        buffer = free_buffers.take(size)
        try:
            middle = buffer[:size].view(image.dtype).reshape(shape)
            N = image.geometry.N
            inputs, outputs = (a if a.ndim == 4 else a[None] for a in (x, out))
            added = residual if residual is None or residual.ndim == 4 else residual[None]
            for n in range(0, len(inputs), N):
                one = None if added is None else added[n : n + N]
                image.run(inputs[n : n + N], packed, bias, one, middle)
                self._pool.run(middle, outputs[n : n + N])
        finally:
            free_buffers.give_back(buffer)
