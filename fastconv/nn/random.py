"""The one source of random numbers: initial weights, the order of samples, dropout."""

from __future__ import annotations

import numpy as np

from fastconv.errors import OptionError
from fastconv.geometry.arguments import integer, shown

__all__ = ["generator", "set_random_seed"]

_generator = np.random.Generator(np.random.PCG64())


def set_random_seed(seed: int) -> None:
    """Make all that follows reproducible to the bit, at any number of threads.

    Parameters
    ----------
    seed : int
        At least 0.

    Raises
    ------
    OptionError, ArgumentTypeError
        Not such an int.

    Notes
    -----
    It starts the generator (PCG64) anew from which initial weights, the order of the samples in `fit` and dropout are
    drawn, in the order in which they are asked for. NumPy's own global generator is left alone.

    Examples
    --------
    >>> import fastconv as fc
    >>> fc.nn.set_random_seed(0)
    """
    global _generator
    rule = "an int of at least 0"
    number = integer("set_random_seed", "seed", seed, rule)
    if number < 0:
        raise OptionError(f"set_random_seed: seed = {shown(seed)}, expected {rule}")
    _generator = np.random.Generator(np.random.PCG64(number))


def generator(seed: int | None = None) -> np.random.Generator:
    """Return the generator of all, or a new one of its own seed."""
    return _generator if seed is None else np.random.Generator(np.random.PCG64(seed))
