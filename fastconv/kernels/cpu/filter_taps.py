"""Weighted sums, maxima and running means of a row of doubles with shifted copies of itself, emitted as vectors.

Sums are taken in the order of the taps and nothing is fused, so every result has the bits of a plain C loop. The rows
lie in scratch: whole vectors are read and written, so up to one vector behind their ends.

A table of taps is int64: what sums start with (a double), how many single taps, how many pairs, what is xored to each
element (maxima) or the second of a pair (sums), unused; then for each tap its byte offset, that of its partner, and its
weight (a double).
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import config
from numba.extending import intrinsic

from fastconv.kernels.cpu.ir_builder import I64, Lanes, const, counted, outlined
from fastconv.kernels.cpu.memory import array_at, ints

N = types.intp

# Vectors of one step: enough to hide the latency of an addition.
VECTORS: Final = 4
START, SINGLES, PAIRS, FLIP = range(4)
WORDS: Final = 3
SIGN: Final = -(2**63)

_DOUBLE = ir.DoubleType()


class _Taps:
    """A table of taps as the generators read it."""

    def __init__(self, v: Lanes, table: Any):
        self.v, self.table = v, v.pointer(table)
        self.start = v.broadcast(self._double(const(START)))
        self.singles, self.pairs = (v.int_at(self.table, const(i)) for i in (SINGLES, PAIRS))
        ints = ir.VectorType(I64, v.VL)
        lane = v.b.insert_element(ir.Constant(ints, ir.Undefined), v.int_at(self.table, const(FLIP)), const(0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), v.VL), [0] * v.VL)
        self.mask = v.b.shuffle_vector(lane, lane, zeros)

    def _double(self, index: Any) -> Any:
        return self.v.b.load(self.v.b.gep(self.table, [index], source_etype=_DOUBLE), align=8, typ=_DOUBLE)

    def tap(self, k: Any) -> tuple[Any, Any, Any]:
        """Return (offset, offset, weight) of a tap."""
        b = self.v.b
        first = b.mul(b.add(k, const(1)), const(WORDS))
        first = b.add(first, const(1))
        offsets = (self.v.int_at(self.table, b.add(first, const(i))) for i in (0, 1))
        return *offsets, self.v.broadcast(self._double(b.add(first, const(2))))

    def flipped(self, value: Any) -> Any:
        """Return a vector with its signs flipped, or as it is."""
        bits = self.v.b.bitcast(value, self.mask.type)
        return self.v.b.bitcast(self.v.b.xor(bits, self.mask), value.type)

    def vectors(self, source: Any, offset: Any, count: int) -> list[Any]:
        """Load `count` vectors."""
        p = self.v.at_bytes(source, offset)
        return [self.v.load(self.v.at(p, i * self.v.VL)) for i in range(count)]


def _blocks(v: Lanes, n: Any, emit: Any) -> None:
    """Emit `emit(i, count)` for steps of VECTORS vectors, then for single ones; the last may reach beyond n."""
    b, step = v.b, const(VECTORS * v.VL)
    whole = b.sdiv(n, step)
    with counted(b, whole) as (i, _, _):
        emit(b.mul(i, step), VECTORS)
    done = b.mul(whole, step)
    rest = b.sdiv(b.add(b.sub(n, done), const(v.VL - 1)), const(v.VL))
    with counted(b, rest) as (i, _, _):
        emit(b.add(done, b.mul(i, const(v.VL))), 1)


@intrinsic
def _sum_taps(typing, dst, src, table, n):
    """dst[i] = start + sum of w * src[i + a] over the singles + sum of w * (src[i + a] +- src[i + b]) over pairs."""

    def emit(b, args):
        v = Lanes(b, 64)
        dst, src, n, taps = v.pointer(args[0]), v.pointer(args[1]), args[3], _Taps(v, args[2])

        def block(i, count):
            source = v.at(src, i)
            with counted(b, taps.singles, [(v.vector, taps.start)] * count) as (k, sums, result):
                a, _, w = taps.tap(k)
                values = taps.vectors(source, a, count)
                result += [b.fadd(s, b.fmul(x, w)) for s, x in zip(sums, values, strict=True)]
            with counted(b, taps.pairs, [(v.vector, s) for s in result]) as (k, sums, paired):
                a, other, w = taps.tap(b.add(taps.singles, k))
                ones, others = taps.vectors(source, a, count), taps.vectors(source, other, count)
                for s, x, y in zip(sums, ones, others, strict=True):
                    paired.append(b.fadd(s, b.fmul(b.fadd(x, taps.flipped(y)), w)))
            for j, value in enumerate(paired):
                v.store(value, v.at(dst, b.add(i, const(j * v.VL))))

        _blocks(v, n, block)

    def codegen(context, builder, signature, args):
        outlined(builder, "sum_taps", args, emit)
        return context.get_dummy_value()

    return types.void(N, N, N, N), codegen


@np.errstate(all="ignore")
def sum_taps_twin(dst, src, table, n):
    """Python twin of `sum_taps`."""
    start, taps, sign = _read(table)
    out = array_at("f8", dst, n)
    out[:] = start
    for k, (a, other, w) in enumerate(taps):
        x = array_at("f8", src + a, n)
        out += (x if k < ints(table, PAIRS)[SINGLES] else x + sign * array_at("f8", src + other, n)) * w


@intrinsic
def _extreme_taps(typing, dst, src, table, n):
    """dst[i] = the largest src[i + a] over the taps or, with signs flipped, the least; NaN if there is one."""

    def emit(b, args):
        v = Lanes(b, 64)
        dst, src, n, taps = v.pointer(args[0]), v.pointer(args[1]), args[3], _Taps(v, args[2])
        truth = ir.VectorType(ir.IntType(1), v.VL)
        entry = [(v.vector, v.splat(-math.inf)), (truth, ir.Constant(truth, [0] * v.VL))]

        def block(i, count):
            source = v.at(src, i)
            with counted(b, taps.singles, entry * count) as (k, carried, result):
                values = taps.vectors(source, taps.tap(k)[0], count)
                for most, poisoned, x in zip(carried[::2], carried[1::2], values, strict=True):
                    x = taps.flipped(x)
                    result.append(b.select(b.fcmp_ordered("<", most, x), x, most))
                    result.append(b.or_(poisoned, b.fcmp_unordered("uno", x, x)))
            for j in range(count):
                value = taps.flipped(b.select(result[2 * j + 1], v.splat(math.nan), result[2 * j]))
                v.store(value, v.at(dst, b.add(i, const(j * v.VL))))

        _blocks(v, n, block)

    def codegen(context, builder, signature, args):
        outlined(builder, "extreme_taps", args, emit)
        return context.get_dummy_value()

    return types.void(N, N, N, N), codegen


def extreme_taps_twin(dst, src, table, n):
    """Python twin of `extreme_taps`."""
    _, taps, sign = _read(table)
    out = array_at("f8", dst, n)
    out[:] = -math.inf
    for a, _, _ in taps:
        x = sign * array_at("f8", src + a, n)
        out[:] = np.where((out < x) | np.isnan(x), x, out)
    out *= sign


def _read(table):
    """Return (start, taps, 1 or -1)."""
    head = ints(table, FLIP + 1)
    words = ints(table + 8 * (FLIP + 1), WORDS * int(head[SINGLES] + head[PAIRS])).reshape(-1, WORDS)
    taps = [(int(a), int(other), w) for (a, other, _), w in zip(words, words[:, 2].copy().view("f8"), strict=True)]
    return head[:1].view("f8")[0], taps, -1.0 if head[FLIP] else 1.0


@intrinsic
def _running_mean(typing, dst, src, size, n, pitch):
    """dst[l] = mean of lines l to l + size of src, l < n, by a running sum; lines of `pitch` doubles."""

    def emit(b, args):
        v = Lanes(b, 64)
        dst, src, (size, n, pitch) = v.pointer(args[0]), v.pointer(args[1]), args[2:]
        divisor = b.sitofp(size, _DOUBLE)

        def run(kind, column, over):
            def line(pointer, index):
                return v.at(pointer, b.add(b.mul(index, pitch), column))

            def load(index):
                return b.load(line(src, index), align=8, typ=kind)

            def store(total, index):
                b.store(b.fdiv(total, over), line(dst, index), align=8)

            zero = v.zero if kind == v.vector else ir.Constant(kind, 0.0)
            with counted(b, size, [(kind, zero)]) as (k, sums, first):
                first.append(b.fadd(sums[0], load(k)))
            store(first[0], const(0))
            with counted(b, b.sub(n, const(1)), [(kind, first[0])]) as (k, sums, result):
                result.append(b.fadd(sums[0], b.fsub(load(b.add(k, size)), load(k))))
                store(result[0], b.add(k, const(1)))

        with b.if_else(b.icmp_signed("==", pitch, const(1))) as (one, many):
            with one:
                run(_DOUBLE, const(0), divisor)
            with many, counted(b, b.sdiv(pitch, const(v.VL))) as (i, _, _):
                run(v.vector, b.mul(i, const(v.VL)), v.broadcast(divisor))

    def codegen(context, builder, signature, args):
        outlined(builder, "running_mean", args, emit)
        return context.get_dummy_value()

    return types.void(N, N, N, N, N), codegen


@np.errstate(all="ignore")
def running_mean_twin(dst, src, size, n, pitch):
    """Python twin of `running_mean`."""
    lines = array_at("f8", src, (n + size - 1) * pitch).reshape(-1, pitch)
    out, total = array_at("f8", dst, n * pitch).reshape(-1, pitch), np.zeros(pitch)
    for line in lines[:size]:
        total = total + line
    out[0] = total / size
    for k in range(1, n):
        total = total + (lines[k + size - 1] - lines[k - 1])
        out[k] = total / size


if config.DISABLE_JIT:
    sum_taps, extreme_taps, running_mean = sum_taps_twin, extreme_taps_twin, running_mean_twin
else:
    sum_taps, extreme_taps, running_mean = _sum_taps, _extreme_taps, _running_mean
