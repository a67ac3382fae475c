"""Maxima and minima over windows of arrays in chunks, with the arguments of `scipy.ndimage`."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np

from fastconv.integrations.dask.filters import Reach, apply_filter, filter_input, line_reach
from fastconv.ndimage.arguments import axes_of, before_of, padding_mode, sequence_of
from fastconv.ndimage.correlation import over_all_axes
from fastconv.ndimage.extrema import size_or_mask


def maximum_filter(
    input: da.Array,
    size: Any = None,
    footprint: Any = None,
    output: Any = None,
    mode: Any = "reflect",
    cval: Any = 0.0,
    origin: Any = 0,
    *,
    axes: Any = None,
) -> da.Array:
    """Return the largest element of the window around each, as `fastconv.ndimage.maximum_filter`, with its bits.

    Parameters, result and errors as of `correlate`; the footprint is an array_like.
    """
    return _extreme("maximum_filter", input, size, footprint, output, mode, cval, origin, axes)


def minimum_filter(
    input: da.Array,
    size: Any = None,
    footprint: Any = None,
    output: Any = None,
    mode: Any = "reflect",
    cval: Any = 0.0,
    origin: Any = 0,
    *,
    axes: Any = None,
) -> da.Array:
    """Return the smallest element of the window around each, as `fastconv.ndimage.minimum_filter`, with its bits.

    Parameters, result and errors as of `correlate`; the footprint is an array_like.
    """
    return _extreme("minimum_filter", input, size, footprint, output, mode, cval, origin, axes)


def maximum_filter1d(
    input: da.Array,
    size: int,
    axis: int = -1,
    output: Any = None,
    mode: str = "reflect",
    cval: Any = 0.0,
    origin: int = 0,
) -> da.Array:
    """Return the largest element of the window along one axis, as `fastconv.ndimage.maximum_filter1d`."""
    keywords = {"size": size, "axis": axis, "output": output, "mode": mode, "cval": cval, "origin": origin}
    reach = line_reach(lambda: size, axis, mode, origin)
    return apply_filter("maximum_filter1d", filter_input("maximum_filter1d", input, output), {}, keywords, reach)


def minimum_filter1d(
    input: da.Array,
    size: int,
    axis: int = -1,
    output: Any = None,
    mode: str = "reflect",
    cval: Any = 0.0,
    origin: int = 0,
) -> da.Array:
    """Return the smallest element of the window along one axis, as `fastconv.ndimage.minimum_filter1d`."""
    keywords = {"size": size, "axis": axis, "output": output, "mode": mode, "cval": cval, "origin": origin}
    reach = line_reach(lambda: size, axis, mode, origin)
    return apply_filter("minimum_filter1d", filter_input("minimum_filter1d", input, output), {}, keywords, reach)


def _extreme(
    name: str, input: Any, size: Any, footprint: Any, output: Any, mode: Any, cval: Any, origin: Any, axes: Any
) -> da.Array:
    x = filter_input(name, input, output)
    keywords = {"size": size, "output": output, "mode": mode, "cval": cval, "origin": origin, "axes": axes}
    mask = None if footprint is None else np.asarray(footprint, bool)

    def reach(ndim: int) -> list[Reach]:
        along = axes_of(axes, ndim)
        lengths, shaped = size_or_mask(name, None if mask is not None else size, mask)
        if shaped is not None:
            shaped, origins = over_all_axes(ndim, along, shaped, "footprint", origin)
            found = zip(range(ndim), shaped.shape, origins, [mode] * ndim, strict=True)
        else:
            values = (sequence_of(value, len(along)) for value in (lengths, origin, mode))
            found = zip(along, *values, strict=True)
        return [
            Reach(axis, int(n), before_of(int(n), shift, "invalid origin"), padding_mode(outside))
            for axis, n, shift, outside in found
            if n > 1
        ]

    return apply_filter(name, x, {"footprint": mask}, keywords, reach)
