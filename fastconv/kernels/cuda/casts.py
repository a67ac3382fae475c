"""Elements of one dtype as those of another: one element per thread; bfloat16 is rounded to even."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import cuda, types, uint32

from fastconv.kernels.cuda.buffers import Buffer, empty
from fastconv.kernels.cuda.memory import ELEMENT, as_bits, as_real, code_of, device, pointer
from fastconv.kernels.cuda.moves import copy
from fastconv.kernels.cuda.runtime import Kernel, blocks_of, launch

THREADS = 128
# bfloat16 has no type in Numba; its bits travel as uint16.
BFLOAT16 = "E"


def convert(source: str, target: str, threads: int) -> Kernel:
    """Return the kernel that converts between two element types."""
    change = _change(source, target)

    def convert_elements(x, out, g):
        i = uint32(uint32(uint32(cuda.blockIdx.x) * uint32(threads)) + uint32(cuda.threadIdx.x))
        if i < g[0]:
            out[i] = change(x[i])

    return Kernel(convert_elements, (_pointer(source), _pointer(target), types.UniTuple(types.uint32, 1)), threads)


def _pointer(code: str) -> Any:
    return pointer("H" if code == BFLOAT16 else code)


def _change(source: str, target: str) -> Any:
    if source == BFLOAT16:

        @device
        def widened(bits):
            return as_real(uint32(uint32(bits) << uint32(16)))

        return widened
    if target == BFLOAT16:

        @device
        def rounded(x):
            bits = as_bits(x)
            # Half of the last place that stays, less one if that is even.
            up = uint32(uint32(bits + uint32(0x7FFF)) + uint32(uint32(bits >> uint32(16)) & uint32(1)))
            # A NaN must not become an infinity.
            kept = up if x == x else uint32(bits | uint32(0x400000))
            return types.uint16(uint32(kept >> uint32(16)))

        return rounded
    element = ELEMENT[target]
    return device(lambda x: element(x))


def cast(stream: Any, x: Buffer, dtype: np.dtype, out: Buffer | None = None) -> Buffer:
    """Return a buffer in another dtype, in `out` or new and contiguous; itself if it has that dtype already."""
    if x.dtype == dtype:
        return x
    if not x.contiguous:
        whole = empty(x.shape, x.dtype, stream)
        copy(stream, x, whole)
        x = whole
    if out is None:
        out = empty(x.shape, dtype, stream)
    if x.size:
        codes = code_of(x.dtype), code_of(dtype)
        launch(stream, convert, (*codes, THREADS), blocks_of(x.size, THREADS), (x, out, (np.uint32(x.size),)))
    return out
