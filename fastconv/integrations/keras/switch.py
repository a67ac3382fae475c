"""fastconv's functions in the place of those of Keras's NumPy backend, and back again."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

import keras

from fastconv.errors import UnsupportedError
from fastconv.integrations.keras import functions

_PATCHED = ("conv", "depthwise_conv", "separable_conv", "conv_transpose", "max_pool", "average_pool")

# The backend's own functions while ours stand in their place.
_originals: dict[str, Any] = {}


class Enabled:
    """What `enable` returns: a context manager that undoes it at its end."""

    def __init__(self, changed: bool):
        self._changed = changed

    def __enter__(self) -> Enabled:
        return self

    def __exit__(self, *_: Any) -> None:
        if self._changed:
            disable()


def enable() -> Enabled:
    """Let fastconv compute the convolutions and pools of Keras's NumPy backend.

    Returns
    -------
    Enabled
        As a context manager it calls `disable` at the end of its block, unless fastconv was enabled before.

    Raises
    ------
    UnsupportedError
        Keras runs on another backend.

    Notes
    -----
    conv, depthwise_conv, separable_conv, conv_transpose, max_pool and average_pool, of 1 to 3 spatial axes, in both
    data formats. Results differ from JAX's by rounding alone.

    Examples
    --------
    >>> import keras, numpy as np
    >>> from fastconv.integrations.keras import enable
    >>> with enable():
    ...     y = keras.layers.Conv2D(4, 3)(np.zeros((1, 8, 8, 3), "float32"))
    >>> y.shape
    (1, 6, 6, 4)
    """
    backend = _backend()
    changed = not _originals
    if changed:
        for name in _PATCHED:
            _originals[name] = getattr(backend, name)
            setattr(backend, name, getattr(functions, name))
    return Enabled(changed)


def disable() -> None:
    """Give Keras's NumPy backend its own functions back.

    Examples
    --------
    >>> from fastconv.integrations.keras import disable, is_enabled
    >>> disable()
    >>> is_enabled()
    False
    """
    if _originals:
        backend = _backend()
        for name, function in _originals.items():
            setattr(backend, name, function)
        _originals.clear()


def is_enabled() -> bool:
    """Return whether fastconv computes for Keras's NumPy backend."""
    return bool(_originals)


def _backend() -> ModuleType:
    name = keras.config.backend()
    if name != "numpy":
        raise UnsupportedError(
            f'enable: Keras runs on the backend "{name}", expected "numpy" (set KERAS_BACKEND=numpy before its import)'
        )
    return importlib.import_module("keras.src.backend.numpy.nn")
