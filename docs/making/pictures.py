"""The pictures of the tutorial, drawn anew for each build of the site from what the library computes.

`draw(folder)` makes all of them: of each function in `PICTURES` one file.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

import fastconv as fc
from docs.making import photographs
from docs.making.grids import COLOURS, FAINT, INK, figure, frame, grid, join, light, picture, row_of, sign

DPI = 110


def sliding() -> Any:
    """Draw a kernel at three places, and what is written down there."""
    image = np.zeros((5, 6), np.float32)
    image[:, 3:] = 9
    kernel = np.repeat(np.array([[-1, 0, 1]], np.float32), 3, axis=0)
    edges = fc.conv2d(image[None], kernel[None, None])[0]
    page = figure(8, 3.6)
    for column, (i, j) in zip(page.subplots(2, 3).T, ((0, 0), (0, 1), (2, 3)), strict=True):

        def window(y: int, x: int, i: int = i, j: int = j) -> Any:
            return light(COLOURS[1]) if i <= y < i + 3 and j <= x < j + 3 else None

        grid(column[0], image, fill=window)
        frame(column[0], i, j, 3, 3)
        grid(column[1], edges, fill=lambda y, x, at=(i, j): light(COLOURS[1]) if (y, x) == at else None)
        frame(column[1], i, j, 1, 1)
    return page


def padding() -> Any:
    """Draw a row of four numbers with the frames of all padding modes."""
    row, one = np.array([[1, 2, 3, 4]], np.float32), np.ones((1, 1, 1), np.float32)
    page = figure(6, 2.6)
    modes = ("zeros", "replicate", "reflect", "symmetric", "circular")
    for axes, mode in zip(page.subplots(len(modes), 1), modes, strict=True):
        padded = fc.conv1d(row, one, padding=3, padding_mode=mode)
        grid(axes, padded, fill=lambda i, j: light(COLOURS[0]) if 3 <= j < 7 else FAINT)
        axes.text(-0.6, 0.5, mode, ha="right", va="center", fontsize=10, color=INK)
    return page


def stride() -> Any:
    """Draw which windows there are with stride 1 and 2."""
    page = figure(7, 3.2)
    for axes, step in zip(page.subplots(1, 2), (1, 2), strict=True):
        count = fc.conv2d(np.ones((1, 7, 7), np.float32), np.ones((1, 1, 3, 3), np.float32), stride=step).shape[-1]
        grid(axes, np.zeros((7, 7)), f"stride {step}: {count} x {count}", numbers=False)
        for i, j in np.ndindex(count, count):
            axes.plot(j * step + 1.5, i * step + 1.5, "o", color=COLOURS[0], markersize=5)
        for n, colour in zip(range(2), COLOURS[1:], strict=False):
            frame(axes, 0.06 * n, n * step + 0.06 * n, 3, 3, colour)
    return page


def channels() -> Any:
    """Draw three channels, the slices of a kernel, and their one map."""
    image = np.stack([np.full((4, 4), value, np.float32) for value in (1, 10, 100)])
    weight = np.ones((1, 3, 3, 3), np.float32)
    result = fc.conv2d(image, weight)[0]
    page = figure(7, 5.2)
    places = page.subplots(3, 5, width_ratios=(4, 0.7, 3, 0.7, 2))
    for c, colour in enumerate(("#d55e00", "#009e73", "#0072b2")):
        grid(places[c, 0], image[c], fill=lambda i, j, colour=colour: light(colour))
        sign(places[c, 1], "×")
        grid(places[c, 2], weight[0, c], fill=lambda i, j, colour=colour: light(colour))
        sign(places[c, 3], "=" if c == 1 else "")
        places[c, 4].set_axis_off()
    grid(places[1, 4], result)
    return page


def pooling() -> Any:
    """Draw a map of four blocks, its maximum and its average."""
    x = np.array([[[1, 3, 2, 1], [4, 8, 0, 2], [5, 1, 6, 7], [0, 2, 3, 4]]], np.float32)
    page = figure(7, 2.4)
    whole, most, mean = row_of(page, (4, 3, 3))
    grid(whole, x[0], fill=lambda i, j: light(COLOURS[i // 2 * 2 + j // 2]))
    grid(most, fc.max_pool2d(x, 2)[0], "max", lambda i, j: light(COLOURS[2 * i + j]))
    grid(mean, fc.avg_pool2d(x, 2)[0], "average", lambda i, j: light(COLOURS[2 * i + j]))
    return page


def dilated() -> Any:
    """Draw which pixels a dilated kernel touches."""
    page = figure(8, 2.9)
    for axes, rate in zip(page.subplots(1, 3), (1, 2, 3), strict=True):
        seen = fc.grad.conv2d_input((1, 7, 7), np.ones((1, 1, 3, 3), np.float32), _middle(rate), dilation=rate)[0]
        reach = fc.receptive_field([{"kernel_size": 3, "dilation": rate}])[-1].size
        title = f"dilation {rate}: sees {reach}"
        grid(axes, seen, title, lambda i, j, seen=seen: COLOURS[0] if seen[i, j] else None, numbers=False)
    return page


def _middle(rate: int) -> np.ndarray:
    """Return a gradient of 1 for the result in the middle of 7 x 7 pixels."""
    size = 7 - 2 * rate
    grad = np.zeros((1, size, size), np.float32)
    grad[0, size // 2, size // 2] = 1
    return grad


def pointwise() -> Any:
    """Draw one pixel's channels, the matrix, the new channels."""
    pixel, matrix = np.array([[3], [1], [2]], np.float32), np.array([[1, 0, 2], [0, 1, 1], [1, 1, 1], [2, -1, 0]])
    result = fc.pointwise_conv2d(pixel[:, :, None], matrix.astype(np.float32))[:, :, 0]
    page = figure(5.5, 2.2)
    a, times, b, equals, c = row_of(page, (3, 0.6, 1, 0.6, 1))
    grid(a, matrix, fill=lambda i, j: light(COLOURS[j]))
    sign(times, "×")
    grid(b, pixel, fill=lambda i, j: light(COLOURS[i]))
    sign(equals, "=")
    grid(c, result)
    return page


def separable() -> Any:
    """Draw a Gaussian as a column times a row."""
    bell = np.exp(-0.5 * (np.arange(-7, 8) / 3) ** 2)
    both = fc.separate(np.outer(bell, bell))
    page = figure(6.5, 2.6)
    a, times, b, equals, c = row_of(page, (1.2, 0.6, 4, 0.6, 4))
    picture(a, bell[:, None], cmap="Blues", vmin=0)
    sign(times, "×")
    picture(b, bell[None], f"{2 * bell.size} numbers", cmap="Blues", vmin=0)
    sign(equals, "=")
    picture(c, np.outer(bell, bell), f"{bell.size**2} numbers, rank {both.rank}", cmap="Blues", vmin=0)
    return page


def depthwise_separable() -> Any:
    """Draw a kernel for each channel, and what mixes their maps."""
    page = figure(7.5, 3.6)
    first, second, third = page.subplots(1, 3)
    heads = ("channels", "depthwise: each by itself", "pointwise: each from all")
    for axes, title, count in zip((first, second, third), heads, (3, 3, 4), strict=True):
        axes.set_title(title, fontsize=10, color=INK)
        axes.set_xlim(0, 1)
        axes.set_ylim(4, 0)
        axes.set_axis_off()
        for n in range(count):
            _card(axes, _height(n, count), light(COLOURS[n], 0.6) if count == 3 else light(INK, 0.25 + 0.1 * n))
    for n in range(3):
        join(page, first, (0.75, _height(n, 3)), second, (0.25, _height(n, 3)), COLOURS[n])
        for m in range(4):
            join(page, second, (0.75, _height(n, 3)), third, (0.25, _height(m, 4)), COLOURS[n])
    return page


def _height(n: int, count: int) -> float:
    return 0.5 + n + (4 - count) / 2


def _card(axes: Any, middle: float, colour: Any) -> None:
    from matplotlib.patches import Rectangle

    axes.add_patch(Rectangle((0.25, middle - 0.36), 0.5, 0.72, facecolor=colour, edgecolor=INK, linewidth=0.8))


def unpooling() -> Any:
    """Draw four ways from 2 x 2 to 4 x 4."""
    x = np.array([[[1, 3, 2, 1], [4, 8, 0, 2], [5, 1, 6, 7], [0, 2, 3, 4]]], np.float32)
    small, indices = fc.max_pool2d(x, 2, return_indices=True)
    ways = {
        "nearest neighbour": fc.nearest_unpool2d(small, 2)[0],
        "bed of nails": fc.bed_of_nails_unpool2d(small, 2)[0],
        "max unpooling": fc.max_unpool2d(small, indices, 2)[0],
        "bilinear": fc.interpolate(small[None], scale_factor=2, mode="bilinear")[0, 0],
    }
    page = figure(10.5, 2.3)
    start, *rest = row_of(page, (2, 4, 4, 4, 4))
    grid(start, small[0], "", lambda i, j: light(COLOURS[2 * i + j]))
    for axes, (title, large) in zip(rest, ways.items(), strict=True):
        full = title in ("nearest neighbour", "bilinear")
        grid(
            axes,
            np.round(large, 2),
            title,
            lambda i, j, full=full, large=large: light(COLOURS[i // 2 * 2 + j // 2]) if full or large[i, j] else FAINT,
        )
    return page


def transposed() -> Any:
    """Draw the four copies of a kernel, and their sum."""
    x, kernel = np.array([[[1, 2], [3, 4]]], np.float32), np.ones((1, 1, 3, 3), np.float32)
    page = figure(7, 2.8)
    start, arrow, end = row_of(page, (2, 0.7, 5))
    grid(start, x[0], fill=lambda i, j: light(COLOURS[2 * i + j]))
    sign(arrow, "→")
    grid(end, fc.conv_transpose2d(x, kernel, stride=2)[0])
    for n, (i, j) in enumerate(np.ndindex(2, 2)):
        # Not quite on each other, so that all four borders show.
        frame(end, 2 * i + 0.08, 2 * j + 0.08, 2.84, 2.84, COLOURS[n])
    return page


def receptive_field() -> Any:
    """Draw rows of 8, 7, 6, 2 and 1 numbers and what sees what."""
    layers, sizes = [(2, 1), (2, 1), (3, 3), (2, 1)], [8, 7, 6, 2, 1]
    fields = [(1, 1, 0), *fc.receptive_field(layers)]
    page = figure(7, 3.4)
    axes = page.subplots()
    axes.set_axis_off()
    # A number stands in the middle of what it sees.
    places = [[i * f[1] + f[2] + (f[0] - 1) / 2 for i in range(n)] for n, f in zip(sizes, fields, strict=True)]
    for level, (kernel, step) in enumerate(layers):
        for i, x in enumerate(places[level + 1]):
            for u in range(kernel):
                axes.plot([places[level][i * step + u], x], [level, level + 1], color="#9aa5b1", linewidth=1, zorder=1)
    for level, xs in enumerate(places):
        axes.plot(xs, [level] * len(xs), "o", color=COLOURS[0], markersize=13, zorder=2)
        field = fields[level]
        size = field[0]
        text = f"{sizes[level]}" + (f"   kernel {layers[level - 1][0]}, sees {size}" if level else "")
        axes.text(7.8, level, text, va="center", fontsize=10, color=INK)
    axes.set_xlim(-0.5, 11)
    axes.set_ylim(-0.5, 4.5)
    return page


PICTURES: dict[str, Callable[[], Any]] = {
    "sliding.svg": sliding,
    "feature-maps.png": photographs.feature_maps,
    "filters.png": photographs.filters,
    "padding.svg": padding,
    "stride.svg": stride,
    "channels.svg": channels,
    "pooling.svg": pooling,
    "dilated.svg": dilated,
    "pointwise.svg": pointwise,
    "separable.svg": separable,
    "depthwise-separable.svg": depthwise_separable,
    "unpooling.svg": unpooling,
    "transposed.svg": transposed,
    "receptive-field.svg": receptive_field,
    "training.png": photographs.learning,
    "training-filters.png": lambda: fc.viz.filters(photographs.trained()["model"].layers[0]),
    "training-maps.png": photographs.trained_maps,
}


def draw(folder: Path) -> list[Path]:
    """Write all pictures into a folder and return their paths."""
    paths = []
    # Without dates and random names, a picture is the same at every build.
    with matplotlib.rc_context({"svg.hashsalt": "fastconv"}):
        for name, make in PICTURES.items():
            paths.append(folder / name)
            extra = {"metadata": {"Date": None}} if name.endswith(".svg") else {}
            make().savefig(paths[-1], dpi=DPI, **extra)
    return paths
