"""Many small images as one."""

from __future__ import annotations

from typing import Any

import numpy as np

# Of a mosaic that is to be much wider than high, as a page has many of them below each other.
_ASPECT = 5.0
# Pixels along an image, at least.
_FINE = 20
_DIVERGING, _RISING = "RdBu_r", "viridis"


def columns(count: int, H: int, W: int) -> int:
    """Return how many of `count` images of H x W stand side by side: rows of equal length, if they look well."""
    ideal = min(max(_ASPECT * count * H / W, 1.0) ** 0.5, count)
    whole = [n for n in range(1, count + 1) if count % n == 0 and 0.5 <= n / ideal <= 2]
    return min(whole, key=lambda n: abs(np.log(n / ideal))) if whole else round(ideal)


def joined(images: np.ndarray, across: int, gap: float) -> np.ndarray:
    """Return images (count, H, W) row by row in one, between them NaN, `gap` times as wide as an image."""
    size = max(images.shape[1:])
    # Each pixel as a few, so that also between small images the gap is of that width.
    fine = -(-_FINE // size)
    images = images.repeat(fine, axis=1).repeat(fine, axis=2)
    count, H, W = images.shape
    empty = max(1, round(gap * size * fine))
    down = -(-count // across)
    sheet = np.full((down * (H + empty) - empty, across * (W + empty) - empty), np.nan)
    for i, image in enumerate(images):
        top, left = i // across * (H + empty), i % across * (W + empty)
        sheet[top : top + H, left : left + W] = image
    return sheet


def _range(values: np.ndarray) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)


def grey(values: np.ndarray) -> dict[str, Any]:
    """Return the keywords of `imshow` for an image, black at 0 or its darkest pixel, white at its brightest."""
    low, high = _range(values)
    return {"cmap": "gray", "vmin": min(low, 0.0), "vmax": high if high > low else low + 1}


def colours(values: np.ndarray) -> dict[str, Any]:
    """Return the keywords of `imshow` for values: diverging around 0 where some are negative, else from 0 up."""
    low, high = _range(values)
    if low < 0:
        return diverging(max(-low, high))
    return {"cmap": _RISING, "vmin": 0.0, "vmax": high or 1.0}


def diverging(extent: float) -> dict[str, Any]:
    """Return the keywords of `imshow` for values from -extent to extent."""
    return {"cmap": _DIVERGING, "vmin": -(extent or 1.0), "vmax": extent or 1.0}


def show(axes: Any, sheet: np.ndarray, colour: dict[str, Any]) -> Any:
    """Draw a mosaic without ticks and frame, and return the image."""
    axes.set_axis_off()
    return axes.imshow(np.ma.masked_invalid(sheet), aspect="auto", **colour)
