"""The loops: fit, evaluate, predict."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from fastconv.errors import ArgumentTypeError, DtypeError, NonFiniteError, OptionError, ShapeError
from fastconv.geometry.arguments import positive, shown
from fastconv.geometry.arrays import as_ndarray, on_device
from fastconv.nn import activations, losses, metrics, random
from fastconv.nn.history import History, listed
from fastconv.nn.interrupts import Deferred
from fastconv.nn.layers.arguments import flag, number
from fastconv.nn.pace import Pace
from fastconv.nn.progress import Progress, level

if TYPE_CHECKING:
    from fastconv.nn.model import Sequential

BATCH = 32


class Data(NamedTuple):
    """The arrays of `fit`, as the user gave them."""

    x: Any
    y: Any
    validation_split: Any
    validation_data: Any


class Settings(NamedTuple):
    """The other arguments of `fit`, as the user gave them."""

    batch_size: Any
    epochs: Any
    verbose: Any
    callbacks: Any
    shuffle: Any


class Samples(NamedTuple):
    """Checked samples: inputs of any real dtype, and the truth as the loss takes it."""

    x: np.ndarray
    y: np.ndarray


def real_array(function: str, name: str, value: ArrayLike) -> np.ndarray:
    """Return an array of real numbers, of any dtype and strides.

    Raises
    ------
    DtypeError
        Other dtypes, and what NumPy cannot convert.
    """
    # Batches are copied anyway, so a tensor may be anywhere.
    on_host: Any = value.cpu() if on_device(value) and hasattr(value, "cpu") else value
    array = as_ndarray(function, name, on_host)
    if array.dtype.kind not in "iubf" and array.dtype.name != "bfloat16":
        raise DtypeError(f"{function}: {name} has dtype {array.dtype}, expected real numbers")
    return array


class Batches:
    """Batches of samples in any order, converted in buffers that the next one overwrites."""

    def __init__(self, model: Sequential, samples: Samples, size: int):
        self.samples, self.size = samples, size
        self.dtype = model.layers[0].dtype
        rows = min(size, len(samples.x))
        self._taken = np.empty((rows, *samples.x.shape[1:]), samples.x.dtype)
        self._floats = self._taken
        if samples.x.dtype != self.dtype:
            self._floats = np.empty(self._taken.shape, self.dtype)

    def __len__(self) -> int:
        return -(-len(self.samples.x) // self.size)

    def shuffled(self, order: np.ndarray) -> Iterator[Samples]:
        """Yield the batches of an order."""
        x, y = self.samples
        for start in range(0, len(order), self.size):
            rows = order[start : start + self.size]
            taken, floats = self._taken[: len(rows)], self._floats[: len(rows)]
            x.take(rows, axis=0, out=taken, mode="clip")
            if floats is not taken and taken.dtype != floats.dtype:
                floats[...] = taken
            yield Samples(floats, y.take(rows, axis=0))

    def in_order(self) -> Iterator[Samples]:
        """Yield the batches as the samples stand."""
        x, y = self.samples
        for start in range(0, len(x), self.size):
            part = np.ascontiguousarray(x[start : start + self.size], self.dtype)
            yield Samples(part, y[start : start + self.size])


class Compiled:
    """A model with its loss and metrics, for outputs of its shape."""

    def __init__(self, function: str, model: Sequential):
        if model.loss is None or model.optimizer is None:
            raise OptionError(f"{function}: {model.name} is not compiled; call compile() first")
        self.model, self.loss, self.optimizer = model, model.loss, model.optimizer
        self.outputs = model.layers[-1].sample_shape
        self.metrics = metrics.found(model.metric_names, self.loss, self.outputs)
        self.last = model.layers[-1]
        is_softmax = getattr(self.last, "activation", None) == "softmax"
        self.logits = is_softmax and self.loss.of_probabilities
        if self.logits and self.loss.from_logits:
            raise OptionError(f"{function}: {self.last.where} has a softmax, but the loss takes logits")

    def samples(self, function: str, x: Any, y: Any) -> Samples:
        """Return checked samples."""
        array = self.model.checked(function, x)
        if y is None:
            raise ArgumentTypeError(f"{function}: y is None, expected an array")
        truth = real_array(function, "y", y)
        if truth.ndim == 0 or len(truth) != len(array):
            shapes = f"x.shape = {array.shape}, y.shape = {truth.shape}"
            raise ShapeError(f"{function}: x and y must have the same number of samples; {shapes}")
        if not len(array):
            raise ShapeError(f"{function}: there are no samples; x.shape = {array.shape}")
        return Samples(array, self.loss.checked(function, truth, (len(array), *self.outputs), self.last.where))

    def measured(self, y: np.ndarray, outputs: np.ndarray) -> list[float]:
        """Return the metrics of a batch."""
        found, probabilities = [], None
        for metric in self.metrics:
            if self.logits and not metric.of_logits:
                if probabilities is None:
                    probabilities = activations.softmax(outputs)
                found.append(metric.mean(y, probabilities))
            else:
                found.append(metric.mean(y, outputs))
        return found

    def step(self, batch: Samples, guard: Deferred) -> list[float]:
        """Do one step of training; return loss and metrics of before. Nothing is changed if the loss is not finite."""
        tape = self.model.tape
        outputs = tape.forward(batch.x, self.logits)
        loss, kept = self.loss.value(batch.y, outputs, self.logits)
        found = [loss, *self.measured(batch.y, outputs)]
        if not losses.is_finite(loss):
            return found
        parameters = tape.backward(self.loss.gradient(batch.y, outputs, self.logits, kept), self.logits)
        with guard:
            if parameters:
                self.optimizer.step(parameters)
            tape.commit()
        return found


class Means:
    """Running means of loss and metrics over samples."""

    def __init__(self, names: list[str]):
        self.names, self.totals, self.count = names, [0.0] * len(names), 0

    def add(self, values: list[float], count: int) -> None:
        """Add the means of a batch."""
        self.totals = [t + count * v for t, v in zip(self.totals, values, strict=True)]
        self.count += count

    def logs(self, prefix: str = "") -> dict[str, float]:
        """Return the means by name."""
        means = [t / max(self.count, 1) for t in self.totals]
        return {prefix + name: mean for name, mean in zip(self.names, means, strict=True)}


def fit(model: Sequential, data: Data, settings: Settings) -> History:
    """Train a model; see `Sequential.fit`."""
    size = _batch_size("fit", settings.batch_size)
    epochs = positive("fit", "epochs", settings.epochs)
    verbose = level("fit", settings.verbose)
    shuffle = flag("fit", "shuffle", settings.shuffle)
    callbacks = listed(settings.callbacks)
    model.checked("fit", data.x)
    compiled = Compiled("fit", model)
    training, validation = _split(compiled, data)
    batches = Batches(model, training, size)
    history = model.history = History()
    model.stop_training = False
    for callback in callbacks:
        callback.set_model(model)
        callback.on_train_begin()
    guard, pace = Deferred(), Pace(batches.size)
    guard.install()
    try:
        with np.errstate(all="ignore"):
            for epoch in range(epochs):
                for callback in callbacks:
                    callback.on_epoch_begin(epoch)
                bar = Progress(verbose, f"Epoch {epoch + 1}/{epochs}", len(batches))
                logs = _epoch(compiled, batches, shuffle, epoch, bar, guard, pace, validation)
                history.append(epoch, logs)
                for callback in callbacks:
                    callback.on_epoch_end(epoch, logs)
                if model.stop_training:
                    break
    finally:
        guard.restore()
        model.tape.release()
    for callback in callbacks:
        callback.on_train_end()
    return history


def _epoch(
    compiled: Compiled,
    batches: Batches,
    shuffle: bool,
    epoch: int,
    bar: Progress,
    guard: Deferred,
    pace: Pace,
    validation: Batches | None,
) -> dict[str, float]:
    """Train over all samples once; return the means, and those of the validation data."""
    count = len(batches.samples.x)
    order = random.generator().permutation(count) if shuffle else np.arange(count)
    means = Means(compiled.model.metrics_names)
    logs = None
    try:
        for i, batch in enumerate(batches.shuffled(order)):
            with pace.step(len(batch.y)):
                found = compiled.step(batch, guard)
            if not losses.is_finite(found[0]):
                when = f" in epoch {epoch + 1}, batch {i + 1}"
                raise NonFiniteError(_diagnosis("fit", compiled, found[0], batch, when))
            means.add(found, len(batch.y))
            bar.step(means.totals[0] / means.count)
        logs = means.logs()
        if validation is not None:
            logs |= _evaluated(compiled, validation, None).logs("val_")
        return logs
    finally:
        bar.close(logs)


def _diagnosis(function: str, compiled: Compiled, loss: float, batch: Samples, when: str) -> str:
    """Return the message for a loss that is not finite."""
    text = f"{function}: the loss is {loss}{when}"
    if not np.isfinite(batch.x).all():
        return f"{text}: the input x has numbers that are not finite"
    if not np.isfinite(batch.y).all():
        return f"{text}: y has numbers that are not finite"
    layer = compiled.model.tape.first_not_finite()
    if layer is None:
        return f"{text}, though the outputs of all layers are finite: y, or the differences, are too large"
    text = f"{text}; the first layer whose output is not finite is {layer.where}"
    if all(np.isfinite(p.value).all() for p in layer.parameters):
        return f"{text}; its weights are finite"
    return f"{text}; its weights are not finite either: a smaller learning_rate may help"


def _split(compiled: Compiled, data: Data) -> tuple[Samples, Batches | None]:
    """Return the samples for training, and those for validation in batches."""
    samples = compiled.samples("fit", data.x, data.y)
    given = data.validation_data
    if given is not None:
        if not isinstance(given, (tuple, list)) or len(given) != 2:
            raise ArgumentTypeError(f"fit: validation_data = {shown(given)}, expected a tuple (x, y)")
        checked = compiled.samples("fit: validation_data", *given)
        return samples, Batches(compiled.model, checked, BATCH)
    share = number("fit", "validation_split", data.validation_split, 0, 1, "a number from 0 to below 1")
    if not share:
        return samples, None
    first = int(len(samples.x) * (1 - share))
    if first in (0, len(samples.x)):
        shares = f"{first} and {len(samples.x) - first} samples"
        raise OptionError(f"fit: validation_split = {share} cuts {len(samples.x)} samples in {shares}")
    parts = (Samples(*(a[part] for a in samples)) for part in (slice(first), slice(first, None)))
    training, validation = parts
    return training, Batches(compiled.model, validation, BATCH)


def _evaluated(compiled: Compiled, batches: Batches, bar: Progress | None) -> Means:
    """Return the means of loss and metrics, with the weights as they are."""
    means = Means(compiled.model.metrics_names)
    inference = compiled.model.inference
    for batch in batches.in_order():
        outputs = inference(batch.x, compiled.logits)
        loss, _ = compiled.loss.value(batch.y, outputs, compiled.logits)
        means.add([loss, *compiled.measured(batch.y, outputs)], len(batch.y))
        if bar is not None:
            bar.step(means.totals[0] / means.count)
    return means


def evaluate(model: Sequential, x: Any, y: Any, batch_size: Any, verbose: Any) -> dict[str, float]:
    """Return loss and metrics by name; see `Sequential.evaluate`."""
    size, shown_level = _batch_size("evaluate", batch_size), level("evaluate", verbose)
    model.checked("evaluate", x)
    compiled = Compiled("evaluate", model)
    batches = Batches(model, compiled.samples("evaluate", x, y), size)
    bar, logs = Progress(shown_level, "Evaluate", len(batches)), None
    try:
        with np.errstate(all="ignore"):
            logs = _evaluated(compiled, batches, bar).logs()
    finally:
        bar.close(logs)
    return logs


def predict(model: Sequential, x: Any, batch_size: Any, verbose: Any) -> np.ndarray:
    """Return the outputs for all samples; see `Sequential.predict`."""
    size, shown_level = _batch_size("predict", batch_size), level("predict", verbose)
    array = model.checked("predict", x)
    last = model.layers[-1]
    outputs = np.empty((len(array), *last.sample_shape), last.dtype)
    dtype, inference = model.layers[0].dtype, model.inference
    bar = Progress(shown_level, "Predict", -(-len(array) // size))
    logs: dict[str, float] | None = None
    try:
        with np.errstate(all="ignore"):
            for start in range(0, len(array), size):
                batch = np.ascontiguousarray(array[start : start + size], dtype)
                outputs[start : start + size] = inference(batch)
                bar.step()
        logs = {}
    finally:
        bar.close(logs)
    return outputs


def train_on_batch(model: Sequential, x: Any, y: Any) -> list[float]:
    """Do one step; see `Sequential.train_on_batch`."""
    model.checked("train_on_batch", x)
    compiled = Compiled("train_on_batch", model)
    samples = compiled.samples("train_on_batch", x, y)
    batch = Samples(np.ascontiguousarray(samples.x, model.layers[0].dtype), samples.y)
    guard = Deferred()
    guard.install()
    try:
        with np.errstate(all="ignore"):
            found = compiled.step(batch, guard)
    finally:
        guard.restore()
    if not losses.is_finite(found[0]):
        raise NonFiniteError(_diagnosis("train_on_batch", compiled, found[0], batch, ""))
    return found


def _batch_size(function: str, value: Any) -> int:
    return BATCH if value is None else positive(function, "batch_size", value)
