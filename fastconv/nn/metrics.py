"""Metrics: means over samples, added up over batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastconv.errors import ArgumentTypeError, OptionError
from fastconv.geometry.arguments import shown
from fastconv.nn.losses import Loss

__all__ = ["Metric"]

# Of one output: what counts as "yes".
_THRESHOLD = 0.5


class Metric:
    """A named mean over the samples.

    Attributes
    ----------
    name : str
        Its key in the history.
    of_logits : bool
        Whether logits will do where a softmax was left out.
    """

    def __init__(self, name: str, mean: Callable[[np.ndarray, np.ndarray], float], of_logits: bool):
        self.name, self.mean, self.of_logits = name, mean, of_logits


def _sparse(y: np.ndarray, outputs: np.ndarray) -> float:
    """Return the share of rows whose largest output is that of the label."""
    return float(np.count_nonzero(outputs.argmax(axis=-1) == y)) / max(y.size, 1)


def _categorical(y: np.ndarray, outputs: np.ndarray) -> float:
    return _sparse(y.argmax(axis=-1), outputs)


def _binary(y: np.ndarray, outputs: np.ndarray) -> float:
    return float(np.count_nonzero((outputs > _THRESHOLD) == (y > _THRESHOLD))) / max(y.size, 1)


def _squares(y: np.ndarray, outputs: np.ndarray) -> float:
    return float(np.square(outputs - y.astype(outputs.dtype, copy=False)).mean())


_FORMULAS = {
    "sparse_categorical_accuracy": _sparse,
    "categorical_accuracy": _categorical,
    "binary_accuracy": _binary,
    "mse": _squares,
    "mean_squared_error": _squares,
}
NAMES = ("accuracy", "acc", *_FORMULAS)


def found(values: Any, loss: Loss, outputs: tuple[int, ...]) -> list[Metric]:
    """Return the metrics of `compile`, for a loss and a model whose outputs have a shape."""
    return [_found(value, loss, outputs) for value in values]


def checked(values: Any) -> list[str]:
    """Return the names of metrics, or raise what is none."""
    if isinstance(values, str) or not isinstance(values, (list, tuple)):
        raise ArgumentTypeError(f"compile: metrics = {shown(values)}, expected a list of names")
    rule = f"expected one of {', '.join(map(repr, NAMES))}"
    for value in values:
        if not isinstance(value, str):
            raise ArgumentTypeError(f"compile: metrics has {shown(value)}, {rule}")
        if value not in NAMES:
            raise OptionError(f"compile: metrics has {shown(value)}, {rule}")
    return list(values)


def _found(name: str, loss: Loss, outputs: tuple[int, ...]) -> Metric:
    formula = name
    if name in ("accuracy", "acc"):
        if loss.name == "sparse_categorical_crossentropy":
            formula = "sparse_categorical_accuracy"
        else:
            formula = "binary_accuracy" if outputs[-1] == 1 else "categorical_accuracy"
    sparse = loss.name == "sparse_categorical_crossentropy"
    if sparse != (formula == "sparse_categorical_accuracy"):
        kind = "labels by number" if sparse else "one number for each output"
        raise OptionError(f"compile: metrics has {name!r}, which does not fit {loss.name}: y has {kind}")
    return Metric(name, _FORMULAS[formula], formula.endswith("categorical_accuracy"))
