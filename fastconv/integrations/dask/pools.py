"""Maximum and average over windows of arrays in chunks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, TypeAlias

import dask.array as da
import numpy as np

from fastconv.api import pool
from fastconv.geometry.pool import PoolGeometry, pool_geometry
from fastconv.geometry.windows import whole
from fastconv.integrations.dask.graph import Operation, apply, checked
from fastconv.integrations.dask.windows import Extent

_Size: TypeAlias = int | tuple[int, ...]


def max_pool1d(
    input: da.Array,
    kernel_size: _Size,
    stride: _Size | None = None,
    padding: Any = 0,
    dilation: _Size = 1,
    ceil_mode: bool = False,
    *,
    layout: str = "channels_first",
) -> da.Array:
    """Return the maximum of each window, as `fastconv.max_pool1d`; see `max_pool2d`."""
    keywords = {"dilation": dilation, "ceil_mode": ceil_mode, "layout": layout}
    return _pooled("max_pool1d", 1, input, kernel_size, stride, padding, keywords)


def max_pool2d(
    input: da.Array,
    kernel_size: _Size,
    stride: _Size | None = None,
    padding: Any = 0,
    dilation: _Size = 1,
    ceil_mode: bool = False,
    *,
    layout: str = "channels_first",
) -> da.Array:
    """Return the maximum of each window, as `fastconv.max_pool2d`, with its bits.

    Parameters
    ----------
    input : dask array of shape (N, C, H, W) or (C, H, W)
        In chunks along any axis; channels last (N, H, W, C) or (H, W, C).
    kernel_size, stride, padding, dilation, ceil_mode, layout
        As in `fastconv.max_pool2d`.

    Returns
    -------
    dask array of shape (N, C, OH, OW)
        There are no indices of the maxima.

    Raises
    ------
    ShapeError, OptionError, ArgumentTypeError, DtypeError
        As `fastconv.max_pool2d`; also chunks of unknown sizes, and inputs that are no dask arrays.
    """
    keywords = {"dilation": dilation, "ceil_mode": ceil_mode, "layout": layout}
    return _pooled("max_pool2d", 2, input, kernel_size, stride, padding, keywords)


def max_pool3d(
    input: da.Array,
    kernel_size: _Size,
    stride: _Size | None = None,
    padding: Any = 0,
    dilation: _Size = 1,
    ceil_mode: bool = False,
    *,
    layout: str = "channels_first",
) -> da.Array:
    """Return the maximum of each window, as `fastconv.max_pool3d`; see `max_pool2d`."""
    keywords = {"dilation": dilation, "ceil_mode": ceil_mode, "layout": layout}
    return _pooled("max_pool3d", 3, input, kernel_size, stride, padding, keywords)


def avg_pool1d(
    input: da.Array,
    kernel_size: _Size,
    stride: _Size | None = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    *,
    layout: str = "channels_first",
) -> da.Array:
    """Return the average of each window, as `fastconv.avg_pool1d`; see `avg_pool2d`."""
    keywords = _averages(ceil_mode, count_include_pad, divisor_override, layout)
    return _pooled("avg_pool1d", 1, input, kernel_size, stride, padding, keywords)


def avg_pool2d(
    input: da.Array,
    kernel_size: _Size,
    stride: _Size | None = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    *,
    layout: str = "channels_first",
) -> da.Array:
    """Return the average of each window, as `fastconv.avg_pool2d`: of integers exactly, of floats to rounding.

    Parameters, results and errors are those of `max_pool2d`, and of `fastconv.avg_pool2d`.
    """
    keywords = _averages(ceil_mode, count_include_pad, divisor_override, layout)
    return _pooled("avg_pool2d", 2, input, kernel_size, stride, padding, keywords)


def avg_pool3d(
    input: da.Array,
    kernel_size: _Size,
    stride: _Size | None = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    *,
    layout: str = "channels_first",
) -> da.Array:
    """Return the average of each window, as `fastconv.avg_pool3d`; see `avg_pool2d`."""
    keywords = _averages(ceil_mode, count_include_pad, divisor_override, layout)
    return _pooled("avg_pool3d", 3, input, kernel_size, stride, padding, keywords)


def _averages(ceil_mode: Any, count_include_pad: Any, divisor_override: Any, layout: Any) -> dict[str, Any]:
    names = ("ceil_mode", "count_include_pad", "divisor_override", "layout")
    return dict(zip(names, (ceil_mode, count_include_pad, divisor_override, layout), strict=True))


def _pooled(
    name: str, axes: int, input: Any, kernel_size: Any, stride: Any, padding: Any, keywords: dict[str, Any]
) -> da.Array:
    x, function = checked(name, "input", input), getattr(pool, name)
    layout, dilation = keywords["layout"], keywords.get("dilation", 1)
    ceil = keywords["ceil_mode"]
    g = pool_geometry(name, axes, x.shape, kernel_size, stride, padding, dilation, ceil, layout)
    windows = {"kernel_size": kernel_size, "stride": stride}
    # Of no images, nothing is computed; the arguments are checked.
    sample = np.zeros((0, *x.shape[g.batched :]), x.dtype)
    dtype = function(sample, padding=padding, **windows, **keywords).dtype
    first = x.ndim - axes - (layout == "channels_last")
    along = [whole(n) for n in x.shape]
    along[first : first + axes] = g.axes
    operation = Operation(
        name,
        function,
        along,
        whole={"padding": padding, **windows, **keywords},
        split={**windows, **keywords},
        arrays={},
        dtype=dtype,
        more=partial(_padding, g, first),
    )
    return apply(x, operation)


def _padding(g: PoolGeometry, first: int, block: Sequence[Extent]) -> tuple[dict[str, Any], None]:
    """Return the padding of a block: how far its windows reach out of the image, but not behind its padding."""
    pairs = []
    for axis, end, extent in zip(g.axes, g.ends, block[first:], strict=False):
        pairs.append((extent.before, min(extent.after, end - axis.n)))
    return {"padding": tuple(pairs)}, None
