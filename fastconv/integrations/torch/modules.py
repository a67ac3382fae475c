"""The modules of torch.nn whose forward fastconv computes: subclasses with the same parameters and state dicts."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from fastconv.integrations.torch import functional as ours
from fastconv.integrations.torch.operation import is_ours

_DOC = """`torch.nn.{name}`, computed by fastconv: the same arguments, parameters and state dict.

Parameters
----------
*args, **kwargs
    Those of `torch.nn.{name}`.

Notes
-----
Tensors that fastconv does not compute, as listed in `fastconv.integrations.torch`, take PyTorch's forward.

Examples
--------
>>> import torch
>>> from fastconv.integrations.torch import {name}
>>> isinstance({name}({example}), torch.nn.{name})
True
"""


def _conv(axes: int) -> type:
    name = f"Conv{axes}d"
    base: Any = getattr(nn, name)

    class Conv(base):  # type: ignore[misc]
        def forward(self, input: torch.Tensor) -> Any:
            if not is_ours(input, self.weight, self.bias):
                return super().forward(input)
            options = (self.stride, self.padding, self.dilation, self.groups, self.padding_mode)
            return ours.convolved(f"conv{axes}d", axes, (input, self.weight, self.bias), *options)

    return _named(Conv, name, "1, 2, 3")


def _conv_transpose(axes: int) -> type:
    name, function = f"ConvTranspose{axes}d", getattr(ours, f"conv_transpose{axes}d")
    base: Any = getattr(nn, name)

    class ConvTranspose(base):  # type: ignore[misc]
        def forward(self, input: torch.Tensor, output_size: list[int] | None = None) -> Any:
            if not is_ours(input, self.weight, self.bias):
                return super().forward(input, output_size)
            sizes = (self.stride, self.padding, self.kernel_size, axes, self.dilation)
            extra = self._output_padding(input, output_size, *sizes)
            options = (self.stride, self.padding, extra, self.groups, self.dilation)
            return function(input, self.weight, self.bias, *options)

    return _named(ConvTranspose, name, "1, 2, 3")


def _simple(name: str, function: Any, attributes: str, example: str, more: tuple[str, ...] = ()) -> type:
    """Return a module without parameters: a function of the input, `more` arguments and the module's attributes."""
    base: Any = getattr(nn, name)
    names = attributes.split()

    class Module(base):  # type: ignore[misc]
        def forward(self, input: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            given = dict(zip(more, args, strict=False)) | kwargs
            if len(args) > len(more) or not set(given) <= set(more):
                return super().forward(input, *args, **kwargs)
            return function(input, **given, **{attribute: getattr(self, attribute) for attribute in names})

    return _named(Module, name, example)


def _named(module: type, name: str, example: str) -> type:
    module.__name__ = module.__qualname__ = name
    module.__doc__ = _DOC.format(name=name, example=example)
    return module


def _pool(kind: str, axes: int, attributes: str, example: str = "2") -> type:
    function = {"Max": "max_pool", "Avg": "avg_pool", "LP": "lp_pool"}.get(kind)
    function = function or {"AdaptiveAvg": "adaptive_avg_pool", "AdaptiveMax": "adaptive_max_pool"}[kind]
    return _simple(f"{kind}Pool{axes}d", getattr(ours, f"{function}{axes}d"), attributes, example)


def _unpool(axes: int) -> type:
    attributes, more = "kernel_size stride padding", ("indices", "output_size")
    return _simple(f"MaxUnpool{axes}d", getattr(ours, f"max_unpool{axes}d"), attributes, "2", more)


_MAX = "kernel_size stride padding dilation ceil_mode return_indices"
_AVG = "kernel_size stride padding ceil_mode count_include_pad"
_LP = "norm_type kernel_size stride ceil_mode"
_UPSAMPLE = "size scale_factor mode align_corners recompute_scale_factor"

Conv1d, Conv2d, Conv3d = map(_conv, (1, 2, 3))
ConvTranspose1d, ConvTranspose2d, ConvTranspose3d = map(_conv_transpose, (1, 2, 3))
MaxPool1d, MaxPool2d, MaxPool3d = (_pool("Max", axes, _MAX) for axes in (1, 2, 3))
AvgPool1d = _pool("Avg", 1, _AVG)
AvgPool2d, AvgPool3d = (_pool("Avg", axes, f"{_AVG} divisor_override") for axes in (2, 3))
LPPool1d, LPPool2d, LPPool3d = (_pool("LP", axes, _LP, "2, 3") for axes in (1, 2, 3))
AdaptiveAvgPool1d, AdaptiveAvgPool2d, AdaptiveAvgPool3d = (_pool("AdaptiveAvg", n, "output_size") for n in (1, 2, 3))
AdaptiveMaxPool1d, AdaptiveMaxPool2d, AdaptiveMaxPool3d = (
    _pool("AdaptiveMax", n, "output_size return_indices") for n in (1, 2, 3)
)
MaxUnpool1d, MaxUnpool2d, MaxUnpool3d = map(_unpool, (1, 2, 3))
Upsample = _simple("Upsample", ours.interpolate, _UPSAMPLE, "scale_factor=2")
UpsamplingNearest2d = _simple("UpsamplingNearest2d", ours.interpolate, _UPSAMPLE, "scale_factor=2")
UpsamplingBilinear2d = _simple("UpsamplingBilinear2d", ours.interpolate, _UPSAMPLE, "scale_factor=2")
Unfold = _simple("Unfold", ours.unfold, "kernel_size dilation padding stride", "2")
Fold = _simple("Fold", ours.fold, "output_size kernel_size dilation padding stride", "4, 2")

ALL = (
    *(Conv1d, Conv2d, Conv3d, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d),
    *(MaxPool1d, MaxPool2d, MaxPool3d, AvgPool1d, AvgPool2d, AvgPool3d, LPPool1d, LPPool2d, LPPool3d),
    *(AdaptiveAvgPool1d, AdaptiveAvgPool2d, AdaptiveAvgPool3d),
    *(AdaptiveMaxPool1d, AdaptiveMaxPool2d, AdaptiveMaxPool3d),
    *(MaxUnpool1d, MaxUnpool2d, MaxUnpool3d),
    *(Upsample, UpsamplingNearest2d, UpsamplingBilinear2d, Unfold, Fold),
)
