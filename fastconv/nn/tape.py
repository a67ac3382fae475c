"""The two directions of training: forward through all layers, back to the first that is trained.

Where an activation is monotone and its gradient known from its output, it commutes with the maximum pooling behind it,
so its gradient is taken at the pooled numbers: of 2x2 windows, a quarter of the work.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fastconv.nn import activations
from fastconv.nn.layers import Layer, MaxPooling2D
from fastconv.nn.layers.parameters import Parameter


class Tape:
    """What is known of a list of layers before a batch is seen."""

    def __init__(self, layers: Sequence[Layer]):
        self.layers = list(layers)
        self.is_pooled = [self._commutes(i) for i in range(len(layers))]
        self._outputs: list[np.ndarray] = []

    def _commutes(self, i: int) -> bool:
        name = getattr(self.layers[i], "activation", None)
        behind = self.layers[i + 1] if i + 1 < len(self.layers) else None
        return name in activations.FROM_OUTPUT and isinstance(behind, MaxPooling2D)

    def forward(self, x: np.ndarray, logits: bool = False) -> np.ndarray:
        """Return the output of a batch, in memory that the next call overwrites; `logits`: without the last softmax."""
        last = len(self.layers) - 1
        self._outputs = outputs = []
        for i, layer in enumerate(self.layers):
            if x.dtype != layer.dtype or not x.flags.c_contiguous:
                x = np.ascontiguousarray(x, layer.dtype)
            x = layer.forward(x, True, not logits or i != last)
            outputs.append(x)
        return x

    def backward(self, dy: np.ndarray, logits: bool = False) -> list[Parameter]:
        """Set the gradients of the weights for that of the loss at the output; return the weights."""
        trained = [layer.trained() for layer in self.layers]
        first = next((i for i, parameters in enumerate(trained) if parameters), len(self.layers))
        activated, gradient = logits, dy
        for i in range(len(self.layers) - 1, first - 1, -1):
            layer = self.layers[i]
            if gradient.dtype != layer.dtype or not gradient.flags.c_contiguous:
                gradient = np.ascontiguousarray(gradient, layer.dtype)
            pooled = i > first and self.is_pooled[i - 1]
            if pooled:
                y = self._outputs[i]
                name = self.layers[i - 1].activation  # type: ignore[attr-defined]
                gradient = activations.gradient(name, gradient, y, y, layer.buffer("slopes", y.shape))
            found = layer.backward(gradient, i > first, activated)
            if found is None:
                break
            activated, gradient = pooled, found
        return [p for parameters in trained for p in parameters]

    def commit(self) -> None:
        """Make the changes of the last batch that are not by gradients last."""
        for layer in self.layers:
            layer.commit()

    def first_not_finite(self) -> Layer | None:
        """Return the first layer whose last output has a NaN or an infinity."""
        for layer, y in zip(self.layers, self._outputs, strict=False):
            if not np.isfinite(y).all():
                return layer
        return None

    def release(self) -> None:
        """Free what is kept from one batch to the next."""
        self._outputs = []
        for layer in self.layers:
            layer.release()
