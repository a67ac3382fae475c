"""The gradient of a border of the padding modes along one axis: copies of an element are added, in their order."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numba import cuda, types, uint32

from fastconv.kernels.cuda.buffers import Buffer, upload
from fastconv.kernels.cuda.memory import REAL, code_of, load, pointer
from fastconv.kernels.cuda.runtime import Kernel, blocks_of, launch

THREADS = 128


def add_copies(code: str, threads: int) -> Kernel:
    """Return the kernel ``out[o, e, i] = sum of padded[o, p, i] over the places p of e``, one thread for each."""
    real = REAL[code]

    def add_copies_of_elements(padded, table, out, g):
        total, size, length, inner = g
        i = uint32(uint32(uint32(cuda.blockIdx.x) * uint32(threads)) + uint32(cuda.threadIdx.x))
        if i >= total:
            return
        rest = uint32(i // inner)
        outer = uint32(rest // size)
        e = uint32(rest - uint32(outer * size))
        first = uint32(uint32(uint32(outer * length) * inner) + uint32(i - uint32(rest * inner)))
        value = real(0)
        for j in range(load(table, e), load(table, uint32(e + uint32(1)))):
            place = load(table, uint32(uint32(size + uint32(1)) + uint32(j)))
            value += load(padded, uint32(first + uint32(place * inner)))
        out[i] = value

    array = pointer(code)
    return Kernel(add_copies_of_elements, (array, pointer("I"), array, types.UniTuple(types.uint32, 4)), threads)


def run(stream: Any, padded: Buffer, axis: int, source: np.ndarray, out: Buffer) -> None:
    """Fill `out` with the sums along one axis, at whose places the elements `source` stand; both are contiguous."""
    size, inner = out.shape[axis], int(np.prod(out.shape[axis + 1 :], dtype=np.int64))
    if out.size:
        numbers = tuple(map(np.uint32, (out.size, size, len(source), inner)))
        table = _places(source.astype(np.int64).tobytes(), size)
        arguments = (padded, table, out, numbers)
        launch(stream, add_copies, (code_of(out.dtype), THREADS), blocks_of(out.size, THREADS), arguments)


@lru_cache(maxsize=64)
def _places(source: bytes, size: int) -> Buffer:
    """Return where the places of each element begin, then the places."""
    elements = np.frombuffer(source, np.int64)
    begins = np.concatenate([[0], np.cumsum(np.bincount(elements, minlength=size))])
    return upload(np.concatenate([begins, np.argsort(elements, kind="stable")]).astype(np.uint32))
