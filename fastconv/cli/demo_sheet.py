"""The demo's sheet of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from fastconv.cli.demo_pools import PoolRow, draw
from fastconv.cli.demo_steps import Results, gabor_bank

INK, PAPER = "#1c2733", "#ffffff"
COLUMNS = 4
MAPS = 8
WIDTH = 14.0
DPI = 120
HEAD = "fastconv: one photograph through filters and layers"


def save(path: str, results: Results, rows: dict[str, Any], pools: list[PoolRow]) -> None:
    """Draw the pictures and write them as PNG.

    Parameters
    ----------
    path : str
    results : dict of str to ndarray
        By name of step, and `photo`.
    rows : dict of str to Row
        The fastest of each step.
    pools : list of PoolRow
    """
    H, W = results["photo"].shape[2:]
    # A very long or very flat picture is squeezed rather than given a sheet of any size.
    aspect = min(max(H / W, 0.4), 1.6)
    tile, small = WIDTH / COLUMNS * aspect, WIDTH / MAPS * aspect
    heights = [0.6, 2 * (tile + 0.6), 2 * small + 0.55, small + 0.5, WIDTH / len(pools) * aspect + 0.8]
    figure: Any = Figure(figsize=(WIDTH, sum(heights)), facecolor=PAPER, layout="constrained")
    FigureCanvasAgg(figure)
    figure.get_layout_engine().set(w_pad=0.05, h_pad=0.05, wspace=0, hspace=0)
    head, filters, maps, block, pooled = figure.subfigures(5, 1, height_ratios=heights)
    head.text(0.5, 0.4, HEAD, ha="center", va="center", color=INK, fontsize=19, fontweight="bold")
    _draw_filters(filters, results, rows)
    # In a grey picture the filters of colours find rounding errors alone, which must not be shown as if they were much.
    least = 0.02 * float(results["maps"].max())
    first = f"First layer of a CNN, 16 Gabor filters 7x7, stride 2, relu: {_numbers(rows['maps'])}"
    _draw_maps(maps, [_positive(m, least) for m in results["maps"][0]], "magma", first, gabor_bank())
    second = f"Depthwise 3x3, then pointwise, on these maps, 8 of 32 results: {_numbers(rows['block'])}"
    _draw_maps(block, [_signed(m) for m in results["block"][0, :MAPS]], "PuOr", second)
    pooled.suptitle("Pooling, and three ways back", color=INK, fontsize=12, fontweight="bold")
    draw(pooled, results, pools, _show)
    figure.savefig(path, format="png", dpi=DPI)


def _draw_filters(figure: Any, results: Results, rows: dict[str, Any]) -> None:
    photo, sobel = results["photo"][0], results["sobel"][0]
    pictures = [
        ("Photograph", f"{photo.shape[2]} x {photo.shape[1]} pixels", _colour(photo)),
        ("Sobel, x", _numbers(rows["sobel"]), _signed(sobel[0])),
        ("Sobel, y", "both in one call", _signed(sobel[1])),
        ("Sobel, magnitude", "from the two before", _positive(np.hypot(*sobel))),
        ("Sharpen 3x3", _numbers(rows["sharpen"]), _colour(results["sharpen"][0])),
        ("Gaussian 15x15", _numbers(rows["gaussian"]), _colour(results["gaussian"][0])),
        ("Laplacian, dilation 4", _numbers(rows["laplacian"]), _signed(results["laplacian"][0, 0])),
        ("Sepia, 1x1", _numbers(rows["sepia"]), _colour(results["sepia"][0])),
    ]
    for axes, (title, numbers, pixels) in zip(figure.subplots(2, COLUMNS).flat, pictures, strict=True):
        _show(axes, pixels, "gray")
        axes.set_title(f"{title}\n", color=INK, fontsize=12, fontweight="bold")
        axes.text(0.5, 1.02, numbers, transform=axes.transAxes, ha="center", va="bottom", color=INK, fontsize=9)


def _draw_maps(
    figure: Any, maps: Sequence[np.ndarray], colours: str, title: str, bank: np.ndarray | None = None
) -> None:
    """Draw maps in rows, each with its filter in the corner if there is a bank of them."""
    figure.suptitle(title, color=INK, fontsize=12, fontweight="bold")
    for i, axes in enumerate(figure.subplots(len(maps) // MAPS, MAPS).flat):
        _show(axes, maps[i], colours)
        if bank is not None:
            inset = axes.inset_axes((0.02, 0.02, 0.27, 0.27))
            inset.set_anchor("SW")
            _show(inset, _colour(0.5 + 0.5 * bank[i] / np.abs(bank[i]).max()), "gray")


def _show(axes: Any, pixels: np.ndarray, colours: str) -> None:
    axes.imshow(pixels, cmap=colours, vmin=0, vmax=1, interpolation="antialiased")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def _numbers(row: Any) -> str:
    return f"{row.choice.algorithm}, {row.choice.multiplies / 1e6:,.1f} M multiplications, {row.measured * 1e3:.2f} ms"


def _colour(image: np.ndarray) -> np.ndarray:
    return np.clip(image.transpose(1, 2, 0), 0, 1)


def _signed(image: np.ndarray) -> np.ndarray:
    """Return values with 0 as the middle grey."""
    return np.clip(0.5 + 0.5 * image / _largest(image), 0, 1)


def _positive(image: np.ndarray, least: float = 0.0) -> np.ndarray:
    """Return values from 0 up, the small ones brightened; `least` is the smallest value that may be shown as white."""
    return np.clip(image / max(_largest(image), least), 0, 1) ** 0.7


def _largest(image: np.ndarray) -> float:
    """Return a bound that all but a few outliers keep, such as those at the border."""
    return float(np.percentile(np.abs(image), 99)) or 1.0
