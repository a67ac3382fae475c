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
from fastconv.grad.problem import gradients_of
from fastconv.grad.products import bilinear, check_gradient, check_pointwise, given

_INPUT = """Return the gradient of `fastconv.{op}` for its input, as `torch.nn.grad.{op}_input`.

``dinput[n, ic, i] += weight[oc, ic, k] * grad_output[n, oc, o]`` for ``i = o*stride + k*dilation - padding``.

Parameters
----------
input_size : tuple of int
    Shape of the input: (N, IC, {axes}), in the layout.
weight : array_like of shape (OC, IC/groups, {kernel})
grad_output : array_like of the shape of the result of `fastconv.{op}`
stride, padding, dilation, groups, padding_mode, layout, precision, device
    As in `fastconv.{op}`.

Returns
-------
ndarray of shape `input_size`

Raises
------
ShapeError, OptionError, ArgumentTypeError, DtypeError, UnsupportedError
    As `fastconv.{op}`; `grad_output` does not fit.

Notes
-----
The transposed convolution of `grad_output`, of as many FLOP as the convolution. A complex weight is conjugated.

Examples
--------
>>> import numpy as np
>>> import fastconv as fc
>>> fc.grad.{op}_input({shape}, np.ones({w}), np.ones({dy})).ravel()
array([1., 2., 2., 1.])
"""

_WEIGHT = """Return the gradient of `fastconv.{op}` for its weight, as `torch.nn.grad.{op}_weight`.

``dweight[oc, ic, k]`` is the sum of ``input[n, ic, o*stride + k*dilation - padding] * grad_output[n, oc, o]`` over n
and o.

Parameters
----------
input : array_like of shape (N, IC, {axes})
weight_size : tuple of int
    Shape of the weight: (OC, IC/groups, {kernel}).
grad_output : array_like of the shape of the result of `fastconv.{op}`
stride, padding, dilation, groups, padding_mode, layout, precision, device
    As in `fastconv.{op}`.

Returns
-------
ndarray of shape `weight_size`

Raises
------
ShapeError, OptionError, ArgumentTypeError, DtypeError, UnsupportedError
    As `fastconv.{op}`; `grad_output` does not fit.

Notes
-----
As many FLOP as the convolution. Sums run over bands of some hundred pixels, whose sums are added; the same bits for
every number of threads. Where the CPU has a matrix unit for it, float32 products may be sums of three bfloat16 ones,
with errors below 1e-5 of the largest element (a test holds it); ``precision="strict"`` forbids that. The input's
conjugate if it is complex. `fastconv.set_max_workspace` counts the scratch of its bands.

Examples
--------
>>> import numpy as np
>>> import fastconv as fc
>>> fc.grad.{op}_weight(np.ones({x}), {wsize}, np.ones({dy})).ravel()
array([3., 3.])
"""

_VJP = """Return the gradients of `fastconv.{op}` for its arrays.

Parameters
----------
grad_output : array_like of the shape of the result of `fastconv.{op}`
{arguments}
    Those of `fastconv.{op}`; an `activation` is differentiated too, at what it was applied to, which is computed again.

Returns
-------
tuple of ndarray or None
    For {arrays}, each of its array's shape and dtype; None for what is not there or of integers. With a `residual` its
    own comes last.

Raises
------
ShapeError, OptionError, ArgumentTypeError, DtypeError, UnsupportedError
    As `fastconv.{op}`; `grad_output` does not fit; all arrays are of integers.

Notes
-----
{cost} Complex gradients are PyTorch's, of conjugates.

Examples
--------
>>> import numpy as np
>>> import fastconv as fc
>>> {example}
{result}
"""

_ARGUMENTS = """input, weight, bias, stride, padding, dilation, groups, padding_mode, layout, activation, algorithm,
precision, device, residual"""
_COST = "Each of input and weight takes as many FLOP as the convolution; the bias is summed beside the weight."


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
    return named(conv_input, name, _INPUT, op=op, dy=(1, 1, *(1,) * (axes - 1), 3), **example, **_letters(axes))


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
    return named(conv_weight, name, _WEIGHT, op=op, **example, **_letters(axes))


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
    words = {"arguments": _ARGUMENTS, "arrays": "input, weight and bias", "cost": _COST}
    return named(vjp, name, _VJP, op=op, example=example, result=result, **words)


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
    named(function, name, _VJP, op=name.removesuffix("_vjp"), **words)


_COMMON = """padding_mode, layout, activation, algorithm,
precision, device, residual"""
_BETWEEN = "depthwise_bias,\ndepthwise_activation"
_FOUR = "(array([2., 2., 2., 2.]), array([4.]))"
_document(
    depthwise_conv2d_vjp,
    f"input, weight, bias, stride, padding, dilation, {_COMMON}",
    "input, weight and bias",
    _COST,
    "[[[[2.0]]]]",
    _FOUR,
)
_document(
    pointwise_conv2d_vjp,
    "input, weight, bias, layout, activation, algorithm, precision, device, residual",
    "input, weight and bias",
    _COST,
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
