"""Models that are not trained: runs of layers as one plan each.

A convolution, an activation behind it and a maximum pooling of squares that do not overlap are one plan, so that the
convolution's output is pooled while it is in cache. Plans own packed copies of the weights: they are kept for each
input shape, and made anew when a weight has changed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastconv.api.plan import ConvPlan, plan_conv2d
from fastconv.nn import activations
from fastconv.nn.layers import Activation, Conv2D, Dense, Layer, MaxPooling2D
from fastconv.nn.layers.products import LAST

# Input shapes of a layer whose plans are kept.
_KEPT = 8

# run(x, training, activate), as `Layer.forward`.
Run = Callable[..., np.ndarray]


class Inference:
    """The steps of a list of layers; call it with a batch."""

    def __init__(self, layers: Sequence[Layer]):
        self.steps: list[tuple[Any, Run]] = []
        i = 0
        while i < len(layers):
            step, used = _step(layers[i:])
            self.steps.append((layers[i].dtype, step))
            i += used

    def __call__(self, x: np.ndarray, logits: bool = False) -> np.ndarray:
        """Return the output of a batch, or a view of it; with `logits` without the softmax at the end."""
        last = len(self.steps) - 1
        for i, (dtype, step) in enumerate(self.steps):
            if x.dtype != dtype or not x.flags.c_contiguous:
                x = np.ascontiguousarray(x, dtype)
            x = step(x, False, not logits or i != last)
        return x


def _step(layers: Sequence[Layer]) -> tuple[Run, int]:
    """Return what runs the first of some layers, and as many behind it as fit in one step; and how many these are."""
    first = layers[0]
    if isinstance(first, Dense):
        return _Planned(first, first.activation, None), 1
    if not isinstance(first, Conv2D):
        return first.forward, 1
    activation, used = first.activation, 1
    if activation is None and len(layers) > 1 and isinstance(layers[1], Activation):
        activation, used = layers[1].activation, 2
    if any(layer.dtype != first.dtype for layer in layers[:used]):
        return _Planned(first, first.activation, None), 1
    pool = _square(layers[used], first) if used < len(layers) and activation != "softmax" else None
    return _Planned(first, activation, pool), used + (pool is not None)


def _square(layer: Layer, before: Layer) -> int | None:
    """Return the size of the pooling that a plan can do: maxima of squares as far apart as they are large."""
    if not isinstance(layer, MaxPooling2D) or layer.dtype != before.dtype:
        return None
    size = layer.pool_size[0]
    if not layer.pool_size == layer.strides == (size, size):
        return None
    whole = all(n is not None and n % size == 0 for n in layer.input_shape[1:3])
    return size if whole or layer.padding == "valid" else None


class _Planned:
    """A convolution or dense layer, run by plans."""

    def __init__(self, layer: Conv2D | Dense, activation: str | None, pool: int | None):
        self.layer, self.pool = layer, pool
        self.softmax = activation == "softmax"
        self.activation = None if self.softmax else activation
        self.plans: dict[tuple[int, ...], tuple[Any, ConvPlan]] = {}

    def __call__(self, x: np.ndarray, training: bool = False, activate: bool = True) -> np.ndarray:
        """Return the output of a batch, without `activate` that before a softmax."""
        layer = self.layer
        if isinstance(layer, Conv2D):
            y = self._plan(x.shape)(x)
        else:
            pixels = x.reshape(1, 1, -1, x.shape[-1])
            y = self._plan(pixels.shape)(pixels).reshape(*x.shape[:-1], layer.units)
        return activations.softmax(y) if self.softmax and activate else y

    def _plan(self, shape: tuple[int, ...]) -> ConvPlan:
        """Return the plan for an input shape and the weights as they are now."""
        version = self.layer.version
        found = self.plans.get(shape)
        if found is not None and found[0] == version:
            return found[1]
        plan = self._made(shape)
        if len(self.plans) >= _KEPT:
            self.plans.clear()
        self.plans[shape] = version, plan
        return plan

    def _made(self, shape: tuple[int, ...]) -> ConvPlan:
        layer = self.layer
        keywords: dict[str, Any] = {"layout": LAST, "activation": self.activation, "dtype": layer.dtype}
        kernel, *bias = (p.value for p in layer.parameters)
        options: tuple[Any, ...] = layer.options if isinstance(layer, Conv2D) else ()
        weight = kernel if isinstance(layer, Conv2D) else kernel[:, :, None, None]
        return plan_conv2d(shape, weight, bias[0] if bias else None, *options, pool=self.pool, **keywords)
