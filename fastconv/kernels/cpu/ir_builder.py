"""Small vocabulary over llvmlite that the kernel generators share: typed addresses, vectors, counted loops.

Kernels take every array as an integer address. So one signature serves all memory layouts, read-only arrays included,
and a call costs no unboxing of arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import contextmanager
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from fastconv.kernels.cpu import target as targets

I32, I64 = ir.IntType(32), ir.IntType(64)
# An element type is one literal int, BITS: the bits of a float; of an integer, its bits + 1. Its size in bytes is
# BITS // 8 for both.
_SCALARS = {32: ir.FloatType(), 64: ir.DoubleType(), **{n + 1: ir.IntType(n) for n in (8, 16, 32, 64)}}
# Two more are words of four bytes: int32, but that a * x is a dot product. The bytes of a are unsigned and those of x
# signed, or the other way round.
DOTS = UNSIGNED_SIGNED, SIGNED_UNSIGNED = 35, 37


def const(value: int) -> ir.Constant:
    """Return `value` as a 64-bit constant."""
    return ir.Constant(I64, value)


class Lanes:
    """Vectors of one element type on the current target, emitted through one IRBuilder.

    Integers wrap: sums and products are exact modulo 2**bits.
    """

    def __init__(self, builder: ir.IRBuilder, bits: int):
        self.b = builder
        self.dots = bits if bits in DOTS else 0
        bits = 33 if self.dots else bits
        self.bits = bits & ~1
        self.integer = bool(bits & 1)
        self.target = targets.current()
        self.VL = self.target.lanes(bits)
        self.scalar = _SCALARS[bits]
        self.vector = ir.VectorType(self.scalar, self.VL)
        self.zero = ir.Constant(self.vector, [0 if self.integer else 0.0] * self.VL)
        self.suffix = f"v{self.VL}{'i' if self.integer else 'f'}{self.bits}"

    def splat(self, value: float) -> ir.Constant:
        """Return a vector that holds a constant in every lane."""
        return ir.Constant(self.vector, [value] * self.VL)

    def pointer(self, address: Any) -> Any:
        """Return the integer `address` as a pointer."""
        return self.b.inttoptr(address, ir.PointerType())

    def at(self, pointer: Any, index: Any) -> Any:
        """Return pointer + index elements."""
        index = const(index) if isinstance(index, int) else index
        return self.b.gep(pointer, [index], source_etype=self.scalar)

    def at_bytes(self, pointer: Any, offset: Any) -> Any:
        """Return pointer + offset bytes."""
        return self.b.gep(pointer, [offset], source_etype=ir.IntType(8))

    def load(self, pointer: Any) -> Any:
        """Load one unaligned vector."""
        return self.b.load(pointer, align=self.bits // 8, typ=self.vector)

    def store(self, value: Any, pointer: Any) -> None:
        """Store one unaligned vector."""
        self.b.store(value, pointer, align=self.bits // 8)

    def load_scalar(self, pointer: Any) -> Any:
        """Load one element."""
        return self.b.load(pointer, align=self.bits // 8, typ=self.scalar)

    def store_scalar(self, value: Any, pointer: Any) -> None:
        """Store one element."""
        self.b.store(value, pointer, align=self.bits // 8)

    def prefetch(self, pointer: Any) -> None:
        """Ask for the line at an address, which need not exist, in L2."""
        kind = ir.FunctionType(ir.VoidType(), [ir.PointerType(), I32, I32, I32])
        fetch = cgutils.get_or_insert_function(self.b.module, kind, "llvm.prefetch.p0")
        self.b.call(fetch, [pointer, ir.Constant(I32, 0), ir.Constant(I32, 2), ir.Constant(I32, 1)])

    def broadcast(self, value: Any) -> Any:
        """Return a vector with the scalar `value` in every lane."""
        undefined = ir.Constant(self.vector, ir.Undefined)
        one = self.b.insert_element(undefined, value, ir.Constant(I32, 0))
        return self.b.shuffle_vector(one, undefined, ir.Constant(ir.VectorType(I32, self.VL), [0] * self.VL))

    def int_at(self, table: Any, index: Any) -> Any:
        """Load the int64 at table[index]."""
        return self.b.load(self.b.gep(table, [index], source_etype=I64), align=8, typ=I64)

    def clamp(self, value: Any, low: Any, high: Any) -> Any:
        """Return min(max(value, low), high); NaN passes."""
        if self.integer:
            return self.call("smin", [self.call("smax", [value, low]), high])
        value = self.b.select(self.b.fcmp_ordered("<", value, low), low, value)
        return self.b.select(self.b.fcmp_ordered(">", value, high), high, value)

    def call(self, name: str, args: Sequence[Any]) -> Any:
        """Call the LLVM intrinsic `llvm.<name>` on vectors (all operands of the vector type)."""
        full = f"llvm.{name}.{self.suffix}"
        kind = ir.FunctionType(self.vector, [self.vector] * len(args))
        return self.b.call(cgutils.get_or_insert_function(self.b.module, kind, full), args)

    def add(self, x: Any, y: Any) -> Any:
        """Return x + y."""
        return self.b.add(x, y) if self.integer else self.b.fadd(x, y)

    def fma(self, a: Any, x: Any, y: Any) -> Any:
        """Return a * x + y, fused where the target can (a library call per lane elsewhere would be slower)."""
        if self.dots:
            kind = ir.FunctionType(self.vector, [self.vector] * 3)
            name = f"llvm.x86.avx512.vpdpbusd.{self.VL * self.bits}"
            unsigned, signed = (a, x) if self.dots == UNSIGNED_SIGNED else (x, a)
            return self.b.call(cgutils.get_or_insert_function(self.b.module, kind, name), [y, unsigned, signed])
        if self.integer:
            return self.b.add(self.b.mul(a, x), y)
        if self.target.fma:
            return self.call("fma", [a, x, y])
        return self.b.fadd(self.b.fmul(a, x), y)


@contextmanager
def counted(builder: ir.IRBuilder, count: Any, carried: Sequence[tuple[ir.Type, Any]] = ()):
    """Emit `for i in range(count)` with loop-carried values.

    Yields (i, values, result): read `values` (the phis), put the next ones in the list `result`; after the `with`,
    `result` holds the values on exit (those of entry when count <= 0).
    """
    before = builder.block
    head, exit_ = builder.append_basic_block("loop"), builder.append_basic_block("done")
    builder.cbranch(builder.icmp_signed(">", count, const(0)), head, exit_)
    builder.position_at_end(head)
    i = builder.phi(I64)
    i.add_incoming(const(0), before)
    phis = []
    for kind, start in carried:
        phi = builder.phi(kind)
        phi.add_incoming(start, before)
        phis.append(phi)
    result: list[Any] = []
    yield i, phis, result
    nxt = builder.add(i, const(1))
    last = builder.block
    i.add_incoming(nxt, last)
    for phi, value in zip(phis, result, strict=True):
        phi.add_incoming(value, last)
    builder.cbranch(builder.icmp_signed("<", nxt, count), head, exit_)
    builder.position_at_end(exit_)
    for j, (kind, start) in enumerate(carried):
        phi = builder.phi(kind)
        phi.add_incoming(start, before)
        phi.add_incoming(result[j], last)
        result[j] = phi


def outlined(
    builder: ir.IRBuilder, name: str, args: Sequence[Any], emit: Callable[[ir.IRBuilder, Sequence[Any]], None]
):
    """Call a function of the module that `emit(builder, args)` writes once; all arguments are int64.

    A kernel uses a row operation in many places. Inlined, each copy costs compile time and gains nothing.
    """
    function = builder.module.globals.get(name)
    if function is None:
        kind = ir.FunctionType(ir.VoidType(), [I64] * len(args))
        function = ir.Function(builder.module, kind, name)
        function.linkage = "internal"
        function.attributes.add("noinline")
        function.attributes.add("nounwind")
        inner = ir.IRBuilder(function.append_basic_block("entry"))
        emit(inner, function.args)
        inner.ret_void()
    builder.call(function, args)


def literals(*args: Any) -> list[Any] | None:
    """Return the values of literal integer types, or None while one is not literal yet."""
    values = [getattr(a, "literal_value", None) for a in args]
    return None if None in values else values
