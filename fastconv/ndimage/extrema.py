"""Maximum and minimum filters, with SciPy's signatures."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from fastconv.errors import DtypeError, OptionError
from fastconv.ndimage import on_device, others
from fastconv.ndimage.arguments import (
    Target,
    as_array,
    axes_of,
    axis_of,
    before_of,
    is_sequence,
    padding_mode,
    real_number,
    sequence_of,
    target_of,
)
from fastconv.ndimage.blocks import Taps, cast
from fastconv.ndimage.blocks import filtered as filtered_block
from fastconv.ndimage.correlation import over_all_axes
from fastconv.ndimage.errors import FilterError
from fastconv.ndimage.windows import reduce_windows

# Integers up to here are exact as doubles, which SciPy compares.
_EXACT = 2**53


class _Window(NamedTuple):
    """A window along one axis."""

    axis: int
    size: int
    before: int
    mode: str


def maximum_filter(
    input: ArrayLike,
    size: Any = None,
    footprint: ArrayLike | None = None,
    output: Any = None,
    mode: Any = "reflect",
    cval: Any = 0.0,
    origin: Any = 0,
    *,
    axes: Any = None,
) -> np.ndarray:
    """Return the largest element of the window around each, as `scipy.ndimage.maximum_filter`.

    Parameters
    ----------
    input : array_like of any shape
        bool, integers of up to 64 bits, float32 or float64.
    size : int or sequence of int
        Of a rectangular window, for all axes or each. Either this or `footprint` must be given.
    footprint : array_like of bool, of as many dimensions as there are axes to filter
        Which elements around the centre belong to the window; `size` is then ignored.
    output, cval
        As in `correlate`.
    mode : str or sequence of str
        As in `correlate`, for all axes or, of rectangular windows, each.
    origin : int or sequence of int
        How far the window is shifted: positive to the left.
    axes : int or sequence of int, optional
        Axes to filter; all if None. Sequences have one item for each.

    Returns
    -------
    ndarray of the shape of `input`

    Raises
    ------
    FastconvError
        As SciPy's errors, with their text.

    Notes
    -----
    The cost of rectangular windows hardly grows with their size; that of footprints does with their elements. The
    result is NaN wherever there is one in the window; in SciPy that depends on the order of the elements. Integers
    beyond 2**53 are compared as doubles, as in SciPy.

    Examples
    --------
    >>> import fastconv as fc
    >>> fc.ndimage.maximum_filter([[1, 2, 3], [4, 5, 6], [7, 8, 9]], size=(1, 3))
    array([[2, 3, 3],
           [5, 6, 6],
           [8, 9, 9]])
    """
    return _filter("maximum_filter", input, size, footprint, output, mode, cval, origin, axes)


def minimum_filter(
    input: ArrayLike,
    size: Any = None,
    footprint: ArrayLike | None = None,
    output: Any = None,
    mode: Any = "reflect",
    cval: Any = 0.0,
    origin: Any = 0,
    *,
    axes: Any = None,
) -> np.ndarray:
    """Return the smallest element of the window around each, as `scipy.ndimage.minimum_filter`.

    Parameters, results, errors and cost are those of `maximum_filter`.

    Examples
    --------
    >>> import fastconv as fc
    >>> fc.ndimage.minimum_filter([[1, 2, 3], [4, 5, 6], [7, 8, 9]], footprint=[[0, 1, 0], [1, 0, 0], [0, 0, 0]])
    array([[1, 1, 2],
           [1, 2, 3],
           [4, 5, 6]])
    """
    return _filter("minimum_filter", input, size, footprint, output, mode, cval, origin, axes)


def maximum_filter1d(
    input: ArrayLike,
    size: int,
    axis: int = -1,
    output: Any = None,
    mode: str = "reflect",
    cval: Any = 0.0,
    origin: int = 0,
) -> np.ndarray:
    """Return the largest element of the window around each along one axis, as `scipy.ndimage.maximum_filter1d`.

    Parameters
    ----------
    input : array_like of at least one dimension
        bool, integers of up to 64 bits, float32 or float64.
    size : int
    axis : int
    output, mode, cval
        As in `correlate`.
    origin : int
        From ``-(size // 2)`` to ``(size - 1) // 2``.

    Returns
    -------
    ndarray of the shape of `input`

    Raises
    ------
    FastconvError
        As SciPy's errors, with their text.

    Examples
    --------
    >>> import fastconv as fc
    >>> fc.ndimage.maximum_filter1d([2, 8, 0, 4, 1, 9, 9, 0], size=3)
    array([8, 8, 8, 4, 9, 9, 9, 9])
    """
    return _filter1d("maximum_filter1d", (input, size, axis, output, mode, cval, origin))


def minimum_filter1d(
    input: ArrayLike,
    size: int,
    axis: int = -1,
    output: Any = None,
    mode: str = "reflect",
    cval: Any = 0.0,
    origin: int = 0,
) -> np.ndarray:
    """Return the smallest element of the window around each along one axis, as `scipy.ndimage.minimum_filter1d`.

    Parameters, results and errors are those of `maximum_filter1d`.

    Examples
    --------
    >>> import fastconv as fc
    >>> fc.ndimage.minimum_filter1d([2, 8, 0, 4, 1, 9, 9, 0], size=3)
    array([2, 0, 0, 0, 1, 1, 0, 0])
    """
    return _filter1d("minimum_filter1d", (input, size, axis, output, mode, cval, origin))


def _filter1d(name: str, call: Any) -> np.ndarray:
    input, size, axis, output, mode, cval, origin = call
    on_device.refuse(name, input)
    x = as_array(name, input)
    if others.is_foreign(x.dtype):
        return np.asarray(others.ask_scipy(name, *call))
    if x.dtype.kind == "c":
        raise DtypeError("Complex type not supported")
    along = axis_of(axis, x.ndim)
    if size < 1:
        raise FilterError("incorrect filter size")
    target = target_of(output, x)
    if others.is_foreign(target.dtype, False):
        return np.asarray(others.ask_scipy(name, *call))
    window = _Window(along, size, before_of(size, origin, "invalid origin"), padding_mode(mode))
    target.check_writable()
    return target.filled(_rectangular(name[:3], x, target.native, [window], real_number(cval)))


def _filter(
    name: str, input: Any, size: Any, footprint: Any, output: Any, mode: Any, cval: Any, origin: Any, axes: Any
) -> np.ndarray:
    if size is not None and footprint is not None:
        warnings.warn("ignoring size because footprint is set", UserWarning, stacklevel=3)
        size = None
    call = (input, size, footprint, output, mode, cval, origin)
    size, mask = size_or_mask(name, size, footprint)
    on_device.refuse(name, input)
    x = as_array(name, input)
    if others.is_foreign(x.dtype):
        return np.asarray(others.ask_scipy(name, *call, axes=axes))
    if x.dtype.kind == "c":
        raise DtypeError("Complex type not supported")
    target = target_of(output, x)
    if others.is_foreign(target.dtype, False):
        return np.asarray(others.ask_scipy(name, *call, axes=axes))
    along = axes_of(axes, x.ndim)
    if mask is not None:
        return _masked(name, x, target, mask, origin, along, mode, cval)
    origins, sizes, modes = (sequence_of(value, len(along)) for value in (origin, size, mode))
    windows = []
    for axis, length, shift, outside in zip(along, sizes, origins, modes, strict=True):
        if length > 1:
            before = before_of(int(length), shift, "invalid origin")
            windows.append(_Window(axis, int(length), before, padding_mode(outside)))
    if not windows:
        return target.copied(x)
    target.check_writable()
    return target.filled(_rectangular(name[:3], x, target.native, windows, real_number(cval)))


def size_or_mask(name: str, size: Any, footprint: Any) -> tuple[Any, np.ndarray | None]:
    """Return the size of a rectangular window, or the footprint of another."""
    if footprint is None:
        if size is None:
            raise FilterError("no footprint provided")
        return size, None
    mask = as_array(name, footprint, "footprint").astype(bool)
    if not mask.any():
        raise OptionError("All-zero footprint is not supported.")
    return (mask.shape, None) if mask.all() else (None, mask)


def _masked(
    name: str, x: np.ndarray, target: Target, mask: np.ndarray, origin: Any, along: Sequence[int], mode: Any, cval: Any
) -> np.ndarray:
    """Return the extremes over a footprint."""
    mask, origins = over_all_axes(x.ndim, along, mask, "footprint", origin)
    befores = [before_of(n, shift, "invalid origin") for n, shift in zip(mask.shape, origins, strict=True)]
    if is_sequence(mode):
        raise FilterError("A sequence of modes is not supported for non-separable footprints")
    outside, value = padding_mode(mode), real_number(cval)
    target.check_writable()
    if not x.size:
        return target.filled(np.zeros(x.shape, target.native))
    # The C code casts the fill value to the type of the array.
    value = float(cast(np.array([value]), x.dtype)[0])
    places = np.flatnonzero(mask)
    taps = Taps(places, np.ones(len(places)), sign=-1 if name == "minimum_filter" else 1)
    dtype = target.native
    return target.filled(filtered_block("extreme", x, dtype, mask.shape, befores, outside, value, taps, safe=True))


def _rectangular(op: str, x: np.ndarray, dtype: np.dtype, windows: Sequence[_Window], cval: float) -> np.ndarray:
    """Return the extremes along one axis after the other, each result cast to `dtype` as C does; bool as uint8."""
    if not x.size:
        return np.zeros(x.shape, dtype)
    if x.dtype == dtype and _is_exact(x, any(w.mode == "zeros" for w in windows), cval):
        return _reduced(op, x.view(np.uint8) if x.dtype == bool else x, windows, cval)
    for w in windows:
        x = cast(_reduced(op, x.astype(np.float64), [w], cval), dtype)
    return x


def _reduced(op: str, x: np.ndarray, windows: Sequence[_Window], cval: float) -> np.ndarray:
    sizes, befores, modes = [1] * x.ndim, [0] * x.ndim, ["zeros"] * x.ndim
    for w in windows:
        sizes[w.axis], befores[w.axis], modes[w.axis] = w.size, w.before, w.mode
    return reduce_windows(op, x, sizes, befores, modes, cval)


def _is_exact(x: np.ndarray, fills: bool, cval: float) -> bool:
    """Return whether the extremes of the numbers as they are are those of doubles cast back."""
    if x.dtype.kind == "f":
        return True
    limits = np.iinfo(np.uint8 if x.dtype == bool else x.dtype)
    if fills and not limits.min - 1 < cval < limits.max + 1:
        return False
    return limits.max <= _EXACT or (int(x.min()) >= -_EXACT and int(x.max()) <= _EXACT)
