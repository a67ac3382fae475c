"""Losses: the mean over a batch, and its gradient at the outputs, or at the logits that a softmax would take."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastconv.errors import ArgumentTypeError, DtypeError, OptionError, ShapeError
from fastconv.geometry.arguments import shown
from fastconv.geometry.arrays import as_ndarray
from fastconv.nn.layers.arguments import flag

__all__ = ["CategoricalCrossentropy", "Loss", "MeanSquaredError", "SparseCategoricalCrossentropy"]

# Keras's bounds of a probability whose logarithm is taken.
_LEAST = 1e-7


class Loss:
    """Base class of the losses."""

    name = ""
    # Whether it is of probabilities, so that a softmax before it can be merged with it.
    of_probabilities = False
    from_logits = False

    def checked(self, function: str, y: ArrayLike, outputs: tuple[int, ...], layer: str) -> np.ndarray:
        """Return the truth for outputs of shape `outputs`, whose first axis is that of samples, as the loss takes it.

        Raises
        ------
        ShapeError, DtypeError, OptionError
            What does not fit; `layer` is the last one, for the message.
        """
        raise NotImplementedError

    def value(self, y: np.ndarray, outputs: np.ndarray, logits: bool) -> tuple[float, Any]:
        """Return the mean loss, and what `gradient` takes of it; `logits`: the outputs are those before a softmax."""
        raise NotImplementedError

    def gradient(self, y: np.ndarray, outputs: np.ndarray, logits: bool, kept: Any) -> np.ndarray:
        """Return the gradient of the mean loss at the outputs."""
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make an equal one."""
        return {"from_logits": True} if self.from_logits else {}


class _Crossentropy(Loss):
    """Minus the logarithm of the probability of what is true."""

    of_probabilities = True

    def __init__(self, from_logits: bool = False):
        self.from_logits = flag(type(self).__name__, "from_logits", from_logits)

    def value(self, y: np.ndarray, outputs: np.ndarray, logits: bool) -> tuple[float, Any]:
        """Return the mean loss, and the probabilities by classes."""
        rows = outputs.reshape(-1, outputs.shape[-1])
        if not (logits or self.from_logits):
            p = self._normalized(rows)
            return float(self._picked(y, -np.log(np.clip(p, _LEAST, 1 - _LEAST))).mean()), p
        # log(sum(exp(z))) - z of the truth, with the largest z taken out: no overflow, and no log of 0.
        shifted = rows - rows.max(axis=1, keepdims=True)
        p = np.exp(shifted)
        total = p.sum(axis=1, keepdims=True)
        p /= total
        np.subtract(np.log(total), shifted, out=shifted)
        return float(self._picked(y, shifted).mean()), p

    def gradient(self, y: np.ndarray, outputs: np.ndarray, logits: bool, kept: Any) -> np.ndarray:
        """Return (p - truth) / rows for logits, else -truth / p / rows."""
        if logits or self.from_logits:
            d = self._less_truth(kept, y)
            d *= d.dtype.type(1 / len(d))
        else:
            d = self._through_logarithm(kept, y, outputs.reshape(kept.shape))
        return d.reshape(outputs.shape)

    def _through_logarithm(self, p: np.ndarray, y: np.ndarray, rows: np.ndarray) -> np.ndarray:
        truth = -self._less_truth(np.zeros_like(p), y)
        inside = (p > _LEAST) & (p < 1 - _LEAST)
        return np.where(inside, -truth / p, p.dtype.type(0)) * p.dtype.type(1 / len(p))

    def _normalized(self, rows: np.ndarray) -> np.ndarray:
        return rows

    def _picked(self, y: np.ndarray, losses: np.ndarray) -> np.ndarray:
        """Return the loss of each row from those by class."""
        raise NotImplementedError

    def _less_truth(self, p: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Subtract the true probabilities from `p`, in place."""
        raise NotImplementedError


class SparseCategoricalCrossentropy(_Crossentropy):
    """``-log(p[y])`` for classes y given by their numbers, mean over the samples.

    Parameters
    ----------
    from_logits : bool
        The model's outputs are logits: it has no softmax at its end.
    """

    name = "sparse_categorical_crossentropy"

    def checked(self, function: str, y: ArrayLike, outputs: tuple[int, ...], layer: str) -> np.ndarray:
        """Return the labels as int64; they must be integers from 0 to the number of classes - 1."""
        labels, classes = as_ndarray(function, "y", y), outputs[-1]
        if labels.dtype.kind not in "iub":
            raise DtypeError(f"{function}: y has dtype {labels.dtype}, expected integers for {self.name}")
        if labels.shape == (*outputs[:-1], 1):
            labels = labels[..., 0]
        if labels.shape != outputs[:-1]:
            hint = "; one-hot labels are for categorical_crossentropy" if labels.shape == outputs else ""
            raise ShapeError(f"{function}: y has shape {labels.shape}, expected {outputs[:-1]} for {self.name}{hint}")
        wrong = (labels < 0) | (labels >= classes)
        if wrong.any():
            at = int(np.flatnonzero(wrong.reshape(-1))[0])
            rule = f"expected 0 to {classes - 1}: {layer} has {classes} outputs"
            raise OptionError(f"{function}: y has the label {labels.reshape(-1)[at]} at position {at}, {rule}")
        return labels.astype(np.int64)

    def _picked(self, y: np.ndarray, losses: np.ndarray) -> np.ndarray:
        return losses[np.arange(len(losses)), y.reshape(-1)]

    def _less_truth(self, p: np.ndarray, y: np.ndarray) -> np.ndarray:
        p[np.arange(len(p)), y.reshape(-1)] -= 1
        return p


class CategoricalCrossentropy(_Crossentropy):
    """``-sum(y * log(p))`` for probabilities y of the classes, one-hot as a rule, mean over the samples.

    Parameters
    ----------
    from_logits : bool
        The model's outputs are logits: it has no softmax at its end.
    """

    name = "categorical_crossentropy"

    def checked(self, function: str, y: ArrayLike, outputs: tuple[int, ...], layer: str) -> np.ndarray:
        """Return the probabilities, of the outputs' shape."""
        truth = _real(function, y)
        if truth.shape != outputs:
            hint = "; labels by number are for sparse_categorical_crossentropy" if truth.ndim < len(outputs) else ""
            raise ShapeError(f"{function}: y has shape {truth.shape}, expected {outputs} for {self.name}{hint}")
        if truth.size and not (np.isfinite(truth).all() and truth.min() >= 0):
            raise OptionError(f"{function}: y has negative or no numbers, expected probabilities for {self.name}")
        return truth

    def _normalized(self, rows: np.ndarray) -> np.ndarray:
        return rows / rows.sum(axis=1, keepdims=True)

    def _through_logarithm(self, p: np.ndarray, y: np.ndarray, rows: np.ndarray) -> np.ndarray:
        d = super()._through_logarithm(p, y, rows)
        # p = rows / total.
        total = rows.sum(axis=1, keepdims=True)
        return (d - (d * p).sum(axis=1, keepdims=True)) / total  # type: ignore[no-any-return]

    def _picked(self, y: np.ndarray, losses: np.ndarray) -> np.ndarray:
        return (losses * y.reshape(losses.shape)).sum(axis=1)  # type: ignore[no-any-return]

    def value(self, y: np.ndarray, outputs: np.ndarray, logits: bool) -> tuple[float, Any]:
        """Return the mean loss, and the probabilities by classes."""
        return super().value(y.astype(outputs.dtype, copy=False), outputs, logits)

    def gradient(self, y: np.ndarray, outputs: np.ndarray, logits: bool, kept: Any) -> np.ndarray:
        """Return the gradient of the mean loss at the outputs."""
        y = y.astype(outputs.dtype, copy=False)
        if logits or self.from_logits:
            # Probabilities of a sum other than 1 are allowed.
            kept = kept * y.reshape(kept.shape).sum(axis=1, keepdims=True)
        return super().gradient(y, outputs, logits, kept)

    def _less_truth(self, p: np.ndarray, y: np.ndarray) -> np.ndarray:
        p -= y.reshape(p.shape)
        return p


class MeanSquaredError(Loss):
    """``(outputs - y)**2``, mean over the samples and all their numbers."""

    name = "mean_squared_error"

    def checked(self, function: str, y: ArrayLike, outputs: tuple[int, ...], layer: str) -> np.ndarray:
        """Return real numbers of the outputs' shape."""
        truth = _real(function, y)
        if outputs[-1:] == (1,) and truth.shape == outputs[:-1]:
            truth = truth.reshape(outputs)
        if truth.shape != outputs:
            raise ShapeError(f"{function}: y has shape {truth.shape}, expected {outputs}: {layer} has these outputs")
        return truth

    def value(self, y: np.ndarray, outputs: np.ndarray, logits: bool) -> tuple[float, Any]:
        """Return the mean loss, and the differences."""
        differences = outputs - y.astype(outputs.dtype, copy=False)
        flat = differences.reshape(-1)
        # One product, in double: no array of squares.
        return float(np.einsum("i,i", flat, flat, dtype=np.float64)) / max(flat.size, 1), differences

    def gradient(self, y: np.ndarray, outputs: np.ndarray, logits: bool, kept: Any) -> np.ndarray:
        """Return twice the differences, over their number."""
        kept *= kept.dtype.type(2 / max(kept.size, 1))
        return kept  # type: ignore[no-any-return]


LOSSES: Mapping[str, type[Loss]] = MappingProxyType(
    {
        "sparse_categorical_crossentropy": SparseCategoricalCrossentropy,
        "categorical_crossentropy": CategoricalCrossentropy,
        "mean_squared_error": MeanSquaredError,
        "mse": MeanSquaredError,
    }
)


def found(value: Any) -> Loss:
    """Return the loss that `compile` was given by name, as a class or itself."""
    rule = f"expected one of {', '.join(map(repr, LOSSES))} or a fastconv.nn.losses.Loss"
    if isinstance(value, type) and issubclass(value, Loss):
        return value()
    if isinstance(value, Loss):
        return value
    if isinstance(value, str):
        if value in LOSSES:
            return LOSSES[value]()
        raise OptionError(f"compile: loss = {shown(value)}, {rule}")
    raise ArgumentTypeError(f"compile: loss = {shown(value)} is a {type(value).__name__}, {rule}")


def is_finite(loss: float) -> bool:
    """Return whether training can go on."""
    return math.isfinite(loss)


def _real(function: str, y: ArrayLike) -> np.ndarray:
    array = as_ndarray(function, "y", y)
    if array.dtype.kind not in "iubf":
        raise DtypeError(f"{function}: y has dtype {array.dtype}, expected real numbers")
    return array
