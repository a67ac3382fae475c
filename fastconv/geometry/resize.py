"""The sizes of resized arrays, and the rules of `interpolate`'s arguments: those of torch.nn.functional.interpolate."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from fastconv.errors import ArgumentTypeError, OptionError, ShapeError
from fastconv.geometry.arguments import LIMIT, check_keyword, integer, shown
from fastconv.geometry.padding import Pair
from fastconv.geometry.planes import AXES, Planes
from fastconv.geometry.taps import Axis

# Which numbers of spatial axes each mode takes.
MODES = {
    "nearest": (1, 2, 3),
    "nearest-exact": (1, 2, 3),
    "linear": (1,),
    "bilinear": (2,),
    "trilinear": (3,),
    "bicubic": (2,),
    "area": (1, 2, 3),
}
_ALIGNED = ("linear", "bilinear", "trilinear", "bicubic")
_ANTIALIASED = ("bilinear", "bicubic")


class Resize(NamedTuple):
    """A validated interpolation; hashable, so it keys caches."""

    mode: str
    axes: tuple[Axis, ...]
    antialias: bool


def resize(
    function: str,
    x: Planes,
    size: Any,
    scale_factor: Any,
    recompute_scale_factor: Any,
    mode: Any,
    align_corners: Any,
    antialias: Any,
) -> Resize:
    """Return what to do along each axis, or raise an error that names the argument at fault."""
    corners, smooth = _check_mode(function, x, mode, align_corners, antialias)
    recompute = _flag(function, "recompute_scale_factor", recompute_scale_factor, or_none=True)
    if (size is None) == (scale_factor is None):
        which = "neither of them" if size is None else "both"
        raise OptionError(f"{function}: expected size or scale_factor, got {which}")
    if size is not None and recompute:
        raise OptionError(f"{function}: recompute_scale_factor = True with size = {shown(size)}, expected scale_factor")
    axes = len(x.sizes)
    scales: tuple[float | None, ...] = (None,) * axes
    if size is not None:
        sizes = _sizes(function, size, axes)
    else:
        factors = _scales(function, scale_factor, axes)
        along = zip(AXES[-axes:], x.sizes, factors, strict=True)
        sizes = tuple(_scaled(function, axis, n, scale) for axis, n, scale in along)
        scales = scales if recompute or mode == "area" else factors
    each = zip(x.sizes, sizes, scales, strict=True)
    return Resize(mode, tuple(Axis(n, out, scale, corners) for n, out, scale in each), smooth)


def _check_mode(function: str, x: Planes, mode: Any, align_corners: Any, antialias: Any) -> tuple[bool, bool]:
    """Return align_corners and antialias as bools, or raise if the mode cannot do them, or so many axes."""
    check_keyword(function, "mode", mode, MODES)
    axes = len(x.sizes)
    if axes not in MODES[mode]:
        fitting = ", ".join(repr(name) for name, allowed in MODES.items() if axes in allowed)
        raise ShapeError(
            f"{function}: mode = {mode!r} takes {MODES[mode][0]} spatial axes after N and C, input of {axes + 2} "
            f"dimensions has {axes}; {fitting} can"
        )
    corners = _flag(function, "align_corners", align_corners, or_none=True)
    smooth = _flag(function, "antialias", antialias)
    if align_corners is not None and mode not in _ALIGNED:
        raise OptionError(_only(function, f"align_corners = {corners}", mode, "None", _ALIGNED))
    if smooth and mode not in _ANTIALIASED:
        raise OptionError(_only(function, "antialias = True", mode, "False", _ANTIALIASED))
    return corners, smooth


def _only(function: str, given: str, mode: str, expected: str, modes: tuple[str, ...]) -> str:
    """Return that only some modes take an argument."""
    return f"{function}: {given} with mode = {mode!r}, expected {expected}; it is for {', '.join(map(repr, modes))}"


def _flag(function: str, name: str, value: object, or_none: bool = False) -> bool:
    """Return a Python bool, False for None where that is allowed."""
    if isinstance(value, bool) or type(value).__name__ in ("bool", "bool_"):
        return bool(value)
    if value is None and or_none:
        return False
    rule = "True, False or None" if or_none else "True or False"
    raise ArgumentTypeError(f"{function}: {name} = {shown(value)} is a {type(value).__name__}, expected {rule}")


def _items(function: str, name: str, value: Any, axes: int, what: str) -> tuple[Any, ...]:
    """Return one item per axis of an argument that is an item for all, or one for each."""
    if not isinstance(value, (tuple, list)):
        return (value,) * axes
    if len(value) != axes:
        raise OptionError(
            f"{function}: {name} = {shown(value)} has length {len(value)}, expected {what} or a tuple of {axes}, one "
            "for each spatial axis of the input"
        )
    return tuple(value)


def _sizes(function: str, size: Any, axes: int) -> tuple[int, ...]:
    """Return the output sizes."""
    rule = "an int of at least 1" if axes == 1 else f"an int of at least 1, or a tuple of {axes}"
    sizes = tuple(integer(function, "size", item, rule) for item in _items(function, "size", size, axes, "an int"))
    if not all(1 <= number < LIMIT for number in sizes):
        raise ShapeError(f"{function}: size = {shown(size)}, expected {rule}, below 2**47")
    return sizes


def _scales(function: str, scale_factor: Any, axes: int) -> tuple[float, ...]:
    """Return the scale factors as positive floats."""
    scales = []
    for item in _items(function, "scale_factor", scale_factor, axes, "a number"):
        kind = type(item).__name__
        if (
            isinstance(item, bool)
            or kind in ("bool", "bool_")
            or not isinstance(item, (int, float, np.integer, np.floating))
        ):
            raise ArgumentTypeError(f"{function}: scale_factor = {shown(item)} is a {kind}, expected a number")
        if not 0 < item < LIMIT:
            raise OptionError(f"{function}: scale_factor = {shown(item)}, expected a number above 0 and below 2**47")
        scales.append(float(item))
    return tuple(scales)


def _scaled(function: str, axis: str, n: int, scale: float) -> int:
    """Return the output size of an axis, ``floor(n * scale)``."""
    out = math.floor(n * scale)
    if not 1 <= out < LIMIT:
        raise ShapeError(
            f"{function}: scale_factor = {scale} along {axis} = {n} makes an output size of {out}, expected at least 1 "
            "and below 2**47"
        )
    return out


def unpooled_sizes(
    function: str,
    x: Planes,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    pads: tuple[Pair, ...],
    output_size: Any,
) -> tuple[int, ...]:
    """Return the spatial sizes of max unpooling: ``(n - 1) * stride + kernel - padding``, or near them `output_size`.

    `output_size` has the spatial sizes, or all of the output's shape in its layout.
    """
    sizes = default = tuple(
        (n - 1) * s + k - sum(pad) for n, k, s, pad in zip(x.sizes, kernel, stride, pads, strict=True)
    )
    if output_size is not None:
        readings = _readings(function, x, output_size)
        fitting = [r for r in readings if all(abs(n - d) < s for n, d, s in zip(r, default, stride, strict=True))]
        if not fitting:
            ranges = ", ".join(
                f"{axis} from {max(n - step + 1, 0)} to {n + step - 1}"
                for axis, n, step in zip(AXES[-len(default) :], default, stride, strict=True)
            )
            raise ShapeError(f"{function}: output_size = {shown(output_size)}, expected {ranges}")
        sizes = fitting[0]
    if not all(0 <= size < LIMIT for size in sizes):
        raise ShapeError(f"{function}: output sizes are {sizes}, expected 0 to 2**47 - 1")
    return sizes


def _readings(function: str, x: Planes, output_size: Any) -> list[tuple[int, ...]]:
    """Return the spatial sizes that an `output_size` may mean, the most likely first."""
    axes = len(x.sizes)
    rule = f"a tuple of {axes} ints, or of {axes + 2} with N and C"
    items = tuple(output_size) if isinstance(output_size, (tuple, list)) else (output_size,) * axes
    given = tuple(integer(function, "output_size", item, rule) for item in items)
    if len(given) not in (axes, axes + 2):
        raise OptionError(f"{function}: output_size = {shown(output_size)} has length {len(given)}, expected {rule}")
    if len(given) == axes:
        return [given]
    if x.layout == "channels_first":
        return [given[2:]]
    # (N, *S, C), or (N, C, *S) as code for PyTorch has it: rather what has this N and C.
    readings = [(given[-1] == x.C, given[1:-1]), (given[1] == x.C, given[2:])]
    return [sizes for _, sizes in sorted(readings, key=lambda reading: not reading[0])]
