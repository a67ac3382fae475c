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
from fastconv.grad.adaptive import (
    adaptive_avg_pool1d_vjp,
    adaptive_avg_pool2d_vjp,
    adaptive_avg_pool3d_vjp,
    adaptive_max_pool1d_vjp,
    adaptive_max_pool2d_vjp,
    adaptive_max_pool3d_vjp,
    global_avg_pool_vjp,
    global_max_pool_vjp,
)
from fastconv.grad.folding import (
    fold_vjp,
    unfold_vjp,
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
from fastconv.grad.resizing import (
    interpolate_vjp,
)
from fastconv.grad.unpools import (
    bed_of_nails_unpool1d_vjp,
    bed_of_nails_unpool2d_vjp,
    bed_of_nails_unpool3d_vjp,
    max_unpool1d_vjp,
    max_unpool2d_vjp,
    max_unpool3d_vjp,
    nearest_unpool1d_vjp,
    nearest_unpool2d_vjp,
    nearest_unpool3d_vjp,
)

__all__ = [
    "adaptive_avg_pool1d_vjp",
    "adaptive_avg_pool2d_vjp",
    "adaptive_avg_pool3d_vjp",
    "adaptive_max_pool1d_vjp",
    "adaptive_max_pool2d_vjp",
    "adaptive_max_pool3d_vjp",
    "avg_pool1d_vjp",
    "avg_pool2d_vjp",
    "avg_pool3d_vjp",
    "bed_of_nails_unpool1d_vjp",
    "bed_of_nails_unpool2d_vjp",
    "bed_of_nails_unpool3d_vjp",
    "fold_vjp",
    "gelu_tanh_vjp",
    "gelu_vjp",
    "global_avg_pool_vjp",
    "global_max_pool_vjp",
    "hardswish_vjp",
    "interpolate_vjp",
    "leaky_relu_vjp",
    "lp_pool1d_vjp",
    "lp_pool2d_vjp",
    "lp_pool3d_vjp",
    "max_pool1d_vjp",
    "max_pool2d_vjp",
    "max_pool3d_vjp",
    "max_unpool1d_vjp",
    "max_unpool2d_vjp",
    "max_unpool3d_vjp",
    "nearest_unpool1d_vjp",
    "nearest_unpool2d_vjp",
    "nearest_unpool3d_vjp",
    "relu6_vjp",
    "relu_vjp",
    "sigmoid_vjp",
    "silu_vjp",
    "swish_vjp",
    "tanh_vjp",
    "unfold_vjp",
]

from fastconv.grad._standin import *  # noqa
