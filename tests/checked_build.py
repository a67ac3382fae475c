"""A build of the kernels that checks every address: before each load and store it looks at the fence's table.

Numba's own bounds checks know arrays; our kernels have addresses. So the check stands where machine code is made: in
the builder of LLVM's instructions, for what kernels and row operations load and store, masked lanes and tiles included.
An access among the arrays that is not inside one of them, or inside one scratch buffer, ends the process with the
function, the instruction, and where the access lies. What lies apart from all arrays passes: variables on the stack,
and on Numba's heap. Import this before any kernel, and keep nothing on disk (FASTCONV_DISABLE_CACHE=1).
"""

from __future__ import annotations

import ctypes
import os
import sys
import traceback
from pathlib import Path
from typing import Any

import numba
from llvmlite import ir
from numba import types

from tests.fence import Fence, belongs, holds

STATUS = 97
I64 = ir.IntType(64)
# How the names of Numba's own functions begin.
_OTHERS = ("_ZN", "NRT", "numba", "cfunc", "Py", "cpython")
# Intrinsics that address memory: what their operands are.
_MASKED_LOAD, _MASKED_STORE, _COPY, _FILL = "llvm.masked.load", "llvm.masked.store", "llvm.memcpy", "llvm.memset"
_TILES = ("llvm.x86.tileloadd64", "llvm.x86.tilestored64")
_GATHER, _PALETTE = "llvm.x86.avx512.mask.gather.dps.512", "llvm.x86.ldtilecfg"


class Sites:
    """Where checks stand, by number."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def add(self, function: str, what: str) -> int:
        """Number an access that is being emitted."""
        frames = traceback.extract_stack()[:-3]
        ours = [f"{Path(f.filename).name}:{f.lineno} {f.name}" for f in frames if "/fastconv/kernels/" in f.filename]
        self.texts.append(f"{what} of {function[:160]}, emitted by {' < '.join(reversed(ours[-4:]))}")
        return len(self.texts) - 1


class Checks:
    """What is put into each kernel; `install` before the first one is compiled."""

    def __init__(self, fence: Fence):
        self.sites, self.state = Sites(), fence.state
        state = fence.state

        @ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)
        def fail(address: int, size: int, site: int) -> None:
            print(
                f"\noutside: {self.sites.texts[site]}: {size} bytes {fence.place(address)}", file=sys.stderr, flush=True
            )
            os._exit(STATUS)

        self._fail = fail

        @numba.cfunc(types.void(types.int64, types.int64, types.int64))
        def check(address, size, site):
            if size > 0 and belongs(state, address) and not holds(state, address, size):
                fail(address, size, site)

        self._check = check
        self.count = 0

    def install(self) -> None:
        """Let the builder check."""
        load, store, call = ir.IRBuilder.load, ir.IRBuilder.store, ir.IRBuilder.call
        checks = self

        def checked_load(builder: Any, ptr: Any, name: str = "", align: Any = None, typ: Any = None) -> Any:
            checks.before(builder, "load", ptr, typ or getattr(ptr.type, "pointee", None))
            return load(builder, ptr, name, align, typ)

        def checked_store(builder: Any, value: Any, ptr: Any, align: Any = None) -> Any:
            checks.before(builder, "store", ptr, value.type)
            return store(builder, value, ptr, align)

        def checked_call(builder: Any, fn: Any, args: Any, *more: Any, **keywords: Any) -> Any:
            checks.before_call(builder, str(getattr(fn, "name", "")), list(args))
            return call(builder, fn, args, *more, **keywords)

        self._call = call
        ir.IRBuilder.load, ir.IRBuilder.store, ir.IRBuilder.call = checked_load, checked_store, checked_call

    def before(self, builder: Any, what: str, pointer: Any, kind: Any) -> None:
        """Emit the check of an access of a type."""
        if self._wanted(builder) and not _is_local(pointer):
            self.emit(builder, what, pointer, ir.Constant(I64, _size(kind)))

    def before_call(self, builder: Any, name: str, args: list[Any]) -> None:
        """Emit the checks of an intrinsic."""
        if not name.startswith("llvm.") or not self._wanted(builder):
            return
        if name.startswith(_MASKED_LOAD):
            self._masked(builder, name, args[0], args[2], args[3].type)
        elif name.startswith(_MASKED_STORE):
            self._masked(builder, name, args[1], args[3], args[0].type)
        elif name.startswith(_COPY):
            self.emit(builder, name, args[0], args[2])
            self.emit(builder, name, args[1], args[2])
        elif name.startswith(_FILL):
            self.emit(builder, name, args[0], args[2])
        elif name in _TILES:
            address = builder.ptrtoint(args[1], I64)
            for row in range(16):
                at = builder.add(address, builder.mul(args[2], ir.Constant(I64, row)))
                self.emit(builder, name, at, ir.Constant(I64, 64))
        elif name == _PALETTE:
            self.emit(builder, name, args[0], ir.Constant(I64, 64))
        elif name == _GATHER:
            self._gather(builder, name, *args[1:4])
        else:
            # What else has a pointer may not be checked unseen.
            addressed = any(isinstance(a.type, ir.PointerType) for a in args)
            assert not addressed or name.startswith(("llvm.prefetch", "llvm.lifetime")), name

    def emit(self, builder: Any, what: str, pointer: Any, size: Any) -> None:
        """Emit one check."""
        self.count += 1
        address = pointer if pointer.type == I64 else builder.ptrtoint(pointer, I64)
        kind = ir.FunctionType(ir.VoidType(), [I64] * 3)
        function = builder.inttoptr(ir.Constant(I64, self._check.address), kind.as_pointer())
        site = self.sites.add(builder.function.name, what)
        self._call(builder, function, [address, size, ir.Constant(I64, site)])

    def _wanted(self, builder: Any) -> bool:
        name = builder.function.name
        return name.startswith("_ZN8fastconv") or not name.startswith(_OTHERS)

    def _masked(self, builder: Any, what: str, pointer: Any, mask: Any, kind: Any) -> None:
        """Emit the check of the lanes from the first to the last that a mask has."""
        lanes, size = kind.count, _size(kind.element)
        bits, wide = ir.IntType(lanes), I64
        word = builder.zext(builder.bitcast(mask, bits), wide) if lanes < 64 else builder.bitcast(mask, bits)
        no = ir.Constant(ir.IntType(1), 0)
        first, above = builder.cttz(word, no), builder.ctlz(word, no)
        address = builder.add(builder.ptrtoint(pointer, I64), builder.mul(first, ir.Constant(I64, size)))
        count = builder.sub(builder.sub(ir.Constant(I64, 64), above), first)
        self.emit(builder, what, address, builder.mul(count, ir.Constant(I64, size)))

    def _gather(self, builder: Any, what: str, base: Any, index: Any, mask: Any) -> None:
        """Emit the check of each lane of a gather of four bytes."""
        for lane in range(16):
            at = builder.extract_element(index, ir.Constant(ir.IntType(32), lane))
            at = builder.add(builder.ptrtoint(base, I64), builder.mul(builder.sext(at, I64), ir.Constant(I64, 4)))
            on = (
                mask
                if isinstance(mask.type, ir.VectorType)
                else builder.bitcast(mask, ir.VectorType(ir.IntType(1), 16))
            )
            on = builder.zext(builder.extract_element(on, ir.Constant(ir.IntType(32), lane)), I64)
            self.emit(builder, what, at, builder.mul(on, ir.Constant(I64, 4)))


def _is_local(pointer: Any) -> bool:
    """Return whether a pointer leads to a variable of the function, to a constant, or to where its result goes."""
    while isinstance(pointer, (ir.GEPInstr, ir.CastInstr)):
        if isinstance(pointer, ir.CastInstr) and not isinstance(pointer.operands[0].type, ir.PointerType):
            return False
        pointer = pointer.operands[0]
    return isinstance(pointer, (ir.AllocaInstr, ir.GlobalVariable, ir.Constant, ir.Argument))


def _size(kind: Any) -> int:
    """Return the bytes of a type."""
    if isinstance(kind, ir.VectorType):
        return int(kind.count) * _size(kind.element)
    if isinstance(kind, ir.IntType):
        return -(-kind.width // 8)
    sizes = {ir.FloatType: 4, ir.DoubleType: 8, ir.PointerType: 8}
    return next(size for each, size in sizes.items() if isinstance(kind, each))
