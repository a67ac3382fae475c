"""The model: layers, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastconv.errors import OptionError, ShapeError
from fastconv.nn import losses, optimizers, summary, training
from fastconv.nn.history import History
from fastconv.nn.inference import Inference
from fastconv.nn.layers import InputLayer, Layer
from fastconv.nn.metrics import checked as metrics_of
from fastconv.nn.stack import Stack
from fastconv.nn.tape import Tape


class _Loading:
    """``Sequential.load(path)`` makes a model, ``model.load(path)`` replaces one; so no call is without effect."""

    def __get__(self, model: Sequential | None, owner: type[Sequential]) -> Callable[[str | Path], Sequential]:
        def load(path: str | Path) -> Sequential:
            """Return the model of a file that `save` wrote; see `fastconv.nn.load_model`.

            Of a model, not of the class, it takes that model's place: layers, weights and how it is compiled.
            """
            from fastconv.nn import saving

            loaded = saving.load_model(path)
            if model is None:
                return loaded
            vars(model).update(vars(loaded))
            return model

        return load


class Sequential(Stack):
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
        self.history: History | None = None
        self.stop_training = False
        self.optimizer: optimizers.Optimizer | None = None
        self.loss: losses.Loss | None = None
        self.metric_names: list[str] = []
        self._inference: Inference | None = None
        self._tape: Tape | None = None
        super().__init__(layers, name)

    def __getstate__(self) -> dict[str, Any]:
        # What is prepared knows addresses of this model's arrays; a copy has its own.
        return vars(self) | {"_inference": None, "_tape": None}

    def _changed(self) -> None:
        self._inference = self._tape = None

    def checked(self, function: str, x: ArrayLike, built: bool = True) -> np.ndarray:
        """Return inputs as an array of real numbers of any dtype, or raise what does not fit; builds the model."""
        if not self.layers:
            raise OptionError(f"{function}: {self.name} has no layers")
        array = training.real_array(function, "x", x)
        first = self.layers[0]
        sample = first.input_shape[1:] if first.built else self.sample
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
        names = default if metrics is None else metrics_of(metrics)
        self.optimizer, self.loss, self.metric_names = optimizers.found(optimizer), found, names

    @property
    def metrics_names(self) -> list[str]:
        """The names of what `evaluate` returns."""
        return ["loss", *self.metric_names]

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

    load = _Loading()
