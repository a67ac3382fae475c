"""Gradients of a convolution's weight and bias, prepared: what is left to do once a problem is known."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from fastconv.dispatch import load, workspace
from fastconv.dispatch.blocking_gradient import gradient_blocking
from fastconv.dispatch.blocking_gradient_unit import unit_blocking
from fastconv.dispatch.choose import pays
from fastconv.dispatch.cost import seconds
from fastconv.dispatch.plan import free_buffers
from fastconv.errors import UnsupportedError
from fastconv.geometry.arrays import address
from fastconv.geometry.conv import ConvGeometry, weight_shape
from fastconv.system import empty
from fastconv.threads import run

# Cycles to add and turn an element of the sums.
_FINISH_CYCLES = 1.5


class PreparedWeightGradient:
    """The gradient of a weight, ready but for the arrays. Immutable, so any number of threads may run it."""

    __slots__ = ("_allowed", "_blocking", "_exact", "_program", "_shape", "_turned", "geometry")

    def __init__(self, g: ConvGeometry, precision: str):
        self.geometry = g
        flat, self._exact = g.flat, True
        self._blocking: Any = gradient_blocking(flat, load.target())
        self._allowed = precision != "strict"
        unit = unit_blocking(flat, load.target()) if self._allowed else None
        if unit is not None and pays(seconds(unit.cycles), seconds(self._blocking.cycles)):
            self._blocking, self._exact = unit, False
        refused = workspace.refusal(self._blocking.scratch_bytes)
        if refused is not None:
            raise UnsupportedError(f"conv_weight: no algorithm keeps the limit: {self.algorithm}: {refused}")
        self._program = load.load(f"{'weight_gradient' if self._exact else 'gradient_unit'}:build")(
            flat, self._blocking
        )
        # As the kernel meets the channels of planes, and of pixels.
        self._turned = g.layout == "channels_last" and g.KD > 1
        self._shape = (g.OC, g.KD, g.ICG, g.KH, g.KW) if self._turned else weight_shape(g)

    @property
    def algorithm(self) -> str:
        """Name of what computes the products: "direct", or "bf16x3" of the matrix unit."""
        return "direct" if self._exact else "bf16x3"

    def ways(self) -> dict[str, Any]:
        """Return the blocking of each way to compute it; None where a way cannot, or is forbidden."""
        flat, target = self.geometry.flat, load.target()
        unit = unit_blocking(flat, target) if self._allowed else None
        return {"bf16x3": unit, "direct": gradient_blocking(flat, target)}

    def run(self, x: np.ndarray, dy: np.ndarray, dbias: np.ndarray | None = None) -> np.ndarray:
        """Return the gradient of the weight, and fill that of the bias; arrays are C-contiguous, of the right dtype."""
        g, b, program = self.geometry, self._blocking, self._program
        if dy.size == 0 or x.size == 0:
            if dbias is not None:
                channels = 1 if g.layout == "channels_first" else dy.ndim - 1
                dbias[...] = dy.sum(tuple(axis for axis in range(dy.ndim) if axis != channels))
            return np.zeros(weight_shape(g), g.dtype)
        dweight = empty(self._shape, g.dtype)
        buffer = free_buffers.take(b.sums * dweight.itemsize)
        try:
            arrays = [address(array) for array in (x, dy, buffer, dweight)]
            io = np.array([*arrays, 0 if dbias is None else address(dbias)], np.int64)
            run(program.bands, program.g, io, b.tasks, b.scratch_bytes, seconds(b.cycles))
            run(program.finish, program.g, io, b.finish_tasks, 0, seconds(b.sums * _FINISH_CYCLES))
        finally:
            free_buffers.give_back(buffer)
        if not self._exact and not _is_finite(dweight, dbias):
            # What is not finite spreads no further than in direct summation.
            return prepare_weight_gradient(g, "strict").run(x, dy, dbias)
        return np.ascontiguousarray(dweight.swapaxes(1, 2)) if self._turned else dweight


def _is_finite(dweight: np.ndarray, dbias: np.ndarray | None) -> bool:
    """Return whether all sums are finite; also False where only their sum overflows."""
    with np.errstate(all="ignore"):
        return bool(np.isfinite(dweight.sum() + (0 if dbias is None else dbias.sum())))


@lru_cache(maxsize=512)
def prepare_weight_gradient(g: ConvGeometry, precision: str) -> PreparedWeightGradient:
    """Return the prepared problem, from the bounded cache if it was met before; `g` has zero padding."""
    return PreparedWeightGradient(g, precision)


workspace.on_change(prepare_weight_gradient.cache_clear)
