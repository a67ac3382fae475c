"""The images that all examples learn from: a file of them, or scikit-learn's digits; and the options for both."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np

import fastconv as fc

SIZE = 28


class Split(NamedTuple):
    """Images (N, 28, 28, 1), float32 from 0 to 1, and their classes."""

    x: np.ndarray
    y: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    source: str


def parser(doc: str | None, epochs: int | None = None, test_every: int = 7) -> argparse.ArgumentParser:
    """Return the options that the examples share; an example that trains has `epochs`."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--data", metavar="FILE.npz", help="x uint8 (N, 28, 28) and y; default: scikit-learn's digits")
    made.add_argument("--test-every", type=int, default=test_every, metavar="N", help=f"default: {test_every}")
    made.add_argument("--limit", type=int, metavar="N", help="take only N of the images, evenly")
    made.add_argument("--seed", type=int, default=0)
    if epochs is not None:
        made.add_argument("--epochs", type=int, default=epochs, help=f"default: {epochs}")
    return made


def load(options: argparse.Namespace) -> Split:
    """Return the images; those whose index is a multiple of `test_every` are for the test."""
    x, y = digits() if options.data is None else read(options.data)
    if options.limit is not None and options.limit < len(x):
        # The images may be sorted by class.
        chosen = np.linspace(0, len(x), options.limit, endpoint=False).astype(int)
        x, y = x[chosen], y[chosen]
    x = x[..., np.newaxis].astype(np.float32) / 255
    is_test = np.arange(len(x)) % options.test_every == 0
    split = Split(x[~is_test], y[~is_test], x[is_test], y[is_test], options.data or "scikit-learn's digits")
    print(f"{split.source}: {len(split.x):,} images to learn from, {len(split.x_test):,} for the test")
    return split


def read(path: str) -> tuple[np.ndarray, np.ndarray]:
    """Return images uint8 (N, 28, 28) and their classes from a file."""
    with np.load(path) as file:
        x, y = file["x"], file["y"].astype(np.int64)
    if x.shape[1:] != (SIZE, SIZE) or x.dtype != np.uint8 or y.shape != x.shape[:1]:
        raise SystemExit(f"{path}: x is {x.dtype} {x.shape} and y {y.shape}, expected uint8 (N, 28, 28) and (N,)")
    return x, y


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Return the 1,797 digits of scikit-learn, 8 x 8 pixels from 0 to 16, as uint8 (N, 28, 28), and their classes."""
    from sklearn.datasets import load_digits

    found = load_digits()
    small = found.images[:, np.newaxis].astype(np.float32) * (255 / 16)
    large = fc.interpolate(small, size=SIZE, mode="bilinear")
    return np.rint(large[:, 0]).astype(np.uint8), found.target


def folder(path: str) -> Path:
    """Return the folder for pictures, made if it is not there."""
    made = Path(path)
    made.mkdir(parents=True, exist_ok=True)
    return made
