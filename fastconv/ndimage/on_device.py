"""Filters of arrays of a CUDA device, with SciPy's rules; results are arrays of their library.

Floats are summed in their own type, in the order of the kernels. Integers are summed in double precision and truncated,
after each pass, as SciPy does; by filters of small integers exactly, and wrapped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastconv.api.images_on_device import correlated, reversed_along_all, separated
from fastconv.api.on_device import begin, check_target, wants_device
from fastconv.dispatch import cuda
from fastconv.errors import UnsupportedError
from fastconv.geometry.arrays import on_device
from fastconv.ndimage.arguments import is_sequence, padding_mode, real_number
from fastconv.ndimage.errors import FilterError
from fastconv.ndimage.sums import Mean, Pass

_ABLE = (
    "correlate, convolve, correlate1d, convolve1d, gaussian_filter, gaussian_filter1d, uniform_filter, "
    "uniform_filter1d, sobel, prewitt, laplace"
)


def is_there(x: Any) -> bool:
    """Return whether an input is on a device."""
    return wants_device("auto", x)


def refuse(name: str, value: Any) -> None:
    """Raise if an array is on a device, for functions that run on the CPU only."""
    if is_there(value):
        raise UnsupportedError(f"{name}: input is in device memory; of fastconv.ndimage this version has {_ABLE} there")


class _Filter:
    """One call of a filter: its input, where its result goes, and the dtypes of these and of the sums."""

    def __init__(self, name: str, input: Any, output: Any, whole: bool = False, **arrays: Any) -> None:
        self.call = begin(name, input=input, **arrays)
        x = self.call.buffers["input"]
        self.out = output if on_device(output) else None
        given = self.call.read("output", output).dtype if self.out is not None else output
        self.dtype = x.dtype if given is None else np.dtype(given)
        kinds = x.dtype.kind, self.dtype.kind
        if "c" in kinds or not set(kinds) <= set("iuf"):
            names = f"{x.dtype} and {self.dtype}"
            raise UnsupportedError(f"{name}: input and output of dtype {names} on a CUDA device, expected real numbers")
        # Products with small integers wrap as they do in the input's own type.
        self.work: np.dtype = np.dtype("i8") if whole and kinds[0] in "iu" and kinds[1] in "iu" else np.dtype("f8")
        if kinds == ("f", "f") and max(x.dtype.itemsize, self.dtype.itemsize) <= 4:
            self.work = np.dtype("f4")
        self.call.dtype = self.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the input."""
        shape: tuple[int, ...] = self.call.buffers["input"].shape
        return shape

    def cast(self, x: Any) -> Any:
        """Return an array in the dtype of the sums."""
        return cuda.kernels("casts:cast")(self.call.stream, x, self.work)

    def contiguous(self, name: str) -> Any:
        """Return an array of the call in C order, in the dtype of the sums."""
        return self.cast(self.call.contiguous(name))

    def pass_along(self, x: Any, p: Pass, cval: float, residual: Any = None) -> Any:
        """Return an array correlated along one axis, plus `residual`."""
        sizes, pads = [1] * len(x.shape), [(0, 0)] * len(x.shape)
        sizes[p.axis], pads[p.axis] = len(p.weights), (p.before, len(p.weights) - 1 - p.before)
        weights = self.call.read("weights", p.weights.reshape(sizes).astype(self.work))
        return correlated(self.call, x, weights, pads, p.mode, cval if p.mode == "zeros" else 0, residual)

    def truncated(self, x: Any) -> Any:
        """Return the result of a pass, as the next one sees it."""
        if self.dtype.kind == "f" or self.work.kind == "i":
            return x
        return self.cast(cuda.kernels("casts:cast")(self.call.stream, x, self.dtype))

    def finish(self, x: Any) -> Any:
        """Return a result in the user's array, or as an array of the input's library."""
        check_target(self.call, self.out, x.shape, self.dtype)
        if x.owner is self.call.buffers["input"].owner:
            x = cuda.kernels("call:copied")(self.call.stream, x)
        return self.call.finish(x, self.out)


def correlation(
    name: str, arrays: tuple[Any, Any], output: Any, mode: Any, cval: Any, kernel_of: Callable[..., Any]
) -> Any:
    """Return `correlate` or `convolve` of (input, weights).

    `kernel_of` returns, from the dimensions of the input and an array of weights, the weights as a correlation with all
    axes has them, and how many of these stand before the result.
    """
    f = _Filter(name, arrays[0], output, weights=arrays[1])
    shaped, befores = kernel_of(len(f.shape), np.zeros(f.call.buffers["weights"].shape))
    if is_sequence(mode):
        raise FilterError("A sequence of modes is not supported")
    outside, value = padding_mode(mode), real_number(cval)
    x, weights = f.contiguous("input"), f.contiguous("weights")
    if not x.size:
        return f.finish(x)
    if name == "convolve":
        weights = reversed_along_all(f.call, weights)
    pads = [(before, size - 1 - before) for size, before in zip(shaped.shape, befores, strict=True)]
    fill = value if outside == "zeros" else 0
    return f.finish(correlated(f.call, x, weights.reshaped(*shaped.shape), pads, outside, fill))


def passed(
    name: str, input: Any, output: Any, cval: Any, passes_of: Callable[[int], Sequence[Any]], whole: bool = False
) -> Any:
    """Return an array after passes along its axes; `passes_of` returns them for a number of dimensions.

    `whole`: the weights are integers.
    """
    value = real_number(cval)
    f = _Filter(name, input, output, whole and value.is_integer())
    passes = [_as_pass(name, f.dtype, p) for p in passes_of(len(f.shape))]
    x = f.contiguous("input")
    if not x.size:
        return f.finish(x)
    last = {p.axis - len(x.shape): p for p in passes}
    if f.dtype.kind == "f" and {-2, -1} <= set(last) and _fit_together(last[-2], last[-1], value):
        pair = last[-2], last[-1]
        pads = [(p.before, len(p.weights) - 1 - p.before) for p in pair]
        passes = [p for p in passes if p not in pair]
        x = separated(f.call, x, (pair[0].weights, pair[1].weights), pads, pair[0].mode)
    for p in passes:
        x = f.truncated(f.pass_along(x, p, value))
    return f.finish(x)


def summed(name: str, input: Any, output: Any, cval: Any, passes_of: Callable[[int], Sequence[Pass]]) -> Any:
    """Return the sum of correlations with integers, each along one axis."""
    value = real_number(cval)
    f = _Filter(name, input, output, value.is_integer())
    x, total = f.contiguous("input"), None
    for p in passes_of(len(f.shape)) if x.size else ():
        total = f.pass_along(x, p, value, total)
    return f.finish(x if total is None else total)


def _as_pass(name: str, dtype: np.dtype, p: Pass | Mean) -> Pass:
    """Return a mean as a correlation."""
    if isinstance(p, Pass):
        return p
    if dtype.kind != "f":
        raise UnsupportedError(f"{name}: output of dtype {dtype} on a CUDA device, expected float32 or float64")
    return Pass(p.axis, np.full(p.size, 1 / p.size), p.before, p.mode, p.cval)


def _fit_together(column: Pass, row: Pass, cval: float) -> bool:
    return column.mode == row.mode and (column.mode != "zeros" or not cval)
