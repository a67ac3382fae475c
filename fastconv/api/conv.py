"""Public 2-D convolutions with one weight array."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from fastconv.api.convolve import Options, convolve
from fastconv.api.factored import channels_of, pointwise_shape
from fastconv.api.forms_on_device import depthwise_on_device, pointwise_on_device
from fastconv.api.on_device import wants_device
from fastconv.geometry.arrays import as_input
from fastconv.geometry.conv import LAYOUTS, check_keyword


def conv2d(
    input: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: int | tuple[int, ...] = 1,
    padding: Any = 0,
    dilation: int | tuple[int, ...] = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
    layout: str = "channels_first",
    activation: str | None = None,
    algorithm: str = "auto",
    precision: str = "default",
    device: str = "auto",
    out: np.ndarray | None = None,
    out_dtype: DTypeLike | None = None,
    residual: ArrayLike | None = None,
) -> np.ndarray:
    """Convolve images with filters, as `torch.nn.functional.conv2d`: cross-correlation, the kernel is not flipped.

    ``out[n, oc, oh, ow] = activation(bias[oc] + residual[n, oc, oh, ow] + sum over ic, kh, kw of``
    ``input[n, ic, oh*SH + kh*DH - PT, ow*SW + kw*DW - PL] * weight[oc, ic, kh, kw])``; `padding_mode` says what
    the input is outside of the image.

    Parameters
    ----------
    input : array_like of shape (N, IC, H, W) or (IC, H, W)
        float32, float64, float16, bfloat16 (ml_dtypes), int8 to int64, uint8 to uint32, complex64 or complex128. With
        ``layout="channels_last"`` (N, H, W, IC) or (H, W, IC).
    weight : array_like of shape (OC, IC/groups, KH, KW)
        In both layouts.
    bias : array_like of shape (OC,), optional
    stride, dilation : int or (int, int)
    padding : int, (int, int), ((before, after), (before, after)) or str
        A negative number, allowed in pairs, crops. "valid": none; "same": OH = ceil(H / SH), the odd row or column at
        the end, as in TensorFlow; "same_lower": at the start; "full": dilation * (k - 1) on every side.
    groups : int
        Input and output channels are cut in so many groups that do not see each other.
    padding_mode : {"zeros", "reflect", "replicate", "circular", "symmetric"}
        What stands in the padding, as in `numpy.pad` (replicate: "edge", circular: "wrap"), wider than the image too.
    layout : {"channels_first", "channels_last"}
        Where channels stand in `input`, `residual` and the result.
    activation : {None, "relu", "relu6", "leaky_relu", "sigmoid", "tanh", "silu", "swish", "gelu", "gelu_tanh",
    "hardswish"}
        Applied to each tile while it is in cache. Integers take "relu" and "relu6", after wrapping; complex none.
    algorithm : {"auto", "direct", "im2col", "pointwise", "depthwise", "separable", "winograd", "fft", "bf16x3",
    "measure"}
        A named one is used or refused, never replaced. "measure" times the candidates when it first meets a problem.
        "separable" finds the factors of the kernels, which must have rank 1.
    precision : {"default", "strict", "bf16", "tf32"}
        "strict" forbids algorithms whose rounding error grows past that of direct summation: "winograd", "fft",
        "bf16x3", "separable". "bf16" allows products rounded to bfloat16 (errors of 1e-2 of the largest output) where
        the CPU has a matrix unit for them. "tf32", on CUDA devices only, rounds float32 inputs and weights to a
        mantissa of 10 bits for the tensor cores and sums in float32 (errors of 1e-3 of the largest output).
    device : {"auto", "cpu", "cuda"}
    out : ndarray, optional
        Written in place and returned. It may overlap an input.
    out_dtype : dtype, optional
        By default that of the arrays, promoted by NumPy's rules. Integers wrap to it: "int32" or "int64" gives the
        exact sums of 8-bit arrays.
    residual : array_like of the result's shape, optional
        Added before the activation.

    Returns
    -------
    ndarray of shape (N, OC, OH, OW), or without N if the input has none
        ``OH = (H + PT + PB - DH*(KH - 1) - 1) // SH + 1``, and the same along W.

    Raises
    ------
    ShapeError, OptionError, ArgumentTypeError, DtypeError
        The message names the argument, its value and what is allowed.
    UnsupportedError
        The algorithm cannot do this problem, or this version does not have it.

    Notes
    -----
    Cost: ``2 * N * OC * OH * OW * IC/groups * KH * KW`` FLOP. Scratch: some hundred kB for each thread, whatever the
    image. Rounding: sums are cut in blocks of some hundred terms, so the RMS error is about that of `np.matmul`; it is
    held to 1.5 times that by tests/test_accuracy.py. The algorithms that "strict" forbids have larger errors: relative
    to the largest output of a channel at most 3e-5 (winograd), 1e-5 from 64 channels on and 2e-5 with fewer (bf16x3,
    which takes denormals as zeros), 2e-6 (fft; in float64 5e-15); outputs that see a NaN or an infinity are computed
    directly all the same. Results have the same bits for every number of threads and memory layout. An infinite weight
    at a padded tap gives NaN, as in PyTorch. Half precision is summed in float32; integers are exact modulo their
    range; complex arrays cost two real convolutions if one of them is real, else three (``precision="strict"``: four).
    Where input and weight are int8 or uint8 and the CPU has dot products of bytes (AVX-512 VNNI, AVX-VNNI), "direct"
    and "im2col" sum these in int32, on a copy of the input in words of four channels, if that is faster and as exact.

    References
    ----------
    `fastconv.explain` names the source of each algorithm.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv as fc
    >>> image = np.ones((1, 1, 4, 4), np.float32)
    >>> fc.conv2d(image, np.ones((1, 1, 3, 3), np.float32), padding="same")[0, 0, 0]
    array([4., 6., 6., 4.], dtype=float32)
    """
    options = Options(stride, padding, dilation, groups, padding_mode, layout, activation, algorithm, precision, device)
    return convolve("conv2d", input, weight, bias, options, out, out_dtype, residual)


def depthwise_conv2d(
    input: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: int | tuple[int, ...] = 1,
    padding: Any = 0,
    dilation: int | tuple[int, ...] = 1,
    *,
    padding_mode: str = "zeros",
    layout: str = "channels_first",
    activation: str | None = None,
    algorithm: str = "auto",
    precision: str = "default",
    device: str = "auto",
    out: np.ndarray | None = None,
    out_dtype: DTypeLike | None = None,
    residual: ArrayLike | None = None,
) -> np.ndarray:
    """Convolve every channel with its own kernels: `conv2d` with as many groups as input channels.

    ``out[n, c*M + m] = input[n, c] * weight[c*M + m, 0]`` for the M kernels of channel c.

    Parameters
    ----------
    input : array_like of shape (N, C, H, W) or (C, H, W)
    weight : array_like of shape (C*M, 1, KH, KW)
    bias : array_like of shape (C*M,), optional
    stride, padding, dilation, padding_mode, layout, activation, algorithm, precision, device, out, out_dtype, residual
        As in `conv2d`.

    Returns
    -------
    ndarray of shape (N, C*M, OH, OW)

    Raises
    ------
    ShapeError, OptionError, ArgumentTypeError, DtypeError, UnsupportedError
        As `conv2d`.

    Notes
    -----
    Cost: ``2 * N * C*M * OH * OW * KH * KW`` FLOP, 1/C of a full convolution; it is bound by memory.

    References
    ----------
    F. Chollet, Xception, 2017, arXiv:1610.02357

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv as fc
    >>> fc.depthwise_conv2d(np.ones((2, 3, 3)), np.array([1.0, -1.0]).reshape(2, 1, 1, 1))[:, 0, 0]
    array([ 1., -1.])
    """
    name = "depthwise_conv2d"
    options = Options(stride, padding, dilation, 1, padding_mode, layout, activation, algorithm, precision, device)
    if wants_device(device, input):
        return depthwise_on_device(name, (input, weight, bias, residual), options, out, out_dtype)
    x = as_input(name, "input", input)
    check_keyword(name, "layout", layout, LAYOUTS)
    options = options._replace(groups=max(channels_of(x.shape, layout), 1))
    return convolve(name, x, weight, bias, options, out, out_dtype, residual)


def pointwise_conv2d(
    input: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    layout: str = "channels_first",
    activation: str | None = None,
    algorithm: str = "auto",
    precision: str = "default",
    device: str = "auto",
    out: np.ndarray | None = None,
    out_dtype: DTypeLike | None = None,
    residual: ArrayLike | None = None,
) -> np.ndarray:
    """Mix the channels of every pixel: a 1x1 convolution, the matrix product ``weight @ input[n]`` over pixels.

    Parameters
    ----------
    input : array_like of shape (N, C, H, W) or (C, H, W)
    weight : array_like of shape (OC, C) or (OC, C, 1, 1)
    bias : array_like of shape (OC,), optional
    layout, activation, algorithm, precision, device, out, out_dtype, residual
        As in `conv2d`.

    Returns
    -------
    ndarray of shape (N, OC, H, W)

    Raises
    ------
    ShapeError, OptionError, ArgumentTypeError, DtypeError, UnsupportedError
        As `conv2d`.

    Notes
    -----
    Cost: ``2 * N * OC * C * H * W`` FLOP.

    References
    ----------
    M. Lin, Q. Chen, S. Yan, Network In Network, 2013, arXiv:1312.4400

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv as fc
    >>> rgb = np.ones((3, 2, 2))
    >>> fc.pointwise_conv2d(rgb, [[0.25, 0.5, 0.25]])
    array([[[1., 1.],
            [1., 1.]]])
    """
    name = "pointwise_conv2d"
    options = Options(1, 0, 1, 1, "zeros", layout, activation, algorithm, precision, device)
    if wants_device(device, input):
        return pointwise_on_device(name, (input, weight, bias, residual), options, out, out_dtype)
    w = as_input(name, "weight", weight)
    w = w.reshape(pointwise_shape(name, "weight", w.shape))
    return convolve(name, input, w, bias, options, out, out_dtype, residual)
