"""Which classes a model takes for which."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from fastconv.errors import ArgumentTypeError, DtypeError, OptionError, ShapeError
from fastconv.geometry.arguments import shown
from fastconv.geometry.arrays import as_input
from fastconv.viz import page

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Inches: of a cell, of a letter in a name, around, of the title.
_CELL, _LETTER, _EDGE, _TITLE = 0.45, 0.07, 0.5, 0.35
# Above so many classes, cells are small and have no numbers.
_NUMBERED = 30


def confusion(
    labels: ArrayLike, predictions: ArrayLike, names: Sequence[str] | None = None, path: page.Path = None
) -> Figure:
    """Draw the confusion matrix: how many samples of each class, a row, were taken for each class, a column.

    Parameters
    ----------
    labels : array_like of int, shape (N,)
        From 0.
    predictions : array_like of shape (N, classes), or of int and shape (N,)
        What `Sequential.predict` returns, or the classes.
    names : sequence of str, optional
        Of the classes.
    path : str or Path, optional
        File to write: .png, .pdf or .svg.

    Returns
    -------
    matplotlib.figure.Figure
        Each row's colours are shares of its class.

    Raises
    ------
    MissingExtraError
        matplotlib is not installed.
    ShapeError, DtypeError, OptionError, ArgumentTypeError

    Examples
    --------
    >>> import fastconv as fc
    >>> figure = fc.viz.confusion([0, 1, 1, 2], [0, 1, 2, 2], names=["cat", "dog", "fox"])
    """
    path = page.checked("confusion", path)
    truth = _classes("labels", as_input("confusion", "labels", labels))
    given = as_input("confusion", "predictions", predictions)
    found = _classes("predictions", given.argmax(axis=1) if given.ndim == 2 and given.shape[1] else given)
    if len(truth) != len(found) or not len(truth):
        shapes = f"labels.shape = {truth.shape}, predictions.shape = {given.shape}"
        raise ShapeError(f"confusion: labels and predictions must be of the same samples, at least one; {shapes}")
    count = max(int(truth.max()), int(found.max()), given.shape[1] - 1 if given.ndim == 2 else 0) + 1
    texts = _names(names, count)
    counts = np.zeros((len(texts), len(texts)), np.int64)
    np.add.at(counts, (truth, found), 1)
    return page.written(_drawn(counts, texts), path)


def _drawn(counts: np.ndarray, names: list[str]) -> Figure:
    size = len(names)
    cell = _CELL if size <= _NUMBERED else _CELL * _NUMBERED / size
    side, longest = size * cell, max(map(len, names)) * _LETTER
    upright = longest > cell
    figure = page.new(
        "confusion",
        max(_EDGE + longest + side, 3.5) + 0.2,
        _TITLE + side + _EDGE + (longest if upright else 0.0),
    )
    axes = page.axes_at(figure, _EDGE + longest, _TITLE, side, side)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    right, total = int(np.trace(counts)), int(counts.sum())
    page.title(axes, f"{right:,} of {total:,} right: {right / total:.1%}")
    axes.set_xlabel("predicted", fontsize=page.SMALL)
    axes.set_ylabel("true", fontsize=page.SMALL)
    axes.set_xticks(range(size), names, rotation=90 if upright else 0)
    axes.set_yticks(range(size), names)
    axes.tick_params(length=0, labelsize=page.SMALL if size <= _NUMBERED else 5)
    if size <= _NUMBERED:
        for (i, j), n in np.ndenumerate(counts):
            colour = "white" if shares[i, j] > 0.5 else "black"
            if n:
                axes.text(j, i, str(n), ha="center", va="center", fontsize=page.SMALL, color=colour)
    return figure


def _classes(name: str, array: np.ndarray) -> np.ndarray:
    """Return classes, or raise what are none."""
    if array.dtype.kind not in "iu":
        expected = "integers" if name == "labels" else "integers, or numbers of shape (N, classes)"
        raise DtypeError(f"confusion: {name} has dtype {array.dtype} and shape {array.shape}, expected {expected}")
    if array.ndim != 1:
        raise ShapeError(f"confusion: {name} has shape {array.shape}, expected (N,)")
    if array.size and int(array.min()) < 0:
        raise OptionError(f"confusion: {name} has {int(array.min())}, expected classes from 0")
    return array.astype(np.int64)


def _names(names: Any, count: int) -> list[str]:
    """Return a name for each class."""
    if names is None:
        return [str(i) for i in range(count)]
    texts = list(names) if not isinstance(names, str) else []
    if not texts or not all(isinstance(text, str) for text in texts):
        raise ArgumentTypeError(f"confusion: names = {shown(names)}, expected strings")
    if len(texts) < count:
        raise OptionError(f"confusion: names has {len(texts)} classes, but there is class {count - 1}")
    return texts
