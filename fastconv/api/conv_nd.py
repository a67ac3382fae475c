"""Public convolutions of one and of three spatial axes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from fastconv.api.convolve import Options, convolve


def conv1d(
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
    """Convolve series with filters, as `torch.nn.functional.conv1d`: the kernel is not flipped.

    ``out[n, oc, ow] = sum over ic, kw of input[n, ic, ow*SW + kw*DW - PL] * weight[oc, ic, kw]``, plus bias and so on.

    Parameters
    ----------
    input : array_like of shape (N, IC, W) or (IC, W)
    weight : array_like of shape (OC, IC/groups, KW)
    bias : array_like of shape (OC,), optional
    stride : int or (int,)
    padding : int, (int,), ((before, after),) or str
        As in `fastconv.conv2d`; also "causal": (dilation * (KW - 1), 0), so that no output sees what comes later.
    dilation, groups, padding_mode, layout, activation, algorithm, precision, device, out, out_dtype, residual
        As in `fastconv.conv2d`.

    Returns
    -------
    ndarray of shape (N, OC, OW)
        ``OW = (W + PL + PR - DW*(KW - 1) - 1) // SW + 1``

    Raises
    ------
    ShapeError, OptionError, ArgumentTypeError, DtypeError, UnsupportedError
        As `fastconv.conv2d`.

    Notes
    -----
    Cost: ``2 * N * OC * OW * IC/groups * KW`` FLOP: the kernels of `conv2d` on images of one row.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv as fc
    >>> fc.conv1d([[1.0, 2.0, 3.0, 4.0]], [[[0.5, 0.5]]], padding="causal")
    array([[0.5, 1.5, 2.5, 3.5]])
    """
    options = Options(
        stride, padding, dilation, groups, padding_mode, layout, activation, algorithm, precision, device, 1
    )
    return convolve("conv1d", input, weight, bias, options, out, out_dtype, residual)


def conv3d(
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
    """Convolve volumes or videos with filters, as `torch.nn.functional.conv3d`: the kernel is not flipped.

    ``out[n, oc, od, oh, ow] = sum over ic, kd, kh, kw of input[n, ic, od*SD + kd*DD - PF, oh*SH + kh*DH - PT,``
    ``ow*SW + kw*DW - PL] * weight[oc, ic, kd, kh, kw]``, plus bias and so on.

    Parameters
    ----------
    input : array_like of shape (N, IC, D, H, W) or (IC, D, H, W)
    weight : array_like of shape (OC, IC/groups, KD, KH, KW)
    bias : array_like of shape (OC,), optional
    stride : int or (int, int, int)
    padding : int, (int, int, int), ((before, after), …) or str
        Depth, height, width.
    dilation, groups, padding_mode, layout, activation, algorithm, precision, device, out, out_dtype, residual
        As in `fastconv.conv2d`.

    Returns
    -------
    ndarray of shape (N, OC, OD, OH, OW)
        ``OD = (D + PF + PK - DD*(KD - 1) - 1) // SD + 1``, and the same along H and W.

    Raises
    ------
    ShapeError, OptionError, ArgumentTypeError, DtypeError, UnsupportedError
        As `fastconv.conv2d`.

    Notes
    -----
    Cost: ``2 * N * OC * OD * OH * OW * IC/groups * KD * KH * KW`` FLOP. Each output depth is an image whose channels
    are the input planes under its depth taps, so the kernels are those of `conv2d`, and no plane is copied as a whole.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv as fc
    >>> fc.conv3d(np.ones((1, 3, 3, 3)), np.ones((1, 1, 3, 3, 3)), padding=1)[0, 0]
    array([[ 8., 12.,  8.],
           [12., 18., 12.],
           [ 8., 12.,  8.]])
    """
    options = Options(
        stride, padding, dilation, groups, padding_mode, layout, activation, algorithm, precision, device, 3
    )
    return convolve("conv3d", input, weight, bias, options, out, out_dtype, residual)
