"""A depthwise and a pointwise convolution on the device: as one kernel, or one after the other.

As one, the intermediate is neither written nor read, but every block of the result's channels computes it again, and
of an image whose rows are no multiple of a strip's, rows that do not exist are computed too. Both cost instructions,
which are counted for each element of the intermediate and compared with the time of its bytes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fastconv.dispatch.cuda import chosen, kernels
from fastconv.geometry.conv import ConvGeometry

# Instructions that a multiprocessor issues in the time of a byte of memory: A100 12.5, H100 10 (108 * 128 * 1.41 GHz
# over 1.56 TB/s, 132 * 128 * 1.98 GHz over 3.35 TB/s).
ISSUED = 10
# Instructions of an element of the depthwise result and of each of its taps, with their share of loads, bounds and
# addresses, and of a multiplication in the matrix product: counted in machine code.
ELEMENT, TAP, MULTIPLICATION = 20, 3, 1.2


class Half(NamedTuple):
    """One of both convolutions."""

    geometry: ConvGeometry
    activation: str | None
    algorithm: str


def one_kernel(function: str, depthwise: Half, pointwise: Half, precision: str) -> Any | None:
    """Return the program that does both at once; None: it cannot, or two kernels are faster."""
    g = depthwise.geometry
    rows = [chosen(function, half.geometry, half.algorithm, precision).name for half in (depthwise, pointwise)]
    if precision == "tf32" or rows[0] != "depthwise" or rows[1] not in ("pointwise", "direct"):
        return None
    program = kernels("chain:program")(g, depthwise.activation, pointwise.geometry, pointwise.activation)
    # A pass of its own over the result would round halves twice.
    if g.dtype == "float16" and not program.fused:
        return None
    if not program.fits or added(program, g, pointwise.geometry.OC) > saved(g):
        return None
    return program


def added(program: Any, g: ConvGeometry, OC: int) -> float:
    """Return the instructions that one kernel takes more than two, for each element of the intermediate."""
    again = (program.grid[1] - 1) * (ELEMENT + TAP * g.KH * g.KW)
    spare = program.pixels / max(g.N * g.OH * g.OW, 1) - 1
    return again + spare * MULTIPLICATION * OC


def saved(g: ConvGeometry) -> float:
    """Return the instructions in whose time an element of the intermediate is written and read."""
    return 2.0 * ISSUED * max(np.dtype(g.dtype).itemsize, 4)
