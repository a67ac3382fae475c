"""Public pools: maximum and average over sliding windows of one to three spatial axes."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastconv.api.pool_types import max_pool_type
from fastconv.api.pooling import avg_pool, max_pool, pool_input, pooled
from fastconv.geometry.pool import flag

_Size = int | tuple[int, ...]


@max_pool_type
def max_pool1d(
    input: Any,
    kernel_size: _Size,
    stride: _Size | None = None,
    padding: Any = 0,
    dilation: _Size = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    layout: str = "channels_first",
    device: str = "auto",
    out: Any = None,
) -> Any:
    """Return the maximum of each window, as `torch.nn.functional.max_pool1d`.

    Parameters
    ----------
    input : array_like of shape (N, C, W) or (C, W)
    kernel_size, stride, padding, dilation, ceil_mode, return_indices, layout, device, out
        As in `fastconv.max_pool2d`, along W.

    Returns
    -------
    ndarray of shape (N, C, OW) and the dtype of `input`; with `return_indices` also the indices
        Sizes and indices as in `fastconv.max_pool2d`; indices are flat over W.

    Raises
    ------
    ShapeError, OptionError, ArgumentTypeError, DtypeError, UnsupportedError
        As `fastconv.max_pool2d`.

    Examples
    --------
    >>> import fastconv as fc
    >>> fc.max_pool1d([[1.0, 3.0, 2.0, 0.0]], 2)
    array([[3., 2.]])
    """
    x = pool_input("max_pool1d", input, device)
    ceil = flag("max_pool1d", "ceil_mode", ceil_mode)
    both = flag("max_pool1d", "return_indices", return_indices)
    given = (1, kernel_size, stride, padding, dilation, layout)
    return pooled("max_pool1d", max_pool, x, out, given, ceil, both)


@max_pool_type
def max_pool2d(
    input: Any,
    kernel_size: _Size,
    stride: _Size | None = None,
    padding: Any = 0,
    dilation: _Size = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    layout: str = "channels_first",
    device: str = "auto",
    out: Any = None,
) -> Any:
    """Return the maximum of each window, as `torch.nn.functional.max_pool2d`.

    ``out[n, c, oh, ow] = max over kh, kw of input[n, c, oh*SH + kh*DH - PT, ow*SW + kw*DW - PL]``; what lies outside
    the input is left out.

    Parameters
    ----------
    input : array_like of shape (N, C, H, W) or (C, H, W)
        Floating point or integers; channels last (N, H, W, C) or (H, W, C).
    kernel_size : int or (int, int)
    stride : int or (int, int), optional
        By default the kernel size.
    padding : int, (int, int), ((before, after), (before, after)) or str
        At most half the effective kernel, ``DH*(KH - 1) + 1``, on each side; or "valid", "same" (the output has
        ``ceil(H / SH)`` rows, the odd one of the padding stands at the end) or "same_lower".
    dilation : int or (int, int)
    ceil_mode : bool
        Round the output size up: the last window may reach over the padding, but starts before it.
    return_indices : bool
        Return (out, indices); `max_unpool2d` takes them back.
    layout : {"channels_first", "channels_last"}
    device : {"auto", "cpu", "cuda"}
    out : ndarray of the shape and dtype of the result, optional
        Written in place and returned; it may overlap `input`.

    Returns
    -------
    ndarray of shape (N, C, OH, OW) and the dtype of `input`
        ``OH = (H + PT + PB - DH*(KH - 1) - 1) // SH + 1``
    indices : int64 ndarray of the same shape, only with `return_indices`
        ``h*W + w`` of the maximum in the unpadded input; the first of equal elements.

    Raises
    ------
    ShapeError, OptionError, ArgumentTypeError, DtypeError, UnsupportedError
        Bad sizes; bad keyword values; wrong types; complex numbers; a device that is not there.

    Notes
    -----
    NaN propagates, with the index of the last one. One axis after the other; large windows are combined from smaller
    ones, so that their cost grows with the logarithm of their size (fastconv/dispatch/window_stages.py). Scratch: a
    block of rows, up to half of L2 for each thread.

    Examples
    --------
    >>> import fastconv as fc
    >>> fc.max_pool2d([[[1, 2, 3, 4], [5, 6, 7, 8]]], 2, return_indices=True)
    (array([[[6, 8]]]), array([[[5, 7]]]))
    """
    x = pool_input("max_pool2d", input, device)
    ceil = flag("max_pool2d", "ceil_mode", ceil_mode)
    both = flag("max_pool2d", "return_indices", return_indices)
    given = (2, kernel_size, stride, padding, dilation, layout)
    return pooled("max_pool2d", max_pool, x, out, given, ceil, both)


@max_pool_type
def max_pool3d(
    input: Any,
    kernel_size: _Size,
    stride: _Size | None = None,
    padding: Any = 0,
    dilation: _Size = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    layout: str = "channels_first",
    device: str = "auto",
    out: Any = None,
) -> Any:
    """Return the maximum of each window, as `torch.nn.functional.max_pool3d`.

    Parameters
    ----------
    input : array_like of shape (N, C, D, H, W) or (C, D, H, W)
    kernel_size, stride, padding, dilation, ceil_mode, return_indices, layout, device, out
        As in `fastconv.max_pool2d`, along D, H, W.

    Returns
    -------
    ndarray of shape (N, C, OD, OH, OW) and the dtype of `input`; with `return_indices` also the indices
        Sizes and indices as in `fastconv.max_pool2d`; indices are flat over D, H, W.

    Raises
    ------
    ShapeError, OptionError, ArgumentTypeError, DtypeError, UnsupportedError
        As `fastconv.max_pool2d`.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv as fc
    >>> fc.max_pool3d(np.arange(8).reshape(1, 2, 2, 2), 2, return_indices=True)
    (array([[[[7]]]]), array([[[[7]]]]))
    """
    x = pool_input("max_pool3d", input, device)
    ceil = flag("max_pool3d", "ceil_mode", ceil_mode)
    both = flag("max_pool3d", "return_indices", return_indices)
    given = (3, kernel_size, stride, padding, dilation, layout)
    return pooled("max_pool3d", max_pool, x, out, given, ceil, both)


def avg_pool1d(
    input: Any,
    kernel_size: _Size,
    stride: _Size | None = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    *,
    layout: str = "channels_first",
    device: str = "auto",
    out: Any = None,
) -> np.ndarray:
    """Return the average of each window, as `torch.nn.functional.avg_pool1d`.

    Parameters
    ----------
    input : array_like of shape (N, C, W) or (C, W)
    kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, layout, device, out
        As in `fastconv.avg_pool2d`, along W.

    Returns
    -------
    ndarray of shape (N, C, OW) and the dtype of `input`

    Raises
    ------
    ShapeError, OptionError, ArgumentTypeError, DtypeError, UnsupportedError
        As `fastconv.max_pool2d`.

    Examples
    --------
    >>> import fastconv as fc
    >>> fc.avg_pool1d([[1.0, 3.0, 2.0, 0.0]], 2)
    array([[2., 1.]])
    """
    x = pool_input("avg_pool1d", input, device)
    ceil = flag("avg_pool1d", "ceil_mode", ceil_mode)
    include = flag("avg_pool1d", "count_include_pad", count_include_pad)
    given = (1, kernel_size, stride, padding, layout, divisor_override)
    return pooled("avg_pool1d", avg_pool, x, out, given, ceil, include)


def avg_pool2d(
    input: Any,
    kernel_size: _Size,
    stride: _Size | None = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    *,
    layout: str = "channels_first",
    device: str = "auto",
    out: Any = None,
) -> np.ndarray:
    """Return the average of each window, as `torch.nn.functional.avg_pool2d`.

    ``out[n, c, oh, ow] = sum over kh, kw of input[n, c, oh*SH + kh - PT, ow*SW + kw - PL] / divisor``

    Parameters
    ----------
    input, kernel_size, stride, padding, ceil_mode, layout, device, out
        As in `fastconv.max_pool2d`.
    count_include_pad : bool
        Whether the divisor counts the elements of the window in the padding too; those behind the padding, which
        `ceil_mode` may reach, it never counts.
    divisor_override : int, optional
        The divisor, other than 0.

    Returns
    -------
    ndarray of shape (N, C, OH, OW) and the dtype of `input`
        ``OH = (H + PT + PB - KH) // SH + 1``. Half precision is summed in float32, integers in int64; their average is
        truncated toward zero.

    Raises
    ------
    ShapeError, OptionError, ArgumentTypeError, DtypeError, UnsupportedError
        As `fastconv.max_pool2d`.

    Notes
    -----
    Large windows are summed from the sums of smaller ones: fewer operations, and a smaller rounding error than that of
    one sum after the other. NaN and infinities stay in their windows. Cost and scratch as of `fastconv.max_pool2d`.

    Examples
    --------
    >>> import fastconv as fc
    >>> fc.avg_pool2d([[[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]]], 2)
    array([[[3.5, 5.5]]])
    """
    x = pool_input("avg_pool2d", input, device)
    ceil = flag("avg_pool2d", "ceil_mode", ceil_mode)
    include = flag("avg_pool2d", "count_include_pad", count_include_pad)
    given = (2, kernel_size, stride, padding, layout, divisor_override)
    return pooled("avg_pool2d", avg_pool, x, out, given, ceil, include)


def avg_pool3d(
    input: Any,
    kernel_size: _Size,
    stride: _Size | None = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    *,
    layout: str = "channels_first",
    device: str = "auto",
    out: Any = None,
) -> np.ndarray:
    """Return the average of each window, as `torch.nn.functional.avg_pool3d`.

    Parameters
    ----------
    input : array_like of shape (N, C, D, H, W) or (C, D, H, W)
    kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, layout, device, out
        As in `fastconv.avg_pool2d`, along D, H, W.

    Returns
    -------
    ndarray of shape (N, C, OD, OH, OW) and the dtype of `input`

    Raises
    ------
    ShapeError, OptionError, ArgumentTypeError, DtypeError, UnsupportedError
        As `fastconv.max_pool2d`.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv as fc
    >>> fc.avg_pool3d(np.arange(8.0).reshape(1, 2, 2, 2), 2)
    array([[[[3.5]]]])
    """
    x = pool_input("avg_pool3d", input, device)
    ceil = flag("avg_pool3d", "ceil_mode", ceil_mode)
    include = flag("avg_pool3d", "count_include_pad", count_include_pad)
    given = (3, kernel_size, stride, padding, layout, divisor_override)
    return pooled("avg_pool3d", avg_pool, x, out, given, ceil, include)
