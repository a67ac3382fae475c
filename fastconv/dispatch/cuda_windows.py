"""Windows over 1 to 3 axes on the device: the tables that say where they start, and which kernel reduces them."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np

from fastconv.dispatch.cuda import kernels
from fastconv.dispatch.pooling import Counts, Divisor
from fastconv.geometry.planes import three
from fastconv.geometry.pool import PoolGeometry
from fastconv.geometry.windows import Axis, window_inputs

# Elements of a window from which a block of threads shares it.
SHARED = 64


@lru_cache(maxsize=64)
def _table(axes: tuple[Axis, ...], counts: tuple[Counts, ...] | None) -> Any:
    """Return (first input, taps, what an average counts, 0) of all outputs along D, H and W, on the device."""
    parts = [np.array([[0, 1, 1, 0]])] * (3 - len(axes))
    for i, axis in enumerate(axes):
        part: np.ndarray = np.zeros((axis.out, 4), np.int64)
        part[:, 0], part[:, 1] = window_inputs(axis)
        part[:, 2] = 1 if counts is None else counts[i].numbers()
        parts.append(part)
    return kernels("buffers:upload")(np.concatenate(parts).astype(np.uint32))


def planes_of(x: Any, axes: int, layout: str) -> Any:
    """Return an array on the device as (P, D, H, W, L) of any strides: planes, and channels where they are last."""
    shape, strides = x.shape, x.strides
    if len(shape) == axes + 1:
        shape, strides = (1, *shape), (0, *strides)
    if layout == "channels_first":
        # One step for the planes of all images, where there is one.
        step = strides[1] if shape[0] == 1 or shape[1] > 1 else strides[0]
        if shape[0] > 1 and shape[1] > 1 and strides[0] != shape[1] * strides[1]:
            return None
        shape, strides = (shape[0] * shape[1], *shape[2:], 1), (step, *strides[2:], 0)
    ones, none = (1,) * (3 - axes), (0,) * (3 - axes)
    return x._replace(shape=(shape[0], *ones, *shape[1:]), strides=(strides[0], *none, *strides[1:]))


def as_planes(call: Any, name: str, axes: int, layout: str) -> Any:
    """Return an array of a call by `planes_of`, or that of a copy."""
    found = planes_of(call.buffers[name], axes, layout)
    return planes_of(call.contiguous(name), axes, layout) if found is None else found


def pool(
    call: Any,
    op: str,
    g: PoolGeometry,
    target: Any,
    indices: Any = None,
    divisor: Divisor | None = None,
    lowest: float = -math.inf,
    p: float = 1,
    root: float | None = None,
    empty_index: int = 0,
) -> None:
    """Fill `target`, and `indices`, with what the kernels for windows make of a call's input.

    Parameters
    ----------
    op : str
        As in kernels/cuda/windows.py.
    divisor : int or tuple of Counts, optional
        Of averages.
    lowest : float
        Where a search for the maximum starts.
    empty_index : int
        Of windows of nothing.
    p, root : float
        Of norms: ``sum(x ** p) ** root``, by default 1/p.
    """
    source = as_planes(call, "input", len(g.axes), g.layout)
    if 0 in target.shape:
        return
    reals: tuple[float, ...] = (
        lowest if op in ("max", "magnitude") else 0,
        divisor if isinstance(divisor, int) else 1,
        p,
    )
    reals += (
        (1 / p if root is None else root) if source.dtype.kind == "f" else 0,
        math.prod(axis.kernel for axis in g.axes),
    )
    if _is_everything(g) and _evenly(source):
        kernels("plane_sums:run")(call.stream, op, source, target, indices, reals)
        return
    if not indices and _slides(op, g, divisor):
        h, w = g.axes
        sizes = (h.out, w.out), (h.kernel, h.stride), (h.before, w.before)
        kernels("sliding_windows:run")(call.stream, op, source, target, *sizes, reals[:2])
        return
    table = _table(g.axes, divisor if isinstance(divisor, tuple) else None)
    steps = three([axis.dilation for axis in g.axes])
    overlapping = len(g.axes) > 1 and g.axes[-2].mode != "adaptive" and g.axes[-2].stride < g.axes[-2].kernel
    outs = three([axis.out for axis in g.axes])
    arguments = (op, source, target, indices, empty_index, table, outs, steps, overlapping, reals)
    kernels("windows:run")(call.stream, *arguments)


def _is_everything(g: PoolGeometry) -> bool:
    """Return whether each plane is one large window."""
    whole = all(axis.out == 1 and window_inputs(axis)[1][0] == axis.n and axis.dilation == 1 for axis in g.axes)
    return whole and math.prod(axis.n for axis in g.axes) >= SHARED


def _slides(op: str, g: PoolGeometry, divisor: Divisor | None) -> bool:
    """Return whether windows are of the few kinds that have a kernel of their own."""
    if len(g.axes) != 2 or op not in ("max", "sum") or isinstance(divisor, tuple):
        return False
    h, w = ((axis.kernel, axis.stride, axis.dilation, axis.mode) for axis in g.axes)
    return h == w and h[0] in (2, 3) and h[1] in (1, 2) and h[2:] == (1, "clip")


def _evenly(x: Any) -> bool:
    """Return whether the elements of a plane stand at equal steps."""
    _, D, H, W, _ = x.shape
    _, XD, XH, XW, _ = x.strides
    return (H == 1 or W == 1 or XH == W * XW) and (D == 1 or H * W == 1 or H * W * (XW if W > 1 else XH) == XD)
