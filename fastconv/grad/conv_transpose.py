"""Public pullbacks of transposed convolutions."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastconv.api.conv_transpose import TransposeOptions
from fastconv.api.on_device import wants_device
from fastconv.grad import conv_on_device
from fastconv.grad.arrays import Function, named
from fastconv.grad.conv_job import conv_transpose_vjp

_DOC = """Return the gradients of `fastconv.{op}` for its arrays.

Parameters
----------
grad_output : array_like of the shape of the result of `fastconv.{op}`
input, weight, bias, stride, padding, output_padding, groups, dilation, layout, activation, algorithm, precision, device
    Those of `fastconv.{op}`; an `activation` is differentiated too, at what it was applied to, which is computed again.

Returns
-------
tuple of ndarray or None
    For input, weight and bias, each of its array's shape and dtype; None for what is not there or of integers.

Raises
------
ShapeError, OptionError, ArgumentTypeError, DtypeError, UnsupportedError
    As `fastconv.{op}`; `grad_output` does not fit; all arrays are of integers.

Notes
-----
The input's is a convolution of `grad_output`, the weight's a correlation of both. Complex gradients are PyTorch's, of
conjugates.

Examples
--------
>>> import numpy as np
>>> import fastconv as fc
>>> dx, dw, db = fc.grad.{op}_vjp(np.ones({dy}), np.ones({x}), np.ones({w}), [0.0])
>>> dx.ravel(), dw.ravel(), db
(array([2., 2., 2.]), array([3., 3.]), array([4.]))
"""


def _vjp(axes: int) -> Function:
    op = f"conv_transpose{axes}d"
    name = f"{op}_vjp"

    def vjp(
        grad_output: ArrayLike,
        input: ArrayLike,
        weight: ArrayLike,
        bias: ArrayLike | None = None,
        stride: int | tuple[int, ...] = 1,
        padding: Any = 0,
        output_padding: int | tuple[int, ...] = 0,
        groups: int = 1,
        dilation: int | tuple[int, ...] = 1,
        *,
        layout: str = "channels_first",
        activation: str | None = None,
        algorithm: str = "auto",
        precision: str = "default",
        device: str = "auto",
    ) -> tuple[np.ndarray | None, ...]:
        words = (layout, activation, algorithm, precision, device, axes)
        options = TransposeOptions(stride, padding, output_padding, groups, dilation, *words)
        if wants_device(device, grad_output, input):
            return conv_on_device.conv_transpose_vjp(name, grad_output, input, weight, bias, options)
        return conv_transpose_vjp(name, grad_output, input, weight, bias, options)

    one = (1,) * (axes - 1)
    return named(vjp, name, _DOC, op=op, dy=(1, 1, *one, 4), x=(1, 1, *one, 3), w=(1, 1, *one, 2))


conv_transpose1d_vjp, conv_transpose2d_vjp, conv_transpose3d_vjp = map(_vjp, (1, 2, 3))
