"""A fastconv operation as a node of PyTorch's graph; tensors and arrays share their memory."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch.autograd import forward_ad
from torch.autograd.function import once_differentiable

import fastconv
from fastconv import grad

_DTYPES = (torch.float32, torch.float64)
_TYPES = (torch.Tensor, torch.nn.Parameter)
_LAST = {2: torch.channels_last, 3: torch.channels_last_3d}


def is_ours(*tensors: Any, indices: Any = None) -> bool:
    """Return whether fastconv computes with these tensors: plain ones of floats on the CPU, all of one dtype."""
    given = [tensor for tensor in tensors if tensor is not None]
    if not all(map(_is_plain, given if indices is None else (*given, indices))):
        return False
    dtype = given[0].dtype
    return dtype in _DTYPES and all(tensor.dtype == dtype for tensor in given) and not _is_transformed(given)


def _is_plain(tensor: Any) -> bool:
    if type(tensor) not in _TYPES or tensor.device.type != "cpu":
        return False
    return tensor.layout is torch.strided and not tensor.is_quantized and not tensor.is_neg()


def _is_transformed(tensors: list[Any]) -> bool:
    """Return whether PyTorch records or rewrites what happens, in ways that an array does not take part in."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing() or torch.is_autocast_enabled("cpu"):
        return True
    if torch._C._are_functorch_transforms_active():
        return True
    return any(forward_ad.unpack_dual(tensor).tangent is not None for tensor in tensors)


def layout_of(tensor: torch.Tensor, axes: int) -> str:
    """Return the layout in which a tensor with `axes` spatial axes is an array without a copy."""
    last = _LAST.get(axes) if tensor.dim() == axes + 2 else None
    if last is None or tensor.is_contiguous() or not tensor.is_contiguous(memory_format=last):
        return "channels_first"
    return "channels_last"


class Call(NamedTuple):
    """An operation and its arguments that are not tensors.

    The first `images` tensors have the layout, and so has the result unless it is of `columns`.
    """

    name: str
    layout: str
    options: dict[str, Any]
    images: int = 1
    columns: bool = False

    def arrays(self, tensors: tuple[torch.Tensor | None, ...]) -> list[np.ndarray | None]:
        """Return the tensors as arrays of the same memory."""
        layouts = [self.layout] * self.images + ["channels_first"] * (len(tensors) - self.images)
        return [None if t is None else array_of(t, layout) for t, layout in zip(tensors, layouts, strict=True)]

    def run(self, tensors: tuple[torch.Tensor | None, ...]) -> Any:
        """Return the result, or the results, as tensors."""
        result = getattr(fastconv, self.name)(*self.arrays(tensors), layout=self.layout, **self.options)
        layout = "channels_first" if self.columns else self.layout
        if isinstance(result, tuple):
            return tuple(tensor_of(array, layout) for array in result)
        return tensor_of(result, layout)

    def pull(
        self, dy: torch.Tensor, tensors: tuple[torch.Tensor | None, ...], wanted: tuple[bool, ...]
    ) -> list[torch.Tensor | None]:
        """Return the gradients of the tensors, those that are `wanted`."""
        gradient = array_of(dy, "channels_first" if self.columns else self.layout)
        found = self._gradients(gradient, self.arrays(tensors), wanted)
        layouts = [self.layout] * self.images + ["channels_first"] * (len(tensors) - self.images)
        return [
            tensor_of(array, layout) if want and array is not None else None
            for array, layout, want in zip(found, layouts, wanted, strict=True)
        ]

    def _gradients(self, dy: np.ndarray, arrays: list[Any], wanted: tuple[bool, ...]) -> tuple[np.ndarray | None, ...]:
        if self.name in ("conv1d", "conv2d", "conv3d") and not (wanted[0] and wanted[1]):
            return self._some_gradients(dy, arrays, wanted)
        pullback = getattr(grad, f"{self.name}_vjp")
        found: tuple[np.ndarray | None, ...] = pullback(dy, *arrays, layout=self.layout, **self.options)
        return found

    def _some_gradients(
        self, dy: np.ndarray, arrays: list[Any], wanted: tuple[bool, ...]
    ) -> tuple[np.ndarray | None, ...]:
        """Return the gradients of a convolution whose input or weight is a constant, which need not be computed."""
        x, w, _ = arrays
        dx = dw = db = None
        if wanted[0]:
            dx = getattr(grad, f"{self.name}_input")(x.shape, w, dy, layout=self.layout, **self.options)
        if wanted[1]:
            dw = getattr(grad, f"{self.name}_weight")(x, w.shape, dy, layout=self.layout, **self.options)
        if wanted[2]:
            channel = dy.ndim - 1 if self.layout == "channels_last" else dy.ndim - w.ndim + 1
            db = dy.sum(tuple(axis for axis in range(dy.ndim) if axis != channel))
        return dx, dw, db


def array_of(tensor: torch.Tensor, layout: str) -> np.ndarray:
    """Return a tensor's memory as an array; with channels_last its second axis is the last."""
    plain = tensor.detach()
    array: np.ndarray = (plain.movedim(1, -1) if layout == "channels_last" else plain).numpy()
    return array


def tensor_of(array: np.ndarray, layout: str) -> torch.Tensor:
    """Return an array's memory as a tensor, the inverse of `array_of`."""
    tensor = torch.from_numpy(array)
    return tensor.movedim(-1, 1) if layout == "channels_last" else tensor


class _Operation(torch.autograd.Function):
    """Any operation: a call, then its tensors."""

    @staticmethod
    def forward(ctx: Any, call: Call, *tensors: torch.Tensor | None) -> Any:
        ctx.call = call
        ctx.save_for_backward(*tensors)
        result = call.run(tensors)
        if isinstance(result, tuple):
            ctx.mark_non_differentiable(*result[1:])
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: torch.Tensor, *_: Any) -> tuple[Any, ...]:
        return None, *ctx.call.pull(dy, ctx.saved_tensors, ctx.needs_input_grad[1:])


def apply(call: Call, *tensors: torch.Tensor | None) -> Any:
    """Return the result of a call; a node of the graph is made where a gradient may be asked for."""
    if torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in tensors):
        return _Operation.apply(call, *tensors)
    return call.run(tensors)
