"""Calls of convolutions that are explained or counted instead of made: shapes in the place of arrays."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from fastconv.api.conv import conv2d, depthwise_conv2d, pointwise_conv2d
from fastconv.api.conv_nd import conv1d, conv3d
from fastconv.api.conv_transpose import TransposeOptions, conv_transpose1d, conv_transpose2d, conv_transpose3d
from fastconv.api.convolve import Options
from fastconv.api.separable import FEW_TAPS, spatially_separable_conv2d
from fastconv.errors import ArgumentTypeError
from fastconv.geometry.arrays import byte_dtypes, common_dtype, dtype_of, element_dtype, kind_of, working_dtype

CONVOLUTIONS = tuple(
    f.__name__
    for f in (
        *(conv1d, conv2d, conv3d, conv_transpose1d, conv_transpose2d, conv_transpose3d),
        *(depthwise_conv2d, pointwise_conv2d, spatially_separable_conv2d),
    )
)
_FACTORS = ("input", "weight", "column", "row", "depthwise_weight", "pointwise_weight")


class Call(NamedTuple):
    """A call that is not made: shapes in the place of arrays, and the arrays as far as they were given."""

    name: str
    x_shape: tuple[int, ...]
    w_shape: tuple[int, ...]
    dtype: np.dtype
    # Options or TransposeOptions.
    options: Any
    bias: bool
    x: np.ndarray | None
    w: np.ndarray | None
    # As `find` takes it.
    narrow: tuple[str, str] | None
    # What the call returns.
    result: np.dtype


def call_of(function: Callable[..., Any], args: Sequence[Any], keywords: dict[str, Any]) -> Call:
    """Bind the arguments of a call to one of the convolutions with one weight."""
    name = function.__name__
    given = bound(function, args, keywords)
    common = dtype_of_arrays(name, given)
    if name == "spatially_separable_conv2d":
        given = _with_outer_weight(given)
        small = math.prod(shape_of(name, "weight", given["weight"])[2:]) <= FEW_TAPS
        if given.get("algorithm", "auto") == "auto" and given.get("precision") != "strict":
            given["algorithm"] = "depthwise" if small else "separable"
    x, w = given["input"], given["weight"]
    x_shape, w_shape = shape_of(name, "input", x), shape_of(name, "weight", w)
    if name == "pointwise_conv2d" and len(w_shape) == 2:
        w_shape = (*w_shape, 1, 1)
    if name in ("depthwise_conv2d", "spatially_separable_conv2d"):
        given["groups"] = max(_channels(x_shape, given), 1)
    arrays = [a if isinstance(a, np.ndarray) else None for a in (x, w)]
    result = common if given.get("out_dtype") is None else dtype_of(name, "out_dtype", given["out_dtype"])
    work = working_dtype(name, common, result)
    dtype = element_dtype(work)
    if kind_of(work) != "f":
        # Not fused then.
        given.pop("activation", None)
    narrow = None
    if arrays[0] is not None and arrays[1] is not None:
        narrow = byte_dtypes(arrays[0].dtype, arrays[1].dtype, work, math.prod(w_shape[1:]))
    # Of complex arrays the real part: one of the real convolutions that they run as.
    x, w = (None if a is None else np.ascontiguousarray(a.real, dtype) for a in arrays)
    axes = {"1d": 1, "3d": 3}.get(name[-2:], 2)
    kind = TransposeOptions if name.startswith("conv_transpose") else Options
    options = kind(**{k: v for k, v in given.items() if k in kind._fields}, axes=axes)
    if options.algorithm == "measure":
        # What a measurement would choose is not known before it; this is what it starts from.
        options = options._replace(algorithm="auto")
    bias = given.get("bias") is not None
    w = None if w is None else w.reshape(w_shape)
    return Call(name, x_shape, w_shape, dtype, options, bias, x, w, narrow, result)


def bound(function: Callable[..., Any], args: Sequence[Any], keywords: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments by name, or raise what Python would."""
    return dict(inspect.signature(function).bind(*args, **keywords).arguments)


def dtype_of_arrays(name: str, given: dict[str, Any]) -> np.dtype:
    """Return what the dtypes of the arrays make, or float32 if input and weights are shapes."""
    factors, rest = (
        [given[key] for key in keys if isinstance(given.get(key), np.ndarray)]
        for keys in (_FACTORS, ("bias", "depthwise_bias", "residual"))
    )
    return common_dtype(name, *factors, *rest) if factors else np.dtype(np.float32)


def _with_outer_weight(given: dict[str, Any]) -> dict[str, Any]:
    """Replace column and row by the shape of their outer product."""
    name = "spatially_separable_conv2d"
    x, column, row = (shape_of(name, k, given[k]) for k in ("input", "column", "row"))
    channels = _channels(x, given)
    rest = {k: v for k, v in given.items() if k not in ("column", "row")}
    return rest | {"weight": (channels, 1, column[-1], row[-1])}


def _channels(shape: tuple[int, ...], given: dict[str, Any]) -> int:
    """Return the channels of an input; of a wrong number of dimensions, which is reported later, 1."""
    if len(shape) not in (3, 4):
        return 1
    return shape[-3 if given.get("layout", "channels_first") == "channels_first" else -1]


def shape_of(function: str, name: str, value: Any) -> tuple[int, ...]:
    """Return the shape of an array, or a shape that stands for one."""
    if isinstance(value, (tuple, list)) and all(isinstance(n, (int, np.integer)) for n in value):
        return tuple(int(n) for n in value)
    shape = getattr(value, "shape", None)
    if shape is None:
        raise ArgumentTypeError(f"{function}: {name} is a {type(value).__name__}, expected an array or a shape")
    return tuple(int(n) for n in shape)
