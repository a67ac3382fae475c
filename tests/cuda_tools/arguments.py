"""Arguments of a kernel as its parameters: an array is a pointer, or the fields of Numba's array structure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Size = tuple[int, int, int]


def flattened(arguments: Sequence[Any], parameters: int, place: Callable[[Any], int]) -> list[Any]:
    """Return one value for each parameter.

    Parameters
    ----------
    arguments : sequence
        Arrays, which count as contiguous, and scalars.
    parameters : int
        How many the kernel has: with pointers one for each argument, with arrays 5 + 2 ndim for each array.
    place : callable
        Returns the address of an array.
    """
    arrays = [a for a in arguments if isinstance(a, np.ndarray) and a.ndim]
    fields = len(arguments) + sum(4 + 2 * a.ndim for a in arrays)
    if parameters not in (len(arguments), fields):
        raise TypeError(f"the kernel has {parameters} parameters, {len(arguments)} arguments are {fields} at most")
    flat: list[Any] = []
    for argument in arguments:
        if not (isinstance(argument, np.ndarray) and argument.ndim):
            flat.append(argument)
        elif parameters == len(arguments):
            flat.append(place(argument))
        else:
            # The first two are for the reference count of an array on the host.
            strides = np.empty(argument.shape, argument.dtype).strides
            flat += [0, 0, argument.size, argument.itemsize, place(argument), *argument.shape, *strides]
    return flat


def three(size: int | Sequence[int]) -> Size:
    """Return a grid or block as x, y, z."""
    x, y, z = (int(n) for n in (*np.atleast_1d(size), 1, 1)[:3])
    return x, y, z
