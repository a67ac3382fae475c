"""Stand-in for the gradients, by torch; replaced by the real package."""
# ruff: noqa
# mypy: ignore-errors

import functools
import numpy as np
import fastconv as fc


def _vjp(function, dy, arrays, layout=None, positions=()):
    import torch

    torch.set_num_threads(1)
    tensors = []
    for i, a in enumerate(arrays):
        t = None if a is None else torch.from_numpy(np.array(a))
        if t is not None and i == 0 and layout == "channels_last":
            t = t.movedim(-1, 1).contiguous()
        tensors.append(None if t is None else t.requires_grad_())
    y = function(*tensors)
    g = torch.from_numpy(np.array(dy))
    if layout == "channels_last":
        g = g.movedim(-1, 1)
    wanted = [t for t in tensors if t is not None]
    found = list(torch.autograd.grad(y, wanted, g))
    out = []
    for i, t in enumerate(tensors):
        if t is None:
            out.append(None)
            continue
        r = found.pop(0)
        if i == 0 and layout == "channels_last":
            r = r.movedim(1, -1)
        out.append(np.ascontiguousarray(r.numpy()))
    return tuple(out)


def _padded(x, padding, kernel, stride, dilation, value=0.0):
    import torch
    from fastconv.geometry.padding import resolve
    from fastconv.geometry.arguments import per_axis

    p = resolve("f", padding, tuple(x.shape[2:]), tuple(kernel), per_axis("f", "s", stride, 2), per_axis("f", "d", dilation, 2))
    return torch.nn.functional.pad(x, (*p[1], *p[0]), value=value)


def _conv(x, w, b, stride, padding, dilation, groups):
    import torch

    return torch.nn.functional.conv2d(_padded(x, padding, w.shape[2:], stride, dilation), w, b, stride, 0, dilation, groups)


def conv2d_vjp(dy, x, w, b=None, stride=1, padding=0, dilation=1, groups=1, *, layout="channels_first"):
    return _vjp(lambda x, w, b: _conv(x, w, b, stride, padding, dilation, groups), dy, (x, w, b), layout)


def conv2d_weight(x, weight_size, dy, stride=1, padding=0, dilation=1, groups=1, *, layout="channels_first"):
    w = np.zeros(weight_size, x.dtype)
    return conv2d_vjp(dy, x, w, None, stride, padding, dilation, groups, layout=layout)[1]


def conv2d_input(input_size, w, dy, stride=1, padding=0, dilation=1, groups=1, *, layout="channels_first"):
    return conv2d_vjp(dy, np.zeros(input_size, w.dtype), w, None, stride, padding, dilation, groups, layout=layout)[0]


def depthwise_conv2d_vjp(dy, x, w, b=None, stride=1, padding=0, dilation=1, *, layout="channels_first"):
    groups = x.shape[-1] if layout == "channels_last" else x.shape[1]
    return conv2d_vjp(dy, x, w, b, stride, padding, dilation, groups, layout=layout)


def pointwise_conv2d_vjp(dy, x, w, b=None, *, layout="channels_first"):
    dx, dw, db = conv2d_vjp(dy, x, w.reshape(*w.shape[:2], 1, 1), b, layout=layout)
    return dx, dw.reshape(w.shape), db


def separable_conv2d_vjp(dy, x, dw, pw, b=None, stride=1, padding=0, dilation=1, *, layout="channels_first"):
    def f(x, dw, pw, b):
        return _conv(_conv(x, dw, None, stride, padding, dilation, x.shape[1]), pw.reshape(*pw.shape[:2], 1, 1), b, 1, 0, 1, 1)

    return _vjp(f, dy, (x, dw, pw, b), layout)


def conv_transpose2d_vjp(dy, x, w, b=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1, *, layout="channels_first"):
    import torch

    def f(x, w, b):
        y = torch.nn.functional.conv_transpose2d(x, w, None, stride, 0, 0, groups, dilation)
        (t, o), (l, r) = padding
        y = torch.nn.functional.pad(y, (-l, -r, -t, -o))
        return y if b is None else y + b[:, None, None]

    return _vjp(f, dy, (x, w, b), layout)


__all__ = [n for n in globals() if n.endswith(("_vjp", "_input", "_weight")) and not n.startswith("_")]
