"""The definition of a convolution: pad, slide windows, sum products. Slow, obvious, in float64."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import DTypeLike

from fastconv.epilogue import ACTIVATIONS

if TYPE_CHECKING:
    from fastconv.geometry.conv import ConvGeometry

# NumPy's names of the padding modes.
_MODES = {"zeros": "constant", "replicate": "edge", "circular": "wrap", "reflect": "reflect", "symmetric": "symmetric"}


def conv(
    x: np.ndarray,
    weight: np.ndarray,
    g: ConvGeometry,
    bias: np.ndarray | None = None,
    residual: np.ndarray | None = None,
    activation: str | None = None,
    accumulate: DTypeLike = np.float64,
    dtype: DTypeLike | None = None,
) -> np.ndarray:
    """Return the convolution that `g` describes, of 1 to 3 spatial axes.

    ``out[n, oc, od, oh, ow] = activation(sum over ic, kd, kh, kw of
    x[n, ic, od*SD + kd*DD - PF, oh*SH + kh*DH - PT, ow*SW + kw*DW - PL] * weight[oc, ic, kd, kh, kw]
    + bias[oc] + residual[n, oc, od, oh, ow])``
    with ic over the channels of the group of oc. Outside the input x is what the padding mode says, zeros too take
    part in the arithmetic: an infinite weight there gives NaN.

    Parameters
    ----------
    x : ndarray of shape (N, IC, *S), or (N, *S, IC) with channels last
        S is (W), (H, W) or (D, H, W).
    weight : ndarray of shape (OC, IC/groups, *K)
    g : ConvGeometry
    bias : ndarray of shape (OC,), optional
    residual : ndarray of the output's shape, optional
    activation : str, optional
        A key of `fastconv.epilogue.ACTIVATIONS`.
    accumulate : dtype
        Everything is computed in it, and rounded once to the result's dtype; integers wrap.
    dtype : dtype, optional
        That of the result, by default `g.dtype`.

    Returns
    -------
    ndarray of shape (N, OC, *OS), or (N, *OS, OC), of dtype `dtype`
    """
    last = g.layout == "channels_last"
    padded = padded_input(as_volume(x, g, (g.D, g.H, g.W), g.IC), g, accumulate)
    filters = weight.astype(accumulate).reshape(g.G, g.OCG, g.ICG, g.KD, g.KH, g.KW)
    with np.errstate(invalid="ignore", over="ignore"):
        # One group at a time, (N, ICG, OD, OH, OW, KD, KH, KW) x (OCG, ICG, KD, KH, KW) -> (N, OD, OH, OW, OCG).
        seen = windows(padded, g)
        groups = [sums(w, f) for w, f in zip(seen, filters, strict=True)]
        out = np.concatenate(groups, axis=-1)
        if bias is not None:
            out = out + bias.astype(accumulate)
        if residual is not None:
            volume = as_volume(residual, g, (g.OD, g.OH, g.OW), g.OC)
            out = out + np.moveaxis(volume, 1, -1).astype(accumulate)
        out = ACTIVATIONS[activation](out).astype(g.dtype if dtype is None else dtype)
    out = out.reshape(g.N, *(g.OD, g.OH, g.OW)[-g.axes :], g.OC)
    return np.ascontiguousarray(out if last else np.moveaxis(out, -1, 1))


def sums(seen: np.ndarray, filters: np.ndarray) -> np.ndarray:
    """Return (N, OD, OH, OW, OCG), the sums of products of windows (N, ICG, OD, OH, OW, KD, KH, KW) with filters."""
    if np.isfinite(seen).all() and np.isfinite(filters).all():
        return np.tensordot(seen, filters, ([1, 5, 6, 7], [1, 2, 3, 4]))
    # BLAS has shapes for which zero times infinity is zero.
    return np.einsum("nidhwxyz,oixyz->ndhwo", seen, filters)


def as_volume(array: np.ndarray, g: ConvGeometry, sizes: tuple[int, int, int], channels: int) -> np.ndarray:
    """Return the array as (N, channels, *sizes) with all three spatial axes."""
    if g.layout == "channels_last":
        return np.moveaxis(array.reshape(g.N, *sizes, channels), -1, 1)
    return array.reshape(g.N, channels, *sizes)


def padded_input(x: np.ndarray, g: ConvGeometry, dtype: DTypeLike) -> np.ndarray:
    """Return the input (N, IC, D, H, W), cropped where the padding is negative, with its border."""
    pads = ((g.PF, g.PK), (g.PT, g.PB), (g.PL, g.PR))
    sizes = (g.D, g.H, g.W)
    kept = [slice(max(0, -a), n - max(0, -b)) for n, (a, b) in zip(sizes, pads, strict=True)]
    widths = [(0, 0), (0, 0), *((max(0, a), max(0, b)) for a, b in pads)]
    return np.pad(x[:, :, *kept].astype(dtype), widths, _MODES[g.padding_mode])  # type: ignore[call-overload]


def windows(padded: np.ndarray, g: ConvGeometry) -> np.ndarray:
    """Return the view (G, N, ICG, OD, OH, OW, KD, KH, KW) of the padded input."""
    n, c, d, h, w = padded.strides
    shape = (g.G, g.N, g.ICG, g.OD, g.OH, g.OW, g.KD, g.KH, g.KW)
    strides = (c * g.ICG, n, c, d * g.SD, h * g.SH, w * g.SW, d * g.DD, h * g.DH, w * g.DW)
    return as_strided(padded, shape, strides, writeable=False)
