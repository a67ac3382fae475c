"""Arrays on the device as kernels take them: an address, sizes and strides in elements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fastconv.errors import UnsupportedError
from fastconv.kernels.cuda.runtime import SIMULATED, current

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
        return self.strides == steps_of(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return int(np.prod(self.shape, dtype=np.int64))

    def reshaped(self, *shape: int) -> Buffer:
        """Return the same elements, contiguous, in another shape of as many."""
        return self._replace(shape=shape, strides=steps_of(shape))

    def part(self, first: int, strides: tuple[int, ...] | None = None) -> Buffer:
        """Return the elements from `first` on, of other strides; of its shape a kernel may only reach what is left."""
        place = self.pointer[first:] if SIMULATED else self.pointer + first * self.dtype.itemsize
        return self._replace(pointer=place, strides=self.strides if strides is None else strides)


def steps_of(shape: Sequence[int]) -> tuple[int, ...]:
    """Return the strides of a contiguous array, in elements."""
    steps, step = [], 1
    for n in reversed(shape):
        steps.append(step)
        step *= max(n, 1)
    return tuple(reversed(steps))


def limit(function: str, name: str, shape: Sequence[int], strides: Sequence[int] | None = None) -> None:
    """Raise unless every element of an array can be reached by a uint32."""
    steps = steps_of(shape) if strides is None else strides
    last = sum((n - 1) * step for n, step in zip(shape, steps, strict=True)) if 0 not in shape else 0
    if last >= LIMIT or any(step < 0 for step in steps):
        raise UnsupportedError(
            f"{function}: {name} has shape {tuple(shape)}, expected fewer than 2**32 - 2**20 elements, and no negative "
            "strides, on a CUDA device"
        )


def _stored(dtype: np.dtype) -> np.dtype:
    """Return the dtype as which Numba keeps elements: bfloat16, which it does not know, as bits."""
    return np.dtype(np.uint16) if dtype.name == "bfloat16" else dtype


def upload(array: np.ndarray, stream: Any = 0) -> Buffer:
    """Return a copy of an ndarray on the device."""
    flat = np.ascontiguousarray(array).reshape(-1)
    # Memory of no bytes has no address.
    flat = flat.view(_stored(array.dtype))
    copied = current().to_device(flat if flat.size else np.zeros(1, flat.dtype), stream)
    return Buffer(current().address(copied), array.shape, steps_of(array.shape), array.dtype, copied)


def empty(shape: tuple[int, ...], dtype: np.dtype, stream: Any = 0) -> Buffer:
    """Return a new Numba array on the device."""
    array = current().device_array(shape, _stored(dtype), stream)
    return Buffer(current().address(array), shape, steps_of(shape), dtype, array)


def download(buffer: Buffer, stream: Any = 0) -> np.ndarray:
    """Return the elements of a Numba array on the device as an ndarray, once all before on the stream is done."""
    values: np.ndarray = np.empty(buffer.shape, buffer.dtype)
    if values.size:
        values[...] = buffer.owner.copy_to_host(stream=stream).view(buffer.dtype)
        if stream:
            stream.synchronize()
    return values


def overlap(a: Buffer, b: Buffer) -> bool:
    """Return whether the memory of two buffers may be shared, by its bounds."""
    if SIMULATED:
        return bool(np.may_share_memory(a.pointer._ary, b.pointer._ary))
    ends = [
        buffer.pointer
        + buffer.dtype.itemsize * (1 + sum((n - 1) * s for n, s in zip(buffer.shape, buffer.strides, strict=True)))
        for buffer in (a, b)
    ]
    return bool(a.pointer < ends[1] and b.pointer < ends[0])
