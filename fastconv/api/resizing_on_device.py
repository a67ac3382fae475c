"""Unpooling, interpolation and sliding blocks on a CUDA device: the plans and errors of the CPU."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastconv.api import pooling_on_device
from fastconv.api.on_device import check_target, volume
from fastconv.dispatch.cuda import kernels
from fastconv.dispatch.cuda_resampling import fold_taps, resampled, resize_taps
from fastconv.dispatch.cuda_windows import as_planes
from fastconv.dispatch.resampling import nearest_sources
from fastconv.errors import UnsupportedError
from fastconv.geometry.arrays import kind_of
from fastconv.geometry.fold import Blocks
from fastconv.geometry.planes import Planes
from fastconv.geometry.pool import adaptive_geometry
from fastconv.geometry.resize import Resize

Shape = tuple[int, ...]


def moved(call: Any, out: Any, shape: Shape, sources: list[np.ndarray], layout: str) -> Any:
    """Return the elements of a call's input at these places along its spatial axes; -1: zeros."""
    x = movable(call)
    check_target(call, out, shape, x.dtype)
    target = call.target(out, shape, x.dtype)
    first = len(shape) - len(sources) - (layout == "channels_last")
    own = [np.arange(n) for n in x.shape]
    kernels("moves:move")(call.stream, x, target, [*own[:first], *sources, *own[first + len(sources) :]])
    return call.finish(target, out)


def movable(call: Any, name: str = "input") -> Any:
    """Return an array whose elements are moved as bits; its dtype is that of the result."""
    x = call.buffers[name]
    if x.dtype.itemsize > 8:
        raise UnsupportedError(
            f"{call.function}: {name} of dtype {x.dtype} on a CUDA device, expected at most 8 bytes an element"
        )
    call.dtype = x.dtype
    return x


def repeated(call: Any, out: Any, shape: Shape, steps: Shape, layout: str) -> Any:
    """Return a call's input with each element repeated along its spatial axes."""
    each = zip(_sizes(shape, steps, layout), steps, strict=True)
    return moved(call, out, shape, [np.arange(n) // step for n, step in each], layout)


def nailed(call: Any, out: Any, shape: Shape, steps: Shape, firsts: Shape, layout: str) -> Any:
    """Return a call's input with its elements `steps` apart among zeros, the first at `firsts`."""
    each = zip(_sizes(shape, steps, layout), steps, firsts, strict=True)
    places = [(np.arange(n), step, first) for n, step, first in each]
    sources = [np.where(at % step == first, at // step, -1) for at, step, first in places]
    return moved(call, out, shape, sources, layout)


def _sizes(shape: Shape, axes: Shape, layout: str) -> Shape:
    last = len(shape) - (layout == "channels_last")
    return shape[last - len(axes) : last]


def interpolated(call: Any, out: Any, shape: Shape, how: Resize, layout: str) -> Any:
    """Return a resized array."""
    x, axes = call.buffers["input"], len(how.axes)
    given = x.dtype
    if how.mode.startswith("nearest"):
        coordinates = "float64" if given in (np.float64, np.complex128) else "float32"
        return moved(call, out, shape, nearest_sources(how, coordinates), layout)
    if how.mode == "area":
        sizes = tuple(axis.out for axis in how.axes)
        g = adaptive_geometry(call.function, axes, x.shape, sizes, layout)
        return pooling_on_device.averages(call, out, g)
    kind, limits = "weighted", (0.0, 0.0)
    if given == np.uint8 and how.mode in ("bilinear", "bicubic"):
        kind, limits, element = "fixed", (0, 255), call.unify("i", "input")
    elif kind_of(given) == "i":
        kind, element, call.dtype = "rounded", np.dtype(np.float64), given
        call.buffers["input"] = kernels("casts:cast")(call.stream, x, element)
        most = np.iinfo(given)
        # The largest float that an int64 holds is less than its largest value.
        limits = float(most.min), min(float(most.max), float(np.nextafter(2.0**63, 0)))
    else:
        element = call.unify("fd", "input")
    check_target(call, out, shape, call.dtype)
    target = call.target(out, shape, element)
    source = as_planes(call, "input", axes, layout)
    resampled(call.stream, kind, source, target, resize_taps, (how,), limits)
    return call.finish(target, out)


def unfolded(call: Any, out: Any, shape: Shape, b: Blocks, layout: str) -> Any:
    """Return the sliding blocks of a call's input as columns."""
    x = movable(call)
    check_target(call, out, shape, x.dtype)
    target = call.target(out, shape, x.dtype)
    images = volume(x, len(b.sizes), layout)
    if layout == "channels_last":
        turned = (0, 4, 1, 2, 3)
        images = images._replace(
            shape=tuple(images.shape[i] for i in turned), strides=tuple(images.strides[i] for i in turned)
        )
    kernels("fold:run")(call.stream, images, target, b.numbers)
    return call.finish(target, out)


def folded(call: Any, out: Any, shape: Shape, b: Blocks, p: Planes) -> Any:
    """Return the images whose columns are a call's input; `p` are the parts of their shape."""
    element = call.unify("fdil", "input")
    check_target(call, out, shape, call.dtype)
    target = call.target(out, shape, element)
    columns, length = call.contiguous("input"), b.offsets * b.positions
    steps = (length, 0) if p.lanes == 1 and p.layout == "channels_first" else (p.C * length, length)
    columns = columns._replace(shape=(p.total, 1, 1, 1, p.lanes), strides=(steps[0], 1, 1, 1, steps[1]))
    resampled(call.stream, "sum", columns, target, fold_taps, (b,))
    return call.finish(target, out)


def unpooled(call: Any, out: Any, shape: Shape, p: Planes, size: int, merge: str) -> Any:
    """Return the elements of a call's input at its indices, contiguous int64, among zeros."""
    if merge == "last":
        element = movable(call).dtype
    else:
        element = call.unify("fdil", "input")
    check_target(call, out, shape, call.dtype)
    target = call.target(out, shape, element)
    places = places_of(call, p, size, merge != "last")
    places.merge(call.contiguous("input"), target, merge)
    return call.finish(target, out)


def places_of(call: Any, p: Planes, size: int, linked: bool) -> Any:
    """Return which elements of a call's input go to each place."""
    parts = (p.total, math.prod(p.sizes), p.lanes)
    return kernels("unpool:Places")(call.stream, call.contiguous("indices"), parts, size, linked)
