"""Operations that move many short rows, or single elements, between regular places.

They only copy bits, so kernels call them with the integer type of an element's size. No element outside the rows is
read or written.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import config
from numba.extending import intrinsic

from fastconv.kernels.cpu import target as targets
from fastconv.kernels.cpu.ir_builder import I32, Lanes, const, counted, literals, outlined
from fastconv.kernels.cpu.memory import elements, ints
from fastconv.kernels.cpu.row_ops import Row, each_vector, first_lanes

N = types.intp


def bits_of_size(itemsize: int) -> int:
    """Return the integer type, as ir_builder.py says, of elements of 2, 4 or 8 bytes."""
    return 8 * itemsize + 1


@intrinsic(prefer_literal=True)
def _copy_rows(typing, BITS, dst, ldd, src, lds, rows, n):
    """dst[r * ldd + i] = src[r * lds + i], r < rows, i < n."""
    value = literals(BITS)
    if value is None:
        return None

    def emit(b, args):
        v = Lanes(b, *value)
        dst, src, (ldd, lds, rows, n) = v.pointer(args[0]), v.pointer(args[2]), (args[i] for i in (1, 3, 4, 5))
        with b.if_else(b.icmp_signed("==", n, const(1))) as (single, longer):
            with single, counted(b, rows) as (r, _, _):
                v.store_scalar(v.load_scalar(v.at(src, b.mul(r, lds))), v.at(dst, b.mul(r, ldd)))
            with longer, counted(b, rows) as (r, _, _):
                source, target = v.at(src, b.mul(r, lds)), v.at(dst, b.mul(r, ldd))
                each_vector(v, n, lambda i, row: row.store(row.load(v.at(source, i)), v.at(target, i)))

    def codegen(context, builder, signature, args):
        outlined(builder, f"copy_rows_{value[0]}", args[1:], emit)
        return context.get_dummy_value()

    return types.void(BITS, *[N] * 6), codegen


def copy_rows_twin(BITS, dst, ldd, src, lds, rows, n):
    """Python twin of `copy_rows`."""
    size = BITS // 8
    for r in range(rows):
        elements(BITS, dst + size * r * ldd, n)[:] = elements(BITS, src + size * r * lds, n)


def _zip(v: Lanes, width: int, target: Any, one: Any, two: Any) -> None:
    """Emit target[2i] = one[i], target[2i + 1] = two[i], i < width."""
    b, kind, align = v.b, ir.VectorType(v.scalar, width), v.bits // 8
    parts = [b.load(pointer, align=align, typ=kind) for pointer in (one, two)]
    order = ir.Constant(ir.VectorType(I32, 2 * width), [i // 2 + i % 2 * width for i in range(2 * width)])
    b.store(b.shuffle_vector(*parts, order), target, align=align)


@intrinsic(prefer_literal=True)
def _zip_rows(typing, BITS, dst, ldd, even, lde, odd, ldo, rows, n):
    """dst[r * ldd + 2i] = even[r * lde + i], dst[r * ldd + 2i + 1] = odd[r * ldo + i], for all places below n of a row.

    Vectors are interleaved by shuffles, the rest of a row in shorter ones.
    """
    value = literals(BITS)
    if value is None:
        return None

    def emit(b, args):
        v = Lanes(b, *value)
        (dst, even, odd), (rows, n) = (v.pointer(args[i]) for i in (0, 2, 4)), args[6:]
        ldd, lde, ldo = (args[i] for i in (1, 3, 5))
        pairs = b.sdiv(n, const(2))
        with counted(b, rows) as (r, _, _):
            target, one, two = v.at(dst, b.mul(r, ldd)), v.at(even, b.mul(r, lde)), v.at(odd, b.mul(r, ldo))
            done = const(0)
            for width in (v.VL, 4, 1):
                count = b.sdiv(b.sub(pairs, done), const(width))
                with counted(b, count) as (i, _, _):
                    i = b.add(done, b.mul(i, const(width)))
                    _zip(v, width, v.at(target, b.mul(i, const(2))), v.at(one, i), v.at(two, i))
                done = b.add(done, b.mul(count, const(width)))
            with b.if_then(b.icmp_signed("<", b.mul(pairs, const(2)), n)):
                v.store_scalar(v.load_scalar(v.at(one, pairs)), v.at(target, b.sub(n, const(1))))

    def codegen(context, builder, signature, args):
        outlined(builder, f"zip_rows_{value[0]}", args[1:], emit)
        return context.get_dummy_value()

    return types.void(BITS, *[N] * 8), codegen


def zip_rows_twin(BITS, dst, ldd, even, lde, odd, ldo, rows, n):
    """Python twin of `zip_rows`."""
    size = BITS // 8
    for r in range(rows):
        row = elements(BITS, dst + size * r * ldd, n)
        row[::2] = elements(BITS, even + size * r * lde, (n + 1) // 2)
        row[1::2] = elements(BITS, odd + size * r * ldo, n // 2)


@intrinsic(prefer_literal=True)
def _deal_four(typing, BITS, dst, to, src):
    """dst[to[k] + i] = src[4 * i + k], k < 4, i < VL: four vectors are halved twice into even and odd places."""
    value = literals(BITS)
    if value is None:
        return None

    def codegen(context, builder, signature, args):
        v = Lanes(builder, *value)
        dst, to, src = (v.pointer(address) for address in args[1:])
        vectors = [v.load(v.at(src, i * v.VL)) for i in range(4)]
        halves = [ir.Constant(ir.VectorType(I32, v.VL), list(range(odd, 2 * v.VL, 2))) for odd in (0, 1)]
        # After the first round: places 0 and 2 (mod 4) of both pairs, then 1 and 3.
        once = [[builder.shuffle_vector(*vectors[i : i + 2], half) for i in (0, 2)] for half in halves]
        for k in range(4):
            vector = builder.shuffle_vector(*once[k % 2], halves[k // 2])
            v.store(vector, v.at(dst, v.int_at(to, const(k))))
        return context.get_dummy_value()

    return types.void(BITS, N, N, N), codegen


def deal_four_twin(BITS, dst, to, src):
    """Python twin of `deal_four`."""
    lanes, size = targets.current().lanes(BITS), BITS // 8
    for k, place in enumerate(ints(to, 4)):
        elements(BITS, dst + size * int(place), lanes)[:] = elements(BITS, src, 4 * lanes)[k::4]


@intrinsic(prefer_literal=True)
def _flip_rows(typing, BITS, dst, ldd, src, lds, rows, n):
    """dst[r * ldd + i] = src[r * lds + n - 1 - i], r < rows, i < n."""
    value = literals(BITS)
    if value is None:
        return None

    def emit(b, args):
        v = Lanes(b, *value)
        dst, src, (ldd, lds, rows, n) = v.pointer(args[0]), v.pointer(args[2]), (args[i] for i in (1, 3, 4, 5))
        undefined, VL = ir.Constant(v.vector, ir.Undefined), const(v.VL)
        backwards = ir.Constant(ir.VectorType(I32, v.VL), list(range(v.VL - 1, -1, -1)))
        whole = b.sdiv(n, VL)
        rest = b.sub(n, b.mul(whole, VL))
        ends = first_lanes(v, rest)
        starts = b.shuffle_vector(ends, ir.Constant(ends.type, ir.Undefined), backwards)
        with counted(b, rows) as (r, _, _):
            target, end = v.at(dst, b.mul(r, ldd)), v.at(src, b.add(b.mul(r, lds), n))
            with counted(b, whole) as (i, _, _):
                i = b.mul(i, VL)
                row = v.load(v.at(end, b.sub(const(-v.VL), i)))
                v.store(b.shuffle_vector(row, undefined, backwards), v.at(target, i))
            with b.if_then(b.icmp_signed(">", rest, const(0))):
                done = b.mul(whole, VL)
                row = Row(v, starts).load(v.at(end, b.sub(const(-v.VL), done)))
                Row(v, ends).store(b.shuffle_vector(row, undefined, backwards), v.at(target, done))

    def codegen(context, builder, signature, args):
        outlined(builder, f"flip_rows_{value[0]}", args[1:], emit)
        return context.get_dummy_value()

    return types.void(BITS, *[N] * 6), codegen


def flip_rows_twin(BITS, dst, ldd, src, lds, rows, n):
    """Python twin of `flip_rows`."""
    size = BITS // 8
    for r in range(rows):
        elements(BITS, dst + size * r * ldd, n)[:] = elements(BITS, src + size * r * lds, n)[::-1]


@intrinsic
def _add_ints(typing, dst, one, two, n):
    """dst[0:n] = one[0:n] + two[0:n], int64; n is a multiple of its lanes."""

    def codegen(context, builder, signature, args):
        v = Lanes(builder, 65)
        dst, one, two = (v.pointer(address) for address in args[:3])
        with counted(builder, builder.sdiv(args[3], const(v.VL))) as (i, _, _):
            i = builder.mul(i, const(v.VL))
            v.store(v.add(v.load(v.at(one, i)), v.load(v.at(two, i))), v.at(dst, i))
        return context.get_dummy_value()

    return types.void(N, N, N, N), codegen


def add_ints_twin(dst, one, two, n):
    """Python twin of `add_ints`."""
    ints(dst, n)[:] = ints(one, n) + ints(two, n)


if config.DISABLE_JIT:
    add_ints, copy_rows, deal_four, zip_rows = add_ints_twin, copy_rows_twin, deal_four_twin, zip_rows_twin
    flip_rows = flip_rows_twin
else:
    add_ints, copy_rows, deal_four, zip_rows = _add_ints, _copy_rows, _deal_four, _zip_rows
    flip_rows = _flip_rows
