"""The definition of a transposed convolution: scatter every product to where it belongs. Slow, obvious."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import DTypeLike

from fastconv.epilogue import ACTIVATIONS

if TYPE_CHECKING:
    from fastconv.geometry.conv_transpose import TransposeGeometry


def conv_transpose(
    x: np.ndarray,
    weight: np.ndarray,
    g: TransposeGeometry,
    bias: np.ndarray | None = None,
    activation: str | None = None,
    accumulate: DTypeLike = np.float64,
    dtype: DTypeLike | None = None,
) -> np.ndarray:
    """Return the transposed convolution that `g` describes, of 1 to 3 spatial axes.

    ``out[n, oc, i*S + k*D - before] += x[n, ic, i] * weight[ic, oc, k]`` for all i and k, as far as it lies in the
    output, with ic over the channels of the group of oc; then the bias and the activation.

    Parameters
    ----------
    x : ndarray of shape (N, IC, *S), or (N, *S, IC) with channels last
    weight : ndarray of shape (IC, OC/groups, *K)
    g : TransposeGeometry
    bias : ndarray of shape (OC,), optional
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
    # Spatial axes first: (D, H, W, N, G, channels of the group) and (KD, KH, KW, G, ICG, OCG).
    last = g.layout == "channels_last"
    volume = x.reshape(g.N, *g.sizes, g.IC) if last else np.moveaxis(x.reshape(g.N, g.IC, *g.sizes), 1, -1)
    images = np.moveaxis(volume, 0, 3).reshape(*g.sizes, g.N, g.G, g.ICG).astype(accumulate)
    taps = np.moveaxis(weight.reshape(g.G, g.ICG, g.OCG, *g.kernel), (0, 1, 2), (3, 4, 5)).astype(accumulate)
    out = np.zeros((*g.outputs, g.N, g.G, g.OCG), accumulate)
    for k in np.ndindex(g.kernel):
        products = np.einsum("...ngi,gio->...ngo", images, taps[k])
        for i in np.ndindex(g.sizes):
            at = tuple(n * S + m * D - P for n, S, m, D, P in zip(i, g.stride, k, g.dilation, g.before, strict=True))
            if all(0 <= o < size for o, size in zip(at, g.outputs, strict=True)):
                out[at] += products[i]
    channels = np.moveaxis(out, 3, 0).reshape(g.N, *g.outputs[-g.axes :], g.OC)
    if bias is not None:
        channels = channels + bias.astype(accumulate)
    result = ACTIVATIONS[activation](channels).astype(g.dtype if dtype is None else dtype)
    return np.ascontiguousarray(result if last else np.moveaxis(result, -1, 1))
