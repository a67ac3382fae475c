"""Windows that slide along a row, many at a time: the combination of neighbouring elements, with a step of 1 or 2."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import config
from numba.extending import intrinsic

from fastconv.kernels.cpu.ir_builder import I32, Lanes, const, counted, literals, outlined
from fastconv.kernels.cpu.memory import elements
from fastconv.kernels.cpu.row_ops import Row, first_lanes
from fastconv.kernels.cpu.window_ops import MAX, SUM, N, combined, index_lanes, vectors


class _Sliding:
    """The loads of `reduce_sliding` for a step of 1 or 2: a unit is one tap, or a pair out of the same two vectors."""

    def __init__(self, v: Lanes, step: int, src: Any, first: Any, dilation: Any, index: int):
        self.v, self.step, self.src, self.dilation, self.index = v, step, src, dilation, index
        self.w, self.first = index_lanes(v), first

    def _numbered(self, value: Any, at: Any) -> tuple[Any, ...]:
        """Return a tap with its index, for outputs whose first element is `at`."""
        if not self.index:
            return (value,)
        w, b = self.w, self.v.b
        start = b.add(self.first, at)
        lanes = ir.Constant(w.vector, [self.step * i for i in range(w.VL)])
        return value, b.add(w.broadcast(b.trunc(start, w.scalar) if w.bits < 64 else start), lanes)

    def _pair(self, at: Any, i: Any, n: Any, masked: bool) -> tuple[Any, Any]:
        """Return the two vectors at `at`; masked, only what the outputs from i to n need of them."""
        v, b = self.v, self.v.b
        masks: list[Any] = [None, None]
        if masked:
            needed = b.mul(b.sub(n, i), const(2))
            masks = [first_lanes(v, needed), first_lanes(v, b.sub(needed, const(v.VL)))]
        low = Row(v, masks[0]).load(v.at(self.src, at))
        return low, Row(v, masks[1]).load(v.at(self.src, b.add(at, const(v.VL))))

    def unit(self, number: Any, i: Any, row: Row, n: Any) -> list[tuple[Any, ...]]:
        """Return the taps of unit `number` of the outputs from i on."""
        v, b = self.v, self.v.b
        if self.step == 1:
            at = b.add(i, b.mul(number, self.dilation))
            return [self._numbered(row.load(v.at(self.src, at)), at)]
        at = b.add(b.mul(i, const(2)), b.mul(number, const(2)))
        pair = self._pair(at, i, n, row.mask is not None)
        return [self._numbered(self._every_second(pair, j), b.add(at, const(j))) for j in (0, 1)]

    def last(self, count: Any, i: Any, row: Row, n: Any) -> tuple[Any, ...]:
        """Return the last of an odd number of taps, out of vectors that end with it."""
        b = self.v.b
        at = b.add(b.mul(i, const(2)), b.sub(count, const(2)))
        pair = self._pair(at, i, n, row.mask is not None)
        return self._numbered(self._every_second(pair, 1), b.add(at, const(1)))

    def _every_second(self, pair: tuple[Any, Any], first: int) -> Any:
        lanes = [first + 2 * i for i in range(self.v.VL)]
        return self.v.b.shuffle_vector(*pair, ir.Constant(ir.VectorType(I32, self.v.VL), lanes))


@intrinsic(prefer_literal=True)
def _reduce_sliding(typing, BITS, OP, INDEX, dst, idst, src, first, step, dilation, count, n):
    """dst[i] = the combination over t < count of src[i * step + t * dilation], in this order, i < n.

    The step is 1; or 2, then the dilation is 1 and the count at least 2. INDEX: idst[i] = first + i * step +
    t * dilation of the t that won.
    """
    values = literals(BITS, OP, INDEX)
    if values is None:
        return None
    bits, op, index = values

    def emit(b, args):
        v = Lanes(b, bits)
        dst, idst, src = (v.pointer(a) for a in args[:3])
        first, step, dilation, count, n = args[3:]

        def loop(length):
            taps = _Sliding(v, length, src, first, dilation, index)
            units = count if length == 1 else b.sdiv(count, const(2))

            def one(i, row):
                held, *others = taps.unit(const(0), i, row, n)
                for tap in others:
                    held = combined(v, op, held, tap)
                with counted(b, b.sub(units, const(1)), [(part.type, part) for part in held]) as (u, now, result):
                    now = tuple(now)
                    for tap in taps.unit(b.add(u, const(1)), i, row, n):
                        now = combined(v, op, now, tap)
                    result.extend(now)
                if length == 2:
                    held = tuple(result)
                    with counted(b, b.srem(count, const(2)), [(part.type, part) for part in held]) as (_, now, result):
                        result.extend(combined(v, op, tuple(now), taps.last(count, i, row, n)))
                row.store(result[0], v.at(dst, i))
                if index:
                    Row(taps.w, row.mask).store(result[1], taps.w.at(idst, i))

            vectors(v, const(0), n, one)

        with b.if_else(b.icmp_signed("==", step, const(1))) as (near, far):
            with near:
                loop(1)
            with far:
                loop(2)

    def codegen(context, builder, signature, args):
        outlined(builder, f"reduce_sliding_{bits}_{op}_{index}", args[3:], emit)
        return context.get_dummy_value()

    return types.void(BITS, OP, INDEX, *[N] * 8), codegen


@np.errstate(all="ignore")
def reduce_sliding_twin(BITS, OP, INDEX, dst, idst, src, first, step, dilation, count, n):
    """Python twin of `reduce_sliding`."""
    numbers = np.arange(n) * step
    held, index = elements(BITS, src, (n - 1) * step + 1)[::step].copy(), numbers + first
    for t in range(1, count):
        x = elements(BITS, src, (n - 1) * step + t * dilation + 1)[t * dilation :: step]
        if OP == SUM:
            held += x
            continue
        taken = ((x > held) if OP == MAX else (x < held)) | (x != x)
        held[taken], index[taken] = x[taken], (numbers + first + t * dilation)[taken]
    elements(BITS, dst, n)[:] = held
    if INDEX:
        elements((BITS & ~1) + 1, idst, n)[:] = index


reduce_sliding = reduce_sliding_twin if config.DISABLE_JIT else _reduce_sliding
