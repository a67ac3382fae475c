"""Convolutions of float32 arrays whose products the tensor cores take in TF32: the implicit GEMM of conv_direct.py."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from fastconv.errors import UnsupportedError
from fastconv.kernels.cuda.conv_direct import Program, best_tile
from fastconv.kernels.cuda.runtime import current

# The oldest compute capability whose tensor cores multiply TF32 numbers.
LEAST = (8, 0)


@lru_cache(maxsize=512)
def program(function: str, g: Any, activation: str | None) -> Program:
    """Return a convolution of this geometry; inputs and weights are rounded to a mantissa of 10 bits."""
    found = current().compute_capability()
    if found < LEAST:
        here, least = ("{}.{}".format(*capability) for capability in (found, LEAST))
        asked = f'{function}: precision = "tf32" on a device of compute capability {here}'
        raise UnsupportedError(f"{asked}, expected {least} or more")
    return Program(function, g, activation, best_tile("tf32", g.OCG, g.N * g.OD * g.OH * g.OW, g.G))
