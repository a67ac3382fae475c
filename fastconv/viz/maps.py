"""What each layer of a model sees."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from fastconv.errors import ArgumentTypeError, ShapeError
from fastconv.geometry.arguments import positive, shown
from fastconv.geometry.arrays import as_input
from fastconv.nn import Sequential
from fastconv.viz import mosaic, page

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Inches.
_WIDTH, _MARGIN, _TITLE, _GAP = 8.0, 0.5, 0.2, 0.12
_BARS, _TICKS = 0.8, 0.25
_LARGEST = 1.3
# Between two maps, of their width.
_SPACE = 0.06
# Above so many, bars touch and are drawn as one outline.
_FEW = 40


class _Panel(NamedTuple):
    title: str
    values: np.ndarray
    colour: dict[str, Any]
    width: float
    height: float

    @property
    def is_image(self) -> bool:
        return self.values.ndim == 2

    @property
    def below(self) -> float:
        """Room for the numbers at the axis."""
        return 0.0 if self.is_image else _TICKS


def feature_maps(model: Sequential, image: ArrayLike, path: page.Path = None, *, maps: int = 64) -> Figure:
    """Draw what each layer sees of an image: a grid of maps for each layer with images, bars for one with numbers.

    Parameters
    ----------
    model : Sequential
    image : array_like of shape (H, W, C), (1, H, W, C) or, of one channel, (H, W)
        One sample of what the model takes.
    path : str or Path, optional
        File to write: .png, .pdf or .svg.
    maps : int
        At most so many of a layer are drawn, the first ones.

    Returns
    -------
    matplotlib.figure.Figure
        With axes for the image and for each layer, in their order.

    Raises
    ------
    MissingExtraError
        matplotlib is not installed.
    ShapeError
        The image does not fit the model.
    ArgumentTypeError, OptionError

    Notes
    -----
    All maps of a layer have one scale, from 0 up or, where some numbers are negative, around 0: blue below, red above.
    The title has the range.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv as fc
    >>> model = fc.nn.Sequential([fc.nn.Conv2D(4, 3, input_shape=(8, 8, 1)), fc.nn.Flatten(), fc.nn.Dense(2)])
    >>> len(fc.viz.feature_maps(model, np.ones((8, 8, 1))).axes)
    4
    """
    path, limit = page.checked("feature_maps", path), positive("feature_maps", "maps", maps)
    if not isinstance(model, Sequential):
        raise ArgumentTypeError(f"feature_maps: model = {shown(model)}, expected a fastconv.nn.Sequential")
    x = _sample(model, image)
    panels = [_panel("input", x[0], limit, True)]
    for layer, y in zip(model.layers, model.feature_maps(x), strict=True):
        panels.append(_panel(f"{layer.name} ({type(layer).__name__})", y[0], limit))
    height = sum(_TITLE + p.height + p.below + _GAP for p in panels) + 2 * _GAP
    figure = page.new("feature_maps", _WIDTH + 2 * _MARGIN, height)
    top = float(_GAP)
    for panel in panels:
        top += _TITLE
        _draw(page.axes_at(figure, _MARGIN, top, panel.width, panel.height), panel)
        top += panel.height + panel.below + _GAP
    return page.written(figure, path)


def _sample(model: Sequential, image: ArrayLike) -> np.ndarray:
    """Return an image as a batch of one."""
    x = as_input("feature_maps", "image", image)
    expected = model.layers[0].input_shape[1:] if model.built else None
    if expected is None and x.ndim == 3:
        return x[np.newaxis]
    for sample in (x, x[..., np.newaxis], x[0] if x.ndim and len(x) == 1 else x):
        if sample.shape == expected or (expected is None and sample.ndim == 3):
            return sample[np.newaxis]
    rule = "(H, W, C)" if expected is None else str(expected)
    raise ShapeError(f"feature_maps: image has shape {x.shape}, expected {rule}, or a batch of one")


def _panel(name: str, values: np.ndarray, limit: int, is_input: bool = False) -> _Panel:
    """Return a layer's output (H, W, C), or of other shapes as one row of numbers, with its place on the page."""
    shape = " x ".join(map(str, values.shape))
    low, high = values.min(), values.max()
    title = f"{name}, {shape}, from {low:.3g} to {high:.3g}"
    if values.ndim != 3 or values.shape[:2] == (1, 1):
        return _Panel(title, values.reshape(-1), {}, _WIDTH, _BARS)
    H, W, C = values.shape
    if limit < C:
        title += f", the first {limit} maps"
    images = np.moveaxis(values[..., :limit], -1, 0).astype(np.float64)
    across = mosaic.columns(len(images), H, W)
    sheet = mosaic.joined(images, across, _SPACE)
    width = min(_WIDTH, _LARGEST * max(W / H, 1) * across)
    colour = mosaic.grey(images) if is_input else mosaic.colours(images)
    return _Panel(title, sheet, colour, width, width * sheet.shape[0] / sheet.shape[1])


def _draw(axes: Any, panel: _Panel) -> None:
    page.title(axes, panel.title)
    if panel.is_image:
        mosaic.show(axes, panel.values, panel.colour)
        return
    page.plain(axes)
    count = len(panel.values)
    if count <= _FEW:
        axes.bar(range(count), panel.values, width=0.8)
        axes.set_xticks(range(count))
    else:
        axes.stairs(panel.values, np.arange(count + 1) - 0.5, fill=True)
    axes.set_xlim(-0.5, count - 0.5)
    axes.axhline(0, color="black", linewidth=0.6)
    axes.locator_params(axis="y", nbins=3)
