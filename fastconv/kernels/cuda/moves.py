"""Elements moved to other places: copies, borders of the padding modes, repeated elements, nails.

One kernel for all: along each of five axes a table says where an element of the target comes from, or that it is
a zero. A thread moves one element; neighbours in the target are neighbours in the warp. Elements are moved as bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numba import cuda, types, uint32

from fastconv.kernels.cuda.buffers import Buffer, empty, upload
from fastconv.kernels.cuda.memory import ELEMENT, load, pointer
from fastconv.kernels.cuda.runtime import Kernel, blocks_of, launch

AXES, THREADS = 5, 128
# NumPy's names of the padding modes.
_MODES: dict[str, Any] = {"replicate": "edge", "circular": "wrap", "reflect": "reflect", "symmetric": "symmetric"}
_BITS = {1: "B", 2: "H", 4: "I", 8: "L"}


def gather(code: str, threads: int) -> Kernel:
    """Return the kernel ``target[i] = source[table[i]]`` for elements of so many bits."""
    element = ELEMENT[code]

    def gather_elements(source, target, tables, sizes, steps, places):
        i = uint32(uint32(uint32(cuda.blockIdx.x) * uint32(threads)) + uint32(cuda.threadIdx.x))
        total, rest = sizes[0], i
        if i >= total:
            return
        read, write, inside, first = uint32(0), uint32(0), True, uint32(0)
        for axis in range(AXES):
            # The last axis comes first: its coordinate is the fastest.
            n = sizes[1 + axis]
            quotient = uint32(rest // n)
            at = uint32(rest - uint32(quotient * n))
            rest = quotient
            found = load(tables, uint32(first + at))
            first = uint32(first + n)
            inside = inside and found != uint32(0xFFFFFFFF)
            read = uint32(read + uint32(found * steps[axis]))
            write = uint32(write + uint32(at * places[axis]))
        value = element(0)
        if inside:
            value = load(source, read)
        target[write] = value

    numbers = types.UniTuple(types.uint32, AXES)
    array, table = pointer(code), pointer("I")
    arguments = (array, array, table, types.UniTuple(types.uint32, 1 + AXES), numbers, numbers)
    return Kernel(gather_elements, arguments, threads)


def move(stream: Any, source: Buffer, target: Buffer, indices: Sequence[np.ndarray]) -> None:
    """Fill `target`: along each axis its elements come from those at `indices`; -1: zeros."""
    total = int(np.prod(target.shape, dtype=np.int64))
    if not total:
        return
    missing = AXES - len(target.shape)
    key = tuple(index.astype(np.int64).tobytes() for index in reversed(indices))
    tables = _tables(key, missing)
    sizes = [total, *reversed(target.shape), *[1] * missing]
    steps, places = ([*reversed(buffer.strides), *[0] * missing] for buffer in (source, target))
    numbers = (tuple(map(np.uint32, each)) for each in (sizes, steps, places))
    code = _BITS[target.dtype.itemsize]
    bits = (buffer._replace(pointer=_as_bits(buffer.pointer, code)) for buffer in (source, target))
    launch(stream, gather, (code, THREADS), blocks_of(total, THREADS), (*bits, tables, *numbers))


def copy(stream: Any, source: Buffer, target: Buffer) -> None:
    """Copy the elements of a buffer to another one of the same shape and dtype, both of any strides."""
    move(stream, source, target, [np.arange(n) for n in source.shape])


@lru_cache(maxsize=64)
def _tables(indices: tuple[bytes, ...], missing: int) -> Buffer:
    numbers = [np.frombuffer(index, np.int64) for index in indices] + [np.zeros(1, np.int64)] * missing
    return upload((np.concatenate(numbers) & 0xFFFFFFFF).astype(np.uint32))


def _as_bits(array: Any, code: str) -> Any:
    """Return the array of the simulator that sees the same elements as unsigned integers."""
    return array if isinstance(array, int) else type(array)(array._ary.view(code))


def bordered(stream: Any, x: Buffer, g: Any) -> tuple[Buffer, Any]:
    """Return the input (five axes) with its border, cropped where the padding is negative, and what is left to do."""
    ends = ((g.D, g.PF, g.PK), (g.H, g.PT, g.PB), (g.W, g.PL, g.PR))
    spatial = [_indices(g.padding_mode, *axis) for axis in ends]
    own = np.arange(g.N), np.arange(g.IC)
    indices = [*own, *spatial] if g.layout == "channels_first" else [own[0], *spatial, own[1]]
    padded = empty(tuple(map(len, indices)), x.dtype, stream)
    move(stream, x, padded, indices)
    D, H, W = map(len, spatial)
    return padded, g._replace(D=D, H=H, W=W, PF=0, PK=0, PT=0, PB=0, PL=0, PR=0, padding_mode="zeros")


def _indices(mode: str, n: int, before: int, after: int) -> np.ndarray:
    kept = np.arange(n)[max(0, -before) : n - max(0, -after)]
    return np.pad(kept, (max(0, before), max(0, after)), _MODES[mode])
