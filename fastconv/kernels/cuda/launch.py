"""The launch layer: arrays on the device, their libraries and streams, and kernels compiled when first launched.

Kernels take flat pointers and uint32 sizes, so that one compilation serves all shapes; results are allocated by the
library that the input comes from, on whose current stream everything runs; nothing is synchronised but what is copied
back to the host. With NUMBA_ENABLE_CUDASIM=1 the same functions run in Numba's simulator, on NumPy arrays.
"""

from __future__ import annotations

import importlib.util
import sys
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numba.core import config

from fastconv.errors import UnsupportedError

SIMULATED = bool(config.ENABLE_CUDASIM)
INSTALL = 'pip install "fastconv[cuda]"'

# Numbers of elements and coordinates are uint32; what a tile adds beyond the last element must not wrap either.
LIMIT = 2**32 - 2**20
# Of blocks along y and z.
GRID_LIMIT = 65535


class Buffer(NamedTuple):
    """Elements on the device: what a kernel gets for a pointer, and strides in elements; `owner` keeps them alive."""

    pointer: Any
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: np.dtype
    owner: Any

    @property
    def contiguous(self) -> bool:
        """Whether the elements stand in C order without gaps."""
        return self.strides == _contiguous(self.shape)


class Kernel(NamedTuple):
    """A kernel for one tile and dtype: a Python function, the types of its arguments, the threads of a block."""

    function: Callable[..., None]
    types: tuple[Any, ...]
    threads: int
    # How many blocks a multiprocessor shall hold, which bounds the registers.
    blocks: int = 1


@cache
def missing() -> str | None:
    """Return what CUDA lacks on this machine, in words, or None."""
    if SIMULATED:
        return None
    if importlib.util.find_spec("numba_cuda") is None:
        return "the package numba-cuda is not installed"
    try:
        from numba import cuda

        if cuda.is_available():
            return None
        error = cuda.cuda_error()
    except Exception as raised:
        error = raised
    return " ".join(str(error or "there is no CUDA device").split())[:160]


def require(function: str) -> None:
    """Raise `UnsupportedError`, which says what is missing, unless kernels can run."""
    reason = missing()
    if reason is not None:
        raise UnsupportedError(f'{function}: device = "cuda" is not there: {reason}; {INSTALL} installs what it needs')


@cache
def compiled(build: Callable[..., Kernel], *literals: Any) -> tuple[Any, Kernel]:
    """Return a kernel, ready to launch, and its record."""
    from numba import cuda

    kernel = build(*literals)
    if SIMULATED:
        return cuda.jit(kernel.function), kernel
    from numba import types

    bounds = (kernel.threads, kernel.blocks)
    return cuda.jit(types.void(*kernel.types), launch_bounds=bounds)(kernel.function), kernel


def launch(stream: Any, build: Callable[..., Kernel], literals: Sequence[Any], grid: Any, arguments: Any) -> None:
    """Run ``build(*literals)`` on a grid of blocks; arguments are buffers, None, and tuples of scalars."""
    ready, kernel = compiled(build, *literals)
    given = [a.pointer if isinstance(a, Buffer) else a for a in arguments]
    if not SIMULATED:
        ready[grid, kernel.threads, stream](*[0 if a is None else a for a in given])
        return
    with warnings.catch_warnings():
        # Unsigned numbers wrap on purpose, and floats overflow as they do on the device.
        warnings.simplefilter("ignore", RuntimeWarning)
        ready[grid, kernel.threads](*[_NOTHING if a is None else a for a in given])


_NOTHING = np.zeros(1, np.float32)


def blocks_of(elements: int, threads: int) -> int:
    """Return how many blocks give every element a thread."""
    return -(-elements // threads)


class Call:
    """One call of an operation on the device: where its arrays live, and on which stream it runs.

    `arrays` are by name ndarrays, device arrays or None. If one is on the device, the result goes to its library, and
    ndarrays are copied there; else all are copied, and the result comes back as an ndarray.
    """

    def __init__(self, function: str, arrays: dict[str, Any]):
        require(function)
        self.function = function
        first = next((a for a in arrays.values() if a is not None and not isinstance(a, np.ndarray)), None)
        self.library = "host" if first is None else library_of(first)
        self.stream, self._device = _current_stream(self.library, first), first
        self.buffers = {name: None if a is None else self.read(name, a) for name, a in arrays.items()}

    def read(self, name: str, array: Any) -> Buffer:
        """Return an array as kernels take it; an ndarray is copied to the device."""
        if isinstance(array, np.ndarray):
            return upload(array, self.stream)
        buffer = _device_buffer(self.function, name, array, self.stream)
        limit(self.function, name, buffer.shape, buffer.strides)
        return buffer

    def empty(self, shape: tuple[int, ...], dtype: np.dtype) -> Buffer:
        """Return a new array of the library of the input."""
        limit(self.function, "the result", shape)
        if self.library in ("torch", "cupy"):
            module = sys.modules[self.library]
            where = {"device": self._device.device} if self.library == "torch" else {}
            array = module.empty(shape, dtype=getattr(module, dtype.name), **where)
            pointer = array.data_ptr() if self.library == "torch" else array.data.ptr
            return Buffer(pointer, shape, _contiguous(shape), dtype, array)
        return empty(shape, dtype, self.stream)

    def target(self, out: Any, shape: tuple[int, ...], dtype: np.dtype) -> Buffer:
        """Return where a kernel writes its result: `out`, if it is contiguous and apart from all inputs, or new."""
        if out is None or isinstance(out, np.ndarray):
            return self.empty(shape, dtype)
        buffer = _device_buffer(self.function, "out", out, self.stream)
        if not buffer.contiguous or any(b is not None and _overlap(buffer, b) for b in self.buffers.values()):
            return self.empty(shape, dtype)
        return buffer

    def finish(self, result: Buffer, out: Any = None) -> Any:
        """Return a result as the caller wants it: in `out`, as an ndarray, or as it is."""
        if self.library == "host":
            values = download(result, self.stream)
            if out is None:
                return values
            out[...] = values
            return out
        if out is None or out is result.owner:
            return result.owner
        target = _device_buffer(self.function, "out", out, self.stream)
        if target.pointer is not result.pointer and target.pointer != result.pointer:
            from fastconv.kernels.cuda.moves import copy

            copy(self.stream, result, target)
        return out


def limit(function: str, name: str, shape: Sequence[int], strides: Sequence[int] | None = None) -> None:
    """Raise unless every element of an array can be reached by a uint32."""
    steps = _contiguous(shape) if strides is None else strides
    last = sum((n - 1) * step for n, step in zip(shape, steps, strict=True)) if 0 not in shape else 0
    if last >= LIMIT or any(step < 0 for step in steps):
        raise UnsupportedError(
            f"{function}: {name} has shape {tuple(shape)}, expected fewer than 2**32 - 2**20 elements, and no negative "
            "strides, on a CUDA device"
        )


def library_of(array: Any) -> str:
    """Return "torch", "cupy" or "numba": who allocates results for an array on the device, and has its stream."""
    package = type(array).__module__.partition(".")[0]
    return package if package in ("torch", "cupy") else "numba"


def is_device_array(array: Any) -> bool:
    """Return whether this is an array of the simulator's device."""
    return SIMULATED and type(array).__name__ == "FakeCUDAArray"


def upload(array: np.ndarray, stream: Any = 0) -> Buffer:
    """Return a copy of an ndarray on the device."""
    from numba import cuda

    flat = np.ascontiguousarray(array).reshape(-1)
    # Memory of no bytes has no address.
    copied = cuda.to_device(flat if flat.size else np.zeros(1, array.dtype), stream=stream)
    return Buffer(_pointer(copied), array.shape, _contiguous(array.shape), array.dtype, copied)


def empty(shape: tuple[int, ...], dtype: np.dtype, stream: Any = 0) -> Buffer:
    """Return a new Numba array on the device."""
    from numba import cuda

    array = cuda.device_array(shape, dtype, stream=stream)
    if SIMULATED and dtype.kind == "f":
        # What a kernel leaves out must show.
        array._ary.fill(np.nan)
    return Buffer(_pointer(array.reshape(-1) if SIMULATED else array), shape, _contiguous(shape), dtype, array)


def download(buffer: Buffer, stream: Any = 0) -> np.ndarray:
    """Return the elements of a Numba array on the device as an ndarray, once all before on the stream is done."""
    values: np.ndarray = np.empty(buffer.shape, buffer.dtype)
    if values.size:
        values[...] = buffer.owner.copy_to_host(stream=stream)
        if not SIMULATED and stream:
            stream.synchronize()
    return values


def _pointer(array: Any) -> Any:
    """Return what a kernel gets for a Numba array."""
    return array if SIMULATED else int(array.__cuda_array_interface__["data"][0])


def _contiguous(shape: Sequence[int]) -> tuple[int, ...]:
    steps, step = [], 1
    for n in reversed(shape):
        steps.append(step)
        step *= max(n, 1)
    return tuple(reversed(steps))


def _overlap(a: Buffer, b: Buffer) -> bool:
    """Return whether the memory of two buffers may be shared, by its bounds."""
    if SIMULATED:
        return bool(np.may_share_memory(a.pointer._ary, b.pointer._ary))
    ends = [
        buffer.pointer
        + buffer.dtype.itemsize * (1 + sum((n - 1) * s for n, s in zip(buffer.shape, buffer.strides, strict=True)))
        for buffer in (a, b)
    ]
    return bool(a.pointer < ends[1] and b.pointer < ends[0])


def _device_buffer(function: str, name: str, array: Any, stream: Any) -> Buffer:
    """Return an array on the device, of any library, without a copy."""
    if is_device_array(array):
        values = array._ary if array._ary.flags.c_contiguous else np.ascontiguousarray(array._ary)
        from numba import cuda

        flat = array.reshape(-1) if values is array._ary else cuda.to_device(values.reshape(-1))
        return Buffer(flat, array.shape, _contiguous(array.shape), values.dtype, array)
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
    return Buffer(view.ptr, shape, tuple(view.strides or _contiguous(shape)), np.dtype(view.dtype), (array, view))


def _from_interface(array: Any, stream: Any) -> Buffer:
    """Return an array with ``__cuda_array_interface__``; this stream waits for the one that the array names."""
    interface = array.__cuda_array_interface__
    shape, dtype = tuple(interface["shape"]), np.dtype(interface["typestr"])
    strides = interface.get("strides")
    steps = _contiguous(shape) if strides is None else tuple(step // dtype.itemsize for step in strides)
    # An axis of one element may have any stride.
    steps = tuple(own if n == 1 else step for n, step, own in zip(shape, steps, _contiguous(shape), strict=True))
    producer = interface.get("stream")
    if producer not in (None, getattr(getattr(stream, "handle", None), "value", None)):
        from numba import cuda

        event = cuda.event(timing=False)
        event.record(cuda.external_stream(producer))
        event.wait(stream or cuda.default_stream())
    return Buffer(int(interface["data"][0]), shape, steps, dtype, array)


def _current_stream(library: str, array: Any) -> Any:
    """Return the stream on which the library of an array works now."""
    if library not in ("torch", "cupy"):
        return 0
    from numba import cuda

    module = sys.modules[library]
    if library == "torch":
        handle = module.cuda.current_stream(array.device).cuda_stream
    else:
        handle = module.cuda.get_current_stream().ptr
    return cuda.external_stream(handle) if handle else 0
