"""The modes and boundaries of `scipy.signal`, and its rules on which input is the kernel."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, TypeAlias

from fastconv.errors import OptionError, ShapeError

Pads: TypeAlias = tuple[tuple[int, int], ...]

MODES: Final = ("valid", "same", "full")
MODES_TEXT: Final = "Acceptable mode flags are 'valid', 'same', or 'full'."
SPECTRAL_TEXT: Final = "acceptable mode flags are 'valid', 'same', or 'full'"
BOUNDARIES: Final = {
    "fill": "zeros",
    "pad": "zeros",
    "wrap": "circular",
    "circular": "circular",
    "symm": "symmetric",
    "symmetric": "symmetric",
}


def check_mode(mode: object, text: str = MODES_TEXT) -> None:
    """Raise unless `mode` is one of SciPy's."""
    if not (isinstance(mode, str) and mode in MODES):
        raise OptionError(text)


def padding_mode(boundary: Any) -> str:
    """Return the padding mode of a boundary."""
    if isinstance(boundary, str) and boundary == "reflect":
        raise OptionError("Incorrect boundary value.")
    if not (isinstance(boundary, str) and boundary in BOUNDARIES):
        raise OptionError("Acceptable boundary flags are 'fill', 'circular' (or 'wrap'), and 'symmetric' (or 'symm').")
    return BOUNDARIES[boundary]


def must_swap(mode: object, shape1: Sequence[int], shape2: Sequence[int], axes: Iterable[int] | None = None) -> bool:
    """Return whether in2 is the larger one and mode is "valid", so that in1 is the kernel.

    Raises
    ------
    ShapeError
        Mode is "valid" and neither is at least as large along every axis.
    """
    if mode != "valid" or not shape1:
        return False
    along = list(range(len(shape1)) if axes is None else axes)
    first = all(shape1[axis] >= shape2[axis] for axis in along)
    if not (first or all(shape2[axis] >= shape1[axis] for axis in along)):
        raise ShapeError("For 'valid' mode, one must be at least as large as the other in every dimension")
    return not first


def pads_of(mode: str, taps: Sequence[int], odd_after: bool = False) -> Pads:
    """Return the padding that gives the output of a mode.

    Of "same" with an even kernel the larger part is before the array, as if the full convolution were cropped to its
    centre; with `odd_after` after it.
    """
    if mode == "valid":
        return tuple((0, 0) for _ in taps)
    if mode == "full":
        return tuple((k - 1, k - 1) for k in taps)
    return tuple(((k - 1) // 2, k // 2) if odd_after else (k // 2, (k - 1) // 2) for k in taps)
