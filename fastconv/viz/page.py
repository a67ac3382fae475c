"""Figures without pyplot, and the files that they are written to."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from fastconv.errors import ArgumentTypeError, MissingExtraError, OptionError
from fastconv.geometry.arguments import shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Path = str | os.PathLike[str] | None

# Dots for each inch: a map of 26 pixels half an inch wide has three dots for a pixel.
DPI = 150
SMALL, NORMAL = 8, 9


def new(function: str, width: float, height: float) -> Figure:
    """Return an empty figure of a size in inches.

    Raises
    ------
    MissingExtraError
        matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError(f'{function}: matplotlib is missing; pip install "fastconv[viz]"') from error
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def axes_at(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Return axes in a place in inches, counted from the left and from the top of the figure."""
    W, H = figure.get_size_inches()
    axes = figure.add_axes((left / W, 1 - (top + height) / H, width / W, height / H))
    axes.tick_params(labelsize=SMALL)
    return axes


def title(axes: Any, text: str) -> None:
    """Write a line above axes, from their left edge."""
    axes.set_title(text, loc="left", fontsize=NORMAL, pad=4)


def plain(axes: Axes) -> None:
    """Leave out the frame's upper and right side."""
    axes.spines[["top", "right"]].set_visible(False)


def checked(function: str, path: Any) -> Path:
    """Return a path, or raise what is none; so that nothing is drawn in vain."""
    if path is not None and (not isinstance(path, (str, os.PathLike)) or not isinstance(os.fspath(path), str)):
        raise ArgumentTypeError(f"{function}: path = {shown(path)}, expected None, a string or a Path")
    suffix = os.path.splitext(path)[1].lower() if path is not None else ".png"
    if suffix not in (".png", ".pdf", ".svg"):
        raise OptionError(f"{function}: path = {shown(os.fspath(path or ''))}, expected a name in .png, .pdf or .svg")
    return path


def written(figure: Figure, path: Path) -> Figure:
    """Return the figure, written to a file if there is a path."""
    if path is not None:
        figure.savefig(path)
    return figure
