"""Row operations of windows: the maximum, minimum or sum of several runs of memory, element by element.

The maximum keeps PyTorch's rules: a later element replaces an earlier one if it is larger or NaN, so NaN propagates,
the first of equal elements wins, and the last NaN. That is associative, so windows can be combined from smaller ones.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import config
from numba.extending import intrinsic

from fastconv.kernels.cpu.ir_builder import I32, I64, Lanes, const, counted, literals, outlined
from fastconv.kernels.cpu.memory import elements, ints
from fastconv.kernels.cpu.row_ops import Row, each_vector, first_lanes

N = types.intp
MAX, MIN, SUM = range(3)

# Vectors whose taps are walked together: their chains of comparisons overlap.
_UNROLL = 4


def _taken(v: Lanes, op: int, held: Any, x: Any) -> Any:
    """Return the mask of the lanes in which x replaces what is held."""
    sign = ">" if op == MAX else "<"
    if v.integer:
        return v.b.icmp_signed(sign, x, held)
    return v.b.or_(v.b.fcmp_ordered(sign, x, held), v.b.fcmp_unordered("uno", x, x))


def combined(v: Lanes, op: int, held: tuple[Any, ...], x: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return (value,) or (value, index) of two, of which x comes later."""
    if op == SUM:
        return (v.add(held[0], x[0]),)
    if len(held) == 1 and not v.integer:
        # One instruction, which returns x if either is NaN.
        larger = v.b.select(v.b.fcmp_ordered(">" if op == MAX else "<", held[0], x[0]), held[0], x[0])
        return (v.b.select(v.b.fcmp_unordered("uno", held[0], held[0]), held[0], larger),)
    mask = _taken(v, op, held[0], x[0])
    return tuple(v.b.select(mask, new, old) for new, old in zip(x, held, strict=True))


def index_lanes(v: Lanes) -> Lanes:
    """Return the vectors of indices, integers of the size of the values."""
    return Lanes(v.b, v.bits + 1)


@intrinsic(prefer_literal=True)
def _reduce_taps(typing, BITS, OP, INDEX, dst, idst, src, isrc, taps, count, add, n):
    """dst[i] = the combination over t < count of src[taps[t] + i], in this order, i < n; count is at least 1.

    INDEX: idst[i] = isrc[taps[t] + i] + add of the t that won, integers of the size of the values; with 2, it is
    isrc * t + add, isrc a number. dst may be the run of the first tap where an element may count twice.
    """
    values = literals(BITS, OP, INDEX)
    if values is None:
        return None
    bits, op, index = values

    def emit(b, args):
        v = Lanes(b, bits)
        w = index_lanes(v)
        dst, idst, src, isrc, taps = (v.pointer(a) for a in args[:5])
        count, add, n = args[5:]

        def splat(number):
            return w.broadcast(b.trunc(number, w.scalar) if w.bits < 64 else number)

        added = splat(add)

        def load(row, t, offset, i):
            at = b.add(offset, i)
            held = (row.load(v.at(src, at)),)
            if index == 2:
                return (*held, splat(b.add(b.mul(args[3], t), add)))
            return (*held, Row(w, row.mask).load(w.at(isrc, at))) if index else held

        def store(row, held, i):
            row.store(held[0], v.at(dst, i))
            if index:
                which = held[1] if index == 2 else b.add(held[1], added)
                Row(w, row.mask).store(which, w.at(idst, i))

        def few(offsets, i, row):
            held = load(row, const(0), offsets[0], i)
            for t, offset in enumerate(offsets[1:], 1):
                held = combined(v, op, held, load(row, const(t), offset, i))
            store(row, held, i)

        def any_number(i, row, vectors=1):
            starts = [b.add(i, const(j * v.VL)) for j in range(vectors)]
            first = [part for at in starts for part in load(row, const(0), v.int_at(taps, const(0)), at)]
            with counted(b, b.sub(count, const(1)), [(part.type, part) for part in first]) as (t, held, result):
                t, width = b.add(t, const(1)), len(held) // vectors
                offset = v.int_at(taps, t)
                for j, at in enumerate(starts):
                    mine = tuple(held[j * width : (j + 1) * width])
                    result.extend(combined(v, op, mine, load(row, t, offset, at)))
            width = len(result) // vectors
            for j, at in enumerate(starts):
                store(row, result[j * width : (j + 1) * width], at)

        for number in (2, 3, 4):
            with b.if_then(b.icmp_signed("==", count, const(number))):
                offsets = [v.int_at(taps, const(t)) for t in range(number)]
                vectors(v, const(0), n, lambda i, row, offsets=offsets: few(offsets, i, row))
                b.ret_void()
        many = const(_UNROLL * v.VL)
        with counted(b, b.sdiv(n, many)) as (i, _, _):
            any_number(b.mul(i, many), Row(v), _UNROLL)
        vectors(v, b.mul(b.sdiv(n, many), many), n, any_number)

    def codegen(context, builder, signature, args):
        outlined(builder, f"reduce_taps_{bits}_{op}_{index}", args[3:], emit)
        return context.get_dummy_value()

    return types.void(BITS, OP, INDEX, *[N] * 8), codegen


def vectors(v: Lanes, done: Any, n: Any, one: Any) -> None:
    """Emit the vectors of elements done to n; the last one overlaps its neighbour, or is masked in a short row."""
    b, width = v.b, const(v.VL)
    left = b.sub(n, done)
    with counted(b, b.sdiv(left, width)) as (i, _, _):
        one(b.add(done, b.mul(i, width)), Row(v))
    with (
        b.if_then(b.icmp_signed(">", b.srem(left, width), const(0))),
        b.if_else(b.icmp_signed(">=", n, width)) as (long, short),
    ):
        with long:
            one(b.sub(n, width), Row(v))
        with short:
            one(const(0), Row(v, first_lanes(v, n)))


@np.errstate(all="ignore")
def reduce_taps_twin(BITS, OP, INDEX, dst, idst, src, isrc, taps, count, add, n):
    """Python twin of `reduce_taps`."""
    size, offsets = BITS // 8, ints(taps, count)
    held = elements(BITS, src + size * int(offsets[0]), n).copy()
    index = np.zeros(n, np.int64)
    if INDEX == 1:
        index = elements((BITS & ~1) + 1, isrc + size * int(offsets[0]), n).copy()
    for t, at in enumerate(offsets[1:], 1):
        x = elements(BITS, src + size * int(at), n)
        if OP == SUM:
            held += x
            continue
        taken = ((x > held) if OP == MAX else (x < held)) | (x != x)
        held[taken] = x[taken]
        if INDEX == 1:
            index[taken] = elements((BITS & ~1) + 1, isrc + size * int(at), n)[taken]
        elif INDEX:
            index[taken] = isrc * t
    elements(BITS, dst, n)[:] = held
    if INDEX:
        elements((BITS & ~1) + 1, idst, n)[:] = index + add


@intrinsic(prefer_literal=True)
def _reduce_row(typing, BITS, OP, dst, src, n):
    """dst[0] = the combination of src[0:n], n at least 1, vectors first; without an index the order is free."""
    values = literals(BITS, OP)
    if values is None:
        return None
    bits, op = values

    def emit(b, args):
        v = Lanes(b, bits)
        dst, src, n = v.pointer(args[0]), v.pointer(args[1]), args[2]
        whole = b.sdiv(n, const(v.VL))
        with b.if_else(b.icmp_signed(">", whole, const(0))) as (long, short):
            with long:
                with counted(b, b.sub(whole, const(1)), [(v.vector, v.load(src))]) as (i, held, result):
                    x = v.load(v.at(src, b.mul(b.add(i, const(1)), const(v.VL))))
                    result.extend(combined(v, op, (held[0],), (x,)))
                held = result[0]
                half = v.VL // 2
                while half:
                    moved = [(i + half) % v.VL for i in range(v.VL)]
                    other = b.shuffle_vector(held, held, ir.Constant(ir.VectorType(I32, v.VL), moved))
                    (held,) = combined(v, op, (held,), (other,))
                    half //= 2
                v.store_scalar(b.extract_element(held, ir.Constant(I32, 0)), dst)
            with short:
                v.store_scalar(v.load_scalar(src), dst)
        done = b.select(b.icmp_signed(">", whole, const(0)), b.mul(whole, const(v.VL)), const(1))
        start = v.load_scalar(dst)
        with counted(b, b.sub(n, done), [(v.scalar, start)]) as (i, held, result):
            x = v.load_scalar(v.at(src, b.add(done, i)))
            result.extend(combined(v, op, (held[0],), (x,)))
        v.store_scalar(result[0], dst)

    def codegen(context, builder, signature, args):
        outlined(builder, f"reduce_row_{bits}_{op}", args[2:], emit)
        return context.get_dummy_value()

    return types.void(BITS, OP, N, N, N), codegen


@np.errstate(all="ignore")
def reduce_row_twin(BITS, OP, dst, src, n):
    """Python twin of `reduce_row`."""
    x = elements(BITS, src, n)
    elements(BITS, dst, 1)[0] = (np.max, np.min, np.sum)[OP](x)


@intrinsic(prefer_literal=True)
def _splat_row(typing, BITS, dst, value, n):
    """dst[i] = value[0], i < n"""
    values = literals(BITS)
    if values is None:
        return None

    def emit(b, args):
        v = Lanes(b, *values)
        dst, x = v.pointer(args[0]), v.broadcast(v.load_scalar(v.pointer(args[1])))
        each_vector(v, args[2], lambda i, row: row.store(x, v.at(dst, i)))

    def codegen(context, builder, signature, args):
        outlined(builder, f"splat_row_{values[0]}", args[1:], emit)
        return context.get_dummy_value()

    return types.void(BITS, N, N, N), codegen


def splat_row_twin(BITS, dst, value, n):
    """Python twin of `splat_row`."""
    elements(BITS, dst, n)[:] = elements(BITS, value, 1)[0]


@intrinsic(prefer_literal=True)
def _divide_row(typing, BITS, row, divisors, step, times, n):
    """row[i] /= divisors[i * step] * times[0], i < n; step is 0 or 1; integers are truncated toward zero."""
    values = literals(BITS)
    if values is None:
        return None

    def emit(b, args):
        v = Lanes(b, *values)
        row, divisors = v.pointer(args[0]), v.pointer(args[1])
        times = v.broadcast(v.load_scalar(v.pointer(args[3])))
        constant = v.broadcast(v.load_scalar(divisors))

        def quotient(x, y):
            if not v.integer:
                return b.fdiv(x, b.fmul(y, times))
            # The smallest integer divided by -1 is a trap too; it wraps, as its negative does.
            y = b.mul(y, times)
            negated = b.icmp_signed("==", y, v.splat(-1))
            return b.select(negated, b.neg(x), b.sdiv(x, b.select(negated, v.splat(1), y)))

        def loop(tabled):
            def one(i, part):
                y = part.load(v.at(divisors, i)) if tabled else constant
                if part.mask is not None:
                    # An integer division by 0 is a trap, in lanes outside the row too.
                    y = b.select(part.mask, y, v.splat(1))
                part.store(quotient(part.load(v.at(row, i)), y), v.at(row, i))

            each_vector(v, args[4], one, repeatable=False)

        with b.if_else(b.icmp_signed("==", args[2], const(0))) as (same, table):
            with same:
                loop(False)
            with table:
                loop(True)

    def codegen(context, builder, signature, args):
        outlined(builder, f"divide_row_{values[0]}", args[1:], emit)
        return context.get_dummy_value()

    return types.void(BITS, *[N] * 5), codegen


@np.errstate(all="ignore")
def divide_row_twin(BITS, row, divisors, step, times, n):
    """Python twin of `divide_row`."""
    x = elements(BITS, row, n)
    by = elements(BITS, divisors, n if step else 1) * elements(BITS, times, 1)[0]
    x[:] = x / by if x.dtype.kind == "f" else x // by + ((x % by != 0) & ((x < 0) != (by < 0)))


@intrinsic(prefer_literal=True)
def _widen_row(typing, BITS, dst, src, n):
    """dst[i] = src[i], i < n: int64 from integers of the size of an element."""
    values = literals(BITS)
    if values is None:
        return None

    def emit(b, args):
        v = Lanes(b, (values[0] & ~1) + 1)
        dst, src = v.pointer(args[0]), v.pointer(args[1])
        wide = ir.VectorType(I64, v.VL)

        def one(i, part):
            x = part.load(v.at(src, i))
            x = x if v.bits == 64 else b.sext(x, wide)
            at = b.gep(dst, [i], source_etype=I64)
            if part.mask is None:
                b.store(x, at, align=8)
            else:
                with counted(b, b.sub(args[2], i)) as (j, _, _):
                    lane = b.extract_element(x, b.trunc(j, I32))
                    b.store(lane, b.gep(at, [j], source_etype=I64), align=8)

        each_vector(v, args[2], one)

    def codegen(context, builder, signature, args):
        outlined(builder, f"widen_row_{values[0]}", args[1:], emit)
        return context.get_dummy_value()

    return types.void(BITS, N, N, N), codegen


def widen_row_twin(BITS, dst, src, n):
    """Python twin of `widen_row`."""
    ints(dst, n)[:] = elements((BITS & ~1) + 1, src, n)


if config.DISABLE_JIT:
    reduce_taps, reduce_row, splat_row = reduce_taps_twin, reduce_row_twin, splat_row_twin
    divide_row, widen_row = divide_row_twin, widen_row_twin
else:
    reduce_taps, reduce_row, splat_row = _reduce_taps, _reduce_row, _splat_row
    divide_row, widen_row = _divide_row, _widen_row
