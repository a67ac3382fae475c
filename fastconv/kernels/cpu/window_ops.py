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


def _combined(v: Lanes, op: int, held: tuple[Any, ...], x: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return (value,) or (value, index) of two, of which x comes later."""
    if op == SUM:
        return (v.add(held[0], x[0]),)
    mask = _taken(v, op, held[0], x[0])
    return tuple(v.b.select(mask, new, old) for new, old in zip(x, held, strict=True))


def index_lanes(v: Lanes) -> Lanes:
    """Return the vectors of indices, integers of the size of the values."""
    return Lanes(v.b, v.bits + 1)


@intrinsic(prefer_literal=True)
def _reduce_taps(typing, BITS, OP, INDEX, dst, idst, src, isrc, taps, count, add, n):
    """dst[i] = the combination over t < count of src[taps[t] + i], in this order, i < n; count is at least 1.

    INDEX: idst[i] = isrc[taps[t] + i] + add of the t that won, integers of the size of the values. dst is no source.
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
        added = w.broadcast(b.trunc(add, w.scalar) if w.bits < 64 else add)

        def load(row, irow, tap, i):
            at = b.add(v.int_at(taps, tap), i)
            held = (row.load(v.at(src, at)),)
            return (*held, irow.load(w.at(isrc, at))) if index else held

        def one(i, row, vectors=1):
            irow = Row(w, row.mask)
            starts = [b.add(i, const(j * v.VL)) for j in range(vectors)]
            first = [part for s in starts for part in load(row, irow, const(0), s)]
            carried = [(part.type, part) for part in first]
            with counted(b, b.sub(count, const(1)), carried) as (t, held, result):
                tap, width = b.add(t, const(1)), len(held) // vectors
                for j, s in enumerate(starts):
                    mine = tuple(held[j * width : (j + 1) * width])
                    result.extend(_combined(v, op, mine, load(row, irow, tap, s)))
            for j, s in enumerate(starts):
                mine = result[j * len(result) // vectors : (j + 1) * len(result) // vectors]
                row.store(mine[0], v.at(dst, s))
                if index:
                    irow.store(b.add(mine[1], added), w.at(idst, s))

        many = const(_UNROLL * v.VL)
        with counted(b, b.sdiv(n, many)) as (i, _, _):
            one(b.mul(i, many), Row(v), _UNROLL)
        _rest(v, b.mul(b.sdiv(n, many), many), n, one)

    def codegen(context, builder, signature, args):
        outlined(builder, f"reduce_taps_{bits}_{op}_{index}", args[3:], emit)
        return context.get_dummy_value()

    return types.void(BITS, OP, INDEX, *[N] * 8), codegen


def _rest(v: Lanes, done: Any, n: Any, one: Any) -> None:
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
    index = elements((BITS & ~1) + 1, isrc + size * int(offsets[0]), n).copy() if INDEX else np.empty(0)
    for at in offsets[1:]:
        x = elements(BITS, src + size * int(at), n)
        if OP == SUM:
            held += x
            continue
        taken = ((x > held) if OP == MAX else (x < held)) | (x != x)
        held[taken] = x[taken]
        if INDEX:
            index[taken] = elements((BITS & ~1) + 1, isrc + size * int(at), n)[taken]
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
                    result.extend(_combined(v, op, (held[0],), (x,)))
                held = result[0]
                half = v.VL // 2
                while half:
                    moved = [(i + half) % v.VL for i in range(v.VL)]
                    other = b.shuffle_vector(held, held, ir.Constant(ir.VectorType(I32, v.VL), moved))
                    (held,) = _combined(v, op, (held,), (other,))
                    half //= 2
                v.store_scalar(b.extract_element(held, ir.Constant(I32, 0)), dst)
            with short:
                v.store_scalar(v.load_scalar(src), dst)
        done = b.select(b.icmp_signed(">", whole, const(0)), b.mul(whole, const(v.VL)), const(1))
        start = v.load_scalar(dst)
        with counted(b, b.sub(n, done), [(v.scalar, start)]) as (i, held, result):
            x = v.load_scalar(v.at(src, b.add(done, i)))
            result.extend(_combined(v, op, (held[0],), (x,)))
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
            return b.sdiv(x, b.mul(y, times)) if v.integer else b.fdiv(x, b.fmul(y, times))

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
    x[:] = x / by if x.dtype.kind == "f" else np.sign(x) * np.sign(by) * (np.abs(x) // np.abs(by))


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
