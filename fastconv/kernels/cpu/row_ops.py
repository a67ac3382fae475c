"""Operations on one row of elements, emitted as vectors.

They move data between arrays and scratch (packing) and finish tiles (bias, residual, clamp). No element outside the row
is ever read; only `fill_rows` writes behind it, into scratch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic

from fastconv.kernels.cpu import target as targets
from fastconv.kernels.cpu.ir_builder import I32, I64, Lanes, const, counted, literals, outlined
from fastconv.kernels.cpu.memory import elements, ints

N = types.intp


class Row:
    """Loads and stores of one step of a row: whole vectors, or masked ones."""

    def __init__(self, v: Lanes, mask: Any = None):
        self.v = v
        self.mask = mask

    def load(self, pointer: Any) -> Any:
        """Load VL elements, or those of the mask (zero elsewhere)."""
        if self.mask is None:
            return self.v.load(pointer)
        return self._masked("load", self.v.vector, [pointer, self._align(), self.mask, self.v.zero])

    def store(self, value: Any, pointer: Any) -> None:
        """Store VL elements, or those of the mask."""
        if self.mask is None:
            self.v.store(value, pointer)
        else:
            self._masked("store", ir.VoidType(), [value, pointer, self._align(), self.mask])

    def _align(self) -> ir.Constant:
        return ir.Constant(I32, self.v.bits // 8)

    def _masked(self, what: str, result: ir.Type, args: list[Any]) -> Any:
        name = f"llvm.masked.{what}.{self.v.suffix}.p0"
        kind = ir.FunctionType(result, [a.type for a in args])
        return self.v.b.call(cgutils.get_or_insert_function(self.v.b.module, kind, name), args)


def first_lanes(v: Lanes, count: Any) -> Any:
    """Return the mask of the first `count` lanes."""
    lanes = ir.Constant(ir.VectorType(I32, v.VL), list(range(v.VL)))
    undefined = ir.Constant(lanes.type, ir.Undefined)
    limit = v.b.insert_element(undefined, v.b.trunc(count, I32), ir.Constant(I32, 0))
    limit = v.b.shuffle_vector(limit, undefined, ir.Constant(lanes.type, [0] * v.VL))
    return v.b.icmp_signed("<", lanes, limit)


def each_vector(v: Lanes, n: Any, emit: Callable[[Any, Row], None], repeatable: bool = True) -> None:
    """Emit `emit(i, row)` for the vectors of a row of n elements.

    The ragged end of a long row is one more whole vector that overlaps its neighbour, since a masked store is slow on
    some CPUs; short rows, and rows that are changed in place (not `repeatable`), are masked.
    """
    b, one = v.b, const(v.VL)
    whole = b.sdiv(n, one)
    with counted(b, whole) as (i, _, _):
        emit(b.mul(i, one), Row(v))
    done = b.mul(whole, one)
    rest = b.sub(n, done)
    with b.if_then(b.icmp_signed(">", rest, const(0))):
        if not repeatable:
            emit(done, Row(v, first_lanes(v, rest)))
            return
        with b.if_else(b.icmp_signed(">=", n, one)) as (long, short):
            with long:
                emit(b.sub(n, one), Row(v))
            with short:
                emit(done, Row(v, first_lanes(v, rest)))


@intrinsic(prefer_literal=True)
def _copy_row(typing, BITS, dst, src, n):
    """dst[0:n] = src[0:n]"""
    value = literals(BITS)
    if value is None:
        return None

    def emit(builder, args):
        v = Lanes(builder, *value)
        dst, src = v.pointer(args[0]), v.pointer(args[1])
        each_vector(v, args[2], lambda i, row: row.store(row.load(v.at(src, i)), v.at(dst, i)))

    def codegen(context, builder, signature, args):
        outlined(builder, f"copy_row_{value[0]}", args[1:], emit)
        return context.get_dummy_value()

    return types.void(BITS, N, N, N), codegen


def copy_row_twin(BITS, dst, src, n):
    """Python twin of `copy_row`."""
    elements(BITS, dst, n)[:] = elements(BITS, src, n)


@intrinsic(prefer_literal=True)
def _zero_row(typing, BITS, dst, n):
    """dst[0:n] = 0"""
    value = literals(BITS)
    if value is None:
        return None

    def emit(builder, args):
        v = Lanes(builder, *value)
        dst = v.pointer(args[0])
        each_vector(v, args[1], lambda i, row: row.store(v.zero, v.at(dst, i)))

    def codegen(context, builder, signature, args):
        outlined(builder, f"zero_row_{value[0]}", args[1:], emit)
        return context.get_dummy_value()

    return types.void(BITS, N, N), codegen


def zero_row_twin(BITS, dst, n):
    """Python twin of `zero_row`."""
    elements(BITS, dst, n)[:] = 0


def _emit_zeros(v: Lanes, dst: Any, n: Any) -> None:
    """Emit dst[0:n] = 0, and up to VL elements more.

    The first vector stands apart: LLVM makes a call of memset from a loop, which costs more than most borders.
    """
    b = v.b
    v.store(v.zero, dst)
    with (
        b.if_then(b.icmp_signed(">", n, const(v.VL)), likely=False),
        counted(b, b.sdiv(b.sub(n, const(1)), const(v.VL))) as (i, _, _),
    ):
        v.store(v.zero, v.at(dst, b.mul(b.add(i, const(1)), const(v.VL))))


def _emit_gather(v: Lanes, dst: Any, src: Any, step: Any, n: Any) -> None:
    """Emit dst[i] = src[i * step], i < n; step 2 by shuffles of whole vectors."""
    b = v.b
    # The vector loop stops one element early: it reads 2 * VL elements, of which the last is not part of the row.
    whole = b.sdiv(b.sub(n, const(1)), const(v.VL))
    whole = b.select(b.icmp_signed("==", step, const(2)), whole, const(0))
    whole = b.select(b.icmp_signed(">", whole, const(0)), whole, const(0))
    even = ir.Constant(ir.VectorType(I32, v.VL), list(range(0, 2 * v.VL, 2)))
    with counted(b, whole) as (i, _, _):
        i = b.mul(i, const(v.VL))
        p = v.at(src, b.mul(i, const(2)))
        v.store(b.shuffle_vector(v.load(p), v.load(v.at(p, v.VL)), even), v.at(dst, i))
    done = b.mul(whole, const(v.VL))
    with counted(b, b.sub(n, done)) as (i, _, _):
        i = b.add(i, done)
        v.store_scalar(v.load_scalar(v.at(src, b.mul(i, step))), v.at(dst, i))


def _emit_spilled_copy(v: Lanes, dst: Any, src: Any, n: Any) -> None:
    """Emit dst[0:n] = src[0:n]; a row shorter than a vector writes a whole one, but never reads beyond its end."""
    b, one = v.b, const(v.VL)
    with b.if_else(b.icmp_signed(">=", n, one)) as (long, short):
        with long:
            with counted(b, b.sdiv(n, one)) as (i, _, _):
                i = b.mul(i, one)
                v.store(v.load(v.at(src, i)), v.at(dst, i))
            last = b.sub(n, one)
            v.store(v.load(v.at(src, last)), v.at(dst, last))
        with short:
            v.store(Row(v, first_lanes(v, n)).load(src), dst)


@intrinsic(prefer_literal=True)
def _fill_rows(typing, BITS, dst, src, rows, lds, first, last, step, n):
    """dst[r * n + i] = src[r * lds + (i - first) * step] for first <= i < last, 0 for the other i < n; r < rows.

    Up to VL elements behind the last row are written too: strips are filled in the order of their addresses.
    """
    value = literals(BITS)
    if value is None:
        return None

    def emit(b, args):
        v = Lanes(b, *value)
        dst, src, (rows, lds, first, last, step, n) = v.pointer(args[0]), v.pointer(args[1]), args[2:]
        length, rest = b.sub(last, first), b.sub(n, last)
        with counted(b, rows) as (r, _, _):
            row = v.at(dst, b.mul(r, n))
            source, target = v.at(src, b.mul(r, lds)), v.at(row, first)
            _emit_zeros(v, row, first)
            with (
                b.if_then(b.icmp_signed(">", length, const(0))),
                b.if_else(b.icmp_signed("==", step, const(1))) as (near, far),
            ):
                with near:
                    _emit_spilled_copy(v, target, source, length)
                with far:
                    _emit_gather(v, target, source, step, length)
            _emit_zeros(v, v.at(row, last), rest)

    def codegen(context, builder, signature, args):
        outlined(builder, f"fill_rows_{value[0]}", args[1:], emit)
        return context.get_dummy_value()

    return types.void(BITS, *[N] * 8), codegen


def fill_rows_twin(BITS, dst, src, rows, lds, first, last, step, n):
    """Python twin of `fill_rows`."""
    size, VL = BITS // 8, targets.current().lanes(BITS)
    for r in range(rows):
        row = elements(BITS, dst + size * r * n, n + VL)
        row[n:] = 0
        row = row[:n]
        row[:first], row[last:] = 0, 0
        if last > first:
            row[first:last] = elements(BITS, src + size * r * lds, (last - first - 1) * step + 1)[::step]


@intrinsic(prefer_literal=True)
def _transpose(typing, BITS, dst, to, src, lds):
    """Transpose a VL x VL block: dst[to[k] + i] = src[i * lds + k], i and k < VL."""
    value = literals(BITS)
    if value is None:
        return None

    def codegen(context, builder, signature, args):
        v = Lanes(builder, *value)
        dst, to, src, lds = v.pointer(args[1]), v.pointer(args[2]), v.pointer(args[3]), args[4]
        rows = [v.load(v.at(src, builder.mul(lds, const(i)))) for i in range(v.VL)]
        for k, row in enumerate(transposed(builder, rows)):
            offset = builder.load(builder.gep(to, [const(k)], source_etype=I64), align=8, typ=I64)
            v.store(row, v.at(dst, offset))
        return context.get_dummy_value()

    return types.void(BITS, *[N] * 4), codegen


def transposed(builder: ir.IRBuilder, rows: list[Any], half: int = 0) -> list[Any]:
    """Transpose n vectors of n lanes in log2(n) rounds of two-input shuffles (Eklundh 1972).

    With `half` only the rounds are left that exchange `half` lanes and fewer.
    """
    n, half = len(rows), half or len(rows) // 2
    while half:
        low = [i if not i & half else i - half + n for i in range(n)]
        high = [i + half if not i & half else i + n for i in range(n)]
        masks = [ir.Constant(ir.VectorType(I32, n), m) for m in (low, high)]
        for i in range(n):
            if not i & half:
                pair = rows[i], rows[i + half]
                rows[i], rows[i + half] = (builder.shuffle_vector(*pair, m) for m in masks)
        half //= 2
    return rows


def transpose_twin(BITS, dst, to, src, lds):
    """Python twin of `transpose`."""
    lanes, size = targets.current().lanes(BITS), BITS // 8
    for i in range(lanes):
        row = elements(BITS, src + size * i * lds, lanes)
        for k in range(lanes):
            elements(BITS, dst + size * (int(ints(to, lanes)[k]) + i), 1)[0] = row[k]


@intrinsic(prefer_literal=True)
def _finish_rows(typing, BITS, LANES, out, ldo, c, ldc, bias, residual, limits, rows, n):
    """out[r * ldo + i] = clamp(c[r * ldc + i] + bias (+ residual[r * ldo + i], unless 0)), i < n, r < rows.

    LANES = 1: bias[i], a channel a lane; 0: one for all.
    """
    values = literals(BITS, LANES)
    if values is None:
        return None
    bits, lanes = values

    def emit(b, args):
        v = Lanes(b, bits)
        out, c, bias, residual, limits = (v.pointer(args[i]) for i in (0, 2, 4, 5, 6))
        ldo, ldc, rows, n = (args[i] for i in (1, 3, 7, 8))
        low, high = (v.broadcast(v.load_scalar(v.at(limits, j))) for j in (0, 1))
        constant = None if lanes else v.broadcast(v.load_scalar(bias))

        def finish(with_residual):
            with counted(b, rows) as (r, _, _):
                at, source = b.mul(r, ldo), v.at(c, b.mul(r, ldc))
                target, added = v.at(out, at), v.at(residual, at)

                def one(i, row):
                    y = v.add(row.load(v.at(source, i)), row.load(v.at(bias, i)) if lanes else constant)
                    if with_residual:
                        y = v.add(y, row.load(v.at(added, i)))
                    row.store(v.clamp(y, low, high), v.at(target, i))

                each_vector(v, n, one)

        with b.if_else(b.icmp_signed("==", args[5], const(0))) as (plain, summed):
            with plain:
                finish(False)
            with summed:
                finish(True)

    def codegen(context, builder, signature, args):
        outlined(builder, f"finish_rows_{bits}_{lanes}", args[2:], emit)
        return context.get_dummy_value()

    return types.void(BITS, LANES, *[N] * 9), codegen


@np.errstate(all="ignore")
def finish_rows_twin(BITS, LANES, out, ldo, c, ldc, bias, residual, limits, rows, n):
    """Python twin of `finish_rows`."""
    size, (low, high) = BITS // 8, elements(BITS, limits, 2)
    for r in range(rows):
        y = elements(BITS, c + size * r * ldc, n) + elements(BITS, bias, n if LANES else 1)
        if residual:
            y = y + elements(BITS, residual + size * r * ldo, n)
        y = np.where(y < low, low, y)
        elements(BITS, out + size * r * ldo, n)[:] = np.where(y > high, high, y)


@intrinsic
def _call_row(typing, function, row, n):
    """Call the compiled row function (row, n) at an address; Numba's own calling convention, no exceptions."""

    def codegen(context, builder, signature, args):
        kind = ir.FunctionType(I32, [ir.PointerType(), ir.PointerType(), I64, I64])
        ignored = cgutils.alloca_once(builder, ir.PointerType())
        pointer = builder.inttoptr(args[0], kind.as_pointer())
        builder.call(pointer, [ignored, ignored, args[1], args[2]])
        return context.get_dummy_value()

    return types.void(N, N, N), codegen


@intrinsic
def _int_at(typing, table, index):
    """Load table[index], int64."""

    def codegen(context, builder, signature, args):
        table = builder.inttoptr(args[0], ir.PointerType())
        return builder.load(builder.gep(table, [args[1]], source_etype=I64), align=8, typ=I64)

    return N(N, N), codegen


def int_at_twin(table, index):
    """Python twin of `int_at`."""
    return int(ints(table + 8 * index, 1)[0])


# Row functions of the plain-Python mode, by the number that stands for their address.
PYTHON_ROWS: dict[int, Callable[[int, int], None]] = {}


def call_row_twin(function, row, n):
    """Python twin of `call_row`."""
    PYTHON_ROWS[function](row, n)


if config.DISABLE_JIT:
    copy_row, zero_row, fill_rows, transpose = copy_row_twin, zero_row_twin, fill_rows_twin, transpose_twin
    finish_rows, call_row, int_at = finish_rows_twin, call_row_twin, int_at_twin
else:
    copy_row, zero_row, fill_rows, transpose = _copy_row, _zero_row, _fill_rows, _transpose
    finish_rows, call_row, int_at = _finish_rows, _call_row, _int_at
