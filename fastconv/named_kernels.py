"""Image filters by name, for the command line: "sobel", "gaussian:2.5", "box:15", or a file with the numbers."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from fastconv.errors import OptionError
from fastconv.geometry.arguments import shown

__all__ = ["NAMES", "named"]

# As people write them; SIGMA is a number above 0, K a number of taps.
NAMES = (
    *("sobel", "sobel-y", "scharr", "scharr-y", "prewitt", "prewitt-y", "laplacian"),
    *("gaussian:SIGMA", "gaussian:SIGMA:K", "box:K", "sharpen", "emboss", "identity"),
)
FILES = (".npy", ".csv", ".txt")

# Taps along an axis; the square of this is a kernel of 32 MB.
MOST_TAPS = 2047
# scipy.ndimage.gaussian_filter's `truncate`.
_TRUNCATE = 4.0

_FIXED = {
    "sobel": [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]],
    "scharr": [[-3, 0, 3], [-10, 0, 10], [-3, 0, 3]],
    "prewitt": [[-1, 0, 1], [-1, 0, 1], [-1, 0, 1]],
    "laplacian": [[0, 1, 0], [1, -4, 1], [0, 1, 0]],
    "sharpen": [[0, -1, 0], [-1, 5, -1], [0, -1, 0]],
    "emboss": [[-2, -1, 0], [-1, 1, 1], [0, 1, 2]],
    "identity": [[0, 0, 0], [0, 1, 0], [0, 0, 0]],
}
_DIRECTED = ("sobel", "scharr", "prewitt")


def named(text: str, shape: tuple[int, int] | None = None) -> np.ndarray:
    """Return the filter that a name or a file stands for, as `fastconv.conv2d` slides it: without a flip.

    Parameters
    ----------
    text : str
        * "sobel", "scharr", "prewitt": the difference along a row, positive where it gets brighter to the right; with
          "-y" behind, along a column, positive where it gets brighter downwards; "-x" is the same as nothing;
        * "laplacian" (4 neighbours), "sharpen", "emboss", "identity", each 3 x 3;
        * "gaussian:SIGMA": sum 1, cut off at 4 SIGMA as by `scipy.ndimage.gaussian_filter`; "gaussian:SIGMA:K": K x K;
        * "box:K": the mean of K x K pixels;
        * the path of a file .npy, .csv or .txt; the last two with commas or blanks between numbers, a row a line.
    shape : tuple of int, optional
        (KH, KW) wanted; "gaussian:SIGMA" and "box" take it, others must have it.

    Returns
    -------
    ndarray of shape (KH, KW), float64

    Raises
    ------
    OptionError
        A name that there is not, a number outside of its range, a file that cannot be read or holds no such array.

    Examples
    --------
    >>> from fastconv.named_kernels import named
    >>> named("sobel-y")
    array([[-1., -2., -1.],
           [ 0.,  0.,  0.],
           [ 1.,  2.,  1.]])
    """
    name, _, numbers = text.strip().partition(":")
    name = name.lower().removesuffix("-x") if name.lower().removesuffix("-x") in _DIRECTED else name.lower()
    straight = name.removesuffix("-y")
    if Path(text).suffix.lower() in FILES:
        kernel = _from_file(text)
    elif name in _PARAMETRIC:
        kernel = _PARAMETRIC[name](text, numbers.split(":") if numbers else [], shape)
    elif not numbers and (name in _FIXED or straight in _DIRECTED):
        kernel = np.array(_FIXED[straight], np.float64)
        kernel = kernel if name == straight else np.ascontiguousarray(kernel.T)
    else:
        raise OptionError(f"kernel = {shown(text)}, expected {_expected()}")
    if shape is not None and kernel.shape != tuple(shape):
        sizes = " x ".join(map(str, kernel.shape)), " x ".join(map(str, shape))
        raise OptionError(f"kernel = {shown(text)} is {sizes[0]}, expected {sizes[1]}")
    return kernel


def _expected() -> str:
    return f"one of {', '.join(NAMES)}, or a file {', '.join(FILES)}"


def _gaussian(text: str, numbers: list[str], shape: tuple[int, int] | None) -> np.ndarray:
    if len(numbers) not in (1, 2):
        raise OptionError(f"kernel = {shown(text)}, expected gaussian:SIGMA or gaussian:SIGMA:K")
    try:
        sigma = float(numbers[0])
    except ValueError:
        sigma = math.nan
    if not 0 < sigma < math.inf:
        raise OptionError(f"kernel = {shown(text)}: SIGMA = {shown(numbers[0])}, expected a number above 0")
    if len(numbers) == 2:
        shape = (_taps(text, numbers[1]),) * 2
    elif shape is None:
        radius = int(_TRUNCATE * min(sigma, MOST_TAPS) + 0.5)
        if 2 * radius + 1 > MOST_TAPS:
            rule = f"at most {MOST_TAPS} taps, got {2 * radius + 1}; gaussian:SIGMA:K says how many"
            raise OptionError(f"kernel = {shown(text)}: expected {rule}")
        shape = (2 * radius + 1,) * 2
    column, row = (_bell(size, sigma) for size in shape)
    return np.outer(column, row)


def _bell(size: int, sigma: float) -> np.ndarray:
    places = np.arange(size) - (size - 1) / 2
    # The middle ones are 1 before they are divided, however small sigma is.
    with np.errstate(under="ignore", over="ignore"):
        heights = np.exp(-0.5 * ((places / sigma) ** 2 - (np.abs(places).min() / sigma) ** 2))
    return np.asarray(heights / heights.sum())


def _box(text: str, numbers: list[str], shape: tuple[int, int] | None) -> np.ndarray:
    if len(numbers) > 1 or (not numbers and shape is None):
        raise OptionError(f"kernel = {shown(text)}, expected box:K")
    KH, KW = (_taps(text, numbers[0]),) * 2 if numbers or shape is None else shape
    return np.full((KH, KW), 1 / (KH * KW))


_PARAMETRIC: dict[str, Callable[[str, list[str], tuple[int, int] | None], np.ndarray]] = {
    "gaussian": _gaussian,
    "box": _box,
}


def _taps(text: str, number: str) -> int:
    if not (number.isascii() and number.isdigit() and len(number) < 6 and 1 <= int(number) <= MOST_TAPS):
        rule = f"a whole number from 1 to {MOST_TAPS}"
        raise OptionError(f"kernel = {shown(text)}: K = {shown(number)}, expected {rule}")
    return int(number)


def _from_file(path: str) -> np.ndarray:
    """Return the numbers in a file, or raise an error of one line that names it."""
    try:
        found = np.load(path, allow_pickle=False) if path.lower().endswith(".npy") else _from_text(path)
    except OSError as error:
        raise OptionError(f"kernel file {shown(path)}: {error.strerror or error}") from None
    except (ValueError, EOFError) as error:
        raise OptionError(f"kernel file {shown(path)} holds no array: {shown(str(error))}") from None
    if found.ndim != 2 or not found.size or max(found.shape) > MOST_TAPS:
        rule = f"(KH, KW), each from 1 to {MOST_TAPS}"
        raise OptionError(f"kernel file {shown(path)} holds an array of shape {found.shape}, expected {rule}")
    if found.dtype.kind not in "biuf":
        raise OptionError(f"kernel file {shown(path)} holds {found.dtype}, expected real numbers")
    kernel = np.ascontiguousarray(found, np.float64)
    if not np.isfinite(kernel).all():
        raise OptionError(f"kernel file {shown(path)} holds NaN or infinities, expected finite numbers")
    return kernel


def _from_text(path: str) -> np.ndarray:
    if os.path.getsize(path) > 32 * MOST_TAPS**2:
        raise ValueError("it is too large")
    text = Path(path).read_text(encoding="utf-8-sig")
    lines = [line.partition("#")[0].replace(",", " ").replace(";", " ").split() for line in text.splitlines()]
    rows = [[float(number) for number in line] for line in lines if line]
    if len({len(row) for row in rows}) > 1:
        raise ValueError("its rows have different lengths")
    return np.array(rows, np.float64)
