"""Overlap-save: correlation of an array with a large kernel by FFTs of blocks, which the transform of the kernel fits.

Each block of the (padded) array is transformed, multiplied by the conjugate of the kernel's transform and transformed
back; what wraps around is not kept [1]_. All is done in double precision. Where that would be less exact than direct
summation, a block is summed directly: if it holds NaN or infinities, which an FFT spreads over the block, or if the
magnitudes in it are so far apart that rounding errors of the largest would show among the smallest.

References
----------
.. [1] A. V. Oppenheim, R. W. Schafer, Discrete-Time Signal Processing, 3rd ed., 2010, section 8.7.3
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any, Final

import numpy as np
import scipy.fft

from fastconv.signal.modes import Pads
from fastconv.system import empty
from fastconv.threads import get_num_threads

# Seconds for each element and doubling of a real transform and back, and for a block beside that, as the planner
# counts: on one thread of a machine at its nominal clock.
_SECONDS: Final = 1.6e-9
_BLOCK_SECONDS: Final = 100e-6
# Elements of a block that fit into the second-level cache, about, and with it the transforms of its columns.
_LARGEST: Final = 1 << 18
# Edge of the cells whose largest magnitudes are compared.
_CELL: Final = 8


def plan(padded: Sequence[int], taps: Sequence[int]) -> tuple[tuple[int, ...], float]:
    """Return the sizes of the blocks and the time they take, in seconds."""
    return _plan(tuple(padded), tuple(taps))


@lru_cache(maxsize=1024)
def _plan(padded: tuple[int, ...], taps: tuple[int, ...]) -> tuple[tuple[int, ...], float]:
    choices = []
    for n, k in zip(padded, taps, strict=True):
        sizes = {_fast(n), *(_fast(min(n, k * m)) for m in (1.25, 1.5, 2, 3, 4, 6, 8, 16, 32))}
        choices.append(sorted({_even(n, k, size) for size in sizes if size >= k}))
    best: tuple[tuple[int, ...], float] = (), math.inf
    for blocks in itertools.product(*choices):
        size = math.prod(blocks)
        if size > _LARGEST and best[0]:
            continue
        count = math.prod(-(-(n - k + 1) // (b - k + 1)) for n, k, b in zip(padded, taps, blocks, strict=True))
        seconds = (count + 0.5) * (_SECONDS * size * math.log2(size + 1) + _BLOCK_SECONDS)
        if seconds < best[1]:
            best = blocks, seconds
    return best


def _even(n: int, k: int, size: int) -> int:
    """Return the size of as many blocks of an axis that are alike, so that the last one is not mostly empty."""
    outputs = n - k + 1
    count = -(-outputs // (size - k + 1))
    return _fast(-(-outputs // count) + k - 1)


def _fast(n: float) -> int:
    return int(scipy.fft.next_fast_len(max(1, math.ceil(n)), real=True))


def exact(x: np.ndarray, kernel: np.ndarray) -> bool:
    """Return whether sums by FFT are right: of integers, if they are small enough; of others, if the kernel is finite.

    The error of a result is below ``6 log2(size) eps ||x|| ||kernel||`` (N. J. Higham, Accuracy and Stability of
    Numerical Algorithms, 2002, theorem 24.2, twice forward and once back).
    """
    if x.dtype.kind not in "iu":
        return bool(np.isfinite(kernel).all())
    largest = max(abs(int(x.max())), abs(int(x.min())))
    norm = math.sqrt(float(np.square(kernel.astype(np.float64)).sum()))
    error = 6 * math.log2(4 * _LARGEST) * np.finfo(np.float64).eps * largest * math.sqrt(4 * _LARGEST) * norm
    return bool(error < 0.25 and largest * float(np.abs(kernel.astype(np.float64)).sum()) < 2**52)


def correlate(
    x: np.ndarray,
    kernel: np.ndarray,
    pads: Pads,
    padding_mode: str,
    fill: Any,
    blocks: Sequence[int],
    direct: Callable[[np.ndarray], np.ndarray],
) -> np.ndarray:
    """Return the sums of products of `sums.sums_of_products`; `direct(tile)` are those of a tile that is padded."""
    dtype = np.result_type(x, kernel)
    is_complex, is_integer = dtype.kind == "c", dtype.kind in "iu"
    forward, back = (scipy.fft.fftn, scipy.fft.ifftn) if is_complex else (scipy.fft.rfftn, scipy.fft.irfftn)
    wide = np.complex128 if is_complex else np.float64
    workers = get_num_threads()
    flipped = kernel[(slice(None, None, -1),) * x.ndim]
    spectrum = forward(flipped.astype(wide), tuple(blocks), workers=workers)
    last = [k - 1 for k in kernel.shape]
    shape = [n + sum(pad) - k for n, pad, k in zip(x.shape, pads, last, strict=True)]
    out = empty(shape, dtype)
    indices = _sources(x.shape, pads, padding_mode)
    outside = 0 if fill is None else fill
    for where in _tiles(shape, [b - k for b, k in zip(blocks, last, strict=True)]):
        window = [slice(w.start, w.stop + k) for w, k in zip(where, last, strict=True)]
        tile, even = _load(x, indices, window, outside)
        if not even:
            out[where] = direct(tile)
            continue
        product = forward(tile.astype(wide), tuple(blocks), workers=workers)
        product *= spectrum
        whole = back(product, tuple(blocks), workers=workers, overwrite_x=True)
        sums = whole[tuple(slice(k, k + w.stop - w.start) for w, k in zip(where, last, strict=True))]
        out[where] = np.rint(sums).astype(np.int64) if is_integer else sums
    return out


def _tiles(shape: Sequence[int], steps: Sequence[int]) -> Iterator[tuple[slice, ...]]:
    axes = [[slice(a, min(n, a + s)) for a in range(0, n, s)] for n, s in zip(shape, steps, strict=True)]
    return itertools.product(*axes)


def _sources(shape: Sequence[int], pads: Pads, padding_mode: str) -> list[np.ndarray]:
    """Return for each axis which element of the array each element of the padded one is; -1: none."""
    if padding_mode == "zeros":
        return [np.pad(np.arange(n), pad, constant_values=-1) for n, pad in zip(shape, pads, strict=True)]
    mode: Any = {"circular": "wrap", "replicate": "edge"}.get(padding_mode, padding_mode)
    return [np.pad(np.arange(n), pad, mode=mode) for n, pad in zip(shape, pads, strict=True)]


def _load(x: np.ndarray, indices: list[np.ndarray], window: Sequence[slice], outside: Any) -> tuple[np.ndarray, bool]:
    """Return a window of the padded array, and whether it may be transformed."""
    sources = [index[part] for index, part in zip(indices, window, strict=True)]
    kept = [source[source >= 0] for source in sources]
    runs = [slice(k[0], k[-1] + 1) if len(k) and (np.diff(k) == 1).all() else k for k in kept]
    part = x[tuple(runs)] if all(isinstance(run, slice) for run in runs) else x[np.ix_(*kept)]
    even = part.dtype.kind in "iu" or _is_even(part)
    if part.size == math.prod(len(source) for source in sources):
        return part, even
    tile = np.full([len(source) for source in sources], outside, x.dtype)
    if part.size:
        # What is outside is at the ends.
        starts = [int(np.argmax(source >= 0)) for source in sources]
        tile[tuple(slice(start, start + n) for start, n in zip(starts, part.shape, strict=True))] = part
    return tile, even


def _is_even(part: np.ndarray) -> bool:
    """Return whether FFTs of these numbers in double precision are as exact as direct sums in their own."""
    cells = np.abs(part)
    if not cells.size:
        return True
    for axis in range(part.ndim):
        cells = np.maximum.reduceat(cells, range(0, part.shape[axis], _CELL), axis=axis)
    largest, smallest = float(cells.max()), float(cells.min())
    ratio = 2.0**20 if cells.dtype == np.float32 else 2.0**8
    return math.isfinite(largest) and largest <= ratio * smallest
