"""The special forms of convolution on a CUDA device: depthwise, pointwise, separable."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from fastconv.api.convolve import Options, checked_shapes, convolved, problem_of
from fastconv.api.factored import channels_of, check_biases, check_factor, check_weights, pointwise_shape
from fastconv.api.on_device import begin, check_target, volume
from fastconv.dispatch import cuda
from fastconv.dispatch.cuda_separable import Half, one_kernel
from fastconv.geometry.conv import LAYOUTS, check_keyword, output_shape

Arrays = tuple[Any, Any, Any, Any]


def depthwise_on_device(function: str, arrays: Arrays, options: Options, out: Any, out_dtype: Any) -> Any:
    """Return the depthwise convolution of (input, weight, bias, residual)."""
    call = _begin(function, arrays, options)
    channels = channels_of(call.buffers["input"].shape, options.layout)
    return convolved(call, options._replace(groups=max(channels, 1)), out, out_dtype)


def pointwise_on_device(function: str, arrays: Arrays, options: Options, out: Any, out_dtype: Any) -> Any:
    """Return the pointwise convolution of (input, weight, bias, residual)."""
    call = _begin(function, arrays, options)
    _reshape(call, "weight", pointwise_shape(function, "weight", call.buffers["weight"].shape))
    return convolved(call, options, out, out_dtype)


def _begin(function: str, arrays: Arrays, options: Options) -> Any:
    check_keyword(function, "layout", options.layout, LAYOUTS)
    x, weight, bias, residual = arrays
    return begin(function, input=x, weight=weight, bias=bias, residual=residual)


def _reshape(call: Any, name: str, shape: tuple[int, ...]) -> None:
    """Give an array of a call another shape of as many elements."""
    if call.buffers[name].shape != shape:
        call.buffers[name] = call.contiguous(name).reshaped(*shape)


def separable_on_device(
    function: str, arrays: Mapping[str, Any], options: tuple[Options, Options], out: Any, out_dtype: Any
) -> Any:
    """Return the depthwise, then pointwise convolution, of options each; half precision is rounded at the end."""
    first, second = options
    check_keyword(function, "layout", first.layout, LAYOUTS)
    call = begin(function, **arrays)
    pw = call.buffers["pointwise_weight"].shape
    _reshape(call, "pointwise_weight", (*pw, 1, 1) if len(pw) == 2 else pw)
    x_shape, dw, pw = (call.buffers[k].shape for k in ("input", "depthwise_weight", "pointwise_weight"))
    channels = channels_of(x_shape, first.layout)
    check_weights(function, channels, dw, pw)
    check_biases(function, call.buffers, dw[0], pw[0])
    dtype = call.unify("fde", out_dtype=out_dtype)
    if not channels:
        x_shape, dw, pw = _one_channel(call, first.layout)
    first = first._replace(groups=max(channels, 1), device="auto")
    g, between = problem_of(function, x_shape, dw, dtype, first)
    h, activation = problem_of(function, output_shape(g), pw, dtype, second._replace(device="auto"))
    shape = checked_shapes(function, h, x_shape, None, call.buffers["residual"])
    check_target(call, out, shape, call.dtype)
    halves = Half(g, between, first.algorithm), Half(h, activation, second.algorithm)
    program = one_kernel(function, *halves, first.precision)
    if program is not None:
        target = call.target(out, shape, dtype)
        if math.prod(shape):
            given = call.buffers["input"], call.contiguous("residual"), target
            x, residual, result = (volume(buffer, 2, first.layout) for buffer in given)
            program.run(call.stream, x, *_factors(call), residual, result)
        return call.finish(target, out)
    # An intermediate in memory is not rounded to half precision either.
    dtype = call.unify("fd", out_dtype=call.dtype)
    again = [half._replace(geometry=half.geometry._replace(dtype=dtype.name)) for half in halves]
    programs = [cuda.convolution(function, *half, first.precision) for half in again]
    target = call.target(out, shape, dtype)
    if math.prod(shape):
        _run_both(call, programs, target, call.empty(output_shape(g), dtype), first.layout)
    return call.finish(target, out)


def _factors(call: Any) -> list[tuple[Any, Any]]:
    """Return the weights and the biases, of the depthwise, then of the pointwise convolution."""
    names = ("depthwise_weight", "pointwise_weight"), ("depthwise_bias", "bias")
    return [(call.contiguous(one), call.contiguous(two)) for one, two in names]


def _run_both(call: Any, programs: Any, target: Any, middle: Any, layout: str) -> None:
    given = call.buffers["input"], call.contiguous("residual"), middle, target
    x, residual, middle, result = (volume(buffer, 2, layout) for buffer in given)
    weights, biases = _factors(call)
    ends = (x, None, middle), (middle, residual, result)
    for program, weight, bias, (source, added, sink) in zip(programs, weights, biases, ends, strict=True):
        program.run(call.stream, source, program.pack(call.stream, weight), bias, added, sink)


def _one_channel(call: Any, layout: str) -> tuple[tuple[int, ...], ...]:
    """Put one channel of zeros in place of none, after which the bias is left; return the shapes."""
    shapes = {name: list(call.buffers[name].shape) for name in ("input", "depthwise_weight", "pointwise_weight")}
    shapes["input"][-3 if layout == "channels_first" else -1] = 1
    shapes["depthwise_weight"][0] = shapes["pointwise_weight"][1] = 1
    for name, shape in shapes.items():
        call.buffers[name] = call.read(name, np.zeros(shape, call.buffers[name].dtype))
    call.buffers["depthwise_bias"] = None
    x, dw, pw = (tuple(shape) for shape in shapes.values())
    return x, dw, pw


def spatially_separable_on_device(
    function: str, arrays: Mapping[str, Any], options: Options, out: Any, out_dtype: Any
) -> Any:
    """Return the convolution of every channel with its column, then its row."""
    check_keyword(function, "layout", options.layout, LAYOUTS)
    call = begin(function, **arrays)
    channels = channels_of(call.buffers["input"].shape, options.layout)
    for name in ("column", "row"):
        check_factor(function, name, call.buffers[name].shape, channels)
    options = options._replace(groups=max(channels, 1))
    multiplied = options.algorithm not in ("auto", "separable") or options.precision == "strict" or not channels
    # The products of halves are rounded once, at the end.
    dtype = call.unify("fd" if multiplied else "fde", out_dtype=out_dtype)
    column, row = (_per_channel(call.buffers[name], channels) for name in ("column", "row"))
    if multiplied:
        call.buffers["weight"] = cuda.kernels("conv_separable:outer_product")(call.stream, column, row)
        return convolved(call, options, out, call.dtype)
    x, bias = call.buffers["input"], call.buffers["bias"]
    w_shape = (channels, 1, column.shape[1], row.shape[1])
    g, activation = problem_of(function, x.shape, w_shape, dtype, options._replace(device="auto"))
    shape = checked_shapes(function, g, x.shape, bias, call.buffers["residual"])
    check_target(call, out, shape, call.dtype)
    program = cuda.kernels("conv_separable:program")(function, g, activation)
    target = call.target(out, shape, dtype)
    if math.prod(shape):
        given = x, call.contiguous("residual"), target
        x, residual, result = (volume(buffer, 2, options.layout) for buffer in given)
        program.run(call.stream, x, (column, row), call.contiguous("bias"), residual, result)
    return call.finish(target, out)


def _per_channel(factor: Any, channels: int) -> Any:
    """Return a factor as (C, K); one for all channels has stride 0."""
    if len(factor.shape) == 2:
        return factor
    return factor._replace(shape=(channels, *factor.shape), strides=(0, *factor.strides))
