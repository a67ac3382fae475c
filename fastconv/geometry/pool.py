"""The geometry of pooling: windows along each spatial axis, checked once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from fastconv.errors import ArgumentTypeError, OptionError, ShapeError
from fastconv.geometry.arguments import LIMIT, check_keyword, integer, per_axis, shown
from fastconv.geometry.arguments import shape as checked_shape
from fastconv.geometry.conv import LAYOUTS
from fastconv.geometry.padding import Pair, effective_kernel, output_size, resolve
from fastconv.geometry.windows import Axis

__all__ = ["PoolGeometry", "adaptive_geometry", "flag", "global_geometry", "pool_geometry"]

_NAMES = "DHW"


class PoolGeometry(NamedTuple):
    """Windows over the 1 to 3 spatial axes of an array.

    Attributes
    ----------
    N, C : int
        Batch size and channels.
    axes : tuple of Axis
    ends : tuple of int
        The size of each axis with the padding behind it.
    batched : bool
        Whether the user's arrays have N.
    layout : str
        "channels_first" or "channels_last".
    keepdims : bool
        Whether the result has the spatial axes.
    """

    N: int
    C: int
    axes: tuple[Axis, ...]
    ends: tuple[int, ...]
    batched: bool
    layout: str
    keepdims: bool = True

    @property
    def out_shape(self) -> tuple[int, ...]:
        """The shape of the result."""
        sizes = tuple(axis.out for axis in self.axes) if self.keepdims else ()
        shape = (self.C, *sizes) if self.layout == "channels_first" else (*sizes, self.C)
        return (self.N, *shape) if self.batched else shape


def _split(
    function: str, shape: Sequence[int], layout: str, axes: int, batched_only: bool = False
) -> tuple[int, int, tuple[int, ...], bool]:
    """Return (N, C, sizes, batched) of an input's shape; sizes are at least 1."""
    check_keyword(function, "layout", layout, LAYOUTS)
    x = checked_shape(function, "input.shape", tuple(shape))
    names = ", ".join(_NAMES[-axes:])
    form = f"C, {names}" if layout == "channels_first" else f"{names}, C"
    if len(x) not in ((axes + 2,) if batched_only else (axes + 1, axes + 2)):
        expected = f"{axes + 2} (N, {form})" + ("" if batched_only else f" or {axes + 1} ({form})")
        raise ShapeError(f"{function}: input has {len(x)} dimensions, expected {expected}; input.shape = {x}")
    batched = len(x) == axes + 2
    N, *rest = x if batched else (1, *x)
    C, sizes = (rest[0], rest[1:]) if layout == "channels_first" else (rest[-1], rest[:-1])
    for name, size in zip(_NAMES[-axes:], sizes, strict=True):
        if size < 1:
            raise ShapeError(
                f"{function}: input has {name} = {size}, expected at least 1 (layout {layout!r}); input.shape = {x}"
            )
    return N, C, tuple(sizes), batched


def pool_geometry(
    function: str,
    axes: int,
    shape: Sequence[int],
    kernel_size: object,
    stride: object = None,
    padding: object = 0,
    dilation: object = 1,
    ceil_mode: bool = False,
    layout: str = "channels_first",
) -> PoolGeometry:
    """Return the geometry of a pool, or raise an error that names the argument at fault.

    Output sizes: ``OH = (H + PT + PB - DH*(KH - 1) - 1) // SH + 1``. With `ceil_mode` the quotient is rounded up, but
    no window starts behind the input and the padding before it.

    Parameters
    ----------
    function : str
        Name of the public function, for the messages.
    axes : int
        Number of spatial axes, called S below.
    shape : tuple of int
        (N, C, *S) or (C, *S), with channels last (N, *S, C) or (*S, C).
    kernel_size, stride, dilation : int or tuple of int
        At least 1; the stride None is the kernel size.
    padding : int, str, tuple or list
        See `fastconv.geometry.padding.resolve`; none negative, at most half the effective kernel.
    ceil_mode : bool
    layout : {"channels_first", "channels_last"}

    Raises
    ------
    ShapeError, OptionError, ArgumentTypeError
        Bad sizes; bad keyword values; wrong types.
    """
    N, C, sizes, batched = _split(function, shape, layout, axes)
    kernel = per_axis(function, "kernel_size", kernel_size, axes)
    # An empty stride is PyTorch's own way to say that there is none.
    own = stride is None or (isinstance(stride, (tuple, list)) and not stride)
    strides = kernel if own else per_axis(function, "stride", stride, axes)
    rates = per_axis(function, "dilation", dilation, axes)
    pads = resolve(function, padding, sizes, kernel, strides, rates)
    along = zip(_NAMES[-axes:], sizes, kernel, strides, rates, pads, strict=True)
    windows = tuple(_axis(function, ceil_mode, *numbers) for numbers in along)
    if N * C * max(math.prod(sizes), math.prod(axis.out for axis in windows)) >= LIMIT:
        raise ShapeError(f"{function}: input or output has 2**47 elements or more; input.shape = {tuple(shape)}")
    ends = tuple(size + after for size, (_, after) in zip(sizes, pads, strict=True))
    return PoolGeometry(N, C, windows, ends, batched, layout)


def _axis(function: str, ceil: bool, name: str, n: int, kernel: int, stride: int, dilation: int, pad: Pair) -> Axis:
    """Return the windows of a pool along one axis."""
    before, after = pad
    effective = effective_kernel(kernel, dilation)
    if min(pad) < 0 or 2 * max(pad) > effective:
        raise ShapeError(
            f"{function}: padding = {pad} along {name}, expected numbers from 0 to half the effective kernel, "
            f"{effective} // 2 = {effective // 2} (K{name} = {kernel}, dilation = {dilation})"
        )
    out = output_size(n, (before, after + (stride - 1 if ceil else 0)), kernel, stride, dilation)
    if ceil and (out - 1) * stride >= n + before:
        out -= 1
    if out < 1:
        raise ShapeError(
            f"{function}: kernel_size has effective size {effective} along {name} (K{name} = {kernel}, "
            f"dilation = {dilation}), expected at most the padded input size {n + before + after} "
            f"({name} = {n}, padding = {pad})"
        )
    return Axis(n, out, kernel, stride, dilation, before)


def flag(function: str, name: str, value: object) -> bool:
    """Return a Python bool, or raise `ArgumentTypeError` for all else."""
    if isinstance(value, bool) or type(value).__name__ in ("bool", "bool_"):
        return bool(value)
    raise ArgumentTypeError(f"{function}: {name} = {shown(value)} is a {type(value).__name__}, expected True or False")


def adaptive_geometry(
    function: str, axes: int, shape: Sequence[int], output_size: object, layout: str = "channels_first"
) -> PoolGeometry:
    """Return the geometry of an adaptive pool: output o sees inputs ``floor(o*n/out)`` to ``ceil((o + 1)*n/out) - 1``.

    `output_size` is an int, or a tuple of 1 or `axes` ints, at least 1; None keeps the size of an axis.
    """
    N, C, sizes, batched = _split(function, shape, layout, axes)
    rule = f"an int of at least 1 or None, or a tuple of {'1' if axes == 1 else f'1 or {axes}'} of them"
    items = tuple(output_size) if isinstance(output_size, (tuple, list)) else (output_size,)
    if len(items) not in (1, axes):
        raise OptionError(f"{function}: output_size = {shown(output_size)} has length {len(items)}, expected {rule}")
    items = items if len(items) == axes else items * axes
    outs = []
    for n, item in zip(sizes, items, strict=True):
        out = n if item is None else integer(function, "output_size", item, rule)
        if not 1 <= out < LIMIT:
            raise OptionError(f"{function}: output_size = {shown(output_size)}, expected {rule}")
        outs.append(out)
    if N * C * math.prod(outs) >= LIMIT:
        raise ShapeError(f"{function}: output_size = {shown(output_size)} makes 2**47 elements or more")
    return PoolGeometry(N, C, tuple(map(_adaptive, sizes, outs)), sizes, batched, layout)


def _adaptive(n: int, out: int) -> Axis:
    """Return adaptive windows, as those of a pool where they are."""
    return Axis(n, out, mode="adaptive") if n % out or out == 1 < n else Axis(n, out, n // out, n // out)


def global_geometry(
    function: str, shape: Sequence[int], layout: str = "channels_first", keepdims: bool = True
) -> PoolGeometry:
    """Return the geometry of a pool over the whole of 1 to 3 spatial axes; the input has a batch."""
    axes = min(max(len(shape) - 2, 1), 3)
    N, C, sizes, batched = _split(function, shape, layout, axes, batched_only=True)
    return PoolGeometry(N, C, tuple(_adaptive(n, 1) for n in sizes), sizes, batched, layout, keepdims)
