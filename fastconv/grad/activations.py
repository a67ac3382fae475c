"""Public pullbacks of the activations, and the one that convolutions use.

Each is ``grad_output * f'(input)`` in one pass; derivatives at the kinks, and what is not finite, are PyTorch's.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastconv.api.on_device import begin, wants_device
from fastconv.dispatch import cuda, load
from fastconv.epilogue import ALIASES, canonical, clamp_limits
from fastconv.errors import DtypeError, ShapeError
from fastconv.geometry.arrays import address, as_input, element_dtype, kind_of
from fastconv.grad.arrays import Function, converted, matched, named
from fastconv.system import empty
from fastconv.threads import run

# About what an element takes on one core; it only decides whether other threads help.
_SECONDS = 1.5e-9

_DOC = """Return the gradient of `fastconv.activations.{name}` for its input: {formula} times `grad_output`.

Parameters
----------
grad_output : array_like of the shape of `x`, taken in its dtype
x : array_like of any shape
    {dtypes}.

Returns
-------
tuple of one ndarray of the shape and dtype of `x`, or of None for integers

Raises
------
ShapeError, DtypeError
    `grad_output` does not fit; a dtype that `fastconv.activations.{name}` does not take.

Notes
-----
One pass over both arrays. Half precision is computed in float32 and rounded once.

Examples
--------
>>> import fastconv as fc
>>> fc.grad.{name}_vjp([1.0, 1.0, 1.0], [-1.0, 0.0, 2.0])
(array({example}),)
"""


def pullback(name: str | None, grad_output: np.ndarray, pre: np.ndarray) -> np.ndarray:
    """Return ``grad_output * f'(pre)`` of the activation that a convolution's `activation` names.

    Parameters
    ----------
    name : str or None
        As in `fastconv.conv2d`; None is no activation.
    grad_output, pre : ndarray of one shape and dtype
        Floating point; `pre` is what the activation was applied to.

    Returns
    -------
    ndarray of their shape and dtype, C-contiguous and new
    """
    name = canonical(name, "pullback")
    grad, pre = np.asarray(grad_output, order="C"), np.asarray(pre, order="C")
    if name is None or not grad.size:
        return grad.copy()
    element = element_dtype(pre.dtype)
    out = empty(grad.shape, element)
    arrays = [converted(array, element) for array in (grad, pre)]
    program = load.load("activation_grad:build")(name, element.name, pre.size)
    io = np.array([*map(address, arrays), address(out)], np.int64)
    run(program.kernel, program.g, io, program.tasks, 0, pre.size * _SECONDS)
    return converted(out, pre.dtype)


def _activation(name: str, formula: str, example: str) -> Function:
    """Return the public pullback of an activation."""
    function = f"{name}_vjp"

    def vjp(grad_output: ArrayLike, x: ArrayLike) -> tuple[np.ndarray | None]:
        if wants_device("auto", x, grad_output):
            return (_pullback_on_device(function, name, grad_output, x),)
        array = _as_input(function, "x", x)
        kind = kind_of(array.dtype)
        _check_dtype(function, name, array.dtype)
        grad = matched(function, _as_input(function, "grad_output", grad_output), array.shape, array.dtype)
        return (None if kind == "i" else pullback(name, grad, array),)

    dtypes = "float32, float64, float16 or ml_dtypes.bfloat16" + (", or integers" if clamp_limits(name) else "")
    return named(vjp, function, _DOC, name=name, formula=formula, example=example, dtypes=dtypes)


def _check_dtype(function: str, name: str, dtype: np.dtype) -> None:
    """Raise unless an activation takes this dtype."""
    kind = kind_of(dtype)
    if kind == "c" or (kind == "i" and clamp_limits(name) is None):
        raise DtypeError(f"{function}: x has dtype {dtype}, expected floating point")


def _pullback_on_device(function: str, name: str, grad_output: Any, x: Any) -> Any:
    """Return the gradient of an array on the device, or None if it is of integers."""
    call = begin(function, grad_output=grad_output, x=x)
    dtype = call.buffers["x"].dtype
    _check_dtype(function, name, dtype)
    call.unify("fde")
    grad, array = call.contiguous("grad_output"), call.contiguous("x")
    if grad.shape != array.shape:
        raise ShapeError(f"{function}: grad_output has shape {grad.shape}, expected {array.shape}, that of the result")
    if kind_of(dtype) == "i":
        return None
    out = call.empty(array.shape, array.dtype)
    cuda.kernels("activation_grad:run")(call.stream, ALIASES.get(name, name), grad, array, out)
    return call.finish(out, dtype=dtype)


def _as_input(function: str, name: str, value: Any) -> np.ndarray:
    """Return `value` as kernels take it; numbers and arrays without axes, too."""
    array: Any = np.asarray(value) if isinstance(value, (bool, int, float, complex, np.generic)) else value
    if getattr(array, "ndim", None) == 0:
        return as_input(function, name, array[None]).reshape(())
    return as_input(function, name, array)


relu_vjp = _activation("relu", "1 where ``x > 0``, else 0,", "[0., 0., 1.]")
relu6_vjp = _activation("relu6", "1 where ``0 < x < 6``, else 0,", "[0., 0., 1.]")
leaky_relu_vjp = _activation("leaky_relu", "1 where ``x > 0``, else 0.01,", "[0.01, 0.01, 1.  ]")
sigmoid_vjp = _activation("sigmoid", "``s * (1 - s)``, s the sigmoid,", "[0.19661193, 0.25      , 0.10499359]")
tanh_vjp = _activation("tanh", "``1 - tanh(x)**2``", "[0.41997434, 1.        , 0.07065082]")
silu_vjp = _activation("silu", "``s * (1 + x * (1 - s))``, s the sigmoid,", "[0.07232949, 0.5       , 1.09078425]")
swish_vjp = _activation("swish", "``s * (1 + x * (1 - s))``, s the sigmoid,", "[0.07232949, 0.5       , 1.09078425]")
gelu_vjp = _activation(
    "gelu", "``Phi(x) + x * phi(x)`` of the normal distribution", "[-0.08331547,  0.5       ,  1.0852318 ]"
)
gelu_tanh_vjp = _activation("gelu_tanh", "the derivative of its formula", "[-0.08296408,  0.5       ,  1.08609926]")
hardswish_vjp = _activation(
    "hardswish", "0 up to -3, 1 from 3 on, ``x/3 + 1/2`` between,", "[0.16666667, 0.5       , 1.16666667]"
)
