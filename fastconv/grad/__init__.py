"""Gradients: the pullback of every differentiable operation, ``fc.grad.<op>_vjp(grad_output, *the op's arguments)``."""

from fastconv.grad.activations import (
    gelu_tanh_vjp,
    gelu_vjp,
    hardswish_vjp,
    leaky_relu_vjp,
    relu6_vjp,
    relu_vjp,
    sigmoid_vjp,
    silu_vjp,
    swish_vjp,
    tanh_vjp,
)
from fastconv.grad.pools import (
    avg_pool1d_vjp,
    avg_pool2d_vjp,
    avg_pool3d_vjp,
    lp_pool1d_vjp,
    lp_pool2d_vjp,
    lp_pool3d_vjp,
    max_pool1d_vjp,
    max_pool2d_vjp,
    max_pool3d_vjp,
)

__all__ = [
    "avg_pool1d_vjp",
    "avg_pool2d_vjp",
    "avg_pool3d_vjp",
    "gelu_tanh_vjp",
    "gelu_vjp",
    "hardswish_vjp",
    "leaky_relu_vjp",
    "lp_pool1d_vjp",
    "lp_pool2d_vjp",
    "lp_pool3d_vjp",
    "max_pool1d_vjp",
    "max_pool2d_vjp",
    "max_pool3d_vjp",
    "relu6_vjp",
    "relu_vjp",
    "sigmoid_vjp",
    "silu_vjp",
    "swish_vjp",
    "tanh_vjp",
]
