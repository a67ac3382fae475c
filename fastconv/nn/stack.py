"""A list of layers that fit each other: its shapes and its weights."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Self

import numpy as np
from numpy.typing import ArrayLike

from fastconv.errors import ArgumentTypeError, OptionError, ShapeError
from fastconv.geometry.arguments import check_keyword, shown
from fastconv.nn.flattened import flattened_images, moved
from fastconv.nn.layers import InputLayer, Layer
from fastconv.nn.layers.arguments import snake_case
from fastconv.nn.layers.base import Shape
from fastconv.nn.layers.parameters import LAYOUTS, Parameter


class Stack:
    """Layers, one after the other; see `Sequential`."""

    def __init__(self, layers: Iterable[Layer | InputLayer] | None = None, name: str | None = None):
        if name is not None and not isinstance(name, str):
            raise ArgumentTypeError(f"Sequential: name = {shown(name)}, expected a string")
        self.name = "sequential" if name is None else name
        self.layers: list[Layer] = []
        self.sample: Shape | None = None
        for layer in layers or ():
            self.add(layer)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}, {len(self.layers)} layers>"

    # The list of layers.

    def add(self, layer: Layer | InputLayer) -> None:
        """Add a layer at the end.

        Raises
        ------
        ArgumentTypeError
            Not a layer.
        OptionError
            The layer, or its name, is there already; or an `Input` that is not the first.
        ShapeError
            The layer does not fit the one before.
        """
        if isinstance(layer, InputLayer):
            if self.layers or self.sample is not None:
                raise OptionError(f"{self.name}: an Input stands before all layers, got one behind {len(self.layers)}")
            self.sample = layer.shape
            return
        if not isinstance(layer, Layer):
            raise ArgumentTypeError(f"{self.name}: add takes a layer, got {shown(layer)}")
        if any(layer is other for other in self.layers):
            raise OptionError(f"{self.name}: {layer.where} is in the model already")
        before = layer.name
        layer.name = self._free_name(layer)
        if not self.layers and self.sample is None:
            self.sample = layer.given_shape
        try:
            if self.sample is not None:
                layer.build((None, *self._next_shape()))
        except BaseException:
            layer.name = before
            if not self.layers and layer.given_shape is not None:
                self.sample = None
            raise
        self.layers.append(layer)
        self._changed()

    def pop(self) -> Layer:
        """Remove the last layer and return it."""
        if not self.layers:
            raise OptionError(f"{self.name}: pop: there are no layers")
        layer = self.layers.pop()
        if not self.layers and layer.given_shape is not None:
            self.sample = None
        self._changed()
        return layer

    def _free_name(self, layer: Layer) -> str:
        taken = {other.name for other in self.layers}
        if layer.is_named:
            if layer.name in taken:
                raise OptionError(f'{self.name}: two layers have the name "{layer.name}"')
            return layer.name
        base = snake_case(type(layer).__name__)
        number, name = 0, base
        while name in taken:
            number += 1
            name = f"{base}_{number}"
        return name

    def _next_shape(self) -> Shape:
        if not self.layers:
            return self.sample or ()
        return self.layers[-1].sample_shape

    def _changed(self) -> None:
        """Forget what follows from the layers."""

    def get_layer(self, name: str | None = None, index: int | None = None) -> Layer:
        """Return the layer of a name, or of a position."""
        if (name is None) == (index is None):
            raise OptionError(f"{self.name}: get_layer takes either name or index")
        if index is not None:
            if not -len(self.layers) <= index < len(self.layers):
                raise OptionError(f"{self.name}: get_layer: index = {index}, the model has {len(self.layers)} layers")
            return self.layers[index]
        for layer in self.layers:
            if layer.name == name:
                return layer
        names = ", ".join(layer.name for layer in self.layers)
        raise OptionError(f"{self.name}: get_layer: name = {shown(name)}, expected one of {names}")

    # Shapes.

    @property
    def built(self) -> bool:
        """Whether the model knows the shape of its input, and so has its weights."""
        return bool(self.layers) and all(layer.built for layer in self.layers)

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        """Shape of the input, None for the batch."""
        return self.require_built("input_shape").layers[0].input_shape

    @property
    def output_shape(self) -> tuple[int | None, ...]:
        """Shape of the output, None for the batch."""
        return self.require_built("output_shape").layers[-1].output_shape

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Make the weights for inputs of a shape, with the batch, which may be None, in front."""
        if not self.layers:
            raise OptionError(f"{self.name}: the model has no layers")
        shape = tuple(input_shape)
        for layer in self.layers:
            layer.build(shape)
            shape = layer.output_shape

    def require_built(self, function: str) -> Self:
        """Return the model, or raise `OptionError` in the name of a function if it has no weights yet."""
        if not self.built:
            raise OptionError(f"{function}: {self.name} is not built; give its first layer an input_shape")
        return self

    # Weights.

    @property
    def parameters(self) -> list[Parameter]:
        """All weights of all layers."""
        return [p for layer in self.layers for p in layer.parameters]

    def count_params(self) -> int:
        """Return the number of weights."""
        return sum(layer.count_params() for layer in self.require_built("count_params").layers)

    def get_weights(self, layout: str = "HWIO") -> list[np.ndarray]:
        """Return copies of the weights of all layers, in Keras's order.

        Parameters
        ----------
        layout : {"HWIO", "OIHW"}
            Keras's shapes, or PyTorch's, as `Layer.get_weights`. With "OIHW" the inputs of a dense layer behind a
            `Flatten` of images are in PyTorch's order, channels first.
        """
        check_keyword("get_weights", "layout", layout, LAYOUTS)
        images = flattened_images(self.require_built("get_weights").layers)
        found = []
        for layer, image in zip(self.layers, images, strict=True):
            each = zip(layer.parameters, layer.get_weights(layout), strict=True)
            found += [moved(a, p, image, layout, True) for p, a in each]
        return found

    def set_weights(self, weights: Sequence[ArrayLike], layout: str = "HWIO") -> None:
        """Set the weights of all layers; nothing is changed where one does not fit.

        Parameters
        ----------
        weights : sequence of array_like
            As many as `get_weights` returns, in its order.
        layout : {"HWIO", "OIHW"}
            As in `get_weights`: "OIHW" for the weights of a PyTorch model of the same layers with channels first.

        Raises
        ------
        ShapeError, DtypeError
            The message names the layer and the weight.
        """
        check_keyword("set_weights", "layout", layout, LAYOUTS)
        images = flattened_images(self.require_built("set_weights").layers)
        given = list(weights)
        if len(given) != len(self.parameters):
            raise ShapeError(f"set_weights: weights has {len(given)} arrays, {self.name} has {len(self.parameters)}")
        changes: list[tuple[Parameter, np.ndarray]] = []
        for layer, image in zip(self.layers, images, strict=True):
            mine, given = given[: len(layer.parameters)], given[len(layer.parameters) :]
            for parameter, kept in layer.checked_weights(mine, layout):
                changes.append((parameter, moved(kept, parameter, image, layout, False)))
        for parameter, kept in changes:
            parameter.set(kept)
