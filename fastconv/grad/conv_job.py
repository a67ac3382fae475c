"""The pullbacks of convolutions and transposed convolutions, of any number of axes."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastconv.api.conv_transpose import TransposeOptions, transpose, transpose_problem
from fastconv.api.convolve import Options, checked_activation, convolve
from fastconv.api.separable import per_channel
from fastconv.errors import ShapeError
from fastconv.geometry.arrays import as_input, common_dtype, element_dtype, kind_of, summed_dtype
from fastconv.geometry.conv import ConvGeometry, bias_shape_check
from fastconv.geometry.conv_transpose import TransposeGeometry
from fastconv.grad.activations import pullback
from fastconv.grad.arrays import converted
from fastconv.grad.problem import ConvGradients, gradients_of
from fastconv.grad.products import bilinear, channel_sums, check_gradient, check_pointwise, given, is_wanted

Gradients = tuple[np.ndarray | None, ...]


def conv_vjp(
    function: str, grad_output: Any, x: Any, weight: Any, bias: Any, options: Options, residual: Any = None
) -> Gradients:
    """Return the gradients of input, weight and bias, and of the residual if there is one."""
    named = {"grad_output": grad_output, "input": x, "weight": weight, "bias": bias, "residual": residual}
    (dy, x, w, b, r), dtype = given(function, **named)
    element = element_dtype(dtype)
    activation = checked_activation(function, options)
    problem = gradients_of(function, x.shape, w.shape, element, options)
    g = problem.forward
    if b is not None and b.shape != (g.OC,):
        bias_shape_check(function, b.shape, g)
    check_gradient(function, dy, problem.result_shape(x.ndim), common_dtype(function, x, w, b, r))
    if activation is not None:
        pre = convolve(function, x, w, b, options._replace(activation=None), None, None, r)
        dy = pullback(activation, converted(dy, pre.dtype), pre)
    elif r is not None and r.shape != dy.shape:
        raise ShapeError(f"{function}: residual has shape {r.shape}, expected {dy.shape}, that of the result")
    found = _gradients(problem, dy, x, w, b, element)
    return found if residual is None else (*found, np.array(converted(dy, r.dtype)) if is_wanted(r) else None)


def _gradients(
    problem: ConvGradients, dy: np.ndarray, x: np.ndarray, w: np.ndarray, b: np.ndarray | None, element: np.dtype
) -> Gradients:
    """Return the gradients of input, weight and bias from that of the sums."""
    g, dx, dw, db, beside = problem.forward, None, None, None, None
    if is_wanted(x):
        dx = bilinear(problem.input, dy, w, element, x.dtype).reshape(x.shape)
    if b is not None and is_wanted(b):
        if is_wanted(w) and dy.dtype.kind != "c" and x.dtype.kind != "c":
            db = beside = np.empty(g.OC, element)
        else:
            db = channel_sums(dy, _channel_axis(g), b.dtype)
    if is_wanted(w):
        dw = bilinear(lambda d, a: problem.weight(a, d, beside), dy, x, element, w.dtype)
    return dx, dw, None if b is None or db is None else converted(db, b.dtype)


def separable_vjp(
    function: str,
    grad_output: Any,
    x: np.ndarray,
    weights: tuple[Any, Any],
    bias: Any,
    depthwise_bias: Any,
    options: tuple[Options, Options],
    residual: Any,
) -> Gradients:
    """Return the gradients of input, both weights, bias and depthwise bias, and of the residual if there is one."""
    dw, pw = as_input(function, "depthwise_weight", weights[0]), as_input(function, "pointwise_weight", weights[1])
    check_pointwise(function, "pointwise_weight", pw.shape)
    # Half precision is rounded once, at the end.
    wide = summed_dtype(common_dtype(function, x, dw))
    middle = convolve(function, x, dw, depthwise_bias, options[0], None, wide if kind_of(wide) == "f" else None)
    dmiddle, dpw, dbias, *rest = conv_vjp(
        function, grad_output, middle, pw.reshape(*pw.shape[:2], 1, 1), bias, options[1], residual
    )
    if dmiddle is None:
        dx = ddw = ddb = None
    else:
        dx, ddw, ddb = conv_vjp(function, dmiddle, x, dw, depthwise_bias, options[0])
    return dx, ddw, None if dpw is None else dpw.reshape(pw.shape), dbias, ddb, *rest


def factors_vjp(
    function: str,
    grad_output: Any,
    x: np.ndarray,
    factors: tuple[Any, Any],
    bias: Any,
    options: Options,
    residual: Any,
) -> Gradients:
    """Return the gradients of input, column, row and bias, and of the residual if there is one."""
    given_column, given_row = as_input(function, "column", factors[0]), as_input(function, "row", factors[1])
    columns, rows = (per_channel(function, *named) for named in _named(factors, options.groups))
    wide = [summed_dtype(common_dtype(function, x, factor)) for factor in (columns, rows)]
    columns, rows = (factor.astype(dtype, copy=False) for factor, dtype in zip((columns, rows), wide, strict=True))
    with np.errstate(all="ignore"):
        weight = columns[:, None, :, None] * rows[:, None, None, :]
        dx, dw, dbias, *rest = conv_vjp(function, grad_output, x, weight, bias, options, residual)
        dcolumn = drow = None
        if dw is not None:
            dcolumn = _factor(np.einsum("cohw,cw->ch", dw, rows.conj()), given_column)
            drow = _factor(np.einsum("cohw,ch->cw", dw, columns.conj()), given_row)
    return dx, dcolumn, drow, dbias, *rest


def _named(factors: tuple[Any, Any], channels: int) -> list[tuple[str, Any, int]]:
    return [(name, factor, channels) for name, factor in zip(("column", "row"), factors, strict=True)]


def _factor(gradient: np.ndarray, factor: np.ndarray) -> np.ndarray | None:
    """Return the gradient of a factor from that of the factor of each channel."""
    if not is_wanted(factor):
        return None
    total = gradient.sum(0) if factor.ndim == 1 else gradient
    return converted(total if factor.dtype.kind == "c" else total.real, factor.dtype)


def _channel_axis(g: ConvGeometry | TransposeGeometry) -> int:
    return -1 if g.layout == "channels_last" else -1 - g.axes


def conv_transpose_vjp(
    function: str, grad_output: Any, x: Any, weight: Any, bias: Any, options: TransposeOptions
) -> Gradients:
    """Return the gradients of input, weight and bias: a convolution, and a correlation with the roles exchanged."""
    (dy, x, w, b), dtype = given(function, grad_output=grad_output, input=x, weight=weight, bias=bias)
    element = element_dtype(dtype)
    g, activation = transpose_problem(function, x.shape, w.shape, element, options)
    if b is not None and b.shape != (g.OC,):
        raise ShapeError(f"{function}: bias has shape {b.shape}, expected {(g.OC,)} (OC = {g.OC})")
    shape = g.output_shape if x.ndim == w.ndim else g.output_shape[1:]
    check_gradient(function, dy, shape, common_dtype(function, x, w, b))
    if activation is not None:
        pre = transpose(function, x, w, b, options._replace(activation=None), None, None)
        dy = pullback(activation, converted(dy, pre.dtype), pre)
    problem, dx, dw = ConvGradients(adjoint(g), options.precision), None, None
    if is_wanted(x):
        dx = bilinear(problem.output, dy, w, element, x.dtype).reshape(x.shape)
    if is_wanted(w):
        dw = bilinear(problem.weight, dy, x, element, w.dtype)
    return dx, dw, channel_sums(dy, _channel_axis(g), b.dtype) if b is not None and is_wanted(b) else None


def adjoint(g: TransposeGeometry) -> ConvGeometry:
    """Return the convolution from the outputs of a transposed one to its inputs."""
    spans = [rate * (taps - 1) + 1 for rate, taps in zip(g.dilation, g.kernel, strict=True)]
    along = zip(g.sizes, g.outputs, g.stride, g.before, spans, strict=True)
    after = [(n - 1) * step + span - before - size for n, size, step, before, span in along]
    (PF, PT, PL), (PK, PB, PR) = g.before, after
    spatial = (*g.outputs, *g.sizes, *g.kernel, *g.stride, PF, PK, PT, PB, PL, PR, *g.dilation)
    return ConvGeometry(g.N, g.G, g.OC, g.IC, *spatial, g.layout, g.dtype, "zeros", g.axes)
