"""The definition of conv2d: pad with zeros, slide windows, sum products. Slow, obvious, in float64."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import DTypeLike

from fastconv.epilogue import ACTIVATIONS

if TYPE_CHECKING:
    from fastconv.geometry.conv import ConvGeometry


def conv2d(
    x: np.ndarray,
    weight: np.ndarray,
    g: ConvGeometry,
    bias: np.ndarray | None = None,
    residual: np.ndarray | None = None,
    activation: str | None = None,
    accumulate: DTypeLike = np.float64,
) -> np.ndarray:
    """Return the 2-D convolution that `g` describes.

    ``out[n, oc, oh, ow] = activation(sum over ic, kh, kw of
    x[n, ic, oh*SH + kh*DH - PT, ow*SW + kw*DW - PL] * weight[oc, ic, kh, kw] + bias[oc] + residual[n, oc, oh, ow])``
    with ic over the channels of the group of oc. Outside the input x is 0, and takes part in the arithmetic: an
    infinite weight there gives NaN.

    Parameters
    ----------
    x : ndarray of shape (N, IC, H, W), or (N, H, W, IC) with channels last
    weight : ndarray of shape (OC, IC/groups, KH, KW)
    g : ConvGeometry
    bias : ndarray of shape (OC,), optional
    residual : ndarray of the output's shape, optional
    activation : str, optional
        A key of `fastconv.epilogue.ACTIVATIONS`.
    accumulate : dtype
        Everything is computed in it, and rounded once to the result's dtype.

    Returns
    -------
    ndarray of shape (N, OC, OH, OW), or (N, OH, OW, OC), of dtype `g.dtype`
    """
    last = g.layout == "channels_last"
    padded = _padded(np.moveaxis(x, -1, 1) if last else x, g, accumulate)
    filters = weight.astype(accumulate).reshape(g.G, g.OCG, g.ICG, g.KH, g.KW)
    with np.errstate(invalid="ignore", over="ignore"):
        # One group at a time, (N, ICG, OH, OW, KH, KW) x (OCG, ICG, KH, KW) -> (N, OH, OW, OCG).
        groups = [np.tensordot(w, f, ([1, 4, 5], [1, 2, 3])) for w, f in zip(_windows(padded, g), filters, strict=True)]
        out = np.concatenate(groups, axis=-1)
        if bias is not None:
            out = out + bias.astype(accumulate)
        if residual is not None:
            out = out + (residual if last else np.moveaxis(residual, 1, -1)).astype(accumulate)
        out = ACTIVATIONS[activation](out).astype(g.dtype)
    return np.ascontiguousarray(out if last else np.moveaxis(out, -1, 1))


def _padded(x: np.ndarray, g: ConvGeometry, dtype: DTypeLike) -> np.ndarray:
    """Return the input (N, IC, H, W), cropped where the padding is negative, with its border of zeros."""
    top, bottom, left, right = (max(0, -pad) for pad in (g.PT, g.PB, g.PL, g.PR))
    kept = x[:, :, top : g.H - bottom, left : g.W - right].astype(dtype)
    return np.pad(kept, ((0, 0), (0, 0), (max(0, g.PT), max(0, g.PB)), (max(0, g.PL), max(0, g.PR))))


def _windows(padded: np.ndarray, g: ConvGeometry) -> np.ndarray:
    """Return the view (G, N, ICG, OH, OW, KH, KW) of the padded input."""
    n, c, h, w = padded.strides
    shape = (g.G, g.N, g.ICG, g.OH, g.OW, g.KH, g.KW)
    strides = (c * g.ICG, n, c, h * g.SH, w * g.SW, h * g.DH, w * g.DW)
    return as_strided(padded, shape, strides, writeable=False)
