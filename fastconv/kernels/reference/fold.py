"""The definition of sliding blocks as columns, and of their sum: one kernel offset after the other. Slow, obvious."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np


def unfold(
    x: np.ndarray, kernel: Sequence[int], dilation: Sequence[int], pads: Sequence, stride: Sequence[int]
) -> np.ndarray:
    """Return (N, C*K, L) of x (N, C, *S); pads are pairs."""
    padded = np.pad(x, [(0, 0), (0, 0), *pads])
    rows = [padded[:, :, *window] for window in _windows(padded.shape[2:], kernel, dilation, stride)]
    L = int(np.prod(rows[0].shape[2:]))
    return np.stack(rows, 2).reshape(x.shape[0], x.shape[1] * len(rows), L)


def fold(
    columns: np.ndarray,
    sizes: Sequence[int],
    kernel: Sequence[int],
    dilation: Sequence[int],
    pads: Sequence,
    stride: Sequence[int],
) -> np.ndarray:
    """Return (N, C, *sizes) that is the sum of columns (N, C*K, L); pads are pairs."""
    padded = [n + a + b for n, (a, b) in zip(sizes, pads, strict=True)]
    (N, rows, L), K = columns.shape, int(np.prod(kernel))
    out = np.zeros((N, rows // K, *padded), columns.dtype)
    blocks = columns.reshape(N, rows // K, K, L)
    for k, window in enumerate(_windows(padded, kernel, dilation, stride)):
        out[:, :, *window] += blocks[:, :, k].reshape(out[:, :, *window].shape)
    return out[:, :, *(slice(a, a + n) for n, (a, _) in zip(sizes, pads, strict=True))]


def _windows(
    padded: Sequence[int], kernel: Sequence[int], dilation: Sequence[int], stride: Sequence[int]
) -> Iterator[tuple[slice, ...]]:
    """Yield for each kernel offset the elements that it meets."""
    for k in product(*map(range, kernel)):
        along = zip(padded, kernel, dilation, stride, k, strict=True)
        yield tuple(slice(i * d, n - (size - 1 - i) * d, step) for n, size, d, step, i in along)
