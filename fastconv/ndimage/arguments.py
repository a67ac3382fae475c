"""The arguments of `scipy.ndimage`: its rules, its order of checks and its messages."""

from __future__ import annotations

import operator
import warnings
from array import array
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from fastconv.errors import ArgumentTypeError, OptionError
from fastconv.geometry.arrays import as_ndarray
from fastconv.ndimage.errors import AxisError, FilterError, FilterShapeError
from fastconv.system import empty

# SciPy's boundary modes by those of the convolution kernels. SciPy's "reflect" repeats the edge.
MODES: Final = {
    "reflect": "symmetric",
    "grid-mirror": "symmetric",
    "mirror": "reflect",
    "nearest": "replicate",
    "wrap": "circular",
    "grid-wrap": "circular",
    "constant": "zeros",
    "grid-constant": "zeros",
}

# Where the user's call stands, seen from `target_of`.
_CALLER = 4


def as_array(function: str, value: Any, name: str = "input") -> np.ndarray:
    """Return what the user gave as an array in the byte order of the machine."""
    x = as_ndarray(function, name, value)
    return x if x.dtype.isnative else x.astype(x.dtype.newbyteorder("="))


class Target(NamedTuple):
    """Where a result goes: a new array of `dtype`, or `array`, which the user gave."""

    dtype: np.dtype
    array: np.ndarray | None

    @property
    def native(self) -> np.dtype:
        """The dtype in the byte order of the machine."""
        return self.dtype.newbyteorder("=")

    def check_writable(self) -> None:
        """Raise if the array is read-only."""
        if self.array is not None and not self.array.flags.writeable:
            raise OptionError("output array is read-only.")

    def filled(self, result: np.ndarray) -> np.ndarray:
        """Return a result, or the user's array with it."""
        if self.array is None:
            return result.astype(self.dtype, copy=False)
        self.array[...] = result
        return self.array

    def copied(self, x: np.ndarray) -> np.ndarray:
        """Return an unfiltered array as NumPy converts it."""
        out = empty(x.shape, self.dtype) if self.array is None else self.array
        out[...] = x
        return out


def target_of(output: Any, x: np.ndarray, complex_output: bool = False) -> Target:
    """Return where the result goes, from the argument `output`."""
    if output is None:
        # By name: a new array has the byte order of the machine.
        return Target(np.promote_types(x.dtype, np.complex64) if complex_output else np.dtype(x.dtype.name), None)
    if isinstance(output, (type, np.dtype)):
        dtype = np.dtype(output)
        if complex_output and dtype.kind != "c":
            warnings.warn("promoting specified output dtype to complex", stacklevel=_CALLER)
            dtype = np.promote_types(dtype, np.complex64)
        return Target(dtype, None)
    if isinstance(output, str):
        dtype = np.dtype(output)
        check_complex(dtype, complex_output)
        if not issubclass(dtype.type, np.number):
            raise FilterError("output must have numeric dtype")
        return Target(dtype, None)
    if isinstance(output, np.ma.MaskedArray):
        raise OptionError("output is a MaskedArray, expected an ndarray without a mask")
    given = np.asarray(output)
    if given.shape != x.shape:
        raise FilterShapeError("output shape not correct")
    check_complex(given.dtype, complex_output)
    return Target(given.dtype, given)


def check_complex(dtype: np.dtype, complex_output: bool) -> None:
    """Raise where a complex result has a real place to go to."""
    if complex_output and dtype.kind != "c":
        raise FilterError("output must have complex dtype")


def sequence_of(value: Any, length: int) -> list[Any]:
    """Return one item per axis from one item or from as many."""
    if isinstance(value, str) or not np.iterable(value):
        return [value] * length
    items = list(value)
    if len(items) != length:
        raise FilterError("sequence argument must have length equal to input rank")
    return items


def axes_of(axes: Any, ndim: int) -> tuple[int, ...]:
    """Return the axes, each from 0 to ndim - 1 and only once, in the order given."""
    if axes is None:
        return tuple(range(ndim))
    if np.isscalar(axes):
        found = [axis_of(operator.index(axes), ndim)]  # type: ignore[arg-type]
    elif isinstance(axes, Iterable):
        found = [operator.index(axis) for axis in axes]
    else:
        raise OptionError("axes must be an integer, iterable of integers, or None")
    for axis in found:
        if not -ndim <= axis < ndim:
            raise OptionError(f"specified axis: {axis} is out of range")
    found = [axis % ndim for axis in found]
    if len(set(found)) != len(found):
        raise OptionError("axes must be unique")
    return tuple(found)


def axis_of(axis: Any, ndim: int) -> int:
    """Return an axis from 0 to ndim - 1."""
    if axis < -ndim or axis >= ndim:
        raise AxisError(f"axis {axis} is out of bounds for array of dimension {ndim}")
    return operator.index(axis) % ndim


def padding_mode(mode: Any) -> str:
    """Return the padding mode of a boundary mode."""
    if not (isinstance(mode, str) and mode in MODES):
        raise FilterError("boundary mode not supported")
    return MODES[mode]


def is_sequence(mode: Any) -> bool:
    """Return whether there is a mode for each axis."""
    return not isinstance(mode, str) and isinstance(mode, Iterable)


def real_number(value: Any) -> float:
    """Return a fill value as a float."""
    try:
        return array("d", (value,))[0]
    except TypeError as error:
        raise ArgumentTypeError(str(error)) from None


def before_of(size: int, origin: Any, message: str) -> int:
    """Return how many elements of a window of `size` stand before the one at which its result stands."""
    try:
        if size // 2 + origin < 0 or size // 2 + origin >= size:
            raise OptionError(message)
        return size // 2 + operator.index(origin)
    except TypeError as error:
        raise ArgumentTypeError(str(error)) from None


def flipped_origin(size: int, origin: Any) -> Any:
    """Return the origin of the flipped kernel, with which a correlation is the convolution."""
    try:
        return -origin - (not size % 2)
    except TypeError as error:
        raise ArgumentTypeError(str(error)) from None


def expanded(values: Sequence[Any], axes: Sequence[int], ndim: int, default: Any) -> list[Any]:
    """Return one value per axis of the array from one for each of `axes`."""
    found = [default] * ndim
    for axis, value in zip(axes, values, strict=True):
        found[axis] = value
    return found
