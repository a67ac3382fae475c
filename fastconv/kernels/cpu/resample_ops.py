"""Row operations of resampling: weighted sums of rows, and blocks of rows turned into columns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic

from fastconv.kernels.cpu import target as targets
from fastconv.kernels.cpu.ir_builder import I64, Lanes, const, counted, literals, outlined
from fastconv.kernels.cpu.memory import elements, ints
from fastconv.kernels.cpu.row_ops import Row, each_vector, first_lanes, transposed

N = types.intp

# What the int64 table of a pass holds: addresses of the taps (geometry/taps.py); of integers, how many bits their
# weights have after the point, and the least and largest result.
PASS_FIELDS = ("START", "INDEX", "WEIGHTS", "SHIFT", "LOW", "HIGH")
PASS_BYTES = 8 * len(PASS_FIELDS)

# Vectors that are summed side by side, since a sum waits for the one before it.
_UNROLL = 4


class _Sums:
    """Emits sums over the taps of one output: of one vector, of several, or of one element."""

    def __init__(self, v: Lanes, fields: Any, src: Any, lds: Any):
        self.v, self.src, self.lds = v, src, lds
        load = [v.b.load(v.b.gep(fields, [const(i)], source_etype=I64), align=8, typ=I64) for i in range(6)]
        self.start, self.index, self.weights = (v.pointer(address) for address in load[:3])
        self.shift, self.low, self.high = load[3:]

    def span(self, o: Any) -> None:
        """Take the taps of output o from here on."""
        v = self.v
        self.first, last = v.int_at(self.start, o), v.int_at(self.start, v.b.add(o, const(1)))
        self.more = v.b.sub(last, v.b.add(self.first, const(1)))

    def emit(self, i: Any, count: int, load: Callable[[Any], Any], scalar: bool = False) -> list[Any]:
        """Return the sums of `count` vectors, or elements, from i on."""
        b, kind = self.v.b, self.v.scalar if scalar else self.v.vector

        def terms(tap: Any) -> tuple[Any, list[Any]]:
            weight = self.v.load_scalar(self.v.at(self.weights, tap))
            row = self.v.at(self.src, b.add(b.mul(self.v.int_at(self.index, tap), self.lds), i))
            return (
                weight if scalar else self.v.broadcast(weight),
                [load(self.v.at(row, j * self.v.VL)) for j in range(count)],
            )

        weight, values = terms(self.first)
        sums = [self._product(weight, x) for x in values]
        with counted(b, self.more, [(kind, s) for s in sums]) as (tap, before, after):
            weight, values = terms(b.add(b.add(self.first, tap), const(1)))
            after += [self._fma(weight, x, s, scalar) for x, s in zip(values, before, strict=True)]
        return [self._rounded(s, scalar) for s in after] if self.v.integer else after

    def _product(self, weight: Any, x: Any) -> Any:
        return self.v.b.mul(weight, x) if self.v.integer else self.v.b.fmul(weight, x)

    def _fma(self, weight: Any, x: Any, s: Any, scalar: bool) -> Any:
        v = self.v
        if not scalar or v.integer or not v.target.fma:
            # Products and sums of one type are the same for vectors and elements.
            return v.fma(weight, x, s)
        kind = ir.FunctionType(v.scalar, [v.scalar] * 3)
        return v.b.call(cgutils.get_or_insert_function(v.b.module, kind, f"llvm.fma.f{v.bits}"), [weight, x, s])

    def _rounded(self, s: Any, scalar: bool) -> Any:
        """Return the integer s / 2**SHIFT, rounded half up, within the limits."""
        v, b = self.v, self.v.b

        def like(number: Any) -> Any:
            number = number if v.bits == 64 else b.trunc(number, v.scalar)
            return number if scalar else v.broadcast(number)

        half = b.ashr(b.shl(const(1), self.shift), const(1))
        half = b.select(b.icmp_signed("==", self.shift, const(0)), const(0), half)
        s = b.ashr(b.add(s, like(half)), like(self.shift))
        low, high = like(self.low), like(self.high)
        s = b.select(b.icmp_signed("<", s, low), low, s)
        return b.select(b.icmp_signed(">", s, high), high, s)


@intrinsic(prefer_literal=True)
def _blend_rows(typing, BITS, dst, ldo, src, lds, fields, first, count, n):
    """dst[r * ldo + i] = sum over taps p of output first + r of weights[p] * src[index[p] * lds + i]; i < n, r < count.

    `fields` is the address of the table of a pass. Sums start with the product of the first tap, and go on in order.
    """
    value = literals(BITS)
    if value is None:
        return None

    def emit(b, args):
        v = Lanes(b, *value)
        dst, ldo, src, lds, fields, first, count, n = args
        dst, sums = v.pointer(dst), _Sums(v, v.pointer(fields), v.pointer(src), lds)
        step = const(_UNROLL * v.VL)
        wide = b.sdiv(n, step)
        done = b.mul(wide, step)
        with counted(b, count) as (r, _, _):
            sums.span(b.add(first, r))
            target = v.at(dst, b.mul(r, ldo))
            with b.if_else(b.icmp_signed("==", n, const(1))) as (single, row):
                with single:
                    v.store_scalar(sums.emit(const(0), 1, v.load_scalar, scalar=True)[0], target)
                with row:
                    with counted(b, wide) as (i, _, _):
                        i = b.mul(i, step)
                        for j, vector in enumerate(sums.emit(i, _UNROLL, v.load)):
                            v.store(vector, v.at(target, b.add(i, const(j * v.VL))))

                    def one(i, access):
                        i = b.add(i, done)
                        access.store(sums.emit(i, 1, access.load)[0], v.at(target, i))

                    each_vector(v, b.sub(n, done), one)

    def codegen(context, builder, signature, args):
        outlined(builder, f"blend_rows_{value[0]}", args[1:], emit)
        return context.get_dummy_value()

    return types.void(BITS, *[N] * 8), codegen


@np.errstate(all="ignore")
def blend_rows_twin(BITS, dst, ldo, src, lds, fields, first, count, n):
    """Python twin of `blend_rows`."""
    size, (start, index, weights, shift, low, high) = BITS // 8, ints(fields, len(PASS_FIELDS)).tolist()
    for r in range(count):
        begin, end = ints(start + 8 * (first + r), 2).tolist()
        total: Any = None
        for i, w in zip(ints(index, end)[begin:], elements(BITS, weights, end)[begin:], strict=True):
            product = w * elements(BITS, src + size * int(i) * lds, n)
            total = product if total is None else total + product
        if BITS & 1:
            total = np.clip((total.astype(np.int64) + (1 << shift >> 1)) >> shift, low, high)
        elements(BITS, dst + size * r * ldo, n)[:] = total


@intrinsic(prefer_literal=True)
def _rows_to_columns(typing, BITS, dst, src, offsets, n):
    """dst[k * VL + i] = src[offsets[i] + k], k < n, i < VL; where n < VL, also garbage for the k up to VL."""
    value = literals(BITS)
    if value is None:
        return None

    def emit(b, args):
        v = Lanes(b, *value)
        dst, src, offsets, n = v.pointer(args[0]), v.pointer(args[1]), v.pointer(args[2]), args[3]

        def block(k, access):
            rows = [access.load(v.at(src, b.add(v.int_at(offsets, const(i)), k))) for i in range(v.VL)]
            for j, column in enumerate(transposed(b, rows)):
                v.store(column, v.at(dst, b.mul(b.add(k, const(j)), const(v.VL))))

        with b.if_else(b.icmp_signed(">=", n, const(v.VL))) as (long, short):
            with long:
                last = b.sub(n, const(v.VL))
                with counted(b, b.sdiv(b.add(n, const(v.VL - 1)), const(v.VL))) as (i, _, _):
                    k = b.mul(i, const(v.VL))
                    # The last block overlaps the one before it.
                    block(b.select(b.icmp_signed("<", k, last), k, last), Row(v))
            with short:
                block(const(0), Row(v, first_lanes(v, n)))

    def codegen(context, builder, signature, args):
        outlined(builder, f"rows_to_columns_{value[0]}", args[1:], emit)
        return context.get_dummy_value()

    return types.void(BITS, *[N] * 4), codegen


def rows_to_columns_twin(BITS, dst, src, offsets, n):
    """Python twin of `rows_to_columns`."""
    lanes, size = targets.current().lanes(BITS), BITS // 8
    for i, offset in enumerate(ints(offsets, lanes).tolist()):
        elements(BITS, dst, n * lanes)[i::lanes] = elements(BITS, src + size * offset, n)


@intrinsic
def _widen_row(typing, dst, src, n):
    """dst[0:n] = src[0:n], uint8 to int32"""

    def codegen(context, b, signature, args):
        outlined(b, "widen_row", args, lambda b, args: _emit_bytes(b, args, wide=True))
        return context.get_dummy_value()

    return types.void(N, N, N), codegen


def widen_row_twin(dst, src, n):
    """Python twin of `widen_row`."""
    elements(33, dst, n)[:] = elements(9, src, n).view(np.uint8)


@intrinsic
def _narrow_row(typing, dst, src, n):
    """dst[0:n] = src[0:n], int32 from 0 to 255 to uint8"""

    def codegen(context, b, signature, args):
        outlined(b, "narrow_row", args, lambda b, args: _emit_bytes(b, args, wide=False))
        return context.get_dummy_value()

    return types.void(N, N, N), codegen


def narrow_row_twin(dst, src, n):
    """Python twin of `narrow_row`."""
    elements(9, dst, n).view(np.uint8)[:] = elements(33, src, n)


def _emit_bytes(b: ir.IRBuilder, args: Any, wide: bool) -> None:
    """Emit the copy of a row between uint8 and int32."""
    byte, word = ir.IntType(8), ir.IntType(32)
    dst, src, n = b.inttoptr(args[0], ir.PointerType()), b.inttoptr(args[1], ir.PointerType()), args[2]
    source, target = (byte, word) if wide else (word, byte)
    VL = Lanes(b, 33).VL
    done = const(0)
    for lanes in (VL, 1):
        with counted(b, b.sdiv(b.sub(n, done), const(lanes))) as (i, _, _):
            i = b.add(done, b.mul(i, const(lanes)))
            kinds = [ir.VectorType(kind, lanes) if lanes > 1 else kind for kind in (source, target)]
            x = b.load(b.gep(src, [i], source_etype=source), align=source.width // 8, typ=kinds[0])
            x = b.zext(x, kinds[1]) if wide else b.trunc(x, kinds[1])
            b.store(x, b.gep(dst, [i], source_etype=target), align=target.width // 8)
        done = b.mul(b.sdiv(n, const(lanes)), const(lanes))


if config.DISABLE_JIT:
    blend_rows, rows_to_columns, widen_row = blend_rows_twin, rows_to_columns_twin, widen_row_twin
    narrow_row = narrow_row_twin
else:
    blend_rows, rows_to_columns, widen_row, narrow_row = _blend_rows, _rows_to_columns, _widen_row, _narrow_row
