"""Operations around the matrix unit: float32 split into pairs of bfloat16, and the epilogue of a block of sums.

A number x becomes ``high = bf16(x)`` and ``low = bf16(x - high)``, rounded to nearest even. An infinite x has a low
part of NaN, so no sum that it takes part in is finite.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic

from fastconv.kernels.cpu.ir_builder import I32, Lanes, const, counted, literals, outlined
from fastconv.kernels.cpu.matrix_unit import floats_of
from fastconv.kernels.cpu.memory import array_at, elements
from fastconv.kernels.cpu.microkernel import ROWS
from fastconv.kernels.cpu.row_ops import Row, each_vector, first_lanes, transposed

N = types.intp
_I16 = ir.IntType(16)


class _Bfloat(ir.Type):
    """LLVM's bfloat, which llvmlite does not name."""

    def __str__(self) -> str:
        return "bfloat"


def _halves(v: Lanes, x: Any) -> tuple[Any, Any]:
    """Return the high and the low part of a vector as vectors of 16-bit integers."""
    b, short = v.b, ir.VectorType(_I16, v.VL)

    def rounded(y: Any) -> Any:
        return b.bitcast(b.fptrunc(y, ir.VectorType(_Bfloat(), v.VL)), short)

    high = rounded(x)
    wide = b.shl(b.zext(high, ir.VectorType(I32, v.VL)), ir.Constant(ir.VectorType(I32, v.VL), [16] * v.VL))
    return high, rounded(b.fsub(x, b.bitcast(wide, v.vector)))


def halves_twin(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Python twin of `_halves`: high and low part as uint16."""

    def rounded(y: np.ndarray) -> np.ndarray:
        bits = y.view(np.uint32)
        near = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
        return np.where(np.isnan(y), 0x7FC0, near).astype(np.uint16)

    with np.errstate(all="ignore"):
        high = rounded(x)
        return high, rounded(x - floats_of(high))


@intrinsic
def _split_pairs(typing, high, low, first, second, n):
    """high[i] = (first[i], second[i]) as a pair of bfloat16, i < n; low likewise. Up to VL pairs more are written."""

    def emit(builder, args):
        v = Lanes(builder, 32)
        high, low, first, second = (v.pointer(a) for a in args[:4])
        order = [lane // 2 + v.VL * (lane % 2) for lane in range(2 * v.VL)]
        mask = ir.Constant(ir.VectorType(I32, 2 * v.VL), order)

        def one(i, row):
            pairs = [_halves(v, row.load(v.at(p, i))) for p in (first, second)]
            for to, (a, c) in zip((high, low), zip(*pairs, strict=True), strict=True):
                builder.store(builder.shuffle_vector(a, c, mask), v.at(to, i), align=4)

        each_vector(v, args[4], one, repeatable=False)

    def codegen(context, builder, signature, args):
        outlined(builder, "split_pairs", args, emit)
        return context.get_dummy_value()

    return types.void(*[N] * 5), codegen


def split_pairs_twin(high, low, first, second, n):
    """Python twin of `split_pairs`."""
    pairs = [halves_twin(elements(32, p, n)) for p in (first, second)]
    for to, parts in zip((high, low), zip(*pairs, strict=True), strict=True):
        array_at(np.uint16, to, 2 * n).reshape(n, 2)[:] = np.stack(parts, 1)


@intrinsic
def _split_row(typing, high, low, source, n, padded):
    """high[i] = bfloat16 of source[i], i < n, and 0 up to `padded`; low likewise. Up to VL numbers more are written."""

    def emit(builder, args):
        v = Lanes(builder, 32)
        high, low, source = (v.pointer(a) for a in args[:3])
        n, padded = args[3:]

        def put(to, i, value):
            builder.store(value, builder.gep(to, [i], source_etype=_I16), align=2)

        def one(i, row):
            for to, part in zip((high, low), _halves(v, row.load(v.at(source, i))), strict=True):
                put(to, i, part)

        each_vector(v, n, one, repeatable=False)
        done = builder.mul(builder.sdiv(builder.add(n, const(v.VL - 1)), const(v.VL)), const(v.VL))
        rest = builder.sdiv(builder.add(builder.sub(padded, done), const(v.VL - 1)), const(v.VL))
        zero = ir.Constant(ir.VectorType(_I16, v.VL), [0] * v.VL)
        with counted(builder, rest) as (i, _, _):
            for to in (high, low):
                put(to, builder.add(done, builder.mul(i, const(v.VL))), zero)

    def codegen(context, builder, signature, args):
        outlined(builder, "split_row", args, emit)
        return context.get_dummy_value()

    return types.void(*[N] * 5), codegen


def split_row_twin(high, low, source, n, padded):
    """Python twin of `split_row`."""
    for to, part in zip((high, low), halves_twin(elements(32, source, n)), strict=True):
        row = array_at(np.uint16, to, padded)
        row[:n], row[n:] = part, 0


@intrinsic
def _split_gathered(typing, high, low, source, index):
    """high[i] = bfloat16 of source[index[i]], i < 32, 0 where the int32 index is negative; low likewise."""

    def emit(builder, args):
        v, b = Lanes(builder, 32), builder
        high, low, source, index = (v.pointer(a) for a in args)
        whole, flags = ir.VectorType(I32, v.VL), ir.VectorType(ir.IntType(1), v.VL)
        kind = ir.FunctionType(v.vector, [v.vector, ir.PointerType(), whole, flags, I32])
        gather = cgutils.get_or_insert_function(b.module, kind, "llvm.x86.avx512.mask.gather.dps.512")
        for i in range(0, 32, v.VL):
            at = b.load(v.at(index, i), align=4, typ=whole)
            mask = b.icmp_signed(">=", at, ir.Constant(whole, [0] * v.VL))
            x = b.call(gather, [v.zero, source, at, mask, ir.Constant(I32, 4)])
            for to, part in zip((high, low), _halves(v, x), strict=True):
                b.store(part, b.gep(to, [const(i)], source_etype=_I16), align=2)

    def codegen(context, builder, signature, args):
        outlined(builder, "split_gathered", args, emit)
        return context.get_dummy_value()

    return types.void(*[N] * 4), codegen


def split_gathered_twin(high, low, source, index):
    """Python twin of `split_gathered`."""
    at = array_at(np.int32, index, 32)
    x = np.zeros(32, np.float32)
    for i in np.flatnonzero(at >= 0).tolist():
        x[i] = elements(32, source + 4 * int(at[i]), 1)[0]
    for to, part in zip((high, low), halves_twin(x), strict=True):
        array_at(np.uint16, to, 32)[:] = part


@intrinsic
def _turn_tile(typing, tile):
    """Transpose 16 x 16 words of 32 bits in place: rows of k become pairs of k of rows."""

    def emit(builder, args):
        v = Lanes(builder, 32)
        pointer = v.pointer(args[0])
        rows = [v.load(v.at(pointer, i * v.VL)) for i in range(v.VL)]
        for i, row in enumerate(transposed(builder, rows)):
            v.store(row, v.at(pointer, i * v.VL))

    def codegen(context, builder, signature, args):
        outlined(builder, "turn_tile", args, emit)
        return context.get_dummy_value()

    return types.void(N), codegen


def turn_tile_twin(tile):
    """Python twin of `turn_tile`."""
    words = array_at(np.uint32, tile, 256).reshape(16, 16)
    words[...] = words.T.copy()


@intrinsic(prefer_literal=True)
def _finish_block(typing, PER, out, ldo, c, bias, residual, limits, rows, n, flag):
    """out[r * ldo + i] = clamp(c[r * 32 + i] + bias (+ residual[r * ldo + i], unless 0)), i < n <= 32, r < rows.

    PER: one bias a row (ROWS) or a column. The byte at `flag` is set to 1 if an element of c is not finite.
    """
    values = literals(PER)
    if values is None:
        return None
    per = values[0]

    def emit(b, args):
        v = Lanes(b, 32)
        with b.if_else(b.icmp_signed("!=", args[4], const(0))) as (more, plain):
            with more:
                _finish_rows_of_block(v, per, True, args)
            with plain:
                _finish_rows_of_block(v, per, False, args)

    def codegen(context, builder, signature, args):
        outlined(builder, f"finish_block_{per}", args[1:], emit)
        return context.get_dummy_value()

    return types.void(PER, *[N] * 9), codegen


def _finish_rows_of_block(v: Lanes, per: int, summed: bool, args: Any) -> None:
    """Emit the loop over the rows; a masked load of a residual that is not there would be legal, but very slow."""
    b = v.b
    out, c, bias, residual, limits, flag = (v.pointer(args[i]) for i in (0, 2, 3, 4, 5, 8))
    ldo, rows, n = args[1], args[6], args[7]
    low, high = (v.broadcast(v.load_scalar(v.at(limits, j))) for j in (0, 1))
    parts = [(j * v.VL, Row(v, first_lanes(v, b.sub(n, const(j * v.VL))))) for j in range(32 // v.VL)]
    lanes = [] if per == ROWS else [row.load(v.at(bias, j)) for j, row in parts]
    with counted(b, rows, [(v.vector, v.zero)]) as (r, (bad,), after):
        at, source = b.mul(r, ldo), v.at(c, b.mul(r, const(32)))
        target, added = v.at(out, at), v.at(residual, at)
        each = [v.broadcast(v.load_scalar(v.at(bias, r)))] * len(parts) if per == ROWS else lanes
        for (j, row), one in zip(parts, each, strict=True):
            y = row.load(v.at(source, j))
            # Zero, or NaN if y is not finite.
            bad = v.fma(y, v.zero, bad)
            y = v.add(y, one)
            if summed:
                y = v.add(y, row.load(v.at(added, j)))
            row.store(v.clamp(y, low, high), v.at(target, j))
        after.append(bad)
    wrong = b.bitcast(b.fcmp_unordered("uno", after[0], after[0]), ir.IntType(v.VL))
    with b.if_then(b.icmp_unsigned("!=", wrong, ir.Constant(wrong.type, 0)), likely=False):
        b.store(ir.Constant(ir.IntType(8), 1), flag)


def finish_block_twin(PER, out, ldo, c, bias, residual, limits, rows, n, flag):
    """Python twin of `finish_block`."""
    low, high = elements(32, limits, 2)
    for r in range(rows):
        sums = elements(32, c + 128 * r, n)
        if not np.isfinite(sums).all():
            array_at(np.uint8, flag, 1)[0] = 1
        with np.errstate(all="ignore"):
            y = sums + (elements(32, bias + 4 * r, 1) if PER == ROWS else elements(32, bias, n))
            if residual:
                y = y + elements(32, residual + 4 * r * ldo, n)
        y = np.where(y < low, low, y)
        elements(32, out + 4 * r * ldo, n)[:] = np.where(y > high, high, y)


if config.DISABLE_JIT:
    split_pairs, split_row, split_gathered = split_pairs_twin, split_row_twin, split_gathered_twin
    turn_tile, finish_block = turn_tile_twin, finish_block_twin
else:
    split_pairs, split_row, split_gathered = _split_pairs, _split_row, _split_gathered
    turn_tile, finish_block = _turn_tile, _finish_block
