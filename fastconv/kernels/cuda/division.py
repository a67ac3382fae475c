"""Division of uint32 by numbers that the host knows: a multiplication and a shift, not 20 instructions.

Source: T. Granlund, P. Montgomery, Division by invariant integers using multiplication, 1994, doi:10.1145/178243.178249
(the multiplier has 33 bits, of which the first is added).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numba import uint32, uint64

from fastconv.kernels.cuda.memory import device


def magic(divisor: int) -> tuple[int, int]:
    """Return (multiplier, shift) for `quotient`; the divisor is from 1 to 2**32 - 1."""
    shift = (divisor - 1).bit_length()
    return 2**32 * (2**shift - divisor) // divisor + 1, shift


def magics(divisors: Iterable[int]) -> tuple[int, ...]:
    """Return those of several divisors, one after the other; an empty axis is never divided by."""
    return tuple(number for divisor in divisors for number in magic(max(divisor, 1)))


def numbers(values: Iterable[int]) -> tuple[np.uint32, ...]:
    """Return integers as a kernel takes them, modulo 2**32."""
    return tuple(np.uint32(value & 0xFFFFFFFF) for value in values)


@device
def quotient(n, multiplier, shift):
    """N // divisor"""
    high = uint64(uint64(uint64(n) * uint64(multiplier)) >> uint64(32))
    return uint32(uint64(uint64(high + uint64(n)) >> uint64(shift)))
