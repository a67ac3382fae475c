"""Python twins' view of raw addresses: what an intrinsic does when the JIT is off.

Kernels address memory by integers. With NUMBA_DISABLE_JIT=1 (coverage, debugging) the same code runs as plain Python,
and these helpers turn addresses into NumPy arrays. Lanes beyond the edge of an image compute with whatever is in the
scratch, and are never stored; so the twins ignore floating-point warnings, as compiled code does.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from fastconv.kernels.cpu.ir_builder import DOTS, UNSIGNED_SIGNED


def dtype_of(bits: int) -> Any:
    """Return the dtype of an element type: the bits of a float; of an integer, its bits + 1."""
    return np.dtype(f"{'i' if bits & 1 else 'f'}{bits // 8}")


def elements(bits: int, address: int, count: int) -> np.ndarray:
    """Return `count` elements of a type at `address` as a writable array (no copy)."""
    return array_at(dtype_of(bits), address, count)


def products(bits: int, a: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return a * x of an element type; of words of four bytes, their dot products."""
    if bits not in DOTS:
        return a * x
    kinds = (np.uint8, np.int8) if bits == UNSIGNED_SIGNED else (np.int8, np.uint8)
    quads = (np.ascontiguousarray(n)[..., None].view(kind) for n, kind in zip((a, x), kinds, strict=True))
    first, second = (q.astype(np.int32) for q in quads)
    return (first * second).sum(-1, dtype=np.int32)


def ints(address: int, count: int) -> np.ndarray:
    """Return `count` int64 at `address` (no copy)."""
    return array_at(np.int64, address, count)


def array_at(dtype: Any, address: int, count: int) -> Any:
    """Return `count` elements of any dtype at `address` (no copy)."""
    dtype = np.dtype(dtype)
    raw: Any = (ctypes.c_char * (int(count) * dtype.itemsize)).from_address(int(address))
    return np.frombuffer(raw, dtype)
