"""Public gradients of convolutions: torch.nn.grad's names, and the pullbacks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastconv.api.convolve import Options
from fastconv.api.on_device import wants_device
from fastconv.geometry.arguments import shape as checked_shape
from fastconv.geometry.arrays import as_input, element_dtype
from fastconv.geometry.conv import LAYOUTS, check_keyword
from fastconv.grad import conv_on_device as on_device
from fastconv.grad.arrays import Function, named
from fastconv.grad.conv_job import conv_vjp, factors_vjp, separable_vjp
from fastconv.grad.conv_texts import ARGUMENTS, COST, INPUT, VJP, WEIGHT
from fastconv.grad.problem import gradients_of
from fastconv.grad.products import bilinear, check_gradient, check_pointwise, given


def _conv_input(axes: int) -> Callable[..., np.ndarray]:
    op = f"conv{axes}d"
    name = f"{op}_input"

    def conv_input(
        input_size: Sequence[int],
        weight: ArrayLike,
        grad_output: ArrayLike,
        stride: int | tuple[int, ...] = 1,
        padding: Any = 0,
        dilation: int | tuple[int, ...] = 1,
        groups: int = 1,
        *,
        padding_mode: str = "zeros",
        layout: str = "channels_first",
        precision: str = "default",
        device: str = "auto",
    ) -> np.ndarray:
        words = (padding_mode, layout, None, "auto", precision, device, axes)
        options = Options(stride, padding, dilation, groups, *words)
        if wants_device(device, grad_output, weight):
            size = checked_shape(name, "input_size", input_size)
            return on_device.conv_input(name, size, weight, grad_output, options)
        (w, dy), dtype = given(name, weight=weight, grad_output=grad_output)
        size = checked_shape(name, "input_size", input_size)
        element = element_dtype(dtype)
        problem = gradients_of(name, size, w.shape, element, options)
        check_gradient(name, dy, problem.result_shape(len(size)), None)
        return bilinear(problem.input, dy, w, element, dtype).reshape(size)

    example = {"shape": (1, 1, *(1,) * (axes - 1), 4), "w": (1, 1, *(1,) * (axes - 1), 2)}
    return named(conv_input, name, INPUT, op=op, dy=(1, 1, *(1,) * (axes - 1), 3), **example, **_letters(axes))


def _conv_weight(axes: int) -> Callable[..., np.ndarray]:
    op = f"conv{axes}d"
    name = f"{op}_weight"

    def conv_weight(
        input: ArrayLike,
        weight_size: Sequence[int],
        grad_output: ArrayLike,
        stride: int | tuple[int, ...] = 1,
        padding: Any = 0,
        dilation: int | tuple[int, ...] = 1,
        groups: int = 1,
        *,
        padding_mode: str = "zeros",
        layout: str = "channels_first",
        precision: str = "default",
        device: str = "auto",
    ) -> np.ndarray:
        words = (padding_mode, layout, None, "auto", precision, device, axes)
        options = Options(stride, padding, dilation, groups, *words)
        if wants_device(device, grad_output, input):
            size = checked_shape(name, "weight_size", weight_size)
            return on_device.conv_weight(name, input, size, grad_output, options)
        (x, dy), dtype = given(name, input=input, grad_output=grad_output)
        size = checked_shape(name, "weight_size", weight_size)
        element = element_dtype(dtype)
        problem = gradients_of(name, x.shape, size, element, options)
        check_gradient(name, dy, problem.result_shape(x.ndim), None)
        return bilinear(lambda d, a: problem.weight(a, d), dy, x, element, dtype)

    one = (1,) * (axes - 1)
    example = {"x": (1, 1, *one, 4), "wsize": (1, 1, *one, 2), "dy": (1, 1, *one, 3)}
    return named(conv_weight, name, WEIGHT, op=op, **example, **_letters(axes))


def _letters(axes: int) -> dict[str, str]:
    return {"axes": ", ".join("DHW"[-axes:]), "kernel": ", ".join(f"K{axis}" for axis in "DHW"[-axes:])}


def _conv_vjp(axes: int) -> Function:
    op = f"conv{axes}d"
    name = f"{op}_vjp"

    def vjp(
        grad_output: ArrayLike,
        input: ArrayLike,
        weight: ArrayLike,
        bias: ArrayLike | None = None,
        stride: int | tuple[int, ...] = 1,
        padding: Any = 0,
        dilation: int | tuple[int, ...] = 1,
        groups: int = 1,
        *,
        padding_mode: str = "zeros",
        layout: str = "channels_first",
        activation: str | None = None,
        algorithm: str = "auto",
        precision: str = "default",
        device: str = "auto",
        residual: ArrayLike | None = None,
    ) -> tuple[np.ndarray | None, ...]:
        words = (padding_mode, layout, activation, algorithm, precision, device, axes)
        options = Options(stride, padding, dilation, groups, *words)
        pullback = on_device.conv_vjp if wants_device(device, grad_output, input) else conv_vjp
        return pullback(name, grad_output, input, weight, bias, options, residual)

    one = (1,) * (axes - 1)
    example = f"dx, dw, db = fc.grad.{name}(np.ones({(1, 1, *one, 3)}), np.ones({(1, 1, *one, 4)}), "
    example += f"np.ones({(1, 1, *one, 2)}), [0.0])\n>>> dx.ravel(), dw.ravel(), db"
    result = "(array([1., 2., 2., 1.]), array([3., 3.]), array([3.]))"
    words = {"arguments": ARGUMENTS, "arrays": "input, weight and bias", "cost": COST}
    return named(vjp, name, VJP, op=op, example=example, result=result, **words)


conv1d_input, conv2d_input, conv3d_input = map(_conv_input, (1, 2, 3))
conv1d_weight, conv2d_weight, conv3d_weight = map(_conv_weight, (1, 2, 3))
conv1d_vjp, conv2d_vjp, conv3d_vjp = map(_conv_vjp, (1, 2, 3))


def depthwise_conv2d_vjp(
    grad_output: ArrayLike,
    input: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: int | tuple[int, ...] = 1,
    padding: Any = 0,
    dilation: int | tuple[int, ...] = 1,
    *,
    padding_mode: str = "zeros",
    layout: str = "channels_first",
    activation: str | None = None,
    algorithm: str = "auto",
    precision: str = "default",
    device: str = "auto",
    residual: ArrayLike | None = None,
) -> tuple[np.ndarray | None, ...]:
    """Return the gradients of `fastconv.depthwise_conv2d` for its arrays."""
    name = "depthwise_conv2d_vjp"
    words = (padding_mode, layout, activation, algorithm, precision, device)
    if wants_device(device, grad_output, input):
        options = Options(stride, padding, dilation, 0, *words)
        return on_device.conv_vjp(name, grad_output, input, weight, bias, options, residual)
    x = as_input(name, "input", input)
    options = Options(stride, padding, dilation, max(_channels(name, x, layout), 1), *words)
    return conv_vjp(name, grad_output, x, weight, bias, options, residual)


def pointwise_conv2d_vjp(
    grad_output: ArrayLike,
    input: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    layout: str = "channels_first",
    activation: str | None = None,
    algorithm: str = "auto",
    precision: str = "default",
    device: str = "auto",
    residual: ArrayLike | None = None,
) -> tuple[np.ndarray | None, ...]:
    """Return the gradients of `fastconv.pointwise_conv2d` for its arrays."""
    name = "pointwise_conv2d_vjp"
    options = Options(1, 0, 1, 1, "zeros", layout, activation, algorithm, precision, device)
    if wants_device(device, grad_output, input):
        return on_device.pointwise_vjp(name, grad_output, input, weight, bias, options, residual)
    w = as_input(name, "weight", weight)
    check_pointwise(name, "weight", w.shape)
    dx, dw, *rest = conv_vjp(name, grad_output, input, w.reshape(*w.shape[:2], 1, 1), bias, options, residual)
    return dx, None if dw is None else dw.reshape(w.shape), *rest


def separable_conv2d_vjp(
    grad_output: ArrayLike,
    input: ArrayLike,
    depthwise_weight: ArrayLike,
    pointwise_weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: int | tuple[int, ...] = 1,
    padding: Any = 0,
    dilation: int | tuple[int, ...] = 1,
    *,
    depthwise_bias: ArrayLike | None = None,
    depthwise_activation: str | None = None,
    padding_mode: str = "zeros",
    layout: str = "channels_first",
    activation: str | None = None,
    algorithm: str = "auto",
    precision: str = "default",
    device: str = "auto",
    residual: ArrayLike | None = None,
) -> tuple[np.ndarray | None, ...]:
    """Return the gradients of `fastconv.separable_conv2d` for its arrays."""
    name = "separable_conv2d_vjp"
    words = (padding_mode, layout, depthwise_activation, algorithm, precision, device)
    first = Options(stride, padding, dilation, 0, *words)
    second = Options(1, 0, 1, 1, "zeros", layout, activation, "auto", precision, device)
    weights = depthwise_weight, pointwise_weight
    if wants_device(device, grad_output, input):
        biases = bias, depthwise_bias
        return on_device.separable_vjp(name, grad_output, input, weights, biases, (first, second), residual)
    x = as_input(name, "input", input)
    first = first._replace(groups=max(_channels(name, x, layout), 1))
    return separable_vjp(name, grad_output, x, weights, bias, depthwise_bias, (first, second), residual)


def spatially_separable_conv2d_vjp(
    grad_output: ArrayLike,
    input: ArrayLike,
    column: ArrayLike,
    row: ArrayLike,
    bias: ArrayLike | None = None,
    stride: int | tuple[int, ...] = 1,
    padding: Any = 0,
    dilation: int | tuple[int, ...] = 1,
    *,
    padding_mode: str = "zeros",
    layout: str = "channels_first",
    activation: str | None = None,
    algorithm: str = "auto",
    precision: str = "default",
    device: str = "auto",
    residual: ArrayLike | None = None,
) -> tuple[np.ndarray | None, ...]:
    """Return the gradients of `fastconv.spatially_separable_conv2d` for its arrays."""
    name = "spatially_separable_conv2d_vjp"
    words = (padding_mode, layout, activation, "auto", precision, device)
    options = Options(stride, padding, dilation, 0, *words)
    check_keyword(name, "algorithm", algorithm, ("auto", "direct", "im2col", "depthwise", "separable"))
    if wants_device(device, grad_output, input):
        return on_device.factors_vjp(name, grad_output, input, (column, row), bias, options, residual)
    x = as_input(name, "input", input)
    options = options._replace(groups=max(_channels(name, x, layout), 1))
    return factors_vjp(name, grad_output, x, (column, row), bias, options, residual)


def _channels(function: str, x: np.ndarray, layout: str) -> int:
    """Return the input's channels; of an array of another rank 1, and what follows says what is wrong."""
    check_keyword(function, "layout", layout, LAYOUTS)
    return x.shape[-3 if layout == "channels_first" else -1] if x.ndim in (3, 4) else 1


def _document(function: Any, arguments: str, arrays: str, cost: str, setup: str, result: str) -> None:
    name = function.__name__
    example = (
        f"dx, *rest = fc.grad.{name}(np.ones((1, 2, 2)), np.ones((1, 2, 2)), {setup})\n>>> dx.ravel(), rest[0].ravel()"
    )
    words = {"arguments": arguments, "arrays": arrays, "cost": cost, "example": example, "result": result}
    named(function, name, VJP, op=name.removesuffix("_vjp"), **words)


_COMMON = """padding_mode, layout, activation, algorithm,
precision, device, residual"""
_BETWEEN = "depthwise_bias,\ndepthwise_activation"
_FOUR = "(array([2., 2., 2., 2.]), array([4.]))"
_document(
    depthwise_conv2d_vjp,
    f"input, weight, bias, stride, padding, dilation, {_COMMON}",
    "input, weight and bias",
    COST,
    "[[[[2.0]]]]",
    _FOUR,
)
_document(
    pointwise_conv2d_vjp,
    "input, weight, bias, layout, activation, algorithm, precision, device, residual",
    "input, weight and bias",
    COST,
    "[[2.0]]",
    _FOUR,
)
_document(
    separable_conv2d_vjp,
    f"input, depthwise_weight, pointwise_weight, bias, stride, padding, dilation, {_BETWEEN}, {_COMMON}",
    "input, depthwise_weight, pointwise_weight, bias and depthwise_bias",
    "The depthwise result is computed again; then each half takes twice as many FLOP as forward.",
    "[[[[2.0]]]], [[1.0]]",
    _FOUR,
)
_document(
    spatially_separable_conv2d_vjp,
    f"input, column, row, bias, stride, padding, dilation, {_COMMON}",
    "input, column, row and bias",
    "Computed as those of a depthwise convolution with the outer product of column and row.",
    "[2.0], [1.0]",
    _FOUR,
)
