"""The course of a training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fastconv.errors import ArgumentTypeError, OptionError
from fastconv.geometry.arguments import shown
from fastconv.nn import History
from fastconv.viz import page

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_VALIDATION = "val_"
# Inches.
_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM = 3.2, 2.4, 0.75, 0.4, 0.55


def training(history: History | Mapping[str, Any], path: page.Path = None) -> Figure:
    """Draw loss and metrics over the epochs, of training and validation.

    Parameters
    ----------
    history : History, or dict of lists of float
        What `Sequential.fit` returns, or its ``history``.
    path : str or Path, optional
        File to write: .png, .pdf or .svg.

    Returns
    -------
    matplotlib.figure.Figure
        With axes for the loss and for each metric.

    Raises
    ------
    MissingExtraError
        matplotlib is not installed.
    ArgumentTypeError, OptionError
        Something else, or no epoch.

    Examples
    --------
    >>> import fastconv as fc
    >>> len(fc.viz.training({"loss": [2.0, 1.0], "val_loss": [2.1, 1.5], "accuracy": [0.5, 0.8]}).axes)
    2
    """
    path, curves = page.checked("training", path), _curves(history)
    names = [name for name in curves if not name.startswith(_VALIDATION)]
    names += [n[len(_VALIDATION) :] for n in curves if n.startswith(_VALIDATION) and n[len(_VALIDATION) :] not in names]
    figure = page.new("training", len(names) * (_LEFT + _WIDTH) + 0.25, _TOP + _HEIGHT + _BOTTOM)
    for i, name in enumerate(names):
        axes = page.axes_at(figure, _LEFT + i * (_LEFT + _WIDTH), _TOP, _WIDTH, _HEIGHT)
        page.title(axes, name)
        page.plain(axes)
        for key, label, style in ((name, "training", "o-"), (_VALIDATION + name, "validation", "s--")):
            if key in curves:
                values = curves[key]
                axes.plot(np.arange(1, len(values) + 1), values, style, label=label, markersize=4)
        axes.set_xlabel("epoch", fontsize=page.SMALL)
        axes.locator_params(axis="x", integer=True)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=page.SMALL, frameon=False)
    return page.written(figure, path)


def _curves(history: Any) -> dict[str, np.ndarray]:
    """Return the numbers of each curve."""
    found = history.history if isinstance(history, History) else history
    rule = "expected what fit returns, or a dict of lists of numbers"
    if not isinstance(found, Mapping):
        raise ArgumentTypeError(f"training: history = {shown(history)}, {rule}")
    curves = {}
    for name, values in found.items():
        try:
            curve = np.asarray(values, np.float64)
        except (TypeError, ValueError) as error:
            raise ArgumentTypeError(f"training: history has {shown(name)}: {shown(values)}, {rule}") from error
        if not isinstance(name, str) or curve.ndim != 1:
            raise ArgumentTypeError(f"training: history has {shown(name)}: {shown(values)}, {rule}")
        curves[name] = curve
    if not any(map(len, curves.values())):
        raise OptionError("training: history has no epoch")
    return curves
