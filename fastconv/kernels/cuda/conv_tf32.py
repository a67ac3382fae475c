"""Convolutions of float32 arrays whose products the tensor cores take in TF32: the implicit GEMM of conv_direct.py."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from fastconv.kernels.cuda.conv_direct import Program, best_tile


@lru_cache(maxsize=512)
def program(function: str, g: Any, activation: str | None) -> Program:
    """Return a convolution of this geometry; inputs and weights are rounded to a mantissa of 10 bits."""
    return Program(function, g, activation, best_tile("tf32", g.OCG, g.N * g.OD * g.OH * g.OW, g.G))
