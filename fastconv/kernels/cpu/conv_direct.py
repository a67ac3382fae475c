"""Direct convolution: the image is read in place of a matrix, through a table of offsets into a strip with its border.

    out[n, oc, oh, ow] = sum over ic, kh, kw of weight[oc, ic, kh, kw] * x[n, ic, h, w],
    h = oh*SH + kh*DH - PT, w = ow*SW + kw*DW - PL

A task copies a block of rows (with the border that it touches, split by stride phase) into a strip in L2; each tap is
then one offset, so no tap is copied twice, and strides and dilation cost nothing more. channels_last keeps
output channels in lanes; channels_first pixels, or channels too, with the strip transposed (conv_lanes.py).
Sources: Georganas et al. 2018, doi:10.1109/SC.2018.00069 (register and cache blocking of direct convolution);
Dukhan 2019, arXiv:1907.02129 (offset tables).
"""

from __future__ import annotations

from typing import Any

from fastconv.kernels.cpu.conv_gemm import build
from fastconv.kernels.cpu.program import Program


def program(geometry: Any, activation: str | None, blocking: Any) -> Program:
    """Return the program of direct convolution."""
    return build(geometry, activation, blocking, False)
