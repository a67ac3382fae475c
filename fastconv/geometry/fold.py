"""The geometry of sliding blocks as columns, and of their sums."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from fastconv.errors import OptionError, ShapeError
from fastconv.geometry.arguments import LIMIT, check_keyword, per_axis, shown
from fastconv.geometry.arguments import shape as checked_shape
from fastconv.geometry.conv import LAYOUTS
from fastconv.geometry.padding import effective_kernel, output_size, resolve
from fastconv.geometry.planes import AXES, Planes, three


class Blocks(NamedTuple):
    """Sliding blocks along 2 or 3 axes; one number for each.

    `outs` are the positions of the kernel, `before` the padding at the start.
    """

    sizes: tuple[int, ...]
    outs: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    before: tuple[int, ...]
    dilation: tuple[int, ...]

    @property
    def offsets(self) -> int:
        """Elements of a block."""
        return math.prod(self.kernel)

    @property
    def positions(self) -> int:
        """How many blocks a plane has."""
        return math.prod(self.outs)

    @property
    def numbers(self) -> tuple[int, ...]:
        """The problem along D, H and W, in the order of the kernels' fields."""
        return (
            *(*three(self.sizes), *three(self.outs), *three(self.kernel), *three(self.stride)),
            *(*_zeros(self.before), *three(self.dilation)),
        )


def _zeros(before: tuple[int, ...]) -> tuple[int, ...]:
    return (0,) * (3 - len(before)) + before


def unfold_axes(ndim: int, kernel_size: Any) -> int:
    """Return how many spatial axes `unfold` takes: 3 for (N, C, D, H, W), or with three kernel sizes; else 2."""
    return 3 if ndim == 5 or (isinstance(kernel_size, (tuple, list)) and len(kernel_size) == 3) else 2


def blocks(function: str, sizes: Sequence[int], kernel_size: Any, dilation: Any, padding: Any, stride: Any) -> Blocks:
    """Return the blocks of a plane, ``(size + padding - dilation*(kernel - 1) - 1) // stride + 1`` along each axis."""
    axes, sizes = len(sizes), tuple(sizes)
    kernel = per_axis(function, "kernel_size", kernel_size, axes)
    rates = per_axis(function, "dilation", dilation, axes)
    strides = per_axis(function, "stride", stride, axes)
    if isinstance(padding, str):
        raise OptionError(
            f"{function}: padding = {padding!r}, expected an int, {axes} ints or {axes} (before, after) pairs"
        )
    pads = resolve(function, padding, sizes, kernel, strides, rates)
    if min(number for pair in pads for number in pair) < 0:
        raise ShapeError(f"{function}: padding = {shown(padding)}, expected no negative numbers")
    outs = tuple(map(output_size, sizes, pads, kernel, strides, rates))
    for axis, size, out, pad, k, rate in zip(AXES[-axes:], sizes, outs, pads, kernel, rates, strict=True):
        padded = size + sum(pad)
        if out < 1 or padded >= LIMIT:
            raise ShapeError(
                f"{function}: kernel_size has effective size {effective_kernel(k, rate)} along {axis} (K{axis} = {k}, "
                f"dilation = {rate}), expected at most the padded size {padded}, below 2**47 ({axis} = {size}, "
                f"padding = {pad})"
            )
    # The step to a next block that is not there may be as large as it likes: kernels keep as many phases.
    strides = tuple(1 if out == 1 else step for out, step in zip(outs, strides, strict=True))
    return Blocks(sizes, outs, kernel, strides, tuple(pad[0] for pad in pads), rates)


def fold_sizes(function: str, value: Any) -> tuple[int, ...]:
    """Return the spatial sizes of a `fold`: 2, or 3 where they are given so."""
    return per_axis(function, "output_size", value, 3 if isinstance(value, (tuple, list)) and len(value) == 3 else 2)


def folded(function: str, shape: Sequence[int], layout: str, b: Blocks) -> Planes:
    """Return the parts of the array whose columns have a shape, (N, C*K, L) or (C*K, L)."""
    check_keyword(function, "layout", layout, LAYOUTS)
    x = checked_shape(function, "input.shape", tuple(shape))
    if len(x) not in (2, 3):
        raise ShapeError(
            f"{function}: input has {len(x)} dimensions, expected 3 (N, C*K, L) or 2 (C*K, L); input.shape = {x}"
        )
    N, rows, L = x if len(x) == 3 else (1, *x)
    if rows % b.offsets:
        raise ShapeError(
            f"{function}: input has C*K = {rows}, expected a multiple of K = {b.offsets} (kernel_size = {b.kernel}); "
            f"input.shape = {x}"
        )
    if b.positions != L:
        raise ShapeError(
            f"{function}: input has L = {L}, expected {b.positions}, the {' x '.join(map(str, b.outs))} blocks of "
            f"output_size = {b.sizes}; input.shape = {x}"
        )
    return Planes(N, rows // b.offsets, b.sizes, len(x) == 3, layout)
