"""Arrays beside memory that must not be touched: one element too far is a segmentation fault instead of luck.

A crash would end pytest, so what uses them runs in a process of its own: `run`.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from tests import tiles

ROOT = Path(__file__).resolve().parents[1]
AVAILABLE = sys.platform == "linux"
SIDES = ("end", "start")
# MAP_PRIVATE | MAP_ANONYMOUS, PROT_READ | PROT_WRITE, PROT_NONE.
_FLAGS, _OPEN, _CLOSED = 0x22, 3, 0


def _libc() -> Any:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    return libc


class Pages:
    """Mappings whose first and last page are closed; `with` unmaps them all at its end."""

    def __init__(self) -> None:
        self.libc, self.maps = _libc(), []

    def __enter__(self) -> Pages:
        return self

    def __exit__(self, *error: object) -> None:
        for base, size in self.maps:
            self.libc.munmap(base, size)
        self.maps.clear()

    def address(self, size: int, side: str) -> int:
        """Return the address of `size` bytes that end, or start, at a closed page."""
        page = mmap.PAGESIZE
        body = -(-max(size, 1) // page) * page
        base = self.libc.mmap(None, body + 2 * page, _OPEN, _FLAGS, -1, 0)
        if base in (None, ctypes.c_void_p(-1).value):
            raise MemoryError
        for at in (base, base + page + body):
            if self.libc.mprotect(at, page, _CLOSED):
                raise OSError(ctypes.get_errno(), "mprotect")
        self.maps.append((base, body + 2 * page))
        return base + page + (body - size if side == "end" else 0)

    def empty(self, shape: tuple[int, ...], dtype: Any, side: str = "end") -> np.ndarray:
        """Return an array of zeros that ends, or starts, at a closed page."""
        dtype = np.dtype(dtype)
        size = int(np.prod(shape)) * dtype.itemsize
        if not size:
            return np.zeros(shape, dtype)
        memory = (ctypes.c_char * size).from_address(self.address(size, side))
        return np.frombuffer(memory, dtype).reshape(shape)

    def copy(self, array: np.ndarray | None, side: str = "end") -> np.ndarray | None:
        """Return a copy of an array beside a closed page; of None, None."""
        if array is None:
            return None
        guarded = self.empty(array.shape, array.dtype, side)
        guarded[...] = array
        return guarded


def guard_scratch() -> None:
    """Let every scratch buffer of this process be full of NaN and end, but for its alignment, at a closed page.

    One thread runs all, since a buffer is unmapped when the next one is taken.
    """
    from importlib import import_module

    threads, pages = import_module("fastconv.threads"), Pages()
    threads.set_num_threads(1)

    class Guarded:
        def __init__(self, size: int):
            # The contract promises 64 bytes more than asked for, and a multiple of 64.
            whole = -(-(size + 64) // 64) * 64
            self.address, self.size = pages.address(whole, "end"), size
            ctypes.memset(self.address, 0xFF, whole)

    assert callable(threads._take)
    assert callable(threads._give_back)

    def take(size: int) -> Guarded:
        pages.__exit__()
        return Guarded(size)

    threads._take, threads._give_back = take, lambda scratch: None


def run(code: str, timeout: float = 300, **environment: str) -> str:
    """Run code in a new process, which prints its stack if it crashes, and return what it prints."""
    env = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONFAULTHANDLER": "1"} | environment
    command = [sys.executable, "-c", tiles.setup() + code]
    done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False)
    assert done.returncode == 0, f"exit status {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout
