"""Convolution as a matrix product: im2col of a block of output pixels, then the microkernel; pointwise is its 1x1 case.

    columns[k, q] = the input under tap k = (ic, kh, kw) at output pixel q
    out[oc, q] = sum over k of weight[oc, k] * columns[k, q]

Only a block of columns exists at a time, some hundred kB for each thread, whatever the image. Pixels are counted over
the whole batch, so small images fill their register tiles together.
Source: Chellapilla, Puri and Simard 2006, High Performance Convolutional Neural Networks for Document Processing.
"""

from __future__ import annotations

from typing import Any

from fastconv.kernels.cpu.conv_gemm import build
from fastconv.kernels.cpu.program import Program


def program(geometry: Any, activation: str | None, blocking: Any) -> Program:
    """Return the program of im2col convolution."""
    return build(geometry, activation, blocking, True)
