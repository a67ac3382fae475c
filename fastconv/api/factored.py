"""The shapes that the special forms of convolution take, wherever their arrays live."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastconv.errors import ShapeError

Shape = tuple[int, ...]


def channels_of(shape: Shape, layout: str) -> int:
    """Return the channels of images; 1 of what has no shape of images, which is refused later."""
    return shape[-3 if layout == "channels_first" else -1] if len(shape) in (3, 4) else 1


def pointwise_shape(function: str, name: str, shape: Shape) -> Shape:
    """Return the shape (OC, C, 1, 1) of a weight of a pointwise convolution."""
    if len(shape) == 2:
        return (*shape, 1, 1)
    if len(shape) != 4 or shape[2:] != (1, 1):
        raise ShapeError(f"{function}: {name} has shape {shape}, expected (OC, C) or (OC, C, 1, 1)")
    return shape


def check_weights(function: str, channels: int, dw: Shape, pw: Shape) -> None:
    """Raise unless a depthwise and a pointwise weight fit the input's channels and each other."""
    if len(dw) != 4 or dw[1] != 1 or dw[0] % max(channels, 1) or (dw[0] == 0) != (channels == 0):
        expected = f"(C*M, 1, KH, KW) with C = {channels}"
        raise ShapeError(f"{function}: depthwise_weight has shape {dw}, expected {expected}")
    if len(pw) != 4 or pw[1:] != (dw[0], 1, 1) or not pw[0]:
        expected = f"(OC, {dw[0]}) or (OC, {dw[0]}, 1, 1)"
        raise ShapeError(f"{function}: pointwise_weight has shape {pw}, expected {expected}")


def check_biases(function: str, arrays: Mapping[str, Any], CM: int, OC: int) -> None:
    """Raise unless the biases of both convolutions fit; None is not given."""
    for key, size in (("depthwise_bias", CM), ("bias", OC)):
        array = arrays[key]
        if array is not None and array.shape != (size,):
            raise ShapeError(f"{function}: {key} has shape {array.shape}, expected ({size},)")


def check_factor(function: str, name: str, shape: Shape, channels: int) -> None:
    """Raise unless a column or row is one for all channels or one for each."""
    if len(shape) not in (1, 2) or (len(shape) == 2 and shape[0] != channels):
        raise ShapeError(f"{function}: {name} has shape {shape}, expected (K,) or (C, K) with C = {channels}")
