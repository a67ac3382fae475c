"""A fence around every array of the process: NumPy's memory comes from mappings whose neighbours are closed pages.

Results, temporaries, packed weights, tables and inputs alike, without a change to the code that allocates them. What
lies between an array and the page before it, or behind it, is filled, and looked at when the array is freed: so a stray
write shows on both sides. A stray read crashes on one; the next call has its arrays at the other.

The allocator is machine code, since NumPy frees arrays where Python code may not run.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core.registry import CPUDispatcher
from numba.extending import intrinsic

FILL, PAGE = 0xFF, mmap.PAGESIZE
# Where PyDataMem_SetHandler stands in the table of NumPy's C API.
_SET_HANDLER = 304
_WORD, _SIZE = types.int64, ctypes.c_size_t
# The words that the allocator knows: where blocks stand on their pages, the first free page, how many blocks were found
# damaged, the size of the last of them; where all blocks lie, and the table that has the block of each page.
SIDE, NEXT, DAMAGED, DAMAGED_SIZE, REGION, TABLE = range(6)
# Addresses are never used twice: this much room for blocks, which costs nothing until it is used.
ROOM = 1 << 40


@intrinsic
def _get(typing, address, i):
    """Return the word address[i]."""

    def codegen(context, builder, signature, args):
        at = builder.inttoptr(args[0], ir.IntType(64).as_pointer())
        return builder.load(builder.gep(at, [args[1]]))

    return _WORD(_WORD, _WORD), codegen


@intrinsic
def _put(typing, address, i, value):
    """address[i] = value"""

    def codegen(context, builder, signature, args):
        at = builder.inttoptr(args[0], ir.IntType(64).as_pointer())
        builder.store(args[2], builder.gep(at, [args[1]]))
        return context.get_dummy_value()

    return types.void(_WORD, _WORD, _WORD), codegen


def _libc(name: str, *kinds: Any) -> Any:
    function = getattr(ctypes.CDLL(None), name)
    function.restype, function.argtypes = kinds[0], list(kinds[1:])
    return function


_L, _I = ctypes.c_int64, ctypes.c_int
_mmap = _libc("mmap", _L, _L, _L, _I, _I, _I, _L)
_mprotect = _libc("mprotect", _I, _L, _L, _I)
_madvise = _libc("madvise", _I, _L, _L, _I)
_memset, _memcpy = _libc("memset", _L, _L, _I, _L), _libc("memcpy", _L, _L, _L, _L)


def _compiled(function: Any) -> Any:
    """Compile a function, also with the JIT off, where the built-in functions, which are compiled, are not there."""
    return CPUDispatcher(function, targetoptions={"nopython": True})


@_compiled
def _body(size):
    """Return the size of whole pages."""
    return (size + PAGE - 1) // PAGE * PAGE


@_compiled
def _take(state, size):
    """Return the address of `size` bytes, 0xFF all."""
    size = size if size > 0 else 1
    body, base = _body(size), _get(state, NEXT)
    if base + body + PAGE > _get(state, REGION) + ROOM or _mprotect(base, body, 3):
        return 0
    _put(state, NEXT, base + body + PAGE)
    _memset(base, FILL, body)
    address = base if _get(state, SIDE) else base + body - size
    _enter(state, base, body, address, size)
    return address


@_compiled
def _enter(state, base, body, address, size):
    """Write into the table which block stands on some pages."""
    first = (base - _get(state, REGION)) // PAGE
    for page in range(first, first + body // PAGE):
        _put(_get(state, TABLE), 2 * page, address)
        _put(_get(state, TABLE), 2 * page + 1, size)


@_compiled
def _size_of(state, address):
    """Return the size of the block at an address."""
    return _get(_get(state, TABLE), 2 * ((address - _get(state, REGION)) // PAGE) + 1)


@_compiled
def _is_filled(at, end):
    """Return whether bytes are as they were."""
    while at < end:
        if at % 8 or at + 8 > end:
            if (_get(at - at % 8, 0) >> (8 * (at % 8))) & 255 != FILL:
                return False
            at += 1
        else:
            if _get(at, 0) != -1:
                return False
            at += 8
    return True


@_compiled
def _give_back(state, address):
    """Close the pages of a block, once what surrounds it is found untouched."""
    base, size = address - address % PAGE, _size_of(state, address)
    body = _body(size)
    if not (_is_filled(base, address) and _is_filled(address + size, base + body)):
        _put(state, DAMAGED, _get(state, DAMAGED) + 1)
        _put(state, DAMAGED_SIZE, size)
    _enter(state, base, body, 0, 0)
    # MADV_DONTNEED: the memory is the system's again.
    _madvise(base, body, 4)
    _mprotect(base, body, 0)


@_compiled
def belongs(state, address):
    """Return whether an address is among the blocks."""
    return 0 <= address - _get(state, REGION) < ROOM


@_compiled
def holds(state, address, size):
    """Return whether some bytes among the blocks are part of one."""
    page = (address - _get(state, REGION)) // PAGE
    start, length = _get(_get(state, TABLE), 2 * page), _get(_get(state, TABLE), 2 * page + 1)
    return start <= address and address + size <= start + length


def _malloc(state, size):
    return _take(state, size)


def _calloc(state, count, size):
    address = _take(state, count * size)
    if address:
        _memset(address, 0, count * size)
    return address


def _realloc(state, old, size):
    address = _take(state, size)
    if old and address:
        kept = _size_of(state, old)
        _memcpy(address, old, kept if kept < size else size)
        _give_back(state, old)
    return address


def _free(state, address, size):
    if address:
        _give_back(state, address)


class _Handler(ctypes.Structure):
    """PyDataMem_Handler."""

    _fields_ = [
        *[("name", ctypes.c_char * 127), ("version", ctypes.c_uint8)],
        *[(name, ctypes.c_void_p) for name in ("state", "malloc", "calloc", "realloc", "free")],
    ]


class Fence:
    """Blocks of memory beside closed pages. One for a process, which ends by `leave`, as arrays outlive all else."""

    def __init__(self) -> None:
        self._words = (ctypes.c_int64 * 8)()
        self.state = ctypes.addressof(self._words)
        # MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, closed; then the table, open.
        self._words[REGION] = _mmap(0, ROOM, 0, 0x4022, -1, 0)
        self._words[TABLE] = _mmap(0, ROOM // PAGE * 16, 3, 0x4022, -1, 0)
        assert -1 not in (self._words[REGION], self._words[TABLE])
        self._words[NEXT] = self._words[REGION] + PAGE
        self._code = [
            numba.cfunc(types.void(*[_WORD] * 3) if function is _free else _WORD(*[_WORD] * count))(function)
            for function, count in ((_malloc, 2), (_calloc, 3), (_realloc, 3), (_free, 3))
        ]
        # These two are called from Python.
        self.take = lambda size: _callable(self._code[0], 2)(self.state, size)
        self.give_back = lambda address: _callable(self._code[3], 3)(self.state, address, 0)
        self._handler = _Handler(b"fence", 1, self.state, *(code.address for code in self._code))
        self._capsule = _new_capsule(ctypes.addressof(self._handler), b"mem_handler", None)

    @contextmanager
    def of_numpy(self, side: str = "end") -> Iterator[Fence]:
        """Let all arrays that this thread makes inside be fenced, and stand at the end, or the start, of a page."""
        self._words[SIDE] = side == "start"
        before = _set_handler(self._capsule)
        try:
            yield self
        finally:
            _set_handler(before)
            assert not self._words[DAMAGED], (
                f"beside a block of {self._words[DAMAGED_SIZE]} bytes something was written"
            )

    def holds(self, address: int, size: int) -> bool:
        """Return whether some bytes are part of one block."""
        region, table = self._words[REGION], self._words[TABLE]
        if not region <= address < region + ROOM:
            return False
        start, length = (ctypes.c_int64 * 2).from_address(table + 16 * ((address - region) // PAGE))
        return bool(start <= address and address + size <= start + length)

    def place(self, address: int) -> str:
        """Tell where an address lies: of the block of its page, or of the nearest page before."""
        page = (address - self._words[REGION]) // PAGE
        for near in range(page, max(page - 1000, 0), -1) if 0 <= page < ROOM // PAGE else ():
            start, size = (ctypes.c_int64 * 2).from_address(self._words[TABLE] + 16 * near)
            if size:
                return f"at {address - start} of a block of {size} bytes"
        return f"at {address:#x}, near no block"

    def scratch(self) -> None:
        """Let the scratch of kernels and the buffers of packed weights be fenced, each as large as was asked for.

        One thread runs all: others have memory of their own.
        """
        threads, plan, fence = import_module("fastconv.threads"), import_module("fastconv.dispatch.plan"), self
        threads.set_num_threads(1)

        class Scratch:
            def __init__(self, size: int):
                # The contract promises 64 bytes more than asked for, and a multiple of 64.
                self.size = size
                self.address = fence.take(-(-(size + 64) // 64) * 64)

        assert callable(threads._take)
        assert callable(plan._lines)
        threads._take, threads._give_back = Scratch, lambda scratch: fence.give_back(scratch.address)
        plan._lines = lambda size: np.empty(size, np.uint8)
        plan._Free.take = lambda self, size: plan._lines(size)
        plan._Free.give_back = lambda self, buffer: None


def leave() -> None:
    """End the process at once: what is freed later would look for an allocator that is gone."""
    print("done", flush=True)
    sys.stderr.flush()
    os._exit(0)


def _callable(code: Any, count: int) -> Any:
    return ctypes.CFUNCTYPE(_L if count == 2 else None, *[_L] * count)(code.address)


_new_capsule = ctypes.pythonapi.PyCapsule_New
_new_capsule.restype = ctypes.py_object
_new_capsule.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]


def _c_function(index: int, *kinds: Any) -> Any:
    """Return a function of NumPy's C API."""
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    table = pointer(import_module("numpy._core._multiarray_umath")._ARRAY_API, None)
    return ctypes.PYFUNCTYPE(*kinds)((ctypes.c_void_p * (index + 1)).from_address(table)[index])


_set_handler = _c_function(_SET_HANDLER, ctypes.py_object, ctypes.py_object)
