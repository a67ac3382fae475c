"""The definition of a convolution's gradients, in float64: each product is given back to both of its factors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastconv.kernels.reference.conv import as_volume, padded_input, windows

if TYPE_CHECKING:
    from fastconv.geometry.conv import ConvGeometry


def weight_gradient(x: np.ndarray, dy: np.ndarray, g: ConvGeometry) -> np.ndarray:
    """Return the gradient of the weight: the sum of each gradient times what its tap read."""
    seen = windows(padded_input(as_volume(x, g, (g.D, g.H, g.W), g.IC), g, np.float64), g)
    gradients = as_volume(dy, g, (g.OD, g.OH, g.OW), g.OC).reshape(g.N, g.G, g.OCG, g.OD, g.OH, g.OW)
    dw = np.einsum("gnidhwxyz,ngodhw->goixyz", seen, gradients.astype(np.float64))
    return dw.reshape(g.OC, g.ICG, *(g.KD, g.KH, g.KW)[-g.axes :])


def input_gradient(weight: np.ndarray, dy: np.ndarray, g: ConvGeometry) -> np.ndarray:
    """Return the gradient of the input: each gradient times a tap goes to what the tap read."""
    # Which element of the input stands at each place of the padded one; -1: a zero.
    places = np.arange(g.N * g.IC * g.D * g.H * g.W, dtype=np.float64).reshape(g.N, g.IC, g.D, g.H, g.W)
    at = windows(padded_input(places + 1, g, np.float64), g).astype(int) - 1
    filters = weight.astype(np.float64).reshape(g.G, g.OCG, g.ICG, g.KD, g.KH, g.KW)
    gradients = as_volume(dy, g, (g.OD, g.OH, g.OW), g.OC).reshape(g.N, g.G, g.OCG, g.OD, g.OH, g.OW)
    parts = np.einsum("goixyz,ngodhw->gnidhwxyz", filters, gradients.astype(np.float64))
    dx: np.ndarray = np.zeros(g.N * g.IC * g.D * g.H * g.W + 1)
    np.add.at(dx, at, parts)
    dx = dx[:-1].reshape(g.N, g.IC, *(g.D, g.H, g.W)[-g.axes :])
    return np.ascontiguousarray(dx if g.layout == "channels_first" else np.moveaxis(dx, 1, -1))
