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
from fastconv.kernels.cuda.memory import ELEMENT, as_dtype, load, pointer
from fastconv.kernels.cuda.runtime import Kernel, blocks_of, launch

AXES, THREADS = 5, 128
# NumPy's names of the padding modes.
_MODES: dict[str, Any] = {"replicate": "edge", "circular": "wrap", "reflect": "reflect", "symmetric": "symmetric"}
# The unsigned integers as which elements of so many bytes are moved.
BITS = {1: "B", 2: "H", 4: "I", 8: "L"}


def gather(code: str, threads: int) -> Kernel:
    """Return the kernel ``target[i] = source[table[i]]`` for elements of so many bits; `outside` is what -1 means."""
    element = ELEMENT[code]

    def gather_elements(source, target, tables, sizes, steps, places, outside):
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
        value = outside[0]
        if inside:
            value = load(source, read)
        target[write] = value

    numbers = types.UniTuple(types.uint32, AXES)
    array, table = pointer(code), pointer("I")
    fill = types.UniTuple(element, 1)
    arguments = (array, array, table, types.UniTuple(types.uint32, 1 + AXES), numbers, numbers, fill)
    return Kernel(gather_elements, arguments, threads)


def move(stream: Any, source: Buffer, target: Buffer, indices: Sequence[np.ndarray], fill: Any = 0) -> None:
    """Fill `target`: along each axis its elements come from those at `indices`; -1: `fill`."""
    total = int(np.prod(target.shape, dtype=np.int64))
    if not total:
        return
    missing = AXES - len(target.shape)
    key = tuple(index.astype(np.int64).tobytes() for index in reversed(indices))
    tables = _tables(key, missing)
    sizes = [total, *reversed(target.shape), *[1] * missing]
    steps, places = ([*reversed(buffer.strides), *[0] * missing] for buffer in (source, target))
    numbers = (tuple(map(np.uint32, each)) for each in (sizes, steps, places))
    code = BITS[target.dtype.itemsize]
    outside = (np.full(1, fill, target.dtype).view(as_dtype(code))[0],)
    bits = (as_bits(buffer, code) for buffer in (source, target))
    launch(stream, gather, (code, THREADS), blocks_of(total, THREADS), (*bits, tables, *numbers, outside))


def copy(stream: Any, source: Buffer, target: Buffer) -> None:
    """Copy the elements of a buffer to another one of the same shape and dtype, both of any strides."""
    move(stream, source, target, [np.arange(n) for n in source.shape])


@lru_cache(maxsize=64)
def _tables(indices: tuple[bytes, ...], missing: int) -> Buffer:
    numbers = [np.frombuffer(index, np.int64) for index in indices] + [np.zeros(1, np.int64)] * missing
    return upload((np.concatenate(numbers) & 0xFFFFFFFF).astype(np.uint32))


def as_bits(buffer: Buffer, code: str) -> Buffer:
    """Return the buffer whose elements are taken as unsigned integers, which only the simulator tells apart."""
    array = buffer.pointer
    return buffer if isinstance(array, int) else buffer._replace(pointer=type(array)(array._ary.view(code)))


def bordered(stream: Any, x: Buffer, g: Any, fill: Any = 0) -> tuple[Buffer, Any]:
    """Return the input (five axes) with its border, cropped where the padding is negative, and what is left to do.

    `fill` is what stands in the padding of mode "zeros".
    """
    ends = ((g.D, g.PF, g.PK), (g.H, g.PT, g.PB), (g.W, g.PL, g.PR))
    spatial = [_indices(g.padding_mode, *axis) for axis in ends]
    own = np.arange(g.N), np.arange(g.IC)
    indices = [*own, *spatial] if g.layout == "channels_first" else [own[0], *spatial, own[1]]
    padded = empty(tuple(map(len, indices)), x.dtype, stream)
    move(stream, x, padded, indices, fill)
    D, H, W = map(len, spatial)
    return padded, g._replace(D=D, H=H, W=W, PF=0, PK=0, PT=0, PB=0, PL=0, PR=0, padding_mode="zeros")


def _indices(mode: str, n: int, before: int, after: int) -> np.ndarray:
    kept = np.arange(n)[max(0, -before) : n - max(0, -after)]
    widths = max(0, before), max(0, after)
    return np.pad(kept, widths, constant_values=-1) if mode == "zeros" else np.pad(kept, widths, _MODES[mode])
