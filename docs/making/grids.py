"""Small arrays drawn as grids of numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import ConnectionPatch, Rectangle

INK, PAPER, FAINT = "#1c2733", "#ffffff", "#eef1f4"
# Distinguishable with every kind of colour vision (Okabe and Ito), and in grey.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7")
WORDS, NUMBERS = 10, 9


def figure(width: float, height: float) -> Any:
    """Return an empty figure of a size in inches."""
    return Figure(figsize=(width, height), facecolor=PAPER, layout="constrained")


def light(colour: str, alpha: float = 0.3) -> tuple[float, ...]:
    """Return a colour on white paper, as far as it shows."""
    return tuple(alpha * c + 1 - alpha for c in to_rgba(colour)[:3])


def grid(axes: Any, values: np.ndarray, title: str = "", fill: Any = None, numbers: bool = True) -> None:
    """Draw a matrix as cells; `fill` is a function (row, column) -> colour or None."""
    H, W = values.shape
    for i, j in np.ndindex(H, W):
        colour = (fill and fill(i, j)) or PAPER
        axes.add_patch(Rectangle((j, i), 1, 1, facecolor=colour, edgecolor="#9aa5b1", linewidth=0.7))
        if numbers:
            axes.text(j + 0.5, i + 0.5, f"{values[i, j]:g}", ha="center", va="center", fontsize=NUMBERS, color=INK)
    axes.set_xlim(-0.15, W + 0.15)
    axes.set_ylim(H + 0.15, -0.15)
    axes.set_aspect("equal")
    axes.set_axis_off()
    axes.set_title(title, fontsize=WORDS, color=INK)


def frame(axes: Any, top: float, left: float, height: float, width: float, colour: str = COLOURS[1]) -> None:
    """Draw a border around some cells."""
    axes.add_patch(Rectangle((left, top), width, height, fill=False, edgecolor=colour, linewidth=2.2, zorder=3))


def sign(axes: Any, text: str) -> None:
    """Fill axes with a sign, such as an arrow."""
    axes.set_axis_off()
    axes.text(0.5, 0.5, text, ha="center", va="center", fontsize=18, color=INK, transform=axes.transAxes)


def picture(axes: Any, image: np.ndarray, title: str = "", **colour: Any) -> Any:
    """Draw an image without ticks."""
    axes.set_axis_off()
    axes.set_title(title, fontsize=WORDS, color=INK)
    return axes.imshow(image, **({"cmap": "gray"} | colour))


def join(figure: Any, one: Any, start: Sequence[float], other: Any, end: Sequence[float], colour: str) -> None:
    """Draw a line from a point of some axes to a point of others."""
    line = ConnectionPatch(start, end, "data", "data", axesA=one, axesB=other, color=colour, linewidth=1, alpha=0.8)
    figure.add_artist(line)


def row_of(figure: Any, widths: Iterable[float], rows: int = 1) -> Any:
    """Return axes side by side, with widths in proportion."""
    widths = list(widths)
    return figure.subplots(rows, len(widths), width_ratios=widths)
