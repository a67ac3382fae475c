"""Dense layers behind a flattened image: its order of numbers, channels last here, channels first in PyTorch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fastconv.nn.layers import Activation, BatchNormalization, Dense, Dropout, Flatten, Layer
from fastconv.nn.layers.base import Shape
from fastconv.nn.layers.parameters import Parameter

# Layers that leave the order of a vector as it is.
_PASSING = (Activation, BatchNormalization, Dropout, Flatten)


def flattened_images(layers: Sequence[Layer]) -> list[Shape | None]:
    """Return, for each layer, the shape (H, W, C) of the image that its input is made of, if it is flattened."""
    found: list[Shape | None] = []
    image: Shape | None = None
    for layer in layers:
        found.append(image if isinstance(layer, (Dense, BatchNormalization)) else None)
        sample = tuple(n for n in layer.input_shape[1:] if n is not None)
        if isinstance(layer, Flatten) and len(sample) == 3:
            image = sample
        elif not isinstance(layer, _PASSING):
            image = None
    return found


def moved(array: np.ndarray, parameter: Parameter, image: Shape | None, layout: str, to_torch: bool) -> np.ndarray:
    """Return a weight with the inputs that are an image in the other order; as it is for `layout` "HWIO"."""
    inputs = array.shape[-1]
    if image is None or layout != "OIHW" or inputs != np.prod(image) or parameter.name == "bias":
        return array
    H, W, C = image
    ours, theirs = (H, W, C), (C, H, W)
    split = array.reshape(*array.shape[:-1], *(ours if to_torch else theirs))
    last = (-1, -3, -2) if to_torch else (-2, -1, -3)
    order = (*range(array.ndim - 1), *(split.ndim + i for i in last))
    return np.ascontiguousarray(split.transpose(order)).reshape(array.shape)
