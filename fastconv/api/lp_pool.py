"""Public Lp pools: norms of windows of one to three spatial axes."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastconv.api.pooling import lp_averaged, pool_input, shape_of
from fastconv.geometry.pool import flag, pool_geometry

_Size = int | tuple[int, ...]


def lp_pool1d(
    input: Any,
    norm_type: float,
    kernel_size: _Size,
    stride: _Size | None = None,
    ceil_mode: bool = False,
    *,
    layout: str = "channels_first",
    device: str = "auto",
    out: Any = None,
) -> np.ndarray:
    """Return the Lp norm of each window, as `torch.nn.functional.lp_pool1d`.

    Parameters
    ----------
    input : array_like of shape (N, C, W) or (C, W)
    norm_type, kernel_size, stride, ceil_mode, layout, device, out
        As in `fastconv.lp_pool2d`, along W.

    Returns
    -------
    ndarray of shape (N, C, OW) and the dtype of `input`; float32 of integers

    Raises
    ------
    ShapeError, OptionError, ArgumentTypeError, DtypeError, UnsupportedError
        As `fastconv.max_pool2d`.

    Examples
    --------
    >>> import fastconv as fc
    >>> fc.lp_pool1d([[3.0, 4.0, 5.0, 12.0]], 2, 2)
    array([[ 5., 13.]])
    """
    x, ceil = pool_input("lp_pool1d", input, device), flag("lp_pool1d", "ceil_mode", ceil_mode)
    g = pool_geometry("lp_pool1d", 1, shape_of(x), kernel_size, stride, ceil_mode=ceil, layout=layout)
    return lp_averaged("lp_pool1d", x, g, norm_type, out)


def lp_pool2d(
    input: Any,
    norm_type: float,
    kernel_size: _Size,
    stride: _Size | None = None,
    ceil_mode: bool = False,
    *,
    layout: str = "channels_first",
    device: str = "auto",
    out: Any = None,
) -> np.ndarray:
    """Return the Lp norm of each window, as `torch.nn.functional.lp_pool2d`.

    ``out[n, c, oh, ow] = (sum over kh, kw of input[n, c, oh*SH + kh, ow*SW + kw] ** p) ** (1 / p)``

    Parameters
    ----------
    input, kernel_size, stride, ceil_mode, layout, device, out
        As in `fastconv.max_pool2d`.
    norm_type : float
        p, other than 0; infinity takes the largest magnitude, minus infinity the smallest.

    Returns
    -------
    ndarray of shape (N, C, OH, OW) and the dtype of `input`; float32 of integers

    Raises
    ------
    ShapeError, OptionError, ArgumentTypeError, DtypeError, UnsupportedError
        As `fastconv.max_pool2d`.

    Notes
    -----
    PyTorch's formula: no magnitudes are taken, so with an odd p negative sums give NaN; a window that `ceil_mode` cuts
    off counts as its average times the size of a whole window.

    Examples
    --------
    >>> import fastconv as fc
    >>> fc.lp_pool2d([[[3.0, 0.0], [0.0, 4.0]]], 2, 2)
    array([[[5.]]])
    """
    x, ceil = pool_input("lp_pool2d", input, device), flag("lp_pool2d", "ceil_mode", ceil_mode)
    g = pool_geometry("lp_pool2d", 2, shape_of(x), kernel_size, stride, ceil_mode=ceil, layout=layout)
    return lp_averaged("lp_pool2d", x, g, norm_type, out)


def lp_pool3d(
    input: Any,
    norm_type: float,
    kernel_size: _Size,
    stride: _Size | None = None,
    ceil_mode: bool = False,
    *,
    layout: str = "channels_first",
    device: str = "auto",
    out: Any = None,
) -> np.ndarray:
    """Return the Lp norm of each window, as `torch.nn.functional.lp_pool3d`.

    Parameters
    ----------
    input : array_like of shape (N, C, D, H, W) or (C, D, H, W)
    norm_type, kernel_size, stride, ceil_mode, layout, device, out
        As in `fastconv.lp_pool2d`, along D, H, W.

    Returns
    -------
    ndarray of shape (N, C, OD, OH, OW) and the dtype of `input`; float32 of integers

    Raises
    ------
    ShapeError, OptionError, ArgumentTypeError, DtypeError, UnsupportedError
        As `fastconv.max_pool2d`.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv as fc
    >>> fc.lp_pool3d(np.ones((1, 2, 2, 2)), 1, 2)
    array([[[[8.]]]])
    """
    x, ceil = pool_input("lp_pool3d", input, device), flag("lp_pool3d", "ceil_mode", ceil_mode)
    g = pool_geometry("lp_pool3d", 3, shape_of(x), kernel_size, stride, ceil_mode=ceil, layout=layout)
    return lp_averaged("lp_pool3d", x, g, norm_type, out)
