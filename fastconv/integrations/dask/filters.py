"""Sums of products over windows of arrays in chunks, with the arguments of `scipy.ndimage`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import dask.array as da
import numpy as np

from fastconv import ndimage
from fastconv.geometry.windows import Axis, whole
from fastconv.integrations.dask.graph import Operation, apply, as_shared, checked, refuse_output, stand_in
from fastconv.integrations.dask.windows import Extent
from fastconv.ndimage.arguments import axes_of, axis_of, before_of, flipped_origin, padding_mode, sequence_of
from fastconv.ndimage.correlation import kernel_over_all_axes
from fastconv.ndimage.lines import gaussian_weights
from fastconv.ndimage.smoothing import gaussian_passes, mean_passes


class Reach(NamedTuple):
    """What a filter sees along an axis: `size` elements, `before` of them before the one that gets the result."""

    axis: int
    size: int
    before: int
    mode: str


def correlate(
    input: da.Array,
    weights: Any,
    output: Any = None,
    mode: str = "reflect",
    cval: Any = 0.0,
    origin: Any = 0,
    *,
    axes: Any = None,
) -> da.Array:
    """Correlate an array with a kernel, as `fastconv.ndimage.correlate`.

    Parameters
    ----------
    input : dask array of any shape
    weights : array_like or dask array of as many dimensions as there are axes to filter
    output : dtype, optional
    mode, cval, origin, axes
        As in `fastconv.ndimage.correlate`.

    Returns
    -------
    dask array of the shape and chunks of `input`
        Of integers with the bits of SciPy's, of floats equal to rounding.

    Raises
    ------
    FastconvError
        As `fastconv.ndimage.correlate`; also chunks of unknown sizes, inputs that are no dask arrays, and an array as
        `output`.
    """
    return _kernel("correlate", input, weights, output, mode, cval, origin, axes)


def convolve(
    input: da.Array,
    weights: Any,
    output: Any = None,
    mode: str = "reflect",
    cval: Any = 0.0,
    origin: Any = 0,
    *,
    axes: Any = None,
) -> da.Array:
    """Convolve an array with a kernel, as `fastconv.ndimage.convolve`; see `correlate`."""
    return _kernel("convolve", input, weights, output, mode, cval, origin, axes)


def _kernel(name: str, input: Any, weights: Any, output: Any, mode: Any, cval: Any, origin: Any, axes: Any) -> da.Array:
    x, w = filter_input(name, input, output), as_shared(name, "weights", weights)

    def reach(ndim: int) -> list[Reach]:
        shaped, befores = kernel_over_all_axes(ndim, stand_in(w), origin, axes, name == "convolve")
        outside = padding_mode(mode)
        return [
            Reach(axis, n, before, outside) for axis, (n, before) in enumerate(zip(shaped.shape, befores, strict=True))
        ]

    keywords = {"output": output, "mode": mode, "cval": cval, "origin": origin, "axes": axes}
    return apply_filter(name, x, {"weights": w}, keywords, reach)


def correlate1d(
    input: da.Array,
    weights: Any,
    axis: int = -1,
    output: Any = None,
    mode: str = "reflect",
    cval: Any = 0.0,
    origin: int = 0,
) -> da.Array:
    """Correlate an array with weights along one axis, as `fastconv.ndimage.correlate1d`; see `correlate`."""
    return _line("correlate1d", input, weights, axis, output, mode, cval, origin)


def convolve1d(
    input: da.Array,
    weights: Any,
    axis: int = -1,
    output: Any = None,
    mode: str = "reflect",
    cval: Any = 0.0,
    origin: int = 0,
) -> da.Array:
    """Convolve an array with weights along one axis, as `fastconv.ndimage.convolve1d`; see `correlate`."""
    return _line("convolve1d", input, weights, axis, output, mode, cval, origin)


def _line(name: str, input: Any, weights: Any, axis: Any, output: Any, mode: Any, cval: Any, origin: Any) -> da.Array:
    x, w = filter_input(name, input, output), as_shared(name, "weights", weights)
    keywords = {"axis": axis, "output": output, "mode": mode, "cval": cval, "origin": origin}
    reach = line_reach(lambda: len(w), axis, mode, origin, flips=name == "convolve1d")
    return apply_filter(name, x, {"weights": w}, keywords, reach)


def line_reach(
    length: Callable[[], int], axis: Any, mode: Any, origin: Any, flips: bool = False
) -> Callable[[int], list[Reach]]:
    """Return a function from the dimensions of an array to what a filter along one axis sees."""

    def reach(ndim: int) -> list[Reach]:
        n = length()
        shift = flipped_origin(n, origin) if flips else origin
        return [Reach(axis_of(axis, ndim), n, before_of(n, shift, "invalid origin"), padding_mode(mode))]

    return reach


def gaussian_filter(
    input: da.Array,
    sigma: Any,
    order: Any = 0,
    output: Any = None,
    mode: Any = "reflect",
    cval: Any = 0.0,
    truncate: float = 4.0,
    *,
    radius: Any = None,
    axes: Any = None,
) -> da.Array:
    """Smooth an array by a Gaussian or its derivatives, as `fastconv.ndimage.gaussian_filter`; see `correlate`."""
    keywords = {"sigma": sigma, "order": order, "output": output, "mode": mode, "cval": cval, "truncate": truncate}
    keywords |= {"radius": radius, "axes": axes}

    def reach(ndim: int) -> list[Reach]:
        passes = gaussian_passes(ndim, axes, (order, sigma, mode, radius), truncate)
        return [Reach(p.axis, len(p.weights), p.before, p.mode) for p in passes]

    return apply_filter("gaussian_filter", filter_input("gaussian_filter", input, output), {}, keywords, reach)


def gaussian_filter1d(
    input: da.Array,
    sigma: float,
    axis: int = -1,
    order: int = 0,
    output: Any = None,
    mode: str = "reflect",
    cval: Any = 0.0,
    truncate: float = 4.0,
    *,
    radius: int | None = None,
) -> da.Array:
    """Smooth an array by a Gaussian along one axis, as `fastconv.ndimage.gaussian_filter1d`; see `correlate`."""
    keywords = {"sigma": sigma, "axis": axis, "order": order, "output": output, "mode": mode, "cval": cval}
    keywords |= {"truncate": truncate, "radius": radius}
    reach = line_reach(lambda: len(gaussian_weights(sigma, order, truncate, radius)), axis, mode, 0)
    return apply_filter("gaussian_filter1d", filter_input("gaussian_filter1d", input, output), {}, keywords, reach)


def uniform_filter(
    input: da.Array,
    size: Any = 3,
    output: Any = None,
    mode: Any = "reflect",
    cval: Any = 0.0,
    origin: Any = 0,
    *,
    axes: Any = None,
) -> da.Array:
    """Average an array over windows, as `fastconv.ndimage.uniform_filter`; see `correlate`.

    NaN and infinities spread along their axis to the end of their block, in SciPy to the end of the array.
    """
    keywords = {"size": size, "output": output, "mode": mode, "cval": cval, "origin": origin, "axes": axes}

    def reach(ndim: int) -> list[Reach]:
        return [Reach(m.axis, m.size, m.before, m.mode) for m in mean_passes(ndim, axes, size, origin, mode)]

    return apply_filter("uniform_filter", filter_input("uniform_filter", input, output), {}, keywords, reach)


def uniform_filter1d(
    input: da.Array,
    size: int,
    axis: int = -1,
    output: Any = None,
    mode: str = "reflect",
    cval: Any = 0.0,
    origin: int = 0,
) -> da.Array:
    """Average an array along one axis over windows, as `fastconv.ndimage.uniform_filter1d`; see `uniform_filter`."""
    keywords = {"size": size, "axis": axis, "output": output, "mode": mode, "cval": cval, "origin": origin}
    reach = line_reach(lambda: size, axis, mode, origin)
    return apply_filter("uniform_filter1d", filter_input("uniform_filter1d", input, output), {}, keywords, reach)


def sobel(input: da.Array, axis: int = -1, output: Any = None, mode: Any = "reflect", cval: Any = 0.0) -> da.Array:
    """Return Sobel's derivative along one axis, as `fastconv.ndimage.sobel`; see `correlate`."""
    return _derivative("sobel", input, axis, output, mode, cval)


def prewitt(input: da.Array, axis: int = -1, output: Any = None, mode: Any = "reflect", cval: Any = 0.0) -> da.Array:
    """Return Prewitt's derivative along one axis, as `fastconv.ndimage.prewitt`; see `correlate`."""
    return _derivative("prewitt", input, axis, output, mode, cval)


def _derivative(name: str, input: Any, axis: Any, output: Any, mode: Any, cval: Any) -> da.Array:
    keywords = {"axis": axis, "output": output, "mode": mode, "cval": cval}
    return apply_filter(name, filter_input(name, input, output), {}, keywords, lambda ndim: _threes(None, mode, ndim))


def laplace(
    input: da.Array, output: Any = None, mode: Any = "reflect", cval: Any = 0.0, *, axes: Any = None
) -> da.Array:
    """Return the sum of second differences, as `fastconv.ndimage.laplace`; see `correlate`."""
    keywords = {"output": output, "mode": mode, "cval": cval, "axes": axes}
    x = filter_input("laplace", input, output)
    return apply_filter("laplace", x, {}, keywords, lambda ndim: _threes(axes, mode, ndim))


def _threes(axes: Any, mode: Any, ndim: int) -> list[Reach]:
    """Return that a filter sees the neighbours along some axes."""
    along = axes_of(axes, ndim)
    modes = sequence_of(mode, len(along))
    return [Reach(axis, 3, 1, padding_mode(outside)) for axis, outside in zip(along, modes, strict=True)]


def filter_input(name: str, input: Any, output: Any) -> da.Array:
    """Return the input of a filter, or raise; also if the result is to go into an array."""
    refuse_output(name, output)
    return checked(name, "input", input)


def apply_filter(
    name: str,
    x: da.Array,
    arrays: dict[str, Any],
    keywords: dict[str, Any],
    reach: Callable[[int], list[Reach]],
) -> da.Array:
    """Return the result of a filter of `fastconv.ndimage`; `reach` is called with arguments that it has checked."""
    function = getattr(ndimage, name)
    # Of nothing, nothing is computed; the arguments are checked.
    shared = {key: stand_in(array) for key, array in arrays.items() if array is not None}
    dtype = function(np.zeros((0,) * x.ndim, x.dtype), **shared, **keywords).dtype
    if arrays.get("footprint") is not None:
        keywords = {**keywords, "size": None}
    axes = [whole(n) for n in x.shape]
    for found in reach(x.ndim) if x.size else ():
        # Filters pad with the constant after each pass: only they themselves can do that.
        mode = "clip" if found.mode == "zeros" else found.mode
        n = x.shape[found.axis]
        if found.size > 1:
            axes[found.axis] = Axis(n, n, found.size, 1, 1, found.before, mode)
    return apply(x, Operation(name, function, axes, keywords, keywords, arrays, dtype, _cropped))


def _cropped(block: Sequence[Extent]) -> tuple[dict[str, Any], tuple[slice, ...] | None]:
    """Return what of a filtered block is the result: all but the elements around it."""
    kept = tuple(slice(extent.start - extent.first, extent.stop - extent.first) for extent in block)
    if all(keep == slice(0, extent.length) for keep, extent in zip(kept, block, strict=True)):
        return {}, None
    return {}, kept
