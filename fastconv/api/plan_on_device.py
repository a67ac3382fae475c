"""Plans on a CUDA device: the weight is packed there once."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastconv.api.convolve import Options, checked_shapes, problem_on_device
from fastconv.api.on_device import begin, check_target, volume
from fastconv.api.plan import ConvPlan
from fastconv.dispatch import cuda
from fastconv.errors import DtypeError, ShapeError, UnsupportedError
from fastconv.geometry.arrays import dtype_of, working_dtype

NAME = "plan_conv2d"


class DevicePlan(ConvPlan):
    """A 2-D convolution with a fixed weight and input shape on a CUDA device; call it with an input.

    Made by `plan_conv2d`. It owns copies of weight and bias. What it does on the device runs on the current stream of
    the input's library, behind what made the plan if that was the same stream.
    """

    __slots__ = ("_element", "_geometry", "_program")

    def __init__(self, shape: tuple[int, ...], options: Options, dtype: Any, out_dtype: Any, weight: Any, bias: Any):
        call = begin(NAME, weight=weight, bias=bias)
        given = [call.buffers[name].dtype for name in ("weight", "bias") if call.buffers[name] is not None]
        self._dtype = dtype_of(NAME, "dtype", dtype)
        common = np.result_type(self._dtype, *given)
        self._result = common if out_dtype is None else dtype_of(NAME, "out_dtype", out_dtype)
        self._element = call.unify("fde", out_dtype=working_dtype(NAME, common, self._result))
        self._shape, self._options = shape, options
        w = call.contiguous("weight")
        self._geometry, activation = problem_on_device(NAME, shape, w.shape, self._element, options)
        self._out_shape = checked_shapes(NAME, self._geometry, shape, call.buffers["bias"], None)
        self._program = cuda.convolution(NAME, self._geometry, activation, options.algorithm, options.precision)
        self._packed = self._program.pack(call.stream, _own(call, w, weight))
        self._bias = _own(call, call.contiguous("bias"), bias)

    @property
    def algorithm(self) -> str:
        """Name of the algorithm in use."""
        return cuda.chosen(NAME, self._geometry, self._options.algorithm, self._options.precision).name

    @property
    def problem(self) -> str:
        """The problem in one word, as `fastconv.testing.problem` reads it."""
        return self._geometry.problem

    def __call__(self, x: Any, out: Any = None, *, residual: Any = None) -> Any:
        """Return the convolution of `x`, of the host or the device, in the same place; see `ConvPlan`."""
        call = begin(NAME, input=x, residual=residual)
        self._check(call, "input", self._shape, self._dtype)
        self._check(call, "residual", self._out_shape, self._result)
        call.unify("fde", out_dtype=self._element)
        call.dtype = self._result
        check_target(call, out, self._out_shape, self._result)
        target = call.target(out, self._out_shape, self._element)
        if math.prod(self._out_shape):
            given = call.buffers["input"], call.contiguous("residual"), target
            x, r, result = (volume(buffer, 2, self._options.layout) for buffer in given)
            self._program.run(call.stream, x, self._packed, self._bias, r, result)
        return call.finish(target, out)

    def explain(self, measure: bool = False) -> Any:
        """Raise `UnsupportedError`: costs are those of the CPU."""
        raise UnsupportedError(f"{NAME}: explain of a plan on a CUDA device; this version knows the costs on the CPU")

    def _check(self, call: Any, name: str, shape: tuple[int, ...], dtype: np.dtype) -> None:
        buffer = call.buffers[name]
        if buffer is None:
            return
        if buffer.shape != shape:
            raise ShapeError(f"{NAME}: {name} has shape {buffer.shape}, expected {shape}")
        if np.promote_types(buffer.dtype, dtype) != dtype:
            raise DtypeError(f"{NAME}: {name} has dtype {buffer.dtype}, expected {dtype}")


def _own(call: Any, buffer: Any, given: Any) -> Any:
    """Return an array of a call that no one else writes: a copy, if it may be what the user gave."""
    if buffer is None or buffer.owner is not given:
        return buffer
    return cuda.kernels("call:copied")(call.stream, buffer)
