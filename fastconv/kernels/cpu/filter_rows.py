"""Rows of any element type as rows of doubles and back.

They are narrowed as C's casts do on x86, where NaN and what is out of range become one value for each integer type.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import config
from numba.extending import intrinsic

from fastconv.kernels.cpu.ir_builder import I64, Lanes, const, counted, outlined
from fastconv.kernels.cpu.memory import array_at

N = types.intp

# An element type is its place here. Behind them: one double that is repeated; and the second way of C to cast a double
# to uint64, by its magnitude.
KINDS: Final = (
    *("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64"),
    *("constant", "uint64 by magnitude"),
)
CONSTANT: Final = KINDS.index("constant")
BY_MAGNITUDE: Final = KINDS.index("uint64 by magnitude")
SIZES: Final = (*(np.dtype(name).itemsize for name in KINDS[:CONSTANT]), 0, 8)

_DOUBLE = ir.DoubleType()


class _Width:
    """Vectors of `lanes` elements, or scalars for 1."""

    def __init__(self, b: ir.IRBuilder, lanes: int):
        self.b, self.lanes = b, lanes

    def of(self, scalar: ir.Type) -> ir.Type:
        """Return the type."""
        return scalar if self.lanes == 1 else ir.VectorType(scalar, self.lanes)

    def splat(self, scalar: ir.Type, value: float) -> ir.Constant:
        """Return a constant."""
        return ir.Constant(self.of(scalar), value if self.lanes == 1 else [value] * self.lanes)

    def load(self, scalar: ir.Type, size: int, pointer: Any) -> Any:
        """Load elements of `size` bytes."""
        return self.b.load(pointer, align=size, typ=self.of(scalar))

    def to_double(self, kind: str, pointer: Any) -> Any:
        """Load elements of a kind as doubles."""
        b, target, scalar, size = self.b, self.of(_DOUBLE), _scalar(kind), SIZES[KINDS.index(kind)]
        value = self.load(scalar, size, pointer)
        if kind == "float64":
            return value
        if kind == "float32":
            return b.fpext(value, target)
        return b.uitofp(value, target) if kind.startswith("u") else b.sitofp(value, target)

    def from_double(self, kind: str, value: Any) -> Any:
        """Return doubles as elements of a kind."""
        b = self.b
        if kind == "float64":
            return value
        if kind == "float32":
            return b.fptrunc(value, self.of(ir.FloatType()))
        if kind == "uint64":
            return self._unsigned(value)
        if kind == "uint64 by magnitude":
            negative = b.fcmp_ordered("<=", value, self.splat(_DOUBLE, -1.0))
            opposite = b.sub(self.splat(I64, 0), self._unsigned(b.fneg(value)))
            return b.select(negative, opposite, self._unsigned(value))
        bits = 64 if kind in ("uint32", "int64") else 32
        result = self._signed(value, bits)
        target = self.of(_scalar(kind))
        return result if result.type == target else b.trunc(result, target)

    def _signed(self, value: Any, bits: int) -> Any:
        """Return value as a signed integer; the least one stands for all that is out of range, as on x86."""
        b, least = self.b, -(2.0 ** (bits - 1))
        inside = b.and_(
            b.fcmp_ordered(">=", value, self.splat(_DOUBLE, least)),
            b.fcmp_ordered("<", value, self.splat(_DOUBLE, -least)),
        )
        value = b.select(inside, value, self.splat(_DOUBLE, least))
        return b.fptosi(value, self.of(ir.IntType(bits)))

    def _unsigned(self, value: Any) -> Any:
        b, half = self.b, self.splat(_DOUBLE, 2.0**63)
        large = b.fcmp_ordered(">=", value, half)
        upper = b.xor(self._signed(b.fsub(value, half), 64), self.splat(I64, -(2**63)))
        return b.select(large, upper, self._signed(value, 64))


def _scalar(kind: str) -> ir.Type:
    if kind.startswith("float"):
        return _DOUBLE if kind == "float64" else ir.FloatType()
    return ir.IntType(8 * SIZES[KINDS.index(kind)])


@contextmanager
def _cases(b: ir.IRBuilder, value: Any) -> Iterator[Callable[[int], Any]]:
    """Emit a switch; each `with case(k):` is the code of one value."""
    end = b.append_basic_block("end")
    switch = b.switch(value, end)

    @contextmanager
    def case(k: int) -> Iterator[None]:
        block = b.append_basic_block(f"case{k}")
        switch.add_case(const(k), block)
        b.position_at_end(block)
        yield
        b.branch(end)

    yield case
    b.position_at_end(end)


def _each(b: ir.IRBuilder, lanes: int, n: Any, emit: Callable[[_Width, Any], None]) -> None:
    """Emit `emit(width, i)` for whole vectors, then for what is left one by one."""
    whole = b.sdiv(n, const(lanes))
    with counted(b, whole) as (i, _, _):
        emit(_Width(b, lanes), b.mul(i, const(lanes)))
    done = b.mul(whole, const(lanes))
    with counted(b, b.sub(n, done)) as (i, _, _):
        emit(_Width(b, 1), b.add(done, i))


def _at(b: ir.IRBuilder, pointer: Any, i: Any, size: int) -> Any:
    return b.gep(pointer, [b.mul(i, const(size))], source_etype=ir.IntType(8))


@intrinsic
def _widen_row(typing, dst, src, kind, n):
    """dst[0:n] = src[0:n], doubles from elements of a kind; CONSTANT: from one double."""

    def emit(b, args):
        v = Lanes(b, 64)
        dst, src, kind, n = v.pointer(args[0]), v.pointer(args[1]), args[2], args[3]
        with _cases(b, kind) as case:
            for k, name in enumerate(KINDS[: CONSTANT + 1]):

                def one(width, i, name=name):
                    if name == "constant":
                        value = b.load(src, align=8, typ=_DOUBLE)
                        value = value if width.lanes == 1 else v.broadcast(value)
                    else:
                        value = width.to_double(name, _at(b, src, i, SIZES[KINDS.index(name)]))
                    b.store(value, _at(b, dst, i, 8), align=8)

                with case(k):
                    _each(b, v.VL, n, one)

    def codegen(context, builder, signature, args):
        outlined(builder, "widen_row", args, emit)
        return context.get_dummy_value()

    return types.void(N, N, N, N), codegen


def widen_row_twin(dst, src, kind, n):
    """Python twin of `widen_row`."""
    row = array_at("f8", dst, n)
    row[:] = array_at("f8", src, 1) if kind == CONSTANT else array_at(KINDS[kind], src, n)


@intrinsic
def _narrow_row(typing, dst, src, kind, n):
    """dst[0:n] = src[0:n], elements of a kind from doubles."""

    def emit(b, args):
        v = Lanes(b, 64)
        dst, src, kind, n = v.pointer(args[0]), v.pointer(args[1]), args[2], args[3]
        with _cases(b, kind) as case:
            for k, name in enumerate(KINDS):
                if k == CONSTANT:
                    continue

                def one(width, i, name=name, size=SIZES[k]):
                    value = width.from_double(name, width.load(_DOUBLE, 8, _at(b, src, i, 8)))
                    b.store(value, _at(b, dst, i, size), align=size)

                with case(k):
                    _each(b, v.VL, n, one)

    def codegen(context, builder, signature, args):
        outlined(builder, "narrow_row", args, emit)
        return context.get_dummy_value()

    return types.void(N, N, N, N), codegen


def narrow_row_twin(dst, src, kind, n):
    """Python twin of `narrow_row`."""
    values, name, size = array_at("f8", src, n), KINDS[kind].partition(" ")[0], SIZES[kind]
    if name.startswith("float"):
        with np.errstate(all="ignore"):
            array_at(name, dst, n)[:] = values
        return
    casts = [_cast(float(value), name, kind == BY_MAGNITUDE) % 256**size for value in values]
    array_at(f"u{size}", dst, n)[:] = np.array(casts, f"u{size}")


def _cast(value: float, name: str, magnitude: bool) -> int:
    if magnitude and value <= -1:
        return -_cast(-value, name, False)
    half = 2.0 ** (63 if name in ("uint32", "int64", "uint64") else 31)
    if name == "uint64" and value >= half:
        return _cast(value - half, "int64", False) ^ 2**63
    return int(value) if -half <= value < half else -int(half)


if config.DISABLE_JIT:
    widen_row, narrow_row = widen_row_twin, narrow_row_twin
else:
    widen_row, narrow_row = _widen_row, _narrow_row
