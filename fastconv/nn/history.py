"""What `fit` remembers, and whom it tells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastconv.errors import ArgumentTypeError
from fastconv.geometry.arguments import shown

if TYPE_CHECKING:
    from fastconv.nn.model import Sequential


class History:
    """The course of a `fit`.

    Attributes
    ----------
    history : dict of list of float
        "loss", the metrics, and with validation data "val_loss" and so on: a number for each epoch.
    epoch : list of int
        Numbers of the epochs, from 0.
    """

    def __init__(self) -> None:
        self.history: dict[str, list[float]] = {}
        self.epoch: list[int] = []

    def append(self, epoch: int, logs: dict[str, float]) -> None:
        """Add the numbers of an epoch."""
        self.epoch.append(epoch)
        for name, value in logs.items():
            self.history.setdefault(name, []).append(value)

    def __repr__(self) -> str:
        return f"<History of {len(self.epoch)} epochs: {', '.join(self.history)}>"


class Callback:
    """Base class of what `fit` calls on its way; set ``self.model.stop_training`` to end it.

    Attributes
    ----------
    model : Sequential
    """

    model: Sequential

    def set_model(self, model: Sequential) -> None:
        """Take the model, before the first epoch."""
        self.model = model

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Do something before the first epoch."""

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Do something before an epoch, for instance set ``self.model.optimizer.learning_rate``."""

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Do something with the numbers of an epoch."""

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        """Do something after the last epoch."""


class _Calling(Callback):
    """Calls a function at the end of each epoch."""

    def __init__(self, function: Any):
        self.function = function

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Call the function."""
        self.function(epoch, logs)


def listed(callbacks: Any) -> list[Callback]:
    """Return callbacks from those that `fit` was given, functions among them.

    Raises
    ------
    ArgumentTypeError
        Something else.
    """
    items = [] if callbacks is None else callbacks
    found: list[Callback] = []
    for item in items if isinstance(items, (list, tuple)) else [items]:
        if isinstance(item, Callback):
            found.append(item)
        elif callable(item) and not isinstance(item, type):
            found.append(_Calling(item))
        else:
            rule = "a fastconv.nn.Callback or a function (epoch, logs)"
            raise ArgumentTypeError(f"fit: callbacks has {shown(item)}, expected {rule}")
    return found
