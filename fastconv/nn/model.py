"""The model: layers, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastconv.errors import ArgumentTypeError, OptionError, ShapeError
from fastconv.geometry.arguments import check_keyword, shown
from fastconv.nn import losses, metrics, optimizers, summary, training
from fastconv.nn.flattened import flattened_images, moved
from fastconv.nn.history import History
from fastconv.nn.inference import Inference
from fastconv.nn.layers import InputLayer, Layer
from fastconv.nn.layers.arguments import snake_case
from fastconv.nn.layers.base import Shape
from fastconv.nn.layers.parameters import LAYOUTS, Parameter
from fastconv.nn.tape import Tape


class Sequential:
    """Layers, one after the other, as Keras's `Sequential`.

    Parameters
    ----------
    layers : sequence of Layer, optional
        The first may be an `Input`, or have an `input_shape`; else the model is built when it is first called.
    name : str, optional

    Attributes
    ----------
    layers : list of Layer
    history : History or None
        Of the last `fit`, also of one that was interrupted.
    stop_training : bool
        A callback may set it: `fit` returns at the end of the epoch.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import nn
    >>> model = nn.Sequential([nn.Conv2D(4, 3, activation="relu", input_shape=(8, 8, 1)), nn.Flatten(), nn.Dense(2)])
    >>> model.predict(np.ones((5, 8, 8, 1))).shape
    (5, 2)
    """

    def __init__(self, layers: Iterable[Layer | InputLayer] | None = None, name: str | None = None):
        if name is not None and not isinstance(name, str):
            raise ArgumentTypeError(f"Sequential: name = {shown(name)}, expected a string")
        self.name = "sequential" if name is None else name
        self.layers: list[Layer] = []
        self.history: History | None = None
        self.stop_training = False
        self.optimizer: optimizers.Optimizer | None = None
        self.loss: losses.Loss | None = None
        self._metric_names: list[str] = []
        self._sample: Shape | None = None
        self._inference: Inference | None = None
        self._tape: Tape | None = None
        for layer in layers or ():
            self.add(layer)

    def __repr__(self) -> str:
        return f"<Sequential {self.name}, {len(self.layers)} layers>"

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
            if self.layers or self._sample is not None:
                raise OptionError(f"{self.name}: an Input stands before all layers, got one behind {len(self.layers)}")
            self._sample = layer.shape
            return
        if not isinstance(layer, Layer):
            raise ArgumentTypeError(f"{self.name}: add takes a layer, got {shown(layer)}")
        if any(layer is other for other in self.layers):
            raise OptionError(f"{self.name}: {layer.where} is in the model already")
        before = layer.name
        layer.name = self._free_name(layer)
        if not self.layers and self._sample is None:
            self._sample = layer.given_shape
        try:
            if self._sample is not None:
                layer.build((None, *self._next_shape()))
        except BaseException:
            layer.name = before
            if not self.layers and layer.given_shape is not None:
                self._sample = None
            raise
        self.layers.append(layer)
        self._changed()

    def pop(self) -> Layer:
        """Remove the last layer and return it."""
        if not self.layers:
            raise OptionError(f"{self.name}: pop: there are no layers")
        layer = self.layers.pop()
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
            return self._sample or ()
        return self.layers[-1].output_shape[1:]  # type: ignore[return-value]

    def _changed(self) -> None:
        self._inference = self._tape = None

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
        return self._built("input_shape").layers[0].input_shape

    @property
    def output_shape(self) -> tuple[int | None, ...]:
        """Shape of the output, None for the batch."""
        return self._built("output_shape").layers[-1].output_shape

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Make the weights for inputs of a shape, with the batch, which may be None, in front."""
        if not self.layers:
            raise OptionError(f"{self.name}: the model has no layers")
        shape = tuple(input_shape)
        for layer in self.layers:
            layer.build(shape)
            shape = layer.output_shape

    def _built(self, function: str) -> Sequential:
        if not self.built:
            raise OptionError(f"{function}: {self.name} is not built; give its first layer an input_shape")
        return self

    def checked(self, function: str, x: ArrayLike, built: bool = True) -> np.ndarray:
        """Return inputs as an array of real numbers of any dtype, or raise what does not fit; builds the model."""
        if not self.layers:
            raise OptionError(f"{function}: {self.name} has no layers")
        array = training.real_array(function, "x", x)
        first = self.layers[0]
        sample = first.input_shape[1:] if first.built else self._sample
        if sample is None and array.ndim >= 2:
            self.build((None, *array.shape[1:]))
        elif array.shape[1:] != sample or array.ndim < 2:
            expected = "(samples, ...)" if sample is None else f"({', '.join(('samples', *map(str, sample)))})"
            raise ShapeError(f"{function}: {first.where}: input x has shape {array.shape}, expected {expected}")
        return array

    # Calls.

    @property
    def inference(self) -> Inference:
        """How the model is run when it is not trained."""
        if self._inference is None:
            self._inference = Inference(self.layers)
        return self._inference

    @property
    def tape(self) -> Tape:
        """How the model is run when it is trained."""
        if self._tape is None:
            self._tape = Tape(self.layers)
        return self._tape

    def __call__(self, x: ArrayLike, training: bool = False) -> np.ndarray:
        """Return the output for one batch.

        Parameters
        ----------
        x : array_like of shape (batch, ...)
        training : bool
            Whether dropout drops, and normalizations take the statistics of the batch.
        """
        batch = self.checked("Sequential", x).astype(self.layers[0].dtype, copy=False)
        batch = np.ascontiguousarray(batch)
        with np.errstate(all="ignore"):
            if training:
                return self.tape.forward(batch).copy()
            y = self.inference(batch)
        return y.copy() if np.may_share_memory(y, batch) else y

    def predict(self, x: ArrayLike, batch_size: int | None = None, verbose: Any = 0) -> np.ndarray:
        """Return the outputs for all samples.

        Parameters
        ----------
        x : array_like of shape (samples, ...)
        batch_size : int, optional
            32 by default.
        verbose : {0, 1, 2, "auto"}
            Whether to show a progress bar.

        Returns
        -------
        ndarray of shape (samples, ...)

        Raises
        ------
        ShapeError, DtypeError, OptionError, ArgumentTypeError
            The message names the layer, or the argument.
        """
        return training.predict(self, x, batch_size, verbose)

    def feature_maps(self, x: ArrayLike) -> list[np.ndarray]:
        """Return the output of every layer for one batch.

        Parameters
        ----------
        x : array_like of shape (batch, ...)

        Returns
        -------
        list of ndarray
            As many as there are layers, each of the shape ``layer.output_shape`` with the batch in front.
        """
        y = np.ascontiguousarray(self.checked("feature_maps", x)).astype(self.layers[0].dtype)
        outputs = []
        with np.errstate(all="ignore"):
            for layer in self.layers:
                y = layer.forward(y.astype(layer.dtype, copy=False))
                outputs.append(y)
        # Layers that pass their input on share its memory.
        return [np.array(y) if i and np.may_share_memory(y, outputs[i - 1]) else y for i, y in enumerate(outputs)]

    # Weights.

    @property
    def parameters(self) -> list[Parameter]:
        """All weights of all layers."""
        return [p for layer in self.layers for p in layer.parameters]

    def count_params(self) -> int:
        """Return the number of weights."""
        return sum(layer.count_params() for layer in self._built("count_params").layers)

    def get_weights(self, layout: str = "HWIO") -> list[np.ndarray]:
        """Return copies of the weights of all layers, in Keras's order.

        Parameters
        ----------
        layout : {"HWIO", "OIHW"}
            Keras's shapes, or PyTorch's, as `Layer.get_weights`. With "OIHW" the inputs of a dense layer behind a
            `Flatten` of images are in PyTorch's order, channels first.
        """
        check_keyword("get_weights", "layout", layout, LAYOUTS)
        images = flattened_images(self._built("get_weights").layers)
        found = []
        for layer, image in zip(self.layers, images, strict=True):
            found += [moved(a, p, image, layout, True) for p, a in zip(layer.parameters, layer.get_weights(layout))]
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
        images = flattened_images(self._built("set_weights").layers)
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

    # Training.

    def compile(
        self,
        optimizer: Any = "adam",
        loss: Any = "sparse_categorical_crossentropy",
        metrics: Sequence[str] | None = None,
    ) -> None:
        """Choose how the model is trained.

        Parameters
        ----------
        optimizer : {"adam", "sgd"} or Optimizer
        loss : str or Loss
            "sparse_categorical_crossentropy", "categorical_crossentropy", "mean_squared_error" or "mse".
        metrics : list of str, optional
            "accuracy", "mse"; by default accuracy where the loss is a crossentropy.

        Raises
        ------
        OptionError, ArgumentTypeError
            Unknown names.
        """
        found = losses.found(loss)
        default = ["accuracy"] if found.of_probabilities else []
        names = default if metrics is None else check_metrics(metrics)
        self.optimizer, self.loss, self._metric_names = optimizers.found(optimizer), found, names

    @property
    def metrics_names(self) -> list[str]:
        """The names of what `evaluate` returns."""
        return ["loss", *self._metric_names]

    def fit(
        self,
        x: ArrayLike,
        y: ArrayLike,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: Any = "auto",
        callbacks: Any = None,
        validation_split: float = 0.0,
        validation_data: tuple[ArrayLike, ArrayLike] | None = None,
        shuffle: bool = True,
    ) -> History:
        """Train the model.

        Parameters
        ----------
        x : array_like of shape (samples, ...)
            Any real dtype; each batch is converted to that of the model. Images are not scaled.
        y : array_like
            Labels from 0 for "sparse_categorical_crossentropy", else an array of the outputs' shape.
        batch_size : int, optional
            32 by default; the last batch of an epoch may be smaller.
        epochs : int
        verbose : {"auto", 0, 1, 2}
            0: silent; 1: a progress bar (by tqdm if it is installed, else a line for each epoch); 2: a line for each
            epoch; "auto": 1 on a terminal and in a notebook, else 2.
        callbacks : list, optional
            Of `fastconv.nn.Callback`, or functions ``(epoch, logs)`` called at the end of each epoch.
        validation_split : float
            The share of the samples, from 0 to below 1, at the end of `x` and `y`, that is for validation.
        validation_data : (x, y), optional
            Evaluated at the end of each epoch. It takes the place of `validation_split`.
        shuffle : bool
            Take the samples in a new random order in each epoch.

        Returns
        -------
        History
            ``history.history`` has a list for each of "loss", the metrics, "val_loss" and so on, a number for each
            epoch; those of the training samples are means over the epoch, while the weights change.

        Raises
        ------
        ShapeError, DtypeError, OptionError, ArgumentTypeError
            Before anything is trained.
        NonFiniteError
            The loss is NaN or infinite. The message names the epoch, the batch and the first layer with such outputs;
            the weights are those of the batch before.
        KeyboardInterrupt
            The weights are those of the last whole batch, and ``model.history`` has the epochs so far.

        Notes
        -----
        After `fastconv.nn.set_random_seed` the result has the same bits for every number of threads.
        """
        data = training.Data(x, y, validation_split, validation_data)
        settings = training.Settings(batch_size, epochs, verbose, callbacks, shuffle)
        return training.fit(self, data, settings)

    def evaluate(
        self,
        x: ArrayLike,
        y: ArrayLike,
        batch_size: int | None = None,
        verbose: Any = 0,
        return_dict: bool = False,
    ) -> list[float] | dict[str, float]:
        """Return the mean loss and metrics over samples.

        Parameters
        ----------
        x, y, batch_size
            As in `fit`.
        verbose : {0, 1, 2, "auto"}
        return_dict : bool

        Returns
        -------
        list of float
            [loss, *metrics]; with `return_dict` a dict by name.
        """
        found = training.evaluate(self, x, y, batch_size, verbose)
        return found if return_dict else list(found.values())

    def train_on_batch(self, x: ArrayLike, y: ArrayLike) -> list[float]:
        """Do one step with one batch, and return [loss, *metrics] before it."""
        return training.train_on_batch(self, x, y)

    # Text and files.

    def summary(self, print_fn: Callable[[str], object] | None = None) -> None:
        """Print the layers with their output shapes, numbers of weights and MACs.

        Parameters
        ----------
        print_fn : callable, optional
            Takes the text instead of `print`.
        """
        summary.show(self, print_fn)

    def save(self, path: str | Path) -> None:
        """Write layers and weights to a safetensors file; the state of the optimizer is left out.

        Raises
        ------
        MissingExtraError
            safetensors is not installed.
        """
        from fastconv.nn import saving

        saving.save(self, path)

    @classmethod
    def load(cls, path: str | Path) -> Sequential:
        """Return the model of a file that `save` wrote; see `fastconv.nn.load_model`."""
        from fastconv.nn import saving

        return saving.load_model(path)


def check_metrics(values: Any) -> list[str]:
    """Return the names of metrics, or raise what is none."""
    return metrics.check(values)
