"""The gradients of maxima and averages over windows, once their geometry is known."""

from __future__ import annotations

import math
from functools import reduce
from typing import Any, NamedTuple

import numpy as np

from fastconv.api.moving import execute
from fastconv.api.pooling import Pool, averages, maxima, window_counts
from fastconv.dispatch import load
from fastconv.dispatch.adjoint import windows_adjoint
from fastconv.dispatch.pooling import Divisor, is_usual
from fastconv.dispatch.resampling import moving_seconds
from fastconv.geometry.arrays import element_dtype
from fastconv.geometry.planes import three
from fastconv.geometry.pool import PoolGeometry
from fastconv.geometry.windows import Axis, window_inputs
from fastconv.grad.arrays import converted, output_gradient, pulled
from fastconv.system import empty

# Channels that are worth lanes of their own, and elements of a window that are compared again rather than looked up.
_LANES, _TAPS = 4, 1024


class Maxima(NamedTuple):
    """The pullback of maxima over windows of floats."""

    geometry: PoolGeometry
    # What finds the maxima again; None: they go by their indices, and whether windows may share one.
    program: Any
    shared: bool

    def pull(self, function: str, grad: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Return the gradient of x, floats of the dtype of grad."""
        if not grad.size:
            return np.zeros(x.shape, x.dtype)
        element = element_dtype(x.dtype)
        given, out = converted(grad, element), empty(x.shape, element)
        if self.program is not None:
            seconds = moving_seconds(2 * x.size, element.itemsize)
            execute(self.program, seconds, given, converted(x, element), out)
        else:
            _, indices = maxima(x.dtype, self.geometry, indices=True).run(function, x, None)
            self._scatter(_of_windows(given, self.geometry), indices, out)
        return converted(out, x.dtype)

    def _scatter(self, grad: np.ndarray, indices: np.ndarray, out: np.ndarray) -> None:
        """Fill `out` with the sums of the gradients at each index."""
        g = self.geometry
        planes, lanes = _planes(g)
        count, size = (math.prod(getattr(axis, name) for axis in g.axes) for name in ("out", "n"))
        bits = 8 * out.itemsize + (not self.shared)
        program = load.load("unpool:build")(bits, planes, count, size, lanes, "add" if self.shared else "last")
        flags = np.zeros(program.tasks, np.int64)
        execute(program, grad.size * 3e-9 + moving_seconds(out.size, out.itemsize), grad, indices, out, flags)


def maxima_pullback(dtype: np.dtype, g: PoolGeometry) -> Maxima:
    """Return the pullback of maxima of floats."""
    planes, lanes = _planes(g)
    sizes, outs = ([getattr(axis, name) for axis in g.axes] for name in ("n", "out"))
    kernel, inputs = [_side_by_side(axis) for axis in g.axes], [window_inputs(axis) for axis in g.axes]
    bits, few = 8 * element_dtype(dtype).itemsize, math.prod(int(count.max()) for _, count in inputs) <= _TAPS
    if 0 not in kernel and few and (lanes >= _LANES or (lanes == 1 and kernel[-1] == 2)):
        program = load.load("max_pool_grad:build")(bits, planes, lanes, three(sizes), three(outs), three(kernel))
        return Maxima(g, program, False)
    if few and is_usual(g.axes):
        program = _sums(g, bits, inputs)
        if program is not None:
            return Maxima(g, program, True)
    return Maxima(g, None, any(map(_may_share, g.axes)))


def _sums(g: PoolGeometry, bits: int, inputs: list[tuple[np.ndarray, np.ndarray]]) -> Any:
    """Return the program that adds gradients to the maxima, or None if it is not worth it."""
    planes, lanes = _planes(g)
    windows = [(np.array([0]), np.array([1]))] * (3 - len(inputs)) + inputs
    sizes, dilation = (three([getattr(axis, name) for axis in g.axes]) for name in ("n", "dilation"))
    problem = (sizes, windows, dilation, g.axes[-1].stride)
    if lanes >= _LANES:
        return load.load("max_pool_sums:build")(bits, planes, lanes, *problem)
    return load.load("max_pool_sums:build_turned")(bits, planes, *problem) if lanes == 1 else None


def _of_windows(grad: np.ndarray, g: PoolGeometry) -> np.ndarray:
    """Return the gradients without those of windows that hold nothing, whose index means nothing."""
    last = grad.ndim - (g.layout == "channels_last")
    for i, axis in enumerate(g.axes, last - len(g.axes)):
        _, count = window_inputs(axis)
        if g.keepdims and not count.all():
            grad = np.where(np.expand_dims(count > 0, tuple(range(1, grad.ndim - i))), grad, 0)
    return np.ascontiguousarray(grad)


def _planes(g: PoolGeometry) -> tuple[int, int]:
    return (g.N * g.C, 1) if g.layout == "channels_first" else (g.N, g.C)


def _side_by_side(axis: Axis) -> int:
    """Return the length of windows that are whole and stand side by side from the first input on, else 0."""
    if axis.mode == "adaptive":
        return axis.n if axis.out == 1 else 0
    apart = axis.stride == axis.kernel or axis.out == 1
    whole = axis.before == 0 and axis.out * axis.kernel <= axis.n
    return axis.kernel if apart and whole and (axis.dilation == 1 or axis.kernel == 1) else 0


def _may_share(axis: Axis) -> bool:
    """Return whether two windows may have the same maximum, or none."""
    if axis.mode == "adaptive":
        return axis.out > 1
    return axis.out > 1 and (axis.stride < axis.dilation * (axis.kernel - 1) + 1 or axis.dilation > axis.n)


class Averages(NamedTuple):
    """The pullback of averages over windows of floats."""

    # What `windows_adjoint` wants to know.
    sums: tuple[tuple[Axis, ...], int, int, str]
    divisor: Any
    layout: str

    def pull(self, function: str, grad: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Return the gradient of x, of which only the shape and the dtype matter."""
        with np.errstate(all="ignore"):
            each = grad.astype(element_dtype(x.dtype), copy=False) / self.divisor
        return pulled(windows_adjoint(*self.sums), each, x.shape, x.dtype, self.layout)


def averages_pullback(
    dtype: np.dtype, g: PoolGeometry, count_include_pad: bool = True, divisor: Divisor | None = None
) -> Averages:
    """Return the pullback of averages of floats, with the arguments of `fastconv.api.pooling.averages`."""
    element = element_dtype(dtype)
    planes, lanes = (max(number, 1) for number in _planes(g))
    counts = window_counts(g, count_include_pad) if divisor is None else divisor
    by: Any = counts
    if isinstance(counts, tuple):
        by = reduce(np.multiply.outer, [each.numbers() for each in counts])
        by = by if g.layout == "channels_first" else by[..., None]
    return Averages((g.axes, planes, lanes, element.name), np.asarray(by, element), g.layout)


class Norms(NamedTuple):
    """The pullback of PyTorch's Lp pooling, ``(mean(x ** p) * size) ** (1 / p)``, of floats."""

    geometry: PoolGeometry
    mean: Pool
    averages: Averages
    p: float

    def pull(self, function: str, grad: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Return the gradient of x. That of a window whose sum is 0 is 0, as in PyTorch."""
        element, p = element_dtype(x.dtype), self.p
        size = float(math.prod(axis.kernel for axis in self.geometry.axes))
        with np.errstate(all="ignore"):
            x_wide, given = x.astype(element, copy=False), grad.astype(element, copy=False)
            sums = self.mean.run(function, x_wide**p, None) * size
            outer = np.where(sums == 0, 0, given * (sums ** (1.0 / p - 1) / p) * size).astype(element, copy=False)
            inner = self.averages.pull(function, outer, x_wide)
            return (inner * (p * x_wide ** (p - 1))).astype(x.dtype, copy=False)


class Extremes(NamedTuple):
    """The pullback of Lp pooling with an infinite p: of the largest or smallest magnitudes."""

    maxima: Maxima
    sign: int

    def pull(self, function: str, grad: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Return the gradient of x."""
        with np.errstate(all="ignore"):
            return np.sign(x) * self.maxima.pull(function, grad, self.sign * np.abs(x))


def norms_pullback(dtype: np.dtype, g: PoolGeometry, p: int | float) -> Norms | Extremes:
    """Return the pullback of Lp pooling of floats."""
    if math.isinf(p):
        return Extremes(maxima_pullback(dtype, g), 1 if p > 0 else -1)
    element = element_dtype(dtype)
    return Norms(g, averages(element, g), averages_pullback(element, g), p)


class WindowPlan(NamedTuple):
    """Windows, and what is done with gradients of floats; integers have none."""

    geometry: PoolGeometry
    pullback: Maxima | Averages | Norms | Extremes | None

    def run(self, function: str, grad_output: Any, x: np.ndarray, dtype: np.dtype) -> tuple[np.ndarray | None]:
        """Return the gradient of x from that of a result of a dtype."""
        grad = output_gradient(function, grad_output, self.geometry.out_shape, dtype)
        return (None if self.pullback is None else self.pullback.pull(function, grad, x),)
