"""The kernels of a layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastconv.errors import ArgumentTypeError, OptionError
from fastconv.geometry.arguments import positive, shown
from fastconv.nn import Conv2D, Conv2DTranspose, DepthwiseConv2D, Layer, SeparableConv2D
from fastconv.viz import mosaic, page

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Inches.
_WIDTH, _LEFT, _RIGHT, _TOP, _BOTTOM = 6.5, 0.4, 1.0, 0.35, 0.35
_LARGEST, _BAR = 0.8, 0.14
# Beside a kernel, of its width: white cells are zeros.
_SPACE = 0.25


def filters(layer: Layer, path: page.Path = None, *, kernels: int = 32) -> Figure:
    """Draw the kernels of a convolution: blue below 0, white at 0, red above.

    Parameters
    ----------
    layer : Conv2D, Conv2DTranspose, DepthwiseConv2D or SeparableConv2D
        Of a separable convolution, the depthwise kernels are drawn.
    path : str or Path, optional
        File to write: .png, .pdf or .svg.
    kernels : int
        At most so many outputs, and inputs, are drawn, the first ones.

    Returns
    -------
    matplotlib.figure.Figure
        A column for each output channel, a row for each input channel; where every kernel has one input, row by row.

    Raises
    ------
    MissingExtraError
        matplotlib is not installed.
    ArgumentTypeError
        Another layer.
    OptionError
        The layer has no weights yet.

    Examples
    --------
    >>> import fastconv as fc
    >>> model = fc.nn.Sequential([fc.nn.Conv2D(4, 3, input_shape=(8, 8, 1))])
    >>> figure = fc.viz.filters(model.layers[0])
    """
    path, limit = page.checked("filters", path), positive("filters", "kernels", kernels)
    weight = _kernels(layer)
    KH, KW, IC, OC = weight.shape
    drawn = weight[:, :, :limit, :limit]
    rows, count = drawn.shape[2:]
    images = drawn.transpose(2, 3, 0, 1).reshape(-1, KH, KW)
    across = count if rows > 1 else mosaic.columns(count, KH, KW)
    sheet = mosaic.joined(images, across, _SPACE)
    height = sheet.shape[0] * min(_WIDTH / sheet.shape[1], _LARGEST * across / sheet.shape[1])
    width = sheet.shape[1] * height / sheet.shape[0]
    figure = page.new("filters", max(width, 3.0) + _LEFT + _RIGHT, height + _TOP + _BOTTOM)
    axes = page.axes_at(figure, _LEFT, _TOP, width, height)
    image = mosaic.show(axes, sheet, mosaic.diverging(float(np.abs(drawn).max())))
    text = f"{layer.name}, {KH} x {KW}, {IC} in, {OC} out"
    page.title(axes, text if drawn.shape[2] * drawn.shape[3] == IC * OC else f"{text}, the first {rows} and {count}")
    if rows > 1:
        axes.text(0, -0.02, "outputs →", transform=axes.transAxes, fontsize=page.SMALL, va="top")
        axes.text(
            -0.01, 1, "← inputs", transform=axes.transAxes, fontsize=page.SMALL, va="top", ha="right", rotation=90
        )
    figure.colorbar(image, cax=page.axes_at(figure, _LEFT + width + 0.12, _TOP, _BAR, height))
    return page.written(figure, path)


def _kernels(layer: Any) -> np.ndarray:
    """Return a layer's kernels as (KH, KW, IC, OC); those with one input as (KH, KW, 1, count)."""
    if not isinstance(layer, (Conv2D, Conv2DTranspose, DepthwiseConv2D, SeparableConv2D)):
        rule = "expected a Conv2D, Conv2DTranspose, DepthwiseConv2D or SeparableConv2D"
        raise ArgumentTypeError(f"filters: layer = {shown(layer)}, {rule}")
    if not layer.built:
        raise OptionError(f"filters: {layer.where} is not built; give its model an input_shape")
    weight = layer.get_weights()[0].astype(np.float64)
    if isinstance(layer, Conv2DTranspose):
        return weight.swapaxes(2, 3)
    return weight if isinstance(layer, Conv2D) else weight.reshape(*weight.shape[:2], 1, -1)
