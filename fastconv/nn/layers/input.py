"""The shape of a model's input, in the place of a layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastconv.nn.layers import arguments


class InputLayer:
    """Says what a model takes; it computes nothing and is no layer of the model.

    Parameters
    ----------
    shape : tuple of int
        Of one sample, without the batch.
    name : str, optional
    """

    def __init__(self, shape: Sequence[int], *, name: str | None = None):
        self.shape = arguments.sample_shape("InputLayer", "shape", shape)
        self.name = "input_layer" if name is None else name

    def __repr__(self) -> str:
        return f"<InputLayer {self.shape}>"


def Input(shape: Sequence[int], **keywords: Any) -> InputLayer:  # noqa: N802 - the name that Keras gives it
    """Return an `InputLayer`."""
    return InputLayer(shape, **keywords)
