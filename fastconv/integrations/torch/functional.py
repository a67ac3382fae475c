"""The functions of torch.nn.functional that fastconv computes, with PyTorch's names, arguments and defaults."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F

from fastconv.integrations.torch.operation import Call, apply, is_ours, layout_of

_Size: TypeAlias = int | Sequence[int]
_Function: TypeAlias = Callable[..., Any]

_DOC = """Return what `torch.nn.functional.{name}` returns, computed and differentiated by `fastconv.{name}`.

Parameters
----------
{arguments}
    Those of `torch.nn.functional.{name}`; {tensors} of float32 or float64 on the CPU.

Returns
-------
{returns}
    In the memory format of `input`, in memory of its own.

Raises
------
fastconv.FastconvError
    Arguments that do not fit, as `fastconv.{name}`.

Notes
-----
No tensor is copied that is contiguous, in the memory format of the input. Tensors of other kinds go to PyTorch; a
second derivative is an error.

Examples
--------
>>> import torch
>>> from fastconv.integrations.torch import {name}
>>> {example}
{result}
"""


def _named(function: Any, name: str, arguments: str, example: str, result: str, tensors: str = "tensors") -> _Function:
    function.__name__ = function.__qualname__ = name
    returns = "Tensor, or (Tensor, Tensor) with `return_indices`" if "return_indices" in arguments else "Tensor"
    words = {"arguments": arguments, "example": example, "result": result, "tensors": tensors, "returns": returns}
    function.__doc__ = _DOC.format(name=name, **words)
    found: _Function = function
    return found


def _conv(axes: int) -> _Function:
    name = f"conv{axes}d"
    theirs = getattr(F, name)

    def conv(
        input: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None = None,
        stride: _Size = 1,
        padding: Any = 0,
        dilation: _Size = 1,
        groups: int = 1,
    ) -> Any:
        if not is_ours(input, weight, bias):
            return theirs(input, weight, bias, stride, padding, dilation, groups)
        return convolved(name, axes, (input, weight, bias), stride, padding, dilation, groups)

    arguments = "input, weight, bias, stride, padding, dilation, groups"
    one = (1,) * (axes - 1)
    example = f"{name}(torch.ones{(1, 1, *one, 4)}, torch.ones{(1, 1, *one, 2)}).ravel()"
    return _named(conv, name, arguments, example, "tensor([2., 2., 2.])")


def convolved(
    name: str,
    axes: int,
    tensors: tuple[torch.Tensor | None, ...],
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
    padding_mode: str = "zeros",
) -> Any:
    """Return a convolution of tensors that are ours."""
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    call = Call(name, layout_of(tensors[0], axes), {**options, "padding_mode": padding_mode})
    return apply(call, *tensors)


def _conv_transpose(axes: int) -> _Function:
    name = f"conv_transpose{axes}d"
    theirs = getattr(F, name)

    def conv_transpose(
        input: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None = None,
        stride: _Size = 1,
        padding: _Size = 0,
        output_padding: _Size = 0,
        groups: int = 1,
        dilation: _Size = 1,
    ) -> Any:
        if not is_ours(input, weight, bias):
            return theirs(input, weight, bias, stride, padding, output_padding, groups, dilation)
        options = {"stride": stride, "padding": padding, "output_padding": output_padding}
        call = Call(name, layout_of(input, axes), {**options, "groups": groups, "dilation": dilation})
        return apply(call, input, weight, bias)

    arguments = "input, weight, bias, stride, padding, output_padding, groups, dilation"
    one = (1,) * (axes - 1)
    example = f"{name}(torch.ones{(1, 1, *one, 2)}, torch.ones{(1, 1, *one, 2)}).ravel()"
    return _named(conv_transpose, name, arguments, example, "tensor([1., 2., 1.])")


def _max_pool(axes: int) -> _Function:
    name = f"max_pool{axes}d"
    theirs = getattr(F, name)

    def max_pool(
        input: torch.Tensor,
        kernel_size: _Size,
        stride: _Size | None = None,
        padding: _Size = 0,
        dilation: _Size = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> Any:
        if not is_ours(input):
            keywords = {"ceil_mode": ceil_mode, "return_indices": return_indices}
            return theirs(input, kernel_size, stride, padding, dilation, **keywords)
        options = {"kernel_size": kernel_size, "stride": stride, "padding": padding, "dilation": dilation}
        options |= {"ceil_mode": ceil_mode, "return_indices": return_indices}
        return apply(Call(name, layout_of(input, axes), options), input)

    arguments = "input, kernel_size, stride, padding, dilation, ceil_mode, return_indices"
    example = f"{name}(torch.arange(4.0).reshape{(1, *(1,) * (axes - 1), 4)}, {(1,) * (axes - 1) + (2,)}).ravel()"
    return _named(max_pool, name, arguments, example, "tensor([1., 3.])", "a tensor")


def _avg_pool(axes: int) -> _Function:
    name = f"avg_pool{axes}d"
    theirs = getattr(F, name)

    def avg_pool(
        input: torch.Tensor,
        kernel_size: _Size,
        stride: _Size | None = None,
        padding: _Size = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> Any:
        if not is_ours(input):
            more = () if axes == 1 else (divisor_override,)
            # PyTorch's parser takes no None for the stride of one axis.
            step = kernel_size if stride is None else stride
            return theirs(input, kernel_size, step, padding, ceil_mode, count_include_pad, *more)
        options = {"kernel_size": kernel_size, "stride": stride, "padding": padding, "ceil_mode": ceil_mode}
        options |= {"count_include_pad": count_include_pad, "divisor_override": divisor_override}
        return apply(Call(name, layout_of(input, axes), options), input)

    arguments = "input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override"
    example = f"{name}(torch.arange(4.0).reshape{(1, *(1,) * (axes - 1), 4)}, {(1,) * (axes - 1) + (2,)}).ravel()"
    return _named(avg_pool, name, arguments, example, "tensor([0.5000, 2.5000])", "a tensor")


def _lp_pool(axes: int) -> _Function:
    name = f"lp_pool{axes}d"
    theirs = getattr(F, name)

    def lp_pool(
        input: torch.Tensor,
        norm_type: float,
        kernel_size: _Size,
        stride: _Size | None = None,
        ceil_mode: bool = False,
    ) -> Any:
        if not is_ours(input):
            return theirs(input, norm_type, kernel_size, stride, ceil_mode)
        options = {"norm_type": norm_type, "kernel_size": kernel_size, "stride": stride, "ceil_mode": ceil_mode}
        return apply(Call(name, layout_of(input, axes), options), input)

    arguments = "input, norm_type, kernel_size, stride, ceil_mode"
    size = (1,) * (axes - 1) + (2,)
    example = f"{name}(torch.tensor([3.0, 4.0]).reshape{(1, *(1,) * (axes - 1), 2)}, 2, {size}).ravel()"
    return _named(lp_pool, name, arguments, example, "tensor([5.])", "a tensor")


def _adaptive_avg(axes: int) -> _Function:
    name = f"adaptive_avg_pool{axes}d"
    theirs = getattr(F, name)

    def adaptive_avg_pool(input: torch.Tensor, output_size: Any) -> Any:
        if not is_ours(input):
            return theirs(input, output_size)
        return apply(Call(name, layout_of(input, axes), {"output_size": output_size}), input)

    example = f"{name}(torch.arange(4.0).reshape{(1, *(1,) * (axes - 1), 4)}, 1).ravel()"
    return _named(adaptive_avg_pool, name, "input, output_size", example, "tensor([1.5000])", "a tensor")


def _adaptive_max(axes: int) -> _Function:
    name = f"adaptive_max_pool{axes}d"
    theirs = getattr(F, name)

    def adaptive_max_pool(input: torch.Tensor, output_size: Any, return_indices: bool = False) -> Any:
        if not is_ours(input):
            return theirs(input, output_size, return_indices)
        options = {"output_size": output_size, "return_indices": return_indices}
        return apply(Call(name, layout_of(input, axes), options), input)

    example = f"{name}(torch.arange(4.0).reshape{(1, *(1,) * (axes - 1), 4)}, 1).ravel()"
    return _named(adaptive_max_pool, name, "input, output_size, return_indices", example, "tensor([3.])", "a tensor")


def _max_unpool(axes: int) -> _Function:
    name = f"max_unpool{axes}d"
    theirs = getattr(F, name)

    def max_unpool(
        input: torch.Tensor,
        indices: torch.Tensor,
        kernel_size: _Size,
        stride: _Size | None = None,
        padding: _Size = 0,
        output_size: Sequence[int] | None = None,
    ) -> Any:
        if not is_ours(input, indices=indices):
            return theirs(input, indices, kernel_size, stride, padding, output_size)
        options = {"kernel_size": kernel_size, "stride": stride, "padding": padding, "output_size": output_size}
        return apply(Call(name, layout_of(input, axes), options, images=2), input, indices)

    arguments = "input, indices, kernel_size, stride, padding, output_size"
    shape, size = (1, *(1,) * (axes - 1), 1), (1,) * (axes - 1) + (3,)
    example = f"{name}(torch.full({shape}, 5.0), torch.full({shape}, 1), {size}).ravel()"
    return _named(max_unpool, name, arguments, example, "tensor([0., 5., 0.])")


conv1d, conv2d, conv3d = map(_conv, (1, 2, 3))
conv_transpose1d, conv_transpose2d, conv_transpose3d = map(_conv_transpose, (1, 2, 3))
max_pool1d, max_pool2d, max_pool3d = map(_max_pool, (1, 2, 3))
avg_pool1d, avg_pool2d, avg_pool3d = map(_avg_pool, (1, 2, 3))
lp_pool1d, lp_pool2d, lp_pool3d = map(_lp_pool, (1, 2, 3))
adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d = map(_adaptive_avg, (1, 2, 3))
adaptive_max_pool1d, adaptive_max_pool2d, adaptive_max_pool3d = map(_adaptive_max, (1, 2, 3))
max_unpool1d, max_unpool2d, max_unpool3d = map(_max_unpool, (1, 2, 3))


def interpolate(
    input: torch.Tensor,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Any:
    """Return what `torch.nn.functional.interpolate` returns."""
    if not is_ours(input):
        return F.interpolate(input, size, scale_factor, mode, align_corners, recompute_scale_factor, antialias)
    options = {"size": size, "scale_factor": scale_factor, "mode": mode, "align_corners": align_corners}
    options |= {"recompute_scale_factor": recompute_scale_factor, "antialias": antialias}
    return apply(Call("interpolate", layout_of(input, input.dim() - 2), options), input)


def unfold(input: torch.Tensor, kernel_size: _Size, dilation: _Size = 1, padding: _Size = 0, stride: _Size = 1) -> Any:
    """Return what `torch.nn.functional.unfold` returns."""
    if not is_ours(input):
        return F.unfold(input, kernel_size, dilation, padding, stride)
    options = {"kernel_size": kernel_size, "dilation": dilation, "padding": padding, "stride": stride}
    return apply(Call("unfold", layout_of(input, 2), options, columns=True), input)


def fold(
    input: torch.Tensor,
    output_size: _Size,
    kernel_size: _Size,
    dilation: _Size = 1,
    padding: _Size = 0,
    stride: _Size = 1,
) -> Any:
    """Return what `torch.nn.functional.fold` returns."""
    if not is_ours(input):
        return F.fold(input, output_size, kernel_size, dilation, padding, stride)
    options = {"output_size": output_size, "kernel_size": kernel_size, "dilation": dilation}
    return apply(Call("fold", "channels_first", {**options, "padding": padding, "stride": stride}), input)


_named(
    interpolate,
    "interpolate",
    "input, size, scale_factor, mode, align_corners, recompute_scale_factor, antialias",
    "interpolate(torch.tensor([[[1.0, 2.0]]]), scale_factor=2)",
    "tensor([[[1., 1., 2., 2.]]])",
    "a tensor",
)
_named(
    unfold,
    "unfold",
    "input, kernel_size, dilation, padding, stride",
    "unfold(torch.tensor([[[[1.0, 2.0, 3.0]]]]), (1, 2))",
    "tensor([[[1., 2.],\n         [2., 3.]]])",
    "a tensor",
)
_named(
    fold,
    "fold",
    "input, output_size, kernel_size, dilation, padding, stride",
    "fold(torch.ones(1, 2, 2), (1, 3), (1, 2))",
    "tensor([[[[1., 2., 1.]]]])",
    "a tensor",
)
