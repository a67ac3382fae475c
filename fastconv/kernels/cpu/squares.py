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
        dst, pointers = v.pointer(dst), [v.pointer(src)]
        for i in range(1, v.VL):
            step = b.select(b.icmp_signed("<", const(i), rows), lds, const(0))
            pointers.append(v.at(pointers[-1], step))

        def square(q, row):
            to = v.at(dst, b.mul(ldd, q))
            for x in load_square(row, [v.at(p, q) for p in pointers]):
                v.store(x, to)
                to = v.at(to, ldd)

        each_square(v, columns, square)

    def codegen(context, builder, signature, args):
        outlined(builder, f"turn_{value[0]}", args[1:], emit)
        return context.get_dummy_value()

    return types.void(BITS, *[N] * 6), codegen


def turn_twin(BITS, dst, ldd, src, lds, rows, columns):
    """Python twin of `turn`."""
    lanes, size = targets.current().lanes(BITS), BITS // 8
    for k in range(max(columns, lanes) if columns > 0 else 0):
        to = elements(BITS, dst + size * k * ldd, lanes)
        for i in range(lanes):
            at = src + size * (min(i, rows - 1) * lds + k)
            to[i] = elements(BITS, at, 1)[0] if k < columns else 0


@intrinsic(prefer_literal=True)
def _finish_turned(typing, BITS, out, ldo, src, lds, bias, residual, limits, rows, columns):
    """out[i * ldo + k] = clamp(src[k * lds + i] + bias[i] (+ residual[i * ldo + k], unless 0)), k < columns, i < rows.

    There are at most VL rows; of src, VL rows and columns at least are read.
    """
    value = literals(BITS)
    if value is None:
        return None

    def emit(b, args):
        v = Lanes(b, *value)
        out, src, bias, residual, limits = (v.pointer(args[i]) for i in (0, 2, 4, 5, 6))
        ldo, lds, rows, columns = (args[i] for i in (1, 3, 7, 8))
        low, high = (v.broadcast(v.load_scalar(v.at(limits, j))) for j in (0, 1))
        with_residual = b.icmp_signed("!=", args[5], const(0))

        def square(q, row):
            at = q
            for i, x in enumerate(
                load_square(Row(v), [v.at(src, b.mul(lds, b.add(q, const(k)))) for k in range(v.VL)])
            ):
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

    return types.void(BITS, *[N] * 9), codegen


@np.errstate(all="ignore")
def finish_turned_twin(BITS, out, ldo, src, lds, bias, residual, limits, rows, columns):
    """Python twin of `finish_turned`."""
    size, (low, high) = BITS // 8, elements(BITS, limits, 2)
    for i in range(rows):
        y = np.array([elements(BITS, src + size * (k * lds + i), 1)[0] for k in range(columns)])
        y = y + elements(BITS, bias + size * i, 1)
        if residual:
            y = y + elements(BITS, residual + size * i * ldo, columns)
        y = np.where(y < low, low, y)
        elements(BITS, out + size * i * ldo, columns)[:] = np.where(y > high, high, y)


turn, finish_turned = (turn_twin, finish_turned_twin) if config.DISABLE_JIT else (_turn, _finish_turned)
