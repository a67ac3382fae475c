"""The pullbacks of convolutions and transposed convolutions, of any number of axes."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastconv.api.conv_transpose import TransposeOptions, transpose_problem
from fastconv.api.conv_transpose import transpose as forward_transpose
from fastconv.api.convolve import Options, checked_activation, convolve
from fastconv.errors import ShapeError
from fastconv.geometry.arrays import element_dtype
from fastconv.geometry.conv import ConvGeometry, bias_shape_check, output_shape
from fastconv.geometry.conv_transpose import TransposeGeometry
from fastconv.grad.activations import pullback
from fastconv.grad.products import bilinear, cast, channel_sums, check_gradient, given, is_wanted
from fastconv.grad.problem import ConvGradients, gradients_of

Gradients = tuple[np.ndarray | None, ...]


def conv_vjp(
    function: str, grad_output: Any, x: Any, weight: Any, bias: Any, options: Options, residual: Any = None
) -> Gradients:
    """Return the gradients of input, weight and bias, and of the residual if there is one."""
    named = {"grad_output": grad_output, "input": x, "weight": weight, "bias": bias, "residual": residual}
    (dy, x, w, b, r), dtype = given(function, **named)
    element = element_dtype(dtype)
    problem = gradients_of(function, x.shape, w.shape, element, options)
    g = problem.forward
    if b is not None and b.shape != (g.OC,):
        bias_shape_check(function, b.shape, g)
    outputs = [array.dtype for array in (x, w, b, r) if array is not None]
    check_gradient(function, dy, _like_input(output_shape(g), x, g), np.result_type(*outputs))
    if options.activation is not None:
        pre = convolve(function, x, w, b, options._replace(activation=None), None, None, r)
        dy = pullback(checked_activation(function, options), cast(dy, pre.dtype), pre)
    elif r is not None and r.shape != dy.shape:
        raise ShapeError(f"{function}: residual has shape {r.shape}, expected {dy.shape}, that of the output")
    dx, dw, db = conv_gradients(problem, dy, x, w, b, element)
    return (dx, dw, db) if r is None else (dx, dw, db, cast(dy, r.dtype).copy() if is_wanted(r) else None)


def conv_gradients(
    problem: ConvGradients, dy: np.ndarray, x: np.ndarray, w: np.ndarray, b: np.ndarray | None, element: np.dtype
) -> Gradients:
    """Return the gradients of input, weight and bias from that of what the bias was added to."""
    g, dx, dw, db = problem.forward, None, None, None
    if is_wanted(x):
        dx = bilinear(problem.input, dy, w, element, x).reshape(x.shape)
    real = dy.dtype.kind != "c" and x.dtype.kind != "c" and is_wanted(w)
    if is_wanted(b):
        db = np.empty(g.OC, element) if real else channel_sums(dy, _channel_axis(g), b)
    if is_wanted(w):
        filled = db if real else None
        dw = bilinear(lambda d, a: problem.weight(a, d, filled), dy, x, element, w)
    return dx, dw, db if db is None or b is None else cast(db, b.dtype)


def _channel_axis(g: ConvGeometry | TransposeGeometry) -> int:
    return -1 if g.layout == "channels_last" else -1 - g.axes


def _like_input(shape: tuple[int, ...], x: np.ndarray, g: ConvGeometry | TransposeGeometry) -> tuple[int, ...]:
    """Return a batched shape, without the batch if the input has none."""
    return shape if x.ndim == g.axes + 2 else shape[1:]


def conv_transpose_vjp(
    function: str, grad_output: Any, x: Any, weight: Any, bias: Any, options: TransposeOptions
) -> Gradients:
    """Return the gradients of input, weight and bias: a convolution, and a correlation with the roles exchanged."""
    (dy, x, w, b), dtype = given(function, grad_output=grad_output, input=x, weight=weight, bias=bias)
    element = element_dtype(dtype)
    g, activation = transpose_problem(function, x.shape, w.shape, element, options)
    if b is not None and b.shape != (g.OC,):
        raise ShapeError(f"{function}: bias has shape {b.shape}, expected {(g.OC,)} (OC = {g.OC})")
    outputs = [array.dtype for array in (x, w, b) if array is not None]
    check_gradient(function, dy, _like_input(g.output_shape, x, g), np.result_type(*outputs))
    if activation is not None:
        pre = forward_transpose(function, x, w, b, options._replace(activation=None), None, None)
        dy = pullback(activation, cast(dy, pre.dtype), pre)
    problem, dx, dw = ConvGradients(_adjoint(g), options.precision), None, None
    if is_wanted(x):
        dx = bilinear(problem.output, dy, w, element, x).reshape(x.shape)
    if is_wanted(w):
        dw = bilinear(problem.weight, dy, x, element, w)
    return dx, dw, channel_sums(dy, _channel_axis(g), b) if b is not None and is_wanted(b) else None


def _adjoint(g: TransposeGeometry) -> ConvGeometry:
    """Return the convolution from the outputs of a transposed one to its inputs."""
    spans = [rate * (taps - 1) + 1 for rate, taps in zip(g.dilation, g.kernel, strict=True)]
    along = zip(g.sizes, g.outputs, g.stride, g.before, spans, strict=True)
    after = [(n - 1) * step + span - before - size for n, size, step, before, span in along]
    (PF, PT, PL), (PK, PB, PR) = g.before, after
    spatial = (*g.outputs, *g.sizes, *g.kernel, *g.stride, PF, PK, PT, PB, PL, PR, *g.dilation)
    return ConvGeometry(g.N, g.G, g.OC, g.IC, *spatial, g.layout, g.dtype, "zeros", g.axes)
