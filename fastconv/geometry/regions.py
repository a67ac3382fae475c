"""Parts of a convolution's output as convolutions of their own, of what they read, without padding."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastconv.geometry.conv import ConvGeometry


def region_geometry(g: ConvGeometry, region: Any) -> ConvGeometry:
    """Return the problem of one region: rows row to row + rows and columns likewise of image n * OD + od."""
    D, H, W = (g.KD - 1) * g.DD + 1, _extent(g, region.rows, "H"), _extent(g, region.columns, "W")
    part = g._replace(N=1, SD=1, D=D, H=H, W=W, OD=1, OH=region.rows, OW=region.columns)
    return part._replace(PF=0, PK=0, PT=0, PB=0, PL=0, PR=0, padding_mode="zeros", axes=3)


def region_input(g: ConvGeometry, x: np.ndarray, region: Any) -> np.ndarray:
    """Return what a region reads of the input, with its border: (1, IC, D, H, W) or (1, D, H, W, IC)."""
    last = g.layout == "channels_last"
    part = x.reshape((g.N, g.D, g.H, g.W, g.IC) if last else (g.N, g.IC, g.D, g.H, g.W))
    n, od = divmod(region.image, g.OD)
    part = part[n : n + 1]
    starts = (od * g.SD - g.PF, region.row * g.SH - g.PT, region.column * g.SW - g.PL)
    counts = ((g.KD - 1) * g.DD + 1, _extent(g, region.rows, "H"), _extent(g, region.columns, "W"))
    for i, size in enumerate((g.D, g.H, g.W)):
        index, axis = source_indices(starts[i], counts[i], size, g.padding_mode), i + (1 if last else 2)
        part = np.take(part, index, axis)
        part[(slice(None),) * axis + (index < 0,)] = 0
    return np.ascontiguousarray(part)


def region_of(g: ConvGeometry, array: np.ndarray, region: Any) -> np.ndarray:
    """Return the view of a region of an array of the output's shape: (1, OC, 1, rows, columns) or channels last."""
    last = g.layout == "channels_last"
    volume = array.reshape((g.N, g.OD, g.OH, g.OW, g.OC) if last else (g.N, g.OC, g.OD, g.OH, g.OW))
    n, od = divmod(region.image, g.OD)
    rows = slice(region.row, region.row + region.rows)
    columns = slice(region.column, region.column + region.columns)
    return volume[n : n + 1, od : od + 1, rows, columns] if last else volume[n : n + 1, :, od : od + 1, rows, columns]


def source_indices(start: int, count: int, size: int, mode: str) -> np.ndarray:
    """Return which of `size` elements stand at positions start to start + count, as numpy.pad has it; -1: a zero."""
    i = np.arange(start, start + count)
    if mode == "zeros":
        return np.where((i >= 0) & (i < size), i, -1)
    if mode == "replicate":
        return np.clip(i, 0, size - 1)
    if mode == "circular":
        return i % size
    # A mirror repeats after 2n elements, or 2n - 2 if the ends are not doubled.
    period = 2 * size if mode == "symmetric" else max(2 * size - 2, 1)
    i %= period
    return np.minimum(i, (2 * size - 1 if mode == "symmetric" else period) - i)


def _extent(g: ConvGeometry, outputs: int, axis: str) -> int:
    """Return how many inputs along an axis some outputs read."""
    S, K, D = (getattr(g, name + axis) for name in "SKD")
    return int((outputs - 1) * S + (K - 1) * D + 1)
