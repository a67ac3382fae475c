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


def each_square(v: Lanes, columns: Any, emit: Callable[[Any], None]) -> None:
    """Emit `emit(first column)` for the squares of at least VL columns; the last one overlaps its neighbour."""
    b, one = v.b, const(v.VL)
    last = b.sub(columns, one)
    with counted(b, b.sdiv(b.add(columns, const(v.VL - 1)), one)) as (i, _, _):
        q = b.mul(i, one)
        emit(b.select(b.icmp_signed("<", q, last), q, last))


def load_square(v: Lanes, pointers: Sequence[Any]) -> list[Any]:
    """Return the transposed square at `pointers`; halves of vectors are put together as they are loaded."""
    b = v.b
    if v.VL < 4:
        return transposed(b, [v.load(p) for p in pointers])
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

    Nothing outside of the rows and columns is read.
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
    b, one = v.b, const(v.VL)

    def square(q):
        to = v.at(dst, b.mul(ldd, q))
        for x in load_square(v, [v.at(p, q) for p in pointers]):
            v.store(x, to)
            to = v.at(to, ldd)

    with b.if_else(b.icmp_signed(">=", columns, one)) as (long, short):
        with long:
            each_square(v, columns, square)
        with short, counted(b, columns) as (k, _, _):
            to = v.at(dst, b.mul(ldd, k))
            for i, p in enumerate(pointers):
                v.store_scalar(v.load_scalar(v.at(p, k)), v.at(to, i))


def turn_twin(BITS, dst, ldd, src, lds, rows, columns):
    """Python twin of `turn`."""
    lanes, size = targets.current().lanes(BITS), BITS // 8
    for k in range(columns):
        to = elements(BITS, dst + size * k * ldd, lanes)
        for i in range(lanes):
            to[i] = elements(BITS, src + size * (min(i, rows - 1) * lds + k), 1)[0]


@intrinsic(prefer_literal=True)
def _fill_lines(typing, BITS, LAST, dst, src, lds, ldh, lanes, lines, top, bottom, first, last, P):
    """Fill `lines` lines of P vectors of dst: from `top` to `bottom`, columns `first` to `last`, from src, else with 0.

    Line h of src stands at src + h * ldh. With LAST = 1 column k has its `lanes` elements at k * lds, else element i of
    column k stands at i * lds + k. Vectors behind lane `lanes` are undefined; up to VL vectors behind are written.
    """
    values = literals(BITS, LAST)
    if values is None:
        return None
    bits, pixels = values

    def emit(b, args):
        v, one = Lanes(b, bits), None
        dst, src, lds, ldh, lanes, lines, top, bottom, first, last, P = args
        dst, src, one = v.pointer(dst), v.pointer(src), const(v.VL)
        width = b.mul(P, one)
        mask = first_lanes(v, lanes) if pixels else None
        _emit_zeros(v, dst, b.mul(top, P))
        with counted(b, b.sub(bottom, top)) as (h, _, _):
            line, source = v.at(dst, b.mul(b.add(h, top), width)), v.at(src, b.mul(h, ldh))
            inside = v.at(line, b.mul(first, one))
            _emit_zeros(v, line, first)
            if pixels:
                with counted(b, b.sub(last, first)) as (k, _, _):
                    v.store(Row(v, mask).load(v.at(source, b.mul(k, lds))), v.at(inside, b.mul(k, one)))
            else:
                _emit_turn(v, inside, one, _lines(v, source, lds, lanes), b.sub(last, first))
            _emit_zeros(v, v.at(line, b.mul(last, one)), b.sub(P, last))
        _emit_zeros(v, v.at(dst, b.mul(bottom, width)), b.mul(b.sub(lines, bottom), P))

    def codegen(context, builder, signature, args):
        outlined(builder, f"fill_lines_{bits}_{pixels}", args[2:], emit)
        return context.get_dummy_value()

    return types.void(BITS, LAST, *[N] * 11), codegen


def _emit_zeros(v: Lanes, dst: Any, count: Any) -> None:
    """Emit zeros for `count` vectors, and one at least: a call of memset would cost more than most borders."""
    v.store(v.zero, dst)
    more = v.b.sub(count, const(1))
    with v.b.if_then(v.b.icmp_signed(">", more, const(0)), likely=False), counted(v.b, more) as (i, _, _):
        v.store(v.zero, v.at(dst, v.b.mul(v.b.add(i, const(1)), const(v.VL))))


def fill_lines_twin(BITS, LAST, dst, src, lds, ldh, lanes, lines, top, bottom, first, last, P):
    """Python twin of `fill_lines`."""
    VL, size = targets.current().lanes(BITS), BITS // 8
    elements(BITS, dst, (lines * P + 1) * VL)[:] = 0
    for h in range(top, bottom):
        for k in range(first, last):
            at = src + size * ((h - top) * ldh + (k - first) * (lds if LAST else 1))
            step = 1 if LAST else lds
            elements(BITS, dst + size * (h * P + k) * VL, lanes)[:] = elements(BITS, at, (lanes - 1) * step + 1)[::step]


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
                for i, x in enumerate(load_square(v, pixels)):
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

            with b.if_else(b.icmp_signed(">=", columns, const(v.VL))) as (long, short):
                with long:
                    each_square(v, columns, lambda q: square(q, Row(v)))
                with short:
                    square(const(0), Row(v, first_lanes(v, columns)))

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
    turn, fill_lines, finish_turned = turn_twin, fill_lines_twin, finish_turned_twin
else:
    turn, fill_lines, finish_turned = _turn, _fill_lines, _finish_turned
