"""Convolutions of batches of images, series and volumes in chunks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dask.array as da
import numpy as np

from fastconv.api import conv, conv_nd, separable
from fastconv.geometry.conv import ConvGeometry, conv_geometry
from fastconv.geometry.padding import Pair
from fastconv.geometry.windows import Axis, whole
from fastconv.integrations.dask.graph import Operation, apply, as_shared, checked, stand_in
from fastconv.integrations.dask.images import nothing_more

_WINDOWS = ("stride", "padding", "dilation", "groups", "padding_mode")


def conv1d(
    input: da.Array,
    weight: Any,
    bias: Any = None,
    stride: int | tuple[int, ...] = 1,
    padding: Any = 0,
    dilation: int | tuple[int, ...] = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
    layout: str = "channels_first",
    activation: str | None = None,
    algorithm: str = "auto",
    precision: str = "default",
    out_dtype: Any = None,
) -> da.Array:
    """Convolve series with filters, as `fastconv.conv1d`; see `conv2d`."""
    rest = _rest(layout, activation, algorithm, precision, out_dtype)
    options = (stride, padding, dilation, groups, padding_mode)
    return _convolved("conv1d", conv_nd.conv1d, 1, input, {"weight": weight, "bias": bias}, options, rest)


def conv2d(
    input: da.Array,
    weight: Any,
    bias: Any = None,
    stride: int | tuple[int, ...] = 1,
    padding: Any = 0,
    dilation: int | tuple[int, ...] = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
    layout: str = "channels_first",
    activation: str | None = None,
    algorithm: str = "auto",
    precision: str = "default",
    out_dtype: Any = None,
) -> da.Array:
    """Convolve images with filters, as `fastconv.conv2d`.

    Parameters
    ----------
    input : dask array of shape (N, IC, H, W) or (IC, H, W)
        In chunks along any axis; those along IC are put into one. Channels last (N, H, W, IC) or (H, W, IC).
    weight : array_like or dask array of shape (OC, IC/groups, KH, KW)
    bias : array_like or dask array of shape (OC,), optional
    stride, padding, dilation, groups, padding_mode, layout, activation, algorithm, precision, out_dtype
        As in `fastconv.conv2d`.

    Returns
    -------
    dask array of shape (N, OC, OH, OW)
        OC in one chunk.

    Raises
    ------
    ShapeError, OptionError, ArgumentTypeError, DtypeError, UnsupportedError
        As `fastconv.conv2d`; also chunks of unknown sizes, and inputs that are no dask arrays.

    Notes
    -----
    Integers are exact. Floats are equal to rounding: "auto" may choose another algorithm for blocks of another size.
    """
    rest = _rest(layout, activation, algorithm, precision, out_dtype)
    options = (stride, padding, dilation, groups, padding_mode)
    return _convolved("conv2d", conv.conv2d, 2, input, {"weight": weight, "bias": bias}, options, rest)


def conv3d(
    input: da.Array,
    weight: Any,
    bias: Any = None,
    stride: int | tuple[int, ...] = 1,
    padding: Any = 0,
    dilation: int | tuple[int, ...] = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
    layout: str = "channels_first",
    activation: str | None = None,
    algorithm: str = "auto",
    precision: str = "default",
    out_dtype: Any = None,
) -> da.Array:
    """Convolve volumes or videos with filters, as `fastconv.conv3d`; see `conv2d`."""
    rest = _rest(layout, activation, algorithm, precision, out_dtype)
    options = (stride, padding, dilation, groups, padding_mode)
    return _convolved("conv3d", conv_nd.conv3d, 3, input, {"weight": weight, "bias": bias}, options, rest)


def depthwise_conv2d(
    input: da.Array,
    weight: Any,
    bias: Any = None,
    stride: int | tuple[int, ...] = 1,
    padding: Any = 0,
    dilation: int | tuple[int, ...] = 1,
    *,
    padding_mode: str = "zeros",
    layout: str = "channels_first",
    activation: str | None = None,
    algorithm: str = "auto",
    precision: str = "default",
    out_dtype: Any = None,
) -> da.Array:
    """Convolve every channel with its own kernels, as `fastconv.depthwise_conv2d`; see `conv2d`."""
    rest = _rest(layout, activation, algorithm, precision, out_dtype)
    options = (stride, padding, dilation, None, padding_mode)
    arrays = {"weight": weight, "bias": bias}
    return _convolved("depthwise_conv2d", conv.depthwise_conv2d, 2, input, arrays, options, rest)


def pointwise_conv2d(
    input: da.Array,
    weight: Any,
    bias: Any = None,
    *,
    layout: str = "channels_first",
    activation: str | None = None,
    algorithm: str = "auto",
    precision: str = "default",
    out_dtype: Any = None,
) -> da.Array:
    """Mix the channels of every pixel, as `fastconv.pointwise_conv2d`; see `conv2d`."""
    rest = _rest(layout, activation, algorithm, precision, out_dtype)
    return _convolved("pointwise_conv2d", conv.pointwise_conv2d, 2, input, {"weight": weight, "bias": bias}, (), rest)


def separable_conv2d(
    input: da.Array,
    depthwise_weight: Any,
    pointwise_weight: Any,
    bias: Any = None,
    stride: int | tuple[int, ...] = 1,
    padding: Any = 0,
    dilation: int | tuple[int, ...] = 1,
    *,
    depthwise_bias: Any = None,
    depthwise_activation: str | None = None,
    padding_mode: str = "zeros",
    layout: str = "channels_first",
    activation: str | None = None,
    algorithm: str = "auto",
    precision: str = "default",
    out_dtype: Any = None,
) -> da.Array:
    """Convolve depthwise, then pointwise, as `fastconv.separable_conv2d`; see `conv2d`."""
    rest = _rest(layout, activation, algorithm, precision, out_dtype)
    rest["depthwise_activation"] = depthwise_activation
    arrays = {
        "depthwise_weight": depthwise_weight,
        "pointwise_weight": pointwise_weight,
        "bias": bias,
        "depthwise_bias": depthwise_bias,
    }
    options = (stride, padding, dilation, None, padding_mode)
    return _convolved("separable_conv2d", separable.separable_conv2d, 2, input, arrays, options, rest)


def spatially_separable_conv2d(
    input: da.Array,
    column: Any,
    row: Any,
    bias: Any = None,
    stride: int | tuple[int, ...] = 1,
    padding: Any = 0,
    dilation: int | tuple[int, ...] = 1,
    *,
    padding_mode: str = "zeros",
    layout: str = "channels_first",
    activation: str | None = None,
    algorithm: str = "auto",
    precision: str = "default",
    out_dtype: Any = None,
) -> da.Array:
    """Convolve every channel with ``outer(column, row)``, as `fastconv.spatially_separable_conv2d`; see `conv2d`."""
    rest = _rest(layout, activation, algorithm, precision, out_dtype)
    arrays = {"column": column, "row": row, "bias": bias}
    options = (stride, padding, dilation, None, padding_mode)
    name = "spatially_separable_conv2d"
    return _convolved(name, separable.spatially_separable_conv2d, 2, input, arrays, options, rest)


def _rest(layout: Any, activation: Any, algorithm: Any, precision: Any, out_dtype: Any) -> dict[str, Any]:
    names = ("layout", "activation", "algorithm", "precision", "out_dtype")
    return dict(zip(names, (layout, activation, algorithm, precision, out_dtype), strict=True))


def _convolved(
    name: str,
    function: Any,
    axes: int,
    input: Any,
    arrays: dict[str, Any],
    options: tuple[Any, ...],
    rest: dict[str, Any],
) -> da.Array:
    """Return the convolution; `options` are those of `_WINDOWS`, None where the function has none."""
    x = checked(name, "input", input)
    shared: dict[str, Any] = {key: None if a is None else as_shared(name, key, a) for key, a in arrays.items()}
    given = {key: value for key, value in zip(_WINDOWS, options, strict=False) if value is not None}
    if "groups" in given:
        g = conv_geometry(name, axes, x.shape, shared["weight"].shape, layout=rest["layout"], **given)
    batched = x.ndim == axes + 2
    # Of no images, nothing is computed; the arguments are checked.
    sample = np.zeros((0, *x.shape[batched:]), x.dtype)
    result = function(sample, **{key: None if a is None else stand_in(a) for key, a in shared.items()}, **given, **rest)
    first = x.ndim - axes - (rest["layout"] == "channels_last")
    channel = first - 1 if rest["layout"] == "channels_first" else x.ndim - 1
    if "groups" not in given:
        image = (1, 1, *x.shape[first : first + axes])
        g = conv_geometry(name, axes, image, (1, 1, *_window(name, shared)), **given)
    pads = ((g.PF, g.PK), (g.PT, g.PB), (g.PL, g.PR))[-axes:]
    if min(map(min, pads)) < 0:
        # The border is that of what is left.
        x, pads = _cropped(x, first, pads)
        given["padding"] = pads
    along = [whole(n) for n in x.shape]
    along[first : first + axes] = _axes(g, x.shape[first : first + axes], pads)
    split = {key: value for key, value in given.items() if key not in ("padding", "padding_mode")}
    operation = Operation(
        name,
        function,
        along,
        whole={**given, **rest},
        split={**split, **rest},
        arrays=shared,
        dtype=result.dtype,
        more=nothing_more,
        channels=((channel, result.shape[channel + 1 - batched]),),
    )
    return apply(x.rechunk({channel: -1}), operation)


def _window(name: str, shared: dict[str, Any]) -> tuple[int, int]:
    """Return the size of the kernels that move over the image."""
    if name == "pointwise_conv2d":
        return 1, 1
    if name == "spatially_separable_conv2d":
        return shared["column"].shape[-1], shared["row"].shape[-1]
    KH, KW = shared["depthwise_weight" if name == "separable_conv2d" else "weight"].shape[2:]
    return KH, KW


def _cropped(x: da.Array, first: int, pads: Sequence[Pair]) -> tuple[da.Array, tuple[Pair, ...]]:
    """Return an array without what negative padding, from the axis `first` on, crops; and the padding that is left."""
    kept = [
        slice(max(-before, 0), n - max(-after, 0)) for n, (before, after) in zip(x.shape[first:], pads, strict=False)
    ]
    return x[(slice(None),) * first + tuple(kept)], tuple((max(a, 0), max(b, 0)) for a, b in pads)


def _axes(g: ConvGeometry, sizes: Sequence[int], pads: Sequence[Pair]) -> list[Axis]:
    """Return the windows along the spatial axes of a convolution of an image of these sizes with this padding."""
    found = []
    for axis, n, (before, _) in zip("DHW"[-g.axes :], sizes, pads, strict=True):
        out, K, S, D = (getattr(g, letter + axis) for letter in "OKSD")
        moves = Axis(n, out, K, S, D, before, g.padding_mode)
        found.append(whole(n) if moves._replace(mode="clip").trivial else moves)
    return found
