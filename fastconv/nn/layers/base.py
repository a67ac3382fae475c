"""What all layers share: name, weights, shapes, and the two directions of a call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastconv.errors import DtypeError, OptionError, ShapeError
from fastconv.geometry.arguments import check_keyword
from fastconv.geometry.arrays import as_input, kind_of
from fastconv.nn import activations
from fastconv.nn.initializers import Drawn
from fastconv.nn.layers import arguments
from fastconv.nn.layers.parameters import LAYOUTS, PLAIN, Order, Parameter

Shape = tuple[int, ...]
# Buffers of a layer that are kept for the next batch: those of a whole one and of the last of an epoch.
_KEPT = 2


class Layer:
    """Base class of the layers.

    Parameters
    ----------
    name : str, optional
        By default that of the class in small letters, with a number where a model has several.
    trainable : bool
        False: `fit` leaves the weights as they are.
    dtype : {"float32", "float64"}
    input_shape : tuple of int, optional
        The shape of one sample, without the batch; the first layer of a model may have it.

    Attributes
    ----------
    built : bool
        Whether the layer knows its input shape, and so has its weights.
    """

    # Axes of a sample; None: any number.
    _axes: int | None = None

    def __init__(
        self,
        *,
        name: str | None = None,
        trainable: bool = True,
        dtype: Any = "float32",
        input_shape: Sequence[int] | None = None,
    ):
        kind = type(self).__name__
        arguments.check_name(kind, name)
        self.is_named = name is not None
        self.name = arguments.snake_case(kind) if name is None else name
        self.trainable = arguments.flag(kind, "trainable", trainable)
        self.dtype = arguments.dtype(kind, dtype)
        self.given_shape = None if input_shape is None else arguments.sample_shape(kind, "input_shape", input_shape)
        self.parameters: list[Parameter] = []
        self.built = False
        self._input: Shape = ()
        self._output: Shape = ()
        self._saved: Any = None
        self._in_use: Any = None
        self._buffers: dict[Any, np.ndarray] = {}
        self._prepared: dict[Any, Any] = {}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    # Shapes.

    @property
    def where(self) -> str:
        """The layer in messages."""
        return f'layer "{self.name}" ({type(self).__name__})'

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        """Shape of the input, None for the batch."""
        return (None, *self._shapes()[0])

    @property
    def output_shape(self) -> tuple[int | None, ...]:
        """Shape of the output, None for the batch."""
        return (None, *self._shapes()[1])

    @property
    def sample_shape(self) -> Shape:
        """Shape of the output of one sample."""
        return self._shapes()[1]

    def _shapes(self) -> tuple[Shape, Shape]:
        if not self.built:
            raise OptionError(f"{self.where}: it is not built; give the first layer an input_shape, or call the model")
        return self._input, self._output

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        """Return the output's shape for an input of a shape, both with the batch in front."""
        sample = arguments.sample_shape(self.where, "input_shape without the batch", tuple(input_shape)[1:])
        return (input_shape[0], *self._checked_output(sample))

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Make the weights for an input of a shape, with the batch, which may be None, in front."""
        sample = arguments.sample_shape(self.where, "input_shape without the batch", tuple(input_shape)[1:])
        if self.built:
            if sample != self._input:
                raise ShapeError(f"{self.where}: input has shape {shown_shape(sample)}, {self._expected()}")
            return
        if self.given_shape is not None and self.given_shape != sample:
            expected = f"expected {shown_shape(self.given_shape)}"
            raise ShapeError(f"{self.where}: input has shape {shown_shape(sample)}, {expected}")
        output = self._checked_output(sample)
        self.parameters = []
        self._make(sample)
        self._input, self._output, self.built = sample, output, True

    def _checked_output(self, sample: Shape) -> Shape:
        if self._axes is not None and len(sample) != self._axes:
            axes = "(batch, height, width, channels)" if self._axes == 3 else f"{self._axes} axes beside the batch"
            raise ShapeError(f"{self.where}: input has shape {shown_shape(sample)}, expected {axes}")
        output = self._result(sample)
        if min(output, default=1) < 1:
            problem = f"input of shape {shown_shape(sample)} is smaller than the window"
            raise ShapeError(f"{self.where}: {problem}: the output would have shape {shown_shape(output)}")
        return output

    def _result(self, sample: Shape) -> Shape:
        """Return the shape of the output of one sample."""
        return sample

    def _make(self, sample: Shape) -> None:
        """Add the weights."""

    def _expected(self) -> str:
        return f"expected {shown_shape(self._input)}"

    def check_batch(self, x: ArrayLike) -> np.ndarray:
        """Return an input as an array of the layer's dtype, or raise what does not fit; builds the layer."""
        array = as_input(self.where, "input", x)
        if kind_of(array.dtype) == "c":
            raise DtypeError(f"{self.where}: input has dtype {array.dtype}, expected real numbers")
        if array.ndim < 2:
            expected = self._expected() if self.built else "expected (batch, ...)"
            raise ShapeError(f"{self.where}: input has shape {array.shape}, {expected}")
        if not self.built:
            self.build((None, *array.shape[1:]))
        if array.shape[1:] != self._input:
            raise ShapeError(f"{self.where}: input has shape {array.shape}, {self._expected()}")
        return array.astype(self.dtype, copy=False)

    # Calls.

    def __call__(self, x: ArrayLike, training: bool = False) -> np.ndarray:
        """Return the layer's output for a batch.

        Parameters
        ----------
        x : array_like of shape (batch, ...)
        training : bool
            Whether dropout drops, and a normalization takes the statistics of the batch.

        Raises
        ------
        ShapeError, DtypeError
            An input that does not fit; the message names the layer.
        """
        x = self.check_batch(x)
        with np.errstate(all="ignore"):
            y = self.forward(x, training)
        return y.copy() if training or y is x or y.base is not None else y

    def forward(self, x: np.ndarray, training: bool = False, activate: bool = True) -> np.ndarray:
        """Return the output of an array that `check_batch` passes.

        In training, what `backward` needs is kept, and the result is overwritten by the next call. Without `activate`
        the activation is left out.
        """
        raise NotImplementedError

    def backward(self, dy: np.ndarray, wanted: bool = True, activated: bool = False) -> np.ndarray | None:
        """Return the gradient at the input of the last `forward` in training, and set those of the weights.

        Parameters
        ----------
        dy : ndarray
            Gradient at the output.
        wanted : bool
            Whether the result is needed; else it may be None.
        activated : bool
            `dy` is the gradient at the input of the activation.
        """
        raise NotImplementedError

    def commit(self) -> None:
        """Make the changes of the last `forward` in training that are not weights last."""

    def macs(self) -> int:
        """Return how many multiplications with additions one sample takes."""
        return 0

    def buffer(self, key: str, shape: Shape) -> np.ndarray:
        """Return an array of the layer's dtype for use until the next batch."""
        found = self._buffers.get((key, shape))
        if found is None:
            same = [k for k in self._buffers if k[0] == key]
            for old in same[: len(same) - _KEPT + 1]:
                del self._buffers[old]
            found = self._buffers[key, shape] = np.empty(shape, self.dtype)
        return found

    def prepared(self, key: Any, make: Callable[[Any], Any]) -> Any:
        """Return ``make(key)``, kept for the next batches of this key, a shape for instance."""
        found = self._prepared.get(key)
        if found is None:
            for old in list(self._prepared)[: len(self._prepared) - _KEPT + 1]:
                del self._prepared[old]
            found = self._prepared[key] = make(key)
        return found

    def __getstate__(self) -> dict[str, Any]:
        # What is prepared knows addresses of this layer's arrays; a copy has its own.
        return vars(self) | {"_saved": None, "_in_use": None, "_buffers": {}, "_prepared": {}}

    def release(self) -> None:
        """Free what is kept from one batch to the next."""
        self._saved = self._in_use = None
        self._buffers.clear()
        self._prepared.clear()

    # Weights.

    def add_parameter(
        self, name: str, shape: Shape, initializer: Drawn, order: Order = PLAIN, trainable: bool = True
    ) -> Parameter:
        """Make a weight of a shape in Keras."""
        parameter = Parameter(self.where, name, shape, initializer, order, trainable, self.dtype)
        self.parameters.append(parameter)
        return parameter

    @property
    def version(self) -> tuple[int, ...]:
        """Changes whenever a weight does."""
        return tuple([p.version for p in self.parameters])

    def trained(self) -> list[Parameter]:
        """Return the weights that `fit` changes."""
        return [p for p in self.parameters if p.trainable] if self.trainable else []

    def count_params(self) -> int:
        """Return the number of weights."""
        return sum(p.value.size for p in self.parameters)

    def get_weights(self, layout: str = "HWIO") -> list[np.ndarray]:
        """Return copies of the weights.

        Parameters
        ----------
        layout : {"HWIO", "OIHW"}
            "HWIO": in Keras's shapes: (KH, KW, IC, OC), of a depthwise convolution (KH, KW, C, M), of a dense layer
            (in, out). "OIHW": in PyTorch's: (OC, IC, KH, KW), (C*M, 1, KH, KW), (out, in).
        """
        check_keyword(self.where, "layout", layout, LAYOUTS)
        return [p.get(layout) for p in self.parameters]

    def set_weights(self, weights: Sequence[ArrayLike], layout: str = "HWIO") -> None:
        """Set the weights from arrays as `get_weights` returns them; nothing is changed where one does not fit.

        Raises
        ------
        ShapeError, DtypeError
            The message names the layer and the weight.
        """
        for parameter, kept in self.checked_weights(weights, layout):
            parameter.set(kept)

    def checked_weights(self, weights: Sequence[ArrayLike], layout: str) -> list[tuple[Parameter, np.ndarray]]:
        """Return each weight with the array that it is to be set to."""
        check_keyword(self.where, "layout", layout, LAYOUTS)
        self._shapes()
        given = list(weights)
        if len(given) != len(self.parameters):
            names = ", ".join(p.name for p in self.parameters)
            expected = f"expected {len(self.parameters)}" + (f" ({names})" if names else "")
            raise ShapeError(f"{self.where}: weights has {len(given)} arrays, {expected}")
        return [(p, p.checked(array, layout)) for p, array in zip(self.parameters, given, strict=True)]

    # Files.

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make a layer like this one, of types that JSON has."""
        return {"name": self.name, "trainable": self.trainable, "dtype": self.dtype.name}


class ActivatedLayer(Layer):
    """A layer whose operation fuses an activation."""

    def __init__(self, activation: Any, **keywords: Any):
        super().__init__(**keywords)
        self.activation = activations.canonical(type(self).__name__, activation)

    def forward(self, x: np.ndarray, training: bool = False, activate: bool = True) -> np.ndarray:
        """Return the output; see `Layer.forward`."""
        name = self.activation if activate else None
        if not training:
            return activations.softmax(self._sums(x, None, None)) if name == "softmax" else self._sums(x, name, None)
        if name is None or name in activations.FROM_OUTPUT:
            z = y = self._kept_sums(x, name)
        else:
            z = self._kept_sums(x, None)
            y = activations.FUNCTIONS[name](z)
        self._saved = x, z, y
        return y

    def backward(self, dy: np.ndarray, wanted: bool = True, activated: bool = False) -> np.ndarray | None:
        """Return the gradient at the input; see `Layer.backward`."""
        x, z, y = self._saved
        if not activated:
            dy = activations.gradient(self.activation, dy, z, y, self.buffer("slopes", dy.shape))
        return self._gradients(dy, x, wanted)

    def _sums(self, x: np.ndarray, activation: str | None, out: np.ndarray | None) -> np.ndarray:
        """Return the operation with an activation that it can fuse, in `out` or a new array."""
        raise NotImplementedError

    def _kept_sums(self, x: np.ndarray, activation: str | None) -> np.ndarray:
        """Return the operation in memory that the next batch overwrites."""
        return self._sums(x, activation, self.buffer("sums", (len(x), *self._output)))

    def _gradients(self, dy: np.ndarray, x: np.ndarray, wanted: bool) -> np.ndarray | None:
        """Set the gradients of the weights and return that of the input, from that of the sums."""
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make a layer like this one."""
        return super().get_config() | {"activation": self.activation}


def shown_shape(sample: Sequence[int]) -> str:
    """Return the shape of a batch of samples, as messages show it."""
    return f"({', '.join(('batch', *map(str, sample)))})"
