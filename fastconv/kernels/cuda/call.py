"""One call of an operation on the device: its arrays, their dtype, and the result as the caller wants it."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastconv.errors import UnsupportedError
from fastconv.kernels.cuda import foreign
from fastconv.kernels.cuda.buffers import Buffer, download, empty, limit, overlap, upload
from fastconv.kernels.cuda.casts import cast
from fastconv.kernels.cuda.memory import as_dtype, code_of
from fastconv.kernels.cuda.moves import copy
from fastconv.kernels.cuda.runtime import require

# In what kernels compute for an array of a dtype, by its name, unless they have that dtype itself.
_WIDER = {
    "float16": "float32",
    "bfloat16": "float32",
    "int8": "int32",
    "uint8": "int32",
    "int16": "int32",
    "uint16": "int32",
    "int32": "int64",
    "uint32": "int64",
}


class Call:
    """Arrays of one call, by name: ndarrays, device arrays or None.

    If one is on the device, the result goes to its library, and ndarrays are copied there; else all are copied, and
    the result comes back as an ndarray. Everything runs on the current stream of the library.

    Attributes
    ----------
    buffers : dict
        The arrays on the device; None for one that is not given.
    dtype : dtype
        Of the result, once `unify` was called.
    """

    def __init__(self, function: str, arrays: dict[str, Any]):
        require(function)
        self.function = function
        self.like = next((a for a in arrays.values() if a is not None and not isinstance(a, np.ndarray)), None)
        self.stream = 0 if self.like is None else foreign.current_stream(self.like)
        self.buffers = {name: None if a is None else self.read(name, a) for name, a in arrays.items()}
        self.dtype: np.dtype = np.dtype("f4")

    @property
    def on_host(self) -> bool:
        """Whether all arrays came from the host."""
        return self.like is None

    def read(self, name: str, array: Any) -> Buffer:
        """Return an array as kernels take it; an ndarray is copied to the device."""
        if isinstance(array, np.ndarray):
            limit(self.function, name, array.shape)
            return upload(array, self.stream)
        return foreign.read(self.function, name, array, self.stream)

    def unify(self, kernels: str, *names: str, out_dtype: Any = None, wrapping: bool = False) -> np.dtype:
        """Bring arrays to the dtype in which a kernel computes, and return that.

        `kernels` are the letters of the dtypes for which there are kernels, as in memory.py; `names` the arrays, all if
        there are none. `self.dtype` becomes the dtype of the result: `out_dtype`, else what NumPy promotes the arrays'
        to. Where sums of integers are taken modulo 2**n, `wrapping`, the bits of the result are enough for them.

        Raises
        ------
        UnsupportedError
            No kernel can hold what the arrays hold.
        """
        chosen = {name: self.buffers[name] for name in names or self.buffers}
        given = [buffer.dtype for buffer in chosen.values() if buffer is not None]
        promoted = np.result_type(*given)
        self.dtype = promoted if out_dtype is None else np.dtype(out_dtype)
        wanted = np.result_type(promoted, self.dtype)
        if wrapping and {promoted.kind, self.dtype.kind} <= {"i", "u"}:
            wanted = np.dtype("int32" if self.dtype.itemsize <= 4 else "int64")
        while code_of(wanted) not in kernels:
            wider = _WIDER.get(wanted.name)
            if wider is None:
                able = ", ".join(as_dtype(code).name for code in kernels)
                raise UnsupportedError(
                    f"{self.function}: arrays of dtype {', '.join(sorted({d.name for d in given}))} on a CUDA device, "
                    f"expected what {able} can hold"
                )
            wanted = np.dtype(wider)
        for name, buffer in chosen.items():
            self.buffers[name] = None if buffer is None else cast(self.stream, buffer, wanted)
        return wanted

    def contiguous(self, name: str) -> Buffer | None:
        """Return an array in C order, itself or a copy, or None if it is not given."""
        buffer = self.buffers[name]
        return buffer if buffer is None or buffer.contiguous else copied(self.stream, buffer)

    def values(self, name: str) -> np.ndarray:
        """Return a copy of an array on the host, once the device has it."""
        buffer = self.contiguous(name)
        assert buffer is not None
        if not hasattr(buffer.owner, "copy_to_host"):
            buffer = copied(self.stream, buffer)
        return download(buffer, self.stream)

    def empty(self, shape: tuple[int, ...], dtype: np.dtype) -> Buffer:
        """Return a new array of the library of the input."""
        limit(self.function, "the result", shape)
        if self.like is None:
            return empty(shape, dtype, self.stream)
        return foreign.new(self.like, shape, dtype, self.stream)

    def target(self, out: Any, shape: tuple[int, ...], dtype: np.dtype) -> Buffer:
        """Return where a kernel writes its result: `out`, if it is contiguous and apart from all inputs, or new."""
        if out is None or isinstance(out, np.ndarray) or dtype != self.dtype:
            return self.empty(shape, dtype)
        buffer = foreign.read(self.function, "out", out, self.stream)
        if not buffer.contiguous or any(b is not None and overlap(buffer, b) for b in self.buffers.values()):
            return self.empty(shape, dtype)
        return buffer

    def finish(self, result: Buffer, out: Any = None, dtype: np.dtype | None = None) -> Any:
        """Return a result as the caller wants it: of the call's dtype, in `out`, as an ndarray, or as it is."""
        result = self._converted(result, self.dtype if dtype is None else dtype)
        if self.like is None:
            values = download(result, self.stream)
            if out is None:
                return values
            out[...] = values
            return out
        if out is None or out is result.owner:
            return result.owner
        target = foreign.read(self.function, "out", out, self.stream)
        if target.pointer is not result.pointer and target.pointer != result.pointer:
            copy(self.stream, result, target)
        return out

    def _converted(self, result: Buffer, dtype: np.dtype) -> Buffer:
        if result.dtype == dtype:
            return result
        target = self.empty(result.shape, dtype)
        return cast(self.stream, result, dtype, target)


def copied(stream: Any, buffer: Buffer) -> Buffer:
    """Return a copy in C order."""
    target = empty(buffer.shape, buffer.dtype, stream)
    copy(stream, buffer, target)
    return target
