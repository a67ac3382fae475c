"""The docstrings of the gradients of convolutions, which are alike in all dimensions."""

INPUT = """Return the gradient of `fastconv.{op}` for its input, as `torch.nn.grad.{op}_input`.

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

WEIGHT = """Return the gradient of `fastconv.{op}` for its weight, as `torch.nn.grad.{op}_weight`.

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

VJP = """Return the gradients of `fastconv.{op}` for its arrays.

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

ARGUMENTS = """input, weight, bias, stride, padding, dilation, groups, padding_mode, layout, activation, algorithm,
precision, device, residual"""
COST = "Each of input and weight takes as many FLOP as the convolution; the bias is summed beside the weight."
