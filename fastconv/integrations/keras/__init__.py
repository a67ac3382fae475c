"""Keras 3 on its NumPy backend, convolutions and pools through fastconv.

    from fastconv.integrations.keras import enable
    enable()
    model.predict(x)

The NumPy backend has no convolution of its own: it calls JAX, which Keras imports together with it. `enable` puts the
functions below in the place of the backend's; layers and keras.ops find them there. They take and give NumPy arrays.
"""

from fastconv.errors import MissingExtraError

try:
    import keras as _keras  # noqa: F401
except ImportError as error:
    _missing = f"fastconv.integrations.keras needs Keras 3, which cannot be imported: {error}"
    if getattr(error, "name", None) == "jax":
        _missing += " (its NumPy backend imports JAX: pip install jax)"
    raise MissingExtraError(_missing) from error

from fastconv.integrations.keras.functions import (
    average_pool,
    conv,
    conv_transpose,
    depthwise_conv,
    max_pool,
    separable_conv,
)
from fastconv.integrations.keras.switch import Enabled, disable, enable, is_enabled

__all__ = [
    "Enabled",
    "average_pool",
    "conv",
    "conv_transpose",
    "depthwise_conv",
    "disable",
    "enable",
    "is_enabled",
    "max_pool",
    "separable_conv",
]
