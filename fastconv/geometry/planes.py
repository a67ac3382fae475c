"""Arrays as planes: the batch, the channels and the spatial axes of an input whose every channel is resized alike."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from fastconv.errors import ShapeError
from fastconv.geometry.arguments import LIMIT, check_keyword
from fastconv.geometry.arguments import shape as checked_shape
from fastconv.geometry.conv import LAYOUTS

AXES = "DHW"


class Planes(NamedTuple):
    """The shape of an array, taken apart.

    Attributes
    ----------
    N, C : int
        Batch size and channels.
    sizes : tuple of int
        The spatial sizes.
    batched : bool
        Whether the array has N.
    layout : str
        "channels_first" or "channels_last".
    """

    N: int
    C: int
    sizes: tuple[int, ...]
    batched: bool
    layout: str

    @property
    def total(self) -> int:
        """How many planes lie one after the other in memory."""
        return self.N * (self.C if self.layout == "channels_first" else 1)

    @property
    def lanes(self) -> int:
        """How many numbers stand at each place of a plane."""
        return 1 if self.layout == "channels_first" else self.C

    @property
    def three(self) -> tuple[int, int, int]:
        """The sizes along D, H and W."""
        return three(self.sizes)

    def resized(self, function: str, sizes: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape with other spatial sizes."""
        if self.N * self.C * math.prod(sizes) >= LIMIT:
            raise ShapeError(f"{function}: the result, with spatial sizes {sizes}, has 2**47 elements or more")
        shape = (self.C, *sizes) if self.layout == "channels_first" else (*sizes, self.C)
        return (self.N, *shape) if self.batched else shape


def three(sizes: Sequence[int]) -> tuple[int, int, int]:
    """Return sizes along D, H and W: 1 along those that are not there."""
    D, H, W = (1,) * (3 - len(sizes)) + tuple(sizes)
    return D, H, W


def planes(
    function: str, shape: Sequence[int], layout: str, axes: int, batched_only: bool = False, name: str = "input"
) -> Planes:
    """Return the parts of a shape of `axes` spatial axes, which are at least 1; N and C may be 0.

    Raises
    ------
    ShapeError, OptionError, ArgumentTypeError
        A wrong number of dimensions, or an empty spatial axis; an unknown layout.
    """
    check_keyword(function, "layout", layout, LAYOUTS)
    x = checked_shape(function, f"{name}.shape", tuple(shape))
    names = ", ".join(AXES[-axes:])
    form = f"C, {names}" if layout == "channels_first" else f"{names}, C"
    if len(x) not in ((axes + 2,) if batched_only else (axes + 1, axes + 2)):
        expected = f"{axes + 2} (N, {form})" + ("" if batched_only else f" or {axes + 1} ({form})")
        raise ShapeError(f"{function}: {name} has {len(x)} dimensions, expected {expected}; {name}.shape = {x}")
    batched = len(x) == axes + 2
    N, *rest = x if batched else (1, *x)
    C, sizes = (rest[0], rest[1:]) if layout == "channels_first" else (rest[-1], rest[:-1])
    for axis, size in zip(AXES[-axes:], sizes, strict=True):
        if size < 1:
            raise ShapeError(
                f"{function}: {name} has {axis} = {size}, expected at least 1 (layout {layout!r}); {name}.shape = {x}"
            )
    return Planes(N, C, tuple(sizes), batched, layout)
