"""The pictures of photographs and of what networks learn."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import fastconv as fc
from docs.making import blocks
from docs.making.grids import INK, PAPER, figure, picture
from fastconv.cli import demo_image
from fastconv.cli.demo_steps import LUMINANCE, SOBEL, gabor_bank

TRAINING = Path(__file__).resolve().parents[1] / "tutorial" / "training.md"
SIZE = 384
# Of gradient descent, after which the kernel is drawn.
STEPS = (0, 1, 3, 20)


def feature_maps() -> Any:
    """Draw a photograph and Sobel's two maps of it."""
    grey = fc.pointwise_conv2d(demo_image.load(None, SIZE), np.array([LUMINANCE], np.float32))
    both = np.array([SOBEL, np.transpose(SOBEL)], np.float32)[:, None]
    upright, level = fc.conv2d(grey, both, padding="same", padding_mode="replicate")[0]
    page = figure(9, 3.9)
    for axes, image in zip(page.subplots(1, 3), (grey[0, 0], np.abs(upright), np.abs(level)), strict=True):
        picture(axes, image, vmin=0, vmax=np.percentile(image, 99.5))
    return page


def filters() -> Any:
    """Draw the demo's bank of filters over the maps that it makes."""
    photo, bank = demo_image.load(None, SIZE), gabor_bank()
    maps = fc.conv2d(photo, bank, padding=3, stride=2, activation="relu")[0]
    page = figure(10, 5.4)
    places = page.subplots(4, 8, height_ratios=(1, 2.4, 1, 2.4))
    colours = 0.5 + 0.5 * bank.transpose(0, 2, 3, 1) / np.abs(bank).max((1, 2, 3))[:, None, None, None]
    for n in range(16):
        top = n // 8 * 2
        picture(places[top, n % 8], colours[n])
        picture(places[top + 1, n % 8], maps[n], vmin=0, vmax=np.percentile(maps[n], 99.5))
    return page


def learning() -> Any:
    """Draw the kernel of the training page after some steps, beside what it should become."""
    found = trained()
    images, wanted, target = found["images"], found["wanted"], found["sobel"]
    weight, kept = np.zeros_like(target), {}
    for step in range(max(STEPS) + 1):
        if step in STEPS:
            kept[f"{step}"] = weight.copy()
        error = fc.conv2d(images, weight) - wanted
        weight -= 0.1 * fc.grad.conv2d_vjp(2 * error / error.size, images, weight)[1]
    kept["Sobel"] = target
    page = figure(8.5, 2)
    page.get_layout_engine().set(wspace=0.15)
    for axes, (title, kernel) in zip(page.subplots(1, len(kept)), kept.items(), strict=True):
        picture(axes, kernel[0, 0], title, cmap="RdBu_r", vmin=-2, vmax=2)
        for i, j in np.ndindex(3, 3):
            number = round(float(kernel[0, 0, i, j]), 1) + 0.0
            colour = PAPER if abs(number) > 1.4 else INK
            axes.text(j, i, f"{number:.1f}", ha="center", va="center", fontsize=8, color=colour)
    return page


def trained_maps() -> Any:
    """Draw what the trained network sees of an upright bar."""
    found = trained()
    x, y = found["bars"](20)
    return fc.viz.feature_maps(found["model"], x[np.flatnonzero(y)[0]])


@cache
def trained() -> dict[str, Any]:
    """Return what the code of the training page leaves behind."""
    return blocks.run(TRAINING)
