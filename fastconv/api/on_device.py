"""Operations on a CUDA device: the arguments are checked as on the CPU, arrays stay where they are."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastconv.dispatch import cuda
from fastconv.epilogue import ALIASES
from fastconv.errors import ArgumentTypeError, OptionError, ShapeError, UnsupportedError
from fastconv.geometry.arrays import as_input, check_out, common_dtype, on_device


def arrays_for(function: str, **arrays: Any) -> dict[str, Any]:
    """Return arrays as the launch layer takes them; those of the host as ndarrays of one dtype, if all are there."""
    found = {k: a if a is None or on_device(a) else as_input(function, k, a) for k, a in arrays.items()}
    host = [a for a in found.values() if isinstance(a, np.ndarray)]
    if len(host) == sum(a is not None for a in found.values()):
        dtype = common_dtype(function, *host)
        found = {k: None if a is None else a.astype(dtype, copy=False) for k, a in found.items()}
    return found


def check_target(function: str, call: Any, out: Any, shape: tuple[int, ...], dtype: np.dtype) -> None:
    """Raise unless `out` can take a result: an ndarray where arrays came from the host, else a device array."""
    if out is None:
        return
    if call.library == "host":
        check_out(function, out, shape, dtype)
        return
    if not on_device(out):
        raise ArgumentTypeError(f"{function}: out is a {type(out).__name__}, expected an array on the device")
    buffer = call.read("out", out)
    if buffer.shape != shape:
        raise ShapeError(f"{function}: out has shape {buffer.shape}, expected {shape}")
    if buffer.dtype != dtype:
        raise OptionError(f"{function}: out has dtype {buffer.dtype}, expected {dtype}")


def contiguous(call: Any, buffer: Any) -> Any:
    """Return a buffer in C order: itself or a copy."""
    if buffer is None or buffer.contiguous:
        return buffer
    copied = cuda.kernels("launch:empty")(buffer.shape, buffer.dtype, call.stream)
    cuda.kernels("moves:copy")(call.stream, buffer, copied)
    return copied


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


def require_dtype(function: str, dtype: np.dtype, out_dtype: Any) -> None:
    """Raise if a result of another dtype is wanted."""
    if out_dtype is not None and np.dtype(out_dtype) != dtype:
        raise UnsupportedError(f"{function}: out_dtype = {np.dtype(out_dtype)} on a CUDA device, expected {dtype}")


def activate_on_device(function: str, name: str, x: Any, out: Any = None) -> Any:
    """Return an activation of a device array as a new one of its library, or in `out`."""
    call = cuda.begin(function, x=x)
    dtype = cuda.check_dtypes(function, call)
    source = contiguous(call, call.buffers["x"])
    check_target(function, call, out, source.shape, dtype)
    target = call.target(out, source.shape, dtype)
    cuda.kernels("activations:run")(call.stream, ALIASES.get(name, name), source, target)
    return call.finish(target, out)
