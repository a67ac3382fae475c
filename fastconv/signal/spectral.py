"""Convolution by FFT of the whole arrays, and by overlap-add, with SciPy's signatures."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import ArrayLike

from fastconv.errors import OptionError, ShapeError
from fastconv.signal.modes import SPECTRAL_TEXT, check_mode, must_swap
from fastconv.signal.on_device import refuse
from fastconv.signal.others import both
from fastconv.threads import get_num_threads


def fftconvolve(in1: ArrayLike, in2: ArrayLike, mode: str = "full", axes: int | Iterable[int] | None = None) -> Any:
    """Convolve two arrays by one FFT, as `scipy.signal.fftconvolve`.

    Parameters
    ----------
    in1, in2 : array_like
        Of the same number of dimensions.
    mode : {"full", "valid", "same"}
        Size of the result along each of the axes: ``n + k - 1``; ``n - k + 1``; n, the centre of "full".
    axes : int or iterable of int, optional
        By default all; along the others sizes must agree or be 1.

    Returns
    -------
    ndarray
        float64 of integers, else of the promoted dtype. It shares no memory with the inputs.

    Raises
    ------
    ShapeError
        The shapes do not fit together.
    OptionError
        Another mode.

    Notes
    -----
    Cost: O(n log n) in the size of the full result. NaN and infinities spread over the whole result; `convolve` keeps
    them where they belong.

    Examples
    --------
    >>> import fastconv as fc
    >>> fc.signal.fftconvolve([1.0, 2.0], [1.0, 1.0]).round(6)
    array([1., 3., 2.])
    """
    return _convolve(in1, in2, mode, axes, by_blocks=False)


def oaconvolve(in1: ArrayLike, in2: ArrayLike, mode: str = "full", axes: int | Iterable[int] | None = None) -> Any:
    """Convolve two arrays of different sizes by FFTs of blocks, as `scipy.signal.oaconvolve`.

    Parameters, results and errors are those of `fftconvolve`.

    Notes
    -----
    Cost: O(n log k), n the larger and k the smaller size: the larger array is cut into blocks, whose results overlap
    and are added [1]_.

    References
    ----------
    .. [1] T. G. Stockham, High-speed convolution and correlation, Proc. Spring Joint Computer Conference, 1966,
       doi:10.1145/1464182.1464209

    Examples
    --------
    >>> import fastconv as fc
    >>> fc.signal.oaconvolve([1.0, 2.0], [1.0, 1.0]).round(6)
    array([1., 3., 2.])
    """
    return _convolve(in1, in2, mode, axes, by_blocks=True)


def _convolve(in1: ArrayLike, in2: ArrayLike, mode: str, axes: Any, by_blocks: bool) -> Any:
    name = "oaconvolve" if by_blocks else "fftconvolve"
    refuse(name, in1, in2)
    a, b = both(name, in1, in2)
    if a.ndim == b.ndim == 0:
        return a * b
    if a.ndim != b.ndim:
        raise ShapeError("in1 and in2 should have the same dimensionality")
    if not a.size or not b.size:
        return np.asarray([])
    along = _axes(a, b, axes)
    if must_swap(mode, a.shape, b.shape, along):
        a, b = b, a
    full = _full(a, b, along, by_blocks)
    check_mode(mode, SPECTRAL_TEXT)
    if mode == "full":
        return full
    sizes = list(full.shape)
    for axis in range(a.ndim):
        if mode == "same":
            sizes[axis] = a.shape[axis]
        elif axis in along:
            sizes[axis] = a.shape[axis] - b.shape[axis] + 1
    starts = [(n - size) // 2 for n, size in zip(full.shape, sizes, strict=True)]
    return full[tuple(slice(s, s + size) for s, size in zip(starts, sizes, strict=True))].copy()


def _axes(a: np.ndarray, b: np.ndarray, axes: Any) -> tuple[int, ...]:
    """Return the axes that need a transform; along the others a product broadcasts."""
    if axes is None:
        along = list(range(a.ndim))
    else:
        try:
            given = [axes] if isinstance(axes, (int, np.integer)) else list(axes)
        except TypeError as error:
            raise OptionError("axes must be a scalar or iterable of integers") from error
        if not given:
            raise OptionError("when provided, axes cannot be empty")
        if not all(isinstance(axis, (int, np.integer)) for axis in given):
            raise OptionError("axes must be a scalar or iterable of integers")
        if not all(-a.ndim <= axis < a.ndim for axis in given):
            raise OptionError("axes exceeds dimensionality of input")
        along = [int(axis) % a.ndim for axis in given]
        if len(set(along)) < len(along):
            raise OptionError("all axes must be unique")
    along = [axis for axis in along if a.shape[axis] != 1 and b.shape[axis] != 1]
    for axis, (n, k) in enumerate(zip(a.shape, b.shape, strict=True)):
        if axis not in along and n != k and 1 not in (n, k):
            raise ShapeError(f"incompatible shapes for in1 and in2: {a.shape} and {b.shape}")
    return tuple(sorted(along))


def _full(a: np.ndarray, b: np.ndarray, along: tuple[int, ...], by_blocks: bool) -> np.ndarray:
    """Return the full convolution along some axes."""
    if not along:
        return a * b
    a, b = (array.astype(np.float64) if array.dtype.kind in "biu" else array for array in (a, b))
    whole = [a.shape[axis] + b.shape[axis] - 1 for axis in along]
    steps = [_step(a.shape[axis], b.shape[axis]) if by_blocks else max(a.shape[axis], b.shape[axis]) for axis in along]
    if all(a.shape[axis] >= b.shape[axis] for axis in along):
        large, small = a, b
    elif all(b.shape[axis] >= a.shape[axis] for axis in along):
        large, small = b, a
    else:
        # Cut along both, one of them would need as many blocks as the other has.
        large, small, steps = a, b, [a.shape[axis] for axis in along]
    return _added(large, small, along, steps, whole)


def _step(n: int, k: int) -> int:
    """Return how much of the larger array a block holds."""
    n, k = max(n, k), min(n, k)
    # About the size with the least work for each result, which grows as log(block) * block / (block - k + 1).
    block = scipy.fft.next_fast_len(max(8 * k, 1024), real=True)
    return int(block - k + 1) if block < n else n


def _added(
    large: np.ndarray, small: np.ndarray, along: tuple[int, ...], steps: list[int], whole: list[int]
) -> np.ndarray:
    """Return the sum of the convolutions of the blocks of `large` with `small`, each at its place."""
    is_complex = large.dtype.kind == "c" or small.dtype.kind == "c"
    forward, back = (scipy.fft.fftn, scipy.fft.ifftn) if is_complex else (scipy.fft.rfftn, scipy.fft.irfftn)
    taps = [small.shape[axis] for axis in along]
    lengths = [int(scipy.fft.next_fast_len(s + k - 1, real=not is_complex)) for s, k in zip(steps, taps, strict=True)]
    workers = get_num_threads()
    spectrum = forward(small, lengths, axes=along, workers=workers)
    single = all(step >= large.shape[axis] for step, axis in zip(steps, along, strict=True))
    out = None
    for starts in np.ndindex(*(math.ceil(large.shape[axis] / s) for s, axis in zip(steps, along, strict=True))):
        here: list[Any] = [slice(None)] * large.ndim
        for axis, i, step in zip(along, starts, steps, strict=True):
            here[axis] = slice(i * step, (i + 1) * step)
        block = large[tuple(here)]
        part = back(
            forward(block, lengths, axes=along, workers=workers) * spectrum, lengths, axes=along, workers=workers
        )
        for axis, k in zip(along, taps, strict=True):
            size = block.shape[axis] + k - 1
            part = part[(slice(None),) * axis + (slice(size),)]
            here[axis] = slice(here[axis].start, here[axis].start + size)
        if single:
            return np.ascontiguousarray(part)
        if out is None:
            shape = list(part.shape)
            for axis, n in zip(along, whole, strict=True):
                shape[axis] = n
            out = np.zeros(shape, part.dtype)
        out[tuple(here)] += part
    assert out is not None
    return out
