"""Arrays of other libraries on the device: read without a copy, made by the library that the input comes from."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from fastconv.errors import UnsupportedError
from fastconv.kernels.cuda.buffers import Buffer, empty, limit, steps_of
from fastconv.kernels.cuda.runtime import SIMULATED, current

# Of DLPack's devices.
_CUDA = 2


def library_of(array: Any) -> str:
    """Return "torch", "cupy" or "numba": who allocates results for an array on the device, and has its stream."""
    package = type(array).__module__.partition(".")[0]
    return package if package in ("torch", "cupy") else "numba"


def new(like: Any, shape: tuple[int, ...], dtype: np.dtype, stream: Any) -> Buffer:
    """Return an uninitialised array of the library of another one, on its device."""
    library = library_of(like)
    if library == "numba":
        return empty(shape, dtype, stream)
    module = sys.modules[library]
    where = {"device": like.device} if library == "torch" else {}
    array = module.empty(shape, dtype=getattr(module, dtype.name), **where)
    pointer = array.data_ptr() if library == "torch" else array.data.ptr
    return Buffer(pointer, shape, steps_of(shape), dtype, array)


def read(function: str, name: str, array: Any, stream: Any) -> Buffer:
    """Return an array on the device, of any library, without a copy."""
    number, expected = _device_number(array), current().device_number()
    if number not in (None, expected):
        raise UnsupportedError(
            f"{function}: {name} is on CUDA device {number}, expected device {expected}, the current one"
        )
    buffer = _buffer(function, name, array, stream)
    limit(function, name, buffer.shape, buffer.strides)
    return buffer


def current_stream(array: Any) -> Any:
    """Return the stream on which the library of an array works now."""
    library = library_of(array)
    if library == "numba":
        return 0
    from numba import cuda

    module = sys.modules[library]
    if library == "torch":
        handle = module.cuda.current_stream(array.device).cuda_stream
    else:
        handle = module.cuda.get_current_stream().ptr
    return cuda.external_stream(handle) if handle else 0


def _device_number(array: Any) -> int | None:
    """Return the number of the device of an array; None: its library does not say."""
    try:
        kind, number = array.__dlpack_device__()
    except Exception:
        return None
    return int(number) if kind == _CUDA else None


def _buffer(function: str, name: str, array: Any, stream: Any) -> Buffer:
    if SIMULATED and type(array).__name__ == "FakeCUDAArray":
        return _simulated(array)
    if library_of(array) == "torch":
        # A tensor that wants a gradient exports nothing; its values do.
        array = array.detach()
    if hasattr(array, "__cuda_array_interface__"):
        return _from_interface(array, stream)
    try:
        from cuda.core.utils import StridedMemoryView

        view = StridedMemoryView.from_dlpack(array, stream_ptr=int(getattr(stream, "handle", 0) or 0))
    except Exception as error:
        reason = " ".join(str(error).split())
        message = f"{function}: {name} of type {type(array).__name__} cannot be read on the device: {reason}"
        raise UnsupportedError(message) from error
    shape = tuple(view.shape)
    return Buffer(view.ptr, shape, tuple(view.strides or steps_of(shape)), np.dtype(view.dtype), (array, view))


def _simulated(array: Any) -> Buffer:
    """Return an array of the simulator; one that is not contiguous is copied."""
    from numba import cuda

    whole = array._ary.flags.c_contiguous
    flat = array.reshape(-1) if whole else cuda.to_device(np.ascontiguousarray(array._ary).reshape(-1))
    shape = tuple(array._ary.shape)
    return Buffer(flat, shape, steps_of(shape), array._ary.dtype, array)


def _from_interface(array: Any, stream: Any) -> Buffer:
    """Return an array with ``__cuda_array_interface__``; this stream waits for the one that the array names."""
    interface = array.__cuda_array_interface__
    shape, dtype = tuple(interface["shape"]), np.dtype(interface["typestr"])
    strides = interface.get("strides")
    steps = steps_of(shape) if strides is None else tuple(step // dtype.itemsize for step in strides)
    # An axis of one element may have any stride.
    steps = tuple(own if n == 1 else step for n, step, own in zip(shape, steps, steps_of(shape), strict=True))
    producer = interface.get("stream")
    if producer not in (None, getattr(getattr(stream, "handle", None), "value", None)):
        from numba import cuda

        event = cuda.event(timing=False)
        event.record(cuda.external_stream(producer))
        event.wait(stream or cuda.default_stream())
    return Buffer(int(interface["data"][0]), shape, steps, dtype, array)
