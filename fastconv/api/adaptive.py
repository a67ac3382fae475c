"""Public pools whose windows follow from the output size: adaptive ones, and windows that are everything."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastconv.api import pooling
from fastconv.api.pool_types import adaptive_max_pool_type
from fastconv.api.pooling import adaptive_avg_pool, adaptive_max_pool, pool_input, pooled
from fastconv.geometry.pool import flag


def adaptive_avg_pool1d(
    input: Any,
    output_size: Any,
    *,
    layout: str = "channels_first",
    device: str = "auto",
    out: Any = None,
) -> np.ndarray:
    """Return the average of each window of a grid of windows, as `torch.nn.functional.adaptive_avg_pool1d`.

    Output o of an axis sees the inputs from ``floor(o*n/out)`` to ``ceil((o + 1)*n/out) - 1``.

    Parameters
    ----------
    input : array_like of shape (N, C, W) or (C, W)
        As in `fastconv.avg_pool1d`.
    output_size : int, None or tuple of 1
        (OW); one number is for all axes, None keeps the size of an axis.
    layout, device, out
        As in `fastconv.max_pool2d`.

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
    >>> fc.adaptive_avg_pool1d([[1.0, 2.0, 3.0, 4.0, 8.0]], 2)
    array([[2., 5.]])
    """
    x = pool_input("adaptive_avg_pool1d", input, device)
    return pooled("adaptive_avg_pool1d", adaptive_avg_pool, x, out, (1, output_size, layout))


@adaptive_max_pool_type
def adaptive_max_pool1d(
    input: Any,
    output_size: Any,
    return_indices: bool = False,
    *,
    layout: str = "channels_first",
    device: str = "auto",
    out: Any = None,
) -> Any:
    """Return the maximum of each window of a grid of windows, as `torch.nn.functional.adaptive_max_pool1d`.

    Output o of an axis sees the inputs from ``floor(o*n/out)`` to ``ceil((o + 1)*n/out) - 1``.

    Parameters
    ----------
    input : array_like of shape (N, C, W) or (C, W)
        As in `fastconv.max_pool1d`.
    output_size : int, None or tuple of 1
        (OW); one number is for all axes, None keeps the size of an axis.
    return_indices : bool
        Return (out, indices), the latter flat over W.
    layout, device, out
        As in `fastconv.max_pool2d`.

    Returns
    -------
    ndarray of shape (N, C, OW) and the dtype of `input`; with `return_indices` also the indices

    Raises
    ------
    ShapeError, OptionError, ArgumentTypeError, DtypeError, UnsupportedError
        As `fastconv.max_pool2d`.

    Examples
    --------
    >>> import fastconv as fc
    >>> fc.adaptive_max_pool1d([[1.0, 2.0, 3.0, 4.0, 6.0]], 2)
    array([[3., 6.]])
    """
    x = pool_input("adaptive_max_pool1d", input, device)
    both = flag("adaptive_max_pool1d", "return_indices", return_indices)
    return pooled("adaptive_max_pool1d", adaptive_max_pool, x, out, (1, output_size, layout), both)


def adaptive_avg_pool2d(
    input: Any,
    output_size: Any,
    *,
    layout: str = "channels_first",
    device: str = "auto",
    out: Any = None,
) -> np.ndarray:
    """Return the average of each window of a grid of windows, as `torch.nn.functional.adaptive_avg_pool2d`.

    Output o of an axis sees the inputs from ``floor(o*n/out)`` to ``ceil((o + 1)*n/out) - 1``.

    Parameters
    ----------
    input : array_like of shape (N, C, H, W) or (C, H, W)
        As in `fastconv.avg_pool2d`.
    output_size : int, None or tuple of 2
        (OH, OW); one number is for all axes, None keeps the size of an axis.
    layout, device, out
        As in `fastconv.max_pool2d`.

    Returns
    -------
    ndarray of shape (N, C, OH, OW) and the dtype of `input`

    Raises
    ------
    ShapeError, OptionError, ArgumentTypeError, DtypeError, UnsupportedError
        As `fastconv.max_pool2d`.

    Examples
    --------
    >>> import fastconv as fc
    >>> fc.adaptive_avg_pool2d([[[1.0, 2.0], [3.0, 4.0]]], 1)
    array([[[2.5]]])
    """
    x = pool_input("adaptive_avg_pool2d", input, device)
    return pooled("adaptive_avg_pool2d", adaptive_avg_pool, x, out, (2, output_size, layout))


@adaptive_max_pool_type
def adaptive_max_pool2d(
    input: Any,
    output_size: Any,
    return_indices: bool = False,
    *,
    layout: str = "channels_first",
    device: str = "auto",
    out: Any = None,
) -> Any:
    """Return the maximum of each window of a grid of windows, as `torch.nn.functional.adaptive_max_pool2d`.

    Output o of an axis sees the inputs from ``floor(o*n/out)`` to ``ceil((o + 1)*n/out) - 1``.

    Parameters
    ----------
    input : array_like of shape (N, C, H, W) or (C, H, W)
        As in `fastconv.max_pool2d`.
    output_size : int, None or tuple of 2
        (OH, OW); one number is for all axes, None keeps the size of an axis.
    return_indices : bool
        Return (out, indices), the latter flat over H, W.
    layout, device, out
        As in `fastconv.max_pool2d`.

    Returns
    -------
    ndarray of shape (N, C, OH, OW) and the dtype of `input`; with `return_indices` also the indices

    Raises
    ------
    ShapeError, OptionError, ArgumentTypeError, DtypeError, UnsupportedError
        As `fastconv.max_pool2d`.

    Examples
    --------
    >>> import fastconv as fc
    >>> fc.adaptive_max_pool2d([[[1.0, 2.0], [3.0, 4.0]]], 1)
    array([[[4.]]])
    """
    x = pool_input("adaptive_max_pool2d", input, device)
    both = flag("adaptive_max_pool2d", "return_indices", return_indices)
    return pooled("adaptive_max_pool2d", adaptive_max_pool, x, out, (2, output_size, layout), both)


def adaptive_avg_pool3d(
    input: Any,
    output_size: Any,
    *,
    layout: str = "channels_first",
    device: str = "auto",
    out: Any = None,
) -> np.ndarray:
    """Return the average of each window of a grid of windows, as `torch.nn.functional.adaptive_avg_pool3d`.

    Output o of an axis sees the inputs from ``floor(o*n/out)`` to ``ceil((o + 1)*n/out) - 1``.

    Parameters
    ----------
    input : array_like of shape (N, C, D, H, W) or (C, D, H, W)
        As in `fastconv.avg_pool3d`.
    output_size : int, None or tuple of 3
        (OD, OH, OW); one number is for all axes, None keeps the size of an axis.
    layout, device, out
        As in `fastconv.max_pool2d`.

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
    >>> fc.adaptive_avg_pool3d(np.arange(8.0).reshape(1, 2, 2, 2), 1)
    array([[[[3.5]]]])
    """
    x = pool_input("adaptive_avg_pool3d", input, device)
    return pooled("adaptive_avg_pool3d", adaptive_avg_pool, x, out, (3, output_size, layout))


@adaptive_max_pool_type
def adaptive_max_pool3d(
    input: Any,
    output_size: Any,
    return_indices: bool = False,
    *,
    layout: str = "channels_first",
    device: str = "auto",
    out: Any = None,
) -> Any:
    """Return the maximum of each window of a grid of windows, as `torch.nn.functional.adaptive_max_pool3d`.

    Output o of an axis sees the inputs from ``floor(o*n/out)`` to ``ceil((o + 1)*n/out) - 1``.

    Parameters
    ----------
    input : array_like of shape (N, C, D, H, W) or (C, D, H, W)
        As in `fastconv.max_pool3d`.
    output_size : int, None or tuple of 3
        (OD, OH, OW); one number is for all axes, None keeps the size of an axis.
    return_indices : bool
        Return (out, indices), the latter flat over D, H, W.
    layout, device, out
        As in `fastconv.max_pool2d`.

    Returns
    -------
    ndarray of shape (N, C, OD, OH, OW) and the dtype of `input`; with `return_indices` also the indices

    Raises
    ------
    ShapeError, OptionError, ArgumentTypeError, DtypeError, UnsupportedError
        As `fastconv.max_pool2d`.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv as fc
    >>> fc.adaptive_max_pool3d(np.arange(8.0).reshape(1, 2, 2, 2), 1)
    array([[[[7.]]]])
    """
    x = pool_input("adaptive_max_pool3d", input, device)
    both = flag("adaptive_max_pool3d", "return_indices", return_indices)
    return pooled("adaptive_max_pool3d", adaptive_max_pool, x, out, (3, output_size, layout), both)


def global_avg_pool(
    input: Any,
    *,
    keepdims: bool = True,
    layout: str = "channels_first",
    device: str = "auto",
    out: Any = None,
) -> np.ndarray:
    """Return the average over all spatial axes of each channel.

    Parameters
    ----------
    input : array_like of shape (N, C, *S) with 1 to 3 spatial axes
        Floating point or integers; channels last (N, *S, C).
    keepdims : bool
        Keep the spatial axes, with size 1.
    layout, device, out
        As in `fastconv.max_pool2d`.

    Returns
    -------
    ndarray of shape (N, C, 1, ...), or (N, C) without `keepdims`, and the dtype of `input`

    Raises
    ------
    ShapeError, OptionError, ArgumentTypeError, DtypeError, UnsupportedError
        As `fastconv.max_pool2d`.

    Examples
    --------
    >>> import fastconv as fc
    >>> fc.global_avg_pool([[[[1.0, 2.0], [3.0, 4.0]]]], keepdims=False)
    array([[2.5]])
    """
    x = pool_input("global_avg_pool", input, device)
    keep = flag("global_avg_pool", "keepdims", keepdims)
    return pooled("global_avg_pool", pooling.global_avg_pool, x, out, (layout,), keep)


def global_max_pool(
    input: Any,
    *,
    keepdims: bool = True,
    layout: str = "channels_first",
    device: str = "auto",
    out: Any = None,
) -> np.ndarray:
    """Return the maximum over all spatial axes of each channel.

    Parameters
    ----------
    input : array_like of shape (N, C, *S) with 1 to 3 spatial axes
        Floating point or integers; channels last (N, *S, C).
    keepdims : bool
        Keep the spatial axes, with size 1.
    layout, device, out
        As in `fastconv.max_pool2d`.

    Returns
    -------
    ndarray of shape (N, C, 1, ...), or (N, C) without `keepdims`, and the dtype of `input`

    Raises
    ------
    ShapeError, OptionError, ArgumentTypeError, DtypeError, UnsupportedError
        As `fastconv.max_pool2d`.

    Examples
    --------
    >>> import fastconv as fc
    >>> fc.global_max_pool([[[[1.0, 2.0], [3.0, 4.0]]]], keepdims=False)
    array([[4.]])
    """
    x = pool_input("global_max_pool", input, device)
    keep = flag("global_max_pool", "keepdims", keepdims)
    return pooled("global_max_pool", pooling.global_max_pool, x, out, (layout,), keep)
