"""Transposition of rows in squares of VL x VL, in registers, with what is done on the way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import config
from numba.extending import intrinsic

from fastconv.kernels.cpu import target as targets
from fastconv.kernels.cpu.ir_builder import I32, Lanes, const, counted, literals, outlined
from fastconv.kernels.cpu.memory import elements
from fastconv.kernels.cpu.row_ops import Row, first_lanes, transposed

N = types.intp


def each_square(v: Lanes, columns: Any, emit: Callable[[Any, Row], None]) -> None:
    """Emit `emit(first column, row)` for the squares of some columns.

    The last of many overlaps its neighbour; fewer columns than a vector has are masked.
    """
    b, one = v.b, const(v.VL)
    with b.if_else(b.icmp_signed(">=", columns, one)) as (long, short):
        with long:
            last = b.sub(columns, one)
            with counted(b, b.sdiv(b.add(columns, const(v.VL - 1)), one)) as (i, _, _):
                q = b.mul(i, one)
                emit(b.select(b.icmp_signed("<", q, last), q, last), Row(v))
        with short, b.if_then(b.icmp_signed(">", columns, const(0))):
            emit(const(0), Row(v, first_lanes(v, columns)))


def load_square(row: Row, pointers: Sequence[Any]) -> list[Any]:
    """Return the transposed square at `pointers`; whole halves of vectors are put together as they are loaded."""
    v, b = row.v, row.v.b
    if row.mask is not None or v.VL < 4:
        return transposed(b, [row.load(p) for p in pointers])
    half = v.VL // 2
    kind = ir.VectorType(v.scalar, half)
    both = ir.Constant(ir.VectorType(I32, v.VL), list(range(v.VL)))

    def loaded(i, column):
        parts = (b.load(v.at(pointers[j], column), align=v.bits // 8, typ=kind) for j in (i, i + half))
        return b.shuffle_vector(*parts, both)

    rows = [loaded(i, column) for column in (0, half) for i in range(half)]
    return transposed(b, rows, half // 2)


@intrinsic(prefer_literal=True)
def _turn(typing, BITS, dst, ldd, src, lds, rows, columns):
    """dst[k * ldd + i] = src[i * lds + k], k < columns, i < rows <= VL; vectors of dst behind row i are undefined.

    With fewer than VL columns VL are written. Nothing outside of the rows and columns is read.
    """
    value = literals(BITS)
    if value is None:
        return None

    def emit(b, args):
        v = Lanes(b, *value)
        dst, ldd, src, lds, rows, columns = args
        _emit_turn(v, v.pointer(dst), ldd, _lines(v, v.pointer(src), lds, rows), columns)

    def codegen(context, builder, signature, args):
        outlined(builder, f"turn_{value[0]}", args[1:], emit)
        return context.get_dummy_value()

    return types.void(BITS, *[N] * 6), codegen


def _lines(v: Lanes, pointer: Any, lds: Any, rows: Any) -> list[Any]:
    """Return pointers to VL rows; behind the last one they repeat it."""
    pointers = [pointer]
    for i in range(1, v.VL):
        pointers.append(v.at(pointers[-1], v.b.select(v.b.icmp_signed("<", const(i), rows), lds, const(0))))
    return pointers


def _emit_turn(v: Lanes, dst: Any, ldd: Any, pointers: Sequence[Any], columns: Any) -> None:
    def square(q, row):
        to = v.at(dst, v.b.mul(ldd, q))
        for x in load_square(row, [v.at(p, q) for p in pointers]):
            v.store(x, to)
            to = v.at(to, ldd)

    each_square(v, columns, square)


def turn_twin(BITS, dst, ldd, src, lds, rows, columns):
    """Python twin of `turn`."""
    lanes, size = targets.current().lanes(BITS), BITS // 8
    for k in range(max(columns, lanes) if columns > 0 else 0):
        to = elements(BITS, dst + size * k * ldd, lanes)
        for i in range(lanes):
            at = src + size * (min(i, rows - 1) * lds + k)
            to[i] = elements(BITS, at, 1)[0] if k < columns else 0


@intrinsic(prefer_literal=True)
def _turn_lines(typing, BITS, dst, src, lds, ldh, lanes, lines, first, last, P):
    """Line h < lines of dst, P vectors, is `turn` of the columns at src + h * ldh from `first` to `last`, else zero.

    Vectors behind lane `lanes` are undefined; up to VL vectors behind the last line are written.
    """
    value = literals(BITS)
    if value is None:
        return None

    def emit(b, args):
        v = Lanes(b, *value)
        dst, src, lds, ldh, lanes, lines, first, last, P = args
        dst, src, one = v.pointer(dst), v.pointer(src), const(v.VL)
        with counted(b, lines) as (h, _, _):
            line, source = v.at(dst, b.mul(b.mul(h, P), one)), v.at(src, b.mul(h, ldh))
            _emit_zeros(v, line, first)
            _emit_turn(v, v.at(line, b.mul(first, one)), one, _lines(v, source, lds, lanes), b.sub(last, first))
            _emit_zeros(v, v.at(line, b.mul(last, one)), b.sub(P, last))

    def codegen(context, builder, signature, args):
        outlined(builder, f"turn_lines_{value[0]}", args[1:], emit)
        return context.get_dummy_value()

    return types.void(BITS, *[N] * 9), codegen


def _emit_zeros(v: Lanes, dst: Any, count: Any) -> None:
    """Emit zeros for `count` vectors, and one at least: a call of memset would cost more than most borders."""
    v.store(v.zero, dst)
    more = v.b.sub(count, const(1))
    with v.b.if_then(v.b.icmp_signed(">", more, const(0)), likely=False), counted(v.b, more) as (i, _, _):
        v.store(v.zero, v.at(dst, v.b.mul(v.b.add(i, const(1)), const(v.VL))))


def turn_lines_twin(BITS, dst, src, lds, ldh, lanes, lines, first, last, P):
    """Python twin of `turn_lines`."""
    VL, size = targets.current().lanes(BITS), BITS // 8
    for h in range(lines):
        elements(BITS, dst + size * h * P * VL, (P + 1) * VL)[:] = 0
        turn_twin(BITS, dst + size * (h * P + first) * VL, VL, src + size * h * ldh, lds, lanes, last - first)
        elements(BITS, dst + size * (h * P + last) * VL, max(P - last, 1) * VL)[:] = 0


@intrinsic(prefer_literal=True)
def _finish_turned(typing, BITS, out, ldo, ldh, src, lds, lsh, bias, residual, limits, rows, lines, columns):
    """out[i, h, k] = clamp(src[h, k, i] + bias[i] (+ residual[i, h, k], unless 0)), i < rows, h < lines, k < columns.

    There are at most VL rows; of src, VL rows and columns at least are read. Strides are (ldo, ldh, 1), residual as
    out, and (lsh, lds, 1).
    """
    value = literals(BITS)
    if value is None:
        return None

    def emit(b, args):
        v = Lanes(b, *value)
        out, src, bias, residual, limits = (v.pointer(args[i]) for i in (0, 3, 6, 7, 8))
        ldo, ldh, lds, lsh, rows, lines, columns = (args[i] for i in (1, 2, 4, 5, 9, 10, 11))
        low, high = (v.broadcast(v.load_scalar(v.at(limits, j))) for j in (0, 1))
        with_residual = b.icmp_signed("!=", args[7], const(0))
        with counted(b, lines) as (h, _, _):
            source, offset = v.at(src, b.mul(h, lsh)), b.mul(h, ldh)

            def square(q, row):
                at = b.add(offset, q)
                pixels = [v.at(source, b.mul(lds, b.add(q, const(k)))) for k in range(v.VL)]
                for i, x in enumerate(load_square(Row(v), pixels)):
                    with b.if_then(b.icmp_signed("<", const(i), rows), likely=True):
                        y = v.add(x, v.broadcast(v.load_scalar(v.at(bias, i))))
                        plain = b.block
                        with b.if_then(with_residual, likely=False):
                            more = v.add(y, row.load(v.at(residual, at)))
                            summed = b.block
                        total = b.phi(v.vector)
                        total.add_incoming(y, plain)
                        total.add_incoming(more, summed)
                        row.store(v.clamp(total, low, high), v.at(out, at))
                    at = b.add(at, ldo)

            each_square(v, columns, square)

    def codegen(context, builder, signature, args):
        outlined(builder, f"finish_turned_{value[0]}", args[1:], emit)
        return context.get_dummy_value()

    return types.void(BITS, *[N] * 12), codegen


@np.errstate(all="ignore")
def finish_turned_twin(BITS, out, ldo, ldh, src, lds, lsh, bias, residual, limits, rows, lines, columns):
    """Python twin of `finish_turned`."""
    size, (low, high) = BITS // 8, elements(BITS, limits, 2)
    for i in range(rows):
        for h in range(lines):
            at = size * (i * ldo + h * ldh)
            y = np.array([elements(BITS, src + size * (h * lsh + k * lds + i), 1)[0] for k in range(columns)])
            y = y + elements(BITS, bias + size * i, 1)
            if residual:
                y = y + elements(BITS, residual + at, columns)
            y = np.where(y < low, low, y)
            elements(BITS, out + at, columns)[:] = np.where(y > high, high, y)


if config.DISABLE_JIT:
    turn, turn_lines, finish_turned = turn_twin, turn_lines_twin, finish_turned_twin
else:
    turn, turn_lines, finish_turned = _turn, _turn_lines, _finish_turned
