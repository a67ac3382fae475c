"""The gradients of a convolution, each by itself, without what the public functions check at every call.

They are those of `fastconv.grad`, of the same bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastconv.api.convolve import Options
from fastconv.grad.problem import ConvGradients, gradients_of
from fastconv.nn.layers.parameters import Parameter

LAST = "channels_last"


def convolution_gradients(
    dy: np.ndarray, x: np.ndarray, parameters: list[Parameter], options: tuple[Any, ...], changed: bool, wanted: bool
) -> np.ndarray | None:
    """Set the gradients of kernel and bias where they are `changed`; return that of `x` where it is `wanted`.

    Parameters
    ----------
    dy, x : ndarray of shape (N, H, W, C)
        C-contiguous, of the layer's dtype.
    parameters : list of Parameter
        The kernel, (OC, IC/groups, KH, KW), and perhaps a bias.
    options : tuple
        Stride, padding, dilation and groups.
    changed, wanted : bool
    """
    kernel, *bias = parameters
    weight = kernel.value if kernel.value.ndim == 4 else kernel.value[:, :, None, None]
    problem = _problem(x, weight, options)
    if changed:
        dbias = np.empty(len(weight), dy.dtype) if bias else None
        kernel.gradient = problem.weight(x, dy, dbias).reshape(kernel.value.shape)
        for parameter in bias:
            parameter.gradient = dbias
    return problem.input(dy, weight) if wanted else None


def _problem(x: np.ndarray, weight: np.ndarray, options: tuple[Any, ...]) -> ConvGradients:
    stride, padding, dilation, groups = options
    every = Options(stride, padding, dilation, groups, "zeros", LAST)
    return gradients_of("conv2d_vjp", x.shape, weight.shape, x.dtype, every)
