"""Public convolutions with a factored weight."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from fastconv.api.convolve import Options, convolve
from fastconv.api.factored import channels_of, check_biases, check_factor, check_weights
from fastconv.api.forms_on_device import separable_on_device, spatially_separable_on_device
from fastconv.api.on_device import wants_device
from fastconv.api.separable_job import separable
from fastconv.geometry.arrays import as_input, common_dtype, dtype_of, element_dtype, summed_dtype, working_dtype
from fastconv.geometry.conv import LAYOUTS, check_keyword

# A kernel of so few taps is faster as it is than as its factors.
FEW_TAPS = 9


def separable_conv2d(
    input: ArrayLike,
    depthwise_weight: ArrayLike,
    pointwise_weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: int | tuple[int, ...] = 1,
    padding: Any = 0,
    dilation: int | tuple[int, ...] = 1,
    *,
    depthwise_bias: ArrayLike | None = None,
    depthwise_activation: str | None = None,
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
    """Convolve depthwise, then pointwise: the block of Xception and MobileNet, Keras's SeparableConv2D.

    Parameters
    ----------
    input : array_like of shape (N, C, H, W) or (C, H, W)
    depthwise_weight : array_like of shape (C*M, 1, KH, KW)
    pointwise_weight : array_like of shape (OC, C*M) or (OC, C*M, 1, 1)
    bias : array_like of shape (OC,), optional
    stride, padding, dilation, padding_mode
        Of the depthwise convolution, as in `conv2d`.
    depthwise_bias : array_like of shape (C*M,), optional
    depthwise_activation : str, optional
        Between the two convolutions.
    algorithm : str
        Of the depthwise convolution.
    layout, activation, precision, device, out, out_dtype, residual
        As in `conv2d`.

    Returns
    -------
    ndarray of shape (N, OC, OH, OW)

    Raises
    ------
    ShapeError, OptionError, ArgumentTypeError, DtypeError, UnsupportedError
        As `conv2d`.

    Notes
    -----
    Multiplications: ``1/OC + 1/(KH*KW)`` of those of a full convolution. The depthwise result stands in a buffer in
    cache: a band of its rows at a time, or all of it where it is that small; on CUDA in shared memory, unless it would
    be computed again for each of many blocks of output channels. Floats are rounded once, at the end.

    References
    ----------
    F. Chollet, Xception, 2017, arXiv:1610.02357

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv as fc
    >>> x = np.ones((2, 4, 4))
    >>> fc.separable_conv2d(x, np.ones((2, 1, 3, 3)), [[1.0, 1.0]])[0]
    array([[18., 18.],
           [18., 18.]])
    """
    name = "separable_conv2d"
    shared = (padding_mode, layout, depthwise_activation, algorithm, precision, device)
    first = Options(stride, padding, dilation, 1, *shared)
    second = Options(1, 0, 1, 1, "zeros", layout, activation, "auto", precision, device)
    given = {"depthwise_bias": depthwise_bias, "bias": bias, "residual": residual}
    if wants_device(device, input):
        arrays = {"input": input, "depthwise_weight": depthwise_weight, "pointwise_weight": pointwise_weight, **given}
        return separable_on_device(name, arrays, (first, second), out, out_dtype)
    x, dw = as_input(name, "input", input), as_input(name, "depthwise_weight", depthwise_weight)
    pw = as_input(name, "pointwise_weight", pointwise_weight)
    pw = pw[:, :, None, None] if pw.ndim == 2 else pw
    check_keyword(name, "layout", layout, LAYOUTS)
    channels = channels_of(x.shape, layout)
    check_weights(name, channels, dw.shape, pw.shape)
    rest = {key: None if array is None else as_input(name, key, array) for key, array in given.items()}
    check_biases(name, rest, len(dw), len(pw))
    dtype = common_dtype(name, x, dw, pw, *rest.values())
    result = dtype if out_dtype is None else dtype_of(name, "out_dtype", out_dtype)
    if not channels:
        # What is left is the bias: that of one channel of zeros.
        x, dw, pw = _one_channel(x, dw, pw, layout)
        rest["depthwise_bias"] = None
    first = first._replace(groups=max(channels, 1))
    return separable(name, (x, dw, pw), rest, (first, second), (dtype, result), out)


def _one_channel(x: np.ndarray, dw: np.ndarray, pw: np.ndarray, layout: str) -> tuple[np.ndarray, ...]:
    """Return input and weights of one channel, zeros, for arrays without channels."""
    shape = list(x.shape)
    shape[-3 if layout == "channels_first" else -1] = 1
    zeros = np.zeros(shape, x.dtype), np.zeros((1, *dw.shape[1:]), dw.dtype)
    return *zeros, np.zeros((len(pw), 1, 1, 1), pw.dtype)


def spatially_separable_conv2d(
    input: ArrayLike,
    column: ArrayLike,
    row: ArrayLike,
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
    """Convolve every channel with the kernel ``outer(column, row)``, one axis after the other.

    Parameters
    ----------
    input : array_like of shape (N, C, H, W) or (C, H, W)
    column : array_like of shape (KH,) or (C, KH)
        One for all channels, or one for each.
    row : array_like of shape (KW,) or (C, KW)
    bias : array_like of shape (C,), optional
    algorithm : str
        "auto" is "separable", of real factors, and "depthwise" where the outer product has at most 9 taps, none of
        which vanishes or overflows; others than "separable" convolve with the outer product.
    stride, padding, dilation, padding_mode, layout, activation, precision, device, out, out_dtype, residual
        As in `conv2d`.

    Returns
    -------
    ndarray of shape (N, C, OH, OW)

    Raises
    ------
    ShapeError, OptionError, ArgumentTypeError, DtypeError, UnsupportedError
        As `conv2d`.

    Notes
    -----
    ``KH + KW`` multiplications an output instead of ``KH * KW``. `fastconv.separate` finds the factors of a kernel.
    An infinite factor is multiplied with sums, not with the other factor: it reaches the outputs that it reaches in the
    outer product, but some are NaN by one way and infinite by the other.

    References
    ----------
    S. Treitel, J. L. Shanks, The design of multistage separable planar filters, 1971, doi:10.1109/TGE.1971.271457

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv as fc
    >>> fc.spatially_separable_conv2d(np.ones((1, 3, 3)), [1.0, 2.0, 1.0], [1.0, 2.0, 1.0])
    array([[[16.]]])
    """
    name = "spatially_separable_conv2d"
    options = Options(stride, padding, dilation, 1, padding_mode, layout, activation, algorithm, precision, device)
    if wants_device(device, input):
        arrays = {"input": input, "column": column, "row": row, "bias": bias, "residual": residual}
        return spatially_separable_on_device(name, arrays, options, out, out_dtype)
    x = as_input(name, "input", input)
    check_keyword(name, "layout", layout, LAYOUTS)
    channels = channels_of(x.shape, layout)
    columns, rows = per_channel(name, "column", column, channels), per_channel(name, "row", row, channels)
    rest = [as_input(name, key, a) for key, a in (("bias", bias), ("residual", residual)) if a is not None]
    dtype = common_dtype(name, x, columns, rows, *rest)
    result = dtype if out_dtype is None else dtype_of(name, "out_dtype", out_dtype)
    # Their product must not overflow where the sums would not.
    wide = summed_dtype(working_dtype(name, dtype, result))
    columns, rows = _widened(columns, wide), _widened(rows, wide)
    with np.errstate(all="ignore"):
        weight = columns[:, None, :, None] * rows[:, None, None, :]
    if algorithm == "auto" and precision != "strict" and weight.dtype.kind != "c":
        algorithm = "depthwise" if _is_small(weight, columns, rows) else "separable"
    options = options._replace(groups=max(channels, 1), algorithm=algorithm)
    return convolve(name, x, weight, bias, options, out, result, residual, (columns, rows))


def _widened(factor: np.ndarray, wide: np.dtype) -> np.ndarray:
    """Return a factor of sums of dtype `wide` in that precision; real factors of complex sums stay real."""
    real = wide.kind == "c" and factor.dtype.kind != "c"
    return factor.astype(element_dtype(wide) if real else wide, copy=False)


def _is_small(weight: np.ndarray, columns: np.ndarray, rows: np.ndarray) -> bool:
    """Return whether a sum over the outer product takes no longer than two passes, and means the same."""
    if columns.shape[1] * rows.shape[1] > FEW_TAPS or not weight.size:
        return False
    if weight.dtype.kind != "f":
        return True
    limits, sizes = np.finfo(weight.dtype), np.abs(weight)
    zero = (columns == 0)[:, None, :, None] | (rows == 0)[:, None, None, :]
    return bool((((sizes >= limits.tiny) & (sizes <= limits.max)) | zero).all())


def per_channel(function: str, name: str, value: Any, channels: int) -> np.ndarray:
    """Return a factor as (C, K)."""
    factor = as_input(function, name, value)
    check_factor(function, name, factor.shape, channels)
    return np.ascontiguousarray(np.broadcast_to(factor, (channels, factor.shape[-1])))
