"""Arrays for the checks, and errors that they expect."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def integers(shape, seed, dtype="float32", low=-4, high=5):
    """Return small integers, whose sums are exact in every dtype."""
    return np.random.default_rng(seed).integers(low, high, shape).astype(dtype)


def raises(error: type[Exception], match: str, call: Callable[[], object]) -> None:
    """Hold that a call raises an error of one line with these words."""
    message = ""
    try:
        call()
    except error as raised:
        message = str(raised)
    assert match in message, message or f"no {error.__name__}"
    assert "\n" not in message
