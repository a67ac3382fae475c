"""A convolution and what its gradients take: the input's, a transposed convolution; the weight's, a correlation."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np

from fastconv.api.convolve import Options, is_simple, problem_of
from fastconv.dispatch import workspace
from fastconv.dispatch.conv_transpose import PreparedTranspose, prepare_transpose
from fastconv.dispatch.plan import Prepared, prepare
from fastconv.dispatch.weight_gradient import PreparedWeightGradient, prepare_weight_gradient
from fastconv.geometry.conv import ConvGeometry, conv_geometry, input_shape, output_shape, weight_shape
from fastconv.geometry.conv_transpose import TransposeGeometry
from fastconv.system import empty

_MODES = {"reflect": "reflect", "replicate": "edge", "circular": "wrap", "symmetric": "symmetric"}


class Gather(NamedTuple):
    """Padding of one axis of the batched input, `size` long: which element stands at each position."""

    axis: int
    size: int
    source: np.ndarray

    def take(self, x: np.ndarray) -> np.ndarray:
        """Return the padded input."""
        return np.take(x, self.source, self.axis)

    def give(self, d: np.ndarray) -> np.ndarray:
        """Return the adjoint: what stands at the positions of one element is added, in their order."""
        d = np.moveaxis(d, self.axis, 0)
        result = np.zeros((self.size, *d.shape[1:]), d.dtype)
        for position, element in enumerate(self.source):
            result[element] += d[position]
        return np.ascontiguousarray(np.moveaxis(result, 0, self.axis))


class ConvGradients:
    """The gradients of a convolution, immutable, prepared once for a problem.

    Other padding than zeros is a gather of rows and columns before a convolution without padding.
    """

    def __init__(self, g: ConvGeometry, precision: str):
        self.forward, self.precision = g, precision
        self.gathers = _gathers(g) if g.padding_mode != "zeros" else ()
        self.geometry = _padded(g, self.gathers) if g.padding_mode != "zeros" else g

    def result_shape(self, ndim: int) -> tuple[int, ...]:
        """Return the shape of the convolution's result for an input of so many axes, with or without a batch."""
        shape = output_shape(self.forward)
        return shape if ndim == len(shape) else shape[1:]

    @property
    def adjoint(self) -> TransposeGeometry:
        """The transposed convolution that leads from the gradient of the result to that of the padded input."""
        g = self.geometry
        spatial = ((g.OD, g.OH, g.OW), (g.D, g.H, g.W), (g.KD, g.KH, g.KW), (g.SD, g.SH, g.SW))
        before, rates = (g.PF, g.PT, g.PL), (g.DD, g.DH, g.DW)
        return TransposeGeometry(g.N, g.G, g.OC, g.IC, *spatial, before, rates, g.layout, g.dtype, g.axes)

    @cached_property
    def transposed(self) -> PreparedTranspose:
        """What computes the gradient of the input."""
        return prepare_transpose("conv_input", self.adjoint, None, "auto", self.precision)

    @cached_property
    def convolution(self) -> Prepared:
        """The convolution itself, which is the gradient of the input of a transposed one."""
        return prepare("conv_transpose_vjp", self.geometry, None, "auto", self.precision)

    @cached_property
    def correlated(self) -> PreparedWeightGradient:
        """What computes the gradient of the weight."""
        return prepare_weight_gradient(self.geometry, self.precision)

    def input(self, dy: np.ndarray, w: np.ndarray) -> np.ndarray:
        """Return the gradient of the batched input."""
        dx = empty(input_shape(self.geometry), self.geometry.dtype)
        if dx.size:
            self.transposed.run_once(dy, (w,), None, None, dx)
        for gather in reversed(self.gathers):
            dx = gather.give(dx)
        return dx

    def output(self, dx: np.ndarray, w: np.ndarray) -> np.ndarray:
        """Return the convolution of `dx`."""
        dy = empty(output_shape(self.geometry), self.geometry.dtype)
        self.convolution.run_once(dx, (w,), None, None, dy)
        return dy

    def weight(self, x: np.ndarray, dy: np.ndarray, dbias: np.ndarray | None = None) -> np.ndarray:
        """Return the gradient of the weight, and fill that of the bias."""
        x = x.reshape(input_shape(self.forward))
        for gather in self.gathers:
            x = gather.take(x)
        return self.correlated.run(x, dy, dbias)


def gradients_of(
    function: str, x_shape: tuple[int, ...], w_shape: tuple[int, ...], dtype: np.dtype, options: Options
) -> ConvGradients:
    """Return the problem; the arguments are validated unless the same ones were before."""
    if all(is_simple(value) for value in options):
        return _seen(function, x_shape, w_shape, dtype, options)
    return _new(function, x_shape, w_shape, dtype, options)


def _new(
    function: str, x_shape: tuple[int, ...], w_shape: tuple[int, ...], dtype: np.dtype, options: Options
) -> ConvGradients:
    return ConvGradients(problem_of(function, x_shape, w_shape, dtype, options)[0], options.precision)


_seen = lru_cache(maxsize=512)(_new)
workspace.on_change(_seen.cache_clear)


def _gathers(g: ConvGeometry) -> tuple[Gather, ...]:
    first = 2 if g.layout == "channels_first" else 1
    pads = ((g.PF, g.PK), (g.PT, g.PB), (g.PL, g.PR))[-g.axes :]
    found = []
    for axis, (size, (before, after)) in enumerate(zip((g.D, g.H, g.W)[-g.axes :], pads, strict=True)):
        if before or after:
            kept = np.arange(size)[max(0, -before) : size - max(0, -after)]
            wider = (max(0, before), max(0, after))
            source = np.pad(kept, wider, mode=_MODES[g.padding_mode])  # type: ignore[call-overload]
            found.append(Gather(first + axis, size, source))
    return tuple(found)


def _padded(g: ConvGeometry, gathers: Sequence[Gather]) -> ConvGeometry:
    """Return the same problem on an input that was padded before."""
    shape = list(input_shape(g))
    for gather in gathers:
        shape[gather.axis] = len(gather.source)
    axes = "DHW"[-g.axes :]
    return conv_geometry(
        "conv",
        g.axes,
        shape,
        weight_shape(g),
        stride=tuple(getattr(g, f"S{axis}") for axis in axes),
        dilation=tuple(getattr(g, f"D{axis}") for axis in axes),
        groups=g.G,
        layout=g.layout,
        dtype=g.dtype,
    )
