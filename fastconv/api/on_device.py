"""Operations on a CUDA device: the arguments are checked as on the CPU, arrays stay where they are."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastconv.dispatch import cuda
from fastconv.epilogue import ALIASES
from fastconv.errors import ArgumentTypeError, OptionError, ShapeError
from fastconv.geometry.arrays import as_input, check_out, common_dtype, on_device


def wants_device(device: str, *arrays: Any) -> bool:
    """Return whether an operation runs on the device: because it is asked for, or because an array is there."""
    if device != "auto":
        return device == "cuda"
    # Written out, since every call on the CPU comes here.
    for array in arrays:  # noqa: SIM110
        if type(array) is not np.ndarray and array is not None and on_device(array):
            return True
    return False


def begin(function: str, **arrays: Any) -> Any:
    """Return the call of an operation on the device; arrays of the host are read as the CPU reads them."""
    found = {k: a if a is None or on_device(a) else as_input(function, k, a) for k, a in arrays.items()}
    host = [a for a in found.values() if isinstance(a, np.ndarray)]
    if len(host) == sum(a is not None for a in found.values()):
        # Refuses the same dtypes as on the CPU, in the same words.
        common_dtype(function, *host)
    return cuda.begin(function, **found)


def check_target(call: Any, out: Any, shape: tuple[int, ...], dtype: np.dtype) -> None:
    """Raise unless `out` can take a result: an ndarray where arrays came from the host, else a device array."""
    if out is None:
        return
    if call.on_host:
        check_out(call.function, out, shape, dtype)
        return
    if not on_device(out):
        raise ArgumentTypeError(f"{call.function}: out is a {type(out).__name__}, expected an array on the device")
    buffer = call.read("out", out)
    if buffer.shape != shape:
        raise ShapeError(f"{call.function}: out has shape {buffer.shape}, expected {shape}")
    if buffer.dtype != dtype:
        raise OptionError(f"{call.function}: out has dtype {buffer.dtype}, expected {dtype}")


def volume(buffer: Any, axes: int, layout: str) -> Any:
    """Return an array (N, C, *S) or (C, *S), or with channels last, with batch and three spatial axes."""
    if buffer is None:
        return None
    shape, strides = buffer.shape, buffer.strides
    if len(shape) == axes + 1:
        shape, strides = (1, *shape), (0, *strides)
    first = 2 if layout == "channels_first" else 1
    ones, none = (1,) * (3 - axes), (0,) * (3 - axes)
    return buffer._replace(
        shape=(*shape[:first], *ones, *shape[first:]), strides=(*strides[:first], *none, *strides[first:])
    )


def activate_on_device(function: str, name: str, x: Any, out: Any = None) -> Any:
    """Return an activation of a device array as a new one of its library, or in `out`."""
    call = begin(function, x=x)
    dtype = call.unify("fde")
    source = call.contiguous("x")
    check_target(call, out, source.shape, call.dtype)
    target = call.target(out, source.shape, dtype)
    cuda.kernels("activations:run")(call.stream, ALIASES.get(name, name), source, target)
    return call.finish(target, out)
